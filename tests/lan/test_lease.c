/* Who has which address: known machines, strangers, floods of them, names, and the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lan/serve/lease.h"

#define NOW 1700000000

static struct leases *l4, *l6;
static struct err err;

static struct lan_addr A(const char *text) {
	struct lan_addr a;

	assert_true(addr_parse(text, &a));
	return a;
}

static struct leases *
table(const char *first, const char *last, const char *net, unsigned bits)
{
	const struct leases_config c = { .first = A(first),
					 .last = A(last),
					 .own = { A("10.0.0.2"), A("10.0.0.1") },
					 .net = A(net),
					 .bits = bits,
					 .lease_s = 3600 };
	struct leases *l = leases_new(&c, &err);

	assert_non_null(l);
	return l;
}

static int begin(void **state)
{
	l4 = table("10.0.0.10", "10.0.0.109", "10.0.0.0", 24);
	l6 = table("fd00::1000", "fd00::ffff", "fd00::", 64);
	leases_pair(l4, l6);
	return 0;
}

static int end(void **state)
{
	leases_free(l4);
	leases_free(l6);
	return 0;
}

/* The n-th machine. */
static struct lease_client machine(unsigned n)
{
	return (struct lease_client){ .mac = { 0x52, 0x54, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
					       (uint8_t)n } };
}

static struct lease_client named(unsigned n, const char *name)
{
	struct lease_client c = machine(n);

	c.name = name;
	return c;
}

static struct lan_host host(unsigned n, const char *name, const char *a4)
{
	struct lan_host h = { 0 };

	memcpy(h.mac, machine(n).mac, 6);
	strcpy(h.name, name);
	if (a4)
		h.addr4 = addr_to4(A(a4));
	return h;
}

static struct lan_addr none(void)
{
	return (struct lan_addr){ 0 };
}

static struct lease *get(struct leases *l, struct lease_client c, int64_t now)
{
	struct lease *e = leases_offer(l, &c, none(), now);

	return e ? leases_bind(l, &c, e->addr, now) : NULL;
}

static void test_the_same_again(void **state)
{
	struct lease *e = get(l4, machine(1), NOW);
	struct lan_addr a = e->addr;

	assert_int_equal(e->expires, NOW + 3600);
	assert_ptr_equal(get(l4, machine(1), NOW + 100), e);
	assert_int_equal(e->expires, NOW + 3700);
	assert_false(addr_eq(get(l4, machine(2), NOW)->addr, a));
	/* After it has expired, too, as long as it is free. */
	leases_expire(l4, NOW + 3699);
	assert_non_null(leases_at(l4, a));
	leases_expire(l4, NOW + 3700);
	assert_null(leases_at(l4, a));
	assert_true(addr_eq(get(l4, machine(1), NOW + 3800)->addr, a));
}

static void test_wishes(void **state)
{
	struct lease_client c = machine(1), d = machine(2);

	/* Not of the range, the network's own, of the range. */
	assert_false(addr_eq(leases_offer(l4, &c, A("10.0.0.200"), NOW)->addr, A("10.0.0.200")));
	assert_null(leases_bind(l4, &c, A("10.0.0.200"), NOW));
	assert_null(leases_bind(l4, &d, A("10.0.0.2"), NOW));
	assert_true(addr_eq(leases_offer(l4, &d, A("10.0.0.55"), NOW)->addr, A("10.0.0.55")));
	/* What was offered to another. */
	c = machine(3);
	assert_null(leases_bind(l4, &c, A("10.0.0.55"), NOW));
	assert_non_null(leases_bind(l4, &d, A("10.0.0.55"), NOW));
	assert_false(leases_release(l4, &c, A("10.0.0.55")));
	assert_false(leases_decline(l4, &c, A("10.0.0.55"), NOW));
	assert_true(leases_release(l4, &d, A("10.0.0.55")));
	assert_null(leases_at(l4, A("10.0.0.55")));
}

static void test_ids_of_one_mac(void **state)
{
	uint8_t id[200] = { 0 };
	struct lease_client c = machine(1);
	struct lan_addr a[LEASES_PER_MAC];

	c.id = id;
	c.id_len = sizeof(id);
	for (unsigned n = 0; n < LEASES_PER_MAC; n++) {
		id[199] = (uint8_t)n; /* beyond what is kept of it */
		a[n] = get(l4, c, NOW)->addr;
		for (unsigned k = 0; k < n; k++)
			assert_false(addr_eq(a[n], a[k]));
	}
	id[199] = 77;
	assert_null(get(l4, c, NOW));
	assert_null(leases_bind(l4, &c, A("10.0.0.77"), NOW));
	id[199] = 2;
	assert_true(addr_eq(get(l4, c, NOW)->addr, a[2]));
	/* Another's id is of no use. */
	memcpy(c.mac, machine(2).mac, 6);
	assert_false(addr_eq(get(l4, c, NOW)->addr, a[2]));
}

static void test_known_machines(void **state)
{
	struct lan_host h[] = { host(1, "db", "10.0.0.5"), host(2, "web", NULL), host(3, "", "10.0.0.30") };
	struct lease_client c = machine(1);
	uint8_t id[3] = { 1, 2, 3 };
	struct lan_addr web;

	assert_false(leases_check_hosts(l4, h, 3, &err));
	/* Somebody has what will be another's. */
	assert_non_null(leases_bind(l4, &(struct lease_client){ .mac = { 2 } }, A("10.0.0.30"), NOW));
	leases_set_hosts(l4, h, 3, NOW);
	assert_true(addr_eq(leases_at(l4, A("10.0.0.30"))->addr, A("10.0.0.30")));
	assert_memory_equal(leases_at(l4, A("10.0.0.30"))->mac, h[2].mac, 6);
	assert_null(leases_find(l4, &(struct lease_client){ .mac = { 2 } }));
	web = leases_named(l4, "WEB")->addr;
	/* Whatever it calls itself, with whatever id. */
	assert_true(addr_eq(get(l4, c, NOW)->addr, A("10.0.0.5")));
	c.id = id;
	c.id_len = 3;
	c.name = "other";
	assert_true(addr_eq(get(l4, c, NOW)->addr, A("10.0.0.5")));
	assert_string_equal(leases_named(l4, "db")->name, "db");
	assert_null(leases_named(l4, "other"));
	/* Nobody else gets them, and they stay. */
	assert_false(addr_eq(get(l4, named(9, "db"), NOW)->addr, A("10.0.0.5")));
	assert_string_equal(get(l4, named(9, "db"), NOW)->name, "");
	assert_null(leases_bind(l4, &(struct lease_client){ .mac = { 4 } }, web, NOW));
	assert_true(leases_release(l4, &c, A("10.0.0.5")));
	leases_expire(l4, NOW + 100000);
	assert_non_null(leases_at(l4, A("10.0.0.5")));
	assert_true(addr_eq(leases_named(l4, "web")->addr, web));
	/* Forgotten, what nobody has is free. */
	leases_set_hosts(l4, h, 1, NOW);
	assert_null(leases_named(l4, "web"));
	assert_null(leases_at(l4, web));
	assert_non_null(leases_bind(l4, &(struct lease_client){ .mac = { 4 } }, web, NOW));
}

static void test_hosts_that_are_refused(void **state)
{
	struct lan_host h[101] = { host(1, "a", "10.0.0.5"), host(2, "b", "10.0.0.6") };
	const struct lan_host good = h[1];

	assert_false(leases_check_hosts(l4, h, 2, &err));
	h[1] = host(2, "b", "10.0.0.5");
	assert_true(leases_check_hosts(l4, h, 2, &err));
	assert_string_equal(err.msg, "the machines 52:54:00:00:00:01 and 52:54:00:00:00:02 have the same IPv4 address");
	h[1] = host(2, "A", "10.0.0.6");
	assert_true(leases_check_hosts(l4, h, 2, &err));
	h[1] = host(1, "b", "10.0.0.6");
	assert_true(leases_check_hosts(l4, h, 2, &err));
	h[1] = host(2, "b", "10.0.1.6");
	assert_true(leases_check_hosts(l4, h, 2, &err));
	h[1] = host(2, "b", "10.0.0.1");
	assert_true(leases_check_hosts(l4, h, 2, &err));
	h[1] = host(2, "a_b", "10.0.0.6");
	assert_true(leases_check_hosts(l4, h, 2, &err));
	h[1] = good;
	h[1].mac[0] = 1;
	assert_true(leases_check_hosts(l4, h, 2, &err));
	/* A hundred addresses. */
	for (unsigned n = 0; n < 101; n++)
		h[n] = host(n + 1, "", NULL);
	assert_false(leases_check_hosts(l4, h, 100, &err));
	assert_true(leases_check_hosts(l4, h, 101, &err));
	leases_set_hosts(l4, h, 100, NOW);
	for (unsigned n = 0; n < 100; n++)
		assert_non_null(get(l4, machine(n + 1), NOW));
	assert_null(get(l4, machine(200), NOW));
}

/* What was there before the storm keeps its address, and gets a longer time in it; what is known comes later. */
static void storm(struct leases *l, unsigned count)
{
	struct lan_host h = host(1, "known", NULL);
	struct lease_client neighbour = machine(2);
	struct leases_count n;
	struct lan_addr a;
	int64_t now = NOW;

	leases_set_hosts(l, &h, 1, NOW);
	a = get(l, neighbour, now)->addr;
	for (unsigned k = 0; k < count; k++) {
		struct lease *e = get(l, machine(1000 + k), now);

		assert_true(!e || !addr_eq(e->addr, a));
		now += k % 64 == 0;
		if (k % 64 == 0)
			leases_expire(l, now);
		if (k % 4096 == 0)
			assert_true(addr_eq(get(l, neighbour, now)->addr, a));
	}
	leases_count(l, &n);
	assert_true(n.bound + n.offered <= n.size);
	assert_true(n.refused);
	assert_true(addr_eq(leases_find(l, &neighbour)->addr, a));
	assert_non_null(get(l, machine(1), now));
	/* Two minutes later it is over. */
	leases_expire(l, now + LEASE_SHORT_S);
	assert_non_null(get(l, machine(3), now + LEASE_SHORT_S));
}

static void test_storm_v4(void **state)
{
	storm(l4, 200000);
}

static void test_storm_v6(void **state)
{
	storm(l6, 200000);
}

static void test_declined(void **state)
{
	unsigned bad = 0;
	struct leases_count n;

	for (unsigned k = 0; k < 60; k++) {
		struct lease_client c = machine(k);
		struct lan_addr a = get(l4, c, NOW)->addr;

		assert_true(leases_decline(l4, &c, a, NOW));
		assert_null(leases_at(l4, a));
		assert_null(leases_find(l4, &c));
		bad += leases_bind(l4, &c, a, NOW) == NULL;
	}
	/* A quarter of the range and no more can be talked out of use; after ten minutes none is. */
	assert_int_equal(bad, 25);
	leases_count(l4, &n);
	assert_int_equal(n.bad, 25);
	leases_expire(l4, NOW + LEASE_BAD_S);
	leases_count(l4, &n);
	assert_int_equal(n.bad, 0);
}

static void test_names(void **state)
{
	char name[LAN_NAME_MAX + 1], lengthy[300];

	assert_true(lease_label("Web_1.example.org", name));
	assert_string_equal(name, "web-1");
	assert_true(lease_label("--x\"\n\\--", name));
	assert_string_equal(name, "x");
	assert_false(lease_label(".", name));
	assert_false(lease_label("\xff\xfe", name));
	memset(lengthy, 'a', 299);
	lengthy[299] = 0;
	assert_true(lease_label(lengthy, name));
	assert_int_equal(strlen(name), LAN_NAME_MAX);
	/* First come, first served, in both families; the machine itself may. */
	assert_string_equal(get(l4, named(1, "db"), NOW)->name, "db");
	assert_string_equal(get(l4, named(2, "DB"), NOW)->name, "");
	assert_string_equal(get(l6, named(2, "db"), NOW)->name, "");
	assert_string_equal(get(l6, named(1, "db"), NOW)->name, "db");
	assert_string_equal(get(l4, named(3, "wpad"), NOW)->name, "");
	assert_null(leases_named(l4, "db."));
	assert_null(leases_named(l4, ""));
}

static void test_file(void **state)
{
	char dir[] = "/tmp/vireo-lease-XXXXXX", path[64], text[4096];
	uint8_t id[64];
	struct lease_client c = machine(1);
	struct lease_file f;
	struct lan_addr a, b;
	unsigned bad;
	FILE *file;

	assert_non_null(mkdtemp(dir));
	f = (struct lease_file){ .dir = open(dir, O_PATH | O_DIRECTORY), .name = "leases" };
	assert_false(leases_load(l4, l6, &f, NOW, &bad)); /* there is none */
	memset(id, 0xab, sizeof(id));
	c.id = id;
	c.id_len = sizeof(id);
	c.name = "one";
	a = get(l4, c, NOW)->addr;
	b = get(l6, machine(2), NOW)->addr;
	assert_true(leases_changed(l4));
	assert_false(leases_changed(l4));
	assert_false(leases_save(l4, l6, &f));
	end(NULL);
	begin(NULL);
	assert_false(leases_load(l4, l6, &f, NOW + 10, &bad));
	assert_int_equal(bad, 0);
	assert_true(addr_eq(leases_find(l4, &c)->addr, a));
	assert_string_equal(leases_find(l4, &c)->name, "one");
	assert_int_equal(leases_find(l4, &c)->expires, NOW + 3600);
	assert_non_null(leases_at(l6, b));
	/* Somebody has set the clock: the file goes by what it is now. */
	f.ahead = 1000;
	assert_false(leases_save(l4, l6, &f));
	f.ahead = 0;
	end(NULL);
	begin(NULL);
	assert_false(leases_load(l4, l6, &f, NOW + 1010, &bad));
	assert_int_equal(leases_find(l4, &c)->expires, NOW + 1000 + 3600);
	/* It was set back: nobody has an address for longer than it was given for. */
	end(NULL);
	begin(NULL);
	assert_false(leases_load(l4, l6, &f, NOW - 1000000, &bad));
	assert_int_equal(leases_find(l4, &c)->expires, NOW - 1000000 + 3600);

	/* Lies: lines that are none, another's address, a time that never ends, out of the range, twice. */
	snprintf(path, sizeof(path), "%s/leases", dir);
	file = fopen(path, "w");
	memset(text, 'x', sizeof(text));
	fputs("vireo-leases 1\n4 52:54:00:00:00:03 10.0.0.33 99999999999999999 - -\n", file);
	fputs("4 52:54:00:00:00:04 10.0.0.33 1700001000 - -\n4 52:54:00:00:00:05 10.0.0.2 1700001000 - -\n", file);
	fputs("4 52:54:00:00:00:06 fd00::1001 1700001000 - -\n6 52:54:00:00:00:06 10.0.0.66 1700001000 - -\n", file);
	fputs("4 52:54:00:00:00:07 10.0.0.67 1700001000 - abc\n4 52:54:00:00:00:07 10.0.0.67 1700001000 - - "
	      "more\n4\n\n",
	      file);
	fwrite(text, 1, sizeof(text), file);
	fclose(file);
	end(NULL);
	begin(NULL);
	assert_false(leases_load(l4, l6, &f, NOW, &bad));
	assert_true(bad >= 9);
	assert_int_equal(leases_at(l4, A("10.0.0.33"))->expires, NOW + 3600);
	assert_null(leases_next(l4, leases_next(l4, NULL)));
	assert_null(leases_next(l6, NULL));
	/* No file of ours. */
	file = fopen(path, "w");
	fputs("#!/bin/sh\n", file);
	fclose(file);
	assert_false(leases_load(l4, l6, &f, NOW, &bad));
	assert_int_equal(bad, 1);
	/* No room for a new one: the old one is there still. */
	assert_int_equal(mkdirat(f.dir, "leases.new", 0700), 0);
	assert_int_equal(leases_save(l4, l6, &f), -1);
	assert_int_equal(access(path, R_OK), 0);
	rmdir(strcat(strcpy(text, path), ".new"));
	unlink(path);
	rmdir(dir);
	close(f.dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_same_again, begin, end),
		cmocka_unit_test_setup_teardown(test_wishes, begin, end),
		cmocka_unit_test_setup_teardown(test_ids_of_one_mac, begin, end),
		cmocka_unit_test_setup_teardown(test_known_machines, begin, end),
		cmocka_unit_test_setup_teardown(test_hosts_that_are_refused, begin, end),
		cmocka_unit_test_setup_teardown(test_storm_v4, begin, end),
		cmocka_unit_test_setup_teardown(test_storm_v6, begin, end),
		cmocka_unit_test_setup_teardown(test_declined, begin, end),
		cmocka_unit_test_setup_teardown(test_names, begin, end),
		cmocka_unit_test_setup_teardown(test_file, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
