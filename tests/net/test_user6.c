/* The user-mode network by IPv6, between a hand-made guest and real sockets of the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "guest.h"
#include "net/fragment.h"

static struct guest g;
static struct err err;

static void start(void)
{
	assert_true(guest_start(&g, &err, NULL));
	guest_arp(&g);
}

static const uint8_t guest6[16] = { 0xfe, 0xc0, [15] = 0x15 }, host6[16] = { 0xfe, 0xc0, [15] = 2 };
static const uint8_t neighbors6[16] = { 0xff, 2, [11] = 1, 0xff, [15] = 2 };
static bool open6, ended6;
static uint16_t port6 = 5000;
static uint32_t seq6, acked6;
static unsigned too_big, acks6;

static bool receive6(void *opaque, const uint8_t *f, size_t len, const struct net_offload *o)
{
	const uint8_t *l4 = f + 54;

	if (len < 74 || ld_be16(f + 12) != 0x86dd)
		return true;
	too_big += f[20] == IPPROTO_ICMPV6 && l4[0] == 2;
	if (f[20] == IPPROTO_TCP && l4[13] == 0x12) {
		open6 = true;
		seq6 = ld_be32(l4 + 4) + 1;
	}
	if (f[20] == IPPROTO_TCP && l4[13] & 1 && ld_be16(l4 + 2) == port6) {
		ended6 = true;
		seq6 = ld_be32(l4 + 4) + 1;
	}
	if (f[20] == IPPROTO_TCP && l4[13] == 0x10) {
		acked6 = ld_be32(l4 + 8);
		acks6++;
	}
	return true;
}

static bool all_acked6(void *opaque)
{
	return acked6 == *(uint32_t *)opaque;
}

static bool ten_acks6(void *opaque)
{
	return acks6 >= 10;
}

static bool is_open6(void *opaque)
{
	return open6;
}

static bool has_ended6(void *opaque)
{
	return ended6;
}

/* The sums are made as for a card: `at` is where the one of `l4` is. */
static void build6(uint8_t *f, const uint8_t to[16], uint8_t next, const uint8_t *l4, size_t len, uint16_t at)
{
	uint32_t sum = (uint32_t)len + next;

	memset(f, 0, 54);
	memset(f, 0xff, 6);
	memcpy(f + 6, g.mac, 6);
	st_be16(f + 12, 0x86dd);
	f[14] = 0x60;
	st_be16(f + 18, (uint16_t)len);
	f[20] = next;
	f[21] = 255;
	memcpy(f + 22, guest6, 16);
	memcpy(f + 38, to, 16);
	memcpy(f + 54, l4, len);
	for (unsigned k = 22; k < 54; k += 2)
		sum += ld_be16(f + k);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	st_be16(f + 54 + at, (uint16_t)sum);
}

static void send6(const uint8_t to[16], uint8_t next, const uint8_t *l4, size_t len, uint16_t at, uint16_t mss)
{
	struct net_offload o = { .checksum = true, .csum_start = 54, .csum_offset = at, .mss = mss };
	static uint8_t f[NET_FRAME_MAX];

	o.gso = mss ? NET_GSO_TCP6 : NET_GSO_NONE;
	build6(f, to, next, l4, len, at);
	net_send(g.peer, f, 54 + len, &o);
}

static void tcp6(uint16_t port, uint32_t seq, uint8_t flags, const uint8_t *data, size_t len, uint16_t mss)
{
	static uint8_t t[NET_FRAME_MAX];

	memset(t, 0, 20);
	st_be16(t, port6);
	st_be16(t + 2, port);
	st_be32(t + 4, seq);
	st_be32(t + 8, seq6);
	t[12] = 0x50;
	t[13] = flags;
	st_be16(t + 14, 65535);
	if (len)
		memcpy(t + 20, data, len);
	send6(host6, IPPROTO_TCP, t, 20 + len, 16, mss);
}

static uint16_t server6;

/* A guest that has said where it is, and a server of the host, or the end of the test without IPv6. */
static int start6(void)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
	uint8_t neighbor[32] = { 135 };
	socklen_t len = sizeof(at);

	if (bind(listener, (struct sockaddr *)&at, sizeof(at))) {
		close(listener);
		skip();
	}
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	server6 = ntohs(at.sin6_port);
	start();
	g.peer->receiver.receive = receive6;
	memcpy(neighbor + 8, host6, 16);
	neighbor[24] = neighbor[25] = 1;
	memcpy(neighbor + 26, g.mac, 6);
	send6(neighbors6, IPPROTO_ICMPV6, neighbor, sizeof(neighbor), 2, 0);
	return listener;
}

/* By a new port; the host's end of it. */
static int connect6(int listener)
{
	int fd;

	port6++;
	open6 = ended6 = false;
	seq6 = 0;
	tcp6(server6, 1000, 0x02, NULL, 0, 0);
	fd = host_accept(&g, listener);
	guest_until(&g, is_open6, NULL);
	tcp6(server6, 1001, 0x10, NULL, 0, 0);
	return fd;
}

/*
 * A frame that is larger than the MTU arrives over IPv6 as well, as one segment of the host's, and is not acknowledged
 * by a frame for each of the guest's; but each that is out of its order is.
 */
static void test_segmentation6(void **state)
{
	static uint8_t big[40000], buf[40000];
	const uint32_t end = 1001 + sizeof(big);
	int listener = start6(), fd;
	struct tcp_info host;

	too_big = 0;
	fd = connect6(listener);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 13 + i / 100);
	acks6 = 0;
	tcp6(server6, 1001, 0x18, big, sizeof(big), 1428);
	guest_run(&g, 50);
	assert_int_equal(too_big, 0);
	host_read(&g, fd, buf, sizeof(big));
	assert_memory_equal(buf, big, sizeof(big));
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &host, &(socklen_t){ sizeof(host) }), 0);
	assert_true(host.tcpi_data_segs_in <= 2);
	guest_until(&g, all_acked6, (void *)&end);
	assert_true(acks6 < 5);
	acks6 = 0;
	for (unsigned k = 0; k < 10; k++)
		tcp6(server6, end + 100 + k, 0x18, big, 1, 0);
	guest_until(&g, ten_acks6, NULL);
	assert_int_equal(acks6, 10);
	close(fd);
	close(listener);
	guest_end(&g);
}

/* One after the other, each ended by the host first: what has ended keeps no other one out. */
static void test_short_ones6(void **state)
{
	int listener = start6();
	unsigned before = open_files();

	for (unsigned n = 0; n < 700; n++) {
		close(connect6(listener));
		guest_until(&g, has_ended6, NULL);
		tcp6(server6, 1001, 0x11, NULL, 0, 0);
		assert_true(open_files() - before <= 300);
	}
	close(listener);
	guest_end(&g);
}

static struct fragments *parts6;
static uint8_t datagram6[65535];
static size_t datagram6_len;

static bool receive_parts6(void *opaque, const uint8_t *f, size_t len, const struct net_offload *o)
{
	assert_true(len <= 1514);
	if (ld_be16(f + 12) != 0x86dd)
		return true;
	if (fragment_is(f, len))
		f = fragments_add(parts6, f, len, 0, &len);
	if (f && (f[20] == IPPROTO_UDP || (f[20] == IPPROTO_ICMPV6 && f[54] == 129))) {
		uint32_t sum = f[20] + (uint32_t)len - 54;

		for (size_t k = 22; k < len; k++)
			sum += (uint32_t)f[k] << (k & 1 ? 0 : 8);
		while (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
		assert_int_equal(sum, 0xffff);
		memcpy(datagram6, f + 54, len - 54);
		datagram6_len = len - 54;
	}
	return true;
}

static bool got_datagram6(void *opaque)
{
	return datagram6_len > 0;
}

static void piece6(void *opaque, const uint8_t *f, size_t len)
{
	guest_raw(&g, f, len);
}

static void cut6(void *opaque, const uint8_t *f, size_t len)
{
	static uint32_t id;

	fragments_cut(f, len, 1500, id++, piece6, NULL);
}

/* A datagram to the host's `port`, or a ping, larger than a frame. */
static void send_large6(uint8_t next, uint8_t *l4, size_t len)
{
	struct net_offload o = { .checksum = true, .csum_start = 54, .csum_offset = next == IPPROTO_UDP ? 6 : 2 };
	static uint8_t f[NET_FRAME_MAX];

	build6(f, host6, next, l4, len, o.csum_offset);
	net_segment(f, 54 + len, &o, cut6, NULL);
}

/* Datagrams and pings of any size by IPv6, in fragments both ways. */
static void test_large_datagrams6(void **state)
{
	static const size_t sizes[] = { 1, 1452, 1453, 8000, 60000, 65473 };
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	static uint8_t l4[65535], got[65535];
	const int room = 1 << 20;
	socklen_t len = sizeof(at);
	int fd;

	close(start6());
	g.peer->receiver.receive = receive_parts6;
	parts6 = fragments_new();
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
		size_t n = sizes[k];
		struct sockaddr_in6 from;
		ssize_t r = -1;

		for (size_t i = 8; i < 8 + n; i++)
			l4[i] = (uint8_t)(i * 3 + i / 256 + k);
		st_be16(l4, 5555);
		st_be16(l4 + 2, ntohs(at.sin6_port));
		st_be16(l4 + 4, (uint16_t)(8 + n));
		send_large6(IPPROTO_UDP, l4, 8 + n);
		for (int ms = 0; r < 0 && ms < 5000; ms++) {
			guest_run(&g, 1);
			len = sizeof(from);
			r = recvfrom(fd, got, sizeof(got), 0, (struct sockaddr *)&from, &len);
		}
		assert_int_equal(r, n);
		assert_memory_equal(got, l4 + 8, n);
		datagram6_len = 0;
		assert_int_equal(sendto(fd, got, n, 0, (struct sockaddr *)&from, len), n);
		guest_until(&g, got_datagram6, NULL);
		assert_int_equal(datagram6_len, 8 + n);
		assert_memory_equal(datagram6 + 8, l4 + 8, n);

		memset(l4, 0, 8);
		l4[0] = 128;
		datagram6_len = 0;
		send_large6(IPPROTO_ICMPV6, l4, 8 + n);
		guest_until(&g, got_datagram6, NULL);
		assert_int_equal(datagram6_len, 8 + n);
		assert_memory_equal(datagram6 + 8, l4 + 8, n);
	}
	fragments_free(parts6);
	close(fd);
	guest_end(&g);
}

int main(void)
{
	const struct CMUnitTest both[] = {
		cmocka_unit_test(test_segmentation6),
		cmocka_unit_test(test_large_datagrams6),
	};
	const struct CMUnitTest here[] = {
		cmocka_unit_test(test_short_ones6),
	};
	int failed;

	allow_many_files();
	failed = cmocka_run_group_tests_name("IPv6", both, NULL, NULL);
	failed += cmocka_run_group_tests_name("IPv6, not in a process", here, NULL, NULL);
	guest_make = net_user_new;
	return failed + cmocka_run_group_tests_name("IPv6 in a process", both, NULL, NULL);
}
