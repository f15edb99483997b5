/* `vireo img`: finding the subcommand, and what they share. */
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/incomplete.h"
#include "block/secret.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/img_impl.h"

const struct img_command img_commands[] = {
	{ "img amend", img_amend, "FILENAME", "Change options that an image was created with" },
	{ "img bench", img_bench, "FILENAME", "Send requests to an image and measure the time they take" },
	{ "img bitmap", img_bitmap, "FILENAME BITMAP", "Change a persistent dirty bitmap" },
	{ "img check", img_check, "FILENAME", "Look for errors in the metadata of an image, and mend them" },
	{ "img commit", img_commit, "FILENAME", "Write what an image has into its backing file" },
	{ "img compare", img_compare, "FILENAME1 FILENAME2", "Tell whether two disks have the same content" },
	{ "img convert", img_convert, "FILENAME... OUTPUT", "Copy a disk, or several as one, into a new image" },
	{ "img create", img_create, "FILENAME [SIZE]", "Make an image" },
	{ "img dd", img_dd, "[bs=SIZE] [count=BLOCKS] [skip=BLOCKS] if=FILENAME of=OUTPUT", "Copy a disk in blocks" },
	{ "img info", img_info, "FILENAME", "Show what is known of an image" },
	{ "img map", img_map, "FILENAME", "Show where the data of a disk is" },
	{ "img measure", img_measure, "[FILENAME]", "Tell how large the file of an image would be" },
	{ "img rebase", img_rebase, "FILENAME", "Give an image another backing file" },
	{ "img resize", img_resize, "FILENAME [+|-]SIZE", "Make a disk larger or smaller" },
	{ "img snapshot", img_snapshot, "FILENAME", "List, make, apply and delete snapshots inside an image" },
	{ NULL },
};

/* What is behind the first line is a hint, which ends as it likes. */
void img_error(const char *fmt, ...)
{
	char *text, *hint;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	hint = strchr(text, '\n');
	if (hint)
		*hint++ = 0;
	fprintf(stderr, "qemu-img: %s\n%s", text, hint ? hint : "");
	free(text);
}

int img_usage(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	img_error("%s", text);
	fputs("Try 'qemu-img --help' for more information\n", stderr);
	return 1;
}

void img_say(const struct img *t, const char *fmt, ...)
{
	va_list ap;

	if (t->quiet)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
}

struct node *img_open_node(struct img *t, const struct img_source *s)
{
	struct opts *o = opts_new();
	struct node *n = NULL;
	const char *key, *value;
	struct err err;

	if (s->is_opts) {
		if (s->format)
			err_set(&err, "--image-opts and --format are mutually exclusive");
		if (s->format || opts_parse(o, s->name, "file", &err)) {
			img_error("%s", err.msg);
			opts_free(o);
			return NULL;
		}
	}
	if (s->format)
		opts_set(o, "driver", s->format);
	if (t->force_share && !s->target)
		opts_set(o, "force-share", "on");
	for (unsigned i = 0; s->secrets && opts_at(s->secrets, i, &key, &value); i++)
		if (strlen(key) >= 10 && !strcmp(key + strlen(key) - 10, "key-secret"))
			opts_set(o, key, value);
	n = node_open(&t->ctx, s->is_opts ? NULL : s->name, o, s->flags, &err);
	if (!n)
		img_error("Could not open '%s': %s", s->name, err.msg);
	opts_free(o);
	return n;
}

int img_cache_mode(const char *mode, unsigned *flags)
{
	static const struct {
		const char *name;
		unsigned flags;
	} modes[] = { { "none", NODE_DIRECT }, { "off", NODE_DIRECT },	    { "directsync", NODE_DIRECT },
		      { "writeback", 0 },      { "unsafe", NODE_NO_FLUSH }, { "writethrough", 0 } };

	for (size_t i = 0; mode && i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (!strcmp(mode, modes[i].name)) {
			*flags |= modes[i].flags;
			return 0;
		}
	}
	return mode ? -1 : 0;
}

int img_size(const char *what, const char *text, int64_t *out)
{
	uint64_t v;
	int ret = opts_parse_size(text, &v);

	if (ret == -1) {
		img_error("Invalid %s specified. You may use k, M, G, T, P or E suffixes for", what);
		img_error("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
		return -1;
	}
	if (ret || v > INT64_MAX) {
		img_error("Invalid %s specified. Must be between 0 and %lld.", what, (long long)INT64_MAX);
		return -1;
	}
	*out = (int64_t)v;
	return 0;
}

const char *img_size_text(uint64_t bytes, char buf[32])
{
	static const char *const units[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
	int i;

	/* The unit in which it has at most three digits before the point. */
	frexp((double)bytes / (1000.0 / 1024.0), &i);
	i = (i - 1) / 10;
	if (i < 0)
		i = 0;
	snprintf(buf, 32, "%0.3g %sB", (double)bytes / (double)(1ull << (i * 10)), units[i]);
	return buf;
}

/* --- JSON in QEMU's order --- */

static unsigned bucket(const char *key)
{
	unsigned value = 0x238F13AFu * (unsigned)strlen(key);

	for (unsigned i = 0; key[i]; i++)
		value += (unsigned)(unsigned char)key[i] << (i * 5 % 24);
	return (1103515243u * value + 12345u) % 512;
}

struct member {
	const char *key;
	json_t *value;
	unsigned bucket, at;
};

static int by_bucket(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	if (x->bucket != y->bucket)
		return x->bucket < y->bucket ? -1 : 1;
	return x->at > y->at ? -1 : 1; /* the latest first */
}

json_t *img_qemu_order(json_t *v)
{
	struct member *m;
	json_t *out, *value;
	const char *key;
	size_t n = 0, i;

	if (json_is_array(v)) {
		out = json_array();
		json_array_foreach(v, i, value) json_array_append_new(out, img_qemu_order(value));
		return out;
	}
	if (!json_is_object(v))
		return json_incref(v);
	m = calloc(json_object_size(v) + 1, sizeof(*m));
	out = json_object();
	json_object_foreach(v, key, value)
	{
		m[n] = (struct member){ key, value, bucket(key), (unsigned)n };
		n++;
	}
	qsort(m, n, sizeof(*m), by_bucket);
	for (i = 0; i < n; i++)
		json_object_set_new(out, m[i].key, img_qemu_order(m[i].value));
	free(m);
	return out;
}

/* As QEMU lays it out, which begins a new line within an empty list too. */
static void print_json(json_t *v, int indent)
{
	bool object = json_is_object(v), first = true;
	const char *key;
	json_t *e;
	size_t i;

	if (!object && !json_is_array(v)) {
		json_dumpf(v, stdout, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
		return;
	}
	putchar(object ? '{' : '[');
	json_object_foreach(v, key, e)
	{
		json_t *name = json_string(key);

		printf("%s\n%*s", first ? "" : ",", indent + 4, "");
		json_dumpf(name, stdout, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
		json_decref(name);
		printf(": ");
		print_json(e, indent + 4);
		first = false;
	}
	json_array_foreach(v, i, e)
	{
		printf("%s\n%*s", i ? "," : "", indent + 4, "");
		print_json(e, indent + 4);
	}
	printf("\n%*s%c", indent, "", object ? '}' : ']');
}

void img_print_json(json_t *o)
{
	json_t *ordered = img_qemu_order(o);

	print_json(ordered, 0);
	putchar('\n');
	json_decref(ordered);
	json_decref(o);
}

/* --- running --- */

struct run {
	struct img t;
	int argc;
	char **argv;
	int status;
};

static void body(void *opaque)
{
	struct run *r = opaque;

	r->status = r->t.command->fn(&r->t, r->argc, r->argv);
}

static void print_help(const struct cli_command *cmd, void *out)
{
	cli_help(cmd, out);
}

static bool is_help(const char *arg)
{
	return !strcmp(arg, "--help") || !strcmp(arg, "-h");
}

int cli_img(int argc, char **argv)
{
	struct run r = { .t = { .help = print_help, .help_opaque = stdout }, .argc = argc, .argv = argv };
	struct err err;

	if (argc < 1)
		return img_usage("Not enough arguments");
	if (is_help(argv[0])) {
		img_help(stdout);
		return 0;
	}
	if (!strcmp(argv[0], "--version") || !strcmp(argv[0], "-V")) {
		puts(IMG_VERSION);
		return 0;
	}
	for (const struct img_command *c = img_commands; c->name; c++)
		if (!strcmp(argv[0], c->name + IMG_PREFIX))
			r.t.command = c;
	if (*argv[0] == '-')
		return img_usage("unrecognized option '%s'", argv[0]);
	if (!r.t.command)
		return img_usage("Command not found: %s", argv[0]);
	if (argc > 1 && is_help(argv[1])) {
		img_ask(r.t.command, print_help, stdout);
		return 0;
	}
	if (node_ctx_init(&r.t.ctx, &err)) {
		img_error("%s", err.msg);
		return 1;
	}
	optind = 0;
	incomplete_begin(&r.t.ctx, argv[0]);
	node_ctx_run(&r.t.ctx, body, &r);
	incomplete_end(&r.t.ctx);
	secrets_free(&r.t.ctx);
	node_ctx_free(&r.t.ctx);
	co_thread_end();
	return r.status;
}

const struct cli_command cli_img_command = {
	.name = "img",
	.summary = "Make, look at, convert and repair disk images, as qemu-img does",
	.operands = "COMMAND [OPTION]...",
	.max_operands = CLI_MANY,
	.each_subcommand = img_each_command,
	.help = img_help,
	.items_title = "Values of options",
	.items = img_values,
	.text = "The commands, their options and their output are those of qemu-img. Called by the name qemu-img (a "
		"symbolic link to vireo), the program is this command.",
	.run_raw = cli_img,
};
