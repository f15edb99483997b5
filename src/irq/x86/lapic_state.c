/* The saved state of a local APIC. */
#include "irq/x86/impl.h"

static void pre_save(void *obj)
{
	struct lapic *l = obj;

	l->saved_deadline = l->timer.deadline_ns;
	lapic_fetch(l);
}

/* NULL, or the name of the register whose value no guest can have made. */
static const char *impossible(const struct lapic *l)
{
	uint64_t base = atomic_load(&l->base);

	if (base & ~APIC_BASE_BITS || (base & (APIC_BASE_X2APIC | APIC_BASE_ENABLE)) == APIC_BASE_X2APIC ||
	    !(base & APIC_BASE_BSP) != (l->cpu != 0))
		return "base";
	if (atomic_load(&l->svr) & ~0x1ffu)
		return "svr";
	if (atomic_load(&l->ldr) & 0xffffff || ~atomic_load(&l->dfr) & 0x0fffffff)
		return "ldr";
	if ((atomic_load(&l->irr[0]) | atomic_load(&l->tmr[0]) | l->isr[0]) & 0xffff)
		return "irr"; /* vectors below 16 */
	if ((atomic_load(&l->esr) | l->esr_shown) & ~LAPIC_ESR_ALL)
		return "esr";
	for (unsigned n = 0; n < LVT_COUNT; n++)
		if (atomic_load(&l->lvt[n]) & ~lapic_lvt_writable(n))
			return "lvt";
	if (l->divide & ~11u)
		return "divide";
	if (l->pv_eoi & 2)
		return "pv_eoi";
	/* The longest period is 2^39 ns; far from where sums with one would overflow. */
	if (l->started_ns < -(1ll << 39) || l->started_ns > INT64_MAX / 2 || l->saved_deadline < 0)
		return "timer";
	return NULL;
}

static int post_load(void *obj, struct err *err)
{
	struct lapic *l = obj;
	const char *what = impossible(l);

	if (what)
		return err_set(err, "lapic %u: %s has a value that is not possible", l->cpu, what);
	lapic_timer_loaded(l);
	lapic_put(l);
	irqchip_signal(l->chip, l->cpu, CPU_SIGNAL_INTR, 0);
	return 0;
}

#define L struct lapic
static const struct state_field fields[] = {
	STATE_U64F(L, base),
	STATE_U32F(L, ldr),
	STATE_U32F(L, dfr),
	STATE_U32F(L, svr),
	STATE_U8F(L, tpr),
	STATE_BOOLF(L, extint),
	STATE_U32A(L, irr),
	STATE_U32A(L, tmr),
	STATE_U32A(L, isr),
	STATE_U32F(L, esr),
	STATE_U32F(L, esr_shown),
	STATE_U32F(L, icr_low),
	STATE_U32F(L, icr_high),
	STATE_U32A(L, lvt),
	STATE_U64F(L, pv_eoi),
	STATE_BOOLF(L, pv_eoi_set),
	STATE_U32F(L, initial_count),
	STATE_U32F(L, divide),
	STATE_U64F(L, started_ns),
	STATE_U64F(L, deadline_tsc),
	STATE_U64F(L, saved_deadline),
	STATE_FIELD_END,
};

const struct state_desc irqchip_lapic_state = {
	.name = "lapic",
	.version = 1,
	.min_version = 1,
	.fields = fields,
	.pre_save = pre_save,
	.post_load = post_load,
};

void *irqchip_lapic_object(struct irqchip *chip, unsigned cpu)
{
	return &chip->lapics[cpu];
}
