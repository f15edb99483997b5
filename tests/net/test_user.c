/* The user-mode network between a hand-made guest and real sockets of the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "guest.h"

static struct guest g;
static struct err err;
static struct conn *accepted;

static void start(void)
{
	assert_true(guest_start(&g, &err, NULL));
	guest_arp(&g);
}

/* --- addresses --- */

static void test_dhcp(void **state)
{
	assert_true(guest_start(&g, &err, NULL));
	for (int k = 0; k < 2; k++) {
		guest_dhcp(&g, k ? 3 : 1);
		assert_int_equal(guest_dhcp_option(&g, 53), k ? 5 : 2);
		assert_int_equal(ld_be32(g.dhcp + 16), GUEST_IP);
		assert_int_equal(guest_dhcp_option(&g, 1), 0xffffff00);
		assert_int_equal(guest_dhcp_option(&g, 3), HOST_IP);
		assert_int_equal(guest_dhcp_option(&g, 6), SERVER_IP);
		assert_true(guest_dhcp_option(&g, 51) > 0);
	}
	guest_end(&g);
}

/* --- from the guest to the host --- */

static void test_connect_to_the_host(void **state)
{
	uint16_t port = 0;
	int listener = host_socket(SOCK_STREAM, &port), fd;
	static uint8_t big[40000], buf[40000];
	struct conn *c;

	start();
	c = guest_connect(&g, HOST_IP, port);
	c->data = malloc(GUEST_DATA);
	fd = host_accept(&g, listener);
	guest_connected(&g, c);
	guest_send(&g, c, "hello", 5);
	host_read(&g, fd, buf, 5);
	assert_memory_equal(buf, "hello", 5);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	assert_int_equal(send(fd, big, sizeof(big), 0), sizeof(big));
	guest_read(&g, c, sizeof(big));
	assert_memory_equal(c->data, big, sizeof(big));
	/* The end, from the guest's side. */
	guest_close(&g, c);
	guest_run(&g, 20);
	assert_int_equal(recv(fd, buf, 1, 0), 0);
	close(fd);
	close(listener);
	guest_end(&g);
}

/* A frame that is larger than any segment, to be cut and summed by the peer. */
static void test_segmentation(void **state)
{
	uint16_t port = 0;
	int listener = host_socket(SOCK_STREAM, &port), fd;
	static uint8_t big[60000], buf[60000];
	struct conn *c;

	start();
	c = guest_connect(&g, HOST_IP, port);
	fd = host_accept(&g, listener);
	guest_connected(&g, c);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 13 + i / 100);
	guest_send_tso(&g, c, big, sizeof(big), 1448);
	host_read(&g, fd, buf, sizeof(big));
	assert_memory_equal(buf, big, sizeof(big));
	close(fd);
	close(listener);
	guest_end(&g);
}

/* --- datagrams --- */

static size_t largest;
static unsigned pieces;

static bool note(void *opaque, const uint8_t *f, size_t len, const struct net_offload *o)
{
	pieces += ld_be16(f + 12) == 0x0800;
	largest = len > largest ? len : largest;
	return true;
}

static bool got_all(void *opaque)
{
	return pieces == *(const unsigned *)opaque;
}

/* What a card has told the guest of its packets is kept to. */
static void test_mtu(void **state)
{
	static const struct {
		const char *setting;
		unsigned pieces;
		size_t largest;
	} cases[] = { { NULL, 1, 1442 }, { "mtu=9000", 1, 1442 }, { "mtu=600", 3, 614 } };

	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		static const char reply[1400];
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		uint16_t port = 0;
		int fd = host_socket(SOCK_DGRAM, &port);
		ssize_t n = -1;
		char buf[64];

		assert_true(guest_start(&g, &err, cases[k].setting, NULL));
		guest_arp(&g);
		guest_udp(&g, 5555, HOST_IP, port, "ping", 4);
		for (int ms = 0; n < 0 && ms < 5000; ms++) {
			guest_run(&g, 1);
			n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
		}
		g.peer->receiver.receive = note;
		largest = pieces = 0;
		assert_int_equal(sendto(fd, reply, sizeof(reply), 0, (struct sockaddr *)&from, len), sizeof(reply));
		guest_until(&g, got_all, (void *)&cases[k].pieces);
		assert_true(largest <= cases[k].largest && largest + 20 > cases[k].largest);
		close(fd);
		guest_end(&g);
	}
}

static void test_datagrams(void **state)
{
	start();
	guest_asks(&g);
	guest_end(&g);
}

/* Larger than a frame: the guest sends it in fragments. */
static void test_large_datagram(void **state)
{
	uint16_t port = 0;
	int fd = host_socket(SOCK_DGRAM, &port);
	static uint8_t f[1514], big[8 + 6000], got[6000];
	ssize_t n = -1;

	start();
	for (size_t i = 8; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 3 + i / 256);
	st_be16(big, 5555);
	st_be16(big + 2, port);
	st_be16(big + 4, sizeof(big));
	for (size_t at = 0; at < sizeof(big); at += 1480) {
		size_t len = sizeof(big) - at < 1480 ? sizeof(big) - at : 1480;
		uint32_t s = 0;

		memcpy(f, g.router_mac, 6);
		memcpy(f + 6, g.mac, 6);
		memcpy(f + 12, "\x08\0\x45\0", 4);
		st_be16(f + 16, (uint16_t)(20 + len));
		st_be16(f + 18, 77);
		st_be16(f + 20, (uint16_t)(at / 8 | (at + len < sizeof(big) ? 0x2000 : 0)));
		memcpy(f + 22, "\x40\x11\0\0", 4);
		st_be32(f + 26, GUEST_IP);
		st_be32(f + 30, HOST_IP);
		for (unsigned k = 14; k < 34; k += 2)
			s += ld_be16(f + k);
		s = (s & 0xffff) + (s >> 16);
		st_be16(f + 24, (uint16_t) ~(s + (s >> 16)));
		memcpy(f + 34, big + at, len);
		guest_raw(&g, f, 34 + len);
	}
	for (int ms = 0; n < 0 && ms < 5000; ms++) {
		guest_run(&g, 1);
		n = recv(fd, got, sizeof(got), 0);
	}
	assert_int_equal(n, 6000);
	assert_memory_equal(got, big + 8, 6000);
	close(fd);
	guest_end(&g);
}

/* With restrict=on nothing leaves. */
static void test_restricted(void **state)
{
	uint16_t port = 0;
	int listener = host_socket(SOCK_STREAM, &port);
	struct conn *c;

	assert_true(guest_start(&g, &err, "restrict=on", NULL));
	guest_arp(&g);
	c = guest_connect(&g, HOST_IP, port);
	guest_run(&g, 300);
	assert_false(c->established);
	assert_int_equal(accept(listener, NULL, NULL), -1);
	guest_dhcp(&g, 1); /* but addresses are given out */
	close(listener);
	guest_end(&g);
}

/* --- from the host to the guest --- */

static void test_forwarded_port(void **state)
{
	uint16_t a = free_port(SOCK_STREAM), b, eighty = 80, ssh = 22;
	char forwards[128], buf[8];
	int fd;

	do
		b = free_port(SOCK_STREAM);
	while (b == a);
	snprintf(forwards, sizeof(forwards), "hostfwd=tcp::%u-:80+tcp:0.0.0.0:%u-10.0.2.15:22", a, b);
	assert_true(guest_start(&g, &err, forwards, NULL));
	guest_arp(&g);
	fd = host_connect("127.0.0.1", a);
	assert_true(fd >= 0);
	accepted = guest_comes(&g, eighty);
	assert_int_equal(send(fd, "GET", 3, 0), 3);
	guest_read(&g, accepted, 3);
	guest_send(&g, accepted, "200 OK", 6);
	host_read(&g, fd, buf, 6);
	assert_memory_equal(buf, "200 OK", 6);
	close(fd);
	/* Without an address the port is the host's own; with one it is as open as that. */
	assert_int_equal(host_connect("127.0.0.2", a), -1);
	fd = host_connect("127.0.0.2", b);
	assert_true(fd >= 0);
	accepted = guest_comes(&g, ssh);
	close(fd);
	guest_end(&g);
	assert_int_equal(host_connect("127.0.0.1", a), -1);
}

static void test_forwarded_datagrams(void **state)
{
	uint16_t port = free_port(SOCK_DGRAM);
	char forward[64];

	snprintf(forward, sizeof(forward), "hostfwd=udp:127.0.0.1:%u-:53", port);
	assert_true(guest_start(&g, &err, forward, NULL));
	guest_arp(&g);
	guest_is_asked(&g, port);
	guest_end(&g);
}

static void test_bad_forwards(void **state)
{
	static const char *const bad[] = {
		"tcp",
		"tcp:",
		"tcp:80",
		"tcp::80",
		"tcp::80-",
		"tcp::80-:",
		"tcp::-:80",
		"tcp::80-:0",
		"tcp::65536-:80",
		"tcp::80-:65536",
		"tcp::080080-:80",
		"tcp:: 80-:80",
		"tcp::-80-:80",
		"tcp::80x-:80",
		"tcp:localhost:80-:80",
		"tcp:1.2.3:80-:80",
		"tcp:1.2.3.4.5:80-:80",
		"tcp::80-guest:80",
		"sctp::80-:80",
		"80-80",
		"tcp::8080-:80+nonsense",
		"tcp:1111111111111111111111111111111111111111111111111111111111:80-:80",
		"tcp::80-:80-:80",
	};
	unsigned files = open_files();
	char setting[256];

	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		snprintf(setting, sizeof(setting), "hostfwd=%s", bad[k]);
		if (guest_start(&g, &err, setting, NULL))
			fail_msg("'%s' was taken", bad[k]);
		if (!strstr(err.msg, "net0.hostfwd") || !strstr(err.msg, "is not [tcp|udp]"))
			fail_msg("'%s': %s", bad[k], err.msg);
	}
	assert_int_equal(open_files(), files);
}

static void test_taken_port(void **state)
{
	uint16_t tcp = 0, udp = 0;
	int a = host_socket(SOCK_STREAM, &tcp), b = host_socket(SOCK_DGRAM, &udp);
	char setting[64], says[96];

	snprintf(setting, sizeof(setting), "hostfwd=tcp::%u-:80", tcp);
	assert_false(guest_start(&g, &err, setting, NULL));
	snprintf(says, sizeof(says), "net0.hostfwd: TCP port %u of 127.0.0.1: Address already in use", tcp);
	assert_string_equal(err.msg, says);
	snprintf(setting, sizeof(setting), "hostfwd=udp::%u-:80", udp);
	assert_false(guest_start(&g, &err, setting, NULL));
	assert_non_null(strstr(err.msg, "UDP port"));
	/* As QEMU has it: no protocol is TCP. */
	snprintf(setting, sizeof(setting), "hostfwd=::%u-:80", free_port(SOCK_STREAM));
	assert_true(guest_start(&g, &err, setting, NULL));
	guest_end(&g);
	close(a);
	close(b);
}

/* --- ports of the guest's network --- */

static void bad_guest_forwards(void)
{
	static const char *const bad[] = { "x",
					   "tcp:10.0.2.100:80",
					   "tcp:10.0.2.100:80-",
					   "tcp:10.0.2.100:80-cmd:",
					   "udp:10.0.2.100:80-cmd:cat",
					   "tcp::80-cmd:cat",
					   "tcp:10.0.2.100:0-cmd:cat",
					   "tcp:10.0.2.100:80-file:/x" };
	char setting[256];

	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		snprintf(setting, sizeof(setting), "guestfwd0=%s", bad[k]);
		assert_false(guest_start(&g, &err, setting, NULL));
		assert_non_null(strstr(err.msg, "net0.guestfwd0: '"));
	}
	assert_false(guest_start(&g, &err, "guestfwd0=tcp:10.0.3.1:80-cmd:cat", NULL));
	assert_non_null(strstr(
		err.msg,
		"net0.guestfwd0: 'tcp:10.0.3.1:80-cmd:cat': 10.0.3.1 is not for a guest of the network (10.0.2.0/24)"));
	assert_false(guest_start(&g, &err, "guestfwd0=tcp:10.0.2.100:80-tcp:127.0.0.1:1", NULL));
	assert_non_null(strstr(err.msg, "net0.guestfwd0"));
}

/* A program, a socket and a connection stand behind addresses that nobody else has. */
static void test_ports_for_the_guest(void **state)
{
	uint16_t port = 0;
	int listener = host_socket(SOCK_STREAM, &port), fd;
	char tcp[80], buf[8];
	struct conn *c, *d;

	bad_guest_forwards();
	snprintf(tcp, sizeof(tcp), "guestfwd1=tcp:10.0.2.101:7-tcp:127.0.0.1:%u", port);
	assert_true(guest_start(&g, &err, "guestfwd0=tcp:10.0.2.100:80-cmd:tr a-z A-Z", "restrict=on", tcp, NULL));
	guest_arp(&g);
	fd = host_accept(&g, listener);
	c = guest_connect(&g, 0x0a000264, 80);
	d = guest_connect(&g, 0x0a000265, 7);
	guest_connected(&g, c);
	guest_connected(&g, d);
	c->data = calloc(1, GUEST_DATA);
	d->data = calloc(1, GUEST_DATA);
	guest_send(&g, c, "hello\n", 6);
	guest_close(&g, c);
	guest_read(&g, c, 6);
	assert_memory_equal(c->data, "HELLO\n", 6);
	guest_send(&g, d, "there", 5);
	host_read(&g, fd, buf, 5);
	assert_memory_equal(buf, "there", 5);
	assert_int_equal(send(fd, "back", 4, 0), 4);
	guest_read(&g, d, 4);
	assert_memory_equal(d->data, "back", 4);
	/* The network goes on without it. */
	close(fd);
	guest_run(&g, 50);
	guest_send(&g, d, "gone", 4);
	guest_dhcp(&g, 1);
	close(listener);
	guest_end(&g);
}

/* --- names --- */

/* In a network of its own, whose name server we are. */
static int resolve(void)
{
	static const char conf[] = "/tmp/vireo-resolv.conf";
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	uint16_t port = 53;
	char buf[64];
	ssize_t n = -1;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	FILE *f;

	if (unshare(CLONE_NEWNET | CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/tmp", "tmpfs", 0, NULL))
		return 77;
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	f = fopen(conf, "w");
	fputs("nameserver 127.0.0.1\n", f);
	fclose(f);
	if (mount(conf, "/etc/resolv.conf", NULL, MS_BIND, NULL) || ioctl(fd, SIOCSIFFLAGS, &lo))
		return 77;
	close(fd);
	fd = host_socket(SOCK_DGRAM, &port);
	start();
	guest_udp(&g, 4000, SERVER_IP, 53, "who is it", 9);
	for (int ms = 0; n < 0 && ms < 5000; ms++) {
		guest_run(&g, 1);
		n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
	}
	if (n != 9 || memcmp(buf, "who is it", 9))
		return 1;
	sendto(fd, "it is me", 8, 0, (struct sockaddr *)&from, len);
	guest_hears(&g);
	if (g.udp_len != 8 || g.udp_ip != SERVER_IP || memcmp(g.udp, "it is me", 8))
		return 2;
	guest_end(&g);
	return 0;
}

static void test_names(void **state)
{
	pid_t child = fork();
	int status;

	if (!child)
		_exit(resolve());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- too much of everything --- */

static bool all_came(void *opaque)
{
	return guest_established(&g) >= *(unsigned *)opaque;
}

/* Whoever may reach a forwarded port takes nothing of what the guest may open itself. */
/* So many connections by the port have been ended by the other side. */
static bool all_end(void *opaque)
{
	unsigned count = 0;

	for (unsigned n = 0; n < GUEST_CONNS; n++)
		count += g.conn[n].used && g.conn[n].port == 80 && g.conn[n].fin;
	return count == *(unsigned *)opaque;
}

static void test_many_come_in(void **state)
{
	uint16_t forwarded = free_port(SOCK_STREAM), datagrams = free_port(SOCK_DGRAM), port = 0, own = 0;
	int listener = host_socket(SOCK_STREAM, &port), udp = host_socket(SOCK_DGRAM, &own), fd[600];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(datagrams) };
	unsigned count = 0;
	char setting[64];
	struct conn *c;

	snprintf(setting, sizeof(setting), "hostfwd=tcp::%u-:80+udp::%u-:53", forwarded, datagrams);
	assert_true(guest_start(&g, &err, setting, NULL));
	guest_arp(&g);
	for (unsigned n = 0; n < 512; n++) {
		fd[n] = host_begin(forwarded);
		count++;
		guest_until(&g, all_came, &count);
	}
	/* These wait. */
	for (unsigned n = 512; n < 600; n++)
		fd[n] = host_begin(forwarded);
	guest_run(&g, 50);
	assert_int_equal(guest_established(&g), 512);
	/* Datagrams come in all the same. */
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	g.udp_len = 0;
	assert_int_equal(sendto(udp, "query", 5, 0, (struct sockaddr *)&to, sizeof(to)), 5);
	guest_hears(&g);
	assert_memory_equal(g.udp, "query", 5);
	close(udp);
	/* The guest can do what it could without them, to the same bound. */
	for (unsigned n = 0; n < 400; n++) {
		c = guest_connect(&g, HOST_IP, port);
		close(host_accept(&g, listener));
		guest_connected(&g, c);
	}
	/* Others have gone: who waited comes in. */
	for (unsigned n = 0; n < 400; n++)
		close(fd[n]);
	count = 400;
	guest_until(&g, all_end, &count);
	for (unsigned n = 0; n < GUEST_CONNS; n++)
		if (g.conn[n].port == 80 && g.conn[n].fin)
			guest_close(&g, &g.conn[n]);
	guest_run(&g, 50);
	for (unsigned n = 0; n < GUEST_CONNS; n++)
		if (g.conn[n].port == 80 && g.conn[n].fin)
			g.conn[n].used = false;
	count = 200 + 400;
	guest_until(&g, all_came, &count);
	for (unsigned n = 400; n < 600; n++)
		close(fd[n]);
	close(listener);
	guest_end(&g);
}

static bool quiet(void *opaque)
{
	unsigned *last = opaque, now = guest_established(&g);
	bool same = now == *last;

	*last = now;
	guest_run(&g, 20);
	return same;
}

/* As many connections as the guest likes to ask for: the host's share has a limit, and comes back. */
static void test_many_connections(void **state)
{
	static struct conn *c[900];
	uint16_t port = 0, forwarded = free_port(SOCK_STREAM), eighty = 80;
	char setting[64];
	int listener = host_socket(SOCK_STREAM, &port), fd[1000];
	unsigned before, count, accepted_count = 0, last = 0;

	snprintf(setting, sizeof(setting), "hostfwd=tcp::%u-:80", forwarded);
	assert_true(guest_start(&g, &err, setting, NULL));
	guest_arp(&g);
	before = open_files();
	for (unsigned n = 0; n < 900; n++) {
		c[n] = guest_connect(&g, HOST_IP, port);
		if (n % 32 == 0)
			guest_run(&g, 1);
		while (accepted_count < 1000 && (fd[accepted_count] = accept(listener, NULL, NULL)) >= 0)
			accepted_count++;
	}
	guest_until(&g, quiet, &last);
	while (accepted_count < 1000 && (fd[accepted_count] = accept(listener, NULL, NULL)) >= 0)
		accepted_count++;
	count = guest_established(&g);
	assert_true(count >= 400 && count <= 512 + 40);
	assert_true(open_files() - before <= count + accepted_count + 40);
	/* Who comes in by a port is none of them. */
	close(host_begin(forwarded));
	accepted = guest_comes(&g, eighty);
	accepted->used = false;
	/* All of them work. */
	for (unsigned n = 0; n < accepted_count; n++)
		assert_int_equal(send(fd[n], "x", 1, 0), 1);
	for (unsigned n = 0; n < 900; n++)
		if (c[n]->established && !c[n]->reset)
			guest_read(&g, c[n], 1);
	/* Half of them end, and there is room again. */
	for (unsigned n = 0; n < accepted_count; n++)
		close(fd[n]);
	for (unsigned n = 0; n < 900; n++)
		if (c[n]->established)
			guest_close(&g, c[n]);
	guest_run(&g, 300);
	for (unsigned n = 0; n < 900; n++)
		c[n]->used = false;
	struct conn *again = guest_connect(&g, HOST_IP, port);
	guest_connected(&g, again);
	close(listener);
	guest_end(&g);
	assert_true(open_files() <= before);
}

/* Datagrams to ever new ports: each is a socket of the host. */
static void test_many_flows(void **state)
{
	uint16_t port = 0;
	int fd = host_socket(SOCK_DGRAM, &port);
	unsigned before;

	start();
	before = open_files();
	for (unsigned n = 0; n < 3000; n++) {
		guest_udp(&g, (uint16_t)(1024 + n), HOST_IP, port, "x", 1);
		if (n % 32 == 0)
			guest_run(&g, 1);
	}
	assert_true(open_files() - before <= 256 + 40);
	guest_dhcp(&g, 1); /* addresses are given out all the same */
	close(fd);
	guest_end(&g);
}

static bool none_left(void *opaque)
{
	return g.frames >= 256;
}

/* A guest that takes nothing: what waits for it is bounded, and comes when it listens. */
static void test_back_pressure(void **state)
{
	uint16_t port = 0;
	int fd = host_socket(SOCK_DGRAM, &port);
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	uint8_t payload[1000] = { 0 };
	ssize_t n = -1;

	start();
	guest_udp(&g, 5555, HOST_IP, port, "ping", 4);
	for (int ms = 0; n < 0 && ms < 5000; ms++) {
		guest_run(&g, 1);
		n = recvfrom(fd, payload, sizeof(payload), 0, (struct sockaddr *)&from, &len);
	}
	g.deaf = true;
	for (unsigned k = 0; k < 600; k++) {
		st_be32(payload, k);
		sendto(fd, payload, sizeof(payload), 0, (struct sockaddr *)&from, len);
		guest_run(&g, 0);
	}
	g.frames = 0;
	g.udp_len = 0;
	g.deaf = false;
	g.peer->ops->ready(g.peer);
	assert_int_equal(ld_be32(g.udp), 255); /* the first 256, in order; the others were lost */
	assert_int_equal(g.frames, 256);
	guest_until(&g, none_left, NULL);
	sendto(fd, "later", 5, 0, (struct sockaddr *)&from, len);
	g.udp_len = 0;
	guest_hears(&g);
	assert_memory_equal(g.udp, "later", 5);
	close(fd);
	guest_end(&g);
}

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__
#endif
#endif

/* In KiB; 0 under a sanitizer, which keeps what is freed. */
static long resident(void)
{
#ifdef __SANITIZE_ADDRESS__
	return 0;
#endif
	long pages = 0, size;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f && fscanf(f, "%ld %ld", &size, &pages) != 2)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Frames of any content, and headers that are nearly right. */
static void test_nonsense(void **state)
{
	static uint8_t f[1600];
	unsigned seed = 3, before;
	long memory = 0;

	start();
	before = open_files();
	for (unsigned n = 0; n < 60000; n++) {
		size_t len = 1 + (unsigned)rand_r(&seed) % (n % 4 ? 120 : sizeof(f));

		for (size_t k = 0; k < len; k++)
			f[k] = (uint8_t)rand_r(&seed);
		if (len > 54 && n % 8) {
			memcpy(f, g.router_mac, 6);
			st_be16(f + 12, n % 3 ? 0x0800 : n % 2 ? 0x86dd : 0x0806);
			f[14] = n % 3 ? 0x45 : 0x60;
			if (n % 5)
				st_be16(f + 16, (uint16_t)(len - 14));
			f[23] = (uint8_t[]){ 6, 17, 1, 58 }[n % 4];
			st_be32(f + 26, GUEST_IP);
			st_be32(f + 30, HOST_IP); /* nothing may leave this machine */
			if (n % 3) {
				uint32_t s = 0;

				st_be16(f + 24, 0);
				for (unsigned k = 14; k < 34; k += 2)
					s += ld_be16(f + k);
				s = (s & 0xffff) + (s >> 16);
				st_be16(f + 24, (uint16_t) ~(s + (s >> 16)));
			}
		}
		g.deaf = n % 64 != 0;
		guest_raw(&g, f, len);
		if (n % 64 == 0) {
			g.peer->receiver.receive = NULL; /* the answers are of no interest */
			guest_run(&g, 0);
		}
		if (n == 20000)
			memory = resident();
	}
	assert_true(resident() - memory < 4096);
	assert_true(open_files() - before <= 700);
	guest_end(&g);
}

int main(void)
{
	const struct CMUnitTest both[] = {
		cmocka_unit_test(test_dhcp),
		cmocka_unit_test(test_connect_to_the_host),
		cmocka_unit_test(test_segmentation),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_mtu),
		cmocka_unit_test(test_large_datagram),
		cmocka_unit_test(test_restricted),
		cmocka_unit_test(test_forwarded_port),
		cmocka_unit_test(test_forwarded_datagrams),
		cmocka_unit_test(test_bad_forwards),
		cmocka_unit_test(test_taken_port),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_ports_for_the_guest),
		cmocka_unit_test(test_nonsense),
	};
	const struct CMUnitTest here[] = {
		cmocka_unit_test(test_many_come_in),
		cmocka_unit_test(test_many_connections),
		cmocka_unit_test(test_many_flows),
		cmocka_unit_test(test_back_pressure),
	};
	int failed;

	allow_many_files();
	failed = cmocka_run_group_tests_name("slirp", both, NULL, NULL);
	failed += cmocka_run_group_tests_name("slirp, not in a process", here, NULL, NULL);
	guest_make = net_user_new;
	return failed + cmocka_run_group_tests_name("slirp in a process", both, NULL, NULL);
}
