/*
 * The header of a qcow2 image, read with everything in it taken for hostile, and written back with what we do not know
 * kept.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_header.h"

#define FEATURE_LEN 48u /* type, bit, name */

/* The names that QEMU writes into the table of features. */
static const struct {
	uint8_t type, bit;
	const char *name;
} features[] = {
	{ 0, 0, "dirty bit" },	      { 0, 1, "corrupt bit" },	       { 0, 2, "external data file" },
	{ 0, 3, "compression type" }, { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" },
	{ 2, 0, "bitmaps" },	      { 2, 1, "raw external data" },
};

/* --- reading --- */

static int refuse_features(const struct qcow2 *s, uint64_t unknown, struct err *err)
{
	char list[1024] = "";
	size_t at = 0;

	for (uint32_t i = 0; i + FEATURE_LEN <= s->feature_names_len; i += FEATURE_LEN) {
		const uint8_t *f = s->feature_names + i;

		if (f[0] == 0 && f[1] < 64 && unknown >> f[1] & 1 && at < sizeof(list) - FEATURE_LEN) {
			at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%.46s", at ? ", " : "",
					       (const char *)f + 2);
			unknown &= ~(1ull << f[1]);
		}
	}
	if (unknown)
		snprintf(list + at, sizeof(list) - at, "%sUnknown incompatible feature: %llx", at ? ", " : "",
			 (unsigned long long)unknown);
	err_set(err, "Unsupported qcow2 feature(s): %s", list);
	return -ENOTSUP;
}

static char *text_of(const uint8_t *p, size_t len)
{
	return strndup((const char *)p, len);
}

static int keep_unknown(struct qcow2 *s, uint32_t magic, const uint8_t *data, uint32_t len)
{
	struct qc_extension *x = malloc(sizeof(*x)), **tail = &s->unknown;

	if (!x)
		return -ENOMEM;
	*x = (struct qc_extension){ magic, len, malloc(len ? len : 1), NULL };
	if (!x->data) {
		free(x);
		return -ENOMEM;
	}
	memcpy(x->data, data, len);
	while (*tail)
		tail = &(*tail)->next;
	*tail = x;
	return 0;
}

static int read_extension(struct node *n, uint32_t magic, const uint8_t *data, uint32_t len, struct err *err)
{
	struct qcow2 *s = qc(n);

	switch (magic) {
	case QCOW2_EXT_BACKING:
		if (len >= 16)
			return err_set(err, "ERROR: ext_backing_format: len=%u too large (>=%zu)", len, (size_t)16);
		free(n->backing_format);
		n->backing_format = text_of(data, len);
		return n->backing_format ? 0 : -1;
	case QCOW2_EXT_FEATURES:
		free(s->feature_names);
		/* The last name may be cut off. */
		s->feature_names = calloc(1, len + FEATURE_LEN);
		if (!s->feature_names)
			return err_errno(err, ENOMEM, "ERROR: ext_feature_table: Could not read table");
		memcpy(s->feature_names, data, len);
		s->feature_names_len = (len + FEATURE_LEN - 1) / FEATURE_LEN * FEATURE_LEN;
		return 0;
	case QCOW2_EXT_DATA_FILE:
		free(s->data_file_name);
		s->data_file_name = text_of(data, len);
		return s->data_file_name ? 0 : -1;
	case QCOW2_EXT_BITMAPS:
		if (len != 24)
			return err_set(err, "bitmaps_ext: Invalid extension length");
		s->bitmap_count = ld_be32(data);
		s->bitmap_dir_bytes = ld_be64(data + 8);
		s->bitmap_dir = ld_be64(data + 16);
		if (!s->bitmap_count)
			return err_set(err, "found bitmaps extension with zero bitmaps");
		if (s->bitmap_dir & (s->cluster - 1) || s->bitmap_dir > INT64_MAX)
			return err_set(err, "bitmaps_ext: invalid bitmap directory offset");
		if (s->bitmap_dir_bytes > QCOW2_MAX_BITMAP_DIR)
			return err_set(
				err,
				"bitmaps_ext: bitmap directory size (%llu) exceeds the maximum supported size (%d)",
				(unsigned long long)s->bitmap_dir_bytes, (int)QCOW2_MAX_BITMAP_DIR);
		return 0;
	case QCOW2_EXT_CRYPTO:
		if (s->crypt != 2)
			return err_set(err, "CRYPTO header extension only expected with LUKS encryption method");
		if (len != 16)
			return err_set(err, "CRYPTO header extension size %u, but expected size %zu", len, (size_t)16);
		s->crypto_offset = ld_be64(data);
		s->crypto_bytes = ld_be64(data + 8);
		return 0;
	default:
		return keep_unknown(s, magic, data, len);
	}
}

static int read_extensions(struct node *n, const uint8_t *h, uint64_t end, struct err *err)
{
	struct qcow2 *s = qc(n);

	for (uint64_t at = s->header_length; at < end;) {
		uint32_t magic, len;

		if (end - at < 8)
			return err_set(err, "Header extension too large");
		magic = ld_be32(h + at);
		len = ld_be32(h + at + 4);
		at += 8;
		if (magic == QCOW2_EXT_END)
			return 0;
		if (len > end - at)
			return err_set(err, "Header extension too large");
		if (read_extension(n, magic, h + at, len, err))
			return -1;
		at += align_up(len, 8);
	}
	return 0;
}

static int read_version3(struct node *n, const uint8_t *h, struct err *err)
{
	struct qcow2 *s = qc(n);

	s->incompat = ld_be64(h + QH_INCOMPAT);
	s->compat = ld_be64(h + QH_COMPAT);
	s->autoclear = ld_be64(h + QH_AUTOCLEAR);
	s->order = ld_be32(h + QH_ORDER);
	s->header_length = ld_be32(h + QH_LENGTH);
	if (s->header_length < 104)
		return err_set(err, "qcow2 header too short");
	if (s->header_length > s->cluster)
		return err_set(err, "qcow2 header exceeds cluster size");
	if (s->header_length > QH_COMPRESSION)
		s->compression = h[QH_COMPRESSION];
	if (s->header_length > QH_V3_LENGTH) {
		s->unknown_fields_len = s->header_length - QH_V3_LENGTH;
		s->unknown_fields = malloc(s->unknown_fields_len);
		if (!s->unknown_fields)
			return err_errno(err, ENOMEM, "Could not read unknown qcow2 header fields");
		memcpy(s->unknown_fields, h + QH_V3_LENGTH, s->unknown_fields_len);
	}
	return 0;
}

static int check_features(struct node *n, struct err *err)
{
	struct qcow2 *s = qc(n);

	if (s->incompat & ~QCOW2_INCOMPAT_KNOWN)
		return refuse_features(s, s->incompat & ~QCOW2_INCOMPAT_KNOWN, err);
	if (s->compression > 1)
		return err_set(err, "qcow2: unknown compression type: %u", s->compression);
	if (!s->compression && s->incompat & QCOW2_INCOMPAT_COMPRESSION)
		return err_set(err, "qcow2: Compression type incompatible feature bit must not be set");
	if (s->compression && !(s->incompat & QCOW2_INCOMPAT_COMPRESSION))
		return err_set(err, "qcow2: Compression type incompatible feature bit must be set");
	if (s->incompat & QCOW2_INCOMPAT_CORRUPT && !node_readonly(n) && !(n->flags & NODE_CHECK))
		return err_set(err, "qcow2: Image is corrupt; cannot be opened read/write");
	if (s->order > 6)
		return err_set(err, "Reference count entry width too large; may not exceed 64 bits");
	if (s->crypt > 2)
		return err_set(err, "Unsupported encryption method %u", s->crypt);
	return 0;
}

static int read_backing_name(struct node *n, const uint8_t *h, struct err *err)
{
	uint64_t offset = ld_be64(h + QH_BACKING);
	uint32_t len = ld_be32(h + QH_BACKING_LEN);

	if (!offset)
		return 0;
	if (len > QCOW2_MAX_BACKING || len > qc(n)->cluster - offset)
		return err_set(err, "Backing file name too long");
	n->backing_name = text_of(h + offset, len);
	return n->backing_name ? 0 : err_errno(err, ENOMEM, "Could not read backing file name");
}

int qc_read_header(struct node *n, uint8_t **out, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint8_t first[QH_V3_LENGTH], *h;
	uint64_t backing, end;
	int ret = node_read(n->file, 0, first, sizeof(first));

	if (ret)
		return err_errno(err, -ret, "Could not read qcow2 header");
	if (ld_be32(first) != QCOW2_MAGIC)
		return err_set(err, "Image is not in qcow2 format");
	s->version = ld_be32(first + QH_VERSION);
	if (s->version < 2 || s->version > 3)
		return err_set(err, "Unsupported qcow2 version %u", s->version);
	s->bits = ld_be32(first + QH_BITS);
	if (s->bits < QCOW2_MIN_BITS || s->bits > QCOW2_MAX_BITS)
		return err_set(err, "Unsupported cluster size: 2^%u", s->bits);
	s->cluster = 1ull << s->bits;
	h = *out = malloc(s->cluster);
	if (!h)
		return err_errno(err, ENOMEM, "Could not read qcow2 header");
	ret = node_read(n->file, 0, h, s->cluster);
	if (ret)
		return err_errno(err, -ret, "Could not read qcow2 header");
	s->order = 4;
	s->header_length = QH_V2_LENGTH;
	s->crypt = ld_be32(h + QH_CRYPT);
	if (s->version >= 3 && read_version3(n, h, err))
		return -1;
	backing = ld_be64(h + QH_BACKING);
	if (backing > s->cluster)
		return err_set(err, "Invalid backing file offset");
	end = backing ? backing : s->cluster;
	if (read_extensions(n, h, end, err) || check_features(n, err))
		return -1;
	return read_backing_name(n, h, err);
}

/* --- writing --- */

static uint8_t *put_extension(uint8_t *p, const uint8_t *end, uint32_t magic, const void *data, size_t len)
{
	size_t all = 8 + align_up(len, 8);

	if (!p || all > (size_t)(end - p))
		return NULL;
	st_be32(p, magic);
	st_be32(p + 4, (uint32_t)len);
	memset(p + 8, 0, all - 8);
	if (len)
		memcpy(p + 8, data, len);
	return p + all;
}

static void put_fixed(const struct node *n, uint8_t *h)
{
	const struct qcow2 *s = n->state;

	st_be32(h, QCOW2_MAGIC);
	st_be32(h + QH_VERSION, s->version);
	st_be32(h + QH_BITS, s->bits);
	st_be64(h + QH_SIZE, n->size);
	st_be32(h + QH_CRYPT, s->crypt);
	st_be32(h + QH_L1_SIZE, s->l1_size);
	st_be64(h + QH_L1, s->l1_offset);
	st_be64(h + QH_RT, s->rt_offset);
	st_be32(h + QH_RT_CLUSTERS, s->rt_clusters);
	st_be32(h + QH_SNAPSHOTS, s->snap_count);
	st_be64(h + QH_SNAP_TABLE, s->snap_offset);
	if (s->version < 3)
		return;
	st_be64(h + QH_INCOMPAT, s->incompat);
	st_be64(h + QH_COMPAT, s->compat);
	st_be64(h + QH_AUTOCLEAR, s->autoclear);
	st_be32(h + QH_ORDER, s->order);
	st_be32(h + QH_LENGTH, QH_V3_LENGTH + s->unknown_fields_len);
	h[QH_COMPRESSION] = s->compression;
}

static uint8_t *put_features(uint8_t *p, const uint8_t *end)
{
	uint8_t table[ARRAY_LEN(features) * FEATURE_LEN] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(features); i++) {
		uint8_t *f = table + i * FEATURE_LEN;

		f[0] = features[i].type;
		f[1] = features[i].bit;
		memcpy(f + 2, features[i].name, strlen(features[i].name));
	}
	return put_extension(p, end, QCOW2_EXT_FEATURES, table, sizeof(table));
}

static uint8_t *put_extensions(const struct node *n, uint8_t *p, const uint8_t *end)
{
	const struct qcow2 *s = n->state;
	uint8_t x[24] = { 0 };

	if (n->backing_format)
		p = put_extension(p, end, QCOW2_EXT_BACKING, n->backing_format, strlen(n->backing_format));
	if (s->data_file_name && s->incompat & QCOW2_INCOMPAT_DATA_FILE)
		p = put_extension(p, end, QCOW2_EXT_DATA_FILE, s->data_file_name, strlen(s->data_file_name));
	if (s->crypto_offset) {
		st_be64(x, s->crypto_offset);
		st_be64(x + 8, s->crypto_bytes);
		p = put_extension(p, end, QCOW2_EXT_CRYPTO, x, 16);
	}
	/* Small clusters have no room for names. */
	if (s->version >= 3 && s->bits >= 12)
		p = put_features(p, end);
	if (s->bitmap_count) {
		st_be32(x, s->bitmap_count);
		st_be32(x + 4, 0);
		st_be64(x + 8, s->bitmap_dir_bytes);
		st_be64(x + 16, s->bitmap_dir);
		p = put_extension(p, end, QCOW2_EXT_BITMAPS, x, 24);
	}
	for (const struct qc_extension *u = s->unknown; u; u = u->next)
		p = put_extension(p, end, u->magic, u->data, u->len);
	return put_extension(p, end, QCOW2_EXT_END, NULL, 0);
}

int qc_update_header(struct node *n)
{
	struct qcow2 *s = qc(n);
	uint8_t *h = calloc(1, s->cluster), *p;
	size_t len = n->backing_name ? strlen(n->backing_name) : 0;
	int ret;

	if (!h)
		return -ENOMEM;
	put_fixed(n, h);
	p = h + QH_V2_LENGTH;
	if (s->version >= 3) {
		p = h + QH_V3_LENGTH;
		if (s->unknown_fields_len > s->cluster - QH_V3_LENGTH) {
			free(h);
			return -ENOSPC;
		}
		if (s->unknown_fields_len)
			memcpy(p, s->unknown_fields, s->unknown_fields_len);
		p += s->unknown_fields_len;
	}
	p = put_extensions(n, p, h + s->cluster);
	if (!p || len > (size_t)(h + s->cluster - p)) {
		free(h);
		return -ENOSPC;
	}
	if (len) {
		st_be64(h + QH_BACKING, (uint64_t)(p - h));
		st_be32(h + QH_BACKING_LEN, (uint32_t)len);
		memcpy(p, n->backing_name, len);
	}
	ret = node_write(n->file, 0, h, s->cluster);
	free(h);
	return ret;
}

static int write_incompat(struct node *n)
{
	uint8_t be[8];
	int ret;

	st_be64(be, qc(n)->incompat);
	ret = node_write(n->file, QH_INCOMPAT, be, sizeof(be));
	return ret ? ret : node_flush(n->file);
}

int qc_mark_dirty(struct node *n)
{
	struct qcow2 *s = qc(n);
	int ret;

	if (s->incompat & QCOW2_INCOMPAT_DIRTY)
		return 0;
	s->incompat |= QCOW2_INCOMPAT_DIRTY;
	ret = write_incompat(n);
	if (ret)
		s->incompat &= ~QCOW2_INCOMPAT_DIRTY;
	return ret;
}

int qc_mark_clean(struct node *n)
{
	struct qcow2 *s = qc(n);
	int ret;

	if (!(s->incompat & QCOW2_INCOMPAT_DIRTY))
		return 0;
	ret = qc_cache_write(n, &s->l2c);
	if (!ret)
		ret = qc_cache_write(n, &s->rbc);
	if (!ret)
		ret = node_flush(n->file);
	if (ret || s->stay_dirty)
		return ret;
	s->incompat &= ~QCOW2_INCOMPAT_DIRTY;
	return write_incompat(n);
}
