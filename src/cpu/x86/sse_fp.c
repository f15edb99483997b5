/*
 * SSE and SSE2 arithmetic: each operation is the host's own instruction, executed with the guest's rounding
 * and flush modes and all exceptions masked; what it raised is then merged into the guest's MXCSR, or
 * becomes #XM before anything is written. SDM vol. 1, 11.5. x86-64 hosts only.
 */
#include "cpu/x86/vec.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

#define MX_FLAGS 0x3fu
#define MX_MASKS 0x1f80u
#define MX_PRE	 0x07u /* IE, DE, ZE: found before there is a result */
#define MX_HOST	 0x1f80u

static inline void host_begin(const struct x86_cpu *cpu)
{
	uint32_t v = (cpu->s.mxcsr | MX_MASKS) & ~MX_FLAGS;

	__asm__ volatile("ldmxcsr %0" ::"m"(v));
}

static void unmasked(struct x86_cpu *cpu, uint32_t flags)
{
	uint32_t open = flags & ~(cpu->s.mxcsr >> 7);

	cpu->s.mxcsr |= open & MX_PRE ? flags & MX_PRE : flags;
	x86_raise(cpu, cpu->s.cr4 & X86_CR4_OSXMMEXCPT ? X86_XM : X86_UD, 0);
}

/* Does not return if the operation raised an exception that the guest has unmasked. */
static inline void host_end(struct x86_cpu *cpu)
{
	static const uint32_t host = MX_HOST;
	uint32_t v;

	__asm__ volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(v) : "m"(host));
	v &= MX_FLAGS;
	if (__builtin_expect(v & ~(cpu->s.mxcsr >> 7), 0))
		unmasked(cpu, v);
	cpu->s.mxcsr |= v;
}

/* --- two operands; the memory forms load what the instruction reads --- */

#define LOAD_ps vec_load(cpu, i)
#define LOAD_pd vec_load(cpu, i)
#define LOAD_ss vec_low64(x86_ldm32(cpu, i))
#define LOAD_sd vec_low64(x86_ldm64(cpu, i))
#define LOAD_lo vec_low64(x86_ldm64(cpu, i))

#define BODY(insn, source)                                                                                             \
	union vec a, b;                                                                                                \
	x86_sse_enter(cpu);                                                                                            \
	b = source;                                                                                                    \
	a = vec_get(cpu, i->reg);                                                                                      \
	host_begin(cpu);                                                                                               \
	__asm__ volatile(insn " %1, %0" : "+x"(a.u8) : "x"(b.u8));                                                     \
	host_end(cpu);                                                                                                 \
	vec_put(cpu, i->reg, a);                                                                                       \
	return x86_next(cpu, i);
#define OP(name, load)                                                                                                 \
	HANDLER(name##_x){ BODY(#name, vec_get(cpu, i->rm)) } HANDLER(name##_m)                                        \
	{                                                                                                              \
		BODY(#name, load)                                                                                      \
	}
#define OP4(name) OP(name##ps, LOAD_ps) OP(name##pd, LOAD_pd) OP(name##ss, LOAD_ss) OP(name##sd, LOAD_sd)
OP4(add)
OP4(mul)
OP4(sub)
OP4(min)
OP4(div)
OP4(max)
OP4(sqrt)
OP(rsqrtps, LOAD_ps)
OP(rsqrtss, LOAD_ss)
OP(rcpps, LOAD_ps)
OP(rcpss, LOAD_ss)
OP(cvtps2pd, LOAD_lo)
OP(cvtpd2ps, LOAD_pd)
OP(cvtss2sd, LOAD_ss)
OP(cvtsd2ss, LOAD_sd)
OP(cvtdq2ps, LOAD_ps)
OP(cvtps2dq, LOAD_ps)
OP(cvttps2dq, LOAD_ps)
OP(cvttpd2dq, LOAD_pd)
OP(cvtdq2pd, LOAD_lo)
OP(cvtpd2dq, LOAD_pd)

/* --- comparisons that make masks: the immediate picks one of eight --- */

#define CMP_CASE(n, suffix)                                                                                            \
	case n:                                                                                                        \
		__asm__ volatile("cmp" suffix " $" #n ", %1, %0" : "+x"(a.u8) : "x"(b.u8));                            \
		break;
#define CMP_BODY(suffix, source)                                                                                       \
	union vec a, b;                                                                                                \
	x86_sse_enter(cpu);                                                                                            \
	b = source;                                                                                                    \
	a = vec_get(cpu, i->reg);                                                                                      \
	host_begin(cpu);                                                                                               \
	switch (i->imm & 7) {                                                                                          \
		CMP_CASE(0, suffix)                                                                                    \
		CMP_CASE(1, suffix)                                                                                    \
		CMP_CASE(2, suffix)                                                                                    \
		CMP_CASE(3, suffix)                                                                                    \
		CMP_CASE(4, suffix)                                                                                    \
		CMP_CASE(5, suffix)                                                                                    \
		CMP_CASE(6, suffix)                                                                                    \
		CMP_CASE(7, suffix)                                                                                    \
	}                                                                                                              \
	host_end(cpu);                                                                                                 \
	vec_put(cpu, i->reg, a);                                                                                       \
	return x86_next(cpu, i);
#define CMP(suffix, load)                                                                                              \
	HANDLER(cmp##suffix##_x){ CMP_BODY(#suffix, vec_get(cpu, i->rm)) } HANDLER(cmp##suffix##_m)                    \
	{                                                                                                              \
		CMP_BODY(#suffix, load)                                                                                \
	}
CMP(ps, LOAD_ps)
CMP(pd, LOAD_pd)
CMP(ss, LOAD_ss)
CMP(sd, LOAD_sd)

/* --- comparisons that set ZF, PF, CF --- */

#define COMI_BODY(insn, source)                                                                                        \
	union vec a, b;                                                                                                \
	uint64_t flags;                                                                                                \
	x86_sse_enter(cpu);                                                                                            \
	b = source;                                                                                                    \
	a = vec_get(cpu, i->reg);                                                                                      \
	host_begin(cpu);                                                                                               \
	__asm__ volatile(insn " %2, %1\n\tpushfq\n\tpopq %0" : "=r"(flags) : "x"(a.u8), "x"(b.u8) : "cc");             \
	host_end(cpu);                                                                                                 \
	x86_lazy_set(&cpu->lazy, (uint32_t)flags &(X86_ZF | X86_PF | X86_CF));                                         \
	return x86_next(cpu, i);
#define COMI(name, load)                                                                                               \
	HANDLER(name##_x){ COMI_BODY(#name, vec_get(cpu, i->rm)) } HANDLER(name##_m)                                   \
	{                                                                                                              \
		COMI_BODY(#name, load)                                                                                 \
	}
COMI(ucomiss, LOAD_ss)
COMI(ucomisd, LOAD_sd)
COMI(comiss, LOAD_ss)
COMI(comisd, LOAD_sd)

/* --- conversions from and to general registers --- */

#define FROM_BODY(insn, type, source)                                                                                  \
	union vec a;                                                                                                   \
	type v;                                                                                                        \
	x86_sse_enter(cpu);                                                                                            \
	v = (type)(source);                                                                                            \
	a = vec_get(cpu, i->reg);                                                                                      \
	host_begin(cpu);                                                                                               \
	__asm__ volatile(insn " %1, %0" : "+x"(a.u8) : "r"(v));                                                        \
	host_end(cpu);                                                                                                 \
	vec_put(cpu, i->reg, a);                                                                                       \
	return x86_next(cpu, i);
#define FROM(name, insn, bits)                                                                                         \
	HANDLER(name##_x##bits){ FROM_BODY(insn, uint##bits##_t, cpu->s.gpr[i->rm]) } HANDLER(name##_m##bits)          \
	{                                                                                                              \
		FROM_BODY(insn, uint##bits##_t, x86_ldm##bits(cpu, i))                                                 \
	}
FROM(cvtsi2ss, "cvtsi2ssl", 32)
FROM(cvtsi2ss, "cvtsi2ssq", 64)
FROM(cvtsi2sd, "cvtsi2sdl", 32)
FROM(cvtsi2sd, "cvtsi2sdq", 64)

#define TO_BODY(insn, type, source)                                                                                    \
	union vec b;                                                                                                   \
	type v;                                                                                                        \
	x86_sse_enter(cpu);                                                                                            \
	b = source;                                                                                                    \
	host_begin(cpu);                                                                                               \
	__asm__ volatile(insn " %1, %0" : "=r"(v) : "x"(b.u8));                                                        \
	host_end(cpu);                                                                                                 \
	cpu->s.gpr[i->reg] = v;                                                                                        \
	return x86_next(cpu, i);
#define TO(name, load)                                                                                                 \
	HANDLER(name##_x32){ TO_BODY(#name, uint32_t, vec_get(cpu, i->rm)) } HANDLER(name##_m32){                      \
		TO_BODY(#name, uint32_t, load)                                                                         \
	} HANDLER(name##_x64){ TO_BODY(#name, uint64_t, vec_get(cpu, i->rm)) } HANDLER(name##_m64)                     \
	{                                                                                                              \
		TO_BODY(#name, uint64_t, load)                                                                         \
	}
TO(cvttss2si, LOAD_ss)
TO(cvtss2si, LOAD_ss)
TO(cvttsd2si, LOAD_sd)
TO(cvtsd2si, LOAD_sd)

/* --- conversions from and to MMX registers, which count as x87 instructions that need a stack --- */

static uint64_t *mm(struct x86_cpu *cpu, unsigned r)
{
	return &cpu->s.fp.r[r & 7].mant;
}

#define FROM_MMX_BODY(insn, source)                                                                                    \
	union vec a, b;                                                                                                \
	x86_sse_enter(cpu);                                                                                            \
	b = vec_low64(source);                                                                                         \
	a = vec_get(cpu, i->reg);                                                                                      \
	host_begin(cpu);                                                                                               \
	__asm__ volatile("movdq2q %1, %%mm0\n\t" insn " %%mm0, %0\n\temms" : "+x"(a.u8) : "x"(b.u8) : "mm0");          \
	host_end(cpu);                                                                                                 \
	vec_put(cpu, i->reg, a);                                                                                       \
	return x86_next(cpu, i);
#define FROM_MMX(name)                                                                                                 \
	HANDLER(name##_x)                                                                                              \
	{                                                                                                              \
		x86_mmx_enter(cpu);                                                                                    \
		x86_mmx_begin(cpu);                                                                                    \
		FROM_MMX_BODY(#name, *mm(cpu, i->rm))                                                                  \
	}                                                                                                              \
	HANDLER(name##_m)                                                                                              \
	{                                                                                                              \
		FROM_MMX_BODY(#name, x86_ldm64(cpu, i))                                                                \
	}
FROM_MMX(cvtpi2ps)
FROM_MMX(cvtpi2pd)

#define TO_MMX_BODY(insn, source)                                                                                      \
	union vec b, r;                                                                                                \
	x86_sse_enter(cpu);                                                                                            \
	x86_mmx_enter(cpu);                                                                                            \
	b = source;                                                                                                    \
	host_begin(cpu);                                                                                               \
	__asm__ volatile(insn " %1, %%mm0\n\tmovq2dq %%mm0, %0\n\temms" : "=x"(r.u8) : "x"(b.u8) : "mm0");             \
	host_end(cpu);                                                                                                 \
	x86_mmx_begin(cpu);                                                                                            \
	x86_mmx_set(cpu, i->reg, r.q[0]);                                                                              \
	return x86_next(cpu, i);
#define TO_MMX(name, load)                                                                                             \
	HANDLER(name##_x){ TO_MMX_BODY(#name, vec_get(cpu, i->rm)) } HANDLER(name##_m)                                 \
	{                                                                                                              \
		TO_MMX_BODY(#name, load)                                                                               \
	}
TO_MMX(cvtps2pi, LOAD_lo)
TO_MMX(cvttps2pi, LOAD_lo)
TO_MMX(cvtpd2pi, LOAD_pd)
TO_MMX(cvttpd2pi, LOAD_pd)

/* --- rows --- */

#define ROW(op, pfx, imm, name)                                                                                        \
	{                                                                                                              \
		X86_MAP_0F, op, 1, pfx, X86_MOD_ANY, 0, 0, imm, X86_D_IGN66, X86_ALL(name##_x), X86_ALL(name##_m),     \
			#name                                                                                          \
	}
#define ROW4(op, name)                                                                                                 \
	ROW(op, X86_PFX_NONE, 0, name##ps), ROW(op, X86_PFX_66, 0, name##pd), ROW(op, X86_PFX_F3, 0, name##ss),        \
		ROW(op, X86_PFX_F2, 0, name##sd)
#define SIZED(op, pfx, name)                                                                                           \
	{                                                                                                              \
		X86_MAP_0F, op, 1, pfx, X86_MOD_ANY, 0, 0, 0, X86_D_IGN66, { NULL, name##_x32, name##_x64 },           \
			{ NULL, name##_m32, name##_m64 }, #name                                                        \
	}
static const struct x86_opdef rows[] = {
	ROW4(0x51, sqrt),
	ROW4(0x58, add),
	ROW4(0x59, mul),
	ROW4(0x5c, sub),
	ROW4(0x5d, min),
	ROW4(0x5e, div),
	ROW4(0x5f, max),
	ROW(0x52, X86_PFX_NONE, 0, rsqrtps),
	ROW(0x52, X86_PFX_F3, 0, rsqrtss),
	ROW(0x53, X86_PFX_NONE, 0, rcpps),
	ROW(0x53, X86_PFX_F3, 0, rcpss),
	ROW(0x5a, X86_PFX_NONE, 0, cvtps2pd),
	ROW(0x5a, X86_PFX_66, 0, cvtpd2ps),
	ROW(0x5a, X86_PFX_F3, 0, cvtss2sd),
	ROW(0x5a, X86_PFX_F2, 0, cvtsd2ss),
	ROW(0x5b, X86_PFX_NONE, 0, cvtdq2ps),
	ROW(0x5b, X86_PFX_66, 0, cvtps2dq),
	ROW(0x5b, X86_PFX_F3, 0, cvttps2dq),
	ROW(0xe6, X86_PFX_66, 0, cvttpd2dq),
	ROW(0xe6, X86_PFX_F3, 0, cvtdq2pd),
	ROW(0xe6, X86_PFX_F2, 0, cvtpd2dq),
	ROW(0xc2, X86_PFX_NONE, X86_IMM_U8, cmpps),
	ROW(0xc2, X86_PFX_66, X86_IMM_U8, cmppd),
	ROW(0xc2, X86_PFX_F3, X86_IMM_U8, cmpss),
	ROW(0xc2, X86_PFX_F2, X86_IMM_U8, cmpsd),
	ROW(0x2e, X86_PFX_NONE, 0, ucomiss),
	ROW(0x2e, X86_PFX_66, 0, ucomisd),
	ROW(0x2f, X86_PFX_NONE, 0, comiss),
	ROW(0x2f, X86_PFX_66, 0, comisd),
	SIZED(0x2a, X86_PFX_F3, cvtsi2ss),
	SIZED(0x2a, X86_PFX_F2, cvtsi2sd),
	SIZED(0x2c, X86_PFX_F3, cvttss2si),
	SIZED(0x2c, X86_PFX_F2, cvttsd2si),
	SIZED(0x2d, X86_PFX_F3, cvtss2si),
	SIZED(0x2d, X86_PFX_F2, cvtsd2si),
	ROW(0x2a, X86_PFX_NONE, 0, cvtpi2ps),
	ROW(0x2a, X86_PFX_66, 0, cvtpi2pd),
	ROW(0x2c, X86_PFX_NONE, 0, cvttps2pi),
	ROW(0x2c, X86_PFX_66, 0, cvttpd2pi),
	ROW(0x2d, X86_PFX_NONE, 0, cvtps2pi),
	ROW(0x2d, X86_PFX_66, 0, cvtpd2pi),
};
X86_DEFS(x86_defs_sse_fp, rows);
