/* Reference counts built anew from what is known of each cluster: for check -r all, and to make counts wider. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_check.h"

/* A count for each cluster takes memory: these are a gigabyte, and 16 TiB of 64 KiB each. */
#define CLUSTERS_MAX (1ull << 28)

struct build {
	struct node *n;
	struct qc_refs *r;
	unsigned order, rb_bits;
	uint64_t *table, entries;
	uint64_t at, clusters; /* where the table goes */
	uint64_t hint;
	unsigned walks; /* as it looks now, until all is done */
};

int qc_refs_reserve(struct qc_refs *r, uint64_t clusters)
{
	uint64_t room = r->n;
	uint32_t *more;

	if (clusters <= r->n)
		return 0;
	if (clusters > CLUSTERS_MAX)
		return -EFBIG;
	room = r->n ? clusters + clusters / 8 : clusters;
	more = calloc(room, sizeof(*more)); /* untouched pages cost nothing */
	if (!more)
		return -ENOMEM;
	if (r->n)
		memcpy(more, r->at, r->n * sizeof(*more));
	free(r->at);
	r->at = more;
	r->n = room;
	return 0;
}

/* The first of `count` clusters in a row, in use from now on. */
static int take_free(struct build *b, uint64_t count, uint64_t *first)
{
	uint64_t run = 0, c = b->hint;
	bool gap = false;
	int ret;

	for (; run < count; c++) {
		ret = qc_refs_reserve(b->r, c + 1);
		if (ret)
			return ret;
		run = b->r->at[c] ? 0 : run + 1;
		if (run && !gap) {
			gap = true;
			b->hint = c;
		}
	}
	*first = c - count;
	for (uint64_t k = 0; k < count; k++)
		b->r->at[*first + k] = 1;
	return 0;
}

static int need_entry(struct build *b, uint64_t i)
{
	uint64_t *more;

	if (i < b->entries)
		return 0;
	if ((i + 1) * 8 > QCOW2_MAX_REFTABLE)
		return -EFBIG;
	more = realloc(b->table, (i + 1) * 8);
	if (!more)
		return -ENOMEM;
	memset(more + b->entries, 0, (i + 1 - b->entries) * 8);
	b->table = more;
	b->entries = i + 1;
	return 0;
}

/* A block for each part of the file in which something is in use; these are in use then, too. `*more`: some were made.
 */
static int place_blocks(struct build *b, bool *more)
{
	uint64_t at;
	int ret = 0;

	for (uint64_t k = 0; k < b->r->n && !ret; k++) {
		uint64_t i = k >> b->rb_bits;

		if (!b->r->at[k] || (i < b->entries && b->table[i]))
			continue;
		ret = need_entry(b, i);
		if (!ret)
			ret = take_free(b, 1, &at);
		if (!ret)
			b->table[i] = at << qc(b->n)->bits;
		*more = true;
	}
	return ret;
}

/* A place for the table that is large enough. */
static int place_table(struct build *b)
{
	uint64_t cluster = qc(b->n)->cluster;

	for (uint64_t k = 0; k < b->clusters; k++)
		b->r->at[b->at + k] = 0;
	if (b->clusters && b->at < b->hint)
		b->hint = b->at;
	b->clusters = (b->entries * 8 + cluster - 1) / cluster;
	return take_free(b, b->clusters, &b->at);
}

static void tell(const struct build *b, unsigned walks)
{
	struct node_ctx *c = b->n->ctx;

	if (c->progress)
		c->progress(c->progress_opaque, (double)walks / b->walks);
}

/* Walks through everything until nothing more is needed: two, if the second finds all in place, or more. */
static int place_all(struct build *b, unsigned *walks)
{
	bool more = true;
	int ret = 0;

	for (*walks = 0; more && !ret; ++*walks) {
		b->walks = *walks + 2 > 3 ? *walks + 2 : 3; /* with the one that writes */
		tell(b, *walks);
		more = false;
		ret = place_blocks(b, &more);
		if (!ret && b->clusters * qc(b->n)->cluster < b->entries * 8) {
			ret = place_table(b);
			more = true;
		}
		tell(b, *walks + 1);
	}
	return ret;
}

static int write_blocks(const struct build *b)
{
	struct qcow2 *s = qc(b->n);
	uint64_t max = b->order >= 5 ? UINT32_MAX : (1ull << (1u << b->order)) - 1;
	uint8_t *block = malloc(s->cluster);
	int ret = block ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < b->entries && !ret; i++) {
		if (!b->table[i])
			continue;
		memset(block, 0, s->cluster);
		for (uint64_t k = 0; k < 1ull << b->rb_bits && (i << b->rb_bits) + k < b->r->n; k++) {
			uint64_t count = b->r->at[(i << b->rb_bits) + k];

			qc_refcount_set(block, b->order, k, count < max ? count : max);
		}
		ret = node_write(b->n->file, b->table[i], block, s->cluster);
	}
	free(block);
	return ret;
}

/* The table, in the file and then in memory. */
static int switch_over(struct build *b)
{
	struct node *n = b->n;
	struct qcow2 *s = qc(n);
	uint64_t bytes = b->clusters << s->bits, old_offset = s->rt_offset;
	uint32_t old_clusters = s->rt_clusters;
	unsigned old_order = s->order;
	uint8_t *be = calloc(1, bytes);
	uint64_t *table = calloc(bytes / 8, 8);
	int ret = be && table ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < b->entries && !ret; i++)
		st_be64(be + 8 * i, table[i] = b->table[i]);
	if (!ret)
		ret = node_write(n->file, b->at << s->bits, be, bytes);
	if (!ret)
		ret = node_flush(n->file);
	if (ret)
		goto out;
	s->rt_offset = b->at << s->bits;
	s->rt_clusters = (uint32_t)b->clusters;
	s->order = b->order;
	ret = qc_update_header(n);
	if (!ret)
		ret = node_flush(n->file);
	if (ret) {
		s->rt_offset = old_offset;
		s->rt_clusters = old_clusters;
		s->order = old_order;
		goto out;
	}
	free(s->rt);
	s->rt = table;
	table = NULL;
	s->rt_size = (uint32_t)(bytes / 8);
	s->rb_bits = b->rb_bits;
	s->free_hint = 1;
	s->quarantined = 0;
	s->byte_offset = 0;
	qc_cache_forget(&s->rbc, 0, UINT64_MAX);
	ret = qc_meta_all(n);
out:
	free(table);
	free(be);
	return ret;
}

int qc_rebuild(struct node *n, struct qc_refs *r, unsigned order, struct err *err)
{
	struct build b = { .n = n, .r = r, .order = order, .rb_bits = qc(n)->bits + 3 - order, .hint = 1 };
	unsigned walks;
	int ret = place_all(&b, &walks);

	b.walks = walks + 1;
	if (!ret) {
		tell(&b, walks);
		ret = write_blocks(&b);
	}
	if (!ret)
		ret = switch_over(&b);
	if (ret)
		err_errno(err, -ret, "Could not rebuild the refcount structure");
	free(b.table);
	return ret;
}
