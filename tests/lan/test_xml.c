/* libvirt's XML: what is kept, what is said to be otherwise, and what is refused by its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/lan.h"

static struct lan_def d;
static struct lan_wishes w;
static struct err err;
static char notes[1024];

/* As it is kept. */
static void check_kept(void)
{
	struct lan_def *again = malloc(sizeof(*again));
	json_t *o = lan_def_to_json(&d);

	assert_int_equal(lan_def_from_json(again, o, &err), 0);
	assert_memory_equal(again, &d, sizeof(d));
	json_decref(o);
	free(again);
}

static int read_as(const char *text, const char *name)
{
	const struct lan_xml x = {
		.text = text, .len = strlen(text), .name = name, .notes = fmemopen(notes, sizeof(notes), "w")
	};
	int rc;

	assert_non_null(x.notes);
	*notes = '\0';
	rc = lan_def_from_xml(&d, &w, &x, &err);
	assert_int_equal(fclose(x.notes), 0);
	if (!rc)
		check_kept();
	return rc;
}

static int read_xml(const char *text)
{
	return read_as(text, NULL);
}

static void test_default(void **state)
{
	static const char text[] =
		"<?xml version='1.0'?>\n<network>\n <name>default</name>\n "
		"<uuid>9a05da11-e96b-47f3-8253-a3a482e445f5</uuid>\n"
		" <forward mode='nat'><nat ipv6='yes'><port start='1024' end='65535'/></nat></forward>\n"
		" <bridge name='virbr0' stp='on' delay='0'/>\n <mac address='52:54:00:0a:cd:21'/>\n <mtu "
		"size='1400'/>\n"
		" <domain name='lab.test' localOnly='yes'/>\n"
		" <ip address='192.168.122.1' netmask='255.255.255.0'>\n  <dhcp>\n"
		"   <range start='192.168.122.2' end='192.168.122.254'/>\n"
		"   <host mac='52:54:00:00:00:01' name='web' ip='192.168.122.9'/>\n  </dhcp>\n </ip>\n"
		" <ip family='ipv6' address='fd00:1::1' prefix='64'/>\n</network>\n";

	assert_int_equal(read_xml(text), 0);
	assert_string_equal(d.name, "default");
	assert_int_equal(d.model, LAN_NAT);
	assert_string_equal(d.bridge, "virbr0");
	assert_int_equal(d.net4.addr, 0xc0a87a00);
	assert_int_equal(d.net4.len, 24);
	assert_int_equal(d.first4, 0xc0a87a03); /* the second address is the server's */
	assert_int_equal(d.last4, 0xc0a87afe);
	assert_int_equal(d.net6.len, 64);
	assert_int_equal(d.mtu, 1400);
	assert_string_equal(d.domain, "lab.test");
	assert_int_equal(d.statics_len, 1);
	assert_string_equal(d.statics[0].name, "web");
	assert_int_equal(d.statics[0].addr4, 0xc0a87a09);
	assert_true(d.dhcp && !w.no4 && !w.no6);
	assert_string_equal(notes, "the second address, 192.168.122.2, is the server's and is not handed out\n"
				   "not kept: uuid, bridge's stp, mac\n");
}

/* What both families are given. */
static void test_families(void **state)
{
#define IP6(rest) "<ip family='ipv6' address='fd00:1::1' prefix='64'" rest
#define DHCP	  "><dhcp/></ip>"
	static const struct {
		const char *ips;
		bool dhcp;
	} rows[] = { { "<ip address='10.9.0.1' netmask='255.255.255.0'/>" IP6("/>"), false },
		     { IP6("/>") "<ip address='10.9.0.1' prefix='24'/>", false },
		     { IP6("/>"), false },
		     { IP6(DHCP), true },
		     { IP6("/>") "<ip family='ipv4' address='10.9.0.1' prefix='24'" DHCP, true },
		     { "<ip address='10.9.0.1' prefix='24'" DHCP IP6(DHCP), true } };
	char text[512];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text), "<network><name> a\n</name>%s</network>", rows[i].ips);
		if (read_xml(text))
			fail_msg("%s: %s", text, err.msg);
		assert_string_equal(d.name, "a");
		assert_int_equal(d.dhcp, rows[i].dhcp);
	}
	/* The user's name instead of one that is none here. */
	snprintf(text, sizeof(text), "<network><name>my net</name>%s</network>", rows[0].ips);
	assert_int_equal(read_as(text, "mine"), 0);
	assert_string_equal(d.name, "mine");
	assert_int_equal(read_as(text, "m/e"), -1);
	assert_non_null(strstr(err.msg, "m/e"));
}

static void test_models(void **state)
{
#define IP "<ip address='10.9.0.1' prefix='24'/>"
	static const struct {
		const char *forward;
		enum lan_model model;
	} rows[] = { { IP, LAN_ISOLATED },
		     { "<forward mode='none'/>" IP, LAN_ISOLATED },
		     { "<forward/>" IP, LAN_NAT },
		     { "<forward mode='route'/>" IP, LAN_ROUTED },
		     { "<forward mode='open'/>" IP, LAN_ROUTED },
		     { "<bridge name='br0'/><forward mode='bridge'/>", LAN_BRIDGED } };
	char text[256];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text), "<network><name>a</name>%s</network>", rows[i].forward);
		if (read_xml(text))
			fail_msg("%s: %s", text, err.msg);
		assert_int_equal(d.model, rows[i].model);
		assert_true(rows[i].model == LAN_BRIDGED || !d.dhcp); /* without <dhcp> none */
		assert_int_equal(w.bridge, rows[i].model == LAN_BRIDGED);
	}
	assert_string_equal(d.uplink, "br0");
}

/* What is a little otherwise than with libvirt: all of what is said. */
static void test_said(void **state)
{
#define NET(rest)  "<network><name>a</name>" rest "</network>"
#define NAT	   "<forward mode='nat'/>"
#define NAT6	   "<forward><nat ipv6='yes'/></forward>"
#define OF_4(dhcp) "<ip address='10.9.0.1' prefix='24'><dhcp>" dhcp "</dhcp></ip>"
	static const struct {
		const char *text, *notes;
	} rows[] = {
		{ NET(NAT IP), "" },
		{ NET(NAT IP IP6("/>")), "IPv6 is translated" },
		{ NET("<forward mode='nat'><nat ipv6='no'/></forward>" IP6("/>")), "IPv6 is translated" },
		{ NET(IP IP6("/>") NAT6), "" },
		{ NET("<forward mode='route'/>" IP6("/>")), "" },
		{ NET("<forward mode='open'/>" IP), "mode='open' is routed here" },
		{ NET(IP), "do not reach the host" },
		{ NET(NAT OF_4("<range start='10.9.0.2' end='10.9.0.9'/>")), "10.9.0.2, is the server's" },
		{ NET(NAT OF_4("<range start='10.9.0.3' end='10.9.0.9'/>")), "" },
		{ NET(NAT OF_4("<host mac='52:54:00:00:00:01' ip='10.9.0.9'/>")), "<dhcp> has no <range>" },
		{ NET(NAT6 IP IP6("><dhcp/></ip>")), NULL },
		{ NET(NAT6 IP6("><dhcp><range start='fd00:1::5' end='fd00:1::9'/></dhcp></ip>")), "fd00:1::5" },
		{ NET(NAT IP "<mac address='52:54:00:0a:cd:21'/>"), "not kept: mac" },
		{ NET(NAT IP "<bridge name='b' stp='on' delay='2'/>"), "not kept: bridge's stp, bridge's delay" },
		{ NET(NAT IP "<bridge name='b' stp='off' delay='0'/>"), "" },
		{ NET(NAT IP "<title>t</title><description>d</description>"), "not kept: title, description" },
		{ NET("<metadata><x:y xmlns:x='http://x'><x:z>a<name>b</name></x:z></x:y></metadata>" NAT IP),
		  "not kept: metadata" },
		{ NET(NAT IP "<domain name='example.com'/>"), "names in example.com that no machine has" },
		{ NET(NAT IP "<domain name='example.com' localOnly='no'/>"), "names in example.com that no" },
		{ NET(NAT IP "<domain name='example.com' localOnly='yes'/>"), "" },
		{ NET(NAT IP "<domain name='example.com'/><dns enable='no'/>"), "" },
		{ NET(NAT IP "<dns forwardPlainNames='yes'/>"), "forwardPlainNames" },
		{ NET(NAT IP "<dns enable='yes' forwardPlainNames='no'/>"), "" },
		{ NET(NAT "<ip address='10.9.0.1' prefix='24' localPtr='no'/>"), "localPtr" },
		{ NET(NAT "<ip address='10.9.0.1' prefix='24' localPtr='yes'/>"), "" },
		{ "<network trustGuestRxFilters='yes' ipv6='yes' connections='3'><name>a</name>" NAT IP "</network>",
		  "trustGuestRxFilters" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!rows[i].notes) {
			assert_int_equal(read_xml(rows[i].text), -1); /* DHCP by IPv6 alone */
			continue;
		}
		if (read_xml(rows[i].text))
			fail_msg("%s: %s", rows[i].text, err.msg);
		if (!strstr(notes, rows[i].notes) || (strchr(notes, '\n') != strrchr(notes, '\n')) ||
		    !*notes != !*rows[i].notes)
			fail_msg("%s: '%s' is not '%s'", rows[i].text, notes, rows[i].notes);
	}
}

/* What DNS has no name for is what a machine called so is. */
static void test_hosts(void **state)
{
	static const struct {
		const char *domain, *name, *is, *notes;
	} rows[] = {
		{ "lab.test", "web", "web", "" },
		{ "lab.test", "web.lab.test", "web", "" },
		{ "lab.test", "web.lan", "web-lan", "host web.lan is web-lan in DNS" },
		{ "lab.test", "srv_2", "srv-2", "host srv_2 is srv-2 in DNS" },
		{ "lab.test", "w*b", NULL, "host: 'w*b' is no name" },
		{ "lab.test", "a23456789012345678901234567890123456789012345678901234567890abcd", NULL, "too long" },
	};
	char text[512];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text),
			 NET(NAT OF_4("<range start='10.9.0.3' end='10.9.0.9'/>"
				      "<host mac='52:54:00:00:00:01' name='%s' ip='10.9.0.9'/>") "<domain name='%s' "
												 "localOnly='yes'/>"),
			 rows[i].name, rows[i].domain);
		if (read_xml(text) != (rows[i].is ? 0 : -1))
			fail_msg("%s: %s", rows[i].name, err.msg);
		if (rows[i].is)
			assert_string_equal(d.statics[0].name, rows[i].is);
		assert_non_null(strstr(rows[i].is ? notes : err.msg, rows[i].notes));
		assert_true(!rows[i].is || *rows[i].notes || !*notes);
	}
}

/* What another name would help with says so. */
static void test_names(void **state)
{
	static const struct {
		const char *name, *error;
	} rows[] = { { "<name> lab </name>", NULL },
		     { "<name>k.lab</name>", "name: 'k.lab' is not a network's name" },
		     { "<name>a-very-long-name-of-a-network-indeed-it-is</name>", "is not a network's name" },
		     { "<name>none</name>", "name: 'none' means something else" },
		     { "<name/>", "name: '' is not" },
		     { "", "there is no <name>" } };
	char text[512];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text), "<network>%s" NAT IP "</network>", rows[i].name);
		assert_int_equal(read_xml(text), rows[i].error ? -1 : 0);
		if (rows[i].error && (!strstr(err.msg, rows[i].error) || !strstr(err.msg, "(--name gives ")))
			fail_msg("%s: %s", rows[i].name, err.msg);
	}
}

/* A mask that is not said is that of the address's class; in libvirt's own words, the network 10.0.0.0/8. */
static void test_classes(void **state)
{
	static const struct {
		const char *addr;
		unsigned len;
	} rows[] = { { "10.0.0.1", 8 }, { "172.20.0.1", 16 }, { "192.168.7.1", 24 }, { "240.0.0.1", 0 } };
	char text[256];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text), NET(NAT "<ip address='%s'/>"), rows[i].addr);
		assert_int_equal(read_xml(text), rows[i].len ? 0 : -1);
		if (rows[i].len)
			assert_int_equal(d.net4.len, rows[i].len);
	}
}

/* Examples of libvirt's documentation: what becomes of each. */
static void test_documented(void **state)
{
#define OF_122	       "<ip address='192.168.122.1' netmask='255.255.255.0'>"
#define RANGE_122      "<dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>"
#define OF_6(n, rest)  "<ip family='ipv6' address='2001:db8:ca2:" n "::1' prefix='64'" rest
#define RANGE_6	       "><dhcp><range start='2001:db8:ca2:2:1::10' end='2001:db8:ca2:2:1::ff'/></dhcp></ip>"
#define HOST_6	       "><dhcp><host name='paul' ip='2001:db8:ca2:2:3::1'/></dhcp></ip>"
#define HOST_6_BY_ID   "><dhcp><host id='0:3:0:1:0:16:3e:11:22:33' ip='2001:db8:ca2:2:3::3'/></dhcp></ip>"
#define BRIDGED	       "<forward mode='bridge'/>"
#define INTERFACES(of) "<forward mode='" of "'><interface dev='eth20'/><interface dev='eth21'/></forward>"
	static const struct {
		const char *text, *refused; /* NULL: taken */
		enum lan_model model;
	} rows[] = {
		{ NET("<bridge name='virbr0'/>" NAT OF_122 RANGE_122 "</ip>" OF_6("2", "/>")), NULL, LAN_NAT },
		{ NET("<bridge name='virbr0'/>" NAT OF_122 RANGE_122 "</ip>" OF_6("2", RANGE_6)), NULL, LAN_NAT },
		{ NET("<bridge name='virbr0'/><forward mode='nat'><nat ipv6='yes'><port start='1024' "
		      "end='65535'/></nat>"
		      "</forward>" OF_122 RANGE_122 "</ip><ip family='ipv6' address='fd01:2:3:4::1' prefix='64'/>"),
		  NULL, LAN_NAT },
		{ NET("<bridge name='virbr1'/><forward mode='route' dev='eth1'/>" OF_122 "</ip>"), "dev='eth1'", 0 },
		{ NET("<bridge name='virbr1'/><forward mode='route'/>" OF_122 RANGE_122 "</ip>" OF_6("2", "/>")), NULL,
		  LAN_ROUTED },
		{ NET("<forward mode='route'/>" OF_122 RANGE_122 "</ip>" OF_6("2", HOST_6)), "2001:db8:ca2:2:3::1", 0 },
		{ NET("<forward mode='route'/>" OF_122 RANGE_122 "</ip>" OF_6("2", HOST_6_BY_ID)), "id=", 0 },
		{ NET("<forward mode='route'/>" OF_6("7", "/>") "<route family='ipv6' address='2001:db8:ca2:8::'/>"),
		  "<route>", 0 },
		{ NET("<bridge name='virbr2'/>" OF_122 RANGE_122 "</ip>" OF_6("3", "/>")), NULL, LAN_ISOLATED },
		{ NET("<bridge name='virbr6'/>" OF_6("6", HOST_6)), "2001:db8:ca2:2:3::1", 0 },
		{ NET(BRIDGED "<bridge name='br0'/>"), NULL, LAN_BRIDGED },
		{ NET(BRIDGED "<bridge name='br0'/><port isolated='yes'/>"), "isolated='yes'", 0 },
		{ NET(BRIDGED "<bridge name='ovsbr0'/><virtualport type='openvswitch'/>"), "<virtualport>", 0 },
		{ NET(INTERFACES("bridge")), "dev='eth20' is one for macvtap", 0 },
		{ NET("<forward mode='bridge' dev='eth20'/>"), "dev='eth20' is one for macvtap", 0 },
		{ NET(INTERFACES("private")), "'private'", 0 },
		{ NET(INTERFACES("passthrough")), "'passthrough'", 0 },
		{ "<network ipv6='yes'><name>a</name><bridge name='virbr2' stp='on' delay='0'/></network>",
		  "without <ip>", 0 },
		{ NET("<forward mode='nat'><nat><address start='1.2.3.4' end='1.2.3.10'/></nat></forward>" IP),
		  "<address>", 0 },
		{ NET("<forward mode='nat'><nat><port start='500' end='1000'/></nat></forward>" IP), "start='500'", 0 },
		{ NET("<forward mode='nat' dev='eth0'><interface dev='eth0'/></forward>" IP), "dev='eth0'", 0 },
		{ NET("<forward mode='nat'><interface dev='eth0'/></forward>" IP), "dev='eth0'", 0 },
		{ NET(NAT IP "<dns><txt name='example' value='v'/></dns>"), "<txt>", 0 },
		{ NET(NAT IP "<dns><forwarder addr='8.8.8.8'/></dns>"), "<forwarder>", 0 },
		{ NET(NAT IP "<dns><srv service='name' protocol='tcp'/></dns>"), "<srv>", 0 },
		{ NET(NAT OF_4("<range start='10.9.0.3' end='10.9.0.9'><lease expiry='1' unit='hours'/></range>")),
		  "<lease>", 0 },
		{ NET(NAT OF_4("<bootp file='pxelinux.0'/>")), "<bootp>", 0 },
		{ NET(NAT OF_4("<host name='bar' ip='10.9.0.9'/>")), "without a MAC", 0 },
		{ NET(NAT OF_4("<host mac='52:54:00:00:00:01' ip='10.9.0.2'/>")), "10.9.0.2", 0 },
		{ NET(NAT IP "<bridge name='virbr9' zone='public'/>"), "zone='public'", 0 },
		{ NET(NAT "<ip address='10.77.0.1'/>"), "10.0.0.0/8", 0 },
		{ "<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'><name>a</name>" NAT IP
		  "<dnsmasq:options><dnsmasq:option value='foo=bar'/></dnsmasq:options></network>",
		  "<dnsmasq:options>", 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (read_xml(rows[i].text) != (rows[i].refused ? -1 : 0))
			fail_msg("%s: %s", rows[i].text, rows[i].refused ? "taken" : err.msg);
		if (!rows[i].refused)
			assert_int_equal(d.model, rows[i].model);
		else if (!strstr(err.msg, rows[i].refused))
			fail_msg("%s: '%s' does not name %s", rows[i].text, err.msg, rows[i].refused);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *names;
	} rows[] = {
		{ "<network><name>a</name><portgroup name='x'/>" IP "</network>", "portgroup" },
		{ "<network><name>a</name><forward mode='hostdev'/>" IP "</network>", "hostdev" },
		{ "<network><name>a</name><forward mode='passthrough'/>" IP "</network>", "passthrough" },
		{ "<network><name>a</name><forward mode='nat' dev='eth0'/>" IP "</network>", "eth0" },
		{ "<network><name>a</name><virtualport type='openvswitch'/></network>", "virtualport" },
		{ "<network><name>a</name><vlan><tag id='1'/></vlan></network>", "vlan" },
		{ "<network><name>a</name><bandwidth/></network>", "bandwidth" },
		{ "<network><name>a</name><dns><host ip='1.2.3.4'/></dns></network>", "<host>" },
		{ "<network><name>a</name><ip address='10.9.0.9' prefix='24'/></network>", "10.9.0.9" },
		{ "<network><name>a</name><ip address='10.9.0.1' prefix='24'><tftp root='/x'/></ip></network>",
		  "tftp" },
		{ "<network><name>a/b</name>" IP "</network>", "a/b" },
		{ "<network><name>a</name></network>", "without <ip>" },
		{ "<domain type='kvm'/>", "<domain>" },
		{ "<network><name>my net</name>" IP "</network>", "my net" },
		{ "<network><name>a</name><name>b</name>" IP "</network>", "<name>" },
		{ "<network><name>a</name><forward mode='nat'/><bridge name='b'/><bridge name='c'/>" IP "</network>",
		  "<bridge>" },
		{ "<network><name>a</name><ip address='10.9.0.1' prefix='24abc'/></network>", "24abc" },
		{ "<network><name>a</name><ip address='10.9.0.1' prefix='4294967320'/></network>", "4294967320" },
		{ "<network><name>a</name><ip address='10.9.0.1' prefix='24' netmask='255.0.0.0'/></network>", "24" },
		{ "<network><name>a</name><ip family='ipv5' address='10.9.0.1' prefix='24'/></network>", "ipv5" },
		{ "<network><name>a</name><ip family='ipv6' address='fd00::5' prefix='64'/></network>", "fd00::5" },
		{ "<network><name>a</name><ip family='ipv6' address='fd00::1' netmask='ffff::'/></network>",
		  "64 bits" },
		{ "<network><name>a</name><ip address='10.9.0.1' prefix='24'/>" IP6(DHCP) "</network>", "DHCP" },
		{ "<network><name>a</name><mtu size='-1500'/>" IP "</network>", "-1500" },
		{ "<network><name>a</name>", "line 1" },
		{ "", "line 1" },
		{ "<!DOCTYPE n [<!ENTITY a 'aaaa'>]><network><name>&a;</name></network>", "document type" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(read_xml(rows[i].text), -1);
		if (!strstr(err.msg, rows[i].names))
			fail_msg("%s: '%s' does not name %s", rows[i].text, err.msg, rows[i].names);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default), cmocka_unit_test(test_families),   cmocka_unit_test(test_models),
		cmocka_unit_test(test_said),	cmocka_unit_test(test_hosts),	   cmocka_unit_test(test_classes),
		cmocka_unit_test(test_names),	cmocka_unit_test(test_documented), cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
