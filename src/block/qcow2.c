/* The qcow2 driver: opening and closing, and the small calls. */
#include "block/qcow2.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/qcow2_bitmap.h"
#include "block/qcow2_crypt.h"
#include "block/qcow2_header.h"

#define L2_CACHE_BYTES (32u << 20)
#define L2_SLICE_BYTES (16u << 10)
#define RB_CACHE_MIN   16u
#define L2_CACHE_MIN   4u

int qc_validate_table(const struct qcow2 *s, const struct qc_table *t, struct err *err)
{
	if (t->entries > t->most / t->bytes) {
		err_set(err, "%s too large", t->name);
		return -EFBIG;
	}
	if (t->offset & (s->cluster - 1) || t->offset > INT64_MAX - t->entries * t->bytes ||
	    (t->entries && !t->offset)) {
		err_set(err, "%s offset invalid", t->name);
		return -EINVAL;
	}
	return 0;
}

/* --- opening --- */

static void set_geometry(struct node *n)
{
	struct qcow2 *s = qc(n);
	unsigned slice;

	s->extended = s->incompat & QCOW2_INCOMPAT_EXTL2;
	s->entry_bytes = s->extended ? 16 : 8;
	s->l2_bits = s->bits - (s->extended ? 4 : 3);
	s->sub_bits = s->extended ? s->bits - 5 : s->bits;
	s->rb_bits = s->bits + 3 - s->order;
	slice = s->cluster < L2_SLICE_BYTES ? (unsigned)s->cluster : L2_SLICE_BYTES;
	s->slice_bits = (unsigned)__builtin_ctz(slice / s->entry_bytes);
	s->l2c = (struct qc_cache){ .bytes = slice, .max = L2_CACHE_BYTES / slice, .type = META_ACTIVE_L2 };
	s->rbc = (struct qc_cache){ .bytes = s->cluster, .type = META_REFBLOCK };
	s->rbc.max = (unsigned)((4u << 20) / s->cluster);
	if (s->rbc.max < RB_CACHE_MIN)
		s->rbc.max = RB_CACHE_MIN;
	s->freed_min = UINT64_MAX;
	s->free_hint = 1;
}

/* A table of big-endian 64-bit entries. */
static int read_table(struct node *n, uint64_t offset, uint64_t entries, uint64_t **out)
{
	uint64_t *t = calloc(entries ? entries : 1, 8);
	int ret = 0;

	if (!t)
		return -ENOMEM;
	if (entries)
		ret = node_read(n->file, offset, t, entries * 8);
	for (uint64_t i = 0; i < entries; i++)
		t[i] = be64toh(t[i]);
	*out = t;
	return ret;
}

static int read_tables(struct node *n, const uint8_t *h, struct err *err)
{
	struct qcow2 *s = qc(n);
	struct qc_table rt = { ld_be64(h + QH_RT), ld_be32(h + QH_RT_CLUSTERS), s->cluster, QCOW2_MAX_REFTABLE,
			       "Reference count table" };
	struct qc_table sn = QC_SNAPSHOT_TABLE(h, "Snapshot table");
	struct qc_table l1 = { ld_be64(h + QH_L1), ld_be32(h + QH_L1_SIZE), 8, QCOW2_MAX_L1, "Active L1 table" };
	uint64_t per_l1 = s->cluster << s->l2_bits, need;
	int ret;

	if (!rt.entries && !(n->flags & NODE_CHECK))
		return err_set(err, "Image does not contain a reference count table");
	/* Who checks an image reads this one by himself. */
	if (n->flags & NODE_CHECK)
		sn.offset = sn.entries = 0;
	if (qc_validate_table(s, &rt, err) || qc_validate_table(s, &sn, err) || qc_validate_table(s, &l1, err))
		return -1;
	need = n->size / per_l1 + (n->size % per_l1 != 0);
	if (need > INT32_MAX)
		return err_set(err, "Image is too big");
	if (l1.entries < need)
		return err_set(err, "L1 table is too small");
	s->rt_offset = rt.offset;
	s->rt_clusters = (uint32_t)rt.entries;
	s->rt_size = (uint32_t)(rt.entries * s->cluster / 8);
	s->l1_offset = l1.offset;
	s->l1_size = (uint32_t)l1.entries;
	s->snap_offset = sn.offset;
	s->snap_count = (uint32_t)sn.entries;
	ret = read_table(n, s->l1_offset, s->l1_size, &s->l1);
	if (ret)
		return err_errno(err, -ret, "Could not read L1 table");
	if (s->rt_size)
		node_event(n->file, EVENT_REFTABLE_LOAD);
	ret = read_table(n, s->rt_offset, s->rt_size, &s->rt);
	if (ret)
		return err_errno(err, -ret, "Could not initialize refcount handling");
	return qc_snapshots_read(n, NULL, err) ? -1 : 0;
}

/* The set of clusters with metadata, made anew. */
int qc_meta_all(struct node *n)
{
	struct qcow2 *s = qc(n);
	int ret;

	free(s->meta.at);
	s->meta = (struct qc_metaset){ 0 };
	ret = qc_meta_add(s, 0, s->cluster, META_HEADER);
	ret |= qc_meta_add(s, s->l1_offset, 8ull * s->l1_size, META_ACTIVE_L1);
	ret |= qc_meta_add(s, s->rt_offset, (uint64_t)s->rt_clusters << s->bits, META_REFTABLE);
	for (uint32_t i = 0; i < s->l1_size && !ret; i++)
		if (s->l1[i] & L1_OFFSET)
			ret = qc_meta_add(s, s->l1[i] & L1_OFFSET, s->cluster, META_ACTIVE_L2);
	for (uint32_t i = 0; i < s->rt_size && !ret; i++)
		if (s->rt[i] & RT_OFFSET)
			ret = qc_meta_add(s, s->rt[i] & RT_OFFSET, s->cluster, META_REFBLOCK);
	ret |= qc_meta_add(s, s->snap_offset, s->snap_bytes, META_SNAP_TABLE);
	for (uint32_t i = 0; i < s->snap_count && !ret; i++)
		if (s->snaps[i].l1_size <= QCOW2_MAX_L1 / 8)
			ret = qc_meta_add(s, s->snaps[i].l1_offset, 8ull * s->snaps[i].l1_size, META_INACTIVE_L1);
	if (s->bitmap_count)
		ret |= qc_meta_add(s, s->bitmap_dir, s->bitmap_dir_bytes, META_BITMAPS);
	return ret ? -ENOMEM : 0;
}

static int note_metadata(struct node *n, struct err *err)
{
	return qc_meta_all(n) ? err_errno(err, ENOMEM, "Could not open image") : 0;
}

/*
 * A tool looks for a relative name in the working directory, where creation has made it and QEMU looks too, and then
 * beside the image. A machine does not depend on where it was started.
 */
static char *data_path(const struct node *n, const char *name, struct err *err)
{
	char *beside = node_resolve(n, name, err), *here;

	if (!beside || n->ctx->open_path || n->ctx->follow != NODE_FOLLOW_ANY ||
	    (access(name, F_OK) && !access(beside, F_OK)))
		return beside;
	here = strdup(name);
	free(beside);
	return here;
}

static int open_data_file(struct node *n, struct opts *o, struct err *err)
{
	struct qcow2 *s = qc(n);
	struct opts *sub = opts_take_sub(o, "data-file");
	const char *dummy;
	bool given = opts_at(sub, 0, &dummy, &dummy);
	char *path = NULL;
	int ret = -1;

	s->data = n->file;
	if (!(s->incompat & QCOW2_INCOMPAT_DATA_FILE)) {
		if (given)
			err_set(err, "'data-file' can only be set for images with an external data file");
		else if (s->autoclear & QCOW2_AUTOCLEAR_DATA_RAW && !(n->flags & NODE_NO_IO))
			err_set(err, "data-file-raw requires a data file");
		else
			ret = 0;
		goto out;
	}
	if (n->flags & NODE_NO_IO) {
		s->external = true;
		s->external_raw = s->autoclear & QCOW2_AUTOCLEAR_DATA_RAW;
		ret = 0;
		goto out;
	}
	if (!given && !s->data_file_name) {
		err_set(err, "'data-file' is required for this image");
		goto out;
	}
	if (!given) {
		path = data_path(n, s->data_file_name, err);
		if (!path || node_may_follow(n, s->data_file_name, path, err))
			goto out;
	}
	n->data_file = node_open(n->ctx, path, sub, (n->flags & ~NODE_CHECK & ~NODE_RAW_GUESSED) | NODE_PROTOCOL, err);
	if (!n->data_file)
		goto out;
	n->data_file->parent = n;
	s->data = n->data_file;
	s->external = true;
	s->external_raw = s->autoclear & QCOW2_AUTOCLEAR_DATA_RAW;
	ret = 0;
out:
	free(path);
	opts_free(sub);
	return ret;
}

static void forget(struct node *n)
{
	struct qcow2 *s = qc(n);

	qc_cache_free(&s->l2c);
	qc_cache_free(&s->rbc);
	qc_snapshots_free(s);
	qc_bitmaps_free(s);
	qc_crypt_free(s);
	while (s->unknown) {
		struct qc_extension *x = s->unknown;

		s->unknown = x->next;
		free(x->data);
		free(x);
	}
	free(s->l1);
	free(s->rt);
	free(s->discards);
	free(s->meta.at);
	free(s->unknown_fields);
	free(s->feature_names);
	free(s->data_file_name);
}

static unsigned cache_entries(uint64_t size, unsigned bytes, unsigned least)
{
	uint64_t n = size / bytes;

	return n < least ? least : n > INT_MAX ? INT_MAX : (unsigned)n;
}

/* How much memory tables may take; how large their parts are is ours to choose. */
static int take_cache_sizes(struct node *n, struct opts *o, struct err *err)
{
	struct qcow2 *s = qc(n);
	bool has_both = opts_get(o, "cache-size"), has_l2 = opts_get(o, "l2-cache-size"),
	     has_rb = opts_get(o, "refcount-cache-size");
	uint64_t both, l2, rb, part, interval;

	if (opts_size(o, "cache-size", 0, &both, err) || opts_size(o, "l2-cache-size", 0, &l2, err) ||
	    opts_size(o, "refcount-cache-size", 0, &rb, err) ||
	    opts_size(o, "l2-cache-entry-size", s->cluster, &part, err) ||
	    opts_size(o, "cache-clean-interval", 0, &interval, err))
		return -1;
	if (has_both && has_l2 && has_rb)
		return err_set(err,
			       "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time");
	if (has_both && l2 > both)
		return err_set(err, "l2-cache-size may not exceed cache-size");
	if (has_both && rb > both)
		return err_set(err, "refcount-cache-size may not exceed cache-size");
	if (part < 512 || part > s->cluster || !is_pow2(part))
		return err_set(err, "L2 cache entry size must be a power of two between %d and the cluster size (%d)",
			       512, (int)s->cluster);
	if (has_both && !has_l2) {
		uint64_t least = RB_CACHE_MIN * s->cluster;

		rb = has_rb ? rb : both < least ? both : least;
		l2 = both - rb;
	} else if (has_both) {
		rb = both - l2;
	}
	if (has_both || has_l2)
		s->l2c.max = cache_entries(l2, s->l2c.bytes, L2_CACHE_MIN);
	if (has_both || has_rb)
		s->rbc.max = cache_entries(rb, s->rbc.bytes, RB_CACHE_MIN);
	return 0;
}

/* Every write is checked, whatever is asked for. */
static int take_overlap_check(struct opts *o, const char *key, struct err *err)
{
	static const char *const words[] = { "none", "constant", "cached", "all" };
	const char *text = opts_take(o, key);

	for (size_t i = 0; text && i < ARRAY_LEN(words); i++)
		if (!strcmp(text, words[i]))
			return 0;
	return text ? err_set(err,
			      "Unsupported value '%s' for qcow2 option 'overlap-check'. Allowed are any of the "
			      "following: "
			      "none, constant, cached, all",
			      text)
		    : 0;
}

/* What the command line of QEMU may say besides, about checks that are ours to choose. */
static int take_options(struct node *n, struct opts *o, struct err *err)
{
	static const char *const others[] = { "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
					      "discard-no-unref" };
	struct qcow2 *s = qc(n);
	bool ignored;

	if (take_cache_sizes(n, o, err))
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (opts_bool(o, others[i], false, &ignored, err))
			return -1;
	if (take_overlap_check(o, "overlap-check", err) || take_overlap_check(o, "overlap-check.template", err))
		return -1;
	opts_free(opts_take_sub(o, "overlap-check"));
	if (opts_bool(o, "lazy-refcounts", s->compat & QCOW2_COMPAT_LAZY, &s->lazy, err))
		return -1;
	if (s->lazy && s->version < 3)
		return err_set(err, "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level");
	s->lazy = s->lazy && !node_readonly(n);
	return 0;
}

/* Things that a writer does first: unknown autoclear bits go, and counts that were left behind are made good. */
static int prepare_writing(struct node *n, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t known = (s->external ? QCOW2_AUTOCLEAR_DATA_RAW : 0) | (s->bitmap_count ? QCOW2_AUTOCLEAR_BITMAPS : 0);
	struct node_check c = { 0 };
	int ret;

	if (node_readonly(n))
		return 0;
	if (s->autoclear & ~known) {
		s->autoclear &= known;
		ret = qc_update_header(n);
		if (ret)
			return err_errno(err, -ret, "Could not update qcow2 header");
	}
	if (s->incompat & QCOW2_INCOMPAT_DIRTY && !(n->flags & NODE_CHECK)) {
		ret = qc_check(n, &c, CHECK_FIX_LEAKS | CHECK_FIX_ERRORS);
		if (ret || c.check_errors)
			return err_errno(err, ret ? -ret : EIO, "Could not repair dirty image");
		ret = qc_mark_clean(n);
		if (ret)
			return err_errno(err, -ret, "Could not repair dirty image");
	}
	return 0;
}

/* An image that is checked may have damaged ones. */
static int open_bitmaps(struct node *n, struct err *err)
{
	if (!qc_bitmaps_open(n, err))
		return 0;
	if (!(n->flags & NODE_CHECK))
		return -1;
	fprintf(stderr, "ERROR %s\n", err->msg);
	qc_bitmaps_free(qc(n));
	return 0;
}

static int qcow2_open(struct node *n, struct opts *o, struct err *err)
{
	uint8_t *h = NULL;
	int ret = qc_read_header(n, &h, err);

	if (!ret) {
		n->size = ld_be64(h + QH_SIZE);
		set_geometry(n);
		if (n->size > INT64_MAX)
			ret = err_set(err, "Image is too big");
	}
	if (ret || read_tables(n, h, err) || open_bitmaps(n, err) || note_metadata(n, err) ||
	    open_data_file(n, o, err) || qc_crypt_open(n, o, err) || take_options(n, o, err) ||
	    prepare_writing(n, err)) {
		forget(n);
		ret = -1;
	}
	free(h);
	return ret;
}

/* What is left in memory, at the end; there is nobody to tell but the user. */
static void write_back(struct node *n)
{
	struct qcow2 *s = qc(n);
	const struct {
		struct qc_cache *cache;
		const char *what;
	} caches[] = { { &s->l2c, "L2 table" }, { &s->rbc, "refcount block" } };
	int ret, failed = 0;

	for (size_t i = 0; i < ARRAY_LEN(caches); i++) {
		ret = qc_cache_write(n, caches[i].cache);
		if (!ret)
			ret = node_flush(n->file);
		if (ret)
			fprintf(stderr, "%s: Failed to flush the %s cache: %s\n", program_invocation_short_name,
				caches[i].what, strerror(-ret));
		failed |= ret;
	}
	if (!failed) {
		ret = qc_bitmaps_store(n);
		if (ret)
			fprintf(stderr, "%s: Lost persistent bitmaps of %s: %s\n", program_invocation_short_name,
				n->filename, strerror(-ret));
	}
	if (!failed && s->incompat & QCOW2_INCOMPAT_DIRTY)
		failed = qc_mark_clean(n);
	if (!failed)
		qc_discard_freed(n);
}

/* Not all who read images take what lies behind the end of the file for zeroes. */
static void complete_last_cluster(struct node *n)
{
	struct qcow2 *s = qc(n);
	const struct node_resize how = { .size = align_up(s->data->size, s->cluster) };
	struct err err;

	if (s->ragged && !s->external && how.size != s->data->size)
		node_truncate(s->data, &how, &err);
}

static void qcow2_close(struct node *n)
{
	struct qcow2 *s = qc(n);

	if (!node_readonly(n) && !(s->incompat & QCOW2_INCOMPAT_CORRUPT)) {
		co_lock(&s->lock);
		write_back(n);
		complete_last_cluster(n);
		co_unlock(&s->lock);
	}
	forget(n);
}

/* --- small calls --- */

/* A file may be said to be of any length: more counts than these (of 256 GiB of 64 KiB) are not looked at. */
#define PREALLOCATED_LOOK (1ull << 22)

/* True when far more clusters are counted than the file has blocks: they were preallocated, and are holes. */
static bool is_preallocated(struct node *n)
{
	struct qcow2 *s = qc(n);
	uint64_t stored = node_allocated(n->file), real = stored >> s->bits,
		 most = real + (real / 9 > 2 ? real / 9 : 2);
	uint64_t counted = 0, count, looked = 0, clusters = (n->file->size + s->cluster - 1) >> s->bits;

	if (stored == NODE_UNKNOWN)
		return false;
	if (s->preallocated)
		return s->preallocated > 0;
	/* The table ends before the file, perhaps. */
	if (clusters > (uint64_t)s->rt_size << s->rb_bits)
		clusters = (uint64_t)s->rt_size << s->rb_bits;
	for (uint64_t k = 0; k < clusters && counted < most && looked < PREALLOCATED_LOOK; k++) {
		if (!(s->rt[k >> s->rb_bits] & RT_OFFSET)) {
			k |= (1ull << s->rb_bits) - 1; /* a part without a block */
			continue;
		}
		looked++;
		if (!qc_refcount(n, k, &count))
			counted += count != 0;
	}
	s->preallocated = counted >= most ? 1 : -1;
	return s->preallocated > 0;
}

static int qcow2_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e)
{
	struct qc_map m;
	int ret = qc_map(n, offset, bytes, true, &m);

	if (ret)
		return ret;
	*e = (struct node_extent){ .bytes = m.bytes };
	e->allocated = m.type != QC_UNALLOCATED && m.type != QC_UNALLOCATED_ALLOC;
	e->zero = m.type == QC_ZERO || m.type == QC_ZERO_ALLOC;
	e->data = m.type == QC_NORMAL || m.type == QC_COMPRESSED;
	e->compressed = m.type == QC_COMPRESSED;
	if (!qc(n)->crypt && (m.type == QC_NORMAL || m.type == QC_ZERO_ALLOC || m.type == QC_UNALLOCATED_ALLOC)) {
		e->has_offset = true;
		e->offset = m.host;
		e->file = qc(n)->data;
		e->look_below = e->data && is_preallocated(n);
	}
	return 0;
}

static int qcow2_info(struct node *n, struct node_info *i)
{
	struct qcow2 *s = qc(n);

	i->cluster_size = s->cluster;
	i->dirty = s->incompat & QCOW2_INCOMPAT_DIRTY;
	i->encrypted = s->crypt;
	i->vm_state_offset = align_up(n->size, s->cluster << s->l2_bits);
	return 0;
}

static json_t *bitmaps_json(const struct qcow2 *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->bitmaps.n; i++) {
		const struct qc_bitmap *b = &s->bitmaps.at[i];
		json_t *flags = json_array();

		if (b->flags & BM_IN_USE)
			json_array_append_new(flags, json_string("in-use"));
		if (b->flags & BM_AUTO)
			json_array_append_new(flags, json_string("auto"));
		json_array_append_new(list, json_pack("{s:o, s:s, s:I}", "flags", flags, "name", b->name, "granularity",
						      (json_int_t)1 << b->granularity));
	}
	return list;
}

static json_t *qcow2_specifics(struct node *n)
{
	struct qcow2 *s = qc(n);
	json_t *o = json_object();

	if (s->version < 3) {
		json_object_set_new(o, "compat", json_string("0.10"));
		json_object_set_new(o, "compression-type", json_string("zlib"));
		json_object_set_new(o, "refcount-bits", json_integer(16));
		if (s->crypt)
			json_object_set_new(o, "encrypt", qc_crypt_json(s));
		return o;
	}
	json_object_set_new(o, "compat", json_string("1.1"));
	json_object_set_new(o, "compression-type", json_string(s->compression ? "zstd" : "zlib"));
	json_object_set_new(o, "lazy-refcounts", json_boolean(s->compat & QCOW2_COMPAT_LAZY));
	json_object_set_new(o, "refcount-bits", json_integer(1 << s->order));
	if (s->data_file_name)
		json_object_set_new(o, "data-file", json_string(s->data_file_name));
	if (s->external)
		json_object_set_new(o, "data-file-raw", json_boolean(s->external_raw));
	if (s->bitmaps.n)
		json_object_set_new(o, "bitmaps", bitmaps_json(s));
	json_object_set_new(o, "corrupt", json_boolean(s->incompat & QCOW2_INCOMPAT_CORRUPT));
	json_object_set_new(o, "extended-l2", json_boolean(s->extended));
	if (s->crypt)
		json_object_set_new(o, "encrypt", qc_crypt_json(s));
	return o;
}

static int qcow2_change_backing(struct node *n, const char *file, const char *format, struct err *err)
{
	char *name = file && *file ? strdup(file) : NULL, *fmt = format && *format ? strdup(format) : NULL;
	char *old_name = n->backing_name, *old_format = n->backing_format;
	int ret;

	if (qc(n)->external_raw && name) {
		free(name);
		free(fmt);
		return -EINVAL;
	}
	if (name && strlen(name) > QCOW2_MAX_BACKING) {
		free(name);
		free(fmt);
		return -EINVAL;
	}
	n->backing_name = name;
	n->backing_format = fmt;
	ret = qc_update_header(n);
	if (ret) {
		n->backing_name = old_name;
		n->backing_format = old_format;
		old_name = name;
		old_format = fmt;
	}
	free(old_name);
	free(old_format);
	return ret;
}

/* The state of a machine lies behind the disk, as data of the image. */
static int qcow2_vmstate(struct node *n, bool write, uint64_t offset, void *buf, uint64_t bytes)
{
	struct qcow2 *s = qc(n);
	uint64_t first = align_up(n->size, s->cluster << s->l2_bits);
	struct iovec v = { buf, bytes };

	if (offset > INT64_MAX - first || bytes > INT64_MAX - first - offset)
		return -EFBIG;
	if (write && node_readonly(n))
		return -EPERM;
	node_event(n->file, write ? EVENT_VMSTATE_SAVE : EVENT_VMSTATE_LOAD);
	return write ? qc_write(n, first + offset, bytes, &v, 1) : qc_read(n, first + offset, bytes, &v, 1);
}

const struct node_driver node_qcow2 = {
	.name = "qcow2",
	.state_size = sizeof(struct qcow2),
	.has_backing = true,
	.compresses = true,
	.create_options = qc_create_options,
	.amend_options = qc_amend_options,
	.open = qcow2_open,
	.close = qcow2_close,
	.submit = qc_submit,
	.create = qc_create,
	.check_create = qc_check_create,
	.truncate = qc_truncate,
	.status = qcow2_status,
	.info = qcow2_info,
	.specifics = qcow2_specifics,
	.check = qc_check,
	.change_backing = qcow2_change_backing,
	.amend = qc_amend,
	.bitmaps = &qc_bitmap_ops,
	.make_empty = qc_make_empty,
	.snapshot_list = qc_snapshot_list,
	.snapshot_create = qc_snapshot_create,
	.snapshot_apply = qc_snapshot_apply,
	.snapshot_delete = qc_snapshot_delete,
	.snapshot_load = qc_snapshot_load,
	.vmstate = qcow2_vmstate,
};
