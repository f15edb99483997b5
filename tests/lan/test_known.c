/* Who the machines of a network are, and that its published ports lead to whom its DNS names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/known.h"

static struct lan_def d;
static struct err err;
/* `web` has no cable; `db` is a machine's address that the definition names; `web` is what a stranger calls itself. */
static struct lan_port ports[] = {
	{ .tap = "vt0", .vm = "web", .mac = { 2, 0, 0, 0, 0, 9 }, .addr4 = 0x0a010228 },
	{ .tap = "vt1", .vm = "any", .mac = { 2, 0, 0, 0, 0, 2 }, .addr4 = 0x0a010229 },
	{ .tap = "", .vm = "gone", .mac = { 2, 0, 0, 0, 0, 3 }, .addr4 = 0x0a01022a },
	{ .tap = "vt3", .vm = "db", .mac = { 2, 0, 0, 0, 0, 4 }, .addr4 = 0x0a01022b },
	{ .tap = "vt4", .vm = "web_2", .mac = { 2, 0, 0, 0, 0, 5 }, .addr4 = 0x0a01022c },
};
static const struct lan_ports all = { ports, ARRAY_LEN(ports) };

static void define(void)
{
	lan_def_init(&d, "lab");
	assert_true(lan_parse_net4("10.1.2.0/24", &d.net4) && lan_parse_net6("fd00::/64", &d.net6));
	assert_int_equal(lan_parse_static(&d, "02:00:00:00:00:04,,", &err), 0);
	assert_int_equal(lan_parse_static(&d, "02:00:00:00:00:01,web,10.1.2.9", &err), 0);
	assert_int_equal(lan_parse_static(&d, "02:00:00:00:00:02,db,", &err), 0);
}

static void test_names(void **state)
{
	static const struct {
		uint8_t mac;
		const char *name;
		uint32_t addr;
	} rows[] = { { 4, "", 0x0a01022b },
		     { 1, "web", 0x0a010209 },
		     { 2, "db", 0x0a010229 },
		     { 9, "", 0x0a010228 },
		     { 5, "web-2", 0x0a01022c } };
	struct lan_host *hosts;
	unsigned len;

	define();
	hosts = lan_known_hosts(&d, &all, &len);
	assert_int_equal(len, ARRAY_LEN(rows));
	for (unsigned i = 0; i < len; i++) {
		assert_int_equal(hosts[i].mac[5], rows[i].mac);
		assert_string_equal(hosts[i].name, rows[i].name);
		assert_int_equal(be32toh(hosts[i].addr4.s_addr), rows[i].addr);
	}
	free(hosts);
}

static void test_published(void **state)
{
	static const struct {
		const char *publish, *v4, *v6; /* NULL: leads nowhere */
	} rows[] = { { "tcp:81-web:81", "10.1.2.9", "fd00::ff:fe00:1" },
		     { "tcp:82-db:82", "10.1.2.41", "fd00::ff:fe00:2" },
		     { "tcp:83-web-2:83", "10.1.2.44", "fd00::ff:fe00:5" },
		     { "tcp:84-any:84", NULL, NULL },
		     { "tcp:85-gone:85", NULL, NULL },
		     { "tcp:0.0.0.0:86-web:86", "10.1.2.9", NULL },
		     { "tcp:[::]:87-web:87", NULL, "fd00::ff:fe00:1" },
		     { "tcp:88-10.1.2.77:88", "10.1.2.77", NULL },
		     { "tcp:89-[fd00::77]:89", NULL, "fd00::77" } };
	const struct lan_rules r = { .def = &d, .bridge = "vr-lab", .ports = &all };
	char *text, line[128];
	size_t len;
	FILE *f = open_memstream(&text, &len);

	define();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(lan_parse_publish(&d, rows[i].publish, &err), 0);
	lan_rules_write(f, &r, true);
	fclose(f);
	for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
		const char *to = i % 2 ? rows[i / 2].v6 : rows[i / 2].v4, *family = i % 2 ? "6" : "";

		snprintf(line, sizeof(line), "dport 8%zu-8%zu dnat ip%s to %s%s", i / 2 + 1, i / 2 + 1, family,
			 to ? to : "", to ? "\n" : "");
		if (!strstr(text, line) != !to)
			fail_msg("%s: %s\n%s", rows[i / 2].publish, line, text);
	}
	free(text);
}

/* A machine is one for DNS whom the definition calls otherwise: what is published for it says so. */
static void test_renamed(void **state)
{
	static const struct {
		const char *publish;
		uint8_t mac; /* 0: none */
	} rows[] = { { "tcp:81-web:81", 0 }, { "tcp:82-db:82", 0 },	  { "tcp:83-web-2:83", 0 },
		     { "tcp:84-ANY:84", 2 }, { "tcp:85-gone:85", 0 },	  { "tcp:86-nobody:86", 0 },
		     { "tcp:87-any:87", 2 }, { "tcp:88-10.1.2.41:88", 0 } };
	struct lan_host *hosts;
	unsigned len;

	define();
	hosts = lan_known_hosts(&d, &all, &len);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct lan_host *h;

		assert_int_equal(lan_parse_publish(&d, rows[i].publish, &err), 0);
		h = lan_renamed(&d.publish[i], &all, hosts, len);
		assert_int_equal(h ? h->mac[5] : 0, rows[i].mac);
	}
	free(hosts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_published),
		cmocka_unit_test(test_renamed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
