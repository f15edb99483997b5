/* The user-mode network when its guest opens more than it may hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "guest.h"

static struct guest g;
static struct err err;

static void start(void)
{
	assert_true(guest_start(&g, &err, NULL));
	guest_arp(&g);
}

/* What the process says on its standard error meanwhile, in a file without a name. */
static int heard_in = -1, said;

static void listen_to_it(void)
{
	FILE *f = tmpfile();

	said = dup(STDERR_FILENO);
	heard_in = dup(fileno(f));
	fclose(f);
	assert_true(dup2(heard_in, STDERR_FILENO) >= 0);
}

static unsigned times_heard(const char *what)
{
	static char text[65536];
	ssize_t n = pread(heard_in, text, sizeof(text) - 1, 0);
	unsigned count = 0;

	text[n < 0 ? 0 : n] = 0;
	for (const char *at = text; (at = strstr(at, what)); at++)
		count++;
	return count;
}

static void listen_no_more(void)
{
	dup2(said, STDERR_FILENO);
	close(said);
	close(heard_in);
}

static bool has_ended(void *opaque)
{
	return ((struct conn *)opaque)->fin;
}

/* One after the other, each ended by the host first, as HTTP/1.0 does: what has ended keeps no other one out. */
static void test_short_ones(void **state)
{
	uint16_t port = 0;
	int listener = host_socket(SOCK_STREAM, &port);
	unsigned before;

	listen_to_it();
	start();
	before = open_files();
	for (unsigned n = 0; n < 1500; n++) {
		struct conn *c = guest_connect(&g, HOST_IP, port);
		int fd = host_accept(&g, listener);

		guest_connected(&g, c);
		assert_int_equal(send(fd, "hi", 2, 0), 2);
		shutdown(fd, SHUT_WR);
		guest_until(&g, has_ended, c);
		assert_true(c->len == 2 && !c->reset);
		guest_send(&g, c, "bye", 3);
		guest_close(&g, c);
		host_read(&g, fd, (char[3]){ 0 }, 3);
		close(fd);
		c->used = false;
		assert_true(open_files() - before <= 300);
	}
	assert_int_equal(times_heard("the guest"), 0);
	listen_no_more();
	close(listener);
	guest_end(&g);
}

static struct sockaddr_in asked_by(int fd, uint16_t port, uint16_t to)
{
	struct sockaddr_in from = { 0 };
	socklen_t len = sizeof(from);
	ssize_t n = -1;
	char buf[64];

	guest_udp(&g, port, HOST_IP, to, "ping", 4);
	for (int ms = 0; n < 0 && ms < 5000; ms++) {
		guest_run(&g, 0);
		n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
	}
	assert_int_equal(n, 4);
	return from;
}

/*
 * Datagrams by ever new ports: the longest unused give way, while questions are answered, what is in use stays, and
 * connections are none of them. It is told once, and once that it is over.
 */
static void test_datagrams_give_way(void **state)
{
	uint16_t sink = 0, server = 0, port = 0;
	int drain = host_socket(SOCK_DGRAM, &sink), fd = host_socket(SOCK_DGRAM, &server), listener;
	struct sockaddr_in first, again;
	unsigned before;
	struct conn *c;

	listen_to_it();
	start();
	before = open_files();
	first = asked_by(fd, 5555, server);
	for (unsigned n = 0; n < 3000; n++) {
		guest_udp(&g, (uint16_t)(10000 + n), HOST_IP, sink, "x", 1);
		if (n % 16 == 0)
			guest_run(&g, 0);
		if (n % 100 == 50) {
			again = asked_by(fd, 5555, server);
			assert_int_equal(again.sin_port, first.sin_port);
		}
		if (n % 500 == 499) {
			g.udp_len = 0;
			again = asked_by(fd, (uint16_t)(6000 + n), server);
			assert_int_equal(sendto(fd, "pong", 4, 0, (struct sockaddr *)&again, sizeof(again)), 4);
			guest_hears(&g);
			assert_memory_equal(g.udp, "pong", 4);
			assert_int_equal(g.udp_port, 6000 + n);
		}
		assert_true(open_files() - before <= 256 + 10);
	}
	assert_true(open_files() - before > 128);
	listener = host_socket(SOCK_STREAM, &port);
	c = guest_connect(&g, HOST_IP, port);
	close(host_accept(&g, listener));
	guest_connected(&g, c);
	guest_dhcp(&g, 1);
	assert_int_equal(times_heard("the guest"), 1);
	assert_int_equal(times_heard("the guest sends datagrams by as many ports as it may"), 1);
	guest_run(&g, 5500);
	assert_int_equal(times_heard("the guest"), 2);
	assert_int_equal(times_heard("the guest's datagrams need no more ports than it may have again"), 1);
	listen_no_more();
	close(listener);
	close(drain);
	close(fd);
	guest_end(&g);
}

/* Connections that stay open are the guest's own: further ones are dropped, which is told once, until some have gone.
 */
static void test_connections_have_a_limit(void **state)
{
	uint16_t port = 0;
	int listener = host_socket(SOCK_STREAM, &port), fd[512];
	struct conn *c;

	listen_to_it();
	start();
	for (unsigned n = 0; n < 512; n++) {
		c = guest_connect(&g, HOST_IP, port);
		fd[n] = host_accept(&g, listener);
		guest_connected(&g, c);
	}
	for (unsigned n = 0; n < 100; n++) {
		c = guest_connect(&g, HOST_IP, port);
		guest_run(&g, 0);
		assert_false(c->established || c->reset);
		c->used = false;
	}
	assert_int_equal(times_heard("the guest has as many connections of TCP open as it may"), 1);
	g.udp_len = 0;
	guest_asks(&g); /* datagrams have their own share */
	for (unsigned n = 0; n < 512; n++)
		close(fd[n]);
	for (unsigned n = 0; n < GUEST_CONNS; n++)
		if (g.conn[n].used)
			guest_until(&g, has_ended, &g.conn[n]);
	for (unsigned n = 0; n < GUEST_CONNS; n++)
		if (g.conn[n].used)
			guest_close(&g, &g.conn[n]);
	guest_run(&g, 50);
	memset(g.conn, 0, sizeof(g.conn));
	c = guest_connect(&g, HOST_IP, port);
	close(host_accept(&g, listener));
	guest_connected(&g, c);
	guest_run(&g, 5500);
	assert_int_equal(times_heard("the guest"), 2);
	assert_int_equal(times_heard("the guest's connections of TCP are fewer than it may have again"), 1);
	listen_no_more();
	close(listener);
	guest_end(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short_ones),
		cmocka_unit_test(test_datagrams_give_way),
		cmocka_unit_test(test_connections_have_a_limit),
	};

	allow_many_files();
	return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
