/* MUL IMUL DIV IDIV, and the sign extensions of the accumulator. */
#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)
#define V(name)                                                                                                        \
	{                                                                                                              \
		name##16, name##32, name##64                                                                           \
	}

/*
 * Undefined flags: a multiplication leaves all but CF and OF as they were, as AMD's processors do; a division leaves
 * all of them (there it would set AF and clear SF, ZF and PF).
 */
#define MUL_FNS(bits, swide, uwide)                                                                                    \
	static void mul##bits(struct x86_cpu *cpu, uint##bits##_t b)                                                   \
	{                                                                                                              \
		uwide r = (uwide)x86_get##bits(cpu, X86_RAX) * b;                                                      \
		uint##bits##_t hi = (uint##bits##_t)(r >> bits);                                                       \
		x86_set##bits(cpu, X86_RAX, (uint##bits##_t)r);                                                        \
		x86_set##bits(cpu, X86_RDX, hi);                                                                       \
		x86_lazy_set_both(&cpu->lazy, hi);                                                                     \
	}                                                                                                              \
	static void imul##bits(struct x86_cpu *cpu, uint##bits##_t b)                                                  \
	{                                                                                                              \
		swide r = (swide)(int##bits##_t)x86_get##bits(cpu, X86_RAX) * (int##bits##_t)b;                        \
		bool over = r != (int##bits##_t)r;                                                                     \
		x86_set##bits(cpu, X86_RAX, (uint##bits##_t)r);                                                        \
		x86_set##bits(cpu, X86_RDX, (uint##bits##_t)((uwide)r >> bits));                                       \
		x86_lazy_set_both(&cpu->lazy, over);                                                                   \
	}                                                                                                              \
	static uint##bits##_t imul2_##bits(struct x86_cpu *cpu, uint##bits##_t a, uint##bits##_t b)                    \
	{                                                                                                              \
		swide r = (swide)(int##bits##_t)a * (int##bits##_t)b;                                                  \
		bool over = r != (int##bits##_t)r;                                                                     \
		x86_lazy_set_both(&cpu->lazy, over);                                                                   \
		return (uint##bits##_t)r;                                                                              \
	}                                                                                                              \
	static void div##bits(struct x86_cpu *cpu, uint##bits##_t b)                                                   \
	{                                                                                                              \
		uwide a = (uwide)x86_get##bits(cpu, X86_RDX) << bits | x86_get##bits(cpu, X86_RAX);                    \
		if (!b || x86_get##bits(cpu, X86_RDX) >= b)                                                            \
			x86_raise(cpu, X86_DE, 0);                                                                     \
		x86_set##bits(cpu, X86_RAX, (uint##bits##_t)(a / b));                                                  \
		x86_set##bits(cpu, X86_RDX, (uint##bits##_t)(a % b));                                                  \
	}                                                                                                              \
	static void idiv##bits(struct x86_cpu *cpu, uint##bits##_t b)                                                  \
	{                                                                                                              \
		uwide ua = (uwide)x86_get##bits(cpu, X86_RDX) << bits | x86_get##bits(cpu, X86_RAX);                   \
		bool neg_a = ua >> (2 * bits - 1), neg_b = b >> (bits - 1);                                            \
		uwide mag = neg_a ? -ua : ua, q, r;                                                                    \
		uint##bits##_t d = (uint##bits##_t)(neg_b ? -b : b);                                                   \
		if (!d || (uint##bits##_t)(mag >> bits) >= d)                                                          \
			x86_raise(cpu, X86_DE, 0);                                                                     \
		q = mag / d;                                                                                           \
		r = mag % d;                                                                                           \
		if (q > ((uwide)1 << (bits - 1)) - (neg_a == neg_b))                                                   \
			x86_raise(cpu, X86_DE, 0);                                                                     \
		x86_set##bits(cpu, X86_RAX, (uint##bits##_t)(neg_a != neg_b ? -q : q));                                \
		x86_set##bits(cpu, X86_RDX, (uint##bits##_t)(neg_a ? -r : r));                                         \
	}
MUL_FNS(16, int32_t, uint32_t)
MUL_FNS(32, int64_t, uint64_t)
MUL_FNS(64, __int128, unsigned __int128)

/* The byte forms use AX instead of DX:AX. */
static void mul8(struct x86_cpu *cpu, uint8_t b)
{
	uint16_t r = (uint16_t)(x86_get8(cpu, X86_RAX) * b);

	x86_set16(cpu, X86_RAX, r);
	x86_lazy_set_both(&cpu->lazy, r >> 8);
}

static void imul8(struct x86_cpu *cpu, uint8_t b)
{
	int16_t r = (int16_t)((int8_t)x86_get8(cpu, X86_RAX) * (int8_t)b);
	bool over = r != (int8_t)r;

	x86_set16(cpu, X86_RAX, (uint16_t)r);
	x86_lazy_set_both(&cpu->lazy, over);
}

static void div8(struct x86_cpu *cpu, uint8_t b)
{
	uint16_t a = x86_get16(cpu, X86_RAX);

	if (!b || a / b > 0xff)
		x86_raise(cpu, X86_DE, 0);
	x86_set16(cpu, X86_RAX, (uint16_t)(a % b << 8 | a / b));
}

static void idiv8(struct x86_cpu *cpu, uint8_t b)
{
	int a = (int16_t)x86_get16(cpu, X86_RAX), d = (int8_t)b;

	if (!d || a / d > 127 || a / d < -128)
		x86_raise(cpu, X86_DE, 0);
	x86_set16(cpu, X86_RAX, (uint16_t)((uint8_t)(a % d) << 8 | (uint8_t)(a / d)));
}

#define GROUP3(name, bits)                                                                                             \
	HANDLER(name##_e##bits)                                                                                        \
	{                                                                                                              \
		name##bits(cpu, x86_get##bits(cpu, i->rm));                                                            \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_m##bits)                                                                                        \
	{                                                                                                              \
		name##bits(cpu, x86_ldm##bits(cpu, i));                                                                \
		return x86_next(cpu, i);                                                                               \
	}
#define GROUP3_SIZE(bits) GROUP3(mul, bits) GROUP3(imul, bits) GROUP3(div, bits) GROUP3(idiv, bits)
GROUP3_SIZE(8)
GROUP3_SIZE(16)
GROUP3_SIZE(32)
GROUP3_SIZE(64)

#define IMUL2(bits)                                                                                                    \
	HANDLER(imul2_e##bits)                                                                                         \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg, imul2_##bits(cpu, x86_get##bits(cpu, i->reg), x86_get##bits(cpu, i->rm)));  \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(imul2_m##bits)                                                                                         \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg, imul2_##bits(cpu, x86_get##bits(cpu, i->reg), x86_ldm##bits(cpu, i)));      \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(imul3_e##bits)                                                                                         \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg, imul2_##bits(cpu, x86_get##bits(cpu, i->rm), (uint##bits##_t)i->imm));      \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(imul3_m##bits)                                                                                         \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg, imul2_##bits(cpu, x86_ldm##bits(cpu, i), (uint##bits##_t)i->imm));          \
		return x86_next(cpu, i);                                                                               \
	}
IMUL2(16)
IMUL2(32)
IMUL2(64)

HANDLER(cbw16)
{
	x86_set16(cpu, X86_RAX, (uint16_t)(int8_t)x86_get8(cpu, X86_RAX));
	return x86_next(cpu, i);
}

HANDLER(cbw32)
{
	x86_set32(cpu, X86_RAX, (uint32_t)(int16_t)x86_get16(cpu, X86_RAX));
	return x86_next(cpu, i);
}

HANDLER(cbw64)
{
	x86_set64(cpu, X86_RAX, (uint64_t)(int32_t)x86_get32(cpu, X86_RAX));
	return x86_next(cpu, i);
}

HANDLER(cwd16)
{
	x86_set16(cpu, X86_RDX, (uint16_t)((int16_t)x86_get16(cpu, X86_RAX) >> 15));
	return x86_next(cpu, i);
}

HANDLER(cwd32)
{
	x86_set32(cpu, X86_RDX, (uint32_t)((int32_t)x86_get32(cpu, X86_RAX) >> 31));
	return x86_next(cpu, i);
}

HANDLER(cwd64)
{
	x86_set64(cpu, X86_RDX, (uint64_t)((int64_t)x86_get64(cpu, X86_RAX) >> 63));
	return x86_next(cpu, i);
}

#define GROUP3_ROWS(ext, name)                                                                                         \
	{ X86_MAP_1,	      0xf6, 1, 0, X86_MOD_ANY, 1 + ext, 0, 0, X86_D_BYTE_RM, X86_ALL(name##_e8),               \
	  X86_ALL(name##_m8), #name },                                                                                 \
	{                                                                                                              \
		X86_MAP_1, 0xf7, 1, 0, X86_MOD_ANY, 1 + ext, 0, 0, 0, V(name##_e), V(name##_m), #name                  \
	}

static const struct x86_opdef rows[] = {
	GROUP3_ROWS(4, mul),
	GROUP3_ROWS(5, imul),
	GROUP3_ROWS(6, div),
	GROUP3_ROWS(7, idiv),
	{ X86_MAP_0F, 0xaf, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(imul2_e), V(imul2_m), "imul" },
	{ X86_MAP_1, 0x69, 1, 0, X86_MOD_ANY, 0, 0, X86_IMM_Z, 0, V(imul3_e), V(imul3_m), "imul" },
	{ X86_MAP_1, 0x6b, 1, 0, X86_MOD_ANY, 0, 0, X86_IMM_8, 0, V(imul3_e), V(imul3_m), "imul" },
	{ X86_MAP_1, 0x98, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, V(cbw), {}, "cbw" },
	{ X86_MAP_1, 0x99, 1, 0, X86_MOD_NONE, 0, 0, 0, 0, V(cwd), {}, "cwd" },
};
X86_DEFS(x86_defs_muldiv, rows);
