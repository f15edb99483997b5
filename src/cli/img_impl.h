/*
 * What the files of `vireo img` share: the image tool with the command line and the words of qemu-img, whose name it
 * takes when it is called by it. Each subcommand runs as one coroutine in the main thread.
 */
#ifndef VIREO_CLI_IMG_IMPL_H
#define VIREO_CLI_IMG_IMPL_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/node.h"

struct img {
	struct node_ctx ctx;
	const char *image_opts; /* (of img_open) the names are option lists */
	bool quiet, force_share;
};

/* Exit status of the process. argv[0] is the subcommand's name. */
typedef int img_fn(struct img *t, int argc, char **argv);
img_fn img_create, img_info, img_check, img_convert, img_compare, img_map, img_snapshot, img_resize, img_rebase,
	img_commit, img_measure;

/* "qemu-img: MESSAGE" on stderr. */
void img_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with where to get help; returns 1. */
int img_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* For what getopt_long() returns on ':' and '?'; returns 1. */
int img_bad_option(int c, char **argv);
/* On stdout unless -q was given. */
void img_say(const struct img *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Values of long options without a letter. */
enum {
	IMG_OUTPUT = 256,
	IMG_CHAIN,
	IMG_OBJECT,
	IMG_IMAGE_OPTS,
	IMG_TARGET_OPTS,
	IMG_PREALLOC,
	IMG_SHRINK,
	IMG_SALVAGE,
	IMG_TARGET_ZERO,
	IMG_SIZE,
	IMG_OTHER,
};

struct img_source {
	const char *name, *format; /* format NULL: probe */
	bool is_opts;		   /* name is a list of options */
	unsigned flags;		   /* NODE_* */
};
/* NULL when that failed, which has been said. */
struct node *img_open_node(struct img *t, const struct img_source *s);
/* Cache modes of -t and -T; -1: there is no such mode. */
int img_cache_mode(const char *mode, unsigned *flags);
/* A size of the command line; -1 when it is none, which has been said. */
int img_size(const char *what, const char *text, int64_t *out);
/* "64 MiB". */
const char *img_size_text(uint64_t bytes, char buf[32]);

/* Driver options for creating: `o` is the list from -o. */
struct img_creation {
	const char *filename, *format;
	const char *backing, *backing_format;
	struct opts *o;
	int64_t size;	 /* -1: from -o or the backing file */
	bool no_backing; /* do not look at the backing file */
	bool quiet;
};
int img_create_image(struct img *t, struct img_creation *c, struct err *err);
/* One more list of -o. */
int img_add_options(struct opts **o, const char *text);
/* Print what -o knows for a format, when the list asks for help. */
bool img_option_help(const struct opts *o, const char *format, const char *filename, int *status);

struct json_t;
/* The same object, with the keys in the order of QEMU's dictionaries, which decides the order of all its output. */
struct json_t *img_qemu_order(struct json_t *o);
void img_print_json(struct json_t *o); /* takes it */

void img_progress(const struct img *t, bool on, double percent);
bool img_is_zero(const void *buf, size_t n);

#endif
