/*
 * Vector operations that the host's own instruction executes.
 *
 * Each operation has a stub: the one instruction on fixed registers, then a jump back. Operations with an
 * immediate have one stub a value, X86_STUB_SIZE apart; the decoder picks it (x86_opdef.stub), so one
 * handler serves all operations of a shape. A stub works on
 *   xmm1, ymm1  the first source, and the result
 *   xmm2, ymm2  the second source: ModRM.rm or memory
 *   xmm0, ymm0  a third source
 *   rsi         where to go back
 * and may use eax, ecx, edx where its shape says so. Only on x86-64 hosts; private to cpu/x86.
 */
#ifndef VIREO_CPU_X86_HOST_H
#define VIREO_CPU_X86_HOST_H

#include <string.h>

#include "cpu/x86/template.h"

/* A stub named `id`; `insn` is assembly text. */
#define HOST_STUB(id, insn) HOST_STUBS(id, 1, insn)
/* `count` of them, in which `k` is the value of the immediate. */
#define HOST_STUBS(id, count, insn)                                                                                    \
	__asm__(".pushsection .text\n"                                                                                 \
		".balign 8\n"                                                                                          \
		".globl " #id "\n"                                                                                     \
		".hidden " #id "\n" #id ":\n"                                                                          \
		".set k, 0\n"                                                                                          \
		".rept " #count "\n" insn "\n"                                                                         \
		"jmp *%rsi\n"                                                                                          \
		".balign 8\n"                                                                                          \
		".set k, k + 1\n"                                                                                      \
		".endr\n"                                                                                              \
		".popsection\n");                                                                                      \
	extern const char id[] __attribute__((visibility("hidden")));

/* Run a stub between loads and stores of whole registers. `c` is NULL where there is no third source. */
static inline void host_avx(uint64_t stub, union x86_vec *a, const union x86_vec *b, const union x86_vec *c)
{
	__asm__ volatile("vmovdqu (%[a]), %%ymm1\n\t"
			 "vmovdqu (%[b]), %%ymm2\n\t"
			 "vmovdqu (%[c]), %%ymm0\n\t"
			 "lea 1f(%%rip), %%rsi\n\t"
			 "jmp *%[stub]\n"
			 "1:\tvmovdqu %%ymm1, (%[a])\n\t"
			 "vzeroupper"
			 :
			 : [a] "r"(a), [b] "r"(b), [c] "r"(c), [stub] "r"(stub)
			 : "rsi", "xmm0", "xmm1", "xmm2", "memory");
}

/* The same on the low halves, for operations without VEX: what is above stays. */
static inline void host_sse(uint64_t stub, union x86_vec *a, const union x86_vec *b, const union x86_vec *c)
{
	__asm__ volatile("movdqu (%[a]), %%xmm1\n\t"
			 "movdqu (%[b]), %%xmm2\n\t"
			 "movdqu (%[c]), %%xmm0\n\t"
			 "lea 1f(%%rip), %%rsi\n\t"
			 "jmp *%[stub]\n"
			 "1:\tmovdqu %%xmm1, (%[a])"
			 :
			 : [a] "r"(a), [b] "r"(b), [c] "r"(c), [stub] "r"(stub)
			 : "rsi", "xmm0", "xmm1", "xmm2", "memory");
}

/*
 * Around a floating-point operation: the guest's rounding and flush modes with all exceptions masked, then what it
 * raised is merged into the guest's MXCSR. x86_mxcsr_end() does not return if one is unmasked (SDM vol. 1, 11.5), so
 * nothing may be written before it.
 */
#define X86_MX_FLAGS 0x3fu
#define X86_MX_MASKS 0x1f80u
_Noreturn void x86_mxcsr_unmasked(struct x86_cpu *cpu, uint32_t flags);

static inline void x86_mxcsr_begin(const struct x86_cpu *cpu)
{
	uint32_t v = (cpu->s.mxcsr | X86_MX_MASKS) & ~X86_MX_FLAGS;

	__asm__ volatile("ldmxcsr %0" ::"m"(v));
}

/* The flags that the host has raised; its own MXCSR is in force again. */
static inline uint32_t x86_mxcsr_flags(void)
{
	static const uint32_t host = X86_MX_MASKS;
	uint32_t v;

	__asm__ volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(v) : "m"(host));
	return v & X86_MX_FLAGS;
}

/* The exceptions that the guest has unmasked. */
static inline uint32_t x86_mxcsr_open(const struct x86_cpu *cpu)
{
	return ~(cpu->s.mxcsr >> 7) & X86_MX_FLAGS;
}

static inline void x86_mxcsr_end(struct x86_cpu *cpu)
{
	uint32_t v = x86_mxcsr_flags();

	if (__builtin_expect(v & x86_mxcsr_open(cpu), 0))
		x86_mxcsr_unmasked(cpu, v);
	cpu->s.mxcsr |= v;
}

#define X86_MX_OE 0x08u
#define X86_MX_UE 0x10u
/*
 * Before an operation that can overflow or underflow (x86_insn.fp): does not return if it does so and the guest has
 * unmasked that. The sources are whole registers. mxcsr.c
 */
void x86_mxcsr_each(struct x86_cpu *cpu, const struct x86_insn *i, const union x86_vec *const src[3]);

static inline void x86_mxcsr_look(struct x86_cpu *cpu, const struct x86_insn *i, const union x86_vec *a,
				  const union x86_vec *b, const union x86_vec *c)
{
	if (__builtin_expect(x86_mxcsr_open(cpu), 0) && i->fp & X86_FP_KIND)
		x86_mxcsr_each(cpu, i, (const union x86_vec *const[3]){ a, b, c });
}

/* #UD unless XCR0 enables the upper halves (the decoder sees to real mode), #NM with CR0.TS. */
static inline void x86_avx_enter(struct x86_cpu *cpu)
{
	if (__builtin_expect(cpu->avx_block, 0))
		x86_raise(cpu, cpu->avx_block, 0);
}

/* An operand of 32 bytes counts as aligned where #AC is concerned when each half is. */
static inline void x86_check_halves(struct x86_cpu *cpu, const struct x86_insn *i, unsigned size, enum x86_access a)
{
	if (__builtin_expect(cpu->align_check, 0) && size == 32 &&
	    x86_linear_bounded(cpu, i->seg, x86_ea(cpu, i), size, a) & 15)
		x86_raise(cpu, X86_AC_FAULT, 0);
}

/* The operand ModRM.rm of x86_insn.opsize bytes: the register itself, or `buf` filled from memory. */
static inline const union x86_vec *host_operand(struct x86_cpu *cpu, const struct x86_insn *i, union x86_vec *buf)
{
	if (i->flags & X86_I_REG)
		return &cpu->s.vec[i->rm];
	memset(buf, 0, sizeof(*buf));
	x86_check_halves(cpu, i, i->opsize, X86_READ);
	x86_load_bytes(cpu, i->seg, x86_ea(cpu, i), buf, i->opsize);
	return buf;
}

/* Without VEX, memory operands of 16 bytes are aligned. */
static inline const union x86_vec *host_operand_aligned(struct x86_cpu *cpu, const struct x86_insn *i,
							union x86_vec *buf)
{
	if (i->flags & X86_I_REG || i->opsize != 16)
		return host_operand(cpu, i, buf);
	x86_load_aligned(cpu, i, buf, 16);
	return buf;
}

/* --- the handlers, by shape (host.c). `_fp`: with the guest's MXCSR and its exceptions --- */

/* Without VEX: reg = op(reg, rm); the third source is XMM0. */
x86_exec x86_sse_binary, x86_sse_binary_fp, x86_sse_unaligned, x86_sse_test, x86_sse_test_fp;
/* MMX registers: reg = op(reg, rm). */
x86_exec x86_mmx_binary;
/* VEX: reg = op(vvvv, rm). */
x86_exec x86_avx_binary, x86_avx_binary_fp;
/* VEX: reg = op(rm). */
x86_exec x86_avx_unary, x86_avx_unary_fp;
/* VEX: reg = op(vvvv, rm, is4). */
x86_exec x86_avx_blend;
/* VEX: reg = op(reg, rm, vvvv). */
x86_exec x86_avx_fma;
/* VEX: vvvv = op(rm). */
x86_exec x86_avx_shift;
/* Flags from reg and rm. */
x86_exec x86_avx_test, x86_avx_test_fp;
/* Flags, RCX or XMM0 from reg, rm, EAX and EDX: the string comparisons of SSE4.2; `_index` and `_mask` results. */
x86_exec x86_sse_string_index, x86_sse_string_mask, x86_avx_string_index, x86_avx_string_mask;

/* --- rows --- */

/* stub id, map, prefix, opcode, flags, handler, immediate and the bits of it, stubs for L 0 and 1, memory bytes. */
#define HOST_ROW(...) HOST_ROW_FP(0, __VA_ARGS__)
/* The same with x86_opdef.fp. */
#define HOST_ROW_FP(fp_, map_, pfx_, op_, mod_, flags_, fn_, imm_, mask_, stub0, stub1, size0, size1, name_)           \
	{                                                                                                              \
		.fp = fp_, .map = map_, .op = op_, .count = 1, .pfx = pfx_, .mod = mod_, .imm = imm_, .flags = flags_, \
		.reg = X86_ALL(fn_), .name = name_, .stub = { stub0, stub1 }, .mem_size = { size0, size1 },            \
		.imm_mask = mask_                                                                                      \
	}

#endif
