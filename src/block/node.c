/* What all nodes share: their context, requests that a coroutine waits for, and the calls that a driver may not have.
 */
#include "block/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/filter.h"
#include "block/throttle.h"

const char *const node_prealloc_names[] = { "off", "metadata", "falloc", "full", NULL };

int node_ctx_init(struct node_ctx *c, struct err *err)
{
	*c = (struct node_ctx){ .loop_is_own = true };
	c->loop = loop_new(err);
	return c->loop ? 0 : -1;
}

void node_ctx_free(struct node_ctx *c)
{
	if (c->uring)
		c->uring->drv->close(c->uring);
	if (c->threads)
		c->threads->drv->close(c->threads);
	throttle_free_all(c);
	if (c->loop && c->loop_is_own)
		loop_free(c->loop);
	*c = (struct node_ctx){ 0 };
}

struct run {
	struct node_ctx *c;
	co_fn *fn;
	void *opaque;
	bool done, looping;
};

static void run_body(void *opaque)
{
	struct run *r = opaque;

	r->fn(r->opaque);
	r->done = true;
	if (r->looping)
		loop_quit(r->c->loop);
}

void node_ctx_run(struct node_ctx *c, co_fn *fn, void *opaque)
{
	struct run r = { c, fn, opaque, false, false };

	if (co_start(run_body, &r))
		abort(); /* nothing is sensible without 128 KiB */
	if (!r.done) {
		r.looping = true;
		loop_run(c->loop);
	}
}

struct aio *node_ctx_aio(struct node_ctx *c, enum node_aio which, struct err *err)
{
	struct err why;

	if (which != NODE_AIO_THREADS) {
		if (!c->uring)
			c->uring = aio_uring.open(c->loop, which == NODE_AIO_URING ? err : &why);
		if (c->uring || which == NODE_AIO_URING)
			return c->uring;
		log_line(LOG_INFO, "block", "%s; using a thread pool", why.msg);
	}
	if (!c->threads)
		c->threads = aio_threads.open(c->loop, err);
	return c->threads;
}

struct work {
	struct aio_op op;
	struct co *co;
	ssize_t ret;
};

static void work_done(struct aio_op *op, ssize_t ret)
{
	struct work *w = container_of(op, struct work, op);

	w->ret = ret;
	co_wake(w->co);
}

int node_work(struct node_ctx *c, int (*fn)(void *opaque), void *opaque)
{
	struct work w = { .op = { .kind = AIO_CALL, .call = fn, .opaque = opaque, .done = work_done },
			  .co = co_self() };
	struct err err;
	struct aio *a = node_ctx_aio(c, NODE_AIO_THREADS, &err);

	if (!a)
		return fn(opaque);
	a->drv->submit(a, &w.op);
	co_wait();
	return (int)w.ret;
}

/* --- requests --- */

struct wait {
	struct node_req r;
	struct co *co;
	bool done;
	int ret;
};

static bool forces(const struct node *n)
{
	for (; n; n = n->file)
		if (!n->drv->forces)
			return false;
	return true;
}

static int write_and_flush(struct node *n, struct node_req *r)
{
	struct node_req plain = *r;
	int ret;

	plain.flags &= ~BLOCK_REQ_FUA;
	ret = node_io(n, &plain);
	return ret ? ret : node_flush(n);
}

void node_submit(struct node *n, struct node_req *r)
{
	if (n->detects_zeroes && r->op == BLOCK_WRITE && !(r->flags & BLOCK_REQ_COMPRESSED) &&
	    iov_is_zero(r->iov, r->niov)) {
		r->op = BLOCK_WRITE_ZEROES;
		r->flags |= n->unmaps_zeroes ? BLOCK_REQ_UNMAP : 0;
	}
	if (r->flags & BLOCK_REQ_FUA && !forces(n))
		filter_start(n, r, write_and_flush);
	else
		n->drv->submit(n, r);
}

static void wake(struct node_req *r, int ret)
{
	struct wait *w = container_of(r, struct wait, r);

	w->ret = ret;
	w->done = true;
	if (w->co)
		co_wake(w->co);
}

int node_io(struct node *n, struct node_req *r)
{
	struct wait w = { .r = *r };

	w.r.done = wake;
	node_submit(n, &w.r);
	if (!w.done) {
		w.co = co_self();
		co_wait();
	}
	return w.ret;
}

int node_readv(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
	struct node_req r = { .op = BLOCK_READ, .offset = offset, .bytes = bytes, .iov = iov, .niov = niov };

	return node_io(n, &r);
}

int node_writev(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
	struct node_req r = { .op = BLOCK_WRITE, .offset = offset, .bytes = bytes, .iov = iov, .niov = niov };

	return node_io(n, &r);
}

int node_read(struct node *n, uint64_t offset, void *buf, size_t bytes)
{
	struct iovec iov = { buf, bytes };

	return node_readv(n, offset, bytes, &iov, 1);
}

int node_write(struct node *n, uint64_t offset, const void *buf, size_t bytes)
{
	struct iovec iov = { (void *)buf, bytes };

	return node_writev(n, offset, bytes, &iov, 1);
}

int node_zeroes(struct node *n, uint64_t offset, uint64_t bytes, uint32_t flags)
{
	struct node_req r = { .op = BLOCK_WRITE_ZEROES, .flags = flags, .offset = offset, .bytes = bytes };

	return node_io(n, &r);
}

int node_discard(struct node *n, uint64_t offset, uint64_t bytes)
{
	struct node_req r = { .op = BLOCK_DISCARD, .offset = offset, .bytes = bytes };

	return node_io(n, &r);
}

int node_flush(struct node *n)
{
	struct node_req r = { .op = BLOCK_FLUSH };

	return n->flags & NODE_RDWR ? node_io(n, &r) : 0;
}

int node_truncate(struct node *n, const struct node_resize *how, struct err *err)
{
	if (how->size > INT64_MAX) {
		err_set(err, "Required too big image size, it must be not greater than %lld", (long long)INT64_MAX);
		return -EFBIG;
	}
	if (node_readonly(n)) {
		err_set(err, "Image is read-only");
		return -EACCES;
	}
	if (!n->drv->truncate) {
		err_set(err, "Image format driver does not support resize");
		return -ENOTSUP;
	}
	return n->drv->truncate(n, how, err);
}

int node_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e)
{
	uint64_t end = n->size;
	int ret;

	*e = (struct node_extent){ 0 };
	if (offset >= end) {
		e->eof = true;
		return 0;
	}
	if (bytes > end - offset)
		bytes = end - offset;
	if (n->drv->status) {
		ret = n->drv->status(n, offset, bytes, e);
		if (ret)
			return ret;
		if (e->bytes > bytes)
			e->bytes = bytes;
	} else {
		*e = (struct node_extent){ .bytes = bytes, .allocated = true, .data = true };
	}
	e->eof = offset + e->bytes == end;
	/* Nothing is there, nor behind it. */
	if (!e->allocated && !e->data && n->drv->has_backing && (!n->backing || offset >= n->backing->size))
		e->zero = true;
	/* What a file below has as a hole reads as zeroes. */
	if (e->look_below && e->data && !e->zero && e->has_offset) {
		struct node_extent below;

		if (!node_status(e->file, e->offset, e->bytes, &below)) {
			if (!below.bytes) {
				e->zero = true; /* behind its end */
			} else {
				e->bytes = below.bytes;
				e->zero = below.zero;
			}
			e->eof = offset + e->bytes == end;
		}
	}
	return 0;
}

int node_status_chain(struct node *n, struct node *base, uint64_t offset, uint64_t bytes, struct node_extent *e)
{
	unsigned depth = 0;

	for (;; n = n->backing, depth++) {
		int ret = node_status(n, offset, bytes, e);

		if (ret)
			return ret;
		if (!e->bytes) {
			/* Behind the end of a shorter backing node. */
			*e = (struct node_extent){
				.bytes = bytes, .zero = true, .allocated = depth > 0, .depth = depth
			};
			return 0;
		}
		e->depth = depth;
		if (e->allocated)
			return 0;
		bytes = e->bytes;
		if (!n->backing || n->backing == base) {
			e->zero = !n->backing;
			return 0;
		}
		if (offset >= n->backing->size) {
			*e = (struct node_extent){
				.bytes = bytes, .zero = true, .allocated = true, .depth = depth + 1
			};
			return 0;
		}
	}
}

/* --- what a node is --- */

const char *node_path(const struct node *n)
{
	while (n->file)
		n = n->file;
	return n->drv->is_remote ? NULL : opts_get(n->options, "filename");
}

uint64_t node_allocated(struct node *n)
{
	uint64_t file, data;

	if (n->drv->allocated)
		return n->drv->allocated(n);
	if (n->drv->is_remote)
		return NODE_UNKNOWN;
	file = n->file ? node_allocated(n->file) : 0;
	data = n->data_file ? node_allocated(n->data_file) : 0;
	return file == NODE_UNKNOWN || data == NODE_UNKNOWN ? NODE_UNKNOWN : file + data;
}

/* --- scattered buffers --- */

unsigned iov_slice(struct iovec *out, const struct iovec *iov, unsigned niov, uint64_t skip, uint64_t bytes)
{
	unsigned n = 0;

	for (unsigned i = 0; i < niov && bytes; i++) {
		size_t len = iov[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len -= skip;
		if (len > bytes)
			len = bytes;
		out[n++] = (struct iovec){ (char *)iov[i].iov_base + skip, len };
		bytes -= len;
		skip = 0;
	}
	return n;
}

/* The next piece of a range: where it begins and its length, which is taken off; 0 at the end. */
struct pieces {
	const struct iovec *iov;
	unsigned niov;
	uint64_t skip, bytes;
};

static size_t next_piece(struct pieces *p, char **piece)
{
	while (p->niov && p->skip >= p->iov->iov_len) {
		p->skip -= p->iov->iov_len;
		p->iov++;
		p->niov--;
	}
	if (!p->niov || !p->bytes)
		return 0;
	size_t len = p->iov->iov_len - p->skip;

	if (len > p->bytes)
		len = p->bytes;
	*piece = (char *)p->iov->iov_base + p->skip;
	p->bytes -= len;
	p->skip += len;
	return len;
}

void iov_to_buf(void *buf, const struct iovec *iov, unsigned niov, uint64_t skip, size_t bytes)
{
	struct pieces p = { iov, niov, skip, bytes };
	char *piece, *to = buf;

	for (size_t len; (len = next_piece(&p, &piece)); to += len)
		memcpy(to, piece, len);
}

void iov_from_buf(const struct iovec *iov, unsigned niov, uint64_t skip, const void *buf, size_t bytes)
{
	struct pieces p = { iov, niov, skip, bytes };
	const char *from = buf;
	char *piece;

	for (size_t len; (len = next_piece(&p, &piece)); from += len)
		memcpy(piece, from, len);
}

bool iov_is_zero(const struct iovec *iov, unsigned niov)
{
	for (unsigned i = 0; i < niov; i++)
		if (!is_all_zero(iov[i].iov_base, iov[i].iov_len))
			return false;
	return true;
}

void iov_zero(const struct iovec *iov, unsigned niov, uint64_t skip, uint64_t bytes)
{
	struct pieces p = { iov, niov, skip, bytes };
	char *piece;

	for (size_t len; (len = next_piece(&p, &piece));)
		memset(piece, 0, len);
}
