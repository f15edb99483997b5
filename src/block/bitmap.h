/*
 * Dirty bitmaps that an image keeps: which parts of its disk were written since somebody asked. What a format offers
 * for tools is one const table. The thread of the node's loop; all wait.
 */
#ifndef VIREO_BLOCK_BITMAP_H
#define VIREO_BLOCK_BITMAP_H

#include "block/node.h"

enum bitmap_action { BITMAP_ADD, BITMAP_REMOVE, BITMAP_CLEAR, BITMAP_ENABLE, BITMAP_DISABLE, BITMAP_MERGE };

struct bitmap_request {
	enum bitmap_action action;
	const char *name;
	uint64_t granularity; /* ADD: bytes for a bit; 0: the format's */
	bool disabled;	      /* ADD */
	struct node *src;     /* MERGE: where `src_name` is */
	const char *src_name;
};

struct bitmap_info {
	const char *name; /* until the next action */
	uint64_t granularity;
	bool enabled, inconsistent;
};

struct node_bitmap_ops {
	/* Caller frees *out. */
	int (*list)(struct node *n, struct bitmap_info **out, unsigned *count);
	/* What was done is in the file when the node has been closed. */
	int (*act)(struct node *n, const struct bitmap_request *r, struct err *err);
};

#endif
