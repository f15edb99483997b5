/* Persistent dirty bitmaps of qcow2: between the files that keep and that use them. Threads as in qcow2.h. */
#ifndef VIREO_BLOCK_QCOW2_BITMAP_H
#define VIREO_BLOCK_QCOW2_BITMAP_H

#include "block/bitmap.h"
#include "block/qcow2_check.h"

#define BM_IN_USE	    1u
#define BM_AUTO		    2u
#define BM_EXTRA_COMPATIBLE 4u
#define BM_MIN_BITS	    9u
#define BM_MAX_BITS	    31u
#define BM_NAME_MAX	    1023u
#define BM_COUNT_MAX	    65535u
#define BM_BYTES_MAX	    (512u << 20) /* of one */
#define BM_ALL_MAX	    (2ull << 30) /* of all together; what nobody writes takes no memory */

struct qc_bitmap {
	char *name;
	uint32_t flags; /* as they are in the file */
	unsigned granularity;
	uint8_t *extra;
	uint32_t extra_len;
	uint64_t table;	  /* in the file; 0: not there yet */
	uint32_t entries; /* of the table */
	bool enabled, inconsistent;
	uint8_t *bits; /* NULL: not read yet */
	uint64_t n;    /* bits */
	bool changed;  /* since it was read */
};

/* qcow2_bitmap.c: the directory and the data in the file */
int qc_bitmaps_open(struct node *n, struct err *err);
void qc_bitmaps_free(struct qcow2 *s);
/* The bits of one; the lock is held. */
int qc_bitmap_load(struct node *n, struct qc_bitmap *b);
/* Make the file say that bitmaps which change are in use, those that are enabled or all; the lock is held. */
int qc_bitmaps_begin(struct node *n, bool all);
/* All that changed into the file, and no longer in use; the lock is held. */
int qc_bitmaps_store(struct node *n);
int qc_bitmaps_count(struct node *n, struct qc_scan *x, struct node_check *c);
uint64_t qc_bitmap_bits(uint64_t size, unsigned granularity);

/* qcow2_bitmap_ops.c */
extern const struct node_bitmap_ops qc_bitmap_ops;
/* Before and after a change of the guest's bytes. True when begin() has still to be called. */
bool qc_bitmaps_waiting(const struct node *n);
void qc_bitmaps_mark(struct node *n, uint64_t offset, uint64_t bytes);
/* For another size of the disk; the lock is held. */
int qc_bitmaps_resize(struct node *n, uint64_t size, struct err *err);

#endif
