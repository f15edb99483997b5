/* The saved state of a local APIC. */
#include "irq/x86/impl.h"

static void pre_save(void *obj)
{
	struct lapic *l = obj;

	l->saved_deadline = l->timer.deadline_ns;
}

static int post_load(void *obj, struct err *err)
{
	struct lapic *l = obj;
	uint64_t base = atomic_load(&l->base);

	if (base & ~(APIC_BASE_BSP | APIC_BASE_X2APIC | APIC_BASE_ENABLE | 0x3ffffffff000ull) ||
	    (base & (APIC_BASE_X2APIC | APIC_BASE_ENABLE)) == APIC_BASE_X2APIC)
		return err_set(err, "lapic %u: base %#llx is not possible", l->cpu, (unsigned long long)base);
	if (l->started_ns < 0 || l->saved_deadline < 0)
		return err_set(err, "lapic %u: the timer's times are negative", l->cpu);
	if (l->divide & ~11u)
		return err_set(err, "lapic %u: divide %#x is not possible", l->cpu, l->divide);
	lapic_timer_loaded(l);
	irqchip_signal(l->chip, l->cpu, CPU_SIGNAL_INTR, 0);
	return 0;
}

#define L struct lapic
static const struct state_field fields[] = {
	STATE_U64F(L, base),   STATE_U32F(L, ldr),	  STATE_U32F(L, dfr),	       STATE_U32F(L, svr),
	STATE_U8F(L, tpr),     STATE_U32A(L, irr),	  STATE_U32A(L, tmr),	       STATE_U32A(L, isr),
	STATE_U32F(L, esr),    STATE_U32F(L, esr_shown),  STATE_U32F(L, icr_low),      STATE_U32F(L, icr_high),
	STATE_U32A(L, lvt),    STATE_U64F(L, pv_eoi),	  STATE_BOOLF(L, pv_eoi_set),  STATE_U32F(L, initial_count),
	STATE_U32F(L, divide), STATE_U64F(L, started_ns), STATE_U64F(L, deadline_tsc), STATE_U64F(L, saved_deadline),
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
