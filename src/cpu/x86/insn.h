/*
 * Decoded instructions, and the definition rows from which the decoder is built.
 *
 * An instruction is decoded once into a struct x86_insn and then executed by its handler. The
 * decoder knows no instruction by itself: rooms of the instruction set list theirs in arrays of
 * struct x86_opdef (defs_*.c), which decode.c indexes at start-up.
 */
#ifndef VIREO_CPU_X86_INSN_H
#define VIREO_CPU_X86_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"

struct x86_cpu;
struct x86_insn;
struct x86_trace;

/*
 * A handler executes one instruction. On entry RIP is the instruction's own address; it moves only
 * when the instruction has completed, so a fault (x86_raise() does not return) needs no undoing of
 * it. The result is the next instruction: `return x86_next(cpu, i);` for all that fall through,
 * `return x86_jumped(cpu);` after RIP, CPL, mode or paging changed (see interp.h).
 */
typedef const struct x86_insn *x86_exec(struct x86_cpu *cpu, const struct x86_insn *i);

/* x86_insn.flags */
#define X86_I_REG    (1u << 0) /* mod == 3: `rm` is a register, there is no address */
#define X86_I_LOCK   (1u << 1) /* LOCK prefix, on an instruction that allows it */
#define X86_I_REP    (1u << 2) /* F3 */
#define X86_I_REPNE  (1u << 3) /* F2 */
#define X86_I_REX    (1u << 4)
#define X86_I_OPSZ   (1u << 5) /* 66 was there */
#define X86_I_CODE64 (1u << 6)
#define X86_I_VEX256 (1u << 7) /* VEX.L */
#define X86_I_WIDE   (1u << 8) /* REX.W or VEX.W */
#define X86_I_VEX    (1u << 9)
/* Not decoded: a repeated string whose caller looks at events. NULL and RIP where it was: there is more to do. */
#define X86_I_BATCH (1u << 10)

struct x86_insn {
	x86_exec *fn;
	uint64_t imm; /* immediate, sign-extended as the instruction does; relative branches: the displacement */
	union {
		int64_t disp; /* of the memory operand; RIP-relative: from the start of the instruction (length added)
			       */
		struct x86_trace *link; /* direct near branch and the end of a trace: see traces.c */
	};
	uint8_t base;	/* index in gpr[]: X86_NOREG, X86_RIP or a register; X86_I_REG: see rm */
	uint8_t index;	/* index in gpr[] or X86_NOREG */
	uint8_t scale;	/* 0-3 */
	uint8_t ashift; /* 64 - address size in bits: 0, 32, 48 */
	uint8_t seg;	/* segment of the memory operand after overrides */
	uint8_t reg;	/* ModRM.reg with REX.R (8-bit operand: byte offset in gpr[], so that AH is 1) */
	uint8_t rm;	/* ModRM.rm with REX.B, or the register in the opcode (8-bit operand: byte offset) */
	uint8_t len;
	uint8_t opsize; /* 2, 4 or 8; rows with `stub`: bytes of the memory operand */
	uint8_t op;	/* last opcode byte (condition codes, x87) */
	uint8_t modrm;	/* as it was */
	uint8_t vreg;	/* VEX.vvvv */
	uint16_t flags;
	uint8_t ib; /* rows with `stub`: the immediate; X86_IMM_IS4: the register in it */
	uint8_t fp; /* how floating point can overflow: see struct x86_opdef */
};
_Static_assert(sizeof(struct x86_insn) <= 40, "decoded instructions stay small");

enum x86_map {
	X86_MAP_1,
	X86_MAP_0F,
	X86_MAP_0F38,
	X86_MAP_0F3A,
	X86_MAP_VEX_0F, /* VEX.mmmmm 1, 2, 3: the same order as without VEX */
	X86_MAP_VEX_0F38,
	X86_MAP_VEX_0F3A,
	X86_MAPS
};
/* Mandatory prefix: the last of F2/F3, else 66. ANY: the row does not care. */
enum x86_pfx { X86_PFX_ANY, X86_PFX_NONE, X86_PFX_66, X86_PFX_F3, X86_PFX_F2 };
enum x86_mod { X86_MOD_NONE /* no ModRM byte */, X86_MOD_ANY, X86_MOD_MEM, X86_MOD_REG };

enum x86_imm {
	X86_IMM_NONE,
	X86_IMM_8,     /* sign-extended */
	X86_IMM_U8,    /* zero-extended: port numbers, shift counts, INT n */
	X86_IMM_16,    /* zero-extended: RET n */
	X86_IMM_Z,     /* 2 or 4 bytes by operand size, sign-extended */
	X86_IMM_V,     /* 2, 4 or 8 bytes by operand size */
	X86_IMM_MOFFS, /* address-sized offset: imm = address; seg filled */
	X86_IMM_FAR,   /* ptr16:16/32: imm = offset, disp = selector */
	X86_IMM_ENTER, /* imm16, imm8: imm = size | level << 16 */
	X86_IMM_IS4    /* a register in the high half of a byte */
};

/* x86_opdef.flags */
#define X86_D_BYTE_REG (1u << 0)  /* ModRM.reg names an 8-bit register */
#define X86_D_BYTE_RM  (1u << 1)  /* ModRM.rm (or the opcode's register) names an 8-bit register */
#define X86_D_OPREG    (1u << 2)  /* register in the low 3 opcode bits goes to rm (X86_I_REG set) */
#define X86_D_LOCK     (1u << 3)  /* LOCK allowed with a memory operand; else #UD */
#define X86_D_NO64     (1u << 4)  /* #UD in 64-bit mode */
#define X86_D_ONLY64   (1u << 5)  /* #UD outside 64-bit mode */
#define X86_D_DEF64    (1u << 6)  /* 64-bit operand size by default in 64-bit mode (push, pop; 66 gives 16) */
#define X86_D_FORCE64  (1u << 7)  /* always 64-bit there (near branches; Intel ignores 66, and so do we) */
#define X86_D_END      (1u << 8)  /* the trace ends after it: branches, mode and paging changes */
#define X86_D_NO_REAL  (1u << 9)  /* #UD in real and virtual-8086 mode */
#define X86_D_CR_DR    (1u << 10) /* MOV CR/DR: mod is ignored, rm is a register; operand size 8 or 4 */
#define X86_D_BYTE_OP  (1u << 11) /* 8-bit operand: opsize still tells the attribute */
#define X86_D_IGN66    (1u << 12) /* 66 does not change operand size (SSE: size 4, or 8 with REX.W) */
#define X86_D_REP_END  (1u << 13) /* the trace ends after it when a REP prefix is there */
/* What else must be so, else #UD: VEX.L in VEX rows, W in all. Without L0 or L1 both are fine, and so with W. */
#define X86_D_L0      (1u << 14)
#define X86_D_L1      (1u << 15)
#define X86_D_W0      (1u << 16)
#define X86_D_W1      (1u << 17)
#define X86_D_NOV     (1u << 18) /* vvvv is not an operand: 1111b */
#define X86_D_VSIB    (1u << 19) /* a SIB byte whose index is a vector register */
#define X86_D_VEX_GPR (1u << 20) /* general registers, operand size by W */

/* Which elements of the sources make one result: where overflow and underflow are to be looked for (mxcsr.c). */
enum x86_fp_kind {
	X86_FP_NEVER,	/* there are none */
	X86_FP_SUM,	/* first + second, with any signs */
	X86_FP_PRODUCT, /* first * second, first / second */
	X86_FP_NARROW,	/* second in the next smaller format */
	X86_FP_HALF,	/* first in half precision */
	X86_FP_PAIRS,	/* sums of neighbours */
	X86_FP_DOT,	/* dot product by an immediate */
	X86_FP_FMA132,	/* first * second + third */
	X86_FP_FMA213,	/* third * first + second */
	X86_FP_FMA231	/* third * second + first */
};
#define X86_FP_KIND   0x0f
#define X86_FP_DOUBLE 0x10 /* the sources' elements have 8 bytes, else 4 */
#define X86_FP_SCALAR 0x20 /* only the lowest */

struct x86_opdef {
	uint8_t map;   /* enum x86_map */
	uint8_t op;    /* first opcode */
	uint8_t count; /* consecutive opcodes; 0 means 1 */
	uint8_t pfx;   /* enum x86_pfx */
	uint8_t mod;   /* enum x86_mod */
	uint8_t ext;   /* 0: any; else 1 + required ModRM.reg */
	uint8_t rm;    /* 0: any; else 1 + required ModRM.rm (needs mod REG) */
	uint8_t imm;   /* enum x86_imm */
	uint32_t flags;
	/* By operand size 2, 4, 8. A NULL is #UD. `mem` may be all NULL when `reg` handlers serve both. */
	x86_exec *reg[3], *mem[3];
	const char *name; /* mnemonic, for traces and tests */
	/*
	 * Vector operations that the host executes (host.h): its code for VEX.L 0 and 1, in steps of X86_STUB_SIZE by
	 * the bits `imm_mask` of the immediate, and the bytes of a memory operand. x86_insn.imm is then the
	 * address of that code.
	 */
	const char *stub[2];
	uint8_t mem_size[2];
	uint8_t imm_mask;
	uint8_t fp; /* floating point that can overflow or underflow: enum x86_fp_kind, X86_FP_* bits */
};
#define X86_STUB_SIZE 8
/* The same handler for each operand size. */
#define X86_ALL(fn)                                                                                                    \
	{                                                                                                              \
		fn, fn, fn                                                                                             \
	}

/* Rows that exist only if the host can give the feature and the VM's processor has it. */
struct x86_opdefs {
	const struct x86_opdef *rows;
	size_t count;
	enum x86_feature feature; /* X86_F_ALWAYS: every processor has them */
};
#define X86_DEFS_OF(name_, rows_, feature_) const struct x86_opdefs name_ = { rows_, ARRAY_LEN(rows_), feature_ }
#define X86_DEFS(name_, rows_)		    X86_DEFS_OF(name_, rows_, X86_F_ALWAYS)
/* The arrays that make the instruction set; decode.c lists them. */
extern const struct x86_opdefs x86_defs_alu, x86_defs_shift, x86_defs_muldiv, x86_defs_bits, x86_defs_move,
	x86_defs_stack, x86_defs_bcd, x86_defs_branch, x86_defs_string, x86_defs_control, x86_defs_sysseg, x86_defs_io,
	x86_defs_hypercall, x86_defs_fpstate, x86_defs_sse_move, x86_defs_sse_int, x86_defs_sse_fp, x86_defs_mmx,
	x86_defs_x87_arith, x86_defs_x87_move, x86_defs_x87_env, x86_defs_sse3, x86_defs_ssse3, x86_defs_sse41,
	x86_defs_sse41_move, x86_defs_sse42, x86_defs_aes, x86_defs_pclmul, x86_defs_sha, x86_defs_avx_move,
	x86_defs_avx_int, x86_defs_avx_fp, x86_defs_avx2_move, x86_defs_avx2_int, x86_defs_avx_aes, x86_defs_fma,
	x86_defs_f16c, x86_defs_xsave, x86_defs_rdrand, x86_defs_fisttp, x86_defs_bmi1, x86_defs_bmi2, x86_defs_abm,
	x86_defs_popcnt, x86_defs_adx, x86_defs_crc32, x86_defs_movbe, x86_defs_rdseed, x86_defs_clflushopt,
	x86_defs_clwb, x86_defs_cx16, x86_defs_lahf_lm, x86_defs_smm;

/* The feature that a row of a table without one needs for its opcode `op`, or X86_F_ALWAYS (needs.c). */
enum x86_feature x86_row_needs(const struct x86_opdef *d, unsigned op);

/* How code bytes are read by the decoder. */
struct x86_decode_mode {
	uint8_t bits;			     /* 16, 32 or 64 */
	bool real;			     /* real or virtual-8086 mode */
	const struct x86_features *features; /* of the processor; NULL: all that the host can give */
};

enum x86_decode_result {
	X86_DECODE_OK,
	X86_DECODE_SHORT /* more bytes needed */,
	X86_DECODE_UD,
	X86_DECODE_TOO_LONG /* #GP */
};

/*
 * Decode the instruction at `code`, of which `avail` bytes (at most 15 are looked at) can be read.
 * Pure. On UD and TOO_LONG `out->len` is what was consumed. `*def` (may be NULL) gets the row.
 */
enum x86_decode_result x86_decode(const uint8_t *code, size_t avail, struct x86_decode_mode mode, struct x86_insn *out,
				  const struct x86_opdef **def);
/* Build the tables; idempotent; before the first x86_decode(). */
void x86_decode_init(void);
/* All definition rows, for tests: after x86_decode_init(). A row of several opcodes comes once for each. */
const struct x86_opdef *const *x86_decode_rows(size_t *count);

#endif
