/*
 * The filter `blkdebug`: lets requests to its child fail, or keeps them, when the node above does certain things. Rules
 * and options are QEMU's. What is here is for `vireo io`: the first blkdebug node from `n` down is meant, -ENOTSUP
 * without one. The thread of the node's loop.
 */
#ifndef VIREO_BLOCK_BLKDEBUG_H
#define VIREO_BLOCK_BLKDEBUG_H

#include "block/node.h"

/* Keep the next request that comes by `event`, under the name `tag`. -ENOENT: there is no such event. */
int blkdebug_break(struct node *n, const char *event, const char *tag);
/* Forget breaks of this name, and let go what was kept. -ENOENT: none. */
int blkdebug_remove_break(struct node *n, const char *tag);
int blkdebug_resume(struct node *n, const char *tag);
/* Forget all breaks and let go everything. */
void blkdebug_release(struct node *n);
bool blkdebug_is_suspended(const struct node *n, const char *tag);
/* Call fn(opaque) once, when the next request is kept. */
void blkdebug_on_suspend(struct node *n, loop_fn *fn, void *opaque);

#endif
