/*
 * Where the metadata of a qcow2 image lies: a set of clusters, asked before each write, so that a damaged image is
 * noticed before it gets worse. An image in which a write would hit metadata is marked as corrupt.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2.h"

static size_t place(const struct qc_metaset *m, uint64_t cluster)
{
	size_t i = (cluster * 0x9e3779b97f4a7c15ull) >> 20 & (m->room - 1);

	while (m->at[i].cluster_1 && m->at[i].cluster_1 != cluster + 1)
		i = (i + 1) & (m->room - 1);
	return i;
}

static int grow(struct qc_metaset *m)
{
	struct qc_metaset bigger = { .room = m->room ? 2 * m->room : 256 };

	bigger.at = calloc(bigger.room, sizeof(*bigger.at));
	if (!bigger.at)
		return -ENOMEM;
	for (size_t i = 0; i < m->room; i++)
		if (m->at[i].cluster_1 && m->at[i].type) {
			bigger.at[place(&bigger, m->at[i].cluster_1 - 1)] = m->at[i];
			bigger.n++;
		}
	free(m->at);
	*m = bigger;
	return 0;
}

int qc_meta_add(struct qcow2 *s, uint64_t offset, uint64_t bytes, enum qc_meta type)
{
	struct qc_metaset *m = &s->meta;

	if (!bytes)
		return 0;
	for (uint64_t c = offset >> s->bits, end = (offset + bytes - 1) >> s->bits; c <= end; c++) {
		if (2 * m->n >= m->room && grow(m))
			return -ENOMEM;
		size_t i = place(m, c);

		m->n += !m->at[i].cluster_1;
		m->at[i].cluster_1 = c + 1;
		m->at[i].type |= type;
	}
	return 0;
}

/* The place stays taken, so that others behind it are still found; growing drops it. */
void qc_meta_del(struct qcow2 *s, uint64_t offset, uint64_t bytes)
{
	for (uint64_t c = offset >> s->bits, end = (offset + bytes + s->cluster - 1) >> s->bits; c < end; c++) {
		size_t i = place(&s->meta, c);

		if (s->meta.at[i].cluster_1)
			s->meta.at[i].type = META_NONE;
	}
}

static const char *type_name(unsigned type)
{
	static const char *const names[] = { "qcow2_header",	  "active L1 table", "active L2 table",
					     "refcount table",	  "refcount block",  "snapshot table",
					     "inactive L1 table", "bitmap directory" };

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (type & 1u << i)
			return names[i];
	return "metadata";
}

void qc_corrupt(struct node *n, bool fatal, const char *fmt, ...)
{
	struct qcow2 *s = qc(n);
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (node_readonly(n))
		fatal = false;
	if (s->corrupt_said && (!fatal || s->incompat & QCOW2_INCOMPAT_CORRUPT))
		return;
	if (fatal)
		fprintf(stderr, "qcow2: Marking image as corrupt: %s; further corruption events will be suppressed\n",
			text);
	else
		fprintf(stderr, "qcow2: Image is corrupt: %s; further non-fatal corruption events will be suppressed\n",
			text);
	s->corrupt_said = true;
	if (fatal && s->version >= 3) {
		uint8_t be[8];

		s->incompat |= QCOW2_INCOMPAT_CORRUPT;
		st_be64(be, s->incompat);
		node_write(n->file, QH_INCOMPAT, be, sizeof(be));
		node_flush(n->file);
	}
	if (fatal)
		s->incompat |= QCOW2_INCOMPAT_CORRUPT; /* no more writes until it is opened again */
}

/* What a write there would hit, but for what is of type `own`. */
static unsigned hit(const struct qcow2 *s, uint64_t offset, uint64_t bytes, unsigned own)
{
	unsigned type = offset < s->cluster ? META_HEADER & ~own : 0;

	if (!s->meta.room || !bytes)
		return type;
	for (uint64_t c = offset >> s->bits, end = (offset + bytes - 1) >> s->bits; c <= end && !type; c++) {
		size_t i = place(&s->meta, c);

		type = s->meta.at[i].cluster_1 ? s->meta.at[i].type & ~own : 0;
	}
	return type;
}

bool qc_is_data(const struct qcow2 *s, uint64_t offset, uint64_t bytes)
{
	return s->external || !hit(s, offset, bytes, META_NONE);
}

int qc_check_overlap(struct node *n, uint64_t offset, uint64_t bytes, unsigned own)
{
	unsigned type = bytes ? hit(qc(n), offset, bytes, own) : 0;

	if (!type)
		return 0;
	qc_corrupt(n, true, "Preventing invalid write on %s (overlaps with %s)",
		   own & META_ACTIVE_L2	 ? "active L2 table"
		   : own & META_REFBLOCK ? "refcount block"
					 : "metadata",
		   type_name(type));
	return -EIO;
}
