/*
 * The local APIC's timer: one-shot, periodic and TSC deadline. SDM vol. 3, 11.5.4. The bus clock is 1 GHz, so
 * that with divide by 1 a count is a nanosecond. The vCPU's thread, and the clock's for the callback.
 */
#include "irq/x86/impl.h"

/* A guest that asks for shorter periods gets this; the clock's thread must not be kept busy by one. */
#define MIN_PERIOD_NS 20000

static unsigned divisor(const struct lapic *l)
{
	unsigned code = (l->divide & 3) | (l->divide >> 1 & 4);

	return code == 7 ? 1 : 2u << code;
}

static int64_t period_ns(const struct lapic *l)
{
	return (int64_t)l->initial_count * divisor(l);
}

static uint32_t mode(const struct lapic *l)
{
	return atomic_load(&l->lvt[LVT_TIMER]) & LVT_TIMER_MODE;
}

static void expired(void *opaque)
{
	struct lapic *l = opaque;
	int64_t period = period_ns(l);

	if (mode(l) == LVT_DEADLINE) {
		l->deadline_tsc = 0;
	} else if (mode(l) == LVT_PERIODIC && l->initial_count) {
		int64_t now = clock_now_ns(l->chip->cfg.clock);

		l->started_ns += period;
		/* Missed ticks are not replayed. */
		if (now - l->started_ns >= period)
			l->started_ns = now - (now - l->started_ns) % period;
		clock_timer_arm(&l->timer, l->started_ns + (period > MIN_PERIOD_NS ? period : MIN_PERIOD_NS));
	}
	lapic_local(l, LVT_TIMER);
}

void lapic_timer_init(struct lapic *l)
{
	clock_timer_init(&l->timer, l->chip->cfg.clock, &l->lock, expired, l);
}

/* What is due happens before a register is looked at or written, however late the clock's thread is. Lock held. */
static void catch_up(struct lapic *l)
{
	if (l->timer.deadline_ns > clock_now_ns(l->chip->cfg.clock))
		return;
	clock_timer_cancel(&l->timer);
	expired(l);
}

static void stop(struct lapic *l)
{
	clock_timer_cancel(&l->timer);
	l->deadline_tsc = 0;
}

void lapic_timer_reset(struct lapic *l)
{
	pthread_mutex_lock(&l->lock);
	stop(l);
	l->initial_count = l->divide = 0;
	l->started_ns = 0;
	pthread_mutex_unlock(&l->lock);
}

/* The count as the guest reads it: it stands at 0 once a one-shot has expired. Lock held. */
static uint32_t current(const struct lapic *l)
{
	int64_t gone = (clock_now_ns(l->chip->cfg.clock) - l->started_ns) / (int64_t)divisor(l);

	if (mode(l) == LVT_DEADLINE || !l->initial_count || !clock_timer_armed(&l->timer))
		return 0;
	if (mode(l) == LVT_PERIODIC)
		return (uint32_t)(l->initial_count - gone % l->initial_count);
	return gone < (int64_t)l->initial_count ? (uint32_t)(l->initial_count - gone) : 0;
}

static void start(struct lapic *l)
{
	if (mode(l) == LVT_DEADLINE)
		return;
	l->started_ns = clock_now_ns(l->chip->cfg.clock);
	if (l->initial_count)
		clock_timer_arm(&l->timer, l->started_ns + period_ns(l));
	else
		clock_timer_cancel(&l->timer);
}

/* A running count goes on from where it is at the new rate. */
static void set_divide(struct lapic *l, uint32_t divide)
{
	bool running = mode(l) != LVT_DEADLINE && clock_timer_armed(&l->timer);
	uint32_t left = current(l);

	l->divide = divide;
	if (!running)
		return;
	l->started_ns = clock_now_ns(l->chip->cfg.clock) - (int64_t)(l->initial_count - left) * divisor(l);
	clock_timer_arm(&l->timer, l->started_ns + period_ns(l));
}

void lapic_timer_write(struct lapic *l, uint32_t off, uint32_t val)
{
	pthread_mutex_lock(&l->lock);
	catch_up(l);
	if (off == LAPIC_LVT) {
		uint32_t old = mode(l);

		atomic_store(&l->lvt[LVT_TIMER], val);
		if ((old == LVT_DEADLINE) != (mode(l) == LVT_DEADLINE)) {
			stop(l);
			l->initial_count = 0;
		}
	} else if (off == LAPIC_INITIAL_COUNT) {
		if (mode(l) != LVT_DEADLINE) {
			l->initial_count = val;
			start(l);
		}
	} else {
		set_divide(l, val & 11);
	}
	pthread_mutex_unlock(&l->lock);
}

uint32_t lapic_timer_current(struct lapic *l)
{
	uint32_t left;

	pthread_mutex_lock(&l->lock);
	catch_up(l);
	left = current(l);
	pthread_mutex_unlock(&l->lock);
	return left;
}

uint64_t lapic_deadline_get(struct lapic *l)
{
	uint64_t v;

	pthread_mutex_lock(&l->lock);
	catch_up(l);
	v = l->deadline_tsc;
	pthread_mutex_unlock(&l->lock);
	return v;
}

/* A time that is over interrupts before the next instruction. */
void lapic_deadline_set(struct lapic *l, uint64_t tsc)
{
	int64_t at = clock_tsc_to_ns(l->chip->cfg.clock, tsc);

	pthread_mutex_lock(&l->lock);
	if (mode(l) == LVT_DEADLINE) {
		bool over = tsc && at <= clock_now_ns(l->chip->cfg.clock);

		l->deadline_tsc = over ? 0 : tsc;
		if (tsc && !over)
			clock_timer_arm(&l->timer, at);
		else
			clock_timer_cancel(&l->timer);
		if (over)
			lapic_local(l, LVT_TIMER);
	}
	pthread_mutex_unlock(&l->lock);
}

void lapic_timer_adopt(struct lapic *l, uint32_t left)
{
	int64_t now = clock_now_ns(l->chip->cfg.clock);

	l->started_ns = now - (int64_t)(l->initial_count - left) * divisor(l);
	if (mode(l) == LVT_DEADLINE)
		l->saved_deadline =
			l->deadline_tsc ? clock_tsc_to_ns(l->chip->cfg.clock, l->deadline_tsc) : CLOCK_NEVER;
	else
		/*
		 * A count that is over has interrupted, or is about to: KVM does not tell which. A tick too many does
		 * no harm, one too few may be the last.
		 */
		l->saved_deadline = l->initial_count ? now + (int64_t)left * divisor(l) : CLOCK_NEVER;
}

void lapic_timer_quiet(struct lapic *l)
{
	pthread_mutex_lock(&l->lock);
	clock_timer_cancel(&l->timer);
	pthread_mutex_unlock(&l->lock);
}

void lapic_timer_loaded(struct lapic *l)
{
	pthread_mutex_lock(&l->lock);
	if (l->saved_deadline == CLOCK_NEVER)
		clock_timer_cancel(&l->timer);
	else
		clock_timer_arm(&l->timer, l->saved_deadline);
	pthread_mutex_unlock(&l->lock);
}
