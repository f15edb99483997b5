/* The user-mode network when many come in by forwarded ports, and what its programs may have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <poll.h>
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

/* How many have come in to a port of the guest. */
static unsigned came(uint16_t port)
{
	unsigned count = 0;

	for (unsigned n = 0; n < GUEST_CONNS; n++)
		count += g.conn[n].used && g.conn[n].established && g.conn[n].port == port;
	return count;
}

struct expected {
	uint16_t port;
	unsigned count;
};

static bool have_come(void *opaque)
{
	const struct expected *e = opaque;

	return came(e->port) >= e->count;
}

static bool has_ended(void *opaque)
{
	return ((struct conn *)opaque)->fin;
}

/* Whoever fills one forwarded port leaves the others theirs. */
static void test_shares(void **state)
{
	uint16_t one = free_port(SOCK_STREAM), other = free_port(SOCK_STREAM);
	static int fd[600];
	unsigned count = 0;
	char setting[80];

	snprintf(setting, sizeof(setting), "hostfwd=tcp::%u-:22+tcp::%u-:23", one, other);
	assert_true(guest_start(&g, &err, setting, NULL));
	guest_arp(&g);
	/* What it has for itself, 128, and all that is for whoever comes. */
	for (unsigned n = 0; n < 384; n++) {
		fd[count++] = host_begin(one);
		guest_until(&g, have_come, &(struct expected){ 22, n + 1 });
	}
	for (unsigned n = 0; n < 50; n++)
		fd[count++] = host_begin(one);
	guest_run(&g, 50);
	assert_int_equal(came(22), 384);
	for (unsigned n = 0; n < 128; n++) {
		fd[count++] = host_begin(other);
		guest_until(&g, have_come, &(struct expected){ 23, n + 1 });
	}
	fd[count++] = host_begin(other);
	guest_run(&g, 50);
	assert_int_equal(came(22), 384);
	assert_int_equal(came(23), 128);
	while (count)
		close(fd[--count]);
	guest_end(&g);
}

/* All who come while the network does something else are connected at once: nobody has to begin again. */
static void test_many_at_once(void **state)
{
	uint16_t forwarded = free_port(SOCK_STREAM);
	struct pollfd begun[100]; /* kernels before 5.4 let 128 wait */
	char setting[80];

	snprintf(setting, sizeof(setting), "hostfwd=tcp::%u-:22", forwarded);
	assert_true(guest_start(&g, &err, setting, NULL));
	guest_arp(&g);
	for (unsigned n = 0; n < ARRAY_LEN(begun); n++)
		begun[n] = (struct pollfd){ .fd = host_begin(forwarded), .events = POLLOUT };
	assert_int_equal(poll(begun, ARRAY_LEN(begun), 0), ARRAY_LEN(begun));
	guest_until(&g, have_come, &(struct expected){ 22, ARRAY_LEN(begun) });
	for (unsigned n = 0; n < ARRAY_LEN(begun); n++)
		close(begun[n].fd);
	guest_end(&g);
}

/* What has ended on both sides keeps nobody out, and what has come in goes out first. */
static void test_short_ones(void **state)
{
	uint16_t forwarded = free_port(SOCK_STREAM);
	char setting[80], buf[8];
	unsigned before;

	snprintf(setting, sizeof(setting), "hostfwd=tcp::%u-:22", forwarded);
	assert_true(guest_start(&g, &err, setting, NULL));
	guest_arp(&g);
	before = open_files();
	for (unsigned n = 0; n < 1500; n++) {
		int fd = host_begin(forwarded);
		struct conn *c;

		guest_until(&g, have_come, &(struct expected){ 22, 1 });
		c = guest_accepted(&g, 22);
		shutdown(fd, SHUT_WR);
		guest_until(&g, has_ended, c);
		guest_send(&g, c, "bye", 3);
		guest_close(&g, c);
		host_read(&g, fd, buf, 3);
		assert_memory_equal(buf, "bye", 3);
		assert_int_equal(recv(fd, buf, 1, 0), 0);
		assert_false(c->reset);
		c->used = false;
		close(fd);
		assert_true(open_files() - before <= 400);
	}
	guest_end(&g);
}

/* A program behind a port of the guest's network has as many descriptors as whoever has started the machine. */
static void test_limits_of_programs(void **state)
{
	struct rlimit before, ours = { 3000, 4096 };
	struct conn *c;

	getrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &ours), 0);
	guest_make = net_user_new;
	assert_true(guest_start(&g, &err, "guestfwd0=tcp:10.0.2.100:80-cmd:sh -c 'ulimit -Sn; ulimit -Hn'", NULL));
	guest_arp(&g);
	c = guest_connect(&g, 0x0a000264, 80);
	guest_connected(&g, c);
	c->data = calloc(1, GUEST_DATA);
	guest_read(&g, c, 10);
	assert_string_equal((char *)c->data, "3000\n4096\n");
	guest_end(&g);
	guest_make = NULL;
	setrlimit(RLIMIT_NOFILE, &before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_short_ones),
		cmocka_unit_test(test_limits_of_programs),
	};

	allow_many_files();
	return cmocka_run_group_tests_name("incoming", tests, NULL, NULL);
}
