/*
 * Files that are open around the page cache (O_DIRECT): offsets, lengths and buffers must be multiples of a block
 * there. A request that is not goes through a buffer that is; what is only a part of a block is read, changed and
 * written back, while no other write is on its way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/file.h"
#include "block/filter.h"

/* Part of larger ones, so that memory is bounded. */
#define PIECE (4u << 20)

static bool is_write(const struct node_req *r)
{
	return r->op == BLOCK_WRITE || r->op == BLOCK_WRITE_ZEROES || r->op == BLOCK_DISCARD;
}

static bool whole_blocks(const struct node *n, const struct node_req *r)
{
	return !((r->offset | r->bytes) & (n->align - 1));
}

static bool buffers_fit(const struct node *n, const struct node_req *r)
{
	for (unsigned i = 0; i < r->niov; i++)
		if (((uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len) & (n->align - 1))
			return false;
	return true;
}

static int inner(struct node *n, enum block_op op, uint64_t offset, void *buf, uint64_t bytes)
{
	struct iovec v = { buf, bytes };
	struct node_req r = {
		.op = op, .flags = FILE_REQ_ALONE, .offset = offset, .bytes = bytes, .iov = &v, .niov = 1
	};

	return node_io(n, &r);
}

/* [offset, offset + bytes) of the request, from `done` on. */
static int piece(struct node *n, const struct node_req *r, uint8_t *buf, uint64_t done, uint64_t bytes)
{
	uint64_t first = align_down(r->offset + done, n->align), end = align_up(r->offset + done + bytes, n->align);
	uint64_t head = r->offset + done - first, last = end - n->align;
	int ret = 0;

	if (r->op == BLOCK_READ) {
		ret = inner(n, BLOCK_READ, first, buf, end - first);
		if (!ret)
			iov_from_buf(r->iov, r->niov, done, buf + head, bytes);
		return ret;
	}
	if (head || end - first < n->align + head)
		ret = inner(n, BLOCK_READ, first, buf, n->align);
	if (!ret && end != r->offset + done + bytes && (last != first || !head))
		ret = inner(n, BLOCK_READ, last, buf + (last - first), n->align);
	if (ret)
		return ret;
	if (r->op == BLOCK_WRITE)
		iov_to_buf(buf + head, r->iov, r->niov, done, bytes);
	else
		memset(buf + head, 0, bytes);
	return inner(n, BLOCK_WRITE, first, buf, end - first);
}

/* Through a buffer. */
static int bounce(struct node *n, struct node_req *r)
{
	uint64_t room = align_up((r->bytes < PIECE ? r->bytes : PIECE) + 2ull * n->align, n->align);
	uint8_t *buf;
	int ret = 0;

	if (posix_memalign((void **)&buf, n->align < 4096 ? 4096 : n->align, room))
		return -ENOMEM;
	for (uint64_t done = 0, bytes; !ret && done < r->bytes; done += bytes) {
		/* Whole blocks but at the ends. */
		uint64_t stop = align_down(r->offset + done + PIECE, n->align);

		bytes = stop - r->offset - done < r->bytes - done ? stop - r->offset - done : r->bytes - done;
		ret = piece(n, r, buf, done, bytes);
	}
	free(buf);
	return ret;
}

/* The whole blocks of a range of zeroes at once, and the ends. */
static int zeroes(struct node *n, struct node_req *r)
{
	uint64_t end = r->offset + r->bytes, first = align_up(r->offset, n->align), last = align_down(end, n->align);
	struct node_req part = *r;
	int ret;

	if (first >= last)
		return bounce(n, r);
	part.bytes = first - r->offset;
	ret = part.bytes ? bounce(n, &part) : 0;
	part.offset = first;
	part.bytes = last - first;
	part.flags |= FILE_REQ_ALONE;
	if (!ret)
		ret = node_io(n, &part);
	part.offset = last;
	part.bytes = end - last;
	return ret || !part.bytes ? ret : bounce(n, &part);
}

/* A block at the end of the file has made it longer than it was meant to be. */
static int cut(struct node *n, uint64_t meant)
{
	struct file *f = n->state;

	if (!f->regular || n->size <= meant)
		return 0;
	if (ftruncate(f->fd, (off_t)meant))
		return -errno;
	n->size = meant;
	return 0;
}

static int write_alone(struct node *n, struct node_req *r)
{
	struct file *f = n->state;
	uint64_t meant;
	int ret;

	while (f->alone)
		co_queue_wait(&f->turn);
	f->alone = true;
	while (f->writing)
		co_queue_wait(&f->turn);
	meant = r->offset + r->bytes > n->size ? r->offset + r->bytes : n->size;
	ret = r->op == BLOCK_WRITE ? bounce(n, r) : zeroes(n, r);
	if (!ret)
		ret = cut(n, meant);
	f->alone = false;
	co_queue_wake_all(&f->turn);
	return ret;
}

static int carry_out(struct node *n, struct node_req *r)
{
	struct file *f = n->state;
	struct node_req again = *r;

	if (r->op == BLOCK_READ)
		return bounce(n, r);
	if (r->op != BLOCK_DISCARD && (!whole_blocks(n, r) || (r->op == BLOCK_WRITE && !buffers_fit(n, r))))
		return write_alone(n, r);
	while (f->alone)
		co_queue_wait(&f->turn);
	return node_io(n, &again);
}

bool file_direct(struct node *n, struct node_req *r)
{
	struct file *f = n->state;
	bool fits = r->op == BLOCK_FLUSH || r->op == BLOCK_DISCARD || whole_blocks(n, r);

	if (fits && (r->op == BLOCK_READ || r->op == BLOCK_WRITE))
		fits = buffers_fit(n, r);
	if (fits && is_write(r) && f->alone && !(r->flags & FILE_REQ_ALONE))
		fits = false;
	if (!fits) {
		filter_start(n, r, carry_out);
		return true;
	}
	r->counted = is_write(r);
	f->writing += r->counted;
	return false;
}

void file_direct_done(struct file *f, struct node_req *r)
{
	r->counted = false;
	if (!--f->writing && f->alone)
		co_queue_wake_all(&f->turn);
}
