/* Integer arithmetic and logic: ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT. */
#include "cpu/x86/template.h"

/* Each operation: (flags, a, b, carry in) -> result. */
#define ALU_FN(bits, name, expr, set)                                                                                  \
	static inline uint##bits##_t name##bits(struct x86_lazy *f, uint##bits##_t a, uint##bits##_t b, bool cin)      \
	{                                                                                                              \
		uint##bits##_t r = (uint##bits##_t)(expr);                                                             \
		set;                                                                                                   \
		return r;                                                                                              \
	}
#define ALU_FNS(bits)                                                                                                  \
	ALU_FN(bits, add, a + b, x86_flags_add##bits(f, a, b, r))                                                      \
	ALU_FN(bits, or, a | b, x86_flags_logic##bits(f, r))                                                           \
	ALU_FN(bits, adc, a + b + cin, x86_flags_add##bits(f, a, b, r))                                                \
	ALU_FN(bits, sbb, a - b - cin, x86_flags_sub##bits(f, a, b, r))                                                \
	ALU_FN(bits, and, a &b, x86_flags_logic##bits(f, r))                                                           \
	ALU_FN(bits, sub, a - b, x86_flags_sub##bits(f, a, b, r))                                                      \
	ALU_FN(bits, xor, a ^ b, x86_flags_logic##bits(f, r))                                                          \
	ALU_FN(bits, not, ~a, (void)f)                                                                                 \
	ALU_FN(bits, neg, -a, x86_flags_sub##bits(f, 0, a, r))                                                         \
	ALU_FN(bits, inc, a + 1, x86_flags_add##bits(f, a, 1, r); x86_lazy_set_cf(f, cin))                             \
	ALU_FN(bits, dec, a - 1, x86_flags_sub##bits(f, a, 1, r); x86_lazy_set_cf(f, cin))
ALU_FNS(8)
ALU_FNS(16)
ALU_FNS(32)
ALU_FNS(64)

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

/* Operations with two operands that write the first. */
#define ALU2(name, bits)                                                                                               \
	HANDLER(name##_er##bits) /* register, register */                                                              \
	{                                                                                                              \
		x86_set##bits(cpu, i->rm,                                                                              \
			      name##bits(&cpu->lazy, x86_get##bits(cpu, i->rm), x86_get##bits(cpu, i->reg),            \
					 x86_lazy_cf(&cpu->lazy)));                                                    \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_mr##bits) /* memory, register */                                                                \
	{                                                                                                              \
		bool cin = x86_lazy_cf(&cpu->lazy);                                                                    \
		uint##bits##_t b = x86_get##bits(cpu, i->reg);                                                         \
		X86_UPDATE_MEM(bits, cpu, i, old, name##bits(&cpu->lazy, old, b, cin));                                \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_re##bits) /* register, register, the other way round */                                         \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg,                                                                             \
			      name##bits(&cpu->lazy, x86_get##bits(cpu, i->reg), x86_get##bits(cpu, i->rm),            \
					 x86_lazy_cf(&cpu->lazy)));                                                    \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_rm##bits) /* register, memory */                                                                \
	{                                                                                                              \
		uint##bits##_t b = x86_ldm##bits(cpu, i);                                                              \
		x86_set##bits(cpu, i->reg,                                                                             \
			      name##bits(&cpu->lazy, x86_get##bits(cpu, i->reg), b, x86_lazy_cf(&cpu->lazy)));         \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_ei##bits) /* register, immediate */                                                             \
	{                                                                                                              \
		x86_set##bits(cpu, i->rm,                                                                              \
			      name##bits(&cpu->lazy, x86_get##bits(cpu, i->rm), (uint##bits##_t)i->imm,                \
					 x86_lazy_cf(&cpu->lazy)));                                                    \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_mi##bits) /* memory, immediate */                                                               \
	{                                                                                                              \
		bool cin = x86_lazy_cf(&cpu->lazy);                                                                    \
		X86_UPDATE_MEM(bits, cpu, i, old, name##bits(&cpu->lazy, old, (uint##bits##_t)i->imm, cin));           \
		return x86_next(cpu, i);                                                                               \
	}

/* Two operands, only flags: CMP (sub) and TEST (and). */
#define ALU2_FLAGS(name, op, bits)                                                                                     \
	HANDLER(name##_er##bits)                                                                                       \
	{                                                                                                              \
		op##bits(&cpu->lazy, x86_get##bits(cpu, i->rm), x86_get##bits(cpu, i->reg), false);                    \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_mr##bits)                                                                                       \
	{                                                                                                              \
		op##bits(&cpu->lazy, x86_ldm##bits(cpu, i), x86_get##bits(cpu, i->reg), false);                        \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_ei##bits)                                                                                       \
	{                                                                                                              \
		op##bits(&cpu->lazy, x86_get##bits(cpu, i->rm), (uint##bits##_t)i->imm, false);                        \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_mi##bits)                                                                                       \
	{                                                                                                              \
		op##bits(&cpu->lazy, x86_ldm##bits(cpu, i), (uint##bits##_t)i->imm, false);                            \
		return x86_next(cpu, i);                                                                               \
	}
#define CMP_BACK(bits)                                                                                                 \
	HANDLER(cmp_re##bits)                                                                                          \
	{                                                                                                              \
		sub##bits(&cpu->lazy, x86_get##bits(cpu, i->reg), x86_get##bits(cpu, i->rm), false);                   \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(cmp_rm##bits)                                                                                          \
	{                                                                                                              \
		uint##bits##_t b = x86_ldm##bits(cpu, i);                                                              \
		sub##bits(&cpu->lazy, x86_get##bits(cpu, i->reg), b, false);                                           \
		return x86_next(cpu, i);                                                                               \
	}

#define ALU1(name, bits)                                                                                               \
	HANDLER(name##_e##bits)                                                                                        \
	{                                                                                                              \
		x86_set##bits(cpu, i->rm,                                                                              \
			      name##bits(&cpu->lazy, x86_get##bits(cpu, i->rm), 0, x86_lazy_cf(&cpu->lazy)));          \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_m##bits)                                                                                        \
	{                                                                                                              \
		bool cin = x86_lazy_cf(&cpu->lazy);                                                                    \
		X86_UPDATE_MEM(bits, cpu, i, old, name##bits(&cpu->lazy, old, 0, cin));                                \
		return x86_next(cpu, i);                                                                               \
	}

#define SIZE(bits)                                                                                                     \
	ALU2(add, bits)                                                                                                \
	ALU2(or, bits)                                                                                                 \
	ALU2(adc, bits)                                                                                                \
	ALU2(sbb, bits)                                                                                                \
	ALU2(and, bits)                                                                                                \
	ALU2(sub, bits)                                                                                                \
	ALU2(xor, bits) ALU2_FLAGS(cmp, sub, bits) ALU2_FLAGS(test, and, bits) CMP_BACK(bits) ALU1(not, bits)          \
		ALU1(neg, bits) ALU1(inc, bits) ALU1(dec, bits)
SIZE(8)
SIZE(16)
SIZE(32)
SIZE(64)

#define V(name)                                                                                                        \
	{                                                                                                              \
		name##16, name##32, name##64                                                                           \
	}
#define B(name) X86_ALL(name##8)
#define BOTH	(X86_D_BYTE_REG | X86_D_BYTE_RM)

/* The eight rows of an ALU operation at opcode 8 * n, and its places in groups 80-83. `lock`: not for CMP. */
#define ALU_ROWS(n, name, lock)                                                                                        \
	{ X86_MAP_1, 8 * n + 0, 1, 0, X86_MOD_ANY, 0, 0, 0, BOTH | lock, B(name##_er), B(name##_mr), #name },          \
		{ X86_MAP_1, 8 * n + 1, 1, 0, X86_MOD_ANY, 0, 0, 0, lock, V(name##_er), V(name##_mr), #name },         \
		{ X86_MAP_1, 8 * n + 2, 1, 0, X86_MOD_ANY, 0, 0, 0, BOTH, B(name##_re), B(name##_rm), #name },         \
		{ X86_MAP_1, 8 * n + 3, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(name##_re), V(name##_rm), #name },            \
		{ X86_MAP_1, 8 * n + 4, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_8, X86_D_BYTE_RM, B(name##_ei), {}, #name }, \
		{ X86_MAP_1, 8 * n + 5, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_Z, 0, V(name##_ei), {}, #name },             \
		{ X86_MAP_1,	0x80,	      1,    0, X86_MOD_ANY, 1 + n, 0, X86_IMM_8, X86_D_BYTE_RM | lock,         \
		  B(name##_ei), B(name##_mi), #name },                                                                 \
		{ X86_MAP_1, 0x81, 1, 0, X86_MOD_ANY, 1 + n, 0, X86_IMM_Z, lock, V(name##_ei), V(name##_mi), #name },  \
		{ X86_MAP_1,                                                                                           \
		  0x82,                                                                                                \
		  1,                                                                                                   \
		  0,                                                                                                   \
		  X86_MOD_ANY,                                                                                         \
		  1 + n,                                                                                               \
		  0,                                                                                                   \
		  X86_IMM_8,                                                                                           \
		  X86_D_BYTE_RM | X86_D_NO64 | lock,                                                                   \
		  B(name##_ei),                                                                                        \
		  B(name##_mi),                                                                                        \
		  #name },                                                                                             \
	{                                                                                                              \
		X86_MAP_1, 0x83, 1, 0, X86_MOD_ANY, 1 + n, 0, X86_IMM_8, lock, V(name##_ei), V(name##_mi), #name       \
	}

/* TEST in group 3 has two encodings. */
#define TEST_ROWS(ext)                                                                                                 \
	{ X86_MAP_1, 0xf6, 1, 0, X86_MOD_ANY, 1 + ext, 0, X86_IMM_8, X86_D_BYTE_RM, B(test_ei), B(test_mi), "test" },  \
	{                                                                                                              \
		X86_MAP_1, 0xf7, 1, 0, X86_MOD_ANY, 1 + ext, 0, X86_IMM_Z, 0, V(test_ei), V(test_mi), "test"           \
	}

#define UNARY_ROWS(op, ext, name)                                                                                      \
	{                                                                                                              \
		X86_MAP_1,   op,	  1,	0, X86_MOD_ANY, 1 + ext, 0, 0, X86_D_BYTE_RM | X86_D_LOCK,             \
		B(name##_e), B(name##_m), #name                                                                        \
	},                                                                                                             \
	{                                                                                                              \
		X86_MAP_1, op + 1, 1, 0, X86_MOD_ANY, 1 + ext, 0, 0, X86_D_LOCK, V(name##_e), V(name##_m), #name       \
	}

static const struct x86_opdef rows[] = {
	ALU_ROWS(0, add, X86_D_LOCK),
	ALU_ROWS(1, or, X86_D_LOCK),
	ALU_ROWS(2, adc, X86_D_LOCK),
	ALU_ROWS(3, sbb, X86_D_LOCK),
	ALU_ROWS(4, and, X86_D_LOCK),
	ALU_ROWS(5, sub, X86_D_LOCK),
	ALU_ROWS(6, xor, X86_D_LOCK),
	ALU_ROWS(7, cmp, 0),
	{ X86_MAP_1, 0x84, 1, 0, X86_MOD_ANY, 0, 0, 0, BOTH, B(test_er), B(test_mr), "test" },
	{ X86_MAP_1, 0x85, 1, 0, X86_MOD_ANY, 0, 0, 0, 0, V(test_er), V(test_mr), "test" },
	{ X86_MAP_1, 0xa8, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_8, X86_D_BYTE_RM, B(test_ei), {}, "test" },
	{ X86_MAP_1, 0xa9, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_Z, 0, V(test_ei), {}, "test" },
	TEST_ROWS(0),
	TEST_ROWS(1),
	UNARY_ROWS(0xf6, 2, not ),
	UNARY_ROWS(0xf6, 3, neg),
	UNARY_ROWS(0xfe, 0, inc),
	UNARY_ROWS(0xfe, 1, dec),
	/* INC and DEC r16/r32: REX prefixes in 64-bit mode. */
	{ X86_MAP_1, 0x40, 8, 0, X86_MOD_NONE, 0, 0, 0, X86_D_OPREG | X86_D_NO64, V(inc_e), {}, "inc" },
	{ X86_MAP_1, 0x48, 8, 0, X86_MOD_NONE, 0, 0, 0, X86_D_OPREG | X86_D_NO64, V(dec_e), {}, "dec" },
};
X86_DEFS(x86_defs_alu, rows);
