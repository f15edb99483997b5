/* When x87, MMX and SSE instructions may run. SDM vol. 3, table 2-2 and 2.5. */
#include "cpu/x86/interp.h"

#define FSW_ES 0x80

void x86_fp_update_blocks(struct x86_cpu *cpu)
{
	uint64_t cr0 = cpu->s.cr0;

	cpu->fpu_block = cr0 & (X86_CR0_EM | X86_CR0_TS) ? X86_NM : 0;
	cpu->sse_block = cr0 & X86_CR0_EM || !(cpu->s.cr4 & X86_CR4_OSFXSR) ? X86_UD : cr0 & X86_CR0_TS ? X86_NM : 0;
}

void x86_fpu_enter(struct x86_cpu *cpu, bool wait)
{
	if (cpu->fpu_block)
		x86_raise(cpu, cpu->fpu_block, 0);
	/* With CR0.NE clear the error goes out on FERR#, which this machine does not wire up. */
	if (wait && cpu->s.fp.sw & FSW_ES && cpu->s.cr0 & X86_CR0_NE)
		x86_raise(cpu, X86_MF, 0);
}
