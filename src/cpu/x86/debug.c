/* Debug registers: instruction, data and I/O breakpoints. SDM vol. 3, chapter 17. */
#include "cpu/x86/interp.h"

#define DR7_ENABLED(dr7, n) ((dr7) >> (2 * (n)) & 3)
#define DR7_TYPE(dr7, n)    ((dr7) >> (16 + 4 * (n)) & 3)
#define DR6_HITS	    0xfu
enum { BP_INSN, BP_WRITE, BP_IO, BP_RW };

static unsigned length(uint64_t dr7, unsigned n)
{
	static const uint8_t bytes[] = { 1, 2, 8, 4 };

	return bytes[dr7 >> (18 + 4 * n) & 3];
}

void x86_debug_report(struct x86_cpu *cpu, uint64_t hit)
{
	cpu->s.dr6 = (cpu->s.dr6 & ~(uint64_t)DR6_HITS) | cpu->s.debug_pending | hit;
	cpu->s.debug_pending = 0;
	cpu->s.debugctl &= ~(uint64_t)X86_DEBUGCTL_BTF;
}

/* Read code at `lin`, up to the end of its page. How many bytes; may raise #PF. */
static size_t fetch(struct x86_cpu *cpu, uint64_t lin, uint8_t *buf, size_t want)
{
	const struct x86_itlb_entry *e = x86_itlb_fill(cpu, lin);
	size_t left = MEM_PAGE_SIZE - (lin & X86_PAGE_MASK), n = want < left ? want : left;

	for (size_t k = 0; k < n; k++)
		buf[k] = (uint8_t)x86_phys_load(cpu, e->phys + (lin & X86_PAGE_MASK) + k, 1);
	return n;
}

/* Where the instruction at RIP ends, for DEBUGCTL.BTF: whatever goes elsewhere is a branch. */
static uint64_t end_of_insn(struct x86_cpu *cpu)
{
	const struct x86_decode_mode mode = { cpu->code_bits, !cpu->protected_mode, cpu->vm->features };
	uint64_t lin = (cpu->s.gpr[X86_RIP] + cpu->seg_base[X86_CS]) & cpu->lin_mask;
	uint8_t buf[15];
	size_t have = fetch(cpu, lin, buf, sizeof(buf));
	struct x86_insn i;

	if (x86_decode(buf, have, mode, &i, NULL) == X86_DECODE_SHORT && have < sizeof(buf)) {
		have += fetch(cpu, (lin + have) & cpu->lin_mask, buf + have, sizeof(buf) - have);
		x86_decode(buf, have, mode, &i, NULL);
	}
	return cpu->s.gpr[X86_RIP] + i.len;
}

void x86_debug_stepped(struct x86_cpu *cpu)
{
	bool by_branch = cpu->s.debugctl & X86_DEBUGCTL_BTF;
	uint64_t rip = cpu->s.gpr[X86_RIP];

	/* A string instruction that goes on is where it was. */
	if (by_branch && (rip == cpu->step_from || rip == cpu->step_end))
		cpu->stepping = false;
	if (cpu->stepping && !cpu->s.shadow_mov_ss)
		cpu->s.debug_pending |= X86_DR6_BS;
	cpu->stepping = false;
}

static void check_insn(struct x86_cpu *cpu)
{
	uint64_t dr7 = cpu->s.dr7, hit = 0;
	uint64_t lin = (cpu->s.gpr[X86_RIP] + cpu->seg_base[X86_CS]) & cpu->lin_mask;

	for (unsigned n = 0; n < 4; n++)
		if (DR7_ENABLED(dr7, n) && DR7_TYPE(dr7, n) == BP_INSN && cpu->s.dr[n] == lin)
			hit |= 1u << n;
	if (hit) {
		x86_debug_report(cpu, hit);
		x86_raise(cpu, X86_DB, X86_DB_INSN);
	}
}

void x86_debug_begin_insn(struct x86_cpu *cpu, bool mov_ss)
{
	if (cpu->s.dr7 & 0xff) {
		/* While any is armed each instruction is looked at. */
		cpu->attention = true;
		if (!(cpu->s.rflags & X86_RF) && !(mov_ss && x86_intel(cpu)))
			check_insn(cpu);
	}
	cpu->s.rflags &= ~(uint64_t)X86_RF;
	cpu->stepping = cpu->s.rflags & X86_TF;
	cpu->attention |= cpu->stepping;
	if (cpu->stepping && cpu->s.debugctl & X86_DEBUGCTL_BTF) {
		cpu->step_from = cpu->s.gpr[X86_RIP];
		cpu->step_end = end_of_insn(cpu);
	}
}

bool x86_debug_page_watched(struct x86_cpu *cpu, uint64_t lin_page)
{
	uint64_t dr7 = cpu->s.dr7;

	if (!(dr7 & 0xff))
		return false;
	for (unsigned n = 0; n < 4; n++)
		if (DR7_ENABLED(dr7, n) && DR7_TYPE(dr7, n) != BP_INSN && (cpu->s.dr[n] & ~X86_PAGE_MASK) == lin_page)
			return true;
	return false;
}

static void hit(struct x86_cpu *cpu, uint64_t at, unsigned size, bool io, bool wr)
{
	uint64_t dr7 = cpu->s.dr7;

	for (unsigned n = 0; n < 4; n++) {
		unsigned type = DR7_TYPE(dr7, n), len = length(dr7, n);
		uint64_t base = cpu->s.dr[n] & ~(uint64_t)(len - 1);
		bool kind = io ? type == BP_IO : type == BP_RW || (wr && type == BP_WRITE);

		if (DR7_ENABLED(dr7, n) && kind && at < base + len && base < at + size) {
			cpu->s.debug_pending |= 1u << n;
			cpu->attention = true;
		}
	}
}

void x86_debug_data_hit(struct x86_cpu *cpu, uint64_t lin, unsigned size, bool wr)
{
	if (cpu->s.dr7 & 0xff)
		hit(cpu, lin, size, false, wr);
}

void x86_debug_io_hit(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
	if (cpu->s.dr7 & 0xff && cpu->s.cr4 & X86_CR4_DE)
		hit(cpu, port, size, true, false);
}
