/* The hashes of virtio-net's receive side, with the vectors that are published for verifying RSS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "virtio/net_impl.h"

static const uint8_t key[NET_RSS_KEY] = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
					  0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
					  0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
					  0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa };
static const struct {
	const char *to;
	uint16_t to_port;
	const char *from;
	uint16_t from_port;
	uint32_t addresses, ports; /* the hashes over them */
} vectors[] = {
	{ "161.142.100.80", 1766, "66.9.149.187", 2794, 0x323e8fc2, 0x51ccc178 },
	{ "65.69.140.83", 4739, "199.92.111.2", 14230, 0xd718262a, 0xc626b0ea },
	{ "12.22.207.184", 38024, "24.19.198.95", 12898, 0xd2d0a5de, 0x5c2b394a },
	{ "209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xafc7327f },
	{ "202.188.127.2", 1303, "153.39.163.191", 44251, 0x5d1809c5, 0x10e828a2 },
	{ "3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2cc18cd5, 0x40207d3d },
	{ "ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0f0c461c, 0xdde51bbf },
	{ "fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4b61e985, 0x02d1feef },
};

static uint8_t frame[200];

/* `l3` behind the Ethernet header; the length. */
static size_t make(size_t n, uint8_t protocol, const uint8_t *extension, size_t extension_len)
{
	bool v6 = strchr(vectors[n].to, ':');
	size_t header = v6 ? 40 : 20, at = 14 + header + extension_len;
	uint8_t *ip = frame + 14;

	memset(frame, 0, sizeof(frame));
	st_be16(frame + 12, v6 ? 0x86dd : 0x0800);
	ip[0] = v6 ? 0x60 : 0x45;
	ip[v6 ? 6 : 9] = protocol;
	inet_pton(v6 ? AF_INET6 : AF_INET, vectors[n].from, ip + (v6 ? 8 : 12));
	inet_pton(v6 ? AF_INET6 : AF_INET, vectors[n].to, ip + (v6 ? 24 : 16));
	if (extension_len)
		memcpy(ip + header, extension, extension_len);
	st_be16(frame + at, vectors[n].from_port);
	st_be16(frame + at + 2, vectors[n].to_port);
	return at + 20;
}

static void expect(uint32_t types, size_t len, uint32_t value, uint16_t report)
{
	struct net_rss r = { .types = types };
	struct net_hash h;

	memcpy(r.key, key, sizeof(key));
	h = net_rss_hash(&r, frame, len);
	assert_int_equal(h.report, report);
	assert_int_equal(h.value, report ? value : 0);
}

static void test_vectors(void **state)
{
	for (size_t n = 0; n < ARRAY_LEN(vectors); n++) {
		bool v6 = n >= 5;
		size_t len = make(n, 6, NULL, 0);

		expect(0x3f, len, vectors[n].ports, v6 ? 5 : 2);
		expect(v6 ? 0x2f : 0x3d, len, vectors[n].addresses, v6 ? 4 : 1); /* without TCP */
		expect(v6 ? 0x07 : 0x38, len, 0, 0);
		len = make(n, 17, NULL, 0);
		expect(0x3f, len, vectors[n].ports, v6 ? 6 : 3);
		expect(v6 ? 0x18 : 0x03, len, vectors[n].addresses, v6 ? 4 : 1);
		len = make(n, 1, NULL, 0);
		expect(0x3f, len, vectors[n].addresses, v6 ? 4 : 1);
		expect(0x36, len, 0, 0);
		expect(0, len, 0, 0);
	}
}

/* The table's entry, or what the driver has said for frames without a hash. */
static void test_pairs(void **state)
{
	const struct net_rss r = { .mask = 3, .unclassified = 2, .table = { 0, 1, 3, 1 } };

	assert_int_equal(net_rss_pair(&r, (struct net_hash){ .report = 2, .value = 0x76 }), 3);
	assert_int_equal(net_rss_pair(&r, (struct net_hash){ .report = 1, .value = 0x80 }), 0);
	assert_int_equal(net_rss_pair(&r, (struct net_hash){ .report = 0, .value = 0x76 }), 2);
}

/* What is in front of, and instead of, the ports. */
static void test_headers(void **state)
{
	size_t len = make(0, 6, NULL, 0);

	/* A tag. */
	memmove(frame + 18, frame + 14, len - 14);
	memcpy(frame + 12, "\x81\0\0\5\x08\0", 6);
	expect(0x3f, len + 4, vectors[0].ports, 2);
	/* Options. */
	len = make(0, 6, NULL, 0);
	memmove(frame + 38, frame + 34, 20);
	frame[14] = 0x46;
	expect(0x3f, len + 4, vectors[0].ports, 2);
	/* Fragments, of which the first alone has ports. */
	for (uint16_t k = 0; k < 2; k++) {
		len = make(0, 6, NULL, 0);
		st_be16(frame + 20, k ? 0x0001 : 0x2000);
		expect(0x3f, len, vectors[0].addresses, 1);
	}
	make(0, 6, NULL, 0);
	st_be16(frame + 20, 0x4000); /* which is none */
	expect(0x3f, len, vectors[0].ports, 2);
	/* Extension headers: hop by hop and destination options; a fragment. */
	len = make(5, 0, (const uint8_t *)"\x3c\0\0\0\0\0\0\0\6\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
	expect(0x3f, len, vectors[5].ports, 5);
	len = make(5, 44, (const uint8_t *)"\6\0\0\1\0\0\0\1", 8);
	expect(0x3f, len, vectors[5].addresses, 4);
}

/* --- mobile nodes: the types of IPv6 with extension headers --- */

#define ALL	0x1ffu
#define HOME	"\xc9\x10\x3f\xfe\x25\1\2\0\x1f\xff\0\0\0\0\0\0\0\7" /* the source of vectors[5] */
#define ROUTE	"\x3f\xfe\x25\1\2\0\0\3\0\0\0\0\0\0\0\1"	     /* its destination */
#define NOWHERE "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define EIGHT	"\1\4\0\0\0\0"

/* A packet from 2001:db8:aaaa::1 to 2001:db8:bbbb::2 with such headers, the first of `next`. */
static size_t make_mobile(uint8_t next, const char *headers, size_t headers_len)
{
	size_t len = make(5, next, (const uint8_t *)headers, headers_len);

	inet_pton(AF_INET6, "2001:db8:aaaa::1", frame + 14 + 8);
	inet_pton(AF_INET6, "2001:db8:bbbb::2", frame + 14 + 24);
	return len;
}

/*
 * The hashes over addresses, and ports, with each of the two addresses that may stand in headers, or both. Those of
 * both are the published ones; the others come from a few lines of Python that give these as well: of a key and data as
 * whole numbers, the exclusive or of the key's 32 bits at each bit of the data that is set.
 */
enum { NEITHER, HOME_ALONE, ROUTE_ALONE, BOTH };
static const struct {
	uint32_t addresses, ports;
} mobile[] = {
	[NEITHER] = { 0xfc13d79b, 0x90f22673 },
	[HOME_ALONE] = { 0x6f55cd9c, 0x03b43c74 },
	[ROUTE_ALONE] = { 0xbf8796d2, 0xd366673a },
	[BOTH] = { 0x2cc18cd5, 0x40207d3d },
};

#define HEADERS(text) text, sizeof(text) - 1
static const struct {
	uint8_t next;	     /* the first header */
	const char *headers; /* TCP behind them */
	size_t len;
	int has;
} packets[] = {
	{ 0, HEADERS("\6\0" EIGHT), NEITHER },
	{ 60, HEADERS("\6\0" EIGHT), NEITHER },
	{ 60, HEADERS("\6\2\1\2\0\0" HOME), HOME_ALONE },
	{ 60, HEADERS("\6\2\0\1\1\0" HOME), HOME_ALONE },
	{ 60, HEADERS("\6\2" HOME "\0\0\0\0"), HOME_ALONE },
	{ 60, HEADERS("\6\3\xc8\2\0\0" HOME "\5\2\0\0\0\0\0\0"), HOME_ALONE },
	{ 43, HEADERS("\6\2\2\1\0\0\0\0" ROUTE), ROUTE_ALONE },
	{ 43, HEADERS("\x3c\2\2\1\0\0\0\0" ROUTE "\6\2\1\2\0\0" HOME), BOTH },
	{ 60, HEADERS("\x2b\2\1\2\0\0" HOME "\6\2\2\1\0\0\0\0" ROUTE), BOTH },
	{ 0, HEADERS("\x2b\0" EIGHT "\x3c\2\2\1\0\0\0\0" ROUTE "\6\2\1\2\0\0" HOME), BOTH },
	/* The first of several. */
	{ 60, HEADERS("\x3c\2\0\0\0\0" HOME "\6\2\1\2\0\0\xc9\x10" NOWHERE), HOME_ALONE },
	{ 43, HEADERS("\x2b\2\2\1\0\0\0\0" ROUTE "\6\2\2\1\0\0\0\0" NOWHERE), ROUTE_ALONE },
	/* Of another type, size or length, or in another header. */
	{ 43, HEADERS("\6\2\0\1\0\0\0\0" ROUTE), NEITHER },
	{ 43, HEADERS("\6\4\2\1\0\0\0\0" ROUTE NOWHERE), NEITHER },
	{ 43, HEADERS("\6\0\2\1\0\0\0\0"), NEITHER },
	{ 0, HEADERS("\6\2\1\2\0\0" HOME), NEITHER },
	{ 60, HEADERS("\6\2\1\2\0\0\xc9\x0f" NOWHERE), NEITHER },
	{ 60, HEADERS("\6\2\1\2\0\0\xc9\x11" NOWHERE), NEITHER },
	{ 60, HEADERS("\6\0\1\2\0\0\xc9\x10"), NEITHER },
	{ 60, HEADERS("\6\2\1\3\0\0" HOME), NEITHER },
	{ 60, HEADERS("\6\2\1\xff\0\0" HOME), NEITHER },
};

static void test_extension_headers(void **state)
{
	for (size_t k = 0; k < ARRAY_LEN(packets); k++) {
		uint32_t ports = mobile[packets[k].has].ports, addresses = mobile[packets[k].has].addresses;
		size_t len = make_mobile(packets[k].next, packets[k].headers, packets[k].len);

		expect(ALL, len, ports, 8);
		expect(1u << 7, len, ports, 8);
		expect(ALL & ~(1u << 7), len, addresses, 7); /* before those that know no headers */
		expect(1u << 6, len, addresses, 7);
		expect(1u << 8, len, 0, 0);
		/* Without the types the headers are passed over. */
		expect(0x3f, len, mobile[NEITHER].ports, 5);
		expect(0x2f | 1u << 8, len, mobile[NEITHER].addresses, 4);
	}
	expect(ALL, make_mobile(60, HEADERS("\x11\2\1\2\0\0" HOME)), mobile[HOME_ALONE].ports, 9);
	expect(ALL, make_mobile(60, HEADERS("\x3a\2\1\2\0\0" HOME)), mobile[HOME_ALONE].addresses, 7);
	/* A fragment has no ports, and the headers in front of it all the same. */
	expect(ALL, make_mobile(60, HEADERS("\x2c\2\1\2\0\0" HOME "\6\0\0\1\0\0\0\1")), mobile[HOME_ALONE].addresses,
	       7);
	expect(ALL, make_mobile(44, HEADERS("\6\0\0\1\0\0\0\1")), mobile[NEITHER].addresses, 7);
	/* What has no headers is not of these types. */
	expect(ALL, make_mobile(6, NULL, 0), mobile[NEITHER].ports, 5);
	expect(0x1c0, make_mobile(6, NULL, 0), 0, 0);
	expect(0x1c0, make(0, 6, NULL, 0), 0, 0);
}

/* Of the packets with headers, each that ends somewhere: as long as it is, and not a byte more. */
static void test_short_extension_headers(void **state)
{
	for (size_t k = 0; k < ARRAY_LEN(packets); k++) {
		size_t len = make_mobile(packets[k].next, packets[k].headers, packets[k].len);
		size_t headers = 14 + 40 + packets[k].len;

		for (size_t n = 0; n <= len; n++) {
			struct net_rss r = { .types = ALL };
			uint8_t *exact = malloc(n ? n : 1);
			struct net_hash h;

			memcpy(r.key, key, sizeof(key));
			memcpy(exact, frame, n);
			h = net_rss_hash(&r, exact, n);
			assert_int_equal(h.report, n < 14 + 40 ? 0 : n < headers + 4 ? 7 : 8);
			assert_int_equal(h.value, net_rss_hash(&r, frame, n).value);
			if (n >= headers)
				assert_int_equal(h.value, n < headers + 4 ? mobile[packets[k].has].addresses
									  : mobile[packets[k].has].ports);
			else if (n >= 14 + 40 && n < 14 + 40 + 8)
				assert_int_equal(h.value, mobile[NEITHER].addresses);
			free(exact);
		}
	}
}

/* Frames that end anywhere, and headers that lie: nothing is read behind the end. */
static void test_short_frames(void **state)
{
	for (size_t n = 0; n < 6; n += 5) {
		size_t header = n ? 40 : 20, len = make(n, 6, NULL, 0);

		for (size_t k = 0; k < len; k++) {
			uint8_t exact[200], kept[200];
			struct net_rss r = { .types = 0x3f };
			struct net_hash h;

			memcpy(r.key, key, sizeof(key));
			memcpy(kept, frame, sizeof(kept));
			memset(frame + k, 0xff, sizeof(frame) - k);
			memcpy(exact, frame, sizeof(exact));
			h = net_rss_hash(&r, exact, k);
			assert_int_equal(h.report, k < 14 + header ? 0 : k < 18 + header ? (n ? 4 : 1) : n ? 5 : 2);
			memcpy(frame, kept, sizeof(frame));
		}
	}
	make(5, 0, (const uint8_t *)"\0\xff\0\0\0\0\0\0", 8);
	expect(0x3f, 14 + 40 + 8, vectors[5].addresses, 4);
	make(0, 6, NULL, 0);
	frame[14] = 0x4f;
	expect(0x3f, 14 + 20, vectors[0].addresses, 1);
	frame[14] = 0x44;
	expect(0x3f, 54, 0, 0);
	frame[14] = 0x65;
	expect(0x3f, 54, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_short_frames),
		cmocka_unit_test(test_extension_headers),
		cmocka_unit_test(test_short_extension_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
