/* The local APIC's registers and priorities. SDM vol. 3, 11.4 to 11.8. vCPU thread unless said otherwise. */
#include "irq/x86/impl.h"

#include "base/bytes.h"

#define VERSION 0x50014 /* 6 local vectors, integrated APIC, no suppression of EOI broadcasts */

/* What may be written to the interrupt command register; bit 12 is ignored. */
#define ICR_WRITABLE 0xccfffu
#define ICR_RESERVED (0xffffffffu & ~(ICR_WRITABLE | 1u << 12))

static int highest(const uint32_t *w)
{
	for (int n = 7; n >= 0; n--)
		if (w[n])
			return n * 32 + 31 - __builtin_clz(w[n]);
	return -1;
}

static int highest_irr(const struct lapic *l)
{
	for (int n = 7; n >= 0; n--) {
		uint32_t w = atomic_load_explicit(&l->irr[n], memory_order_acquire);

		if (w)
			return n * 32 + 31 - __builtin_clz(w);
	}
	return -1;
}

static uint8_t ppr(const struct lapic *l)
{
	int isr = highest(l->isr);
	uint8_t service = isr < 0 ? 0 : (uint8_t)(isr & 0xf0);

	return (lapic_tpr(l) & 0xf0) >= service ? lapic_tpr(l) : service;
}

/*
 * The vector to deliver now, or -1. Software disable holds nothing back that was accepted before it
 * (11.4.7.2: "require ... handling by the CPU").
 */
static int deliverable(const struct lapic *l)
{
	int irr;

	if (!lapic_enabled(l))
		return -1;
	irr = highest_irr(l);
	return irr >= 0 && (irr & 0xf0) > (ppr(l) & 0xf0) ? irr : -1;
}

/* Something that priorities depend on has changed: have the vCPU ask again. */
static void look_again(struct lapic *l)
{
	if (deliverable(l) >= 0)
		irqchip_signal(l->chip, l->cpu, CPU_SIGNAL_INTR, 0);
}

/* --- KVM's paravirtual EOI: the guest clears a flag in memory instead of writing the EOI register --- */

static void complete(struct lapic *l)
{
	int v = highest(l->isr);

	if (v < 0)
		return;
	l->isr[v / 32] &= ~(1u << (v & 31));
	if (atomic_load(&l->tmr[v / 32]) >> (v & 31) & 1)
		ioapic_eoi(l->chip, (uint8_t)v);
}

/* Learn whether the guest has skipped an EOI; with `end` it may not skip this one any more. */
static void pv_eoi_sync(struct lapic *l, bool end)
{
	gpa_t at = gpa(l->pv_eoi & ~3ull);
	uint8_t b = 0;

	if (!l->pv_eoi_set)
		return;
	if (!mem_read(l->chip->cfg.mem, at, &b, 1) || !(b & 1)) {
		l->pv_eoi_set = false;
		complete(l);
	} else if (end) {
		b &= 0xfe;
		mem_write(l->chip->cfg.mem, at, &b, 1);
		l->pv_eoi_set = false;
	}
}

static void pv_eoi_offer(struct lapic *l, int vector)
{
	gpa_t at = gpa(l->pv_eoi & ~3ull);
	uint8_t b;

	if (!(l->pv_eoi & 1) || highest_irr(l) >= 0 || atomic_load(&l->tmr[vector / 32]) >> (vector & 31) & 1)
		return;
	/* Exactly one interrupt in service: the flag speaks of that one. */
	for (unsigned n = 0, bits = 0; n < 8; n++) {
		bits += (unsigned)__builtin_popcount(l->isr[n]);
		if (bits > 1)
			return;
	}
	if (!mem_read(l->chip->cfg.mem, at, &b, 1))
		return;
	b |= 1;
	l->pv_eoi_set = mem_write(l->chip->cfg.mem, at, &b, 1);
}

/* --- interrupts --- */

/*
 * The 8259's output reaches this processor: by an I/O APIC entry of mode ExtINT, and the first processor also
 * through LINT0, or directly while the APIC is globally disabled.
 */
static bool extint_waits(const struct lapic *l)
{
	uint32_t lint0;

	if (!atomic_load_explicit(&l->chip->pic.output, memory_order_acquire))
		return false;
	/* Whether its local APIC lets it through is the engine's to know. */
	if (irqchip_is_split(l->chip))
		return l->cpu == 0;
	if (atomic_load_explicit(&l->extint, memory_order_relaxed))
		return true;
	if (l->cpu != 0)
		return false;
	if (!lapic_enabled(l))
		return true;
	lint0 = atomic_load_explicit(&l->lvt[LVT_LINT0], memory_order_relaxed);
	return !(lint0 & LVT_MASKED) && (lint0 >> 8 & 7) == DM_EXTINT;
}

static bool pending(void *opaque, unsigned cpu)
{
	struct lapic *l = &((struct irqchip *)opaque)->lapics[cpu];

	if (irqchip_is_split(l->chip))
		return extint_waits(l);
	if (l->pv_eoi_set)
		pv_eoi_sync(l, highest_irr(l) >= 0);
	return deliverable(l) >= 0 || extint_waits(l);
}

static int ack(void *opaque, unsigned cpu)
{
	struct lapic *l = &((struct irqchip *)opaque)->lapics[cpu];
	int v;

	if (irqchip_is_split(l->chip))
		return extint_waits(l) ? pic_ack(l->chip) : -1;
	if (l->pv_eoi_set)
		pv_eoi_sync(l, true);
	if (extint_waits(l)) {
		atomic_store(&l->extint, false);
		return pic_ack(l->chip);
	}
	v = deliverable(l);
	if (v < 0)
		return -1;
	atomic_fetch_and(&l->irr[v / 32], ~(1u << (v & 31)));
	l->isr[v / 32] |= 1u << (v & 31);
	pv_eoi_offer(l, v);
	return v;
}

void lapic_settle_eoi(struct lapic *l)
{
	pv_eoi_sync(l, true);
}

void lapic_eoi(struct lapic *l)
{
	pv_eoi_sync(l, true);
	complete(l);
	look_again(l);
}

/* Any thread. */
void lapic_accept(struct lapic *l, uint8_t vector, bool level)
{
	uint32_t bit = 1u << (vector & 31);

	if (level)
		atomic_fetch_or(&l->tmr[vector / 32], bit);
	else
		atomic_fetch_and(&l->tmr[vector / 32], ~bit);
	if (!(atomic_fetch_or(&l->irr[vector / 32], bit) & bit))
		irqchip_signal(l->chip, l->cpu, CPU_SIGNAL_INTR, 0);
}

/* Any thread (the timer). */
void lapic_local(struct lapic *l, unsigned n)
{
	uint32_t lvt = atomic_load(&l->lvt[n]);

	if (lvt & LVT_MASKED || !lapic_software_enabled(l))
		return;
	switch (n == LVT_TIMER || n == LVT_ERROR ? DM_FIXED : lvt >> 8 & 7) {
	case DM_FIXED:
		if ((lvt & 0xff) >= 16)
			lapic_accept(l, (uint8_t)lvt, false);
		else if (n != LVT_ERROR)
			lapic_error(l, LAPIC_ESR_RECEIVED_VECTOR);
		else
			atomic_fetch_or(&l->esr, LAPIC_ESR_RECEIVED_VECTOR);
		break;
	case DM_NMI:
		irqchip_signal(l->chip, l->cpu, CPU_SIGNAL_NMI, 0);
		break;
	case DM_SMI:
		irqchip_signal(l->chip, l->cpu, CPU_SIGNAL_SMI, 0);
		break;
	}
}

/* The first error since the register was written interrupts; the write arms the interrupt again (11.5.3). */
void lapic_error(struct lapic *l, uint32_t bits)
{
	if (!atomic_fetch_or(&l->esr, bits))
		lapic_local(l, LVT_ERROR);
}

/* --- registers --- */

static uint32_t id_register(const struct lapic *l)
{
	return lapic_x2apic(l) ? l->cpu : lapic_id(l) << 24;
}

static uint32_t ldr_register(const struct lapic *l)
{
	return lapic_x2apic(l) ? (l->cpu >> 4) << 16 | 1u << (l->cpu & 15) : atomic_load(&l->ldr);
}

uint32_t lapic_read(struct lapic *l, uint32_t off)
{
	unsigned n = (off & 0x7f) >> 4;

	switch (off) {
	case LAPIC_ID:
		return id_register(l);
	case LAPIC_VERSION:
		return VERSION;
	case LAPIC_TPR:
		return lapic_tpr(l);
	case LAPIC_PPR:
		pv_eoi_sync(l, true);
		return ppr(l);
	case LAPIC_LDR:
		return ldr_register(l);
	case LAPIC_DFR:
		return atomic_load(&l->dfr);
	case LAPIC_SVR:
		return atomic_load(&l->svr);
	case LAPIC_ISR ... LAPIC_ISR + 0x70:
		pv_eoi_sync(l, true);
		return l->isr[n];
	case LAPIC_TMR ... LAPIC_TMR + 0x70:
		return atomic_load(&l->tmr[n]);
	case LAPIC_IRR ... LAPIC_IRR + 0x70:
		return atomic_load(&l->irr[n]);
	case LAPIC_ESR:
		return l->esr_shown;
	case LAPIC_ICR_LOW:
		return l->icr_low;
	case LAPIC_ICR_HIGH:
		return l->icr_high;
	case LAPIC_LVT ... LAPIC_LVT + 0x50:
		return atomic_load(&l->lvt[(off - LAPIC_LVT) >> 4]);
	case LAPIC_INITIAL_COUNT:
		return l->initial_count;
	case LAPIC_CURRENT_COUNT:
		return lapic_timer_current(l);
	case LAPIC_DIVIDE:
		return l->divide;
	}
	lapic_error(l, LAPIC_ESR_REGISTER);
	return 0;
}

uint32_t lapic_lvt_writable(unsigned n)
{
	static const uint32_t writable[LVT_COUNT] = {
		[LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
		[LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,	[LVT_ERROR] = 0x100ff,
	};

	return writable[n];
}

static void write_lvt(struct lapic *l, unsigned n, uint32_t val)
{
	val &= lapic_lvt_writable(n);
	if (!lapic_software_enabled(l))
		val |= LVT_MASKED;
	if (n == LVT_TIMER)
		lapic_timer_write(l, LAPIC_LVT, val);
	else
		atomic_store(&l->lvt[n], val);
	if (n == LVT_LINT0 && extint_waits(l))
		irqchip_signal(l->chip, l->cpu, CPU_SIGNAL_INTR, 0);
}

static void write_svr(struct lapic *l, uint32_t val)
{
	atomic_store(&l->svr, val & 0x1ff);
	if (!(val & SVR_ENABLE))
		for (unsigned n = 0; n < LVT_COUNT; n++)
			atomic_fetch_or(&l->lvt[n], LVT_MASKED);
	look_again(l);
}

void lapic_write(struct lapic *l, uint32_t off, uint32_t val)
{
	switch (off) {
	case LAPIC_ID:
		atomic_store_explicit(&l->id, (uint8_t)(val >> 24), memory_order_relaxed);
		break;
	case LAPIC_TPR:
		atomic_store_explicit(&l->tpr, (uint8_t)val, memory_order_relaxed);
		look_again(l);
		break;
	case LAPIC_EOI:
		lapic_eoi(l);
		break;
	case LAPIC_LDR:
		atomic_store(&l->ldr, val & 0xff000000);
		break;
	case LAPIC_DFR:
		atomic_store(&l->dfr, val | 0x0fffffff);
		break;
	case LAPIC_SVR:
		write_svr(l, val);
		break;
	case LAPIC_ESR:
		l->esr_shown = atomic_exchange(&l->esr, 0);
		break;
	case LAPIC_ICR_LOW:
		l->icr_low = val & ICR_WRITABLE;
		irqchip_ipi(l, l->icr_low, l->icr_high >> 24);
		break;
	case LAPIC_ICR_HIGH:
		l->icr_high = val & 0xff000000;
		break;
	case LAPIC_LVT ... LAPIC_LVT + 0x50:
		write_lvt(l, (off - LAPIC_LVT) >> 4, val);
		break;
	case LAPIC_INITIAL_COUNT:
	case LAPIC_DIVIDE:
		lapic_timer_write(l, off, val);
		break;
	default:
		lapic_error(l, LAPIC_ESR_REGISTER);
	}
}

/* --- as the processor sees it --- */

static uint8_t get_cr8(void *opaque, unsigned cpu)
{
	return lapic_tpr(&((struct irqchip *)opaque)->lapics[cpu]) >> 4;
}

static void set_cr8(void *opaque, unsigned cpu, uint8_t v)
{
	struct lapic *l = &((struct irqchip *)opaque)->lapics[cpu];

	atomic_store_explicit(&l->tpr, (uint8_t)(v << 4), memory_order_relaxed);
	look_again(l);
}

static bool mmio_hit(void *opaque, unsigned cpu, uint64_t addr, uint32_t *offset)
{
	struct lapic *l = &((struct irqchip *)opaque)->lapics[cpu];
	uint64_t base = atomic_load_explicit(&l->base, memory_order_relaxed);

	*offset = addr & 0xfff;
	return (base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) == APIC_BASE_ENABLE &&
	       (addr & ~0xfffull) == (base & 0xfffffffffffff000ull);
}

/* Registers are 32 bits wide on 16-byte boundaries; the rest of each 16 bytes reads as zero. */
static uint32_t mmio_read(void *opaque, unsigned cpu, uint32_t offset)
{
	struct lapic *l = &((struct irqchip *)opaque)->lapics[cpu];
	unsigned shift = (offset & 3) * 8;

	return offset & 12 ? 0 : lapic_read(l, offset & ~15u) >> shift;
}

static void mmio_write(void *opaque, unsigned cpu, uint32_t offset, uint32_t val)
{
	if (!(offset & 15))
		lapic_write(&((struct irqchip *)opaque)->lapics[cpu], offset, val);
}

/* Table 11-6 of the SDM: which registers exist as MSRs. */
static bool x2apic_readable(uint32_t off)
{
	return off == LAPIC_ID || off == LAPIC_VERSION || off == LAPIC_TPR || off == LAPIC_PPR || off == LAPIC_LDR ||
	       off == LAPIC_SVR || (off >= LAPIC_ISR && off <= LAPIC_ESR) || off == LAPIC_ICR_LOW ||
	       (off >= LAPIC_LVT && off <= LAPIC_LVT + 0x50) || off == LAPIC_INITIAL_COUNT ||
	       off == LAPIC_CURRENT_COUNT || off == LAPIC_DIVIDE;
}

static bool x2apic_read(struct lapic *l, uint32_t off, uint64_t *val)
{
	if (!x2apic_readable(off))
		return false;
	*val = off == LAPIC_ICR_LOW ? (uint64_t)l->icr_high << 32 | l->icr_low : lapic_read(l, off);
	return true;
}

/* The bits of an x2APIC register that must be written as zero; all of them if it cannot be written. 11.12.1.3. */
static uint32_t x2apic_reserved(uint32_t off)
{
	const uint32_t delivery_status = 1u << 12, remote_irr = 1u << 14;
	unsigned lvt = (off - LAPIC_LVT) >> 4;

	switch (off) {
	case LAPIC_TPR:
	case LAPIC_SELF_IPI:
		return ~0xffu;
	case LAPIC_SVR:
		return ~0x1ffu;
	case LAPIC_LVT ... LAPIC_LVT + 0x50:
		return ~(lapic_lvt_writable(lvt) | delivery_status |
			 (lvt == LVT_LINT0 || lvt == LVT_LINT1 ? remote_irr : 0));
	case LAPIC_INITIAL_COUNT:
		return 0;
	case LAPIC_DIVIDE:
		return ~11u;
	default: /* EOI and ESR among them: only zero may be written to them */
		return ~0u;
	}
}

static bool x2apic_writable(uint32_t off)
{
	return off == LAPIC_TPR || off == LAPIC_EOI || off == LAPIC_SVR || off == LAPIC_ESR ||
	       (off >= LAPIC_LVT && off <= LAPIC_LVT + 0x50) || off == LAPIC_INITIAL_COUNT || off == LAPIC_DIVIDE ||
	       off == LAPIC_SELF_IPI;
}

static bool x2apic_write(struct lapic *l, uint32_t off, uint64_t val)
{
	if (off == LAPIC_ICR_LOW) {
		if ((uint32_t)val & ICR_RESERVED)
			return false;
		l->icr_low = (uint32_t)val & ICR_WRITABLE;
		l->icr_high = (uint32_t)(val >> 32);
		irqchip_ipi(l, l->icr_low, l->icr_high);
		return true;
	}
	if (val >> 32 || !x2apic_writable(off) || (uint32_t)val & x2apic_reserved(off))
		return false;
	if (off == LAPIC_SELF_IPI)
		irqchip_ipi(l, (uint32_t)val | 1u << 18, 0);
	else
		lapic_write(l, off, (uint32_t)val);
	return true;
}

/* Figure 11-27: the mode changes that are allowed. */
static bool write_base(struct lapic *l, uint64_t val)
{
	uint64_t old = atomic_load(&l->base), mode = val & (APIC_BASE_ENABLE | APIC_BASE_X2APIC);
	uint64_t was = old & (APIC_BASE_ENABLE | APIC_BASE_X2APIC);

	if (val & ~APIC_BASE_BITS)
		return false;
	if (mode == APIC_BASE_X2APIC)
		return false;
	if ((was == (APIC_BASE_ENABLE | APIC_BASE_X2APIC) && mode == APIC_BASE_ENABLE) ||
	    (was == 0 && mode == (APIC_BASE_ENABLE | APIC_BASE_X2APIC)))
		return false;
	atomic_store(&l->base, (val & ~APIC_BASE_BSP) | (old & APIC_BASE_BSP));
	/* Off is as after a reset, identity included; and the x2APIC's identity is that of the processor. */
	if (was && !mode)
		lapic_reset(l, false);
	if (mode != was)
		atomic_store(&l->id, (uint8_t)l->cpu);
	return true;
}

static bool rdmsr(void *opaque, unsigned cpu, uint32_t msr, uint64_t *val)
{
	struct lapic *l = &((struct irqchip *)opaque)->lapics[cpu];

	if (msr == MSR_APIC_BASE)
		*val = atomic_load(&l->base);
	else if (msr == MSR_TSC_DEADLINE)
		*val = lapic_deadline_get(l);
	else if (msr == MSR_KVM_PV_EOI)
		*val = l->pv_eoi;
	else
		return lapic_x2apic(l) && x2apic_read(l, (msr - MSR_X2APIC) << 4, val);
	return true;
}

static bool wrmsr(void *opaque, unsigned cpu, uint32_t msr, uint64_t val)
{
	struct lapic *l = &((struct irqchip *)opaque)->lapics[cpu];

	if (msr == MSR_APIC_BASE)
		return write_base(l, val);
	if (msr == MSR_TSC_DEADLINE) {
		lapic_deadline_set(l, val);
	} else if (msr == MSR_KVM_PV_EOI) {
		if (val & 2)
			return false;
		pv_eoi_sync(l, true);
		l->pv_eoi = val;
	} else {
		return lapic_x2apic(l) && x2apic_write(l, (msr - MSR_X2APIC) << 4, val);
	}
	return true;
}

static void init(void *opaque, unsigned cpu)
{
	lapic_reset(&((struct irqchip *)opaque)->lapics[cpu], false);
}

static void ipi(void *opaque, unsigned cpu, uint32_t icr, uint32_t dest)
{
	irqchip_ipi(&((struct irqchip *)opaque)->lapics[cpu], icr & ICR_WRITABLE, dest);
}

static void eoi(void *opaque, uint8_t vector)
{
	ioapic_eoi(opaque, vector);
}

static const struct intc_ops ops = {
	.pending = pending,
	.ack = ack,
	.get_cr8 = get_cr8,
	.set_cr8 = set_cr8,
	.rdmsr = rdmsr,
	.wrmsr = wrmsr,
	.mmio_hit = mmio_hit,
	.mmio_read = mmio_read,
	.mmio_write = mmio_write,
	.ipi = ipi,
	.init = init,
	.attach = irqchip_attach,
	.eoi = eoi,
};

struct intc irqchip_intc(struct irqchip *chip)
{
	return (struct intc){ &ops, chip };
}

/* --- life --- */

void lapic_reset(struct lapic *l, bool power_on)
{
	if (power_on) {
		atomic_store(&l->base, LAPIC_BASE | APIC_BASE_ENABLE | (l->cpu ? 0 : APIC_BASE_BSP));
		atomic_store(&l->id, (uint8_t)l->cpu);
	}
	atomic_store(&l->ldr, 0);
	atomic_store(&l->dfr, 0xffffffff);
	atomic_store(&l->svr, 0xff);
	atomic_store(&l->tpr, 0);
	atomic_store(&l->extint, false);
	for (unsigned n = 0; n < 8; n++) {
		atomic_store(&l->irr[n], 0);
		atomic_store(&l->tmr[n], 0);
		l->isr[n] = 0;
	}
	atomic_store(&l->esr, 0);
	l->esr_shown = 0;
	l->icr_low = l->icr_high = 0;
	for (unsigned n = 0; n < LVT_COUNT; n++)
		atomic_store(&l->lvt[n], LVT_MASKED);
	/* The virtual wire that PC firmware leaves on the boot processor: the 8259 works without the I/O APIC. */
	if (power_on && l->cpu == 0)
		atomic_store(&l->lvt[LVT_LINT0], DM_EXTINT << 8);
	l->pv_eoi = 0;
	l->pv_eoi_set = false;
	lapic_timer_reset(l);
}

void lapic_init(struct lapic *l, struct irqchip *chip, unsigned cpu)
{
	l->chip = chip;
	l->cpu = cpu;
	pthread_mutex_init(&l->lock, NULL);
	lapic_timer_init(l);
	lapic_reset(l, true);
}

void lapic_fini(struct lapic *l)
{
	pthread_mutex_lock(&l->lock);
	clock_timer_cancel(&l->timer);
	pthread_mutex_unlock(&l->lock);
	pthread_mutex_destroy(&l->lock);
}
