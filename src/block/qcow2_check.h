/* Between checking a qcow2 image and building its counts anew. Private to these files; threads as in node.h. */
#ifndef VIREO_BLOCK_QCOW2_CHECK_H
#define VIREO_BLOCK_QCOW2_CHECK_H

#include "block/qcow2.h"

/* A count for each cluster of a file, as it should be. */
struct qc_refs {
	uint32_t *at;
	uint64_t n; /* clusters that `at` has */
};

/* Room for at least so many clusters; -EFBIG or -ENOMEM. */
int qc_refs_reserve(struct qc_refs *r, uint64_t clusters);
/*
 * Make a refcount table and blocks of counts 2^order bits wide from `r`, in clusters that are free by it, and let the
 * header name them. What was there before is left as it is. The lock is held. Waits.
 */
int qc_rebuild(struct node *n, struct qc_refs *r, unsigned order, struct err *err);

/*
 * The table of snapshots, read for checking it: what is wrong with it goes to `c`. With CHECK_FIX_ERRORS what is too
 * much is left out, and qc_check_write_snapshots() makes it good in the file when the counts are sound. The lock is
 * held.
 */
int qc_check_read_snapshots(struct node *n, struct node_check *c, unsigned fix);
int qc_check_write_snapshots(struct node *n, struct node_check *c, unsigned fix);

/* A reference to each cluster of a range, while checking; what lies outside of the file is a finding. */
struct qc_scan;
int qc_scan_refer(struct qc_scan *x, uint64_t offset, uint64_t bytes);

#endif
