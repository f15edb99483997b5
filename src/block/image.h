/*
 * What the configuration of a disk names, as a graph of nodes: the file, its format, what forgets writes, its limits.
 * Private to block/.
 */
#ifndef VIREO_BLOCK_IMAGE_H
#define VIREO_BLOCK_IMAGE_H

#include "block/block.h"
#include "block/node.h"

/*
 * In a coroutine of the context. `guessed`: nobody said that it is raw, nor does its header say otherwise. NULL with
 * `err`, which says in words for people what would be right.
 */
struct node *image_open(struct node_ctx *ctx, const struct block_config *c, const char *name, bool *guessed,
			struct err *err);

#endif
