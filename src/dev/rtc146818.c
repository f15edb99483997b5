/*
 * The MC146818 real-time clock and CMOS memory. Time of day is the VM's wall clock plus what the guest
 * set; periodic, alarm and update-ended interrupts on interrupt 8.
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
#define A_UIP	 0x80u
#define B_24H	 0x02u
#define B_BINARY 0x04u
#define B_UIE	 0x10u
#define B_AIE	 0x20u
#define B_PIE	 0x40u
#define B_SET	 0x80u
#define C_IRQF	 0x80u
#define D_VALID	 0x80u
#define NS	 1000000000ll
#define UIP_NS	 244000ll /* UIP shows an update that comes within this time */

struct rtc {
	struct device dev;
	pthread_mutex_t lock;
	struct vclock *clock;
	struct irq_line irq;
	struct clock_timer periodic, second;
	uint8_t index, ram[128];
	uint64_t offset_s; /* guest's time of day minus the wall clock, two's complement */
};

static int64_t seconds_now(const struct rtc *r)
{
	return clock_wall_ns(r->clock) / NS + (int64_t)r->offset_s;
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

	if (r->ram[REG_B] & B_SET || !gmtime_r(&t, &tm))
		return;
	r->ram[SECONDS] = encode(r, tm.tm_sec);
	r->ram[MINUTES] = encode(r, tm.tm_min);
	r->ram[HOURS] = encode_hour(r, tm.tm_hour);
	r->ram[WEEKDAY] = encode(r, tm.tm_wday + 1);
	r->ram[DAY] = encode(r, tm.tm_mday);
	r->ram[MONTH] = encode(r, tm.tm_mon + 1);
	r->ram[YEAR] = encode(r, tm.tm_year % 100);
	r->ram[CENTURY] = encode(r, 19 + tm.tm_year / 100);
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

	r->offset_s = (uint64_t)(t - clock_wall_ns(r->clock) / NS);
}

/* --- interrupts --- */

static void flag(struct rtc *r, uint8_t bit)
{
	r->ram[REG_C] |= bit;
	if (r->ram[REG_B] & bit && !(r->ram[REG_C] & C_IRQF)) {
		r->ram[REG_C] |= C_IRQF;
		irq_set(&r->irq, true);
	}
}

static int64_t period_ns(const struct rtc *r)
{
	unsigned rate = r->ram[REG_A] & A_RATE;

	if (!rate)
		return 0;
	if (rate < 3)
		rate += 7;
	return NS * (1ll << (rate - 1)) / 32768;
}

static void arm_periodic(struct rtc *r)
{
	int64_t period = period_ns(r), now = clock_now_ns(r->clock);

	if (!(r->ram[REG_B] & B_PIE) || !period) {
		clock_timer_cancel(&r->periodic);
		return;
	}
	/* Missed ticks are not replayed. */

	clock_timer_arm(&r->periodic, (now / period + 1) * period);
}

static void periodic(void *opaque)
{
	flag(opaque, B_PIE);
	arm_periodic(opaque);
}

static void arm_second(struct rtc *r)
{
	int64_t now = clock_now_ns(r->clock);

	if (r->ram[REG_B] & (B_UIE | B_AIE) && !(r->ram[REG_B] & B_SET))
		clock_timer_arm(&r->second, now + NS - clock_wall_ns(r->clock) % NS);
	else
		clock_timer_cancel(&r->second);
}

static bool alarm_field(const struct rtc *r, unsigned alarm, unsigned time)
{
	return r->ram[alarm] >= 0xc0 || r->ram[alarm] == r->ram[time];
}

static void second(void *opaque)
{
	struct rtc *r = opaque;

	refresh(r);
	flag(r, B_UIE);
	if (alarm_field(r, SECONDS_ALARM, SECONDS) && alarm_field(r, MINUTES_ALARM, MINUTES) &&
	    alarm_field(r, HOURS_ALARM, HOURS))
		flag(r, B_AIE);
	arm_second(r);
}

/* --- ports --- */

static uint64_t rtc_read(void *opaque, uint64_t off, unsigned size)
{
	struct rtc *r = opaque;
	uint8_t v;

	if (off == 0)
		return 0xff;
	refresh(r);
	switch (r->index) {
	case REG_A:
		v = r->ram[REG_A];
		if (!(r->ram[REG_B] & B_SET) && clock_wall_ns(r->clock) % NS >= NS - UIP_NS)
			v |= A_UIP;
		return v;
	case REG_C:
		v = r->ram[REG_C];
		r->ram[REG_C] = 0;
		irq_set(&r->irq, false);
		return v;
	default:
		return r->ram[r->index];
	}
}

static void rtc_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct rtc *r = opaque;
	uint8_t v = (uint8_t)val;

	if (off == 0) {
		r->index = v & 0x7f;
		return;
	}
	switch (r->index) {
	case REG_A:
		r->ram[REG_A] = v & (uint8_t)~A_UIP;
		arm_periodic(r);
		break;
	case REG_B:
		refresh(r);
		if (r->ram[REG_B] & B_SET && !(v & B_SET))
			adopt(r);
		r->ram[REG_B] = v;
		refresh(r);
		arm_periodic(r);
		arm_second(r);
		break;
	case REG_C:
	case REG_D:
		break;
	default:
		refresh(r);
		r->ram[r->index] = v;
		if ((r->index <= YEAR && r->index != SECONDS_ALARM && r->index != MINUTES_ALARM &&
		     r->index != HOURS_ALARM) ||
		    r->index == CENTURY)
			if (!(r->ram[REG_B] & B_SET))
				adopt(r);
	}
}

static const struct bus_ops ops = { rtc_read, rtc_write, { 1, 1 }, { 1, 1 } };

/* The battery keeps memory and time; only the interrupt enables go. */
static void reset(void *self)
{
	struct rtc *r = self;

	r->ram[REG_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE);
	r->ram[REG_C] = 0;
	r->index = 0;
	clock_timer_cancel(&r->periodic);
	clock_timer_cancel(&r->second);
	irq_set(&r->irq, false);
}

static void destroy(void *self)
{
	struct rtc *r = self;

	pthread_mutex_lock(&r->lock);
	clock_timer_cancel(&r->periodic);
	clock_timer_cancel(&r->second);
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static int post_load(void *obj, struct err *err)
{
	struct rtc *r = obj;

	if (r->index > 127)
		return err_set(err, "rtc146818: index %u is out of range", r->index);
	irq_set(&r->irq, r->ram[REG_C] & C_IRQF);
	arm_periodic(r);
	arm_second(r);
	return 0;
}

static const struct state_field fields[] = {
	STATE_U8F(struct rtc, index),
	STATE_U8A(struct rtc, ram),
	STATE_U64F(struct rtc, offset_s),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "rtc146818", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

void rtc146818_poke(struct device *d, uint8_t index, uint8_t value)
{
	((struct rtc *)d->self)->ram[index & 0x7f] = value;
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
	clock_timer_init(&r->periodic, clock, &r->lock, periodic, r);
	clock_timer_init(&r->second, clock, &r->lock, second, r);
	r->ram[REG_A] = 0x26;
	r->ram[REG_B] = B_24H;
	r->ram[REG_D] = D_VALID;
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
