/* The filter `compress`: what is written is stored compressed, in whole clusters of the child. */
#include <errno.h>

#include "base/bytes.h"
#include "block/filter.h"

struct compress {
	struct filter_ranges ranges;
	uint32_t cluster;
};

static int write_compressed(struct node *n, struct node_req *r)
{
	r->flags |= BLOCK_REQ_COMPRESSED;
	return filter_pass(n, r);
}

static int compress_request(struct node *n, struct node_req *r)
{
	struct compress *s = n->state;
	uint64_t end = r->offset + r->bytes;
	bool whole = !(r->offset & (s->cluster - 1)) && (!(end & (s->cluster - 1)) || end >= n->size);
	struct filter_range range;
	int ret;

	if (r->op == BLOCK_READ || r->op == BLOCK_FLUSH)
		return filter_pass(n, r);
	filter_range_begin(&s->ranges, &range, align_down(r->offset, s->cluster),
			   align_up(end, s->cluster) - align_down(r->offset, s->cluster), !whole);
	if (r->op != BLOCK_WRITE)
		ret = filter_pass(n, r);
	else if (whole)
		ret = write_compressed(n, r);
	else
		ret = filter_write_padded(n, r, s->cluster, write_compressed);
	filter_range_end(&s->ranges, &range);
	return ret;
}

static void compress_submit(struct node *n, struct node_req *r)
{
	filter_start(n, r, compress_request);
}

static int compress_open(struct node *n, struct opts *o, struct err *err)
{
	struct compress *s = n->state;
	struct node_info i = { 0 };

	if (!n->file->drv->compresses || !n->file->drv->info || n->file->drv->info(n->file, &i) || !i.cluster_size)
		return err_set(err, "Compression is not supported for underlying format: %s", n->file->drv->name);
	s->cluster = (uint32_t)i.cluster_size;
	n->size = n->file->size;
	return 0;
}

const struct node_driver node_compress = {
	.name = "compress",
	.state_size = sizeof(struct compress),
	.is_filter = true,
	.forces = true,
	.compresses = true,
	.open = compress_open,
	.submit = compress_submit,
	.truncate = filter_truncate,
	.status = filter_status,
	.info = filter_info,
};
