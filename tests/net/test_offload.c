/* Checksums and TCP segmentation in software, against sums that are computed here over whole frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "net/net.h"

#define ETH 14
#define FIN 1u
#define SYN 2u
#define PSH 8u
#define ACK 16u
#define CWR 128u

static uint8_t frame[NET_FRAME_MAX + 100];
static uint8_t payload[65536];

/* Of a packet, one byte at a time: nothing in common with the code under test. */
static uint16_t ones_sum(const uint8_t *b, size_t len, uint32_t s)
{
	for (size_t k = 0; k < len; k++) {
		s += (uint32_t)b[k] << (k & 1 ? 0 : 8);
		s = (s & 0xffff) + (s >> 16);
	}
	return (uint16_t)s;
}

static uint16_t pseudo(const uint8_t *ip, bool v6, uint8_t protocol, size_t len)
{
	uint16_t s = v6 ? ones_sum(ip + 8, 32, 0) : ones_sum(ip + 12, 8, 0);
	uint8_t rest[8] = { [7] = protocol };

	st_be32(rest, (uint32_t)len);
	return ones_sum(rest, 8, s);
}

struct shape {
	bool v6;
	unsigned vlan, ip_options, tcp_options, extension; /* bytes */
	bool service;					   /* the innermost tag is of 802.1ad, as others are always */
	uint8_t flags;
	uint32_t seq;
	uint16_t id;
};

static size_t ip_at(const struct shape *s)
{
	return ETH + s->vlan;
}

static size_t tcp_at(const struct shape *s)
{
	return ip_at(s) + (s->v6 ? 40 + s->extension : 20 + s->ip_options);
}

static size_t payload_at(const struct shape *s)
{
	return tcp_at(s) + 20 + s->tcp_options;
}

/* A TCP frame as a driver leaves it: the sum of the pseudo header instead of a checksum. Its length. */
static size_t build(const struct shape *s, size_t len)
{
	uint8_t *ip = frame + ip_at(s), *t = frame + tcp_at(s);
	size_t total = payload_at(s) + len;

	memset(frame, 0, total);
	memset(frame, 0x52, 12);
	for (unsigned at = 0; at < s->vlan; at += 4) {
		st_be16(frame + 12 + at, at + 4 < s->vlan || s->service ? 0x88a8 : 0x8100);
		st_be16(frame + 14 + at, 42);
	}
	st_be16(ip - 2, s->v6 ? 0x86dd : 0x0800);
	if (s->v6) {
		ip[0] = 0x60;
		st_be16(ip + 4, (uint16_t)(total - ip_at(s) - 40));
		ip[6] = s->extension ? 60 : 6;
		ip[7] = 64;
		for (int k = 8; k < 40; k++)
			ip[k] = (uint8_t)(k * 5);
		if (s->extension) {
			ip[40] = 6;
			ip[41] = (uint8_t)(s->extension / 8 - 1);
			ip[42] = 1;
			ip[43] = (uint8_t)(s->extension - 4);
		}
	} else {
		ip[0] = (uint8_t)(0x40 | (20 + s->ip_options) / 4);
		st_be16(ip + 2, (uint16_t)(total - ip_at(s)));
		st_be16(ip + 4, s->id);
		ip[8] = 64;
		ip[9] = 6;
		for (int k = 12; k < 20; k++)
			ip[k] = (uint8_t)(k * 9);
		memset(ip + 20, 1, s->ip_options);
	}
	st_be16(t, 1234);
	st_be16(t + 2, 80);
	st_be32(t + 4, s->seq);
	st_be32(t + 8, 0x11223344);
	t[12] = (uint8_t)((20 + s->tcp_options) / 4 << 4);
	t[13] = s->flags;
	st_be16(t + 14, 8192);
	memset(t + 20, 1, s->tcp_options);
	st_be16(t + 16, pseudo(ip, s->v6, 6, total - tcp_at(s)));
	memcpy(frame + payload_at(s), payload, len);
	return total;
}

static struct net_offload offload(const struct shape *s, uint16_t mss)
{
	return (struct net_offload){
		.checksum = true,
		.csum_start = (uint16_t)tcp_at(s),
		.csum_offset = 16,
		.gso = mss ? s->v6 ? NET_GSO_TCP6 : NET_GSO_TCP4 : NET_GSO_NONE,
		.mss = mss,
	};
}

/* --- what comes out --- */

struct result {
	const struct shape *s;
	uint16_t mss;
	size_t total, done; /* payload bytes */
	unsigned count;
};

static void check_segment(void *opaque, const uint8_t *f, size_t len)
{
	struct result *r = opaque;
	const struct shape *s = r->s;
	const uint8_t *ip = f + ip_at(s), *t = f + tcp_at(s);
	size_t n = len - payload_at(s);
	bool last = r->done + n == r->total;

	assert_true(len >= payload_at(s));
	assert_true(!r->mss || n <= r->mss);
	assert_true(!r->mss || last || n == r->mss); /* all full but the last */
	/* Headers as they were, but for what must differ. */
	assert_memory_equal(f, frame, ip_at(s));
	if (s->v6) {
		assert_int_equal(ld_be16(ip + 4), len - ip_at(s) - 40);
		assert_memory_equal(ip + 6, frame + ip_at(s) + 6, tcp_at(s) - ip_at(s) - 6);
	} else {
		assert_int_equal(ld_be16(ip + 2), len - ip_at(s));
		assert_int_equal(ld_be16(ip + 4), (uint16_t)(s->id + r->count));
		if (r->mss)
			assert_int_equal(ones_sum(ip, tcp_at(s) - ip_at(s), 0), 0xffff);
	}
	assert_int_equal(ld_be32(t + 4), (uint32_t)(s->seq + r->done));
	assert_int_equal(t[12], frame[tcp_at(s) + 12]);
	assert_memory_equal(t + 20, frame + tcp_at(s) + 20, s->tcp_options);
	/* The flags of the end come with the end, that of the beginning with the beginning. */
	assert_int_equal(t[13], s->flags & ~(last ? 0 : FIN | PSH) & ~(r->count ? CWR : 0));
	assert_int_equal(ones_sum(t, len - tcp_at(s), pseudo(ip, s->v6, 6, len - tcp_at(s))), 0xffff);
	assert_memory_equal(f + payload_at(s), payload + r->done, n);
	r->done += n;
	r->count++;
}

static const struct shape shapes[] = {
	{ .flags = ACK, .seq = 1000, .id = 7 },
	{ .flags = ACK | PSH | FIN | CWR, .seq = UINT32_MAX - 5000, .id = 0xfffe, .tcp_options = 12 },
	{ .flags = ACK | PSH, .ip_options = 40, .tcp_options = 40 },
	{ .flags = ACK | CWR, .vlan = 4, .id = 1 },
	{ .v6 = true, .flags = ACK | PSH | CWR, .seq = 99 },
	{ .v6 = true, .flags = ACK | FIN, .vlan = 4, .tcp_options = 12 },
	{ .v6 = true, .flags = ACK | PSH, .extension = 24 },
	{ .flags = ACK, .vlan = 4, .service = true },
	{ .v6 = true, .flags = ACK | PSH, .vlan = 8 },
	{ .flags = ACK | PSH, .vlan = 8, .service = true, .tcp_options = 12 },
};

static void test_segments(void **state)
{
	static const uint16_t mss[] = { 64, 65, 536, 1447, 1448, 9000, 65535 };
	static const size_t lengths[] = { 0, 1, 63, 64, 65, 1448, 1449, 2896, 20001, 65000 };

	for (size_t k = 0; k < ARRAY_LEN(shapes); k++) {
		for (size_t m = 0; m < ARRAY_LEN(mss); m++) {
			for (size_t l = 0; l < ARRAY_LEN(lengths); l++) {
				struct net_offload o = offload(&shapes[k], mss[m]);
				struct result r = { .s = &shapes[k], .mss = mss[m], .total = lengths[l] };
				size_t len = build(&shapes[k], lengths[l]);

				if (len - ip_at(&shapes[k]) > 65535)
					continue;
				net_segment(frame, len, &o, check_segment, &r);
				assert_int_equal(r.done, r.total);
				assert_int_equal(r.count, r.total ? (r.total + mss[m] - 1) / mss[m] : 1);
			}
		}
	}
}

static void test_checksum_only(void **state)
{
	for (size_t k = 0; k < ARRAY_LEN(shapes); k++) {
		for (size_t len = 0; len < 1500; len = len * 3 + 1) {
			struct net_offload o = offload(&shapes[k], 0);
			struct result r = { .s = &shapes[k], .total = len };

			net_segment(frame, build(&shapes[k], len), &o, check_segment, &r);
			assert_int_equal(r.count, 1);
		}
	}
}

static unsigned outs;
static uint8_t out[NET_FRAME_MAX];
static size_t out_len;

static void keep(void *opaque, const uint8_t *f, size_t len)
{
	outs++;
	assert_true(len <= sizeof(out));
	memcpy(out, f, len);
	out_len = len;
}

/* A checksum of zero would say "none" in UDP. */
static void test_checksum_is_never_zero(void **state)
{
	struct net_offload o = { .checksum = true, .csum_start = 34, .csum_offset = 6 };

	memset(frame, 0, 100);
	st_be16(frame + 34, 0xffff); /* the sum is 0xffff, its complement 0 */
	net_segment(frame, 42, &o, keep, NULL);
	assert_int_equal(ld_be16(out + 40), 0xffff);
}

static void test_complete_frames_pass(void **state)
{
	const struct net_offload none = { 0 };

	outs = 0;
	memset(frame, 0xab, 1514);
	net_segment(frame, 1514, &none, keep, NULL);
	assert_int_equal(outs, 1);
	assert_int_equal(out_len, 1514);
	assert_memory_equal(out, frame, 1514);
}

/* Headers that contradict what is to be done: nothing comes out. */
static void test_contradictions(void **state)
{
	const struct shape v4 = { .flags = ACK }, v6 = { .v6 = true, .flags = ACK };
	const struct shape wide = { .v6 = true, .flags = ACK, .extension = 904 };
	const struct shape wider = { .v6 = true, .flags = ACK, .extension = 1000 };
	size_t len = build(&v4, 3000);
	struct net_offload o;

	outs = 0;
	o = offload(&v4, 1448);
	o.mss = 0;
	net_segment(frame, len, &o, keep, NULL);
	o.mss = 63; /* a thousand frames out of one are enough */
	net_segment(frame, len, &o, keep, NULL);
	o.mss = 1448;
	o.gso = NET_GSO_TCP6;
	net_segment(frame, len, &o, keep, NULL);
	o.gso = NET_GSO_TCP4;
	net_segment(frame, 53, &o, keep, NULL); /* ends within the TCP header */
	net_segment(frame, 33, &o, keep, NULL);
	net_segment(frame, 14, &o, keep, NULL);
	net_segment(frame, 0, &o, keep, NULL);
	frame[ETH] = 0x44; /* an IP header of 16 bytes */
	net_segment(frame, len, &o, keep, NULL);
	frame[ETH] = 0x4f; /* of 60: another place for TCP than the driver says */
	net_segment(frame, len, &o, keep, NULL);
	build(&v4, 3000);
	frame[ETH + 9] = 17;
	net_segment(frame, len, &o, keep, NULL);
	build(&v4, 3000);
	frame[tcp_at(&v4) + 12] = 0x40; /* a TCP header of 16 bytes */
	net_segment(frame, len, &o, keep, NULL);
	build(&v4, 10);
	frame[tcp_at(&v4) + 12] = 0xf0; /* of 60, in a frame that has less */
	net_segment(frame, payload_at(&v4) + 10, &o, keep, NULL);

	len = build(&v6, 3000);
	o = offload(&v6, 1448);
	o.gso = NET_GSO_TCP4;
	net_segment(frame, len, &o, keep, NULL);
	o.gso = NET_GSO_TCP6;
	o.csum_start = 40; /* within the IP header */
	net_segment(frame, len, &o, keep, NULL);
	o.csum_start = (uint16_t)(len - 10);
	net_segment(frame, len, &o, keep, NULL);
	o.csum_start = 65535;
	net_segment(frame, len, &o, keep, NULL);

	/* Headers that would be copied a thousand times, each as long as a frame. */
	len = build(&wide, 3000);
	o = offload(&wide, 1000);
	net_segment(frame, len, &o, keep, NULL);
	assert_int_equal(outs, 3);
	outs = 0;
	len = build(&wider, 3000);
	o = offload(&wider, 1000);
	net_segment(frame, len, &o, keep, NULL);

	/* Checksums that lie outside of the frame. */
	o = (struct net_offload){ .checksum = true, .csum_start = 34, .csum_offset = 16 };
	net_segment(frame, 51, &o, keep, NULL);
	o.csum_start = 65535;
	o.csum_offset = 65535;
	net_segment(frame, len, &o, keep, NULL);
	o.csum_start = 100;
	o.csum_offset = 0;
	net_segment(frame, 100, &o, keep, NULL);
	net_segment(frame, NET_FRAME_MAX + 1, &o, keep, NULL);
	assert_int_equal(outs, 0);
}

/* --- datagrams --- */

struct datagrams {
	bool v6;
	size_t done;
	unsigned count;
};

static void check_datagram(void *opaque, const uint8_t *f, size_t len)
{
	struct datagrams *d = opaque;
	const uint8_t *ip = f + ETH, *u = ip + (d->v6 ? 40 : 20);
	size_t l4 = len - (size_t)(u - f);

	assert_int_equal(ld_be16(u + 4), l4);
	assert_int_equal(d->v6 ? ld_be16(ip + 4) + 40 : ld_be16(ip + 2), len - ETH);
	if (!d->v6) {
		assert_int_equal(ld_be16(ip + 4), d->count);
		assert_int_equal(ones_sum(ip, 20, 0), 0xffff);
	}
	assert_int_not_equal(ld_be16(u + 6), 0);
	assert_int_equal(ones_sum(u, l4, pseudo(ip, d->v6, 17, l4)), 0xffff);
	assert_memory_equal(u + 8, payload + d->done, l4 - 8);
	d->done += l4 - 8;
	d->count++;
}

static void test_datagrams(void **state)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct datagrams d = { .v6 = v6 };
		size_t l4 = v6 ? 54 : 34, len = l4 + 8 + 3001;
		struct net_offload o = {
			.checksum = true, .csum_start = (uint16_t)l4, .csum_offset = 6, .gso = NET_GSO_UDP, .mss = 1000
		};

		memset(frame, 0, len);
		st_be16(frame + 12, v6 ? 0x86dd : 0x0800);
		frame[ETH] = v6 ? 0x60 : 0x45;
		frame[ETH + (v6 ? 6 : 9)] = 17;
		memset(frame + ETH + (v6 ? 8 : 12), 0x77, v6 ? 32 : 8);
		st_be16(frame + l4, 53);
		memcpy(frame + l4 + 8, payload, 3001);
		net_segment(frame, len, &o, check_datagram, &d);
		assert_int_equal(d.done, 3001);
		assert_int_equal(d.count, 4);
		/* A header that is not there, or of another protocol. */
		net_segment(frame, l4 + 7, &o, check_datagram, &d);
		o.csum_start = 20;
		net_segment(frame, len, &o, check_datagram, &d);
		o.csum_start = (uint16_t)l4;
		frame[ETH] = 0x15;
		net_segment(frame, len, &o, check_datagram, &d);
		frame[ETH] = 0x45;
		frame[ETH + 9] = 6;
		net_segment(frame, len, &o, check_datagram, &d);
		net_segment(frame, 14, &o, check_datagram, &d);
		assert_int_equal(d.count, 4);
	}
}

/* A checksum of zero says that there is none. */
static void test_datagrams_have_checksums(void **state)
{
	struct net_offload o = {
		.checksum = true, .csum_start = 34, .csum_offset = 6, .gso = NET_GSO_UDP, .mss = 1000
	};
	uint16_t sum;

	memset(frame, 0, 44);
	st_be16(frame + 12, 0x0800);
	frame[ETH] = 0x45;
	frame[ETH + 9] = 17;
	net_segment(frame, 44, &o, keep, NULL);
	sum = ld_be16(out + 40);
	assert_true(sum != 0 && sum != 0xffff);
	st_be16(frame + 42, sum);
	net_segment(frame, 44, &o, keep, NULL);
	assert_int_equal(ld_be16(out + 40), 0xffff);
}

/* --- frames to the guest --- */

static unsigned room, guest_told;
static struct net_offload came;

static bool receive(void *opaque, const uint8_t *f, size_t len, const struct net_offload *o)
{
	if (!room)
		return false;
	room--;
	came = *o;
	keep(NULL, f, len);
	return true;
}

static void set_guest(struct net_peer *p)
{
	guest_told++;
}

/* What the guest does not accept is done before it gets the frame. */
static void test_delivery(void **state)
{
	static const struct net_peer_ops ops = { .name = "toy", .set_guest = set_guest };
	struct net_peer second = { .ops = &ops }, p = { .ops = &ops, .next = &second };
	const struct shape s = { .flags = ACK | CWR };
	struct net_offload o = offload(&s, 1000);
	size_t len = build(&s, 3500);

	assert_true(net_deliver(&p, frame, len, &o)); /* nobody is there */
	p.receiver.receive = receive;
	outs = 0;
	room = 100;
	guest_told = 0;
	assert_true(net_deliver(&p, frame, len, &o));
	assert_int_equal(outs, 4);
	assert_true(came.valid && !came.checksum && !came.gso);
	net_set_guest(&p, NET_CSUM | NET_TSO4, 2);
	assert_int_equal(guest_told, 1);
	assert_true(second.accepts == (NET_CSUM | NET_TSO4) && p.queues == 2);
	assert_true(net_deliver(&p, frame, len, &o));
	assert_true(outs == 5 && came.checksum && came.gso == NET_GSO_TCP4 && came.mss == 1000);
	o.ecn = true; /* which is work of its own */
	assert_true(net_deliver(&p, frame, len, &o));
	assert_int_equal(outs, 9);
	net_set_guest(&p, NET_CSUM | NET_TSO4 | NET_TSO6 | NET_USO, 2);
	assert_true(net_deliver(&p, frame, len, &o));
	assert_int_equal(outs, 13);
	/* The first segment finds no room: all come again. A later one: they are lost. */
	room = 0;
	assert_false(net_deliver(&p, frame, len, &o));
	room = 2;
	assert_true(net_deliver(&p, frame, len, &o));
	assert_int_equal(outs, 15);
	net_set_guest(&p, NET_CSUM | NET_TSO4 | NET_TSO6 | NET_USO, 2);
	assert_int_equal(guest_told, 2);
}

/* Pieces become one; what is one and cannot change is not copied. */
static void test_flat(void **state)
{
	static uint8_t b[NET_FRAME_MAX];
	const struct iovec iov[3] = { { payload, 10 }, { payload + 10, 1 }, { payload + 11, 500 } };

	assert_ptr_equal(net_flat(&(struct net_packet){ iov, 1, true, 10, { 0 } }, b), payload);
	assert_ptr_equal(net_flat(&(struct net_packet){ iov, 1, false, 10, { 0 } }, b), b);
	assert_ptr_equal(net_flat(&(struct net_packet){ iov, 3, true, 511, { 0 } }, b), b);
	assert_memory_equal(b, payload, 511);
}

static int begin(void **state)
{
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 31 + i / 256 + 1);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_checksum_only),
		cmocka_unit_test(test_checksum_is_never_zero),
		cmocka_unit_test(test_complete_frames_pass),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_datagrams_have_checksums),
		cmocka_unit_test(test_delivery),
		cmocka_unit_test(test_flat),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
