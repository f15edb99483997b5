/* Who an interrupt message is for, and handing it over. SDM vol. 3, 11.6.2 and 11.11. Any thread. */
#include "base/log.h"
#include "irq/x86/impl.h"

static bool matches_logical(const struct lapic *l, uint32_t dest)
{
	uint32_t ldr;

	if (lapic_x2apic(l)) {
		/* A message from the I/O APIC or an xAPIC has an 8-bit destination: cluster 0. */
		return dest >> 16 == l->cpu >> 4 && dest >> (l->cpu & 15) & 1;
	}
	ldr = atomic_load_explicit(&l->ldr, memory_order_relaxed) >> 24;
	if (atomic_load_explicit(&l->dfr, memory_order_relaxed) >> 28 == 0xf)
		return (dest & ldr) != 0;
	return (dest >> 4 == ldr >> 4 || dest >> 4 == 0xf) && dest & ldr & 0xf;
}

static bool matches(const struct lapic *l, const struct irq_message *m)
{
	if (m->dest == (m->wide ? 0xffffffffu : 0xffu))
		return true;
	return m->logical ? matches_logical(l, m->dest) : m->dest == lapic_id(l);
}

static bool accepts_vectors(struct lapic *l, uint8_t vector)
{
	if (!lapic_software_enabled(l))
		return false;
	if (vector >= 16)
		return true;
	lapic_error(l, LAPIC_ESR_RECEIVED_VECTOR);
	return false;
}

static bool take(struct lapic *l, const struct irq_message *m)
{
	struct irqchip *chip = l->chip;

	if (!lapic_enabled(l))
		return false;
	switch (m->mode) {
	case DM_FIXED:
	case DM_LOWEST:
		if (!accepts_vectors(l, m->vector))
			return false;
		lapic_accept(l, m->vector, m->level_trigger);
		return true;
	case DM_SMI:
		irqchip_signal(chip, l->cpu, CPU_SIGNAL_SMI, 0);
		return true;
	case DM_NMI:
		irqchip_signal(chip, l->cpu, CPU_SIGNAL_NMI, 0);
		return true;
	case DM_INIT:
		irqchip_signal(chip, l->cpu, CPU_SIGNAL_INIT, 0);
		return true;
	case DM_SIPI:
		irqchip_signal(chip, l->cpu, CPU_SIGNAL_SIPI, m->vector);
		return true;
	case DM_EXTINT: /* the vector is the 8259's */
		if (!lapic_software_enabled(l))
			return false;
		atomic_store(&l->extint, true);
		irqchip_signal(chip, l->cpu, CPU_SIGNAL_INTR, 0);
		return true;
	default:
		return false;
	}
}

/* Lowest priority: the lowest task priority, and among equals in turns. SDM vol. 3, 11.6.2.4. */
static bool deliver_lowest(struct irqchip *chip, const struct irq_message *m)
{
	unsigned cpus = chip->cfg.cpus;
	unsigned first = atomic_fetch_add_explicit(&chip->lowest_next, 1, memory_order_relaxed) % cpus;
	struct lapic *best = NULL;

	for (unsigned n = 0; n < cpus; n++) {
		struct lapic *l = &chip->lapics[(first + n) % cpus];

		if (lapic_software_enabled(l) && matches(l, m) && (!best || lapic_tpr(l) >> 4 < lapic_tpr(best) >> 4))
			best = l;
	}
	return best && take(best, m);
}

bool irqchip_deliver(struct irqchip *chip, const struct irq_message *m)
{
	bool taken = false;

	if (irqchip_is_split(chip))
		return irqchip_send_external(chip, m);
	if (m->mode == DM_LOWEST)
		return deliver_lowest(chip, m);
	for (unsigned n = 0; n < chip->cfg.cpus; n++)
		if (matches(&chip->lapics[n], m) && take(&chip->lapics[n], m))
			taken = true;
	return taken;
}

enum { SHORT_NONE, SHORT_SELF, SHORT_ALL, SHORT_OTHERS };

void irqchip_ipi(struct lapic *from, uint32_t low, uint32_t dest)
{
	struct irqchip *chip = from->chip;
	unsigned shorthand = low >> 18 & 3;
	struct irq_message m = {
		.dest = dest,
		.logical = low >> 11 & 1,
		.mode = low >> 8 & 7,
		.vector = (uint8_t)low,
		.wide = lapic_x2apic(from),
	};

	/* INIT level de-assert only sets arbitration ids. */
	if (m.mode == DM_INIT && !(low >> 14 & 1) && low >> 15 & 1)
		return;
	/* Modes 3 and 7 are reserved here. */
	if (m.mode == DM_RESERVED || m.mode == DM_EXTINT)
		return;
	if ((m.mode == DM_FIXED || m.mode == DM_LOWEST) && m.vector < 16) {
		lapic_error(from, LAPIC_ESR_SENT_VECTOR);
		return;
	}
	if (shorthand == SHORT_NONE) {
		irqchip_deliver(chip, &m);
		return;
	}
	for (unsigned n = 0; n < chip->cfg.cpus; n++) {
		bool self = n == from->cpu;

		if (shorthand == SHORT_SELF ? self : shorthand == SHORT_ALL || !self)
			take(&chip->lapics[n], &m);
	}
}

/*
 * A write to FEExxxxxh. SDM vol. 3, 11.11.1 and 11.11.2. With the redirection hint and a logical destination one of
 * the processors takes it; the de-assertion of a level says nothing, and start-up messages are not for devices.
 */
static bool message_of(uint64_t addr, uint32_t data, struct irq_message *m)
{
	*m = (struct irq_message){
		.dest = addr >> 12 & 0xff,
		.logical = addr >> 2 & 1,
		.mode = data >> 8 & 7,
		.vector = (uint8_t)data,
		.level_trigger = data >> 15 & 1,
	};

	if (addr >> 3 & 1 && m->logical && m->mode == DM_FIXED)
		m->mode = DM_LOWEST;
	return addr >> 20 == LAPIC_BASE >> 20 && m->mode != DM_SIPI && (!m->level_trigger || data >> 14 & 1);
}

static void send_msi(void *opaque, uint64_t addr, uint32_t data)
{
	struct irq_message m;

	if (message_of(addr, data, &m))
		irqchip_deliver(opaque, &m);
	else if (addr >> 20 != LAPIC_BASE >> 20)
		log_guest("irq", "an MSI to %#llx goes nowhere", (unsigned long long)addr);
}

/* What is not an interrupt is rare and goes by send_msi(). */
static bool bind_msi(void *opaque, const struct event *e, uint64_t addr, uint32_t data)
{
	struct irq_message m;

	return message_of(addr, data, &m) && (m.mode == DM_FIXED || m.mode == DM_LOWEST) &&
	       irqchip_bind_external(opaque, e, &m);
}

static void unbind_msi(void *opaque, const struct event *e)
{
	const struct irqchip *chip = opaque;

	chip->external.unbind(chip->external.opaque, e);
}

struct msi_sink irqchip_msi(struct irqchip *chip)
{
	return chip->external.bind ? (struct msi_sink){ send_msi, chip, bind_msi, unbind_msi }
				   : (struct msi_sink){ send_msi, chip };
}
