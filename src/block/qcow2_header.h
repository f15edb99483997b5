/*
 * Between the files that open a qcow2 image and those that read and write its header. Private to them; threads as in
 * node.h.
 */
#ifndef VIREO_BLOCK_QCOW2_HEADER_H
#define VIREO_BLOCK_QCOW2_HEADER_H

#include "block/qcow2.h"

/* Read and check the header; its cluster goes to *out, which the caller frees, also on error. Waits. */
int qc_read_header(struct node *n, uint8_t **out, struct err *err);

/* What a table in the header may be. */
struct qc_table {
	uint64_t offset, entries;
	size_t bytes;  /* of an entry */
	uint64_t most; /* bytes */
	const char *name;
};
int qc_validate_table(const struct qcow2 *s, const struct qc_table *t, struct err *err);

/* The table of snapshots by a header, which who checks an image reads by himself. */
#define QC_SNAPSHOT_TABLE(HEADER, NAME)                                                                                \
	{                                                                                                              \
		ld_be64((HEADER) + QH_SNAP_TABLE), ld_be32((HEADER) + QH_SNAPSHOTS), 40, QCOW2_MAX_SNAPSHOTS * 40u,    \
			NAME                                                                                           \
	}

#endif
