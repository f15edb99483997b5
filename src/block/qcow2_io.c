/*
 * Requests to a qcow2 node. What needs no change of metadata and lies in one piece, with its table cached, goes to the
 * data file with another offset and nothing else; everything else is a coroutine.
 *
 * All requests are tracked: one that takes clusters away (discard, zeroes) waits for those that overlap it, and keeps
 * later ones waiting, so that no write on its way ends in a cluster that is somebody else's by then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_bitmap.h"
#include "block/qcow2_crypt.h"

/* --- tracking --- */

static void track(struct qcow2 *s, struct node_req *r)
{
	r->track_prev = NULL;
	r->track_next = s->tracked;
	if (s->tracked)
		s->tracked->track_prev = r;
	s->tracked = r;
}

static void untrack(struct qcow2 *s, struct node_req *r)
{
	*(r->track_prev ? &r->track_prev->track_next : &s->tracked) = r->track_next;
	if (r->track_next)
		r->track_next->track_prev = r->track_prev;
	if (s->exclusive)
		co_queue_wake_all(&s->finished);
}

static bool is_exclusive(const struct node_req *r)
{
	return r->op == BLOCK_DISCARD || r->op == BLOCK_WRITE_ZEROES;
}

static bool overlap(const struct qcow2 *s, const struct node_req *a, const struct node_req *b)
{
	uint64_t first = align_down(a->guest, s->cluster), end = align_up(a->guest + a->bytes, s->cluster);

	return b->guest < end && first < b->guest + b->bytes;
}

/* Wait for requests that came before and that `r` must not pass. The list has the latest first. */
static void wait_for_earlier(struct qcow2 *s, struct node_req *r)
{
	struct node_req *o;
again:
	for (o = r->track_next; o; o = o->track_next) {
		if ((is_exclusive(o) || is_exclusive(r)) && overlap(s, r, o)) {
			co_queue_wait(&s->finished);
			goto again;
		}
	}
}

/* --- reading --- */

static int read_backing(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
	uint64_t there = 0;
	int ret = 0;

	if (n->backing && offset < n->backing->size) {
		struct iovec *part;
		unsigned parts;

		node_event(n->file, EVENT_READ_BACKING_AIO);
		there = n->backing->size - offset;
		if (there >= bytes)
			return node_readv(n->backing, offset, bytes, iov, niov);
		part = malloc(niov * sizeof(*part));
		if (!part)
			return -ENOMEM;
		parts = iov_slice(part, iov, niov, 0, there);
		ret = node_readv(n->backing, offset, there, part, parts);
		free(part);
	}
	iov_zero(iov, niov, there, bytes - there);
	return ret;
}

static int read_part(struct node *n, const struct qc_map *m, uint64_t offset, const struct iovec *iov, unsigned niov)
{
	struct qcow2 *s = qc(n);
	void *buf;
	int ret;

	switch (m->type) {
	case QC_NORMAL:
		node_event(n->file, EVENT_READ_AIO);
		return qc_data_read(n, &(struct qc_place){ m->host, offset }, m->bytes, iov, niov);
	case QC_COMPRESSED:
		buf = malloc(m->bytes);
		ret = buf ? qc_read_compressed(n, m->entry, offset & (s->cluster - 1), m->bytes, buf) : -ENOMEM;
		if (!ret)
			iov_from_buf(iov, niov, 0, buf, m->bytes);
		free(buf);
		return ret;
	case QC_UNALLOCATED:
	case QC_UNALLOCATED_ALLOC:
		return read_backing(n, offset, m->bytes, iov, niov);
	case QC_ZERO:
	case QC_ZERO_ALLOC:
		break;
	}
	iov_zero(iov, niov, 0, m->bytes);
	return 0;
}

int qc_read(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
	struct iovec *part = NULL;
	uint64_t done = 0;
	int ret = 0;

	while (!ret && done < bytes) {
		struct qc_map m;
		unsigned parts = niov;

		ret = qc_map(n, offset + done, bytes - done, true, &m);
		if (ret)
			break;
		if (done || m.bytes < bytes) {
			if (!part)
				part = malloc(niov * sizeof(*part));
			if (!part)
				return -ENOMEM;
			parts = iov_slice(part, iov, niov, done, m.bytes);
		}
		ret = read_part(n, &m, offset + done, part ? part : iov, parts);
		done += m.bytes;
	}
	free(part);
	return ret;
}

/* --- requests --- */

static int flush(struct node *n)
{
	struct qcow2 *s = qc(n);
	int ret;

	node_event(n->file, EVENT_FLUSH_TO_OS);
	co_lock(&s->lock);
	ret = qc_flush(n);
	co_unlock(&s->lock);
	return ret;
}

static int carry_out(struct node *n, struct node_req *r)
{
	switch (r->op) {
	case BLOCK_READ:
		return qc_read(n, r->offset, r->bytes, r->iov, r->niov);
	case BLOCK_WRITE:
		if (r->flags & BLOCK_REQ_COMPRESSED)
			return qc_write_compressed(n, r->offset, r->bytes, r->iov, r->niov);
		return qc_write(n, r->offset, r->bytes, r->iov, r->niov);
	case BLOCK_FLUSH:
		return flush(n);
	case BLOCK_DISCARD:
		return qc_discard(n, r->offset, r->bytes);
	case BLOCK_WRITE_ZEROES:
		return qc_write_zeroes(n, r->offset, r->bytes, r->flags);
	}
	return -EINVAL;
}

/* The bitmaps learn of a change before it happens. */
static int note_change(struct node *n, uint64_t offset, uint64_t bytes)
{
	struct qcow2 *s = qc(n);
	int ret = 0;

	if (qc_bitmaps_waiting(n)) {
		co_lock(&s->lock);
		if (qc_bitmaps_waiting(n))
			ret = qc_bitmaps_begin(n, false);
		co_unlock(&s->lock);
	}
	if (!ret)
		qc_bitmaps_mark(n, offset, bytes);
	return ret;
}

static void body(void *opaque)
{
	struct node_req *r = opaque;
	struct node *n = r->above_node;
	struct qcow2 *s = qc(n);
	bool writes = r->op != BLOCK_READ && r->op != BLOCK_FLUSH, alone = is_exclusive(r);
	int ret;

	if (s->exclusive)
		wait_for_earlier(s, r);
	ret = writes && s->incompat & QCOW2_INCOMPAT_CORRUPT ? -EIO : 0;
	if (!ret && writes)
		ret = note_change(n, r->offset, r->bytes);
	if (!ret)
		ret = carry_out(n, r);
	untrack(s, r);
	if (alone && !--s->exclusive)
		co_queue_wake_all(&s->finished);
	r->done(r, ret);
}

static void handed_on_done(struct node_req *r, int ret)
{
	struct qcow2 *s = qc(r->above_node);

	untrack(s, r);
	r->done = r->above;
	r->done(r, ret);
}

/* True when the request is the data file's now. */
static bool hand_on(struct node *n, struct node_req *r)
{
	struct qcow2 *s = qc(n);
	struct qc_map m;

	/* An image within an image keeps its own notes in the request. */
	if ((r->op != BLOCK_READ && r->op != BLOCK_WRITE) || !s->data->drv->is_protocol || s->exclusive || s->crypt ||
	    s->incompat & QCOW2_INCOMPAT_CORRUPT || r->flags & BLOCK_REQ_COMPRESSED || n->file->drv->event)
		return false;
	if (qc_map(n, r->offset, r->bytes, false, &m) || m.type != QC_NORMAL || m.bytes != r->bytes)
		return false;
	if (r->op == BLOCK_WRITE && (!m.copied || !qc_is_data(s, m.host, m.bytes) || qc_bitmaps_waiting(n)))
		return false; /* the slow way says what is wrong */
	if (r->op == BLOCK_WRITE)
		qc_bitmaps_mark(n, r->offset, r->bytes);
	track(s, r);
	r->above = r->done;
	r->done = handed_on_done;
	r->offset = m.host;
	node_submit(s->data, r);
	return true;
}

void qc_submit(struct node *n, struct node_req *r)
{
	struct qcow2 *s = qc(n);

	r->above_node = n;
	r->guest = r->offset;
	if (node_readonly(n) && r->op != BLOCK_READ && r->op != BLOCK_FLUSH) {
		r->done(r, -EPERM);
		return;
	}
	if (hand_on(n, r))
		return;
	track(s, r);
	if (is_exclusive(r))
		s->exclusive++;
	if (co_start(body, r)) {
		untrack(s, r);
		if (is_exclusive(r))
			s->exclusive--;
		r->done(r, -ENOMEM);
	}
}
