/*
 * Persistent dirty bitmaps in the file. The directory is read and checked when the image is opened, bits when they are
 * needed. Before the first change the file says of each that it is in use; when the image is closed, new tables and a
 * new directory are written, the header names it, and only then are the old ones free: whoever is killed in between
 * leaves bitmaps that are known to be inconsistent, never ones that are wrong.
 */
#include "block/qcow2_bitmap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define ENTRY	       24u /* bytes of one in the directory before extra data and name */
#define TABLE_RESERVED 0xff000000000001feull
#define TABLE_OFFSET   0x00fffffffffffe00ull
#define TABLE_ALL_ONES 1ull
#define RESERVED_FLAGS 0xfffffff8u

uint64_t qc_bitmap_bits(uint64_t size, unsigned granularity)
{
	return (size >> granularity) + ((size & ((1ull << granularity) - 1)) != 0);
}

static uint64_t data_bytes(const struct qc_bitmap *b)
{
	return (b->n + 7) / 8;
}

static uint64_t clusters_for(const struct qcow2 *s, uint64_t bytes)
{
	return (bytes + s->cluster - 1) >> s->bits;
}

static void free_one(struct qc_bitmap *b)
{
	free(b->name);
	free(b->extra);
	free(b->bits);
}

void qc_bitmaps_free(struct qcow2 *s)
{
	struct qc_bitmaps *m = &s->bitmaps;

	for (unsigned i = 0; i < m->n; i++)
		free_one(&m->at[i]);
	for (unsigned i = 0; i < m->n_gone; i++)
		free_one(&m->gone[i]);
	free(m->at);
	free(m->gone);
	*m = (struct qc_bitmaps){ 0 };
}

/* --- the directory --- */

/* An entry from its bytes; its length, or 0 when it is none. */
static uint64_t parse(struct node *n, const uint8_t *p, uint64_t room, struct qc_bitmap *b)
{
	struct qcow2 *s = qc(n);
	uint64_t len, need;
	uint32_t name_len;

	if (room < ENTRY)
		return 0;
	b->table = ld_be64(p);
	b->entries = ld_be32(p + 8);
	b->flags = ld_be32(p + 12);
	b->granularity = p[17];
	name_len = ld_be16(p + 18);
	b->extra_len = ld_be32(p + 20);
	len = align_up(ENTRY + (uint64_t)b->extra_len + name_len, 8);
	if (len > room || p[16] != 1 || !name_len || name_len > BM_NAME_MAX || b->flags & RESERVED_FLAGS ||
	    b->granularity < BM_MIN_BITS || b->granularity > BM_MAX_BITS || !b->table || b->table > INT64_MAX ||
	    b->table & (s->cluster - 1))
		return 0;
	if (memchr(p + ENTRY + b->extra_len, 0, name_len))
		return 0;
	b->n = qc_bitmap_bits(n->size, b->granularity);
	need = clusters_for(s, data_bytes(b));
	b->inconsistent = b->flags & BM_IN_USE || (b->extra_len && !(b->flags & BM_EXTRA_COMPATIBLE));
	/* One of another size was not saved with the disk. */
	b->inconsistent |= b->entries != need;
	b->enabled = b->flags & BM_AUTO;
	b->name = strndup((const char *)p + ENTRY + b->extra_len, name_len);
	if (b->extra_len) {
		b->extra = malloc(b->extra_len);
		if (b->extra)
			memcpy(b->extra, p + ENTRY, b->extra_len);
	}
	return b->name && (b->extra || !b->extra_len) ? len : 0;
}

static struct qc_bitmap *find(struct qcow2 *s, const char *name)
{
	for (unsigned i = 0; i < s->bitmaps.n; i++)
		if (!strcmp(s->bitmaps.at[i].name, name))
			return &s->bitmaps.at[i];
	return NULL;
}

static int read_directory(struct node *n, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint8_t *dir = malloc(s->bitmap_dir_bytes);
	uint64_t at = 0, all = 0;
	int ret = dir ? node_read(n->file, s->bitmap_dir, dir, s->bitmap_dir_bytes) : -ENOMEM;

	s->bitmaps.at = calloc(s->bitmap_count, sizeof(*s->bitmaps.at));
	if (ret || !s->bitmaps.at) {
		err_errno(err, ret ? -ret : ENOMEM, "Could not read bitmap directory");
		free(dir);
		return -1;
	}
	while (s->bitmaps.n < s->bitmap_count) {
		struct qc_bitmap *b = &s->bitmaps.at[s->bitmaps.n], *other;
		uint64_t len = parse(n, dir + at, s->bitmap_dir_bytes - at, b);

		other = len ? find(s, b->name) : NULL;
		all += (uint64_t)b->entries << s->bits;
		if (!len || other || all > BM_ALL_MAX + BM_COUNT_MAX * s->cluster) {
			free_one(b);
			free(dir);
			return err_set(err, "bitmaps_ext: entry %u of the bitmap directory is %s", s->bitmaps.n,
				       !len    ? "not one"
				       : other ? "of the same name as another"
					       : "one of too large bitmaps");
		}
		s->bitmaps.n++;
		at += len;
	}
	free(dir);
	return at == s->bitmap_dir_bytes ? 0 : err_set(err, "bitmaps_ext: the bitmap directory has other entries too");
}

int qc_bitmaps_open(struct node *n, struct err *err)
{
	struct qcow2 *s = qc(n);

	if (!s->bitmap_count)
		return 0;
	if (s->version < 3 || !(s->autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
		fprintf(stderr,
			"%s: warning: a program lacking bitmap support modified this file, so all bitmaps are now "
			"considered inconsistent\nSome clusters may be leaked, run 'qemu-img check -r' on the image "
			"file to fix.\n",
			program_invocation_short_name);
		s->bitmap_count = 0;
		s->bitmap_dir = s->bitmap_dir_bytes = 0;
		return 0;
	}
	if (s->bitmap_count > BM_COUNT_MAX)
		return err_set(err, "bitmaps_ext: image has %u bitmaps, exceeding the QEMU supported maximum of %u",
			       s->bitmap_count, BM_COUNT_MAX);
	return read_directory(n, err);
}

static uint64_t entry_bytes(const struct qc_bitmap *b)
{
	return align_up(ENTRY + (uint64_t)b->extra_len + strlen(b->name), 8);
}

static void put_entry(uint8_t *p, const struct qc_bitmap *b)
{
	st_be64(p, b->table);
	st_be32(p + 8, b->entries);
	st_be32(p + 12, b->flags);
	p[16] = 1;
	p[17] = (uint8_t)b->granularity;
	st_be16(p + 18, (uint16_t)strlen(b->name));
	st_be32(p + 20, b->extra_len);
	if (b->extra_len)
		memcpy(p + ENTRY, b->extra, b->extra_len);
	memcpy(p + ENTRY + b->extra_len, b->name, strlen(b->name));
}

/* All of it; *bytes 0 and NULL when there is none. */
static uint8_t *whole_directory(struct qcow2 *s, uint64_t *bytes)
{
	uint8_t *dir;
	uint64_t at = 0;

	*bytes = 0;
	for (unsigned i = 0; i < s->bitmaps.n; i++)
		*bytes += entry_bytes(&s->bitmaps.at[i]);
	dir = *bytes ? calloc(1, *bytes) : NULL;
	for (unsigned i = 0; dir && i < s->bitmaps.n; at += entry_bytes(&s->bitmaps.at[i++]))
		put_entry(dir + at, &s->bitmaps.at[i]);
	return dir;
}

/* --- bits --- */

/* The table, host order; each entry is checked. Caller frees. */
static int read_table(struct node *n, const struct qc_bitmap *b, uint64_t **out)
{
	struct qcow2 *s = qc(n);
	uint64_t *t = malloc(8ull * b->entries + 8);
	int ret = !t ? -ENOMEM : b->entries ? node_read(n->file, b->table, t, 8ull * b->entries) : 0;

	for (uint32_t i = 0; i < b->entries && !ret; i++) {
		t[i] = be64toh(t[i]);
		if (t[i] & TABLE_RESERVED || t[i] & TABLE_OFFSET & (s->cluster - 1) ||
		    (t[i] & TABLE_OFFSET && t[i] & TABLE_ALL_ONES))
			ret = -EINVAL;
	}
	*out = t;
	return ret;
}

int qc_bitmap_load(struct node *n, struct qc_bitmap *b)
{
	struct qcow2 *s = qc(n);
	uint64_t bytes = data_bytes(b), all = 0, *t = NULL;
	int ret;

	if (b->bits)
		return 0;
	for (unsigned i = 0; i < s->bitmaps.n; i++)
		all += s->bitmaps.at[i].bits ? data_bytes(&s->bitmaps.at[i]) : 0;
	if (bytes > BM_BYTES_MAX || bytes + all > BM_ALL_MAX)
		return -ENOMEM;
	b->bits = calloc(1, bytes + 1); /* untouched pages cost nothing */
	ret = b->bits ? 0 : -ENOMEM;
	if (!ret && b->table)
		ret = read_table(n, b, &t);
	for (uint32_t i = 0; i < b->entries && b->table && !ret; i++) {
		uint64_t at = (uint64_t)i << s->bits, len = bytes - at < s->cluster ? bytes - at : s->cluster;

		if (t[i] & TABLE_OFFSET)
			ret = node_read(n->file, t[i] & TABLE_OFFSET, b->bits + at, len);
		else if (t[i] & TABLE_ALL_ONES)
			memset(b->bits + at, 0xff, len);
	}
	/* Bits behind the end are nobody's. */
	if (!ret && b->n % 8)
		b->bits[b->n / 8] &= (uint8_t)((1u << b->n % 8) - 1);
	free(t);
	if (ret) {
		free(b->bits);
		b->bits = NULL;
	}
	return ret;
}

static bool all_are(const uint8_t *p, uint64_t n, uint8_t v)
{
	return p[0] == v && !memcmp(p, p + 1, n - 1);
}

/* One cluster of bits; its entry of the table. */
static int write_part(struct node *n, const uint8_t *bits, uint64_t len, bool last, uint64_t *entry)
{
	struct qcow2 *s = qc(n);
	uint8_t *whole;
	int64_t at;
	int ret;

	if (all_are(bits, len, 0) || (!last && all_are(bits, len, 0xff))) {
		*entry = bits[0] ? TABLE_ALL_ONES : 0;
		return 0;
	}
	at = qc_alloc(n, 1);
	if (at < 0)
		return (int)at;
	*entry = (uint64_t)at;
	whole = calloc(1, s->cluster);
	if (!whole)
		return -ENOMEM;
	memcpy(whole, bits, len);
	ret = node_write(n->file, (uint64_t)at, whole, s->cluster);
	free(whole);
	return ret;
}

/* Free what a table names, and the table. */
static void free_data(struct node *n, const struct qc_bitmap *b)
{
	struct qcow2 *s = qc(n);
	uint64_t *t = NULL;

	if (!b->table)
		return;
	if (!read_table(n, b, &t))
		for (uint32_t i = 0; i < b->entries; i++)
			if (t[i] & TABLE_OFFSET)
				qc_free(n, t[i] & TABLE_OFFSET, s->cluster, QC_DISCARD_NEVER);
	free(t);
	if (b->entries)
		qc_free(n, b->table, 8ull * b->entries, QC_DISCARD_NEVER);
}

/* New data and a new table for one; what it had goes to *old. */
static int write_bitmap(struct node *n, struct qc_bitmap *b, struct qc_bitmap *old)
{
	struct qcow2 *s = qc(n);
	uint64_t bytes = data_bytes(b), entries = clusters_for(s, bytes), *t = calloc(entries + 1, 8);
	struct qc_bitmap made = { .entries = (uint32_t)entries };
	int64_t at = t ? qc_alloc(n, entries ? clusters_for(s, 8 * entries) : 1) : -ENOMEM;
	int ret = at < 0 ? (int)at : 0;

	for (uint64_t i = 0; i < entries && !ret; i++) {
		uint64_t from = i << s->bits, len = bytes - from < s->cluster ? bytes - from : s->cluster;

		ret = write_part(n, b->bits + from, len, i + 1 == entries, &t[i]);
		t[i] = htobe64(t[i]);
	}
	if (!ret && entries)
		ret = node_write(n->file, (uint64_t)at, t, 8 * entries);
	free(t);
	made.table = ret ? 0 : (uint64_t)at;
	if (ret)
		return ret; /* what was allocated is a leak */
	*old = *b;
	b->table = made.table;
	b->entries = made.entries;
	return 0;
}

/* --- in use and not --- */

static int write_all(struct node *n, struct qc_bitmap *old, unsigned *n_old)
{
	struct qcow2 *s = qc(n);
	int ret = 0;

	for (unsigned i = 0; i < s->bitmaps.n && !ret; i++) {
		struct qc_bitmap *b = &s->bitmaps.at[i];

		if (b->inconsistent)
			continue;
		if (b->bits && (b->changed || !b->table))
			ret = write_bitmap(n, b, &old[(*n_old)++]);
		if (ret)
			(*n_old)--;
		b->flags = (b->flags & ~(BM_IN_USE | BM_AUTO)) | (b->enabled ? BM_AUTO : 0);
	}
	return ret;
}

/* A new directory, which the header names then. */
static int write_directory(struct node *n)
{
	struct qcow2 *s = qc(n);
	uint64_t bytes;
	uint8_t *dir = whole_directory(s, &bytes);
	int64_t at = bytes && dir ? qc_alloc(n, clusters_for(s, bytes)) : 0;
	int ret = bytes && !dir ? -ENOMEM : at < 0 ? (int)at : 0;

	if (!ret && bytes)
		ret = node_write(n->file, (uint64_t)at, dir, bytes);
	free(dir);
	if (!ret)
		ret = qc_flush(n);
	if (ret)
		return ret;
	s->bitmap_dir = (uint64_t)at;
	s->bitmap_dir_bytes = bytes;
	s->bitmap_count = s->bitmaps.n;
	s->autoclear = s->bitmaps.n ? s->autoclear | QCOW2_AUTOCLEAR_BITMAPS : s->autoclear & ~QCOW2_AUTOCLEAR_BITMAPS;
	ret = qc_update_header(n);
	if (!ret)
		ret = node_flush(n->file);
	return ret ? ret : qc_meta_add(s, s->bitmap_dir, bytes, META_BITMAPS);
}

int qc_bitmaps_store(struct node *n)
{
	struct qcow2 *s = qc(n);
	struct qc_bitmaps *m = &s->bitmaps;
	uint64_t old_dir = s->bitmap_dir, old_bytes = s->bitmap_dir_bytes;
	struct qc_bitmap *old;
	unsigned n_old = 0;
	int ret;

	if (!m->tracking && !m->changed)
		return 0;
	old = calloc(m->n + 1, sizeof(*old));
	ret = old ? write_all(n, old, &n_old) : -ENOMEM;
	if (!ret)
		ret = write_directory(n);
	if (!ret) {
		for (unsigned i = 0; i < n_old; i++)
			free_data(n, &old[i]);
		for (unsigned i = 0; i < m->n_gone; i++)
			free_data(n, &m->gone[i]);
		if (old_bytes) {
			qc_meta_del(s, old_dir, old_bytes);
			qc_free(n, old_dir, old_bytes, QC_DISCARD_NEVER);
		}
		ret = qc_flush(n);
		m->changed = m->tracking = false;
	}
	free(old);
	return ret;
}

/* Whether the file has to say of it that it is in use. */
static bool will_change(const struct qc_bitmap *b, bool all)
{
	return !b->inconsistent && (b->enabled || all);
}

int qc_bitmaps_begin(struct node *n, bool all)
{
	struct qcow2 *s = qc(n);
	struct qc_bitmaps *m = &s->bitmaps;
	uint32_t *before;
	uint64_t bytes;
	uint8_t *dir = NULL;
	bool any = false;
	int ret = m->changed ? qc_bitmaps_store(n) : 0;

	for (unsigned i = 0; i < m->n && !ret; i++)
		if (will_change(&m->at[i], all))
			ret = qc_bitmap_load(n, &m->at[i]);
	if (ret)
		return ret;
	before = calloc(m->n + 1, sizeof(*before));
	for (unsigned i = 0; i < m->n && before; i++) {
		before[i] = m->at[i].flags;
		if (will_change(&m->at[i], all))
			m->at[i].flags |= BM_IN_USE;
		any |= m->at[i].flags != before[i];
	}
	if (any) {
		dir = whole_directory(s, &bytes);
		ret = dir ? node_write(n->file, s->bitmap_dir, dir, bytes) : -ENOMEM;
		free(dir);
		if (!ret)
			ret = node_flush(n->file);
	}
	/* Until the file says so, who comes next has to write it. */
	for (unsigned i = 0; i < m->n && before && ret; i++)
		m->at[i].flags = before[i];
	if (!before)
		ret = -ENOMEM;
	if (!ret)
		m->tracking = true;
	free(before);
	return ret;
}

/* --- check --- */

int qc_bitmaps_count(struct node *n, struct qc_scan *x, struct node_check *c)
{
	struct qcow2 *s = qc(n);
	int ret = s->bitmap_dir_bytes ? qc_scan_refer(x, s->bitmap_dir, s->bitmap_dir_bytes) : 0;

	if (s->bitmap_count && !s->bitmaps.n)
		c->corruptions++; /* the directory could not be read */
	for (unsigned i = 0; i < s->bitmaps.n && !ret; i++) {
		const struct qc_bitmap *b = &s->bitmaps.at[i];
		uint64_t *t = NULL;

		ret = qc_scan_refer(x, b->table, 8ull * b->entries);
		if (!ret && read_table(n, b, &t)) {
			fprintf(stderr, "ERROR bitmap '%s' has a damaged table\n", b->name);
			c->corruptions++;
		} else {
			for (uint32_t k = 0; k < b->entries && !ret; k++)
				if (t[k] & TABLE_OFFSET)
					ret = qc_scan_refer(x, t[k] & TABLE_OFFSET, s->cluster);
		}
		free(t);
	}
	return ret;
}
