/* Makes blocks of code from the table of forms, and initial states for them. One thread. */
#ifndef VIREO_TESTS_CPU_DIFF_GEN_H
#define VIREO_TESTS_CPU_DIFF_GEN_H

#include "diff_forms.h"

#define DIFF_INSNS 24
#define DIFF_BYTES 440 /* of a block with what surrounds it: INT3 before and after */
#define DIFF_PAD   32

/*
 * A block: DIFF_PAD times INT3, the instructions, a jump to its exit, INT3 again. Registers that serve as
 * addresses have a `known` initial value; all others may begin with anything.
 */
struct diff_block {
	enum diff_mode mode;
	uint32_t at;	/* offset in the code area */
	uint32_t exit;	/* its number among those in the code area */
	uint64_t entry; /* of the first instruction, in CS */
	uint8_t bytes[DIFF_BYTES];
	uint32_t len; /* of the instructions */
	struct diff_insn insn[DIFF_INSNS];
	unsigned insns;
	uint16_t undefined; /* flags undefined at the end */
	uint32_t known;	    /* a bit a register */
	uint64_t value[16];
	bool df;
};

/* A generator of blocks for one mode. `only_simple` blocks would have no faults; some are always let through. */
struct diff_choice {
	struct diff_form **forms; /* that exist in the mode */
	size_t count;
};
struct diff_choice diff_choice_new(enum diff_mode mode, struct diff_form *forms, size_t count);

/* One instruction of the form; false when it cannot be made in this mode. */
bool diff_gen_single(struct diff_block *b, struct rng *r, struct diff_form *f);
/* About `length` instructions. */
void diff_gen_block(struct diff_block *b, struct rng *r, const struct diff_choice *c, unsigned length);
/* The block's first `n` instructions. */
void diff_gen_prefix(const struct diff_block *b, unsigned n, struct diff_block *out);
/* An initial state for the block. `pool`: DIFF_POOL bytes of memory contents. */
#define DIFF_POOL 65536u
void diff_gen_state(const struct diff_block *b, struct rng *r, const uint8_t *pool, struct diff_slot *s);

/* Flags that are undefined after a shift or rotate by `count` (before masking). */
uint16_t diff_undefined_by_count(const struct diff_insn *i, unsigned count);
/* Base of the segment in the mode, and of CS. */
uint64_t diff_seg_base(enum diff_mode mode, unsigned seg);
/* Memory of the initial state at the operand; NULL when not all of it is there. */
uint8_t *diff_operand(const struct diff_insn *i, struct diff_slot *s);

#endif
