/*
 * The instruction forms that the differential test covers, as data.
 *
 * `text` is the mnemonic and its operands in the notation of the SDM's opcode maps (vol. 2, appendix A): a
 * letter for where the operand is, one for its size.
 *   E  ModRM.rm, general register or memory     G  ModRM.reg, general register    R  as E, register only
 *   M  as E, memory only                        Z  register in the opcode         S  ModRM.reg, segment register
 *   W  ModRM.rm, XMM register or memory         V  ModRM.reg, XMM register        U  as W, register only
 *   Q  ModRM.rm, MMX register or memory         P  ModRM.reg, MMX register        N  as Q, register only
 *   H  VEX.vvvv, vector register                B  VEX.vvvv, general register     L  vector register in an immediate
 *   I  immediate    J  branch displacement      O  absolute offset                X, Y  DS:rSI, ES:rDI
 *   STi  x87 register in ModRM.rm; any other operand is implied
 *   b 1, w 2, d 4, q 8, t 10, x 16 bytes; v by operand size, z as v but at most 4, y 4 or 8 by REX.W;
 *   o 8 or 16 by REX.W;
 *   e, s, f the x87 environment, its state and the FXSAVE area; p a far pointer; a a pair of v
 * A lone v is an implied operand of that size. The first operand is written, unless A_READ.
 * `code` is hexadecimal: mandatory prefix, opcode, /n for ModRM.reg, a last byte for a whole ModRM. Before it "vex"
 * for that prefix, and what it must hold: L0, L1 (both otherwise; sizes of vectors are doubled by L unless LIG), W0,
 * W1. `flags` is read>written?undefined, each some of "oszapc"; or "shift", "rotate", "double", "carry rotate": by the
 * count.
 */
#ifndef VIREO_TESTS_CPU_DIFF_FORMS_H
#define VIREO_TESTS_CPU_DIFF_FORMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/x86/cpuid.h"
#include "cpu/x86/insn.h"
#include "diff.h"
#include "diff_rng.h"

#define A_NO64	   (1u << 0)
#define A_ONLY64   (1u << 1)
#define A_D64	   (1u << 2)  /* 64-bit operands by default in 64-bit mode: 64 or 16 */
#define A_F64	   (1u << 3)  /* always 64 there */
#define A_LOCK	   (1u << 4)  /* may be locked */
#define A_READ	   (1u << 5)  /* the first operand is only read */
#define A_BOTH	   (1u << 6)  /* the second one is written too */
#define A_LOOSE	   (1u << 7)  /* 16-byte memory operands need no alignment */
#define A_SINGLE   (1u << 8)  /* not in blocks: needs an initial state made for it */
#define A_STACK	   (1u << 9)  /* RSP must point to the stack */
#define A_SI	   (1u << 10) /* RSI, RDI, RBX, RBP must point to data */
#define A_DI	   (1u << 11)
#define A_BX	   (1u << 12)
#define A_BP	   (1u << 13)
#define A_REP	   (1u << 14) /* with REP too */
#define A_BITS	   (1u << 15) /* the second operand is a bit offset into memory */
#define A_RARE	   (1u << 16) /* often faults: seldom in blocks */
#define A_CX	   (1u << 17) /* RCX counts */
#define A_SEGMENTS (1u << 18) /* changes segment registers or bases */
#define A_FORCED   (1u << 19) /* 66 and REX.W are ignored (MOV CR and the like): never generated */
#define A_SMALL16  (1u << 20) /* a 16-bit operand and a count beyond it: an undefined result */
#define A_INT	   (1u << 21) /* a vector that Linux does not take for a system call */
#define A_CLD	   (1u << 22)
#define A_PARTIAL  (1u << 24) /* a fault may leave part of what it stores or loads */
#define A_INSIDE   (1u << 25) /* the memory operand is never where it faults: what is read there must be chosen */
#define A_STD	   (1u << 23)
#define A_ALIGNED  (1u << 26) /* VEX: memory operands are aligned */
#define A_WIDE	   (1u << 27) /* REX.W means something although no operand shows it */
#define A_VSIB	   (1u << 28) /* the index is a vector register, found by a tweak */
#define A_KNOWN	   (1u << 29) /* other values of L and W are other instructions, which are not ours */
#define A_ORDER	   (1u << 31) /* which address of several is the one that faults is the processor's own affair */
#define A_FPU_PART (1u << 30) /* a fault behind the first field may leave part of the x87 state loaded */

enum diff_size {
	SIZE_NONE,
	SIZE_B,
	SIZE_W,
	SIZE_D,
	SIZE_Q,
	SIZE_T,
	SIZE_X,
	SIZE_V,
	SIZE_Z,
	SIZE_Y,
	SIZE_O,
	SIZE_E,
	SIZE_S,
	SIZE_F,
	SIZE_P,
	SIZE_A
};

struct diff_operand {
	char where; /* the letter; 'i' for STi, 0 for an implied one */
	uint8_t size;
};

enum diff_undefined { UNDEFINED_FIXED, UNDEFINED_SHIFT, UNDEFINED_ROTATE, UNDEFINED_DOUBLE, UNDEFINED_CARRY_ROTATE };

struct diff_block;
/* Change an initial state so that the only instruction of the block finds what makes it interesting. */
typedef void diff_tweak(struct rng *r, const struct diff_block *b, struct diff_slot *s);

struct diff_row {
	const char *text, *code, *flags;
	uint32_t attr;
	uint16_t clobbers; /* implied general registers that are written */
	diff_tweak *tweak;
};
/* Forms that all need one feature of the host. */
struct diff_rows {
	const struct diff_row *rows;
	size_t count;
	enum x86_feature needs; /* X86_F_FPU: every one has it */
};
extern const struct diff_rows diff_rows_int, diff_rows_x87, diff_rows_sse;
extern const struct diff_rows diff_rows_sse3, diff_rows_ssse3, diff_rows_sse41, diff_rows_sse42, diff_rows_aes,
	diff_rows_pclmul, diff_rows_sha, diff_rows_avx, diff_rows_avx2, diff_rows_fma, diff_rows_f16c,
	diff_rows_avx_aes, diff_rows_avx_pclmul;
extern const struct diff_rows diff_rows_bmi1, diff_rows_bmi2, diff_rows_abm, diff_rows_popcnt, diff_rows_movbe,
	diff_rows_adx, diff_rows_crc32, diff_rows_clflushopt, diff_rows_clwb, diff_rows_fisttp;

/* A row, parsed. */
struct diff_form {
	const struct diff_row *row;
	uint8_t prefix; /* mandatory, or 0 */
	uint8_t opcode[3], opcodes;
	bool has_modrm;
	int8_t ext;    /* ModRM.reg, or -1 */
	int16_t modrm; /* all of it, or -1 */
	struct diff_operand op[4];
	uint8_t ops;
	bool sized, wide; /* has sizes by operand size; by REX.W */
	bool vex, lig;
	int8_t l, w; /* what VEX must hold, or -1 */
	uint16_t reads, writes, undefined;
	uint8_t kind; /* enum diff_undefined */
	int8_t stack; /* how far RSP moves, in operands */
	/* results */
	uint64_t cases, in_blocks, mismatches;
};

/* Parse all tables; the array belongs to diff_forms.c. */
struct diff_form *diff_forms(size_t *count);

/* An instruction as generated. */
struct diff_insn {
	struct diff_form *form;
	enum diff_mode mode;
	uint16_t at; /* in the block */
	uint8_t len, opsize, asize;
	uint8_t vreg, index, scale; /* VEX.vvvv; VSIB */
	uint8_t reg, rm;	    /* of general registers: the number, with bit 7 set for AH, CH, DH, BH */
	bool is_mem, rep, lock, wild;
	uint8_t prefix_seg; /* enum x86_seg, or X86_SEGS */
	uint64_t linear;    /* of the memory operand, or where the implied pointer goes */
	uint32_t size;	    /* of it */
	uint64_t imm;
	uint16_t undefined; /* flags undefined before it, in its block */
	uint8_t to;	    /* a branch: the number of the instruction that it leads to */
};

#define AX (1u << X86_RAX)
#define CX (1u << X86_RCX)
#define DX (1u << X86_RDX)
#define BX (1u << X86_RBX)
#define SP (1u << X86_RSP)
#define BP (1u << X86_RBP)
#define SI (1u << X86_RSI)
#define DI (1u << X86_RDI)

/* diff_tweaks.c */
diff_tweak tweak_divide, tweak_compare, tweak_compare_pair, tweak_target, tweak_return, tweak_flags, tweak_count,
	tweak_bounds, tweak_selector, tweak_far, tweak_far_return, tweak_mxcsr, tweak_x87_memory, tweak_env, tweak_fx,
	tweak_bcd, tweak_gather, tweak_mask, tweak_string;

#endif
