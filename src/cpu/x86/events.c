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
	x86_tlb_flush(cpu);
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

void x86_add_nmis(struct x86_state *s, uint32_t news)
{
	uint8_t most = s->nmi_blocked ? 1 : 2;

	s->nmi_pending += !!(news & VCPU_EV_NMI) + !!(news & VCPU_EV_NMI_TWICE);
	if (s->nmi_pending > most)
		s->nmi_pending = most;
}

/* Move the bits that other threads set into the state. */
static void take_news(struct x86_cpu *cpu)
{
	uint32_t news = atomic_exchange(&cpu->vcpu.events, 0);

	if (news & VCPU_EV_PRIVATE) {
		x86_exclusive_poll(cpu);
		if (atomic_exchange(&cpu->remapped, false))
			x86_tlb_forget_ram(cpu);
	}
	x86_add_nmis(&cpu->s, news);
	if (news & VCPU_EV_WAKE)
		cpu->s.pv_unhalt = true;
	cpu->s.smi_pending |= !!(news & VCPU_EV_SMI);
	/* In system management mode INIT waits. SDM vol. 3, 34.8 */
	cpu->s.init_pending |= !!(news & VCPU_EV_INIT);
	if (cpu->s.init_pending && !cpu->s.smm)
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

/* INTR with IF decides whether it can wake; an NMI that is blocked cannot. */
static bool may_wake(struct x86_cpu *cpu)
{
	return (cpu->s.rflags & X86_IF && interrupt_waits(cpu)) || (cpu->s.smi_pending && !cpu->s.smm) ||
	       (cpu->s.nmi_pending && !cpu->s.nmi_blocked) || cpu->s.pv_unhalt;
}

static void wait_for_wakeup(struct x86_cpu *cpu)
{
	if (cpu->s.run == X86_HALTED && may_wake(cpu)) {
		/* It may want to halt again when it comes back. */
		if (cpu->s.smi_pending && !cpu->s.smm)
			return;
		cpu->s.pv_unhalt = false;
		cpu->s.run = X86_RUNNING;
		return;
	}
	cpu->attention = true;
	if (cpu->s.run == X86_SHUTDOWN)
		x86_shutdown(cpu);
	x86_leave(cpu, CPU_EXIT_HALTED);
}

/* Breakpoints that the last instruction hit, and its single step. A halted processor wakes up for them. */
static void debug_trap(struct x86_cpu *cpu)
{
	x86_debug_report(cpu, 0);
	cpu->s.run = X86_RUNNING;
	x86_deliver(cpu, X86_DB, X86_EV_TRAP, 0, cpu->s.gpr[X86_RIP]);
}

static void take_nmi(struct x86_cpu *cpu)
{
	cpu->s.nmi_pending--;
	cpu->s.nmi_blocked = true;
	x86_deliver(cpu, X86_NMI, X86_EV_EXTERNAL, 0, cpu->s.gpr[X86_RIP]);
}

static void take_interrupt(struct x86_cpu *cpu)
{
	int vector = cpu->vm->cfg.intc.ops->ack(cpu->vm->cfg.intc.opaque, cpu->vcpu.index);

	if (vector >= 0)
		x86_deliver(cpu, (uint8_t)vector, X86_EV_EXTERNAL, 0, cpu->s.gpr[X86_RIP]);
}

/*
 * In the order of priority: traps on the instruction before, SMI, NMI, interrupts, breakpoint on the instruction that
 * is next. A shadow lasts for one boundary: STI holds off NMI and interrupts, MOV SS the traps too (and on Intel's
 * processors breakpoints on the instruction).
 */
void x86_check_events(struct x86_cpu *cpu)
{
	bool sti, mov_ss, stepped;

	cpu->attention = false;
	x86_debug_stepped(cpu);
	x86_stops_done(cpu);
	if (atomic_load_explicit(&cpu->vcpu.events, memory_order_relaxed) || (cpu->s.init_pending && !cpu->s.smm))
		take_news(cpu);
	sti = cpu->s.shadow_sti;
	mov_ss = cpu->s.shadow_mov_ss;
	cpu->s.shadow_sti = cpu->s.shadow_mov_ss = false;
	if (cpu->s.debug_pending && !mov_ss && cpu->s.run <= X86_HALTED)
		debug_trap(cpu);
	if (cpu->s.run != X86_RUNNING)
		wait_for_wakeup(cpu);
	if (!sti && !mov_ss && cpu->s.smi_pending && !cpu->s.smm)
		x86_smm_enter(cpu);
	stepped = x86_stops_step(cpu);
	if (!sti && !mov_ss && !stepped && cpu->s.nmi_pending && !cpu->s.nmi_blocked)
		take_nmi(cpu);
	cpu->intr_waits = interrupt_waits(cpu);
	if (!sti && !mov_ss && !stepped && cpu->s.rflags & X86_IF && cpu->intr_waits)
		take_interrupt(cpu);
	cpu->begun = (struct x86_begun){ sti, mov_ss, cpu->s.rflags & X86_RF };
	/* What was held off is looked at after the next instruction, which also ends what `begun` says. */
	cpu->attention = sti || mov_ss || stepped || cpu->begun.rf;
	x86_debug_begin_insn(cpu, mov_ss);
}

void x86_begin_again(struct x86_cpu *cpu)
{
	cpu->s.shadow_sti |= cpu->begun.sti;
	cpu->s.shadow_mov_ss |= cpu->begun.mov_ss;
	cpu->s.rflags |= cpu->begun.rf ? X86_RF : 0;
	cpu->stepping = cpu->step_begun = false;
	cpu->attention = true;
}
