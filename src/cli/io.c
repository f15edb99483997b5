/* `vireo io`: its options, the prompt, and the image that is open. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/blkdebug.h"
#include "block/overlay.h"
#include "block/secret.h"
#include "block/throttle.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/img_impl.h"
#include "cli/io_impl.h"

int io_error(const char *fmt, ...)
{
	char text[2560];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* A hint behind the message brings its own end. */
	fprintf(stderr, "qemu-io: %s%s", text, *text && text[strlen(text) - 1] == '\n' ? "" : "\n");
	return -EINVAL;
}

uint64_t io_size(const struct io *t)
{
	return (t->top->size + 511) / 512 * 512;
}

bool io_cache_mode(const char *mode, struct io_cache *out)
{
	static const struct {
		const char *name;
		struct io_cache c;
	} modes[] = {
		{ "none", { true, false, false } },	  { "off", { true, false, false } },
		{ "writeback", { false, false, false } }, { "directsync", { true, false, true } },
		{ "unsafe", { false, true, false } },	  { "writethrough", { false, false, true } },
	};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (!strcmp(mode, modes[i].name)) {
			*out = modes[i].c;
			return true;
		}
	}
	io_error("Invalid cache option: %s", mode);
	return false;
}

bool io_discard_mode(const char *mode, unsigned *flags)
{
	bool off = !strcmp(mode, "off") || !strcmp(mode, "ignore");

	if (!off && strcmp(mode, "on") && strcmp(mode, "unmap")) {
		io_error("Invalid discard option: %s", mode);
		return false;
	}
	*flags = off ? *flags | NODE_NO_DISCARD : *flags & ~NODE_NO_DISCARD;
	return true;
}

static bool set_aio(struct io *t, const char *mode)
{
	static const struct {
		const char *name;
		enum node_aio aio;
	} modes[] = { { "threads", NODE_AIO_THREADS }, { "native", NODE_AIO_AUTO }, { "io_uring", NODE_AIO_URING } };

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (!strcmp(mode, modes[i].name)) {
			t->ctx.aio = modes[i].aio;
			return true;
		}
	}
	io_error("Invalid aio option: %s", mode);
	return false;
}

/* --- the image --- */

void io_drain(struct io *t)
{
	while (t->in_flight) {
		t->drains = co_self();
		co_wait();
	}
}

void io_close(struct io *t)
{
	if (t->top)
		blkdebug_release(t->top);
	io_drain(t);
	node_close(t->top);
	t->top = NULL;
	free(t->name);
	t->name = NULL;
	opts_free(t->options);
	t->options = NULL;
}

/* What t->flags and t->cache say, with the rest of `o`. */
static struct node *open_node(struct io *t, const char *name, const struct opts *o, struct err *err)
{
	unsigned flags = t->flags | (t->cache.direct ? NODE_DIRECT : 0) | (t->cache.no_flush ? NODE_NO_FLUSH : 0);
	struct node *n = node_open(&t->ctx, name, o, t->snapshot ? flags & ~NODE_RDWR : flags, err);

	if (n && t->snapshot)
		n = overlay_open(n, flags, err);
	if (n && t->copy_on_read && node_readonly(n)) {
		err_set(err, "Can't use copy-on-read on read-only device");
		node_close(n);
		return NULL;
	}
	return n && t->copy_on_read ? node_open_over(n, &node_copy_on_read, NULL, n->flags, err) : n;
}

int io_open(struct io *t, const char *name, struct opts *o, bool force_share)
{
	const char *share = opts_get(o, "force-share");
	struct err err;

	if (t->top)
		return io_error("file open already, try 'help close'");
	if (force_share && share && strcmp(share, "on"))
		return io_error("-U conflicts with image options");
	if (force_share)
		opts_set(o, "force-share", "on");
	t->top = open_node(t, name, o, &err);
	if (!t->top)
		return io_error("can't open%s%s: %s", name ? " device " : "", name ? name : "", err.msg);
	t->name = name ? strdup(name) : NULL;
	t->options = opts_copy(o);
	return 0;
}

int io_close_cmd(struct io *t, int argc, char **argv)
{
	io_close(t);
	return 0;
}

/* What `open` and the program itself take alike; 0 when `c` is none of that, -1 when it is wrong. */
static int take_option(struct io *t, int c, const char *arg)
{
	switch (c) {
	case 's':
		t->snapshot = true;
		return 1;
	case 'n':
		t->cache.direct = true;
		t->cache.writethrough = false;
		return 1;
	case 'C':
		t->copy_on_read = true;
		return 1;
	case 'r':
		t->flags &= ~NODE_RDWR;
		return 1;
	case 'k':
		t->ctx.aio = NODE_AIO_AUTO;
		return 1;
	case 'i':
		return set_aio(t, arg) ? 1 : -1;
	case 't':
		return io_cache_mode(arg, &t->cache) ? 1 : -1;
	case 'd':
		return io_discard_mode(arg, &t->flags) ? 1 : -1;
	default:
		return 0;
	}
}

static void reset_options(struct io *t)
{
	t->flags = NODE_RDWR;
	t->cache = (struct io_cache){ .writethrough = true };
	t->snapshot = t->copy_on_read = false;
	t->ctx.aio = NODE_AIO_AUTO;
}

int io_open_cmd(struct io *t, int argc, char **argv)
{
	struct opts *o;
	struct err err;
	bool share = false;
	int c, ret = -EINVAL;

	if (t->top)
		return io_error("file open already, try 'help close'");
	o = opts_new();
	reset_options(t);
	while ((c = getopt(argc, argv, "snCro:ki:t:d:U")) != -1) {
		int known = take_option(t, c, optarg);

		if (known > 0)
			continue;
		if (known < 0)
			goto out;
		if (c == 'U') {
			share = true;
		} else if (c == 'o' && t->image_opts) {
			printf("--image-opts and 'open -o' are mutually exclusive\n");
			goto out;
		} else if (c == 'o') {
			if (opts_parse(o, optarg, NULL, &err)) {
				io_error("%s", err.msg);
				goto out;
			}
		} else {
			io_usage(io_find("open"));
			goto out;
		}
	}
	if (t->image_opts && optind == argc - 1 && opts_parse(o, argv[optind++], NULL, &err))
		io_error("%s", err.msg);
	else if (optind == argc - 1 || optind == argc)
		ret = io_open(t, optind < argc ? argv[optind] : NULL, o, share);
	else
		io_usage(io_find("open"));
out:
	opts_free(o);
	return ret;
}

/* --- reopen --- */

/* The node that "file.backing.NAME" is about; NULL: there is none. */
static struct node *node_of(struct node *n, const char *key)
{
	while (n && strchr(key, '.')) {
		size_t len = strcspn(key, ".");

		if (len == 4 && !strncmp(key, "file", len))
			n = n->file;
		else if (len == 7 && !strncmp(key, "backing", len))
			n = n->backing;
		else
			return NULL;
		key += len + 1;
	}
	return n;
}

/* Which file an image is and what carries it out stay as they are. */
static int check_changes(struct io *t, const struct opts *o)
{
	static const char *const fixed[] = { "driver", "node-name", "filename" };
	const char *key, *value;

	for (unsigned i = 0; opts_at(o, i, &key, &value); i++) {
		const char *last = strrchr(key, '.') ? strrchr(key, '.') + 1 : key;
		const char *now = opts_get(t->options, key);
		struct node *n = node_of(t->top, key);

		if (!strcmp(last, "driver") && n)
			now = n->drv->name;
		else if (!strcmp(last, "filename") && n)
			now = opts_get(n->options, "filename");
		for (unsigned k = 0; k < 3; k++)
			if (!strcmp(last, fixed[k]) && (!now || strcmp(now, value)))
				return io_error("Cannot change the option '%s'", last);
	}
	return 0;
}

/* Close the image and open it with `o` too; as it was before when that cannot be. */
static int exchange(struct io *t, const struct opts *o, unsigned flags, struct io_cache cache)
{
	struct opts *all = opts_copy(t->options);
	const struct io_cache old_cache = t->cache;
	const unsigned old_flags = t->flags;
	const char *key, *value;
	struct err err, worse;
	int ret = 0;

	for (unsigned i = 0; opts_at(o, i, &key, &value); i++)
		opts_set(all, key, value);
	node_close(t->top);
	t->flags = flags;
	t->cache = cache;
	t->top = open_node(t, t->name, all, &err);
	if (t->top) {
		opts_free(t->options);
		t->options = all;
		return 0;
	}
	ret = io_error("%s", err.msg);
	t->flags = old_flags;
	t->cache = old_cache;
	t->top = open_node(t, t->name, t->options, &worse);
	if (!t->top)
		io_error("can't open it as it was: %s", worse.msg);
	opts_free(all);
	return ret;
}

static int reopen_rules(const struct opts *o, bool has_rw, bool has_cache)
{
	if (opts_get(o, "read-only") && has_rw)
		return io_error("Cannot set both -r/-w and 'read-only'");
	if ((opts_get(o, "cache.direct") || opts_get(o, "cache.no-flush")) && has_cache)
		return io_error("Cannot set both -c and the cache options");
	return 0;
}

int io_reopen(struct io *t, int argc, char **argv)
{
	unsigned flags = t->flags;
	struct io_cache cache = t->cache;
	bool has_rw = false, has_cache = false;
	struct opts *o = opts_new();
	struct err err;
	int c, ret = -EINVAL;

	while ((c = getopt(argc, argv, "c:o:rw")) != -1) {
		if (c == 'c') {
			if (!io_cache_mode(optarg, &cache))
				goto out;
			has_cache = true;
		} else if (c == 'o') {
			if (opts_parse(o, optarg, NULL, &err)) {
				io_error("%s", err.msg);
				goto out;
			}
		} else if (c == 'r' || c == 'w') {
			if (has_rw) {
				io_error("Only one -r/-w option may be given");
				goto out;
			}
			flags = c == 'r' ? flags & ~NODE_RDWR : flags | NODE_RDWR;
			has_rw = true;
		} else {
			io_usage(io_find("reopen"));
			goto out;
		}
	}
	if (optind != argc) {
		io_usage(io_find("reopen"));
		goto out;
	}
	io_drain(t);
	ret = reopen_rules(o, has_rw, has_cache);
	if (!ret)
		ret = check_changes(t, o);
	if (!ret)
		ret = exchange(t, o, flags, cache);
out:
	opts_free(o);
	return ret;
}

/* --- info --- */

int io_info(struct io *t, int argc, char **argv)
{
	struct node *n = t->top;
	struct node_info i = { 0 };
	char a[64], b[64];
	json_t *x;
	int ret;

	printf("format name: %s\n", n->drv->name);
	if (n->drv->is_protocol)
		printf("format name: %s\n", n->drv->name);
	ret = n->drv->info ? n->drv->info(n, &i) : -ENOTSUP;
	if (ret)
		return ret;
	printf("cluster size: %s\n", io_size_text((double)i.cluster_size, a));
	printf("vm state offset: %s\n", io_size_text((double)i.vm_state_offset, b));
	x = n->drv->specifics ? n->drv->specifics(n) : NULL;
	if (x) {
		puts("Format specific information:");
		img_print_members(1, x);
		json_decref(x);
	}
	return 0;
}

/* --- the program --- */

struct session {
	struct io t;
	int argc;
	char **argv;
	const char **lines; /* of -c */
	unsigned count;
	const char *format, *image;
	bool share;
	int status;
};

static void prompt_loop(struct session *s)
{
	struct io_prompt *p = io_prompt_new(&s->t);
	char *line;

	while (p && !s->t.quit && (line = io_prompt_line(p))) {
		if (io_line(&s->t, line) < 0)
			s->status = 1;
		free(line);
	}
	io_prompt_free(p);
}

static void command_loop(struct session *s)
{
	for (unsigned i = 0; i < s->count && !s->t.quit; i++)
		if (io_line(&s->t, s->lines[i]) < 0)
			s->status = 1;
	if (!s->count)
		prompt_loop(s);
}

static int open_first(struct session *s)
{
	struct opts *o = opts_new();
	struct err err;
	int ret;

	if (s->t.image_opts && opts_parse(o, s->image, "file", &err)) {
		ret = io_error("%s", err.msg);
	} else {
		if (s->format)
			opts_set(o, "driver", s->format);
		ret = io_open(&s->t, s->t.image_opts ? NULL : s->image, o, s->share);
	}
	opts_free(o);
	return ret;
}

static void body(void *opaque)
{
	struct session *s = opaque;

	if (s->image && open_first(s)) {
		s->status = 1;
		return;
	}
	command_loop(s);
	io_close(&s->t);
}

/* Those without a letter are known by their place. */
enum { OBJECT, IMAGE_OPTS, OPTION_LONG = 256 };

static const struct cli_option options[] = {
	[OBJECT] = { "object", .metavar = "OBJECT", .words = "secret,id=|throttle-group,id=",
		     .help = "what options of the image name, as secret,id=ID,file=PATH or "
			     "throttle-group,id=ID,x-iops-total=N" },
	[IMAGE_OPTS] = { "image-opts", .help = "FILE, and what the command open gets, is a list of options" },
	{ "cmd", 'c', .metavar = "COMMAND", .help = "carry out a command with its arguments, instead of reading them" },
	{ "format", 'f', .metavar = "FMT", .words = "luks|qcow2|raw",
	  .help = "format of the image (default: its header tells)" },
	{ "read-only", 'r', .help = "open it for reading only" },
	{ "snapshot", 's', .help = "writes go to a file that is forgotten" },
	{ "nocache", 'n', .help = "around the page cache, as -t none" },
	{ "copy-on-read", 'C', .help = "keep what is read from backing files" },
	{ "misalign", 'm', .help = "use buffers that are not aligned" },
	{ "native-aio", 'k', .help = "asynchronous I/O of the kernel" },
	{ "aio", 'i', .metavar = "threads|native|io_uring", .words = "threads|native|io_uring",
	  .help = "how the host is asked" },
	{ "cache", 't', .metavar = "CACHE", .words = "none|writeback|writethrough|directsync|unsafe",
	  .help = "cache mode: none, writeback, writethrough (default), directsync, unsafe" },
	{ "discard", 'd', .metavar = "ignore|unmap", .words = "ignore|unmap", .help = "what discards do" },
	{ "trace", 'T', .metavar = "[[enable=]PATTERN][,events=FILE][,file=LOG]", .words = "help",
	  .help = "show requests to the image; -T help lists the events" },
	{ "force-share", 'U', .help = "open it also while others write it" },
	{ "version", 'V', .help = "print the version" },
	{ 0 },
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static int add_object(struct session *s, const char *text)
{
	struct opts *o = opts_new();
	struct err err;
	int ret = opts_parse(o, text, "qom-type", &err);
	const char *type = opts_get(o, "qom-type");

	if (!ret && type && !strcmp(type, "throttle-group"))
		ret = throttle_add(&s->t.ctx, o, &err);
	else if (!ret)
		ret = secret_add(&s->t.ctx, o, &err);
	if (ret)
		io_error("%s", err.msg);
	opts_free(o);
	return ret;
}

/* -1: go on; else the exit status. */
static int one_option(struct session *s, int c)
{
	int known = take_option(&s->t, c, optarg);

	if (known)
		return known > 0 ? -1 : 1;
	switch (c) {
	case 'f':
		s->format = optarg;
		return -1;
	case 'c':
		s->lines[s->count++] = optarg;
		return -1;
	case 'm':
		s->t.misalign = true;
		return -1;
	case 'T':
		return io_trace_option(&s->t, optarg);
	case 'U':
		s->share = true;
		return -1;
	case OPTION_LONG + IMAGE_OPTS:
		s->t.image_opts = true;
		return -1;
	case OPTION_LONG + OBJECT:
		return add_object(s, optarg) ? 1 : -1;
	case 'V':
		puts("qemu-io version 7.2 (vireo " VIREO_VERSION ")");
		return 0;
	case 'h':
		cli_help(&cli_io_command, stdout);
		return 0;
	default:
		cli_help(&cli_io_command, stdout);
		return 1;
	}
}

/* -1: go on; else the exit status. */
static int take_options(struct session *s, int argc, char **argv)
{
	struct option longs[OPTIONS + 1] = { { "help", no_argument, NULL, 'h' } };
	char shorts[2 * OPTIONS + 2] = "h", *p = shorts + 1;
	int c, status = -1;

	for (int i = 0; !cli_option_end(&options[i]); i++) {
		const struct cli_option *o = &options[i];

		longs[i + 1] = (struct option){ o->name, o->metavar ? required_argument : no_argument, NULL,
						o->letter ? o->letter : OPTION_LONG + i };
		if (o->letter)
			*p++ = o->letter;
		if (o->letter && o->metavar)
			*p++ = ':';
	}
	reset_options(&s->t);
	optind = 0;
	while (status < 0 && (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1)
		status = one_option(s, c);
	if (status >= 0)
		return status;
	if (argc - optind > 1) {
		cli_help(&cli_io_command, stdout);
		return 1;
	}
	if (s->format && s->t.image_opts) {
		io_error("--image-opts and -f are mutually exclusive");
		return 1;
	}
	s->image = argv[optind];
	return -1;
}

static int run(struct session *s, int argc, char **argv)
{
	struct err err;

	if (node_ctx_init(&s->t.ctx, &err)) {
		io_error("%s", err.msg);
		return 1;
	}
	s->status = take_options(s, argc, argv);
	if (s->status < 0) {
		s->status = 0;
		node_ctx_run(&s->t.ctx, body, s);
	}
	io_trace_end(&s->t);
	secrets_free(&s->t.ctx);
	node_ctx_free(&s->t.ctx);
	co_thread_end();
	return s->status;
}

int cli_io(int argc, char **argv)
{
	static char name[] = "qemu-io";
	struct session *s = calloc(1, sizeof(*s));
	char **with_name = calloc((size_t)argc + 2, sizeof(*with_name));
	int status = 1;

	if (s && with_name)
		s->lines = calloc((size_t)argc + 1, sizeof(*s->lines));
	if (s && s->lines) {
		/* getopt(3) speaks by the name in front. */
		with_name[0] = name;
		memcpy(with_name + 1, argv, (size_t)argc * sizeof(*argv));
		status = run(s, argc + 1, with_name);
	}
	free(with_name);
	if (s)
		free(s->lines);
	free(s);
	return status;
}

const struct cli_command cli_io_command = {
	.name = "io",
	.summary = "Read and write a disk image by commands, as qemu-io does",
	.operands = "[FILE]",
	.max_operands = CLI_MANY,
	.operand_words = { "@file", "@file" },
	.options = options,
	.text = "The options, the commands and their output are those of qemu-io; without -c commands are read from "
		"standard input. Called by the name qemu-io (a symbolic link to vireo), the program is this command.",
	.items_title = "The commands ('help NAME' tells more of one)",
	.items = io_items,
	.run_raw = cli_io,
};
