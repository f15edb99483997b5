/* dev/e1000*.c through its registers and rings, in front of a peer that the test plays. */
#include "board.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bytes.h"
#include "dev/e1000.h"

#define DEVFN (3 << 3)
#define BAR   0xc0000000u
#define IO    0xc000u

/* clang-format off */
enum {
	CTRL = 0x0, STATUS = 0x8, EECD = 0x10, EERD = 0x14, MDIC = 0x20, VET = 0x38, ICR = 0xc0, ITR = 0xc4,
	ICS = 0xc8, IMS = 0xd0, IMC = 0xd8, RCTL = 0x100, TCTL = 0x400, RDBAL = 0x2800, RDLEN = 0x2808,
	RDH = 0x2810, RDT = 0x2818, RDTR = 0x2820, TDBAL = 0x3800, TDLEN = 0x3808, TDH = 0x3810,
	TDT = 0x3818, TIDV = 0x3820, GPRC = 0x4074, GPTC = 0x4080, GORCL = 0x4088, RXCSUM = 0x5000,
	MTA = 0x5200, RA = 0x5400, VFTA = 0x5600
};
/* clang-format on */
enum { TXDW = 1, TXQE = 2, LSC = 4, RXDMT0 = 0x10, RXT0 = 0x80, MDAC = 0x200 };
enum { EOP = 1, IFCS = 2, IC = 4, TSE = 4, RS = 8, DEXT = 0x20, VLE = 0x40, IDE = 0x80 };
#define LINE 3 /* of pin A of slot 3 */

#define TX_RING 0x10000u
#define RX_RING 0x20000u
#define TX_DATA 0x40000u
#define RX_DATA 0x100000u
#define RING	8u
#define RX_STEP 0x8000u

static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

/* --- the peer --- */

static struct net_peer peer;
static struct net_peer_ops peer_ops;
static unsigned sent, readies, room, destroyed;
static uint8_t last[NET_FRAME_MAX];
static size_t last_len;
static struct net_offload last_offload;
static struct device *card;
static bool locked_while_called, verified;

static void look_at_lock(void)
{
	if (pthread_mutex_trylock(card->lock))
		locked_while_called = true;
	else
		pthread_mutex_unlock(card->lock);
}

static bool peer_send(struct net_peer *p, const struct net_packet *k)
{
	look_at_lock();
	if (!room)
		return false;
	room--;
	sent++;
	assert_true(k->len <= sizeof(last));
	memmove(last, net_flat(k, last), k->len);
	last_len = k->len;
	last_offload = k->offload;
	return true;
}

static void peer_ready(struct net_peer *p)
{
	look_at_lock();
	readies++;
}

static void peer_destroy(struct net_peer *p)
{
	destroyed++;
}

/* --- the board --- */

static void make(struct board *b)
{
	struct e1000_config c = { .devfn = DEVFN, .mem = b->mem, .clock = b->clock, .loop = b->loop, .peer = &peer };
	struct err err;

	board_pci(b);
	c.pci = b->pci;
	memcpy(c.mac, mac, 6);
	card = board_add(b, e1000_new(&c, &err));
	assert_int_equal(pci_assign_resources(b->pci, IO, BAR, BAR + 0x100000, 1ull << 40, &err), 0);
	pci_config_write(b->pci, DEVFN, 4, 2, 7);
}

static struct board board;

static void begin(void)
{
	peer_ops =
		(struct net_peer_ops){ .name = "toy", .send = peer_send, .ready = peer_ready, .destroy = peer_destroy };
	peer = (struct net_peer){ .ops = &peer_ops };
	sent = readies = destroyed = 0;
	room = UINT32_MAX;
	verified = true;
	locked_while_called = false;
	board_init(&board);
	make(&board);
}

static void end(void)
{
	board_fini(&board);
	assert_int_equal(destroyed, 1);
	assert_false(locked_while_called);
}

static uint32_t get(uint32_t reg)
{
	return (uint32_t)board_read(&board, BAR + reg, 4);
}

static void set(uint32_t reg, uint32_t v)
{
	board_write(&board, BAR + reg, 4, v);
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

static void run_board(struct board *b)
{
	for (unsigned n = 0; n < 4; n++) {
		loop_post(b->loop, quit, b->loop);
		loop_run(b->loop);
	}
}

static void run(void)
{
	run_board(&board);
}

/* As drivers set it up. */
static void start(uint32_t rctl)
{
	set(TDBAL, TX_RING);
	set(TDLEN, RING * 16);
	set(TCTL, 1u << 1);
	set(RDBAL, RX_RING);
	set(RDLEN, RING * 16);
	for (unsigned n = 0; n < RING; n++) {
		uint8_t d[16] = { 0 };

		st_le64(d, RX_DATA + n * RX_STEP);
		mem_write(board.mem, gpa(RX_RING + 16 * n), d, 16);
	}
	set(RDT, RING - 1);
	set(RCTL, 1u << 1 | rctl);
	run();
}
#define BAM	 (1u << 15)
#define SECRC	 (1u << 26)
#define RCTL_UPE (1u << 3)
#define RCTL_MPE (1u << 4)

static void put_words(unsigned n, uint64_t first, uint32_t lower, uint32_t upper)
{
	uint8_t d[16];

	st_le64(d, first);
	st_le32(d + 8, lower);
	st_le32(d + 12, upper);
	mem_write(board.mem, gpa(TX_RING + 16 * n), d, 16);
}

static uint8_t tx_status(unsigned n)
{
	uint8_t s;

	mem_read(board.mem, gpa(TX_RING + 16 * n + 12), &s, 1);
	return s & 15;
}

static uint8_t frame[NET_FRAME_MAX];

static void fill_frame(size_t len)
{
	for (size_t n = 0; n < len; n++)
		frame[n] = (uint8_t)(n * 7 + n / 251);
	memcpy(frame, mac, 6);
	frame[12] = 0x88;
	mem_write(board.mem, gpa(TX_DATA), frame, len);
}

/* --- identity, EEPROM and PHY --- */

static uint16_t eerd(unsigned at)
{
	set(EERD, at << 8 | 1);
	assert_true(get(EERD) & 0x10);
	return (uint16_t)(get(EERD) >> 16);
}

static void pins(uint32_t v)
{
	set(EECD, v);
	set(EECD, v | 1);
	set(EECD, v);
}

/* As drivers read a word by the pins of the EEPROM. */
static uint16_t by_pins(unsigned at)
{
	uint16_t v = 0;

	set(EECD, 0x40);
	assert_true(get(EECD) & 0x80);
	set(EECD, 0x42);
	for (unsigned command = 6u << 6 | at, n = 9; n--;)
		pins(0x42 | (command >> n & 1) << 2);
	assert_false(get(EECD) & 8); /* the dummy bit */
	for (unsigned n = 0; n < 16; n++) {
		set(EECD, 0x43);
		v = (uint16_t)(v << 1 | (get(EECD) >> 3 & 1));
		set(EECD, 0x42);
	}
	set(EECD, 0);
	return v;
}

static void what_it_is(void **state)
{
	uint16_t sum = 0;

	begin();
	assert_int_equal(pci_config_read(board.pci, DEVFN, 0, 4), 0x100e8086);
	assert_int_equal(pci_config_read(board.pci, DEVFN, 0xb, 1), 2);
	for (unsigned n = 0; n < 64; n++) {
		assert_int_equal(eerd(n), by_pins(n));
		sum = (uint16_t)(sum + eerd(n));
	}
	assert_int_equal(sum, 0xbaba);
	for (unsigned n = 0; n < 3; n++)
		assert_int_equal(eerd(n), ld_le16(mac + 2 * n));
	assert_int_equal(eerd(0x40), 0xffff);
	assert_int_equal(get(RA), 0x01005452);
	assert_int_equal(get(RA + 4), 0x80000302);
	assert_int_equal(get(STATUS) & 0xc3, 0x83);
	/* The same by ports, and sizes other than words. */
	board_out(&board, IO, 4, RA);
	assert_int_equal(board_in(&board, IO + 4, 4), 0x01005452);
	assert_int_equal(board_read(&board, BAR + RA + 2, 2), 0x0100);
	assert_int_equal(board_read(&board, BAR + RA, 8), 0x8000030201005452);
	assert_int_equal(get(0x1fffc), 0);
	/* What Linux' self test writes to it must be read. */
	set(RCTL, 0x06dfb3fc);
	assert_int_equal(get(RCTL), 0x06dfb3fc);
	end();
}

static uint32_t mdic(uint32_t v)
{
	set(MDIC, v);
	return get(MDIC);
}

static uint16_t phy(unsigned reg)
{
	uint32_t v = mdic(1u << 21 | 2u << 26 | reg << 16);

	assert_true(v & 1u << 28);
	assert_false(v & 1u << 30);
	return (uint16_t)v;
}

static void the_phy(void **state)
{
	begin();
	assert_int_equal(phy(2), 0x0141);
	assert_int_equal(phy(3), 0x0c20);
	assert_int_equal(phy(1) & 0x24, 0x24);
	/* Another address has none. */
	assert_true(mdic(2u << 21 | 2u << 26 | 2u << 16) & 1u << 30);
	/* What can be written, and what cannot; a reset. */
	mdic(1u << 21 | 1u << 26 | 4u << 16 | 0x1e1);
	mdic(1u << 21 | 1u << 26 | 2u << 16 | 0x1e1);
	assert_int_equal(phy(4), 0x1e1);
	assert_int_equal(phy(2), 0x0141);
	get(ICR);
	mdic(1u << 29 | 1u << 21 | 1u << 26 | 0x8000);
	assert_int_equal(phy(4), 0xde1);
	assert_int_equal(phy(0), 0x1140);
	assert_int_equal(get(ICR), LSC | MDAC);
	end();
}

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

static uint16_t sum_of(const uint8_t *b, size_t len, uint32_t s)
{
	for (size_t n = 0; n < len; n++)
		s += n & 1 ? b[n] : (uint32_t)b[n] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

static void context(unsigned n, uint32_t cmd, const uint32_t f[8])
{
	/* ipcss ipcso ipcse tucss tucso tucse hdrlen mss */
	put_words(n, (uint64_t)(f[3] | f[4] << 8 | f[5] << 16) << 32 | f[0] | f[1] << 8 | f[2] << 16,
		  (cmd | DEXT) << 24 | 2000, f[6] << 8 | f[7] << 16);
}

static void data(unsigned n, uint32_t len, uint32_t cmd, uint32_t popts)
{
	put_words(n, TX_DATA, len | 1u << 20 | (cmd | DEXT | IFCS) << 24, popts << 8);
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

/* --- receive --- */

static bool receive(size_t len)
{
	return net_deliver(&peer, frame, len, &(struct net_offload){ .valid = verified });
}

struct rx {
	uint16_t len, sum;
	uint8_t status, errors;
	uint16_t special;
	uint8_t data[RX_STEP];
};
static struct rx rx;

static const struct rx *got(unsigned n)
{
	uint8_t d[16];

	mem_read(board.mem, gpa(RX_RING + 16 * n), d, 16);
	rx = (struct rx){ ld_le16(d + 8), ld_le16(d + 10), d[12], d[13], ld_le16(d + 14), { 0 } };
	mem_read(board.mem, gpa(RX_DATA + n * RX_STEP), rx.data, rx.len);
	return &rx;
}

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

static void checksums_that_the_peer_knows(void **state)
{
	begin();
	start(0);
	fill_frame(100);
	st_be16(frame + 12, 0x0800);
	frame[14] = 0x45;
	frame[20] = frame[21] = 0;
	frame[23] = 6;
	receive(100);
	assert_int_equal(got(0)->status & 0x64, 0x04);
	set(RXCSUM, 3u << 8);
	receive(100);
	assert_int_equal(got(1)->status & 0x64, 0x60);
	frame[20] = 0x20; /* a fragment */
	receive(100);
	assert_int_equal(got(2)->status & 0x64, 0x40);
	frame[20] = 0;
	verified = false;
	receive(100);
	assert_int_equal(got(3)->status & 0x64, 0x04);
	end();
}

/* --- interrupts --- */

static void causes_and_masks(void **state)
{
	begin();
	set(ICS, LSC | RXT0);
	assert_false(board.line[LINE].level);
	assert_int_equal(get(ICS), LSC | RXT0); /* looks without acknowledging */
	set(IMS, LSC);
	assert_true(board.line[LINE].level);
	set(IMC, LSC);
	assert_false(board.line[LINE].level);
	set(IMS, RXT0);
	assert_int_equal(get(IMS), RXT0);
	assert_true(board.line[LINE].level);
	set(ICR, RXT0);
	assert_false(board.line[LINE].level);
	assert_int_equal(get(ICR), LSC);
	assert_int_equal(get(ICR), 0);
	set(ICS, 0xffffffff);
	assert_true(board.line[LINE].level);
	assert_int_equal(get(ICR), 0x1f7ff); /* Linux' self test tries the first ten */
	assert_int_equal(get(IMC), 0);
	end();
}

static void interrupts_are_held_back(void **state)
{
	begin();
	start(BAM);
	fill_frame(100);
	set(IMS, RXT0 | TXDW);
	set(ITR, 1000); /* 256 us */
	receive(100);
	assert_true(board.line[LINE].level);
	get(ICR);
	for (unsigned n = 0; n < 5; n++) {
		receive(100);
		assert_false(board.line[LINE].level);
		board_step(&board, 50 * US);
	}
	board_step(&board, 10 * US);
	assert_true(board.line[LINE].level);
	assert_int_equal(board.line[LINE].rises, 2);
	get(ICR);
	/* An acknowledged cause is not told of later. */
	set(RDT, (get(RDH) + RING - 1) % RING);
	receive(100);
	get(ICR);
	board_step(&board, 1 * MS);
	assert_int_equal(board.line[LINE].rises, 2);
	/* A packet's own delay. */
	set(ITR, 0);
	set(RDTR, 100);
	receive(100);
	board_step(&board, 100 * US);
	assert_false(board.line[LINE].level);
	board_step(&board, 3 * US);
	assert_true(board.line[LINE].level);
	get(ICR);
	/* A descriptor's. */
	set(IMC, RXT0);
	set(TIDV, 10);
	put_words(0, TX_DATA, 60 | (uint32_t)(EOP | IFCS | RS | IDE) << 24, 0);
	set(TDT, 1);
	run();
	assert_false(board.line[LINE].level);
	board_step(&board, 11 * US);
	assert_true(board.line[LINE].level);
	end();
}

/* --- the cable --- */

static void the_cable(void **state)
{
	begin();
	start(BAM);
	fill_frame(100);
	set(IMS, LSC);
	e1000_set_link(card, true); /* as it was */
	assert_int_equal(get(ICR), 0);
	e1000_set_link(card, false);
	assert_true(board.line[LINE].level);
	assert_int_equal(get(ICR), LSC);
	assert_int_equal(get(STATUS) & 2, 0);
	assert_int_equal(phy(1) & 0x24, 0);
	assert_int_equal(phy(5), 0);
	/* Nobody is there to negotiate with, whatever is reset. */
	mdic(1u << 21 | 1u << 26 | 0x1340);
	mdic(1u << 21 | 1u << 26 | 0x8000);
	set(CTRL, 1u << 31);
	assert_int_equal(get(ICR), 0);
	put_words(0, TX_DATA, 100 | (uint32_t)(EOP | IFCS | RS) << 24, 0);
	set(TDT, 1);
	run();
	assert_int_equal(tx_status(0), 1);
	assert_int_equal(sent, 0);
	assert_true(receive(100));
	assert_int_equal(get(RDH), 0);
	e1000_set_link(card, true);
	assert_int_equal(get(ICR), LSC | TXDW | TXQE);
	assert_int_equal(get(STATUS) & 2, 2);
	assert_int_equal(phy(1) & 0x24, 0x24);
	put_words(1, TX_DATA, 100 | (uint32_t)(EOP | IFCS) << 24, 0);
	set(TDT, 2);
	run();
	assert_int_equal(sent, 1);
	assert_true(receive(100));
	assert_int_equal(get(RDH), 1);
	/* At the host's end. */
	peer.receiver.unplugged(peer.receiver.opaque);
	assert_int_equal(get(STATUS) & 2, 0);
	end();
}

/* --- life --- */

static void use(struct board *b)
{
	fill_frame(300);
	receive(300);
	set(TDT, 3);
	get(ICR);
	get(EERD);
	set(EECD, 0x43);
	run_board(b); /* time stands still: what is held back stays so */
}

static void saved_states(void **state)
{
	struct board to;

	begin();
	start(BAM);
	fill_frame(1000);
	set(IMS, RXT0);
	set(ITR, 10000);
	receive(100);
	get(ICR);
	receive(100); /* an interrupt is held back */
	board_mutate(&board, use);
	/* In the middle of a packet, and of a command to the EEPROM. */
	set(TCTL, 2);
	set(TDH, 0);
	set(TDT, 0);
	set(EECD, 0x42);
	pins(0x46);
	put_words(0, TX_DATA, 300 | (uint32_t)IFCS << 24, 0);
	put_words(1, TX_DATA + 300, 700 | (uint32_t)(EOP | IFCS) << 24, 0);
	set(TDT, 1);
	run();
	card->drain(card->self);
	fill_frame(1000);
	assert_false(receive(100));
	set(TDT, 2);
	run();
	sent = readies = 0;
	e1000_set_link(card, false);
	board_migrate(&board, &to, make);
	assert_int_equal(board_read(&to, BAR + STATUS, 4) & 2, 0);
	e1000_set_link(card, true);
	for (uint64_t at = 0; at < BOARD_RAM; at += 4096) {
		uint8_t page[4096];

		mem_read(board.mem, gpa(at), page, sizeof(page));
		mem_write(to.mem, gpa(at), page, sizeof(page));
	}
	run_board(&to);
	assert_int_equal(readies, 1);
	assert_int_equal(sent, 1);
	assert_int_equal(last_len, 1000);
	assert_memory_equal(last, frame, 1000);
	board_fini(&to);
	destroyed = 0;
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_is),
		cmocka_unit_test(the_phy),
		cmocka_unit_test(frames_go_out),
		cmocka_unit_test(nonsense_is_not_sent),
		cmocka_unit_test(checksums_are_left_to_the_peer),
		cmocka_unit_test(packets_are_cut),
		cmocka_unit_test(a_peer_that_is_full_is_waited_for),
		cmocka_unit_test(frames_come_in),
		cmocka_unit_test(what_no_ring_holds_is_dropped),
		cmocka_unit_test(filters),
		cmocka_unit_test(vlans),
		cmocka_unit_test(checksums_that_the_peer_knows),
		cmocka_unit_test(causes_and_masks),
		cmocka_unit_test(interrupts_are_held_back),
		cmocka_unit_test(the_cable),
		cmocka_unit_test(saved_states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
