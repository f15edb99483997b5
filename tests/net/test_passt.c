/*
 * The program passt itself behind a hand-made guest. Its host is a network name space whose way out has the guest's
 * addresses: passt gives them to the guest, and the gateway stands for the host's loopback.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "guest.h"
#include "wire.h"

static struct guest g;
static struct err err;
static bool available;
#define NEEDS_PASST()                                                                                                  \
	do {                                                                                                           \
		if (!available)                                                                                        \
			skip();                                                                                        \
	} while (0)

/* It needs a moment before it reads: what is asked before that waits in its socket. */
static void start(const char *setting)
{
	if (!guest_start(&g, &err, setting, NULL))
		fail_msg("%s: %s", setting ? setting : "", err.msg);
	guest_arp(&g);
}

/* The process of that name whose parent this one is; 0: there is none. */
static pid_t passt(void)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t found = 0;

	while ((e = readdir(d))) {
		char path[64], name[32] = "", kind;
		int parent = 0;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%.20s/stat", e->d_name);
		f = e->d_name[0] >= '0' && e->d_name[0] <= '9' ? fopen(path, "r") : NULL;
		if (!f)
			continue;
		if (fscanf(f, "%*d (%31[^)]) %c %d", name, &kind, &parent) == 3 && parent == getpid() &&
		    !strncmp(name, "passt", 5) && kind != 'Z')
			found = atoi(e->d_name);
		fclose(f);
	}
	closedir(d);
	return found;
}

static void test_addresses(void **state)
{
	NEEDS_PASST();
	start(NULL);
	for (int k = 0; k < 2; k++) {
		guest_dhcp(&g, k ? 3 : 1);
		assert_int_equal(guest_dhcp_option(&g, 53), k ? 5 : 2);
		assert_int_equal(ld_be32(g.dhcp + 16), GUEST_IP);
		assert_int_equal(guest_dhcp_option(&g, 1), 0xffffff00);
		assert_int_equal(guest_dhcp_option(&g, 3), HOST_IP);
	}
	guest_end(&g);
}

static void test_to_the_host(void **state)
{
	static uint8_t big[60000], buf[60000];
	uint16_t port = 0;
	struct conn *c;
	int listener, fd;

	NEEDS_PASST();
	listener = host_socket(SOCK_STREAM, &port);
	start(NULL);
	c = guest_connect(&g, HOST_IP, port);
	c->data = malloc(GUEST_DATA);
	fd = host_accept(&g, listener);
	guest_connected(&g, c);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	guest_send(&g, c, big, 20000);
	host_read(&g, fd, buf, 20000);
	assert_memory_equal(buf, big, 20000);
	/* What the driver leaves to its card is done on the way. */
	guest_send_tso(&g, c, big, sizeof(big), 1448);
	host_read(&g, fd, buf, sizeof(big));
	assert_memory_equal(buf, big, sizeof(big));
	assert_int_equal(send(fd, big, sizeof(big), 0), sizeof(big));
	guest_read(&g, c, sizeof(big));
	assert_memory_equal(c->data, big, sizeof(big));
	guest_close(&g, c);
	guest_run(&g, 50);
	assert_int_equal(recv(fd, buf, 1, 0), 0);
	close(fd);
	close(listener);
	guest_end(&g);
}

static void test_datagrams(void **state)
{
	NEEDS_PASST();
	start(NULL);
	guest_asks(&g);
	guest_end(&g);
}

static struct conn *accepted;

static bool has_accepted(void *opaque)
{
	accepted = guest_accepted(&g, 22);
	return accepted != NULL;
}

static void test_from_the_host(void **state)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(2222) };
	char buf[8];
	int fd;

	NEEDS_PASST();
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	start("tcp-ports=2222:22");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	/* It acknowledges the guest's side with the first bytes and not before. */
	assert_int_equal(send(fd, "GET", 3, 0), 3);
	guest_until(&g, has_accepted, NULL);
	guest_read(&g, accepted, 3);
	guest_send(&g, accepted, "200 OK", 6);
	host_read(&g, fd, buf, 6);
	assert_memory_equal(buf, "200 OK", 6);
	close(fd);
	guest_end(&g);
}

static void test_forwarded_datagrams(void **state)
{
	NEEDS_PASST();
	start("udp-ports=5353:53");
	guest_is_asked(&g, 5353);
	guest_end(&g);
}

/* Whether somebody listens there. */
static bool listens(const char *address, uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool there;

	inet_pton(AF_INET, address, &to.sin_addr);
	there = !connect(fd, (struct sockaddr *)&to, sizeof(to));
	close(fd);
	return there;
}

/* Ports are of this host only, unless an address is said, which is that of the whole list. */
static void test_where_ports_are(void **state)
{
	static const struct {
		const char *setting;
		uint16_t port;
		bool here, outside;
	} cases[] = {
		{ "tcp-ports=2222:22", 2222, true, false },
		{ "tcp-ports=2222:22,3333", 3333, true, false },
		{ "tcp-ports=4000-4010,~4005", 4004, true, false },
		{ "tcp-ports=4000-4010,~4005", 4005, false, false },
		{ "tcp-ports=0.0.0.0/2222:22,3333", 3333, true, true },
		{ "tcp-ports=10.0.2.15/2222:22", 2222, false, true },
		{ "tcp-ports=2222:22+0.0.0.0/3333", 2222, true, false },
		{ "tcp-ports=2222:22+0.0.0.0/3333", 3333, true, true },
		{ "tcp-ports=none", 2222, false, false },
	};

	NEEDS_PASST();
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		start(cases[k].setting);
		if (listens("127.0.0.1", cases[k].port) != cases[k].here ||
		    listens("10.0.2.15", cases[k].port) != cases[k].outside)
			fail_msg("%s", cases[k].setting);
		guest_end(&g);
	}
}

/* What passt cannot do is an error at the start, in its words; also where it is one port of several. */
static void test_ports_that_are_taken(void **state)
{
	static const struct {
		const char *setting, *says;
	} cases[] = {
		{ "tcp-ports=2222:22", "Failed to bind" },	    { "tcp-ports=3333,2222:22", "Failed to bind" },
		{ "tcp-ports=3333:33,0.0.0.0/2222:22", "Invalid" }, { "tcp-ports=ssh,2222", "Invalid port specifier" },
		{ "udp-ports=1-,2222", "Invalid port specifier" },
	};
	uint16_t port = 2222;
	int taken;

	NEEDS_PASST();
	taken = host_socket(SOCK_STREAM, &port);
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		if (guest_start(&g, &err, cases[k].setting, NULL))
			fail_msg("%s is taken", cases[k].setting);
		if (strncmp(err.msg, "net0.backend: passt has ended with status 1: ", 45) ||
		    !strstr(err.msg, cases[k].says))
			fail_msg("%s: %s", cases[k].setting, err.msg);
	}
	close(taken);
}

static bool runs_again(void *opaque)
{
	pid_t now = passt();

	return now && now != *(pid_t *)opaque;
}

/* It is killed, and there is a new one for the same guest; with its peer it ends. */
static void test_ends(void **state)
{
	pid_t first;

	NEEDS_PASST();
	start(NULL);
	first = passt();
	assert_true(first > 0);
	assert_int_equal(kill(first, SIGKILL), 0);
	guest_until(&g, runs_again, &first);
	g.router_known = false;
	guest_arp(&g);
	guest_end(&g);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static bool possible(void)
{
	if (wire_emulated() || !wire_own_network())
		return false;
	if (system("command -v passt >/dev/null")) {
		print_message("skipped: passt is not installed\n");
		return false;
	}
	if (system("ip link add out type veth peer name far && ip addr add 10.0.2.15/24 dev out && "
		   "ip link set out up && ip link set far up && ip route add default via 10.0.2.2")) {
		print_message("skipped: no veth here\n");
		return false;
	}
	return true;
}

static int group_begin(void **state)
{
	available = possible();
	guest_make = net_passt_new;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_to_the_host),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_from_the_host),
		cmocka_unit_test(test_forwarded_datagrams),
		cmocka_unit_test(test_where_ports_are),
		cmocka_unit_test(test_ports_that_are_taken),
		cmocka_unit_test(test_ends),
	};

	return cmocka_run_group_tests(tests, group_begin, NULL);
}
