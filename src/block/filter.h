/*
 * What the filters share: requests that are carried out by a coroutine, and requests on their way that others must wait
 * for. Private to block/; the thread of the node's loop.
 */
#ifndef VIREO_BLOCK_FILTER_H
#define VIREO_BLOCK_FILTER_H

#include "block/node.h"

/* 0 or -errno; waits. What it gets may be changed. */
typedef int filter_fn(struct node *n, struct node_req *r);
/* fn(n, r) in a coroutine of its own, then r->done(). */
void filter_start(struct node *n, struct node_req *r, filter_fn *fn);
/* A request of the driver's for the same on its child `file`; the size of the node follows the child's. Waits. */
int filter_pass(struct node *n, struct node_req *r);
/*
 * A write, or zeroes, that begins or ends within a block of `align` bytes: write(n, ...) with the whole blocks, of
 * which the rest is what the child has; to the end of the child at most, if that is within its last block. Waits.
 */
int filter_write_padded(struct node *n, const struct node_req *r, uint64_t align, filter_fn *write);
/* The driver's status, truncate and allocation, when they are the child's. */
int filter_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e);
int filter_truncate(struct node *n, const struct node_resize *how, struct err *err);
int filter_info(struct node *n, struct node_info *i);
/* Let everything else that is ready run first. Waits. */
void filter_yield(struct node *n);

/* A request on its way. One that is alone has its range for itself; others may overlap. */
struct filter_range {
	uint64_t first, end;
	bool alone, waits;
	struct filter_range *next;
};

struct filter_ranges {
	struct filter_range *first;
	struct co_queue ended;
};

/* Wait until nothing is on its way that overlaps, where either is alone. */
void filter_range_begin(struct filter_ranges *rs, struct filter_range *r, uint64_t offset, uint64_t bytes, bool alone);
void filter_range_end(struct filter_ranges *rs, struct filter_range *r);

#endif
