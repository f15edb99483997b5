/* AVX floating point, FMA and F16C by the host. SDM vol. 2. */
#include "cpu/x86/host.h"
#include "cpu/x86/vecops.h"

#define ROW(...) ROW_FP(0, __VA_ARGS__)
#define ROW_FP(fp, fn, map, pfx, op, flags, imm, mask, s0, s1, m0, m1, name)                                           \
	HOST_ROW_FP(fp, X86_MAP_VEX_##map, X86_PFX_##pfx, op, X86_MOD_ANY, flags, x86_avx_##fn, imm, mask, s0, s1, m0, \
		    m1, "v" #name),

/* --- two sources --- */

#define STUB3_SCALAR(name) HOST_STUB(avx_##name, "v" #name " %xmm2, %xmm1, %xmm1")
#define STUB3(name, ...)                                                                                               \
	STUB3_SCALAR(name)                                                                                             \
	HOST_STUB(avx256_##name, "v" #name " %ymm2, %ymm1, %ymm1")
#define PACKED(name, pfx, op, fp) ROW_FP(fp, binary_fp, 0F, pfx, op, 0, 0, 0, avx_##name, avx256_##name, 16, 32, name)
/* A scalar form takes no notice of VEX.L. */
#define SCALAR(name, pfx, op, mem, fp)                                                                                 \
	ROW_FP((fp) | X86_FP_SCALAR, binary_fp, 0F, pfx, op, 0, 0, 0, avx_##name, avx_##name, mem, mem, name)

#define STUBS_ARITHMETIC(name, ...) STUB3(name##ps) STUB3(name##pd) STUB3_SCALAR(name##ss) STUB3_SCALAR(name##sd)
#define ARITHMETIC(name, op, fp)                                                                                       \
	PACKED(name##ps, NONE, op, fp)                                                                                 \
	PACKED(name##pd, 66, op, (fp) | X86_FP_DOUBLE)                                                                 \
	SCALAR(name##ss, F3, op, 4, fp) SCALAR(name##sd, F2, op, 8, (fp) | X86_FP_DOUBLE)
SSE_ARITHMETIC(STUBS_ARITHMETIC)
SSE3_FP(STUB3)

/* X(name, prefix, opcode, bytes, x86_opdef.fp): scalars that keep the rest of the first source. */
#define SCALARS(X)                                                                                                     \
	X(sqrtss, F3, 0x51, 4, 0)                                                                                      \
	X(sqrtsd, F2, 0x51, 8, 0)                                                                                      \
	X(rsqrtss, F3, 0x52, 4, 0)                                                                                     \
	X(rcpss, F3, 0x53, 4, 0)                                                                                       \
	X(cvtss2sd, F3, 0x5a, 4, 0)                                                                                    \
	X(cvtsd2ss, F2, 0x5a, 8, X86_FP_NARROW | X86_FP_DOUBLE)
#define STUB_SCALARS(name, ...) STUB3_SCALAR(name)
SCALARS(STUB_SCALARS)

/*
 * --- one source: X(name, prefix, opcode, bytes, bytes of the YMM form, registers of the YMM form: source, result,
 * x86_opdef.fp) ---
 */

#define UNARY(X)                                                                                                       \
	X(sqrtps, NONE, 0x51, 16, 32, ymm2, ymm1, 0)                                                                   \
	X(sqrtpd, 66, 0x51, 16, 32, ymm2, ymm1, 0)                                                                     \
	X(rsqrtps, NONE, 0x52, 16, 32, ymm2, ymm1, 0)                                                                  \
	X(rcpps, NONE, 0x53, 16, 32, ymm2, ymm1, 0)                                                                    \
	X(cvtps2pd, NONE, 0x5a, 8, 16, xmm2, ymm1, 0)                                                                  \
	X(cvtpd2ps, 66, 0x5a, 16, 32, ymm2, xmm1, X86_FP_NARROW | X86_FP_DOUBLE)                                       \
	X(cvtdq2ps, NONE, 0x5b, 16, 32, ymm2, ymm1, 0)                                                                 \
	X(cvtps2dq, 66, 0x5b, 16, 32, ymm2, ymm1, 0)                                                                   \
	X(cvttps2dq, F3, 0x5b, 16, 32, ymm2, ymm1, 0)                                                                  \
	X(cvttpd2dq, 66, 0xe6, 16, 32, ymm2, xmm1, 0)                                                                  \
	X(cvtdq2pd, F3, 0xe6, 8, 16, xmm2, ymm1, 0)                                                                    \
	X(cvtpd2dq, F2, 0xe6, 16, 32, ymm2, xmm1, 0)
#define STUBS_UNARY(name, pfx, op, m0, m1, from, to, fp)                                                               \
	HOST_STUB(avx_##name, "v" #name " %xmm2, %xmm1")                                                               \
	HOST_STUB(avx256_##name, "v" #name " %" #from ", %" #to)
#define UNARY_ROW(name, pfx, op, m0, m1, from, to, fp)                                                                 \
	ROW_FP(fp, unary_fp, 0F, pfx, op, X86_D_NOV, 0, 0, avx_##name, avx256_##name, m0, m1, name)
UNARY(STUBS_UNARY)

/* --- immediates --- */

#define STUBS3_IMM_SCALAR(name, n) HOST_STUBS(avx_##name, n, "v" #name " $k, %xmm2, %xmm1, %xmm1")
#define STUBS3_IMM(name, n)                                                                                            \
	STUBS3_IMM_SCALAR(name, n) HOST_STUBS(avx256_##name, n, "v" #name " $k, %ymm2, %ymm1, %ymm1")
#define STUBS2_IMM(name, n)                                                                                            \
	HOST_STUBS(avx_##name, n, "v" #name " $k, %xmm2, %xmm1")                                                       \
	HOST_STUBS(avx256_##name, n, "v" #name " $k, %ymm2, %ymm1")
STUBS3_IMM(cmpps, 32)
STUBS3_IMM(cmppd, 32)
STUBS3_IMM_SCALAR(cmpss, 32)
STUBS3_IMM_SCALAR(cmpsd, 32)
STUBS2_IMM(roundps, 16)
STUBS2_IMM(roundpd, 16)
STUBS3_IMM_SCALAR(roundss, 16)
STUBS3_IMM_SCALAR(roundsd, 16)
STUBS3_IMM(dpps, 256)
STUBS3_IMM_SCALAR(dppd, 256)
#define IMM(...) IMM_FP(0, __VA_ARGS__)
#define IMM_FP(fp, fn, map, pfx, op, flags, mask, s1, m0, m1, name)                                                    \
	ROW_FP(fp, fn, map, pfx, op, flags, X86_IMM_U8, mask, avx_##name, s1, m0, m1, name)

/* --- flags --- */

#define COMPARE(X)                                                                                                     \
	X(ucomiss, NONE, 0x2e, 4)                                                                                      \
	X(ucomisd, 66, 0x2e, 8)                                                                                        \
	X(comiss, NONE, 0x2f, 4)                                                                                       \
	X(comisd, 66, 0x2f, 8)
#define STUB_COMPARE(name, pfx, op, mem) HOST_STUB(avx_##name, "v" #name " %xmm2, %xmm1")
#define COMPARE_ROW(name, pfx, op, mem)                                                                                \
	ROW(test_fp, 0F, pfx, op, X86_D_NOV, 0, 0, avx_##name, avx_##name, mem, mem, name)
COMPARE(STUB_COMPARE)

/* clang-format off: rows bring their commas */
static const struct x86_opdef rows[] = {
	SSE_ARITHMETIC(ARITHMETIC) SSE3_FP(PACKED) SCALARS(SCALAR) UNARY(UNARY_ROW) COMPARE(COMPARE_ROW)
		IMM(binary_fp, 0F, NONE, 0xc2, 0, 0x1f, avx256_cmpps, 16, 32,
		    cmpps) IMM(binary_fp, 0F, 66, 0xc2, 0, 0x1f, avx256_cmppd, 16, 32,
			       cmppd) IMM(binary_fp, 0F, F3, 0xc2, 0, 0x1f, avx_cmpss, 4, 4,
					  cmpss) IMM(binary_fp, 0F, F2, 0xc2, 0, 0x1f, avx_cmpsd, 8, 8, cmpsd)
			IMM(unary_fp, 0F3A, 66, 0x08, X86_D_NOV, 0x0f, avx256_roundps, 16, 32,
			    roundps) IMM(unary_fp, 0F3A, 66, 0x09, X86_D_NOV, 0x0f, avx256_roundpd, 16, 32, roundpd)
				IMM(binary_fp, 0F3A, 66, 0x0a, 0, 0x0f, avx_roundss, 4, 4, roundss)
					IMM(binary_fp, 0F3A, 66, 0x0b, 0, 0x0f, avx_roundsd, 8, 8, roundsd)
						IMM_FP(X86_FP_DOT, binary_fp, 0F3A, 66, 0x40, 0, 0xff, avx256_dpps, 16,
						       32, dpps) IMM_FP(X86_FP_DOT | X86_FP_DOUBLE, binary_fp, 0F3A, 66,
									0x41, X86_D_L0, 0xff, NULL, 16, 0, dppd)
};
/* clang-format on */
X86_DEFS_OF(x86_defs_avx_fp, rows, X86_F_AVX);

/* --- FMA: reg = reg, vvvv and rm in the order that the digits say --- */

/* X(name, opcode of the 132 form of packed): 213 and 231 follow 10h and 20h later. */
#define FMA_PACKED(X)                                                                                                  \
	X(fmaddsub, 0x96)                                                                                              \
	X(fmsubadd, 0x97)                                                                                              \
	X(fmadd, 0x98)                                                                                                 \
	X(fmsub, 0x9a)                                                                                                 \
	X(fnmadd, 0x9c)                                                                                                \
	X(fnmsub, 0x9e)
#define FMA_SCALAR(X)                                                                                                  \
	X(fmadd, 0x99)                                                                                                 \
	X(fmsub, 0x9b)                                                                                                 \
	X(fnmadd, 0x9d)                                                                                                \
	X(fnmsub, 0x9f)
#define FMA_STUB(name)	 HOST_STUB(avx_##name, "v" #name " %xmm2, %xmm0, %xmm1")
#define FMA_STUB_Y(name) HOST_STUB(avx256_##name, "v" #name " %ymm2, %ymm0, %ymm1")
#define FMA_ORDER(name, order)                                                                                         \
	FMA_STUB(name##order##ps)                                                                                      \
	FMA_STUB(name##order##pd) FMA_STUB_Y(name##order##ps) FMA_STUB_Y(name##order##pd)
#define FMA_ORDER_S(name, order)   FMA_STUB(name##order##ss) FMA_STUB(name##order##sd)
#define STUBS_FMA(name, op)	   FMA_ORDER(name, 132) FMA_ORDER(name, 213) FMA_ORDER(name, 231)
#define STUBS_FMA_SCALAR(name, op) FMA_ORDER_S(name, 132) FMA_ORDER_S(name, 213) FMA_ORDER_S(name, 231)
FMA_PACKED(STUBS_FMA)
FMA_SCALAR(STUBS_FMA_SCALAR)

#define FMA_ROW(name, op, fp, w, s1, m0, m1) ROW_FP(fp, fma, 0F38, 66, op, w, 0, 0, avx_##name, s1, m0, m1, name)
#define FMA_ROWS(name, op, order)                                                                                      \
	FMA_ROW(name##order##ps, op, X86_FP_FMA##order, X86_D_W0, avx256_##name##order##ps, 16, 32)                    \
	FMA_ROW(name##order##pd, op, X86_FP_FMA##order | X86_FP_DOUBLE, X86_D_W1, avx256_##name##order##pd, 16, 32)
#define FMA_ROWS_S(name, op, order)                                                                                    \
	FMA_ROW(name##order##ss, op, X86_FP_FMA##order | X86_FP_SCALAR, X86_D_W0, avx_##name##order##ss, 4, 4)         \
	FMA_ROW(name##order##sd, op, X86_FP_FMA##order | X86_FP_DOUBLE | X86_FP_SCALAR, X86_D_W1,                      \
		avx_##name##order##sd, 8, 8)
#define FMA(name, op) FMA_ROWS(name, op, 132) FMA_ROWS(name, op + 0x10, 213) FMA_ROWS(name, op + 0x20, 231)
#define FMA_OF_SCALAR(name, op)                                                                                        \
	FMA_ROWS_S(name, op, 132) FMA_ROWS_S(name, op + 0x10, 213) FMA_ROWS_S(name, op + 0x20, 231)

static const struct x86_opdef fma_rows[] = { FMA_PACKED(FMA) FMA_SCALAR(FMA_OF_SCALAR) };
X86_DEFS_OF(x86_defs_fma, fma_rows, X86_F_FMA);

/* --- F16C --- */

HOST_STUB(avx_cvtph2ps, "vcvtph2ps %xmm2, %xmm1")
HOST_STUB(avx256_cvtph2ps, "vcvtph2ps %xmm2, %ymm1")
/* Bit 2 of the immediate: round by MXCSR. */
HOST_STUBS(avx_cvtps2ph, 8, "vcvtps2ph $k, %xmm1, %xmm1")
HOST_STUBS(avx256_cvtps2ph, 8, "vcvtps2ph $k, %ymm1, %xmm1")

/* The one with a destination in ModRM.rm, half as wide as its source. */
static const struct x86_insn *cvtps2ph(struct x86_cpu *cpu, const struct x86_insn *i)
{
	union x86_vec a;

	x86_avx_enter(cpu);
	a = cpu->s.vec[i->reg];
	/* A page fault comes before what the conversion raises. */
	if (!(i->flags & X86_I_REG))
		x86_probe_write(cpu, i->seg, x86_ea(cpu, i), i->opsize);
	x86_mxcsr_look(cpu, i, &a, &a, &a);
	x86_mxcsr_begin(cpu);
	host_avx(i->imm, &a, &a, &a);
	x86_mxcsr_end(cpu);
	if (i->flags & X86_I_REG)
		cpu->s.vec[i->rm] = a;
	else
		x86_store_bytes(cpu, i->seg, x86_ea(cpu, i), &a, i->opsize);
	return x86_next(cpu, i);
}

/* clang-format off */
static const struct x86_opdef f16c_rows[] = {
	ROW(unary_fp, 0F38, 66, 0x13, X86_D_W0 | X86_D_NOV, 0, 0, avx_cvtph2ps, avx256_cvtph2ps, 8, 16, cvtph2ps)
	HOST_ROW_FP(X86_FP_HALF, X86_MAP_VEX_0F3A, X86_PFX_66, 0x1d, X86_MOD_ANY, X86_D_W0 | X86_D_NOV, cvtps2ph,
		    X86_IMM_U8, 7, avx_cvtps2ph, avx256_cvtps2ph, 8, 16, "vcvtps2ph"),
};
/* clang-format on */
X86_DEFS_OF(x86_defs_f16c, f16c_rows, X86_F_F16C);
