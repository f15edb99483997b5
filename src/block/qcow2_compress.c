/*
 * Compressed clusters: zlib (raw deflate, window of 4 KiB) or zstd. The work is done in the threads of the pool,
 * several clusters at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/bytes.h"
#include "block/qcow2.h"

#define AT_ONCE 8u

struct job {
	uint8_t type;
	const void *in;
	size_t in_bytes;
	void *out;
	size_t out_bytes; /* room; then what was used */
};

/* 0, or -ENOMEM when it does not become smaller than the room, or -EIO. */
static int deflate_job(struct job *j)
{
	z_stream z = { 0 };
	int ret;

	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return -EIO;
	z.next_in = j->in;
	z.avail_in = (uInt)j->in_bytes;
	z.next_out = j->out;
	z.avail_out = (uInt)j->out_bytes;
	ret = deflate(&z, Z_FINISH);
	j->out_bytes -= z.avail_out;
	deflateEnd(&z);
	return ret == Z_STREAM_END ? 0 : ret == Z_OK || ret == Z_BUF_ERROR ? -ENOMEM : -EIO;
}

static int compress_job(void *opaque)
{
	struct job *j = opaque;
	size_t n;

	if (j->type == 0)
		return deflate_job(j);
	n = ZSTD_compress(j->out, j->out_bytes, j->in, j->in_bytes, ZSTD_CLEVEL_DEFAULT);
	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall ? -ENOMEM : -EIO;
	j->out_bytes = n;
	return 0;
}

static int inflate_job(struct job *j)
{
	z_stream z = { 0 };
	int ret;

	if (inflateInit2(&z, -12) != Z_OK)
		return -EIO;
	z.next_in = j->in;
	z.avail_in = (uInt)j->in_bytes;
	z.next_out = j->out;
	z.avail_out = (uInt)j->out_bytes;
	ret = inflate(&z, Z_FINISH);
	/* What is behind the stream up to the end of its sector does not count. */
	if (z.avail_out || (ret != Z_STREAM_END && ret != Z_BUF_ERROR))
		ret = -EIO;
	else
		ret = 0;
	inflateEnd(&z);
	return ret;
}

/* Never more than the room: a frame that claims to be larger is an error. */
static int decompress_job(void *opaque)
{
	struct job *j = opaque;
	ZSTD_outBuffer out = { j->out, j->out_bytes, 0 };
	ZSTD_inBuffer in = { j->in, j->in_bytes, 0 };
	ZSTD_DCtx *d;
	size_t left = 1;

	if (j->type == 0)
		return inflate_job(j);
	d = ZSTD_createDCtx();
	while (d && out.pos < out.size) {
		size_t in_before = in.pos, out_before = out.pos;

		left = ZSTD_decompressStream(d, &out, &in);
		if (ZSTD_isError(left) || (in.pos == in_before && out.pos == out_before))
			break;
	}
	ZSTD_freeDCtx(d);
	return !d ? -ENOMEM : ZSTD_isError(left) || out.pos < out.size ? -EIO : 0;
}

int qc_read_compressed(struct node *n, uint64_t entry, uint64_t in_cluster, uint64_t bytes, void *out)
{
	struct qcow2 *s = qc(n);
	uint64_t offset;
	uint32_t len;
	uint8_t *buf;
	struct job j;
	int ret;

	qc_compressed_place(s, entry, &offset, &len);
	buf = malloc(len + s->cluster);
	if (!buf)
		return -ENOMEM;
	node_event(n->file, EVENT_READ_COMPRESSED);
	ret = node_read(n->file, offset, buf, len);
	if (!ret) {
		j = (struct job){ s->compression, buf, len, buf + len, s->cluster };
		ret = node_work(n->ctx, decompress_job, &j);
	}
	if (!ret)
		memcpy(out, buf + len + in_cluster, bytes);
	free(buf);
	return ret;
}

/* --- writing --- */

struct batch {
	struct node *n;
	uint64_t offset, end;
	const struct iovec *iov;
	unsigned niov;
	uint64_t start;
	unsigned running;
	struct co *waiting;
	int ret;
};

static void wait_for_turn(struct qcow2 *s, uint64_t ticket)
{
	while (s->compress_turn != ticket)
		co_queue_wait(&s->compress_waiting);
}

static void pass_turn(struct qcow2 *s)
{
	s->compress_turn++;
	co_queue_wake_all(&s->compress_waiting);
}

/* Put the compressed bytes somewhere and name them. */
static int store(struct node *n, uint64_t offset, const void *data, size_t bytes, uint64_t ticket)
{
	struct qcow2 *s = qc(n);
	uint64_t old = 0, sectors;
	struct qc_entry *e;
	unsigned i, shift = 62 - (s->bits - 8);
	int64_t at;
	int ret;

	wait_for_turn(s, ticket);
	co_lock(&s->lock);
	ret = qc_l2_for_write(n, offset, &e, &i); /* the table's place is before the data's */
	if (!ret)
		qc_cache_put(&s->l2c, e);
	at = ret ? ret : qc_alloc_bytes(n, bytes);
	ret = at < 0 ? (int)at : qc_check_overlap(n, (uint64_t)at, bytes, META_NONE);
	if (!ret && (uint64_t)at >> shift)
		ret = -EFBIG;
	co_unlock(&s->lock);
	pass_turn(s);
	if (ret)
		return ret;
	node_event(n->file, EVENT_WRITE_COMPRESSED);
	ret = node_write(n->file, (uint64_t)at, data, bytes);
	co_lock(&s->lock);
	if (!ret)
		ret = qc_l2_for_write(n, offset, &e, &i);
	if (!ret) {
		sectors = (((uint64_t)at + bytes - 1) >> 9) - ((uint64_t)at >> 9);
		node_event(n->file, EVENT_L2_UPDATE_COMPRESSED);
		old = qc_l2_entry(s, e, i);
		qc_l2_set(s, e, i, L2_COMPRESSED | (uint64_t)at | sectors << shift, 0);
		qc_cache_dirty(&s->l2c, e);
		s->l2c.depends_on_flush = true;
		qc_cache_put(&s->l2c, e);
		qc_free_entry(n, old, QC_DISCARD_NEVER);
	} else {
		qc_free(n, (uint64_t)at, bytes, QC_DISCARD_NEVER);
	}
	co_unlock(&s->lock);
	return ret;
}

static int one_cluster(struct batch *b, uint64_t offset)
{
	struct node *n = b->n;
	struct qcow2 *s = qc(n);
	uint64_t bytes = b->end - offset < s->cluster ? b->end - offset : s->cluster;
	uint8_t *buf = calloc(1, 2 * s->cluster);
	uint64_t ticket;
	struct job j;
	int ret;

	if (!buf)
		return -ENOMEM;
	ticket = s->compress_next++;
	iov_to_buf(buf, b->iov, b->niov, offset - b->start, bytes);
	j = (struct job){ s->compression, buf, s->cluster, buf + s->cluster, s->cluster - 1 };
	ret = node_work(n->ctx, compress_job, &j);
	if (!ret) {
		ret = store(n, offset, j.out, j.out_bytes, ticket);
	} else {
		wait_for_turn(s, ticket);
		pass_turn(s); /* those that wait go on when this one waits: behind it in line for the lock */
		if (ret == -ENOMEM) {
			struct iovec v = { buf, bytes };

			ret = qc_write(n, offset, bytes, &v, 1);
		}
	}
	free(buf);
	return ret;
}

static void worker(void *opaque)
{
	struct batch *b = opaque;

	while (b->offset < b->end && !b->ret) {
		uint64_t at = b->offset;
		int ret;

		b->offset += qc(b->n)->cluster;
		ret = one_cluster(b, at);
		if (ret && !b->ret)
			b->ret = ret;
	}
	if (!--b->running && b->waiting)
		co_wake(b->waiting);
}

int qc_write_compressed(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
	struct qcow2 *s = qc(n);
	struct batch b = { n, offset, offset + bytes, iov, niov, offset, 0, NULL, 0 };
	uint64_t clusters = (bytes + s->cluster - 1) >> s->bits;

	if (s->external || s->crypt)
		return -ENOTSUP;
	if (offset & (s->cluster - 1) || (bytes & (s->cluster - 1) && offset + bytes != n->size))
		return -EINVAL;
	for (uint64_t i = 0; i < clusters && i < AT_ONCE; i++) {
		b.running++;
		if (co_start(worker, &b)) {
			b.running--;
			b.ret = b.running ? b.ret : -ENOMEM;
			break;
		}
	}
	b.waiting = co_self();
	while (b.running)
		co_wait();
	return b.ret;
}
