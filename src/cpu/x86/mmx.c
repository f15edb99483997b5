/* MMX, with the additions of SSE and SSE2: the packed operations of vec.h on 64 bits. SDM vol. 1, chapter 9. */
#include "cpu/x86/vec.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

static inline uint64_t get(const struct x86_cpu *cpu, unsigned r)
{
	return cpu->s.fp.r[r & 7].mant;
}

/* `combine` is an expression of a and b, both uint64_t. */
#define BINARY(name, load, combine)                                                                                    \
	HANDLER(name##_x)                                                                                              \
	{                                                                                                              \
		uint64_t a, b;                                                                                         \
		x86_mmx_enter(cpu);                                                                                    \
		a = get(cpu, i->reg);                                                                                  \
		b = get(cpu, i->rm);                                                                                   \
		x86_mmx_begin(cpu);                                                                                    \
		x86_mmx_set(cpu, i->reg, combine);                                                                     \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_m)                                                                                              \
	{                                                                                                              \
		uint64_t a, b;                                                                                         \
		x86_mmx_enter(cpu);                                                                                    \
		b = load(cpu, i);                                                                                      \
		a = get(cpu, i->reg);                                                                                  \
		x86_mmx_begin(cpu);                                                                                    \
		x86_mmx_set(cpu, i->reg, combine);                                                                     \
		return x86_next(cpu, i);                                                                               \
	}
#define LANEWISE(name, opcode, body) BINARY(name, x86_ldm64, vec_##name(vec_low64(a), vec_low64(b)).q[0])
VEC_OPS(LANEWISE)
/* Both operands in one register make what MMX packs. */
#define PACK(name, opcode, body)                                                                                       \
	BINARY(name, x86_ldm64, vec_##name((union vec){ .q = { a, b } }, (union vec){ .q = { a, b } }).q[0])
VEC_PACKS(PACK)
#define UNPACK(name, low, high, lane, n)                                                                               \
	BINARY(punpckl##name, x86_ldm32, vec_punpckl##name(vec_low64(a), vec_low64(b)).q[0])                           \
	BINARY(punpckh##name, x86_ldm64, vec_punpckl##name(vec_low64(a), vec_low64(b)).q[1])
VEC_UNPACKS(UNPACK)

#define SHIFT_IMM(name, opcode, ext)                                                                                   \
	HANDLER(name##_i)                                                                                              \
	{                                                                                                              \
		uint64_t a;                                                                                            \
		x86_mmx_enter(cpu);                                                                                    \
		a = get(cpu, i->rm);                                                                                   \
		x86_mmx_begin(cpu);                                                                                    \
		x86_mmx_set(cpu, i->rm, vec_##name(vec_low64(a), vec_low64(i->imm)).q[0]);                             \
		return x86_next(cpu, i);                                                                               \
	}
IMM_SHIFTS(SHIFT_IMM)

static uint64_t shuffle(uint64_t b, uint64_t imm)
{
	uint64_t r = 0;

	for (unsigned k = 0; k < 4; k++)
		r |= (b >> 16 * (imm >> 2 * k & 3) & 0xffff) << 16 * k;
	return r;
}
BINARY(pshufw, x86_ldm64, ((void)a, shuffle(b, i->imm)))
BINARY(movq, x86_ldm64, ((void)a, b))

/* --- moves --- */

#define FROM_GPR(bits)                                                                                                 \
	HANDLER(movd_from_gpr##bits)                                                                                   \
	{                                                                                                              \
		x86_mmx_enter(cpu);                                                                                    \
		x86_mmx_begin(cpu);                                                                                    \
		x86_mmx_set(cpu, i->reg, (uint##bits##_t)cpu->s.gpr[i->rm]);                                           \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(movd_load##bits)                                                                                       \
	{                                                                                                              \
		uint64_t v;                                                                                            \
		x86_mmx_enter(cpu);                                                                                    \
		v = x86_ldm##bits(cpu, i);                                                                             \
		x86_mmx_begin(cpu);                                                                                    \
		x86_mmx_set(cpu, i->reg, v);                                                                           \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(movd_to_gpr##bits)                                                                                     \
	{                                                                                                              \
		x86_mmx_enter(cpu);                                                                                    \
		x86_mmx_begin(cpu);                                                                                    \
		cpu->s.gpr[i->rm] = (uint##bits##_t)get(cpu, i->reg);                                                  \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(movd_store##bits)                                                                                      \
	{                                                                                                              \
		x86_mmx_enter(cpu);                                                                                    \
		x86_stm##bits(cpu, i, (uint##bits##_t)get(cpu, i->reg));                                               \
		x86_mmx_begin(cpu);                                                                                    \
		return x86_next(cpu, i);                                                                               \
	}
FROM_GPR(32)
FROM_GPR(64)

HANDLER(movq_store_x)
{
	x86_mmx_enter(cpu);
	x86_mmx_begin(cpu);
	x86_mmx_set(cpu, i->rm, get(cpu, i->reg));
	return x86_next(cpu, i);
}

HANDLER(movdq2q)
{
	x86_sse_enter(cpu);
	x86_mmx_enter(cpu);
	x86_mmx_begin(cpu);
	x86_mmx_set(cpu, i->reg, cpu->s.vec[i->rm].q[0]);
	return x86_next(cpu, i);
}

HANDLER(movq2dq)
{
	x86_sse_enter(cpu);
	x86_mmx_enter(cpu);
	x86_mmx_begin(cpu);
	vec_put(cpu, i->reg, vec_low64(get(cpu, i->rm)));
	return x86_next(cpu, i);
}

static uint64_t insert(uint64_t a, uint16_t w, unsigned lane)
{
	return (a & ~(0xffffull << 16 * lane)) | (uint64_t)w << 16 * lane;
}

HANDLER(pinsrw_x)
{
	x86_mmx_enter(cpu);
	x86_mmx_begin(cpu);
	x86_mmx_set(cpu, i->reg, insert(get(cpu, i->reg), (uint16_t)cpu->s.gpr[i->rm], i->imm & 3));
	return x86_next(cpu, i);
}

HANDLER(pinsrw_m)
{
	uint16_t w;

	x86_mmx_enter(cpu);
	w = x86_ldm16(cpu, i);
	x86_mmx_begin(cpu);
	x86_mmx_set(cpu, i->reg, insert(get(cpu, i->reg), w, i->imm & 3));
	return x86_next(cpu, i);
}

HANDLER(pextrw)
{
	x86_mmx_enter(cpu);
	x86_mmx_begin(cpu);
	cpu->s.gpr[i->reg] = get(cpu, i->rm) >> 16 * (i->imm & 3) & 0xffff;
	return x86_next(cpu, i);
}

HANDLER(pmovmskb)
{
	uint64_t v;
	uint32_t m = 0;

	x86_mmx_enter(cpu);
	x86_mmx_begin(cpu);
	v = get(cpu, i->rm);
	for (unsigned k = 0; k < 8; k++)
		m |= (uint32_t)(v >> (8 * k + 7) & 1) << k;
	cpu->s.gpr[i->reg] = m;
	return x86_next(cpu, i);
}

HANDLER(maskmovq)
{
	uint64_t v, m, at = cpu->s.gpr[X86_RDI] << i->ashift >> i->ashift;
	uint8_t bytes[8];
	uint32_t mask = 0;

	x86_mmx_enter(cpu);
	x86_mmx_begin(cpu);
	v = get(cpu, i->reg);
	m = get(cpu, i->rm);
	for (unsigned k = 0; k < 8; k++)
		mask |= (uint32_t)(m >> (8 * k + 7) & 1) << k;
	st_le64(bytes, v);
	x86_store_masked(cpu, i->seg, at, bytes, 8, mask);
	return x86_next(cpu, i);
}

HANDLER(emms)
{
	x86_mmx_enter(cpu);
	x86_mmx_begin(cpu);
	cpu->s.fp.valid = 0;
	return x86_next(cpu, i);
}

/* --- rows --- */

#define ROW(name, opcode, ...)                                                                                         \
	{ X86_MAP_0F, opcode, 1,	   X86_PFX_NONE,      X86_MOD_ANY,	 0,                                    \
	  0,	      0,      X86_D_IGN66, X86_ALL(name##_x), X86_ALL(name##_m), #name },
#define UNPACK_ROWS(name, low, high, lane, n) ROW(punpckl##name, low) ROW(punpckh##name, high)
#define SHIFT_ROW(name, opcode, ext)                                                                                   \
	{ X86_MAP_0F, opcode,	  1,	       X86_PFX_NONE,	  X86_MOD_REG, 1 + ext,                                \
	  0,	      X86_IMM_U8, X86_D_IGN66, X86_ALL(name##_i), {},	       #name },
#define REG(opcode, pfx, imm, name)                                                                                    \
	{                                                                                                              \
		X86_MAP_0F, opcode, 1, pfx, X86_MOD_REG, 0, 0, imm, X86_D_IGN66, X86_ALL(name), {}, #name              \
	}
static const struct x86_opdef rows[] = {
	VEC_OPS(ROW) VEC_PACKS(ROW) VEC_UNPACKS(UNPACK_ROWS)
		IMM_SHIFTS(SHIFT_ROW){ X86_MAP_0F, 0x70, 1, X86_PFX_NONE, X86_MOD_ANY, 0, 0, X86_IMM_U8, X86_D_IGN66,
				       X86_ALL(pshufw_x), X86_ALL(pshufw_m), "pshufw" },
	{ X86_MAP_0F, 0xc4, 1, X86_PFX_NONE, X86_MOD_ANY, 0, 0, X86_IMM_U8, X86_D_IGN66, X86_ALL(pinsrw_x),
	  X86_ALL(pinsrw_m), "pinsrw" },
	{ X86_MAP_0F,
	  0x6e,
	  1,
	  X86_PFX_NONE,
	  X86_MOD_ANY,
	  0,
	  0,
	  0,
	  X86_D_IGN66,
	  { NULL, movd_from_gpr32, movd_from_gpr64 },
	  { NULL, movd_load32, movd_load64 },
	  "movd" },
	{ X86_MAP_0F,
	  0x7e,
	  1,
	  X86_PFX_NONE,
	  X86_MOD_ANY,
	  0,
	  0,
	  0,
	  X86_D_IGN66,
	  { NULL, movd_to_gpr32, movd_to_gpr64 },
	  { NULL, movd_store32, movd_store64 },
	  "movd" },
	ROW(movq, 0x6f){ X86_MAP_0F, 0x7f, 1, X86_PFX_NONE, X86_MOD_ANY, 0, 0, 0, X86_D_IGN66, X86_ALL(movq_store_x),
			 X86_ALL(movd_store64), "movq" },
	{ X86_MAP_0F, 0xe7, 1, X86_PFX_NONE, X86_MOD_MEM, 0, 0, 0, X86_D_IGN66, {}, X86_ALL(movd_store64), "movntq" },
	REG(0xc5, X86_PFX_NONE, X86_IMM_U8, pextrw),
	REG(0xd7, X86_PFX_NONE, 0, pmovmskb),
	REG(0xf7, X86_PFX_NONE, 0, maskmovq),
	REG(0xd6, X86_PFX_F2, 0, movdq2q),
	REG(0xd6, X86_PFX_F3, 0, movq2dq),
	{ X86_MAP_0F, 0x77, 1, X86_PFX_NONE, X86_MOD_NONE, 0, 0, 0, 0, X86_ALL(emms), {}, "emms" },
};
X86_DEFS(x86_defs_mmx, rows);
