/* DHCPv6 and router advertisements, byte by byte; and the frames of both families. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "lan/serve/dhcp6.h"
#include "lan/serve/ra.h"
#include "message.h"

enum { SOLICIT = 1, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE, INFORMATION = 11, RELAY };

#define SERVER_DUID "\0\3\0\1\x52\x54\0\0\0\2"
#define DUID	    "\0\4my-own-duid"
#define DUID_LEN    13

static struct lan_serve s;
static struct dhcp6_config c;
static struct frame_out out;
static uint8_t m[2048];
static size_t len;

static int begin(void **state)
{
	s = test_network();
	c = (struct dhcp6_config){ .serve = &s, .leases = test_leases(&s, true) };
	memcpy(c.mac, SERVER, 6);
	return 0;
}

static int end(void **state)
{
	leases_free(c.leases);
	return 0;
}

static void option(unsigned type, const void *data, size_t n)
{
	st_be16(m + len, (uint16_t)type);
	st_be16(m + len + 2, (uint16_t)n);
	memcpy(m + len + 4, data, n);
	len += 4 + n;
}

static void ask(uint8_t type)
{
	memcpy(m, "\0XYZ", 4);
	m[0] = type;
	len = 4;
	option(1, DUID, DUID_LEN);
}

/* An IA_NA, with an address if there is one. */
static void ia(uint32_t id, const char *address)
{
	uint8_t b[12 + 28] = { 0 };

	st_be32(b, id);
	if (address) {
		st_be16(b + 12, 5);
		st_be16(b + 14, 24);
		inet_pton(AF_INET6, address, b + 16);
	}
	option(3, b, address ? 40 : 12);
}

static const struct frame_in *send_as(struct frame_in *in)
{
	uint8_t *exact = malloc(len ? len : 1);

	memcpy(exact, m, len);
	in->data = exact;
	in->len = len;
	dhcp6_handle(&c, in, NOW, &out);
	free(exact);
	return test_answer(&out);
}

static const struct frame_in *send_it(void)
{
	return send_as(test_request(true, m, len));
}

static const uint8_t *find_in(const uint8_t *p, size_t n, unsigned type, size_t *size)
{
	for (size_t at = 0; at + 4 <= n; at += 4u + ld_be16(p + at + 2)) {
		*size = ld_be16(p + at + 2);
		assert_true(at + 4 + *size <= n);
		if (ld_be16(p + at) == type)
			return p + at + 4;
	}
	return NULL;
}

static const uint8_t *find(const struct frame_in *a, unsigned type, size_t *size)
{
	return find_in(a->data + 4, a->len - 4, type, size);
}

/* The address in an answer's IA_NA as text, "" for none; its valid lifetime. */
static const char *given(const struct frame_in *a, uint32_t *valid)
{
	static char text[ADDR_TEXT];
	size_t n;
	const uint8_t *p = find(a, 3, &n);

	p = p ? find_in(p + 12, n - 12, 5, &n) : NULL;
	*text = 0;
	if (p) {
		inet_ntop(AF_INET6, p, text, sizeof(text));
		*valid = ld_be32(p + 20);
	}
	return text;
}

/* The status in the first IA; -1: none. */
static int status_of_ia(const struct frame_in *a, unsigned kind)
{
	size_t n, head = kind == 4 ? 4 : 12;
	const uint8_t *p = find(a, kind, &n);

	p = p ? find_in(p + head, n - head, 13, &n) : NULL;
	return p ? ld_be16(p) : -1;
}

static int status(const struct frame_in *a)
{
	size_t n;
	const uint8_t *p = find(a, 13, &n);

	return p ? ld_be16(p) : -1;
}

static void test_four_messages(void **state)
{
	const struct frame_in *a;
	char address[ADDR_TEXT];
	uint32_t valid;
	size_t n;

	ask(SOLICIT);
	ia(1, NULL);
	option(6, "\0\27\0\30", 4);
	a = send_it();
	assert_non_null(a);
	assert_memory_equal(a->data, "\2XYZ", 4);
	strcpy(address, given(a, &valid));
	assert_int_equal(valid, 3600);
	assert_memory_equal(find(a, 1, &n), DUID, DUID_LEN);
	assert_memory_equal(find(a, 2, &n), SERVER_DUID, 10);
	assert_int_equal(find(a, 7, &n)[0], 255);
	assert_memory_equal(find(a, 23, &n), &s.addr6, 16);
	assert_memory_equal(find(a, 24, &n), "\3lab\10internal\0", 14);
	assert_memory_equal(out.b, MACHINE, 6);
	assert_int_equal(a->dport, 546);

	ask(REQUEST);
	option(2, SERVER_DUID, 10);
	ia(1, address);
	option(39, "\0\3Web\0", 6);
	a = send_it();
	assert_int_equal(a->data[0], REPLY);
	assert_string_equal(given(a, &valid), address);
	assert_non_null(leases_named(c.leases, "web"));
	for (unsigned type = RENEW; type <= REBIND; type++) {
		ask((uint8_t)type);
		if (type == RENEW)
			option(2, SERVER_DUID, 10);
		ia(1, address);
		a = send_it();
		assert_string_equal(given(a, &valid), address);
		assert_int_equal(valid, 3600);
	}
	ask(RELEASE);
	option(2, SERVER_DUID, 10);
	ia(1, address);
	assert_int_equal(status(send_it()), 0);
	assert_null(leases_named(c.leases, "web"));
	/* Once more: it has none. */
	ask(RELEASE);
	option(2, SERVER_DUID, 10);
	ia(1, address);
	assert_int_equal(status_of_ia(send_it(), 3), 3);
}

static void test_known_machine(void **state)
{
	struct frame_in *in;
	const struct frame_in *a;
	const uint8_t *first;
	uint32_t valid;

	ask(SOLICIT);
	option(14, "", 0);
	ia(1, NULL);
	ia(2, NULL);
	in = test_request(true, m, len);
	in->mac[5] = 9;
	a = send_as(in);
	assert_int_equal(a->data[0], REPLY);
	assert_string_equal(given(a, &valid), "fd00::50");
	/* Once, in the first of the two. */
	first = memmem(a->data, a->len, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x50", 16);
	assert_non_null(first);
	assert_null(memmem(first + 1, (size_t)(a->data + a->len - first - 1), first, 16));
	/* By its MAC; with that DUID alone nobody gets it. */
	ask(REQUEST);
	option(2, SERVER_DUID, 10);
	ia(1, "fd00::50");
	assert_string_not_equal(given(send_it(), &valid), "fd00::50");
}

static void test_refused(void **state)
{
	const struct frame_in *a;
	uint32_t valid = 1;
	size_t n;

	/* Not its own: RENEW says so, REBIND takes it away. */
	ask(RENEW);
	option(2, SERVER_DUID, 10);
	ia(1, "fd00::50");
	assert_int_equal(status_of_ia(send_it(), 3), 3);
	ask(REBIND);
	ia(1, "fd01::1");
	assert_string_equal(given(send_it(), &valid), "fd01::1");
	assert_int_equal(valid, 0);
	/* On this link or not. */
	ask(CONFIRM);
	ia(1, "fd00::1234");
	assert_int_equal(status(send_it()), 0);
	ask(CONFIRM);
	ia(1, "fd01::1234");
	assert_int_equal(status(send_it()), 4);
	ask(CONFIRM);
	assert_null(send_it());
	/* Neither temporary addresses nor prefixes. */
	ask(SOLICIT);
	option(4, "\0\0\0\1", 4);
	assert_int_equal(status_of_ia(send_it(), 4), 2);
	ask(SOLICIT);
	option(25, "\0\0\0\1\0\0\0\0\0\0\0\0", 12);
	assert_int_equal(status_of_ia(send_it(), 25), 6);
	/* To the server alone, which it was not told that it may. */
	ask(REQUEST);
	option(2, SERVER_DUID, 10);
	ia(1, NULL);
	{
		struct frame_in *in = test_request(true, m, len);

		in->dst6 = mac_link_local((const uint8_t *)SERVER);
		a = send_as(in);
		assert_int_equal(status(a), 5);
		assert_null(find(a, 3, &n));
	}
	ask(INFORMATION);
	option(6, "\0\27", 2);
	a = send_it();
	assert_non_null(find(a, 23, &n));
	assert_null(find(a, 24, &n));
}

static void test_not_answered(void **state)
{
	static const uint8_t with_server[] = { SOLICIT, CONFIRM, REBIND, RELAY, 0, 99 };

	for (size_t n = 0; n < ARRAY_LEN(with_server); n++) {
		ask(with_server[n]);
		option(2, SERVER_DUID, 10);
		ia(1, "fd00::1234");
		assert_null(send_it());
	}
	for (uint8_t type = REQUEST; type <= DECLINE; type++) {
		if (type == CONFIRM || type == REBIND || type == REPLY)
			continue;
		ask(type); /* without a server's DUID, and with another's */
		ia(1, "fd00::1234");
		assert_null(send_it());
		option(2, "\0\3\0\1\x52\x54\0\0\0\3", 10);
		assert_null(send_it());
	}
	ask(SOLICIT);
	len = 4; /* without its DUID */
	ia(1, NULL);
	assert_null(send_it());
	/* Cut anywhere but between options. */
	ask(SOLICIT);
	ia(1, "fd00::1234");
	for (size_t n = len; n-- > 0;) {
		len = n;
		assert_true(!send_it() || n == 4 + 4 + DUID_LEN);
	}
	/* An address that is longer than its IA, an IA without its head. */
	ask(SOLICIT);
	ia(1, "fd00::1234");
	m[len - 25] = 25;
	assert_null(send_it());
	ask(SOLICIT);
	option(3, "\0\0\0\1", 4);
	assert_null(send_it());
}

static void test_as_many_as_there_may_be(void **state)
{
	size_t n;

	/* The longest DUID, many IAs with many addresses: one frame. */
	memset(m, 0, sizeof(m));
	memcpy(m, "\1XYZ", 4);
	len = 4;
	option(1, m + 1500, 130);
	for (uint32_t k = 0; k < 20; k++)
		ia(k, "fd00::1001");
	option(6, "\0\27\0\30", 4);
	assert_non_null(find(send_it(), 24, &n));
	assert_true(out.len < 700);
	len = 4;
	option(1, m + 1500, 131);
	assert_null(send_it());
}

/* --- router advertisements --- */

static const struct frame_in *advertise(bool last)
{
	ra_make(&s, (const uint8_t *)SERVER, NULL, last, &out);
	return test_answer(&out);
}

/* The `n`th of a type. */
static const uint8_t *nd_nth(const struct frame_in *a, unsigned type, unsigned n)
{
	for (size_t at = 16; at < a->len; at += a->data[at + 1] * 8u)
		if (a->data[at] == type && !n--)
			return a->data + at;
	return NULL;
}

static const uint8_t *nd_option(const struct frame_in *a, unsigned type)
{
	return nd_nth(a, type, 0);
}

static void test_advertisement(void **state)
{
	const struct frame_in *a = advertise(false);
	const uint8_t *o;

	assert_int_equal(a->data[0], 134);
	assert_int_equal(a->data[5], 0xc0);
	assert_int_equal(ld_be16(a->data + 6), 1800);
	assert_memory_equal(&a->src6, &s.gateway6, 16);
	assert_memory_equal(out.b, "\x33\x33\0\0\0\1", 6);
	assert_memory_equal(out.b + 6, SERVER, 6);
	assert_memory_equal(nd_option(a, 1) + 2, s.gateway_mac, 6);
	assert_int_equal(ld_be32(nd_option(a, 5) + 4), 1400);
	o = nd_option(a, 3);
	assert_int_equal(o[2], 64);
	assert_int_equal(o[3], 0x80);
	assert_memory_equal(o + 16, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	assert_memory_equal(nd_option(a, 25) + 8, &s.addr6, 16);
	assert_memory_equal(nd_option(a, 31) + 8, "\3lab\10internal\0\0\0", 16);

	assert_int_equal(ld_be16(advertise(true)->data + 6), 0);
	s.slaac = true;
	assert_int_equal(nd_option(advertise(false), 3)[3], 0xc0);
	s.dhcp6 = s.slaac = false;
	assert_int_equal(advertise(false)->data[5], 0);
	assert_int_equal(nd_option(advertise(false), 3)[3], 0xc0);
	/* Without a router: the server's own name, and no default route. */
	memset(&s.gateway6, 0, 16);
	a = advertise(false);
	assert_int_equal(ld_be16(a->data + 6), 0);
	assert_int_equal(a->src6.s6_addr[0], 0xfe);
	assert_memory_equal(nd_option(a, 1) + 2, SERVER, 6);
}

static void test_prefixes_of_before(void **state)
{
	static const char zeros[8];
	const struct lan_serve before = s;
	const struct frame_in *a;

	for (unsigned i = 0; i < LAN_OLD6_MAX; i++)
		inet_pton(AF_INET6, (const char *[]){ "fd01::2", "fd02::2", "fd03::2", "fd04::2" }[i],
			  &s.old6[i].addr6);
	s.old6_len = LAN_OLD6_MAX;
	a = advertise(false);
	assert_int_equal(ld_be32(nd_nth(a, 3, 0) + 4), 86400);
	for (unsigned i = 0; i < LAN_OLD6_MAX; i++) {
		const uint8_t *prefix = nd_nth(a, 3, 1 + i), *resolver = nd_nth(a, 25, i);

		assert_int_equal(prefix[2], 64);
		assert_int_equal(prefix[3], 0xc0);
		assert_memory_equal(prefix + 4, zeros, 8);
		assert_int_equal(prefix[17], 1 + i);
		assert_int_equal(prefix[31], 0);
		assert_memory_equal(resolver + 4, zeros, 4);
		assert_memory_equal(resolver + 8, &s.old6[i].addr6, 16);
	}
	assert_int_equal(ld_be32(nd_nth(a, 25, LAN_OLD6_MAX) + 4), 1800);
	/* And nothing else where there is none any more. */
	memset(&s.addr6, 0, 16);
	a = advertise(false);
	assert_non_null(nd_nth(a, 3, LAN_OLD6_MAX - 1));
	assert_null(nd_nth(a, 3, LAN_OLD6_MAX));
	assert_null(nd_nth(a, 25, LAN_OLD6_MAX));
	assert_null(nd_option(a, 31));
	s = before;
}

static bool solicited(const void *data, size_t n, bool nameless)
{
	struct frame_in *in = test_request(true, data, n);

	in->proto = IPPROTO_ICMPV6;
	if (nameless)
		memset(&in->src6, 0, 16);
	return ra_is_solicitation(in);
}

static void test_solicitation(void **state)
{
	assert_true(solicited("\x85\0\0\0\0\0\0\0", 8, true));
	assert_true(solicited("\x85\0\0\0\0\0\0\0\1\1\x52\x54\0\0\0\7", 16, false));
	assert_false(solicited("\x85\0\0\0\0\0\0\0\1\1\x52\x54\0\0\0\7", 16, true));
	assert_false(solicited("\x85\0\0\0\0\0\0\0\1\0\x52\x54\0\0\0\7", 16, false));
	assert_false(solicited("\x85\0\0\0\0\0\0\0\1\2\x52\x54\0\0\0\7", 16, false));
	assert_false(solicited("\x85\0\0\0\0\0\0\0\1", 9, false));
	assert_false(solicited("\x85\1\0\0\0\0\0\0", 8, false));
	assert_false(solicited("\x85\0\0\0\0\0\0", 7, false));
	assert_false(solicited("\x86\0\0\0\0\0\0\0", 8, false));
}

/* --- frames --- */

static void test_frames(void **state)
{
	struct frame_ends e = { .sport = 1, .dport = 2 };
	struct frame_in in;

	memcpy(e.src_mac, MACHINE, 6);
	for (unsigned k = 0; k < 3; k++) {
		memset(out.b, 0x5a, sizeof(out.b));
		(k == 0 ? frame_udp4 : k == 1 ? frame_udp6 : frame_icmp6)(&out, &e, 33);
		assert_true(frame_parse(out.b, out.len, false, &in));
		assert_int_equal(in.len, 33);
		/* Padding of the wire is no part of it; no byte of it can change or be missing. */
		assert_true(frame_parse(out.b, out.len + 5, false, &in));
		assert_int_equal(in.len, 33);
		for (size_t n = 0; n < out.len; n++)
			assert_false(frame_parse(out.b, n, false, &in));
		for (size_t n = 12; n < out.len; n++) {
			/* The hop limit and what it is about are not of IPv6's sums. */
			if (k && n >= 15 && n <= 17)
				continue;
			if (k == 1 && n == 21)
				continue;
			out.b[n] ^= 0x10;
			assert_false(frame_parse(out.b, out.len, false, &in));
			out.b[n] ^= 0x10;
		}
		/* From a group. */
		out.b[6] |= 1;
		assert_false(frame_parse(out.b, out.len, false, &in));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_four_messages, begin, end),
		cmocka_unit_test_setup_teardown(test_known_machine, begin, end),
		cmocka_unit_test_setup_teardown(test_refused, begin, end),
		cmocka_unit_test_setup_teardown(test_not_answered, begin, end),
		cmocka_unit_test_setup_teardown(test_as_many_as_there_may_be, begin, end),
		cmocka_unit_test_setup_teardown(test_advertisement, begin, end),
		cmocka_unit_test_setup_teardown(test_prefixes_of_before, begin, end),
		cmocka_unit_test_setup_teardown(test_solicitation, begin, end),
		cmocka_unit_test_setup_teardown(test_frames, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
