/*
 * Reference counts of host clusters, and the clusters that are free. Clusters that are freed are not given out again
 * before a flush has put on stable storage that they are free: what still names them after a power loss must still find
 * its data there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2.h"

uint64_t qc_refcount_of(const void *block, unsigned order, uint64_t i)
{
	const uint8_t *b = block;

	switch (order) {
	case 3:
		return b[i];
	case 4:
		return ld_be16(b + 2 * i);
	case 5:
		return ld_be32(b + 4 * i);
	case 6:
		return ld_be64(b + 8 * i);
	default:
		return b[i >> (3 - order)] >> ((i << order) & 7) & ((1u << (1u << order)) - 1);
	}
}

void qc_refcount_set(void *block, unsigned order, uint64_t i, uint64_t v)
{
	uint8_t *b = block;
	unsigned shift, mask;

	switch (order) {
	case 3:
		b[i] = (uint8_t)v;
		return;
	case 4:
		st_be16(b + 2 * i, (uint16_t)v);
		return;
	case 5:
		st_be32(b + 4 * i, (uint32_t)v);
		return;
	case 6:
		st_be64(b + 8 * i, v);
		return;
	default:
		shift = (unsigned)(i << order) & 7;
		mask = ((1u << (1u << order)) - 1) << shift;
		b[i >> (3 - order)] = (uint8_t)((b[i >> (3 - order)] & ~mask) | v << shift);
	}
}

static uint64_t max_refcount(const struct qcow2 *s)
{
	return s->order == 6 ? INT64_MAX : (1ull << (1u << s->order)) - 1;
}

/* The block of `cluster`, held; *e NULL: there is none. */
static int get_block(struct node *n, uint64_t cluster, struct qc_entry **e)
{
	struct qcow2 *s = qc(n);
	uint64_t i = cluster >> s->rb_bits, offset;

	*e = NULL;
	if (i >= s->rt_size || !(s->rt[i] & RT_OFFSET))
		return 0;
	offset = s->rt[i] & RT_OFFSET;
	if (offset & (s->cluster - 1)) {
		qc_corrupt(n, true, "Refblock offset %#llx unaligned (reftable index: %#llx)",
			   (unsigned long long)offset, (unsigned long long)i);
		return -EIO;
	}
	return qc_cache_get(n, &s->rbc, offset, true, e);
}

int qc_refcount(struct node *n, uint64_t cluster, uint64_t *out)
{
	struct qcow2 *s = qc(n);
	struct qc_entry *e;
	int ret = get_block(n, cluster, &e);

	*out = 0;
	if (ret || !e)
		return ret;
	*out = qc_refcount_of(e->table, s->order, cluster & ((1ull << s->rb_bits) - 1));
	qc_cache_put(&s->rbc, e);
	return 0;
}

/* --- more blocks, and a larger table --- */

static int is_free(struct node *n, uint64_t cluster, bool *out);

/* What must be made so that clusters [first, first + n) have blocks: it goes to [at, at + blocks + table). */
struct growth {
	uint64_t first, n;
	uint64_t at, blocks, table; /* clusters */
	uint64_t entries;	    /* of the new table; 0: the old one is large enough */
};

static bool is_missing(const struct qcow2 *s, uint64_t i)
{
	return i >= s->rt_size || !(s->rt[i] & RT_OFFSET);
}

static uint64_t missing_in(const struct qcow2 *s, uint64_t first, uint64_t n, uint64_t *last)
{
	uint64_t count = 0;

	if (!n)
		return 0;
	for (uint64_t i = first >> s->rb_bits; i <= (first + n - 1) >> s->rb_bits; i++) {
		if (is_missing(s, i))
			count++;
		if (i > *last)
			*last = i;
	}
	return count;
}

/* The blocks of both ranges, that of the clusters and that of what is made for them. */
static uint64_t missing(const struct qcow2 *s, const struct growth *g, uint64_t *last)
{
	uint64_t more = g->blocks + g->table, end_block = (g->first + g->n - 1) >> s->rb_bits, skip;
	uint64_t count = missing_in(s, g->first, g->n, last), from = g->at;

	/* One that both have counts once. */
	skip = (end_block + 1) << s->rb_bits;
	if (from < skip) {
		if (from + more <= skip)
			return count;
		more -= skip - from;
		from = skip;
	}
	return count + missing_in(s, from, more, last);
}

/* How much there is to make, and where it finds room: behind the clusters, so that these stay in one piece. */
static int plan_growth(struct node *n, struct growth *g)
{
	struct qcow2 *s = qc(n);
	uint64_t run = 0, last = 0;
	int ret;

	g->at = g->first + g->n;
	for (;;) {
		uint64_t blocks, table = 0;
		bool is = true;

		last = 0;
		blocks = missing(s, g, &last);
		if (!blocks)
			return 0;
		g->entries = 0;
		if (last >= s->rt_size) {
			g->entries = align_up((last + 1 + last / 2) * 8, s->cluster) / 8;
			table = g->entries * 8 >> s->bits;
		}
		if (g->entries * 8 > QCOW2_MAX_REFTABLE)
			return -EFBIG;
		if (blocks > g->blocks || table > g->table) {
			g->blocks = blocks;
			g->table = table;
			run = 0;
			continue;
		}
		/* What is planned is enough; all of it must be free. */
		for (run = 0; run < g->blocks + g->table && is; run++) {
			ret = is_free(n, g->at + run, &is);
			if (ret)
				return ret;
		}
		if (is)
			break;
		g->at += run;
		g->blocks = g->table = 0;
	}
	if (g->at + g->blocks + g->table > (uint64_t)INT64_MAX >> s->bits)
		return -EFBIG;
	return qc_check_overlap(n, g->at << s->bits, (g->blocks + g->table) << s->bits, META_NONE);
}

/* Write block `i` to the k-th place of what is made; it counts those of the new clusters that are its. */
static int write_block(struct node *n, const struct growth *g, uint64_t i, uint64_t k)
{
	struct qcow2 *s = qc(n);
	uint8_t *block = calloc(1, s->cluster);
	int ret;

	if (!block)
		return -ENOMEM;
	for (uint64_t c = g->at; c < g->at + g->blocks + g->table; c++)
		if (c >> s->rb_bits == i)
			qc_refcount_set(block, s->order, c & ((1ull << s->rb_bits) - 1), 1);
	ret = node_write(n->file, (g->at + k) << s->bits, block, s->cluster);
	free(block);
	return ret;
}

/* Blocks that were there count the new clusters which are theirs. */
static int count_in_old_blocks(struct node *n, const struct growth *g)
{
	struct qcow2 *s = qc(n);
	struct qc_entry *e;
	int ret = 0;

	for (uint64_t c = g->at; c < g->at + g->blocks + g->table && !ret; c++) {
		if (is_missing(s, c >> s->rb_bits))
			continue;
		ret = get_block(n, c, &e);
		if (ret)
			break;
		qc_refcount_set(e->table, s->order, c & ((1ull << s->rb_bits) - 1), 1);
		qc_cache_dirty(&s->rbc, e);
		qc_cache_put(&s->rbc, e);
	}
	return ret ? ret : qc_cache_write(n, &s->rbc);
}

static int write_table(struct node *n, uint64_t offset, const uint64_t *table, uint64_t from, uint64_t end)
{
	uint8_t *be = malloc((end - from) * 8);
	int ret;

	if (!be)
		return -ENOMEM;
	for (uint64_t i = from; i < end; i++)
		st_be64(be + 8 * (i - from), table[i]);
	ret = node_write(n->file, offset + 8 * from, be, (end - from) * 8);
	free(be);
	return ret;
}

/* The new table takes the place of the old one. */
static int switch_table(struct node *n, const struct growth *g, uint64_t *table)
{
	struct qcow2 *s = qc(n);
	uint64_t old = s->rt_offset, old_bytes = (uint64_t)s->rt_clusters << s->bits,
		 at = (g->at + g->blocks) << s->bits;
	uint8_t h[12];
	int ret;

	st_be64(h, at);
	st_be32(h + 8, (uint32_t)g->table);
	node_event(n->file, EVENT_REFBLOCK_ALLOC_SWITCH_TABLE);
	ret = node_write(n->file, QH_RT, h, sizeof(h));
	if (!ret)
		ret = node_flush(n->file);
	if (ret)
		return ret;
	free(s->rt);
	s->rt = table;
	s->rt_size = (uint32_t)g->entries;
	s->rt_clusters = (uint32_t)g->table;
	s->rt_offset = at;
	qc_meta_del(s, old, old_bytes);
	qc_free(n, old, old_bytes, QC_DISCARD_NEVER);
	return qc_meta_add(s, at, g->table << s->bits, META_REFTABLE);
}

static int make_growth(struct node *n, const struct growth *g)
{
	struct qcow2 *s = qc(n);
	uint64_t size = g->entries ? g->entries : s->rt_size, k = 0, low = size, high = 0;
	uint64_t *table = calloc(size ? size : 1, 8);
	int ret = table ? 0 : -ENOMEM;

	if (!ret && s->rt_size)
		memcpy(table, s->rt, (size_t)s->rt_size * 8);
	if (g->entries)
		node_event(n->file, EVENT_REFTABLE_GROW);
	node_event(n->file, g->entries ? EVENT_REFBLOCK_ALLOC_WRITE_BLOCKS : EVENT_REFBLOCK_ALLOC_WRITE);
	for (unsigned range = 0; range < 2 && !ret; range++) {
		uint64_t first = range ? g->at : g->first, count = range ? g->blocks + g->table : g->n;

		for (uint64_t i = first >> s->rb_bits; i <= (first + count - 1) >> s->rb_bits && !ret; i++) {
			if (table[i] & RT_OFFSET)
				continue;
			ret = write_block(n, g, i, k);
			table[i] = (g->at + k++) << s->bits;
			low = i < low ? i : low;
			high = i > high ? i : high;
		}
	}
	/* More was planned than is needed: the rest of it is free. */
	if (!ret)
		ret = count_in_old_blocks(n, g);
	if (g->entries)
		node_event(n->file, EVENT_REFBLOCK_ALLOC_WRITE_TABLE);
	if (!ret && g->entries)
		ret = write_table(n, (g->at + g->blocks) << s->bits, table, 0, size);
	if (!ret)
		ret = node_flush(n->file);
	if (!ret)
		ret = qc_meta_add(s, g->at << s->bits, k << s->bits, META_REFBLOCK);
	if (ret || g->entries) {
		if (!ret)
			ret = switch_table(n, g, table);
		if (ret && s->rt != table)
			free(table);
		return ret;
	}
	node_event(n->file, EVENT_REFBLOCK_ALLOC_HOOKUP);
	ret = write_table(n, s->rt_offset, table, low, high + 1);
	if (!ret)
		memcpy(s->rt, table, (size_t)s->rt_size * 8);
	free(table);
	return ret;
}

/* Make the blocks that clusters [first, first + count) need. */
static int need_blocks(struct node *n, uint64_t first, uint64_t count)
{
	struct growth g = { .first = first, .n = count };
	int ret = plan_growth(n, &g);

	return ret || !g.blocks ? ret : make_growth(n, &g);
}

/* --- changing counts --- */

/* To be discarded when no table on stable storage can name it any more. Without room it stays: discards are advice. */
static void remember(struct qcow2 *s, uint64_t cluster)
{
	struct qc_range *last = s->n_discards ? &s->discards[s->n_discards - 1] : NULL;

	if (last && last->first + last->n == cluster) {
		last->n++;
		return;
	}
	if (s->n_discards == s->discards_room) {
		unsigned room = s->discards_room ? 2 * s->discards_room : 64;
		struct qc_range *more = room <= QC_DISCARDS ? realloc(s->discards, room * sizeof(*more)) : NULL;

		if (!more)
			return;
		s->discards = more;
		s->discards_room = room;
	}
	s->discards[s->n_discards++] = (struct qc_range){ cluster, 1 };
}

void qc_discard_freed(struct node *n)
{
	struct qcow2 *s = qc(n);

	for (unsigned i = 0; i < s->n_discards; i++)
		node_discard(n->file, s->discards[i].first << s->bits, s->discards[i].n << s->bits);
	s->n_discards = 0;
}

static void freed(struct node *n, uint64_t cluster, enum qc_discard d)
{
	struct qcow2 *s = qc(n);
	struct qc_range *last = s->quarantined ? &s->quarantine[s->quarantined - 1] : NULL;

	if (d == QC_DISCARD_UNDO) {
		/* Nothing has named it yet: it may be used at once, when nothing else before the hint rests. */
		if (s->freed_min == UINT64_MAX && cluster < s->free_hint)
			s->free_hint = cluster;
		return;
	}
	if (cluster < s->freed_min)
		s->freed_min = cluster;
	if (last && last->first + last->n == cluster)
		last->n++;
	else if (cluster >= s->free_hint && s->quarantined < QC_QUARANTINE)
		s->quarantine[s->quarantined++] = (struct qc_range){ cluster, 1 };
	else if (cluster >= s->free_hint)
		s->free_hint = cluster + 1;
	if (s->byte_offset && (s->byte_offset - 1) >> s->bits == cluster)
		s->byte_offset = 0;
	qc_cache_forget(&s->l2c, cluster << s->bits, s->cluster);
	qc_cache_forget(&s->rbc, cluster << s->bits, s->cluster);
	if ((d == QC_DISCARD_REQUEST || d == QC_DISCARD_SNAPSHOT) && !(n->flags & NODE_NO_DISCARD) && !s->external)
		remember(s, cluster);
}

/* One cluster's. */
static int add_one(struct node *n, uint64_t cluster, int64_t delta, enum qc_discard d)
{
	struct qcow2 *s = qc(n);
	uint64_t i = cluster & ((1ull << s->rb_bits) - 1), v;
	struct qc_entry *e;
	int ret = get_block(n, cluster, &e);

	if (ret)
		return ret;
	if (!e) {
		qc_corrupt(n, true, "Reference count of cluster %#llx would be negative", (unsigned long long)cluster);
		return -EIO;
	}
	v = qc_refcount_of(e->table, s->order, i);
	if (delta < 0 ? v < (uint64_t)-delta : v > max_refcount(s) || (uint64_t)delta > max_refcount(s) - v) {
		qc_cache_put(&s->rbc, e);
		return -EINVAL;
	}
	v += (uint64_t)delta;
	qc_refcount_set(e->table, s->order, i, v);
	qc_cache_dirty(&s->rbc, e);
	qc_cache_put(&s->rbc, e);
	if (!v)
		freed(n, cluster, d);
	return 0;
}

int qc_refcount_add(struct node *n, uint64_t offset, uint64_t bytes, int64_t delta, enum qc_discard d)
{
	struct qcow2 *s = qc(n);
	uint64_t first = offset >> s->bits, end = (offset + bytes + s->cluster - 1) >> s->bits, c = first;
	int ret = 0;

	if (!bytes || !delta)
		return 0;
	node_event(n->file, EVENT_REFBLOCK_ALLOC);
	if (delta < 0 && !(s->incompat & QCOW2_INCOMPAT_DIRTY) && d != QC_DISCARD_UNDO) {
		/*
		 * Nothing may be free on disk that a table there still names, late counts or not; what is undone was
		 * never named.
		 */
		ret = qc_cache_depend(n, &s->rbc, &s->l2c);
		if (ret)
			return ret;
	}
	if (delta > 0)
		ret = need_blocks(n, first, end - first);
	if (ret)
		return ret;
	for (; c < end; c++) {
		if (c == first || !(c & ((1ull << s->rb_bits) - 1)))
			node_event(n->file, EVENT_REFBLOCK_LOAD);
		ret = add_one(n, c, delta, d);
		if (ret)
			break;
	}
	if (!ret)
		return 0;
	/* All or nothing. */
	while (c-- > first)
		add_one(n, c, -delta, QC_DISCARD_UNDO);
	return ret;
}

/* --- finding free clusters --- */

static bool is_quarantined(const struct qcow2 *s, uint64_t cluster)
{
	if (cluster < s->free_hint)
		return cluster >= s->freed_min;
	for (unsigned i = 0; i < s->quarantined; i++)
		if (cluster - s->quarantine[i].first < s->quarantine[i].n)
			return true;
	return false;
}

static int is_free(struct node *n, uint64_t cluster, bool *out)
{
	uint64_t count;
	int ret = qc_refcount(n, cluster, &count);

	*out = !count && !is_quarantined(qc(n), cluster);
	return ret;
}

static int64_t find_free(struct node *n, uint64_t wanted)
{
	struct qcow2 *s = qc(n);
	uint64_t run = 0, c = s->free_hint;
	bool is;
	int ret;

	while (run < wanted) {
		if (c >= (uint64_t)INT64_MAX >> s->bits)
			return -EFBIG;
		ret = is_free(n, c, &is);
		if (ret)
			return ret;
		run = is ? run + 1 : 0;
		c++;
	}
	return (int64_t)(c - wanted);
}

/*
 * Count clusters for a table that will name them: the counts reach the disk before it. Said before anything is changed,
 * since it may fail, and again when they are counted: more blocks, and a larger table of them, may have cut it.
 */
static int add_counts(struct node *n, uint64_t offset, uint64_t bytes)
{
	struct qcow2 *s = qc(n);
	int ret = s->lazy ? qc_mark_dirty(n) : qc_cache_depend(n, &s->l2c, &s->rbc);

	if (!ret)
		ret = qc_refcount_add(n, offset, bytes, 1, QC_DISCARD_NEVER);
	if (ret || s->lazy)
		return ret;
	ret = qc_cache_depend(n, &s->l2c, &s->rbc);
	/* What cannot be taken back is a leak, of which the caller's error says enough. */
	if (ret)
		qc_refcount_add(n, offset, bytes, -1, QC_DISCARD_UNDO);
	return ret;
}

int64_t qc_alloc(struct node *n, uint64_t n_clusters)
{
	struct qcow2 *s = qc(n);
	int64_t first;
	int ret;

	node_event(n->file, EVENT_CLUSTER_ALLOC);
	first = find_free(n, n_clusters);
	if (first < 0)
		return first;
	ret = add_counts(n, (uint64_t)first << s->bits, n_clusters << s->bits);
	if (ret)
		return ret;
	if (!first) {
		qc_corrupt(n, true, "Preventing invalid allocation of %s at offset 0", "cluster");
		return -EIO;
	}
	if (n_clusters == 1 || (uint64_t)first == s->free_hint)
		s->free_hint = (uint64_t)first + n_clusters;
	ret = qc_check_overlap(n, (uint64_t)first << s->bits, n_clusters << s->bits, META_NONE);
	return ret ? ret : first << s->bits;
}

int64_t qc_alloc_at(struct node *n, uint64_t offset, uint64_t n_clusters)
{
	struct qcow2 *s = qc(n);
	uint64_t k = 0;
	bool is = true;
	int ret;

	for (; k < n_clusters; k++) {
		ret = is_free(n, (offset >> s->bits) + k, &is);
		if (ret)
			return ret;
		if (!is)
			break;
	}
	if (!k)
		return 0;
	ret = add_counts(n, offset, k << s->bits);
	if (ret)
		return ret;
	ret = qc_check_overlap(n, offset, k << s->bits, META_NONE);
	return ret ? ret : (int64_t)k;
}

/* Compressed clusters share host clusters: each counts those that it touches. */
int64_t qc_alloc_bytes(struct node *n, size_t bytes)
{
	struct qcow2 *s = qc(n);
	uint64_t at = s->byte_offset, count;
	int64_t fresh;
	int ret;

	node_event(n->file, EVENT_CLUSTER_ALLOC_BYTES);
	if (at && at & (s->cluster - 1)) {
		uint64_t room = s->cluster - (at & (s->cluster - 1));

		ret = qc_refcount(n, at >> s->bits, &count);
		if (ret)
			return ret;
		if (count == max_refcount(s))
			at = 0;
		else if (bytes > room) {
			/* Go on into the next cluster if that is free. */
			fresh = qc_alloc_at(n, at + room, 1);
			if (fresh < 0)
				return fresh;
			if (!fresh)
				at = 0;
			else if (s->free_hint == (at + room) >> s->bits)
				s->free_hint++;
		}
	} else {
		at = 0;
	}
	if (!at) {
		fresh = qc_alloc(n, 1);
		if (fresh < 0)
			return fresh;
		at = (uint64_t)fresh;
	} else {
		/* One more in the cluster that was there. */
		ret = add_counts(n, at & ~(s->cluster - 1), s->cluster);
		if (ret)
			return ret;
	}
	s->byte_offset = at + bytes;
	return (int64_t)at;
}

void qc_free(struct node *n, uint64_t offset, uint64_t bytes, enum qc_discard d)
{
	node_event(n->file, EVENT_CLUSTER_FREE);
	int ret = qc_refcount_add(n, offset, bytes, -1, d);

	/* What cannot be freed is a leak, and no more. */
	if (ret && !qc(n)->free_said)
		fprintf(stderr, "qcow2_free_clusters failed: %s\n", strerror(-ret));
	qc(n)->free_said |= ret != 0;
}

void qc_free_entry(struct node *n, uint64_t entry, enum qc_discard d)
{
	struct qcow2 *s = qc(n);

	if (entry & L2_COMPRESSED) {
		uint64_t offset;
		uint32_t bytes;

		qc_compressed_place(s, entry, &offset, &bytes);
		qc_free(n, offset, bytes, d);
	} else if (s->external) {
		/* The first cluster of a data file is one like the others. */
		if (entry & (L2_OFFSET | L2_COPIED) && d == QC_DISCARD_REQUEST && !(n->flags & NODE_NO_DISCARD))
			node_discard(s->data, entry & L2_OFFSET, s->cluster);
	} else if (entry & L2_OFFSET) {
		if (entry & L2_OFFSET & (s->cluster - 1)) {
			qc_corrupt(n, false, "Cannot free unaligned cluster %#llx",
				   (unsigned long long)(entry & L2_OFFSET));
		} else {
			qc_free(n, entry & L2_OFFSET, s->cluster, d);
		}
	}
}
