/* Zeroes and discards in a qcow2 image: entries of L2 tables that say so, instead of data. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2.h"

#define ZERO_BUF (64u * 1024)

/* True when the range reads as zeroes already. */
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

/* What is no whole cluster. */
static int write_out(struct node *n, uint64_t offset, uint64_t bytes)
{
	static const uint8_t zeroes[ZERO_BUF];
	bool already;
	int ret = reads_zero(n, offset, bytes, &already);

	if (ret || already)
		return ret;
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
	if (how == DISCARD && !n->backing && !host && !*bitmap && !*entry)
		return false;
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

/* The whole clusters within a range; the last one of the disk is whole where the disk ends. */
static void whole_clusters(struct node *n, uint64_t offset, uint64_t bytes, uint64_t *first, uint64_t *end)
{
	struct qcow2 *s = qc(n);

	*first = align_up(offset, s->cluster);
	*end = offset + bytes >= n->size ? align_up(offset + bytes, s->cluster)
					 : align_down(offset + bytes, s->cluster);
}

int qc_write_zeroes(struct node *n, uint64_t offset, uint64_t bytes, uint32_t flags)
{
	struct qcow2 *s = qc(n);
	uint64_t first, end, stop = offset + bytes;
	int ret = 0;

	whole_clusters(n, offset, bytes, &first, &end);
	if (s->version < 3 && n->backing)
		first = end = stop; /* nothing can say it */
	if (s->external_raw && !ret) {
		/* What reads the data file by itself must find zeroes there. */
		ret = node_zeroes(s->data, offset, bytes, flags);
		if (ret)
			return ret;
	}
	if (first >= end)
		return write_out(n, offset, bytes);
	if (first > offset)
		ret = write_out(n, offset, first - offset);
	if (!ret && end < stop)
		ret = write_out(n, end, stop - end);
	if (!ret)
		ret = set_entries(n, first, end, flags & BLOCK_REQ_UNMAP || s->version < 3 ? ZERO_UNMAP : ZERO_KEEP);
	return ret;
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
