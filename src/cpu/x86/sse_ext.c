/* SSE3, SSSE3, SSE4.1, SSE4.2, AES, PCLMULQDQ and SHA as far as one instruction of the host does them. SDM vol. 2. */
#include "cpu/x86/host.h"
#include "cpu/x86/vecops.h"

#define STUB(name, ...)	      HOST_STUB(sse_##name, #name " %xmm2, %xmm1")
#define STUB_IMM(name, count) HOST_STUBS(sse_##name, count, #name " $k, %xmm2, %xmm1")

#define ROW(fn, map, pfx, op, mem, name)                                                                               \
	HOST_ROW(X86_MAP_##map, pfx, op, X86_MOD_ANY, X86_D_IGN66, fn, 0, 0, sse_##name, NULL, mem, 0, #name)
#define ROW_IMM(fn, map, pfx, op, mem, mask, name)                                                                     \
	HOST_ROW(X86_MAP_##map, pfx, op, X86_MOD_ANY, X86_D_IGN66, fn, X86_IMM_U8, mask, sse_##name, NULL, mem, 0,     \
		 #name)
#define BINARY(name, map, op)	       ROW(x86_sse_binary, map, X86_PFX_66, op, 16, name),
#define UNARY(name, map, op, mem, ymm) ROW(x86_sse_binary, map, X86_PFX_66, op, mem, name),
#define DUP(name, pfx, op, mem, ymm)   ROW(x86_sse_binary, 0F, X86_PFX_##pfx, op, mem, name),
#define FP(name, pfx, op, fp)                                                                                          \
	HOST_ROW_FP(fp, X86_MAP_0F, X86_PFX_##pfx, op, X86_MOD_ANY, X86_D_IGN66, x86_sse_binary_fp, 0, 0, sse_##name,  \
		    NULL, 16, 0, #name),
#define IMM(name, op, count, mask) ROW_IMM(x86_sse_binary, 0F3A, X86_PFX_66, op, 16, mask, name),
#define IMM_FP(name, op, count, mask, mem, fp)                                                                         \
	HOST_ROW_FP(fp, X86_MAP_0F3A, X86_PFX_66, op, X86_MOD_ANY, X86_D_IGN66, x86_sse_binary_fp, X86_IMM_U8, mask,   \
		    sse_##name, NULL, mem, 0, #name),
#define STRING(name, op, result) ROW_IMM(x86_sse_string_##result, 0F3A, X86_PFX_66, op, 16, 0x7f, name),

/* --- SSE3 --- */

#define STUB_DUP(name, pfx, op, mem, ymm) STUB(name)
#define STUB_FP(name, ...)		  STUB(name)
SSE3_DUP(STUB_DUP)
SSE3_FP(STUB_FP)
HOST_STUB(sse_lddqu, "movdqa %xmm2, %xmm1")

static const struct x86_opdef sse3_rows[] = {
	SSE3_DUP(DUP) SSE3_FP(FP) HOST_ROW(X86_MAP_0F, X86_PFX_F2, 0xf0, X86_MOD_MEM, X86_D_IGN66, x86_sse_unaligned, 0,
					   0, sse_lddqu, NULL, 16, 0, "lddqu"),
};
X86_DEFS_OF(x86_defs_sse3, sse3_rows, X86_F_SSE3);

/* --- SSSE3 --- */

SSSE3_MMX(STUB)
SSSE3_UNARY(STUB)
#define STUB_IMM4(name, op, count, mask) STUB_IMM(name, count)
SSSE3_IMM(STUB_IMM4)

/* The same on MMX registers. */
#define STUB_MMX(name, ...) HOST_STUB(mmx_##name, #name " %mm2, %mm1")
SSSE3_MMX(STUB_MMX)
SSSE3_UNARY(STUB_MMX)
HOST_STUBS(mmx_palignr, 256, "palignr $k, %mm2, %mm1")

#define MMX_ROW(map, op, imm, mask, name)                                                                              \
	HOST_ROW(X86_MAP_##map, X86_PFX_NONE, op, X86_MOD_ANY, X86_D_IGN66, x86_mmx_binary, imm, mask, mmx_##name,     \
		 NULL, 8, 0, #name)
#define MMX_BINARY(name, map, op)	   MMX_ROW(map, op, 0, 0, name),
#define MMX_UNARY(name, map, op, mem, ymm) MMX_ROW(map, op, 0, 0, name),

static const struct x86_opdef ssse3_rows[] = {
	SSSE3_MMX(BINARY) SSSE3_UNARY(UNARY) SSSE3_IMM(IMM) SSSE3_MMX(MMX_BINARY) SSSE3_UNARY(MMX_UNARY)
		MMX_ROW(0F3A, 0x0f, X86_IMM_U8, 0xff, palignr),
};
X86_DEFS_OF(x86_defs_ssse3, ssse3_rows, X86_F_SSSE3);

/* --- SSE4.1 --- */

#define SSE41_FP_IMM(X)                                                                                                \
	X(roundps, 0x08, 16, 0x0f, 16, 0)                                                                              \
	X(roundpd, 0x09, 16, 0x0f, 16, 0)                                                                              \
	X(roundss, 0x0a, 16, 0x0f, 4, 0)                                                                               \
	X(roundsd, 0x0b, 16, 0x0f, 8, 0)                                                                               \
	X(dpps, 0x40, 256, 0xff, 16, X86_FP_DOT)                                                                       \
	X(dppd, 0x41, 256, 0xff, 16, X86_FP_DOT | X86_FP_DOUBLE)
#define STUB_IMM5(name, op, count, ...) STUB_IMM(name, count)
/* The mask is XMM0. */
#define SSE41_BLENDV(X)                                                                                                \
	X(pblendvb, 0F38, 0x10)                                                                                        \
	X(blendvps, 0F38, 0x14)                                                                                        \
	X(blendvpd, 0F38, 0x15)
SSE41_BINARY(STUB)
SSE41_UNARY(STUB)
SSE41_IMM(STUB_IMM4)
SSE41_BLEND_IMM(STUB_IMM4)
SSE41_FP_IMM(STUB_IMM5)
SSE41_BLENDV(STUB)
STUB(phminposuw)
STUB(ptest)
STUB_IMM(insertps, 256)
HOST_STUB(sse_movntdqa, "movdqa %xmm2, %xmm1")

static const struct x86_opdef sse41_rows[] = {
	SSE41_BINARY(BINARY) SSE41_UNARY(UNARY) SSE41_IMM(IMM) SSE41_BLEND_IMM(IMM) SSE41_FP_IMM(IMM_FP)
		SSE41_BLENDV(BINARY) BINARY(phminposuw, 0F38, 0x41)
			ROW(x86_sse_test, 0F38, X86_PFX_66, 0x17, 16, ptest),
	/* A memory operand is one element, whatever the immediate says. */
	HOST_ROW(X86_MAP_0F3A, X86_PFX_66, 0x21, X86_MOD_REG, X86_D_IGN66, x86_sse_binary, X86_IMM_U8, 0xff,
		 sse_insertps, NULL, 16, 0, "insertps"),
	HOST_ROW(X86_MAP_0F3A, X86_PFX_66, 0x21, X86_MOD_MEM, X86_D_IGN66, x86_sse_binary, X86_IMM_U8, 0x3f,
		 sse_insertps, NULL, 4, 0, "insertps"),
	HOST_ROW(X86_MAP_0F38, X86_PFX_66, 0x2a, X86_MOD_MEM, X86_D_IGN66, x86_sse_binary, 0, 0, sse_movntdqa, NULL, 16,
		 0, "movntdqa"),
};
X86_DEFS_OF(x86_defs_sse41, sse41_rows, X86_F_SSE41);

/* --- SSE4.2 --- */

SSE42_BINARY(STUB)
#define STUB_STRING(name, op, result) STUB_IMM(name, 128)
SSE42_STRING(STUB_STRING)

static const struct x86_opdef sse42_rows[] = { SSE42_BINARY(BINARY) SSE42_STRING(STRING) };
X86_DEFS_OF(x86_defs_sse42, sse42_rows, X86_F_SSE42);

/* --- AES, PCLMULQDQ, SHA --- */

AES_BINARY(STUB)
STUB(aesimc)
STUB_IMM(aeskeygenassist, 256)

static const struct x86_opdef aes_rows[] = { AES_BINARY(BINARY) BINARY(aesimc, 0F38, 0xdb)
						     IMM(aeskeygenassist, 0xdf, 256, 0xff) };
X86_DEFS_OF(x86_defs_aes, aes_rows, X86_F_AES);

STUB_IMM(pclmulqdq, 256)

static const struct x86_opdef pclmul_rows[] = { IMM(pclmulqdq, 0x44, 256, 0xff) };
X86_DEFS_OF(x86_defs_pclmul, pclmul_rows, X86_F_PCLMUL);

/* SHA256RNDS2 has its third source in XMM0. */
#define SHA_BINARY(X)                                                                                                  \
	X(sha1nexte, 0xc8)                                                                                             \
	X(sha1msg1, 0xc9)                                                                                              \
	X(sha1msg2, 0xca)                                                                                              \
	X(sha256rnds2, 0xcb)                                                                                           \
	X(sha256msg1, 0xcc)                                                                                            \
	X(sha256msg2, 0xcd)
/* AMD's processors let memory operands be unaligned. */
#define SHA_ROW(name, op) ROW(x86_sse_unaligned, 0F38, X86_PFX_NONE, op, 16, name),
SHA_BINARY(STUB)
STUB_IMM(sha1rnds4, 4)

static const struct x86_opdef sha_rows[] = {
	SHA_BINARY(SHA_ROW) ROW_IMM(x86_sse_unaligned, 0F3A, X86_PFX_NONE, 0xcc, 16, 3, sha1rnds4),
};
X86_DEFS_OF(x86_defs_sha, sha_rows, X86_F_SHA);
