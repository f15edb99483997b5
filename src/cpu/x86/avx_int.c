/* AVX and AVX2: packed integers, shuffles, permutations and bitwise logic by the host. SDM vol. 2. */
#include "cpu/x86/host.h"
#include "cpu/x86/vecops.h"

/* Stubs of the 128-bit and of the 256-bit form; the second source may stay an XMM register. */
#define X3(name)	  HOST_STUB(avx_##name, "v" #name " %xmm2, %xmm1, %xmm1")
#define Y3(name)	  HOST_STUB(avx256_##name, "v" #name " %ymm2, %ymm1, %ymm1")
#define Y3X(name)	  HOST_STUB(avx256_##name, "v" #name " %xmm2, %ymm1, %ymm1")
#define X2(name)	  HOST_STUB(avx_##name, "v" #name " %xmm2, %xmm1")
#define Y2(name)	  HOST_STUB(avx256_##name, "v" #name " %ymm2, %ymm1")
#define Y2X(name)	  HOST_STUB(avx256_##name, "v" #name " %xmm2, %ymm1")
#define X3_IMM(name, n)	  HOST_STUBS(avx_##name, n, "v" #name " $k, %xmm2, %xmm1, %xmm1")
#define Y3_IMM(name, n)	  HOST_STUBS(avx256_##name, n, "v" #name " $k, %ymm2, %ymm1, %ymm1")
#define Y3X_IMM(name, n)  HOST_STUBS(avx256_##name, n, "v" #name " $k, %xmm2, %ymm1, %ymm1")
#define X2_IMM(name, n)	  HOST_STUBS(avx_##name, n, "v" #name " $k, %xmm2, %xmm1")
#define Y2_IMM(name, n)	  HOST_STUBS(avx256_##name, n, "v" #name " $k, %ymm2, %ymm1")
#define X4(name)	  HOST_STUB(avx_##name, "v" #name " %xmm0, %xmm2, %xmm1, %xmm1")
#define Y4(name)	  HOST_STUB(avx256_##name, "v" #name " %ymm0, %ymm2, %ymm1, %ymm1")
#define BOTH3(name, ...)  X3(name) Y3(name)
#define BOTH3X(name, ...) X3(name) Y3X(name)

/*
 * Rows: `fn` is the shape after x86_avx_. The 128-bit form belongs to AVX and the 256-bit form to AVX2 for integers,
 * both to AVX for floating point.
 */
#define ROW(fn, map, pfx, op, flags, imm, mask, s0, s1, m0, m1, name)                                                  \
	HOST_ROW(X86_MAP_VEX_##map, pfx, op, X86_MOD_ANY, flags, x86_avx_##fn, imm, mask, s0, s1, m0, m1, "v" #name),
#define ROW_X(fn, map, pfx, op, flags, imm, mask, mem, name)                                                           \
	ROW(fn, map, pfx, op, X86_D_L0 | (flags), imm, mask, avx_##name, NULL, mem, 0, name)
#define ROW_Y(fn, map, pfx, op, flags, imm, mask, mem, name)                                                           \
	ROW(fn, map, pfx, op, X86_D_L1 | (flags), imm, mask, NULL, avx256_##name, 0, mem, name)
#define ROW_XY(fn, map, pfx, op, flags, imm, mask, m0, m1, name)                                                       \
	ROW(fn, map, pfx, op, flags, imm, mask, avx_##name, avx256_##name, m0, m1, name)

#define BINARY_X(name, map, op)	       ROW_X(binary, map, X86_PFX_66, op, 0, 0, 0, 16, name)
#define BINARY_Y(name, map, op)	       ROW_Y(binary, map, X86_PFX_66, op, 0, 0, 0, 32, name)
#define SHIFT_Y(name, map, op)	       ROW_Y(binary, map, X86_PFX_66, op, 0, 0, 0, 16, name)
#define UNARY_X(name, map, op, m0, m1) ROW_X(unary, map, X86_PFX_66, op, X86_D_NOV, 0, 0, m0, name)
#define UNARY_Y(name, map, op, m0, m1) ROW_Y(unary, map, X86_PFX_66, op, X86_D_NOV, 0, 0, m1, name)
#define IMM_X(name, op, count, mask)   ROW_X(binary, 0F3A, X86_PFX_66, op, 0, X86_IMM_U8, mask, 16, name)
#define IMM_Y(name, op, count, mask)   ROW_Y(binary, 0F3A, X86_PFX_66, op, 0, X86_IMM_U8, mask, 32, name)
#define IMM_XY(name, op, count, mask)  ROW_XY(binary, 0F3A, X86_PFX_66, op, 0, X86_IMM_U8, mask, 16, 32, name)

/* --- two sources --- */

SSE2_BINARY(BOTH3)
SSE2_SHIFTS(BOTH3X)
SSSE3_MMX(BOTH3)
SSE41_BINARY(BOTH3)
SSE42_BINARY(BOTH3)
#define STUB_AES(name, map, op) X3(name)
AES_BINARY(STUB_AES)

/* --- one source --- */

#define STUBS_PABS(name, map, op, m0, m1)   X2(name) Y2(name)
#define STUBS_EXTEND(name, map, op, m0, m1) X2(name) Y2X(name)
SSSE3_UNARY(STUBS_PABS)
SSE41_UNARY(STUBS_EXTEND)
X2(phminposuw)
X2(aesimc)

/* Duplicates are floating point: both forms are AVX. */
#define STUBS_DUP(name, pfx, op, m0, m1) X2(name) Y2(name)
#define ROWS_DUP(name, pfx, op, m0, m1)	 ROW_XY(unary, 0F, X86_PFX_##pfx, op, X86_D_NOV, 0, 0, m0, m1, name)
SSE3_DUP(STUBS_DUP)

/* --- immediates --- */

#define STUBS_IMM(name, op, count, mask) X3_IMM(name, count) Y3_IMM(name, count)
SSSE3_IMM(STUBS_IMM)
SSE41_IMM(STUBS_IMM)
SSE41_BLEND_IMM(STUBS_IMM)
X2_IMM(aeskeygenassist, 256)
X3_IMM(pclmulqdq, 256)
X3_IMM(insertps, 256)

/* X(name, prefix, opcode), map 0F: one source. */
#define SHUFFLES(X)                                                                                                    \
	X(pshufd, 66, 0x70)                                                                                            \
	X(pshufhw, F3, 0x70)                                                                                           \
	X(pshuflw, F2, 0x70)
#define STUBS_SHUFFLE(name, pfx, op) X2_IMM(name, 256) Y2_IMM(name, 256)
#define SHUFFLE_X(name, pfx, op)     ROW_X(unary, 0F, X86_PFX_##pfx, op, X86_D_NOV, X86_IMM_U8, 0xff, 16, name)
#define SHUFFLE_Y(name, pfx, op)     ROW_Y(unary, 0F, X86_PFX_##pfx, op, X86_D_NOV, X86_IMM_U8, 0xff, 32, name)
SHUFFLES(STUBS_SHUFFLE)

/* The register is the source, vvvv the destination. */
#define SHIFTS_IMM(X) IMM_SHIFTS(X) IMM_BYTE_SHIFTS(X)
#define STUBS_SHIFT_IMM(name, op, ext)                                                                                 \
	HOST_STUBS(avx_##name##_imm, 256, "v" #name " $k, %xmm2, %xmm1")                                               \
	HOST_STUBS(avx256_##name##_imm, 256, "v" #name " $k, %ymm2, %ymm1")
#define SHIFT_IMM_ROW(name_, op_, ext_, length, s0, s1)                                                                \
	{ .map = X86_MAP_VEX_0F,                                                                                       \
	  .op = op_,                                                                                                   \
	  .count = 1,                                                                                                  \
	  .pfx = X86_PFX_66,                                                                                           \
	  .mod = X86_MOD_REG,                                                                                          \
	  .ext = 1 + ext_,                                                                                             \
	  .imm = X86_IMM_U8,                                                                                           \
	  .flags = length,                                                                                             \
	  .name = "v" #name_,                                                                                          \
	  .stub = { s0, s1 },                                                                                          \
	  .reg = X86_ALL(x86_avx_shift),                                                                               \
	  .imm_mask = 0xff },
#define SHIFT_IMM_X(name, op, ext) SHIFT_IMM_ROW(name, op, ext, X86_D_L0, avx_##name##_imm, NULL)
#define SHIFT_IMM_Y(name, op, ext) SHIFT_IMM_ROW(name, op, ext, X86_D_L1, NULL, avx256_##name##_imm)
SHIFTS_IMM(STUBS_SHIFT_IMM)

/* --- what only VEX has: permutations, lanes, variable shifts, broadcasts --- */

/* X(name, map, opcode, W): two sources, both lengths. */
#define AVX_VARIABLE(X)                                                                                                \
	X(permilps, 0F38, 0x0c, X86_D_W0)                                                                              \
	X(permilpd, 0F38, 0x0d, X86_D_W0)
#define AVX2_VARIABLE(X)                                                                                               \
	X(psrlvd, 0F38, 0x45, X86_D_W0)                                                                                \
	X(psrlvq, 0F38, 0x45, X86_D_W1)                                                                                \
	X(psravd, 0F38, 0x46, X86_D_W0)                                                                                \
	X(psllvd, 0F38, 0x47, X86_D_W0)                                                                                \
	X(psllvq, 0F38, 0x47, X86_D_W1)
#define VARIABLE(name, map, op, w) ROW_XY(binary, map, X86_PFX_66, op, w, 0, 0, 16, 32, name)
AVX_VARIABLE(BOTH3)
AVX2_VARIABLE(BOTH3)

/* X(name, opcode): 256 bits only. */
#define AVX2_PERMUTE(X)                                                                                                \
	X(permps, 0x16)                                                                                                \
	X(permd, 0x36)
#define STUBS_PERMUTE(name, op) Y3(name)
#define PERMUTE(name, op)	ROW_Y(binary, 0F38, X86_PFX_66, op, X86_D_W0, 0, 0, 32, name)
AVX2_PERMUTE(STUBS_PERMUTE)

/* By an immediate, one source. */
HOST_STUBS(avx_permilps_imm, 256, "vpermilps $k, %xmm2, %xmm1")
HOST_STUBS(avx256_permilps_imm, 256, "vpermilps $k, %ymm2, %ymm1")
HOST_STUBS(avx_permilpd_imm, 16, "vpermilpd $k, %xmm2, %xmm1")
HOST_STUBS(avx256_permilpd_imm, 16, "vpermilpd $k, %ymm2, %ymm1")
Y2_IMM(permq, 256)
Y2_IMM(permpd, 256)

/* Lanes. */
Y3_IMM(perm2f128, 256)
Y3_IMM(perm2i128, 256)
Y3X_IMM(insertf128, 2)
Y3X_IMM(inserti128, 2)
X3_IMM(pblendd, 16)
Y3_IMM(pblendd, 256)

/* Broadcasts: X(name, opcode, bytes). The 128-bit sources have no register form. */
#define AVX2_BROADCAST(X)                                                                                              \
	X(pbroadcastd, 0x58, 4)                                                                                        \
	X(pbroadcastq, 0x59, 8)                                                                                        \
	X(pbroadcastb, 0x78, 1)                                                                                        \
	X(pbroadcastw, 0x79, 2)
#define STUBS_BROADCAST(name, op, mem) X2(name) Y2X(name)
#define BROADCAST(name, op, mem)       ROW_XY(unary, 0F38, X86_PFX_66, op, X86_D_W0 | X86_D_NOV, 0, 0, mem, mem, name)
AVX2_BROADCAST(STUBS_BROADCAST)
X2(broadcastss)
Y2X(broadcastss)
Y2X(broadcastsd)
HOST_STUB(avx256_broadcast128, "vinsertf128 $1, %xmm2, %ymm2, %ymm1")

/* Blends by a register in the immediate: X(name, opcode). */
#define AVX_BLENDV(X)                                                                                                  \
	X(blendvps, 0x4a)                                                                                              \
	X(blendvpd, 0x4b)
#define STUBS_BLENDV(name, op) X4(name) Y4(name)
#define BLENDV(name, op)       ROW_XY(blend, 0F3A, X86_PFX_66, op, X86_D_W0, X86_IMM_IS4, 0, 16, 32, name)
AVX_BLENDV(STUBS_BLENDV)
X4(pblendvb)
Y4(pblendvb)

/* --- shuffles and logic of floating-point lanes: no arithmetic, no exceptions. X(name, prefix, opcode) --- */

#define SSE_LANES(X)                                                                                                   \
	X(unpcklps, NONE, 0x14)                                                                                        \
	X(unpcklpd, 66, 0x14)                                                                                          \
	X(unpckhps, NONE, 0x15)                                                                                        \
	X(unpckhpd, 66, 0x15)                                                                                          \
	X(andps, NONE, 0x54)                                                                                           \
	X(andpd, 66, 0x54)                                                                                             \
	X(andnps, NONE, 0x55)                                                                                          \
	X(andnpd, 66, 0x55)                                                                                            \
	X(orps, NONE, 0x56)                                                                                            \
	X(orpd, 66, 0x56)                                                                                              \
	X(xorps, NONE, 0x57)                                                                                           \
	X(xorpd, 66, 0x57)
#define LANES_ROW(name, pfx, op) ROW_XY(binary, 0F, X86_PFX_##pfx, op, 0, 0, 0, 16, 32, name)
SSE_LANES(BOTH3)
X3_IMM(shufps, 256)
Y3_IMM(shufps, 256)
X3_IMM(shufpd, 16)
Y3_IMM(shufpd, 16)

/* --- flags --- */

HOST_STUB(avx_ptest, "vptest %xmm2, %xmm1")
HOST_STUB(avx256_ptest, "vptest %ymm2, %ymm1")
HOST_STUB(avx_testps, "vtestps %xmm2, %xmm1")
HOST_STUB(avx256_testps, "vtestps %ymm2, %ymm1")
HOST_STUB(avx_testpd, "vtestpd %xmm2, %xmm1")
HOST_STUB(avx256_testpd, "vtestpd %ymm2, %ymm1")

/* The string comparisons differ from those without VEX only in what they leave above XMM0: the same stubs. */
#define STRING(name, op_, result)                                                                                      \
	HOST_ROW(X86_MAP_VEX_0F3A, X86_PFX_66, op_, X86_MOD_ANY, X86_D_L0 | X86_D_NOV, x86_avx_string_##result,        \
		 X86_IMM_U8, 0x7f, sse_##name, NULL, 16, 0, "v" #name),
#define STRING_STUB(name, op, result) extern const char sse_##name[] __attribute__((visibility("hidden")));
SSE42_STRING(STRING_STUB)

static const struct x86_opdef avx_rows[] = {
	SSE2_BINARY(BINARY_X) SSE2_SHIFTS(BINARY_X) SSSE3_MMX(BINARY_X) SSE41_BINARY(BINARY_X) SSE42_BINARY(BINARY_X)
		SSSE3_UNARY(UNARY_X) SSE41_UNARY(UNARY_X) UNARY_X(phminposuw, 0F38, 0x41, 16, 0) SSE3_DUP(ROWS_DUP)
			SSSE3_IMM(IMM_X) SSE41_IMM(IMM_X) SSE41_BLEND_IMM(IMM_XY) SHUFFLES(SHUFFLE_X)
				SHIFTS_IMM(SHIFT_IMM_X) AVX_VARIABLE(VARIABLE) AVX_BLENDV(BLENDV) SSE_LANES(LANES_ROW)
					ROW_X(blend, 0F3A, X86_PFX_66, 0x4c, X86_D_W0, X86_IMM_IS4, 0, 16, pblendvb)
						HOST_ROW(X86_MAP_VEX_0F3A, X86_PFX_66, 0x21, X86_MOD_REG, X86_D_L0,
							 x86_avx_binary, X86_IMM_U8, 0xff, avx_insertps, NULL, 16, 0,
							 "vinsertps"),
	HOST_ROW(X86_MAP_VEX_0F3A, X86_PFX_66, 0x21, X86_MOD_MEM, X86_D_L0, x86_avx_binary, X86_IMM_U8, 0x3f,
		 avx_insertps, NULL, 4, 0, "vinsertps"),
	ROW(unary, 0F3A, X86_PFX_66, 0x04, X86_D_W0 | X86_D_NOV, X86_IMM_U8, 0xff, avx_permilps_imm,
	    avx256_permilps_imm, 16, 32, permilps) ROW(unary, 0F3A, X86_PFX_66, 0x05, X86_D_W0 | X86_D_NOV, X86_IMM_U8,
						       0x0f, avx_permilpd_imm, avx256_permilpd_imm, 16, 32, permilpd)
		ROW_Y(binary, 0F3A, X86_PFX_66, 0x06, X86_D_W0, X86_IMM_U8, 0xff, 32, perm2f128)
			ROW_Y(binary, 0F3A, X86_PFX_66, 0x18, X86_D_W0, X86_IMM_U8, 0x01, 16, insertf128)
				ROW_XY(unary, 0F38, X86_PFX_66, 0x18, X86_D_W0 | X86_D_NOV, 0, 0, 4, 4, broadcastss)
					ROW_Y(unary, 0F38, X86_PFX_66, 0x19, X86_D_W0 | X86_D_NOV, 0, 0, 8, broadcastsd)
						HOST_ROW(X86_MAP_VEX_0F38, X86_PFX_66, 0x1a, X86_MOD_MEM,
							 X86_D_L1 | X86_D_W0 | X86_D_NOV, x86_avx_unary, 0, 0, NULL,
							 avx256_broadcast128, 0, 16, "vbroadcastf128"),
	ROW_XY(binary, 0F, X86_PFX_NONE, 0xc6, 0, X86_IMM_U8, 0xff, 16, 32, shufps)
		ROW_XY(binary, 0F, X86_PFX_66, 0xc6, 0, X86_IMM_U8, 0x0f, 16, 32, shufpd)
			ROW_XY(test, 0F38, X86_PFX_66, 0x17, X86_D_NOV, 0, 0, 16, 32, ptest)
				ROW_XY(test, 0F38, X86_PFX_66, 0x0e, X86_D_W0 | X86_D_NOV, 0, 0, 16, 32, testps)
					ROW_XY(test, 0F38, X86_PFX_66, 0x0f, X86_D_W0 | X86_D_NOV, 0, 0, 16, 32, testpd)
						SSE42_STRING(STRING)
};
X86_DEFS_OF(x86_defs_avx_int, avx_rows, X86_F_AVX);

static const struct x86_opdef avx2_rows[] = {
	SSE2_BINARY(BINARY_Y) SSE2_SHIFTS(SHIFT_Y) SSSE3_MMX(BINARY_Y) SSE41_BINARY(BINARY_Y) SSE42_BINARY(BINARY_Y)
		SSSE3_UNARY(UNARY_Y) SSE41_UNARY(UNARY_Y) SSSE3_IMM(IMM_Y) SSE41_IMM(IMM_Y) SHUFFLES(SHUFFLE_Y)
			SHIFTS_IMM(SHIFT_IMM_Y) AVX2_VARIABLE(VARIABLE) AVX2_PERMUTE(PERMUTE) AVX2_BROADCAST(
				BROADCAST) ROW_Y(blend, 0F3A, X86_PFX_66, 0x4c, X86_D_W0, X86_IMM_IS4, 0, 32, pblendvb)
				ROW_Y(unary, 0F3A, X86_PFX_66, 0x00, X86_D_W1 | X86_D_NOV, X86_IMM_U8, 0xff, 32, permq)
					ROW_Y(unary, 0F3A, X86_PFX_66, 0x01, X86_D_W1 | X86_D_NOV, X86_IMM_U8, 0xff, 32,
					      permpd) ROW_X(binary, 0F3A, X86_PFX_66, 0x02, X86_D_W0, X86_IMM_U8, 0x0f,
							    16, pblendd) ROW_Y(binary, 0F3A, X86_PFX_66, 0x02, X86_D_W0,
									       X86_IMM_U8, 0xff, 32, pblendd)
						ROW_Y(binary, 0F3A, X86_PFX_66, 0x38, X86_D_W0, X86_IMM_U8, 0x01, 16,
						      inserti128) ROW_Y(binary, 0F3A, X86_PFX_66, 0x46, X86_D_W0,
									X86_IMM_U8, 0xff, 32, perm2i128)
							HOST_ROW(X86_MAP_VEX_0F38, X86_PFX_66, 0x5a, X86_MOD_MEM,
								 X86_D_L1 | X86_D_W0 | X86_D_NOV, x86_avx_unary, 0, 0,
								 NULL, avx256_broadcast128, 0, 16, "vbroadcasti128"),
};
X86_DEFS_OF(x86_defs_avx2_int, avx2_rows, X86_F_AVX2);

/* AES and PCLMULQDQ with VEX need both features; who has AVX has had these before. */
static const struct x86_opdef aes_rows[] = { AES_BINARY(BINARY_X) UNARY_X(aesimc, 0F38, 0xdb, 16, 0) ROW_X(
	unary, 0F3A, X86_PFX_66, 0xdf, X86_D_NOV, X86_IMM_U8, 0xff, 16,
	aeskeygenassist) ROW_X(binary, 0F3A, X86_PFX_66, 0x44, 0, X86_IMM_U8, 0xff, 16, pclmulqdq) };
X86_DEFS_OF(x86_defs_avx_aes, aes_rows, X86_F_AES);
