/*
 * Virtual-8086 mode extensions and protected-mode virtual interrupts: VIF and VIP stand for IF where IOPL is below the
 * privilege, and the TSS says which INT n virtual-8086 code handles itself. SDM vol. 3, 20.3 and 20.4.
 */
#include "cpu/x86/interp.h"

#define REDIRECTION_BYTES 32u

static bool below_iopl3(const struct x86_cpu *cpu)
{
	return (cpu->s.rflags >> X86_IOPL_SHIFT & 3) < 3;
}

bool x86_vme(const struct x86_cpu *cpu)
{
	return cpu->v86 && cpu->s.cr4 & X86_CR4_VME && below_iopl3(cpu);
}

bool x86_virtual_if(const struct x86_cpu *cpu)
{
	return x86_vme(cpu) || (cpu->protected_mode && cpu->cpl == 3 && cpu->s.cr4 & X86_CR4_PVI && below_iopl3(cpu));
}

uint16_t x86_vme_flags(const struct x86_cpu *cpu)
{
	uint32_t fl = x86_get_eflags(cpu);

	return (uint16_t)((fl & ~(X86_IF)) | (fl & X86_VIF ? X86_IF : 0) | X86_IOPL);
}

void x86_vme_check_flags(struct x86_cpu *cpu, uint16_t v)
{
	if (v & X86_TF || (v & X86_IF && cpu->s.rflags & X86_VIP))
		x86_gp0(cpu);
}

void x86_vme_set_flags(struct x86_cpu *cpu, uint16_t v)
{
	x86_set_eflags(cpu, v | (v & X86_IF ? X86_VIF : 0), X86_ARITH | X86_TF | X86_DF | X86_NT | X86_VIF);
}

/* The 32 bytes before the I/O permission map: a bit set leaves the interrupt to the monitor. */
static bool redirected(struct x86_cpu *cpu, uint8_t vector)
{
	const struct x86_segment *tr = &cpu->s.seg[X86_TR];
	uint16_t map;
	uint8_t bits;

	if (!(tr->attr & 8) || tr->limit < 0x67)
		x86_gp0(cpu);
	x86_sys_load(cpu, tr->base + 0x66, &map, 2);
	if (map < REDIRECTION_BYTES || map - REDIRECTION_BYTES + vector / 8u > tr->limit)
		x86_gp0(cpu);
	x86_sys_load(cpu, tr->base + map - REDIRECTION_BYTES + vector / 8u, &bits, 1);
	return !(bits >> (vector & 7) & 1);
}

/* From the lowest on: a fault leaves RSP where it was. */
static void push3(struct x86_cpu *cpu, const uint16_t *v)
{
	uint64_t sp = cpu->s.gpr[X86_RSP];

	for (unsigned n = 0; n < 3; n++)
		x86_st16(cpu, X86_SS, (sp - 6 + 2 * n) & cpu->sp_mask, v[n]);
	cpu->s.gpr[X86_RSP] = (sp & ~cpu->sp_mask) | ((sp - 6) & cpu->sp_mask);
}

bool x86_vme_interrupt(struct x86_cpu *cpu, uint8_t vector, uint64_t next_rip)
{
	bool virtual;
	uint32_t entry;

	if (!cpu->v86 || !(cpu->s.cr4 & X86_CR4_VME) || !redirected(cpu, vector))
		return false;
	virtual = below_iopl3(cpu);
	x86_sys_load(cpu, vector * 4u, &entry, 4);
	push3(cpu, (const uint16_t[]){ (uint16_t)next_rip, cpu->s.seg[X86_CS].sel,
				       virtual ? x86_vme_flags(cpu) : (uint16_t)x86_get_eflags(cpu) });
	cpu->s.seg[X86_CS].sel = entry >> 16;
	cpu->s.seg[X86_CS].base = (uint64_t)(entry >> 16) << 4;
	cpu->s.gpr[X86_RIP] = entry & 0xffff;
	x86_set_eflags(cpu, 0, X86_TF | X86_NT | X86_RF | (virtual ? X86_VIF : X86_IF));
	x86_update_mode(cpu);
	return true;
}
