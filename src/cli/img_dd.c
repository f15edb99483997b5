/* vireo img dd and bench: plain copying in blocks, and many requests at once against a clock. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/now.h"
#include "cli/img_impl.h"

/* --- dd --- */

struct dd {
	int64_t bs, count, skip; /* count -1: all; count and skip in blocks */
	const char *in, *out, *in_format, *out_format;
};

static int block_size(const char *text, int64_t *out)
{
	if (img_size("bs", text, out))
		return -1;
	if (*out >= 1 && *out <= INT_MAX)
		return 0;
	img_error("Invalid bs specified. Must be between %d and %d.", 1, INT_MAX);
	return -1;
}

/* "if=FILE" and the like. */
static int operand(struct dd *d, const char *text)
{
	const char *value = strchr(text, '=');
	size_t n = value ? (size_t)(value - text) : 0;

	if (!value++)
		n = SIZE_MAX;
	else if (n == 2 && !memcmp(text, "bs", n))
		return block_size(value, &d->bs);
	else if (n == 5 && !memcmp(text, "count", n))
		return img_size("count", value, &d->count);
	else if (n == 4 && !memcmp(text, "skip", n))
		return img_size("skip", value, &d->skip);
	else if (n == 2 && !memcmp(text, "if", n))
		d->in = value;
	else if (n == 2 && !memcmp(text, "of", n))
		d->out = value;
	else
		value = NULL;
	if (value && n != SIZE_MAX)
		return 0;
	img_error("unrecognized operand %.*s", n == SIZE_MAX ? INT_MAX : (int)n, text);
	return -1;
}

/* An image of `size` bytes, open. */
static struct node *make_output(struct img *t, const struct dd *d, uint64_t size)
{
	struct img_source s = {
		.name = d->out, .format = d->out_format, .flags = NODE_RDWR | NODE_RESIZE, .target = true
	};
	struct img_creation c = {
		.filename = d->out, .format = d->out_format, .o = opts_new(), .size = (int64_t)size, .quiet = true
	};
	struct err err;
	int ret = img_create_image(t, &c, &err);

	opts_free(c.o);
	if (!ret)
		return img_open_node(t, &s);
	img_error("%s: error while creating output image: %s", d->out, err.msg);
	return NULL;
}

static int dd_copy(struct node *in, struct node *out, uint64_t from, uint64_t end, uint64_t bs)
{
	char *buf = malloc(bs);
	uint64_t to = 0;
	int ret = buf ? 0 : -ENOMEM;

	if (ret)
		img_error("%s", strerror(ENOMEM));
	while (!ret && from < end) {
		uint64_t n = end - from < bs ? end - from : bs;

		ret = node_read(in, from, buf, n);
		if (ret) {
			img_error("error while reading from input image file: %s", strerror(-ret));
			break;
		}
		ret = node_write(out, to, buf, n);
		if (ret)
			img_error("error while writing to output image file: %s", strerror(-ret));
		from += n;
		to += n;
	}
	free(buf);
	return ret;
}

static int dd_run(struct img *t, const struct dd *d, struct node *in)
{
	uint64_t size = in->size, bs = (uint64_t)d->bs, skip, bytes;
	struct node *out;
	int ret;

	if (!node_driver_find(d->out_format)) {
		img_error("Unknown file format");
		return 1;
	}
	if (d->count >= 0 && !__builtin_mul_overflow((uint64_t)d->count, bs, &bytes) && bytes < size)
		size = bytes;
	if (__builtin_mul_overflow((uint64_t)d->skip, bs, &skip))
		skip = UINT64_MAX;
	out = make_output(t, d, skip > size ? 0 : size - skip);
	if (!out)
		return 1;
	if (skip > size) {
		img_error("%s: cannot skip to specified offset", d->in);
		skip = size;
	}
	ret = dd_copy(in, out, skip, size, bs);
	node_close(out);
	return ret ? 1 : 0;
}

int img_dd(struct img *t, int argc, char **argv)
{
	struct dd d = { .bs = 512, .count = -1, .out_format = "raw" };
	struct img_source s = { 0 };
	struct node *in;
	int status;
	const struct img_option list[] = {
		IMG_ROW_FORMAT(NULL, &s.format),
		{ 0, "image-opts", IMG_ON, &s.is_opts, NULL, "what if= names is a list of options" },
		{ 'O', NULL, IMG_TEXT, &d.out_format, "FMT", "format of the copy (default: raw)" },
		IMG_ROW_SHARE(&t->force_share),
		{ 0 },
	};

	status = img_options(t, list, argc, argv);
	if (status >= 0)
		return status;
	for (int i = optind; i < argc; i++)
		if (operand(&d, argv[i]))
			return 1;
	if (!d.in || !d.out) {
		img_error("Must specify both input and output files");
		return 1;
	}
	s.name = d.in;
	in = img_open_node(t, &s);
	status = in ? dd_run(t, &d, in) : 1;
	node_close(in);
	return status;
}

/* --- bench --- */

struct bench {
	struct node *n;
	int64_t count, depth, offset, size, step, pattern, flush;
	bool write, no_drain;
	char *buf;
	struct iovec v;
	struct slot *slots, *free_slots;
	int64_t left, flying; /* requests not done; on their way */
	bool flushing, wakened;
	struct co *waiting;
	int ret;
};

struct slot {
	struct node_req r;
	struct bench *b;
	struct slot *next;
	bool is_flush;
};

static void bench_done(struct node_req *r, int ret)
{
	struct slot *x = (struct slot *)((char *)r - offsetof(struct slot, r));
	struct bench *b = x->b;

	if (ret && !b->ret)
		b->ret = ret;
	x->next = b->free_slots;
	b->free_slots = x;
	b->flying--;
	if (!x->is_flush)
		b->left--;
	if (b->waiting && !b->wakened) {
		b->wakened = true;
		co_wake(b->waiting);
	}
}

static void bench_submit(struct bench *b, enum block_op op)
{
	struct slot *x = b->free_slots;

	b->free_slots = x->next;
	x->b = b;
	x->is_flush = op == BLOCK_FLUSH;
	x->r = (struct node_req){ .op = op, .done = bench_done };
	if (!x->is_flush) {
		x->r.offset = (uint64_t)b->offset;
		x->r.bytes = (uint64_t)b->size;
		x->r.iov = &b->v;
		x->r.niov = 1;
		b->offset = (b->offset + b->step) % (int64_t)b->n->size;
	}
	b->flying++;
	node_submit(b->n, &x->r);
}

static void bench_wait(struct bench *b)
{
	b->waiting = co_self();
	b->wakened = false;
	co_wait();
	b->waiting = NULL;
}

static void bench_loop(struct bench *b)
{
	int64_t sent = 0, flushed = 0;

	while ((b->left || b->flying) && !b->ret) {
		bool due = b->flush && sent - flushed >= b->flush;

		if (due && !b->no_drain && b->flying) {
			bench_wait(b);
		} else if (due) {
			flushed = sent;
			bench_submit(b, BLOCK_FLUSH);
			while (!b->no_drain && b->flying)
				bench_wait(b);
		} else if (sent < b->count && b->flying < b->depth) {
			sent++;
			bench_submit(b, b->write ? BLOCK_WRITE : BLOCK_READ);
		} else {
			bench_wait(b);
		}
	}
	while (b->flying)
		bench_wait(b);
}

static int bench_run(struct bench *b)
{
	int64_t took;

	if (b->offset + b->size > (int64_t)b->n->size && b->count) {
		img_error("Failed request: %s", strerror(EIO));
		return 1;
	}
	/* All requests have one buffer: what is in it does not matter. */
	b->slots = calloc((size_t)b->depth + 1, sizeof(*b->slots));
	if (!b->slots || posix_memalign((void **)&b->buf, 4096, (size_t)b->size + 1)) {
		img_error("%s", strerror(ENOMEM));
		return 1;
	}
	memset(b->buf, (int)b->pattern, (size_t)b->size);
	b->v = (struct iovec){ b->buf, (size_t)b->size };
	for (int64_t i = 0; i <= b->depth; i++) {
		b->slots[i].next = b->free_slots;
		b->free_slots = &b->slots[i];
	}
	b->left = b->count;
	took = -now_ns();
	bench_loop(b);
	took += now_ns();
	if (b->ret) {
		img_error("Failed request: %s", strerror(-b->ret));
		return 1;
	}
	printf("Run completed in %3.3f seconds.\n", (double)took / 1e9);
	return 0;
}

static const char *check_bench(const struct bench *b, const char *aio)
{
	if (aio && strcmp(aio, "threads") && strcmp(aio, "native") && strcmp(aio, "io_uring"))
		return "Invalid aio option";
	if (b->flush && !b->write)
		return "--flush-interval is only available in write tests";
	if (b->flush && b->flush < b->depth)
		return "Flush interval can't be smaller than depth";
	return NULL;
}

int img_bench(struct img *t, int argc, char **argv)
{
	struct bench b = { .count = 75000, .depth = 64, .size = 4096 };
	struct img_source s = { 0 };
	const char *cache = NULL, *aio = NULL, *why;
	int status;
	const struct img_option list[] = {
		{ 'c', NULL, IMG_NUMBER, &b.count, "N", "number of requests (default: 75000)",
		  "Invalid request count specified", 0, INT_MAX },
		{ 'd', NULL, IMG_NUMBER, &b.depth, "N", "requests at once (default: 64)",
		  "Invalid queue depth specified", 0, INT_MAX },
		{ 's', NULL, IMG_SIZE, &b.size, "SIZE", "bytes of each (default: 4096)", "buffer size", 0, INT_MAX },
		{ 'o', NULL, IMG_SIZE, &b.offset, "OFFSET", "where the first begins", "offset" },
		{ 'S', NULL, IMG_SIZE, &b.step, "SIZE",
		  "from the beginning of one to that of the next (default: as -s)", "step_size", 0, INT_MAX },
		{ 'w', NULL, IMG_ON, &b.write, NULL, "write instead of reading" },
		{ 0, "pattern", IMG_NUMBER, &b.pattern, "BYTE", "with -w: what is written",
		  "Invalid pattern byte specified", 0, 255 },
		{ 0, "flush-interval", IMG_NUMBER, &b.flush, "N", "with -w: flush after so many",
		  "Invalid flush interval specified", 0, INT_MAX },
		{ 0, "no-drain", IMG_ON, &b.no_drain, NULL, "go on while a flush is on its way" },
		{ 'i', NULL, IMG_TEXT, &aio, "threads|native|io_uring", "how the host is asked" },
		{ 'n', NULL, IMG_OFF, NULL, NULL, "taken, without effect: the host is asked in the best way anyway" },
		IMG_ROW_FORMAT(NULL, &s.format),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		{ 't', NULL, IMG_TEXT, &cache, "CACHE", "cache mode of the image" },
		IMG_ROW_QUIET(&t->quiet),
		IMG_ROW_SHARE(&t->force_share),
		{ 0 },
	};

	status = img_options_one(t, list, argc, argv, &s);
	if (status >= 0)
		return status;
	s.flags = b.write ? NODE_RDWR : 0;
	why = img_cache_mode(cache, &s.flags) ? "Invalid cache mode" : check_bench(&b, aio);
	if (why) {
		img_error("%s", why);
		return 1;
	}
	if (aio)
		t->ctx.aio = strcmp(aio, "threads") ? NODE_AIO_URING : NODE_AIO_THREADS;
	if (!b.step)
		b.step = b.size;
	b.n = img_open_node(t, &s);
	if (!b.n)
		return 1;
	printf("Sending %lld %s requests, %lld bytes each, %lld in parallel (starting at offset %lld, step size "
	       "%lld)\n",
	       (long long)b.count, b.write ? "write" : "read", (long long)b.size, (long long)b.depth,
	       (long long)b.offset, (long long)b.step);
	if (b.flush)
		printf("Sending flush every %lld requests\n", (long long)b.flush);
	status = b.depth && b.n->size ? bench_run(&b) : 1;
	free(b.slots);
	free(b.buf);
	node_close(b.n);
	return status;
}
