/*
 * SSE and SSE2 arithmetic: each operation is the host's own instruction, executed with the guest's rounding
 * and flush modes and all exceptions masked; what it raised is then merged into the guest's MXCSR, or
 * becomes #XM before anything is written. SDM vol. 1, 11.5. x86-64 hosts only.
 */
#include "cpu/x86/host.h"
#include "cpu/x86/vec.h"

#define HANDLER(name) static const struct x86_insn *name(struct x86_cpu *cpu, const struct x86_insn *i)

/* --- two operands, by the host's own instruction: X(name, prefix, opcode, bytes of memory, x86_opdef.fp) --- */

#define FOUR(X, name, op, kind)                                                                                        \
	X(name##ps, NONE, op, 16, X86_FP_##kind)                                                                       \
	X(name##pd, 66, op, 16, X86_FP_##kind | X86_FP_DOUBLE)                                                         \
	X(name##ss, F3, op, 4, X86_FP_##kind | X86_FP_SCALAR)                                                          \
	X(name##sd, F2, op, 8, X86_FP_##kind | X86_FP_DOUBLE | X86_FP_SCALAR)
#define OPERATIONS(X)                                                                                                  \
	FOUR(X, sqrt, 0x51, NEVER)                                                                                     \
	FOUR(X, add, 0x58, SUM)                                                                                        \
	FOUR(X, mul, 0x59, PRODUCT)                                                                                    \
	FOUR(X, sub, 0x5c, SUM)                                                                                        \
	FOUR(X, min, 0x5d, NEVER)                                                                                      \
	FOUR(X, div, 0x5e, PRODUCT)                                                                                    \
	FOUR(X, max, 0x5f, NEVER)                                                                                      \
	X(rsqrtps, NONE, 0x52, 16, 0)                                                                                  \
	X(rsqrtss, F3, 0x52, 4, 0)                                                                                     \
	X(rcpps, NONE, 0x53, 16, 0)                                                                                    \
	X(rcpss, F3, 0x53, 4, 0)                                                                                       \
	X(cvtps2pd, NONE, 0x5a, 8, 0)                                                                                  \
	X(cvtpd2ps, 66, 0x5a, 16, X86_FP_NARROW | X86_FP_DOUBLE)                                                       \
	X(cvtss2sd, F3, 0x5a, 4, 0)                                                                                    \
	X(cvtsd2ss, F2, 0x5a, 8, X86_FP_NARROW | X86_FP_DOUBLE | X86_FP_SCALAR)                                        \
	X(cvtdq2ps, NONE, 0x5b, 16, 0)                                                                                 \
	X(cvtps2dq, 66, 0x5b, 16, 0)                                                                                   \
	X(cvttps2dq, F3, 0x5b, 16, 0)                                                                                  \
	X(cvttpd2dq, 66, 0xe6, 16, 0)                                                                                  \
	X(cvtdq2pd, F3, 0xe6, 8, 0)                                                                                    \
	X(cvtpd2dq, F2, 0xe6, 16, 0)
/* Comparisons that make masks: the immediate picks one of eight. X(name, prefix, bytes of memory). */
#define COMPARISONS(X)                                                                                                 \
	X(cmpps, NONE, 16)                                                                                             \
	X(cmppd, 66, 16)                                                                                               \
	X(cmpss, F3, 4)                                                                                                \
	X(cmpsd, F2, 8)
/* Comparisons that set ZF, PF, CF: X(name, prefix, opcode, bytes of memory). */
#define FLAGS(X)                                                                                                       \
	X(ucomiss, NONE, 0x2e, 4)                                                                                      \
	X(ucomisd, 66, 0x2e, 8)                                                                                        \
	X(comiss, NONE, 0x2f, 4)                                                                                       \
	X(comisd, 66, 0x2f, 8)

#define STUB(name, ...)	 HOST_STUB(sse_##name, #name " %xmm2, %xmm1")
#define STUBS(name, ...) HOST_STUBS(sse_##name, 8, #name " $k, %xmm2, %xmm1")
OPERATIONS(STUB)
COMPARISONS(STUBS)
FLAGS(STUB)

#define LOAD_pd vec_load(cpu, i)
#define LOAD_ss vec_low64(x86_ldm32(cpu, i))
#define LOAD_sd vec_low64(x86_ldm64(cpu, i))
#define LOAD_lo vec_low64(x86_ldm64(cpu, i))

/* --- conversions from and to general registers --- */

#define FROM_BODY(insn, type, source)                                                                                  \
	union vec a;                                                                                                   \
	type v;                                                                                                        \
	x86_sse_enter(cpu);                                                                                            \
	v = (type)(source);                                                                                            \
	a = vec_get(cpu, i->reg);                                                                                      \
	x86_mxcsr_begin(cpu);                                                                                          \
	__asm__ volatile(insn " %1, %0" : "+x"(a.u8) : "r"(v));                                                        \
	x86_mxcsr_end(cpu);                                                                                            \
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
	x86_mxcsr_begin(cpu);                                                                                          \
	__asm__ volatile(insn " %1, %0" : "=r"(v) : "x"(b.u8));                                                        \
	x86_mxcsr_end(cpu);                                                                                            \
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
	x86_mxcsr_begin(cpu);                                                                                          \
	__asm__ volatile("movdq2q %1, %%mm0\n\t" insn " %%mm0, %0\n\temms" : "+x"(a.u8) : "x"(b.u8) : "mm0");          \
	x86_mxcsr_end(cpu);                                                                                            \
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
	x86_mxcsr_begin(cpu);                                                                                          \
	__asm__ volatile(insn " %1, %%mm0\n\tmovq2dq %%mm0, %0\n\temms" : "=x"(r.u8) : "x"(b.u8) : "mm0");             \
	x86_mxcsr_end(cpu);                                                                                            \
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
#define HOSTED(fp, pfx, op, fn, imm, mask, mem, name)                                                                  \
	HOST_ROW_FP(fp, X86_MAP_0F, X86_PFX_##pfx, op, X86_MOD_ANY, X86_D_IGN66, fn, imm, mask, sse_##name, NULL, mem, \
		    0, #name),
#define OPERATION(name, pfx, op, mem, fp) HOSTED(fp, pfx, op, x86_sse_binary_fp, 0, 0, mem, name)
#define COMPARISON(name, pfx, mem)	  HOSTED(0, pfx, 0xc2, x86_sse_binary_fp, X86_IMM_U8, 7, mem, name)
#define FLAGS_ROW(name, pfx, op, mem)	  HOSTED(0, pfx, op, x86_sse_test_fp, 0, 0, mem, name)
#define SIZED(op, pfx, name)                                                                                           \
	{                                                                                                              \
		X86_MAP_0F, op, 1, pfx, X86_MOD_ANY, 0, 0, 0, X86_D_IGN66, { NULL, name##_x32, name##_x64 },           \
			{ NULL, name##_m32, name##_m64 }, #name                                                        \
	}
static const struct x86_opdef rows[] = {
	OPERATIONS(OPERATION) COMPARISONS(COMPARISON) FLAGS(FLAGS_ROW) SIZED(0x2a, X86_PFX_F3, cvtsi2ss),
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
