/*
 * A request to one node of a disk's graph: what is asked for, and room for the node that carries it out. A node may
 * change offset and hand the same request on to a child. Private to block/; the thread of the node's loop.
 */
#ifndef VIREO_BLOCK_REQ_H
#define VIREO_BLOCK_REQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "block/aio.h"

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

#define BLOCK_REQ_UNMAP	      1u /* WRITE_ZEROES may deallocate */
#define BLOCK_REQ_COMPRESSED  2u /* WRITE: store it compressed; whole clusters */
#define BLOCK_REQ_NO_FALLBACK 4u /* WRITE_ZEROES: ENOTSUP rather than writing zeroes out */
#define BLOCK_REQ_FUA	      8u /* WRITE, WRITE_ZEROES: on stable storage before it is done */

struct node;
struct node_req;
/* `ret` is 0 or -errno. May be called before the submit has returned. */
typedef void node_done_fn(struct node_req *r, int ret);

struct node_req {
	enum block_op op;
	uint32_t flags;
	uint64_t offset, bytes;	 /* bytes; not for FLUSH */
	const struct iovec *iov; /* READ, WRITE: exactly `bytes` in total */
	unsigned niov;
	node_done_fn *done;

	/* of a qcow2 node that hands it on: who is told, where the guest meant, and the others on their way */
	node_done_fn *above;
	struct node *above_node;
	uint64_t guest;
	struct node_req *track_prev, *track_next;

	/* of the file node that has it */
	struct node *node;
	struct node_req *next;
	struct aio_op aio;
	uint64_t moved;	   /* bytes done so far */
	struct iovec *cut; /* what is left of iov after a short transfer */
	uint8_t fallback;
	uint8_t retries;
	bool counted; /* among the writes around the page cache */
};

#endif
