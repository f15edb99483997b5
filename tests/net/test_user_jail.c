/* What the process of the user-mode network has given up, and that all it is for goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "guest.h"
#include "wire.h"

#define NET_RAW	     (1ull << 13)
#define DAC_OVERRIDE (1ull << 1)

static bool available;
#define NEEDS_SPACE()                                                                                                  \
	do {                                                                                                           \
		if (!available)                                                                                        \
			skip();                                                                                        \
	} while (0)

static struct guest g;
static struct err err;
static char dir[] = "/tmp/vireo-jail-XXXXXX";

/* A number of /proc/PID/status of the one child that there is. */
static unsigned long long of_child(const char *field)
{
	unsigned long long found = ~0ull;
	char line[200], path[64];
	FILE *f;
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	f = fopen(path, "r");
	assert_true(f && fscanf(f, "%d", &pid) == 1);
	fclose(f);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			found = strtoull(line + strlen(field), NULL, 16);
	fclose(f);
	return found;
}

static void expect_jail(unsigned long long capabilities)
{
	assert_int_equal(of_child("Seccomp:"), 2);
	assert_int_equal(of_child("NoNewPrivs:"), 1);
	assert_int_equal(of_child("CapEff:") & ~capabilities, 0);
	assert_int_equal(of_child("CapPrm:") & ~capabilities, 0);
}

static void test_given_up(void **state)
{
	NEEDS_SPACE();
	assert_true(guest_start(&g, &err, NULL));
	expect_jail(NET_RAW);
	guest_dhcp(&g, 1);
	guest_end(&g);
}

/* A command is anybody's program: it inherits nothing. */
static void test_commands(void **state)
{
	struct conn *c;

	NEEDS_SPACE();
	assert_true(guest_start(&g, &err, "guestfwd0=tcp:10.0.2.100:80-cmd:grep Seccomp: /proc/self/status", NULL));
	assert_int_equal(of_child("Seccomp:"), 0);
	guest_arp(&g);
	c = guest_connect(&g, 0x0a000264, 80);
	c->data = calloc(1, GUEST_DATA);
	guest_read(&g, c, 11);
	assert_memory_equal(c->data, "Seccomp:\t0\n", 11);
	guest_end(&g);
}

static void test_unix(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), fd;
	char setting[200], buf[8];
	struct conn *c;

	NEEDS_SPACE();
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", dir);
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)) || listen(listener, 1), 0);
	snprintf(setting, sizeof(setting), "guestfwd0=tcp:10.0.2.100:80-unix:%s", a.sun_path);
	assert_true(guest_start(&g, &err, setting, NULL));
	expect_jail(NET_RAW | DAC_OVERRIDE);
	guest_arp(&g);
	c = guest_connect(&g, 0x0a000264, 80);
	guest_connected(&g, c);
	guest_send(&g, c, "hello", 5);
	fd = host_accept(&g, listener);
	host_read(&g, fd, buf, 5);
	assert_memory_equal(buf, "hello", 5);
	close(fd);
	close(listener);
	unlink(a.sun_path);
	guest_end(&g);
}

static bool got_datagram(void *opaque)
{
	return g.udp_len > 0;
}

static void test_tftp(void **state)
{
	char setting[100], path[64];
	FILE *f;

	NEEDS_SPACE();
	snprintf(path, sizeof(path), "%s/file", dir);
	f = fopen(path, "w");
	fputs("contents", f);
	fclose(f);
	snprintf(setting, sizeof(setting), "tftp=%s", dir);
	assert_true(guest_start(&g, &err, setting, NULL));
	expect_jail(NET_RAW | DAC_OVERRIDE);
	guest_arp(&g);
	guest_udp(&g, 4000, HOST_IP, 69, "\0\1file\0octet", 13);
	guest_until(&g, got_datagram, NULL);
	assert_int_equal(g.udp_len, 12);
	assert_memory_equal(g.udp, "\0\3\0\1contents", 12);
	unlink(path);
	guest_end(&g);
}

static uint16_t total(const uint8_t *b, size_t len)
{
	uint32_t s = 0;

	for (size_t k = 0; k < len; k += 2)
		s += ld_be16(b + k);
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t) ~(s + (s >> 16));
}

static bool echoed;

static bool on_frame(void *opaque, const uint8_t *f, size_t len, const struct net_offload *o)
{
	echoed |= len >= 42 && f[23] == 1 && f[34] == 0 && ld_be16(f + 38) == 0x1234;
	return true;
}

static bool has_echo(void *opaque)
{
	return echoed;
}

/* The library has the host ask, by whatever socket it may. */
static void test_ping(void **state)
{
	uint8_t f[14 + 20 + 16] = { 0 }, *ip = f + 14, *icmp = ip + 20;

	NEEDS_SPACE();
	if (geteuid()) {
		print_message("skipped: pings need root, or net.ipv4.ping_group_range\n");
		skip();
	}
	assert_true(guest_start(&g, &err, NULL));
	guest_arp(&g);
	memcpy(f, g.router_mac, 6);
	memcpy(f + 6, g.mac, 6);
	memcpy(f + 12, "\x08\0\x45\0\0\x24\0\1\0\0\x40\1", 12);
	st_be32(ip + 12, GUEST_IP);
	st_be32(ip + 16, 0x7f000002);
	st_be16(ip + 10, total(ip, 20));
	memcpy(icmp, "\x08\0\0\0\x12\x34\0\1", 8);
	st_be16(icmp + 2, total(icmp, 16));
	g.peer->receiver.receive = on_frame;
	guest_raw(&g, f, sizeof(f));
	guest_until(&g, has_echo, NULL);
	guest_end(&g);
}

static int group_begin(void **state)
{
	available = !wire_emulated() && wire_own_network();
	guest_make = net_user_new;
	return mkdtemp(dir) ? 0 : -1;
}

static int group_end(void **state)
{
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_given_up), cmocka_unit_test(test_commands), cmocka_unit_test(test_unix),
		cmocka_unit_test(test_tftp),	 cmocka_unit_test(test_ping),
	};

	return cmocka_run_group_tests(tests, group_begin, group_end);
}
