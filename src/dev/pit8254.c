/*
 * The 8254 interval timer (Intel 8254 data sheet) and port 61h with channel 2's gate and output. Counters are
 * not counted: their values follow from guest time. Channel 0 raises interrupt 0.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/isa.h"

#define HZ	      1193182
#define NS	      1000000000ll
#define MIN_PERIOD_NS 100000 /* channel 0 faster than 10 kHz would only keep the host busy */

enum access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

struct channel {
	uint32_t reload; /* 1 to 65536 */
	uint16_t latch;
	uint8_t status, mode, access, low;
	bool bcd, gate, latched, status_latched, read_high, write_high, loaded;
	uint64_t start_ns; /* counting began */
};

struct pit {
	struct device dev;
	pthread_mutex_t lock;
	struct vclock *clock;
	struct irq_line irq;
	struct clock_timer timer;
	struct channel ch[3];
	bool speaker;
};

static uint64_t ticks_of(const struct pit *p, const struct channel *c)
{
	int64_t ns = clock_now_ns(p->clock) - (int64_t)c->start_ns;

	return ns <= 0 ? 0 : (uint64_t)((__int128)ns * HZ / NS);
}

static int64_t ns_of(uint64_t ticks)
{
	return (int64_t)(((__int128)ticks * NS + HZ - 1) / HZ);
}

static bool repeats(const struct channel *c)
{
	return c->mode == 2 || c->mode == 3;
}

static uint16_t counter(const struct pit *p, const struct channel *c)
{
	uint64_t t = ticks_of(p, c), left;

	if (!c->loaded)
		return 0;
	if (c->mode == 3)
		left = c->reload - t * 2 % c->reload;
	else if (c->mode == 2)
		left = c->reload - t % c->reload;
	else
		left = (c->reload - t) & 0xffff;
	if (c->bcd) {
		left %= 10000;
		left = left % 10 | left / 10 % 10 << 4 | left / 100 % 10 << 8 | left / 1000 << 12;
	}
	return (uint16_t)left;
}

static bool output(const struct pit *p, const struct channel *c)
{
	uint64_t t = ticks_of(p, c);

	if (!c->loaded)
		return c->mode != 0;
	switch (c->mode) {
	case 0:
	case 1:
		return t >= c->reload;
	case 2:
		return t % c->reload != c->reload - 1;
	case 3:
		return t % c->reload < (c->reload + 1) / 2;
	default:
		return t != c->reload;
	}
}

/* The next rise of channel 0's output. */
static void arm(struct pit *p)
{
	struct channel *c = &p->ch[0];
	uint64_t t = ticks_of(p, c), at;

	if (!c->loaded) {
		clock_timer_cancel(&p->timer);
		return;
	}
	if (repeats(c)) {
		int64_t next;

		at = (t / c->reload + 1) * c->reload;
		next = (int64_t)c->start_ns + ns_of(at);
		if (next < clock_now_ns(p->clock) + MIN_PERIOD_NS && ns_of(c->reload) < MIN_PERIOD_NS)
			next = clock_now_ns(p->clock) + MIN_PERIOD_NS;
		clock_timer_arm(&p->timer, next);
	} else if (t < c->reload) {
		clock_timer_arm(&p->timer, (int64_t)c->start_ns + ns_of(c->reload));
	} else {
		clock_timer_cancel(&p->timer);
	}
}

static void expired(void *opaque)
{
	struct pit *p = opaque;
	struct channel *c = &p->ch[0];

	if (repeats(c)) {
		irq_pulse(&p->irq);
		arm(p);
	} else {
		irq_set(&p->irq, true);
	}
}

static void load(struct pit *p, unsigned n, uint32_t value)
{
	struct channel *c = &p->ch[n];

	if (c->bcd)
		value = (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 + (value >> 12) * 1000;
	c->reload = value ? value : c->bcd ? 10000 : 0x10000;
	/* Modes 1 and 5 wait for the gate to rise. */
	c->loaded = c->mode != 1 && c->mode != 5;
	c->start_ns = (uint64_t)clock_now_ns(p->clock);
	if (n == 0) {
		if (!repeats(c))
			irq_set(&p->irq, false);
		arm(p);
	}
}

static void latch_count(const struct pit *p, struct channel *c)
{
	if (c->latched)
		return;
	c->latch = counter(p, c);
	c->latched = true;
}

static void control(struct pit *p, uint8_t v)
{
	unsigned n = v >> 6;
	struct channel *c;

	if (n == 3) { /* read-back */
		for (unsigned k = 0; k < 3; k++) {
			c = &p->ch[k];
			if (!(v >> (k + 1) & 1))
				continue;
			if (!(v & 0x20))
				latch_count(p, c);
			if (!(v & 0x10) && !c->status_latched) {
				c->status = (uint8_t)(output(p, c) << 7 | !c->loaded << 6 | c->access << 4 |
						      c->mode << 1 | c->bcd);
				c->status_latched = true;
			}
		}
		return;
	}
	c = &p->ch[n];
	if ((v >> 4 & 3) == ACCESS_LATCH) {
		latch_count(p, c);
		return;
	}
	c->access = v >> 4 & 3;
	c->mode = v >> 1 & 7;
	if (c->mode > 5)
		c->mode &= 3;
	c->bcd = v & 1;
	c->loaded = c->latched = c->status_latched = c->read_high = c->write_high = false;
	if (n == 0) {
		clock_timer_cancel(&p->timer);
		irq_set(&p->irq, c->mode != 0);
	}
}

static uint64_t pit_read(void *opaque, uint64_t off, unsigned size)
{
	struct pit *p = opaque;
	struct channel *c = &p->ch[off];
	uint16_t v;
	bool high;

	if (off == 3)
		return 0xff;
	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	v = c->latched ? c->latch : counter(p, c);
	high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->read_high);
	if (c->access == ACCESS_BOTH)
		c->read_high = !c->read_high;
	if (!c->read_high)
		c->latched = false;
	return high ? v >> 8 : v & 0xff;
}

static void pit_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct pit *p = opaque;
	struct channel *c = &p->ch[off & 3];

	if (off == 3) {
		control(p, (uint8_t)val);
		return;
	}
	if (c->access == ACCESS_BOTH && !c->write_high) {
		c->low = (uint8_t)val;
		c->write_high = true;
		return;
	}
	c->write_high = false;
	load(p, (unsigned)off,
	     c->access == ACCESS_LOW	? (uint32_t)val
	     : c->access == ACCESS_HIGH ? (uint32_t)val << 8
					: (uint32_t)val << 8 | c->low);
}

/* Port 61h: bit 0 gate of channel 2, 1 speaker, 4 refresh toggle, 5 output of channel 2. */
static uint64_t port61_read(void *opaque, uint64_t off, unsigned size)
{
	struct pit *p = opaque;

	return p->ch[2].gate | p->speaker << 1 | (clock_now_ns(p->clock) / 15085 & 1) << 4 | output(p, &p->ch[2]) << 5;
}

static void port61_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct pit *p = opaque;
	struct channel *c = &p->ch[2];

	if (val & 1 && !c->gate && c->reload) {
		c->start_ns = (uint64_t)clock_now_ns(p->clock);
		c->loaded = true;
	}
	c->gate = val & 1;
	p->speaker = val & 2;
}

static const struct bus_ops ops = { pit_read, pit_write, { 1, 1 }, { 1, 1 } };
static const struct bus_ops port61 = { port61_read, port61_write, { 1, 1 }, { 1, 1 } };

static void reset(void *self)
{
	struct pit *p = self;

	memset(p->ch, 0, sizeof(p->ch));
	for (unsigned n = 0; n < 3; n++) {
		p->ch[n].access = ACCESS_BOTH;
		p->ch[n].mode = 3;
		p->ch[n].reload = 0x10000;
		p->ch[n].gate = n != 2;
	}
	p->speaker = false;
	clock_timer_cancel(&p->timer);
	irq_set(&p->irq, false);
}

static void destroy(void *self)
{
	struct pit *p = self;

	pthread_mutex_lock(&p->lock);
	clock_timer_cancel(&p->timer);
	pthread_mutex_unlock(&p->lock);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int post_load(void *obj, struct err *err)
{
	struct pit *p = obj;

	for (unsigned n = 0; n < 3; n++) {
		struct channel *c = &p->ch[n];

		if (!c->reload || c->reload > 0x10000 || c->mode > 5 || c->access > 3 || (int64_t)c->start_ns < 0)
			return err_set(err, "pit8254: channel %u is out of range", n);
	}
	arm(p);
	return 0;
}

#define C struct channel
static const struct state_field channel_fields[] = {
	STATE_U32F(C, reload),	   STATE_U16F(C, latch),
	STATE_U8F(C, status),	   STATE_U8F(C, mode),
	STATE_U8F(C, access),	   STATE_U8F(C, low),
	STATE_BOOLF(C, bcd),	   STATE_BOOLF(C, gate),
	STATE_BOOLF(C, latched),   STATE_BOOLF(C, status_latched),
	STATE_BOOLF(C, read_high), STATE_BOOLF(C, write_high),
	STATE_BOOLF(C, loaded),	   STATE_U64F(C, start_ns),
	STATE_FIELD_END,
};
static const struct state_desc channel_state = {
	.name = "channel", .version = 1, .min_version = 1, .fields = channel_fields
};
static const struct state_field fields[] = {
	STATE_SUBA(struct pit, ch, &channel_state),
	STATE_BOOLF(struct pit, speaker),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "pit8254", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

struct device *pit8254_new(struct bus *bus, struct vclock *clock, struct irq_line irq0, struct err *err)
{
	struct pit *p = calloc(1, sizeof(*p));
	struct bus_range timer = { "pit8254", &ops, p, NULL }, speaker = { "port61", &port61, p, NULL };

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	timer.lock = speaker.lock = &p->lock;
	p->clock = clock;
	p->irq = irq0;
	clock_timer_init(&p->timer, clock, &p->lock, expired, p);
	p->dev = (struct device){ .name = "pit8254",
				  .instance = "0",
				  .self = p,
				  .state = &state,
				  .lock = &p->lock,
				  .reset = reset,
				  .destroy = destroy };
	reset(p);
	if (!bus_add(bus, BUS_PORT, 0x40, 4, &timer, err) || !bus_add(bus, BUS_PORT, 0x61, 1, &speaker, err)) {
		destroy(p);
		return NULL;
	}
	return &p->dev;
}
