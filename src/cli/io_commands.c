/* The table of `vireo io`'s commands, their lines taken apart, and the small ones among them. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "block/blkdebug.h"
#include "cli/io_impl.h"

int io_usage(const struct io_command *c)
{
	printf("%s %s -- %s\n", c->name, c->args ? c->args : "(null)", c->oneline);
	return -EINVAL;
}

/* --- values --- */

int64_t io_number(const char *text)
{
	uint64_t v;
	int ret = opts_parse_size(text, &v);

	if (ret == -1) {
		printf("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n", text);
		return -EINVAL;
	}
	if (ret || v > INT64_MAX) {
		printf("Parsing error: argument too large -- %s\n", text);
		return -ERANGE;
	}
	return (int64_t)v;
}

const char *io_size_text(double bytes, char buf[64])
{
	static const char *const units[] = { " bytes", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB" };
	unsigned i = 0;
	char *zeroes;

	while (i < 6 && bytes >= (double)(1ull << (10 * (i + 1))))
		i++;
	snprintf(buf, 56, i ? "%.3f" : "%f", bytes / (double)(1ull << (10 * i)));
	zeroes = strstr(buf, ".000");
	strcpy(zeroes ? zeroes : buf + strlen(buf), units[i]);
	return buf;
}

int io_pattern(const char *text, uint8_t *out)
{
	char *end;
	long v = strtol(text, &end, 0);

	if (v < 0 || v > UINT8_MAX || *end) {
		printf("%s is not a valid pattern byte\n", text);
		return -EINVAL;
	}
	*out = (uint8_t)v;
	return 0;
}

/* --- small commands --- */

static int aio_flush(struct io *t, int argc, char **argv)
{
	io_drain(t);
	return 0;
}

static int flush(struct io *t, int argc, char **argv)
{
	return node_flush(t->top);
}

static int truncate_image(struct io *t, int argc, char **argv)
{
	struct node_resize how = { .exact = false };
	struct err err;
	int64_t size;
	int c, ret;

	while ((c = getopt(argc, argv, "m:")) != -1) {
		unsigned i = 0;

		if (c != 'm')
			return io_usage(io_find("truncate"));
		while (node_prealloc_names[i] && strcmp(node_prealloc_names[i], optarg))
			i++;
		if (!node_prealloc_names[i])
			return io_error("Invalid preallocation mode '%s'", optarg);
		how.prealloc = (enum node_prealloc)i;
	}
	if (optind >= argc)
		return io_usage(io_find("truncate"));
	size = io_number(argv[optind]);
	if (size < 0)
		return (int)size;
	how.size = (uint64_t)size;
	ret = node_truncate(t->top, &how, &err);
	if (ret)
		io_error("%s", err.msg);
	return ret;
}

static int length(struct io *t, int argc, char **argv)
{
	char text[64];

	printf("%s\n", io_size_text((double)io_size(t), text));
	return 0;
}

/* How much from `offset` on is allocated here, or not: in *bytes; 1 or 0, or -errno. */
static int allocated(struct io *t, uint64_t offset, uint64_t *bytes)
{
	struct node_extent e;
	int ret = node_status(t->top, offset, *bytes, &e);

	if (ret)
		return ret;
	/* The last sector may not be whole. */
	if (e.eof && offset + e.bytes == t->top->size && *bytes > e.bytes && offset + e.bytes < io_size(t)) {
		e.bytes = io_size(t) - offset;
		if (e.bytes > *bytes)
			e.bytes = *bytes;
	}
	*bytes = e.bytes;
	return e.allocated;
}

static int alloc(struct io *t, int argc, char **argv)
{
	int64_t start = io_number(argv[1]), count = 512;
	uint64_t offset, left, sum = 0;
	char text[64];

	if (start < 0)
		return (int)start;
	if (argc == 3)
		count = io_number(argv[2]);
	if (count < 0)
		return (int)count;
	offset = (uint64_t)start;
	left = (uint64_t)count;
	while (left) {
		uint64_t n = left;
		int ret = allocated(t, offset, &n);

		if (ret < 0) {
			printf("is_allocated failed: %s\n", strerror(-ret));
			return ret;
		}
		offset += n;
		left -= n;
		if (ret)
			sum += n;
		if (!n) {
			count -= (int64_t)left;
			left = 0;
		}
	}
	printf("%lld/%lld bytes allocated at offset %s\n", (long long)sum, (long long)count,
	       io_size_text((double)start, text));
	return 0;
}

static int map(struct io *t, int argc, char **argv)
{
	uint64_t offset = 0, end = io_size(t);
	char a[64], b[64];

	while (offset < end) {
		uint64_t run = end - offset, n;
		int first = allocated(t, offset, &run), ret = first;

		for (; ret == first && first >= 0 && run && offset + run < end; run += n) {
			n = end - offset - run;
			ret = allocated(t, offset + run, &n);
			if (ret != first || !n)
				break;
		}
		if (first < 0) {
			io_error("Failed to get allocation status: %s", strerror(-first));
			return first;
		}
		if (!run) {
			io_error("Unexpected end of image");
			return -EIO;
		}
		printf("%s (0x%llx) bytes %s at offset %s (0x%llx)\n", io_size_text((double)run, a),
		       (unsigned long long)run, first ? "    allocated" : "not allocated",
		       io_size_text((double)offset, b), (unsigned long long)offset);
		offset += run;
	}
	return 0;
}

static int set_break(struct io *t, int argc, char **argv)
{
	int ret = blkdebug_break(t->top, argv[1], argv[2]);

	if (ret)
		printf("Could not set breakpoint: %s\n", strerror(-ret));
	return ret;
}

static int remove_break(struct io *t, int argc, char **argv)
{
	int ret = blkdebug_remove_break(t->top, argv[1]);

	if (ret)
		printf("Could not remove breakpoint %s: %s\n", argv[1], strerror(-ret));
	return ret;
}

static int resume(struct io *t, int argc, char **argv)
{
	int ret = blkdebug_resume(t->top, argv[1]);

	if (ret)
		printf("Could not resume request: %s\n", strerror(-ret));
	return ret;
}

static void wake_waiter(void *opaque)
{
	struct io *t = opaque;
	struct co *c = t->waits;

	t->waits = NULL;
	if (c)
		co_wake(c);
}

static int wait_break(struct io *t, int argc, char **argv)
{
	while (!blkdebug_is_suspended(t->top, argv[1])) {
		t->waits = co_self();
		blkdebug_on_suspend(t->top, wake_waiter, t);
		co_wait();
	}
	return 0;
}

static int abort_here(struct io *t, int argc, char **argv)
{
	abort();
}

static int sigraise(struct io *t, int argc, char **argv)
{
	int64_t sig = io_number(argv[1]);

	if (sig < 0)
		return (int)sig;
	if (sig > NSIG) {
		printf("signal argument '%s' is too large to be a valid signal\n", argv[1]);
		return -EINVAL;
	}
	fflush(stdout);
	raise((int)sig);
	return 0;
}

static void on_timer(void *opaque, int fd, uint32_t events)
{
	wake_waiter(opaque);
}

static int sleep_ms(struct io *t, int argc, char **argv)
{
	char *end;
	long ms = strtol(argv[1], &end, 0);
	struct itimerspec at = { .it_value = { ms / 1000, ms % 1000 * 1000000 } };
	struct loop_fd *watch;
	struct err err;
	int fd;

	if (ms < 0 || *end) {
		printf("%s is not a valid number\n", argv[1]);
		return -EINVAL;
	}
	if (!ms)
		return 0;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	watch = fd < 0 || timerfd_settime(fd, 0, &at, NULL) ? NULL
							    : loop_fd_add(t->ctx.loop, fd, EPOLLIN, on_timer, t, &err);
	if (watch) {
		t->waits = co_self();
		co_wait();
		loop_fd_del(watch);
	}
	if (fd >= 0)
		close(fd);
	return watch ? 0 : -errno;
}

static int quit(struct io *t, int argc, char **argv)
{
	t->quit = true;
	return 0;
}

/* --- help --- */

static void help_line(const char *name, const struct io_command *c)
{
	printf("%s %s%s-- %s\n", name, c->args ? c->args : "", c->args ? " " : "", c->oneline);
}

static int help(struct io *t, int argc, char **argv)
{
	const struct io_command *c;

	if (argc < 2) {
		for (c = io_commands; c->name; c++)
			help_line(c->name, c);
		puts("\nUse 'help commandname' for extended help.");
		return 0;
	}
	c = io_find(argv[1]);
	if (!c) {
		printf("command %s not found\n", argv[1]);
		return -EINVAL;
	}
	help_line(argv[1], c);
	if (c->help)
		fputs(c->help, stdout);
	return 0;
}

/* --- the table --- */

/* Options that several commands have. */
#define H_C  "  -C  figures for programs: bytes,operations,time,bytes/s,operations/s\n"
#define H_P  "  -P  the byte that a read must find, or that is written (default 0xcd)\n"
#define H_Q  "  -q  no figures\n"
#define H_V  "  -v  show the bytes\n"
#define H_I  "  -i  count a request that is invalid, and do nothing\n"
#define H_B  "  -b  the state of a machine behind the disk, instead of the disk\n"
#define H_F  "  -f  on stable storage before it is done\n"
#define H_UZ "  -u  with -z: the space may be given back\n  -z  zeroes, by the request for them\n"

const struct io_command io_commands[] = {
	{ "abort", NULL, abort_here, 0, 0, IO_NO_FILE, NULL, "simulate a program crash using abort(3)", NULL },
	{ "aio_flush", NULL, aio_flush, 0, 0, 0, NULL, "completes all outstanding aio requests", NULL },
	{ "aio_read", NULL, io_aio_read, 2, -1, 0, "[-Ciqv] [-P pattern] off len [len..]",
	  "asynchronously reads a number of bytes", H_C H_I H_P H_Q H_V },
	{ "aio_write", NULL, io_aio_write, 2, -1, IO_WRITES, "[-Cfiquz] [-P pattern] off len [len..]",
	  "asynchronously writes a number of bytes", H_C H_F H_I H_P H_Q H_UZ },
	{ "alloc", "a", alloc, 1, 2, 0, "offset [count]", "checks if offset is allocated in the file", NULL },
	{ "break", NULL, set_break, 2, 2, 0, "event tag",
	  "sets a breakpoint on event and tags the stopped request as tag", NULL },
	{ "close", "c", io_close_cmd, 0, 0, 0, NULL, "close the current open file", NULL },
	{ "discard", "d", io_discard, 2, -1, IO_WRITES, "[-Cq] off len",
	  "discards a number of bytes at a specified offset", H_C H_Q },
	{ "flush", "f", flush, 0, 0, 0, NULL, "flush all in-core file state to disk", NULL },
	{ "help", "?", help, 0, 1, IO_NO_FILE, "[command]", "help for one or all commands", NULL },
	{ "info", "i", io_info, 0, 0, 0, NULL, "prints information about the current file", NULL },
	{ "length", "l", length, 0, 0, 0, NULL, "gets the length of the current file", NULL },
	{ "map", NULL, map, 0, 0, 0, "", "prints the allocated areas of a file", NULL },
	{ "open", "o", io_open_cmd, 1, -1, IO_NO_FILE, "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
	  "open the file specified by path",
	  "  -r  for reading only\n  -s  writes go to a file that is forgotten\n  -C  copy what is read from backing "
	  "files\n"
	  "  -n  around the page cache, as -t none\n  -U  while others write it\n  -k, -i  how the host is asked\n"
	  "  -t  cache mode\n  -d  what discards do\n  -o  options of the driver\n" },
	{ "quit", "q", quit, -1, -1, IO_NO_FILE, NULL, "exit the program", NULL },
	{ "read", "r", io_read, 2, -1, 0, "[-abCqv] [-P pattern [-s off] [-l len]] off len",
	  "reads a number of bytes at a specified offset",
	  H_B H_C "  -l  how many bytes -P looks at\n" H_P H_Q "  -s  where -P begins to look\n" H_V },
	{ "readv", NULL, io_readv, 2, -1, 0, "[-Cqv] [-P pattern] off len [len..]",
	  "reads a number of bytes at a specified offset", H_C H_P H_Q H_V },
	{ "remove_break", NULL, remove_break, 1, 1, 0, "tag", "remove a breakpoint by tag", NULL },
	{ "reopen", NULL, io_reopen, 0, -1, 0, "[(-r|-w)] [-c cache] [-o options]", "reopens an image with new options",
	  "  -r  for reading only\n  -w  for writing too\n  -c  cache mode\n  -o  options of the driver\n" },
	{ "resume", NULL, resume, 1, 1, 0, "tag", "resumes the request tagged as tag", NULL },
	{ "sigraise", NULL, sigraise, 1, 1, IO_NO_FILE, "signal", "raises a signal", NULL },
	{ "sleep", NULL, sleep_ms, 1, 1, IO_NO_FILE, NULL, "waits for the given value in milliseconds", NULL },
	{ "truncate", "t", truncate_image, 1, 3, IO_WRITES | IO_RESIZES, "[-m prealloc_mode] off",
	  "truncates the current file at the given offset", NULL },
	{ "wait_break", NULL, wait_break, 1, 1, 0, "tag", "waits for the suspension of a request", NULL },
	{ "write", "w", io_write, 2, -1, IO_WRITES, "[-bcCfnquz] [-P pattern | -s source_file] off len",
	  "writes a number of bytes at a specified offset",
	  H_B "  -c  compressed\n" H_C H_F "  -n  with -z: fail rather than write zeroes out\n" H_P H_Q
	      "  -s  the bytes of a file, over and over\n" H_UZ },
	{ "writev", NULL, io_writev, 2, -1, IO_WRITES, "[-Cfq] [-P pattern] off len [len..]",
	  "writes a number of bytes at a specified offset", H_C H_F H_P H_Q },
	{ NULL },
};

void io_items(cli_item_fn *item, FILE *out)
{
	for (const struct io_command *c = io_commands; c->name; c++) {
		char name[40];

		snprintf(name, sizeof(name), "%s%s%s", c->name, c->alt ? ", " : "", c->alt ? c->alt : "");
		item(out, (const char *[4]){ name, c->args ? c->args : "", c->oneline, c->help });
	}
}

const struct io_command *io_find(const char *name)
{
	for (const struct io_command *c = io_commands; c->name; c++)
		if (!strcmp(c->name, name) || (c->alt && !strcmp(c->alt, name)))
			return c;
	return NULL;
}

static int run(struct io *t, const struct io_command *c, int argc, char **argv)
{
	int n = argc - 1;

	if (!(c->flags & IO_NO_FILE) && !t->top) {
		fputs("no file open, try 'help open'\n", stderr);
		return -EINVAL;
	}
	if (n < c->min || (c->max != -1 && n > c->max)) {
		fprintf(stderr, "bad argument count %d to %s, expected ", n, argv[0]);
		if (c->max == -1)
			fprintf(stderr, "at least %d arguments\n", c->min);
		else if (c->min == c->max)
			fprintf(stderr, "%d arguments\n", c->min);
		else
			fprintf(stderr, "between %d and %d arguments\n", c->min, c->max);
		return -EINVAL;
	}
	if (c->flags & IO_WRITES && node_readonly(t->top)) {
		io_error("Block node is read-only");
		return -EACCES;
	}
	optind = 0;
	return c->fn(t, argc, argv);
}

int io_line(struct io *t, const char *line)
{
	char *copy = strdup(line), *rest = copy, *p;
	char **argv = calloc(strlen(line) / 2 + 2, sizeof(*argv));
	const struct io_command *c;
	int argc = 0, ret = 0;

	if (!copy || !argv) {
		ret = -ENOMEM;
		goto out;
	}
	while ((p = strsep(&rest, " ")))
		if (*p)
			argv[argc++] = p;
	if (!argc)
		goto out;
	c = io_find(argv[0]);
	if (c) {
		ret = run(t, c, argc, argv);
	} else {
		fprintf(stderr, "command \"%s\" not found\n", argv[0]);
		ret = -EINVAL;
	}
out:
	free(argv);
	free(copy);
	return ret;
}
