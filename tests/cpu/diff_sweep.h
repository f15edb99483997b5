/*
 * Floating-point forms with every pair of special operands, under every rounding, precision and mask: not at random
 * but counted through, so that nothing is left to chance. One thread.
 */
#ifndef VIREO_TESTS_CPU_DIFF_SWEEP_H
#define VIREO_TESTS_CPU_DIFF_SWEEP_H

#include "diff_gen.h"

/* How many cases the form has; 0: it is not about floating point. */
uint64_t diff_sweep_cases(const struct diff_form *f);
/* The one instruction of the block has its operands where diff_sweep_state() can put something. */
bool diff_sweep_fits(const struct diff_block *b, struct diff_slot *s);
/* Make case `n` of the form out of an initial state. */
void diff_sweep_state(const struct diff_block *b, uint64_t n, struct diff_slot *s);
/*
 * The k-th number of a walk through 0 to n - 1 that meets each once, and whose beginning is spread evenly: so that a
 * short sweep sees something of everything.
 */
uint64_t diff_sweep_walk(uint64_t k, uint64_t n);

#endif
