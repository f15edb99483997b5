/* The states in which boot protocols hand over. */
#include "cpu/x86/entry.h"

static void flat(struct x86_state *s, bool long_mode)
{
	const uint16_t common = X86_SEG_P | X86_SEG_S | X86_SEG_G;

	for (unsigned n = X86_ES; n <= X86_GS; n++)
		s->seg[n] = (struct x86_segment){ .sel = 0x18, .limit = 0xffffffff, .attr = common | X86_SEG_DB | 3 };
	s->seg[X86_CS].sel = 0x10;
	s->seg[X86_CS].attr = (uint16_t)(common | 11 | (long_mode ? X86_SEG_L : X86_SEG_DB));
}

void x86_entry_long64(struct x86_state *s, uint64_t rip, uint64_t rsi, uint64_t cr3, uint64_t gdt_base,
		      uint16_t gdt_limit)
{
	flat(s, true);
	s->gdt = (struct x86_dtable){ gdt_base, gdt_limit };
	s->cr3 = cr3;
	s->cr4 = X86_CR4_PAE;
	s->efer = X86_EFER_LME | X86_EFER_LMA;
	s->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_PG;
	s->gpr[X86_RIP] = rip;
	s->gpr[X86_RSI] = rsi;
}

void x86_entry_flat32(struct x86_state *s, uint32_t eip, uint32_t eax, uint32_t ebx, uint64_t gdt_base,
		      uint16_t gdt_limit)
{
	flat(s, false);
	s->gdt = (struct x86_dtable){ gdt_base, gdt_limit };
	s->cr0 = X86_CR0_PE | X86_CR0_ET;
	s->gpr[X86_RIP] = eip;
	s->gpr[X86_RAX] = eax;
	s->gpr[X86_RBX] = ebx;
}
