/* vireo img compare and map: what is in images, and where. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/img_impl.h"

#define PIECE (2u << 20)

struct compare {
	struct img *t;
	struct node *n[2];
	const char *name[2];
	char *buf[2];
	bool strict;
	uint64_t end;
};

static int read_some(struct compare *c, unsigned i, uint64_t offset, uint64_t bytes)
{
	int ret = node_read(c->n[i], offset, c->buf[i], bytes);

	if (!ret)
		return 0;
	img_error("Error while reading offset %lld of %s: %s", (long long)offset, c->name[i], strerror(-ret));
	return 4;
}

static uint64_t first_difference(const char *a, const char *b, uint64_t n)
{
	uint64_t i = 0;

	while (i < n && a[i] == b[i])
		i++;
	return i;
}

/* One image has something there, the other nothing. */
static int expect_zeroes(struct compare *c, unsigned i, uint64_t offset, uint64_t bytes)
{
	int ret = read_some(c, i, offset, bytes);
	uint64_t at = 0;

	if (ret)
		return ret;
	if (is_all_zero(c->buf[i], bytes))
		return 0;
	while (!c->buf[i][at])
		at++;
	img_say(c->t, "Content mismatch at offset %lld!\n", (long long)(offset + at / 512 * 512));
	return 1;
}

static int compare_piece(struct compare *c, uint64_t offset, uint64_t bytes, const struct node_extent e[2])
{
	int ret;

	if (e[0].zero && e[1].zero)
		return 0;
	if (e[0].allocated != e[1].allocated)
		return expect_zeroes(c, e[0].allocated ? 0 : 1, offset, bytes);
	if (!e[0].allocated)
		return 0;
	ret = read_some(c, 0, offset, bytes);
	if (!ret)
		ret = read_some(c, 1, offset, bytes);
	if (ret || !memcmp(c->buf[0], c->buf[1], bytes))
		return ret;
	img_say(c->t, "Content mismatch at offset %lld!\n",
		(long long)(offset + first_difference(c->buf[0], c->buf[1], bytes) / 512 * 512));
	return 1;
}

static int get_extent(struct compare *c, unsigned i, uint64_t offset, struct node_extent *e)
{
	if (!node_status_chain(c->n[i], NULL, offset, c->n[i]->size - offset, e))
		return 0;
	img_error("Sector allocation test failed for %s", c->name[i]);
	return 3;
}

static int compare(struct compare *c)
{
	uint64_t size[2] = { c->n[0]->size, c->n[1]->size }, at = 0, both = size[0] < size[1] ? size[0] : size[1];
	unsigned longer = size[0] > size[1] ? 0 : 1;
	struct node_extent e[2];
	int ret;

	c->end = size[longer];
	if (c->strict && size[0] != size[1]) {
		img_say(c->t, "Strict mode: Image size mismatch!\n");
		return 1;
	}
	while (at < both) {
		uint64_t bytes;

		if ((ret = get_extent(c, 0, at, &e[0])) || (ret = get_extent(c, 1, at, &e[1])))
			return ret;
		if (c->strict && (e[0].allocated != e[1].allocated || e[0].zero != e[1].zero ||
				  e[0].data != e[1].data || e[0].has_offset != e[1].has_offset)) {
			img_say(c->t, "Strict mode: Offset %lld block status mismatch!\n", (long long)at);
			return 1;
		}
		bytes = e[0].bytes < e[1].bytes ? e[0].bytes : e[1].bytes;
		if (!(e[0].zero && e[1].zero) && (e[0].allocated || e[1].allocated) && bytes > PIECE)
			bytes = PIECE;
		if (bytes > both - at)
			bytes = both - at;
		ret = compare_piece(c, at, bytes, e);
		if (ret)
			return ret;
		at += bytes;
		img_progress(c->t, (double)at * 100.0 / (double)c->end);
	}
	if (size[0] != size[1])
		img_say(c->t, "Warning: Image size mismatch!\n");
	while (at < c->end) {
		ret = get_extent(c, longer, at, &e[0]);
		if (ret)
			return ret;
		if (e[0].allocated && !e[0].zero) {
			if (e[0].bytes > PIECE)
				e[0].bytes = PIECE;
			ret = expect_zeroes(c, longer, at, e[0].bytes);
			if (ret)
				return ret;
		}
		at += e[0].bytes;
		img_progress(c->t, (double)at * 100.0 / (double)c->end);
	}
	img_say(c->t, "Images are identical.\n");
	return 0;
}

int img_compare(struct img *t, int argc, char **argv)
{
	struct img_source s[2] = { 0 };
	struct compare c = { .t = t };
	const char *cache = NULL;
	bool is_opts = false, progress = false;
	int status;
	const struct img_option list[] = {
		{ 'f', NULL, IMG_TEXT, &s[0].format, "FMT", "format of the first image" },
		{ 'F', NULL, IMG_TEXT, &s[1].format, "FMT", "format of the second image" },
		{ 's', NULL, IMG_ON, &c.strict, NULL, "sizes and what is allocated must be the same too" },
		{ 0, "image-opts", IMG_ON, &is_opts, NULL, "both names are lists of options" },
		IMG_ROW_SRC_CACHE(&cache),
		IMG_ROW_PROGRESS(&progress),
		IMG_ROW_QUIET(&t->quiet),
		IMG_ROW_SHARE(&t->force_share),
		{ 0 },
	};

	status = img_options(t, list, argc, argv);
	if (status >= 0)
		return status;
	if (optind != argc - 2)
		return img_usage("Expecting two image file names");
	if (img_cache_mode(cache, &s[0].flags)) {
		img_error("Invalid source cache option: %s", cache);
		return 2;
	}
	s[1].flags = s[0].flags;
	status = 2;
	img_progress_begin(t, progress);
	for (unsigned i = 0; i < 2; i++) {
		c.name[i] = s[i].name = argv[optind + (int)i];
		s[i].is_opts = is_opts;
		c.n[i] = img_open_node(t, &s[i]);
		if (!c.n[i] || posix_memalign((void **)&c.buf[i], 4096, PIECE))
			goto out;
	}
	status = compare(&c);
out:
	for (unsigned i = 0; i < 2; i++) {
		node_close(c.n[i]);
		free(c.buf[i]);
	}
	img_progress_end(t);
	return status;
}

/* --- map --- */

struct entry {
	uint64_t start;
	struct node_extent e;
	const char *filename;
};

static bool joins(const struct entry *a, const struct entry *b)
{
	return a->e.zero == b->e.zero && a->e.data == b->e.data && a->e.allocated == b->e.allocated &&
	       a->e.depth == b->e.depth && a->e.has_offset == b->e.has_offset && a->filename == b->filename &&
	       (!a->e.has_offset || a->e.offset + a->e.bytes == b->e.offset);
}

static const char *truth(bool v)
{
	return v ? "true" : "false";
}

static int print_entry(const struct entry *x, struct entry *next, bool json)
{
	if (json) {
		printf("{ \"start\": %lld, \"length\": %lld, \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": "
		       "%s",
		       (long long)x->start, (long long)x->e.bytes, x->e.depth, truth(x->e.allocated), truth(x->e.zero),
		       truth(x->e.data));
		if (x->e.has_offset)
			printf(", \"offset\": %lld", (long long)x->e.offset);
		putchar('}');
		if (next)
			puts(",");
		return 0;
	}
	if (x->e.data && !x->e.has_offset) {
		img_error("File contains external, encrypted or compressed clusters.");
		return -1;
	}
	if (x->e.data && !x->e.zero)
		printf("%#-16llx%#-16llx%#-16llx%s\n", (unsigned long long)x->start, (unsigned long long)x->e.bytes,
		       (unsigned long long)x->e.offset, x->filename ? x->filename : "");
	/* People are told of data only: what is not any may be joined. */
	if (next && (!next->e.data || next->e.zero)) {
		next->e.data = false;
		next->e.zero = true;
	}
	return 0;
}

/* The first node down the chain that says something. */
static int extent_of(struct node *n, uint64_t at, uint64_t bytes, struct node_extent *e)
{
	for (unsigned depth = 0;; depth++, n = n->backing) {
		int ret = node_status(n, at, bytes, e);

		if (ret)
			return ret;
		if (!e->bytes) {
			*e = (struct node_extent){ .bytes = bytes, .zero = true, .allocated = true, .depth = depth };
			return 0;
		}
		e->depth = depth;
		bytes = e->bytes;
		/* What stands behind a filter is its child's. */
		while ((n->drv->is_filter || n->drv == &node_blkdebug) && n->file)
			n = n->file;
		if (e->zero || e->data)
			return 0;
		if (!n->backing) {
			/* Nobody says anything. */
			*e = (struct node_extent){ .bytes = bytes, .depth = depth, .eof = e->eof };
			return 0;
		}
	}
}

/* The same for all of the last sector, of which a file may have a part only: behind its end it is zeroes. */
static int extent_to_sector(struct node *n, uint64_t at, uint64_t bytes, struct node_extent *e)
{
	uint64_t rest;
	int ret;

	if (at >= n->size) {
		*e = (struct node_extent){ .bytes = bytes, .allocated = true, .zero = true, .has_offset = true };
		e->offset = at;
		e->file = n->file;
		return 0;
	}
	ret = extent_of(n, at, bytes, e);
	rest = align_up(n->size, 512) - n->size;
	/* Around the page cache sectors are whole. */
	if (!ret && rest && at + e->bytes == n->size && (n->flags & NODE_DIRECT || (e->zero && !e->data)))
		e->bytes += rest < bytes - e->bytes ? rest : bytes - e->bytes;
	return ret;
}

static int map(struct node *n, uint64_t at, uint64_t end, bool json)
{
	struct entry now = { .start = at }; /* what there is of nothing, as QEMU's says */
	bool have = false;

	if (json)
		putchar('[');
	else
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	while (at < end) {
		struct entry next = { .start = at };
		int ret = extent_to_sector(n, at, end - at, &next.e);

		if (ret) {
			img_error("Failed to read image metadata: %s", strerror(-ret));
			return 1;
		}
		next.filename = next.e.has_offset && next.e.file ? next.e.file->filename : NULL;
		at += next.e.bytes;
		if (have && joins(&now, &next)) {
			now.e.bytes += next.e.bytes;
			continue;
		}
		if (have && print_entry(&now, &next, json))
			return 1;
		now = next;
		have = true;
	}
	if (print_entry(&now, NULL, json))
		return 1;
	if (json)
		puts("]");
	return 0;
}

int img_map(struct img *t, int argc, char **argv)
{
	struct img_source s = { 0 };
	int64_t start = 0, length = -1;
	const char *output = NULL;
	struct node *n;
	uint64_t end;
	bool json;
	int status;
	const struct img_option list[] = {
		{ 's', "start-offset", IMG_SIZE, &start, "OFFSET", "where to begin", "start offset" },
		{ 'l', "max-length", IMG_SIZE, &length, "SIZE", "how many bytes to look at", "max length" },
		IMG_ROW_FORMAT("format", &s.format),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		IMG_ROW_OUTPUT(&output),
		IMG_ROW_SHARE(&t->force_share),
		{ 0 },
	};

	status = img_options_one(t, list, argc, argv, &s);
	if (status >= 0)
		return status;
	if (img_output(output, &json))
		return 1;
	n = img_open_node(t, &s);
	if (!n)
		return 1;
	end = align_up(n->size, 512);
	if (length >= 0 && (uint64_t)start < end && (uint64_t)length < end - (uint64_t)start)
		end = (uint64_t)(start + length);
	status = map(n, (uint64_t)start, end, json);
	node_close(n);
	return status;
}
