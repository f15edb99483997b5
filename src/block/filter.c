/* What filters share: see filter.h. */
#include "block/filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

struct job {
	struct node *n;
	struct node_req *r;
	filter_fn *fn;
};

static void job_body(void *opaque)
{
	struct job j = *(struct job *)opaque;

	free(opaque);
	j.r->done(j.r, j.fn(j.n, j.r));
}

void filter_start(struct node *n, struct node_req *r, filter_fn *fn)
{
	struct job *j = malloc(sizeof(*j));

	if (j)
		*j = (struct job){ n, r, fn };
	if (!j || co_start(job_body, j)) {
		free(j);
		r->done(r, -ENOMEM);
	}
}

int filter_pass(struct node *n, struct node_req *r)
{
	struct node_req below = {
		.op = r->op, .flags = r->flags, .offset = r->offset, .bytes = r->bytes, .iov = r->iov, .niov = r->niov
	};
	int ret = node_io(n->file, &below);

	n->size = n->file->size;
	return ret;
}

int filter_write_padded(struct node *n, const struct node_req *r, uint64_t align, filter_fn *write)
{
	uint64_t first = align_down(r->offset, align), end = r->offset + r->bytes, stop = align_up(end, align);
	struct iovec v = { NULL, 0 };
	struct node_req whole = { .op = BLOCK_WRITE, .flags = r->flags & BLOCK_REQ_FUA, .offset = first, .niov = 1 };
	int ret;

	if (!n->file->drv->is_protocol && stop > n->file->size)
		stop = end > n->file->size ? end : n->file->size;
	v.iov_len = stop - first;
	whole.bytes = v.iov_len;
	whole.iov = &v;
	if (posix_memalign(&v.iov_base, 4096, v.iov_len))
		return -ENOMEM;
	ret = node_read(n->file, first, v.iov_base, v.iov_len);
	if (!ret && r->op == BLOCK_WRITE)
		iov_to_buf((uint8_t *)v.iov_base + (r->offset - first), r->iov, r->niov, 0, r->bytes);
	else if (!ret)
		memset((uint8_t *)v.iov_base + (r->offset - first), 0, r->bytes);
	if (!ret)
		ret = write(n, &whole);
	free(v.iov_base);
	return ret;
}

int filter_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e)
{
	return node_status(n->file, offset, bytes, e);
}

int filter_truncate(struct node *n, const struct node_resize *how, struct err *err)
{
	int ret = node_truncate(n->file, how, err);

	n->size = n->file->size;
	return ret;
}

int filter_info(struct node *n, struct node_info *i)
{
	return n->file->drv->info ? n->file->drv->info(n->file, i) : -ENOTSUP;
}

static void wake(void *opaque)
{
	co_wake(opaque);
}

void filter_yield(struct node *n)
{
	loop_post(n->ctx->loop, wake, co_self());
	co_wait();
}

/* One that waits itself is let be: it will look again. */
static bool in_the_way(const struct filter_ranges *rs, const struct filter_range *r)
{
	for (const struct filter_range *o = rs->first; o; o = o->next)
		if (o != r && !o->waits && (o->alone || r->alone) && o->first < r->end && r->first < o->end)
			return true;
	return false;
}

void filter_range_begin(struct filter_ranges *rs, struct filter_range *r, uint64_t offset, uint64_t bytes, bool alone)
{
	*r = (struct filter_range){ offset, offset + bytes, alone, false, rs->first };
	rs->first = r;
	while (in_the_way(rs, r)) {
		r->waits = true;
		co_queue_wait(&rs->ended);
		r->waits = false;
	}
}

void filter_range_end(struct filter_ranges *rs, struct filter_range *r)
{
	struct filter_range **p = &rs->first;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	co_queue_wake_all(&rs->ended);
}
