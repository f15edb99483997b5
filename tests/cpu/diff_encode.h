/* Encoding of one instruction with random operands whose addresses are known. Private to the generator. */
#ifndef VIREO_TESTS_CPU_DIFF_ENCODE_H
#define VIREO_TESTS_CPU_DIFF_ENCODE_H

#include "diff_gen.h"

/* What is known at a point of a block. A register is free until it is written or its initial value is chosen. */
struct diff_track {
	uint32_t known, written;
	uint64_t value[16];
	uint16_t undefined; /* flags */
	bool df, df_known;
};

struct diff_gen {
	struct rng *r;
	struct diff_block *b;
	struct diff_track t;
	bool single; /* the block is one instruction: faults are welcome, registers need not be saved */
	/* Of the instruction being made. */
	struct diff_insn *i;
	struct diff_form *f;
	bool use_rex;
	uint8_t rex;
	uint8_t seg; /* of the memory operand or of rSI */
	uint8_t modrm, sib, disp_size, imm_size;
	bool has_sib, rip_relative;
	uint64_t disp, rip_target;
	bool l, w, uses_v; /* of VEX; vvvv is an operand */
	uint8_t jump_size; /* of a displacement, last in the instruction; 0: none */
};

/* Append the instruction to the block; false: not now, nothing has changed. */
bool diff_encode(struct diff_gen *g, struct diff_form *f);

static inline unsigned diff_bits(const struct diff_gen *g)
{
	return diff_modes[g->b->mode].bits;
}

#endif
