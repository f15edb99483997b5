/*
 * Accesses of a block that share one look into the TLB: what each instruction has to know. Private to the translator.
 *
 * The first of them looks for all: whether the page has everything from the lowest to the highest byte that they touch,
 * and may be written if one of them does. If so it leaves where that is in jit_cpu.shared, where the others find it. If
 * not, the block is left, and from this instruction on goes on in a block without sharing.
 *
 * Stores that nothing can come between have one look at their page's byte of flags, behind the last of them. Had one
 * changed code of this block the next instruction would be the old one, so the page must not have any code before.
 */
#ifndef VIREO_CPU_JIT_SHARE_H
#define VIREO_CPU_JIT_SHARE_H

#include <stdbool.h>
#include <stdint.h>

/* How many groups of them a block may have. */
#define JIT_SHARES 8

enum jit_share_role { JIT_SHARE_NONE, JIT_SHARE_FIRST, JIT_SHARE_NEXT };
struct jit_share {
	uint8_t role; /* enum jit_share_role */
	uint8_t slot; /* in jit_cpu.shared */
	bool write;   /* of the group */
	uint16_t at;  /* bytes from the group's lowest one to this access */
	uint16_t span;
	/*
	 * Whether its page wants to hear of stores is asked once for several, by the last one: `run` bytes from `from`
	 * on. `later`: not by this one. The first access then sees to it that nobody wanted to before.
	 */
	bool later, quiet;
	uint16_t from, run;
};

struct jit_tr;
/* Say so of each instruction of the block. */
void jit_share_plan(struct jit_tr *t);

#endif
