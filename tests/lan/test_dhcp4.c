/* DHCPv4: what is asked byte by byte, and what is answered to whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "lan/serve/dhcp4.h"
#include "message.h"

enum { DISCOVER = 1, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM };

static struct lan_serve s;
static struct dhcp4_config c;
static struct frame_out out;
static uint8_t m[548];
static size_t len;

static int begin(void **state)
{
	s = test_network();
	c = (struct dhcp4_config){ .serve = &s, .leases = test_leases(&s, false) };
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
	m[len++] = (uint8_t)type;
	m[len++] = (uint8_t)n;
	memcpy(m + len, data, n);
	len += n;
}

static void ask(uint8_t type)
{
	memset(m, 0, sizeof(m));
	memcpy(m, "\1\1\6\0WXYZ", 8);
	memcpy(m + 28, MACHINE, 6);
	memcpy(m + 236, "\x63\x82\x53\x63", 4);
	len = 240;
	option(53, &type, 1);
}

static const struct frame_in *send_it(void)
{
	uint8_t *exact;

	m[len++] = 255;
	exact = malloc(len);
	memcpy(exact, m, len);
	dhcp4_handle(&c, test_request(false, exact, len), NOW, &out);
	free(exact);
	return test_answer(&out);
}

/* The option of an answer; its length in `n`. */
static const uint8_t *find(const struct frame_in *a, unsigned type, size_t *n)
{
	for (size_t at = 240; at < a->len && a->data[at] != 255; at += 2u + a->data[at + 1]) {
		*n = a->data[at + 1];
		if (a->data[at] == type)
			return a->data + at + 2;
	}
	return NULL;
}

static bool has(const struct frame_in *a, unsigned type, const void *data, size_t want)
{
	size_t n;
	const uint8_t *p = find(a, type, &n);

	return p && n == want && !memcmp(p, data, n);
}

static void test_four_messages(void **state)
{
	const struct frame_in *a;
	uint8_t address[4];

	ask(DISCOVER);
	option(55, "\1\3\6\14\17\32\34\167\171", 9);
	a = send_it();
	assert_non_null(a);
	assert_memory_equal(a->data, "\2\1\6\0WXYZ", 8);
	memcpy(address, a->data + 16, 4);
	assert_true(has(a, 53, "\2", 1));
	assert_true(has(a, 54, "\12\0\0\2", 4));
	assert_true(has(a, 51, "\0\0\x0e\x10", 4));
	assert_true(has(a, 1, "\377\377\377\0", 4));
	assert_true(has(a, 3, "\12\0\0\1", 4));
	assert_true(has(a, 6, "\12\0\0\2", 4));
	assert_true(has(a, 15, "lab.internal", 12));
	assert_true(has(a, 26, "\5\170", 2));
	assert_true(has(a, 28, "\12\0\0\377", 4));
	assert_true(has(a, 119, "\3lab\10internal\0", 14));
	assert_true(has(a, 121, "\0\12\0\0\1", 5));
	/* To its MAC and its address to be: it has none, and asked for no broadcast. */
	assert_memory_equal(out.b, MACHINE, 6);
	assert_memory_equal(&a->dst4, address, 4);
	assert_int_equal(a->dport, 68);
	assert_true(a->len >= 300);

	ask(REQUEST);
	option(54, "\12\0\0\2", 4);
	option(50, address, 4);
	option(12, "Web", 3);
	m[10] = 0x80;
	a = send_it();
	assert_true(has(a, 53, "\5", 1));
	assert_true(has(a, 12, "web", 3));
	assert_memory_equal(a->data + 16, address, 4);
	/* Broadcast, as it asked. */
	assert_memory_equal(out.b, "\377\377\377\377\377\377", 6);
	assert_int_equal(a->dst4.s_addr, INADDR_BROADCAST);

	/* Renewed, to the address that it has. */
	ask(REQUEST);
	memcpy(m + 12, address, 4);
	a = send_it();
	assert_true(has(a, 53, "\5", 1));
	assert_memory_equal(&a->dst4, address, 4);
	assert_memory_equal(out.b, MACHINE, 6);

	ask(RELEASE);
	option(54, "\12\0\0\2", 4);
	memcpy(m + 12, address, 4);
	assert_null(send_it());
	assert_null(leases_named(c.leases, "web"));
}

static void test_nobody_waits(void **state)
{
	const struct frame_in *a;
	struct leases_count n;

	ask(DISCOVER);
	option(80, "", 0);
	a = send_it();
	leases_count(c.leases, &n);
	assert_int_equal(n.bound, 1);
	assert_true(has(a, 53, "\5", 1));
	assert_true(has(a, 80, "", 0));
	ask(INFORM);
	memcpy(m + 12, "\12\0\0\310", 4);
	a = send_it();
	assert_true(has(a, 53, "\5", 1));
	assert_true(has(a, 1, "\377\377\377\0", 4));
	assert_false(has(a, 51, "\0\0\x0e\x10", 4));
	assert_memory_equal(a->data + 16, "\0\0\0\0", 4);
}

static void test_refused(void **state)
{
	const struct frame_in *a;

	/* Another network's address, as after a move; another's; what another server has offered. */
	ask(REQUEST);
	option(50, "\xc0\xa8\0\1", 4);
	option(61, "\1id", 3);
	a = send_it();
	assert_true(has(a, 53, "\6", 1));
	assert_true(has(a, 61, "\1id", 3));
	assert_memory_equal(out.b, "\377\377\377\377\377\377", 6);
	ask(REQUEST);
	option(50, "\12\0\0\62", 4);
	assert_true(has(send_it(), 53, "\6", 1));
	ask(REQUEST);
	option(54, "\12\0\0\3", 4);
	option(50, "\12\0\0\62", 4);
	assert_null(send_it());
	ask(REQUEST);
	assert_null(send_it());
	/* After the server has lost its leases, what is free may be kept. */
	ask(REQUEST);
	option(50, "\12\0\0\14", 4);
	assert_true(has(send_it(), 53, "\5", 1));
}

static void test_booting(void **state)
{
	const struct frame_in *a;

	ask(DISCOVER);
	option(55, "\102\103", 2);
	option(93, "\0\0", 2);
	a = send_it();
	assert_true(has(a, 66, "10.0.0.3", 8));
	assert_true(has(a, 67, "a.0", 3));
	assert_memory_equal(a->data + 20, "\12\0\0\3", 4);
	assert_string_equal((const char *)a->data + 108, "a.0");
	ask(DISCOVER);
	option(55, "\102\103", 2);
	option(93, "\0\7", 2);
	assert_true(has(send_it(), 67, "b.efi", 5));
}

/* Each as a DISCOVER but for one thing. */
static void test_not_answered(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} changes[] = { { 0, 2 },   { 1, 2 },	{ 2, 7 },   { 24, 1 }, { 28, 0x53 },
			{ 236, 0 }, { 241, 2 }, { 242, 9 }, { 242, 0 } };

	for (size_t n = 0; n < ARRAY_LEN(changes); n++) {
		ask(DISCOVER);
		m[changes[n].at] = changes[n].value;
		assert_null(send_it());
	}
	for (size_t n = 0; n < 242; n++) {
		uint8_t *exact = calloc(1, n + 1);

		ask(DISCOVER);
		memcpy(exact, m, n);
		assert_int_equal(dhcp4_handle(&c, test_request(false, exact, n), NOW, &out), 0);
		free(exact);
	}
	ask(DISCOVER);
	option(12, "x", 1);
	m[len - 2] = 200; /* beyond the end */
	assert_null(send_it());
}

static void test_options_elsewhere(void **state)
{
	/* RFC 2131, 4.1: in the fields of the file and the server's name. */
	ask(REQUEST);
	option(52, "\3", 1);
	memcpy(m + 108, "\62\4\12\0\0\15\377", 7);
	memcpy(m + 44, "\14\3www\377", 6);
	assert_true(has(send_it(), 53, "\5", 1));
	assert_non_null(leases_named(c.leases, "www"));
	/* Which do not end in there. */
	ask(REQUEST);
	option(52, "\1", 1);
	m[108 + 126] = 12;
	m[108 + 127] = 9;
	assert_null(send_it());
	/* FQDN, in labels and as text. */
	ask(REQUEST);
	option(50, "\12\0\0\15", 4);
	option(81, "\4\0\0\3abc\0", 8);
	send_it();
	assert_non_null(leases_named(c.leases, "abc"));
	ask(REQUEST);
	option(50, "\12\0\0\15", 4);
	option(81, "\0\0\0xyz.example", 14);
	send_it();
	assert_non_null(leases_named(c.leases, "xyz"));
}

static void test_declined(void **state)
{
	uint8_t address[4];

	ask(DISCOVER);
	memcpy(address, send_it()->data + 16, 4);
	ask(DECLINE);
	option(54, "\12\0\0\2", 4);
	option(50, address, 4);
	assert_null(send_it());
	ask(DISCOVER);
	assert_memory_not_equal(send_it()->data + 16, address, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_four_messages, begin, end),
		cmocka_unit_test_setup_teardown(test_nobody_waits, begin, end),
		cmocka_unit_test_setup_teardown(test_refused, begin, end),
		cmocka_unit_test_setup_teardown(test_booting, begin, end),
		cmocka_unit_test_setup_teardown(test_not_answered, begin, end),
		cmocka_unit_test_setup_teardown(test_options_elsewhere, begin, end),
		cmocka_unit_test_setup_teardown(test_declined, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
