/*
 * Bit manipulation with general registers: BMI1, BMI2, ABM, ADX, and MOVBE, CRC32, POPCNT. SDM vol. 2.
 * Flags that an instruction leaves undefined are those of AMD's processors.
 */
#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

/* SF, ZF and PF of a result of `bits`, and CF and AF; OF is 0. */
static void set_flags(struct x86_cpu *cpu, uint64_t v, unsigned bits, bool cf, bool af)
{
	if (bits == 32)
		x86_flags_res32(&cpu->lazy, (uint32_t)v, cf, false, af);
	else
		x86_flags_res64(&cpu->lazy, v, cf, false, af);
}

/* The operand ModRM.rm. */
#define RM(bits) ((uint##bits##_t)(i->flags & X86_I_REG ? cpu->s.gpr[i->rm] : x86_ldm##bits(cpu, i)))

/* --- VEX: sizes 32 and 64 --- */

/* reg = f(vvvv: a, rm: b); `cf` and the value are expressions of a, b and n, the low byte of vvvv. */
#define VEX3(name, bits, value, flags)                                                                                 \
	HANDLER(name##bits)                                                                                            \
	{                                                                                                              \
		uint##bits##_t b = RM(bits), a = (uint##bits##_t)cpu->s.gpr[i->vreg], v;                               \
		const unsigned width = bits, n = (uint8_t)a;                                                           \
                                                                                                                       \
		(void)width;                                                                                           \
		(void)n;                                                                                               \
		v = (uint##bits##_t)(value);                                                                           \
		flags;                                                                                                 \
		cpu->s.gpr[i->reg] = v;                                                                                \
		return x86_next(cpu, i);                                                                               \
	}
#define VEX3S(name, value, flags) VEX3(name, 32, value, flags) VEX3(name, 64, value, flags)

static uint64_t extract(uint64_t v, unsigned start, unsigned len, unsigned width)
{
	if (start >= width)
		return 0;
	v >>= start;
	return len >= width ? v : v & ((1ull << len) - 1);
}

static uint64_t deposit(uint64_t v, uint64_t mask)
{
	uint64_t r = 0;

	for (; mask; mask &= mask - 1, v >>= 1)
		r |= v & 1 ? mask & -mask : 0;
	return r;
}

static uint64_t gather_bits(uint64_t v, uint64_t mask)
{
	uint64_t r = 0, bit = 1;

	for (; mask; mask &= mask - 1, bit <<= 1)
		r |= v & mask & -mask ? bit : 0;
	return r;
}

VEX3S(andn, ~a &b, set_flags(cpu, v, width, false, false))
VEX3S(bextr, extract(b, n, (uint8_t)(a >> 8), width), set_flags(cpu, (v & 0xff) | (v ? 0x100 : 0), width, false, true))
VEX3S(bzhi, n >= width ? b : b & (((uint64_t)1 << n) - 1), set_flags(cpu, v, width, n >= width, false))
VEX3S(pdep, deposit(a, b), (void)0)
VEX3S(pext, gather_bits(a, b), (void)0)
VEX3S(shlx, b << (n & (width - 1)), (void)0)
VEX3S(shrx, b >> (n & (width - 1)), (void)0)
VEX3(sarx, 32, (int32_t)b >> (n & 31), (void)0)
VEX3(sarx, 64, (int64_t)b >> (n & 63), (void)0)

/* vvvv = f(rm). */
#define LOWEST(name, bits, value, carry)                                                                               \
	HANDLER(name##bits)                                                                                            \
	{                                                                                                              \
		uint##bits##_t b = RM(bits), v = (value);                                                              \
                                                                                                                       \
		set_flags(cpu, v, bits, carry, false);                                                                 \
		cpu->s.gpr[i->vreg] = v;                                                                               \
		return x86_next(cpu, i);                                                                               \
	}
#define LOWESTS(name, value, carry) LOWEST(name, 32, value, carry) LOWEST(name, 64, value, carry)
LOWESTS(blsr, b &(b - 1), !b)
LOWESTS(blsmsk, b ^ (b - 1), !b)
LOWESTS(blsi, b & -b, b != 0)

HANDLER(mulx32)
{
	uint64_t v = (uint64_t)RM(32) * (uint32_t)cpu->s.gpr[X86_RDX];

	cpu->s.gpr[i->vreg] = (uint32_t)v;
	cpu->s.gpr[i->reg] = v >> 32;
	return x86_next(cpu, i);
}

HANDLER(mulx64)
{
	unsigned __int128 v = (unsigned __int128)RM(64) * cpu->s.gpr[X86_RDX];

	cpu->s.gpr[i->vreg] = (uint64_t)v;
	cpu->s.gpr[i->reg] = (uint64_t)(v >> 64);
	return x86_next(cpu, i);
}

#define RORX(bits)                                                                                                     \
	HANDLER(rorx##bits)                                                                                            \
	{                                                                                                              \
		uint##bits##_t b = RM(bits);                                                                           \
		unsigned n = i->imm & (bits - 1);                                                                      \
                                                                                                                       \
		cpu->s.gpr[i->reg] = n ? (uint##bits##_t)(b >> n | b << (bits - n)) : b;                               \
		return x86_next(cpu, i);                                                                               \
	}
RORX(32)
RORX(64)

/* --- counts: sizes 16, 32, 64 --- */

/* `of`: OF afterwards, which is undefined but for POPCNT. */
#define COUNT(name, bits, value, carry, of)                                                                            \
	HANDLER(name##bits)                                                                                            \
	{                                                                                                              \
		uint##bits##_t b = RM(bits), v = (uint##bits##_t)(value);                                              \
                                                                                                                       \
		x86_lazy_set(&cpu->lazy, (v ? 0 : X86_ZF) | ((carry) ? X86_CF : 0) | ((of) ? X86_OF : 0));             \
		x86_set##bits(cpu, i->reg, v);                                                                         \
		return x86_next(cpu, i);                                                                               \
	}
#define COUNTS(name, value, carry, of)                                                                                 \
	COUNT(name, 16, value(b, 16), carry, of)                                                                       \
	COUNT(name, 32, value(b, 32), carry, of) COUNT(name, 64, value(b, 64), carry, of)
#define TRAILING(b, bits) ((b) ? (unsigned)__builtin_ctzll(b) : bits)
#define LEADING(b, bits)  ((b) ? (unsigned)__builtin_clzll(b) - (64 - bits) : bits)
#define ONES(b, bits)	  (__builtin_popcountll(b))
COUNTS(tzcnt, TRAILING, !b, x86_lazy_of(&cpu->lazy))
COUNTS(lzcnt, LEADING, !b, x86_lazy_of(&cpu->lazy))
COUNTS(popcnt, ONES, false, false)

/* --- ADX: only the flag that carries changes --- */

#define ADD_WITH(name, bits, flag)                                                                                     \
	HANDLER(name##bits)                                                                                            \
	{                                                                                                              \
		uint##bits##_t b = RM(bits), v;                                                                        \
		uint32_t flags = x86_lazy_get(&cpu->lazy);                                                             \
		bool carry = __builtin_add_overflow((uint##bits##_t)cpu->s.gpr[i->reg], b, &v);                        \
                                                                                                                       \
		carry |= __builtin_add_overflow(v, (uint##bits##_t) !!(flags & (flag)), &v);                           \
		x86_lazy_set(&cpu->lazy, (flags & ~(flag)) | (carry ? (flag) : 0));                                    \
		cpu->s.gpr[i->reg] = v;                                                                                \
		return x86_next(cpu, i);                                                                               \
	}
ADD_WITH(adcx, 32, X86_CF)
ADD_WITH(adcx, 64, X86_CF)
ADD_WITH(adox, 32, X86_OF)
ADD_WITH(adox, 64, X86_OF)

/* --- MOVBE --- */

#define MOVBE(bits)                                                                                                    \
	HANDLER(movbe_load##bits)                                                                                      \
	{                                                                                                              \
		x86_set##bits(cpu, i->reg, __builtin_bswap##bits(x86_ldm##bits(cpu, i)));                              \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(movbe_store##bits)                                                                                     \
	{                                                                                                              \
		x86_stm##bits(cpu, i, __builtin_bswap##bits(x86_get##bits(cpu, i->reg)));                              \
		return x86_next(cpu, i);                                                                               \
	}
MOVBE(16)
MOVBE(32)
MOVBE(64)

/* --- CRC32: the Castagnoli polynomial, reflected --- */

static uint32_t crc32c(uint32_t crc, uint64_t v, unsigned bits)
{
	for (unsigned n = 0; n < bits; n++, v >>= 1)
		crc = crc >> 1 ^ ((crc ^ (uint32_t)v) & 1 ? 0x82f63b78u : 0);
	return crc;
}

#define CRC32(bits, get)                                                                                               \
	HANDLER(crc32_##bits)                                                                                          \
	{                                                                                                              \
		uint64_t b = i->flags & X86_I_REG ? get(cpu, i->rm) : x86_ldm##bits(cpu, i);                           \
                                                                                                                       \
		cpu->s.gpr[i->reg] = crc32c((uint32_t)cpu->s.gpr[i->reg], b, bits);                                    \
		return x86_next(cpu, i);                                                                               \
	}
CRC32(8, x86_get8)
CRC32(16, x86_get16)
CRC32(32, x86_get32)
CRC32(64, x86_get64)

/* --- rows --- */

#define ROW(map_, pfx_, op_, mod_, ext_, imm_, flags_, h16, h32, h64, name_)                                           \
	{                                                                                                              \
		.map = X86_MAP_##map_, .op = op_, .count = 1, .pfx = X86_PFX_##pfx_, .mod = X86_MOD_##mod_,            \
		.ext = ext_, .imm = imm_, .flags = flags_, .reg = { h16, h32, h64 }, .name = name_                     \
	}
#define VEX(map, pfx, op, ext, imm, flags, name)                                                                       \
	ROW(map, pfx, op, ANY, ext, imm, X86_D_VEX_GPR | X86_D_L0 | (flags), NULL, name##32, name##64, #name)
#define ALL(pfx, op, name) ROW(0F, pfx, op, ANY, 0, 0, 0, name##16, name##32, name##64, #name)
#define ADX(pfx, name)	   ROW(0F38, pfx, 0xf6, ANY, 0, 0, X86_D_IGN66, NULL, name##32, name##64, #name)

static const struct x86_opdef bmi1_rows[] = {
	VEX(VEX_0F38, NONE, 0xf2, 0, 0, 0, andn),	VEX(VEX_0F38, NONE, 0xf3, 1 + 1, 0, 0, blsr),
	VEX(VEX_0F38, NONE, 0xf3, 1 + 2, 0, 0, blsmsk), VEX(VEX_0F38, NONE, 0xf3, 1 + 3, 0, 0, blsi),
	VEX(VEX_0F38, NONE, 0xf7, 0, 0, 0, bextr),	ALL(F3, 0xbc, tzcnt),
};
X86_DEFS_OF(x86_defs_bmi1, bmi1_rows, X86_F_BMI1);

static const struct x86_opdef bmi2_rows[] = {
	VEX(VEX_0F38, NONE, 0xf5, 0, 0, 0, bzhi), VEX(VEX_0F38, F3, 0xf5, 0, 0, 0, pext),
	VEX(VEX_0F38, F2, 0xf5, 0, 0, 0, pdep),	  VEX(VEX_0F38, F2, 0xf6, 0, 0, 0, mulx),
	VEX(VEX_0F38, 66, 0xf7, 0, 0, 0, shlx),	  VEX(VEX_0F38, F3, 0xf7, 0, 0, 0, sarx),
	VEX(VEX_0F38, F2, 0xf7, 0, 0, 0, shrx),	  VEX(VEX_0F3A, F2, 0xf0, 0, X86_IMM_U8, X86_D_NOV, rorx),
};
X86_DEFS_OF(x86_defs_bmi2, bmi2_rows, X86_F_BMI2);

static const struct x86_opdef abm_rows[] = { ALL(F3, 0xbd, lzcnt) };
X86_DEFS_OF(x86_defs_abm, abm_rows, X86_F_ABM);

static const struct x86_opdef popcnt_rows[] = { ALL(F3, 0xb8, popcnt) };
X86_DEFS_OF(x86_defs_popcnt, popcnt_rows, X86_F_POPCNT);

static const struct x86_opdef adx_rows[] = { ADX(66, adcx), ADX(F3, adox) };
X86_DEFS_OF(x86_defs_adx, adx_rows, X86_F_ADX);

static const struct x86_opdef crc32_rows[] = {
	ROW(0F38, F2, 0xf0, ANY, 0, 0, X86_D_BYTE_RM, crc32_8, crc32_8, crc32_8, "crc32"),
	ROW(0F38, F2, 0xf1, ANY, 0, 0, 0, crc32_16, crc32_32, crc32_64, "crc32"),
};
X86_DEFS_OF(x86_defs_crc32, crc32_rows, X86_F_SSE42);

static const struct x86_opdef movbe_rows[] = {
	ROW(0F38, NONE, 0xf0, MEM, 0, 0, 0, movbe_load16, movbe_load32, movbe_load64, "movbe"),
	ROW(0F38, NONE, 0xf1, MEM, 0, 0, 0, movbe_store16, movbe_store32, movbe_store64, "movbe"),
	ROW(0F38, 66, 0xf0, MEM, 0, 0, 0, movbe_load16, movbe_load32, movbe_load64, "movbe"),
	ROW(0F38, 66, 0xf1, MEM, 0, 0, 0, movbe_store16, movbe_store32, movbe_store64, "movbe"),
};
X86_DEFS_OF(x86_defs_movbe, movbe_rows, X86_F_MOVBE);
