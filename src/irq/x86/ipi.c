/* Who an interrupt message is for, and handing it over. SDM vol. 3, 11.6.2 and 11.11. Any thread. */
#include "base/log.h"
#include "irq/x86/impl.h"

static bool matches_logical(const struct lapic *l, uint32_t dest, bool wide)
{
	uint32_t ldr;

	if (lapic_x2apic(l)) {
		/* A message from the I/O APIC or an xAPIC has an 8-bit destination: cluster 0. */
		if (!wide && dest == 0xff)
			return true;
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
	return m->logical ? matches_logical(l, m->dest, m->wide) : m->dest == l->cpu;
}

static bool take(struct lapic *l, const struct irq_message *m)
{
	struct irqchip *chip = l->chip;

	switch (m->mode) {
	case DM_FIXED:
	case DM_LOWEST:
		if (!lapic_software_enabled(l) || m->vector < 16)
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
	default: /* ExtINT by message: the 8259 reaches the processors by LINT0 only */
		return false;
	}
}

bool irqchip_deliver(struct irqchip *chip, const struct irq_message *m)
{
	unsigned cpus = chip->cfg.cpus, first = 0;
	bool taken = false;

	/* Lowest priority: in turns, as real chipsets do. */
	if (m->mode == DM_LOWEST)
		first = atomic_fetch_add_explicit(&chip->lowest_next, 1, memory_order_relaxed) % cpus;
	for (unsigned n = 0; n < cpus; n++) {
		struct lapic *l = &chip->lapics[(first + n) % cpus];

		if (!lapic_enabled(l) || !matches(l, m) || !take(l, m))
			continue;
		taken = true;
		if (m->mode == DM_LOWEST)
			break;
	}
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
	if (m.mode == DM_FIXED && m.vector < 16) {
		lapic_error(from, 1u << 5);
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

/* A write to FEExxxxxh. SDM vol. 3, 11.11.1 and 11.11.2. */
static void send_msi(void *opaque, uint64_t addr, uint32_t data)
{
	struct irq_message m = {
		.dest = addr >> 12 & 0xff,
		.logical = addr >> 2 & 1,
		.mode = data >> 8 & 7,
		.vector = (uint8_t)data,
		.level_trigger = data >> 15 & 1,
	};

	if (addr >> 20 != LAPIC_BASE >> 20) {
		log_guest("irq", "an MSI to %#llx goes nowhere", (unsigned long long)addr);
		return;
	}
	irqchip_deliver(opaque, &m);
}

struct msi_sink irqchip_msi(struct irqchip *chip)
{
	return (struct msi_sink){ send_msi, chip };
}
