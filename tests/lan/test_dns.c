/* Messages of DNS that are sound, and that are not; and the cache of answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "lan/serve/dns_impl.h"
#include "message.h"

static uint8_t m[4096];
static size_t len;

static void bytes(const void *data, size_t n)
{
	memcpy(m + len, data, n);
	len += n;
}

static void header(unsigned flags, unsigned questions, unsigned answers, unsigned authority, unsigned additional)
{
	len = DNS_HEADER;
	st_be16(m, 0x1234);
	st_be16(m + 2, (uint16_t)flags);
	st_be16(m + 4, (uint16_t)questions);
	st_be16(m + 6, (uint16_t)answers);
	st_be16(m + 8, (uint16_t)authority);
	st_be16(m + 10, (uint16_t)additional);
}

static void question(const char *name, unsigned type)
{
	struct dns_name n;

	assert_true(dns_name_of(name, &n));
	bytes(n.b, n.len);
	st_be16(m + len, (uint16_t)type);
	st_be16(m + len + 2, DNS_IN);
	len += 4;
}

static void record(const char *name, unsigned type, uint32_t ttl, const void *data, size_t n)
{
	bytes(name, name[0] ? 2 : 1);
	st_be16(m + len, (uint16_t)type);
	st_be16(m + len + 2, type == DNS_OPT ? 4096 : DNS_IN);
	st_be32(m + len + 4, ttl);
	st_be16(m + len + 8, (uint16_t)n);
	len += 10;
	bytes(data, n);
}

/* From memory of just that size. */
static int read_query(struct dns_query *q)
{
	uint8_t *exact = malloc(len ? len : 1);
	int rc;

	memcpy(exact, m, len);
	rc = dns_read_query(exact, len, q);
	free(exact);
	return rc;
}

static bool read_answer(const struct dns_query *q, struct dns_answer *a)
{
	uint8_t *exact = malloc(len ? len : 1);
	bool rc;

	memcpy(exact, m, len);
	rc = dns_read_answer(exact, len, q, a);
	memcpy(m, exact, len);
	free(exact);
	return rc;
}

#define SELF "\xc0\x0c"

static struct dns_query asked(const char *name, unsigned type)
{
	struct dns_query q;

	header(DNS_RD, 1, 0, 0, 0);
	question(name, type);
	assert_int_equal(read_query(&q), DNS_OK);
	return q;
}

static void test_queries(void **state)
{
	struct dns_query q;
	char text[DNS_NAME_MAX + 1];
	size_t whole;

	header(DNS_RD | DNS_CD, 1, 0, 0, 1);
	question("Www.Example", DNS_AAAA);
	record("", DNS_OPT, 0x8000, "", 0);
	assert_int_equal(read_query(&q), DNS_OK);
	assert_int_equal(q.id, 0x1234);
	assert_int_equal(q.type, DNS_AAAA);
	assert_int_equal(q.flags, DNS_RD | DNS_CD);
	assert_true(q.edns && q.secure);
	assert_int_equal(q.size, DNS_UDP_MAX);
	assert_true(dns_text(&q.name, text));
	assert_string_equal(text, "www.example");
	/* Cut anywhere. */
	for (whole = len; len-- > 0;)
		assert_int_equal(read_query(&q), len < DNS_HEADER ? -1 : DNS_FORMERR);
	len = whole;
	st_be32(m + whole - 6, 0x10000);
	assert_int_equal(read_query(&q), DNS_BADVERS);
	/* Two OPTs; many records; two questions; none. */
	header(0, 1, 0, 0, 2);
	question("a", DNS_A);
	record("", DNS_OPT, 0, "", 0);
	record("", DNS_OPT, 0, "", 0);
	assert_int_equal(read_query(&q), DNS_FORMERR);
	header(0, 1, 0, 0, 9999);
	question("a", DNS_A);
	assert_int_equal(read_query(&q), DNS_FORMERR);
	header(0, 2, 0, 0, 0);
	assert_int_equal(read_query(&q), DNS_FORMERR);
	header(0, 0, 0, 0, 0);
	assert_int_equal(read_query(&q), DNS_FORMERR);
	header(DNS_QR, 1, 0, 0, 0);
	question("a", DNS_A);
	assert_int_equal(read_query(&q), -1);
	header(0x2800, 1, 0, 0, 0);
	question("a", DNS_A);
	assert_int_equal(read_query(&q), DNS_NOTIMP);
}

static void test_names(void **state)
{
	struct dns_query q;
	struct dns_name n;
	char text[300];

	/* The longest: 253 letters and dots; one more is none. */
	memset(text, 'a', sizeof(text));
	for (unsigned k = 1; k < 4; k++)
		text[64 * k - 1] = '.';
	text[253] = 0;
	assert_true(dns_name_of(text, &n));
	assert_int_equal(n.len, 255);
	text[253] = 'a';
	text[254] = 0;
	assert_false(dns_name_of(text, &n));
	assert_false(dns_name_of("a..b", &n));
	text[63] = 'a';
	text[64] = 0;
	assert_false(dns_name_of(text, &n));
	assert_true(dns_name_of("", &n));
	assert_int_equal(n.len, 1);

	/* On the wire: too long, a label of a kind that is none, pointers in a question. */
	header(0, 1, 0, 0, 0);
	for (unsigned k = 0; k < 4; k++)
		bytes("\77aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 64);
	bytes("\0\0\1\0\1", 5);
	assert_int_equal(read_query(&q), DNS_FORMERR);
	header(0, 1, 0, 0, 0);
	bytes("\100aa\0\0\1\0\1", 8);
	assert_int_equal(read_query(&q), DNS_FORMERR);
	header(0, 1, 0, 0, 0);
	bytes("\xc0\x0c\0\1\0\1", 6);
	assert_int_equal(read_query(&q), DNS_FORMERR);
	/* No host is called so, and it is no dot. */
	header(0, 1, 0, 0, 0);
	bytes("\3a.b\0\0\1\0\1", 9);
	assert_int_equal(read_query(&q), DNS_OK);
	assert_false(dns_text(&q.name, text));
	assert_non_null(strchr(text, '?'));
}

static void test_answers(void **state)
{
	struct dns_query q = asked("www.example", DNS_A);
	struct dns_answer a;
	size_t whole;

	header(DNS_QR | DNS_RD | DNS_RA, 1, 2, 0, 1);
	question("www.example", DNS_A);
	record(SELF, DNS_CNAME, 300, "\1x\xc0\x0c", 4);
	record("\xc0\x29", DNS_A, 200, "\1\2\3\4", 4);
	whole = len;
	record("", DNS_OPT, 0, "\0\0", 2);
	len += 7; /* more behind it */
	assert_true(read_answer(&q, &a));
	assert_true(a.cached);
	assert_int_equal(a.ttl, 200);
	assert_int_equal(a.len, whole);
	assert_int_equal(ld_be16(m + 10), 0);
	dns_age(m, a.len, 150);
	assert_int_equal(ld_be32(m + whole - 10), 50);
	dns_age(m, a.len, 150);
	assert_int_equal(ld_be32(m + whole - 10), 0);
	/* Cut anywhere. */
	for (len = whole; len-- > 0;)
		assert_false(read_answer(&q, &a));
	len = whole;
	assert_true(read_answer(&q, &a));
	/* OPT before others: they are left out. */
	header(DNS_QR, 1, 1, 0, 2);
	question("www.example", DNS_A);
	record(SELF, DNS_A, 300, "\1\2\3\4", 4);
	whole = len;
	record("", DNS_OPT, 0, "", 0);
	record(SELF, DNS_A, 300, "\1\2\3\4", 4);
	assert_true(read_answer(&q, &a));
	assert_int_equal(a.len, whole);
	assert_int_equal(ld_be16(m + 10), 0);
}

static void test_how_long_what_is_absent_is(void **state)
{
	static const uint8_t soa[22] = { [21] = 60 };
	struct dns_query q = asked("www.example", DNS_A);
	struct dns_answer a;

	header(DNS_QR | DNS_NXDOMAIN, 1, 0, 1, 0);
	question("www.example", DNS_A);
	record(SELF, DNS_SOA, 900, soa, sizeof(soa));
	assert_true(read_answer(&q, &a));
	assert_true(a.cached && a.rcode == DNS_NXDOMAIN);
	assert_int_equal(a.ttl, 60);
	/* Without it, nobody knows. A time without end is none. */
	header(DNS_QR | DNS_NXDOMAIN, 1, 0, 0, 0);
	question("www.example", DNS_A);
	assert_true(read_answer(&q, &a));
	assert_false(a.cached);
	header(DNS_QR, 1, 1, 0, 0);
	question("www.example", DNS_A);
	record(SELF, DNS_A, 0xffffffff, "\1\2\3\4", 4);
	assert_true(read_answer(&q, &a));
	assert_false(a.cached);
	st_be32(m + len - 10, 0x7fffffff);
	assert_true(read_answer(&q, &a));
	assert_int_equal(a.ttl, 3600);
	st_be16(m + 2, DNS_QR | DNS_SERVFAIL);
	assert_true(read_answer(&q, &a));
	assert_false(a.cached);
}

/* What is no answer to the question. */
static void test_lies(void **state)
{
	struct dns_query q = asked("www.example", DNS_A);
	static const struct {
		size_t at;
		uint8_t value;
	} changes[] = {
		{ 1, 0 },    { 2, 0x01 }, { 2, 0x88 },	{ 5, 2 },     { 13, 'W' }, { 26, 2 },  { 28, 3 },
		{ 6, 0xff }, { 8, 1 },	  { 10, 0x10 }, { 29, 0xff }, { 30, 29 },  { 30, 40 }, { 39, 0xff },
	};
	struct dns_answer a;

	for (size_t n = 0; n <= ARRAY_LEN(changes); n++) {
		header(DNS_QR | DNS_RD, 1, 1, 0, 0);
		question("www.example", DNS_A);
		record(SELF, DNS_A, 300, "\1\2\3\4", 4);
		if (n < ARRAY_LEN(changes))
			m[changes[n].at] = changes[n].value;
		assert_int_equal(read_answer(&q, &a), n == ARRAY_LEN(changes));
	}
	/* Pointers that lead back and forth for long: each must lead further back. */
	header(DNS_QR, 1, 1, 0, 0);
	question("www.example", DNS_A);
	for (unsigned k = 0; k < 200; k++) {
		st_be16(m + len, (uint16_t)(0xc000 | (len - 2)));
		len += 2;
	}
	bytes("\0\1\0\1\0\0\1\0\0\0", 10);
	assert_false(read_answer(&q, &a));
	/* The name of a record that is too long for one. */
	for (unsigned k = 3; k < 5; k++) {
		header(DNS_QR, 1, 1, 0, 0);
		question("www.example", DNS_A);
		for (unsigned n = 0; n < k; n++)
			bytes("\77aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 64);
		bytes("\0\0\1\0\1\0\0\1\0\0\0", 11);
		assert_int_equal(read_answer(&q, &a), k == 3);
	}
}

/* An error without the question, of who cannot read OPT, is only such to a question that had it. */
static void test_bare_errors(void **state)
{
	struct dns_query q = asked("www.example", DNS_A);
	const struct {
		unsigned flags, id;
		bool edns, is_one;
	} errors[] = {
		{ DNS_QR | DNS_RD | DNS_FORMERR, 0x1234, true, true },
		{ DNS_QR | DNS_RA | DNS_NOTIMP, 0x1234, true, true },
		{ DNS_QR | DNS_SERVFAIL, 0x1234, true, true },
		{ DNS_QR | DNS_FORMERR, 0x1234, false, false },
		{ DNS_QR | DNS_FORMERR, 0x1235, true, false },
		{ DNS_FORMERR, 0x1234, true, false },
		{ DNS_QR | 0x800 | DNS_FORMERR, 0x1234, true, false },
		{ DNS_QR | DNS_OK, 0x1234, true, false },
		{ DNS_QR | DNS_NXDOMAIN, 0x1234, true, false },
		{ DNS_QR | DNS_REFUSED, 0x1234, true, false },
	};

	for (size_t n = 0; n < ARRAY_LEN(errors); n++) {
		header(errors[n].flags, 0, 0, 0, 0);
		st_be16(m, (uint16_t)errors[n].id);
		q.edns = errors[n].edns;
		assert_int_equal(dns_read_bare_error(m, DNS_HEADER, &q), errors[n].is_one);
		assert_false(dns_read_bare_error(m, DNS_HEADER + 1, &q));
		assert_false(dns_read_bare_error(m, DNS_HEADER - 1, &q));
	}
}

/* Pointers that lead to pointers: as many as a name may have labels, and no more. */
static void test_chains(void **state)
{
	struct dns_query q = asked("www.example", DNS_A);
	uint8_t chain[400], last[3] = { 0 };
	struct dns_answer a;

	for (unsigned hops = 100; hops <= 200; hops += 100) {
		header(DNS_QR, 1, 2, 0, 0);
		question("www.example", DNS_A);
		for (unsigned k = 0; k < hops; k++)
			st_be16(chain + 2 * k, (uint16_t)(0xc000 | (k ? len + 12 + 2 * (k - 1) : DNS_HEADER)));
		record(SELF, 16, 300, chain, 2 * hops);
		st_be16(last, (uint16_t)(0xc000 | (len - 2)));
		record((const char *)last, DNS_A, 300, "\1\2\3\4", 4);
		assert_int_equal(read_answer(&q, &a), hops < 128);
	}
}

static void test_cache(void **state)
{
	struct dns_cache *c = dns_cache_new();
	struct dns_query q = asked("Www.example", DNS_A), other = asked("www.EXAMPLE", DNS_A);
	uint8_t got[DNS_UDP_MAX];
	struct dns_answer a;

	header(DNS_QR | DNS_RD, 1, 1, 0, 0);
	question("Www.example", DNS_A);
	record(SELF, DNS_A, 300, "\1\2\3\4", 4);
	assert_true(read_answer(&q, &a));
	dns_cache_put(c, &q, 1000, m, &a);
	assert_int_equal(dns_cache_get(c, &other, 1100, got), a.len);
	assert_int_equal(ld_be32(got + a.len - 10), 200);
	assert_int_equal(dns_cache_get(c, &other, 1300, got), 0);
	other.secure = true;
	assert_int_equal(dns_cache_get(c, &other, 1100, got), 0);
	other = asked("www.example", DNS_AAAA);
	assert_int_equal(dns_cache_get(c, &other, 1100, got), 0);
	/* Put again, it is there once; a flood of others leaves it no bigger. */
	dns_cache_put(c, &q, 1000, m, &a);
	assert_int_equal(dns_cache_count(c), 1);
	for (unsigned n = 0; n < 100000; n++) {
		char name[32];

		snprintf(name, sizeof(name), "n%u.example", n);
		dns_name_of(name, &q.name);
		dns_cache_put(c, &q, 1000, m, &a);
	}
	assert_true(dns_cache_count(c) <= 2048 && dns_cache_count(c) > 2000);
	a.len = DNS_UDP_MAX + 1;
	dns_name_of("big", &q.name);
	dns_cache_put(c, &q, 1000, m, &a);
	assert_int_equal(dns_cache_get(c, &q, 1000, got), 0);
	free(c);
}

static void test_written(void **state)
{
	struct dns_query q = asked("a.b", DNS_A);
	struct dns_record r = { .type = DNS_A, .ttl = 7, .data = "\1\2\3\4", .len = 4 };
	struct dns_writer w;
	struct dns_answer a;
	uint8_t b[DNS_UDP_MAX];

	q.size = DNS_UDP_MIN;
	for (unsigned n = 0; n < 100; n++) {
		dns_begin(&w, b, sizeof(b), &q, DNS_AA);
		for (unsigned k = 0; k < n; k++)
			dns_put(&w, DNS_ANSWER, &r);
		q.edns = n & 1;
		dns_end(&w, &q, DNS_OK, true);
		assert_true(w.len <= DNS_UDP_MIN);
		assert_true(dns_read_answer(b, w.len, &q, &a));
		assert_int_equal(a.truncated, n > 30);
		assert_int_equal(ld_be16(b + 6), a.truncated ? 0 : n);
	}
}

/* Where a zone of this network begins: there is what shows that it is one, and below it who denies. */
static void test_zones(void **state)
{
	static const struct {
		unsigned prefix4;
		const char *domain, *name;
		unsigned type, answers;
		enum dns_rcode rcode;
		const char *denied; /* the zone in whose name it is; NULL: it is answered */
	} q[] = {
		{ 24, "lab", "lab", DNS_SOA, 1, DNS_OK, NULL },
		{ 24, "lab", "lab", DNS_NS, 1, DNS_OK, NULL },
		{ 24, "lab", "lab", DNS_ANY, 2, DNS_OK, NULL },
		{ 24, "lab", "lab", DNS_A, 0, DNS_OK, "lab" },
		{ 24, "lab.internal", "dns.lab.internal", DNS_A, 1, DNS_OK, NULL },
		{ 24, "lab.internal", "dns.lab.internal", DNS_SOA, 0, DNS_OK, "lab.internal" },
		{ 24, "lab.internal", "x.y.lab.internal", DNS_NS, 0, DNS_NXDOMAIN, "lab.internal" },
		{ 24, "lab", "0.0.10.in-addr.arpa", DNS_SOA, 1, DNS_OK, NULL },
		{ 24, "", "0.0.10.in-addr.arpa", DNS_NS, 1, DNS_OK, NULL },
		{ 24, "lab", "0.0.10.in-addr.arpa", DNS_PTR, 0, DNS_OK, "0.0.10.in-addr.arpa" },
		{ 24, "lab", "2.0.0.10.in-addr.arpa", DNS_PTR, 1, DNS_OK, NULL },
		{ 24, "lab", "2.0.0.10.in-addr.arpa", DNS_SOA, 0, DNS_OK, "0.0.10.in-addr.arpa" },
		{ 24, "", "9.0.0.10.in-addr.arpa", DNS_PTR, 0, DNS_NXDOMAIN, "0.0.10.in-addr.arpa" },
		/* One of many, where the prefix ends within a byte; each address, where that is the last. */
		{ 15, "lab", "1.10.in-addr.arpa", DNS_SOA, 1, DNS_OK, NULL },
		{ 15, "lab", "9.0.1.10.in-addr.arpa", DNS_PTR, 0, DNS_NXDOMAIN, "1.10.in-addr.arpa" },
		{ 25, "lab", "9.0.0.10.in-addr.arpa", DNS_SOA, 1, DNS_OK, NULL },
		{ 25, "lab", "9.0.0.10.in-addr.arpa", DNS_PTR, 0, DNS_OK, "9.0.0.10.in-addr.arpa" },
		{ 25, "lab", "2.0.0.10.in-addr.arpa", DNS_ANY, 3, DNS_OK, NULL },
		{ 24, "lab", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", DNS_ANY, 2, DNS_OK, NULL },
		{ 24, "lab", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", DNS_SOA, 0, DNS_OK,
		  "0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa" },
		/* In no zone, which the domain's denies. */
		{ 24, "lab.internal", "nobody", DNS_A, 0, DNS_NXDOMAIN, "lab.internal" },
		{ 24, "lab.internal", "x.invalid", DNS_SOA, 0, DNS_NXDOMAIN, "lab.internal" },
	};
	struct server v = { .s = test_network() };
	struct dns d = { .v = &v };

	v.l4 = test_leases(&v.s, false);
	v.l6 = test_leases(&v.s, true);
	for (size_t n = 0; n < ARRAY_LEN(q); n++) {
		struct dns_query is = asked(q[n].name, q[n].type);
		const bool shown = q[n].denied || q[n].type == DNS_SOA;
		size_t at = DNS_HEADER + is.name.len + 4u;
		struct dns_name zone, server;
		enum dns_rcode rcode;
		struct dns_writer w;
		struct dns_answer a;
		uint8_t b[DNS_UDP_MAX];

		v.s.prefix4 = q[n].prefix4;
		snprintf(v.s.domain, sizeof(v.s.domain), "%s", q[n].domain);
		dns_begin(&w, b, sizeof(b), &is, 0);
		assert_true(dns_local(&d, &is, &w, &rcode));
		dns_end(&w, &is, rcode, true);
		assert_true(dns_read_answer(b, w.len, &is, &a));
		assert_int_equal(rcode, q[n].rcode);
		assert_int_equal(ld_be16(b + DNS_ANSWER), q[n].answers);
		assert_int_equal(ld_be16(b + DNS_AUTHORITY), q[n].denied ? 1 : 0);
		if (!shown)
			continue;
		/* The zone is the end of the question, or whole. */
		assert_true(dns_name_of(q[n].denied ? q[n].denied : q[n].name, &zone));
		if (b[at] == 0xc0) {
			assert_memory_equal(b + b[at + 1], zone.b, zone.len);
			assert_int_equal(b[at + 1] + zone.len, DNS_HEADER + is.name.len);
			at += 2;
		} else {
			assert_memory_equal(b + at, zone.b, zone.len);
			at += zone.len;
		}
		assert_int_equal(ld_be16(b + at), DNS_SOA);
		snprintf((char *)m, sizeof(m), "dns%s%s", *q[n].domain ? "." : "", q[n].domain);
		assert_true(dns_name_of((char *)m, &server));
		assert_memory_equal(b + at + 10, server.b, server.len);
	}
	leases_free(v.l4);
	leases_free(v.l6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queries),	    cmocka_unit_test(test_names),
		cmocka_unit_test(test_answers),	    cmocka_unit_test(test_how_long_what_is_absent_is),
		cmocka_unit_test(test_lies),	    cmocka_unit_test(test_chains),
		cmocka_unit_test(test_cache),	    cmocka_unit_test(test_written),
		cmocka_unit_test(test_bare_errors), cmocka_unit_test(test_zones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
