/*
 * Checking and repairing: every reference to a host cluster is counted anew and compared with the counts of the image,
 * then the COPIED flags with these. Findings go to stderr in QEMU's words.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_bitmap.h"

struct qc_scan {
	struct node *n;
	struct node_check *c;
	unsigned fix;
	struct qc_refs refs;
	uint64_t next; /* where the next data cluster would be if the image were not fragmented */
	bool rebuild;
	bool sound; /* the counts are right: flags may follow them also when only leaks are repaired */
};

int qc_scan_refer(struct qc_scan *x, uint64_t offset, uint64_t bytes)
{
	struct qcow2 *s = qc(x->n);
	uint64_t first = offset >> s->bits, end, most = s->order >= 5 ? UINT32_MAX : (1ull << (1u << s->order)) - 1;

	if (!bytes)
		return 0;
	/* Only the last cluster of a file may be there in part. */
	if (offset > INT64_MAX || bytes > INT64_MAX - offset || offset + bytes >= x->n->file->size + s->cluster) {
		fprintf(stderr,
			"ERROR: counting reference for region exceeding the end of the file by one cluster or more: "
			"offset 0x%llx size 0x%llx\n",
			(unsigned long long)offset, (unsigned long long)bytes);
		x->c->corruptions++;
		return 0;
	}
	end = (offset + bytes - 1) >> s->bits;
	if (qc_refs_reserve(&x->refs, end + 1))
		return -ENOMEM;
	for (uint64_t k = first; k <= end; k++) {
		if (x->refs.at[k] < most) {
			x->refs.at[k]++;
			continue;
		}
		fprintf(stderr,
			"ERROR: overflow cluster offset=0x%llx\nUse qemu-img amend to increase the refcount entry "
			"width "
			"or qemu-img convert to create a clean copy if the image cannot be opened for writing\n",
			(unsigned long long)(k << s->bits));
		x->c->corruptions++;
	}
	return 0;
}

/* --- tables --- */

static void finding(struct qc_scan *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void finding(struct qc_scan *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	x->c->corruptions++;
}

/* An entry of an L2 table, and where it is. */
struct entry {
	uint64_t entry, bitmap, at;
	unsigned index;
	bool active;
};

static int refer_compressed(struct qc_scan *x, const struct entry *e)
{
	struct qcow2 *s = qc(x->n);
	uint64_t offset;
	uint32_t bytes;

	if (e->entry & L2_COPIED)
		finding(x, "ERROR: coffset=0x%llx: copied flag must never be set for compressed clusters\n",
			(unsigned long long)(e->entry & ((1ull << (62 - (s->bits - 8))) - 1)));
	if (s->external) {
		finding(x, "ERROR compressed cluster %u with data file, entry=0x%llx\n", e->index,
			(unsigned long long)(e->entry & ~L2_COPIED));
		return 0;
	}
	if (e->bitmap) {
		finding(x, "ERROR compressed cluster %u with non-zero subcluster allocation bitmap, entry=0x%llx\n",
			e->index, (unsigned long long)(e->entry & ~L2_COPIED));
		return 0;
	}
	qc_compressed_place(s, e->entry, &offset, &bytes);
	if (e->active) {
		x->c->allocated_clusters++;
		x->c->compressed_clusters++;
		x->c->fragmented_clusters++;
	}
	return qc_scan_refer(x, offset, bytes);
}

/* A cluster that has no data and a wrong place becomes plain zeroes. True when that was done. */
static bool repair_zero(struct qc_scan *x, struct entry *e)
{
	struct qcow2 *s = qc(x->n);
	uint8_t be[16];
	uint64_t bitmap = (e->bitmap | e->bitmap << 32) & 0xffffffff00000000u;

	st_be64(be, s->extended ? 0 : L2_ZERO);
	st_be64(be + 8, bitmap);
	if (qc_check_overlap(x->n, e->at, s->entry_bytes, META_ACTIVE_L2) ||
	    node_write(x->n->file, e->at, be, s->entry_bytes) || node_flush(x->n->file)) {
		fprintf(stderr, "ERROR: Failed to overwrite L2 table entry\n");
		x->c->check_errors++;
		return false;
	}
	x->c->corruptions--;
	x->c->corruptions_fixed++;
	return true;
}

static int refer_entry(struct qc_scan *x, struct entry *e)
{
	struct qcow2 *s = qc(x->n);
	uint64_t offset = e->entry & L2_OFFSET;
	bool data = s->extended ? e->bitmap & 0xffffffffu : !(e->entry & L2_ZERO);

	if (e->entry & L2_COMPRESSED)
		return refer_compressed(x, e);
	if (e->entry & 0x3f000000000001feull)
		finding(x, "ERROR found l2 entry with reserved bits set: %llx\n", (unsigned long long)e->entry);
	if (!offset && !(s->external && e->entry & L2_COPIED)) {
		if (e->bitmap & 0xffffffffu)
			finding(x, "ERROR: Unallocated cluster has non-zero subcluster allocation map\n");
		return 0;
	}
	if (s->extended && e->bitmap & e->bitmap >> 32 & 0xffffffffu)
		finding(x, "ERROR offset=%llx: Allocated cluster has corrupted subcluster allocation bitmap\n",
			(unsigned long long)offset);
	if (offset & (s->cluster - 1) && data) {
		finding(x, "ERROR offset=%llx: Data cluster is not properly aligned; L2 entry corrupted.\n",
			(unsigned long long)offset);
	} else if (offset & (s->cluster - 1)) {
		bool repair = x->fix & CHECK_FIX_ERRORS;

		finding(x, "%s offset=%llx: Preallocated cluster is not properly aligned; L2 entry corrupted.\n",
			repair ? "Repairing" : "ERROR", (unsigned long long)offset);
		if (repair && repair_zero(x, e))
			return 0;
	}
	if (e->active) {
		x->c->allocated_clusters++;
		if (x->next && offset != x->next)
			x->c->fragmented_clusters++;
		x->next = offset + s->cluster;
	}
	return s->external ? 0 : qc_scan_refer(x, offset, s->cluster);
}

static int refer_l2(struct qc_scan *x, uint64_t table, bool active)
{
	struct qcow2 *s = qc(x->n);
	uint8_t *l2 = malloc(s->cluster);
	int ret = l2 ? node_read(x->n->file, table, l2, s->cluster) : -ENOMEM;

	x->next = 0;
	if (ret) {
		fprintf(stderr, "ERROR: I/O error in check_refcounts_l2\n");
		x->c->check_errors++;
	}
	for (uint64_t i = 0; i < 1ull << s->l2_bits && !ret; i++) {
		const uint8_t *p = l2 + i * s->entry_bytes;
		struct entry e = { ld_be64(p), s->extended ? ld_be64(p + 8) : 0, table + i * s->entry_bytes,
				   (unsigned)i, active };

		ret = refer_entry(x, &e);
	}
	free(l2);
	return ret;
}

static int refer_l1(struct qc_scan *x, uint64_t offset, uint32_t size, bool active)
{
	struct qcow2 *s = qc(x->n);
	uint8_t *l1;
	int ret;

	if (!size)
		return 0;
	ret = qc_scan_refer(x, offset, 8ull * size);
	l1 = malloc(8ull * size);
	if (!ret)
		ret = l1 ? node_read(x->n->file, offset, l1, 8ull * size) : -ENOMEM;
	if (ret) {
		fprintf(stderr, "ERROR: I/O error in check_refcounts_l1\n");
		x->c->check_errors++;
	}
	for (uint32_t i = 0; i < size && !ret; i++) {
		uint64_t table = ld_be64(l1 + 8ull * i) & L1_OFFSET;

		if (!table)
			continue;
		if (table & (s->cluster - 1)) {
			fprintf(stderr, "ERROR l2_offset=%llx: Table is not cluster aligned; L1 entry corrupted\n",
				(unsigned long long)table);
			x->c->corruptions++;
			continue;
		}
		ret = qc_scan_refer(x, table, s->cluster);
		if (!ret && table + s->cluster <= align_up(x->n->file->size, s->cluster) + s->cluster)
			ret = refer_l2(x, table, active);
	}
	free(l1);
	return ret;
}

static int refer_refblocks(struct qc_scan *x)
{
	struct qcow2 *s = qc(x->n);
	int ret = 0;

	for (uint32_t i = 0; i < s->rt_size && !ret; i++) {
		uint64_t block = s->rt[i] & RT_OFFSET;

		if (!block)
			continue;
		if (block & (s->cluster - 1)) {
			fprintf(stderr,
				"ERROR refcount block %u is not cluster aligned; refcount table entry corrupted\n", i);
			x->c->corruptions++;
			x->rebuild = true;
			continue;
		}
		if (block >= x->n->file->size) {
			fprintf(stderr, "ERROR refcount block %u is outside image\n", i);
			x->c->corruptions++;
			x->rebuild = true;
			continue;
		}
		ret = qc_scan_refer(x, block, s->cluster);
		if (!ret && x->refs.at[block >> s->bits] != 1) {
			fprintf(stderr, "ERROR refcount block %u refcount=%u\n", i, x->refs.at[block >> s->bits]);
			x->c->corruptions++;
			x->rebuild = true;
		}
	}
	return ret;
}

static int refer_all(struct qc_scan *x)
{
	struct qcow2 *s = qc(x->n);
	int ret = qc_refs_reserve(&x->refs, (x->n->file->size + s->cluster - 1) >> s->bits);

	if (!ret)
		ret = qc_scan_refer(x, 0, s->cluster);
	if (!ret)
		ret = refer_l1(x, s->l1_offset, s->l1_size, true);
	for (uint32_t i = 0; i < s->snap_count && !ret; i++) {
		const struct qc_snapshot *sn = &s->snaps[i];

		if (sn->l1_offset & (s->cluster - 1)) {
			fprintf(stderr,
				"ERROR snapshot %s (%s) l1_offset=%#llx: L1 table is not cluster aligned; snapshot "
				"table "
				"entry corrupted\n",
				sn->s.id, sn->s.name, (unsigned long long)sn->l1_offset);
			x->c->corruptions++;
			continue;
		}
		if (sn->l1_size > QCOW2_MAX_L1 / 8) {
			fprintf(stderr,
				"ERROR snapshot %s (%s) l1_size=%#x: L1 table is too large; snapshot table entry "
				"corrupted\n",
				sn->s.id, sn->s.name, sn->l1_size);
			x->c->corruptions++;
			continue;
		}
		ret = refer_l1(x, sn->l1_offset, sn->l1_size, false);
	}
	if (!ret)
		ret = qc_scan_refer(x, s->snap_offset, s->snap_bytes);
	if (!ret && s->crypto_bytes)
		ret = qc_scan_refer(x, s->crypto_offset, s->crypto_bytes);
	if (!ret)
		ret = qc_bitmaps_count(x->n, x, x->c);
	if (!ret)
		ret = qc_scan_refer(x, s->rt_offset, (uint64_t)s->rt_clusters << s->bits);
	return ret ? ret : refer_refblocks(x);
}

/* --- comparing --- */

static int set_count(struct node *n, uint64_t cluster, uint64_t now, uint64_t wanted)
{
	struct qcow2 *s = qc(n);

	return qc_refcount_add(n, cluster << s->bits, s->cluster, (int64_t)wanted - (int64_t)now, QC_DISCARD_NEVER);
}

/* What the image counts, against what was counted; with `fix` it is made right. */
static void compare(struct qc_scan *x, unsigned fix)
{
	struct qcow2 *s = qc(x->n);
	struct node_check *c = x->c;

	c->image_end_offset = s->cluster;
	for (uint64_t k = 0; k < x->refs.n; k++) {
		uint64_t has, should = x->refs.at[k];
		bool leak, repair;
		int ret;

		/* A file may have a hole of any size: without a block nor a reference there is nothing to compare. */
		if (!should && (k >> s->rb_bits >= s->rt_size || !(s->rt[k >> s->rb_bits] & RT_OFFSET)))
			continue;
		ret = qc_refcount(x->n, k, &has);
		if (ret) {
			fprintf(stderr, "Can't get refcount for cluster %lld: %s\n", (long long)k, strerror(-ret));
			c->check_errors++;
			continue;
		}
		if (has || should)
			c->image_end_offset = (k + 1) << s->bits;
		if (has == should)
			continue;
		leak = has > should;
		/* What is in use and counted as free may be overwritten by counting it: the counts are built anew. */
		x->rebuild |= !has;
		repair = has && fix & (leak ? CHECK_FIX_LEAKS : CHECK_FIX_ERRORS);
		fprintf(stderr, "%s cluster %lld refcount=%llu reference=%llu\n",
			repair ? "Repairing"
			: leak ? "Leaked"
			       : "ERROR",
			(long long)k, (unsigned long long)has, (unsigned long long)should);
		if (repair && !set_count(x->n, k, has, should)) {
			if (leak)
				c->leaks_fixed++;
			else
				c->corruptions_fixed++;
			continue;
		}
		if (leak)
			c->leaks++;
		else
			c->corruptions++;
	}
}

/* The counts are beyond repair: build them anew, and free the old ones, which are leaks then. */
static int rebuild(struct qc_scan *x)
{
	struct node_check *c = x->c, before = *c, leaks = { 0 };
	struct err err;
	int ret;

	fprintf(stderr, "Rebuilding refcount structure\n");
	ret = qc_rebuild(x->n, &x->refs, qc(x->n)->order, &err);
	if (ret) {
		fprintf(stderr, "ERROR %s\n", err.msg);
		c->check_errors++;
		return ret;
	}
	*c = (struct node_check){ .corruptions_fixed = before.corruptions_fixed,
				  .leaks_fixed = before.leaks_fixed,
				  .total_clusters = before.total_clusters };
	memset(x->refs.at, 0, x->refs.n * sizeof(*x->refs.at));
	x->rebuild = false;
	x->fix = 0;
	ret = refer_all(x);
	if (ret)
		return ret;
	x->c = &leaks;
	compare(x, CHECK_FIX_LEAKS);
	x->c = c;
	if (x->rebuild)
		fprintf(stderr, "ERROR rebuilt refcount structure is still broken\n");
	c->image_end_offset = leaks.image_end_offset;
	if (c->corruptions < before.corruptions)
		c->corruptions_fixed += before.corruptions - c->corruptions;
	if (c->leaks < before.leaks)
		c->leaks_fixed += before.leaks - c->leaks;
	c->leaks += leaks.leaks;
	return 0;
}

/* Compare, and repair what may be. */
static int settle(struct qc_scan *x)
{
	struct node_check before = *x->c;
	unsigned fix = x->fix;
	int ret;

	compare(x, 0);
	if (x->rebuild && fix & CHECK_FIX_ERRORS) {
		ret = rebuild(x);
		x->fix = fix;
		return ret;
	}
	if (x->rebuild && fix) {
		fprintf(stderr, "ERROR need to rebuild refcount structures\n");
		x->c->check_errors++;
		return -EIO;
	}
	if (fix && (x->c->leaks || x->c->corruptions)) {
		*x->c = before;
		compare(x, fix);
	}
	return 0;
}

/* The COPIED flag of a table entry that names `cluster`; true when it was changed. */
static bool check_copied(struct qc_scan *x, const char *what, uint64_t *entry, bool *repaired)
{
	uint64_t count, offset = *entry & L2_OFFSET;
	bool is = *entry & L2_COPIED;

	*repaired = false;
	if (qc_refcount(x->n, offset >> qc(x->n)->bits, &count) || (count == 1) == is)
		return false;
	x->c->corruptions++;
	*repaired = x->fix & CHECK_FIX_ERRORS || (x->fix && x->sound);
	fprintf(stderr, "%s OFLAG_COPIED %s%llx refcount=%llu\n", *repaired ? "Repairing" : "ERROR", what,
		(unsigned long long)*entry, (unsigned long long)count);
	if (*repaired)
		*entry = (*entry & ~L2_COPIED) | (count == 1 ? L2_COPIED : 0);
	return true;
}

static int check_l2_flags(struct qc_scan *x, uint64_t table)
{
	struct qcow2 *s = qc(x->n);
	uint8_t *l2 = malloc(s->cluster);
	bool dirty = false, repaired;
	int64_t fixed = 0;
	int ret = l2 ? node_read(x->n->file, table, l2, s->cluster) : -ENOMEM;

	if (ret) {
		fprintf(stderr, "ERROR: Could not read L2 table: %s\n", strerror(-ret));
		x->c->check_errors++;
		free(l2);
		return ret;
	}
	for (uint64_t i = 0; i < 1ull << s->l2_bits && !s->external; i++) {
		uint8_t *p = l2 + i * s->entry_bytes;
		uint64_t entry = ld_be64(p);

		if (entry & L2_COMPRESSED || !(entry & L2_OFFSET) || entry & L2_OFFSET & (s->cluster - 1))
			continue;
		if (check_copied(x, "data cluster: l2_entry=", &entry, &repaired) && repaired) {
			st_be64(p, entry);
			dirty = true;
			fixed++;
		}
	}
	if (dirty) {
		ret = node_write(x->n->file, table, l2, s->cluster);
		if (!ret) {
			x->c->corruptions -= fixed;
			x->c->corruptions_fixed += fixed;
		}
	}
	free(l2);
	return ret;
}

static int check_flags(struct qc_scan *x)
{
	struct qcow2 *s = qc(x->n);
	bool repaired;
	int ret = 0;

	for (uint32_t i = 0; i < s->l1_size && !ret; i++) {
		char what[64];

		if (!(s->l1[i] & L1_OFFSET) || s->l1[i] & L1_OFFSET & (s->cluster - 1))
			continue;
		snprintf(what, sizeof(what), "L2 cluster: l1_index=%u l1_entry=", i);
		if (check_copied(x, what, &s->l1[i], &repaired) && repaired && !qc_write_l1_entry(x->n, i)) {
			x->c->corruptions--;
			x->c->corruptions_fixed++;
		}
		ret = check_l2_flags(x, s->l1[i] & L1_OFFSET);
	}
	return ret;
}

static int check_locked(struct node *n, struct node_check *c, unsigned fix)
{
	struct qcow2 *s = qc(n);
	struct qc_scan x = { .n = n, .c = c, .fix = fix };
	struct node_check table = { 0 };
	int ret = qc_cache_write(n, &s->l2c);

	if (!ret)
		ret = qc_cache_write(n, &s->rbc);
	/* Who opened the image to use it has read it already. */
	if (!ret && n->flags & NODE_CHECK)
		ret = qc_check_read_snapshots(n, &table, fix);
	if (ret)
		goto out;
	c->total_clusters = (n->size + s->cluster - 1) >> s->bits;
	if (!ret)
		ret = refer_all(&x);
	if (ret == -EFBIG || ret == -ENOMEM) {
		c->check_errors++;
		goto out;
	}
	if (!ret)
		ret = settle(&x);
	x.sound = !ret && !c->corruptions && !c->leaks && !c->check_errors;
	if (!ret)
		ret = check_flags(&x);
	/* What is cached may be older than what was repaired. */
	qc_cache_forget(&s->l2c, 0, UINT64_MAX);
	if (!ret)
		ret = qc_check_write_snapshots(n, &table, fix);
	c->corruptions += table.corruptions;
	c->corruptions_fixed += table.corruptions_fixed;
	c->check_errors += table.check_errors;
	if (fix && !ret)
		ret = qc_cache_write(n, &s->rbc);
	if (fix && !ret)
		ret = node_flush(n->file);
	if (fix && !ret && !c->corruptions && !c->check_errors && s->incompat & QCOW2_INCOMPAT_CORRUPT) {
		s->incompat &= ~QCOW2_INCOMPAT_CORRUPT;
		ret = qc_update_header(n);
	}
out:
	free(x.refs.at);
	return ret;
}

int qc_check(struct node *n, struct node_check *c, unsigned fix)
{
	struct qcow2 *s = qc(n);
	int ret;

	co_lock(&s->lock);
	ret = check_locked(n, c, fix);
	if (!ret && fix && !c->check_errors && !c->corruptions && s->incompat & QCOW2_INCOMPAT_DIRTY)
		ret = qc_mark_clean(n);
	co_unlock(&s->lock);
	return ret;
}
