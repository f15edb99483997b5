/* Requests to a node whose sectors are encrypted. Private to block/; the thread of the node's loop; all wait. */
#ifndef VIREO_BLOCK_CRYPT_IO_H
#define VIREO_BLOCK_CRYPT_IO_H

#include "block/crypt.h"
#include "block/node.h"

struct crypt_io {
	struct crypt *c;
	struct node *n;
	struct co_mutex edges; /* parts of sectors are read, changed and written one at a time */
};

/*
 * Bytes at `at` of the node, whose sectors are numbered as if they were at `iv_at`; both have the same remainder in a
 * sector.
 */
int crypt_read(struct crypt_io *io, uint64_t at, uint64_t iv_at, uint64_t bytes, const struct iovec *iov,
	       unsigned niov);
int crypt_write(struct crypt_io *io, uint64_t at, uint64_t iv_at, uint64_t bytes, const struct iovec *iov,
		unsigned niov);

#endif
