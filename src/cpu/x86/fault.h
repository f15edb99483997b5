/*
 * Exceptions, and leaving the execution loop. vCPU thread only.
 * None of these return: never call them with a lock held.
 */
#ifndef VIREO_CPU_X86_FAULT_H
#define VIREO_CPU_X86_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/engine.h"

struct x86_cpu;

enum x86_vector {
	X86_DE = 0,
	X86_DB = 1,
	X86_NMI = 2,
	X86_BP = 3,
	X86_OF_TRAP = 4,
	X86_BR = 5,
	X86_UD = 6,
	X86_NM = 7,
	X86_DF_ = 8,
	X86_TS = 10,
	X86_NP = 11,
	X86_SS_FAULT = 12,
	X86_GP = 13,
	X86_PF_FAULT = 14,
	X86_MF = 16,
	X86_AC_FAULT = 17,
	X86_MC = 18,
	X86_XM = 19
};

/*
 * A fault of the current instruction: the saved RIP is its own. `error` is used by the vectors that
 * have one. CR2 is set by the caller for #PF. Combines into #DF and shutdown during delivery.
 */
_Noreturn void x86_raise(struct x86_cpu *cpu, uint8_t vector, uint32_t error);
/* `error` of a #DB for an instruction breakpoint: unlike for other faults, the pushed RF stays as it is. */
#define X86_DB_INSN  1u
#define x86_ud(cpu)  x86_raise(cpu, X86_UD, 0)
#define x86_gp0(cpu) x86_raise(cpu, X86_GP, 0)

static inline bool x86_has_error(uint8_t vector)
{
	return vector == X86_DF_ || (vector >= X86_TS && vector <= X86_PF_FAULT) || vector == X86_AC_FAULT;
}

/* What sigsetjmp() of the run function returns: deliver cpu->s.event, or return cpu->leave_reason. */
enum { X86_UNWIND_FAULT = 1, X86_UNWIND_LEAVE };

/* Return from interp's run() with `why`; RIP and state are as the caller left them. */
_Noreturn void x86_leave(struct x86_cpu *cpu, enum cpu_exit why);
/* Shutdown: the processor has stopped until it is reset; vcpu.error says where. */
_Noreturn void x86_shutdown(struct x86_cpu *cpu);

/*
 * Deliver an event now, through the IVT or IDT, changing RIP, CS, SS, flags. May raise. Kinds as in the
 * SDM's EXT rules: a software interrupt (INT n, INT3, INTO) checks the gate's DPL; `next_rip` is pushed.
 */
#define X86_NOT_EXCEPTION 0xff
enum x86_event_kind { X86_EV_EXTERNAL, X86_EV_FAULT, X86_EV_TRAP, X86_EV_SOFT, X86_EV_ICEBP };
void x86_deliver(struct x86_cpu *cpu, uint8_t vector, enum x86_event_kind kind, uint32_t error, uint64_t next_rip);

#endif
