/*
 * Emptying an image whose backing node has everything that it had (commit). Where nothing but the L1 table names
 * clusters, all is made anew at the beginning of the file, which is cut behind that; else entry by entry.
 *
 * The image is marked as dirty meanwhile. In whatever order a loss of power lets the writes between two flushes arrive:
 * the L1 table is empty before anything that it named is overwritten, and what the header comes to name is zeroes
 * before it does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2.h"

#define FIRST_L1 3u /* behind the header, the table of refcount blocks and the first of these */

static uint64_t l1_clusters(const struct qcow2 *s)
{
	return (8ull * s->l1_size + s->cluster - 1) >> s->bits;
}

static bool can_begin_anew(const struct qcow2 *s)
{
	return s->version >= 3 && !s->snap_count && !s->bitmap_count && !s->bitmaps.n && !s->crypto_bytes &&
	       !s->external && FIRST_L1 + l1_clusters(s) <= 1ull << s->rb_bits;
}

static int zero_and_flush(struct node *n, uint64_t offset, uint64_t bytes)
{
	int ret = node_zeroes(n->file, offset, bytes, 0);

	return ret ? ret : node_flush(n->file);
}

/* The header names an empty table of refcount blocks, and an empty L1 table behind. */
static int switch_header(struct node *n)
{
	struct qcow2 *s = qc(n);
	uint8_t be[20];
	int ret;

	st_be64(be, FIRST_L1 * s->cluster);
	st_be64(be + 8, s->cluster);
	st_be32(be + 16, 1);
	ret = node_write(n->file, QH_L1, be, sizeof(be));
	if (!ret)
		ret = node_flush(n->file);
	if (ret)
		return ret;
	s->l1_offset = FIRST_L1 * s->cluster;
	s->rt_offset = s->cluster;
	s->rt_clusters = 1;
	s->rt_size = (uint32_t)(s->cluster / 8);
	memset(s->rt, 0, 8ull * s->rt_size);
	return 0;
}

/* The first block, and what is counted in it: all that there is. */
static int count_all(struct node *n)
{
	struct qcow2 *s = qc(n);
	uint8_t be[8];
	int ret;

	node_event(n->file, EVENT_REFBLOCK_ALLOC);
	st_be64(be, 2 * s->cluster);
	ret = node_write(n->file, s->rt_offset, be, sizeof(be));
	if (ret)
		return ret;
	s->rt[0] = 2 * s->cluster;
	s->free_hint = FIRST_L1 + l1_clusters(s);
	s->freed_min = UINT64_MAX;
	s->quarantined = s->n_discards = 0;
	s->byte_offset = 0;
	s->preallocated = 0;
	s->ragged = false;
	ret = qc_refcount_add(n, 0, s->free_hint << s->bits, 1, QC_DISCARD_NEVER);
	return ret ? ret : qc_meta_all(n);
}

static int begin_anew(struct node *n)
{
	struct qcow2 *s = qc(n);
	uint64_t *rt = realloc(s->rt, 8ull * (s->rt_size > s->cluster / 8 ? s->rt_size : s->cluster / 8));
	int ret;

	if (!rt)
		return -ENOMEM;
	s->rt = rt;
	ret = qc_cache_write(n, &s->l2c);
	if (!ret)
		ret = qc_cache_write(n, &s->rbc);
	if (!ret)
		ret = qc_mark_dirty(n);
	if (ret)
		return ret;
	qc_cache_forget(&s->l2c, 0, UINT64_MAX);
	qc_cache_forget(&s->rbc, 0, UINT64_MAX);
	node_event(n->file, EVENT_L1_UPDATE);
	ret = zero_and_flush(n, s->l1_offset, l1_clusters(s) << s->bits);
	if (!ret) {
		memset(s->l1, 0, 8ull * s->l1_size);
		node_event(n->file, EVENT_EMPTY_IMAGE_PREPARE);
		ret = zero_and_flush(n, s->cluster, (FIRST_L1 - 1 + l1_clusters(s)) << s->bits);
	}
	if (!ret) {
		node_event(n->file, EVENT_L1_UPDATE);
		node_event(n->file, EVENT_REFTABLE_UPDATE);
		ret = switch_header(n);
	}
	if (!ret)
		ret = count_all(n);
	if (!ret)
		ret = qc_mark_clean(n);
	/* What is in memory does not fit the file any more: nothing is written until it is opened again, and repaired.
	 */
	if (ret)
		s->incompat |= QCOW2_INCOMPAT_CORRUPT;
	return ret;
}

int qc_make_empty(struct node *n)
{
	struct qcow2 *s = qc(n);
	struct node_resize how = { .exact = false };
	struct err ignored;
	int ret;

	if (!can_begin_anew(s)) {
		ret = qc_cut(n, 0, align_up(n->size, s->cluster));
		return ret ? ret : node_flush(n);
	}
	co_lock(&s->lock);
	ret = begin_anew(n);
	how.size = s->free_hint << s->bits;
	/* A device keeps its size. */
	if (!ret && n->file->size > how.size)
		node_truncate(n->file, &how, &ignored);
	if (!ret)
		ret = node_flush(n->file);
	co_unlock(&s->lock);
	return ret;
}
