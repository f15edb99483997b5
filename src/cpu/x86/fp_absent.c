/* Hosts whose floating point is not the guest's: no x87, MMX or SSE arithmetic, and no such bits in CPUID. */
#include "cpu/x86/insn.h"

const struct x86_opdefs x86_defs_sse_fp, x86_defs_x87_arith, x86_defs_x87_move;
