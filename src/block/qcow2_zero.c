/* Zeroes and discards in a qcow2 image: entries of L2 tables that say so, instead of data. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2.h"

#define ZERO_BUF (64u * 1024)

/* True when the range reads as zeroes already, without a look at what the backing node has. */
static int reads_zero(struct node *n, uint64_t offset, uint64_t bytes, bool *out)
{
	struct qc_map m;

	*out = true;
	while (bytes && *out) {
		int ret = qc_map(n, offset, bytes, true, &m);

		if (ret)
			return ret;
		if (m.type == QC_NORMAL || m.type == QC_COMPRESSED)
			*out = false;
		else if (m.type != QC_ZERO && m.type != QC_ZERO_ALLOC && n->backing && offset < n->backing->size)
			*out = false;
		offset += m.bytes;
		bytes -= m.bytes;
	}
	return 0;
}

static int write_out(struct node *n, uint64_t offset, uint64_t bytes)
{
	static const uint8_t zeroes[ZERO_BUF];
	int ret = 0;

	while (bytes && !ret) {
		struct iovec v = { (void *)zeroes, bytes < ZERO_BUF ? bytes : ZERO_BUF };

		ret = qc_write(n, offset, v.iov_len, &v, 1);
		offset += v.iov_len;
		bytes -= v.iov_len;
	}
	return ret;
}

enum how { ZERO_KEEP, ZERO_UNMAP, DISCARD, CUT };

/* What an entry becomes; false: it may stay. */
static bool change(struct node *n, enum how how, uint64_t *entry, uint64_t *bitmap)
{
	struct qcow2 *s = qc(n);
	bool host = *entry & (L2_OFFSET | L2_COMPRESSED),
	     zero = s->extended ? *bitmap == 0xffffffffull << 32 : *entry & L2_ZERO;
	bool keep = how == ZERO_KEEP && *entry & L2_COPIED && !(*entry & L2_COMPRESSED);

	if (s->external && *entry & L2_COPIED)
		host = true;
	if (how == CUT) {
		bool was = *entry || *bitmap;

		*entry = *bitmap = 0;
		return was;
	}
	if (how == DISCARD && !n->backing && !host)
		return false; /* nothing is there to give back */
	if (zero && (!host || keep))
		return false;
	if (s->version < 3 && !host)
		return false; /* nothing is there, nor behind it; no entry can say more */
	*entry = keep ? *entry & (L2_OFFSET | L2_COPIED) : 0;
	if (s->extended)
		*bitmap = 0xffffffffull << 32;
	else if (s->version >= 3)
		*entry |= L2_ZERO;
	return true;
}

/* Whole clusters [offset, end). */
static int set_entries(struct node *n, uint64_t offset, uint64_t end, enum how how)
{
	struct qcow2 *s = qc(n);
	int ret = 0;

	co_lock(&s->lock);
	while (!ret && offset < end) {
		uint64_t l1 = offset >> (s->bits + s->l2_bits), span = s->cluster << s->l2_bits;
		struct qc_entry *e;
		unsigned i;

		if ((l1 >= s->l1_size || !(s->l1[l1] & L1_OFFSET)) &&
		    (how == CUT || (!n->backing && (how == DISCARD || s->version < 3)))) {
			offset = align_down(offset, span) + span; /* nothing is there */
			continue;
		}
		ret = qc_l2_for_write(n, offset, &e, &i);
		if (ret)
			break;
		for (; i < 1u << s->slice_bits && offset < end; i++, offset += s->cluster) {
			uint64_t old = qc_l2_entry(s, e, i), entry = old, bitmap = qc_l2_bitmap(s, e, i);

			if (!change(n, how, &entry, &bitmap))
				continue;
			qc_l2_set(s, e, i, entry, bitmap);
			qc_cache_dirty(&s->l2c, e);
			if (!(entry & L2_OFFSET))
				qc_free_entry(n, old, how == ZERO_KEEP ? QC_DISCARD_NEVER : QC_DISCARD_REQUEST);
		}
		qc_cache_put(&s->l2c, e);
	}
	co_unlock(&s->lock);
	return ret;
}

/* Subclusters [offset, end) of one cluster. -ENOTSUP: it is compressed. */
static int set_subclusters(struct node *n, uint64_t offset, uint64_t end)
{
	struct qcow2 *s = qc(n);
	unsigned first = (unsigned)((offset & (s->cluster - 1)) >> s->sub_bits),
		 count = (unsigned)((end - offset) >> s->sub_bits);
	uint64_t mask = ((1ull << count) - 1) << first, bitmap, was;
	struct qc_entry *e;
	unsigned i;
	int ret;

	co_lock(&s->lock);
	ret = qc_l2_for_write(n, offset, &e, &i);
	if (!ret) {
		was = qc_l2_bitmap(s, e, i);
		bitmap = (was & ~mask) | mask << 32;
		if (qc_l2_entry(s, e, i) & L2_COMPRESSED) {
			ret = -ENOTSUP;
		} else if (bitmap != was) {
			qc_l2_set(s, e, i, qc_l2_entry(s, e, i), bitmap);
			qc_cache_dirty(&s->l2c, e);
		}
		qc_cache_put(&s->l2c, e);
	}
	co_unlock(&s->lock);
	return ret;
}

/* Whole subclusters [offset, end), of any number of clusters; without extended L2 these are whole clusters. */
static int set_zero(struct node *n, uint64_t offset, uint64_t end, enum how how)
{
	struct qcow2 *s = qc(n);
	uint64_t first = align_up(offset, s->cluster), last = align_down(end, s->cluster);
	int ret = 0;

	if (first > end)
		first = end;
	if (offset < first) {
		ret = set_subclusters(n, offset, first);
		if (ret == -ENOTSUP)
			ret = write_out(n, offset, (first < n->size ? first : n->size) - offset);
	}
	if (!ret && first < last)
		ret = set_entries(n, first, last, how);
	last = last > first ? last : first;
	if (!ret && last < end) {
		ret = set_subclusters(n, last, end);
		if (ret == -ENOTSUP)
			ret = write_out(n, last, (end < n->size ? end : n->size) - last);
	}
	return ret;
}

/* True when the range reads as zeroes, whoever says so. */
static bool is_zero(struct node *n, uint64_t offset, uint64_t end)
{
	struct node_extent e;

	end = end < n->size ? end : n->size;
	for (; offset < end; offset += e.bytes)
		if (node_status_chain(n, NULL, offset, end - offset, &e) || !e.zero || !e.bytes)
			return false;
	return true;
}

/*
 * A part of a subcluster. When all of it reads as zeroes then, the table says so: that stays true when another backing
 * file comes to stand below, and takes no room.
 */
static int zero_part(struct node *n, uint64_t offset, uint64_t bytes, uint32_t flags)
{
	struct qcow2 *s = qc(n);
	uint64_t unit = 1ull << s->sub_bits, first = align_down(offset, unit), end = align_up(offset + bytes, unit);
	bool lazily = flags & QC_ZERO_IF_NOT || (s->version < 3 && !n->backing), already = false;
	struct qc_map m;
	int ret = lazily ? reads_zero(n, offset, bytes, &already) : 0;

	if (ret || already)
		return ret;
	if (s->version < 3 || !is_zero(n, first, offset) || !is_zero(n, offset + bytes, end))
		return write_out(n, offset, bytes);
	ret = qc_map(n, first, unit, true, &m);
	if (ret)
		return ret;
	if (m.type == QC_NORMAL || m.type == QC_COMPRESSED)
		return write_out(n, offset, bytes);
	return set_zero(n, first, end, ZERO_KEEP);
}

int qc_write_zeroes(struct node *n, uint64_t offset, uint64_t bytes, uint32_t flags)
{
	struct qcow2 *s = qc(n);
	uint64_t unit = 1ull << s->sub_bits, stop = offset + bytes, first = align_up(offset, unit),
		 end = stop >= n->size ? align_up(stop, unit) : align_down(stop, unit);
	int ret = 0;

	if (s->version < 3 && n->backing)
		first = end = stop; /* nothing can say it */
	if (s->external_raw) {
		/* What reads the data file by itself must find zeroes there. */
		ret = node_zeroes(s->data, offset, bytes, flags & ~QC_ZERO_IF_NOT);
		if (ret)
			return ret;
	}
	if (first > end)
		return zero_part(n, offset, bytes, flags);
	if (first > offset)
		ret = zero_part(n, offset, first - offset, flags);
	if (!ret && end < stop)
		ret = zero_part(n, end, stop - end, flags);
	if (!ret && first < end)
		ret = set_zero(n, first, end, flags & BLOCK_REQ_UNMAP || s->version < 3 ? ZERO_UNMAP : ZERO_KEEP);
	return ret;
}

/* The whole clusters within a range; the last one of the disk is whole where the disk ends. */
static void whole_clusters(struct node *n, uint64_t offset, uint64_t bytes, uint64_t *first, uint64_t *end)
{
	struct qcow2 *s = qc(n);

	*first = align_up(offset, s->cluster);
	*end = offset + bytes >= n->size ? align_up(offset + bytes, s->cluster)
					 : align_down(offset + bytes, s->cluster);
}

int qc_discard(struct node *n, uint64_t offset, uint64_t bytes)
{
	struct qcow2 *s = qc(n);
	uint64_t first, end;

	if (n->flags & NODE_NO_DISCARD || (s->version < 3 && n->backing))
		return 0;
	whole_clusters(n, offset, bytes, &first, &end);
	if (first >= end)
		return 0;
	if (s->external_raw) {
		/* They read as zeroes from now on, in the data file too. */
		uint64_t stop = end < n->size ? end : n->size;
		int ret = node_zeroes(s->data, first, stop - first, BLOCK_REQ_UNMAP);

		if (ret)
			return ret;
	}
	return set_entries(n, first, end, DISCARD);
}

int qc_cut(struct node *n, uint64_t offset, uint64_t end)
{
	return set_entries(n, offset, end, CUT);
}
