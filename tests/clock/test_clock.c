/* clock/clock.c: time that never runs backwards, timers in order, icount. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock/clock.h"

struct fired {
	struct loop *loop;
	int order[64], n, quit_at;
};

struct probe {
	struct fired *f;
	int id;
	struct clock_timer timer;
};

static void fire(void *opaque)
{
	struct probe *p = opaque;

	p->f->order[p->f->n++] = p->id;
	if (p->f->n == p->f->quit_at)
		loop_quit(p->f->loop);
}

static void a_stopped_clock_stands_and_resumes(void **state)
{
	struct err err;
	struct loop *l = loop_new(&err);
	struct vclock *c = clock_new(l, CLOCK_SOURCE_HOST, &err);

	assert_int_equal(clock_now_ns(c), 0);
	clock_start(c);
	usleep(2000);
	clock_stop(c);
	int64_t t = clock_now_ns(c);
	assert_true(t >= 2000000);
	usleep(20000);
	assert_int_equal(clock_now_ns(c), t);
	clock_start(c);
	assert_true(clock_now_ns(c) >= t && clock_now_ns(c) < t + 15000000);
	clock_free(c);
	loop_free(l);
}

static void timers_fire_in_order_of_deadline(void **state)
{
	struct err err;
	struct fired f = { .loop = loop_new(&err), .quit_at = 15 };
	struct vclock *c = clock_new(f.loop, CLOCK_SOURCE_HOST, &err);
	struct probe p[16];
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	for (int i = 0; i < 16; i++) {
		p[i] = (struct probe){ &f, i };
		clock_timer_init(&p[i].timer, c, &lock, fire, &p[i]);
		clock_timer_arm(&p[i].timer, (i * 7 % 16 + 1) * 100000);
	}
	clock_timer_cancel(&p[3].timer);
	assert_false(clock_timer_armed(&p[3].timer));
	clock_start(c);
	loop_run(f.loop);
	for (int i = 1; i < f.n; i++)
		assert_true(f.order[i - 1] * 7 % 16 < f.order[i] * 7 % 16);
	clock_free(c);
	loop_free(f.loop);
}

static void icount_moves_only_when_told(void **state)
{
	struct err err;
	struct fired f = { .loop = loop_new(&err) };
	struct vclock *c = clock_new(f.loop, CLOCK_SOURCE_ICOUNT, &err);
	struct probe p = { &f, 1 };

	clock_start(c);
	clock_timer_init(&p.timer, c, NULL, fire, &p);
	clock_timer_arm(&p.timer, 1000);
	assert_int_equal(clock_icount_next(c), 1000);
	clock_icount_advance(c, 999);
	assert_int_equal(f.n, 0);
	clock_icount_advance(c, 1);
	assert_int_equal(f.n, 1);
	assert_int_equal(clock_icount_next(c), CLOCK_NEVER);
	clock_free(c);
	loop_free(f.loop);
}

static void a_restored_clock_goes_on_where_it_was(void **state)
{
	struct err err;
	struct loop *l = loop_new(&err);
	struct vclock *a = clock_new(l, CLOCK_SOURCE_HOST, &err), *b = clock_new(l, CLOCK_SOURCE_HOST, &err);
	char *buf;
	size_t len;

	clock_start(a);
	usleep(3000);
	clock_stop(a);
	clock_set_tsc_hz(a, 2500000000);
	FILE *f = open_memstream(&buf, &len);
	assert_int_equal(state_save(f, &clock_state, "0", a, &err), 0);
	fclose(f);
	f = fmemopen(buf, len, "r");
	assert_int_equal(state_load(f, &clock_state, "0", b, &err), 0);
	fclose(f);
	assert_int_equal(clock_now_ns(b), clock_now_ns(a));
	/* A guest has measured its TSC: the rate comes along. */
	assert_int_equal(clock_tsc_hz(b), 2500000000);
	assert_int_equal(clock_tsc(b), clock_now_ns(b) * 5 / 2);
	free(buf);
	clock_free(a);
	clock_free(b);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stopped_clock_stands_and_resumes),
		cmocka_unit_test(timers_fire_in_order_of_deadline),
		cmocka_unit_test(icount_moves_only_when_told),
		cmocka_unit_test(a_restored_clock_goes_on_where_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
