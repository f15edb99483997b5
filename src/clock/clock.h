/*
 * The virtual clock of a VM: the one source of every guest-visible time, and its timers.
 *
 * Guest time is nanoseconds since the VM was started. It stands still while stopped and never runs
 * backwards, also across save and restore. The source is host time (CLOCK_MONOTONIC) or retired
 * guest instructions (icount), in which case the thread of the one vCPU drives it with
 * clock_icount_advance(), and timers are armed by that thread or while it is stopped.
 *
 * clock_now_ns(): any thread, lock-free. Timers: any thread. Timer callbacks run in the loop thread
 * (host time) or in the vCPU thread (icount), with the timer's mutex held.
 */
#ifndef VIREO_CLOCK_CLOCK_H
#define VIREO_CLOCK_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/state.h"

enum clock_source { CLOCK_SOURCE_HOST, CLOCK_SOURCE_ICOUNT };

struct vclock;

/* A new clock stands at 0 and is stopped. `loop` outlives it. */
struct vclock *clock_new(struct loop *loop, enum clock_source source, struct err *err);
void clock_free(struct vclock *c);

void clock_start(struct vclock *c);
void clock_stop(struct vclock *c);
int64_t clock_now_ns(struct vclock *c);
/* How often it was started: whoever derives time from another counter begins anew when this has changed. Any thread. */
unsigned clock_starts(struct vclock *c);

/* Wall-clock time in ns since 1970 that the guest should see now: a base taken at creation plus guest time. */
int64_t clock_wall_ns(struct vclock *c);
void clock_set_wall_base(struct vclock *c, int64_t ns_since_1970);

/*
 * The guest's TSC frequency, the same on every vCPU; ticks = guest time * freq. An engine whose guests read the host's
 * counter sets it before they run.
 */
#define CLOCK_TSC_HZ_MIN 500000001ull /* what kvmclock's multiplier can express */
#define CLOCK_TSC_HZ_MAX 100000000000ull
uint64_t clock_tsc_hz(struct vclock *c);
void clock_set_tsc_hz(struct vclock *c, uint64_t hz);
uint64_t clock_tsc(struct vclock *c);
int64_t clock_tsc_to_ns(struct vclock *c, uint64_t tsc);

/*
 * Saved: guest time, the wall base and the rate of the TSC, which a load brings with it. After a load, wall time
 * continues from the host's now (host time), or from where it was (icount).
 */
extern const struct state_desc clock_state;

typedef void clock_timer_fn(void *opaque);

struct clock_timer {
	struct vclock *clock;
	pthread_mutex_t *lock; /* held around fn; may be NULL when fn needs none */
	clock_timer_fn *fn;
	void *opaque;
	int64_t deadline_ns; /* guest time; CLOCK_NEVER when not armed */
	uint32_t heap_index; /* private to clock/ */
};
#define CLOCK_NEVER INT64_MAX

void clock_timer_init(struct clock_timer *t, struct vclock *c, pthread_mutex_t *lock, clock_timer_fn *fn, void *opaque);
/* Arm or move; a deadline in the past fires at once. */
void clock_timer_arm(struct clock_timer *t, int64_t deadline_ns);
/* If the caller holds t->lock, fn will not run after this returns. */
void clock_timer_cancel(struct clock_timer *t);
bool clock_timer_armed(const struct clock_timer *t);

/* --- icount, vCPU thread only --- */
/* Guest time moves by `ns`; due timers run before this returns. */
void clock_icount_advance(struct vclock *c, int64_t ns);
/* Nanoseconds to the next deadline, CLOCK_NEVER if none: an idle guest skips to it. */
int64_t clock_icount_next(struct vclock *c);
bool clock_is_icount(const struct vclock *c);

#endif
