/*
 * lan_storm IFACE KIND COUNT: frames of an attacker on an interface, as fast as it takes them: DHCPDISCOVER of as many
 * MACs (discover) or of one (one), DHCPREQUEST (request), DHCPv6 SOLICIT with rapid commit (solicit), router
 * solicitations (rs), ARP requests (arp), queries for names that are not there from many addresses (dns). For
 * project/test_lan_storm.py.
 */
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lan/serve/frame.h"

#define NET4	0x0a4d0000u /* the network of tests/project/lan_net.py */
#define SERVER4 (NET4 + 2)

static struct frame_out out;
static struct frame_ends ends;

static void set_sender(uint32_t n)
{
	ends.src_mac[0] = 2;
	ends.src_mac[1] = 0x99;
	st_be32(ends.src_mac + 2, n);
	memset(ends.dst_mac, 0xff, 6);
}

static uint8_t *option(uint8_t *p, unsigned type, const void *data, size_t len)
{
	p[0] = (uint8_t)type;
	p[1] = (uint8_t)len;
	memcpy(p + 2, data, len);
	return p + 2 + len;
}

static void dhcp4(uint32_t n, uint8_t type)
{
	uint8_t *b = out.b + FRAME_UDP4, *p = b + 240, word[5] = { 1 };

	memset(b, 0, 300);
	memcpy(b, "\1\1\6", 3);
	st_be32(b + 4, n);
	memcpy(b + 28, ends.src_mac, 6);
	st_be32(b + 236, 0x63825363);
	p = option(p, 53, &type, 1);
	st_be32(word + 1, n);
	p = option(p, 61, word, 5);
	st_be32(word, NET4 + 100 + n % 100);
	if (type == 3)
		p = option(p, 50, word, 4);
	*p = 255;
	ends.sport = 68;
	ends.dport = 67;
	ends.src4.s_addr = 0;
	ends.dst4.s_addr = INADDR_BROADCAST;
	frame_udp4(&out, &ends, 300);
}

static void discover(uint32_t n)
{
	dhcp4(n, 1);
}

static void one(uint32_t n)
{
	set_sender(1);
	dhcp4(n, 1);
}

static void request(uint32_t n)
{
	dhcp4(n, 3);
}

static void to_group(uint8_t a, uint8_t b)
{
	memcpy(ends.dst_mac, (const uint8_t[6]){ 0x33, 0x33, 0, a, 0, b }, 6);
	ends.dst6 = (struct in6_addr){ .s6_addr = { 0xff, 2, [13] = a, [15] = b } };
	ends.src6 = (struct in6_addr){ .s6_addr = { 0xfe, 0x80 } };
	memcpy(ends.src6.s6_addr + 8, ends.src_mac, 6);
}

static void solicit(uint32_t n)
{
	uint8_t *b = out.b + FRAME_UDP6;

	to_group(1, 2);
	memcpy(b, "\1abc\0\1\0\012\0\3\0\1......\0\016\0\0\0\3\0\014....\0\0\0\0\0\0\0\0", 38);
	memcpy(b + 12, ends.src_mac, 6);
	st_be32(b + 26, n);
	ends.sport = 546;
	ends.dport = 547;
	frame_udp6(&out, &ends, 38);
}

static void rs(uint32_t n)
{
	to_group(0, 2);
	memcpy(out.b + FRAME_ICMP, "\x85\0\0\0\0\0\0\0", 8);
	frame_icmp6(&out, &ends, 8);
}

static void arp(uint32_t n)
{
	uint8_t *a = out.b + FRAME_ETH;

	memset(out.b, 0, 60);
	memset(out.b, 0xff, 6);
	memcpy(out.b + 6, ends.src_mac, 6);
	st_be16(out.b + 12, 0x0806);
	memcpy(a, "\0\1\10\0\6\4\0\1", 8);
	memcpy(a + 8, ends.src_mac, 6);
	st_be32(a + 14, NET4 + 3 + n % 250);
	st_be32(a + 24, SERVER4);
	out.len = 60;
}

static void dns(uint32_t n)
{
	uint8_t *b = out.b + FRAME_UDP4;
	char name[32];

	memset(b, 0, 64);
	st_be16(b, (uint16_t)n);
	memcpy(b + 2, "\1\0\0\1", 4);
	snprintf(name, sizeof(name), "\10%08x\7example", n);
	memcpy(b + 12, name, 17);
	memcpy(b + 30, "\0\1\0\1", 4);
	memcpy(ends.dst_mac, "\x52\x54\0\0\0\2", 6);
	ends.sport = (uint16_t)(1024 + n % 60000);
	ends.dport = 53;
	ends.src4.s_addr = htobe32(NET4 + 3 + n % 250);
	ends.dst4.s_addr = htobe32(SERVER4);
	frame_udp4(&out, &ends, 34);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*make)(uint32_t n);
	} kinds[] = {
		{ "discover", discover }, { "one", one }, { "request", request }, { "solicit", solicit }, { "rs", rs },
		{ "arp", arp },		  { "dns", dns }
	};
	struct sockaddr_ll a = { .sll_family = AF_PACKET };
	void (*make)(uint32_t n) = NULL;
	struct timespec begin, end;
	uint32_t count, lost = 0;
	int fd;

	for (size_t k = 0; argc == 4 && k < ARRAY_LEN(kinds); k++)
		if (!strcmp(kinds[k].name, argv[2]))
			make = kinds[k].make;
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	a.sll_ifindex = make ? (int)if_nametoindex(argv[1]) : 0;
	if (!make || fd < 0 || !a.sll_ifindex || bind(fd, (struct sockaddr *)&a, sizeof(a))) {
		fprintf(stderr, "usage: lan_storm IFACE KIND COUNT\n");
		return 2;
	}
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &(int){ 1 }, sizeof(int));
	count = (uint32_t)strtoul(argv[3], NULL, 10);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (uint32_t n = 0; n < count; n++) {
		set_sender(n);
		make(n);
		lost += send(fd, out.b, out.len, 0) < 0;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%u %.3f\n", count - lost,
	       (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	return 0;
}
