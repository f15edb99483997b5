/*
 * HPET: a 64-bit counter of 10 ns steps and its comparators. The counter is the virtual clock's time; a comparator
 * matches when it equals the counter, as the specification has it, so one that is behind matches after the counter has
 * gone round.
 */
#include "dev/hpet.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define TICK_NS	  10u
#define PERIOD_FS (TICK_NS * 1000000u)
#define TIME_MAX  (1ull << 62)
#define NEVER	  ((uint64_t)CLOCK_NEVER)
/* No timer interrupts by itself more often: it would only keep the host busy. */
#define MIN_TICKS (100000u / TICK_NS)

enum { R_ID = 0x00, R_CONFIG = 0x10, R_STATUS = 0x20, R_COUNTER = 0xf0, R_TIMERS = 0x100, TIMER_SIZE = 0x20 };
enum { R_T_CONFIG = 0x00, R_T_COMPARATOR = 0x08, R_T_ROUTE = 0x10 };
enum { ID_REVISION = 1, ID_64_BIT = 1 << 13, ID_LEGACY = 1 << 15 };
#define ID_VENDOR 0x8086u
enum { CONFIG_ENABLE = 1, CONFIG_LEGACY = 2 };
enum {
	T_LEVEL = 1 << 1,
	T_ENABLE = 1 << 2,
	T_PERIODIC = 1 << 3,
	T_PERIODIC_CAP = 1 << 4,
	T_64_BIT_CAP = 1 << 5,
	T_SET = 1 << 6,
	T_32_BIT = 1 << 8,
	T_ROUTE = 0x1f << 9,
	T_FSB = 1 << 14,
	T_FSB_CAP = 1 << 15
};
#define T_KEPT (T_LEVEL | T_ENABLE | T_PERIODIC | T_SET | T_32_BIT | T_ROUTE | T_FSB)

/* The two interrupts that it shares, and their pins. */
enum { OUT_0, OUT_8, OUTS };
static const uint8_t pin_of[OUTS] = { 2, 8 };
#define ROUTES (1u << 2 | 1u << 8)

struct timer {
	struct hpet *hpet;
	unsigned n;
	struct clock_timer timer;

	/* saved */
	uint32_t config;
	uint64_t comparator, period, route;
	uint64_t due; /* guest time of the next match; NEVER: none is waited for */
};

struct hpet {
	struct device dev;
	pthread_mutex_t lock; /* after the 8254's and the clock's, before the interrupt controllers' */
	struct vclock *clock;
	struct irq_line out[OUTS];
	struct msi_sink msi;
	unsigned count;
	bool fsb;

	/* saved */
	uint32_t config, status;
	uint64_t base, since; /* the counter at guest time `since`, or as it stands while it is off */
	struct timer timer[HPET_MAX_TIMERS];
	bool old[OUTS]; /* what the 8254 and the clock say */

	uint32_t held[OUTS]; /* timers that hold an interrupt up, a bit each */
};

uint32_t hpet_id(unsigned timers)
{
	return ID_VENDOR << 16 | ID_LEGACY | ID_64_BIT | (timers - 1) << 8 | ID_REVISION;
}

static uint64_t counter(const struct hpet *h)
{
	if (!(h->config & CONFIG_ENABLE))
		return h->base;
	return h->base + ((uint64_t)clock_now_ns(h->clock) - h->since) / TICK_NS;
}

/* --- interrupts --- */

static bool legacy(const struct hpet *h)
{
	return h->config & CONFIG_LEGACY;
}

static void drive(struct hpet *h, unsigned out)
{
	irq_set(&h->out[out], h->held[out] || (h->old[out] && !legacy(h)));
}

/* Where timer `n` interrupts; OUTS: nowhere. */
static unsigned out_of(const struct hpet *h, unsigned n)
{
	unsigned route = (h->timer[n].config & T_ROUTE) >> 9;

	if (legacy(h) && n < OUTS)
		return n;
	for (unsigned out = 0; out < OUTS; out++)
		if (pin_of[out] == route)
			return out;
	return OUTS;
}

static void find_held(struct hpet *h)
{
	memset(h->held, 0, sizeof(h->held));
	for (unsigned n = 0; n < h->count; n++) {
		const struct timer *t = &h->timer[n];
		unsigned out = out_of(h, n);

		if (h->status >> n & 1 && (t->config & (T_LEVEL | T_ENABLE | T_FSB)) == (T_LEVEL | T_ENABLE) &&
		    out < OUTS)
			h->held[out] |= 1u << n;
	}
}

/* The levels that timers hold, after anything that they depend on has changed. */
static void drive_levels(struct hpet *h)
{
	find_held(h);
	for (unsigned out = 0; out < OUTS; out++)
		drive(h, out);
}

static void interrupt(struct hpet *h, struct timer *t)
{
	unsigned out = out_of(h, t->n);

	if (t->config & T_FSB && t->config & T_ENABLE) {
		msi_send(&h->msi, t->route >> 32, (uint32_t)t->route);
	} else if (t->config & T_LEVEL) {
		h->status |= 1u << t->n;
		drive_levels(h);
	} else if (t->config & T_ENABLE && out < OUTS) {
		irq_set(&h->out[out], true);
		drive(h, out);
	}
}

/* --- comparators --- */

static uint64_t mask_of(const struct timer *t)
{
	return t->config & T_32_BIT ? UINT32_MAX : UINT64_MAX;
}

static bool repeats(const struct timer *t)
{
	return t->config & T_PERIODIC && t->period;
}

/* A periodic comparator that the counter has passed goes on by whole periods. */
static void catch_up(struct timer *t, uint64_t now)
{
	uint64_t mask = mask_of(t), behind = (now - t->comparator) & mask;

	if (!repeats(t) || behind > mask / 2)
		return;
	t->comparator = (t->comparator + (behind / t->period + 1) * t->period) & mask;
}

static void wait_until(struct timer *t, uint64_t ns)
{
	t->due = ns;
	if (ns == NEVER)
		clock_timer_cancel(&t->timer);
	else
		clock_timer_arm(&t->timer, (int64_t)ns);
}

/* For the next match from now on. */
static void arm(struct timer *t)
{
	struct hpet *h = t->hpet;
	uint64_t ns = (uint64_t)clock_now_ns(h->clock), ticks;

	if (!(h->config & CONFIG_ENABLE) || !(t->config & (T_ENABLE | T_LEVEL))) {
		wait_until(t, NEVER);
		return;
	}
	ticks = (t->comparator - counter(h)) & mask_of(t);
	if (repeats(t) && ticks < MIN_TICKS && t->period < MIN_TICKS)
		ticks = MIN_TICKS;
	/* The first moment at which the counter has that value. */
	wait_until(t,
		   ticks > TIME_MAX / TICK_NS ? NEVER : ns + ticks * TICK_NS - (ticks ? (ns - h->since) % TICK_NS : 0));
}

static void expired(void *opaque)
{
	struct timer *t = opaque;
	struct hpet *h = t->hpet;

	interrupt(h, t);
	if (repeats(t)) {
		catch_up(t, counter(h));
		arm(t);
	} else if (t->config & T_32_BIT) { /* once more each time that the counter has gone round */
		wait_until(t, (uint64_t)clock_now_ns(h->clock) + (1ull << 32) * TICK_NS);
	} else {
		wait_until(t, NEVER);
	}
}

/* Before anything changes: what should have happened by now has. */
static void settle(struct hpet *h)
{
	uint64_t ns = (uint64_t)clock_now_ns(h->clock);

	for (unsigned n = 0; n < h->count; n++)
		if (h->timer[n].due <= ns)
			expired(&h->timer[n]);
}

static void arm_all(struct hpet *h)
{
	for (unsigned n = 0; n < h->count; n++) {
		catch_up(&h->timer[n], counter(h));
		arm(&h->timer[n]);
	}
}

/* --- registers --- */

static uint64_t timer_read(const struct hpet *h, struct timer *t, unsigned reg)
{
	switch (reg) {
	case R_T_CONFIG:
		return (uint64_t)ROUTES << 32 | t->config | T_PERIODIC_CAP | T_64_BIT_CAP | (h->fsb ? T_FSB_CAP : 0);
	case R_T_COMPARATOR:
		if (h->config & CONFIG_ENABLE)
			catch_up(t, counter(h));
		return t->comparator;
	case R_T_ROUTE:
		return t->route;
	default:
		return 0;
	}
}

static uint64_t reg_read(struct hpet *h, unsigned reg)
{
	unsigned n = (reg - R_TIMERS) / TIMER_SIZE;

	switch (reg) {
	case R_ID:
		return (uint64_t)PERIOD_FS << 32 | hpet_id(h->count);
	case R_CONFIG:
		return h->config;
	case R_STATUS:
		return h->status;
	case R_COUNTER:
		return counter(h);
	default:
		return reg >= R_TIMERS && n < h->count ? timer_read(h, &h->timer[n], reg % TIMER_SIZE) : 0;
	}
}

static void write_config(struct hpet *h, uint32_t val)
{
	uint32_t was = h->config;

	val &= CONFIG_ENABLE | CONFIG_LEGACY;
	if ((was ^ val) & CONFIG_ENABLE) {
		h->base = counter(h);
		h->since = (uint64_t)clock_now_ns(h->clock);
	}
	h->config = val;
	if ((was ^ val) & CONFIG_ENABLE)
		arm_all(h);
	drive_levels(h);
}

static void write_counter(struct hpet *h, uint64_t val)
{
	h->base = val;
	h->since = (uint64_t)clock_now_ns(h->clock);
	for (unsigned n = 0; n < h->count; n++)
		arm(&h->timer[n]);
}

static uint64_t merge(uint64_t old, uint64_t val, uint64_t mask)
{
	return (old & ~mask) | (val & mask);
}

/* While a timer is periodic what is written is the period, and the comparator too if the bit for that was set. */
static void write_comparator(struct timer *t, uint64_t val, uint64_t mask)
{
	mask &= mask_of(t);
	if (!(t->config & T_PERIODIC) || t->config & T_SET)
		t->comparator = merge(t->comparator, val, mask);
	if (t->config & T_PERIODIC)
		t->period = merge(t->period, val, mask);
	t->config &= ~(uint32_t)T_SET;
	arm(t);
}

static void timer_write(struct hpet *h, struct timer *t, unsigned reg, uint64_t val, uint64_t mask)
{
	switch (reg) {
	case R_T_CONFIG:
		catch_up(t, counter(h));
		t->config = (uint32_t)merge(t->config, val, mask) & T_KEPT & ~(uint32_t)(h->fsb ? 0 : T_FSB);
		t->comparator &= mask_of(t);
		t->period &= mask_of(t);
		if (!(t->config & T_LEVEL))
			h->status &= ~(1u << t->n);
		arm(t);
		drive_levels(h);
		break;
	case R_T_COMPARATOR:
		write_comparator(t, val, mask);
		break;
	case R_T_ROUTE:
		t->route = h->fsb ? merge(t->route, val, mask) : 0;
		break;
	}
}

/* `mask`: the bits that are written. */
static void reg_write(struct hpet *h, unsigned reg, uint64_t val, uint64_t mask)
{
	unsigned n = (reg - R_TIMERS) / TIMER_SIZE;

	settle(h);
	switch (reg) {
	case R_CONFIG:
		write_config(h, (uint32_t)merge(h->config, val, mask));
		break;
	case R_STATUS:
		h->status &= ~(uint32_t)(val & mask);
		drive_levels(h);
		break;
	case R_COUNTER:
		write_counter(h, merge(counter(h), val, mask));
		break;
	default:
		if (reg >= R_TIMERS && n < h->count)
			timer_write(h, &h->timer[n], reg % TIMER_SIZE, val, mask);
	}
}

static uint64_t range_read(void *opaque, uint64_t off, unsigned size)
{
	uint64_t v = reg_read(opaque, (unsigned)off & ~7u) >> (off & 4) * 8;

	return v & size_mask(size);
}

static void range_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	unsigned shift = (off & 4) * 8;

	reg_write(opaque, (unsigned)off & ~7u, val << shift, size_mask(size) << shift);
}

static const struct bus_ops ops = { range_read, range_write, { 1, 8 }, { 4, 8 } };

/* The 8254's and the clock's interrupts come by here. */
static void old_line(void *opaque, unsigned out, bool level)
{
	struct hpet *h = opaque;

	pthread_mutex_lock(&h->lock);
	h->old[out] = level;
	drive(h, out);
	pthread_mutex_unlock(&h->lock);
}

/* --- life --- */

static void reset(void *self)
{
	struct hpet *h = self;

	h->config = h->status = 0;
	h->base = h->since = 0;
	for (unsigned n = 0; n < h->count; n++) {
		struct timer *t = &h->timer[n];

		t->config = 0;
		t->comparator = UINT64_MAX;
		t->period = t->route = 0;
		wait_until(t, NEVER);
	}
	drive_levels(h);
}

static void destroy(void *self)
{
	struct hpet *h = self;

	pthread_mutex_lock(&h->lock);
	for (unsigned n = 0; n < h->count; n++)
		clock_timer_cancel(&h->timer[n].timer);
	pthread_mutex_unlock(&h->lock);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static int post_load(void *obj, struct err *err)
{
	struct hpet *h = obj;
	uint32_t all = (uint32_t)(size_mask(8) >> (64 - h->count));

	if (h->config & ~(uint32_t)(CONFIG_ENABLE | CONFIG_LEGACY) || h->status & ~all ||
	    h->since > (uint64_t)clock_now_ns(h->clock))
		return err_set(err, "hpet: the timers are out of range");
	for (unsigned n = 0; n < HPET_MAX_TIMERS; n++) {
		const struct timer *t = &h->timer[n];

		if (t->config & ~(uint32_t)T_KEPT || (t->config & T_FSB && !h->fsb) ||
		    (t->comparator | t->period) & ~mask_of(t) || (t->due > TIME_MAX && t->due != NEVER) ||
		    (t->due != NEVER && n >= h->count))
			return err_set(err, "hpet: timer %u is out of range", n);
	}
	for (unsigned n = 0; n < h->count; n++)
		wait_until(&h->timer[n], h->timer[n].due);
	find_held(h);
	return 0;
}

static const struct state_field timer_fields[] = {
	STATE_U32F(struct timer, config), STATE_U64F(struct timer, comparator), STATE_U64F(struct timer, period),
	STATE_U64F(struct timer, route),  STATE_U64F(struct timer, due),	STATE_FIELD_END,
};
static const struct state_desc timer_state = {
	.name = "timer", .version = 1, .min_version = 1, .fields = timer_fields
};
static const struct state_field fields[] = {
	STATE_U32F(struct hpet, config),
	STATE_U32F(struct hpet, status),
	STATE_U64F(struct hpet, base),
	STATE_U64F(struct hpet, since),
	STATE_SUBA(struct hpet, timer, &timer_state),
	STATE_ARRAY_(STATE_BOOL, bool, struct hpet, old),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "hpet", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

struct device *hpet_new(const struct hpet_config *c, struct err *err)
{
	struct hpet *h = calloc(1, sizeof(*h));
	struct bus_range range = { "hpet", &ops, h, NULL };

	if (!h) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&h->lock, NULL);
	range.lock = &h->lock;
	h->clock = c->clock;
	h->out[OUT_0] = c->irq0;
	h->out[OUT_8] = c->irq8;
	h->msi = c->msi;
	h->count = c->timers;
	h->fsb = c->fsb;
	for (unsigned n = 0; n < h->count; n++) {
		h->timer[n].hpet = h;
		h->timer[n].n = n;
		clock_timer_init(&h->timer[n].timer, c->clock, &h->lock, expired, &h->timer[n]);
	}
	h->dev = (struct device){ .name = "hpet",
				  .instance = "0",
				  .self = h,
				  .state = &state,
				  .lock = &h->lock,
				  .reset = reset,
				  .destroy = destroy };
	for (unsigned n = 0; n < HPET_MAX_TIMERS; n++)
		h->timer[n].due = NEVER;
	reset(h);
	if (!bus_add(c->bus, BUS_MMIO, HPET_BASE, HPET_SIZE, &range, err)) {
		destroy(h);
		return NULL;
	}
	*c->pit = (struct irq_line){ old_line, h, OUT_0 };
	*c->rtc = (struct irq_line){ old_line, h, OUT_8 };
	return &h->dev;
}
