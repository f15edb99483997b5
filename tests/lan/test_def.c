/* Definitions of networks: words, checks, JSON there and back, names and addresses that follow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/lan_impl.h"

static struct lan_def d;
static struct err err;

static void nat(void)
{
	lan_def_init(&d, "lab");
	assert_true(lan_parse_net4("10.1.2.0/24", &d.net4));
	assert_true(lan_parse_net6("fd00:1:2:3::/64", &d.net6));
}

static void test_addresses(void **state)
{
	struct lan_net4 a, b;
	struct lan_net6 s, t;
	char text[LAN_TEXT6];
	const uint8_t mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
	uint8_t m[6];
	struct in6_addr x;

	assert_false(lan_parse_net4("10.1.2.1/24", &a)); /* a host's bits */
	assert_false(lan_parse_net4("10.1.2.0/33", &a));
	assert_false(lan_parse_net4("10.1.2.0/", &a));
	assert_false(lan_parse_net4("10.1.2.0/24x", &a));
	assert_false(lan_parse_net4("10.1.2.0/0", &a));
	assert_false(lan_parse_net6("fd00::1/64", &s));
	assert_true(lan_parse_net6("fd00:1::/33", &s));
	assert_true(lan_parse_net4("10.1.2.128/25", &a) && lan_parse_net4("10.0.0.0/8", &b));
	assert_true(lan_overlap4(&a, &b) && lan_overlap4(&b, &a));
	assert_true(lan_parse_net4("10.1.2.0/25", &b));
	assert_false(lan_overlap4(&a, &b));
	assert_true(lan_parse_net6("fd00:1:2:3::/64", &s) && lan_parse_net6("fd00:1:2::/48", &t));
	assert_true(lan_overlap6(&s, &t) && lan_overlap6(&t, &s));
	assert_true(lan_parse_net6("fd00:1:3::/48", &t));
	assert_false(lan_overlap6(&s, &t));
	x = lan_eui64(&s.addr, mac);
	assert_string_equal(lan_text6(&x, text), "fd00:1:2:3:5054:ff:fe12:3456");
	x = lan_host6(&s.addr, 0x102);
	assert_string_equal(lan_text6(&x, text), "fd00:1:2:3::102");
	assert_false(lan_parse_mac("01:00:00:00:00:01", m)); /* a group's */
	assert_false(lan_parse_mac("00:00:00:00:00:00", m));
	assert_false(lan_parse_mac("2:0:0:0:0:01", m));
	assert_false(lan_parse_mac("02:00:00:00:00:0 1", m));
	assert_true(lan_parse_mac("02:00:00:00:00:0a", m));
}

static void test_names(void **state)
{
	char a[IFNAMSIZ], b[IFNAMSIZ];

	lan_def_init(&d, "lab");
	lan_bridge_name(&d, a);
	assert_string_equal(a, "vr-lab");
	lan_def_init(&d, "a-very-long-network-1");
	lan_bridge_name(&d, a);
	lan_def_init(&d, "a-very-long-network-2");
	lan_bridge_name(&d, b);
	assert_true(strlen(a) < IFNAMSIZ && strcmp(a, b));
	assert_false(lan_name_ok("") || lan_name_ok("-a") || lan_name_ok("a/b") || lan_name_ok("a b") ||
		     lan_name_ok("a.b"));
	assert_false(lan_name_ok("0123456789012345678901234567890123"));
	assert_true(lan_name_ok("net_1-a"));
}

/* Each is refused with a message that begins with what is wrong. */
static void refused(const char *begin)
{
	assert_int_equal(lan_def_check(&d, &err), -1);
	if (strncmp(err.msg, begin, strlen(begin)))
		fail_msg("'%s' does not begin with '%s'", err.msg, begin);
}

/* What another subnet makes of a range: all of one becomes all of the other, and what was said stays. */
static void test_other_subnets(void **state)
{
	static const struct {
		const char *range, *subnet;
		uint32_t first, last; /* 0: refused */
	} rows[] = { { NULL, "10.1.2.0/23", 0x0a010203, 0x0a0103fe },
		     { NULL, "10.9.0.0/29", 0x0a090003, 0x0a090006 },
		     { "10.1.2.3-10.1.2.254", "10.1.2.0/23", 0x0a010203, 0x0a0103fe },
		     { "10.1.2.3-10.1.2.99", "10.1.2.0/23", 0x0a010203, 0x0a010263 },
		     { "10.1.2.20-10.1.2.25", "10.1.2.0/27", 0x0a010214, 0x0a010219 },
		     { "10.1.2.20-10.1.2.25", "10.1.2.0/28", 0, 0 },
		     { "10.1.2.20-10.1.2.25", "10.1.2.16/28", 0x0a010214, 0x0a010219 },
		     { "10.1.2.20-10.1.2.25", "10.9.0.0/24", 0, 0 } };
	struct lan_net4 net4;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		nat();
		assert_true(!rows[i].range || !lan_parse_range(&d, rows[i].range, &err));
		assert_int_equal(lan_def_check(&d, &err), 0);
		assert_true(lan_parse_net4(rows[i].subnet, &net4));
		lan_def_set_net4(&d, &net4);
		if (!rows[i].first) {
			refused("dhcp-range 10.1.2.20-10.1.2.25: it must lie in the subnet");
			continue;
		}
		assert_int_equal(lan_def_check(&d, &err), 0);
		assert_int_equal(d.first4, rows[i].first);
		assert_int_equal(d.last4, rows[i].last);
	}
	/* A network without IPv4 has no range of it: one that was said is not forgotten without a word. */
	for (unsigned said = 0; said < 2; said++) {
		nat();
		assert_true(!said || !lan_parse_range(&d, "10.1.2.20-10.1.2.25", &err));
		assert_int_equal(lan_def_check(&d, &err), 0);
		lan_def_set_net4(&d, &(struct lan_net4){ 0 });
		assert_true(lan_parse_net6("fd00::/64", &d.net6));
		if (said)
			refused("dhcp-range: the network has no IPv4 subnet (none: no range)");
		else
			assert_int_equal(lan_def_check(&d, &err), 0);
		assert_int_equal(d.first4, said ? 0x0a010214 : 0);
	}
}

static void test_checks(void **state)
{
	nat();
	assert_int_equal(lan_def_check(&d, &err), 0);
	assert_int_equal(d.first4, 0x0a010203);
	assert_int_equal(d.last4, 0x0a0102fe);
	assert_int_equal(lan_parse_range(&d, "10.1.2.2-10.1.2.9", &err), 0);
	refused("dhcp-range 10.1.2.2");
	assert_int_equal(lan_parse_range(&d, "10.1.2.9-10.1.2.8", &err), 0);
	refused("dhcp-range 10.1.2.9-10.1.2.8: it ends before it begins");
	assert_int_equal(lan_parse_range(&d, "10.1.2.9-10.1.2.255", &err), 0);
	refused("dhcp-range 10.1.2.9-10.1.2.255: it must lie in the subnet 10.1.2.0/24");
	nat();
	d.model = LAN_BRIDGED;
	refused("a bridged network needs");
	strcpy(d.uplink, "eth0");
	refused("a bridged network has the addresses");
	nat();
	strcpy(d.uplink, "eth0");
	refused("only a bridged");
	nat();
	strcpy(d.bridge, "a/b");
	refused("bridge: 'a/b'");
	strcpy(d.bridge, "all");
	refused("bridge: 'all'");
	nat();
	strcpy(d.name, "user");
	refused("'user' means");
	nat();
	d.mtu = 1000;
	refused("mtu: 1000");
	nat();
	strcpy(d.domain, "a..b");
	refused("domain: 'a..b'");
	nat();
	assert_int_equal(lan_parse_static(&d, "52:54:00:00:00:01,web,10.1.2.5", &err), 0);
	assert_int_equal(lan_parse_static(&d, "52:54:00:00:00:02,,10.1.2.5", &err), 0);
	refused("host 52:54:00:00:00:02: 10.1.2.5 is another");
	nat();
	assert_int_equal(lan_parse_static(&d, "52:54:00:00:00:01,,10.1.2.2", &err), 0);
	refused("host 52:54:00:00:00:01: 10.1.2.2 is not");
	nat();
	assert_int_equal(lan_parse_publish(&d, "tcp:80-web:80", &err), 0);
	d.model = LAN_ISOLATED;
	refused("publish");
	nat();
	assert_true(lan_parse_net4("10.1.2.0/30", &d.net4));
	refused("subnet 10.1.2.0/30");
	nat();
	assert_true(lan_parse_net4("127.0.0.0/24", &d.net4));
	refused("subnet 127");
	nat();
	assert_true(lan_parse_net4("169.254.169.0/24", &d.net4));
	refused("subnet 169.254");
	lan_def_init(&d, "lab");
	refused("a network has IPv4 or IPv6 or both");
	nat();
	assert_true(lan_parse_net6("fe80::/64", &d.net6));
	refused("subnet6 fe80");
	nat();
	assert_true(lan_parse_net6("fd00:1:2::/48", &d.net6));
	refused("subnet6 fd00:1:2::/48");
}

static void published(const char *const *ports, const char *begin)
{
	nat();
	for (; *ports; ports++)
		assert_int_equal(lan_parse_publish(&d, *ports, &err), 0);
	if (*begin)
		refused(begin);
	else
		assert_int_equal(lan_def_check(&d, &err), 0);
}

/* Ports lead to this network's machines only, and each to one. */
static void ports_of_the_host(void **state)
{
#define PORTS(...) ((const char *const[]){ __VA_ARGS__, NULL })
	published(PORTS("tcp:80-10.1.2.3:80", "tcp:81-[fd00:1:2:3::3]:80"), "");
	published(PORTS("tcp:80-8.8.8.8:80"), "publish tcp:80-8.8.8.8:80: 8.8.8.8 is not");
	published(PORTS("tcp:80-10.1.2.1:80"), "publish tcp:80-10.1.2.1:80: 10.1.2.1 is not");
	published(PORTS("tcp:80-[2001:db8::5]:80"), "publish tcp:80-[2001:db8::5]:80: 2001:db8::5 is not");
	published(PORTS("tcp:80-[fd00:1:2:3::2]:80"), "publish");
	published(PORTS("tcp:80-a:80", "udp:80-b:80", "tcp:81-b:80"), "");
	published(PORTS("tcp:80-a:80", "tcp:80-b:81"), "publish tcp:80-b:81: port 80 leads to a already");
	published(PORTS("tcp:80-a:80", "tcp:192.0.2.1:80-b:80"), "publish");
	published(PORTS("tcp:[2001:db8::1]:80-b:80", "tcp:80-a:80"), "publish");
	published(PORTS("tcp:192.0.2.2:80-a:80", "tcp:192.0.2.1:80-b:80", "tcp:[2001:db8::1]:80-b:80"), "");
	published(PORTS("tcp:192.0.2.2:80-a:80", "tcp:192.0.2.2:80-b:80"), "publish");
	/* By one family each. */
	published(PORTS("tcp:80-10.1.2.3:80", "tcp:80-[fd00:1:2:3::3]:80"), "");
	published(PORTS("tcp:0.0.0.0:80-a:80", "tcp:[::]:80-b:80", "udp:80-a:80"), "");
	published(PORTS("tcp:0.0.0.0:80-a:80", "tcp:192.0.2.1:80-b:80"), "publish tcp:192.0.2.1:80-b:80");
	published(PORTS("tcp:[::]:80-a:80", "tcp:80-b:80"), "publish tcp:80-b:80");
	/* Addresses that lead nobody here. */
	published(PORTS("tcp:127.0.0.1:80-a:80"), "publish tcp:127.0.0.1:80-a:80: nobody else reaches");
	published(PORTS("tcp:224.0.0.1:80-a:80"), "publish tcp:224.0.0.1:80-a:80: nobody");
	published(PORTS("tcp:255.255.255.255:80-a:80"), "publish");
	published(PORTS("tcp:[::1]:80-a:80"), "publish tcp:[::1]:80-a:80: nobody");
	published(PORTS("tcp:[fe80::1]:80-a:80"), "publish tcp:[fe80::1]:80-a:80: nobody");
	published(PORTS("tcp:[ff02::1]:80-a:80"), "publish tcp:[ff02::1]:80-a:80: nobody");
	/* Ranges that meet. */
	published(PORTS("tcp:80-89-a:80-89", "tcp:90-99-b:80-89", "udp:80-99-b:80-99"), "");
	published(PORTS("tcp:80-90-a:80-90", "tcp:85-b:80"), "publish tcp:85-b:80: port 85 leads to a already");
	published(PORTS("tcp:85-a:80", "tcp:80-90-b:80-90"), "publish tcp:80-90-b:80-90: port 85 leads to a already");
	published(PORTS("tcp:80-90-a:80-90", "tcp:90-99-b:80-89"), "publish tcp:90-99-b:80-89: port 90 leads");
}

/* dnsmasq answers by the host's own addresses, and goes on doing so. */
static void ports_of_dnsmasq(void **state)
{
	static const struct {
		const char *port;
		bool refused;
	} rows[] = { { "udp:53-a:53", true },
		     { "tcp:50-60-a:50-60", true },
		     { "udp:67-a:67", true },
		     { "tcp:67-a:67", false },
		     { "udp:500-600-a:500-600", true },
		     { "udp:54-a:53", false },
		     { "udp:192.0.2.1:53-a:53", false },
		     { "udp:10.1.2.1:53-a:53", true },
		     { "udp:[fd00:1:2:3::1]:53-a:53", true } };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		published(PORTS(rows[i].port), "");
		d.dns = LAN_DNS_DNSMASQ;
		assert_int_equal(lan_def_check(&d, &err), rows[i].refused ? -1 : 0);
		if (rows[i].refused)
			assert_non_null(strstr(err.msg, "is where dnsmasq answers"));
	}
#undef PORTS
}

/* What machines are called that DNS has no names for. */
static void test_labels(void **state)
{
	char label[LAN_NAME_LABEL + 1];

	assert_true(lan_label_of("web_1.prod", label));
	assert_string_equal(label, "web-1-prod");
	assert_false(lan_label_of("_web", label));
	assert_false(lan_label_of("w\xc3", label));
	assert_false(lan_label_of("a23456789012345678901234567890123456789012345678901234567890abcd", label));
	nat();
	assert_int_equal(lan_parse_publish(&d, "tcp:80-web_1:80", &err), 0);
	assert_string_equal(d.publish[d.publish_len - 1].to, "web-1");
	d.publish_len = 0;
	assert_int_equal(lan_parse_static(&d, "52:54:00:00:00:01,web_1.prod,", &err), 0);
	assert_string_equal(d.statics[0].name, "web-1-prod");
}

static void test_words(void **state)
{
	static const char *const good[] = { "tcp:80-web:8080",
					    "udp:192.0.2.1:53-10.1.2.3:53",
					    "tcp:[2001:db8::1]:80-[fd00::5]:80",
					    "tcp:[2001:db8::1]:80-web:80",
					    "tcp:8000-8010-web:9000-9010",
					    "udp:192.0.2.1:1-65535-10.1.2.3:1-65535",
					    "tcp:1-1024-[fd00::5]:2-1025",
					    "tcp:80-80-8-bit-web:80",
					    "tcp:80-80s-web:80",
					    "tcp:80-web-80:80",
					    "tcp:0.0.0.0:80-web:80",
					    "udp:[::]:80-web:80" };
	static const char *const bad[] = { "",
					   "80",
					   "tcp:80-web",
					   "tcp:0-web:80",
					   "tcp:80-web:65536",
					   "tcp:80-:80",
					   "tcp:x:80-web:80",
					   "tcp:80-we*b:80",
					   "tcp:80-[fd00::5:80",
					   "sctp:80-web:80",
					   "tcp:10.0.0.1:80-[fd00::5]:80",
					   "tcp:[2001:db8::1]:80-10.0.0.1:80",
					   "tcp:80-web:80;drop",
					   "8000-8010-web:80",
					   "tcp:8010-8000-web:9010-9000",
					   "tcp:8000-8010-web:9000-9011",
					   "tcp:80-web:80-81",
					   "tcp:80-80:80",
					   "tcp:80-70000-web:80-70000",
					   "tcp:1-1025-web:2-1026",
					   "tcp:80-81-:80-81",
					   "tcp:80-8-bit-web:80",
					   "8080:80",
					   "tcp:0.0.0.0:80-[fd00::5]:80",
					   "tcp:[::]:80-10.1.2.3:80" };
	static const char *const bad_hosts[] = { "",
						 "52:54:00:00:00:01",
						 "52:54:00:00:00,web,",
						 "x,web,10.0.0.1",
						 "52:54:00:00:00:01,w*b,",
						 ("52:54:00:00:00:01,"
						  "a23456789012345678901234567890123456789012345678901234567890abcd,"),
						 "52:54:00:00:00:01,,10.0.0",
						 "52:54:00:00:00:01,-a," };
	char text[256];

	nat();
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		d.publish_len = 0;
		assert_int_equal(lan_parse_publish(&d, good[i], &err), 0);
		assert_string_equal(lan_publish_text(&d.publish[0], text, sizeof(text)), good[i]);
	}
	d.publish_len = 0;
	assert_int_equal(lan_parse_publish(&d, "0.0.0.0:80-10.1.2.3:80", &err), 0);
	assert_string_equal(lan_publish_text(&d.publish[0], text, sizeof(text)), "tcp:80-10.1.2.3:80");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (!lan_parse_publish(&d, bad[i], &err))
			fail_msg("taken: %s", bad[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad_hosts); i++)
		assert_int_equal(lan_parse_static(&d, bad_hosts[i], &err), -1);
}

static void test_json(void **state)
{
	static const char *const bad[] = {
		"[]",
		"{\"name\": 1}",
		"{\"name\": \"lab\", \"model\": \"cloud\"}",
		"{\"name\": \"lab\", \"colour\": \"red\"}",
		"{\"name\": \"a\\u0000b\"}",
		"{\"name\": \"lab\", \"subnet\": \"10.0.0.1/24\"}",
		"{\"name\": \"lab\", \"mtu\": -1}",
		"{\"name\": \"lab\", \"hosts\": [{\"mac\": \"52:54:00:00:00:01\", \"name\": \"a,10.0.0.1\"}]}",
		"{\"name\": \"lab\", \"hosts\": [{\"name\": \"a\"}]}",
		"{\"name\": \"lab\", \"routes\": [\"lab\"]}",
		"{\"name\": \"../etc\"}",
	};
	struct lan_def *again = malloc(sizeof(*again));
	json_t *o;

	nat();
	assert_int_equal(lan_parse_static(&d, "52:54:00:00:00:01,web,10.1.2.5", &err), 0);
	assert_int_equal(lan_parse_static(&d, "52:54:00:00:00:02,,", &err), 0);
	assert_int_equal(lan_parse_publish(&d, "udp:[2001:db8::1]:53-web:53", &err), 0);
	strcpy(d.routes[d.routes_len++], "other");
	strcpy(d.domain, "lab.internal");
	d.mtu = 9000;
	d.dns = LAN_DNS_DNSMASQ;
	assert_int_equal(lan_def_check(&d, &err), 0);
	o = lan_def_to_json(&d);
	assert_int_equal(lan_def_from_json(again, o, &err), 0);
	assert_memory_equal(again, &d, sizeof(d));
	json_decref(o);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		o = json_loads(bad[i], JSON_ALLOW_NUL, NULL);
		assert_non_null(o);
		if (!lan_def_from_json(again, o, &err))
			fail_msg("taken: %s", bad[i]);
		json_decref(o);
	}
	o = json_object();
	assert_int_equal(lan_def_from_json(again, o, &err), -1);
	assert_string_equal(err.msg, "name: it is missing");
	json_decref(o);
	free(again);
}

/* A network that runs must not go because it could not be asked for any more. */
static void what_older_versions_took(void **state)
{
	static const char *const texts[] = {
		"{\"name\":\"n\", \"model\":\"nat\", \"subnet\":\"10.1.2.0/24\", "
		"\"publish\":[\"tcp:127.0.0.1:80-web:80\"]}",
		"{\"name\":\"n\", \"model\":\"nat\", \"subnet\":\"10.1.2.0/24\", \"dns\":\"dnsmasq\", "
		"\"publish\":[\"udp:53-web:53\"]}",
		"{\"name\":\"n\", \"model\":\"nat\", \"subnet\":\"169.254.7.0/24\"}",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		json_t *o = json_loads(texts[i], 0, NULL);

		assert_int_equal(lan_def_from_json(&d, o, &err), 0);
		assert_int_equal(lan_def_check(&d, &err), -1);
		json_decref(o);
	}
}

static void test_ports(void **state)
{
	struct lan_run r = { 0 };
	uint8_t mac[6] = { 2 };
	uint32_t first;

	nat();
	assert_int_equal(lan_parse_range(&d, "10.1.2.10-10.1.2.12", &err), 0);
	assert_int_equal(lan_parse_static(&d, "02:00:00:00:00:63,web,10.1.2.11", &err), 0);
	assert_int_equal(lan_def_check(&d, &err), 0);
	r.def = d;
	mac[5] = 1;
	assert_non_null(lan_port_add(&r, mac, "vt0", "a", &err));
	first = r.ports.v[0].addr4;
	assert_true(first == 0x0a01020a || first == 0x0a01020c); /* 11 is web's */
	mac[5] = 2;
	assert_int_equal(lan_port_add(&r, mac, "vt1", "b", &err)->addr4, 0x0a01020a + 0x0a01020c - first);
	mac[5] = 3;
	assert_null(lan_port_add(&r, mac, "vt2", "c", &err)); /* full */
	mac[5] = 0x63;
	assert_int_equal(lan_port_add(&r, mac, "vt2", "web", &err)->addr4, 0x0a01020b);
	/* Gone, and back: the same address. Gone for good: another one's. */
	*r.ports.v[0].tap = '\0';
	mac[5] = 1;
	assert_int_equal(lan_port_add(&r, mac, "vt3", "a", &err)->addr4, first);
	*r.ports.v[0].tap = '\0';
	mac[5] = 4;
	assert_int_equal(lan_port_add(&r, mac, "vt4", "d", &err)->addr4, first);
	assert_int_equal(r.ports.len, 3);
	lan_run_free(&r);
}

/* A machine that is there keeps what it has, or the definition is refused; one that is gone comes back to what there
 * is. */
static void ports_beside_leases(void **state)
{
	const uint32_t others[] = { 0x0a010204, 0x0a010205, 0x0a010207 };
	struct lan_run r = { 0 };
	uint8_t mac[6] = { 2 };
	struct lan_port *p;

	nat();
	assert_int_equal(lan_parse_range(&d, "10.1.2.4-10.1.2.7", &err), 0);
	assert_int_equal(lan_def_check(&d, &err), 0);
	r.def = d;
	r.leased.v = calloc(4, sizeof(*r.leased.v));
	for (; r.leased.len < 3; r.leased.len++)
		r.leased.v[r.leased.len] =
			(struct lan_lease){ { 2, 1, 0, 0, 0, (uint8_t)r.leased.len }, others[r.leased.len] };
	for (mac[5] = 1; mac[5] < 9; mac[5]++) {
		assert_int_equal(lan_port_add(&r, mac, "vt0", "a", &err)->addr4, 0x0a010206);
		*r.ports.v[r.ports.len - 1].tap = '\0';
	}
	/* Its own, and another one's once that has it for as long as the machine is away. */
	memcpy(r.leased.v[2].mac, mac, 6);
	p = lan_port_add(&r, mac, "vt0", "b", &err);
	assert_int_equal(p->addr4, others[2]);
	*p->tap = '\0';
	r.leased.v[2].mac[5]++;
	p = lan_port_add(&r, mac, "vt0", "b", &err);
	assert_int_equal(p->addr4, 0x0a010206);
	/* At last it has one before they have. */
	mac[5]++;
	assert_int_not_equal(lan_port_add(&r, mac, "vt1", "c", &err)->addr4, 0x0a010206);
	lan_run_free(&r);
}

static void ports_by_another_definition(void **state)
{
	struct lan_run r = { 0 };
	uint8_t mac[6] = { 2 };
	uint32_t first;

	nat();
	assert_int_equal(lan_def_check(&d, &err), 0);
	r.def = d;
	first = lan_port_add(&r, mac, "vt0", "a", &err)->addr4;
	assert_int_equal(lan_parse_range(&r.def, "10.1.2.4-10.1.2.5", &err), 0);
	assert_int_equal(lan_ports_fit(&r, false, &err), 0); /* out of the range, but its own */
	assert_int_equal(r.ports.v[0].addr4, first);
	assert_int_equal(lan_parse_static(&r.def, "02:00:00:00:00:00,a,10.1.2.9", &err), 0);
	assert_int_equal(lan_ports_fit(&r, false, &err), 0); /* from the next time on */
	assert_int_equal(r.ports.v[0].addr4, first);
	*r.ports.v[0].tap = '\0';
	assert_int_equal(lan_port_add(&r, mac, "vt1", "a", &err)->addr4, 0x0a010209);
	r.def.statics[0].mac[5] = 1;
	assert_int_equal(lan_ports_fit(&r, false, &err), -1); /* another machine's */
	assert_non_null(strstr(err.msg, "machine a has the address 10.1.2.9"));
	assert_int_equal(lan_ports_fit(&r, true, &err), 0);
	assert_in_range(r.ports.v[0].addr4, 0x0a010204, 0x0a010205);
	assert_true(lan_parse_net6("fd00:9::/64", &r.def.net6));
	assert_int_equal(lan_ports_fit(&r, false, &err), -1);
	r.def.net6.len = 0;
	assert_int_equal(lan_ports_fit(&r, true, &err), 0);
	assert_true(lan_zero6(&r.ports.v[0].addr6));
	r.def.net6.len = 64;
	assert_int_equal(lan_ports_fit(&r, false, &err), 0); /* it has none that it could lose */
	assert_false(lan_zero6(&r.ports.v[0].addr6));
	lan_run_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_other_subnets),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(ports_beside_leases),
		cmocka_unit_test(ports_by_another_definition),
		cmocka_unit_test(ports_of_the_host),
		cmocka_unit_test(ports_of_dnsmasq),
		cmocka_unit_test(what_older_versions_took),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
