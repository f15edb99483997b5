/* See pick.h. */
#include "pick.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 4096u

struct waiting {
	struct aio_op *op;
	uint64_t before; /* changes when it was submitted */
};

struct pool {
	struct aio aio;
	struct loop *loop;
	struct waiting at[MOST];
	unsigned n;
	bool posted;
};

uint64_t pick_seed = 88172645463325252ull;
static struct history *record;

uint64_t pick(uint64_t below)
{
	pick_seed ^= pick_seed << 13;
	pick_seed ^= pick_seed >> 7;
	pick_seed ^= pick_seed << 17;
	return pick_seed % below;
}

/* --- what is written down --- */

void history_add(struct history *h, const struct change *c)
{
	if (h->n == h->room) {
		h->room = h->room ? 2 * h->room : 256;
		h->at = realloc(h->at, h->room * sizeof(*h->at));
		if (!h->at)
			abort();
	}
	h->at[h->n++] = *c;
}

void history_free(struct history *h)
{
	for (uint64_t i = 0; i < h->n; i++)
		free(h->at[i].data);
	free(h->at);
	*h = (struct history){ 0 };
}

void history_catch_up(struct history *h)
{
	for (unsigned f = 0; f < PICK_FILES; f++) {
		struct stat st;

		if (h->fd[f] < 0 || fstat(h->fd[f], &st))
			continue;
		if ((uint64_t)st.st_size < h->size[f])
			history_add(h, &(struct change){ .kind = CHANGE_ZERO,
							 .file = f,
							 .offset = (uint64_t)st.st_size,
							 .bytes = h->size[f] - (uint64_t)st.st_size });
		h->size[f] = (uint64_t)st.st_size;
	}
}

void pick_record(struct history *h)
{
	if (record)
		history_catch_up(record);
	record = h;
	for (unsigned f = 0; h && f < PICK_FILES; f++) {
		struct stat st;

		if (h->fd[f] >= 0 && !fstat(h->fd[f], &st))
			h->size[f] = (uint64_t)st.st_size;
	}
}

/* Which of the files that are written down it is of; PICK_FILES: none. */
static unsigned file_of(const struct history *h, int fd)
{
	struct stat a, b;
	unsigned f = 0;

	if (fstat(fd, &a))
		return PICK_FILES;
	while (f < PICK_FILES && (h->fd[f] < 0 || fstat(h->fd[f], &b) || a.st_ino != b.st_ino || a.st_dev != b.st_dev))
		f++;
	return f;
}

static void write_down(struct history *h, const struct waiting *w, ssize_t ret)
{
	struct change c = { .file = file_of(h, w->op->fd), .offset = w->op->offset };

	history_catch_up(h);
	if (ret < 0 || c.file == PICK_FILES)
		return;
	switch (w->op->kind) {
	case AIO_WRITEV:
		c.bytes = (uint64_t)ret;
		c.data = malloc(c.bytes + 1);
		if (!c.data)
			abort();
		iov_to_buf(c.data, w->op->iov, w->op->niov, 0, c.bytes);
		break;
	case AIO_FDATASYNC:
		c.kind = CHANGE_FLUSH;
		c.covers = w->before;
		break;
	case AIO_FALLOCATE:
		if (!(w->op->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
			return;
		c.kind = CHANGE_ZERO;
		c.bytes = w->op->len;
		break;
	default:
		return;
	}
	history_add(h, &c);
}

/* --- the back end --- */

static void one(void *opaque)
{
	struct pool *p = opaque;
	unsigned i = (unsigned)pick(p->n);
	struct waiting w = p->at[i];
	ssize_t ret = aio_perform(w.op);

	p->at[i] = p->at[--p->n];
	p->posted = p->n > 0;
	if (p->posted)
		loop_post(p->loop, one, p);
	if (record)
		write_down(record, &w, ret);
	w.op->done(w.op, ret);
}

static void pick_submit(struct aio *a, struct aio_op *op)
{
	struct pool *p = (struct pool *)a;

	if (p->n == MOST)
		abort();
	p->at[p->n++] = (struct waiting){ op, record ? record->n : 0 };
	if (!p->posted)
		loop_post(p->loop, one, p);
	p->posted = true;
}

static void pick_close(struct aio *a)
{
	free(a);
}

static const struct aio_driver driver = { .name = "picked", .submit = pick_submit, .close = pick_close };

static struct aio *new_pool(struct loop *loop)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (!p)
		abort();
	p->aio.drv = &driver;
	p->loop = loop;
	return &p->aio;
}

void pick_init(struct node_ctx *c)
{
	c->uring = new_pool(c->loop);
	c->threads = new_pool(c->loop);
}
