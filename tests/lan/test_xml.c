/* libvirt's XML: what is kept, and what is refused by its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/lan.h"

static struct lan_def d;
static struct lan_wishes w;
static struct err err;

static int read_xml(const char *text)
{
	return lan_def_from_xml(&d, &w, NULL, text, strlen(text), &err);
}

static void test_default(void **state)
{
	static const char text[] =
		"<?xml version='1.0'?>\n<network>\n <name>default</name>\n "
		"<uuid>9a05da11-e96b-47f3-8253-a3a482e445f5</uuid>\n"
		" <forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>\n"
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
	assert_int_equal(lan_def_from_xml(&d, &w, "mine", text, strlen(text), &err), 0);
	assert_string_equal(d.name, "mine");
	assert_int_equal(lan_def_from_xml(&d, &w, "m/e", text, strlen(text), &err), -1);
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
		     { "<forward mode='bridge'/><bridge name='br0'/>", LAN_BRIDGED },
		     { "<forward mode='bridge'><interface dev='eth0'/></forward>", LAN_BRIDGED } };
	char text[256];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text), "<network><name>a</name>%s</network>", rows[i].forward);
		if (read_xml(text))
			fail_msg("%s: %s", text, err.msg);
		assert_int_equal(d.model, rows[i].model);
		assert_true(rows[i].model == LAN_BRIDGED || !d.dhcp); /* without <dhcp> none */
	}
	assert_string_equal(d.uplink, "eth0");
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
		{ "<network><name>a</name><forward mode='bridge'><interface dev='e0'/><interface dev='e1'/>"
		  "</forward></network>",
		  "<interface>" },
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
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_families),
		cmocka_unit_test(test_models),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
