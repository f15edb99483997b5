/*
 * The 8254 interval timer (Intel 8254 data sheet) and port 61h with channel 2's gate and output. Nothing is counted:
 * what a counter, its output and its flags are follows from the tick of the 1.193182 MHz input at which its count was
 * loaded. Channel 0 raises interrupt 0.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/isa.h"

#define HZ	  1193182
#define NS	  1000000000ll
#define MIN_TICKS 119 /* channel 0 faster than 10 kHz would only keep the host busy */

enum access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };
enum mode { MODE_TERMINAL_COUNT, MODE_ONE_SHOT, MODE_RATE, MODE_SQUARE, MODE_STROBE, MODE_HW_STROBE };
/* Nothing loaded, or modes 1 and 5 before the gate rises; counting; held by a low gate. */
enum phase { IDLE, COUNTING, HELD };

struct channel {
	uint32_t count; /* what is counted from: 1 to 65536 */
	uint32_t next;	/* written, but not loaded yet; 0: none */
	uint64_t start; /* COUNTING: the tick at which `count` was loaded */
	uint64_t held;	/* HELD: ticks that were counted */
	uint16_t latch;
	uint8_t status, mode, access, low, phase;
	bool bcd, gate, latched, status_latched, read_high, write_high;
};

struct pit {
	struct device dev;
	pthread_mutex_t lock;
	struct vclock *clock;
	struct irq_line irq;
	struct clock_timer timer;
	struct channel ch[3];
	bool out0;	/* channel 0's output, as interrupt 0 has it */
	uint8_t port61; /* bits 0 to 3 */
};

static uint64_t now_ticks(const struct pit *p)
{
	return (uint64_t)((__int128)clock_now_ns(p->clock) * HZ / NS);
}

/* The first ns at which `ticks` have passed. */
static int64_t ns_of(uint64_t ticks)
{
	return (int64_t)(((__int128)ticks * NS + HZ - 1) / HZ);
}

static bool repeats(const struct channel *c)
{
	return c->mode == MODE_RATE || c->mode == MODE_SQUARE;
}

static bool waits_for_gate(const struct channel *c)
{
	return c->mode == MODE_ONE_SHOT || c->mode == MODE_HW_STROBE;
}

/* Ticks counted since the load. A repeating counter loads a new count when its period ends. */
static uint64_t elapsed(const struct pit *p, struct channel *c)
{
	uint64_t now = now_ticks(p);

	if (c->phase != COUNTING)
		return c->phase == HELD ? c->held : 0;
	if (repeats(c) && c->next && now >= c->start + c->count) {
		c->start += c->count;
		c->count = c->next;
		c->next = 0;
	}
	return now > c->start ? now - c->start : 0;
}

/* A count is loaded by the clock pulse after it was written, and begins to go down with the one after that. */
static void load(const struct pit *p, struct channel *c, uint32_t count)
{
	c->count = count;
	c->next = 0;
	c->held = 0;
	c->start = now_ticks(p) + 1;
	c->phase = c->gate || waits_for_gate(c) ? COUNTING : HELD;
}

static uint16_t to_bcd(uint64_t v)
{
	v %= 10000;
	return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 << 12);
}

static uint16_t counter(const struct pit *p, struct channel *c)
{
	uint64_t t = elapsed(p, c), v;

	if (c->phase == IDLE)
		return 0;
	if (c->mode == MODE_SQUARE) { /* even counts by two, once for each half */
		uint64_t at = t % c->count, high = (c->count + 1) / 2;

		v = (c->count & ~1u) - 2 * (at < high ? at : at - high);
	} else if (c->mode == MODE_RATE) {
		v = c->count - t % c->count;
	} else if (c->bcd) { /* these go on from the top after they have ended */
		v = (10000 + c->count - t % 10000) % 10000;
	} else {
		v = c->count - t;
	}
	return c->bcd ? to_bcd(v) : (uint16_t)v;
}

static bool output(const struct pit *p, struct channel *c)
{
	uint64_t t = elapsed(p, c);

	if (c->phase == IDLE)
		return c->mode != MODE_TERMINAL_COUNT;
	switch (c->mode) {
	case MODE_TERMINAL_COUNT:
	case MODE_ONE_SHOT:
		return t >= c->count;
	case MODE_RATE:
		return !c->gate || t % c->count != c->count - 1;
	case MODE_SQUARE:
		return !c->gate || t % c->count < (c->count + 1) / 2;
	default:
		return t != c->count;
	}
}

/* --- interrupt 0 --- */

static void set_out0(struct pit *p, bool level)
{
	if (level != p->out0)
		irq_set(&p->irq, level);
	p->out0 = level;
}

/* The next rise of channel 0's output. Rises that were missed are not made up for. */
static void arm(struct pit *p)
{
	struct channel *c = &p->ch[0];
	uint64_t t = elapsed(p, c), at;

	if (c->phase != COUNTING) { /* modes 1 and 5 never do: the gate does not rise */
		clock_timer_cancel(&p->timer);
		return;
	}
	if (repeats(c)) {
		uint64_t ahead = c->count < MIN_TICKS ? MIN_TICKS : 1;

		/* While a count is about to be loaded the period is still the old one. */
		at = (t + ahead + c->count - 1) / c->count * c->count;
	} else {
		at = c->count + (c->mode == MODE_STROBE);
		if (t >= at) {
			clock_timer_cancel(&p->timer);
			return;
		}
	}
	clock_timer_arm(&p->timer, ns_of(c->start + at));
}

/* The fall before a rise comes together with it: it is too short, or of no use, to be a timer of its own. */
static void expired(void *opaque)
{
	struct pit *p = opaque;

	if (p->ch[0].mode != MODE_TERMINAL_COUNT)
		set_out0(p, false);
	set_out0(p, true);
	if (repeats(&p->ch[0]))
		arm(p);
}

/* --- ports --- */

static void write_count(struct pit *p, unsigned n, uint32_t value)
{
	struct channel *c = &p->ch[n];

	if (c->bcd) {
		value = (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 + (value >> 12) * 1000;
		value = value % 10000 ? value % 10000 : 10000;
	} else if (!value) {
		value = 0x10000;
	}
	if (waits_for_gate(c) || (repeats(c) && c->phase != IDLE))
		c->next = value;
	else
		load(p, c, value);
	if (n == 0) {
		if (c->mode == MODE_TERMINAL_COUNT)
			set_out0(p, false);
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

static void latch_status(const struct pit *p, struct channel *c)
{
	bool null_count = c->next || c->phase == IDLE || (c->phase == COUNTING && now_ticks(p) < c->start);

	if (c->status_latched)
		return;
	c->status = (uint8_t)(output(p, c) << 7 | null_count << 6 | c->access << 4 | c->mode << 1 | c->bcd);
	c->status_latched = true;
}

static void read_back(const struct pit *p, struct channel *c, uint8_t v)
{
	if (!(v & 0x20))
		latch_count(p, c);
	if (!(v & 0x10))
		latch_status(p, c);
}

static void control(struct pit *p, uint8_t v)
{
	unsigned n = v >> 6;
	struct channel *c;

	if (n == 3) {
		for (unsigned k = 0; k < 3; k++)
			if (v >> (k + 1) & 1)
				read_back(p, &p->ch[k], v);
		return;
	}
	c = &p->ch[n];
	if ((v >> 4 & 3) == ACCESS_LATCH) {
		latch_count(p, c);
		return;
	}
	c->access = v >> 4 & 3;
	c->mode = v >> 1 & 7;
	if (c->mode > MODE_HW_STROBE) /* bit 2 of modes 2 and 3 does not matter */
		c->mode &= 3;
	c->bcd = v & 1;
	c->phase = IDLE;
	c->next = 0;
	c->latched = c->status_latched = c->read_high = c->write_high = false;
	if (n == 0) {
		clock_timer_cancel(&p->timer);
		set_out0(p, c->mode != MODE_TERMINAL_COUNT);
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
		/* In mode 0 the first byte stops the count and lowers the output. */
		if (c->mode == MODE_TERMINAL_COUNT) {
			c->phase = IDLE;
			if (off == 0) {
				clock_timer_cancel(&p->timer);
				set_out0(p, false);
			}
		}
		return;
	}
	c->write_high = false;
	write_count(p, (unsigned)off,
		    c->access == ACCESS_LOW    ? (uint32_t)val
		    : c->access == ACCESS_HIGH ? (uint32_t)val << 8
					       : (uint32_t)val << 8 | c->low);
}

/* A change of channel 2's gate: the others' are always high. "Gate Pin Operations Summary" of the data sheet. */
static void set_gate(struct pit *p, struct channel *c, bool gate)
{
	if (gate == c->gate)
		return;
	if (!gate && !waits_for_gate(c) && c->phase == COUNTING) {
		c->held = elapsed(p, c);
		c->phase = HELD;
	}
	c->gate = gate;
	if (!gate)
		return;
	if (waits_for_gate(c)) {
		if (c->next || c->phase != IDLE)
			load(p, c, c->next ? c->next : c->count);
	} else if (c->phase == HELD && repeats(c)) {
		load(p, c, c->next ? c->next : c->count);
	} else if (c->phase == HELD) {
		uint64_t held = c->held, now = now_ticks(p);

		/* Counting goes on; a count that was loaded a moment ago may start before the clock does. */
		c->start = now + 1 > held ? now + 1 - held : 0;
		c->phase = COUNTING;
	}
}

/* Port 61h: bit 0 gate of channel 2, 1 speaker, 2 and 3 kept, 4 refresh toggle, 5 output of channel 2. */
static uint64_t port61_read(void *opaque, uint64_t off, unsigned size)
{
	struct pit *p = opaque;

	return p->port61 | (clock_now_ns(p->clock) / 15085 & 1) << 4 | output(p, &p->ch[2]) << 5;
}

static void port61_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct pit *p = opaque;

	p->port61 = val & 15;
	set_gate(p, &p->ch[2], val & 1);
}

static const struct bus_ops ops = { pit_read, pit_write, { 1, 1 }, { 1, 1 } };
static const struct bus_ops port61 = { port61_read, port61_write, { 1, 1 }, { 1, 1 } };

/* --- life --- */

static void reset(void *self)
{
	struct pit *p = self;

	memset(p->ch, 0, sizeof(p->ch));
	for (unsigned n = 0; n < 3; n++) {
		p->ch[n].access = ACCESS_BOTH;
		p->ch[n].mode = MODE_SQUARE;
		p->ch[n].gate = n != 2;
	}
	p->port61 = 0;
	clock_timer_cancel(&p->timer);
	/* The line is low and the output that it will next see is high: programming a mode is no tick. */
	irq_set(&p->irq, false);
	p->out0 = true;
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

/* Ticks of 146 years of guest time: sums with counts do not overflow below this. */
#define TICKS_MAX ((uint64_t)1 << 53)

static int post_load(void *obj, struct err *err)
{
	struct pit *p = obj;

	for (unsigned n = 0; n < 3; n++) {
		struct channel *c = &p->ch[n];

		if (c->count > 0x10000 || c->next > 0x10000 || c->start > TICKS_MAX || c->held > TICKS_MAX ||
		    c->mode > MODE_HW_STROBE || !c->access || c->access > ACCESS_BOTH || c->phase > HELD ||
		    (c->phase != IDLE && !c->count) || (n != 2 && !c->gate))
			return err_set(err, "pit8254: channel %u is out of range", n);
	}
	if (p->port61 > 15)
		return err_set(err, "pit8254: port 61h is out of range");
	arm(p);
	return 0;
}

#define C struct channel
static const struct state_field channel_fields[] = {
	STATE_U32F(C, count),	   STATE_U32F(C, next),
	STATE_U64F(C, start),	   STATE_U64F(C, held),
	STATE_U16F(C, latch),	   STATE_U8F(C, status),
	STATE_U8F(C, mode),	   STATE_U8F(C, access),
	STATE_U8F(C, low),	   STATE_U8F(C, phase),
	STATE_BOOLF(C, bcd),	   STATE_BOOLF(C, gate),
	STATE_BOOLF(C, latched),   STATE_BOOLF(C, status_latched),
	STATE_BOOLF(C, read_high), STATE_BOOLF(C, write_high),
	STATE_FIELD_END,
};
static const struct state_desc channel_state = {
	.name = "channel", .version = 1, .min_version = 1, .fields = channel_fields
};
static const struct state_field fields[] = {
	STATE_SUBA(struct pit, ch, &channel_state),
	STATE_BOOLF(struct pit, out0),
	STATE_U8F(struct pit, port61),
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
