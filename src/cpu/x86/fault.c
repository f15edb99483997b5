/* Exceptions: how a second one combines with the first (SDM vol. 3, 6.15 table 6-5), and the way out. */
#include "cpu/x86/fault.h"

#include "cpu/x86/interp.h"

static bool contributory(uint8_t vector)
{
	return vector == X86_DE || (vector >= X86_TS && vector <= X86_GP);
}

_Noreturn void x86_leave(struct x86_cpu *cpu, enum cpu_exit why)
{
	if (!cpu->trace)
		x86_trace_stop(cpu);
	x86_icount_sync(cpu);
	cpu->leave_reason = why;
	siglongjmp(*cpu->unwind, X86_UNWIND_LEAVE);
}

_Noreturn void x86_shutdown(struct x86_cpu *cpu)
{
	cpu->s.run = X86_SHUTDOWN;
	err_set(&cpu->vcpu.error, "triple fault at %04x:%#llx", cpu->s.seg[X86_CS].sel,
		(unsigned long long)cpu->s.gpr[X86_RIP]);
	x86_leave(cpu, CPU_EXIT_SHUTDOWN);
}

_Noreturn void x86_raise(struct x86_cpu *cpu, uint8_t vector, uint32_t error)
{
	x86_trace_stop(cpu);
	/* An instruction that faults is not stepped over, and what it hit will be hit again. */
	cpu->stepping = false;
	cpu->s.debug_pending = 0;
	cpu->stop_hit = NULL;
	if (cpu->in_delivery) {
		uint8_t before = cpu->delivering_vector;

		if (before == X86_DF_) {
			cpu->in_delivery = false;
			x86_shutdown(cpu);
		}
		if ((contributory(before) && contributory(vector)) ||
		    (before == X86_PF_FAULT && (contributory(vector) || vector == X86_PF_FAULT))) {
			vector = X86_DF_;
			error = 0;
		}
	}
	cpu->s.event = (struct x86_event){ true, vector, x86_has_error(vector), error };
	siglongjmp(*cpu->unwind, X86_UNWIND_FAULT);
}
