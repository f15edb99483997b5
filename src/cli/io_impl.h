/*
 * What the files of `vireo io` share: one image, and commands of a line each that read and write it, with the command
 * line and the words of qemu-io. Everything runs in one coroutine of the main thread, which waits where a request does.
 */
#ifndef VIREO_CLI_IO_IMPL_H
#define VIREO_CLI_IO_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "block/node.h"
#include "cli/options.h"

/* The most bytes of one request: what QEMU takes. */
#define IO_MAX_BYTES ((int64_t)(INT32_MAX >> 9) << 9)

struct io_cache {
	bool direct, no_flush, writethrough;
};

struct io {
	struct node_ctx ctx;
	struct node *top; /* the image; NULL: none is open */
	/* What it was opened with, for reopen. */
	char *name;
	struct opts *options;
	unsigned flags;
	struct io_cache cache;
	bool snapshot, copy_on_read;

	bool misalign;	 /* buffers begin 16 bytes behind a page */
	bool image_opts; /* names are lists of options */
	bool quit;
	unsigned in_flight; /* asynchronous requests */
	struct co *drains;  /* waits for the end of the last of them */
	struct co *waits;   /* for input, the end of a pause, or a break */
	unsigned traced;    /* events that are on (io_trace.c) */
	FILE *trace_log;    /* where they go; NULL: standard error */
};

struct io_command {
	const char *name, *alt;
	int (*fn)(struct io *t, int argc, char **argv); /* 0 or -errno */
	int min, max;					/* arguments; max -1: any number */
	unsigned flags;					/* IO_* */
	const char *args, *oneline, *help;
};
#define IO_NO_FILE 1u /* needs no open image */
#define IO_WRITES  2u
#define IO_RESIZES 4u

extern const struct io_command io_commands[]; /* by name; ends with name == NULL */
void io_items(cli_item_fn *item, FILE *out);  /* each for help and the man page */
const struct io_command *io_find(const char *name);
/* Carry out one line. */
int io_line(struct io *t, const char *line);
int io_usage(const struct io_command *c); /* -EINVAL */

/* "qemu-io: MESSAGE" on stderr; returns -EINVAL. */
int io_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

int io_open(struct io *t, const char *name, struct opts *o, bool force_share);
/* Waits for what is in flight. */
void io_close(struct io *t);
void io_drain(struct io *t);
bool io_cache_mode(const char *mode, struct io_cache *out); /* false: there is no such mode */
bool io_discard_mode(const char *mode, unsigned *flags);
bool io_aio_mode(const char *mode);
/* The size as QEMU sees it, in whole sectors. */
uint64_t io_size(const struct io *t);

/* Lines of standard input, with a prompt. */
struct io_prompt;
struct io_prompt *io_prompt_new(struct io *t); /* NULL: no memory */
char *io_prompt_line(struct io_prompt *p);     /* waits; caller frees. NULL: the end */
void io_prompt_free(struct io_prompt *p);

/* What -T says. -1: go on; else the exit status, after having said why. */
int io_trace_option(struct io *t, const char *text);
void io_trace(const struct io *t, const struct node_req *r);
void io_trace_end(struct io *t);

/* A number of the command line; a negative one after having said why. */
int64_t io_number(const char *text);
/* "64 KiB" */
const char *io_size_text(double bytes, char buf[64]);
int io_pattern(const char *text, uint8_t *out);

/* The commands. */
int io_open_cmd(struct io *t, int argc, char **argv);
int io_close_cmd(struct io *t, int argc, char **argv);
int io_reopen(struct io *t, int argc, char **argv);
int io_read(struct io *t, int argc, char **argv);
int io_write(struct io *t, int argc, char **argv);
int io_readv(struct io *t, int argc, char **argv);
int io_writev(struct io *t, int argc, char **argv);
int io_aio_read(struct io *t, int argc, char **argv);
int io_aio_write(struct io *t, int argc, char **argv);
int io_discard(struct io *t, int argc, char **argv);
int io_info(struct io *t, int argc, char **argv);

#endif
