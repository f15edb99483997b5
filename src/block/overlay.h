/* Writes that are forgotten: an image over another one, for as long as the program runs. As node.h; waits. */
#ifndef VIREO_BLOCK_OVERLAY_H
#define VIREO_BLOCK_OVERLAY_H

#include "block/node.h"

/*
 * A node with the contents of `under`, which it takes, also on error, and never writes to. What is written is in a
 * file of $TMPDIR or /var/tmp without a name. NULL on error.
 */
struct node *overlay_open(struct node *under, unsigned flags, struct err *err);

#endif
