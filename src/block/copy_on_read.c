/*
 * The filter `copy-on-read`: what a read finds in a backing node is written to the child as well, so that it is there
 * the next time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/filter.h"

#define PIECE (1u << 20)

struct cor {
	struct filter_ranges ranges;
	uint64_t unit; /* of copies, bytes */
};

/* Read [offset, offset + bytes), which are whole units, and write them where they are not yet. */
static int copy(struct node *n, uint64_t offset, uint8_t *buf, uint64_t bytes)
{
	int ret = 0;

	for (uint64_t done = 0; !ret && done < bytes;) {
		struct node_extent e;

		ret = node_status(n->file, offset + done, bytes - done, &e);
		if (ret)
			return ret;
		if (!e.bytes)
			break; /* the end */
		ret = node_read(n->file, offset + done, buf + done, e.bytes);
		if (!ret && !e.allocated) {
			node_event(n->file, EVENT_COR_WRITE);
			ret = is_all_zero(buf + done, e.bytes)
				      ? node_zeroes(n->file, offset + done, e.bytes, 0)
				      : node_write(n->file, offset + done, buf + done, e.bytes);
		}
		done += e.bytes;
	}
	return ret;
}

/* A part that is not there, at least in part: through a buffer of whole units. */
static int read_missing(struct node *n, const struct node_req *r, uint64_t done, uint64_t bytes)
{
	struct cor *s = n->state;
	uint64_t first = align_down(r->offset + done, s->unit), end = align_up(r->offset + done + bytes, s->unit);
	struct filter_range range;
	uint8_t *buf;
	int ret;

	if (end > n->file->size)
		end = n->file->size > r->offset + done + bytes ? n->file->size : r->offset + done + bytes;
	if (posix_memalign((void **)&buf, 4096, end - first))
		return -ENOMEM;
	memset(buf, 0, end - first);
	/* Nobody may write what is being copied. */
	filter_range_begin(&s->ranges, &range, first, end - first, true);
	ret = copy(n, first, buf, end - first);
	filter_range_end(&s->ranges, &range);
	if (!ret)
		iov_from_buf(r->iov, r->niov, done, buf + (r->offset + done - first), bytes);
	free(buf);
	return ret;
}

static int read_present(struct node *n, const struct node_req *r, uint64_t done, uint64_t bytes)
{
	struct iovec *part;
	int ret;

	if (bytes == r->bytes)
		return node_readv(n->file, r->offset, bytes, r->iov, r->niov);
	part = malloc(r->niov * sizeof(*part));
	if (!part)
		return -ENOMEM;
	ret = node_readv(n->file, r->offset + done, bytes, part, iov_slice(part, r->iov, r->niov, done, bytes));
	free(part);
	return ret;
}

static int cor_read(struct node *n, const struct node_req *r)
{
	int ret = 0;

	for (uint64_t done = 0, part; !ret && done < r->bytes; done += part) {
		struct node_extent e;

		ret = node_status(n->file, r->offset + done, r->bytes - done, &e);
		if (ret)
			break;
		part = e.bytes ? e.bytes : r->bytes - done;
		if (e.bytes && !e.allocated && part > PIECE)
			part = PIECE;
		ret = e.bytes && !e.allocated ? read_missing(n, r, done, part) : read_present(n, r, done, part);
	}
	return ret;
}

static int cor_request(struct node *n, struct node_req *r)
{
	struct cor *s = n->state;
	struct filter_range range;
	int ret;

	if (r->op == BLOCK_READ)
		return cor_read(n, r);
	if (r->op == BLOCK_FLUSH)
		return filter_pass(n, r);
	filter_range_begin(&s->ranges, &range, r->offset, r->bytes, false);
	ret = filter_pass(n, r);
	filter_range_end(&s->ranges, &range);
	return ret;
}

static void cor_submit(struct node *n, struct node_req *r)
{
	filter_start(n, r, cor_request);
}

static int cor_open(struct node *n, struct opts *o, struct err *err)
{
	struct cor *s = n->state;
	struct node_info i = { 0 };
	const char *bottom = opts_take(o, "bottom");

	if (bottom)
		return err_set(err, "Bottom node '%s' not found", bottom);
	if (node_readonly(n))
		return err_set(err, "Block node is read-only");
	s->unit = 512;
	if (n->file->drv->info && !n->file->drv->info(n->file, &i) && i.cluster_size)
		s->unit = i.cluster_size;
	n->size = n->file->size;
	return 0;
}

const struct node_driver node_copy_on_read = {
	.name = "copy-on-read",
	.state_size = sizeof(struct cor),
	.is_filter = true,
	.forces = true,
	.compresses = true,
	.open = cor_open,
	.submit = cor_submit,
	.truncate = filter_truncate,
	.status = filter_status,
	.info = filter_info,
};
