/*
 * The instructions that translated code executes itself, as a table: what each does with its operands and with the
 * flags, and how it is written. What is not in the table is left to its handler.
 */
#ifndef VIREO_CPU_JIT_OPS_H
#define VIREO_CPU_JIT_OPS_H

#include "cpu/x86/insn.h"

/* Flags as LAHF and SETO leave them, in six bits. */
#define JIT_F_C	  1u
#define JIT_F_P	  2u
#define JIT_F_A	  4u
#define JIT_F_Z	  8u
#define JIT_F_S	  16u
#define JIT_F_O	  32u
#define JIT_F_ALL 63u

/* jit_op.what */
#define JIT_RM_R    (1u << 0) /* ModRM.rm is read */
#define JIT_RM_W    (1u << 1)
#define JIT_REG_R   (1u << 2)
#define JIT_REG_W   (1u << 3)
#define JIT_GROUP   (1u << 4)  /* ModRM.reg belongs to the opcode */
#define JIT_CL	    (1u << 5)  /* CL is a count */
#define JIT_VVVV    (1u << 6)  /* VEX.vvvv is read */
#define JIT_NOT16   (1u << 7)  /* not with 16-bit operands */
#define JIT_XMM_REG (1u << 8)  /* ModRM.reg is a vector register */
#define JIT_XMM_RM  (1u << 9)  /* ModRM.rm, if a register, is */
#define JIT_ALIGNED (1u << 10) /* of 16 bytes: #GP if not */
#define JIT_LONG    (1u << 11) /* twice the bytes with VEX.L */
#define JIT_MEM	    (1u << 12) /* only with a memory operand */
#define JIT_REGS    (1u << 13) /* only without */
#define JIT_END	    (1u << 14) /* control goes elsewhere */
#define JIT_FIXED   (1u << 15) /* the operand size does not show in prefixes */
#define JIT_VVVV_W  (1u << 16) /* VEX.vvvv is a general register that is written */
#define JIT_MMX	    (1u << 16) /* vector registers are those of MMX */
#define JIT_PAIR    (1u << 17) /* of two words of 4 bytes, or of 8 with REX.W */
#define JIT_CODE64  (1u << 18) /* only in 64-bit code */
#define JIT_ACC_W   (1u << 19) /* RAX and RDX are written, or one of them */

struct jit_tr;
struct jit_op {
	uint8_t map, op, count;
	uint8_t pfx; /* enum x86_pfx */
	uint8_t ext; /* 0: any; else 1 + ModRM.reg */
	uint32_t what;
	uint8_t mem; /* bytes of a memory operand; 0: the operand size */
	/* Flags: looked at, given new values, and given new values in some cases. */
	uint8_t reads, writes, changes;
	void (*emit)(struct jit_tr *t);
};

/* A row of the table for instructions on vector registers, NULL: none. ops_vec.c */
const struct jit_op *jit_vector_op(const struct x86_opdef *d, const struct x86_insn *i);
/* The same for x87 and MMX. x87.c */
const struct jit_op *jit_x87_op(const struct x86_opdef *d, const struct x86_insn *i);
/* The same for some that are the system's. system.c */
const struct jit_op *jit_system_op(const struct x86_opdef *d, const struct x86_insn *i);
/* Rows, and by map and opcode those between which all lie that may be about it. */
struct jit_op_table {
	const struct jit_op *rows;
	size_t count;
	_Atomic bool indexed;
	struct {
		uint16_t begin, end;
	} at[X86_MAPS][256];
};
/* The first row that is about this instruction; NULL: none. Any thread. */
const struct jit_op *jit_op_find(struct jit_op_table *t, const struct x86_opdef *d, const struct x86_insn *i);
/* The row for a decoded instruction; NULL: none. `mode`: enum x86_fetch. */
const struct jit_op *jit_op_of(const struct x86_opdef *d, const struct x86_insn *i, unsigned mode);
/* Flags that this instruction, whatever executes it, looks at, and gives new values in any case. */
void jit_flags_of(const struct jit_op *op, const struct x86_insn *i, uint8_t *reads, uint8_t *writes);
/* Those that condition `cc` looks at. */
uint8_t jit_cond_flags(unsigned cc);

/* --- how: plain.c, stack.c, flow.c --- */
void jit_plain(struct jit_tr *t);   /* the same instruction on other registers */
void jit_implied(struct jit_tr *t); /* the same, no ModRM: what it names is at home */
void jit_nothing(struct jit_tr *t);
void jit_vzero(struct jit_tr *t); /* VZEROUPPER, VZEROALL */
void jit_inc_dec(struct jit_tr *t);
void jit_mov_imm(struct jit_tr *t); /* MOV r, imm */
void jit_mov_offset(struct jit_tr *t);
void jit_xchg_acc(struct jit_tr *t); /* XCHG rAX, r */
void jit_bswap(struct jit_tr *t);
void jit_lea(struct jit_tr *t);
void jit_push_reg(struct jit_tr *t);
void jit_push_imm(struct jit_tr *t);
void jit_push_mem(struct jit_tr *t);
void jit_pop_reg(struct jit_tr *t);
void jit_leave(struct jit_tr *t);
void jit_jcc(struct jit_tr *t);
void jit_loop(struct jit_tr *t);
void jit_jcxz(struct jit_tr *t);
void jit_jmp(struct jit_tr *t);
void jit_jmp_indirect(struct jit_tr *t);
void jit_call(struct jit_tr *t);
void jit_call_indirect(struct jit_tr *t);
void jit_ret(struct jit_tr *t);

void jit_string(struct jit_tr *t); /* with REP, repeat.c */
void jit_pushf(struct jit_tr *t);
void jit_div(struct jit_tr *t); /* arith.c */
void jit_bit_string(struct jit_tr *t);
void jit_bls(struct jit_tr *t);
void jit_direction(struct jit_tr *t); /* CLD, STD: system.c */
void jit_cli(struct jit_tr *t);
void jit_sti(struct jit_tr *t);
void jit_mov_from_seg(struct jit_tr *t);
void jit_x87(struct jit_tr *t); /* x87.c */

/* --- where a block ends, flow.c --- */
/* Control goes on at `rip`; `jump`: by that jump, or from here if NULL. */
void jit_go_on(struct jit_tr *t, uint64_t rip, uint8_t *jump);
/* The last instruction by its handler, which says where it goes on. */
void jit_end_by_handler(struct jit_tr *t);
/* The instruction at `rip` by itself, in the interpreter. */
void jit_interpret(struct jit_tr *t, uint64_t rip);

#endif
