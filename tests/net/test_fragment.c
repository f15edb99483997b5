/* Putting fragments together: any order, and nothing that contradicts itself; and cutting packets to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "net/fragment.h"

#define ETH 14

static struct fragments *f;
static uint8_t content[65536];

static int begin(void **state)
{
	f = fragments_new();
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (uint8_t)(i * 7 + i / 253);
	return f ? 0 : -1;
}

static int end(void **state)
{
	fragments_free(f);
	return 0;
}

struct part {
	unsigned at, len;
	bool more;
};

static int64_t now_ms;
static bool by_v6;

/* As add_as() by IPv6: the header is right behind the packet's. */
static const uint8_t *add6(uint16_t id, struct part p, size_t *whole)
{
	static uint8_t b[70000];
	uint8_t *ip = b + ETH, *own = ip + 40;

	memset(b, 0, ETH + 48);
	memcpy(b, "destinsource\x86\xdd", 14);
	ip[0] = 0x60;
	st_be16(ip + 4, (uint16_t)(8 + p.len));
	ip[6] = 44;
	ip[7] = 64;
	memset(ip + 8, 0xfe, 32);
	own[0] = 17;
	st_be16(own + 2, (uint16_t)(p.at | p.more));
	st_be32(own + 4, id);
	memcpy(own + 8, content + p.at, p.len);
	assert_true(fragment_is(b, ETH + 48 + p.len));
	return fragments_add(f, b, ETH + 48 + p.len, now_ms, whole);
}

/* A fragment of `content`; `ihl` bytes of IP header. */
static const uint8_t *add_as(uint16_t id, unsigned ihl, struct part p, size_t *whole)
{
	static uint8_t b[70000];

	if (by_v6)
		return add6(id, p, whole);
	memset(b, 0, ETH + 60);
	memcpy(b, "destinsource", 12);
	st_be16(b + 12, 0x0800);
	b[ETH] = (uint8_t)(0x40 | ihl / 4);
	st_be16(b + ETH + 2, (uint16_t)(ihl + p.len));
	st_be16(b + ETH + 4, id);
	st_be16(b + ETH + 6, (uint16_t)(p.at / 8 | (p.more ? 0x2000 : 0)));
	b[ETH + 8] = 64;
	b[ETH + 9] = 17;
	memset(b + ETH + 12, 0x0a, 8);
	memset(b + ETH + 20, 0x44, ihl - 20);
	memcpy(b + ETH + ihl, content + p.at, p.len);
	assert_true(fragment_is(b, ETH + ihl + p.len));
	return fragments_add(f, b, ETH + ihl + p.len, now_ms, whole);
}

static const uint8_t *add(uint16_t id, unsigned at, unsigned len, bool more, size_t *whole)
{
	return add_as(id, 20, (struct part){ at, len, more }, whole);
}

static void is_whole(const uint8_t *b, const size_t *whole, unsigned ihl, unsigned len)
{
	uint32_t s = 0;

	assert_non_null(b);
	assert_false(fragment_is(b, *whole));
	if (by_v6) {
		assert_int_equal(*whole, ETH + 40 + len);
		assert_memory_equal(b, "destinsource\x86\xdd", 14);
		assert_int_equal(ld_be16(b + ETH + 4), len);
		assert_int_equal(b[ETH + 6], 17);
		assert_memory_equal(b + ETH + 40, content, len);
		return;
	}
	assert_int_equal(*whole, ETH + ihl + len);
	assert_memory_equal(b, "destinsource\x08\0", 14);
	assert_int_equal(ld_be16(b + ETH + 2), ihl + len);
	assert_int_equal(ld_be16(b + ETH + 6), 0);
	for (unsigned k = 0; k < ihl; k += 2)
		s += ld_be16(b + ETH + k);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	assert_int_equal(s, 0xffff);
	assert_memory_equal(b + ETH + ihl, content, len);
}

static void test_any_order(void **state)
{
	/* Three parts in each of the six orders. */
	static const struct part parts[3] = { { 0, 1480, true }, { 1480, 800, true }, { 2280, 13, false } };
	static const int orders[6][3] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 }
	};
	size_t whole = 0;

	for (unsigned k = 0; k < 6; k++) {
		assert_null(add_as((uint16_t)k, 20, parts[orders[k][0]], &whole));
		assert_null(add_as((uint16_t)k, 20, parts[orders[k][1]], &whole));
		is_whole(add_as((uint16_t)k, 20, parts[orders[k][2]], &whole), &whole, 20, 2293);
	}
}

static void test_options_of_the_first_count(void **state)
{
	size_t whole = 0;

	assert_null(add_as(1, 20, (struct part){ 64, 8, false }, &whole));
	is_whole(add_as(1, 60, (struct part){ 0, 64, true }, &whole), &whole, 60, 72);
}

static void test_largest(void **state)
{
	unsigned at = 0;
	size_t whole = 0;

	for (; at + 1480 < 65515; at += 1480)
		assert_null(add(5, at, 1480, true, &whole));
	is_whole(add(5, at, 65515 - at, false, &whole), &whole, 20, 65515);
	/* One byte more, or options that make it longer than a packet can be. */
	assert_null(add(6, 65512, 8, false, &whole));
	for (at = 0; at + 1480 < 65515; at += 1480)
		assert_null(add_as(7, 24, (struct part){ at, 1480, true }, &whole));
	assert_null(add(7, at, 65515 - at, false, &whole));
}

/* Each of these ends its packet: what comes afterwards does not complete it. */
static void test_contradictions(void **state)
{
	static const struct part bad[][3] = {
		{ { 0, 16, true }, { 8, 8, true }, { 16, 8, false } },	 /* inside another one */
		{ { 0, 16, true }, { 0, 16, true }, { 16, 8, false } },	 /* the same again */
		{ { 16, 16, true }, { 8, 16, true }, { 0, 8, true } },	 /* over the beginning of another one */
		{ { 16, 8, false }, { 24, 8, true }, { 0, 16, true } },	 /* beyond the end */
		{ { 24, 8, true }, { 8, 16, false }, { 0, 8, true } },	 /* an end before what is there */
		{ { 0, 12, true }, { 12, 4, false }, { 16, 8, false } }, /* not a multiple of eight */
		{ { 0, 0, true }, { 0, 8, true }, { 16, 8, false } },	 /* nothing */
		{ { 8, 8, false }, { 8, 8, false }, { 0, 8, true } },	 /* two ends */
		/* As many bytes as there should be, with a hole. */
		{ { 0, 8, true }, { 0, 8, true }, { 16, 8, false } },
		{ { 0, 16, true }, { 8, 8, true }, { 24, 8, false } },
		{ { 8, 8, true }, { 0, 16, true }, { 24, 8, false } },
	};
	size_t whole = 0;

	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++, now_ms++)
		for (unsigned n = 0; n < 3; n++)
			if (add_as((uint16_t)(100 + k), 20, bad[k][n], &whole))
				fail_msg("case %zu was put together", k);
	/* Others are not disturbed. */
	assert_null(add(1, 0, 8, true, &whole));
	assert_null(add(2, 0, 8, true, &whole));
	assert_null(add(2, 0, 8, true, &whole));
	is_whole(add(1, 8, 4, false, &whole), &whole, 20, 12);
}

static void test_bounds(void **state)
{
	size_t whole = 0;

	/* More packets than there is room for: the oldest goes. */
	for (uint16_t id = 0; id < FRAGMENT_PACKETS; id++, now_ms++)
		assert_null(add(id, 0, 8, true, &whole));
	assert_null(add(100, 0, 8, true, &whole));
	assert_null(add(0, 8, 8, false, &whole)); /* takes the place of the next oldest */
	assert_null(add(1, 8, 8, false, &whole));
	is_whole(add(FRAGMENT_PACKETS - 1, 8, 8, false, &whole), &whole, 20, 16);
	is_whole(add(100, 8, 8, false, &whole), &whole, 20, 16);
	/* And nothing waits for ever. */
	assert_null(add(7, 0, 8, true, &whole));
	now_ms += FRAGMENT_SECONDS * 1000 + 1;
	assert_null(add(7, 8, 8, false, &whole));
}

static void test_broken_headers(void **state)
{
	uint8_t b[64] = { 0 };
	size_t whole;

	st_be16(b + 12, 0x0800);
	b[14] = 0x45;
	st_be16(b + 16, 28);
	assert_false(fragment_is(b, sizeof(b)));
	st_be16(b + 20, 0x4000); /* "do not fragment" is no fragment */
	assert_false(fragment_is(b, sizeof(b)));
	st_be16(b + 20, 0x2000);
	assert_true(fragment_is(b, sizeof(b)));
	assert_false(fragment_is(b, 33));
	st_be16(b + 16, 51); /* longer than the frame */
	assert_null(fragments_add(f, b, sizeof(b), 0, &whole));
	st_be16(b + 16, 19);
	assert_null(fragments_add(f, b, sizeof(b), 0, &whole));
	b[14] = 0x44;
	st_be16(b + 16, 28);
	assert_null(fragments_add(f, b, sizeof(b), 0, &whole));
	b[14] = 0x4f;
	assert_null(fragments_add(f, b, sizeof(b), 0, &whole));
	b[14] = 0x65;
	assert_false(fragment_is(b, sizeof(b)));
}

/* Random fragments: what comes out is consistent. */
static void test_random(void **state)
{
	unsigned seed = 9, wholes = 0;
	size_t whole;

	for (unsigned n = 0; n < 200000; n++) {
		unsigned at = (unsigned)rand_r(&seed) % 4 * 8, len = 1 + (unsigned)rand_r(&seed) % 24;
		const uint8_t *b;

		bool more = rand_r(&seed) % 3;

		if (!at && !more)
			continue;
		if (rand_r(&seed) % 8)
			len = 8;
		b = add((uint16_t)(rand_r(&seed) % 6), at, len, more, &whole);
		now_ms += rand_r(&seed) % 100;
		if (!b)
			continue;
		wholes++;
		is_whole(b, &whole, 20, (unsigned)whole - ETH - (by_v6 ? 40 : 20));
	}
	assert_true(wholes > 1000);
}

/* All the above that have no options, by IPv6. */
static void test_v6(void **state)
{
	uint8_t b[ETH + 60] = { [12] = 0x86, [13] = 0xdd, [14] = 0x60, [20] = 44 };
	size_t whole;

	by_v6 = true;
	test_any_order(state);
	test_contradictions(state);
	test_bounds(state);
	test_random(state);
	now_ms += FRAGMENT_SECONDS * 1000 + 1;
	/* One that stands alone is a packet (RFC 6946), and is none of another one's. */
	is_whole(add(9, 0, 13, false, &whole), &whole, 0, 13);
	/* The same number by IPv4 is another packet's. */
	assert_null(add(5, 0, 8, true, &whole));
	by_v6 = false;
	assert_null(add(5, 8, 8, false, &whole));
	by_v6 = true;
	is_whole(add(5, 8, 8, false, &whole), &whole, 0, 16);
	by_v6 = false;
	assert_true(fragment_is(b, sizeof(b)));
	assert_false(fragment_is(b, ETH + 39));
	st_be16(b + ETH + 4, 7); /* shorter than the header */
	assert_null(fragments_add(f, b, sizeof(b), 0, &whole));
	st_be16(b + ETH + 4, 21); /* longer than the frame */
	assert_null(fragments_add(f, b, sizeof(b), 0, &whole));
}

static const uint8_t *together;
static size_t together_len;
static unsigned pieces;

static void piece(void *opaque, const uint8_t *b, size_t len)
{
	pieces++;
	assert_true(len <= ETH + *(unsigned *)opaque && len > ETH);
	if (fragment_is(b, len))
		together = fragments_add(f, b, len, now_ms, &together_len);
	else
		together_len = len;
}

/* What is cut is the same again when it is put together, and no piece is larger than said. */
static void test_cutting(void **state)
{
	static const struct {
		unsigned mtu, len, pieces4, pieces6;
	} cases[] = { { 1500, 1460, 1, 1 }, { 1500, 1461, 1, 2 }, { 1500, 1480, 1, 2 },	  { 1500, 1481, 2, 2 },
		      { 1500, 8000, 6, 6 }, { 1280, 9000, 8, 8 }, { 1500, 65400, 45, 46 } };
	static uint8_t b[70000];

	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++)
		for (unsigned v6 = 0; v6 < 2; v6++) {
			unsigned mtu = cases[k].mtu, header = ETH + (v6 ? 40 : 20);

			memset(b, 0, header);
			memcpy(b, "destinsource", 12);
			st_be16(b + 12, v6 ? 0x86dd : 0x0800);
			b[ETH] = v6 ? 0x60 : 0x45;
			st_be16(b + ETH + (v6 ? 4 : 2), (uint16_t)(v6 ? cases[k].len : 20 + cases[k].len));
			b[ETH + (v6 ? 6 : 9)] = 17;
			memcpy(b + header, content, cases[k].len);
			pieces = 0;
			fragments_cut(b, header + cases[k].len, mtu, (uint32_t)k, piece, &mtu);
			assert_int_equal(pieces, v6 ? cases[k].pieces6 : cases[k].pieces4);
			assert_int_equal(together_len, header + cases[k].len);
			by_v6 = v6;
			if (pieces > 1)
				is_whole(together, &together_len, 20, cases[k].len);
			by_v6 = false;
		}
	/* A fragment is cut as part of its packet. */
	assert_null(add(77, 0, 48, true, &together_len));
	memcpy(b, "destinsource\x08\0", 14);
	memset(b + ETH, 0, 20);
	b[ETH] = 0x45;
	st_be16(b + ETH + 2, 20 + 3000);
	st_be16(b + ETH + 4, 77);
	st_be16(b + ETH + 6, 0x2000 | 48 / 8);
	b[ETH + 8] = 64;
	b[ETH + 9] = 17;
	memset(b + ETH + 12, 0x0a, 8);
	memcpy(b + ETH + 20, content + 48, 3000);
	pieces = 0;
	fragments_cut(b, ETH + 20 + 3000, 1500, 0, piece, &(unsigned){ 1500 });
	assert_int_equal(pieces, 3);
	is_whole(add(77, 3048, 5, false, &together_len), &together_len, 20, 3053);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_any_order), TEST(test_options_of_the_first_count),
		TEST(test_largest),   TEST(test_contradictions),
		TEST(test_bounds),    TEST(test_broken_headers),
		TEST(test_random),    TEST(test_v6),
		TEST(test_cutting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
