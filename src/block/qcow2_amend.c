/*
 * Changing what an image was created with: its version, the width of its counts, and smaller things. What an older
 * version does not know is turned into what it knows first, and the header that says so is written last.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_check.h"
#include "block/qcow2_crypt.h"

/* As QEMU shows them. */
const struct node_create_option qc_amend_options[] = {
	LUKS_AMEND_OPTIONS("encrypt."),
	QC_AMENDABLE_OPTIONS,
	{ NULL },
};

struct amend {
	unsigned version;
	uint64_t size, bits; /* size 0: as it is */
	bool lazy, data_raw, encrypt;
	const char *backing, *backing_format, *data_file;
};

/* --- the width of counts --- */

/* The counts that the image has now. */
static int count_as_is(struct node *n, unsigned order, struct qc_refs *r, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t clusters = (n->file->size + s->cluster - 1) >> s->bits, count;
	uint64_t max = order >= 5 ? UINT32_MAX : (1ull << (1u << order)) - 1;
	int ret = qc_refs_reserve(r, clusters);

	for (uint64_t k = 0; k < clusters && !ret; k++) {
		if (k >> s->rb_bits >= s->rt_size || !(s->rt[k >> s->rb_bits] & RT_OFFSET)) {
			k |= (1ull << s->rb_bits) - 1; /* a part without a block */
			continue;
		}
		ret = qc_refcount(n, k, &count);
		if (!ret && count > max) {
			err_set(err,
				"Cannot decrease refcount entry width to %u bits: Cluster at offset %#llx has a "
				"refcount of %llu",
				1u << order, (unsigned long long)(k << s->bits), (unsigned long long)count);
			return -EINVAL;
		}
		r->at[k] = (uint32_t)count;
	}
	if (ret)
		err_errno(err, -ret, "Failed to read the refcounts");
	return ret;
}

static int change_order(struct node *n, unsigned order, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t *old = calloc(s->rt_size ? s->rt_size : 1, 8), old_table = s->rt_offset;
	uint64_t old_entries = s->rt_size, old_bytes = (uint64_t)s->rt_clusters << s->bits;
	struct qc_refs r = { 0 };
	int ret = old ? 0 : -ENOMEM;

	if (ret) {
		err_errno(err, ENOMEM, "Failed to change the refcount width");
		return ret;
	}
	memcpy(old, s->rt, s->rt_size * 8ull);
	ret = qc_flush(n);
	if (ret)
		err_errno(err, -ret, "Failed to flush the refblock cache");
	if (!ret)
		ret = count_as_is(n, order, &r, err);
	if (!ret)
		ret = qc_rebuild(n, &r, order, err);
	for (uint64_t i = 0; i < old_entries && !ret; i++)
		if (old[i] & RT_OFFSET)
			qc_free(n, old[i] & RT_OFFSET, s->cluster, QC_DISCARD_NEVER);
	if (!ret)
		qc_free(n, old_table, old_bytes, QC_DISCARD_NEVER);
	free(old);
	free(r.at);
	return ret;
}

/* --- versions --- */

/* Version 2 knows no zero clusters: one entry of an L2 table that as many L1 tables share as `shared` says. */
static int expand_entry(struct node *n, uint8_t *p, uint64_t shared, const uint8_t *zeroes)
{
	struct qcow2 *s = qc(n);
	uint64_t entry = ld_be64(p), host = entry & L2_OFFSET, count = 0;
	int64_t at;
	int ret = 0;

	if (entry & L2_COMPRESSED || !(entry & L2_ZERO))
		return 0;
	if (host & (s->cluster - 1)) {
		qc_corrupt(n, true, "Cluster allocation offset %#llx unaligned", (unsigned long long)host);
		return -EIO;
	}
	if (host)
		ret = qc_refcount(n, host >> s->bits, &count);
	if (ret)
		return ret;
	if (host && count != shared) {
		/* Others have it as data. */
		qc_free(n, host, s->cluster, QC_DISCARD_NEVER);
		host = 0;
	}
	if (!host && !n->backing && !n->backing_name) {
		st_be64(p, 0);
		return 1;
	}
	if (!host) {
		at = qc_alloc(n, 1);
		if (at < 0)
			return (int)at;
		host = (uint64_t)at;
		if (shared > 1)
			ret = qc_refcount_add(n, host, s->cluster, (int64_t)shared - 1, QC_DISCARD_NEVER);
	}
	if (!ret)
		ret = qc_check_overlap(n, host, s->cluster, META_NONE);
	if (!ret)
		ret = node_write(n->file, host, zeroes, s->cluster);
	st_be64(p, host | (shared == 1 ? L2_COPIED : 0));
	return ret ? ret : 1;
}

static int expand_table(struct node *n, uint64_t table, const uint8_t *zeroes)
{
	struct qcow2 *s = qc(n);
	uint8_t *l2 = malloc(s->cluster);
	uint64_t shared;
	bool changed = false;
	int ret = l2 ? node_read(n->file, table, l2, s->cluster) : -ENOMEM;

	if (!ret)
		ret = qc_refcount(n, table >> s->bits, &shared);
	for (uint64_t i = 0; i < 1ull << s->l2_bits && ret >= 0; i++) {
		ret = expand_entry(n, l2 + 8 * i, shared, zeroes);
		changed |= ret > 0;
	}
	if (ret >= 0 && changed) {
		/* Counts and data, then the table that relies on them. */
		ret = qc_flush(n);
		if (!ret)
			ret = qc_check_overlap(n, table, s->cluster, META_ACTIVE_L2);
		if (!ret)
			ret = node_write(n->file, table, l2, s->cluster);
	}
	free(l2);
	return ret < 0 ? ret : 0;
}

/* What is needed on the way through all tables. */
struct expansion {
	uint8_t *zeroes; /* a cluster */
	uint64_t done, entries;
};

static int expand_l1(struct node *n, uint64_t offset, uint32_t entries, struct expansion *x)
{
	struct qcow2 *s = qc(n);
	uint8_t *l1 = malloc(8ull * entries + 1);
	int ret = !l1 ? -ENOMEM : entries ? node_read(n->file, offset, l1, 8ull * entries) : 0;

	for (uint32_t i = 0; i < entries && !ret; i++) {
		uint64_t table = ld_be64(l1 + 8ull * i) & L1_OFFSET;

		if (table & (s->cluster - 1)) {
			qc_corrupt(n, true, "L2 table offset %#llx unaligned (L1 index: %#x)",
				   (unsigned long long)table, i);
			ret = -EIO;
		} else if (table) {
			ret = expand_table(n, table, x->zeroes);
		}
		if (!ret && n->ctx->progress)
			n->ctx->progress(n->ctx->progress_opaque, (double)++x->done / (double)x->entries);
	}
	free(l1);
	return ret;
}

static int expand_zeroes(struct node *n, struct err *why)
{
	struct qcow2 *s = qc(n);
	struct expansion x = { .zeroes = calloc(1, s->cluster), .entries = s->l1_size };
	int ret = x.zeroes ? qc_flush(n) : -ENOMEM;

	for (uint32_t i = 0; i < s->snap_count; i++)
		x.entries += s->snaps[i].l1_size;
	if (!ret)
		ret = expand_l1(n, s->l1_offset, s->l1_size, &x);
	for (uint32_t i = 0; i < s->snap_count && !ret; i++) {
		ret = qc_snapshot_check(n, &s->snaps[i], why);
		if (!ret)
			ret = expand_l1(n, s->snaps[i].l1_offset, s->snaps[i].l1_size, &x);
	}
	free(x.zeroes);
	qc_cache_forget(&s->l2c, 0, UINT64_MAX);
	return ret ? ret : qc_flush(n);
}

static int has_compressed(struct node *n, bool *has)
{
	uint64_t at = 0;
	struct qc_map m;
	int ret = 0;

	for (*has = false; at < n->size && !*has && !ret; at += m.bytes) {
		ret = qc_map(n, at, n->size - at, true, &m);
		*has = !ret && m.type == QC_COMPRESSED;
	}
	return ret;
}

static const char *prevents_downgrade(const struct node *n)
{
	const struct qcow2 *s = n->state;

	if (s->order != 4)
		return "compat=0.10 requires refcount_bits=16";
	if (s->external)
		return "Cannot downgrade an image with a data file";
	if (s->bitmaps.n)
		return "Cannot downgrade an image with bitmaps";
	for (uint32_t i = 0; i < s->snap_count; i++)
		if (s->snaps[i].s.vm_state_size > UINT32_MAX || s->snaps[i].s.disk_size != n->size)
			return "Internal snapshots prevent downgrade of image";
	return NULL;
}

static int downgrade(struct node *n, struct err *err)
{
	struct qcow2 *s = qc(n);
	const char *why = prevents_downgrade(n);
	bool compressed = false;
	int ret;

	if (why) {
		err_set(err, "%s", why);
		return -ENOTSUP;
	}
	ret = qc_mark_clean(n);
	if (ret) {
		err_errno(err, -ret, "Failed to make the image clean");
		return ret;
	}
	if (s->incompat & ~QCOW2_INCOMPAT_COMPRESSION) {
		err_set(err, "Cannot downgrade an image with incompatible features 0x%llx set",
			(unsigned long long)(s->incompat & ~QCOW2_INCOMPAT_COMPRESSION));
		return -ENOTSUP;
	}
	ret = expand_zeroes(n, err);
	if (ret) {
		err_errno(err, -ret, "Failed to turn zero into data clusters");
		return ret;
	}
	if (s->incompat & QCOW2_INCOMPAT_COMPRESSION) {
		ret = has_compressed(n, &compressed);
		if (ret || compressed) {
			err_set(err, "%s",
				ret ? "Failed to check block status"
				    : "Cannot downgrade an image with zstd compression type and existing compressed "
				      "clusters");
			return ret ? ret : -ENOTSUP;
		}
	}
	s->incompat = s->compat = s->autoclear = 0;
	s->compression = 0;
	s->lazy = false;
	s->version = 2;
	ret = qc_update_header(n);
	if (ret) {
		s->version = 3;
		err_errno(err, -ret, "Failed to update the image header");
	}
	return ret;
}

static int upgrade(struct node *n, struct err *err)
{
	struct qcow2 *s = qc(n);
	int ret = s->snap_count ? qc_snapshots_write(n) : 0;

	if (ret) {
		err_errno(err, -ret, "Failed to update the snapshot table");
		return ret;
	}
	s->version = 3;
	ret = qc_update_header(n);
	if (ret) {
		s->version = 2;
		err_errno(err, -ret, "Failed to update the image header");
	}
	return ret;
}

/* --- the command --- */

static int read_wishes(struct node *n, struct opts *o, struct amend *a, struct err *err)
{
	struct qcow2 *s = qc(n);
	const char *compat = opts_take(o, "compat");

	*a = (struct amend){ .version = s->version, .lazy = s->compat & QCOW2_COMPAT_LAZY };
	if (compat && (!strcmp(compat, "0.10") || !strcmp(compat, "v2")))
		a->version = 2;
	else if (compat && (!strcmp(compat, "1.1") || !strcmp(compat, "v3")))
		a->version = 3;
	else if (compat)
		return err_set(err, "Unknown compatibility level %s", compat);
	if (opts_size(o, "size", 0, &a->size, err) || opts_number(o, "refcount_bits", 1u << s->order, &a->bits, err) ||
	    opts_bool(o, "lazy_refcounts", a->lazy, &a->lazy, err) ||
	    opts_bool(o, "data_file_raw", s->external_raw, &a->data_raw, err))
		return -1;
	a->encrypt = opts_has(o, "encrypt");
	a->backing = opts_take(o, "backing_file");
	a->backing_format = opts_take(o, "backing_fmt");
	a->data_file = opts_take(o, "data_file");
	if (!is_pow2(a->bits) || a->bits > 64)
		return err_set(err, "Refcount width must be a power of two and may not exceed 64 bits");
	if (a->data_file && !s->external)
		return err_set(err, "data-file can only be set for images that use an external data file");
	if (a->data_raw && !s->external_raw)
		return err_set(err, "data-file-raw cannot be set on existing images");
	return 0;
}

/* What stands in the header only. */
static int change_header(struct node *n, const struct amend *a, struct err *err)
{
	struct qcow2 *s = qc(n);
	int ret;

	if (s->external) {
		s->external_raw = a->data_raw;
		s->autoclear = a->data_raw ? s->autoclear | QCOW2_AUTOCLEAR_DATA_RAW
					   : s->autoclear & ~QCOW2_AUTOCLEAR_DATA_RAW;
	}
	if (a->data_file) {
		free(s->data_file_name);
		s->data_file_name = *a->data_file ? strdup(a->data_file) : NULL;
	}
	ret = qc_update_header(n);
	if (ret)
		err_errno(err, -ret, "Failed to update the image header");
	return ret;
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static int change_lazy(struct node *n, const struct amend *a, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t before = s->compat;
	int ret;

	if (a->lazy == !!(s->compat & QCOW2_COMPAT_LAZY))
		return 0;
	if (a->lazy && a->version < 3) {
		err_set(err, "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or "
			     "greater)");
		return -EINVAL;
	}
	ret = a->lazy ? 0 : qc_mark_clean(n);
	if (ret) {
		err_errno(err, -ret, "Failed to make the image clean");
		return ret;
	}
	s->compat ^= QCOW2_COMPAT_LAZY;
	s->lazy = a->lazy;
	ret = qc_update_header(n);
	if (ret) {
		s->compat = before;
		err_errno(err, -ret, "Failed to update the image header");
	}
	return ret;
}

static int change_bits(struct node *n, const struct amend *a, struct err *err)
{
	unsigned order = (unsigned)__builtin_ctzll(a->bits);

	if (order == qc(n)->order)
		return 0;
	if (a->version < 3 && order != 4) {
		err_set(err, "Refcount widths other than 16 bits require compatibility level 1.1 or above (use "
			     "compat=1.1 or "
			     "greater)");
		return -EINVAL;
	}
	return change_order(n, order, err);
}

/* All that needs the lock. */
static int change(struct node *n, const struct amend *a, struct err *err)
{
	struct qcow2 *s = qc(n);
	int ret = 0;

	if (a->version > s->version)
		ret = upgrade(n, err);
	if (!ret)
		ret = change_bits(n, a, err);
	if (!ret)
		ret = change_header(n, a, err);
	if (!ret && ((a->backing && !same(a->backing, n->backing_name)) ||
		     (a->backing_format && !same(a->backing_format, n->backing_format)))) {
		err_set(err, "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.\n");
		ret = -EINVAL;
	}
	return ret ? ret : change_lazy(n, a, err);
}

int qc_amend(struct node *n, struct opts *o, bool force, struct err *err)
{
	struct qcow2 *s = qc(n);
	struct amend a;
	int ret = read_wishes(n, o, &a, err) ? -EINVAL : 0;

	if (ret)
		return ret;
	if (a.encrypt && qc_crypt_amend(n, o, force, err))
		return -EINVAL;
	co_lock(&s->lock);
	ret = change(n, &a, err);
	co_unlock(&s->lock);
	if (!ret && a.size) {
		const struct node_resize how = { .size = a.size, .exact = true };

		ret = node_truncate(n, &how, err);
	}
	if (ret || a.version >= s->version)
		return ret;
	co_lock(&s->lock);
	ret = downgrade(n, err);
	co_unlock(&s->lock);
	return ret;
}
