/*
 * The I/O APIC, version 20h: 24 pins. 82093AA data sheet; the EOI register as in later ones. Pin 0 is the output of
 * the 8259s. Lines are asserted or not here, so the polarity bit is kept and means nothing.
 */
#include "base/bytes.h"
#include "irq/x86/impl.h"

#define REG_SELECT 0x00
#define REG_WINDOW 0x10
#define REG_EOI	   0x40
#define VERSION	   (0x20 | (IRQCHIP_PINS - 1) << 16)

#define RTE_REMOTE_IRR (1ull << 14)
#define RTE_LEVEL      (1ull << 15)
#define RTE_MASKED     (1ull << 16)
#define RTE_WRITABLE   0xff0000000001afffull

/* Remote IRR exists for level-triggered entries of modes fixed and lowest priority only. */
static bool is_level(uint64_t e)
{
	unsigned mode = e >> 8 & 7;

	return e & RTE_LEVEL && (mode == DM_FIXED || mode == DM_LOWEST);
}

static struct irq_message message_of(uint64_t e)
{
	return (struct irq_message){
		.dest = (uint32_t)(e >> 56),
		.logical = e >> 11 & 1,
		.mode = e >> 8 & 7,
		.vector = (uint8_t)e,
		.level_trigger = is_level(e),
	};
}

/* The entry has changed: a local APIC elsewhere is to know what it sends. Lock held. */
static void entry_changed(struct irqchip *chip, unsigned pin)
{
	uint64_t e = chip->ioapic.entry[pin];
	struct irq_message m = message_of(e);

	irqchip_route_external(chip, pin, e & RTE_MASKED ? NULL : &m);
}

/* Lock held. */
static void service(struct irqchip *chip, unsigned pin)
{
	struct ioapic *io = &chip->ioapic;
	uint64_t e = io->entry[pin];
	struct irq_message m = message_of(e);

	/* Mode 6 is reserved: start-up messages come from processors only. */
	if (e & (RTE_MASKED | RTE_REMOTE_IRR) || m.mode == DM_SIPI)
		return;
	if (irqchip_deliver(chip, &m) && m.level_trigger)
		io->entry[pin] |= RTE_REMOTE_IRR;
}

void ioapic_set_pin(struct irqchip *chip, unsigned pin, bool level)
{
	struct ioapic *io = &chip->ioapic;
	uint32_t bit = 1u << pin;
	bool rose;

	pthread_mutex_lock(&io->lock);
	rose = level && !(io->levels & bit);
	io->raised[pin] += rose;
	io->levels = level ? io->levels | bit : io->levels & ~bit;
	if (level && (rose || is_level(io->entry[pin])))
		service(chip, pin);
	pthread_mutex_unlock(&io->lock);
}

/* Lock held. */
static void eoi(struct irqchip *chip, uint8_t vector)
{
	struct ioapic *io = &chip->ioapic;

	for (unsigned pin = 0; pin < IRQCHIP_PINS; pin++) {
		if ((uint8_t)io->entry[pin] != vector || !(io->entry[pin] & RTE_REMOTE_IRR))
			continue;
		io->entry[pin] &= ~RTE_REMOTE_IRR;
		if (io->levels >> pin & 1)
			service(chip, pin);
	}
}

void ioapic_eoi(struct irqchip *chip, uint8_t vector)
{
	pthread_mutex_lock(&chip->ioapic.lock);
	eoi(chip, vector);
	pthread_mutex_unlock(&chip->ioapic.lock);
}

pthread_mutex_t *irqchip_ioapic_lock(struct irqchip *chip)
{
	return &chip->ioapic.lock;
}

static uint32_t read_window(const struct ioapic *io)
{
	unsigned n = io->select - 0x10u;

	switch (io->select) {
	case 0:
	case 2:
		return (uint32_t)io->id << 24;
	case 1:
		return VERSION;
	}
	return n / 2 < IRQCHIP_PINS ? (uint32_t)(io->entry[n / 2] >> (n & 1 ? 32 : 0)) : 0;
}

static void write_window(struct irqchip *chip, uint32_t val)
{
	struct ioapic *io = &chip->ioapic;
	unsigned n = io->select - 0x10u, pin = n / 2, shift = n & 1 ? 32 : 0;
	uint64_t mask = RTE_WRITABLE & 0xffffffffull << shift;

	if (io->select == 0)
		io->id = val >> 24 & 15;
	if (io->select < 0x10 || pin >= IRQCHIP_PINS)
		return;
	io->entry[pin] = (io->entry[pin] & ~mask) | ((uint64_t)val << shift & mask);
	/* Making an entry an edge is how drivers end a level interrupt without the EOI register. */
	if (!is_level(io->entry[pin]))
		io->entry[pin] &= ~RTE_REMOTE_IRR;
	entry_changed(chip, pin);
	if (!is_level(io->entry[pin]))
		return;
	if (io->levels >> pin & 1)
		service(chip, pin);
}

uint64_t irqchip_ioapic_read(void *opaque, uint64_t off, unsigned size)
{
	struct ioapic *io = &((struct irqchip *)opaque)->ioapic;

	if (off == REG_SELECT)
		return io->select;
	return off == REG_WINDOW ? read_window(io) : 0;
}

void irqchip_ioapic_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct irqchip *chip = opaque;

	if (off == REG_SELECT)
		chip->ioapic.select = (uint8_t)val;
	else if (off == REG_WINDOW)
		write_window(chip, (uint32_t)val);
	else if (off == REG_EOI)
		eoi(chip, (uint8_t)val);
}

void ioapic_reset(struct ioapic *io)
{
	io->select = io->id = 0;
	for (unsigned pin = 0; pin < IRQCHIP_PINS; pin++)
		io->entry[pin] = RTE_MASKED;
	io->levels = 0;
}

static int post_load(void *obj, struct err *err)
{
	struct ioapic *io = obj;

	for (unsigned pin = 0; pin < IRQCHIP_PINS; pin++)
		if (io->entry[pin] & ~(RTE_WRITABLE | RTE_REMOTE_IRR) ||
		    (io->entry[pin] & RTE_REMOTE_IRR && !is_level(io->entry[pin])))
			return err_set(err, "ioapic: entry %u is not possible", pin);
	if (io->levels >> IRQCHIP_PINS || io->id > 15)
		return err_set(err, "ioapic: levels or id out of range");
	for (unsigned pin = 0; pin < IRQCHIP_PINS; pin++)
		entry_changed((struct irqchip *)((char *)io - offsetof(struct irqchip, ioapic)), pin);
	return 0;
}

static const struct state_field fields[] = {
	STATE_U8F(struct ioapic, select),
	STATE_U8F(struct ioapic, id),
	STATE_U64A(struct ioapic, entry),
	STATE_U32F(struct ioapic, levels),
	STATE_FIELD_END,
};
const struct state_desc irqchip_ioapic_state = {
	.name = "ioapic", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

void *irqchip_ioapic_object(struct irqchip *chip)
{
	return &chip->ioapic;
}
