/* Making qcow2 images, and changing their size. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_bitmap.h"
#include "block/qcow2_crypt.h"

/* In QEMU's order, in which they are shown. */
const struct node_create_option qc_create_options[] = {
	{ "encryption", 'b', "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)", NULL },
	{ "encrypt.format", 's', "Encrypt the image, format choices: 'aes', 'luks'", NULL },
	{ "encrypt.key-secret", 's', "ID of secret providing qcow AES key or LUKS passphrase", NULL },
	LUKS_CREATE_OPTIONS("encrypt."),
	{ "cluster_size", 'z', "qcow2 cluster size", "65536" },
	{ "extended_l2", 'b', "Extended L2 tables", "off" },
	{ "preallocation", 's', "Preallocation mode (allowed values: off, metadata, falloc, full)", NULL },
	{ "compression_type", 's', "Compression method used for image cluster compression", "zlib" },
	QC_AMENDABLE_OPTIONS,
	{ NULL },
};

struct plan {
	uint64_t size, cluster, refcount_bits;
	unsigned version, order, bits;
	uint8_t compression;
	bool extended, lazy, data_raw;
	enum node_prealloc prealloc;
	const char *backing, *backing_format, *data_file;
	struct qc_crypt_plan crypt;
};

/* `called` is the key in QEMU's messages. */
static int choose_word(struct opts *o, const char *key, const char *called, const char *const *words, unsigned *out,
		       struct err *err)
{
	const char *text = opts_take(o, key);

	for (unsigned i = 0; text && words[i]; i++) {
		if (!strcmp(text, words[i])) {
			*out = i;
			return 0;
		}
	}
	return text ? err_set(err, "Parameter '%s' does not accept value '%s'", called, text) : 0;
}

static int read_plan(struct opts *o, struct plan *p, struct err *err)
{
	static const char *const compressions[] = { "zlib", "zstd", NULL };
	unsigned prealloc = 0, compression = 0;
	const char *compat = opts_take(o, "compat");

	*p = (struct plan){ .version = 3 };
	if (opts_size(o, "size", 0, &p->size, err) || opts_size(o, "cluster_size", 65536, &p->cluster, err) ||
	    opts_number(o, "refcount_bits", 16, &p->refcount_bits, err) ||
	    opts_bool(o, "extended_l2", false, &p->extended, err) ||
	    opts_bool(o, "lazy_refcounts", false, &p->lazy, err) ||
	    opts_bool(o, "data_file_raw", false, &p->data_raw, err) ||
	    choose_word(o, "preallocation", "preallocation", node_prealloc_names, &prealloc, err) ||
	    choose_word(o, "compression_type", "compression-type", compressions, &compression, err))
		return -EINVAL;
	if (qc_crypt_wish(&p->crypt, o, err))
		return -EINVAL;
	p->size = p->size > UINT64_MAX - 511 ? p->size : align_up(p->size, 512);
	p->prealloc = (enum node_prealloc)prealloc;
	p->compression = (uint8_t)compression;
	p->backing = opts_take(o, "backing_file");
	p->backing_format = opts_take(o, "backing_fmt");
	p->data_file = opts_take(o, "data_file");
	if (compat && (!strcmp(compat, "0.10") || !strcmp(compat, "v2")))
		p->version = 2;
	else if (compat && strcmp(compat, "1.1") && strcmp(compat, "v3"))
		return err_set(err, "Parameter 'version' does not accept value '%s'", compat);
	return 0;
}

#define NEEDS_V3 "compatibility level 1.1 and above (use version=v3 or greater)"

static int check_plan(struct plan *p, struct err *err)
{
	if (p->size % 512)
		return err_set(err, "Image size must be a multiple of %u bytes", 512u);
	if (p->extended && p->version < 3)
		return err_set(err, "Extended L2 entries are only supported with " NEEDS_V3);
	if (!is_pow2(p->cluster) || p->cluster < 1u << QCOW2_MIN_BITS || p->cluster > 1u << QCOW2_MAX_BITS)
		return err_set(err, "Cluster size must be a power of two between %d and %dk", 1 << QCOW2_MIN_BITS,
			       1 << (QCOW2_MAX_BITS - 10));
	if (p->extended && p->cluster < 16384)
		return err_set(err, "Extended L2 entries are only supported with cluster sizes of at least %u bytes",
			       16384u);
	if (p->backing && p->prealloc != PREALLOC_OFF && !p->extended)
		return err_set(err,
			       "Backing file and preallocation can only be used at the same time if extended_l2 is on");
	if (p->backing_format && !p->backing)
		return err_set(err, "Backing format cannot be used without backing file");
	if (p->version < 3 && p->lazy)
		return err_set(err, "Lazy refcounts only supported with " NEEDS_V3);
	if (p->refcount_bits > 64 || !is_pow2(p->refcount_bits))
		return err_set(err, "Refcount width must be a power of two and may not exceed 64 bits");
	if (p->version < 3 && p->refcount_bits != 16)
		return err_set(err,
			       "Different refcount widths than 16 bits require compatibility level 1.1 or above (use "
			       "version=v3 or greater)");
	if (p->data_raw && !p->data_file)
		return err_set(err, "data-file-raw requires data-file");
	if (p->data_raw && p->backing)
		return err_set(err, "Backing file and data-file-raw cannot be used at the same time");
	if (p->data_raw && p->prealloc == PREALLOC_OFF)
		p->prealloc = PREALLOC_METADATA;
	if (p->data_file && p->version < 3)
		return err_set(err, "External data files are only supported with " NEEDS_V3);
	if (p->compression && p->version < 3)
		return err_set(err, "Non-zlib compression type is only supported with " NEEDS_V3);
	p->order = (unsigned)__builtin_ctzll(p->refcount_bits);
	p->bits = (unsigned)__builtin_ctzll(p->cluster);
	return 0;
}

int qc_check_create(struct opts *o, struct err *err)
{
	struct plan p;

	return read_plan(o, &p, err) || check_plan(&p, err) ? -EINVAL : 0;
}

/* An image of no bytes: header, refcount table, refcount block, and that these are in use. */
static int write_empty(struct node *file, const struct plan *p)
{
	uint8_t *b = calloc(3, p->cluster), *rt = b + p->cluster, *rb = rt + p->cluster;
	int ret;

	if (!b)
		return -ENOMEM;
	st_be32(b, QCOW2_MAGIC);
	st_be32(b + QH_VERSION, p->version);
	st_be32(b + QH_BITS, p->bits);
	st_be64(b + QH_RT, p->cluster);
	st_be32(b + QH_RT_CLUSTERS, 1);
	if (p->version >= 3) {
		st_be64(b + QH_INCOMPAT, (p->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0) |
						 (p->compression ? QCOW2_INCOMPAT_COMPRESSION : 0) |
						 (p->extended ? QCOW2_INCOMPAT_EXTL2 : 0));
		st_be64(b + QH_COMPAT, p->lazy ? QCOW2_COMPAT_LAZY : 0);
		st_be64(b + QH_AUTOCLEAR, p->data_raw ? QCOW2_AUTOCLEAR_DATA_RAW : 0);
		st_be32(b + QH_ORDER, p->order);
		st_be32(b + QH_LENGTH, QH_V3_LENGTH);
		b[QH_COMPRESSION] = p->compression;
	}
	st_be64(rt, 2 * p->cluster);
	for (unsigned i = 0; i < 3; i++)
		qc_refcount_set(rb, p->order, i, 1);
	ret = node_write(file, 0, b, 3 * p->cluster);
	free(b);
	return ret;
}

static int fill(struct node *n, const struct plan *p, struct err *err)
{
	struct qcow2 *s = qc(n);
	const struct node_resize how = { .size = p->size, .prealloc = p->prealloc, .exact = true };
	int ret;

	if (p->data_file) {
		free(s->data_file_name);
		s->data_file_name = strdup(p->data_file);
	}
	if (p->crypt.kind && qc_crypt_create(n, &p->crypt, err))
		return -EINVAL;
	ret = qc_update_header(n);
	if (ret) {
		err_errno(err, -ret, "Could not update qcow2 header");
		return ret;
	}
	ret = node_truncate(n, &how, err);
	if (ret) {
		struct err why = *err;

		err_set(err, "Could not resize image: %s", why.msg);
		return ret;
	}
	if (!p->backing)
		return 0;
	ret = n->drv->change_backing(n, p->backing, p->backing_format, err);
	if (ret)
		err_errno(err, -ret, "Could not assign backing file '%s' with format '%s'", p->backing,
			  p->backing_format ? p->backing_format : "(null)");
	return ret;
}

static struct node *open_again(struct node_ctx *c, const char *filename, const struct plan *p, struct err *err)
{
	struct opts *o = opts_new();
	struct node *n;

	opts_set(o, "driver", "qcow2");
	if (p->data_file)
		opts_set(o, "data-file.filename", p->data_file);
	n = node_open(c, filename, o, NODE_RDWR | NODE_RESIZE | NODE_NO_BACKING | NODE_NO_FLUSH, err);
	opts_free(o);
	return n;
}

int qc_create(struct node_ctx *c, const char *filename, struct opts *o, struct err *err)
{
	struct opts *none = opts_new();
	struct node *file = NULL, *n = NULL;
	struct plan p;
	bool begun = false;
	int ret = read_plan(o, &p, err) || check_plan(&p, err) ? -EINVAL : 0;

	if (ret)
		goto out;
	ret = node_create_protocol(c, filename, none, err);
	if (ret)
		goto out;
	begun = true;
	ret = -EIO;
	file = node_open(c, filename, NULL, NODE_RDWR | NODE_RESIZE | NODE_PROTOCOL, err);
	if (!file)
		goto out;
	if (p.data_file) {
		ret = node_create_protocol(c, p.data_file, none, err);
		if (ret)
			goto out;
	}
	ret = write_empty(file, &p);
	if (ret) {
		err_errno(err, -ret, "Could not write qcow2 header");
		goto out;
	}
	node_close(file);
	file = NULL;
	ret = -EIO;
	n = open_again(c, filename, &p, err);
	if (n)
		ret = fill(n, &p, err);
out:
	node_close(n);
	node_close(file);
	if (begun && ret)
		node_remove_file(c, filename);
	opts_free(none);
	return ret;
}

/* --- size --- */

int qc_grow_l1(struct node *n, uint64_t entries, bool exact)
{
	struct qcow2 *s = qc(n);
	uint64_t room = entries, old_offset = s->l1_offset, old_bytes = 8ull * s->l1_size;
	uint64_t *table;
	uint8_t *be, h[12];
	int64_t at;
	int ret;

	if (entries <= s->l1_size)
		return 0;
	if (!exact && entries < s->l1_size + s->l1_size / 2)
		room = s->l1_size + s->l1_size / 2;
	if (room * 8 > QCOW2_MAX_L1)
		return -EFBIG;
	table = calloc(room, 8);
	be = calloc(room, 8);
	node_event(n->file, EVENT_L1_GROW_ALLOC_TABLE);
	at = table && be ? qc_alloc(n, (room * 8 + s->cluster - 1) >> s->bits) : -ENOMEM;
	ret = at < 0 ? (int)at : 0;
	if (ret)
		goto out;
	memcpy(table, s->l1, old_bytes);
	for (uint64_t i = 0; i < room; i++)
		st_be64(be + 8 * i, table[i]);
	node_event(n->file, EVENT_L1_GROW_WRITE_TABLE);
	ret = node_write(n->file, (uint64_t)at, be, room * 8);
	if (!ret)
		ret = qc_cache_write(n, &s->rbc);
	if (!ret)
		ret = node_flush(n->file);
	st_be32(h, (uint32_t)room);
	st_be64(h + 4, (uint64_t)at);
	node_event(n->file, EVENT_L1_GROW_ACTIVATE_TABLE);
	if (!ret)
		ret = node_write(n->file, QH_L1_SIZE, h, sizeof(h));
	/* A flush comes before the old one is free on stable storage (qc_refcount_add()). */
	if (ret) {
		qc_free(n, (uint64_t)at, room * 8, QC_DISCARD_UNDO);
		goto out;
	}
	free(s->l1);
	s->l1 = table;
	table = NULL;
	s->l1_size = (uint32_t)room;
	s->l1_offset = (uint64_t)at;
	qc_meta_del(s, old_offset, old_bytes);
	ret = qc_meta_add(s, s->l1_offset, room * 8, META_ACTIVE_L1);
	if (old_bytes)
		qc_free(n, old_offset, old_bytes, QC_DISCARD_NEVER);
out:
	free(table);
	free(be);
	return ret;
}

/* Free the L2 tables that only name what is behind the new end. */
static int shrink_l1(struct node *n, uint64_t size)
{
	struct qcow2 *s = qc(n);
	uint64_t span = s->cluster << s->l2_bits;
	int ret = 0;

	/* No table on stable storage has to be cut first: one that goes takes with it what it names. */
	node_event(n->file, EVENT_L1_SHRINK_WRITE_TABLE);
	node_event(n->file, EVENT_L1_SHRINK_FREE_L2_CLUSTERS);
	for (uint64_t i = (size + span - 1) / span; i < s->l1_size && !ret; i++) {
		uint64_t old = s->l1[i];

		if (!(old & L1_OFFSET))
			continue;
		s->l1[i] = 0;
		ret = qc_write_l1_entry(n, (uint32_t)i);
		if (ret)
			break;
		s->rbc.depends_on_flush = true;
		qc_cache_forget(&s->l2c, old & L1_OFFSET, s->cluster);
		qc_meta_del(s, old & L1_OFFSET, s->cluster);
		qc_free(n, old & L1_OFFSET, s->cluster, QC_DISCARD_REQUEST);
	}
	return ret;
}

/* Cut off what lies behind the last cluster in use. */
static int cut_file(struct node *n, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t last = (n->file->size + s->cluster - 1) >> s->bits, count = 0;
	struct node_resize how = { .exact = false };
	int ret = 0;

	while (last && !ret && !count) {
		last--;
		ret = qc_refcount(n, last, &count);
	}
	how.size = (last + 1) << s->bits;
	if (ret || how.size >= n->file->size)
		return ret;
	return node_truncate(n->file, &how, err);
}

static int shrink(struct node *n, uint64_t size, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t first = align_up(size, s->cluster), end = align_up(n->size, s->cluster);
	int ret = first < end ? qc_cut(n, first, end) : 0;

	if (ret) {
		err_errno(err, -ret, "Failed to discard cropped clusters");
		return ret;
	}
	co_lock(&s->lock);
	ret = shrink_l1(n, size);
	if (!ret)
		ret = qc_flush(n);
	if (ret)
		err_errno(err, -ret, "Failed to reduce the number of L2 tables");
	else
		ret = cut_file(n, err);
	co_unlock(&s->lock);
	return ret;
}

/* What the backing node has behind the old end must not come to light. */
static int hide_backing(struct node *n, uint64_t old, const struct node_resize *how, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t end = how->size;
	int ret;

	/* Preallocated clusters are zeroes, but of subclusters none is written yet. */
	if (how->prealloc != PREALLOC_OFF && !s->extended && align_up(old, s->cluster) < end)
		end = align_up(old, s->cluster);
	ret = end > old ? qc_write_zeroes(n, old, end - old,
					  QC_ZERO_IF_NOT | (how->prealloc == PREALLOC_OFF ? BLOCK_REQ_UNMAP : 0))
			: 0;
	if (ret)
		err_errno(err, -ret, "Failed to zero out the new area");
	return ret;
}

static int grow(struct node *n, const struct node_resize *how, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t span = s->cluster << s->l2_bits, old = n->size, stop;
	int ret;

	co_lock(&s->lock);
	ret = how->size > UINT64_MAX - span ? -EFBIG : qc_grow_l1(n, (how->size + span - 1) / span, true);
	co_unlock(&s->lock);
	if (ret) {
		err_errno(err, -ret, "Failed to grow the L1 table");
		return ret;
	}
	n->size = how->size;
	/* A larger disk has had something in the last cluster, perhaps, and a raw data file behind it. */
	stop = s->external_raw && s->data->size > old ? s->data->size : align_up(old, s->cluster);
	ret = qc_write_zeroes(n, old, (stop < how->size ? stop : how->size) - old, QC_ZERO_IF_NOT);
	if (ret)
		err_errno(err, -ret, "Failed to zero out the new area");
	else if (how->prealloc != PREALLOC_OFF)
		ret = qc_preallocate(n, old, how->size, how->prealloc, err);
	if (!ret && n->backing && n->backing->size > old)
		ret = hide_backing(n, old, how, err);
	return ret;
}

/* What was taken for a size that could not be reached. */
static void give_back(struct node *n, uint64_t size)
{
	struct qcow2 *s = qc(n);
	struct err ignored;

	if (n->size > size)
		shrink(n, size, &ignored);
	n->size = size;
	if (!s->bitmaps.n)
		return;
	co_lock(&s->lock);
	qc_bitmaps_resize(n, size, &ignored);
	co_unlock(&s->lock);
}

int qc_truncate(struct node *n, const struct node_resize *how, struct err *err)
{
	struct qcow2 *s = qc(n);
	struct node_resize data = { .size = how->size, .exact = how->exact };
	uint64_t old = n->size;
	uint8_t be[8];
	int ret = 0;

	if (how->size % 512)
		return err_set(err, "The new size must be a multiple of %u", 512u), -EINVAL;
	if (s->snap_count && s->version < 3)
		return err_set(err, "Can't resize a v2 image which has snapshots"), -ENOTSUP;
	if (how->size < n->size && how->prealloc != PREALLOC_OFF)
		return err_set(err, "Preallocation can't be used for shrinking an image"), -EINVAL;
	if (s->external && how->size > s->data->size) {
		if (how->prealloc > PREALLOC_METADATA)
			data.prealloc = how->prealloc;
		ret = node_truncate(s->data, &data, err);
	}
	if (!ret && s->bitmaps.n) {
		co_lock(&s->lock);
		ret = qc_bitmaps_resize(n, how->size, err);
		co_unlock(&s->lock);
	}
	if (!ret && how->size < n->size)
		ret = shrink(n, how->size, err);
	else if (!ret && how->size > n->size)
		ret = grow(n, how, err);
	if (ret && how->size > old)
		give_back(n, old);
	if (ret)
		return ret;
	n->size = how->size;
	co_lock(&s->lock);
	ret = qc_flush(n);
	st_be64(be, n->size);
	if (!ret)
		ret = node_write(n->file, QH_SIZE, be, sizeof(be));
	if (!ret)
		ret = node_flush(n->file);
	co_unlock(&s->lock);
	if (ret)
		err_errno(err, -ret, "Failed to update the image size");
	return ret;
}
