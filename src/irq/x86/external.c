/* Local APICs that the engine provides: messages to them, and their registers for saved states. */
#include "irq/x86/impl.h"

#define REG(offset) ((offset) / 16)

/* SDM vol. 3, figures 11-24 and 11-25. Lowest priority goes with the redirection hint. */
static void as_msi(const struct irq_message *m, uint64_t *addr, uint32_t *data)
{
	*addr = LAPIC_BASE | (uint64_t)(m->dest & 0xff) << 12 | (m->mode == DM_LOWEST ? 1u << 3 : 0) |
		(m->logical ? 1u << 2 : 0);
	*data = m->vector | (uint32_t)m->mode << 8 | 1u << 14 | (m->level_trigger ? 1u << 15 : 0);
}

void irqchip_attach(void *opaque, const struct intc_external *x)
{
	((struct irqchip *)opaque)->external = *x;
}

bool irqchip_send_external(struct irqchip *chip, const struct irq_message *m)
{
	uint64_t addr;
	uint32_t data;

	as_msi(m, &addr, &data);
	return chip->external.send(chip->external.opaque, addr, data);
}

bool irqchip_bind_external(struct irqchip *chip, const struct event *e, const struct irq_message *m)
{
	uint64_t addr;
	uint32_t data;

	as_msi(m, &addr, &data);
	return chip->external.bind(chip->external.opaque, e, addr, data);
}

void irqchip_route_external(struct irqchip *chip, unsigned pin, const struct irq_message *m)
{
	uint64_t addr = LAPIC_BASE;
	uint32_t data = 0;

	if (!irqchip_is_split(chip))
		return;
	if (m)
		as_msi(m, &addr, &data);
	chip->external.route(chip->external.opaque, pin, addr, data);
}

/* Who is the boot processor is not for a guest to say, as it is not by the MSR here; KVM lets it. */
static uint64_t base_here(const struct lapic *l, uint64_t base)
{
	base &= APIC_BASE_BITS & ~APIC_BASE_BSP;
	if (!(base & APIC_BASE_ENABLE))
		base &= ~APIC_BASE_X2APIC;
	return base | (l->cpu ? 0 : APIC_BASE_BSP);
}

/*
 * KVM takes an interrupt with a vector below 16 and never delivers it. Here, as on a processor, it is an error instead.
 */
static void drop_illegal_vectors(struct lapic *l)
{
	const uint32_t legal = ~0xffffu;

	if ((atomic_load(&l->irr[0]) | l->isr[0]) & ~legal)
		atomic_fetch_or(&l->esr, LAPIC_ESR_RECEIVED_VECTOR);
	atomic_fetch_and(&l->irr[0], legal);
	atomic_fetch_and(&l->tmr[0], legal);
	l->isr[0] &= legal;
}

/* Less what a local APIC of ours cannot hold, so that whatever a guest has done over there can be restored anywhere. */
void lapic_fetch(struct lapic *l)
{
	struct irqchip *chip = l->chip;
	struct intc_lapic x;
	int64_t left;

	if (!irqchip_is_split(chip))
		return;
	chip->external.get(chip->external.opaque, l->cpu, &x);
	atomic_store(&l->base, base_here(l, x.base));
	atomic_store(&l->tpr, (uint8_t)x.regs[REG(LAPIC_TPR)]);
	atomic_store(&l->ldr, x.regs[REG(LAPIC_LDR)] & 0xff000000);
	atomic_store(&l->dfr, x.regs[REG(LAPIC_DFR)] | 0x0fffffff);
	atomic_store(&l->svr, x.regs[REG(LAPIC_SVR)] & 0x1ff);
	for (unsigned n = 0; n < 8; n++) {
		l->isr[n] = x.regs[REG(LAPIC_ISR) + n];
		atomic_store(&l->tmr[n], x.regs[REG(LAPIC_TMR) + n]);
		atomic_store(&l->irr[n], x.regs[REG(LAPIC_IRR) + n]);
	}
	drop_illegal_vectors(l);
	l->esr_shown = x.regs[REG(LAPIC_ESR)] & LAPIC_ESR_ALL;
	l->icr_low = x.regs[REG(LAPIC_ICR_LOW)];
	l->icr_high = x.regs[REG(LAPIC_ICR_HIGH)];
	for (unsigned n = 0; n < LVT_COUNT; n++)
		atomic_store(&l->lvt[n], x.regs[REG(LAPIC_LVT) + n] & lapic_lvt_writable(n));
	l->pv_eoi = x.pv_eoi & 2 ? 0 : x.pv_eoi;
	l->divide = x.regs[REG(LAPIC_DIVIDE)] & 11;
	l->initial_count = x.regs[REG(LAPIC_INITIAL_COUNT)];
	l->deadline_tsc = x.deadline_tsc;
	left = x.regs[REG(LAPIC_CURRENT_COUNT)];
	lapic_timer_adopt(l, left);
}

void lapic_put(struct lapic *l)
{
	struct irqchip *chip = l->chip;
	struct intc_lapic x = { .base = atomic_load(&l->base), .pv_eoi = l->pv_eoi, .deadline_tsc = l->deadline_tsc };

	if (!irqchip_is_split(chip))
		return;
	/* An end that the guest was allowed to leave out: nobody there would know of it. */
	lapic_settle_eoi(l);
	/* In the xAPIC's form in either mode. */
	x.regs[REG(LAPIC_ID)] = lapic_x2apic(l) ? l->cpu << 24 : lapic_read(l, LAPIC_ID);
	x.regs[REG(LAPIC_VERSION)] = lapic_read(l, LAPIC_VERSION);
	x.regs[REG(LAPIC_TPR)] = atomic_load(&l->tpr);
	x.regs[REG(LAPIC_LDR)] = lapic_read(l, LAPIC_LDR);
	x.regs[REG(LAPIC_DFR)] = atomic_load(&l->dfr);
	x.regs[REG(LAPIC_SVR)] = atomic_load(&l->svr);
	for (unsigned n = 0; n < 8; n++) {
		x.regs[REG(LAPIC_ISR) + n] = l->isr[n];
		x.regs[REG(LAPIC_TMR) + n] = atomic_load(&l->tmr[n]);
		x.regs[REG(LAPIC_IRR) + n] = atomic_load(&l->irr[n]);
	}
	x.regs[REG(LAPIC_ESR)] = l->esr_shown;
	x.regs[REG(LAPIC_ICR_LOW)] = l->icr_low;
	x.regs[REG(LAPIC_ICR_HIGH)] = l->icr_high;
	for (unsigned n = 0; n < LVT_COUNT; n++)
		x.regs[REG(LAPIC_LVT) + n] = atomic_load(&l->lvt[n]);
	x.regs[REG(LAPIC_DIVIDE)] = l->divide;
	x.regs[REG(LAPIC_INITIAL_COUNT)] = l->initial_count;
	x.regs[REG(LAPIC_CURRENT_COUNT)] = lapic_timer_current(l);
	/* This timer runs there from now on. */
	lapic_timer_quiet(l);
	chip->external.set(chip->external.opaque, l->cpu, &x);
}
