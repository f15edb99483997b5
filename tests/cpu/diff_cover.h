/* Which rows of the decoder's tables the forms have reached, and which a directed test holds instead. */
#ifndef VIREO_TESTS_CPU_DIFF_COVER_H
#define VIREO_TESTS_CPU_DIFF_COVER_H

#include "diff_gen.h"

/* The instructions of a block have been compared. Needs x86_decode_init(). */
void diff_cover(const struct diff_block *b);
/*
 * Print each row that neither a form nor a directed test holds, and what is no longer needed in the list of such tests.
 * How many rows have neither.
 */
unsigned diff_cover_gaps(void);

#endif
