/*
 * Counting what translated code executes, when somebody wants to know ("jit.count"): instructions and memory accesses
 * by their sums, or blocks one by one as well; and charging instructions to the clock that counts them (cpu/x86's
 * icount.c). Nobody else pays for it: such blocks have a few instructions more.
 *
 * A block counts all its instructions where it begins. Whoever leaves it before its end has jit_cpu.undone filled
 * first; run() (calls.c) then takes those back, and so does what may raise, for as long as it may. The vCPU's thread.
 */
#ifndef VIREO_CPU_JIT_COUNT_H
#define VIREO_CPU_JIT_COUNT_H

#include "cpu/jit/jit.h"

/* --- in C; without counting `undone` is 0 --- */

/* The clock's instructions are those that were charged, of which x86_icount_sync() knows. */
static inline void jit_count_add(struct jit_cpu *c, uint64_t n)
{
	if (((const struct jit_vm *)c->cpu.vm)->counting)
		stat_add(c->cpu.icount ? &c->counts.charged : &c->cpu.vcpu.instructions, n);
}
/* The block is left: what was not done was not. */
static inline void jit_count_take_back(struct jit_cpu *c)
{
	jit_count_add(c, -(uint64_t)c->undone);
	if (c->cpu.icount)
		c->cpu.icount_left += c->undone;
}
/* For as long as C may raise, which takes back the rest of the charge. */
static inline void jit_count_lend(struct jit_cpu *c)
{
	jit_count_add(c, -(uint64_t)c->undone);
	c->cpu.charged = c->cpu.icount ? c->undone : 0;
}
static inline void jit_count_give(struct jit_cpu *c)
{
	jit_count_add(c, c->undone);
	c->cpu.charged = 0;
}
/* The instruction of `site` is executed by C, which may raise; afterwards RIP tells whether it is done. */
static inline void jit_count_begin(struct jit_cpu *c, const struct jit_site *site)
{
	c->undone = site->left;
	jit_count_lend(c);
}
static inline void jit_count_end(struct jit_cpu *c, uint64_t rip)
{
	bool done = c->cpu.s.gpr[X86_RIP] != rip;

	jit_count_give(c);
	stat_add(&c->counts.handled, done);
	c->undone = (uint8_t)(c->undone - (done && c->undone));
}

/* --- in blocks. Flags stay --- */
struct jit_tr;
/* The block begins; it is left if its charge is more than there is. Uses T0 and T1. */
void jit_count_block(struct jit_tr *t);
/* It is left for another one, and its last `n` instructions are not done. Uses T0. */
void jit_count_back(struct jit_tr *t, unsigned n);
/* Does it count at all? */
bool jit_counts(const struct jit_tr *t);
/* The stub of that. */
void jit_count_overdrawn(struct jit_tr *t);
/* A memory access begins. Uses T1. */
void jit_count_access(struct jit_tr *t);
/* If the block is left here, the instruction that is number `from`, and those after it, are not done. */
void jit_count_undone(struct jit_tr *t, unsigned from);

#endif
