/* From the guest's offsets to the host's: L1 and L2 tables. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2.h"

uint64_t qc_l2_entry(const struct qcow2 *s, const struct qc_entry *e, unsigned i)
{
	return ld_be64((const uint8_t *)e->table + (size_t)i * s->entry_bytes);
}

uint64_t qc_l2_bitmap(const struct qcow2 *s, const struct qc_entry *e, unsigned i)
{
	return s->extended ? ld_be64((const uint8_t *)e->table + (size_t)i * s->entry_bytes + 8) : 0;
}

void qc_l2_set(const struct qcow2 *s, struct qc_entry *e, unsigned i, uint64_t entry, uint64_t bitmap)
{
	uint8_t *p = (uint8_t *)e->table + (size_t)i * s->entry_bytes;

	st_be64(p, entry);
	if (s->extended)
		st_be64(p + 8, bitmap);
}

void qc_compressed_place(const struct qcow2 *s, uint64_t entry, uint64_t *offset, uint32_t *bytes)
{
	unsigned shift = 62 - (s->bits - 8);

	*offset = entry & ((1ull << shift) - 1);
	*bytes = (uint32_t)(((entry >> shift & ((1u << (s->bits - 8)) - 1)) + 1) * 512 - (*offset & 511));
}

/* Where the part of an L2 table for `offset` is on the host, and the index within it. */
static uint64_t slice_of(const struct qcow2 *s, uint64_t table, uint64_t offset, unsigned *index)
{
	uint64_t i = offset >> s->bits & ((1ull << s->l2_bits) - 1);

	*index = (unsigned)(i & ((1ull << s->slice_bits) - 1));
	return table + (i >> s->slice_bits << s->slice_bits) * s->entry_bytes;
}

/* What the subcluster at `sub` of an entry is. */
static int type_of(struct node *n, uint64_t entry, uint64_t bitmap, unsigned sub, enum qc_type *t)
{
	struct qcow2 *s = qc(n);

	if (entry & L2_COMPRESSED) {
		*t = QC_COMPRESSED;
		return s->external ? -EIO : 0;
	}
	if (s->extended) {
		bool allocated = bitmap >> sub & 1, zero = bitmap >> 32 >> sub & 1;

		if ((allocated && zero) || (allocated && !(entry & L2_OFFSET) && !s->external))
			return -EIO;
		if (s->external && allocated)
			*t = QC_NORMAL;
		else if (entry & L2_OFFSET || (s->external && entry & L2_COPIED))
			*t = zero ? QC_ZERO_ALLOC : allocated ? QC_NORMAL : QC_UNALLOCATED_ALLOC;
		else
			*t = zero ? QC_ZERO : QC_UNALLOCATED;
		return 0;
	}
	if (entry & L2_ZERO && s->version >= 3)
		*t = entry & L2_OFFSET || (s->external && entry & L2_COPIED) ? QC_ZERO_ALLOC : QC_ZERO;
	else if (entry & L2_OFFSET)
		*t = QC_NORMAL;
	else
		*t = s->external && entry & L2_COPIED ? QC_NORMAL : QC_UNALLOCATED;
	return 0;
}

static bool has_host(enum qc_type t)
{
	return t == QC_NORMAL || t == QC_ZERO_ALLOC || t == QC_UNALLOCATED_ALLOC;
}

static int bad_entry(struct node *n, const struct qc_entry *e, unsigned i)
{
	qc_corrupt(n, true, "Invalid cluster entry found  (L2 offset: %#llx, L2 index: %#x)",
		   (unsigned long long)e->offset, i);
	return -EIO;
}

/* Walk the entries of a slice from `i` on as long as they go on with what the first is. */
static int walk(struct node *n, struct qc_entry *e, unsigned i, uint64_t offset, struct qc_map *m)
{
	struct qcow2 *s = qc(n);
	uint64_t sub_bytes = 1ull << s->sub_bits, in = offset & (s->cluster - 1), left = m->bytes, done = 0;
	unsigned sub = (unsigned)(in >> s->sub_bits), subs = (unsigned)(s->cluster >> s->sub_bits);

	for (; i < 1u << s->slice_bits && left; i++, sub = 0, in = 0) {
		uint64_t entry = qc_l2_entry(s, e, i), bitmap = qc_l2_bitmap(s, e, i);
		uint64_t host = (entry & L2_OFFSET) + in;
		bool copied = entry & L2_COPIED;

		for (; sub < subs && left; sub++) {
			uint64_t part = sub_bytes - (in & (sub_bytes - 1));
			enum qc_type t;

			if (type_of(n, entry, bitmap, sub, &t))
				return done ? 0 : bad_entry(n, e, i);
			if (t != QC_COMPRESSED && entry & L2_OFFSET & (s->cluster - 1)) {
				if (done)
					return 0;
				qc_corrupt(
					n, true,
					"Cluster allocation offset %#llx unaligned (L2 offset: %#llx, L2 index: %#x)",
					(unsigned long long)(entry & L2_OFFSET), (unsigned long long)e->offset, i);
				return -EIO;
			}
			if (!done) {
				m->type = t;
				m->copied = copied;
				m->entry = entry;
				m->host = has_host(t) ? host : 0;
			} else if (t != m->type || (has_host(t) && (host != m->host + done || copied != m->copied))) {
				return 0;
			}
			if (part > left)
				part = left;
			done += part;
			left -= part;
			in += part;
			host += part;
			m->bytes = done;
		}
		if (m->type == QC_COMPRESSED)
			return 0; /* one at a time */
	}
	return 0;
}

int qc_map(struct node *n, uint64_t offset, uint64_t bytes, bool wait, struct qc_map *m)
{
	struct qcow2 *s = qc(n);
	uint64_t l1_index = offset >> (s->bits + s->l2_bits), table, span, slice;
	struct qc_entry *e;
	unsigned i;
	int ret;

	*m = (struct qc_map){ .type = QC_UNALLOCATED, .bytes = bytes };
	span = (s->cluster << s->l2_bits) - (offset & ((s->cluster << s->l2_bits) - 1));
	table = l1_index < s->l1_size ? s->l1[l1_index] & L1_OFFSET : 0;
	if (!table) {
		if (m->bytes > span)
			m->bytes = span;
		return 0;
	}
	if (table & (s->cluster - 1)) {
		qc_corrupt(n, true, "L2 table offset %#llx unaligned (L1 index: %#llx)", (unsigned long long)table,
			   (unsigned long long)l1_index);
		return -EIO;
	}
	slice = slice_of(s, table, offset, &i);
	if (!wait) {
		e = qc_cache_peek(&s->l2c, slice);
		return e ? walk(n, e, i, offset, m) : -EAGAIN;
	}
	ret = qc_cache_get(n, &s->l2c, slice, true, &e);
	if (ret)
		return ret;
	ret = walk(n, e, i, offset, m);
	qc_cache_put(&s->l2c, e);
	return ret;
}

int qc_write_l1_entry(struct node *n, uint32_t index)
{
	struct qcow2 *s = qc(n);
	uint8_t be[8];
	int ret = qc_check_overlap(n, s->l1_offset + 8ull * index, 8, META_ACTIVE_L1);

	st_be64(be, s->l1[index]);
	node_event(n->file, EVENT_L1_UPDATE);
	return ret ? ret : node_write(n->file, s->l1_offset + 8ull * index, be, sizeof(be));
}

/* What has just been written need not be read. */
static int keep_table(struct node *n, uint64_t offset, const uint8_t *table)
{
	struct qcow2 *s = qc(n);
	struct qc_entry *e;

	for (uint64_t at = 0; at < s->cluster; at += s->l2c.bytes) {
		int ret = qc_cache_get(n, &s->l2c, offset + at, false, &e);

		if (ret)
			return ret;
		memcpy(e->table, table + at, s->l2c.bytes);
		qc_cache_put(&s->l2c, e);
	}
	return 0;
}

/* A table of its own for an L1 entry: a copy of what it shares with snapshots, or an empty one. */
static int new_table(struct node *n, uint32_t index)
{
	struct qcow2 *s = qc(n);
	uint64_t old = s->l1[index];
	int64_t at;
	uint8_t *table;
	int ret;

	/* What is in the cache of the old one first, so that the copy has it. */
	ret = qc_cache_write(n, &s->l2c);
	if (ret)
		return ret;
	at = qc_alloc(n, 1);
	if (at < 0)
		return (int)at;
	table = calloc(1, s->cluster);
	ret = table ? 0 : -ENOMEM;
	if (!ret && old & L1_OFFSET) {
		node_event(n->file, EVENT_L2_ALLOC_COW_READ);
		ret = node_read(n->file, old & L1_OFFSET, table, s->cluster);
	}
	node_event(n->file, EVENT_L2_ALLOC_WRITE);
	node_event(n->file, EVENT_L2_UPDATE);
	if (!ret)
		ret = node_write(n->file, (uint64_t)at, table, s->cluster);
	/* Its count, also where others are late, and its content, before the L1 table names it. */
	if (!ret)
		ret = qc_cache_write(n, &s->rbc);
	if (!ret)
		ret = node_flush(n->file);
	if (!ret)
		ret = qc_meta_add(s, (uint64_t)at, s->cluster, META_ACTIVE_L2);
	if (ret)
		goto undo;
	qc_cache_forget(&s->l2c, (uint64_t)at, s->cluster);
	ret = keep_table(n, (uint64_t)at, table);
	if (ret)
		goto forget;
	s->l1[index] = (uint64_t)at | L2_COPIED;
	ret = qc_write_l1_entry(n, index);
	if (ret) {
		s->l1[index] = old;
		goto forget;
	}
	free(table);
	if (old & L1_OFFSET) {
		qc_meta_del(s, old & L1_OFFSET, s->cluster);
		/* The L1 table on stable storage before the old one may be free there. */
		s->rbc.depends_on_flush = true;
		qc_free(n, old & L1_OFFSET, s->cluster, QC_DISCARD_NEVER);
	}
	return 0;
forget:
	qc_cache_forget(&s->l2c, (uint64_t)at, s->cluster);
	qc_meta_del(s, (uint64_t)at, s->cluster);
undo:
	free(table);
	qc_free(n, (uint64_t)at, s->cluster, QC_DISCARD_UNDO);
	return ret;
}

int qc_l2_for_write(struct node *n, uint64_t offset, struct qc_entry **e, unsigned *index)
{
	struct qcow2 *s = qc(n);
	uint64_t i = offset >> (s->bits + s->l2_bits);
	int ret = qc_trim(n);

	if (!ret && i >= s->l1_size)
		ret = qc_grow_l1(n, i + 1, false);
	if (!ret && s->l1[i] & L1_OFFSET & (s->cluster - 1)) {
		qc_corrupt(n, true, "L2 table offset %#llx unaligned (L1 index: %#llx)",
			   (unsigned long long)(s->l1[i] & L1_OFFSET), (unsigned long long)i);
		ret = -EIO;
	}
	if (!ret && !(s->l1[i] & L2_COPIED))
		ret = new_table(n, (uint32_t)i);
	if (ret)
		return ret;
	return qc_cache_get(n, &s->l2c, slice_of(s, s->l1[i] & L1_OFFSET, offset, index), true, e);
}
