/* Decimal adjustment, and BOUND: instructions that 64-bit mode no longer has. */
#include "cpu/x86/template.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

/* Result flags of AL, with CF and AF given and OF 0. */
static void al_flags(struct x86_cpu *cpu, uint8_t al, bool cf, bool af)
{
	x86_flags_res8(&cpu->lazy, al, cf, false, af);
}

static const struct x86_insn *decimal(struct x86_cpu *cpu, const struct x86_insn *i, int sign)
{
	uint8_t old = x86_get8(cpu, X86_RAX), al = old;
	bool cf = x86_lazy_cf(&cpu->lazy), af = x86_lazy_af(&cpu->lazy), carry = cf;
	bool low = (old & 15) > 9 || af;

	if (low) {
		al = (uint8_t)(al + sign * 6);
		carry = cf || (sign > 0 ? old > 0xf9 : old < 6);
	}
	if (old > 0x99 || cf) {
		al = (uint8_t)(al + sign * 0x60);
		carry = true;
	} else if (sign > 0) {
		carry = false;
	}
	x86_set8(cpu, X86_RAX, al);
	al_flags(cpu, al, carry, low);
	return x86_next(cpu, i);
}

HANDLER(daa)
{
	return decimal(cpu, i, 1);
}

HANDLER(das)
{
	return decimal(cpu, i, -1);
}

static const struct x86_insn *ascii(struct x86_cpu *cpu, const struct x86_insn *i, int sign)
{
	uint16_t ax = x86_get16(cpu, X86_RAX);
	bool adjust = (ax & 15) > 9 || x86_lazy_af(&cpu->lazy);

	if (adjust)
		ax = (uint16_t)(ax + sign * 0x106);
	x86_set16(cpu, X86_RAX, ax & 0xff0f);
	al_flags(cpu, ax & 15, adjust, adjust);
	return x86_next(cpu, i);
}

HANDLER(aaa)
{
	return ascii(cpu, i, 1);
}

HANDLER(aas)
{
	return ascii(cpu, i, -1);
}

HANDLER(aam)
{
	uint8_t al = x86_get8(cpu, X86_RAX), base = (uint8_t)i->imm;

	if (!base)
		x86_raise(cpu, X86_DE, 0);
	x86_set16(cpu, X86_RAX, (uint16_t)(al / base << 8 | al % base));
	al_flags(cpu, al % base, false, false);
	return x86_next(cpu, i);
}

HANDLER(aad)
{
	uint16_t ax = x86_get16(cpu, X86_RAX);
	uint8_t al = (uint8_t)((ax & 0xff) + (ax >> 8) * i->imm);

	x86_set16(cpu, X86_RAX, al);
	al_flags(cpu, al, false, false);
	return x86_next(cpu, i);
}

HANDLER(salc)
{
	x86_set8(cpu, X86_RAX, x86_lazy_cf(&cpu->lazy) ? 0xff : 0);
	return x86_next(cpu, i);
}

HANDLER(bound16)
{
	uint64_t ea = x86_ea(cpu, i);
	int16_t v = (int16_t)x86_get16(cpu, i->reg), lo = (int16_t)x86_ld16(cpu, i->seg, ea);
	int16_t hi = (int16_t)x86_ld16(cpu, i->seg, (ea + 2) << i->ashift >> i->ashift);

	if (v < lo || v > hi)
		x86_raise(cpu, X86_BR, 0);
	return x86_next(cpu, i);
}

HANDLER(bound32)
{
	uint64_t ea = x86_ea(cpu, i);
	int32_t v = (int32_t)x86_get32(cpu, i->reg), lo = (int32_t)x86_ld32(cpu, i->seg, ea);
	int32_t hi = (int32_t)x86_ld32(cpu, i->seg, (ea + 4) << i->ashift >> i->ashift);

	if (v < lo || v > hi)
		x86_raise(cpu, X86_BR, 0);
	return x86_next(cpu, i);
}

static const struct x86_opdef rows[] = {
	{ X86_MAP_1, 0x27, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_NO64, X86_ALL(daa), {}, "daa" },
	{ X86_MAP_1, 0x2f, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_NO64, X86_ALL(das), {}, "das" },
	{ X86_MAP_1, 0x37, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_NO64, X86_ALL(aaa), {}, "aaa" },
	{ X86_MAP_1, 0x3f, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_NO64, X86_ALL(aas), {}, "aas" },
	{ X86_MAP_1, 0xd4, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_U8, X86_D_NO64, X86_ALL(aam), {}, "aam" },
	{ X86_MAP_1, 0xd5, 1, 0, X86_MOD_NONE, 0, 0, X86_IMM_U8, X86_D_NO64, X86_ALL(aad), {}, "aad" },
	{ X86_MAP_1, 0xd6, 1, 0, X86_MOD_NONE, 0, 0, 0, X86_D_NO64, X86_ALL(salc), {}, "salc" },
	{ X86_MAP_1, 0x62, 1, 0, X86_MOD_MEM, 0, 0, 0, X86_D_NO64, {}, { bound16, bound32, NULL }, "bound" },
};
X86_DEFS(x86_defs_bcd, rows);
