/* The pair of 8259A interrupt controllers: slave on line 2 of the master. Intel 8259A data sheet. */
#include "irq/x86/impl.h"

#define CASCADE 2

/* Priority of a set of lines: 0 is the highest, 8 means none. */
static unsigned priority(const struct i8259 *p, uint8_t lines)
{
	for (unsigned n = 0; n < 8; n++)
		if (lines >> ((p->lowest + 1u + n) & 7) & 1)
			return n;
	return 8;
}

/* Lines in service that count: in the special mask mode not those that are masked (data sheet, "Special Mask Mode"). */
static uint8_t in_service(const struct i8259 *p)
{
	return p->special_mask ? p->isr & (uint8_t)~p->imr : p->isr;
}

/* The line to be served next, or -1. */
static int next_line(const struct i8259 *p)
{
	unsigned want = priority(p, p->irr & (uint8_t)~p->imr), busy = priority(p, in_service(p));
	unsigned line = (p->lowest + 1u + want) & 7;

	if (want == 8 || want > busy)
		return -1;
	/* A line waits for itself, but for the slave's in the special fully nested mode. */
	if (want == busy && !(p->master && p->special_nested && line == CASCADE))
		return -1;
	return (int)line;
}

/* One controller. */
static void pic_pin(struct i8259 *p, unsigned n, bool level)
{
	uint8_t bit = (uint8_t)(1u << n);

	if (p->elcr & bit)
		p->irr = level ? p->irr | bit : p->irr & (uint8_t)~bit;
	else if (level && !(p->levels & bit))
		p->irr |= bit; /* an edge is kept when the line falls, as in every chip set since the 8259's own */
	p->levels = level ? p->levels | bit : p->levels & (uint8_t)~bit;
}

/* Lock held. The output also leads to pin 0 of the I/O APIC, for entries of mode ExtINT. */
static void set_output(struct irqchip *chip, bool out)
{
	if (atomic_exchange(&chip->pic.output, out) == out)
		return;
	ioapic_set_pin(chip, 0, out);
	if (out)
		irqchip_signal(chip, 0, CPU_SIGNAL_INTR, 0);
}

/* Lock held. */
static void update(struct irqchip *chip)
{
	struct i8259_pair *p = &chip->pic;

	pic_pin(&p->pic[0], CASCADE, next_line(&p->pic[1]) >= 0);
	/* The slave's output is no edge that could be kept: without a request of the slave there is none here. */
	if (!(p->pic[0].levels >> CASCADE & 1))
		p->pic[0].irr &= (uint8_t) ~(1u << CASCADE);
	set_output(chip, next_line(&p->pic[0]) >= 0);
}

void pic_set_line(struct irqchip *chip, unsigned n, bool level)
{
	pthread_mutex_lock(&chip->pic.lock);
	pic_pin(&chip->pic.pic[n >> 3], n & 7, level);
	update(chip);
	pthread_mutex_unlock(&chip->pic.lock);
}

static void accept(struct i8259 *p, unsigned n)
{
	uint8_t bit = (uint8_t)(1u << n);

	if (!p->auto_eoi)
		p->isr |= bit;
	else if (p->rotate_auto)
		p->lowest = (uint8_t)n;
	if (!(p->elcr & bit))
		p->irr &= (uint8_t)~bit;
}

/* A request that has gone away leaves the spurious vector 7. */
uint8_t pic_ack(struct irqchip *chip)
{
	struct i8259_pair *p = &chip->pic;
	struct i8259 *at = &p->pic[0];
	int n;

	pthread_mutex_lock(&p->lock);
	n = next_line(at);
	if (n >= 0)
		accept(at, (unsigned)n);
	if (n == CASCADE) {
		at = &p->pic[1];
		n = next_line(at);
		if (n >= 0)
			accept(at, (unsigned)n);
	}
	/* INTA lowers the output, so that what follows is an edge again. */
	set_output(chip, false);
	update(chip);
	pthread_mutex_unlock(&p->lock);
	return (uint8_t)(at->base + (n < 0 ? 7 : n));
}

/* ICW1. Lines that are high count as edges only when they rise again; levels are there still. */
static void init_pic(struct i8259 *p)
{
	p->irr = p->levels & p->elcr;
	p->imr = p->isr = 0;
	p->base = 0;
	p->icw = 0;
	p->lowest = 7;
	p->single = p->icw4 = p->auto_eoi = p->rotate_auto = false;
	p->read_isr = p->poll = p->special_mask = p->special_nested = false;
}

void pic_reset(struct i8259_pair *p)
{
	for (unsigned n = 0; n < 2; n++) {
		p->pic[n].levels = p->pic[n].elcr = 0;
		p->pic[n].master = n == 0;
		init_pic(&p->pic[n]);
	}
	atomic_store(&p->output, false);
}

/* OCW2: end of interrupt and rotation. A non-specific one passes over what the special mask mode hides. */
static void end_of_interrupt(struct i8259 *p, uint8_t val)
{
	unsigned n = val & 7;

	if (val & 0x20) {
		if (!(val & 0x40)) {
			unsigned pri = priority(p, in_service(p));

			if (pri == 8)
				return;
			n = (p->lowest + 1u + pri) & 7;
		}
		p->isr &= (uint8_t) ~(1u << n);
		if (val & 0x80)
			p->lowest = (uint8_t)n;
	} else if ((val & 0xc0) == 0xc0) {
		p->lowest = (uint8_t)n;
	} else if (!(val & 0x40)) {
		p->rotate_auto = val & 0x80;
	}
}

static void write_command(struct i8259 *p, uint8_t val)
{
	if (val & 0x10) {
		init_pic(p);
		p->icw = 2;
		p->icw4 = val & 1;
		p->single = val & 2;
	} else if (val & 8) {
		p->poll = val & 4;
		if (val & 2)
			p->read_isr = val & 1;
		if (val & 0x40)
			p->special_mask = val & 0x20;
	} else {
		end_of_interrupt(p, val);
	}
}

static void write_data(struct i8259 *p, uint8_t val)
{
	switch (p->icw) {
	case 2:
		p->base = val & 0xf8;
		p->icw = !p->single ? 3 : p->icw4 ? 4 : 0;
		break;
	case 3: /* the cascade is wired */
		p->icw = p->icw4 ? 4 : 0;
		break;
	case 4:
		p->special_nested = val & 0x10;
		p->auto_eoi = val & 2;
		p->icw = 0;
		break;
	default:
		p->imr = val;
	}
}

/* The read after a poll command is an INTA, at either port: bit 7 and the line, or 0. */
static uint8_t poll(struct i8259 *p)
{
	int n = next_line(p);

	p->poll = false;
	if (n < 0)
		return 0;
	accept(p, (unsigned)n);
	return (uint8_t)(0x80 | n);
}

static uint8_t read_pic(struct i8259 *p, bool data)
{
	if (p->poll)
		return poll(p);
	if (data)
		return p->imr;
	return p->read_isr ? p->isr : p->irr;
}

uint64_t irqchip_pic_read(struct irqchip *chip, unsigned reg)
{
	struct i8259 *p = &chip->pic.pic[reg >> 1 & 1];
	uint8_t v;

	if (reg >= 4)
		return chip->pic.pic[reg - 4].elcr;
	v = read_pic(p, reg & 1);
	update(chip);
	return v;
}

/* Lines 0, 1, 2, 8 and 13 are always edges. One that becomes a level requests as it is. */
static void write_elcr(struct i8259 *p, uint8_t val)
{
	p->elcr = val & (p->master ? 0xf8 : 0xde);
	p->irr = (uint8_t)((p->irr & ~p->elcr) | (p->levels & p->elcr));
}

void irqchip_pic_write(struct irqchip *chip, unsigned reg, uint8_t val)
{
	struct i8259 *p = &chip->pic.pic[reg >> 1 & 1];

	if (reg >= 4)
		write_elcr(&chip->pic.pic[reg - 4], val);
	else if (reg & 1)
		write_data(p, val);
	else
		write_command(p, val);
	update(chip);
}

pthread_mutex_t *irqchip_pic_lock(struct irqchip *chip)
{
	return &chip->pic.lock;
}

void *irqchip_pic_object(struct irqchip *chip)
{
	return &chip->pic;
}

static int one_loaded(void *obj, struct err *err)
{
	struct i8259 *p = obj;

	if (p->icw == 1 || p->icw > 4 || p->lowest > 7 || p->base & 7)
		return err_set(err, "i8259: a register has an impossible value");
	return 0;
}

static int pair_loaded(void *obj, struct err *err)
{
	struct i8259_pair *p = obj;

	for (unsigned n = 0; n < 2; n++)
		if (p->pic[n].elcr & (n ? 0x21 : 0x07))
			return err_set(err, "i8259: a line that is always an edge is a level");
	atomic_store(&p->output, next_line(&p->pic[0]) >= 0);
	return 0;
}

#define P struct i8259
static const struct state_field pic_fields[] = {
	STATE_U8F(P, irr),
	STATE_U8F(P, imr),
	STATE_U8F(P, isr),
	STATE_U8F(P, levels),
	STATE_U8F(P, elcr),
	STATE_U8F(P, base),
	STATE_U8F(P, icw),
	STATE_U8F(P, lowest),
	STATE_BOOLF(P, single),
	STATE_BOOLF(P, icw4),
	STATE_BOOLF(P, auto_eoi),
	STATE_BOOLF(P, rotate_auto),
	STATE_BOOLF(P, read_isr),
	STATE_BOOLF(P, poll),
	STATE_BOOLF(P, special_mask),
	STATE_BOOLF(P, special_nested),
	STATE_FIELD_END,
};
static const struct state_desc one_pic = {
	.name = "pic", .version = 1, .min_version = 1, .fields = pic_fields, .post_load = one_loaded
};
static const struct state_field pair_fields[] = {
	STATE_SUBA(struct i8259_pair, pic, &one_pic),
	STATE_FIELD_END,
};
const struct state_desc irqchip_pic_state = {
	.name = "i8259", .version = 1, .min_version = 1, .fields = pair_fields, .post_load = pair_loaded
};
