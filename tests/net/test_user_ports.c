/* Forwarded ports that the kernel chooses, and that come and go while the guest runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "guest.h"
#include "net/user.h"

static struct guest g;
static struct err err;

/* The number behind `what` in a line of what people see. */
static uint16_t printed_port(const char *what)
{
	char text[8192] = "", *at;
	FILE *f = fmemopen(text, sizeof(text), "w");

	g.peer->ops->print(g.peer, f);
	fclose(f);
	at = strstr(text, what);
	if (!at)
		fail_msg("no '%s' in\n%s", what, text);
	return (uint16_t)atoi(at + strlen(what));
}

/* A port that the kernel chooses, which can be asked for, and stays that of the next process. */
static void test_chosen_port(void **state)
{
	uint16_t tcp, udp, at;
	unsigned files = open_files();
	char buf[8], setting[64];
	struct conn *accepted;
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd;

	assert_true(guest_start(&g, &err, "hostfwd=tcp::0-:80+udp:0.0.0.0:0-:53+tcp:127.0.0.1:0-:81", NULL));
	guest_arp(&g);
	tcp = printed_port("  TCP[HOST_FORWARD]  -1       127.0.0.1 ");
	udp = printed_port("  UDP[HOST_FORWARD]  -1               * ");
	assert_true(tcp && udp && printed_port("10.0.2.15    81 ") == 0);
	/* Nobody else gets it. */
	at = tcp;
	fd = socket(AF_INET, SOCK_STREAM, 0);
	a.sin_port = htons(tcp);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), -1);
	close(fd);
	fd = host_connect("127.0.0.1", tcp);
	assert_true(fd >= 0);
	accepted = guest_comes(&g, 80);
	guest_send(&g, accepted, "200 OK", 6);
	host_read(&g, fd, buf, 6);
	assert_memory_equal(buf, "200 OK", 6);
	close(fd);
	fd = host_socket(SOCK_DGRAM, &at);
	a.sin_port = htons(udp);
	assert_int_equal(sendto(fd, "ping", 4, 0, (struct sockaddr *)&a, sizeof(a)), 4);
	guest_hears(&g);
	assert_true(g.udp_len == 4 && g.udp_port == 53);
	close(fd);
	guest_end(&g);
	assert_int_equal(open_files(), files);
	/* One that is said and taken is an error as ever, and leaves nothing. */
	fd = host_socket(SOCK_STREAM, &(uint16_t){ 0 });
	close(fd);
	snprintf(setting, sizeof(setting), "hostfwd=tcp:198.51.100.1:0-:80");
	assert_false(guest_start(&g, &err, setting, NULL));
	assert_non_null(strstr(err.msg, "net0.hostfwd: a port of 198.51.100.1: Cannot assign"));
	assert_int_equal(open_files(), files);
}

/* The process of the network, by the kernel's list of ours. */
static pid_t child(void)
{
	char path[64];
	int pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	f = fopen(path, "r");
	assert_true(f && fscanf(f, "%d", &pid) == 1);
	fclose(f);
	return pid;
}

/* "PROTOCOL:ADDRESS:PORTREST" */
static const char *rule(const char *before, uint16_t port, const char *rest)
{
	static char text[2][96];
	static unsigned n;

	n ^= 1;
	snprintf(text[n], sizeof(text[n]), "%s%u%s", before, port, rest);
	return text[n];
}

static int add(const char *text)
{
	return net_user_add_forward(g.peer, g.config, "net0", text, &err);
}

static int drop(const char *text)
{
	return net_user_remove_forward(g.peer, g.config, "net0", text, &err);
}

static void key_says(const char *want)
{
	assert_string_equal(config_peek(g.config, "net0.hostfwd"), want);
}

static bool is_being_started(void *text)
{
	return drop(text) == -1 && !strcmp(err.msg, "net0: its process is just being started");
}

/* A process that listens already may still have to say that it has begun. */
static bool is_dropped(void *text)
{
	return drop(text) == 0;
}

/* Ports that come and go while the guest runs, of the process that is there and the one after it. */
static void test_changing_ports(void **state)
{
	const unsigned files = open_files();
	uint16_t a = free_port(SOCK_STREAM), d = free_port(SOCK_DGRAM), chosen;
	char buf[8], all[128];
	struct conn *c;
	int fd;

	assert_true(guest_start(&g, &err, "hostfwd=tcp::0-:80", NULL));
	guest_arp(&g);
	chosen = printed_port("  TCP[HOST_FORWARD]  -1       127.0.0.1 ");
	assert_int_equal(add(rule("tcp::", a, "-:22")), 0);
	assert_int_equal(printed_port("10.0.2.15    22 "), 0);
	snprintf(all, sizeof(all), "tcp:127.0.0.1:0-:80+%s", rule("tcp:127.0.0.1:", a, "-:22"));
	key_says(all);
	fd = host_connect("127.0.0.1", a);
	assert_true(fd >= 0);
	c = guest_comes(&g, 22);
	/* One that goes takes nobody's connection away. */
	assert_int_equal(drop(rule("tcp::", a, "")), 0);
	assert_int_equal(host_connect("127.0.0.1", a), -1);
	assert_int_equal(send(fd, "GET", 3, 0), 3);
	guest_read(&g, c, 3);
	guest_send(&g, c, "200 OK", 6);
	host_read(&g, fd, buf, 6);
	close(fd);
	assert_int_equal(drop(rule("tcp::", a, "")), 1);
	/* The next has its place. */
	assert_int_equal(add(rule("udp:0.0.0.0:", d, "-10.0.2.16:53")), 0);
	snprintf(all, sizeof(all), "tcp:127.0.0.1:0-:80+%s", rule("udp:0.0.0.0:", d, "-10.0.2.16:53"));
	key_says(all);
	assert_int_equal(add(rule("tcp::", a, "-:22")), 0);
	kill(child(), SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)child(), &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
	guest_until(&g, is_being_started, (void *)rule("tcp::", a, ""));
	for (int n = 0; n < 200 && (fd = host_connect("127.0.0.1", a)) < 0; n++)
		guest_run(&g, 50);
	assert_true(fd >= 0);
	guest_arp(&g);
	guest_comes(&g, 22);
	close(fd);
	guest_until(&g, is_dropped, (void *)rule("tcp::", a, ""));
	assert_int_equal(drop(rule("udp:0.0.0.0:", d, "")), 0);
	assert_int_equal(drop(rule("tcp::", chosen, "")), 0);
	key_says("");
	assert_int_equal(host_connect("127.0.0.1", chosen), -1);
	guest_end(&g);
	assert_int_equal(open_files(), files);
}

/* What cannot be is said, and changes nothing. */
static void test_refused_changes(void **state)
{
	uint16_t taken = 0;
	int other = host_socket(SOCK_STREAM, &taken);

	assert_true(guest_start(&g, &err, "hostfwd=tcp::0-:80", NULL));
	assert_int_equal(add(rule("tcp::", taken, "-:22")), -1);
	assert_string_equal(err.msg, rule("net0.hostfwd: TCP port ", taken, " of 127.0.0.1: Address already in use"));
	assert_int_equal(add("nonsense"), -1);
	assert_string_equal(err.msg, "net0.hostfwd: 'nonsense' is not [tcp|udp]:[ADDRESS]:PORT-[ADDRESS]:PORT");
	assert_int_equal(add("tcp::1-10.0.3.1:1"), -1);
	assert_non_null(strstr(err.msg, "10.0.3.1 is not for a guest of the network"));
	assert_int_equal(add("tcp:198.51.100.1:0-:80"), -1);
	assert_non_null(strstr(err.msg, "net0.hostfwd: a port of 198.51.100.1: Cannot assign"));
	assert_int_equal(drop("nonsense"), -1);
	assert_string_equal(err.msg, "net0.hostfwd: 'nonsense' is not [tcp|udp]:[ADDRESS]:PORT");
	assert_int_equal(drop("tcp::1"), 1);
	key_says("tcp::0-:80");
	for (unsigned n = 1; n < NET_FORWARDS; n++)
		assert_int_equal(add("tcp::0-:80"), 0);
	assert_int_equal(add("tcp::0-:80"), -1);
	assert_string_equal(err.msg, "net0.hostfwd: more than 64 ports");
	guest_end(&g);
	close(other);
}

/* In a name space of its own, where nobody has opened ports to all. */
static int ask_for_ports(void)
{
	static const char why[] =
		"net0.hostfwd: TCP port 80 of 0.0.0.0: Permission denied: ports below 1024 are opened at the start "
		"only, "
		"with CAP_NET_BIND_SERVICE, or at any time after `sysctl net.ipv4.ip_unprivileged_port_start=80`";
	FILE *f;

	if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return 77;
	if (!guest_start(&g, &err, "hostfwd=tcp:0.0.0.0:81-:80", NULL))
		return 1;
	if (add("tcp:0.0.0.0:80-:80") != -1 || strcmp(err.msg, why))
		return 2;
	if (add("udp:0.0.0.0:1024-:80"))
		return 3;
	/* Where a container may not write it the number is as it comes. */
	f = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w");
	if (f && fputs("90\n", f) >= 0 && !fclose(f) &&
	    (add("udp:0.0.0.0:90-:80") || add("udp:0.0.0.0:89-:80") != -1 || !strstr(err.msg, "ports below 90 are") ||
	     !strstr(err.msg, "ip_unprivileged_port_start=89`")))
		return 4;
	guest_end(&g);
	return 0;
}

/* A port that takes a right, which the process has given up when it runs: what helps is said. */
static void test_ports_below_1024(void **state)
{
	const pid_t pid = fork();
	int status;

	if (!pid)
		_exit(ask_for_ports());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

/* A process that hears nothing holds up the machine for a while only. */
static void test_a_process_that_is_stopped(void **state)
{
	pid_t pid;

	assert_true(guest_start(&g, &err, NULL));
	pid = child();
	kill(pid, SIGSTOP);
	assert_int_equal(add("tcp::0-:80"), -1);
	assert_string_equal(err.msg, "net0: its process does not answer");
	assert_null(config_peek(g.config, "net0.hostfwd"));
	kill(pid, SIGCONT);
	guest_run(&g, 100);
	/* What it has done since gives way to the next change. */
	assert_int_equal(add("tcp::0-:81"), 0);
	assert_int_equal(printed_port("10.0.2.15    81 "), 0);
	guest_end(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chosen_port),
		cmocka_unit_test(test_changing_ports),
		cmocka_unit_test(test_refused_changes),
		cmocka_unit_test(test_ports_below_1024),
		cmocka_unit_test(test_a_process_that_is_stopped),
	};

	guest_make = net_user_new;
	return cmocka_run_group_tests_name("ports", tests, NULL, NULL);
}
