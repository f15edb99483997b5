/* Instructions on segments and privilege: MOV/PUSH/POP of segment registers, LDT and task register, checks, SYSCALL. */
#include "cpu/x86/task.h"
#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

/* --- moves --- */

HANDLER(mov_from_seg)
{
	if (i->reg > X86_GS)
		x86_ud(cpu);
	if (!(i->flags & X86_I_REG))
		x86_stm16(cpu, i, cpu->s.seg[i->reg].sel);
	else if (i->opsize == 2)
		x86_set16(cpu, i->rm, cpu->s.seg[i->reg].sel);
	else
		cpu->s.gpr[i->rm] = cpu->s.seg[i->reg].sel;
	return x86_next(cpu, i);
}

/* MOV SS and POP SS hold off interrupts and debug traps for one instruction; LSS does not need to. */
static void shadow(struct x86_cpu *cpu, unsigned seg)
{
	if (seg == X86_SS) {
		cpu->s.shadow_mov_ss = true;
		cpu->attention = true;
	}
}

HANDLER(mov_to_seg)
{
	if (i->reg > X86_GS || i->reg == X86_CS)
		x86_ud(cpu);
	x86_load_seg(cpu, i->reg, i->flags & X86_I_REG ? x86_get16(cpu, i->rm) : x86_ldm16(cpu, i));
	shadow(cpu, i->reg);
	return x86_next_end(cpu, i);
}

/* 06 0E 16 1E and 0F A0, A8: the register is in bits 5:3. */
HANDLER(push_seg)
{
	x86_push(cpu, cpu->s.seg[i->op >> 3 & 7].sel, i->opsize);
	return x86_next(cpu, i);
}

HANDLER(pop_seg)
{
	unsigned seg = i->op >> 3 & 7;
	uint64_t before = cpu->s.gpr[X86_RSP], v = x86_pop(cpu, i->opsize), after = cpu->s.gpr[X86_RSP];

	cpu->s.gpr[X86_RSP] = before;
	x86_load_seg(cpu, seg, (uint16_t)v);
	cpu->s.gpr[X86_RSP] = after;
	shadow(cpu, seg);
	return x86_next_end(cpu, i);
}

static const struct x86_insn *load_far(struct x86_cpu *cpu, const struct x86_insn *i, enum x86_seg seg)
{
	uint64_t ea = x86_ea(cpu, i), off = 0;
	unsigned size = x86_far_size(cpu, i);

	x86_load_bytes(cpu, i->seg, ea, &off, size);
	x86_load_seg(cpu, seg, x86_ld16(cpu, i->seg, (ea + size) << i->ashift >> i->ashift));
	if (i->opsize == 2)
		x86_set16(cpu, i->reg, (uint16_t)off);
	else
		cpu->s.gpr[i->reg] = off;
	return x86_next_end(cpu, i);
}

HANDLER(les)
{
	return load_far(cpu, i, X86_ES);
}
HANDLER(lds)
{
	return load_far(cpu, i, X86_DS);
}
HANDLER(lss)
{
	return load_far(cpu, i, X86_SS);
}
HANDLER(lfs)
{
	return load_far(cpu, i, X86_FS);
}
HANDLER(lgs)
{
	return load_far(cpu, i, X86_GS);
}

/* --- LDTR, TR --- */

static const struct x86_insn *store_system(struct x86_cpu *cpu, const struct x86_insn *i, enum x86_seg seg)
{
	if (cpu->cpl && cpu->s.cr4 & X86_CR4_UMIP)
		x86_gp0(cpu);
	if (!(i->flags & X86_I_REG))
		x86_stm16(cpu, i, cpu->s.seg[seg].sel);
	else if (i->opsize == 2)
		x86_set16(cpu, i->rm, cpu->s.seg[seg].sel);
	else
		cpu->s.gpr[i->rm] = cpu->s.seg[seg].sel;
	return x86_next(cpu, i);
}

HANDLER(sldt)
{
	return store_system(cpu, i, X86_LDTR);
}

HANDLER(str)
{
	return store_system(cpu, i, X86_TR);
}

/* System descriptors are 16 bytes in long mode: the upper half of the base follows. */
static void wide_base(struct x86_cpu *cpu, struct x86_descriptor *d, uint16_t sel)
{
	uint64_t high;

	if (!(cpu->s.efer & X86_EFER_LMA))
		return;
	x86_sys_load(cpu, d->at + 8, &high, 8);
	if (high >> 40 & 31)
		x86_raise(cpu, X86_GP, sel & ~3);
	d->base |= high << 32;
	if (!x86_canonical(d->base))
		x86_raise(cpu, X86_GP, sel & ~3);
}

static uint16_t system_operand(struct x86_cpu *cpu, const struct x86_insn *i)
{
	if (cpu->cpl)
		x86_gp0(cpu);
	return i->flags & X86_I_REG ? x86_get16(cpu, i->rm) : x86_ldm16(cpu, i);
}

void x86_load_ldtr(struct x86_cpu *cpu, uint16_t sel, uint8_t vector, uint32_t ext)
{
	uint32_t code = (sel & ~3u) | ext;
	struct x86_descriptor d;

	if (!(sel & ~3)) {
		cpu->s.seg[X86_LDTR] = (struct x86_segment){ .sel = sel, .unusable = true, .attr = X86_SEG_P | 2 };
		return;
	}
	if (sel & 4 || !x86_read_descriptor(cpu, sel, &d) || (d.attr & (X86_SEG_S | X86_SEG_TYPE)) != X86_SYS_LDT)
		x86_raise(cpu, vector, code);
	if (!(d.attr & X86_SEG_P))
		x86_raise(cpu, vector == X86_TS ? X86_TS : X86_NP, code);
	wide_base(cpu, &d, sel);
	cpu->s.seg[X86_LDTR] = x86_descriptor_segment(&d, sel);
}

HANDLER(lldt)
{
	x86_load_ldtr(cpu, system_operand(cpu, i), X86_GP, 0);
	return x86_next(cpu, i);
}

HANDLER(ltr)
{
	uint16_t sel = system_operand(cpu, i);
	struct x86_descriptor d;
	uint8_t busy;
	unsigned type;

	if (!(sel & ~3) || sel & 4 || !x86_read_descriptor(cpu, sel, &d))
		x86_raise(cpu, X86_GP, sel & ~3);
	type = d.attr & (X86_SEG_S | X86_SEG_TYPE);
	if (type != 9 && (type != 1 || cpu->s.efer & X86_EFER_LMA))
		x86_raise(cpu, X86_GP, sel & ~3);
	if (!(d.attr & X86_SEG_P))
		x86_raise(cpu, X86_NP, sel & ~3);
	wide_base(cpu, &d, sel);
	busy = (uint8_t)(d.raw >> 40) | 2;
	x86_sys_store(cpu, d.at + 5, &busy, 1);
	d.attr |= 2;
	cpu->s.seg[X86_TR] = x86_descriptor_segment(&d, sel);
	return x86_next(cpu, i);
}

/* --- LAR, LSL, VERR, VERW, ARPL --- */

static void set_zf(struct x86_cpu *cpu, bool zf)
{
	x86_lazy_set(&cpu->lazy, (x86_lazy_get(&cpu->lazy) & ~X86_ZF) | (zf ? X86_ZF : 0));
}

/* Can the current privilege see this descriptor? `system_types`: a bit for each system type that counts. */
static bool visible(struct x86_cpu *cpu, uint16_t sel, struct x86_descriptor *d, uint32_t system_types)
{
	unsigned dpl;

	if (!(sel & ~3) || !x86_read_descriptor(cpu, sel, d))
		return false;
	if (!(d->attr & X86_SEG_S) && !(system_types >> (d->attr & X86_SEG_TYPE) & 1))
		return false;
	if ((d->attr & (X86_SEG_S | 8 | 4)) == (X86_SEG_S | 8 | 4))
		return true;
	dpl = x86_dpl(d);
	return dpl >= cpu->cpl && dpl >= (sel & 3u);
}

static void set_by_size(struct x86_cpu *cpu, const struct x86_insn *i, uint32_t v)
{
	if (i->opsize == 2)
		x86_set16(cpu, i->reg, (uint16_t)v);
	else
		x86_set32(cpu, i->reg, v);
}

HANDLER(lar)
{
	uint32_t types = cpu->s.efer & X86_EFER_LMA ? 1u << 2 | 1u << 9 | 1u << 11 | 1u << 12
						    : 0x3e | 1u << 9 | 1u << 11 | 1u << 12;
	struct x86_descriptor d;
	bool ok = visible(cpu, i->flags & X86_I_REG ? x86_get16(cpu, i->rm) : x86_ldm16(cpu, i), &d, types);

	if (ok)
		set_by_size(cpu, i, (uint32_t)(d.raw >> 32) & 0xffff00);
	set_zf(cpu, ok);
	return x86_next(cpu, i);
}

HANDLER(lsl)
{
	uint32_t types = cpu->s.efer & X86_EFER_LMA ? 1u << 2 | 1u << 9 | 1u << 11
						    : 1u << 1 | 1u << 2 | 1u << 3 | 1u << 9 | 1u << 11;
	struct x86_descriptor d;
	bool ok = visible(cpu, i->flags & X86_I_REG ? x86_get16(cpu, i->rm) : x86_ldm16(cpu, i), &d, types);

	if (ok)
		set_by_size(cpu, i, d.limit);
	set_zf(cpu, ok);
	return x86_next(cpu, i);
}

HANDLER(verr)
{
	struct x86_descriptor d;
	bool ok = visible(cpu, i->flags & X86_I_REG ? x86_get16(cpu, i->rm) : x86_ldm16(cpu, i), &d, 0);

	set_zf(cpu, ok && (!(d.attr & 8) || d.attr & 2));
	return x86_next(cpu, i);
}

HANDLER(verw)
{
	struct x86_descriptor d;
	bool ok = visible(cpu, i->flags & X86_I_REG ? x86_get16(cpu, i->rm) : x86_ldm16(cpu, i), &d, 0);

	set_zf(cpu, ok && !(d.attr & 8) && d.attr & 2);
	return x86_next(cpu, i);
}

HANDLER(arpl_e)
{
	uint16_t a = x86_get16(cpu, i->rm), b = x86_get16(cpu, i->reg);
	bool raise = (a & 3) < (b & 3);

	if (raise)
		x86_set16(cpu, i->rm, (a & ~3) | (b & 3));
	set_zf(cpu, raise);
	return x86_next(cpu, i);
}

HANDLER(arpl_m)
{
	uint16_t a = x86_ldm16(cpu, i), b = x86_get16(cpu, i->reg) & 3;
	bool raise = (a & 3) < b;

	/* A selector that stays as it is is not written, so its segment may be read-only. */
	if (raise)
		x86_stm16(cpu, i, (a & ~3) | b);
	set_zf(cpu, raise);
	return x86_next(cpu, i);
}

/* --- SYSCALL, SYSRET, SYSENTER, SYSEXIT --- */

static void flat_code(struct x86_cpu *cpu, uint16_t sel, unsigned dpl, bool long_mode)
{
	cpu->s.seg[X86_CS] = (struct x86_segment){
		.sel = sel,
		.limit = 0xffffffff,
		.attr = (uint16_t)(X86_SEG_P | X86_SEG_S | 11 | X86_SEG_G | dpl << X86_SEG_DPL_SHIFT |
				   (long_mode ? X86_SEG_L : X86_SEG_DB)),
	};
}

static void flat_stack(struct x86_cpu *cpu, uint16_t sel, unsigned dpl)
{
	cpu->s.seg[X86_SS] = (struct x86_segment){
		.sel = sel,
		.limit = 0xffffffff,
		.attr = (uint16_t)(X86_SEG_P | X86_SEG_S | 3 | X86_SEG_G | X86_SEG_DB | dpl << X86_SEG_DPL_SHIFT),
	};
}

/* With these, unlike others, it is TF at the end that makes a single step. */
static const struct x86_insn *step_by_new_flags(struct x86_cpu *cpu)
{
	x86_update_mode(cpu);
	cpu->stepping = cpu->s.rflags & X86_TF;
	cpu->attention |= cpu->stepping;
	return x86_jumped(cpu);
}

/* Intel has them in 64-bit mode only. */
static void need_syscall(struct x86_cpu *cpu)
{
	if (!(cpu->s.efer & X86_EFER_SCE) || (x86_intel(cpu) && cpu->code_bits != 64))
		x86_ud(cpu);
}

HANDLER(syscall)
{
	bool long_mode = cpu->s.efer & X86_EFER_LMA;
	uint64_t next = cpu->s.gpr[X86_RIP] + i->len;
	uint16_t sel = (uint16_t)(cpu->s.star >> 32) & ~3;
	uint32_t flags = x86_get_eflags(cpu) & ~X86_RF;

	need_syscall(cpu);
	if (long_mode) {
		uint64_t to = cpu->code_bits == 64 ? cpu->s.lstar : cpu->s.cstar;

		cpu->s.gpr[X86_R8 + 3] = flags;
		cpu->s.gpr[X86_RCX] = next;
		cpu->s.gpr[X86_RIP] = to;
	} else {
		cpu->s.gpr[X86_RCX] = (uint32_t)next;
		cpu->s.gpr[X86_RIP] = (uint32_t)cpu->s.star;
	}
	flat_code(cpu, sel, 0, long_mode);
	flat_stack(cpu, sel + 8, 0);
	x86_set_eflags(cpu, 0, long_mode ? (uint32_t)cpu->s.fmask | X86_RF : X86_IF | X86_RF | X86_VM);
	return step_by_new_flags(cpu);
}

HANDLER(sysret)
{
	bool long_mode = cpu->s.efer & X86_EFER_LMA, to64 = i->opsize == 8;
	uint16_t sel = (uint16_t)(cpu->s.star >> 48);

	need_syscall(cpu);
	if (cpu->cpl || !cpu->protected_mode)
		x86_gp0(cpu);
	/* AMD's find out when they fetch from there. */
	if (x86_intel(cpu) && to64 && !x86_canonical(cpu->s.gpr[X86_RCX]))
		x86_gp0(cpu);
	cpu->s.gpr[X86_RIP] = to64 ? cpu->s.gpr[X86_RCX] : x86_get32(cpu, X86_RCX);
	flat_code(cpu, (uint16_t)((to64 ? sel + 16 : sel) | 3), 3, to64);
	flat_stack(cpu, (uint16_t)((sel + 8) | 3), 3);
	if (long_mode)
		x86_set_eflags(cpu, (uint32_t)cpu->s.gpr[X86_R8 + 3], ~(X86_RF | X86_VM));
	else
		x86_set_eflags(cpu, X86_IF, X86_IF);
	return step_by_new_flags(cpu);
}

/* AMD has them outside long mode only. */
static void need_sysenter(struct x86_cpu *cpu)
{
	if (!x86_has(cpu, X86_F_SEP) || (!x86_intel(cpu) && cpu->s.efer & X86_EFER_LMA))
		x86_ud(cpu);
}

HANDLER(sysenter)
{
	bool long_mode = cpu->s.efer & X86_EFER_LMA;

	need_sysenter(cpu);
	if (!cpu->protected_mode || !(cpu->s.sysenter_cs & 0xfffc))
		x86_gp0(cpu);
	x86_set_eflags(cpu, 0, X86_VM | X86_IF | X86_RF);
	flat_code(cpu, (uint16_t)(cpu->s.sysenter_cs & 0xfffc), 0, long_mode);
	flat_stack(cpu, (uint16_t)((cpu->s.sysenter_cs & 0xfffc) + 8), 0);
	cpu->s.gpr[X86_RSP] = long_mode ? cpu->s.sysenter_esp : (uint32_t)cpu->s.sysenter_esp;
	cpu->s.gpr[X86_RIP] = long_mode ? cpu->s.sysenter_eip : (uint32_t)cpu->s.sysenter_eip;
	x86_update_mode(cpu);
	return x86_jumped(cpu);
}

HANDLER(sysexit)
{
	bool to64 = i->opsize == 8;
	uint16_t base = (uint16_t)(cpu->s.sysenter_cs & 0xfffc);

	need_sysenter(cpu);
	if (!cpu->protected_mode || cpu->cpl || !base)
		x86_gp0(cpu);
	if (to64 && (!x86_canonical(cpu->s.gpr[X86_RCX]) || !x86_canonical(cpu->s.gpr[X86_RDX])))
		x86_gp0(cpu);
	flat_code(cpu, (uint16_t)((base + (to64 ? 32 : 16)) | 3), 3, to64);
	flat_stack(cpu, (uint16_t)((base + (to64 ? 40 : 24)) | 3), 3);
	cpu->s.gpr[X86_RSP] = to64 ? cpu->s.gpr[X86_RCX] : x86_get32(cpu, X86_RCX);
	cpu->s.gpr[X86_RIP] = to64 ? cpu->s.gpr[X86_RDX] : x86_get32(cpu, X86_RDX);
	x86_update_mode(cpu);
	return x86_jumped(cpu);
}

/* --- GS and FS bases --- */

HANDLER(swapgs)
{
	uint64_t base = cpu->s.seg[X86_GS].base;

	if (cpu->cpl)
		x86_gp0(cpu);
	cpu->s.seg[X86_GS].base = cpu->seg_base[X86_GS] = cpu->s.kernel_gs_base;
	cpu->s.kernel_gs_base = base;
	return x86_next(cpu, i);
}

/* F3 0F AE /0-3: RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE. */
HANDLER(fsgsbase)
{
	unsigned n = i->reg & 7, seg = n & 1 ? X86_GS : X86_FS;

	if (!(cpu->s.cr4 & X86_CR4_FSGSBASE))
		x86_ud(cpu);
	if (n < 2) {
		cpu->s.gpr[i->rm] = i->opsize == 8 ? cpu->s.seg[seg].base : (uint32_t)cpu->s.seg[seg].base;
		return x86_next(cpu, i);
	}
	uint64_t v = i->opsize == 8 ? cpu->s.gpr[i->rm] : x86_get32(cpu, i->rm);
	if (!x86_canonical(v))
		x86_gp0(cpu);
	cpu->s.seg[seg].base = cpu->seg_base[seg] = v;
	return x86_next(cpu, i);
}

#define SYS_ROW(op_, ext_, flags_, fn, name_)                                                                          \
	{                                                                                                              \
		X86_MAP_0F, op_, 1, 0, X86_MOD_ANY, 1 + ext_, 0, 0, X86_D_NO_REAL | flags_, X86_ALL(fn), X86_ALL(fn),  \
			name_                                                                                          \
	}
#define BASE_ROW(ext_, name_)                                                                                          \
	{                                                                                                              \
		X86_MAP_0F, 0xae, 1, X86_PFX_F3, X86_MOD_REG, 1 + ext_, 0, 0, X86_D_ONLY64, X86_ALL(fsgsbase), {},     \
			name_                                                                                          \
	}
#define FAR_ROW(map_, op_, flags_, fn)                                                                                 \
	{                                                                                                              \
		map_, op_, 1, 0, X86_MOD_MEM, 0, 0, 0, X86_D_END | flags_, {}, X86_ALL(fn), #fn                        \
	}
#define SEG_ROW(map_, op_, flags_, fn, name_)                                                                          \
	{                                                                                                              \
		map_, op_, 1, 0, X86_MOD_NONE, 0, 0, 0, flags_, X86_ALL(fn), {}, name_                                 \
	}

static const struct x86_opdef rows[] = {
	{ X86_MAP_1, 0x8c, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, X86_ALL(mov_from_seg), X86_ALL(mov_from_seg), "mov" },
	{ X86_MAP_1, 0x8e, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_END, X86_ALL(mov_to_seg), X86_ALL(mov_to_seg), "mov" },
	SEG_ROW(X86_MAP_1, 0x06, X86_D_NO64, push_seg, "push"),
	SEG_ROW(X86_MAP_1, 0x0e, X86_D_NO64, push_seg, "push"),
	SEG_ROW(X86_MAP_1, 0x16, X86_D_NO64, push_seg, "push"),
	SEG_ROW(X86_MAP_1, 0x1e, X86_D_NO64, push_seg, "push"),
	SEG_ROW(X86_MAP_0F, 0xa0, X86_D_DEF64, push_seg, "push"),
	SEG_ROW(X86_MAP_0F, 0xa8, X86_D_DEF64, push_seg, "push"),
	SEG_ROW(X86_MAP_1, 0x07, X86_D_NO64 | X86_D_END, pop_seg, "pop"),
	SEG_ROW(X86_MAP_1, 0x17, X86_D_NO64 | X86_D_END, pop_seg, "pop"),
	SEG_ROW(X86_MAP_1, 0x1f, X86_D_NO64 | X86_D_END, pop_seg, "pop"),
	SEG_ROW(X86_MAP_0F, 0xa1, X86_D_DEF64 | X86_D_END, pop_seg, "pop"),
	SEG_ROW(X86_MAP_0F, 0xa9, X86_D_DEF64 | X86_D_END, pop_seg, "pop"),
	FAR_ROW(X86_MAP_1, 0xc4, X86_D_NO64, les),
	FAR_ROW(X86_MAP_1, 0xc5, X86_D_NO64, lds),
	FAR_ROW(X86_MAP_0F, 0xb2, 0, lss),
	FAR_ROW(X86_MAP_0F, 0xb4, 0, lfs),
	FAR_ROW(X86_MAP_0F, 0xb5, 0, lgs),
	SYS_ROW(0x00, 0, 0, sldt, "sldt"),
	SYS_ROW(0x00, 1, 0, str, "str"),
	SYS_ROW(0x00, 2, 0, lldt, "lldt"),
	SYS_ROW(0x00, 3, 0, ltr, "ltr"),
	SYS_ROW(0x00, 4, 0, verr, "verr"),
	SYS_ROW(0x00, 5, 0, verw, "verw"),
	{ X86_MAP_0F, 0x02, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_NO_REAL, X86_ALL(lar), X86_ALL(lar), "lar" },
	{ X86_MAP_0F, 0x03, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_NO_REAL, X86_ALL(lsl), X86_ALL(lsl), "lsl" },
	{ X86_MAP_1, 0x63, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_NO_REAL | X86_D_NO64, X86_ALL(arpl_e), X86_ALL(arpl_m),
	  "arpl" },
	SEG_ROW(X86_MAP_0F, 0x05, X86_D_END, syscall, "syscall"),
	SEG_ROW(X86_MAP_0F, 0x07, X86_D_END, sysret, "sysret"),
	SEG_ROW(X86_MAP_0F, 0x34, X86_D_END, sysenter, "sysenter"),
	SEG_ROW(X86_MAP_0F, 0x35, X86_D_END, sysexit, "sysexit"),
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_REG, 1 + 7, 1 + 0, 0, X86_D_ONLY64, X86_ALL(swapgs), {}, "swapgs" },
	BASE_ROW(0, "rdfsbase"),
	BASE_ROW(1, "rdgsbase"),
	BASE_ROW(2, "wrfsbase"),
	BASE_ROW(3, "wrgsbase"),
};
X86_DEFS(x86_defs_sysseg, rows);
