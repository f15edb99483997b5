/*
 * Traces as a translator sees them: what it makes faster code from, and how it is called. Private to cpu/x86 and the
 * engines that build on it.
 *
 * A trace that may be translated (64-bit code, or 32-bit code in flat segments; in RAM, not in system management mode,
 * nothing to stop at) is interpreted interp_vm.heat times; from then on each entry goes to x86_translator.enter().
 */
#ifndef VIREO_CPU_X86_TRACES_H
#define VIREO_CPU_X86_TRACES_H

#include "cpu/x86/interp.h"

#define X86_TRACE_MAX 32

struct x86_trace {
	uint64_t key;			/* x86_code_page() | offset | mode */
	const _Atomic uint32_t *gen[2]; /* of the page, and of the second one if the instruction crosses */
	uint32_t seen[2];
	uint32_t count;
	uint32_t offset;	/* of the first instruction in its page */
	x86_exec *guarded;	/* its handler, where a debugger's stop or the heat comes first */
	struct x86_insn insn[]; /* and a last one that finds the next trace */
};

/* How often, of interp_vm.heat times at most, what begins so many bytes behind it in its page was interpreted. */
uint32_t x86_trace_heat(const struct x86_cpu *cpu, const struct x86_trace *t, uint32_t behind);

struct x86_translator {
	/*
	 * RIP is at the hot trace cpu->trace, nothing of it is done, and it is charged already. Runs translated code;
	 * the next instruction to interpret, as a handler's result. NULL: this trace cannot be translated.
	 */
	const struct x86_insn *(*enter)(struct x86_cpu *cpu);
	/* Instructions of this page have changed: none that was translated may begin any more. Any thread. */
	void (*page_changed)(struct interp_vm *vm, uint64_t page_index);
	/* Forget all: how code is cut into traces has changed. All vCPUs are stopped. */
	void (*forget)(struct interp_vm *vm);
	/* This vCPU's fetch_key came back to one that it had before. */
	void (*forget_jumps)(struct x86_cpu *cpu);
	/* Linear pages of the user's (else the kernel's) code may be elsewhere, for this vCPU. */
	void (*forget_guards)(struct x86_cpu *cpu, bool user);
};

#endif
