/* The back ends over sockets: frames both ways, ends and new beginnings, no room, and an other side that lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/sock.h"
#include "wire.h"

static struct err err;
static uint8_t frame[NET_FRAME_MAX];

#define open_wire(w, make, ...) wire_open(w, make, 0, &err, __VA_ARGS__)

/* A frame crosses, in both directions. */
static void connected(struct wire *a, struct wire *b)
{
	static const size_t sizes[] = { 14, 60, 1514, 40000, NET_FRAME_MAX };

	for (unsigned k = 0; k < 5; k++) {
		unsigned before = b->frames;

		assert_true(wire_mark(a, frame, sizes[k], (uint8_t)k));
		wire_expect(b, before + 1);
		assert_int_equal(b->len, sizes[k]);
		assert_memory_equal(b->last, frame, sizes[k]);
		assert_true(!b->offload.valid && !b->offload.checksum);
		before = a->frames;
		assert_true(wire_mark(b, frame, sizes[k], (uint8_t)(k + 100)));
		wire_expect(a, before + 1);
		assert_memory_equal(a->last, frame, sizes[k]);
	}
}

/* Work is done before a frame leaves. */
static void segments(struct wire *a, struct wire *b)
{
	struct net_offload o;
	size_t len = wire_tcp(frame, 14000, &o, 1400);
	unsigned before = b->frames;

	assert_true(net_send(a->peer, frame, len, &o));
	wire_expect(b, before + 10);
	assert_int_equal(b->len, 1454);
}

static void begin_stream(struct wire *a, struct wire *b, bool tcp)
{
	const char *listen = tcp ? "listen=127.0.0.1:2345" : wire_path("listen=unix:", "s");
	const char *connect = tcp ? "connect=127.0.0.1:2345" : wire_path("connect=unix:", "s");

	assert_true(open_wire(a, net_socket_new, listen, NULL));
	assert_true(open_wire(b, net_stream_new, connect, NULL));
	wire_run(20);
}

static void test_streams(void **state)
{
	struct wire a, b;

	for (int tcp = 0; tcp < 2; tcp++) {
		begin_stream(&a, &b, tcp);
		connected(&a, &b);
		segments(&a, &b);
		segments(&b, &a);
		wire_end(&b);
		/* Without a connection frames are lost; then there is a new one. */
		wire_run(20);
		assert_true(wire_mark(&a, frame, 60, 1));
		assert_true(open_wire(&b, net_stream_new,
				      tcp ? "connect=127.0.0.1:2345" : wire_path("connect=unix:", "s"), NULL));
		wire_run(20);
		connected(&b, &a);
		wire_end(&b);
		wire_end(&a);
	}
	assert_int_equal(access(wire_path("", "s"), F_OK), -1);
}

/* The side that reads nothing: what there is no room for waits, and nothing is cut short. */
static void test_a_stream_without_room(void **state)
{
	struct wire a, b;
	unsigned sent = 0, ms = 0;

	begin_stream(&a, &b, false);
	b.deaf = true;
	while (wire_mark(&a, frame, 60000, (uint8_t)sent)) {
		sent++;
		assert_true(sent < 1000);
	}
	wire_run(50);
	assert_int_equal(b.frames, 0);
	assert_true(a.writables <= 1);
	b.deaf = false;
	b.peer->ops->ready(b.peer);
	wire_expect(&b, sent);
	assert_int_equal(b.last[100], (uint8_t)(sent - 1));
	for (; !a.writables; ms++) {
		assert_true(ms < 1000);
		wire_run(0);
	}
	connected(&a, &b);
	wire_end(&a);
	wire_end(&b);
}

static int raw(const char *name)
{
	int fd = sock_connect("test", wire_path("unix:", name), &err);

	assert_true(fd >= 0);
	return fd;
}

static void put(int fd, uint32_t len, size_t really)
{
	static uint8_t b[4 + NET_FRAME_MAX];

	st_be32(b, len);
	memset(b + 4, 0x33, really);
	assert_int_equal(send(fd, b, 4 + really, MSG_NOSIGNAL), 4 + really);
}

static void test_lying_streams(void **state)
{
	static const uint32_t lies[] = { NET_FRAME_MAX + 1, 0x10000000, 0xffffffff };
	uint8_t b[64] = { 0 };
	struct wire w;
	int fd;

	assert_true(open_wire(&w, net_stream_new, wire_path("listen=unix:", "lies"), NULL));
	for (size_t k = 0; k < ARRAY_LEN(lies); k++) {
		fd = raw("lies");
		put(fd, 60, 60);
		put(fd, lies[k], 100);
		wire_expect(&w, (unsigned)k + 1);
		wire_run(20);
		assert_int_equal(recv(fd, b, 1, MSG_DONTWAIT), 0); /* it has been closed */
		close(fd);
	}
	/* Runts are no frames, and not the end; a frame comes in any pieces. */
	fd = raw("lies");
	put(fd, 0, 0);
	put(fd, 13, 13);
	st_be32(b, 20);
	for (unsigned k = 0; k < 24; k++) {
		assert_int_equal(send(fd, b + k, 1, 0), 1);
		wire_run(0);
	}
	wire_expect(&w, 4);
	assert_int_equal(w.len, 20);
	wire_run(5);
	assert_int_equal(w.frames, 4);
	/* One ends in the middle of a frame. */
	put(fd, 1000, 10);
	wire_run(5);
	close(fd);
	wire_run(20);
	fd = raw("lies");
	put(fd, 30, 30);
	wire_expect(&w, 5);
	assert_int_equal(w.len, 30);
	close(fd);
	wire_end(&w);
}

static void test_reconnect(void **state)
{
	struct wire a, b;

	assert_false(open_wire(&b, net_stream_new, wire_path("connect=unix:", "later"), NULL));
	assert_non_null(strstr(err.msg, "net0.connect: cannot connect"));
	assert_true(open_wire(&b, net_stream_new, wire_path("connect=unix:", "later"), "reconnect=1", NULL));
	assert_true(wire_mark(&b, frame, 60, 1));
	assert_true(open_wire(&a, net_stream_new, wire_path("listen=unix:", "later"), NULL));
	wire_run(1300);
	connected(&a, &b);
	wire_end(&a);
	wire_run(20);
	assert_true(open_wire(&a, net_stream_new, wire_path("listen=unix:", "later"), NULL));
	wire_run(1300);
	connected(&b, &a);
	wire_end(&a);
	wire_end(&b);
}

/* Whoever listens and takes nobody holds up the start for a while, not for ever. */
static void test_nobody_accepts(void **state)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fds[8], count = 0;
	struct wire w;

	if (wire_emulated())
		skip();
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", wire_path("", "busy"));
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 0), 0);
	do
		fds[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	while (!connect(fds[count++], (struct sockaddr *)&at, sizeof(at)) && count < 8);
	alarm(30);
	assert_false(open_wire(&w, net_stream_new, wire_path("connect=unix:", "busy"), NULL));
	alarm(0);
	assert_non_null(strstr(err.msg, "net0.connect: cannot connect to"));
	assert_non_null(strstr(err.msg, "Connection timed out"));
	while (count)
		close(fds[--count]);
	close(listener);
	unlink(at.sun_path);
}

/* The kernel's limit is named, by each of the two who know it. */
static void test_long_paths(void **state)
{
	const char *keys[] = { "listen", "connect", "remote" };
	wire_make *const makes[] = { net_stream_new, net_stream_new, net_dgram_new };
	char setting[200], says[300], path[109];
	struct wire w;

	memset(path, 'x', sizeof(path) - 1);
	path[108] = 0;
	for (unsigned k = 0; k < ARRAY_LEN(keys); k++) {
		snprintf(setting, sizeof(setting), "%s=unix:%s", keys[k], path);
		snprintf(says, sizeof(says), "net0.%s: '%s' has 108 bytes, and a socket's path at most 107", keys[k],
			 path);
		assert_false(open_wire(&w, makes[k], setting, NULL));
		assert_string_equal(err.msg, says);
	}
	/* One byte less is a path: nobody is there. */
	path[107] = 0;
	snprintf(setting, sizeof(setting), "connect=unix:%s", path);
	assert_false(open_wire(&w, net_stream_new, setting, NULL));
	assert_non_null(strstr(err.msg, "No such file"));
}

typedef int resolver(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **list);

/* In the C library's place: one name more, of two addresses. */
int getaddrinfo(const char *restrict host, const char *restrict port, const struct addrinfo *restrict hints,
		struct addrinfo **restrict list)
{
	static resolver *next;
	int rc;

	*(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
	if (strcmp(host, "two.example"))
		return next(host, port, hints, list);
	rc = next("127.0.0.1", port, hints, list);
	return rc ? rc : next("127.0.0.2", port, hints, &(*list)->ai_next);
}

/* A name of several addresses where nobody accepts takes no longer than one of them. */
static void test_nobody_accepts_anywhere(void **state)
{
	static const char *const places[] = { "127.0.0.1:2352", "127.0.0.2:2352" };
	struct sockaddr_storage at;
	struct timespec begin, end;
	int fds[2][4];
	socklen_t len;

	if (wire_emulated())
		skip();
	for (unsigned n = 0; n < 2; n++) {
		assert_int_equal(sock_address("test", places[n], &at, &len, &err), 0);
		for (unsigned k = 0; k < 4; k++)
			fds[n][k] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		assert_int_equal(bind(fds[n][0], (struct sockaddr *)&at, len) || listen(fds[n][0], 0), 0);
		for (unsigned k = 1; k < 4; k++)
			connect(fds[n][k], (struct sockaddr *)&at, len);
	}
	wire_run(20);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	assert_int_equal(sock_connect("test", "two.example:2352", &err), -1);
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_string_equal(err.msg, "test: cannot connect to port 2352: Connection timed out");
	assert_in_range(end.tv_sec - begin.tv_sec, 3, 8);
	/* The second one may be there. */
	close(fds[1][0]);
	fds[1][0] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	setsockopt(fds[1][0], SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	assert_int_equal(bind(fds[1][0], (struct sockaddr *)&at, len) || listen(fds[1][0], 4), 0);
	close(fds[0][1]);
	fds[0][1] = sock_connect("test", "two.example:2352", &err);
	assert_true(fds[0][1] >= 0);
	for (unsigned n = 0; n < 2; n++)
		for (unsigned k = 0; k < 4; k++)
			close(fds[n][k]);
}

/* A host without descriptors for who comes: it is said, tried again each second, and works as soon as there are some.
 */
static void test_no_room_to_accept(void **state)
{
	static const char says[] =
		"vireo: warning: accept: net0: no connection can be taken for now: Too many open files\n";
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char text[2 * sizeof(says)] = "";
	struct rlimit before, none;
	int client, log;
	struct wire w;

	assert_true(open_wire(&w, net_stream_new, wire_path("listen=unix:", "full"), NULL));
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", wire_path("", "full"));
	log = memfd_create("log", MFD_CLOEXEC);
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = (rlim_t)dup(client);
	close((int)none.rlim_cur);
	log_set_fd(log);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_true(wire_sleeps());
	for (unsigned ms = 0; pread(log, text, sizeof(text), 0) < (ssize_t)(2 * strlen(says)); ms++) {
		assert_true(ms < 5000);
		wire_run(0);
	}
	assert_true(wire_sleeps());
	setrlimit(RLIMIT_NOFILE, &before);
	log_set_fd(2);
	assert_memory_equal(text, says, strlen(says));
	assert_memory_equal(text + strlen(says), says, strlen(says));
	assert_int_equal(write(client, "\0\0\0\16ABCDEFGHIJKLMN", 18), 18);
	wire_expect(&w, 1);
	assert_memory_equal(w.last, "ABCDEFGHIJKLMN", 14);
	/* And again after an end. */
	close(client);
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	wire_run(5);
	assert_int_equal(connect(client, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(write(client, "\0\0\0\16NMLKJIHGFEDCBA", 18), 18);
	wire_expect(&w, 2);
	close(client);
	close(log);
	wire_end(&w);
}

static void test_passed_descriptors(void **state)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM };

	for (unsigned k = 0; k < 2; k++) {
		char one[16], two[16];
		struct wire a, b;
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, types[k], 0, pair), 0);
		snprintf(one, sizeof(one), "fd=%d", pair[0]);
		snprintf(two, sizeof(two), "fd=%d", pair[1]);
		assert_true(open_wire(&a, k ? net_dgram_new : net_stream_new, one, NULL));
		assert_true(open_wire(&b, net_socket_new, two, NULL));
		connected(&a, &b);
		segments(&a, &b);
		wire_end(&a);
		wire_end(&b);
	}
	assert_false(open_wire(&(struct wire){ 0 }, net_stream_new, "fd=1000", NULL));
}

/* One that listens is where clients come, one after the other; it is its owner's, and so is its name. */
static void test_passed_listeners(void **state)
{
	static wire_make *const makers[] = { net_stream_new, net_socket_new };
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", wire_path("", "passed"));
	for (unsigned k = 0; k < 2; k++) {
		int listener = socket(AF_UNIX, SOCK_STREAM, 0);
		struct wire a, b;
		char text[16];

		assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 1), 0);
		snprintf(text, sizeof(text), "fd=%d", listener);
		assert_true(open_wire(&a, makers[k], text, NULL));
		assert_true(wire_mark(&a, frame, 60, 1));
		assert_true(wire_sleeps());
		for (unsigned client = 0; client < 2; client++) {
			assert_true(open_wire(&b, net_stream_new, wire_path("connect=unix:", "passed"), NULL));
			wire_run(20);
			connected(&a, &b);
			wire_end(&b);
			wire_run(20);
		}
		wire_end(&a);
		assert_int_equal(unlink(at.sun_path), 0);
	}
}

/* What could never carry a frame is refused, and stays open. */
static void test_wrong_descriptors(void **state)
{
	static const struct {
		wire_make *make;
		int type;
		bool pair;
		const char *says;
	} cases[] = {
		{ net_stream_new, SOCK_DGRAM, true, "is a socket of datagrams, which is for the back end dgram" },
		{ net_dgram_new, SOCK_STREAM, true, "is a socket of streams, which is for the back end stream" },
		{ net_stream_new, SOCK_STREAM, false, "is not connected, and does not listen" },
		{ net_socket_new, SOCK_STREAM, false, "is not connected, and does not listen" },
		{ net_dgram_new, SOCK_DGRAM, false, "is not connected" },
		{ net_socket_new, SOCK_DGRAM, false, "is not connected" },
	};

	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		int pair[2] = { -1, -1 };
		char text[16];
		struct wire w;

		if (cases[k].pair)
			assert_int_equal(socketpair(AF_UNIX, cases[k].type, 0, pair), 0);
		else
			pair[0] = socket(AF_INET, cases[k].type, 0);
		snprintf(text, sizeof(text), "fd=%d", pair[0]);
		if (open_wire(&w, cases[k].make, text, NULL))
			fail_msg("case %zu is taken", k);
		if (!strstr(err.msg, cases[k].says))
			fail_msg("case %zu: %s", k, err.msg);
		assert_int_equal(close(pair[0]), 0);
		if (pair[1] >= 0)
			close(pair[1]);
	}
}

/* A frame does not wait until the one before it is acknowledged, which a receiver may put off. */
static void test_no_delay(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0), mine, on = 0;
	socklen_t len = sizeof(a);
	char text[16];
	struct wire w;

	assert_int_equal(bind(listener, (struct sockaddr *)&a, len) || listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, len), 0);
	mine = dup(fd);
	snprintf(text, sizeof(text), "fd=%d", fd);
	assert_true(open_wire(&w, net_stream_new, text, NULL));
	len = sizeof(on);
	assert_int_equal(getsockopt(mine, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	assert_int_not_equal(on, 0);
	wire_end(&w);
	close(mine);
	close(listener);
}

static void test_datagrams(void **state)
{
	struct wire a, b;

	assert_true(open_wire(&a, net_dgram_new, wire_path("local=unix:", "a"), wire_path("remote=unix:", "b"), NULL));
	assert_true(wire_mark(&a, frame, 60, 1)); /* nobody is there */
	assert_true(open_wire(&b, net_dgram_new, wire_path("local=unix:", "b"), wire_path("remote=unix:", "a"), NULL));
	connected(&a, &b);
	/* More of them than the socket takes at once. */
	segments(&a, &b);
	segments(&b, &a);
	wire_end(&a);
	wire_end(&b);
	assert_int_equal(access(wire_path("", "a"), F_OK), -1);
}

/* What a killed machine has left of its socket is taken over; what is in use or no socket is not. */
static void test_left_sockets(void **state)
{
	const char *local = wire_path("local=unix:", "left"), *remote = wire_path("remote=unix:", "far");
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	static const int types[] = { SOCK_DGRAM, SOCK_STREAM };
	struct stat before, after;
	struct wire a;
	int fd;

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", wire_path("", "left"));
	for (size_t k = 0; k < ARRAY_LEN(types); k++) {
		fd = socket(AF_UNIX, types[k], 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
		assert_true(types[k] == SOCK_DGRAM || !listen(fd, 1));
		assert_int_equal(stat(at.sun_path, &before), 0);
		assert_false(open_wire(&a, net_dgram_new, local, remote, NULL));
		assert_non_null(strstr(err.msg, "net0.local: Address already in use"));
		assert_int_equal(stat(at.sun_path, &after), 0);
		assert_int_equal(after.st_ino, before.st_ino);
		close(fd);
		assert_true(open_wire(&a, net_dgram_new, local, remote, NULL));
		wire_end(&a);
		assert_int_equal(access(at.sun_path, F_OK), -1);
	}
	/* One that sends to another is in use as well. */
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_false(open_wire(&a, net_dgram_new, local, remote, NULL));
	close(fd);
	unlink(at.sun_path);
	close(open(at.sun_path, O_CREAT | O_WRONLY, 0600));
	assert_false(open_wire(&a, net_dgram_new, local, remote, NULL));
	assert_int_equal(stat(at.sun_path, &after), 0);
	unlink(at.sun_path);
}

/* The other machine ends while there was no room with it: the one that comes in its place is heard. */
static void test_another_machine_at_the_other_end(void **state)
{
	const char *near[] = { wire_path("local=unix:", "a"), wire_path("remote=unix:", "b") };
	const char *far[] = { wire_path("local=unix:", "b"), wire_path("remote=unix:", "a") };
	struct wire a, b;

	for (unsigned drained = 0; drained < 2; drained++) {
		unsigned sent = 0;

		assert_true(open_wire(&a, net_dgram_new, near[0], near[1], NULL));
		assert_true(open_wire(&b, net_dgram_new, far[0], far[1], NULL));
		b.deaf = true;
		while (wire_mark(&a, frame, 1514, (uint8_t)sent))
			assert_true(++sent < 10000);
		wire_run(5);
		if (drained) {
			b.deaf = false;
			b.peer->ops->ready(b.peer);
			wire_expect(&b, sent);
		}
		wire_end(&b);
		wire_run(5);
		assert_true(open_wire(&b, net_dgram_new, far[0], far[1], NULL));
		connected(&b, &a);
		connected(&a, &b);
		wire_end(&a);
		wire_end(&b);
	}
}

/* What waits on both sides arrives when both have room again. */
static void test_datagrams_without_room(void **state)
{
	struct wire w[2];
	unsigned sent[2] = { 0 };

	assert_true(
		open_wire(&w[0], net_dgram_new, wire_path("local=unix:", "a"), wire_path("remote=unix:", "b"), NULL));
	assert_true(
		open_wire(&w[1], net_dgram_new, wire_path("local=unix:", "b"), wire_path("remote=unix:", "a"), NULL));
	for (unsigned n = 0; n < 2; n++) {
		w[!n].deaf = true;
		while (wire_mark(&w[n], frame, 1514, (uint8_t)sent[n]))
			assert_true(++sent[n] < 10000);
	}
	wire_run(5);
	assert_true(wire_sleeps());
	for (unsigned n = 0; n < 2; n++) {
		w[!n].deaf = false;
		w[!n].peer->ops->ready(w[!n].peer);
		wire_expect(&w[!n], sent[n]);
		assert_int_equal(w[n].writables, 1);
	}
	wire_end(&w[0]);
	wire_end(&w[1]);
}

/* Whoever has passed a socket shuts it down, or has one of another kind: the loop does not go in circles. */
static void test_ended_descriptors(void **state)
{
	char text[16];
	int pair[2], mine;
	struct wire w;

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	mine = dup(pair[0]);
	snprintf(text, sizeof(text), "fd=%d", pair[0]);
	assert_true(open_wire(&w, net_dgram_new, text, NULL));
	assert_int_equal(shutdown(mine, SHUT_RDWR), 0);
	wire_run(5);
	assert_int_equal(w.unplugged, 1);
	assert_true(wire_mark(&w, frame, 60, 1));
	assert_true(wire_sleeps());
	wire_end(&w);
	close(mine);
	close(pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	snprintf(text, sizeof(text), "fd=%d", pair[0]);
	assert_false(open_wire(&w, net_dgram_new, text, NULL));
	assert_non_null(strstr(err.msg, "is a socket of neither streams nor datagrams"));
	close(pair[0]);
	close(pair[1]);
}

static void small(struct wire *a, struct wire *b)
{
	assert_true(wire_mark(a, frame, 1400, 7));
	wire_expect(b, b->frames + 1);
	assert_memory_equal(b->last, frame, 1400);
}

static void test_udp_and_groups(void **state)
{
	struct wire a, b, c;

	if (wire_emulated())
		skip();
	assert_true(open_wire(&a, net_socket_new, "udp=127.0.0.1:3001", "localaddr=127.0.0.1:3000", NULL));
	assert_true(open_wire(&b, net_dgram_new, "remote=127.0.0.1:3000", "local=127.0.0.1:3001", NULL));
	small(&a, &b);
	small(&b, &a);
	/* A port that is taken would get the frames of both. */
	assert_false(open_wire(&c, net_dgram_new, "remote=127.0.0.1:3000", "local=127.0.0.1:3001", NULL));
	assert_non_null(strstr(err.msg, "net0.local: Address already in use"));
	wire_end(&a);
	wire_end(&b);
	assert_true(open_wire(&a, net_socket_new, "mcast=230.0.0.1:3003", "localaddr=127.0.0.1", NULL));
	assert_true(open_wire(&b, net_dgram_new, "remote=230.0.0.1:3003", "local=127.0.0.1", NULL));
	assert_true(open_wire(&c, net_socket_new, "mcast=230.0.0.1:3003", "localaddr=127.0.0.1", NULL));
	small(&a, &b);
	wire_expect(&c, 1);
	small(&c, &a);
	wire_end(&a);
	wire_end(&b);
	wire_end(&c);
}

/* Anybody may send anything. */
static void test_hostile_datagrams(void **state)
{
	static uint8_t giant[70000];
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct wire w;
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	assert_true(open_wire(&w, net_dgram_new, wire_path("local=unix:", "h"), wire_path("remote=unix:", "x"), NULL));
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", wire_path("", "h"));
	for (size_t len = 0; len < 14; len++)
		sendto(fd, giant, len, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)), wire_run(0);
	sendto(fd, giant, NET_FRAME_MAX + 1, 0, (struct sockaddr *)&to, sizeof(to));
	sendto(fd, giant, sizeof(giant), 0, (struct sockaddr *)&to, sizeof(to));
	wire_run(10);
	assert_int_equal(w.frames, 0);
	sendto(fd, giant, 14, 0, (struct sockaddr *)&to, sizeof(to));
	wire_expect(&w, 1);
	w.deaf = true;
	sendto(fd, giant, 14, 0, (struct sockaddr *)&to, sizeof(to));
	wire_run(10);
	w.deaf = false;
	w.peer->ops->ready(w.peer);
	assert_int_equal(w.frames, 2);
	close(fd);
	wire_end(&w);
}

static void test_wrong_words(void **state)
{
	static const struct {
		wire_make *make;
		const char *a, *b, *says;
	} cases[] = {
		{ net_socket_new, NULL, NULL, "net0.backend: one of listen, connect, mcast, udp and fd is needed" },
		{ net_socket_new, "listen=1", "connect=2", "net0.backend: one of" },
		{ net_stream_new, "listen=x:y", NULL, "net0.listen: 'x:y'" },
		{ net_stream_new, "listen=unix:", NULL, "net0.listen: '' is no path" },
		{ net_stream_new, "listen=127.0.0.1:2999", "reconnect=1", "net0.reconnect: only what connects" },
		{ net_stream_new, "fd=1", NULL, "net0.fd: '1' is not" },
		{ net_dgram_new, "remote=127.0.0.1:1", NULL, "net0.local: datagrams need an address" },
		{ net_dgram_new, "remote=127.0.0.1:1", "local=unix:/x", "is an address of another kind" },
		{ net_dgram_new, "local=127.0.0.1:1", "fd=77", "net0.local: it needs a remote" },
		{ net_socket_new, "udp=127.0.0.1:1", NULL, "net0.localaddr: udp needs an address" },
		{ net_socket_new, "listen=127.0.0.1:2999", "localaddr=127.0.0.1", "net0.localaddr: it is for udp and" },
		/* The words of one are not those of another. */
		{ net_stream_new, "mcast=230.0.0.1:1", NULL, "net0.backend: one of listen, connect and fd is" },
		{ net_dgram_new, "listen=127.0.0.1:2999", NULL, "net0.backend: one of remote" },
		{ net_socket_new, "mcast=127.0.0.1:1", NULL, "is not an IPv4 group" },
		{ net_socket_new, "mcast=230.0.0.1:1", "localaddr=x", "net0.localaddr: 'x' is not an IPv4" },
	};

	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		struct wire w;

		if (open_wire(&w, cases[k].make, cases[k].a, cases[k].b, NULL))
			fail_msg("case %zu is taken", k);
		if (!strstr(err.msg, cases[k].says))
			fail_msg("case %zu: %s", k, err.msg);
	}
}

/* --- passt: a program that the test plays --- */

static void test_passt(void **state)
{
	struct stat st;
	struct wire w;
	FILE *f = fopen(wire_path("", "passt"), "w");

	if (wire_emulated())
		skip();
	/* It sends back what comes, but not what tells that it has begun, and ends when it is told to. */
	fprintf(f,
		"#!/usr/bin/python3\nimport os, sys\nassert sys.argv[1:5] == ['--foreground', '--quiet', '--fd', '3']\n"
		"assert sys.argv[5:] == ['--tcp-ports=127.0.0.1/2222:22'], sys.argv\n"
		"while True:\n d = os.read(3, 65536)\n if not d or b'END' in d: break\n"
		" if d[16:18] != b'\\x88\\xb5': os.write(3, d)\n");
	fclose(f);
	chmod(wire_path("", "passt"), 0755);
	assert_false(open_wire(&w, net_passt_new, "program=/nonexistent/passt", NULL));
	assert_non_null(strstr(err.msg, "net0.program: no program /nonexistent/passt is installed (package passt)"));
	if (stat("/usr/bin/python3", &st)) {
		print_message("skipped: no python3\n");
		skip();
	}
	assert_true(open_wire(&w, net_passt_new, wire_path("program=", "passt"), "tcp-ports=2222:22", NULL));
	assert_true(wire_mark(&w, frame, 1514, 5));
	wire_expect(&w, 1);
	assert_memory_equal(w.last, frame, 1514);
	/* It ends, and there is a new one. */
	memcpy(frame, "END", 3);
	net_send(w.peer, frame, 60, &(struct net_offload){ 0 });
	wire_run(1500);
	assert_true(wire_mark(&w, frame, 100, 6));
	wire_expect(&w, 2);
	wire_end(&w);
	/* None of them is left. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static const char *script(const char *name, const char *text)
{
	FILE *f = fopen(wire_path("", name), "w");

	fprintf(f, "#!/bin/sh\n%s\n", text);
	fclose(f);
	chmod(wire_path("", name), 0755);
	return wire_path("program=", name);
}

/* One that does not begin is an error at the start, with what it says of it, and nothing on the terminal. */
static void test_passt_that_fails(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "exit 3", "/p has ended with status 3" },
		{ "echo Not this >&2; echo No luck >&2; echo Failed to send 8 bytes to syslog >&2; exit 1",
		  "/p has ended with status 1: No luck" },
		{ "yes too much; exit 1", "/p has ended with status 1" },
		{ "kill -SEGV $$", "/p has ended with signal 11" },
		{ "exec 3>&-; sleep 60", "/p takes no frames" },
	};
	struct wire w;

	if (wire_emulated())
		skip();
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		const char *last;

		if (open_wire(&w, net_passt_new, script("p", cases[k].text), NULL))
			fail_msg("case %zu is taken", k);
		assert_int_equal(strncmp(err.msg, "net0.backend: ", 14), 0);
		last = strstr(err.msg, cases[k].says);
		if (!last || (k != 2 && last[strlen(cases[k].says)]))
			fail_msg("case %zu: %s", k, err.msg);
	}
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* One that began, and cannot any more: a line for each try, each later than the one before. */
static void test_passt_that_ends(void **state)
{
	static const char says[] = "vireo: warning: net: net0: the connection has ended: %s has ended with status 1: "
				   "%s; again in %u s\n";
	static const char text[] = "[ -e $0.begun ] && { echo A port is taken >&2; exit 1; }\ntouch $0.begun\n"
				   "head -c 64 <&3 >/dev/null; sleep .1; echo Bye >&2; exit 1";
	char expected[2048], got[2048] = "";
	int log = memfd_create("log", MFD_CLOEXEC), len = 0;
	struct wire w;

	if (wire_emulated())
		skip();
	assert_true(open_wire(&w, net_passt_new, script("q", text), NULL));
	log_set_fd(log);
	for (unsigned k = 0; k < 3; k++)
		len += snprintf(expected + len, sizeof(expected) - (size_t)len, says, wire_path("", "q"),
				k ? "A port is taken" : "Bye", 1u << k);
	for (unsigned ms = 0; pread(log, got, sizeof(got), 0) < len && ms < 8000; ms++)
		wire_run(0);
	log_set_fd(2);
	assert_string_equal(got, expected);
	assert_true(wire_mark(&w, frame, 60, 1));
	wire_end(&w);
	close(log);
}

static void test_null(void **state)
{
	struct wire w;
	struct net_offload o;
	size_t len = wire_tcp(frame, 14000, &o, 1400);

	assert_true(open_wire(&w, net_null_new, NULL));
	assert_true(net_send(w.peer, frame, len, &o));
	wire_run(2);
	assert_int_equal(w.frames, 0);
	wire_end(&w);
}

/* --- QEMU itself: a hub of its user network and a socket, without a machine --- */

static pid_t start_qemu(const char *netdev)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execlp("qemu-system-x86_64", "qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-netdev",
	       "user,id=u", "-netdev", "hubport,hubid=0,id=h0,netdev=u", "-netdev", netdev, "-netdev",
	       "hubport,hubid=0,id=h1,netdev=s", (char *)NULL);
	_exit(127);
}

/* ARP for the router of its user network: until it answers, which takes as long as it starts. */
static void asks_router(struct wire *w)
{
	static const uint8_t arp[42] = "\xff\xff\xff\xff\xff\xff\x52\x54\0\x12\x34\x56\x08\x06\0\1\x08\0\6\4\0\1"
				       "\x52\x54\0\x12\x34\x56\x0a\0\2\x0f\0\0\0\0\0\0\x0a\0\2\2";

	for (int tries = 0; tries < 100; tries++) {
		net_send(w->peer, arp, sizeof(arp), &(struct net_offload){ 0 });
		wire_run(50);
		if (w->frames && w->len >= 42 && ld_be16(w->last + 12) == 0x0806 && ld_be16(w->last + 20) == 2 &&
		    ld_be32(w->last + 28) == 0x0a000202)
			return;
	}
	fail_msg("no answer: %u frames", w->frames);
}

static void test_qemu(void **state)
{
	static const struct {
		const char *netdev, *a, *b;
		wire_make *make;
	} cases[] = {
		{ "socket,id=s,connect=127.0.0.1:4001", "listen=127.0.0.1:4001", NULL, net_socket_new },
		{ "socket,id=s,listen=127.0.0.1:4002", "connect=127.0.0.1:4002", "reconnect=1", net_socket_new },
		{ "socket,id=s,udp=127.0.0.1:4003,localaddr=127.0.0.1:4004", "udp=127.0.0.1:4004",
		  "localaddr=127.0.0.1:4003", net_socket_new },
		{ "stream,id=s,server=off,addr.type=inet,addr.host=127.0.0.1,addr.port=4005", "listen=127.0.0.1:4005",
		  NULL, net_stream_new },
		{ "stream,id=s,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=4006", "connect=127.0.0.1:4006",
		  "reconnect=1", net_stream_new },
		{ "dgram,id=s,remote.type=inet,remote.host=127.0.0.1,remote.port=4007,local.type=inet,"
		  "local.host=127.0.0.1,local.port=4008",
		  "remote=127.0.0.1:4008", "local=127.0.0.1:4007", net_dgram_new },
	};

	if (wire_emulated() || !wire_has("qemu-system-x86_64"))
		skip();
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		struct wire w;
		pid_t pid;

		assert_true(open_wire(&w, cases[k].make, cases[k].a, cases[k].b, NULL));
		pid = start_qemu(cases[k].netdev);
		asks_router(&w);
		wire_end(&w);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

static int group_begin(void **state)
{
	wire_own_network(); /* without one all is on the loopback of this host */
	return wire_begin(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams),
		cmocka_unit_test(test_a_stream_without_room),
		cmocka_unit_test(test_lying_streams),
		cmocka_unit_test(test_reconnect),
		cmocka_unit_test(test_passed_descriptors),
		cmocka_unit_test(test_passed_listeners),
		cmocka_unit_test(test_wrong_descriptors),
		cmocka_unit_test(test_no_delay),
		cmocka_unit_test(test_nobody_accepts),
		cmocka_unit_test(test_long_paths),
		cmocka_unit_test(test_nobody_accepts_anywhere),
		cmocka_unit_test(test_no_room_to_accept),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_datagrams_without_room),
		cmocka_unit_test(test_left_sockets),
		cmocka_unit_test(test_ended_descriptors),
		cmocka_unit_test(test_another_machine_at_the_other_end),
		cmocka_unit_test(test_udp_and_groups),
		cmocka_unit_test(test_hostile_datagrams),
		cmocka_unit_test(test_wrong_words),
		cmocka_unit_test(test_passt),
		cmocka_unit_test(test_passt_that_fails),
		cmocka_unit_test(test_passt_that_ends),
		cmocka_unit_test(test_null),
		cmocka_unit_test(test_qemu),
	};

	return cmocka_run_group_tests(tests, group_begin, wire_finish);
}
