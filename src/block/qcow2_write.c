/*
 * Writing to a qcow2 image. Clusters that are there and ours are written in place. Others get new ones: the data goes
 * there first, with what surrounds it in its cluster, and only then the L2 table is changed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_crypt.h"

#define ZERO_CHUNK (1u << 20)

struct write {
	uint64_t offset, bytes; /* of the guest */
	uint64_t host;		/* of `offset` */
	bool in_place;
	/* Otherwise: */
	struct qc_alloc range;
	uint64_t clusters, first_host; /* new ones, or the one that is kept */
	bool keep;		       /* the host cluster that is there, for other subclusters of it */
	bool whole;		       /* whole clusters are written, not only the subclusters touched */
	uint64_t flags;		       /* of the entries */
	bool prealloc;		       /* (extended L2) none of it has data */
	bool fresh;		       /* nothing was ever there: it reads as zeroes */
	bool head_there, tail_there;   /* around the data, in the first and the last cluster, is data already */
};

/* The first write to new clusters that is on its way and overlaps. */
static struct qc_alloc *conflict(struct qcow2 *s, uint64_t first, uint64_t end)
{
	struct qc_alloc *best = NULL;

	for (struct qc_alloc *a = s->allocs; a; a = a->next)
		if (a->first < end && first < a->end && (!best || a->first < best->first))
			best = a;
	return best;
}

/* Clusters from `offset` on that need new ones, as one allocation can give: within one part of an L2 table. */
static int count_new(struct node *n, const struct write *w, uint64_t *count)
{
	struct qcow2 *s = qc(n);
	uint64_t first = align_down(w->offset, s->cluster), end = align_up(w->offset + w->bytes, s->cluster),
		 at = first;
	uint64_t slice = s->cluster << s->slice_bits, stop = align_down(first, slice) + slice;
	struct qc_map m;
	int ret;

	if (end > stop)
		end = stop;
	while (at < end) {
		ret = qc_map(n, at, s->cluster, true, &m);
		if (ret)
			return ret;
		if (at > first && m.copied && m.type != QC_UNALLOCATED && m.type != QC_COMPRESSED)
			break;
		at += s->cluster;
	}
	*count = (at - first) >> s->bits;
	return 0;
}

/*
 * Clusters of zeroes that have a place, and ones with data around them, are written at once where they lie in a row:
 * w->bytes is what does. `*zeroes`: the table must be changed then.
 */
static int count_kept(struct node *n, struct write *w, const struct qc_map *m, bool *zeroes)
{
	struct qcow2 *s = qc(n);
	uint64_t slice = s->cluster << s->slice_bits, at = w->offset, end = w->offset + w->bytes,
		 stop = align_down(at, slice) + slice;
	struct qc_map part = *m;
	int ret = 0;

	*zeroes = false;
	w->head_there = m->type == QC_NORMAL;
	end = end < stop ? end : stop;
	while (at < end) {
		if (at > w->offset)
			ret = qc_map(n, at, end - at, true, &part);
		if (ret)
			return ret;
		if (!part.copied || (part.type != QC_NORMAL && part.type != QC_ZERO_ALLOC) ||
		    part.host != m->host + (at - w->offset))
			break;
		*zeroes |= part.type == QC_ZERO_ALLOC;
		w->tail_there = part.type == QC_NORMAL;
		at += part.bytes < end - at ? part.bytes : end - at;
	}
	w->bytes = at - w->offset;
	return 0;
}

static int allocate(struct node *n, struct write *w, const struct qc_map *m)
{
	struct qcow2 *s = qc(n);
	uint64_t first = align_down(w->offset, s->cluster), in = w->offset - first;
	struct qc_entry *e;
	unsigned index;
	int64_t at;
	int ret;

	w->keep = m->copied && (m->type == QC_ZERO_ALLOC || m->type == QC_UNALLOCATED_ALLOC || m->type == QC_NORMAL);
	/* Of a cluster that is shared all goes to the new one. */
	w->whole = !s->extended || (!w->keep && m->type != QC_UNALLOCATED && m->type != QC_ZERO);
	w->clusters = s->extended ? 1 : (align_up(in + w->bytes, s->cluster)) >> s->bits;
	w->fresh = false;
	if (!s->extended && !w->keep) {
		ret = count_new(n, w, &w->clusters);
		if (ret)
			return ret;
	}
	/* Subclusters behind those that are like this one may be written in place meanwhile. */
	if (s->extended && w->keep && w->bytes > m->bytes)
		w->bytes = m->bytes;
	/* The table first: when there is no room for it, nothing else is lost. */
	ret = w->keep ? 0 : qc_l2_for_write(n, w->offset, &e, &index);
	if (ret)
		return ret;
	if (!w->keep)
		qc_cache_put(&s->l2c, e);
	if (w->keep) {
		w->first_host = align_down(m->host, s->cluster);
	} else if (s->external) {
		w->first_host = first;
	} else {
		at = qc_alloc(n, w->clusters);
		if (at < 0)
			return (int)at;
		w->first_host = (uint64_t)at;
		w->fresh = w->first_host >= s->data->size && s->data->drv == &node_file && !s->crypt;
	}
	if (w->bytes > (w->clusters << s->bits) - in)
		w->bytes = (w->clusters << s->bits) - in;
	w->host = w->first_host + in;
	w->in_place = false;
	w->range = (struct qc_alloc){ first, first + (w->clusters << s->bits), { NULL, NULL }, s->allocs };
	s->allocs = &w->range;
	return 0;
}

/* Find out where w->offset goes, and how many bytes can go there at once. The lock is held. */
static int prepare(struct node *n, struct write *w)
{
	struct qcow2 *s = qc(n);
	struct qc_alloc *other;
	struct qc_map m;
	int ret;

	for (;;) {
		uint64_t first = align_down(w->offset, s->cluster);

		other = conflict(s, first, align_up(w->offset + w->bytes, s->cluster));
		if (!other)
			break;
		if (other->first > first) {
			w->bytes = other->first - w->offset;
			break;
		}
		co_unlock(&s->lock);
		co_queue_wait(&other->waiting);
		co_lock(&s->lock);
	}
	ret = qc_map(n, w->offset, w->bytes, true, &m);
	if (ret)
		return ret;
	w->in_place = m.type == QC_NORMAL && m.copied;
	if (!s->extended && m.copied && ((m.type == QC_NORMAL && m.bytes < w->bytes) || m.type == QC_ZERO_ALLOC)) {
		bool zeroes;

		ret = count_kept(n, w, &m, &zeroes);
		if (ret)
			return ret;
		m.bytes = w->bytes;
		w->in_place = !zeroes;
	}
	if (w->in_place) {
		w->host = m.host;
		w->bytes = m.bytes;
		return s->external ? 0 : qc_check_overlap(n, m.host, m.bytes, META_NONE);
	}
	return allocate(n, w, &m);
}

/* Everything that goes to the new clusters at once: what is before the data, the data, what is behind. */
static int write_new(struct node *n, const struct write *w, const struct iovec *iov, unsigned niov)
{
	struct qcow2 *s = qc(n);
	uint64_t unit = w->whole ? s->cluster : 1ull << s->sub_bits;
	uint64_t end = w->offset + w->bytes, head = w->head_there ? 0 : w->offset & (unit - 1),
		 tail = w->tail_there ? 0 : align_up(end, unit) - end, seen = tail;
	struct qc_map before = { 0 }, behind = { 0 };
	struct qc_place place = { w->host, w->offset };
	struct iovec *all;
	uint8_t *buf = NULL;
	bool plain = !head && !tail;
	int ret = 0;

	/* Behind the end of the disk there are zeroes; the state of a machine lies further on. */
	if (end + tail > n->size && w->offset < n->size)
		seen = n->size > end ? n->size - end : 0;
	if (plain) {
		node_event(n->file, EVENT_WRITE_AIO);
		return qc_data_write(n, &place, w->bytes, iov, niov);
	}
	if (w->fresh && !n->backing) {
		/* Zeroes around the data are there already. */
		ret = head ? qc_map(n, w->offset - head, head, true, &before) : 0;
		if (!ret && seen)
			ret = qc_map(n, end, seen, true, &behind);
		if (ret)
			return ret;
		if (before.type != QC_NORMAL && before.type != QC_COMPRESSED && behind.type != QC_NORMAL &&
		    behind.type != QC_COMPRESSED && (!head || before.bytes == head) &&
		    (!seen || behind.bytes == seen)) {
			s->ragged |= tail != 0;
			node_event(n->file, EVENT_CLUSTER_ALLOC_SPACE);
			node_event(n->file, EVENT_WRITE_AIO);
			return qc_data_write(n, &place, w->bytes, iov, niov);
		}
	}
	buf = calloc(1, unit * 2);
	all = malloc((niov + 2) * sizeof(*all));
	if (!buf || !all)
		ret = -ENOMEM;
	if (!ret && head) {
		struct iovec v = { buf, head };

		node_event(n->file, EVENT_COW_READ);
		ret = qc_read(n, w->offset - head, head, &v, 1);
	}
	if (!ret && seen) {
		struct iovec v = { buf + unit, seen };

		node_event(n->file, EVENT_COW_READ);
		ret = qc_read(n, end, v.iov_len, &v, 1);
	}
	if (!ret) {
		unsigned k = 0;

		if (head)
			all[k++] = (struct iovec){ buf, head };
		memcpy(all + k, iov, niov * sizeof(*iov));
		k += niov;
		if (tail)
			all[k++] = (struct iovec){ buf + unit, tail };
		node_event(n->file, EVENT_WRITE_AIO);
		node_event(n->file, EVENT_COW_WRITE);
		place = (struct qc_place){ w->host - head, w->offset - head };
		ret = qc_data_write(n, &place, head + w->bytes + tail, all, k);
	}
	free(buf);
	free(all);
	return ret;
}

/* The bits of the subclusters that [first, end) of a cluster touches. */
static uint64_t sub_mask(const struct qcow2 *s, uint64_t first, uint64_t end)
{
	unsigned a = (unsigned)(first >> s->sub_bits), b = (unsigned)((end - 1) >> s->sub_bits);

	return ((2ull << b) - 1) & ~((1ull << a) - 1);
}

/* Name the new clusters in the L2 table, and free what they replace. The lock is held. */
static int link_new(struct node *n, const struct write *w)
{
	struct qcow2 *s = qc(n);
	struct qc_entry *e;
	uint64_t *old;
	unsigned index;
	int ret = qc_l2_for_write(n, w->range.first, &e, &index);

	if (ret)
		return ret;
	old = w->keep ? NULL : calloc(w->clusters, sizeof(*old));
	if (!w->keep && !old) {
		qc_cache_put(&s->l2c, e);
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < w->clusters; i++) {
		uint64_t at = w->range.first + (i << s->bits), bitmap = 0xffffffffu;
		uint64_t was = qc_l2_entry(s, e, index + (unsigned)i);

		if (w->prealloc) {
			bitmap = 0; /* subclusters that nobody has written yet */
		} else if (!w->whole) {
			uint64_t first = w->offset > at ? w->offset - at : 0, end = w->offset + w->bytes - at;
			uint64_t mask = sub_mask(s, first, end < s->cluster ? end : s->cluster);

			bitmap = (qc_l2_bitmap(s, e, index + (unsigned)i) & ~(mask << 32)) | mask;
		}
		if (old)
			old[i] = was;
		qc_l2_set(s, e, index + (unsigned)i, (w->first_host + (i << s->bits)) | L2_COPIED | w->flags, bitmap);
	}
	qc_cache_dirty(&s->l2c, e);
	s->l2c.depends_on_flush = true;
	qc_cache_put(&s->l2c, e);
	for (uint64_t i = 0; old && i < w->clusters; i++)
		if (!s->external)
			qc_free_entry(n, old[i], QC_DISCARD_NEVER);
	free(old);
	return 0;
}

static int finish_new(struct node *n, struct write *w, int ret)
{
	struct qcow2 *s = qc(n);
	struct qc_alloc **p = &s->allocs;

	co_lock(&s->lock);
	if (!ret)
		ret = link_new(n, w);
	if (ret && !w->keep && !s->external)
		qc_free(n, w->first_host, w->clusters << s->bits, QC_DISCARD_UNDO);
	while (*p != &w->range)
		p = &(*p)->next;
	*p = w->range.next;
	co_unlock(&s->lock);
	co_queue_wake_all(&w->range.waiting);
	return ret;
}

int qc_write(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
	struct qcow2 *s = qc(n);
	struct iovec *part = NULL;
	uint64_t done = 0;
	int ret = 0;

	while (!ret && done < bytes) {
		struct write w = { .offset = offset + done, .bytes = bytes - done };
		unsigned parts = niov;

		co_lock(&s->lock);
		ret = prepare(n, &w);
		co_unlock(&s->lock);
		if (ret)
			break;
		if (w.bytes < bytes) {
			if (!part)
				part = malloc(niov * sizeof(*part));
			if (!part)
				ret = -ENOMEM;
			else
				parts = iov_slice(part, iov, niov, done, w.bytes);
		}
		if (w.in_place && !ret)
			node_event(n->file, EVENT_WRITE_AIO);
		if (w.in_place)
			ret = ret ? ret
				  : qc_data_write(n, &(struct qc_place){ w.host, w.offset }, w.bytes, part ? part : iov,
						  parts);
		else
			ret = finish_new(n, &w, ret ? ret : write_new(n, &w, part ? part : iov, parts));
		done += w.bytes;
	}
	free(part);
	return ret;
}

/* --- preallocation --- */

/* Room in the file for [host, end), which tables behind it may have made longer than that already. */
static int reach(struct node *n, uint64_t host, uint64_t end, enum node_prealloc mode, struct err *err)
{
	struct node *data = qc(n)->data;
	const struct node_resize how = { .size = end,
					 .prealloc = mode == PREALLOC_METADATA ? PREALLOC_OFF : mode,
					 .exact = false };
	uint64_t there = data->size < end ? data->size : end;
	void *zeroes = mode == PREALLOC_FULL ? calloc(1, ZERO_CHUNK) : NULL;
	int ret = mode == PREALLOC_FULL && !zeroes ? -ENOMEM : 0;

	/* What was there before must not come to light. */
	if (!ret && mode != PREALLOC_FULL && host < there)
		ret = node_zeroes(data, host, there - host, mode == PREALLOC_METADATA ? BLOCK_REQ_UNMAP : 0);
	for (uint64_t at = host; mode == PREALLOC_FULL && !ret && at < there; at += ZERO_CHUNK)
		ret = node_write(data, at, zeroes, there - at < ZERO_CHUNK ? there - at : ZERO_CHUNK);
	free(zeroes);
	if (ret) {
		err_errno(err, -ret, "Could not preallocate data clusters");
		return ret;
	}
	return end > data->size ? node_truncate(data, &how, err) : 0;
}

static int link_range(struct node *n, uint64_t offset, uint64_t end, uint64_t host)
{
	struct qcow2 *s = qc(n);
	int ret = 0;

	while (!ret && offset < end) {
		uint64_t slice = s->cluster << s->slice_bits, stop = align_down(offset, slice) + slice;
		struct write w = { .whole = true, .prealloc = true, .first_host = host };

		/* What nobody has encrypted is no zeroes by itself. */
		if (s->crypt && !s->extended && s->version >= 3)
			w.flags = L2_ZERO;

		if (stop > end)
			stop = end;
		w.range.first = offset;
		w.clusters = (stop - offset) >> s->bits;
		ret = link_new(n, &w);
		host += stop - offset;
		offset = stop;
	}
	return ret;
}

/* Version 2 has no way to say that clusters nobody has encrypted anything into are zeroes. */
static int encrypt_zeroes(struct node *n, struct qc_place p, uint64_t bytes)
{
	void *zeroes = calloc(1, ZERO_CHUNK);
	int ret = zeroes ? 0 : -ENOMEM;

	while (bytes && !ret) {
		struct iovec v = { zeroes, bytes < ZERO_CHUNK ? bytes : ZERO_CHUNK };

		ret = qc_data_write(n, &p, v.iov_len, &v, 1);
		p.host += v.iov_len;
		p.guest += v.iov_len;
		bytes -= v.iov_len;
	}
	free(zeroes);
	return ret;
}

/* Whether a file may be so long is found out at once, not after the tables for it have been made. */
static int try_length(struct node *data, uint64_t more, struct err *err)
{
	struct node_resize longer = { .size = data->size + more }, as_it_was = { .size = data->size };
	int ret;

	if (more > INT64_MAX - data->size) {
		err_errno(err, EFBIG, "Could not resize file");
		return -EIO; /* the format would take it */
	}
	ret = node_truncate(data, &longer, err);
	return ret ? -EIO : node_truncate(data, &as_it_was, err);
}

int qc_preallocate(struct node *n, uint64_t offset, uint64_t end, enum node_prealloc mode, struct err *err)
{
	struct qcow2 *s = qc(n);
	struct qc_entry *e;
	struct qc_map m;
	uint64_t tail;
	unsigned index;
	int64_t host = 0;
	int ret;

	err->msg[0] = 0;
	ret = qc_map(n, align_down(offset, s->cluster), s->cluster, true, &m);
	if (ret) {
		err_errno(err, -ret, "Could not preallocate");
		return ret;
	}
	tail = offset & (s->cluster - 1);
	if (tail && mode > PREALLOC_METADATA && m.type == QC_NORMAL && m.copied && !s->crypt) {
		/* The rest of the last one may be a hole; nothing is in it yet. Encrypted zeroes are no hole. */
		ret = reach(n, m.host + tail, m.host + s->cluster, mode, err);
		if (ret)
			return ret;
	}
	/* A last cluster that nobody wrote is one of them; behind a backing node it gets zeroes. */
	offset =
		m.type == QC_UNALLOCATED && !n->backing ? align_down(offset, s->cluster) : align_up(offset, s->cluster);
	end = align_up(end, s->cluster);
	if (offset >= end)
		return 0;
	ret = s->external ? 0 : try_length(s->data, end - offset, err);
	if (ret)
		return ret;
	co_lock(&s->lock);
	ret = qc_l2_for_write(n, offset, &e, &index); /* before the data, as when it is written */
	if (!ret) {
		qc_cache_put(&s->l2c, e);
		host = s->external ? (int64_t)offset : qc_alloc(n, (end - offset) >> s->bits);
		ret = host < 0 ? (int)host : 0;
	}
	if (!ret) {
		uint64_t stop = (uint64_t)host + (end - offset);

		/* A data file has its length already. */
		ret = reach(n, (uint64_t)host, s->external && s->data->size < stop ? s->data->size : stop, mode, err);
	}
	if (!ret && s->crypt && s->version < 3)
		ret = encrypt_zeroes(n, (struct qc_place){ (uint64_t)host, offset }, end - offset);
	if (!ret)
		ret = link_range(n, offset, end, (uint64_t)host);
	else if (host > 0 && !s->external)
		qc_free(n, (uint64_t)host, end - offset, QC_DISCARD_REQUEST);
	if (ret && !err->msg[0])
		err_errno(err, -ret, "Could not preallocate");
	co_unlock(&s->lock);
	return ret;
}
