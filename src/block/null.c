/* null-co and null-aio: a disk that keeps nothing, to measure what stands above it. */
#include <errno.h>
#include <string.h>

#include "block/node.h"

struct null {
	bool zeroes;
};

static int null_open(struct node *n, struct opts *o, struct err *err)
{
	struct null *s = n->state;
	uint64_t latency;

	opts_take(o, "filename");
	if (opts_size(o, "size", 1ull << 30, &n->size, err) || opts_bool(o, "read-zeroes", false, &s->zeroes, err) ||
	    opts_number(o, "latency-ns", 0, &latency, err))
		return -EINVAL;
	return 0;
}

static void null_submit(struct node *n, struct node_req *r)
{
	if (r->op == BLOCK_READ && ((struct null *)n->state)->zeroes)
		iov_zero(r->iov, r->niov, 0, r->bytes);
	r->done(r, 0);
}

static int null_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e)
{
	*e = (struct node_extent){ .bytes = bytes, .allocated = true, .has_offset = true, .offset = offset, .file = n };
	e->zero = ((struct null *)n->state)->zeroes;
	return 0;
}

static uint64_t null_allocated(struct node *n)
{
	return 0;
}

#define NULL_DRIVER(NAME)                                                                                              \
	{                                                                                                              \
		.name = NAME, .state_size = sizeof(struct null), .is_protocol = true, .prefix = NAME,                  \
		.open = null_open, .submit = null_submit, .status = null_status, .allocated = null_allocated,          \
	}

const struct node_driver node_null_co = NULL_DRIVER("null-co");
const struct node_driver node_null_aio = NULL_DRIVER("null-aio");
