/* Data movement: MOV MOVZX MOVSX MOVSXD XCHG LEA XLAT, LAHF SAHF, flag bits, NOP. */
#include <sched.h>

#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)
#define V(name)                                                                                                        \
	{                                                                                                              \
		name##16, name##32, name##64                                                                           \
	}
#define B(name) X86_ALL(name##8)

#define MOVES(bits)                                                                                                    \
	HANDLER(mov_er##bits)                                                                                          \
	{                                                                                                              \
		x86_set##bits(cpu, i->rm, x86_get##bits(cpu, i->reg));                                                 \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(mov_mr##bits)                                                                                          \
	{                                                                                                              \
		x86_stm##bits(cpu, i, x86_get##bits(cpu, i->reg));                                                     \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(mov_re##bits)                                                                                          \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg, x86_get##bits(cpu, i->rm));                                                 \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(mov_rm##bits)                                                                                          \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg, x86_ldm##bits(cpu, i));                                                     \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(mov_ei##bits)                                                                                          \
	{                                                                                                              \
		x86_set##bits(cpu, i->rm, (uint##bits##_t)i->imm);                                                     \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(mov_mi##bits)                                                                                          \
	{                                                                                                              \
		x86_stm##bits(cpu, i, (uint##bits##_t)i->imm);                                                         \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(mov_ao##bits) /* accumulator from an absolute offset */                                                \
	{                                                                                                              \
		x86_set##bits(cpu, X86_RAX, x86_ld##bits(cpu, i->seg, i->imm));                                        \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(mov_oa##bits)                                                                                          \
	{                                                                                                              \
		x86_st##bits(cpu, i->seg, i->imm, x86_get##bits(cpu, X86_RAX));                                        \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(xchg_er##bits)                                                                                         \
	{                                                                                                              \
		uint##bits##_t a = x86_get##bits(cpu, i->rm);                                                          \
		x86_set##bits(cpu, i->rm, x86_get##bits(cpu, i->reg));                                                 \
		x86_set##bits(cpu, i->reg, a);                                                                         \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(xchg_mr##bits) /* always atomic */                                                                     \
	{                                                                                                              \
		uint##bits##_t b = x86_get##bits(cpu, i->reg), seen;                                                   \
		X86_UPDATE_AT(bits, cpu, i->seg, x86_ea(cpu, i), true, old, (seen = old, b));                          \
		x86_set##bits(cpu, i->reg, seen);                                                                      \
		return x86_next(cpu, i);                                                                               \
	}
MOVES(8)
MOVES(16)
MOVES(32)
MOVES(64)

#define XCHG_A(bits)                                                                                                   \
	HANDLER(xchg_a##bits)                                                                                          \
	{                                                                                                              \
		uint##bits##_t a = x86_get##bits(cpu, X86_RAX);                                                        \
		x86_set##bits(cpu, X86_RAX, x86_get##bits(cpu, i->rm));                                                \
		x86_set##bits(cpu, i->rm, a);                                                                          \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(lea##bits)                                                                                             \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg, (uint##bits##_t)x86_ea(cpu, i));                                            \
		return x86_next(cpu, i);                                                                               \
	}
XCHG_A(16)
XCHG_A(32)
XCHG_A(64)

/* 90h is XCHG rAX, rAX without zero extension, that is NOP, unless REX.B names R8. */
HANDLER(nop90_32)
{
	if (i->rm != X86_RAX)
		return xchg_a32(cpu, i);
	return x86_next(cpu, i);
}

/* A spinning processor waits for others, and the host may have fewer processors than the guest. */
HANDLER(pause)
{
	if (i->rm == X86_RAX && cpu->vm->cfg.cpus > 1 && !(++cpu->pauses % 64))
		sched_yield();
	return nop90_32(cpu, i);
}

HANDLER(nop)
{
	return x86_next(cpu, i);
}

#define EXTEND(name, type, from, bits)                                                                                 \
	HANDLER(name##_e##from##_##bits)                                                                               \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg, (uint##bits##_t)(type)x86_get##from(cpu, i->rm));                           \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_m##from##_##bits)                                                                               \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg, (uint##bits##_t)(type)x86_ldm##from(cpu, i));                               \
		return x86_next(cpu, i);                                                                               \
	}
#define EXTENDS(bits)                                                                                                  \
	EXTEND(movzx, uint8_t, 8, bits)                                                                                \
	EXTEND(movsx, int8_t, 8, bits) EXTEND(movzx, uint16_t, 16, bits) EXTEND(movsx, int16_t, 16, bits)
EXTENDS(16)
EXTENDS(32)
EXTENDS(64)
EXTEND(movsx, int32_t, 32, 64)
EXTEND(movsx, int32_t, 32, 32)
EXTEND(movsx, uint16_t, 32, 16)

HANDLER(xlat)
{
	uint64_t ea = (cpu->s.gpr[X86_RBX] + x86_get8(cpu, X86_RAX)) << i->ashift >> i->ashift;

	x86_set8(cpu, X86_RAX, x86_ld8(cpu, i->seg, ea));
	return x86_next(cpu, i);
}

#define AHF (X86_SF | X86_ZF | X86_AF | X86_PF | X86_CF)
HANDLER(lahf)
{
	x86_set8(cpu, 1, (x86_lazy_get(&cpu->lazy) & AHF) | X86_FLAGS_FIXED);
	return x86_next(cpu, i);
}

HANDLER(sahf)
{
	x86_lazy_set(&cpu->lazy, (x86_lazy_get(&cpu->lazy) & X86_OF) | (x86_get8(cpu, 1) & AHF));
	return x86_next(cpu, i);
}

HANDLER(cmc)
{
	x86_lazy_set_cf(&cpu->lazy, !x86_lazy_cf(&cpu->lazy));
	return x86_next(cpu, i);
}

HANDLER(clc)
{
	x86_lazy_set_cf(&cpu->lazy, false);
	return x86_next(cpu, i);
}

HANDLER(stc)
{
	x86_lazy_set_cf(&cpu->lazy, true);
	return x86_next(cpu, i);
}

HANDLER(cld)
{
	cpu->s.rflags &= ~(uint64_t)X86_DF;
	return x86_next(cpu, i);
}

HANDLER(std_)
{
	cpu->s.rflags |= X86_DF;
	return x86_next(cpu, i);
}

#define BOTH (X86_D_BYTE_REG | X86_D_BYTE_RM)
#define PAUSE                                                                                                          \
	{                                                                                                              \
		xchg_a16, pause, xchg_a64                                                                              \
	}
static const struct x86_opdef rows[] = {
	{ X86_MAP_1, 0x88, 1, 0, X86_MOD_ANY, 0, 0, 0, BOTH, B(mov_er), B(mov_mr), "mov" },
	{ X86_MAP_1, 0x89, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(mov_er), V(mov_mr), "mov" },
	{ X86_MAP_1, 0x8a, 1, 0, X86_MOD_ANY, 0, 0, 0, BOTH, B(mov_re), B(mov_rm), "mov" },
	{ X86_MAP_1, 0x8b, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(mov_re), V(mov_rm), "mov" },
	{ X86_MAP_1, 0xa0, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_MOFFS, 0, B(mov_ao), {}, "mov" },
	{ X86_MAP_1, 0xa1, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_MOFFS, 0, V(mov_ao), {}, "mov" },
	{ X86_MAP_1, 0xa2, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_MOFFS, 0, B(mov_oa), {}, "mov" },
	{ X86_MAP_1, 0xa3, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_MOFFS, 0, V(mov_oa), {}, "mov" },
	{ X86_MAP_1, 0xb0, 8, 0, X86_MOD_NONE, 0, 0, X86_IMM_8, X86_D_OPREG | X86_D_BYTE_RM, B(mov_ei), {}, "mov" },
	{ X86_MAP_1, 0xb8, 8, 0, X86_MOD_NONE, 0, 0, X86_IMM_V, X86_D_OPREG, V(mov_ei), {}, "mov" },
	{ X86_MAP_1, 0xc6, 1, 0, X86_MOD_ANY, 1, 0, X86_IMM_8, X86_D_BYTE_RM, B(mov_ei), B(mov_mi), "mov" },
	{ X86_MAP_1, 0xc7, 1, 0, X86_MOD_ANY, 1, 0, X86_IMM_Z, 0, V(mov_ei), V(mov_mi), "mov" },
	{ X86_MAP_1, 0x86, 1, 0, X86_MOD_ANY, 0, 0, 0, BOTH | X86_D_LOCK, B(xchg_er), B(xchg_mr), "xchg" },
	{ X86_MAP_1, 0x87, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_LOCK, V(xchg_er), V(xchg_mr), "xchg" },
	{ X86_MAP_1, 0x90, 1, X86_PFX_F3, X86_MOD_NONE, 0, 0, 0, X86_D_OPREG, PAUSE, {}, "pause" },
	{ X86_MAP_1, 0x90, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_OPREG, { xchg_a16, nop90_32, xchg_a64 }, {}, "nop" },
	{ X86_MAP_1, 0x91, 7, 0, X86_MOD_NONE, 0, 0, 0, X86_D_OPREG, V(xchg_a), {}, "xchg" },
	{ X86_MAP_1, 0x8d, 1, 0, X86_MOD_MEM, 0, 0, 0, 0, {}, V(lea), "lea" },
	{ X86_MAP_1,
	  0x63,
	  1,
	  0,
	  X86_MOD_ANY,
	  0,
	  0,
	  0,
	  X86_D_ONLY64,
	  { movsx_e32_16, movsx_e32_32, movsx_e32_64 },
	  { movsx_m32_16, movsx_m32_32, movsx_m32_64 },
	  "movsxd" },
	{ X86_MAP_0F, 0xb6, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_BYTE_RM, V(movzx_e8_), V(movzx_m8_), "movzx" },
	{ X86_MAP_0F, 0xb7, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(movzx_e16_), V(movzx_m16_), "movzx" },
	{ X86_MAP_0F, 0xbe, 1, 0, X86_MOD_ANY, 0, 0, 0, X86_D_BYTE_RM, V(movsx_e8_), V(movsx_m8_), "movsx" },
	{ X86_MAP_0F, 0xbf, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(movsx_e16_), V(movsx_m16_), "movsx" },
	{ X86_MAP_1, 0xd7, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(xlat), {}, "xlat" },
	{ X86_MAP_1, 0x9e, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_NO64, X86_ALL(sahf), {}, "sahf" },
	{ X86_MAP_1, 0x9f, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_NO64, X86_ALL(lahf), {}, "lahf" },
	{ X86_MAP_1, 0xf5, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(cmc), {}, "cmc" },
	{ X86_MAP_1, 0xf8, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(clc), {}, "clc" },
	{ X86_MAP_1, 0xf9, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(stc), {}, "stc" },
	{ X86_MAP_1, 0xfc, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(cld), {}, "cld" },
	{ X86_MAP_1, 0xfd, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(std_), {}, "std" },
	/* Hints: prefetches, multi-byte NOP, ENDBR. They compute no address and cannot fault. */
	{ X86_MAP_0F, 0x0d, 1, 0, X86_MOD_MEM, 0, 0, 0, 0, {}, X86_ALL(nop), "prefetch" },
	{ X86_MAP_0F, 0x18, 8, 0, X86_MOD_ANY, 0, 0, 0, 0, X86_ALL(nop), {}, "nop" },
};
X86_DEFS(x86_defs_move, rows);

static const struct x86_opdef lahf_lm_rows[] = {
	{ X86_MAP_1, 0x9e, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_ONLY64, X86_ALL(sahf), {}, "sahf" },
	{ X86_MAP_1, 0x9f, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_ONLY64, X86_ALL(lahf), {}, "lahf" },
};
X86_DEFS_OF(x86_defs_lahf_lm, lahf_lm_rows, X86_F_LAHF_LM);
