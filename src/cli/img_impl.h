/*
 * What the files of `vireo img` share: the image tool with the command line and the words of qemu-img, whose name it
 * takes when it is called by it. Each subcommand runs as one coroutine in the main thread.
 */
#ifndef VIREO_CLI_IMG_IMPL_H
#define VIREO_CLI_IMG_IMPL_H

#include <getopt.h> /* optind */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "block/node.h"
#include "cli/options.h"

struct img {
	struct node_ctx ctx;
	bool quiet, force_share;
	double progress, progress_said; /* percent */
	bool progress_on;
	/* What --help does: with the command as the documents have it (cli/options.h). */
	const struct img_command *command;
	cli_command_fn *help;
	void *help_opaque;
};

/* Exit status of the process. argv[0] is the subcommand's name. */
typedef int img_fn(struct img *t, int argc, char **argv);
struct img_command {
	const char *name; /* with "img " in front */
	img_fn *fn;
	const char *operands, *summary;
};
#define IMG_PREFIX 4				/* bytes of that */
extern const struct img_command img_commands[]; /* by name; ends with name == NULL */
img_fn img_create, img_info, img_check, img_convert, img_compare, img_map, img_snapshot, img_resize, img_rebase,
	img_commit, img_measure, img_dd, img_bench, img_amend, img_bitmap;

/* "qemu-img: MESSAGE" on stderr. */
void img_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with where to get help; returns 1. */
int img_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* For scripts, which look for the first three words; also in front of the help. */
#define IMG_VERSION "qemu-img version 7.2 (vireo " VIREO_VERSION ")"

/* img_help.c: all of the tool; what values mean. A command for a document, by asking it for help; all; by its rows. */
void img_help(FILE *out);
void img_values(cli_item_fn *item, FILE *out);
void img_ask(const struct img_command *c, cli_command_fn *fn, void *opaque);
void img_each_command(cli_command_fn *fn, void *opaque);
struct img_option;
void img_describe(const struct img *t, const struct img_option *const *rows, unsigned n);
/* On stdout unless -q was given. */
void img_say(const struct img *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* An option of a subcommand; a list of them ends with one that has neither letter nor name. */
enum img_option_kind {
	IMG_TEXT,   /* `to` is a const char * */
	IMG_ON,	    /* a bool that becomes true */
	IMG_SIZE,   /* an int64_t (from `least` to `most`, if that is not 0); `what` names it in messages */
	IMG_NUMBER, /* an int64_t from `least` to `most`; `what` is the whole message when it is none */
	IMG_CALL,   /* call(to, text): 0, or -1 after it has said why */
	IMG_NOTE,   /* the same without text: call(to, NULL) */
	IMG_SKIP,   /* takes text, without effect here */
	IMG_OFF,    /* takes none, without effect here */
};
struct img_option {
	char letter;	  /* 0: only the name */
	const char *name; /* NULL: only the letter */
	enum img_option_kind kind;
	void *to;
	/* For people: what it takes (NULL: nothing; "a|b": one of these words; see img_help.c) and what it does. */
	const char *value, *help;
	const char *what;
	int64_t least, most;
	int (*call)(void *to, const char *text);
	unsigned syntax; /* IMG_OR... */
};
#define IMG_OR		1u /* in the place of the row before it */
#define IMG_MUST	2u /* it, or one of those in its place, is needed */
#define IMG_MANY	4u /* more than one of those in its place may be given */
#define IMG_OPTIONS_MAX 32u

/* Rows that several lists have. */
#define IMG_ROW_FORMAT(name, to)                                                                                       \
	{                                                                                                              \
		'f', name, IMG_TEXT, to, "FMT", "format of the image (default: its header tells)"                      \
	}
#define IMG_ROW_IMAGE_OPTS(to)                                                                                         \
	{                                                                                                              \
		0, "image-opts", IMG_ON, to, NULL, "FILENAME is a list of options, as driver=qcow2,file.filename=PATH" \
	}
#define IMG_ROW_SHARE(to)                                                                                              \
	{                                                                                                              \
		'U', "force-share", IMG_ON, to, NULL, "open what is read also while others write it"                   \
	}
#define IMG_ROW_QUIET(to)                                                                                              \
	{                                                                                                              \
		'q', NULL, IMG_ON, to, NULL, "say nothing but errors"                                                  \
	}
#define IMG_ROW_PROGRESS(to)                                                                                           \
	{                                                                                                              \
		'p', NULL, IMG_ON, to, NULL, "show how far the work is"                                                \
	}
#define IMG_ROW_CACHE(to)                                                                                              \
	{                                                                                                              \
		't', NULL, IMG_TEXT, to, "CACHE", "cache mode of the image that is written"                            \
	}
#define IMG_ROW_SRC_CACHE(to)                                                                                          \
	{                                                                                                              \
		'T', NULL, IMG_TEXT, to, "CACHE", "cache mode of what is read"                                         \
	}
#define IMG_ROW_OUTPUT(to)                                                                                             \
	{                                                                                                              \
		0, "output", IMG_TEXT, to, "human|json", "for people (default), or for programs"                       \
	}
#define IMG_ROW_RATE(to)                                                                                               \
	{                                                                                                              \
		'r', NULL, IMG_SIZE, to, "RATE", "write at most so many bytes a second", "rate limit"                  \
	}
#define IMG_ROW_O(to, fn)                                                                                              \
	{                                                                                                              \
		'o', NULL, IMG_CALL, to, "OPTIONS", "options of the format, as KEY=VALUE,...; help lists them",        \
			.call = fn                                                                                     \
	}

/*
 * Take the options of `argv` by a list; --help and --object belong to all lists. `optind` is the first operand then.
 * -1, or the exit status with which to end.
 */
int img_options(struct img *t, const struct img_option *list, int argc, char **argv);

/* The same where one image is the only operand, which gets s->name. */
struct img_source;
int img_options_one(struct img *t, const struct img_option *list, int argc, char **argv, struct img_source *s);

struct img_source {
	const char *name, *format;  /* format NULL: probe */
	bool is_opts;		    /* name is a list of options */
	unsigned flags;		    /* NODE_* */
	bool target;		    /* of a copy: -U is for what is read */
	const struct opts *secrets; /* those that name secrets are for this image too; NULL: none */
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
/* One more list of -o, for IMG_CALL: `o` is a struct opts *. */
int img_add_options(void *o, const char *text);
/* Options of creating, as a list that QEMU prints for `-o help`. */
void img_print_create_options(const struct node_create_option *list);
const struct node_create_option *img_find_create_option(const struct node_create_option *list, const char *name);
/* Each option is one of these lists' (either may be NULL) and of its type. */
int img_check_create_options(const struct node_create_option *a, const struct node_create_option *b, struct opts *o,
			     struct err *err);
/* "json" or "human", NULL being that; -1: neither, which has been said. */
int img_output(const char *text, bool *json);
/* Print what -o knows for a format, when the list asks for help. */
bool img_option_help(const struct opts *o, const char *format, const char *filename, int *status);

struct json_t;
/* The same object, with the keys in the order of QEMU's dictionaries, which decides the order of all its output. */
struct json_t *img_qemu_order(struct json_t *o);
void img_print_json(struct json_t *o); /* takes it */
/* What a format tells of an image, for people. */
void img_print_members(int indent, struct json_t *o);

/*
 * Progress of a command: with `on` on stdout, else on stderr when SIGUSR1 asks for it. Begin comes first and end last,
 * also when the work failed.
 */
void img_progress_begin(struct img *t, bool on);
void img_progress(struct img *t, double percent);
void img_progress_end(struct img *t);
/* At most so many bytes a second; 0: as they come. */
struct img_rate {
	uint64_t bytes;
	double next; /* (private) when there is room again, in seconds */
};
/* Until `bytes` more may be written. Waits. */
void img_rate_wait(struct node_ctx *c, struct img_rate *r, uint64_t bytes);

/* Show a snapshot of -l instead of what the image has now; -1 when that failed, which has been said. */
int img_load_snapshot(struct node *n, const char *which);
/* For IMG_CALL: -l, into a const char *. */
int img_choose_snapshot(void *opaque, const char *text);

/* For convert --bitmaps: 0, or -1 after saying why. */
int img_bitmaps_check(struct node *src, bool skip_broken);
int img_bitmaps_copy(struct node *src, struct node *target, bool skip_broken);
/* What those of `n` may take in an image with clusters of this size. */
uint64_t img_bitmaps_size(struct node *n, uint64_t cluster);

#endif
