/* SSE2: packed integers, shuffles and bitwise logic. SDM vol. 2. */
#include "cpu/x86/vec.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

#define BINARY(name, opcode, ...)                                                                                      \
	HANDLER(name##_x)                                                                                              \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		vec_put(cpu, i->reg, vec_##name(vec_get(cpu, i->reg), vec_get(cpu, i->rm)));                           \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_m)                                                                                              \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		vec_put(cpu, i->reg, vec_##name(vec_get(cpu, i->reg), vec_load(cpu, i)));                              \
		return x86_next(cpu, i);                                                                               \
	}
#define UNPACK(name, low, high, lane, n) BINARY(punpckl##name, low) BINARY(punpckh##name, high)
VEC_OPS(BINARY)
VEC_PACKS(BINARY)
VEC_UNPACKS(UNPACK)
BINARY(punpcklqdq, 0x6c)
BINARY(punpckhqdq, 0x6d)

#define SHIFT_IMM(name, opcode, ext)                                                                                   \
	HANDLER(name##_i)                                                                                              \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		vec_put(cpu, i->rm, vec_##name(vec_get(cpu, i->rm), vec_low64(i->imm)));                               \
		return x86_next(cpu, i);                                                                               \
	}
IMM_SHIFTS(SHIFT_IMM)

/* Whole-register byte shifts. */
static union vec shift_bytes(union vec a, int by)
{
	union vec r;

	LANES(16, b, (int)k - by >= 0 && (int)k - by < 16 ? a.b[(int)k - by] : 0);
	return r;
}

HANDLER(pslldq)
{
	x86_sse_enter(cpu);
	vec_put(cpu, i->rm, shift_bytes(vec_get(cpu, i->rm), i->imm > 15 ? 16 : (int)i->imm));
	return x86_next(cpu, i);
}

HANDLER(psrldq)
{
	x86_sse_enter(cpu);
	vec_put(cpu, i->rm, shift_bytes(vec_get(cpu, i->rm), i->imm > 15 ? -16 : -(int)i->imm));
	return x86_next(cpu, i);
}

/* --- shuffles: `imm` picks --- */

#define SHUFFLE(name, body)                                                                                            \
	static inline union vec name##_do(union vec a, union vec b, unsigned imm)                                      \
	{                                                                                                              \
		union vec r = b;                                                                                       \
		body;                                                                                                  \
		return r;                                                                                              \
	}                                                                                                              \
	HANDLER(name##_x)                                                                                              \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		vec_put(cpu, i->reg, name##_do(vec_get(cpu, i->reg), vec_get(cpu, i->rm), (unsigned)i->imm));          \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_m)                                                                                              \
	{                                                                                                              \
		x86_sse_enter(cpu);                                                                                    \
		vec_put(cpu, i->reg, name##_do(vec_get(cpu, i->reg), vec_load(cpu, i), (unsigned)i->imm));             \
		return x86_next(cpu, i);                                                                               \
	}
SHUFFLE(pshufd, LANES(4, d, b.d[imm >> 2 * k & 3]))
SHUFFLE(pshuflw, LANES(4, w, b.w[imm >> 2 * k & 3]))
SHUFFLE(pshufhw, for (unsigned k = 0; k < 4; k++) r.w[4 + k] = b.w[4 + (imm >> 2 * k & 3)])
SHUFFLE(shufps, LANES(4, d, k < 2 ? a.d[imm >> 2 * k & 3] : b.d[imm >> 2 * k & 3]))
SHUFFLE(shufpd, (r.q[0] = a.q[imm & 1], r.q[1] = b.q[imm >> 1 & 1]))

HANDLER(pinsrw_x)
{
	union vec v;

	x86_sse_enter(cpu);
	v = vec_get(cpu, i->reg);
	v.w[i->imm & 7] = (uint16_t)cpu->s.gpr[i->rm];
	vec_put(cpu, i->reg, v);
	return x86_next(cpu, i);
}

HANDLER(pinsrw_m)
{
	union vec v;
	uint16_t w;

	x86_sse_enter(cpu);
	w = x86_ldm16(cpu, i);
	v = vec_get(cpu, i->reg);
	v.w[i->imm & 7] = w;
	vec_put(cpu, i->reg, v);
	return x86_next(cpu, i);
}

HANDLER(pextrw)
{
	x86_sse_enter(cpu);
	cpu->s.gpr[i->reg] = vec_get(cpu, i->rm).w[i->imm & 7];
	return x86_next(cpu, i);
}

HANDLER(pmovmskb)
{
	union vec v;
	uint32_t m = 0;

	x86_sse_enter(cpu);
	v = vec_get(cpu, i->rm);
	for (unsigned k = 0; k < 16; k++)
		m |= (uint32_t)(v.b[k] >> 7) << k;
	cpu->s.gpr[i->reg] = m;
	return x86_next(cpu, i);
}

HANDLER(movmskps)
{
	union vec v;

	x86_sse_enter(cpu);
	v = vec_get(cpu, i->rm);
	cpu->s.gpr[i->reg] = v.d[0] >> 31 | v.d[1] >> 31 << 1 | v.d[2] >> 31 << 2 | v.d[3] >> 31 << 3;
	return x86_next(cpu, i);
}

HANDLER(movmskpd)
{
	union vec v;

	x86_sse_enter(cpu);
	v = vec_get(cpu, i->rm);
	cpu->s.gpr[i->reg] = v.q[0] >> 63 | v.q[1] >> 63 << 1;
	return x86_next(cpu, i);
}

/* Byte by byte where the mask's sign bit is set, to DS:rDI. */
HANDLER(maskmovdqu)
{
	union vec v, m;
	uint64_t at = cpu->s.gpr[X86_RDI] << i->ashift >> i->ashift;
	uint32_t mask = 0;

	x86_sse_enter(cpu);
	v = vec_get(cpu, i->reg);
	m = vec_get(cpu, i->rm);
	for (unsigned k = 0; k < 16; k++)
		mask |= (uint32_t)(m.b[k] >> 7) << k;
	x86_store_masked(cpu, i->seg, at, v.b, 16, mask);
	return x86_next(cpu, i);
}

/* --- rows --- */

#define ROW(name, opcode, ...)                                                                                         \
	{ X86_MAP_0F, opcode, 1,	   X86_PFX_66,	      X86_MOD_ANY,	 0,                                    \
	  0,	      0,      X86_D_IGN66, X86_ALL(name##_x), X86_ALL(name##_m), #name },
#define UNPACK_ROWS(name, low, high, lane, n) ROW(punpckl##name, low) ROW(punpckh##name, high)
#define SHIFT_ROW(name, opcode, ext)                                                                                   \
	{ X86_MAP_0F, opcode,	  1,	       X86_PFX_66,	  X86_MOD_REG, 1 + ext,                                \
	  0,	      X86_IMM_U8, X86_D_IGN66, X86_ALL(name##_i), {},	       #name },
/* Bitwise logic under its floating-point names. */
#define LOGIC_ROWS(opcode, name, op)                                                                                   \
	{ X86_MAP_0F, opcode, 1,	   X86_PFX_NONE,    X86_MOD_ANY,     0,                                        \
	  0,	      0,      X86_D_IGN66, X86_ALL(op##_x), X86_ALL(op##_m), name "ps" },                              \
	{                                                                                                              \
		X86_MAP_0F, opcode, 1, X86_PFX_66, X86_MOD_ANY, 0, 0, 0, X86_D_IGN66, X86_ALL(op##_x),                 \
			X86_ALL(op##_m), name "pd"                                                                     \
	}
#define IMM_ROW(opcode, pfx, name)                                                                                     \
	{                                                                                                              \
		X86_MAP_0F, opcode, 1, pfx, X86_MOD_ANY, 0, 0, X86_IMM_U8, X86_D_IGN66, X86_ALL(name##_x),             \
			X86_ALL(name##_m), #name                                                                       \
	}
#define REG_ROW(opcode, pfx, imm, name)                                                                                \
	{                                                                                                              \
		X86_MAP_0F, opcode, 1, pfx, X86_MOD_REG, 0, 0, imm, X86_D_IGN66, X86_ALL(name), {}, #name              \
	}

static const struct x86_opdef rows[] = {
	VEC_OPS(ROW) VEC_PACKS(ROW) VEC_UNPACKS(UNPACK_ROWS) ROW(punpcklqdq, 0x6c) ROW(punpckhqdq, 0x6d)
		IMM_SHIFTS(SHIFT_ROW){ X86_MAP_0F,
				       0x73,
				       1,
				       X86_PFX_66,
				       X86_MOD_REG,
				       1 + 3,
				       0,
				       X86_IMM_U8,
				       X86_D_IGN66,
				       X86_ALL(psrldq),
				       {},
				       "psrldq" },
	{ X86_MAP_0F,
	  0x73,
	  1,
	  X86_PFX_66,
	  X86_MOD_REG,
	  1 + 7,
	  0,
	  X86_IMM_U8,
	  X86_D_IGN66,
	  X86_ALL(pslldq),
	  {},
	  "pslldq" },
	LOGIC_ROWS(0x54, "and", pand),
	LOGIC_ROWS(0x55, "andn", pandn),
	LOGIC_ROWS(0x56, "or", por),
	LOGIC_ROWS(0x57, "xor", pxor),
	IMM_ROW(0x70, X86_PFX_66, pshufd),
	IMM_ROW(0x70, X86_PFX_F2, pshuflw),
	IMM_ROW(0x70, X86_PFX_F3, pshufhw),
	IMM_ROW(0xc6, X86_PFX_NONE, shufps),
	IMM_ROW(0xc6, X86_PFX_66, shufpd),
	IMM_ROW(0xc4, X86_PFX_66, pinsrw),
	REG_ROW(0xc5, X86_PFX_66, X86_IMM_U8, pextrw),
	REG_ROW(0xd7, X86_PFX_66, 0, pmovmskb),
	REG_ROW(0x50, X86_PFX_NONE, 0, movmskps),
	REG_ROW(0x50, X86_PFX_66, 0, movmskpd),
	REG_ROW(0xf7, X86_PFX_66, 0, maskmovdqu),
	{ X86_MAP_0F, 0x14, 1, X86_PFX_NONE, X86_MOD_ANY, 0, 0, 0, X86_D_IGN66, X86_ALL(punpckldq_x),
	  X86_ALL(punpckldq_m), "unpcklps" },
	{ X86_MAP_0F, 0x15, 1, X86_PFX_NONE, X86_MOD_ANY, 0, 0, 0, X86_D_IGN66, X86_ALL(punpckhdq_x),
	  X86_ALL(punpckhdq_m), "unpckhps" },
	{ X86_MAP_0F, 0x14, 1, X86_PFX_66, X86_MOD_ANY, 0, 0, 0, X86_D_IGN66, X86_ALL(punpcklqdq_x),
	  X86_ALL(punpcklqdq_m), "unpcklpd" },
	{ X86_MAP_0F, 0x15, 1, X86_PFX_66, X86_MOD_ANY, 0, 0, 0, X86_D_IGN66, X86_ALL(punpckhqdq_x),
	  X86_ALL(punpckhqdq_m), "unpckhpd" },
};
X86_DEFS(x86_defs_sse_int, rows);
