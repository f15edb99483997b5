/* Using persistent dirty bitmaps: noting what is written, and what tools do with them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2_bitmap.h"

/* --- tracking --- */

bool qc_bitmaps_waiting(const struct node *n)
{
	const struct qc_bitmaps *m = &qc(n)->bitmaps;

	return m->n && !m->tracking;
}

static void set_bits(struct qc_bitmap *b, uint64_t first, uint64_t end)
{
	for (; first < end && first % 8; first++)
		b->bits[first / 8] |= (uint8_t)(1u << first % 8);
	if (end - first >= 8 && first < end) {
		memset(b->bits + first / 8, 0xff, (end - first) / 8);
		first += (end - first) / 8 * 8;
	}
	for (; first < end; first++)
		b->bits[first / 8] |= (uint8_t)(1u << first % 8);
}

/* [offset, offset + bytes) of the disk. */
static void set_range(struct qc_bitmap *b, uint64_t offset, uint64_t bytes)
{
	uint64_t end = bytes ? ((offset + bytes - 1) >> b->granularity) + 1 : 0;

	set_bits(b, offset >> b->granularity, end < b->n ? end : b->n);
	b->changed = true;
}

void qc_bitmaps_mark(struct node *n, uint64_t offset, uint64_t bytes)
{
	struct qc_bitmaps *m = &qc(n)->bitmaps;

	for (unsigned i = 0; i < m->n; i++)
		if (m->at[i].enabled && m->at[i].bits && !m->at[i].inconsistent)
			set_range(&m->at[i], offset, bytes);
}

int qc_bitmaps_resize(struct node *n, uint64_t size, struct err *err)
{
	struct qcow2 *s = qc(n);
	int ret = 0;

	for (unsigned i = 0; i < s->bitmaps.n; i++)
		if (s->bitmaps.at[i].inconsistent)
			return err_set(
				err,
				"Bitmap '%s' is inconsistent and cannot be used\nTry block-dirty-bitmap-remove to "
				"delete this bitmap from disk\n",
				s->bitmaps.at[i].name);
	ret = qc_bitmaps_begin(n, true);
	for (unsigned i = 0; i < s->bitmaps.n && !ret; i++) {
		struct qc_bitmap *b = &s->bitmaps.at[i];
		uint64_t bits = qc_bitmap_bits(size, b->granularity);
		uint8_t *more;

		ret = (bits + 7) / 8 > BM_BYTES_MAX ? -EFBIG : qc_bitmap_load(n, b);
		more = ret ? NULL : calloc(1, bits / 8 + 2);
		if (!more) {
			ret = ret ? ret : -ENOMEM;
			break;
		}
		memcpy(more, b->bits, ((bits < b->n ? bits : b->n) + 7) / 8);
		if (bits % 8)
			more[bits / 8] &= (uint8_t)((1u << bits % 8) - 1);
		free(b->bits);
		b->bits = more;
		b->n = bits;
		b->changed = true;
	}
	s->bitmaps.changed |= s->bitmaps.n > 0;
	if (ret)
		err_errno(err, -ret, "Could not resize the bitmaps");
	return ret;
}

/* --- actions --- */

static struct qc_bitmap *find(struct node *n, const char *name)
{
	struct qc_bitmaps *m = &qc(n)->bitmaps;

	for (unsigned i = 0; i < m->n; i++)
		if (!strcmp(m->at[i].name, name))
			return &m->at[i];
	return NULL;
}

static int inconsistent(const struct qc_bitmap *b, struct err *err)
{
	if (!b->inconsistent)
		return 0;
	err_set(err,
		"Bitmap '%s' is inconsistent and cannot be used\nTry block-dirty-bitmap-remove to delete this bitmap "
		"from "
		"disk\n",
		b->name);
	return -EINVAL;
}

static const char *prevents_add(struct node *n, const struct bitmap_request *r, uint64_t granularity)
{
	const struct qcow2 *s = qc(n);
	uint64_t bits, all = 0;

	if (s->version < 3)
		return "Cannot store dirty bitmaps in qcow2 v2 files";
	if (granularity > 1ull << BM_MAX_BITS)
		return "Granularity exceeds maximum (2147483648 bytes)";
	if (strlen(r->name) > BM_NAME_MAX)
		return "Name length exceeds maximum (1023 characters)";
	bits = qc_bitmap_bits(n->size, (unsigned)__builtin_ctzll(granularity));
	for (unsigned i = 0; i < s->bitmaps.n; i++)
		all += (s->bitmaps.at[i].n + 7) / 8;
	if ((bits + 7) / 8 > BM_BYTES_MAX || (bits + 7) / 8 + all > BM_ALL_MAX)
		return "Too much space will be occupied by the bitmap. Use larger granularity";
	if (s->bitmaps.n >= BM_COUNT_MAX)
		return "Maximum number of persistent bitmaps is already reached";
	return NULL;
}

static int add(struct node *n, const struct bitmap_request *r, struct err *err)
{
	struct qcow2 *s = qc(n);
	uint64_t granularity = r->granularity ? r->granularity : s->cluster;
	struct qc_bitmap *more, *b;
	const char *why;

	if (!r->granularity)
		granularity = granularity < 4096 ? 4096 : granularity > 65536 ? 65536 : granularity;
	if (!*r->name)
		return err_set(err, "Bitmap name cannot be empty");
	if (!is_pow2(granularity) || granularity < 512)
		return err_set(err, "Granularity must be power of 2 and at least 512");
	if (find(n, r->name))
		return err_set(err, "Bitmap already exists: %s", r->name);
	why = prevents_add(n, r, granularity);
	if (why)
		return err_set(err, "Can't make bitmap '%s' persistent in '%s': %s", r->name, n->filename, why);
	more = realloc(s->bitmaps.at, (s->bitmaps.n + 1) * sizeof(*more));
	if (!more)
		return err_errno(err, ENOMEM, "%s", r->name);
	s->bitmaps.at = more;
	b = &more[s->bitmaps.n];
	*b = (struct qc_bitmap){ .granularity = (unsigned)__builtin_ctzll(granularity),
				 .enabled = !r->disabled,
				 .changed = true };
	b->n = qc_bitmap_bits(n->size, b->granularity);
	b->bits = calloc(1, b->n / 8 + 2);
	b->name = strdup(r->name);
	if (!b->bits || !b->name) {
		free(b->bits);
		free(b->name);
		return err_errno(err, ENOMEM, "%s", r->name);
	}
	s->bitmaps.n++;
	return 0;
}

static int drop(struct node *n, struct qc_bitmap *b)
{
	struct qc_bitmaps *m = &qc(n)->bitmaps;
	struct qc_bitmap *more = realloc(m->gone, (m->n_gone + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	m->gone = more;
	m->gone[m->n_gone++] = *b;
	m->n--;
	memmove(b, b + 1, (size_t)(m->at + m->n - b) * sizeof(*b));
	return 0;
}

static int merge(struct node *n, struct qc_bitmap *b, const struct bitmap_request *r, struct err *err)
{
	struct qc_bitmap *from;
	int ret;

	if (r->src->drv != &node_qcow2 || !(from = find(r->src, r->src_name)))
		return err_set(err, "Dirty bitmap '%s' not found", r->src_name);
	if (inconsistent(from, err))
		return -EINVAL;
	if (r->src->size != n->size)
		return err_set(
			err,
			"Bitmaps are of different sizes (destination size is %llu, source size is %llu) and can't "
			"be merged",
			(unsigned long long)n->size, (unsigned long long)r->src->size);
	ret = qc_bitmap_load(r->src, from);
	if (ret)
		return err_errno(err, -ret, "Could not read bitmap '%s'", from->name);
	for (uint64_t i = 0; i < from->n; i++) {
		if (!(i % 8) && !from->bits[i / 8])
			i += 7; /* most are empty */
		else if (from->bits[i / 8] >> i % 8 & 1)
			set_range(b, i << from->granularity, 1ull << from->granularity);
	}
	return 0;
}

/* Those that need one that is there, and consistent. */
static int change(struct node *n, struct qc_bitmap *b, const struct bitmap_request *r, struct err *err)
{
	int ret = qc_bitmap_load(n, b);

	if (ret)
		return err_errno(err, -ret, "Could not read bitmap '%s'", b->name);
	switch (r->action) {
	case BITMAP_CLEAR:
		memset(b->bits, 0, (b->n + 7) / 8);
		b->changed = true;
		return 0;
	case BITMAP_ENABLE:
	case BITMAP_DISABLE:
		b->enabled = r->action == BITMAP_ENABLE;
		return 0;
	case BITMAP_MERGE:
		return merge(n, b, r, err);
	default:
		return -EINVAL;
	}
}

static int act_locked(struct node *n, const struct bitmap_request *r, struct err *err)
{
	struct qc_bitmaps *m = &qc(n)->bitmaps;
	struct qc_bitmap *b = find(n, r->name);
	int ret;

	if (r->action == BITMAP_ADD)
		ret = add(n, r, err);
	else if (!b)
		ret = err_set(err, "Dirty bitmap '%s' not found", r->name);
	else if (r->action == BITMAP_REMOVE)
		ret = drop(n, b) ? err_errno(err, ENOMEM, "%s", r->name) : 0;
	else
		ret = inconsistent(b, err) ? -EINVAL : change(n, b, r, err);
	m->changed |= !ret;
	return ret ? -EINVAL : 0;
}

static int act(struct node *n, const struct bitmap_request *r, struct err *err)
{
	int ret;

	co_lock(&qc(n)->lock);
	ret = act_locked(n, r, err);
	co_unlock(&qc(n)->lock);
	return ret;
}

static int list(struct node *n, struct bitmap_info **out, unsigned *count)
{
	struct qc_bitmaps *m = &qc(n)->bitmaps;

	*count = m->n;
	*out = calloc(m->n + 1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	for (unsigned i = 0; i < m->n; i++)
		(*out)[i] = (struct bitmap_info){ m->at[i].name, 1ull << m->at[i].granularity, m->at[i].enabled,
						  m->at[i].inconsistent };
	return 0;
}

const struct node_bitmap_ops qc_bitmap_ops = { .list = list, .act = act };
