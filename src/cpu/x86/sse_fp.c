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
#define MX_OE	 0x08u
#define MX_UE	 0x10u
#define MX_PE	 0x20u
#define MX_FTZ	 0x8000u

static const uint32_t host_mxcsr = MX_MASKS;

static inline void host_begin(const struct x86_cpu *cpu)
{
	uint32_t v = (cpu->s.mxcsr | MX_MASKS) & ~MX_FLAGS;

	__asm__ volatile("ldmxcsr %0" ::"m"(v));
}

static inline uint32_t host_flags(void)
{
	uint32_t v;

	__asm__ volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(v) : "m"(host_mxcsr));
	return v & MX_FLAGS;
}

/* The exceptions that the guest has unmasked. */
static inline uint32_t open_flags(const struct x86_cpu *cpu)
{
	return ~(cpu->s.mxcsr >> 7) & MX_FLAGS;
}

static void unmasked(struct x86_cpu *cpu, uint32_t flags)
{
	cpu->s.mxcsr |= flags & open_flags(cpu) & MX_PRE ? flags & MX_PRE : flags;
	x86_raise(cpu, cpu->s.cr4 & X86_CR4_OSXMMEXCPT ? X86_XM : X86_UD, 0);
}

/* Does not return if the operation raised an exception that the guest has unmasked. */
static inline void host_end(struct x86_cpu *cpu)
{
	uint32_t v = host_flags();

	if (__builtin_expect(v & open_flags(cpu), 0))
		unmasked(cpu, v);
	cpu->s.mxcsr |= v;
}

/* --- overflow and underflow, when the guest has unmasked one of them --- */

typedef void vec_fn(union vec *a, const union vec *b);

/* Bytes of an element before and after, how many take part, and whether they are added. */
struct shape {
	uint8_t in, out, count;
	bool sum;
};

static unsigned fraction_bits(unsigned element)
{
	return element == 4 ? 23 : 52;
}

static uint64_t get_element(const union vec *v, unsigned n, unsigned element)
{
	return element == 4 ? v->d[n] : v->q[n];
}

static void put_element(union vec *v, unsigned n, unsigned element, uint64_t x)
{
	if (element == 4)
		v->d[n] = (uint32_t)x;
	else
		v->q[n] = x;
}

static unsigned exponent_of(uint64_t x, unsigned element)
{
	return x >> fraction_bits(element) & (element == 4 ? 0xff : 0x7ff);
}

/* All elements 1.0: whatever is done with them is exact. */
static union vec ones(unsigned element)
{
	return element == 4 ? (union vec){ .d = { 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000 } }
			    : (union vec){ .q = { 0x3ff0000000000000, 0x3ff0000000000000 } };
}

static bool denormal(uint64_t x, unsigned element)
{
	return !exponent_of(x, element) && x & ((1ull << fraction_bits(element)) - 1);
}

/* `x` with its exponent lowered by `down`; without a sum, with that of 1.0: what is rounded stays the same. */
static uint64_t mid_range(uint64_t x, unsigned element, bool sum, int down)
{
	unsigned bits = fraction_bits(element), e = exponent_of(x, element), one = element == 4 ? 127 : 1023;
	uint64_t sign = x & 1ull << (8 * element - 1), fraction = x & ((1ull << bits) - 1);

	if (!e && !fraction)
		return x;
	if (!sum) {
		while (!e && !(fraction >> bits))
			fraction <<= 1;
		return sign | (uint64_t)one << bits | (fraction & ((1ull << bits) - 1));
	}
	return sign | (uint64_t)((int)e > down ? (int)e - down : 1) << bits | fraction;
}

/* Would the result be inexact if there were no limit to exponents? */
static uint32_t inexact(struct x86_cpu *cpu, vec_fn *fn, union vec x, union vec y, unsigned n, struct shape s)
{
	uint64_t a = get_element(&x, n, s.in), b = get_element(&y, n, s.in);
	unsigned ea = exponent_of(a, s.in), eb = exponent_of(b, s.in);
	int down = (int)(ea > eb ? ea : eb) - (s.in == 4 ? 127 : 1023);

	put_element(&x, n, s.in, mid_range(a, s.in, s.sum, down));
	put_element(&y, n, s.in, mid_range(b, s.in, s.sum, down));
	host_begin(cpu);
	fn(&x, &y);
	return host_flags() & MX_PE;
}

/*
 * The masked operation does not tell enough then: an element that overflows or underflows also counts as inexact,
 * and one that is tiny but exact goes unnoticed. So each is done by itself, among elements that are 1.0.
 * Flush-to-zero is not in force while underflow is unmasked.
 */
static void each_by_itself(struct x86_cpu *cpu, vec_fn *fn, const union vec *a, const union vec *b, struct shape s)
{
	uint32_t open = open_flags(cpu), flags = 0;
	const uint32_t v = (cpu->s.mxcsr | MX_MASKS) & ~(MX_FLAGS | (open & MX_UE ? MX_FTZ : 0));

	for (unsigned n = 0; n < s.count; n++) {
		union vec x = ones(s.in), y = x, r;
		uint32_t one;

		memcpy(x.b + n * s.in, a->b + n * s.in, s.in);
		memcpy(y.b + n * s.in, b->b + n * s.in, s.in);
		r = x;
		__asm__ volatile("ldmxcsr %0" ::"m"(v));
		fn(&r, &y);
		one = host_flags();
		if (open & MX_UE && denormal(get_element(&r, n, s.out), s.out))
			one |= MX_UE;
		/* A tiny sum is exact. */
		if (one & open & (MX_OE | MX_UE))
			one = (one & ~MX_PE) | (one & MX_UE && s.sum ? 0 : inexact(cpu, fn, x, y, n, s));
		flags |= one;
	}
	if (flags & open)
		unmasked(cpu, flags);
}

static inline void look_closer(struct x86_cpu *cpu, vec_fn *fn, const union vec *a, const union vec *b, struct shape s)
{
	if (__builtin_expect(open_flags(cpu) & (MX_OE | MX_UE), 0))
		each_by_itself(cpu, fn, a, b, s);
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
/* The same where overflow and underflow are possible. */
#define ROUNDING_BODY(name, source, ...)                                                                               \
	union vec a, b;                                                                                                \
	x86_sse_enter(cpu);                                                                                            \
	b = source;                                                                                                    \
	a = vec_get(cpu, i->reg);                                                                                      \
	look_closer(cpu, host_##name, &a, &b, (struct shape){ __VA_ARGS__ });                                          \
	host_begin(cpu);                                                                                               \
	host_##name(&a, &b);                                                                                           \
	host_end(cpu);                                                                                                 \
	vec_put(cpu, i->reg, a);                                                                                       \
	return x86_next(cpu, i);
#define ROUNDING(name, load, ...)                                                                                      \
	static inline void host_##name(union vec *a, const union vec *b)                                               \
	{                                                                                                              \
		__asm__ volatile(#name " %1, %0" : "+x"(a->u8) : "x"(b->u8));                                          \
	}                                                                                                              \
	HANDLER(name##_x){ ROUNDING_BODY(name, vec_get(cpu, i->rm), __VA_ARGS__) } HANDLER(name##_m)                   \
	{                                                                                                              \
		ROUNDING_BODY(name, load, __VA_ARGS__)                                                                 \
	}
#define ROUNDING4(name, sum)                                                                                           \
	ROUNDING(name##ps, LOAD_ps, 4, 4, 4, sum)                                                                      \
	ROUNDING(name##pd, LOAD_pd, 8, 8, 2, sum)                                                                      \
	ROUNDING(name##ss, LOAD_ss, 4, 4, 1, sum) ROUNDING(name##sd, LOAD_sd, 8, 8, 1, sum)
#define OP(name, load)                                                                                                 \
	HANDLER(name##_x){ BODY(#name, vec_get(cpu, i->rm)) } HANDLER(name##_m)                                        \
	{                                                                                                              \
		BODY(#name, load)                                                                                      \
	}
#define OP4(name) OP(name##ps, LOAD_ps) OP(name##pd, LOAD_pd) OP(name##ss, LOAD_ss) OP(name##sd, LOAD_sd)
ROUNDING4(add, true)
ROUNDING4(mul, false)
ROUNDING4(sub, true)
ROUNDING4(div, false)
OP4(min)
OP4(max)
OP4(sqrt)
OP(rsqrtps, LOAD_ps)
OP(rsqrtss, LOAD_ss)
OP(rcpps, LOAD_ps)
OP(rcpss, LOAD_ss)
OP(cvtps2pd, LOAD_lo)
ROUNDING(cvtpd2ps, LOAD_pd, 8, 4, 2, false)
OP(cvtss2sd, LOAD_ss)
ROUNDING(cvtsd2ss, LOAD_sd, 8, 4, 1, false)
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
	/* The x87 registers have become MMX registers also when an exception follows. */                              \
	x86_mmx_begin(cpu);                                                                                            \
	host_begin(cpu);                                                                                               \
	__asm__ volatile(insn " %1, %%mm0\n\tmovq2dq %%mm0, %0\n\temms" : "=x"(r.u8) : "x"(b.u8) : "mm0");             \
	host_end(cpu);                                                                                                 \
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
