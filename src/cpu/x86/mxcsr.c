/*
 * Exceptions of vector floating point that the guest has unmasked (SDM vol. 1, 11.5). The host executes with all
 * masked, which tells too little about overflow and underflow: an element that overflows or underflows also counts as
 * inexact, and one that is tiny but exact goes unnoticed. So while one of the two is unmasked, each element is done by
 * itself first, among elements that are 1.0.
 */
#include "cpu/x86/host.h"

#define MX_PRE 0x07u /* IE, DE, ZE: found before there is a result */
#define MX_PE  0x20u
#define MX_DAZ 0x40u
#define MX_FTZ 0x8000u

_Noreturn void x86_mxcsr_unmasked(struct x86_cpu *cpu, uint32_t flags)
{
	cpu->s.mxcsr |= flags & x86_mxcsr_open(cpu) & MX_PRE ? flags & MX_PRE : flags;
	x86_raise(cpu, cpu->s.cr4 & X86_CR4_OSXMMEXCPT ? X86_XM : X86_UD, 0);
}

/* --- elements, by their bytes --- */

static unsigned fraction_bits(unsigned size)
{
	return size == 2 ? 10 : size == 4 ? 23 : 52;
}

static unsigned biased(uint64_t x, unsigned size)
{
	return x >> fraction_bits(size) & ((1u << (8 * size - 1 - fraction_bits(size))) - 1);
}

static uint64_t get(const union x86_vec *v, unsigned n, unsigned size)
{
	uint64_t x = 0;

	memcpy(&x, v->b + n * size, size);
	return x;
}

static void put(union x86_vec *v, unsigned n, unsigned size, uint64_t x)
{
	memcpy(v->b + n * size, &x, size);
}

static union x86_vec ones(unsigned size)
{
	union x86_vec v;

	for (unsigned n = 0; n < sizeof(v) / size; n++)
		put(&v, n, size, size == 4 ? 0x3f800000 : 0x3ff0000000000000);
	return v;
}

static bool is_denormal(uint64_t x, unsigned size)
{
	return !biased(x, size) && x & ((1ull << fraction_bits(size)) - 1);
}

static bool any_denormal(const union x86_vec *v, unsigned size)
{
	for (unsigned n = 0; n < sizeof(*v) / size; n++)
		if (is_denormal(get(v, n, size), size))
			return true;
	return false;
}

/* A number as fraction and exponent. */
struct number {
	uint64_t sign, fraction; /* without the leading 1 */
	int exponent;
	bool zero;
};
/* What a zero has, so that it is never the greatest. */
#define NO_EXPONENT (-100000)

static struct number take_apart(uint64_t x, unsigned size, bool daz)
{
	unsigned bits = fraction_bits(size);
	const uint64_t one = 1ull << bits;
	struct number r = { x & 1ull << (8 * size - 1), x & (one - 1), (int)biased(x, size), false };

	if (!r.exponent) {
		if (!r.fraction || daz)
			return (struct number){ r.sign, 0, NO_EXPONENT, true };
		for (r.exponent = 1; !(r.fraction & one); r.exponent--)
			r.fraction <<= 1;
		r.fraction &= one - 1;
	}
	r.exponent -= size == 4 ? 127 : 1023;
	return r;
}

/* With another exponent; far below what counts it does not matter how far. */
static uint64_t put_together(struct number r, unsigned size, int exponent)
{
	const int least = size == 4 ? -100 : -400;

	if (r.zero)
		return r.sign;
	if (exponent < least)
		exponent = least;
	return r.sign | (uint64_t)(exponent + (size == 4 ? 127 : 1023)) << fraction_bits(size) | r.fraction;
}

/* --- one result --- */

/* Where the sources of a result are: product = factor * factor, sum = product + term. Some may be missing. */
struct part {
	uint8_t there, src, n;
};
struct parts {
	struct part factor[2], term;
};

static struct parts parts_of(enum x86_fp_kind kind, unsigned k, unsigned count)
{
	/* Neighbours: first those of one source, then those of the other. */
	const uint8_t n = (uint8_t)k, from = 2 * k >= count, pair = (uint8_t)(2 * k - (from ? count : 0));

	switch (kind) {
	case X86_FP_SUM:
		return (struct parts){ { { 1, 0, n } }, { 1, 1, n } };
	case X86_FP_PRODUCT:
		return (struct parts){ { { 1, 0, n }, { 1, 1, n } }, { 0 } };
	case X86_FP_NARROW:
		return (struct parts){ { { 1, 1, n } }, { 0 } };
	case X86_FP_PAIRS:
		return (struct parts){ { { 1, from, pair } }, { 1, from, pair + 1 } };
	case X86_FP_FMA132:
		return (struct parts){ { { 1, 0, n }, { 1, 1, n } }, { 1, 2, n } };
	case X86_FP_FMA213:
		return (struct parts){ { { 1, 2, n }, { 1, 0, n } }, { 1, 1, n } };
	case X86_FP_FMA231:
		return (struct parts){ { { 1, 2, n }, { 1, 1, n } }, { 1, 0, n } };
	default:
		return (struct parts){ { { 1, 0, n } }, { 0 } };
	}
}

/* The operation on `v` under this MXCSR: the flags, and the result in v[0]. */
static uint32_t run(const struct x86_insn *i, union x86_vec v[3], uint32_t mxcsr)
{
	__asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
	(i->flags & X86_I_VEX ? host_avx : host_sse)(i->imm, &v[0], &v[1], &v[2]);
	return x86_mxcsr_flags();
}

/* Would the result be inexact if there were no limit to exponents? The greatest of them becomes 0. */
static uint32_t inexact(const struct x86_insn *i, union x86_vec v[3], const struct parts *p, unsigned size,
			uint32_t mxcsr)
{
	const struct part *const part[3] = { &p->factor[0], &p->factor[1], &p->term };
	int exponent[3] = { 0, 0, 0 }, product, top;
	struct number x[3];

	for (unsigned k = 0; k < 3; k++) {
		if (!part[k]->there)
			continue;
		x[k] = take_apart(get(&v[part[k]->src], part[k]->n, size), size, mxcsr & MX_DAZ);
		exponent[k] = x[k].exponent;
	}
	product = exponent[0] + exponent[1];
	top = p->term.there && exponent[2] > product ? exponent[2] : product;
	exponent[0] = p->term.there && !p->factor[1].there ? product - top : 0;
	exponent[1] = p->term.there ? product - top : 0;
	exponent[2] -= top;
	for (unsigned k = 0; k < 3; k++)
		if (part[k]->there)
			put(&v[part[k]->src], part[k]->n, size, put_together(x[k], size, exponent[k]));
	return run(i, v, mxcsr) & MX_PE;
}

/* The flags of all elements. */
static uint32_t each_by_itself(const struct x86_cpu *cpu, const struct x86_insn *i, const union x86_vec *const src[3])
{
	const enum x86_fp_kind kind = i->fp & X86_FP_KIND;
	const unsigned size = i->fp & X86_FP_DOUBLE ? 8 : 4;
	const unsigned result = kind == X86_FP_NARROW || kind == X86_FP_HALF ? size / 2 : size;
	const unsigned count = i->fp & X86_FP_SCALAR ? 1 : (i->flags & X86_I_VEX256 ? 32 : 16) / size;
	const uint32_t open = x86_mxcsr_open(cpu);
	/* Flush-to-zero is not in force while underflow is unmasked. */
	const uint32_t mxcsr = (cpu->s.mxcsr | X86_MX_MASKS) & ~(X86_MX_FLAGS | (open & X86_MX_UE ? MX_FTZ : 0));
	uint32_t flags = 0;

	for (unsigned k = 0; k < count; k++) {
		const struct parts p = parts_of(kind, k, count);
		const struct part *const part[3] = { &p.factor[0], &p.factor[1], &p.term };
		union x86_vec v[3] = { ones(size), ones(size), ones(size) }, r[3];
		uint32_t one;

		for (unsigned n = 0; n < 3; n++)
			if (part[n]->there)
				put(&v[part[n]->src], part[n]->n, size, get(src[part[n]->src], part[n]->n, size));
		memcpy(r, v, sizeof(r));
		one = run(i, r, mxcsr);
		if (open & X86_MX_UE && any_denormal(&r[0], result))
			one |= X86_MX_UE;
		if (one & open & (X86_MX_OE | X86_MX_UE))
			one = (one & ~MX_PE) | inexact(i, v, &p, size, mxcsr);
		flags |= one;
	}
	return flags;
}

/* --- dot products: the products, the sums of two, and in single precision the sum of those --- */

#define HIDDEN __attribute__((visibility("hidden")))
extern const char sse_mulps[] HIDDEN, sse_mulpd[] HIDDEN, sse_haddps[] HIDDEN, sse_haddpd[] HIDDEN;
extern const char avx256_mulps[] HIDDEN, avx256_haddps[] HIDDEN;

/* What of a source counts: the immediate's high half. */
static union x86_vec selected(const struct x86_insn *i, const union x86_vec *src, unsigned size)
{
	union x86_vec v = *src;

	for (unsigned n = 0; n < sizeof(v) / size; n++)
		if (!(i->ib >> (4 + n % (16 / size)) & 1))
			put(&v, n, size, 0);
	return v;
}

/* Each stage raises its exceptions before the next one begins. */
static void dot_product(struct x86_cpu *cpu, const struct x86_insn *i, const union x86_vec *const src[3])
{
	const uint8_t wide = i->fp & X86_FP_DOUBLE;
	const bool ymm = i->flags & X86_I_VEX256;
	const uint16_t flags = ymm ? X86_I_VEX | X86_I_VEX256 : 0;
	const char *mul = ymm ? avx256_mulps : wide ? sse_mulpd : sse_mulps;
	const char *hadd = ymm ? avx256_haddps : wide ? sse_haddpd : sse_haddps;
	const struct x86_insn multiply = { .imm = (uintptr_t)mul, .fp = X86_FP_PRODUCT | wide, .flags = flags };
	const struct x86_insn add = { .imm = (uintptr_t)hadd, .fp = X86_FP_PAIRS | wide, .flags = flags };
	const struct x86_insn *const stages[] = { &multiply, &add, wide ? NULL : &add };
	union x86_vec a = selected(i, src[0], wide ? 8 : 4), b = selected(i, src[1], wide ? 8 : 4);

	for (unsigned n = 0; n < ARRAY_LEN(stages) && stages[n]; n++) {
		union x86_vec v[3] = { a, b, b };
		uint32_t raised = each_by_itself(cpu, stages[n], (const union x86_vec *const[3]){ &a, &b, &b });

		if (raised & x86_mxcsr_open(cpu))
			x86_mxcsr_unmasked(cpu, raised);
		cpu->s.mxcsr |= raised;
		run(stages[n], v, (cpu->s.mxcsr | X86_MX_MASKS) & ~X86_MX_FLAGS);
		a = b = v[0];
	}
}

void x86_mxcsr_each(struct x86_cpu *cpu, const struct x86_insn *i, const union x86_vec *const src[3])
{
	uint32_t open = x86_mxcsr_open(cpu), flags;

	if ((i->fp & X86_FP_KIND) == X86_FP_DOT) {
		dot_product(cpu, i, src);
	} else if (open & (X86_MX_OE | X86_MX_UE)) {
		flags = each_by_itself(cpu, i, src);
		if (flags & open)
			x86_mxcsr_unmasked(cpu, flags);
	}
}
