/*
 * x87 arithmetic, comparisons and transcendental functions: the host's own instruction under the guest's
 * precision and rounding control. SDM vol. 1, chapter 8. x86-64 hosts only.
 *
 * An exception that the guest has unmasked leaves the operands alone when it comes before the result (invalid,
 * denormal, zero divide); overflow and underflow leave a result with a wrapped exponent behind. Where the manuals
 * leave condition bits open they are as AMD's processors have them: C1 is cleared by an instruction that faults.
 */
#include "cpu/x86/template.h"
#include "cpu/x86/x87.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

typedef const struct x86_fpreg *fp_in;

/* What the host did: up to two results (`r[0]` is the host's ST0) and its status word. */
struct outcome {
	struct x86_fpreg r[2];
	uint16_t sw;
};

static const uint16_t host_cw = X87_HOST_CW;

/* a is ST0, b is ST1. */
#define HOST(name, before, insn, after)                                                                                \
	static void name(struct outcome *o, fp_in a, fp_in b, uint16_t cw)                                             \
	{                                                                                                              \
		__asm__ volatile(X87_BEGIN before insn X87_SW after X87_END                                            \
				 : [sw] "=m"(o->sw), [r] "=m"(o->r[0]), [s] "=m"(o->r[1])                              \
				 : [a] "m"(*a), [b] "m"(*b), [cw] "m"(cw), [host] "m"(host_cw)                         \
				 : "st", "st(1)", "st(2)", "st(3)", "cc");                                             \
	}
/* The operand in memory, and what it is. */
#define HOST_MEM(name, insn, type, after)                                                                              \
	static void name(struct outcome *o, fp_in a, const type *b, uint16_t cw)                                       \
	{                                                                                                              \
		__asm__ volatile(X87_BEGIN ONE insn " %[b]" X87_SW after X87_END                                       \
				 : [sw] "=m"(o->sw), [r] "=m"(o->r[0])                                                 \
				 : [a] "m"(*a), [b] "m"(*b), [cw] "m"(cw), [host] "m"(host_cw)                         \
				 : "st", "st(1)", "cc");                                                               \
	}
#define TWO  "fldt %[b]\n\tfldt %[a]\n\t"
#define ONE  "fldt %[a]\n\t"
#define KEEP "fstpt %[r]\n\tfstp %%st(0)" /* result over ST0, ST1 is dropped */
#define TOP1 "fstpt %[r]"
/* When there is only one result the second store finds the stack empty, and says so. */
#define TOP2 "fstpt %[r]\n\tfstpt %[s]\n\tfnclex"
#define DROP "fstp %%st(0)"
#define NONE DROP "\n\t" DROP
HOST(host_add, TWO, "fadd %%st(1), %%st", KEEP)
HOST(host_mul, TWO, "fmul %%st(1), %%st", KEEP)
HOST(host_sub, TWO, "fsub %%st(1), %%st", KEEP)
HOST(host_subr, TWO, "fsubr %%st(1), %%st", KEEP)
HOST(host_div, TWO, "fdiv %%st(1), %%st", KEEP)
HOST(host_divr, TWO, "fdivr %%st(1), %%st", KEEP)
HOST(host_prem, TWO, "fprem", KEEP)
HOST(host_prem1, TWO, "fprem1", KEEP)
HOST(host_scale, TWO, "fscale", KEEP)
HOST(host_yl2x, TWO, "fyl2x", TOP1)
HOST(host_yl2xp1, TWO, "fyl2xp1", TOP1)
HOST(host_patan, TWO, "fpatan", TOP1)
HOST(host_com, TWO, "fcom", NONE)
HOST(host_ucom, TWO, "fucom", NONE)
HOST(host_sqrt, ONE, "fsqrt", TOP1)
HOST(host_rndint, ONE, "frndint", TOP1)
HOST(host_2xm1, ONE, "f2xm1", TOP1)
HOST(host_sin, ONE, "fsin", TOP1)
HOST(host_cos, ONE, "fcos", TOP1)
HOST(host_xam, ONE, "fxam", TOP1)
HOST(host_tst, ONE, "ftst", TOP1)
HOST(host_tan, ONE, "fptan", TOP2)
HOST(host_sincos, ONE, "fsincos", TOP2)
HOST(host_xtract, ONE, "fxtract", TOP2)

typedef void host_fn(struct outcome *o, fp_in a, fp_in b, uint16_t cw);

#define HOST_MEMS(name, after)                                                                                         \
	HOST_MEM(host_##name##_m32, "f" #name "s", uint32_t, after)                                                    \
	HOST_MEM(host_##name##_m64, "f" #name "l", uint64_t, after)                                                    \
	HOST_MEM(host_##name##_i16, "fi" #name "s", uint16_t, after)                                                   \
	HOST_MEM(host_##name##_i32, "fi" #name "l", uint32_t, after)
HOST_MEMS(add, TOP1)
HOST_MEMS(mul, TOP1)
HOST_MEMS(sub, TOP1)
HOST_MEMS(subr, TOP1)
HOST_MEMS(div, TOP1)
HOST_MEMS(divr, TOP1)
HOST_MEMS(com, DROP)

/* --- committing --- */

/* Take over exceptions and condition bits. False: an unmasked exception forbids the result. */
static bool settle(struct x86_cpu *cpu, const struct outcome *o, uint16_t conditions)
{
	struct x86_x87 *fp = &cpu->s.fp;
	uint16_t flags = o->sw & X87_EXC, open = flags & (uint16_t)~fp->cw;

	if (open & X87_PRE) {
		fp->sw &= (uint16_t)~X87_C1;
		x87_raise(cpu, flags & X87_PRE);
		return false;
	}
	fp->sw = (uint16_t)((fp->sw & ~conditions) | (o->sw & conditions));
	x87_raise(cpu, flags);
	return true;
}

/* Both registers hold something; else the stack fault, whose masked result goes to ST(dst). */
static bool full(struct x86_cpu *cpu, unsigned a, unsigned b, int dst)
{
	if (__builtin_expect(!x87_empty(cpu, a) && !x87_empty(cpu, b), 1))
		return true;
	if (!x87_stack_fault(cpu, false) && dst >= 0)
		x87_write(cpu, (unsigned)dst, X87_INDEFINITE);
	return false;
}

/* An unmasked stack fault stops pops as well. */
static bool may_pop(const struct x86_cpu *cpu)
{
	return !(cpu->s.fp.sw & ~cpu->s.fp.cw & X87_IE);
}

/* ST(dst) = ST(a) op ST(b), then pops. */
static inline void arith(struct x86_cpu *cpu, host_fn *fn, unsigned a, unsigned b, unsigned dst, bool pop)
{
	struct outcome o;

	if (!full(cpu, a, b, (int)dst)) {
		if (pop && may_pop(cpu))
			x87_pop(cpu);
		return;
	}
	fn(&o, x87_st(cpu, a), x87_st(cpu, b), x87_host_cw(cpu));
	if (!settle(cpu, &o, X87_C1))
		return;
	x87_write(cpu, dst, o.r[0]);
	if (pop)
		x87_pop(cpu);
}

/* The conditions are there also when an unmasked exception keeps the registers from being popped. */
static void compared(struct x86_cpu *cpu, const struct outcome *o, unsigned pops)
{
	struct x86_x87 *fp = &cpu->s.fp;

	fp->sw = (uint16_t)((fp->sw & ~X87_CC) | (o->sw & (X87_C0 | X87_C2 | X87_C3)));
	x87_raise(cpu, o->sw & X87_EXC);
	if (o->sw & ~fp->cw & X87_EXC)
		return;
	while (pops--)
		x87_pop(cpu);
}

static void compare_empty(struct x86_cpu *cpu, unsigned pops)
{
	bool stop = x87_stack_fault(cpu, false);

	cpu->s.fp.sw |= X87_C0 | X87_C2 | X87_C3;
	while (!stop && pops--)
		x87_pop(cpu);
}

static void compare(struct x86_cpu *cpu, host_fn *fn, unsigned with, unsigned pops)
{
	struct outcome o;

	if (x87_empty(cpu, 0) || x87_empty(cpu, with)) {
		compare_empty(cpu, pops);
		return;
	}
	fn(&o, x87_st(cpu, 0), x87_st(cpu, with), x87_host_cw(cpu));
	compared(cpu, &o, pops);
}

/* FCOMI and FUCOMI: into EFLAGS, whatever is unmasked. C1 is left alone but for a stack fault. */
static void compare_flags(struct x86_cpu *cpu, host_fn *fn, unsigned sti, bool pop)
{
	struct outcome o = { .sw = X87_C0 | X87_C2 | X87_C3 };
	bool stop;

	if (x87_empty(cpu, 0) || x87_empty(cpu, sti)) {
		stop = x87_stack_fault(cpu, false);
	} else {
		fn(&o, x87_st(cpu, 0), x87_st(cpu, sti), x87_host_cw(cpu));
		x87_raise(cpu, o.sw & X87_EXC);
		stop = o.sw & ~cpu->s.fp.cw & X87_EXC;
	}
	x86_lazy_set(&cpu->lazy,
		     (o.sw & X87_C0 ? X86_CF : 0) | (o.sw & X87_C2 ? X86_PF : 0) | (o.sw & X87_C3 ? X86_ZF : 0));
	if (pop && !stop)
		x87_pop(cpu);
}

/* --- handlers: arithmetic in its register and memory forms --- */

#define ARITH(name, reversed)                                                                                          \
	HANDLER(name##_st0) /* ST0 = ST0 op STi */                                                                     \
	{                                                                                                              \
		x86_fpu_enter(cpu, true);                                                                              \
		x87_note(cpu, i);                                                                                      \
		arith(cpu, host_##name, 0, i->modrm & 7, 0, false);                                                    \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##_sti) /* STi = STi op ST0 */                                                                     \
	{                                                                                                              \
		x86_fpu_enter(cpu, true);                                                                              \
		x87_note(cpu, i);                                                                                      \
		arith(cpu, host_##name, i->modrm & 7, 0, i->modrm & 7, false);                                         \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	HANDLER(name##p_sti)                                                                                           \
	{                                                                                                              \
		x86_fpu_enter(cpu, true);                                                                              \
		x87_note(cpu, i);                                                                                      \
		arith(cpu, host_##name, i->modrm & 7, 0, i->modrm & 7, true);                                          \
		return x86_next(cpu, i);                                                                               \
	}                                                                                                              \
	ARITH_MEM(name, m32, 32)                                                                                       \
	ARITH_MEM(name, m64, 64) ARITH_MEM(name, i16, 16) ARITH_MEM(name, i32, 32)
#define ARITH_MEM(name, kind, bits)                                                                                    \
	HANDLER(name##_##kind)                                                                                         \
	{                                                                                                              \
		uint##bits##_t m;                                                                                      \
		struct outcome o;                                                                                      \
		x86_fpu_enter(cpu, true);                                                                              \
		m = x86_ldm##bits(cpu, i);                                                                             \
		x87_note_mem(cpu, i, x86_ea(cpu, i));                                                                  \
		if (!full(cpu, 0, 0, 0))                                                                               \
			return x86_next(cpu, i);                                                                       \
		host_##name##_##kind(&o, x87_st(cpu, 0), &m, x87_host_cw(cpu));                                        \
		if (settle(cpu, &o, X87_C1))                                                                           \
			x87_write(cpu, 0, o.r[0]);                                                                     \
		return x86_next(cpu, i);                                                                               \
	}
ARITH(add, )
ARITH(mul, )
ARITH(sub, )
ARITH(subr, )
ARITH(div, )
ARITH(divr, )

#define COMPARE_MEM(kind, bits)                                                                                        \
	HANDLER(com_##kind)                                                                                            \
	{                                                                                                              \
		unsigned pops = (i->modrm >> 3 & 7) == 3;                                                              \
		uint##bits##_t m;                                                                                      \
		struct outcome o;                                                                                      \
		x86_fpu_enter(cpu, true);                                                                              \
		m = x86_ldm##bits(cpu, i);                                                                             \
		x87_note_mem(cpu, i, x86_ea(cpu, i));                                                                  \
		if (x87_empty(cpu, 0)) {                                                                               \
			compare_empty(cpu, pops);                                                                      \
			return x86_next(cpu, i);                                                                       \
		}                                                                                                      \
		host_com_##kind(&o, x87_st(cpu, 0), &m, x87_host_cw(cpu));                                             \
		compared(cpu, &o, pops);                                                                               \
		return x86_next(cpu, i);                                                                               \
	}
COMPARE_MEM(m32, 32)
COMPARE_MEM(m64, 64)
COMPARE_MEM(i16, 16)
COMPARE_MEM(i32, 32)

#define COMPARE(name, fn, pops)                                                                                        \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		x86_fpu_enter(cpu, true);                                                                              \
		x87_note(cpu, i);                                                                                      \
		compare(cpu, fn, i->modrm & 7, pops);                                                                  \
		return x86_next(cpu, i);                                                                               \
	}
COMPARE(fcom, host_com, 0)
COMPARE(fcomp, host_com, 1)
COMPARE(fcompp, host_com, 2)
COMPARE(fucom, host_ucom, 0)
COMPARE(fucomp, host_ucom, 1)
COMPARE(fucompp, host_ucom, 2)

#define COMPARE_FLAGS(name, fn, pop)                                                                                   \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		x86_fpu_enter(cpu, true);                                                                              \
		x87_note(cpu, i);                                                                                      \
		compare_flags(cpu, fn, i->modrm & 7, pop);                                                             \
		return x86_next(cpu, i);                                                                               \
	}
COMPARE_FLAGS(fcomi, host_com, false)
COMPARE_FLAGS(fcomip, host_com, true)
COMPARE_FLAGS(fucomi, host_ucom, false)
COMPARE_FLAGS(fucomip, host_ucom, true)

HANDLER(ftst)
{
	x86_fpu_enter(cpu, true);
	x87_note(cpu, i);
	compare(cpu, host_tst, 0, 0);
	return x86_next(cpu, i);
}

HANDLER(fxam)
{
	struct outcome o;
	const struct x86_fpreg *st = x87_st(cpu, 0);

	x86_fpu_enter(cpu, true);
	x87_note(cpu, i);
	host_xam(&o, st, st, x87_host_cw(cpu));
	if (x87_empty(cpu, 0))
		o.sw = (uint16_t)((o.sw & X87_C1) | X87_C3 | X87_C0);
	cpu->s.fp.sw = (uint16_t)((cpu->s.fp.sw & ~X87_CC) | (o.sw & X87_CC));
	return x86_next(cpu, i);
}

/* --- functions of ST0, and of ST0 and ST1 --- */

/* The result replaces ST0. C2 in `conditions`: it says that there is none, and an exception clears it. */
static void unary(struct x86_cpu *cpu, host_fn *fn, uint16_t conditions)
{
	struct outcome o;

	cpu->s.fp.sw &= (uint16_t) ~(conditions & X87_C2);
	if (!full(cpu, 0, 0, 0))
		return;
	fn(&o, x87_st(cpu, 0), x87_st(cpu, 0), x87_host_cw(cpu));
	if (settle(cpu, &o, conditions) && !(conditions & o.sw & X87_C2))
		x87_write(cpu, 0, o.r[0]);
}

/* The result replaces ST1 and ST0 is popped. */
static void binary_pop(struct x86_cpu *cpu, host_fn *fn)
{
	struct outcome o;

	if (!full(cpu, 0, 1, 1)) {
		if (may_pop(cpu))
			x87_pop(cpu);
		return;
	}
	fn(&o, x87_st(cpu, 0), x87_st(cpu, 1), x87_host_cw(cpu));
	if (!settle(cpu, &o, X87_C1))
		return;
	x87_write(cpu, 1, o.r[0]);
	x87_pop(cpu);
}

/* Two results: the first replaces ST0, the second is pushed. */
static void unary_push(struct x86_cpu *cpu, host_fn *fn, uint16_t conditions)
{
	struct outcome o;

	cpu->s.fp.sw &= (uint16_t) ~(conditions & X87_C2);
	if (!x87_empty(cpu, 7) || x87_empty(cpu, 0)) {
		if (!x87_stack_fault(cpu, !x87_empty(cpu, 0))) {
			x87_write(cpu, 0, X87_INDEFINITE);
			x87_push(cpu, X87_INDEFINITE);
		}
		return;
	}
	fn(&o, x87_st(cpu, 0), x87_st(cpu, 0), x87_host_cw(cpu));
	if (!settle(cpu, &o, conditions) || conditions & o.sw & X87_C2)
		return;
	x87_write(cpu, 0, o.r[1]);
	x87_push(cpu, o.r[0]);
}

#define FUNCTION(name, call)                                                                                           \
	HANDLER(name)                                                                                                  \
	{                                                                                                              \
		x86_fpu_enter(cpu, true);                                                                              \
		x87_note(cpu, i);                                                                                      \
		call;                                                                                                  \
		return x86_next(cpu, i);                                                                               \
	}
FUNCTION(fsqrt, unary(cpu, host_sqrt, X87_C1))
FUNCTION(frndint, unary(cpu, host_rndint, X87_C1))
FUNCTION(f2xm1, unary(cpu, host_2xm1, X87_C1))
FUNCTION(fsin, unary(cpu, host_sin, X87_C1 | X87_C2))
FUNCTION(fcos, unary(cpu, host_cos, X87_C1 | X87_C2))
FUNCTION(fyl2x, binary_pop(cpu, host_yl2x))
FUNCTION(fyl2xp1, binary_pop(cpu, host_yl2xp1))
FUNCTION(fpatan, binary_pop(cpu, host_patan))
FUNCTION(fptan, unary_push(cpu, host_tan, X87_C1 | X87_C2))
FUNCTION(fsincos, unary_push(cpu, host_sincos, X87_C1 | X87_C2))
FUNCTION(fxtract, unary_push(cpu, host_xtract, X87_C1))

static bool is_nan(fp_in r)
{
	return (r->sexp & 0x7fff) == 0x7fff && r->mant << 1;
}

/* FPREM, FPREM1, FSCALE: ST0 and ST1 give ST0. Without a number C0 and C3, bits of the quotient, stay. */
static void remainder_of(struct x86_cpu *cpu, host_fn *fn, uint16_t conditions)
{
	struct outcome o;

	cpu->s.fp.sw &= (uint16_t) ~(conditions & X87_C2);
	if (!full(cpu, 0, 1, 0))
		return;
	fn(&o, x87_st(cpu, 0), x87_st(cpu, 1), x87_host_cw(cpu));
	if (settle(cpu, &o, is_nan(&o.r[0]) ? conditions & (X87_C1 | X87_C2) : conditions))
		x87_write(cpu, 0, o.r[0]);
}
FUNCTION(fprem, remainder_of(cpu, host_prem, X87_CC))
FUNCTION(fprem1, remainder_of(cpu, host_prem1, X87_CC))
FUNCTION(fscale, remainder_of(cpu, host_scale, X87_C1))

/* --- rows --- */

#define MEM(op, ext, fn)                                                                                               \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, X86_MOD_MEM, 1 + ext, 0, 0, 0, {}, X86_ALL(fn), #fn                               \
	}
#define REG(op, ext, fn)                                                                                               \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, X86_MOD_REG, 1 + ext, 0, 0, 0, X86_ALL(fn), {}, #fn                               \
	}
#define ONE_ROW(op, ext, rm, fn)                                                                                       \
	{                                                                                                              \
		X86_MAP_1, op, 1, 0, X86_MOD_REG, 1 + ext, 1 + rm, 0, 0, X86_ALL(fn), {}, #fn                          \
	}
#define ARITH_ROWS(name, ext)                                                                                          \
	MEM(0xd8, ext, name##_m32), MEM(0xdc, ext, name##_m64), MEM(0xda, ext, name##_i32),                            \
		MEM(0xde, ext, name##_i16), REG(0xd8, ext, name##_st0)
static const struct x86_opdef rows[] = {
	ARITH_ROWS(add, 0),
	ARITH_ROWS(mul, 1),
	ARITH_ROWS(sub, 4),
	ARITH_ROWS(subr, 5),
	ARITH_ROWS(div, 6),
	ARITH_ROWS(divr, 7),
	/* With a destination other than ST0 the encodings of the reversed forms change places. */
	REG(0xdc, 0, add_sti),
	REG(0xdc, 1, mul_sti),
	REG(0xdc, 4, subr_sti),
	REG(0xdc, 5, sub_sti),
	REG(0xdc, 6, divr_sti),
	REG(0xdc, 7, div_sti),
	REG(0xde, 0, addp_sti),
	REG(0xde, 1, mulp_sti),
	REG(0xde, 4, subrp_sti),
	REG(0xde, 5, subp_sti),
	REG(0xde, 6, divrp_sti),
	REG(0xde, 7, divp_sti),
	MEM(0xd8, 2, com_m32),
	MEM(0xd8, 3, com_m32),
	MEM(0xdc, 2, com_m64),
	MEM(0xdc, 3, com_m64),
	MEM(0xda, 2, com_i32),
	MEM(0xda, 3, com_i32),
	MEM(0xde, 2, com_i16),
	MEM(0xde, 3, com_i16),
	REG(0xd8, 2, fcom),
	REG(0xd8, 3, fcomp),
	REG(0xdc, 2, fcom),
	REG(0xdc, 3, fcomp),
	REG(0xde, 2, fcomp),
	ONE_ROW(0xde, 3, 1, fcompp),
	REG(0xdd, 4, fucom),
	REG(0xdd, 5, fucomp),
	ONE_ROW(0xda, 5, 1, fucompp),
	REG(0xdb, 5, fucomi),
	REG(0xdb, 6, fcomi),
	REG(0xdf, 5, fucomip),
	REG(0xdf, 6, fcomip),
	ONE_ROW(0xd9, 4, 4, ftst),
	ONE_ROW(0xd9, 4, 5, fxam),
	ONE_ROW(0xd9, 6, 0, f2xm1),
	ONE_ROW(0xd9, 6, 1, fyl2x),
	ONE_ROW(0xd9, 6, 2, fptan),
	ONE_ROW(0xd9, 6, 3, fpatan),
	ONE_ROW(0xd9, 6, 4, fxtract),
	ONE_ROW(0xd9, 6, 5, fprem1),
	ONE_ROW(0xd9, 7, 0, fprem),
	ONE_ROW(0xd9, 7, 1, fyl2xp1),
	ONE_ROW(0xd9, 7, 2, fsqrt),
	ONE_ROW(0xd9, 7, 3, fsincos),
	ONE_ROW(0xd9, 7, 4, frndint),
	ONE_ROW(0xd9, 7, 5, fscale),
	ONE_ROW(0xd9, 7, 6, fsin),
	ONE_ROW(0xd9, 7, 7, fcos),
};
X86_DEFS(x86_defs_x87_arith, rows);
