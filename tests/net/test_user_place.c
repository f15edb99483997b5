/* Where the user-mode network is, and what it tells a guest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "guest.h"

static struct guest g;
static struct err err;

/* Whether DHCP's last answer has these bytes in that option. */
static bool told(uint8_t option, const char *bytes, size_t len)
{
	for (size_t at = 240; at + 2 + len <= g.dhcp_len && g.dhcp[at] != 255; at += 2u + g.dhcp[at + 1])
		if (g.dhcp[at] == option)
			return g.dhcp[at + 1] == len && !memcmp(g.dhcp + at + 2, bytes, len);
	return false;
}

/* Another network, what it tells of itself, and where its host is. */
static void test_place(void **state)
{
	uint16_t port = 0, forwarded = free_port(SOCK_STREAM);
	int listener = host_socket(SOCK_STREAM, &port), fd;
	struct conn *c;
	char forward[64];

	snprintf(forward, sizeof(forward), "hostfwd=tcp::%u-:80", forwarded);
	guest_net = 0xc0a84c00;
	guest_ip = 0xc0a84c09;
	assert_true(guest_start(&g, &err, "net=192.168.76.0/24", "dhcpstart=192.168.76.9", "hostname=box",
				"domainname=example.org", "dnssearch=lan+a.lan", "tftp-server-name=tftp", "bootfile=b",
				forward, NULL));
	guest_arp(&g);
	guest_dhcp(&g, 1);
	assert_int_equal(ld_be32(g.dhcp + 16), GUEST_IP);
	assert_int_equal(guest_dhcp_option(&g, 1), 0xffffff00);
	assert_int_equal(guest_dhcp_option(&g, 3), HOST_IP);
	assert_int_equal(guest_dhcp_option(&g, 6), SERVER_IP);
	assert_true(told(12, "box", 3) && told(15, "example.org", 11) && told(66, "tftp", 4));
	assert_true(told(119, "\3lan\0\1a\xc0\0", 9));
	c = guest_connect(&g, HOST_IP, port);
	fd = host_accept(&g, listener);
	guest_connected(&g, c);
	close(fd);
	fd = host_begin(forwarded);
	assert_int_equal(guest_comes(&g, 80)->peer_ip, HOST_IP);
	close(fd);
	guest_end(&g);
	/* In a small one the 15th address is for all. */
	guest_net = 0xac100008;
	guest_ip = 0xac10000c;
	assert_true(guest_start(&g, &err, "net=172.16.0.9/255.255.255.248", "dns=192.0.2.1", NULL));
	guest_dhcp(&g, 1);
	assert_int_equal(ld_be32(g.dhcp + 16), GUEST_IP);
	assert_int_equal(guest_dhcp_option(&g, 1), 0xfffffff8);
	assert_int_equal(guest_dhcp_option(&g, 6), 0xc0000201);
	guest_end(&g);
	guest_net = 0x0a000200;
	guest_ip = 0x0a00020f;
	close(listener);
}

/* How often the host asks for routers' words is no matter: whether it says one is. */
static bool advertises(const char *setting)
{
	/* From an address of the link, to all routers: type 133. */
	static const uint8_t solicit[] = "\x33\x33\0\0\0\2RT\0\x12\x34\x56\x86\xdd\x60\0\0\0\0\x8\x3a\xff"
					 "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x9"
					 "\xff\2\0\0\0\0\0\0\0\0\0\0\0\0\0\2"
					 "\x85\0\x7d\x2e\0\0\0\0";
	unsigned before;

	assert_true(guest_start(&g, &err, setting, NULL));
	guest_run(&g, 50);
	before = g.frames;
	guest_raw(&g, solicit, sizeof(solicit) - 1);
	guest_run(&g, 200);
	guest_end(&g);
	return g.frames > before;
}

static void test_one_family(void **state)
{
	assert_true(advertises("ipv6=on"));
	assert_false(advertises("ipv6=off"));
	assert_true(advertises("ipv6-net=fd00:1::/64"));
	assert_true(advertises("ipv4=off"));
}

/* Each by the key that says it. */
static void test_bad_places(void **state)
{
	static const struct {
		const char *settings[3], *says;
	} bad[] = {
		{ { "net=10.0.3.0/7" }, "net0.net: '10.0.3.0/7' is not ADDRESS/LENGTH (10.0.2.0/24), of 8 to 29 bits" },
		{ { "net=10.0.3.0/30" }, "net0.net: '10.0.3.0/30' is not" },
		{ { "net=10.0.3.0/255.0.255.0" }, "net0.net: '10.0.3.0/255.0.255.0' is not" },
		{ { "net=10.0.3/24" }, "net0.net: '10.0.3/24' is not" },
		{ { "net=" }, "net0.net: '' is not" },
		{ { "net=10.0.3.0/024x" }, "is not ADDRESS/LENGTH" },
		{ { "net=127.0.0.0/8" }, "net0.net: '127.0.0.0/8' is no network that hosts can be in" },
		{ { "net=224.0.0.0/24" }, "is no network" },
		{ { "host=10.0.3.2" }, "net0.host: '10.0.3.2' is not in the guest's network (10.0.2.0/24)" },
		{ { "host=10.0.2.255" }, "net0.host: '10.0.2.255' is not in" },
		{ { "net=10.1.0.0/16", "host=10.1.0.0" },
		  "net0.host: '10.1.0.0' is not in the guest's network (10.1.0.0/16)" },
		{ { "dhcpstart=x" }, "net0.dhcpstart: 'x' is not an IPv4 address of a host" },
		{ { "dhcpstart=10.0.2.2" }, "net0.dhcpstart: 10.0.2.2 is the address of host, too" },
		{ { "host=10.0.2.3" }, "net0.host: 10.0.2.3 is the address of dns, too" },
		{ { "dns=10.0.2.15" }, "net0.dns: 10.0.2.15 is the address of dhcpstart, too" },
		{ { "dns=8.8.8.8", "restrict=on" }, "net0.dns: '8.8.8.8' is not in the guest's network" },
		{ { "ipv4=off", "host=10.0.2.2" }, "net0.host: there is no IPv4 here (ipv4=off)" },
		{ { "ipv4=off", "hostfwd=tcp::1234-:22" }, "net0.hostfwd: there is no IPv4 here (ipv4=off)" },
		{ { "ipv6=off", "ipv6-dns=fec0::3" }, "net0.ipv6-dns: there is no IPv6 here (ipv6=off)" },
		{ { "ipv4=off", "ipv6=off" }, "net0.ipv6: one of ipv4 and ipv6 is needed" },
		{ { "ipv6=perhaps" }, "net0.ipv6: 'perhaps' is neither on nor off" },
		{ { "ipv6-net=fec0::/127" }, "net0.ipv6-net: 'fec0::/127' is not PREFIX/LENGTH" },
		{ { "ipv6-net=ff05::/64" }, "net0.ipv6-net: 'ff05::/64' is no network" },
		{ { "ipv6-host=fec1::2" }, "net0.ipv6-host: 'fec1::2' is not in the guest's network" },
		{ { "ipv6-dns=fec0::2" }, "net0.ipv6-dns: it is the address of ipv6-host, too" },
		{ { "ipv6-dns=fec1::2", "restrict=on" }, "net0.ipv6-dns: 'fec1::2' is not in" },
		{ { "hostname=a b" }, "net0.hostname: 'a b' is not a name" },
		{ { "hostname=abcdefghijklmnopqrstuvwxyz0123456789" }, "net0.hostname: longer than 32 characters" },
		{ { "domainname=" }, "net0.domainname: '' is not a name" },
		{ { "dnssearch=lan+a..b" }, "net0.dnssearch: 'a..b' is not a name of a domain" },
		{ { "dnssearch=a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p+q" }, "net0.dnssearch: more than 16 names" },
		{ { "net=10.0.3.0/24", "hostfwd=tcp::1234-10.0.2.15:22" },
		  "net0.hostfwd: 'tcp::1234-10.0.2.15:22': 10.0.2.15 is not for a guest of the network (10.0.3.0/24)" },
		{ { "hostfwd=tcp::1234-10.0.2.2:22" }, "net0.hostfwd: 'tcp::1234-10.0.2.2:22': 10.0.2.2 is not" },
		{ { "net=10.0.3.0/24", "guestfwd0=tcp:10.0.2.100:80-cmd:cat" },
		  "net0.guestfwd0: 'tcp:10.0.2.100:80-cmd:cat': 10.0.2.100 is not for a guest of the network "
		  "(10.0.3.0/24)" },
	};
	char longest[256] = "domainname=", other[256] = "tftp-server-name=";

	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		if (guest_start(&g, &err, bad[k].settings[0], bad[k].settings[1], NULL))
			fail_msg("'%s' was taken", bad[k].settings[0]);
		if (!strstr(err.msg, bad[k].says))
			fail_msg("'%s': %s", bad[k].settings[0], err.msg);
	}
	/* All that DHCP tells has to go into one datagram. */
	for (unsigned n = 0; n < 14; n++) {
		strcat(longest, n ? ".abcdefgh" : "abcdefgh");
		strcat(other, n ? ".abcdefgh" : "abcdefgh");
	}
	assert_true(guest_start(&g, &err, longest, NULL));
	guest_dhcp(&g, 1);
	guest_end(&g);
	assert_true(guest_start(&g, &err, longest, other, NULL));
	guest_dhcp(&g, 1);
	assert_true(told(66, other + 17, 125));
	guest_end(&g);
	assert_false(guest_start(&g, &err, longest, other, "dnssearch=abcdefgh.abcdefgh", NULL));
	assert_non_null(strstr(err.msg, "net0.dnssearch: DHCP has room for 274 bytes of names, and these are"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_one_family),
		cmocka_unit_test(test_bad_places),
	};

	return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
