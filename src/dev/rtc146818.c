/*
 * The MC146818A real-time clock and CMOS memory (Motorola's data sheet). Time of day is the VM's wall clock plus what
 * the guest set; nothing ticks unless an interrupt is enabled, and the flags of register C follow from when they were
 * last looked at. Interrupt 8 is a line: PF, AF and UF with their enables.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dev/isa.h"

enum {
	SECONDS,
	SECONDS_ALARM,
	MINUTES,
	MINUTES_ALARM,
	HOURS,
	HOURS_ALARM,
	WEEKDAY,
	DAY,
	MONTH,
	YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
	CENTURY = 0x32
};

#define A_RATE	 0x0fu
#define A_RESET	 0x60u /* 11x: the divider is held in reset */
#define A_UIP	 0x80u
#define B_24H	 0x02u
#define B_BINARY 0x04u
#define B_UIE	 0x10u
#define B_AIE	 0x20u
#define B_PIE	 0x40u
#define B_SET	 0x80u
#define C_FLAGS	 0x70u /* PF, AF, UF: where register B has their enables */
#define C_IRQF	 0x80u
#define D_VALID	 0x80u
#define ANY	 0xc0u /* in an alarm register */
#define NS	 1000000000ll
#define DAY_S	 86400
#define UIP_NS	 244000ll /* UIP shows an update that comes within this time */
/* Years 0 to 9999 and some: what a guest can set, and far from any overflow. */
#define OFFSET_MAX (1ll << 40)

struct rtc {
	struct device dev;
	pthread_mutex_t lock;
	struct vclock *clock;
	struct irq_line irq;
	struct clock_timer timer;
	uint8_t index, ram[128];
	/* Guest's time of day = wall clock + phase + offset. The phase is where its seconds begin, below 1 s. */
	uint64_t offset_s, phase_ns; /* offset: two's complement */
	void (*changed)(void *opaque);
	void *opaque;
	uint64_t seen_s, seen_ns; /* guest's time of day and guest time when the flags were last brought up to date */
};

/* --- time of day --- */

static int64_t subseconds(const struct rtc *r)
{
	return (clock_wall_ns(r->clock) + (int64_t)r->phase_ns) % NS;
}

static int64_t seconds_now(const struct rtc *r)
{
	return (clock_wall_ns(r->clock) + (int64_t)r->phase_ns) / NS + (int64_t)r->offset_s;
}

/* The guest holds the registers, or the divider: no updates. */
static bool held(const struct rtc *r)
{
	return r->ram[REG_B] & B_SET || (r->ram[REG_A] & A_RESET) == A_RESET;
}

static uint8_t encode(const struct rtc *r, int v)
{
	return (uint8_t)(r->ram[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static int decode(const struct rtc *r, uint8_t v)
{
	return r->ram[REG_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t encode_hour(const struct rtc *r, int h)
{
	if (r->ram[REG_B] & B_24H)
		return encode(r, h);
	return (uint8_t)(encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0));
}

static int decode_hour(const struct rtc *r, uint8_t v)
{
	if (r->ram[REG_B] & B_24H)
		return decode(r, v);
	return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

/* Bring the time registers up to date, unless the guest holds them. */
static void refresh(struct rtc *r)
{
	time_t t = seconds_now(r);
	struct tm tm;
	int year;

	if (held(r) || !gmtime_r(&t, &tm))
		return;
	year = ((tm.tm_year + 1900) % 10000 + 10000) % 10000;
	r->ram[SECONDS] = encode(r, tm.tm_sec);
	r->ram[MINUTES] = encode(r, tm.tm_min);
	r->ram[HOURS] = encode_hour(r, tm.tm_hour);
	r->ram[WEEKDAY] = encode(r, tm.tm_wday + 1);
	r->ram[DAY] = encode(r, tm.tm_mday);
	r->ram[MONTH] = encode(r, tm.tm_mon + 1);
	r->ram[YEAR] = encode(r, year % 100);
	r->ram[CENTURY] = encode(r, year / 100);
}

/* The guest changed the registers: what they say is now. */
static void adopt(struct rtc *r)
{
	struct tm tm = {
		.tm_sec = decode(r, r->ram[SECONDS]),
		.tm_min = decode(r, r->ram[MINUTES]),
		.tm_hour = decode_hour(r, r->ram[HOURS]),
		.tm_mday = decode(r, r->ram[DAY]),
		.tm_mon = decode(r, r->ram[MONTH]) - 1,
		.tm_year = decode(r, r->ram[YEAR]) + 100 * (decode(r, r->ram[CENTURY]) - 19),
	};
	time_t t = timegm(&tm);

	r->offset_s += (uint64_t)(t - seconds_now(r));
	r->seen_s = (uint64_t)t;
	if (r->changed)
		r->changed(r->opaque);
}

/* --- flags and the interrupt --- */

static bool matches(const struct rtc *r, unsigned alarm, uint8_t value)
{
	return r->ram[alarm] >= ANY || r->ram[alarm] == value;
}

/*
 * The first second in (from, to] at which the alarm rings, or -1. A day is all that need be looked at, and hours and
 * minutes that do not match are passed over as a whole.
 */
static int64_t alarm_between(const struct rtc *r, int64_t from, int64_t to)
{
	bool possible = false;

	for (int s = 0; s < 60; s++)
		possible |= matches(r, SECONDS_ALARM, encode(r, s));
	if (to - from > DAY_S)
		to = from + DAY_S;
	for (int64_t t = from + 1, step; possible && t <= to; t += step) {
		int s = (int)((t % DAY_S + DAY_S) % DAY_S);

		if (!matches(r, HOURS_ALARM, encode_hour(r, s / 3600)))
			step = 3600 - s % 3600;
		else if (!matches(r, MINUTES_ALARM, encode(r, s / 60 % 60)))
			step = 60 - s % 60;
		else if (!matches(r, SECONDS_ALARM, encode(r, s % 60)))
			step = 1;
		else
			return t;
	}
	return -1;
}

static int64_t period_ns(const struct rtc *r)
{
	unsigned rate = r->ram[REG_A] & A_RATE;

	if (!rate || (r->ram[REG_A] & A_RESET) == A_RESET)
		return 0;
	if (rate < 3)
		rate += 7;
	return NS * (1ll << (rate - 1)) / 32768;
}

/* Set the flags of what has happened since the last time. However much that was, each is set once. */
static void catch_up(struct rtc *r)
{
	int64_t now_ns = clock_now_ns(r->clock), now_s = seconds_now(r), period = period_ns(r);

	if (period && now_ns / period != (int64_t)r->seen_ns / period)
		r->ram[REG_C] |= B_PIE;
	r->seen_ns = (uint64_t)now_ns;
	if (!held(r) && now_s > (int64_t)r->seen_s) {
		r->ram[REG_C] |= B_UIE;
		if (alarm_between(r, (int64_t)r->seen_s, now_s) >= 0)
			r->ram[REG_C] |= B_AIE;
	}
	r->seen_s = (uint64_t)now_s;
}

/* When the next enabled flag will be set that is not set yet. */
static int64_t next_event(const struct rtc *r)
{
	int64_t now = clock_now_ns(r->clock), at = CLOCK_NEVER, period = period_ns(r), s, alarm;
	uint8_t wanted = r->ram[REG_B] & (uint8_t)~r->ram[REG_C] & C_FLAGS;

	if (wanted & B_PIE && period)
		at = (now / period + 1) * period;
	if (held(r))
		return at;
	s = seconds_now(r);
	if (wanted & B_UIE)
		alarm = s + 1;
	else
		alarm = wanted & B_AIE ? alarm_between(r, s, s + DAY_S) : -1;
	if (alarm >= 0) {
		int64_t second = now - subseconds(r) + (alarm - s) * NS;

		at = second < at ? second : at;
	}
	return at;
}

/* After any change: the line, and the timer for the next event. */
static void update(struct rtc *r)
{
	bool irq = r->ram[REG_C] & r->ram[REG_B] & C_FLAGS;

	r->ram[REG_C] = (uint8_t)((r->ram[REG_C] & C_FLAGS) | (irq ? C_IRQF : 0));
	irq_set(&r->irq, irq);
	clock_timer_arm(&r->timer, next_event(r));
}

static void expired(void *opaque)
{
	catch_up(opaque);
	update(opaque);
}

/* --- ports --- */

static uint8_t read_c(struct rtc *r)
{
	uint8_t v;

	catch_up(r);
	update(r);
	v = r->ram[REG_C];
	r->ram[REG_C] = 0;
	update(r);
	return v;
}

static uint64_t rtc_read(void *opaque, uint64_t off, unsigned size)
{
	struct rtc *r = opaque;

	if (off == 0)
		return 0xff;
	refresh(r);
	switch (r->index) {
	case REG_A:
		return r->ram[REG_A] | (!held(r) && subseconds(r) >= NS - UIP_NS ? A_UIP : 0);
	case REG_C:
		return read_c(r);
	default:
		return r->ram[r->index];
	}
}

static void write_a(struct rtc *r, uint8_t v)
{
	bool was = held(r), divider_was = (r->ram[REG_A] & A_RESET) == A_RESET;

	refresh(r);
	r->ram[REG_A] = v & (uint8_t)~A_UIP;
	/* The divider starts in the middle of a second: the first update comes 500 ms later. */
	if (divider_was && (v & A_RESET) != A_RESET)
		r->phase_ns = (uint64_t)((NS + NS / 2 + (int64_t)r->phase_ns - subseconds(r)) % NS);
	if (was && !held(r))
		adopt(r);
}

static void write_b(struct rtc *r, uint8_t v)
{
	bool was = held(r);

	refresh(r);
	/* SET ends updates and their interrupt. */
	if (v & B_SET)
		v &= (uint8_t)~B_UIE;
	/* The time is read in the mode that it was written in. */
	r->ram[REG_B] = (uint8_t)((v & B_SET) | (r->ram[REG_B] & ~B_SET));
	if (was && !held(r))
		adopt(r);
	r->ram[REG_B] = v;
	refresh(r);
}

static bool is_time(uint8_t index)
{
	return index == CENTURY ||
	       (index <= YEAR && index != SECONDS_ALARM && index != MINUTES_ALARM && index != HOURS_ALARM);
}

static void rtc_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct rtc *r = opaque;
	uint8_t v = (uint8_t)val;

	/* Bit 7 masks NMIs, of which the chipset has none. */
	if (off == 0) {
		r->index = v & 0x7f;
		return;
	}
	catch_up(r);
	switch (r->index) {
	case REG_A:
		write_a(r, v);
		break;
	case REG_B:
		write_b(r, v);
		break;
	case REG_C:
	case REG_D:
		break;
	default:
		refresh(r);
		r->ram[r->index] = v;
		if (is_time(r->index) && !held(r))
			adopt(r);
	}
	update(r);
}

static const struct bus_ops ops = { rtc_read, rtc_write, { 1, 1 }, { 1, 1 } };

/* The battery keeps memory and time; only the interrupt enables go. */
static void reset(void *self)
{
	struct rtc *r = self;

	r->ram[REG_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE);
	r->ram[REG_C] = 0;
	r->index = 0;
	update(r);
}

static void destroy(void *self)
{
	struct rtc *r = self;

	pthread_mutex_lock(&r->lock);
	clock_timer_cancel(&r->timer);
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* The wall clock went on while the VM was saved: at the next look the flags say so, once. */
static int post_load(void *obj, struct err *err)
{
	struct rtc *r = obj;
	int64_t offset = (int64_t)r->offset_s, seen = (int64_t)r->seen_s;

	if (r->index > 127 || r->ram[REG_A] & A_UIP || r->ram[REG_C] & 0x0f || r->ram[REG_D] != D_VALID)
		return err_set(err, "rtc146818: a register is out of range");
	if (offset < -OFFSET_MAX || offset > OFFSET_MAX || seen < -OFFSET_MAX || seen > OFFSET_MAX ||
	    r->phase_ns >= NS || r->seen_ns > INT64_MAX)
		return err_set(err, "rtc146818: the time is out of range");
	update(r);
	return 0;
}

static const struct state_field fields[] = {
	STATE_U8F(struct rtc, index),
	STATE_U8A(struct rtc, ram),
	STATE_U64F(struct rtc, offset_s),
	STATE_U64F(struct rtc, phase_ns),
	STATE_U64F(struct rtc, seen_s),
	STATE_U64F(struct rtc, seen_ns),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "rtc146818", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

void rtc146818_poke(struct device *d, uint8_t index, uint8_t value)
{
	((struct rtc *)d->self)->ram[index & 0x7f] = value;
}

void rtc146818_on_change(struct device *d, void (*fn)(void *opaque), void *opaque)
{
	struct rtc *r = d->self;

	r->changed = fn;
	r->opaque = opaque;
}

int64_t rtc146818_offset(struct device *d)
{
	struct rtc *r = d->self;
	int64_t offset;

	pthread_mutex_lock(&r->lock);
	offset = (int64_t)r->offset_s;
	pthread_mutex_unlock(&r->lock);
	return offset;
}

struct device *rtc146818_new(struct bus *bus, struct vclock *clock, struct irq_line irq, struct err *err)
{
	struct rtc *r = calloc(1, sizeof(*r));
	struct bus_range range = { "rtc146818", &ops, r, NULL };

	if (!r) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&r->lock, NULL);
	range.lock = &r->lock;
	r->clock = clock;
	r->irq = irq;
	clock_timer_init(&r->timer, clock, &r->lock, expired, r);
	r->ram[REG_A] = 0x26;
	r->ram[REG_B] = B_24H;
	r->ram[REG_D] = D_VALID;
	r->seen_s = (uint64_t)seconds_now(r);
	r->seen_ns = (uint64_t)clock_now_ns(clock);
	r->dev = (struct device){ .name = "rtc146818",
				  .instance = "0",
				  .self = r,
				  .state = &state,
				  .lock = &r->lock,
				  .reset = reset,
				  .destroy = destroy };
	if (!bus_add(bus, BUS_PORT, 0x70, 2, &range, err)) {
		destroy(r);
		return NULL;
	}
	return &r->dev;
}
