/*
 * Shifts and rotates: ROL ROR RCL RCR SHL SHR SAR, SHLD SHRD. A count of 0 leaves the flags alone;
 * OF after counts other than 1 is what current processors give, AF after shifts what AMD's do.
 */
#include "cpu/x86/template.h"

/*
 * Functions return the result; `n` is the masked count and not 0 (RCL and RCR: not 0 after the modulo by
 * the width plus one). `f` holds the flags before.
 */
#define SHIFTS(bits)                                                                                                   \
	static inline uint##bits##_t shl##bits(struct x86_lazy *f, uint##bits##_t a, unsigned n)                       \
	{                                                                                                              \
		uint##bits##_t r = n < bits ? (uint##bits##_t)(a << n) : 0;                                            \
		bool cf = n <= bits && (a >> (bits - n) & 1);                                                          \
		x86_flags_res##bits(f, r, cf, cf ^ (r >> (bits - 1) & 1), true);                                       \
		return r;                                                                                              \
	}                                                                                                              \
	static inline uint##bits##_t shr##bits(struct x86_lazy *f, uint##bits##_t a, unsigned n)                       \
	{                                                                                                              \
		uint##bits##_t r = n < bits ? a >> n : 0;                                                              \
		bool cf = n <= bits && (a >> (n - 1) & 1);                                                             \
		x86_flags_res##bits(f, r, cf, (r << 1 ^ r) >> (bits - 1) & 1, true);                                   \
		return r;                                                                                              \
	}                                                                                                              \
	static inline uint##bits##_t sar##bits(struct x86_lazy *f, uint##bits##_t a, unsigned n)                       \
	{                                                                                                              \
		unsigned most = n < bits ? n : bits - 1;                                                               \
		uint##bits##_t r = (uint##bits##_t)((int##bits##_t)a >> most);                                         \
		bool cf = (int##bits##_t)a >> (n - 1 < bits ? n - 1 : bits - 1) & 1;                                   \
		x86_flags_res##bits(f, r, cf, false, true);                                                            \
		return r;                                                                                              \
	}                                                                                                              \
	static inline void rotated##bits(struct x86_lazy *f, bool cf, bool of)                                         \
	{                                                                                                              \
		f->aux &= ~(X86_AUX_CF | X86_AUX_PO);                                                                  \
		f->aux |= (cf ? X86_AUX_CF : 0) | (cf != of ? X86_AUX_PO : 0);                                         \
	}                                                                                                              \
	static inline uint##bits##_t rol##bits(struct x86_lazy *f, uint##bits##_t a, unsigned n)                       \
	{                                                                                                              \
		unsigned k = n & (bits - 1);                                                                           \
		uint##bits##_t r = k ? (uint##bits##_t)(a << k | a >> (bits - k)) : a;                                 \
		rotated##bits(f, r & 1, (r ^ r >> (bits - 1)) & 1);                                                    \
		return r;                                                                                              \
	}                                                                                                              \
	static inline uint##bits##_t ror##bits(struct x86_lazy *f, uint##bits##_t a, unsigned n)                       \
	{                                                                                                              \
		unsigned k = n & (bits - 1);                                                                           \
		uint##bits##_t r = k ? (uint##bits##_t)(a >> k | a << (bits - k)) : a;                                 \
		rotated##bits(f, r >> (bits - 1), (r >> (bits - 1) ^ r >> (bits - 2)) & 1);                            \
		return r;                                                                                              \
	}                                                                                                              \
	static inline uint##bits##_t rcl##bits(struct x86_lazy *f, uint##bits##_t a, unsigned n)                       \
	{                                                                                                              \
		bool cf = x86_lazy_cf(f);                                                                              \
		for (unsigned k = n % (bits + 1); k; k--) {                                                            \
			bool out = a >> (bits - 1);                                                                    \
			a = (uint##bits##_t)(a << 1 | cf);                                                             \
			cf = out;                                                                                      \
		}                                                                                                      \
		rotated##bits(f, cf, cf ^ (a >> (bits - 1)));                                                          \
		return a;                                                                                              \
	}                                                                                                              \
	static inline uint##bits##_t rcr##bits(struct x86_lazy *f, uint##bits##_t a, unsigned n)                       \
	{                                                                                                              \
		bool cf = x86_lazy_cf(f);                                                                              \
		for (unsigned k = n % (bits + 1); k; k--) {                                                            \
			bool out = a & 1;                                                                              \
			a = (uint##bits##_t)(a >> 1 | (uint##bits##_t)cf << (bits - 1));                               \
			cf = out;                                                                                      \
		}                                                                                                      \
		rotated##bits(f, cf, (a >> (bits - 1) ^ a >> (bits - 2)) & 1);                                         \
		return a;                                                                                              \
	}
SHIFTS(8)
SHIFTS(16)
SHIFTS(32)
SHIFTS(64)

#define HANDLER(name)	 static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)
#define COUNT_MASK(bits) (bits == 64 ? 63 : 31)

/* `suffix` says where the count comes from. The memory operand is checked for writing even if the count is 0. */
#define SHIFT_BY(name, bits, suffix, count)                                                                            \
	HANDLER(name##_e##suffix##bits)                                                                                \
	{                                                                                                              \
		unsigned n = (count)&COUNT_MASK(bits);                                                                 \
		uint##bits##_t a = x86_get##bits(cpu, i->rm);                                                          \
		x86_set##bits(cpu, i->rm, n ? name##bits(&cpu->lazy, a, n) : a);                                       \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_m##suffix##bits)                                                                                \
	{                                                                                                              \
		unsigned n = (count)&COUNT_MASK(bits);                                                                 \
		X86_UPDATE_MEM(bits, cpu, i, old, n ? name##bits(&cpu->lazy, old, n) : old);                           \
		return x86_next(cpu, i);                                                                               \
	}
#define SHIFT(name, bits)                                                                                              \
	SHIFT_BY(name, bits, i, (unsigned)i->imm)                                                                      \
	SHIFT_BY(name, bits, c, (unsigned)cpu->s.gpr[X86_RCX])                                                         \
	SHIFT_BY(name, bits, 1, 1u)
#define SIZE(bits)                                                                                                     \
	SHIFT(rol, bits)                                                                                               \
	SHIFT(ror, bits) SHIFT(rcl, bits) SHIFT(rcr, bits) SHIFT(shl, bits) SHIFT(shr, bits) SHIFT(sar, bits)
SIZE(8)
SIZE(16)
SIZE(32)
SIZE(64)

/* Double shifts: 16-bit counts above 16 are undefined and take bits from the operands in turn. */
#define DOUBLE_FN(bits, wide)                                                                                          \
	static inline uint##bits##_t shld##bits(struct x86_lazy *f, uint##bits##_t a, uint##bits##_t b, unsigned n)    \
	{                                                                                                              \
		wide v = (wide)a << bits | b;                                                                          \
		uint##bits##_t r = n <= bits ? (uint##bits##_t)(v << n >> bits)                                        \
					     : (uint##bits##_t)(b << (n - bits) | a >> (2 * bits - n));                \
		bool cf = n <= bits ? a >> (bits - n) & 1 : b >> (2 * bits - n) & 1;                                   \
		x86_flags_res##bits(f, r, cf, cf ^ (r >> (bits - 1) & 1), true);                                       \
		return r;                                                                                              \
	}                                                                                                              \
	static inline uint##bits##_t shrd##bits(struct x86_lazy *f, uint##bits##_t a, uint##bits##_t b, unsigned n)    \
	{                                                                                                              \
		wide v = (wide)b << bits | a;                                                                          \
		uint##bits##_t r = n <= bits ? (uint##bits##_t)(v >> n)                                                \
					     : (uint##bits##_t)(b >> (n - bits) | a << (2 * bits - n));                \
		bool cf = n <= bits ? a >> (n - 1) & 1 : b >> (n - bits - 1) & 1;                                      \
		x86_flags_res##bits(f, r, cf, (r << 1 ^ r) >> (bits - 1) & 1, true);                                   \
		return r;                                                                                              \
	}
DOUBLE_FN(16, uint32_t)
DOUBLE_FN(32, uint64_t)
DOUBLE_FN(64, unsigned __int128)

#define DOUBLE_BY(name, bits, suffix, count)                                                                           \
	HANDLER(name##_e##suffix##bits)                                                                                \
	{                                                                                                              \
		unsigned n = (count)&COUNT_MASK(bits);                                                                 \
		uint##bits##_t a = x86_get##bits(cpu, i->rm), b = x86_get##bits(cpu, i->reg);                          \
		x86_set##bits(cpu, i->rm, n ? name##bits(&cpu->lazy, a, b, n) : a);                                    \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_m##suffix##bits)                                                                                \
	{                                                                                                              \
		unsigned n = (count)&COUNT_MASK(bits);                                                                 \
		uint##bits##_t b = x86_get##bits(cpu, i->reg);                                                         \
		X86_UPDATE_MEM(bits, cpu, i, old, n ? name##bits(&cpu->lazy, old, b, n) : old);                        \
		return x86_next(cpu, i);                                                                               \
	}
#define DOUBLE(bits)                                                                                                   \
	DOUBLE_BY(shld, bits, i, (unsigned)i->imm)                                                                     \
	DOUBLE_BY(shld, bits, c, (unsigned)cpu->s.gpr[X86_RCX])                                                        \
	DOUBLE_BY(shrd, bits, i, (unsigned)i->imm) DOUBLE_BY(shrd, bits, c, (unsigned)cpu->s.gpr[X86_RCX])
DOUBLE(16)
DOUBLE(32)
DOUBLE(64)

#define V(name)                                                                                                        \
	{                                                                                                              \
		name##16, name##32, name##64                                                                           \
	}
#define B(name) X86_ALL(name##8)
#define GROUP2(ext, name)                                                                                                \
	{                                                                                                                \
		X86_MAP_1,    0xc0,	    1,	  0, X86_MOD_ANY, 1 + ext, 0, X86_IMM_U8, X86_D_BYTE_RM,                 \
		B(name##_ei), B(name##_mi), #name                                                                        \
	},                                                                                                               \
		{ X86_MAP_1, 0xc1, 1, 0, X86_MOD_ANY, 1 + ext, 0, X86_IMM_U8, 0, V(name##_ei), V(name##_mi), #name },    \
		{ X86_MAP_1,	       0xd0, 1, 0, X86_MOD_ANY, 1 + ext, 0, 0, X86_D_BYTE_RM, X86_ALL(name##_e18),       \
		  X86_ALL(name##_m18), #name },                                                                          \
		{ X86_MAP_1, 0xd1, 1, 0, X86_MOD_ANY, 1 + ext, 0, 0, 0, V(name##_e1), V(name##_m1), #name },             \
		{ X86_MAP_1, 0xd2, 1, 0, X86_MOD_ANY, 1 + ext, 0, 0, X86_D_BYTE_RM, B(name##_ec), B(name##_mc), #name }, \
	{                                                                                                                \
		X86_MAP_1, 0xd3, 1, 0, X86_MOD_ANY, 1 + ext, 0, 0, 0, V(name##_ec), V(name##_mc), #name                  \
	}

static const struct x86_opdef rows[] = {
	GROUP2(0, rol),
	GROUP2(1, ror),
	GROUP2(2, rcl),
	GROUP2(3, rcr),
	GROUP2(4, shl),
	GROUP2(5, shr),
	GROUP2(6, shl), /* an alias that processors have always had */
	GROUP2(7, sar),
	{ X86_MAP_0F, 0xa4, 1, 0, X86_MOD_ANY, 0, 0, X86_IMM_U8, 0, V(shld_ei), V(shld_mi), "shld" },
	{ X86_MAP_0F, 0xa5, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(shld_ec), V(shld_mc), "shld" },
	{ X86_MAP_0F, 0xac, 1, 0, X86_MOD_ANY, 0, 0, X86_IMM_U8, 0, V(shrd_ei), V(shrd_mi), "shrd" },
	{ X86_MAP_0F, 0xad, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(shrd_ec), V(shrd_mc), "shrd" },
};
X86_DEFS(x86_defs_shift, rows);
