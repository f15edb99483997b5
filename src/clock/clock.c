/* The virtual clock: an offset to host time (or a counter, with icount), and a binary heap of timers. */
#include "clock/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NOT_IN_HEAP UINT32_MAX
#define NS_PER_S    1000000000ull
#define TSC_HZ	    NS_PER_S /* one tick a nanosecond: software engines choose the simplest rate */

struct vclock {
	enum clock_source source;
	_Atomic bool running;
	/* Guest time = host now + offset while running, else `stopped_at`. icount: always `stopped_at`. */
	_Atomic int64_t offset, stopped_at;
	int64_t wall_base; /* wall-clock ns at guest time 0 */
	uint64_t tsc_hz;
	_Atomic unsigned starts;
	uint64_t saved_now, saved_wall;

	struct loop *loop;
	int fd;
	struct loop_fd *watch;

	pthread_mutex_t lock; /* of the heap */
	struct clock_timer **heap;
	uint32_t count, capacity;
};

static int64_t host_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int64_t clock_now_ns(struct vclock *c)
{
	if (c->source == CLOCK_SOURCE_HOST && c->running)
		return host_ns(CLOCK_MONOTONIC) + c->offset;
	return c->stopped_at;
}

/* --- heap, under c->lock --- */

static void heap_put(struct vclock *c, uint32_t i, struct clock_timer *t)
{
	c->heap[i] = t;
	t->heap_index = i;
}

static void sift_up(struct vclock *c, uint32_t i)
{
	struct clock_timer *t = c->heap[i];

	while (i && c->heap[(i - 1) / 2]->deadline_ns > t->deadline_ns) {
		heap_put(c, i, c->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(c, i, t);
}

static void sift_down(struct vclock *c, uint32_t i)
{
	struct clock_timer *t = c->heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= c->count)
			break;
		if (child + 1 < c->count && c->heap[child + 1]->deadline_ns < c->heap[child]->deadline_ns)
			child++;
		if (c->heap[child]->deadline_ns >= t->deadline_ns)
			break;
		heap_put(c, i, c->heap[child]);
		i = child;
	}
	heap_put(c, i, t);
}

static void heap_remove(struct vclock *c, struct clock_timer *t)
{
	uint32_t i = t->heap_index;

	if (i == NOT_IN_HEAP)
		return;
	t->heap_index = NOT_IN_HEAP;
	if (i == --c->count)
		return;
	heap_put(c, i, c->heap[c->count]);
	sift_up(c, i);
	sift_down(c, c->heap[i]->heap_index);
}

/* Set the host timer for the first deadline. */
static void program(struct vclock *c)
{
	struct itimerspec its = { 0 };

	if (c->source != CLOCK_SOURCE_HOST)
		return;
	if (c->running && c->count) {
		int64_t at = c->heap[0]->deadline_ns - c->offset;

		if (at < 1)
			at = 1;
		its.it_value.tv_sec = at / 1000000000;
		its.it_value.tv_nsec = at % 1000000000;
	}
	timerfd_settime(c->fd, TFD_TIMER_ABSTIME, &its, NULL);
}

/*
 * Run what is due. The timer's own lock is taken before it is decided that it fires, so that a
 * canceller who holds that lock is sure of it.
 */
static void run_due(struct vclock *c)
{
	int64_t now = clock_now_ns(c);

	pthread_mutex_lock(&c->lock);
	while (c->count && c->heap[0]->deadline_ns <= now) {
		struct clock_timer *t = c->heap[0];
		pthread_mutex_t *lock = t->lock;

		if (lock && pthread_mutex_trylock(lock)) {
			/* Lock order is timer lock before heap lock: let go, take both, look again. */
			pthread_mutex_unlock(&c->lock);
			pthread_mutex_lock(lock);
			pthread_mutex_lock(&c->lock);
			if (!c->count || c->heap[0] != t || t->deadline_ns > now) {
				pthread_mutex_unlock(lock);
				continue;
			}
		}
		heap_remove(c, t);
		t->deadline_ns = CLOCK_NEVER;
		pthread_mutex_unlock(&c->lock);
		t->fn(t->opaque);
		if (lock)
			pthread_mutex_unlock(lock);
		pthread_mutex_lock(&c->lock);
	}
	program(c);
	pthread_mutex_unlock(&c->lock);
}

static void timer_ready(void *opaque, int fd, uint32_t events)
{
	uint64_t expirations;

	if (read(fd, &expirations, sizeof(expirations)) < 0)
		return;
	run_due(opaque);
}

struct vclock *clock_new(struct loop *loop, enum clock_source source, struct err *err)
{
	struct vclock *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(err, "out of memory");
		return NULL;
	}
	c->source = source;
	c->tsc_hz = TSC_HZ;
	c->loop = loop;
	c->wall_base = host_ns(CLOCK_REALTIME);
	pthread_mutex_init(&c->lock, NULL);
	c->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (c->fd < 0) {
		err_errno(err, errno, "clock");
		clock_free(c);
		return NULL;
	}
	c->watch = loop_fd_add(loop, c->fd, EPOLLIN, timer_ready, c, err);
	if (!c->watch) {
		clock_free(c);
		return NULL;
	}
	return c;
}

void clock_free(struct vclock *c)
{
	if (!c)
		return;
	loop_fd_del(c->watch);
	if (c->fd >= 0)
		close(c->fd);
	pthread_mutex_destroy(&c->lock);
	free(c->heap);
	free(c);
}

void clock_start(struct vclock *c)
{
	pthread_mutex_lock(&c->lock);
	if (!c->running) {
		c->offset = c->stopped_at - host_ns(CLOCK_MONOTONIC);
		c->running = true;
		c->starts++;
		program(c);
	}
	pthread_mutex_unlock(&c->lock);
}

unsigned clock_starts(struct vclock *c)
{
	return c->starts;
}

void clock_stop(struct vclock *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->running) {
		c->stopped_at = clock_now_ns(c);
		c->running = false;
		program(c);
	}
	pthread_mutex_unlock(&c->lock);
}

int64_t clock_wall_ns(struct vclock *c)
{
	return c->wall_base + clock_now_ns(c);
}

void clock_set_wall_base(struct vclock *c, int64_t ns_since_1970)
{
	c->wall_base = ns_since_1970;
}

uint64_t clock_tsc_hz(struct vclock *c)
{
	return c->tsc_hz;
}

void clock_set_tsc_hz(struct vclock *c, uint64_t hz)
{
	c->tsc_hz = hz;
}

static uint64_t scale(uint64_t v, uint64_t to, uint64_t from)
{
	return to == from ? v : (uint64_t)((unsigned __int128)v * to / from);
}

uint64_t clock_tsc(struct vclock *c)
{
	return scale((uint64_t)clock_now_ns(c), c->tsc_hz, NS_PER_S);
}

int64_t clock_tsc_to_ns(struct vclock *c, uint64_t tsc)
{
	uint64_t ns = scale(tsc, NS_PER_S, c->tsc_hz);

	return ns > INT64_MAX ? CLOCK_NEVER : (int64_t)ns;
}

/* --- timers --- */

void clock_timer_init(struct clock_timer *t, struct vclock *c, pthread_mutex_t *lock, clock_timer_fn *fn, void *opaque)
{
	*t = (struct clock_timer){ c, lock, fn, opaque, CLOCK_NEVER, NOT_IN_HEAP };
}

void clock_timer_arm(struct clock_timer *t, int64_t deadline_ns)
{
	struct vclock *c = t->clock;

	pthread_mutex_lock(&c->lock);
	heap_remove(c, t);
	t->deadline_ns = deadline_ns;
	if (deadline_ns != CLOCK_NEVER) {
		if (c->count == c->capacity) {
			uint32_t capacity = c->capacity ? 2 * c->capacity : 16;
			struct clock_timer **grown = realloc(c->heap, capacity * sizeof(*grown));

			/* The number of timers is fixed by the devices of a machine; without this one it would hang. */
			if (!grown)
				abort();
			c->heap = grown;
			c->capacity = capacity;
		}
		heap_put(c, c->count++, t);
		sift_up(c, c->count - 1);
	}
	program(c);
	pthread_mutex_unlock(&c->lock);
}

void clock_timer_cancel(struct clock_timer *t)
{
	clock_timer_arm(t, CLOCK_NEVER);
}

bool clock_timer_armed(const struct clock_timer *t)
{
	return t->deadline_ns != CLOCK_NEVER;
}

/* --- icount --- */

void clock_icount_advance(struct vclock *c, int64_t ns)
{
	c->stopped_at += ns;
	run_due(c);
}

int64_t clock_icount_next(struct vclock *c)
{
	int64_t next;

	pthread_mutex_lock(&c->lock);
	next = c->count ? c->heap[0]->deadline_ns - c->stopped_at : CLOCK_NEVER;
	pthread_mutex_unlock(&c->lock);
	return next < 0 ? 0 : next;
}

bool clock_is_icount(const struct vclock *c)
{
	return c->source == CLOCK_SOURCE_ICOUNT;
}

/* --- saved state --- */

static void pre_save(void *obj)
{
	struct vclock *c = obj;

	c->saved_now = clock_now_ns(c);
	c->saved_wall = clock_wall_ns(c);
}

static int post_load(void *obj, struct err *err)
{
	struct vclock *c = obj;

	/* Half the range leaves room for 146 years of running. */
	if (c->saved_now > INT64_MAX / 2 || c->saved_wall > INT64_MAX)
		return err_set(err, "guest time is out of range");
	if (c->tsc_hz < CLOCK_TSC_HZ_MIN || c->tsc_hz > CLOCK_TSC_HZ_MAX)
		return err_set(err, "the rate of the TSC is out of range");
	c->stopped_at = c->saved_now;
	/* The guest has slept, not travelled: its wall clock is the host's. A counted clock knows no host. */
	c->wall_base = (c->source == CLOCK_SOURCE_ICOUNT ? (int64_t)c->saved_wall : host_ns(CLOCK_REALTIME)) -
		       (int64_t)c->saved_now;
	return 0;
}

static const struct state_field clock_fields[] = {
	STATE_U64F(struct vclock, saved_now),
	STATE_U64F(struct vclock, saved_wall),
	STATE_SCALAR_(STATE_U64, struct vclock, tsc_hz, 2),
	STATE_FIELD_END,
};

const struct state_desc clock_state = {
	.name = "clock",
	.version = 2,
	.min_version = 1,
	.fields = clock_fields,
	.pre_save = pre_save,
	.post_load = post_load,
};
