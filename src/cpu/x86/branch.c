/* Branches: Jcc JMP CALL RET LOOP JCXZ, software interrupts, and the far forms' operands. */
#include "cpu/x86/cond.h"
#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

static inline uint64_t next_rip(const struct x86_cpu *cpu, const struct x86_insn *i)
{
	return (cpu->s.gpr[X86_RIP] + i->len) & cpu->lin_mask;
}

static inline const struct x86_insn *relative(struct x86_cpu *cpu, const struct x86_insn *i)
{
	cpu->s.gpr[X86_RIP] = x86_branch_target(cpu, cpu->s.gpr[X86_RIP] + i->len + i->imm, i->opsize);
	return x86_follow(cpu, i);
}

static inline const struct x86_insn *not_taken(struct x86_cpu *cpu, const struct x86_insn *i)
{
	x86_advance(cpu, i);
	return x86_follow(cpu, i + 1);
}

#define JCC(cc)                                                                                                        \
	HANDLER(jcc##cc)                                                                                               \
	{                                                                                                              \
		return x86_cond(&cpu->lazy, cc) ? relative(cpu, i) : not_taken(cpu, i);                                \
	}
X86_EACH_COND(JCC)

HANDLER(jmp_rel)
{
	return relative(cpu, i);
}

/* As x86_branch_target(), but a bad stack comes before a bad target. */
static inline uint64_t call_target(struct x86_cpu *cpu, const struct x86_insn *i, uint64_t to)
{
	to &= size_mask(i->opsize);
	if (__builtin_expect(!x86_branch_ok(cpu, to, i->opsize), 0)) {
		x86_probe_write(cpu, X86_SS, (cpu->s.gpr[X86_RSP] - i->opsize) & cpu->sp_mask, i->opsize);
		x86_gp0(cpu);
	}
	return to;
}

HANDLER(call_rel)
{
	uint64_t back = next_rip(cpu, i), to = call_target(cpu, i, back + i->imm);

	x86_push(cpu, back, i->opsize);
	cpu->s.gpr[X86_RIP] = to;
	return x86_follow(cpu, i);
}

/* The operand of an indirect branch, by operand size. */
static uint64_t indirect(struct x86_cpu *cpu, const struct x86_insn *i)
{
	if (i->flags & X86_I_REG)
		return cpu->s.gpr[i->rm] & size_mask(i->opsize);
	return i->opsize == 2 ? x86_ldm16(cpu, i) : i->opsize == 4 ? x86_ldm32(cpu, i) : x86_ldm64(cpu, i);
}

HANDLER(jmp_ind)
{
	cpu->s.gpr[X86_RIP] = x86_branch_target(cpu, indirect(cpu, i), i->opsize);
	return x86_jumped(cpu);
}

HANDLER(call_ind)
{
	uint64_t to = call_target(cpu, i, indirect(cpu, i));

	x86_push(cpu, next_rip(cpu, i), i->opsize);
	cpu->s.gpr[X86_RIP] = to;
	return x86_jumped(cpu);
}

/* RSP moves only once the target has been found good. */
HANDLER(ret_near)
{
	uint64_t sp = cpu->s.gpr[X86_RSP], to = x86_pop(cpu, i->opsize), after = cpu->s.gpr[X86_RSP];

	cpu->s.gpr[X86_RSP] = sp;
	to = x86_branch_target(cpu, to, i->opsize);
	cpu->s.gpr[X86_RSP] = x86_merge_sp(cpu, after + i->imm);
	cpu->s.gpr[X86_RIP] = to;
	return x86_jumped(cpu);
}

/* (E/R)CX as counter, by address size. */
static uint64_t counter(const struct x86_cpu *cpu, const struct x86_insn *i)
{
	return cpu->s.gpr[X86_RCX] << i->ashift >> i->ashift;
}

HANDLER(loop)
{
	uint64_t left = (counter(cpu, i) - 1) << i->ashift >> i->ashift;
	bool zf = x86_lazy_zf(&cpu->lazy);
	bool taken = left && (i->op == 0xe2 || zf == (i->op == 0xe1));
	uint64_t to = cpu->s.gpr[X86_RIP] + i->len;

	if (taken)
		to = x86_branch_target(cpu, to + i->imm, i->opsize);
	if (i->ashift == 48)
		x86_set16(cpu, X86_RCX, (uint16_t)left);
	else
		cpu->s.gpr[X86_RCX] = left;
	cpu->s.gpr[X86_RIP] = to & cpu->lin_mask;
	return x86_follow(cpu, taken ? i : i + 1);
}

HANDLER(jcxz)
{
	return counter(cpu, i) ? not_taken(cpu, i) : relative(cpu, i);
}

/* --- software interrupts --- */

HANDLER(int_n)
{
	if (x86_vme_interrupt(cpu, (uint8_t)i->imm, next_rip(cpu, i)))
		return x86_jumped(cpu);
	/* Virtual-8086 mode below IOPL 3 leaves INT n to the monitor; INT3 and INTO go through. */
	if (cpu->v86 && (cpu->s.rflags >> X86_IOPL_SHIFT & 3) < 3)
		x86_gp0(cpu);
	x86_deliver(cpu, (uint8_t)i->imm, X86_EV_SOFT, 0, next_rip(cpu, i));
	return x86_jumped(cpu);
}

HANDLER(int3)
{
	x86_deliver(cpu, X86_BP, X86_EV_SOFT, 0, next_rip(cpu, i));
	return x86_jumped(cpu);
}

HANDLER(into)
{
	if (!x86_lazy_of(&cpu->lazy))
		return x86_next_end(cpu, i);
	x86_deliver(cpu, X86_OF_TRAP, X86_EV_SOFT, 0, next_rip(cpu, i));
	return x86_jumped(cpu);
}

HANDLER(int1)
{
	x86_deliver(cpu, X86_DB, X86_EV_ICEBP, 0, next_rip(cpu, i));
	return x86_jumped(cpu);
}

/* --- far forms --- */

/* The m16:16, m16:32 or m16:64 operand. */
static uint16_t far_operand(struct x86_cpu *cpu, const struct x86_insn *i, uint64_t *offset)
{
	unsigned size = x86_far_size(cpu, i);
	uint64_t ea = x86_ea(cpu, i), at = (ea + size) << i->ashift >> i->ashift;

	*offset = size == 2   ? x86_ld16(cpu, i->seg, ea)
		  : size == 4 ? x86_ld32(cpu, i->seg, ea)
			      : x86_ld64(cpu, i->seg, ea);
	return x86_ld16(cpu, i->seg, at);
}

HANDLER(jmp_far)
{
	x86_far_jmp(cpu, (uint16_t)i->disp, i->imm, next_rip(cpu, i));
	return x86_jumped(cpu);
}

HANDLER(call_far)
{
	x86_far_call(cpu, (uint16_t)i->disp, i->imm, i->opsize, next_rip(cpu, i));
	return x86_jumped(cpu);
}

HANDLER(jmp_far_mem)
{
	uint64_t offset;
	uint16_t sel = far_operand(cpu, i, &offset);

	x86_far_jmp(cpu, sel, offset, next_rip(cpu, i));
	return x86_jumped(cpu);
}

HANDLER(call_far_mem)
{
	uint64_t offset;
	uint16_t sel = far_operand(cpu, i, &offset);

	x86_far_call(cpu, sel, offset, i->opsize, next_rip(cpu, i));
	return x86_jumped(cpu);
}

HANDLER(ret_far)
{
	x86_far_ret(cpu, i->opsize, (unsigned)i->imm);
	return x86_jumped(cpu);
}

HANDLER(iret)
{
	x86_iret(cpu, i->opsize, next_rip(cpu, i));
	return x86_jumped(cpu);
}

#define NEAR	(X86_D_FORCE64 | X86_D_END)
#define FAR_IMM (X86_D_NO64 | X86_D_END)
#define JCC_ROWS(cc)                                                                                                   \
	{ X86_MAP_1, 0x70 + cc, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_8, NEAR, X86_ALL(jcc##cc), {}, "jcc" },              \
		{ X86_MAP_0F, 0x80 + cc, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_Z, NEAR, X86_ALL(jcc##cc), {}, "jcc" },

static const struct x86_opdef rows[] = {
	X86_EACH_COND(JCC_ROWS){
		X86_MAP_1, 0xeb, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_8, NEAR, X86_ALL(jmp_rel), {}, "jmp" },
	{ X86_MAP_1, 0xe9, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_Z, NEAR, X86_ALL(jmp_rel), {}, "jmp" },
	{ X86_MAP_1, 0xe8, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_Z, NEAR, X86_ALL(call_rel), {}, "call" },
	{ X86_MAP_1, 0xff, 1, 0, X86_MOD_ANY, 1 + 2, 0, 0, NEAR, X86_ALL(call_ind), {}, "call" },
	{ X86_MAP_1, 0xff, 1, 0, X86_MOD_ANY, 1 + 4, 0, 0, NEAR, X86_ALL(jmp_ind), {}, "jmp" },
	{ X86_MAP_1, 0xff, 1, 0, X86_MOD_MEM, 1 + 3, 0, 0, X86_D_END, {}, X86_ALL(call_far_mem), "callf" },
	{ X86_MAP_1, 0xff, 1, 0, X86_MOD_MEM, 1 + 5, 0, 0, X86_D_END, {}, X86_ALL(jmp_far_mem), "jmpf" },
	{ X86_MAP_1, 0xc2, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_16, NEAR, X86_ALL(ret_near), {}, "ret" },
	{ X86_MAP_1, 0xc3, 1, 0, X86_MOD_NONE, 0, 0, 0, NEAR, X86_ALL(ret_near), {}, "ret" },
	{ X86_MAP_1, 0xca, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_16, X86_D_END, X86_ALL(ret_far), {}, "retf" },
	{ X86_MAP_1, 0xcb, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(ret_far), {}, "retf" },
	{ X86_MAP_1, 0xcf, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(iret), {}, "iret" },
	{ X86_MAP_1, 0xea, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_FAR, FAR_IMM, X86_ALL(jmp_far), {}, "jmpf" },
	{ X86_MAP_1, 0x9a, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_FAR, FAR_IMM, X86_ALL(call_far), {}, "callf" },
	{ X86_MAP_1, 0xe0, 3, 0, X86_MOD_NONE, 0, 0, X86_IMM_8, NEAR, X86_ALL(loop), {}, "loop" },
	{ X86_MAP_1, 0xe3, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_8, NEAR, X86_ALL(jcxz), {}, "jcxz" },
	{ X86_MAP_1, 0xcd, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_U8, X86_D_END, X86_ALL(int_n), {}, "int" },
	{ X86_MAP_1, 0xcc, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(int3), {}, "int3" },
	{ X86_MAP_1, 0xce, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END | X86_D_NO64, X86_ALL(into), {}, "into" },
	{ X86_MAP_1, 0xf1, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_END, X86_ALL(int1), {}, "int1" },
};
X86_DEFS(x86_defs_branch, rows);
