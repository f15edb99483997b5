/* The raw format: the bytes of its child, or a window of them given by `offset` and `size`. */
#include <errno.h>

#include "base/bytes.h"
#include "block/filter.h"

struct raw {
	uint64_t offset, size;
	bool has_size;
};

static void find_size(struct node *n)
{
	struct raw *s = n->state;
	uint64_t end = n->file->size;

	n->size = s->has_size ? s->size : end > s->offset ? end - s->offset : 0;
}

static int raw_open(struct node *n, struct opts *o, struct err *err)
{
	struct raw *s = n->state;

	if (opts_size(o, "offset", 0, &s->offset, err) || opts_size(o, "size", 0, &s->size, err))
		return -EINVAL;
	s->has_size = opts_get(o, "size");
	if (s->offset > n->file->size) {
		err_set(err, "Offset (%llu) cannot be greater than size of the containing file (%lld)",
			(unsigned long long)s->offset, (long long)n->file->size);
		return -EINVAL;
	}
	if (s->has_size && n->file->size - s->offset < s->size) {
		err_set(err,
			"The sum of offset (%llu) and size (%llu) has to be smaller or equal to the  actual size of "
			"the containing file (%lld)",
			(unsigned long long)s->offset, (unsigned long long)s->size, (long long)n->file->size);
		return -EINVAL;
	}
	if (s->has_size && s->size % 512) {
		err_set(err, "Specified size is not multiple of %llu", 512ull);
		return -EINVAL;
	}
	find_size(n);
	n->align = n->file->align;
	return 0;
}

/* With what its child wants to know of. */
static int raw_tell(struct node *n, struct node_req *r)
{
	struct node_req below = *r;

	if (r->op == BLOCK_READ || r->op == BLOCK_WRITE)
		node_event(n->file, r->op == BLOCK_READ ? EVENT_READ_AIO : EVENT_WRITE_AIO);
	if (r->op == BLOCK_FLUSH) {
		node_event(n->file, EVENT_FLUSH_TO_OS);
		node_event(n->file, EVENT_FLUSH_TO_DISK);
	}
	return node_io(n->file, &below);
}

static void raw_submit(struct node *n, struct node_req *r)
{
	r->offset += ((struct raw *)n->state)->offset;
	if (n->file->drv->event)
		filter_start(n, r, raw_tell);
	else
		node_submit(n->file, r);
}

static int raw_truncate(struct node *n, const struct node_resize *how, struct err *err)
{
	struct raw *s = n->state;
	struct node_resize below = *how;
	int ret;

	if (s->has_size) {
		err_set(err, "Cannot resize fixed-size raw disks");
		return -ENOTSUP;
	}
	if (INT64_MAX - how->size < s->offset) {
		err_set(err, "Disk size too large for the chosen offset");
		return -EINVAL;
	}
	below.size += s->offset;
	ret = node_truncate(n->file, &below, err);
	find_size(n);
	return ret;
}

static int raw_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e)
{
	struct raw *s = n->state;
	uint64_t at = s->offset + offset;
	int ret = node_status(n->file, at, bytes, e);

	e->allocated = true;
	e->has_offset = true;
	e->offset = at;
	e->file = n->file;
	return ret;
}

static int raw_create(struct node_ctx *c, const char *filename, struct opts *o, struct err *err)
{
	return node_create_protocol(c, filename, o, err);
}

static const struct node_create_option create_options[] = {
	{ "size", 'z', "Virtual disk size", NULL },
	{ NULL },
};

const struct node_driver node_raw = {
	.name = "raw",
	.state_size = sizeof(struct raw),
	.forces = true,
	.create_options = create_options,
	.open = raw_open,
	.submit = raw_submit,
	.create = raw_create,
	.truncate = raw_truncate,
	.status = raw_status,
	.info = filter_info,
};
