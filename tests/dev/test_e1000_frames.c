/* What the e1000 sends and receives: descriptors, checksums, segments, filters, tags and loopback. */
#include "e1000_rig.h"

#include <zlib.h>

/* --- transmit --- */

static void frames_go_out(void **state)
{
	begin();
	start(0);
	fill_frame(1000);
	set(IMS, TXDW);
	/* In two pieces. */
	put_words(0, TX_DATA, 300 | (uint32_t)IFCS << 24, 0);
	put_words(1, TX_DATA + 300, 700 | (uint32_t)(EOP | IFCS | RS) << 24, 0);
	set(TDT, 1);
	run();
	assert_int_equal(sent, 0);
	set(TDT, 2);
	run();
	assert_int_equal(sent, 1);
	assert_int_equal(last_len, 1000);
	assert_memory_equal(last, frame, 1000);
	assert_false(last_offload.checksum);
	assert_int_equal(tx_status(0), 0);
	assert_int_equal(tx_status(1), 1);
	assert_int_equal(get(TDH), 2);
	assert_true(board.line[LINE].level);
	assert_int_equal(get(ICR), TXDW | TXQE);
	assert_false(board.line[LINE].level);
	assert_int_equal(get(GPTC), 1);
	assert_int_equal(get(GPTC), 0);
	/* Round the ring. */
	for (unsigned n = 0; n < 3 * RING; n++) {
		unsigned at = (2 + n) % RING;

		put_words(at, TX_DATA, 60 | (uint32_t)(EOP | IFCS) << 24, 0);
		set(TDT, (at + 1) % RING);
		run();
	}
	assert_int_equal(sent, 1 + 3 * RING);
	/* With a checksum sequence that the driver has made. */
	put_words(2, TX_DATA, 104 | (uint32_t)EOP << 24, 0);
	set(TDT, 3);
	run();
	assert_int_equal(last_len, 100);
	/* Padded when it is asked for. */
	set(TCTL, 1u << 1 | 1u << 3);
	put_words(3, TX_DATA, 20 | (uint32_t)(EOP | IFCS) << 24, 0);
	set(TDT, 4);
	run();
	assert_int_equal(last_len, 60);
	assert_int_equal(last[30], 0);
	end();
}

static void nonsense_is_not_sent(void **state)
{
	begin();
	start(0);
	fill_frame(2000);
	/* Longer than any frame, then one that is right. */
	for (unsigned n = 0; n < 5; n++)
		put_words(n, TX_DATA, 0xffff | (uint32_t)(IFCS | (n == 4 ? EOP | RS : 0)) << 24, 0);
	put_words(5, TX_DATA, 100 | (uint32_t)(EOP | IFCS) << 24, 0);
	set(TDT, 6);
	run();
	assert_int_equal(sent, 1);
	assert_int_equal(last_len, 100);
	assert_int_equal(tx_status(4), 1);
	/* Memory that is not there. */
	put_words(6, 1ull << 40, 100 | (uint32_t)(EOP | IFCS | RS) << 24, 0);
	set(TDT, 7);
	run();
	assert_int_equal(sent, 1);
	assert_int_equal(tx_status(6), 1);
	/* Places that the ring does not have: it stands. */
	set(TDT, RING);
	run();
	assert_int_equal(get(TDH), 7);
	set(TDH, 0xffff);
	set(TDT, 0);
	run();
	assert_int_equal(get(TDH), 0xffff);
	/* Not allowed to reach memory. */
	set(TDH, 0);
	pci_config_write(board.pci, DEVFN, 4, 2, 3);
	set(TDT, 1);
	run();
	assert_int_equal(get(TDH), 0);
	put_words(0, TX_DATA, 100 | (uint32_t)(EOP | IFCS) << 24, 0);
	pci_config_write(board.pci, DEVFN, 4, 2, 7);
	run();
	assert_int_equal(sent, 2);
	end();
}

static void checksums_are_left_to_the_peer(void **state)
{
	begin();
	start(0);
	fill_frame(200);
	/* Of old descriptors: from CSS on, at CSO. */
	put_words(0, TX_DATA, 200 | 50u << 16 | (uint32_t)(EOP | IFCS | IC) << 24, 34u << 8);
	set(TDT, 1);
	run();
	assert_true(last_offload.checksum);
	assert_int_equal(last_offload.csum_start, 34);
	assert_int_equal(last_offload.csum_offset, 16);
	/* By a context: IP's here, TCP's there. */
	context(1, 1 | 2, (uint32_t[]){ 14, 24, 33, 34, 50, 0, 0, 0 });
	data(2, 200, EOP, 3);
	set(TDT, 3);
	run();
	assert_int_equal(sent, 2);
	assert_true(last_offload.checksum);
	assert_int_equal(last_offload.csum_start, 34);
	assert_int_equal(ld_be16(last + 24), (uint16_t)~sum_of(frame + 14, 20, 0));
	/* One that ends before the frame does is made here. */
	context(3, 1, (uint32_t[]){ 0, 0, 0, 34, 50, 99, 0, 0 });
	data(4, 200, EOP, 2);
	set(TDT, 5);
	run();
	assert_false(last_offload.checksum);
	assert_int_equal(ld_be16(last + 50), (uint16_t)~sum_of(frame + 34, 66, 0));
	/* Places outside of the frame. */
	context(5, 1, (uint32_t[]){ 255, 255, 0, 255, 255, 0, 0, 0 });
	data(6, 200, EOP, 3);
	set(TDT, 7);
	run();
	assert_int_equal(sent, 4);
	assert_false(last_offload.checksum);
	assert_memory_equal(last, frame, 200);
	end();
}

static unsigned segments;
static size_t payload;

static void one_segment(void *opaque, const uint8_t *f, size_t len)
{
	size_t ip = ld_be16(f + 12) == 0x86dd ? 40 : 20, tcp = len - 14 - ip;

	if (ip == 20) {
		assert_int_equal(sum_of(f + 14, 20, 0), 0xffff);
		assert_int_equal(ld_be16(f + 16), len - 14);
		assert_int_equal(sum_of(f + 14 + ip, tcp, 6 + (uint32_t)tcp + sum_of(f + 26, 8, 0)), 0xffff);
	} else {
		assert_int_equal(ld_be16(f + 18), tcp);
		assert_int_equal(sum_of(f + 14 + ip, tcp, 6 + (uint32_t)tcp + sum_of(f + 22, 32, 0)), 0xffff);
	}
	assert_memory_equal(f + 14 + ip + 20, frame + 14 + ip + 20 + payload, tcp - 20);
	assert_int_equal(ld_be32(f + 14 + ip + 4), 1000 + payload);
	payload += tcp - 20;
	segments++;
}

static void packets_are_cut(void **state)
{
	for (unsigned v6 = 0; v6 < 2; v6++) {
		uint32_t ip = v6 ? 40 : 20, tcp = 14 + ip, head = tcp + 20, len = head + 4000;

		begin();
		start(0);
		fill_frame(len);
		st_be16(frame + 12, v6 ? 0x86dd : 0x0800);
		memset(frame + 14, 0, ip + 20);
		frame[14] = v6 ? 0x60 : 0x45;
		frame[v6 ? 20 : 23] = 6;
		frame[tcp + 12] = 0x50;
		st_be32(frame + tcp + 4, 1000);
		mem_write(board.mem, gpa(TX_DATA), frame, len);
		context(0, 1 | (v6 ? 0 : 2) | TSE, (uint32_t[]){ 14, 24, tcp - 1, tcp, tcp + 16, 0, head, 1448 });
		data(1, len, EOP | TSE | RS, 3);
		set(TDT, 2);
		run();
		assert_int_equal(sent, 1);
		assert_int_equal(last_offload.gso, v6 ? NET_GSO_TCP6 : NET_GSO_TCP4);
		assert_int_equal(last_offload.mss, 1448);
		segments = 0;
		payload = 0;
		net_segment(last, last_len, &last_offload, one_segment, NULL);
		assert_int_equal(segments, 3);
		assert_int_equal(payload, 4000);
		/* What fits is one that only lacks its checksums. */
		data(2, head + 100, EOP | TSE, 3);
		set(TDT, 3);
		run();
		assert_int_equal(last_offload.gso, NET_GSO_NONE);
		segments = 0;
		payload = 0;
		net_segment(last, last_len, &last_offload, one_segment, NULL);
		assert_int_equal(segments, 1);
		/* The other context is another one. */
		data(3, len > 1500 ? 1500 : len, EOP, 2);
		set(TDT, 4);
		run();
		assert_int_equal(last_offload.gso, NET_GSO_NONE);
		/* Headers that cannot be: nothing is sent. */
		context(4, 1 | 2 | TSE, (uint32_t[]){ 14, 24, 33, 255, 15, 0, 255, 1448 });
		data(5, 200, EOP | TSE, 3);
		set(TDT, 6);
		run();
		assert_int_equal(sent, 3);
		end();
	}
}

static void a_peer_that_is_full_is_waited_for(void **state)
{
	begin();
	start(0);
	fill_frame(500);
	room = 1;
	for (unsigned n = 0; n < 4; n++)
		put_words(n, TX_DATA + n, (100 + n) | (uint32_t)(EOP | IFCS | RS) << 24, 0);
	set(TDT, 4);
	run();
	assert_int_equal(sent, 1);
	assert_int_equal(get(TDH), 2); /* the second waits, and is the card's */
	room = 2;
	peer.receiver.writable(peer.receiver.opaque);
	run();
	assert_int_equal(sent, 3);
	assert_int_equal(last_len, 102);
	room = 9;
	peer.receiver.writable(peer.receiver.opaque);
	run();
	assert_int_equal(sent, 4);
	/* After a reset nobody waits. */
	room = 0;
	set(TDT, 5);
	run();
	set(CTRL, 1u << 26);
	room = 9;
	peer.receiver.writable(peer.receiver.opaque);
	run();
	assert_int_equal(sent, 4);
	assert_int_equal(get(TDLEN), 0);
	assert_false(get(CTRL) & 1u << 26);
	end();
}

static void reset_card(void)
{
	set(CTRL, 1u << 26);
}

static void reset_and_start(void)
{
	set(CTRL, 1u << 26);
	set(TCTL, 2);
}

static void leave_the_bus(void)
{
	pci_config_write(board.pci, DEVFN, 4, 2, 3);
}

/* What a driver ends while its frame is being sent leaves nothing behind: its memory may be another's by then. */
static void ends_while_a_frame_is_sent(void **state)
{
	void (*const ends[])(void) = { reset_card, reset_and_start, leave_the_bus };

	for (size_t n = 0; n < 3; n++) {
		for (unsigned had = 0; had < 2; had++) {
			begin();
			room = had;
			while_sending = ends[n];
			start(0);
			fill_frame(100);
			put_words(0, TX_DATA, 100 | (uint32_t)(EOP | IFCS | RS) << 24, 0);
			put_words(1, TX_DATA, 100 | (uint32_t)(EOP | IFCS | RS) << 24, 0);
			set(TDT, 2);
			run();
			assert_int_equal(sent, had);
			assert_int_equal(tx_status(0), 0);
			assert_int_equal(get(ICR) & TXDW, 0);
			/* Nor is it sent later. */
			while_sending = NULL;
			room = 9;
			peer.receiver.writable(peer.receiver.opaque);
			run();
			assert_int_equal(sent, had);
			end();
		}
	}
}

/* --- receive --- */

static void frames_come_in(void **state)
{
	const struct rx *r;

	begin();
	fill_frame(1400);
	assert_true(receive(1400)); /* nobody listens */
	start(BAM);
	set(IMS, RXT0);
	assert_true(receive(1400));
	r = got(0);
	assert_int_equal(r->len, 1404);
	assert_int_equal(r->status & 3, 3);
	assert_memory_equal(r->data, frame, 1400);
	assert_int_equal(ld_le32(r->data + 1400), crc32(0, frame, 1400));
	assert_int_equal(r->sum, sum_of(frame, 1400, 0));
	assert_int_equal(get(RDH), 1);
	assert_true(board.line[LINE].level);
	assert_int_equal(get(ICR), RXT0);
	assert_int_equal(get(GPRC), 1);
	assert_int_equal(get(GORCL), 1404);
	/* Short ones are padded; without its checksum sequence. */
	set(RCTL, 2 | BAM | SECRC);
	assert_true(receive(20));
	r = got(1);
	assert_int_equal(r->len, 60);
	assert_int_equal(r->data[40], 0);
	/* In pieces, when buffers are small: 256 bytes. */
	set(RCTL, 2 | BAM | SECRC | 3u << 16);
	assert_true(receive(600));
	assert_int_equal(got(2)->status & 3, 1);
	assert_int_equal(got(3)->len, 256);
	r = got(4);
	assert_int_equal(r->status & 3, 3);
	assert_int_equal(r->len, 88);
	assert_memory_equal(r->data, frame + 512, 88);
	/* Few buffers are left. */
	assert_int_equal(get(ICR) & RXDMT0, RXDMT0);
	/* Too many for what is left: it waits until there are more. */
	assert_false(receive(900));
	assert_int_equal(get(RDH), 5);
	run();
	readies = 0;
	assert_false(receive(900));
	run();
	assert_int_equal(readies, 0);
	set(RDT, 4);
	run();
	assert_int_equal(readies, 1);
	assert_true(receive(900));
	/* Giants: dropped, or in large buffers. */
	fill_frame(10000);
	assert_true(receive(1519));
	assert_int_equal(get(GPRC), 3);
	for (unsigned n = 1; n < 4; n++) { /* 16384, 8192 and 4096 bytes */
		uint32_t at = get(RDH);

		set(RCTL, 2 | BAM | 1u << 5 | 1u << 25 | n << 16);
		assert_true(receive(n == 1 ? 10000 : 6000));
		assert_int_equal(got(at)->len, n == 1 ? 10004 : n == 2 ? 6004 : 4096);
		set(RDT, (get(RDH) + RING - 1) % RING);
	}
	end();
}

static void what_no_ring_holds_is_dropped(void **state)
{
	begin();
	fill_frame(1500);
	start(BAM | 3u << 16);
	set(RDLEN, 0x80 & ~0x7f);
	set(RDH, 0);
	set(RDT, 1);
	assert_false(receive(1500)); /* 7 * 256 bytes would do */
	set(RDLEN, 0);
	assert_true(receive(1500));
	assert_int_equal(get(RDH), 0);
	/* Descriptors and buffers that are no memory. */
	set(RDLEN, 0x80);
	set(RDBAL, 0xfffffff0);
	set(RDBAL + 4, 0xffffffff);
	set(RCTL, 2 | BAM);
	set(RDT, 7);
	assert_true(receive(1500));
	assert_int_equal(get(RDH), 1);
	end();
}

/* Whether a frame to `to` comes in. */
static bool comes(const char *to)
{
	uint32_t before = get(RDH);
	bool in;

	fill_frame(100);
	memcpy(frame, to, 6);
	assert_true(receive(100));
	in = get(RDH) != before;
	set(RDT, (get(RDH) + RING - 1) % RING);
	return in;
}

static void filters(void **state)
{
	static const uint32_t shifts[] = { 4, 3, 2, 0 };

	begin();
	start(0);
	assert_true(comes("\x52\x54\0\1\2\3"));
	assert_false(comes("\x52\x54\0\1\2\4"));
	assert_false(comes("\xff\xff\xff\xff\xff\xff"));
	assert_false(comes("\1\0\x5e\0\0\1"));
	/* Another address of its own. */
	set(RA + 8, 0x01005452);
	set(RA + 12, 0x0402);
	assert_false(comes("\x52\x54\0\1\2\4"));
	set(RA + 12, 0x80000402);
	assert_true(comes("\x52\x54\0\1\2\4"));
	/* Whom it comes from; and what is reserved lets nothing in. */
	set(RA + 8, 0x3f38312a); /* fill_frame()'s sender */
	set(RA + 12, 0x80014d46);
	assert_true(comes("\x52\x54\0\1\2\7"));
	set(RA + 12, 0x80004d46);
	assert_false(comes("\x52\x54\0\1\2\7"));
	set(RA + 8, 0x01005452);
	set(RA + 12, 0x80020402);
	assert_false(comes("\x52\x54\0\1\2\4"));
	set(RCTL, 2 | BAM);
	assert_true(comes("\xff\xff\xff\xff\xff\xff"));
	set(RCTL, 2 | RCTL_UPE);
	assert_true(comes("\x52\x54\0\1\2\5"));
	assert_false(comes("\1\0\x5e\0\0\1"));
	set(RCTL, 2 | RCTL_MPE);
	assert_true(comes("\1\0\x5e\0\0\1"));
	assert_false(comes("\x52\x54\0\1\2\5"));
	/* By the hash, of each of its places. */
	for (unsigned n = 0; n < 4; n++) {
		uint32_t hash = 0x8b7au >> shifts[n] & 0xfff;

		set(RCTL, 2 | n << 12);
		assert_false(comes("\1\0\x5e\0\x7a\x8b"));
		set(MTA + 4 * (hash >> 5), 1u << (hash & 31));
		assert_true(comes("\1\0\x5e\0\x7a\x8b"));
		assert_true(got((get(RDH) + RING - 1) % RING)->status & 0x80);
		set(MTA + 4 * (hash >> 5), 0);
	}
	end();
}

static void tagged(uint16_t tag)
{
	fill_frame(100);
	st_be16(frame + 12, 0x8100);
	st_be16(frame + 14, tag);
}

static void vlans(void **state)
{
	const struct rx *r;

	begin();
	start(SECRC);
	tagged(0x2123);
	receive(100);
	r = got(0);
	assert_int_equal(r->len, 100);
	assert_memory_equal(r->data, frame, 100);
	/* The tag goes into the descriptor, or comes from it. */
	set(CTRL, 1u << 30);
	receive(100);
	r = got(1);
	assert_int_equal(r->len, 96);
	assert_int_equal(r->status & 8, 8);
	assert_int_equal(r->special, 0x2123);
	assert_memory_equal(r->data + 12, frame + 16, 84);
	fill_frame(100);
	put_words(0, TX_DATA, 100 | 50u << 16 | (uint32_t)(EOP | IFCS | IC | VLE) << 24, 0x2124u << 16 | 34u << 8);
	set(TDT, 1);
	run();
	assert_int_equal(last_len, 104);
	assert_int_equal(ld_be32(last + 12), 0x81002124);
	assert_memory_equal(last, frame, 12);
	assert_memory_equal(last + 16, frame + 12, 88);
	assert_int_equal(last_offload.csum_start, 38);
	/* Only those that are let in. */
	set(RCTL, 2 | SECRC | 1u << 18);
	tagged(0x2123);
	receive(100);
	assert_int_equal(get(RDH), 2);
	set(VFTA + 4 * (0x123 >> 5), 1u << (0x123 & 31));
	receive(100);
	assert_int_equal(get(RDH), 3);
	fill_frame(100);
	receive(100);
	assert_int_equal(get(RDH), 4);
	end();
}

static void sum_header(void)
{
	st_be16(frame + 24, 0);
	st_be16(frame + 24, (uint16_t)~sum_of(frame + 14, 20, 0));
}

static void checksums_that_the_peer_knows(void **state)
{
	begin();
	start(0);
	fill_frame(100);
	st_be16(frame + 12, 0x0800);
	frame[14] = 0x45;
	frame[20] = frame[21] = 0;
	frame[23] = 6;
	sum_header();
	receive(100);
	assert_int_equal(got(0)->status & 0x64, 0x04);
	set(RXCSUM, 3u << 8);
	receive(100);
	assert_int_equal(got(1)->status & 0x64, 0x60);
	assert_int_equal(got(1)->errors, 0);
	frame[20] = 0x20; /* a fragment */
	sum_header();
	receive(100);
	assert_int_equal(got(2)->status & 0x64, 0x40);
	frame[20] = 0;
	sum_header();
	/* The card sums the header itself, and that alone. */
	verified = false;
	receive(100);
	assert_int_equal(got(3)->status & 0x64, 0x40);
	verified = true;
	frame[24] ^= 1;
	receive(100);
	assert_int_equal(got(4)->status & 0x64, 0x60);
	assert_int_equal(got(4)->errors, 0x40);
	/* It ends behind the frame, or before it begins. */
	for (unsigned n = 0; n < 2; n++) {
		frame[14] = n ? 0x44 : 0x4f;
		receive(60);
		assert_int_equal(got(5 + n)->status & 0x64, 0x04);
		assert_int_equal(got(5 + n)->errors, 0);
	}
	end();
}

/* --- loopback --- */

static void what_is_sent_comes_back(void **state)
{
	/* By RCTL, whose other values are those of drivers, and by the PHY, as Linux' self test does it. */
	static const struct {
		uint32_t rctl;
		uint16_t phy;
	} ways[] = { { 3u << 6, 0x1140 }, { 1u << 6, 0x1140 }, { 0, 0x4140 } };

	for (size_t n = 0; n < sizeof(ways) / sizeof(*ways); n++) {
		begin();
		start(SECRC | ways[n].rctl);
		write_phy(0, ways[n].phy);
		assert_int_equal(phy(0), ways[n].phy);
		fill_frame(300);
		put_words(0, TX_DATA, 300 | (uint32_t)(EOP | IFCS | RS) << 24, 0);
		set(TDT, 1);
		run();
		assert_int_equal(sent, 0);
		assert_int_equal(tx_status(0), 1);
		assert_int_equal(get(RDH), 1);
		assert_int_equal(got(0)->len, 300);
		assert_memory_equal(got(0)->data, frame, 300);
		/* The wire is cut off, and need not be there. */
		assert_true(receive(300));
		assert_int_equal(get(RDH), 1);
		e1000_set_link(card, false);
		put_words(1, TX_DATA, 200 | (uint32_t)(EOP | IFCS) << 24, 0);
		set(TDT, 2);
		run();
		assert_int_equal(get(RDH), 2);
		/* What finds no buffer is lost, and the sender does not wait. */
		set(RDT, 2);
		put_words(2, TX_DATA, 200 | (uint32_t)(EOP | IFCS | RS) << 24, 0);
		set(TDT, 3);
		run();
		assert_int_equal(tx_status(2), 1);
		assert_int_equal(get(RDH), 2);
		assert_int_equal(get(MPC), 1);
		assert_int_equal(get(RNBC), 1);
		/* Back to the wire. */
		e1000_set_link(card, true);
		set(RCTL, 2);
		write_phy(0, 0x8000);
		put_words(3, TX_DATA, 200 | (uint32_t)(EOP | IFCS) << 24, 0);
		set(TDT, 4);
		run();
		assert_int_equal(sent, 1);
		end();
	}
}

/* What is left to peers is done here for what comes back. */
static void what_comes_back_is_complete(void **state)
{
	uint32_t len = 54 + 1200;

	begin();
	start(SECRC | 3u << 6);
	set(RXCSUM, 3u << 8);
	fill_frame(len);
	st_be16(frame + 12, 0x0800);
	memset(frame + 14, 0, 40);
	frame[14] = 0x45;
	st_be16(frame + 16, (uint16_t)(len - 14));
	frame[23] = 6;
	frame[46] = 0x50;
	st_be32(frame + 38, 1000);
	sum_header();
	mem_write(board.mem, gpa(TX_DATA), frame, len);
	/* Nobody has said that its sum is right. */
	put_words(0, TX_DATA, len | (uint32_t)(EOP | IFCS) << 24, 0);
	set(TDT, 1);
	run();
	assert_int_equal(got(0)->status & 0x64, 0x40);
	/* In two segments. */
	context(1, 1 | 2 | TSE, (uint32_t[]){ 14, 24, 33, 34, 50, 0, 54, 1000 });
	data(2, len, EOP | TSE, 3);
	set(TDT, 3);
	run();
	assert_int_equal(get(RDH), 3);
	assert_int_equal(got(1)->status & 0x64, 0x60);
	segments = 0;
	payload = 0;
	one_segment(NULL, got(1)->data, got(1)->len);
	one_segment(NULL, got(2)->data, got(2)->len);
	assert_int_equal(payload, 1200);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_go_out),
		cmocka_unit_test(nonsense_is_not_sent),
		cmocka_unit_test(checksums_are_left_to_the_peer),
		cmocka_unit_test(packets_are_cut),
		cmocka_unit_test(a_peer_that_is_full_is_waited_for),
		cmocka_unit_test(ends_while_a_frame_is_sent),
		cmocka_unit_test(frames_come_in),
		cmocka_unit_test(what_no_ring_holds_is_dropped),
		cmocka_unit_test(filters),
		cmocka_unit_test(vlans),
		cmocka_unit_test(checksums_that_the_peer_knows),
		cmocka_unit_test(what_is_sent_comes_back),
		cmocka_unit_test(what_comes_back_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
