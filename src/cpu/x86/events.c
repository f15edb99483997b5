/*
 * What is looked at between traces: news from other threads, interrupts, shadows, single step.
 * SDM vol. 3, 6.9 (priority) and 6.8 (masking).
 */
#include "cpu/x86/interp.h"

static void do_init(struct x86_cpu *cpu)
{
	const struct intc *intc = &cpu->vm->cfg.intc;

	x86_state_reset(&cpu->s, cpu->vcpu.index == 0, true);
	cpu->s.gpr[X86_RDX] = cpu->vm->features->signature;
	x86_tlb_flush(cpu, true);
	x86_lazy_set(&cpu->lazy, 0);
	x86_update_mode(cpu);
	if (intc->ops)
		intc->ops->init(intc->opaque, cpu->vcpu.index);
}

static void do_sipi(struct x86_cpu *cpu, uint8_t vector)
{
	cpu->s.seg[X86_CS].sel = (uint16_t)(vector << 8);
	cpu->s.seg[X86_CS].base = (uint64_t)vector << 12;
	cpu->s.gpr[X86_RIP] = 0;
	cpu->s.run = X86_RUNNING;
	x86_update_mode(cpu);
}

/* Move the bits that other threads set into the state. */
static void take_news(struct x86_cpu *cpu)
{
	uint32_t news = atomic_exchange(&cpu->vcpu.events, 0);

	if (news & VCPU_EV_PRIVATE)
		x86_exclusive_poll(cpu);
	if (news & VCPU_EV_NMI)
		cpu->s.nmi_pending = true;
	if (news & VCPU_EV_INIT)
		do_init(cpu);
	if (news & VCPU_EV_SIPI && cpu->s.run == X86_WAIT_SIPI)
		do_sipi(cpu, cpu->vcpu.sipi_vector);
	if (news & VCPU_EV_KICK) {
		/* Whatever else came with it is not forgotten: the run that follows looks again. */
		cpu->attention = true;
		x86_leave(cpu, CPU_EXIT_KICKED);
	}
}

static bool interrupt_waits(struct x86_cpu *cpu)
{
	const struct intc *intc = &cpu->vm->cfg.intc;

	return intc->ops && intc->ops->pending(intc->opaque, cpu->vcpu.index);
}

static void wait_for_wakeup(struct x86_cpu *cpu)
{
	bool intr = cpu->s.rflags & X86_IF && interrupt_waits(cpu);

	if (cpu->s.run == X86_HALTED && (intr || cpu->s.nmi_pending || cpu->s.pv_unhalt)) {
		cpu->s.pv_unhalt = false;
		cpu->s.run = X86_RUNNING;
		return;
	}
	cpu->attention = true;
	if (cpu->s.run == X86_SHUTDOWN)
		x86_shutdown(cpu);
	x86_leave(cpu, CPU_EXIT_HALTED);
}

/* A single-step trap is due after the instruction that began with TF set. */
static void debug_trap(struct x86_cpu *cpu)
{
	uint64_t hit = cpu->s.debug_pending;

	cpu->s.debug_pending = 0;
	cpu->s.dr6 |= hit;
	x86_deliver(cpu, X86_DB, X86_EV_TRAP, 0, cpu->s.gpr[X86_RIP]);
}

void x86_check_events(struct x86_cpu *cpu)
{
	bool sti = cpu->s.shadow_sti, mov_ss = cpu->s.shadow_mov_ss;

	cpu->attention = false;
	if (atomic_load_explicit(&cpu->vcpu.events, memory_order_relaxed))
		take_news(cpu);
	if (cpu->s.run != X86_RUNNING)
		wait_for_wakeup(cpu);
	if (sti || mov_ss) {
		/* One more instruction, then look again. */
		cpu->s.shadow_sti = cpu->s.shadow_mov_ss = false;
		cpu->attention = true;
		return;
	}
	if (cpu->s.debug_pending)
		debug_trap(cpu);
	if (cpu->s.nmi_pending && !cpu->s.nmi_blocked) {
		cpu->s.nmi_pending = false;
		cpu->s.nmi_blocked = true;
		x86_deliver(cpu, X86_NMI, X86_EV_EXTERNAL, 0, cpu->s.gpr[X86_RIP]);
	}
	if (cpu->s.rflags & X86_IF && interrupt_waits(cpu)) {
		int vector = cpu->vm->cfg.intc.ops->ack(cpu->vm->cfg.intc.opaque, cpu->vcpu.index);

		if (vector >= 0)
			x86_deliver(cpu, (uint8_t)vector, X86_EV_EXTERNAL, 0, cpu->s.gpr[X86_RIP]);
	}
	/* Only a step, or an instruction breakpoint, needs the next trace to be one instruction long. */
	cpu->attention = cpu->s.rflags & X86_TF;
	if (cpu->s.rflags & X86_TF)
		cpu->s.debug_pending |= X86_DR6_BS;
	x86_debug_check_insn(cpu);
}
