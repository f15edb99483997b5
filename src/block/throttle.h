/*
 * Limits on requests and bytes per second, which several disks may share: QEMU's object `throttle-group`, and the
 * filter `throttle` whose option of that name says which one. A leaky bucket for each limit lets short bursts through;
 * what must wait is let go by a timer at the nanosecond. The thread of the context.
 */
#ifndef VIREO_BLOCK_THROTTLE_H
#define VIREO_BLOCK_THROTTLE_H

#include "block/block.h"
#include "block/node.h"

/* From QEMU's options of the object: id=ID,x-iops-total=N,... or limits.iops-total=N. */
int throttle_add(struct node_ctx *c, struct opts *o, struct err *err);
/* A filter over `n`, or `n` itself without limits, with a group of that name. Takes `n`, also on error: NULL. Waits. */
struct node *throttle_over(struct node *n, const char *name, const struct block_limits *l, unsigned flags,
			   struct err *err);
/* Nothing waits any more. */
void throttle_free_all(struct node_ctx *c);

#endif
