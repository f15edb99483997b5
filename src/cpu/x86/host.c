/* The handlers of vector operations that the host executes: one a shape, the operation is a stub. See host.h. */
#include "cpu/x86/host.h"

#define HANDLER(name) const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

/* --- without VEX --- */

HANDLER(x86_sse_binary)
{
	union x86_vec buf;

	x86_sse_enter(cpu);
	host_sse(i->imm, &cpu->s.vec[i->reg], host_operand_aligned(cpu, i, &buf), &cpu->s.vec[0]);
	return x86_next(cpu, i);
}

HANDLER(x86_sse_unaligned)
{
	union x86_vec buf;

	x86_sse_enter(cpu);
	host_sse(i->imm, &cpu->s.vec[i->reg], host_operand(cpu, i, &buf), &cpu->s.vec[0]);
	return x86_next(cpu, i);
}

HANDLER(x86_sse_binary_fp)
{
	union x86_vec buf, a;
	const union x86_vec *b;

	x86_sse_enter(cpu);
	b = host_operand_aligned(cpu, i, &buf);
	a = cpu->s.vec[i->reg];
	x86_mxcsr_look(cpu, i, &a, b, &a);
	x86_mxcsr_begin(cpu);
	host_sse(i->imm, &a, b, &cpu->s.vec[0]);
	x86_mxcsr_end(cpu);
	cpu->s.vec[i->reg] = a;
	return x86_next(cpu, i);
}

HANDLER(x86_mmx_binary)
{
	uint64_t a, b;

	x86_mmx_enter(cpu);
	b = i->flags & X86_I_REG ? cpu->s.fp.r[i->rm & 7].mant : x86_ldm64(cpu, i);
	x86_mmx_begin(cpu);
	a = cpu->s.fp.r[i->reg & 7].mant;
	__asm__ volatile("movq %[a], %%mm1\n\t"
			 "movq %[b], %%mm2\n\t"
			 "lea 1f(%%rip), %%rsi\n\t"
			 "jmp *%[stub]\n"
			 "1:\tmovq %%mm1, %[a]\n\t"
			 "emms"
			 : [a] "+m"(a)
			 : [b] "m"(b), [stub] "r"(i->imm)
			 : "rsi", "mm1", "mm2");
	x86_mmx_set(cpu, i->reg, a);
	return x86_next(cpu, i);
}

/* --- VEX --- */

HANDLER(x86_avx_binary)
{
	union x86_vec buf, a;
	const union x86_vec *b;

	x86_avx_enter(cpu);
	b = host_operand(cpu, i, &buf);
	a = cpu->s.vec[i->vreg];
	host_avx(i->imm, &a, b, b);
	cpu->s.vec[i->reg] = a;
	return x86_next(cpu, i);
}

HANDLER(x86_avx_binary_fp)
{
	union x86_vec buf, a;
	const union x86_vec *b;

	x86_avx_enter(cpu);
	b = host_operand(cpu, i, &buf);
	a = cpu->s.vec[i->vreg];
	x86_mxcsr_look(cpu, i, &a, b, b);
	x86_mxcsr_begin(cpu);
	host_avx(i->imm, &a, b, b);
	x86_mxcsr_end(cpu);
	cpu->s.vec[i->reg] = a;
	return x86_next(cpu, i);
}

HANDLER(x86_avx_unary)
{
	union x86_vec buf;
	const union x86_vec *b;

	x86_avx_enter(cpu);
	b = host_operand(cpu, i, &buf);
	host_avx(i->imm, &cpu->s.vec[i->reg], b, b);
	return x86_next(cpu, i);
}

HANDLER(x86_avx_unary_fp)
{
	union x86_vec buf, a;
	const union x86_vec *b;

	x86_avx_enter(cpu);
	b = host_operand(cpu, i, &buf);
	x86_mxcsr_look(cpu, i, b, b, b);
	x86_mxcsr_begin(cpu);
	host_avx(i->imm, &a, b, b);
	x86_mxcsr_end(cpu);
	cpu->s.vec[i->reg] = a;
	return x86_next(cpu, i);
}

HANDLER(x86_avx_blend)
{
	union x86_vec buf, a;
	const union x86_vec *b;

	x86_avx_enter(cpu);
	b = host_operand(cpu, i, &buf);
	a = cpu->s.vec[i->vreg];
	host_avx(i->imm, &a, b, &cpu->s.vec[i->ib]);
	cpu->s.vec[i->reg] = a;
	return x86_next(cpu, i);
}

HANDLER(x86_avx_fma)
{
	union x86_vec buf, a;
	const union x86_vec *b;

	x86_avx_enter(cpu);
	b = host_operand(cpu, i, &buf);
	a = cpu->s.vec[i->reg];
	x86_mxcsr_look(cpu, i, &a, b, &cpu->s.vec[i->vreg]);
	x86_mxcsr_begin(cpu);
	host_avx(i->imm, &a, b, &cpu->s.vec[i->vreg]);
	x86_mxcsr_end(cpu);
	cpu->s.vec[i->reg] = a;
	return x86_next(cpu, i);
}

HANDLER(x86_avx_shift)
{
	const union x86_vec *b = &cpu->s.vec[i->rm];

	x86_avx_enter(cpu);
	host_avx(i->imm, &cpu->s.vec[i->vreg], b, b);
	return x86_next(cpu, i);
}

/* --- flags --- */

static void set_flags(struct x86_cpu *cpu, uint64_t stub, const union x86_vec *a, const union x86_vec *b, bool avx)
{
	uint32_t flags;

	if (avx)
		__asm__ volatile("vmovdqu (%[a]), %%ymm1\n\t"
				 "vmovdqu (%[b]), %%ymm2\n\t"
				 "lea 1f(%%rip), %%rsi\n\t"
				 "jmp *%[stub]\n"
				 "1:\tlahf\n\t"
				 "vzeroupper"
				 : "=a"(flags)
				 : [a] "r"(a), [b] "r"(b), [stub] "r"(stub)
				 : "rsi", "xmm0", "xmm1", "xmm2", "cc", "memory");
	else
		__asm__ volatile("movdqu (%[a]), %%xmm1\n\t"
				 "movdqu (%[b]), %%xmm2\n\t"
				 "lea 1f(%%rip), %%rsi\n\t"
				 "jmp *%[stub]\n"
				 "1:\tlahf"
				 : "=a"(flags)
				 : [a] "r"(a), [b] "r"(b), [stub] "r"(stub)
				 : "rsi", "xmm0", "xmm1", "xmm2", "cc", "memory");
	x86_lazy_set(&cpu->lazy, flags >> 8 & (X86_ZF | X86_PF | X86_CF));
}

HANDLER(x86_sse_test)
{
	union x86_vec buf;

	x86_sse_enter(cpu);
	set_flags(cpu, i->imm, &cpu->s.vec[i->reg], host_operand_aligned(cpu, i, &buf), false);
	return x86_next(cpu, i);
}

HANDLER(x86_avx_test)
{
	union x86_vec buf;

	x86_avx_enter(cpu);
	set_flags(cpu, i->imm, &cpu->s.vec[i->reg], host_operand(cpu, i, &buf), true);
	return x86_next(cpu, i);
}

/* An exception leaves the flags alone. */
static void test_fp(struct x86_cpu *cpu, const struct x86_insn *i, const union x86_vec *b, bool avx)
{
	const struct x86_lazy before = cpu->lazy;
	struct x86_lazy after;

	x86_mxcsr_begin(cpu);
	set_flags(cpu, i->imm, &cpu->s.vec[i->reg], b, avx);
	after = cpu->lazy;
	cpu->lazy = before;
	x86_mxcsr_end(cpu);
	cpu->lazy = after;
}

HANDLER(x86_sse_test_fp)
{
	union x86_vec buf;

	x86_sse_enter(cpu);
	test_fp(cpu, i, host_operand(cpu, i, &buf), false);
	return x86_next(cpu, i);
}

HANDLER(x86_avx_test_fp)
{
	union x86_vec buf;

	x86_avx_enter(cpu);
	test_fp(cpu, i, host_operand(cpu, i, &buf), true);
	return x86_next(cpu, i);
}

/* --- SSE4.2 string comparisons: VEX forms differ in what is above XMM0 --- */

struct string_result {
	uint32_t index;
	union x86_vec mask;
};

/* A length: with REX.W 64 bits, of which the instruction looks at the magnitude up to 16. */
static uint32_t length(const struct x86_cpu *cpu, const struct x86_insn *i, unsigned reg)
{
	int64_t v = (int64_t)cpu->s.gpr[reg];

	if (!(i->flags & X86_I_WIDE))
		return (uint32_t)v;
	return v > 16 || v < -16 ? 16 : (uint32_t)v;
}

static struct string_result compare_strings(struct x86_cpu *cpu, const struct x86_insn *i)
{
	struct string_result r;
	const union x86_vec *b;
	union x86_vec buf;
	uint32_t flags;

	b = host_operand(cpu, i, &buf);
	__asm__ volatile("movdqu (%[a]), %%xmm1\n\t"
			 "movdqu (%[b]), %%xmm2\n\t"
			 "lea 1f(%%rip), %%rsi\n\t"
			 "jmp *%[stub]\n"
			 "1:\tlahf\n\t"
			 "seto %%al\n\t"
			 "movdqu %%xmm0, (%[mask])"
			 : "=a"(flags), "=&c"(r.index)
			 : [a] "r"(&cpu->s.vec[i->reg]), [b] "r"(b), [mask] "r"(&r.mask), [stub] "r"(i->imm),
			   "a"(length(cpu, i, X86_RAX)), "d"(length(cpu, i, X86_RDX))
			 : "rsi", "xmm0", "xmm1", "xmm2", "cc", "memory");
	x86_lazy_set(&cpu->lazy, (flags >> 8 & (X86_CF | X86_ZF | X86_SF)) | (flags & 1 ? X86_OF : 0));
	return r;
}

HANDLER(x86_sse_string_index)
{
	x86_sse_enter(cpu);
	cpu->s.gpr[X86_RCX] = compare_strings(cpu, i).index;
	return x86_next(cpu, i);
}

HANDLER(x86_sse_string_mask)
{
	struct string_result r;

	x86_sse_enter(cpu);
	r = compare_strings(cpu, i);
	memcpy(cpu->s.vec[0].b, r.mask.b, 16);
	return x86_next(cpu, i);
}

HANDLER(x86_avx_string_index)
{
	x86_avx_enter(cpu);
	cpu->s.gpr[X86_RCX] = compare_strings(cpu, i).index;
	return x86_next(cpu, i);
}

HANDLER(x86_avx_string_mask)
{
	struct string_result r;

	x86_avx_enter(cpu);
	r = compare_strings(cpu, i);
	memcpy(cpu->s.vec[0].b, r.mask.b, 16);
	memset(cpu->s.vec[0].b + 16, 0, 16);
	return x86_next(cpu, i);
}
