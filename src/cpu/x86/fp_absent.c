/* Hosts whose floating point is not the guest's: no x87, MMX or SSE arithmetic, and no such bits in CPUID. */
#include "cpu/x86/insn.h"

const struct x86_opdefs x86_defs_sse_fp, x86_defs_x87_arith, x86_defs_x87_move, x86_defs_sse3, x86_defs_ssse3,
	x86_defs_sse41, x86_defs_sse41_move, x86_defs_sse42, x86_defs_aes, x86_defs_pclmul, x86_defs_sha,
	x86_defs_avx_move, x86_defs_avx_int, x86_defs_avx_fp, x86_defs_avx2_move, x86_defs_avx2_int, x86_defs_avx_aes,
	x86_defs_fma, x86_defs_f16c, x86_defs_fisttp;
