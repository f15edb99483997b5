/*
 * Why the path of a disk could not be opened, for people. Private to block/; any thread.
 */
#ifndef VIREO_BLOCK_EXPLAIN_H
#define VIREO_BLOCK_EXPLAIN_H

#include "block/block.h"

/* Say in our words, which tell what would be right, why c->path could not be opened; errnum 0: the error is `err`'s. */
void block_explain(const struct block_config *c, int errnum, struct err *err);

#endif
