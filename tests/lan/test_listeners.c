/* Services of the host at published ports: which sockets are those, from answers of sock_diag, also of ones that lie.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lan/lan_impl.h"

/* The kernel's end of a socket, and the number of the request that it answers. */
static int kernel;
static uint32_t seq;

static void open_both(struct rtnl *diag)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*diag = (struct rtnl){ .fd = pair[0] };
	kernel = pair[1];
	seq = 1;
}

static void close_both(struct rtnl *diag)
{
	close(diag->fd);
	close(kernel);
}

static void say(struct rtnl_req *q)
{
	q->h->nlmsg_seq = seq;
	assert_int_equal(send(kernel, q->buf, q->h->nlmsg_len, 0), q->h->nlmsg_len);
}

static void say_end(int error)
{
	struct rtnl_req q;

	rtnl_begin(&q, error ? NLMSG_ERROR : NLMSG_DONE, 0, &(struct nlmsgerr){ .error = error },
		   sizeof(struct nlmsgerr));
	say(&q);
	seq++;
}

/* A socket at an address (NULL: any), of IPv6 with what it says of IPv4 (-1: nothing). */
static void begin_socket(struct rtnl_req *q, const char *addr, unsigned port, int family)
{
	struct inet_diag_msg m = { .idiag_family = (uint8_t)family, .idiag_uid = 7, .idiag_inode = port };

	st_be16(&m.id.idiag_sport, (uint16_t)port);
	if (addr)
		assert_int_equal(inet_pton(family, addr, m.id.idiag_src), 1);
	rtnl_begin(q, SOCK_DIAG_BY_FAMILY, NLM_F_MULTI, &m, sizeof(m));
}

static void say_socket(const char *addr, unsigned port)
{
	struct rtnl_req q;

	begin_socket(&q, addr, port, AF_INET);
	say(&q);
}

static void say_socket6(const char *addr, unsigned port, int only)
{
	struct rtnl_req q;

	begin_socket(&q, addr, port, AF_INET6);
	if (only >= 0)
		rtnl_put(&q, INET_DIAG_SKV6ONLY, &(uint8_t){ (uint8_t)only }, 1);
	say(&q);
}

static struct lan_def def(const char *first, const char *second)
{
	struct lan_def d;
	struct err err;

	lan_def_init(&d, "lab");
	for (const char *const *p = (const char *const[]){ first, second, NULL }; *p; p++)
		assert_int_equal(lan_parse_publish(&d, *p, &err), 0);
	return d;
}

/* The port that is found of what has been said of both families. */
static unsigned find(struct rtnl *diag, const struct lan_def *d, const struct lan_def *before, const char *to)
{
	struct lan_listener s;
	struct err err;
	int rc = lan_find_listener(diag, d, before, to, &s, &err);

	assert_true(rc >= 0);
	if (!rc)
		return 0;
	assert_int_equal(s.inode, s.at.port);
	assert_int_equal(s.uid, 7);
	return s.at.port;
}

/* `port` of a socket of this kind, and whether a port that is published so leads past it. */
static const struct row {
	const char *publish, *addr;
	int family, only;
	bool met;
} rows[] = {
	{ "tcp:80-x:80", NULL, AF_INET, -1, true },
	{ "tcp:80-x:80", "192.0.2.1", AF_INET, -1, true },
	{ "tcp:80-x:80", "127.0.0.1", AF_INET, -1, false },
	{ "tcp:80-x:80", "127.0.0.53", AF_INET, -1, false },
	{ "tcp:80-x:80", "255.255.255.255", AF_INET, -1, false },
	{ "tcp:79-81-x:79-81", NULL, AF_INET, -1, true },
	{ "tcp:81-82-x:81-82", NULL, AF_INET, -1, false },
	{ "tcp:192.0.2.1:80-x:80", NULL, AF_INET, -1, true },
	{ "tcp:192.0.2.1:80-x:80", "192.0.2.1", AF_INET, -1, true },
	{ "tcp:192.0.2.1:80-x:80", "192.0.2.2", AF_INET, -1, false },
	{ "tcp:[::]:80-x:80", NULL, AF_INET, -1, false },
	{ "tcp:80-x:80", NULL, AF_INET6, 0, true },
	{ "tcp:80-x:80", "::1", AF_INET6, 1, false },
	{ "tcp:80-x:80", "ff02::fb", AF_INET6, 0, false },
	{ "tcp:80-x:80", "fe80::1", AF_INET6, 0, true },
	{ "tcp:0.0.0.0:80-x:80", NULL, AF_INET6, 0, true },
	{ "tcp:0.0.0.0:80-x:80", NULL, AF_INET6, -1, true },
	{ "tcp:0.0.0.0:80-x:80", NULL, AF_INET6, 1, false },
	{ "tcp:192.0.2.1:80-x:80", NULL, AF_INET6, 0, true },
	{ "tcp:192.0.2.1:80-x:80", NULL, AF_INET6, 1, false },
	{ "tcp:192.0.2.1:80-x:80", "2001:db8::1", AF_INET6, 0, false },
	{ "tcp:192.0.2.1:80-x:80", "::ffff:192.0.2.1", AF_INET6, 0, true },
	{ "tcp:[2001:db8::1]:80-x:80", "::ffff:192.0.2.1", AF_INET6, 0, false },
	{ "tcp:80-x:80", "::ffff:127.0.0.1", AF_INET6, 0, false },
	{ "tcp:[::]:80-x:80", "::ffff:0.0.0.0", AF_INET6, 0, false },
	{ "tcp:0.0.0.0:80-x:80", "::ffff:0.0.0.0", AF_INET6, 0, true },
	{ "tcp:[2001:db8::1]:80-x:80", "2001:db8::1", AF_INET6, 1, true },
	{ "tcp:[2001:db8::1]:80-x:80", "2001:db8::2", AF_INET6, 1, false },
	{ "tcp:80-10.1.2.3:80", NULL, AF_INET6, 1, false },
	{ "udp:80-x:80", NULL, AF_INET, -1, true },
};

static void test_addresses(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct lan_def d = def(rows[i].publish, NULL);
		struct rtnl diag;

		open_both(&diag);
		for (int family = AF_INET; family; family = family == AF_INET ? AF_INET6 : 0) {
			if (family != rows[i].family)
				;
			else if (family == AF_INET6)
				say_socket6(rows[i].addr, 80, rows[i].only);
			else
				say_socket(rows[i].addr, 80);
			say_end(0);
		}
		if (find(&diag, &d, NULL, NULL) != (rows[i].met ? 80 : 0))
			fail_msg("%s %s", rows[i].publish, rows[i].addr ? rows[i].addr : "any");
		close_both(&diag);
	}
}

/* Bound to a device: loopback's, at any address, is asked by nobody whom a published port leads elsewhere. */
static void test_devices(void **state)
{
	static const struct {
		uint32_t device;
		const char *addr;
		bool met;
	} bound[] = { { 1, NULL, false }, { 2, NULL, true }, { 1, "192.0.2.1", true } };
	const struct lan_def d = def("tcp:80-x:80", NULL);

	for (size_t i = 0; i < ARRAY_LEN(bound); i++) {
		struct rtnl diag;
		struct rtnl_req q;

		open_both(&diag);
		begin_socket(&q, bound[i].addr, 80, AF_INET);
		((struct inet_diag_msg *)NLMSG_DATA(q.h))->id.idiag_if = bound[i].device;
		say(&q);
		say_end(0);
		say_end(0);
		assert_int_equal(find(&diag, &d, NULL, NULL), bound[i].met ? 80 : 0);
		close_both(&diag);
	}
}

/* What is asked: of TCP and of UDP, both families, those states; only what is published of. */
static void test_questions(void **state)
{
	static const struct {
		uint8_t family, protocol;
		uint32_t states;
	} asked[] = { { AF_INET, IPPROTO_TCP, 1 << TCP_LISTEN },
		      { AF_INET6, IPPROTO_TCP, 1 << TCP_LISTEN },
		      { AF_INET, IPPROTO_UDP, 1 << TCP_CLOSE },
		      { AF_INET6, IPPROTO_UDP, 1 << TCP_CLOSE } };
	const struct lan_def both = def("tcp:80-x:80", "udp:53-x:53"), none = def(NULL, NULL);
	_Alignas(8) char buf[512];
	struct rtnl diag;

	open_both(&diag);
	for (size_t i = 0; i < ARRAY_LEN(asked); i++)
		say_end(0);
	assert_int_equal(find(&diag, &both, NULL, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
		const struct inet_diag_req_v2 *q = NLMSG_DATA(buf);

		assert_int_equal(recv(kernel, buf, sizeof(buf), MSG_DONTWAIT), NLMSG_SPACE(sizeof(*q)));
		assert_int_equal(((struct nlmsghdr *)buf)->nlmsg_type, SOCK_DIAG_BY_FAMILY);
		assert_int_equal(((struct nlmsghdr *)buf)->nlmsg_flags, NLM_F_REQUEST | NLM_F_DUMP);
		assert_int_equal(q->sdiag_family, asked[i].family);
		assert_int_equal(q->sdiag_protocol, asked[i].protocol);
		assert_int_equal(q->idiag_states, asked[i].states);
	}
	assert_int_equal(find(&diag, &none, NULL, NULL), 0);
	assert_int_equal(recv(kernel, buf, sizeof(buf), MSG_DONTWAIT), -1);
	close_both(&diag);
}

/* The first of many; not who was led past before, nor what leads to another machine. */
static void test_which(void **state)
{
	const struct lan_def d = def("tcp:80-90-x:80-90", "tcp:100-y:1"),
			     before = def("tcp:0.0.0.0:85-88-z:85-88", NULL);
	struct rtnl diag;

	open_both(&diag);
	for (unsigned port = 60; port < 120; port++)
		if (port < 80 || port > 84)
			say_socket("192.0.2.1", port);
	say_end(0);
	assert_int_equal(find(&diag, &d, NULL, NULL), 85);
	say_socket(NULL, 85);
	say_socket(NULL, 89);
	say_end(0);
	assert_int_equal(find(&diag, &d, &before, NULL), 89);
	say_socket(NULL, 89);
	say_socket(NULL, 100);
	say_end(0);
	assert_int_equal(find(&diag, &d, NULL, "Y"), 100);
	close_both(&diag);
}

static void test_lies(void **state)
{
	const struct lan_def d = def("tcp:0.0.0.0:80-x:80", NULL);
	struct lan_listener s;
	struct rtnl_req q;
	struct rtnl diag;
	struct err err;

	open_both(&diag);
	/* Too short for a socket, of another kind, none at all. */
	begin_socket(&q, NULL, 80, AF_INET);
	q.h->nlmsg_len = NLMSG_HDRLEN + sizeof(struct inet_diag_msg) - 1;
	say(&q);
	begin_socket(&q, NULL, 80, AF_INET);
	q.h->nlmsg_type = SOCK_DIAG_BY_FAMILY + 1;
	say(&q);
	rtnl_begin(&q, SOCK_DIAG_BY_FAMILY, NLM_F_MULTI, NULL, 0);
	say(&q);
	/* Of another request. */
	seq = 9;
	say_socket(NULL, 80);
	seq = 1;
	say_end(0);
	say_end(0);
	assert_int_equal(find(&diag, &d, NULL, NULL), 0);
	/* It says that it is IPv6's alone in no byte (where another one has said so), and in one that lies outside. */
	say_end(0);
	say_socket6(NULL, 1, 1);
	begin_socket(&q, NULL, 80, AF_INET6);
	rtnl_put(&q, INET_DIAG_SKV6ONLY, NULL, 0);
	say(&q);
	say_end(0);
	assert_int_equal(find(&diag, &d, NULL, NULL), 80);
	say_end(0);
	begin_socket(&q, NULL, 80, AF_INET6);
	rtnl_put(&q, INET_DIAG_SKV6ONLY, "\1", 1);
	((struct rtattr *)(q.buf + NLMSG_SPACE(sizeof(struct inet_diag_msg))))->rta_len = 400;
	say(&q);
	say_end(0);
	assert_int_equal(find(&diag, &d, NULL, NULL), 80);
	/* A kernel that does not say. */
	say_end(-ENOENT);
	assert_int_equal(lan_find_listener(&diag, &d, NULL, NULL, &s, &err), -1);
	assert_string_equal(err.msg, "No such file or directory");
	close_both(&diag);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_addresses), cmocka_unit_test(test_questions),
					    cmocka_unit_test(test_devices), cmocka_unit_test(test_which),
					    cmocka_unit_test(test_lies) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
