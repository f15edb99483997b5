/* base/accept.c: who comes, with and without room for a connection, and who is left waiting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/accept.h"
#include "base/log.h"
#include "base/now.h"

static const char says[] = "vireo: warning: accept: toy: no connection can be taken for now: Too many open files\n";
static struct err err;
static struct loop *loop;
static struct accepter *accepter;
static int listener, taken[4];
static unsigned count, rounds;
static bool holds; /* whoever comes is the last one */

static void take(void *opaque, int fd)
{
	assert_ptr_equal(opaque, &count);
	taken[count++] = fd;
	if (holds)
		accepter_hold(accepter, true);
}

/* --- the loop, for a while --- */

static int64_t end_ns;

static void prepare(void *opaque, int *timeout_ms)
{
	int64_t left = (end_ns - now_ns()) / 1000000 + 1;

	if (*timeout_ms < 0 || left < *timeout_ms)
		*timeout_ms = left < 0 ? 0 : (int)left;
}

static void ready(void *opaque)
{
	rounds++;
	if (now_ns() >= end_ns)
		loop_quit(loop);
}

/* How often it woke up. */
static unsigned run(int ms)
{
	struct loop_hook hook = { prepare, ready, NULL, NULL };

	rounds = 0;
	end_ns = now_ns() + ms * 1000000ll;
	loop_hook_add(loop, &hook);
	loop_run(loop);
	loop_hook_del(loop, &hook);
	return rounds;
}

/* --- sockets --- */

/* Two that wait. */
static void come(int clients[2])
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(a);

	assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	for (unsigned n = 0; n < 2; n++) {
		clients[n] = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(connect(clients[n], (struct sockaddr *)&a, len), 0);
	}
}

static int begin(void **state)
{
	const struct sockaddr_un a = { .sun_family = AF_UNIX };

	count = 0;
	holds = false;
	loop = loop_new(&err);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	/* A name of the kernel's choice. */
	assert_int_equal(bind(listener, (const struct sockaddr *)&a, sizeof(a.sun_family)) || listen(listener, 4), 0);
	accepter = accepter_new(loop, listener, "toy", take, &count, &err);
	return !accepter;
}

static int end(void **state)
{
	accepter_free(accepter);
	for (unsigned n = 0; n < count; n++)
		close(taken[n]);
	close(listener);
	loop_free(loop);
	return 0;
}

static void test_who_comes(void **state)
{
	int clients[2];

	come(clients);
	run(20);
	assert_int_equal(count, 2);
	assert_true(fcntl(taken[0], F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(taken[0], F_GETFD) & FD_CLOEXEC);
	for (unsigned n = 0; n < 2; n++)
		close(clients[n]);
}

static void hold(void *opaque, int fd, uint32_t events)
{
	accepter_hold(accepter, true);
}

static void test_who_waits(void **state)
{
	struct loop_fd *other;
	int clients[2], ends[2];

	holds = true;
	come(clients);
	assert_in_range(run(50), 1, 10);
	assert_int_equal(count, 1);
	/* Something else that the loop saw together with who comes. */
	assert_int_equal(pipe(ends), 0);
	close(ends[1]);
	other = loop_fd_add(loop, ends[0], EPOLLIN, hold, NULL, &err);
	accepter_hold(accepter, false);
	run(20);
	assert_int_equal(count, 1);
	loop_fd_del(other);
	close(ends[0]);
	accepter_hold(accepter, false);
	run(20);
	assert_int_equal(count, 2);
	for (unsigned n = 0; n < 2; n++)
		close(clients[n]);
}

/* No descriptor is left while it is said, tried again after the pause, and everything else goes on. */
static void test_no_room(void **state)
{
	char text[4 * sizeof(says)] = "";
	struct rlimit before, none;
	int clients[2], log = memfd_create("log", MFD_CLOEXEC);
	unsigned woke;

	come(clients);
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = (rlim_t)dup(listener);
	close((int)none.rlim_cur);
	log_set_fd(log);
	setrlimit(RLIMIT_NOFILE, &none);
	woke = run(ACCEPT_PAUSE_MS * 5 / 2);
	setrlimit(RLIMIT_NOFILE, &before);
	/* One that is held in the pause still is afterwards. */
	accepter_hold(accepter, true);
	run(ACCEPT_PAUSE_MS);
	assert_int_equal(count, 0);
	accepter_hold(accepter, false);
	run(20);
	log_set_fd(2);
	assert_true(pread(log, text, sizeof(text) - 1, 0) > 0);
	assert_int_equal(strlen(text), 3 * strlen(says));
	assert_memory_equal(text, says, strlen(says));
	assert_in_range(woke, 2, 20);
	assert_int_equal(count, 2);
	close(log);
	for (unsigned n = 0; n < 2; n++)
		close(clients[n]);
}

/* Freed in a pause, it leaves nothing in the loop. */
static void test_free_in_a_pause(void **state)
{
	struct rlimit before, none;
	int clients[2];

	come(clients);
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = (rlim_t)dup(listener);
	close((int)none.rlim_cur);
	setrlimit(RLIMIT_NOFILE, &none);
	run(20);
	setrlimit(RLIMIT_NOFILE, &before);
	accepter_free(accepter);
	accepter = NULL;
	run(ACCEPT_PAUSE_MS + 100);
	assert_int_equal(count, 0);
	for (unsigned n = 0; n < 2; n++)
		close(clients[n]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_who_comes, begin, end),
		cmocka_unit_test_setup_teardown(test_who_waits, begin, end),
		cmocka_unit_test_setup_teardown(test_no_room, begin, end),
		cmocka_unit_test_setup_teardown(test_free_in_a_pause, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
