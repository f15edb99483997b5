/* Control and debug registers, MSR and TLB instructions, and what needs CPL 0. SDM vol. 3, chapter 2. */
#include <endian.h>
#include <string.h>

#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

/* An instruction that the processor's model does not have. */
static void need(struct x86_cpu *cpu, enum x86_feature f)
{
	if (!x86_has(cpu, f))
		x86_ud(cpu);
}

static void need_cpl0(struct x86_cpu *cpu)
{
	if (cpu->cpl)
		x86_gp0(cpu);
}

/* UMIP: descriptor-table registers and the machine status word are the kernel's business. */
static void need_umip(struct x86_cpu *cpu)
{
	if (cpu->cpl && cpu->s.cr4 & X86_CR4_UMIP)
		x86_gp0(cpu);
}

/* --- CR0, CR3, CR4 --- */

bool x86_uses_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return cr0 & X86_CR0_PG && cr4 & X86_CR4_PAE && !(efer & X86_EFER_LME);
}

bool x86_read_pdptes(const struct x86_cpu *cpu, struct mem_space *mem, uint64_t cr3, uint64_t e[4])
{
	uint64_t reserved = ~0ull << cpu->vm->features->phys_bits | 0x1e6;

	if (!mem_read(mem, gpa(cr3 & 0xffffffe0), e, 4 * sizeof(e[0])))
		return false;
	for (unsigned n = 0; n < 4; n++) {
		e[n] = le64toh(e[n]);
		if (e[n] & 1 && e[n] & reserved)
			return false;
	}
	return true;
}

static void load_pdptes(struct x86_cpu *cpu, uint64_t cr3)
{
	uint64_t e[4];

	if (!x86_read_pdptes(cpu, cpu->mem, cr3, e))
		x86_gp0(cpu);
	memcpy(cpu->s.pdpte, e, sizeof(e));
}

void x86_set_cr0(struct x86_cpu *cpu, uint64_t v)
{
	const uint64_t known = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE |
			       X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG;
	uint64_t efer = cpu->s.efer;
	bool pg = v & X86_CR0_PG, was = cpu->s.cr0 & X86_CR0_PG;

	if (v >> 32 || (pg && !(v & X86_CR0_PE)) || (v & X86_CR0_NW && !(v & X86_CR0_CD)))
		x86_gp0(cpu);
	v = (v & known) | X86_CR0_ET;
	if (pg && !was && efer & X86_EFER_LME) {
		if (!(cpu->s.cr4 & X86_CR4_PAE) || cpu->s.seg[X86_CS].attr & X86_SEG_L)
			x86_gp0(cpu);
		efer |= X86_EFER_LMA;
	}
	if (!pg && was) {
		if (cpu->code_bits == 64 || cpu->s.cr4 & X86_CR4_PCIDE)
			x86_gp0(cpu);
		efer &= ~(uint64_t)X86_EFER_LMA;
	}
	if (x86_uses_pdptes(v, cpu->s.cr4, efer) && (!was || (v ^ cpu->s.cr0) & (X86_CR0_CD | X86_CR0_NW)))
		load_pdptes(cpu, cpu->s.cr3);
	if ((v ^ cpu->s.cr0) & (X86_CR0_PG | X86_CR0_WP | X86_CR0_PE))
		x86_tlb_flush(cpu);
	cpu->s.cr0 = v;
	cpu->s.efer = efer;
	x86_update_mode(cpu);
}

void x86_set_cr3(struct x86_cpu *cpu, uint64_t v)
{
	bool pcids = cpu->s.cr4 & X86_CR4_PCIDE, keep = pcids && v >> 63;

	if (pcids)
		v &= ~(1ull << 63);
	if (v >> (cpu->s.efer & X86_EFER_LMA ? cpu->vm->features->phys_bits : 32))
		x86_gp0(cpu);
	if (x86_uses_pdptes(cpu->s.cr0, cpu->s.cr4, cpu->s.efer))
		load_pdptes(cpu, v);
	cpu->s.cr3 = v;
	x86_tlb_switch(cpu, x86_pcid(cpu), keep);
}

void x86_set_cr4(struct x86_cpu *cpu, uint64_t v)
{
	uint64_t changed = v ^ cpu->s.cr4;

	if (v & ~cpu->vm->features->cr4)
		x86_gp0(cpu);
	if (cpu->s.efer & X86_EFER_LMA && !(v & X86_CR4_PAE))
		x86_gp0(cpu);
	if (v & changed & X86_CR4_PCIDE && (!(cpu->s.efer & X86_EFER_LMA) || cpu->s.cr3 & 0xfff))
		x86_gp0(cpu);
	if (x86_uses_pdptes(cpu->s.cr0, v, cpu->s.efer) &&
	    changed & (X86_CR4_PAE | X86_CR4_PSE | X86_CR4_PGE | X86_CR4_SMEP))
		load_pdptes(cpu, cpu->s.cr3);
	cpu->s.cr4 = v;
	if (changed &
	    (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PCIDE | X86_CR4_PKE))
		x86_tlb_flush(cpu);
	x86_update_mode(cpu);
}

HANDLER(mov_from_cr)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	uint64_t v;

	need_cpl0(cpu);
	switch (i->reg) {
	case 0:
		v = cpu->s.cr0;
		break;
	case 2:
		v = cpu->s.cr2;
		break;
	case 3:
		v = cpu->s.cr3;
		break;
	case 4:
		v = cpu->s.cr4;
		break;
	case 8:
		v = intc->ops ? intc->ops->get_cr8(intc->opaque, cpu->vcpu.index) : 0;
		break;
	default:
		x86_ud(cpu);
	}
	cpu->s.gpr[i->rm] = i->opsize == 8 ? v : (uint32_t)v;
	return x86_next(cpu, i);
}

HANDLER(mov_to_cr)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	uint64_t v = i->opsize == 8 ? cpu->s.gpr[i->rm] : x86_get32(cpu, i->rm);

	need_cpl0(cpu);
	switch (i->reg) {
	case 0:
		x86_set_cr0(cpu, v);
		break;
	case 2:
		cpu->s.cr2 = v;
		break;
	case 3:
		x86_set_cr3(cpu, v);
		break;
	case 4:
		x86_set_cr4(cpu, v);
		break;
	case 8:
		if (v >> 4)
			x86_gp0(cpu);
		if (intc->ops)
			intc->ops->set_cr8(intc->opaque, cpu->vcpu.index, (uint8_t)v);
		cpu->attention = true;
		break;
	default:
		x86_ud(cpu);
	}
	return x86_next_end(cpu, i);
}

static unsigned debug_register(struct x86_cpu *cpu, const struct x86_insn *i)
{
	unsigned n = i->reg;

	need_cpl0(cpu);
	if (n > 7 || (n >> 1 == 2 && cpu->s.cr4 & X86_CR4_DE))
		x86_ud(cpu);
	if (cpu->s.dr7 & 1u << 13) { /* GD: debug registers are guarded */
		x86_debug_report(cpu, X86_DR6_BD);
		cpu->s.dr7 &= ~(1ull << 13);
		x86_raise(cpu, X86_DB, 0);
	}
	return n >> 1 == 2 ? n + 2 : n; /* DR4 and DR5 alias DR6 and DR7 */
}

HANDLER(mov_from_dr)
{
	unsigned n = debug_register(cpu, i);
	uint64_t v = n < 4 ? cpu->s.dr[n] : n == 6 ? cpu->s.dr6 : cpu->s.dr7;

	cpu->s.gpr[i->rm] = i->opsize == 8 ? v : (uint32_t)v;
	return x86_next(cpu, i);
}

HANDLER(mov_to_dr)
{
	unsigned n = debug_register(cpu, i);
	uint64_t v = i->opsize == 8 ? cpu->s.gpr[i->rm] : x86_get32(cpu, i->rm);

	if (n >= 6 && v >> 32)
		x86_gp0(cpu);
	if (n < 4)
		cpu->s.dr[n] = v;
	else if (n == 6)
		cpu->s.dr6 = (v & 0xe00f) | 0xffff0ff0;
	else
		cpu->s.dr7 = (v & 0xffff23ff) | 0x400;
	/* Watched pages are not in the TLB. */
	x86_tlb_flush(cpu);
	cpu->attention = true;
	return x86_next_end(cpu, i);
}

HANDLER(clts)
{
	need_cpl0(cpu);
	cpu->s.cr0 &= ~(uint64_t)X86_CR0_TS;
	x86_fp_update_blocks(cpu);
	return x86_next(cpu, i);
}

HANDLER(smsw)
{
	need_umip(cpu);
	if (!(i->flags & X86_I_REG))
		x86_stm16(cpu, i, (uint16_t)cpu->s.cr0);
	else if (i->opsize == 2)
		x86_set16(cpu, i->rm, (uint16_t)cpu->s.cr0);
	else
		cpu->s.gpr[i->rm] = cpu->s.cr0;
	return x86_next(cpu, i);
}

/* LMSW can set PE but not clear it. */
HANDLER(lmsw)
{
	uint64_t v;

	need_cpl0(cpu);
	v = i->flags & X86_I_REG ? x86_get16(cpu, i->rm) : x86_ldm16(cpu, i);
	x86_set_cr0(cpu, (cpu->s.cr0 & ~0xeull) | (v & 0xf));
	return x86_next_end(cpu, i);
}

/* --- descriptor-table registers --- */

static const struct x86_insn *store_table(struct x86_cpu *cpu, const struct x86_insn *i, const struct x86_dtable *t)
{
	uint8_t b[10];

	need_umip(cpu);
	st_le16(b, t->limit);
	st_le64(b + 2, t->base);
	x86_store_bytes(cpu, i->seg, x86_ea(cpu, i), b, i->flags & X86_I_CODE64 ? 10 : 6);
	return x86_next(cpu, i);
}

static const struct x86_insn *load_table(struct x86_cpu *cpu, const struct x86_insn *i, struct x86_dtable *t)
{
	uint8_t b[10] = { 0 };
	bool wide = i->flags & X86_I_CODE64;
	uint64_t base;

	need_cpl0(cpu);
	x86_load_bytes(cpu, i->seg, x86_ea(cpu, i), b, wide ? 10 : 6);
	base = wide ? ld_le64(b + 2) : i->opsize == 2 ? ld_le32(b + 2) & 0xffffff : ld_le32(b + 2);
	if (!x86_canonical(base))
		x86_gp0(cpu);
	*t = (struct x86_dtable){ base, ld_le16(b) };
	return x86_next(cpu, i);
}

HANDLER(sgdt)
{
	return store_table(cpu, i, &cpu->s.gdt);
}

HANDLER(sidt)
{
	return store_table(cpu, i, &cpu->s.idt);
}

HANDLER(lgdt)
{
	return load_table(cpu, i, &cpu->s.gdt);
}

HANDLER(lidt)
{
	return load_table(cpu, i, &cpu->s.idt);
}

/* --- TLB and caches --- */

HANDLER(invlpg)
{
	need_cpl0(cpu);
	x86_tlb_flush_page(cpu, (cpu->seg_base[i->seg] + x86_ea(cpu, i)) & cpu->lin_mask);
	return x86_next_end(cpu, i);
}

HANDLER(invpcid)
{
	uint64_t type = cpu->code_bits == 64 ? cpu->s.gpr[i->reg] : x86_get32(cpu, i->reg), d[2];

	need(cpu, X86_F_INVPCID);
	need_cpl0(cpu);
	x86_load_bytes(cpu, i->seg, x86_ea(cpu, i), d, 16);
	if (type > 3 || d[0] >> 12 || (type == 0 && !x86_canonical(d[1])) ||
	    (type < 2 && d[0] && !(cpu->s.cr4 & X86_CR4_PCIDE)))
		x86_gp0(cpu);
	if (type >= 2)
		x86_tlb_flush(cpu);
	else if (type == 0 && d[0] == x86_pcid(cpu))
		x86_tlb_flush_page(cpu, d[1]);
	else
		x86_tlb_flush_space(cpu, (unsigned)d[0]);
	return x86_next_end(cpu, i);
}

HANDLER(wbinvd)
{
	need_cpl0(cpu);
	return x86_next(cpu, i);
}

/* --- MSRs, time, identification --- */

HANDLER(rdmsr)
{
	uint64_t v;

	need_cpl0(cpu);
	if (!x86_rdmsr(cpu, x86_get32(cpu, X86_RCX), &v))
		x86_gp0(cpu);
	x86_set32(cpu, X86_RAX, (uint32_t)v);
	x86_set32(cpu, X86_RDX, (uint32_t)(v >> 32));
	return x86_next(cpu, i);
}

HANDLER(wrmsr)
{
	need_cpl0(cpu);
	if (!x86_wrmsr(cpu, x86_get32(cpu, X86_RCX), (uint64_t)x86_get32(cpu, X86_RDX) << 32 | x86_get32(cpu, X86_RAX)))
		x86_gp0(cpu);
	cpu->attention = true;
	return x86_next_end(cpu, i);
}

static void read_tsc(struct x86_cpu *cpu)
{
	uint64_t t;

	if (cpu->cpl && cpu->s.cr4 & X86_CR4_TSD)
		x86_gp0(cpu);
	t = clock_tsc(x86_clock(cpu)) + cpu->s.tsc_offset;
	x86_set32(cpu, X86_RAX, (uint32_t)t);
	x86_set32(cpu, X86_RDX, (uint32_t)(t >> 32));
}

HANDLER(rdtsc)
{
	read_tsc(cpu);
	return x86_next(cpu, i);
}

HANDLER(rdtscp)
{
	need(cpu, X86_F_RDTSCP);
	read_tsc(cpu);
	x86_set32(cpu, X86_RCX, (uint32_t)cpu->s.tsc_aux);
	return x86_next(cpu, i);
}

HANDLER(rdpid)
{
	need(cpu, X86_F_RDPID);
	cpu->s.gpr[i->rm] = (uint32_t)cpu->s.tsc_aux;
	return x86_next(cpu, i);
}

/* There are no performance counters to read. */
HANDLER(rdpmc)
{
	x86_gp0(cpu);
}

HANDLER(cpuid)
{
	uint32_t out[4];

	x86_cpuid(cpu, x86_get32(cpu, X86_RAX), x86_get32(cpu, X86_RCX), out);
	x86_set32(cpu, X86_RAX, out[0]);
	x86_set32(cpu, X86_RBX, out[1]);
	x86_set32(cpu, X86_RCX, out[2]);
	x86_set32(cpu, X86_RDX, out[3]);
	return x86_next(cpu, i);
}

/* --- interrupt flag, halt --- */

static bool may_touch_if(const struct x86_cpu *cpu)
{
	return (!cpu->protected_mode && !cpu->v86) || cpu->cpl <= (cpu->s.rflags >> X86_IOPL_SHIFT & 3);
}

HANDLER(cli)
{
	if (may_touch_if(cpu))
		cpu->s.rflags &= ~(uint64_t)X86_IF;
	else if (x86_virtual_if(cpu))
		cpu->s.rflags &= ~(uint64_t)X86_VIF;
	else
		x86_gp0(cpu);
	return x86_next(cpu, i);
}

HANDLER(sti)
{
	if (!may_touch_if(cpu)) {
		if (!x86_virtual_if(cpu) || cpu->s.rflags & X86_VIP)
			x86_gp0(cpu);
		cpu->s.rflags |= X86_VIF;
	} else if (!(cpu->s.rflags & X86_IF)) {
		cpu->s.rflags |= X86_IF;
		cpu->s.shadow_sti = true;
		cpu->attention = true;
		x86_advance(cpu, i);
		return x86_jumped_early(cpu);
	}
	return x86_next(cpu, i);
}

HANDLER(hlt)
{
	need_cpl0(cpu);
	cpu->s.run = X86_HALTED;
	stat_add(&cpu->vcpu.halts, 1);
	cpu->attention = true;
	return x86_next_end(cpu, i);
}

HANDLER(clac)
{
	need(cpu, X86_F_SMAP);
	if (cpu->cpl)
		x86_ud(cpu);
	x86_set_eflags(cpu, 0, X86_AC);
	return x86_next(cpu, i);
}

HANDLER(stac)
{
	need(cpu, X86_F_SMAP);
	if (cpu->cpl)
		x86_ud(cpu);
	x86_set_eflags(cpu, X86_AC, X86_AC);
	return x86_next(cpu, i);
}

/* What the TLB holds was allowed by the old value. */
void x86_set_pkru(struct x86_cpu *cpu, uint32_t v)
{
	x86_tlb_keys_changed(cpu, v ^ cpu->s.pkru);
	cpu->s.pkru = v;
}

static void enter_pkru(struct x86_cpu *cpu, uint32_t zero)
{
	if (!(cpu->s.cr4 & X86_CR4_PKE))
		x86_ud(cpu);
	if (zero)
		x86_gp0(cpu);
}

HANDLER(rdpkru)
{
	enter_pkru(cpu, x86_get32(cpu, X86_RCX));
	x86_set32(cpu, X86_RAX, cpu->s.pkru);
	x86_set32(cpu, X86_RDX, 0);
	return x86_next(cpu, i);
}

HANDLER(wrpkru)
{
	enter_pkru(cpu, x86_get32(cpu, X86_RCX) | x86_get32(cpu, X86_RDX));
	x86_set_pkru(cpu, x86_get32(cpu, X86_RAX));
	return x86_next(cpu, i);
}

HANDLER(ud)
{
	x86_ud(cpu);
}

#define G7(ext_, rm_) X86_MAP_0F, 0x01, 1, X86_PFX_NONE, X86_MOD_REG, 1 + ext_, 1 + rm_, 0
static const struct x86_opdef rows[] = {
	{ X86_MAP_0F, 0x20, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_CR_DR, X86_ALL(mov_from_cr), {}, "mov" },
	{ X86_MAP_0F, 0x22, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_CR_DR | X86_D_END, X86_ALL(mov_to_cr), {}, "mov" },
	{ X86_MAP_0F, 0x21, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_CR_DR, X86_ALL(mov_from_dr), {}, "mov" },
	{ X86_MAP_0F, 0x23, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_CR_DR | X86_D_END, X86_ALL(mov_to_dr), {}, "mov" },
	{ X86_MAP_0F, 0x06, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(clts), {}, "clts" },
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_MEM, 1 + 0, 0, 0, 0, {}, X86_ALL(sgdt), "sgdt" },
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_MEM, 1 + 1, 0, 0, 0, {}, X86_ALL(sidt), "sidt" },
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_MEM, 1 + 2, 0, 0, 0, {}, X86_ALL(lgdt), "lgdt" },
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_MEM, 1 + 3, 0, 0, 0, {}, X86_ALL(lidt), "lidt" },
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_ANY, 1 + 4, 0, 0, 0, X86_ALL(smsw), X86_ALL(smsw), "smsw" },
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_ANY, 1 + 6, 0, 0, X86_D_END, X86_ALL(lmsw), X86_ALL(lmsw), "lmsw" },
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_MEM, 1 + 7, 0, 0, X86_D_END, {}, X86_ALL(invlpg), "invlpg" },
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_REG, 1 + 7, 1 + 1, 0, 0, X86_ALL(rdtscp), {}, "rdtscp" },
	{ X86_MAP_0F, 0xc7, 1, X86_PFX_F3, X86_MOD_REG, 1 + 7, 0, 0, 0, X86_ALL(rdpid), {}, "rdpid" },
	{ G7(1, 2), 0, X86_ALL(clac), {}, "clac" },
	{ G7(1, 3), 0, X86_ALL(stac), {}, "stac" },
	{ G7(5, 6), 0, X86_ALL(rdpkru), {}, "rdpkru" },
	{ G7(5, 7), 0, X86_ALL(wrpkru), {}, "wrpkru" },
	{ X86_MAP_0F38, 0x82, 1, X86_PFX_66, X86_MOD_MEM, 0, 0, 0, X86_D_END, {}, X86_ALL(invpcid), "invpcid" },
	{ X86_MAP_0F, 0x08, 2, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(wbinvd), {}, "wbinvd" },
	{ X86_MAP_0F, 0x30, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(wrmsr), {}, "wrmsr" },
	{ X86_MAP_0F, 0x31, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(rdtsc), {}, "rdtsc" },
	{ X86_MAP_0F, 0x32, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(rdmsr), {}, "rdmsr" },
	{ X86_MAP_0F, 0x33, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(rdpmc), {}, "rdpmc" },
	{ X86_MAP_0F, 0xa2, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(cpuid), {}, "cpuid" },
	{ X86_MAP_1, 0xfa, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(cli), {}, "cli" },
	{ X86_MAP_1, 0xfb, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(sti), {}, "sti" },
	{ X86_MAP_1, 0xf4, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(hlt), {}, "hlt" },
	{ X86_MAP_0F, 0x0b, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(ud), {}, "ud2" },
	{ X86_MAP_0F, 0xb9, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_END, X86_ALL(ud), {}, "ud1" },
	{ X86_MAP_0F, 0xff, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_END, X86_ALL(ud), {}, "ud0" },
};
X86_DEFS(x86_defs_control, rows);
