/* The stack: PUSH POP PUSHA POPA PUSHF POPF ENTER LEAVE. Segment registers are in sysseg.c. */
#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)
#define V(name)                                                                                                        \
	{                                                                                                              \
		name##16, name##32, name##64                                                                           \
	}

static void store_at(struct x86_cpu *cpu, uint64_t sp, uint64_t v, unsigned size)
{
	switch (size) {
	case 2:
		x86_st16(cpu, X86_SS, sp, (uint16_t)v);
		break;
	case 4:
		x86_st32(cpu, X86_SS, sp, (uint32_t)v);
		break;
	default:
		x86_st64(cpu, X86_SS, sp, v);
		break;
	}
}

static uint64_t load_at(struct x86_cpu *cpu, uint64_t sp, unsigned size)
{
	return size == 2   ? x86_ld16(cpu, X86_SS, sp)
	       : size == 4 ? x86_ld32(cpu, X86_SS, sp)
			   : x86_ld64(cpu, X86_SS, sp);
}

void x86_push(struct x86_cpu *cpu, uint64_t v, unsigned size)
{
	uint64_t sp = (cpu->s.gpr[X86_RSP] - size) & cpu->sp_mask;

	store_at(cpu, sp, v, size);
	cpu->s.gpr[X86_RSP] = x86_merge_sp(cpu, sp);
}

uint64_t x86_pop(struct x86_cpu *cpu, unsigned size)
{
	uint64_t sp = cpu->s.gpr[X86_RSP] & cpu->sp_mask, v = load_at(cpu, sp, size);

	cpu->s.gpr[X86_RSP] = x86_merge_sp(cpu, sp + size);
	return v;
}

/* In 64-bit mode with the usual operand size the stack is 64 bits wide and flat. */
HANDLER(push_r64)
{
	uint64_t sp = cpu->s.gpr[X86_RSP] - 8;

	x86_lin_st64(cpu, X86_SS, sp, cpu->s.gpr[i->rm]);
	cpu->s.gpr[X86_RSP] = sp;
	return x86_next(cpu, i);
}

HANDLER(pop_r64)
{
	uint64_t sp = cpu->s.gpr[X86_RSP], v = x86_lin_ld64(cpu, X86_SS, sp);

	cpu->s.gpr[X86_RSP] = sp + 8;
	cpu->s.gpr[i->rm] = v;
	return x86_next(cpu, i);
}

#define PUSH_POP(bits)                                                                                                 \
	HANDLER(push_m##bits)                                                                                          \
	{                                                                                                              \
		x86_push(cpu, x86_ldm##bits(cpu, i), bits / 8);                                                        \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(push_i##bits)                                                                                          \
	{                                                                                                              \
		x86_push(cpu, i->imm, bits / 8);                                                                       \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	/* The address is computed after RSP moved, which moves back if the store faults. */                           \
	HANDLER(pop_m##bits)                                                                                           \
	{                                                                                                              \
		uint64_t before = cpu->s.gpr[X86_RSP], v = load_at(cpu, before & cpu->sp_mask, bits / 8), ea, after;   \
		after = x86_merge_sp(cpu, before + bits / 8);                                                          \
		cpu->s.gpr[X86_RSP] = after;                                                                           \
		ea = x86_ea(cpu, i);                                                                                   \
		cpu->s.gpr[X86_RSP] = before;                                                                          \
		x86_st##bits(cpu, i->seg, ea, (uint##bits##_t)v);                                                      \
		cpu->s.gpr[X86_RSP] = after;                                                                           \
		return x86_next(cpu, i);                                                                               \
	}
PUSH_POP(16)
PUSH_POP(32)
PUSH_POP(64)

#define PUSH_POP_REG(bits)                                                                                             \
	HANDLER(push_r##bits)                                                                                          \
	{                                                                                                              \
		x86_push(cpu, x86_get##bits(cpu, i->rm), bits / 8);                                                    \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(pop_r##bits)                                                                                           \
	{                                                                                                              \
		x86_set##bits(cpu, i->rm, (uint##bits##_t)x86_pop(cpu, bits / 8));                                     \
		return x86_next(cpu, i);                                                                               \
	}
PUSH_POP_REG(16)
PUSH_POP_REG(32)

/* All eight stores are checked before RSP moves; the registers are not changed by a fault in between. */
HANDLER(pusha)
{
	uint64_t sp = cpu->s.gpr[X86_RSP];

	for (unsigned r = 0; r < 8; r++) {
		sp = (sp - i->opsize) & cpu->sp_mask;
		store_at(cpu, sp, cpu->s.gpr[r], i->opsize);
	}
	cpu->s.gpr[X86_RSP] = x86_merge_sp(cpu, sp);
	return x86_next(cpu, i);
}

HANDLER(popa)
{
	uint64_t sp = cpu->s.gpr[X86_RSP], v[8];

	for (unsigned r = 8; r-- > 0; sp += i->opsize)
		v[r] = load_at(cpu, sp & cpu->sp_mask, i->opsize);
	for (unsigned r = 0; r < 8; r++) {
		if (r == X86_RSP)
			continue;
		if (i->opsize == 2)
			x86_set16(cpu, r, (uint16_t)v[r]);
		else
			x86_set32(cpu, r, (uint32_t)v[r]);
	}
	cpu->s.gpr[X86_RSP] = x86_merge_sp(cpu, sp);
	return x86_next(cpu, i);
}

static unsigned iopl(const struct x86_cpu *cpu)
{
	return cpu->s.rflags >> X86_IOPL_SHIFT & 3;
}

/* Virtual-8086 mode with IOPL below 3: #GP, unless they are the virtual ones. VM and RF read as 0. */
HANDLER(pushf)
{
	if (i->opsize == 2 && x86_vme(cpu)) {
		x86_push(cpu, x86_vme_flags(cpu), 2);
		return x86_next(cpu, i);
	}
	if (cpu->v86 && iopl(cpu) < 3)
		x86_gp0(cpu);
	x86_push(cpu, x86_get_eflags(cpu) & ~(X86_VM | X86_RF), i->opsize);
	return x86_next(cpu, i);
}

HANDLER(popf)
{
	uint32_t mask = X86_ARITH | X86_TF | X86_DF | X86_NT | X86_AC | X86_ID, v;

	if (i->opsize == 2 && x86_vme(cpu)) {
		v = (uint32_t)load_at(cpu, cpu->s.gpr[X86_RSP] & cpu->sp_mask, 2);
		x86_vme_check_flags(cpu, (uint16_t)v);
		x86_pop(cpu, 2);
		x86_vme_set_flags(cpu, (uint16_t)v);
		return x86_next_end(cpu, i);
	}
	if (cpu->v86 && iopl(cpu) < 3)
		x86_gp0(cpu);
	v = (uint32_t)x86_pop(cpu, i->opsize);
	if (cpu->cpl == 0 && !cpu->v86)
		mask |= X86_IOPL;
	if (cpu->cpl <= iopl(cpu) || !cpu->protected_mode)
		mask |= X86_IF;
	if (!cpu->protected_mode && !cpu->v86)
		mask |= X86_IOPL;
	if (i->opsize == 2)
		mask &= 0xffff;
	x86_set_eflags(cpu, v, mask);
	return x86_next_end(cpu, i);
}

HANDLER(leave)
{
	uint64_t sp = cpu->s.gpr[X86_RBP] & cpu->sp_mask, v = load_at(cpu, sp, i->opsize);

	cpu->s.gpr[X86_RSP] = x86_merge_sp(cpu, sp + i->opsize);
	if (i->opsize == 2)
		x86_set16(cpu, X86_RBP, (uint16_t)v);
	else
		cpu->s.gpr[X86_RBP] = v;
	return x86_next(cpu, i);
}

/* SDM ENTER: the frame pointers of the outer levels are copied; RSP and RBP change only at the end. */
HANDLER(enter)
{
	unsigned size = i->opsize, level = i->imm >> 16 & 31;
	uint64_t sp = cpu->s.gpr[X86_RSP], bp = cpu->s.gpr[X86_RBP], frame;

	sp -= size;
	store_at(cpu, sp & cpu->sp_mask, bp, size);
	frame = x86_merge_sp(cpu, sp);
	for (unsigned n = 1; n < level; n++) {
		bp -= size;
		sp -= size;
		store_at(cpu, sp & cpu->sp_mask, load_at(cpu, bp & cpu->sp_mask, size), size);
	}
	if (level) {
		sp -= size;
		store_at(cpu, sp & cpu->sp_mask, frame, size);
	}
	sp -= i->imm & 0xffff;
	x86_probe_write(cpu, X86_SS, sp & cpu->sp_mask, size);
	cpu->s.gpr[X86_RSP] = x86_merge_sp(cpu, sp);
	if (size == 2)
		x86_set16(cpu, X86_RBP, (uint16_t)frame);
	else
		cpu->s.gpr[X86_RBP] = frame;
	return x86_next(cpu, i);
}

static const struct x86_opdef rows[] = {
	{ X86_MAP_1, 0x50, 8, 0, X86_MOD_NONE, 0, 0, 0, X86_D_OPREG | X86_D_DEF64, V(push_r), {}, "push" },
	{ X86_MAP_1, 0x58, 8, 0, X86_MOD_NONE, 0, 0, 0, X86_D_OPREG | X86_D_DEF64, V(pop_r), {}, "pop" },
	{ X86_MAP_1, 0x68, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_Z, X86_D_DEF64, V(push_i), {}, "push" },
	{ X86_MAP_1, 0x6a, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_8, X86_D_DEF64, V(push_i), {}, "push" },
	{ X86_MAP_1, 0xff, 1, 0, X86_MOD_ANY, 1 + 6, 0, 0, X86_D_DEF64, V(push_r), V(push_m), "push" },
	{ X86_MAP_1, 0x8f, 1, 0, X86_MOD_ANY, 1 + 0, 0, 0, X86_D_DEF64, V(pop_r), V(pop_m), "pop" },
	{ X86_MAP_1, 0x60, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_NO64, X86_ALL(pusha), {}, "pusha" },
	{ X86_MAP_1, 0x61, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_NO64, X86_ALL(popa), {}, "popa" },
	{ X86_MAP_1, 0x9c, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_DEF64, X86_ALL(pushf), {}, "pushf" },
	{ X86_MAP_1, 0x9d, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_DEF64 | X86_D_END, X86_ALL(popf), {}, "popf" },
	{ X86_MAP_1, 0xc8, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_ENTER, X86_D_DEF64, X86_ALL(enter), {}, "enter" },
	{ X86_MAP_1, 0xc9, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_DEF64, X86_ALL(leave), {}, "leave" },
};
X86_DEFS(x86_defs_stack, rows);
