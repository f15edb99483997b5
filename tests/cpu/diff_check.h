/* Compares what the two sides made of a case, and says how they differ. */
#ifndef VIREO_TESTS_CPU_DIFF_CHECK_H
#define VIREO_TESTS_CPU_DIFF_CHECK_H

#include <stdio.h>

#include "diff_gen.h"

/* What this host's processor defines beyond the architecture. Call once. */
void diff_check_init(void);
/* A case of which nothing is compared, and why. */
enum diff_why {
	DIFF_COMPARED,
	DIFF_MXCSR,  /* the host's MXCSR has a bit that we do not offer */
	DIFF_ASTRAY, /* it ended in another block's code */
	DIFF_OWN,    /* an address at which the host's process has something of its own */
	DIFF_SHORT,  /* a masked operand over the end of a short address, of which each processor makes its own */
	DIFF_WHYS
};
enum diff_why diff_left_out(const struct diff_shared *sh, const struct diff_block *b, const struct diff_slot *s,
			    const struct diff_result *guest);
/* The results agree in all that is defined. With `out`, the differences are written there. */
bool diff_check(const struct diff_block *b, const struct diff_slot *s, const struct diff_result *guest, FILE *out);
/* The instructions of a block, as text. */
void diff_print_block(const struct diff_block *b, FILE *out);

#endif
