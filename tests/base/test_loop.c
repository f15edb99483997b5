/* base/loop.c: posting from other threads, deleting a watch in a callback, hooks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/loop.h"

#define POSTS 1000

struct counter {
	struct loop *loop;
	unsigned n, until;
};

static void count(void *opaque)
{
	struct counter *c = opaque;

	if (++c->n == c->until)
		loop_quit(c->loop);
}

static void *poster(void *opaque)
{
	struct counter *c = opaque;

	for (int i = 0; i < POSTS; i++)
		loop_post(c->loop, count, c);
	return NULL;
}

static void every_post_runs_once(void **state)
{
	struct err err;
	struct counter c = { loop_new(&err), 0, 2 * POSTS };
	pthread_t t[2];

	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, poster, &c);
	loop_run(c.loop);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(c.n, 2 * POSTS);
	loop_free(c.loop);
}

struct pair {
	struct loop *loop;
	struct loop_fd *watch[2];
	unsigned calls;
};

static void delete_both(void *opaque, int fd, uint32_t events)
{
	struct pair *p = opaque;

	p->calls++;
	for (int i = 0; i < 2; i++)
		loop_fd_del(p->watch[i]);
	loop_quit(p->loop);
}

static void a_deleted_watch_is_not_called_again(void **state)
{
	struct err err;
	struct pair p = { .loop = loop_new(&err) };
	int fds[2][2];

	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(fds[i]), 0);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
		p.watch[i] = loop_fd_add(p.loop, fds[i][0], EPOLLIN, delete_both, &p, &err);
		assert_non_null(p.watch[i]);
	}
	loop_run(p.loop);
	assert_int_equal(p.calls, 1);
	for (int i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	loop_free(p.loop);
}

static void short_sleep(void *opaque, int *timeout_ms)
{
	*timeout_ms = 1;
}

static void hooks_bound_the_sleep(void **state)
{
	struct err err;
	struct counter c = { loop_new(&err), 0, 3 };
	struct loop_hook hook = { .prepare = short_sleep, .ready = count, .opaque = &c };

	loop_hook_add(c.loop, &hook);
	loop_run(c.loop);
	loop_hook_del(c.loop, &hook);
	assert_int_equal(c.n, 3);
	loop_free(c.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_post_runs_once),
		cmocka_unit_test(a_deleted_watch_is_not_called_again),
		cmocka_unit_test(hooks_bound_the_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
