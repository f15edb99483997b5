/* Internal snapshots of qcow2 images: copies of the L1 table, which share everything below by reference counts. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_bitmap.h"
#include "block/qcow2_header.h"

#define FIXED	  40u /* bytes of an entry before the extra data */
#define EXTRA	  24u /* what we know of that: size of the state, of the disk, icount */
#define EXTRA_MAX 1024u

/* --- the table --- */

static void free_one(struct qc_snapshot *sn)
{
	free(sn->s.id);
	free(sn->s.name);
	free(sn->extra);
	*sn = (struct qc_snapshot){ 0 };
}

void qc_snapshots_free(struct qcow2 *s)
{
	for (uint32_t i = 0; s->snaps && i < s->snap_count; i++)
		free_one(&s->snaps[i]);
	free(s->snaps);
	s->snaps = NULL;
}

/* `number` in the table. With `mend`, what is too much of it is left out, and counted there. */
static int read_one(struct node *n, uint64_t *at, uint32_t number, struct qc_mend *mend, struct err *err)
{
	struct qc_snapshot *sn = &qc(n)->snaps[number];
	uint8_t h[FIXED], extra[EXTRA] = { 0 };
	uint32_t id_len, name_len, extra_len;
	int ret = node_read(n->file, *at, h, sizeof(h));

	if (ret)
		return ret;
	id_len = ld_be16(h + 12);
	name_len = ld_be16(h + 14);
	extra_len = ld_be32(h + 36);
	sn->l1_offset = ld_be64(h);
	sn->l1_size = ld_be32(h + 8);
	sn->s.date_sec = ld_be32(h + 16);
	sn->s.date_ns = ld_be32(h + 20);
	sn->s.vm_clock_ns = ld_be64(h + 24);
	sn->s.vm_state_size = ld_be32(h + 32);
	sn->s.disk_size = n->size;
	sn->stored_extra = extra_len;
	sn->stored_bytes = FIXED + (extra_len < EXTRA_MAX ? extra_len : EXTRA_MAX) + id_len + name_len;
	if (extra_len > EXTRA_MAX && !mend) {
		err_set(err,
			"Too much extra metadata in snapshot table entry %u\nYou can force-remove this extra metadata "
			"with qemu-img check -r all\n",
			number);
		return -EFBIG;
	}
	*at += FIXED;
	ret = node_read(n->file, *at, extra, extra_len < EXTRA ? extra_len : EXTRA);
	if (extra_len >= 8)
		sn->s.vm_state_size = ld_be64(extra);
	if (extra_len >= 16)
		sn->s.disk_size = ld_be64(extra + 8);
	if (extra_len >= 24) {
		sn->s.icount = ld_be64(extra + 16);
		sn->s.has_icount = sn->s.icount != UINT64_MAX;
	}
	if (extra_len > EXTRA_MAX) {
		fprintf(stderr, "Discarding too much extra metadata in snapshot table entry %u (%u > %u)\n", number,
			extra_len, EXTRA_MAX);
		mend->cut++;
	}
	if (!ret && extra_len > EXTRA) {
		sn->extra_len = (extra_len < EXTRA_MAX ? extra_len : EXTRA_MAX) - EXTRA;
		sn->extra = malloc(sn->extra_len);
		ret = sn->extra ? node_read(n->file, *at + EXTRA, sn->extra, sn->extra_len) : -ENOMEM;
	}
	*at += extra_len;
	sn->s.id = calloc(1, id_len + 1);
	sn->s.name = calloc(1, name_len + 1);
	if (!ret && (!sn->s.id || !sn->s.name))
		ret = -ENOMEM;
	if (!ret && id_len)
		ret = node_read(n->file, *at, sn->s.id, id_len);
	if (!ret && name_len)
		ret = node_read(n->file, *at + id_len, sn->s.name, name_len);
	*at += id_len + name_len;
	return ret;
}

int qc_snapshots_read(struct node *n, struct qc_mend *mend, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t at = s->snap_offset, before, end, bytes = 0;
	uint32_t count = s->snap_count;
	int ret = 0;

	s->snap_bytes = 0;
	s->snaps = calloc(count ? count : 1, sizeof(*s->snaps));
	if (!s->snaps)
		return err_errno(err, ENOMEM, "Failed to read snapshot table"), -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		before = at;
		at = align_up(at, 8);
		err->msg[0] = 0;
		ret = read_one(n, &at, i, mend, err);
		if (ret) {
			if (!err->msg[0])
				err_errno(err, -ret, "Failed to read snapshot table");
			return ret;
		}
		bytes = align_up(bytes, 8) + s->snaps[i].stored_bytes;
		if (bytes <= QCOW2_MAX_SNAP_TABLE && at - s->snap_offset <= INT_MAX)
			continue;
		if (!mend) {
			err_set(err,
				"Snapshot table is too big\nYou can force-remove all %u overhanging snapshots with "
				"qemu-img "
				"check -r all\n",
				count - i);
			return -EFBIG;
		}
		fprintf(stderr, "Discarding %u overhanging snapshots (snapshot table is too big)\n", count - i);
		mend->left_out += count - i;
		free_one(&s->snaps[i]);
		s->snap_count = i;
		at = before;
		break;
	}
	/* The new table may lie where this one would go on behind the end of the file. */
	end = align_up(n->file->size, s->cluster);
	if (mend && at >= n->file->size + s->cluster)
		at = end > s->snap_offset ? end : s->snap_offset;
	s->snap_bytes = at - s->snap_offset;
	return 0;
}

static uint64_t entry_bytes(const struct qc_snapshot *sn)
{
	return align_up(FIXED + EXTRA + sn->extra_len + strlen(sn->s.id) + strlen(sn->s.name), 8);
}

static void put_one(uint8_t *p, const struct qc_snapshot *sn)
{
	size_t id = strlen(sn->s.id), name = strlen(sn->s.name);

	st_be64(p, sn->l1_offset);
	st_be32(p + 8, sn->l1_size);
	st_be16(p + 12, (uint16_t)id);
	st_be16(p + 14, (uint16_t)name);
	st_be32(p + 16, (uint32_t)sn->s.date_sec);
	st_be32(p + 20, sn->s.date_ns);
	st_be64(p + 24, sn->s.vm_clock_ns);
	st_be32(p + 32, sn->s.vm_state_size > UINT32_MAX ? 0 : (uint32_t)sn->s.vm_state_size);
	st_be32(p + 36, EXTRA + sn->extra_len);
	st_be64(p + FIXED, sn->s.vm_state_size);
	st_be64(p + FIXED + 8, sn->s.disk_size);
	st_be64(p + FIXED + 16, sn->s.has_icount ? sn->s.icount : UINT64_MAX);
	p += FIXED + EXTRA;
	if (sn->extra_len)
		memcpy(p, sn->extra, sn->extra_len);
	memcpy(p + sn->extra_len, sn->s.id, id);
	memcpy(p + sn->extra_len + id, sn->s.name, name);
}

/* Write a new table, let the header name it, and free the old one. */
int qc_snapshots_write(struct node *n)
{
	struct qcow2 *s = qc(n);
	uint64_t bytes = 0, old = s->snap_offset, old_bytes = s->snap_bytes, at = 0;
	uint8_t *table = NULL, h[12];
	int64_t offset = 0;
	int ret;

	for (uint32_t i = 0; i < s->snap_count; i++)
		bytes += entry_bytes(&s->snaps[i]);
	if (bytes > QCOW2_MAX_SNAP_TABLE)
		return -EFBIG;
	if (bytes) {
		offset = qc_alloc(n, (bytes + s->cluster - 1) >> s->bits);
		if (offset < 0)
			return (int)offset;
		table = calloc(1, bytes);
		ret = table ? 0 : -ENOMEM;
		for (uint32_t i = 0; i < s->snap_count && !ret; at += entry_bytes(&s->snaps[i++]))
			put_one(table + at, &s->snaps[i]);
		if (!ret)
			ret = node_write(n->file, (uint64_t)offset, table, bytes);
		free(table);
		if (ret)
			goto undo;
	}
	/* Everything that it names first: counts, tables, copies. */
	ret = qc_flush(n);
	st_be32(h, s->snap_count);
	st_be64(h + 4, (uint64_t)offset);
	if (!ret)
		ret = node_write(n->file, QH_SNAPSHOTS, h, sizeof(h));
	if (!ret)
		ret = node_flush(n->file);
	if (ret)
		goto undo;
	s->snap_offset = (uint64_t)offset;
	s->snap_bytes = bytes;
	if (old_bytes) {
		qc_meta_del(s, old, old_bytes);
		qc_free(n, old, old_bytes, QC_DISCARD_SNAPSHOT);
	}
	return qc_meta_add(s, s->snap_offset, bytes, META_SNAP_TABLE);
undo:
	if (bytes)
		qc_free(n, (uint64_t)offset, bytes, QC_DISCARD_NEVER);
	return ret;
}

/* --- counts --- */

/* One entry of an L2 table: the new count, and whether COPIED has to change. */
static int count_entry(struct node *n, struct qc_entry *e, unsigned i, int64_t delta)
{
	struct qcow2 *s = qc(n);
	uint64_t entry = qc_l2_entry(s, e, i), count, changed;
	int ret = 0;

	if (entry & L2_COMPRESSED) {
		uint64_t offset;
		uint32_t bytes;

		qc_compressed_place(s, entry, &offset, &bytes);
		return delta ? qc_refcount_add(n, offset, bytes, delta, QC_DISCARD_SNAPSHOT) : 0;
	}
	if (!(entry & L2_OFFSET))
		return 0;
	if (entry & L2_OFFSET & (s->cluster - 1)) {
		qc_corrupt(n, true, "Cluster allocation offset %#llx unaligned (L2 offset: %#llx, L2 index: %#x)",
			   (unsigned long long)(entry & L2_OFFSET), (unsigned long long)e->offset, i);
		return -EIO;
	}
	if (delta)
		ret = qc_refcount_add(n, entry & L2_OFFSET, s->cluster, delta, QC_DISCARD_SNAPSHOT);
	if (!ret)
		ret = qc_refcount(n, (entry & L2_OFFSET) >> s->bits, &count);
	if (ret)
		return ret;
	changed = (entry & ~L2_COPIED) | (count == 1 ? L2_COPIED : 0);
	if (changed != entry) {
		qc_l2_set(s, e, i, changed, qc_l2_bitmap(s, e, i));
		qc_cache_dirty(&s->l2c, e);
		if (delta > 0)
			ret = qc_cache_depend(n, &s->l2c, &s->rbc);
	}
	return ret;
}

static int count_table(struct node *n, uint64_t table, int64_t delta)
{
	struct qcow2 *s = qc(n);
	int ret = 0;

	if (table & (s->cluster - 1)) {
		qc_corrupt(n, true, "L2 table offset %#llx unaligned", (unsigned long long)table);
		return -EIO;
	}
	for (uint64_t at = 0; at < s->cluster && !ret; at += s->l2c.bytes) {
		struct qc_entry *e;

		ret = qc_trim(n);
		if (!ret)
			ret = qc_cache_get(n, &s->l2c, table + at, true, &e);
		if (ret)
			break;
		for (unsigned i = 0; i < 1u << s->slice_bits && !ret; i++)
			ret = count_entry(n, e, i, delta);
		qc_cache_put(&s->l2c, e);
	}
	return ret;
}

int qc_snapshot_refcounts(struct node *n, uint64_t l1_offset, uint32_t l1_size, int64_t delta)
{
	struct qcow2 *s = qc(n);
	bool active = l1_offset == s->l1_offset, changed = false;
	uint8_t *l1 = malloc(l1_size ? 8ull * l1_size : 1);
	int ret = l1 ? 0 : -ENOMEM;

	if (!ret && l1_size)
		ret = node_read(n->file, l1_offset, l1, 8ull * l1_size);
	for (uint32_t i = 0; i < l1_size && !ret; i++) {
		uint64_t old = ld_be64(l1 + 8 * i), table = old & L1_OFFSET, count, now;

		if (!table)
			continue;
		ret = count_table(n, table, delta);
		if (!ret && delta)
			ret = qc_refcount_add(n, table, s->cluster, delta, QC_DISCARD_SNAPSHOT);
		if (!ret)
			ret = qc_refcount(n, table >> s->bits, &count);
		if (ret)
			break;
		now = table | (count == 1 ? L2_COPIED : 0);
		if (now != old) {
			st_be64(l1 + 8 * i, now);
			changed = true;
			if (active)
				s->l1[i] = now;
		}
	}
	/*
	 * A table that is going away needs no flags. No order with the counts is needed: flags that are missing make
	 * writes copy, and those that are there too early are of tables that nothing else names on stable storage.
	 */
	if (!ret && delta >= 0 && changed)
		ret = node_write(n->file, l1_offset, l1, 8ull * l1_size);
	free(l1);
	return ret;
}

/*
 * Counts and the COPIED flags of many tables change together, which a loss of power can part. The image is marked as
 * dirty meanwhile, so that whoever opens it next makes them agree. Version 2 has no such mark.
 */
static int begin_change(struct node *n)
{
	return qc(n)->version < 3 ? 0 : qc_mark_dirty(n);
}

static int end_change(struct node *n, int ret)
{
	struct qcow2 *s = qc(n);

	if (ret && s->version >= 3)
		s->stay_dirty = true;
	return ret || s->lazy ? ret : qc_mark_clean(n);
}

/* --- what people ask for --- */

int qc_snapshot_list(struct node *n, struct node_snapshot **out, unsigned *count)
{
	struct qcow2 *s = qc(n);

	*count = s->snap_count;
	*out = calloc(s->snap_count ? s->snap_count : 1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->snap_count; i++)
		(*out)[i] = s->snaps[i].s; /* the names stay the node's */
	return 0;
}

static struct qc_snapshot *find(struct qcow2 *s, const char *which)
{
	for (uint32_t i = 0; i < s->snap_count; i++)
		if (!strcmp(s->snaps[i].s.id, which))
			return &s->snaps[i];
	for (uint32_t i = 0; i < s->snap_count; i++)
		if (!strcmp(s->snaps[i].s.name, which))
			return &s->snaps[i];
	return NULL;
}

int qc_snapshot_check(struct node *n, const struct qc_snapshot *sn, struct err *err)
{
	const struct qc_table t = { sn->l1_offset, sn->l1_size, 8, QCOW2_MAX_L1, "Snapshot L1 table" };

	return qc_validate_table(qc(n), &t, err);
}

static char *new_id(const struct qcow2 *s)
{
	unsigned long most = 0;
	char *id;

	for (uint32_t i = 0; i < s->snap_count; i++) {
		unsigned long v = strtoul(s->snaps[i].s.id, NULL, 10);

		if (v > most)
			most = v;
	}
	return asprintf(&id, "%lu", most + 1) < 0 ? NULL : id;
}

/* Copy the active L1 table. */
static int copy_l1(struct node *n, struct qc_snapshot *sn)
{
	struct qcow2 *s = qc(n);
	uint8_t *be = calloc(s->l1_size ? s->l1_size : 1, 8);
	int64_t at = be ? qc_alloc(n, s->l1_size ? (8ull * s->l1_size + s->cluster - 1) >> s->bits : 1) : -ENOMEM;
	int ret = at < 0 ? (int)at : 0;

	for (uint32_t i = 0; i < s->l1_size && !ret; i++)
		st_be64(be + 8 * i, s->l1[i] & ~L2_COPIED);
	if (!ret)
		ret = node_write(n->file, (uint64_t)at, be, 8ull * s->l1_size);
	free(be);
	sn->l1_offset = (uint64_t)at;
	sn->l1_size = s->l1_size;
	return ret;
}

static int create(struct node *n, struct node_snapshot *given)
{
	struct qcow2 *s = qc(n);
	struct qc_snapshot sn = { .s = *given }, *more;
	int ret;

	if (s->snap_count >= QCOW2_MAX_SNAPSHOTS)
		return -EFBIG;
	if (s->external)
		return -ENOTSUP;
	sn.s.id = new_id(s);
	sn.s.name = strdup(given->name);
	sn.s.disk_size = n->size;
	more = realloc(s->snaps, (s->snap_count + 1) * sizeof(*more));
	if (more)
		s->snaps = more;
	ret = more && sn.s.id && sn.s.name ? copy_l1(n, &sn) : -ENOMEM;
	if (!ret)
		ret = qc_snapshot_refcounts(n, s->l1_offset, s->l1_size, 1);
	if (ret) {
		free(sn.s.id);
		free(sn.s.name);
		return ret;
	}
	s->snaps[s->snap_count++] = sn;
	ret = qc_snapshots_write(n);
	if (ret) {
		s->snap_count--;
		free(sn.s.id);
		free(sn.s.name);
		return ret;
	}
	return qc_meta_add(s, sn.l1_offset, 8ull * sn.l1_size, META_INACTIVE_L1);
}

int qc_snapshot_create(struct node *n, struct node_snapshot *given, struct err *err)
{
	int ret;

	co_lock(&qc(n)->lock);
	ret = begin_change(n);
	if (!ret)
		ret = end_change(n, create(n, given));
	co_unlock(&qc(n)->lock);
	return ret;
}

/* `what` failed, when something did. */
static int delete_one(struct node *n, struct qc_snapshot *sn, const char **what)
{
	struct qcow2 *s = qc(n);
	struct qc_snapshot gone = *sn;
	uint32_t i = (uint32_t)(sn - s->snaps);
	int ret;

	memmove(sn, sn + 1, (s->snap_count - i - 1) * sizeof(*sn));
	s->snap_count--;
	ret = qc_snapshots_write(n);
	if (ret) {
		memmove(s->snaps + i + 1, s->snaps + i, (s->snap_count - i) * sizeof(*sn));
		s->snaps[i] = gone;
		s->snap_count++;
		return ret;
	}
	/* From here on a failure is a leak. */
	*what = "free the cluster and L1 table";
	qc_meta_del(s, gone.l1_offset, 8ull * gone.l1_size);
	ret = qc_snapshot_refcounts(n, gone.l1_offset, gone.l1_size, -1);
	qc_free(n, gone.l1_offset, gone.l1_size ? 8ull * gone.l1_size : 1, QC_DISCARD_SNAPSHOT);
	if (!ret)
		ret = qc_snapshot_refcounts(n, s->l1_offset, s->l1_size, 0);
	free(gone.s.id);
	free(gone.s.name);
	free(gone.extra);
	return ret;
}

int qc_snapshot_delete(struct node *n, const char *which, struct err *err)
{
	const char *what = "remove snapshot from snapshot list";
	struct qc_snapshot *sn = find(qc(n), which);
	int ret;

	if (!sn) {
		err_set(err, "Can't find the snapshot");
		return -ENOENT;
	}
	ret = qc_snapshot_check(n, sn, err);
	if (ret)
		return ret;
	co_lock(&qc(n)->lock);
	ret = begin_change(n);
	if (!ret)
		ret = end_change(n, delete_one(n, sn, &what));
	co_unlock(&qc(n)->lock);
	if (ret)
		err_errno(err, -ret, "Failed to %s", what);
	return ret;
}

static int apply(struct node *n, struct qc_snapshot *sn, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t *old = NULL;
	uint8_t *l1 = NULL, *be = NULL;
	uint32_t old_size = s->l1_size;
	int64_t keep = -1;
	int ret = 0;

	if (sn->l1_size > s->l1_size)
		ret = qc_grow_l1(n, sn->l1_size, true);
	old_size = s->l1_size;
	l1 = calloc(old_size ? old_size : 1, 8);
	be = calloc(old_size ? old_size : 1, 8);
	if (!ret && (!l1 || !be))
		ret = -ENOMEM;
	if (!ret && sn->l1_size)
		ret = node_read(n->file, sn->l1_offset, l1, 8ull * sn->l1_size);
	/* The old table stays somewhere until what it names is counted down. */
	if (!ret)
		ret = (keep = qc_alloc(n, (8ull * old_size + s->cluster) >> s->bits)) < 0 ? (int)keep : 0;
	for (uint32_t i = 0; i < old_size && !ret; i++)
		st_be64(be + 8 * i, s->l1[i]);
	if (!ret)
		ret = node_write(n->file, (uint64_t)keep, be, 8ull * old_size);
	if (!ret)
		ret = qc_snapshot_refcounts(n, sn->l1_offset, sn->l1_size, 1);
	if (!ret)
		ret = qc_flush(n);
	if (ret)
		goto out;
	for (uint32_t i = 0; i < old_size; i++) {
		uint64_t now = ld_be64(l1 + 8 * i) & L1_OFFSET;

		st_be64(l1 + 8 * i, now);
		if (s->l1[i] & L1_OFFSET)
			qc_meta_del(s, s->l1[i] & L1_OFFSET, s->cluster);
		s->l1[i] = now;
	}
	for (uint32_t i = 0; i < old_size && !ret; i++)
		if (s->l1[i] & L1_OFFSET)
			ret = qc_meta_add(s, s->l1[i] & L1_OFFSET, s->cluster, META_ACTIVE_L2);
	if (!ret)
		ret = node_write(n->file, s->l1_offset, l1, 8ull * old_size);
	if (!ret)
		ret = node_flush(n->file);
	if (!ret)
		ret = qc_snapshot_refcounts(n, (uint64_t)keep, old_size, -1);
	if (!ret)
		ret = qc_snapshot_refcounts(n, s->l1_offset, s->l1_size, 0);
out:
	if (keep > 0)
		qc_free(n, (uint64_t)keep, 8ull * old_size + 1, QC_DISCARD_NEVER);
	if (!ret)
		ret = qc_flush(n);
	free(l1);
	free(be);
	free(old);
	return ret;
}

int qc_snapshot_apply(struct node *n, const char *which, struct err *err)
{
	struct qcow2 *s = qc(n);
	struct qc_snapshot *sn = find(s, which);
	const struct node_resize how = { .size = sn ? sn->s.disk_size : 0, .exact = true };
	int ret;

	if (!sn) {
		err_set(err, "Can't find the snapshot");
		return -ENOENT;
	}
	if (s->external)
		return -ENOTSUP;
	ret = qc_snapshot_check(n, sn, err);
	if (ret)
		return ret;
	if (sn->s.disk_size != n->size) {
		ret = node_truncate(n, &how, err);
		if (ret)
			return ret;
	}
	co_lock(&s->lock);
	ret = s->bitmaps.n ? qc_bitmaps_begin(n, false) : 0;
	qc_bitmaps_mark(n, 0, n->size); /* all may be another thing */
	if (!ret)
		ret = begin_change(n);
	if (!ret)
		ret = end_change(n, apply(n, sn, err));
	co_unlock(&s->lock);
	return ret;
}

int qc_snapshot_load(struct node *n, const char *which, struct err *err)
{
	struct qcow2 *s = qc(n);
	struct qc_snapshot *sn = find(s, which);
	uint64_t *l1;
	int ret;

	if (!sn) {
		err_set(err, "Can't find snapshot");
		return -ENOENT;
	}
	if (!node_readonly(n))
		return -EINVAL;
	ret = qc_snapshot_check(n, sn, err);
	if (ret)
		return ret;
	l1 = calloc(sn->l1_size ? sn->l1_size : 1, 8);
	ret = !l1 ? -ENOMEM : sn->l1_size ? node_read(n->file, sn->l1_offset, l1, 8ull * sn->l1_size) : 0;
	if (ret) {
		free(l1);
		err_errno(err, -ret, "Failed to read l1 table for snapshot");
		return ret;
	}
	for (uint32_t i = 0; i < sn->l1_size; i++)
		l1[i] = be64toh(l1[i]);
	free(s->l1);
	s->l1 = l1;
	s->l1_size = sn->l1_size;
	n->size = sn->s.disk_size;
	return 0;
}
