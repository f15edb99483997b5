/* vireo io: the commands that move bytes. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/io_impl.h"

#define MISALIGN 16u

/* One of these commands with its options. */
struct transfer {
	struct io *t;
	struct node_req r;
	const struct io_command *cmd;
	struct timespec begun;
	struct iovec *iov;
	char *buf;
	size_t size; /* of buf */
	uint8_t pattern;
	bool figures, quiet, verbose, compare, zeroes, vmstate, invalid;
	const char *source;		 /* -s of write */
	int64_t compare_at, compare_len; /* -1: to the end */
};

static void transfer_free(struct transfer *x)
{
	free(x->buf);
	free(x->iov);
}

/* --- figures --- */

static double seconds_since(const struct timespec *t)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - t->tv_sec) + (double)(now.tv_nsec - t->tv_nsec) / 1e9;
}

static void report(const char *op, const struct transfer *x, int64_t bytes)
{
	double s = seconds_since(&x->begun);
	unsigned whole = (unsigned)s;
	char a[64], b[64], took[48];

	if (x->figures || whole)
		snprintf(took, sizeof(took), "%u:%02u:%05.2f", whole / 3600, whole / 60 % 60,
			 s - (double)(whole / 60 * 60));
	else
		snprintf(took, sizeof(took), "%05.2f sec", s);
	if (x->figures) {
		printf("%lld,%d,%s,%.3f,%.3f\n", (long long)bytes, 1, took, (double)bytes / s, 1 / s);
		return;
	}
	printf("%s %lld/%lld bytes at offset %lld\n", op, (long long)bytes, (long long)bytes, (long long)x->r.offset);
	printf("%s, %d ops; %s (%s/sec and %.4f ops/sec)\n", io_size_text((double)bytes, a), 1, took,
	       io_size_text((double)bytes / s, b), 1 / s);
}

static void dump(const char *buf, int64_t offset, int64_t bytes)
{
	for (int64_t i = 0; i < bytes; i += 16) {
		int64_t n = bytes - i < 16 ? bytes - i : 16;

		printf("%08llx:  ", (unsigned long long)(offset + i));
		for (int64_t j = 0; j < n; j++)
			printf("%02x ", (uint8_t)buf[i + j]);
		putchar(' ');
		for (int64_t j = 0; j < n; j++)
			putchar(isalnum((uint8_t)buf[i + j]) ? buf[i + j] : '.');
		putchar('\n');
	}
}

static int compare(const struct transfer *x, int64_t bytes)
{
	int64_t n = x->compare_len < 0 ? bytes - x->compare_at : x->compare_len;

	for (int64_t i = 0; i < n; i++) {
		if ((uint8_t)x->buf[x->compare_at + i] != x->pattern) {
			printf("Pattern verification failed at offset %lld, %lld bytes\n",
			       (long long)(x->r.offset + (uint64_t)x->compare_at), (long long)n);
			return -EINVAL;
		}
	}
	return 0;
}

/* --- buffers --- */

static int make_buffer(struct transfer *x, size_t bytes)
{
	void *p;
	size_t room = bytes + MISALIGN;

	if (posix_memalign(&p, 4096, room)) {
		printf("no memory for %zu bytes\n", bytes);
		return -ENOMEM;
	}
	memset(p, x->pattern, room);
	x->buf = p;
	x->size = bytes;
	return 0;
}

static char *data(const struct transfer *x)
{
	return x->buf + (x->t->misalign ? MISALIGN : 0);
}

static int fill_from_file(struct transfer *x)
{
	FILE *f = fopen(x->source, "r");
	size_t got;

	if (!f) {
		perror(x->source);
		return -EINVAL;
	}
	got = fread(data(x), 1, x->size, f);
	if (ferror(f)) {
		perror(x->source);
		fclose(f);
		return -EINVAL;
	}
	fclose(f);
	if (!got && x->size) {
		fprintf(stderr, "%s: file is empty\n", x->source);
		return -EINVAL;
	}
	for (size_t at = got; at < x->size; at++)
		data(x)[at] = data(x)[at - got];
	return 0;
}

/* The buffers of several lengths. */
static int make_vector(struct transfer *x, char **lengths, int n)
{
	int64_t total = 0;
	char *p;

	x->iov = calloc((size_t)n + 1, sizeof(*x->iov));
	if (!x->iov)
		return -ENOMEM;
	for (int i = 0; i < n; i++) {
		int64_t len = io_number(lengths[i]);

		if (len < 0)
			return (int)len;
		if (len > IO_MAX_BYTES) {
			printf("Argument '%s' exceeds maximum size %llu\n", lengths[i],
			       (unsigned long long)IO_MAX_BYTES);
			return -EINVAL;
		}
		if (total > IO_MAX_BYTES - len) {
			printf("The total number of bytes exceed the maximum size %llu\n",
			       (unsigned long long)IO_MAX_BYTES);
			return -EINVAL;
		}
		x->iov[i].iov_len = (size_t)len;
		total += len;
	}
	if (make_buffer(x, (size_t)total))
		return -EINVAL;
	p = data(x);
	for (int i = 0; i < n; i++) {
		x->iov[i].iov_base = p;
		p += x->iov[i].iov_len;
	}
	x->r.iov = x->iov;
	x->r.niov = (unsigned)n;
	x->r.bytes = (uint64_t)total;
	return 0;
}

/* --- requests --- */

static int check_range(const struct transfer *x)
{
	uint64_t size = io_size(x->t);

	return x->r.offset > size || size - x->r.offset < x->r.bytes ? -EIO : 0;
}

/* What may not go on to the node as it is. */
static int prepare(struct transfer *x)
{
	struct node *n = x->t->top;
	bool write = x->r.op != BLOCK_READ;

	if (check_range(x))
		return -EIO;
	if (n->flags & NODE_NO_DISCARD)
		x->r.flags &= ~BLOCK_REQ_UNMAP;
	if (write && x->r.op != BLOCK_DISCARD && x->t->cache.writethrough && !(x->r.flags & BLOCK_REQ_COMPRESSED))
		x->r.flags |= BLOCK_REQ_FUA;
	if (x->r.flags & BLOCK_REQ_COMPRESSED && !n->drv->compresses)
		return -ENOTSUP;
	return 0;
}

static int carry_out(struct transfer *x)
{
	struct node_req copy;
	int ret;

	io_trace(x->t, &x->r);
	ret = prepare(x);
	if (ret || (!x->r.bytes && x->r.op != BLOCK_WRITE))
		return ret;
	copy = x->r; /* a node may change what it gets */
	return node_io(x->t->top, &copy);
}

static int vmstate(struct transfer *x)
{
	struct node *n = x->t->top;
	int ret;

	while (n && !n->drv->vmstate && n->file && !n->drv->has_backing)
		n = n->file;
	if (!n->drv->vmstate)
		return n->drv->is_protocol || n->file ? -ENOTSUP : -ENOMEDIUM;
	ret = n->drv->vmstate(n, x->r.op == BLOCK_WRITE, x->r.offset, data(x), x->r.bytes);
	return !ret && x->r.op == BLOCK_WRITE && x->t->cache.writethrough ? node_flush(x->t->top) : ret;
}

/* --- options --- */

static int take_options(struct transfer *x, int argc, char **argv, const char *letters)
{
	int c, ret = 0;

	while (!ret && (c = getopt(argc, argv, letters)) != -1) {
		int64_t v = 0;

		switch (c) {
		case 'b':
			x->vmstate = true;
			break;
		case 'c':
			x->r.flags |= BLOCK_REQ_COMPRESSED;
			break;
		case 'C':
			x->figures = true;
			break;
		case 'f':
			x->r.flags |= BLOCK_REQ_FUA;
			break;
		case 'i':
			x->invalid = true;
			printf("injecting invalid %s request\n", x->r.op == BLOCK_READ ? "read" : "write");
			return 0;
		case 'l':
			v = x->compare_len = io_number(optarg);
			break;
		case 'n':
			x->r.flags |= BLOCK_REQ_NO_FALLBACK;
			break;
		case 'p':
			break; /* has meant something once */
		case 'P':
			x->compare = true;
			ret = io_pattern(optarg, &x->pattern);
			break;
		case 'q':
			x->quiet = true;
			break;
		case 's':
			if (x->r.op == BLOCK_READ)
				v = x->compare_at = io_number(optarg);
			else
				x->source = optarg;
			break;
		case 'u':
			x->r.flags |= BLOCK_REQ_UNMAP;
			break;
		case 'v':
			x->verbose = true;
			break;
		case 'z':
			x->zeroes = true;
			break;
		default:
			return io_usage(x->cmd);
		}
		if (v < 0)
			ret = (int)v;
	}
	return ret;
}

static struct transfer begin(struct io *t, const char *name, enum block_op op)
{
	return (struct transfer){ .t = t,
				  .cmd = io_find(name),
				  .r = { .op = op },
				  .pattern = op == BLOCK_READ ? 0xab : 0xcd,
				  .compare_at = -1,
				  .compare_len = -1 };
}

/* "OFFSET LENGTH" at the end of the command line. */
static int take_range(struct transfer *x, char **argv, bool any_length)
{
	int64_t offset = io_number(argv[optind]), bytes;

	if (offset < 0)
		return (int)offset;
	bytes = io_number(argv[optind + 1]);
	if (bytes < 0)
		return (int)bytes;
	if (bytes > IO_MAX_BYTES && !any_length) {
		printf("length cannot exceed %llu%s, given %s\n", (unsigned long long)IO_MAX_BYTES,
		       x->r.op == BLOCK_WRITE ? " without -n" : "", argv[optind + 1]);
		return -EINVAL;
	}
	x->r.offset = (uint64_t)offset;
	x->r.bytes = (uint64_t)bytes;
	return 0;
}

static int whole_sectors(const struct transfer *x)
{
	const struct {
		uint64_t value;
		const char *what;
	} both[] = { { x->r.offset, "offset" }, { x->r.bytes, "count" } };

	for (unsigned i = 0; i < 2; i++) {
		if (both[i].value % 512) {
			printf("%lld is not a sector-aligned value for '%s'\n", (long long)both[i].value, both[i].what);
			return -EINVAL;
		}
	}
	return 0;
}

/* --- read and write --- */

static int start(struct transfer *x)
{
	if (make_buffer(x, x->r.bytes))
		return -EINVAL;
	x->iov = calloc(1, sizeof(*x->iov));
	if (!x->iov)
		return -ENOMEM;
	*x->iov = (struct iovec){ data(x), x->r.bytes };
	x->r.iov = x->iov;
	x->r.niov = 1;
	return 0;
}

int io_read(struct io *t, int argc, char **argv)
{
	struct transfer x = begin(t, "read", BLOCK_READ);
	bool limits;
	int ret = take_options(&x, argc, argv, "bCl:pP:qs:v");
	uint8_t pattern = x.pattern;

	if (ret)
		return ret;
	if (optind != argc - 2)
		return io_usage(x.cmd);
	ret = take_range(&x, argv, false);
	if (ret)
		return ret;
	limits = x.compare_at >= 0 || x.compare_len >= 0;
	if (!x.compare && limits)
		return io_usage(x.cmd);
	if (x.compare_at < 0)
		x.compare_at = 0;
	if (x.compare_len < 0)
		x.compare_len = (int64_t)x.r.bytes - x.compare_at;
	if (x.compare_len < 0 || x.compare_len > (int64_t)x.r.bytes - x.compare_at) {
		printf("pattern verification range exceeds end of read data\n");
		return -EINVAL;
	}
	if (x.vmstate && whole_sectors(&x))
		return -EINVAL;
	x.pattern = 0xab;
	ret = start(&x);
	if (ret)
		goto out;
	x.pattern = pattern;
	clock_gettime(CLOCK_MONOTONIC, &x.begun);
	ret = x.vmstate ? vmstate(&x) : carry_out(&x);
	if (ret) {
		printf("read failed: %s\n", strerror(-ret));
		goto out;
	}
	if (x.t->misalign)
		memmove(x.buf, data(&x), x.size);
	if (x.compare)
		ret = compare(&x, (int64_t)x.r.bytes);
	if (x.quiet)
		goto out;
	if (x.verbose)
		dump(x.buf, (int64_t)x.r.offset, (int64_t)x.r.bytes);
	report("read", &x, (int64_t)x.r.bytes);
out:
	transfer_free(&x);
	return ret;
}

static int write_rules(const struct transfer *x)
{
	static const struct {
		const char *text;
		unsigned flag;
	} need_z[] = { { "-n", BLOCK_REQ_NO_FALLBACK }, { "-u", BLOCK_REQ_UNMAP } };

	if (x->vmstate && x->zeroes) {
		printf("-b and -z cannot be specified at the same time\n");
		return -EINVAL;
	}
	if (x->r.flags & BLOCK_REQ_FUA && (x->vmstate || x->r.flags & BLOCK_REQ_COMPRESSED)) {
		printf("-f and -b or -c cannot be specified at the same time\n");
		return -EINVAL;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (x->r.flags & need_z[i].flag && !x->zeroes) {
			printf("%s requires -z to be specified\n", need_z[i].text);
			return -EINVAL;
		}
	}
	if (x->zeroes + x->compare + (x->source != NULL) > 1) {
		printf("Only one of -z, -P, and -s can be specified at the same time\n");
		return -EINVAL;
	}
	return 0;
}

int io_write(struct io *t, int argc, char **argv)
{
	struct transfer x = begin(t, "write", BLOCK_WRITE);
	int ret = take_options(&x, argc, argv, "bcCfnpP:qs:uz");

	if (ret)
		return ret;
	if (optind != argc - 2)
		return io_usage(x.cmd);
	if (write_rules(&x))
		return -EINVAL;
	ret = take_range(&x, argv, x.r.flags & BLOCK_REQ_NO_FALLBACK);
	if (ret)
		return ret;
	if ((x.vmstate || x.r.flags & BLOCK_REQ_COMPRESSED) && whole_sectors(&x))
		return -EINVAL;
	if (x.zeroes)
		x.r.op = BLOCK_WRITE_ZEROES;
	else
		ret = start(&x);
	if (!ret && x.source)
		ret = fill_from_file(&x);
	if (ret)
		goto out;
	clock_gettime(CLOCK_MONOTONIC, &x.begun);
	ret = x.vmstate ? vmstate(&x) : carry_out(&x);
	if (ret)
		printf("write failed: %s\n", strerror(-ret));
	else if (!x.quiet)
		report("wrote", &x, (int64_t)x.r.bytes);
out:
	transfer_free(&x);
	return ret;
}

int io_discard(struct io *t, int argc, char **argv)
{
	struct transfer x = begin(t, "discard", BLOCK_DISCARD);
	int ret = take_options(&x, argc, argv, "Cq");

	if (ret)
		return ret;
	if (optind != argc - 2)
		return io_usage(x.cmd);
	ret = take_range(&x, argv, false);
	if (ret)
		return ret;
	clock_gettime(CLOCK_MONOTONIC, &x.begun);
	ret = carry_out(&x);
	if (ret)
		printf("discard failed: %s\n", strerror(-ret));
	else if (!x.quiet)
		report("discard", &x, (int64_t)x.r.bytes);
	return ret;
}

/* --- several buffers --- */

/* "OFFSET LENGTH..." */
static int take_vector(struct transfer *x, int argc, char **argv)
{
	int64_t offset;
	uint8_t pattern = x->pattern;
	int ret;

	if (optind > argc - 2)
		return io_usage(x->cmd);
	offset = io_number(argv[optind]);
	if (offset < 0)
		return (int)offset;
	x->r.offset = (uint64_t)offset;
	if (x->r.op == BLOCK_READ)
		x->pattern = 0xab;
	ret = make_vector(x, argv + optind + 1, argc - optind - 1);
	x->pattern = pattern;
	return ret;
}

/* What a read has brought; `failed` of a comparison. */
static int show_read(struct transfer *x)
{
	int ret = 0;

	if (x->t->misalign)
		memmove(x->buf, data(x), x->size);
	x->compare_at = 0;
	if (x->compare)
		ret = compare(x, (int64_t)x->r.bytes);
	if (x->quiet)
		return ret;
	if (x->verbose)
		dump(x->buf, (int64_t)x->r.offset, (int64_t)x->r.bytes);
	report("read", x, (int64_t)x->r.bytes);
	return ret;
}

/* A vector of buffers at one offset. */
static int vectored(struct io *t, int argc, char **argv, const char *name, enum block_op op, const char *options)
{
	struct transfer x = begin(t, name, op);
	int ret = take_options(&x, argc, argv, options);

	if (!ret)
		ret = take_vector(&x, argc, argv);
	if (ret)
		goto out;
	clock_gettime(CLOCK_MONOTONIC, &x.begun);
	ret = carry_out(&x);
	if (ret)
		printf("%s failed: %s\n", name, strerror(-ret));
	else if (op == BLOCK_READ)
		ret = show_read(&x);
	else if (!x.quiet)
		report("wrote", &x, (int64_t)x.r.bytes);
out:
	transfer_free(&x);
	return ret;
}

int io_readv(struct io *t, int argc, char **argv)
{
	return vectored(t, argc, argv, "readv", BLOCK_READ, "CP:qv");
}

int io_writev(struct io *t, int argc, char **argv)
{
	return vectored(t, argc, argv, "writev", BLOCK_WRITE, "CfqP:");
}

/* --- asynchronous --- */

static void wake_body(void *opaque)
{
	co_wake(opaque);
}

static void later(struct io *t)
{
	loop_post(t->ctx.loop, wake_body, co_self());
	co_wait();
}

static void aio_body(void *opaque)
{
	struct transfer *x = opaque;
	struct io *t = x->t;
	int ret;

	/* What is wrong from the beginning is told when something is waited for, as the rest is. */
	if (check_range(x))
		later(t);
	ret = carry_out(x);

	if (ret)
		printf("%s failed: %s\n", x->r.op == BLOCK_READ ? "readv" : "aio_write", strerror(-ret));
	else if (x->r.op == BLOCK_READ)
		show_read(x);
	else if (!x->quiet)
		report("wrote", x, (int64_t)x->r.bytes);
	transfer_free(x);
	free(x);
	if (!--t->in_flight && t->drains) {
		struct co *c = t->drains;

		t->drains = NULL;
		co_wake(c);
	}
}

/* It runs until it first waits, before the next command does. */
static int aio_start(struct transfer *x)
{
	struct transfer *own = malloc(sizeof(*own));
	const struct node *top = x->t->top;

	if (!own)
		return -ENOMEM;
	clock_gettime(CLOCK_MONOTONIC, &x->begun);
	*own = *x;
	own->t->in_flight++;
	if (co_start(aio_body, own)) {
		own->t->in_flight--;
		free(own);
		return -ENOMEM;
	}
	/* Each node on its way may carry it out in a coroutine of its own. */
	for (const struct node *n = top; n; n = n->file)
		if (!co_start(wake_body, co_self()))
			co_wait();
	return 0;
}

int io_aio_read(struct io *t, int argc, char **argv)
{
	struct transfer x = begin(t, "aio_read", BLOCK_READ);
	int ret = take_options(&x, argc, argv, "CP:iqv");

	if (ret || x.invalid)
		return ret;
	ret = take_vector(&x, argc, argv);
	if (!ret)
		ret = aio_start(&x);
	if (ret)
		transfer_free(&x);
	return ret;
}

static int aio_zeroes(struct transfer *x, int argc, char **argv)
{
	int ret;

	if (optind != argc - 2) {
		printf("-z supports only a single length parameter\n");
		return -EINVAL;
	}
	ret = take_range(x, argv, true);
	x->r.op = BLOCK_WRITE_ZEROES;
	return ret;
}

int io_aio_write(struct io *t, int argc, char **argv)
{
	struct transfer x = begin(t, "aio_write", BLOCK_WRITE);
	int ret = take_options(&x, argc, argv, "CfiqP:uz");

	if (ret || x.invalid)
		return ret;
	if (optind > argc - 2)
		return io_usage(x.cmd);
	if (x.zeroes && optind != argc - 2) {
		printf("-z supports only a single length parameter\n");
		return -EINVAL;
	}
	if (x.r.flags & BLOCK_REQ_UNMAP && !x.zeroes) {
		printf("-u requires -z to be specified\n");
		return -EINVAL;
	}
	ret = x.zeroes ? aio_zeroes(&x, argc, argv) : take_vector(&x, argc, argv);
	if (!ret)
		ret = aio_start(&x);
	if (ret)
		transfer_free(&x);
	return ret;
}
