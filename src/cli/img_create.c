/* vireo img create, and what makes images for other commands. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/img_impl.h"

int img_add_options(void *o, const char *text)
{
	size_t end = strlen(text), commas = 0;
	struct err err;

	while (commas < end && text[end - commas - 1] == ',')
		commas++;
	if (!end || *text == ',' || commas % 2) {
		img_error("Invalid option list: %s", text);
		return -1;
	}
	if (opts_parse(o, text, NULL, &err)) {
		img_error("%s", err.msg);
		return -1;
	}
	return 0;
}

const struct node_create_option *img_find_create_option(const struct node_create_option *list, const char *name)
{
	for (; list && list->name; list++)
		if (!strcmp(list->name, name))
			return list;
	return NULL;
}

static const char *type_name(char kind)
{
	return kind == 'b' ? "bool (on/off)" : kind == 'z' ? "size" : kind == 'n' ? "num" : "str";
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct node_create_option *const *)a)->name,
		      (*(const struct node_create_option *const *)b)->name);
}

static void print_sorted(const struct node_create_option **list, size_t n)
{
	qsort(list, n, sizeof(list[0]), by_name);
	for (size_t i = 0; i < n; i++) {
		char left[96];

		snprintf(left, sizeof(left), "  %s=<%s>", list[i]->name, type_name(list[i]->kind));
		printf("%-24s - %s\n", left, list[i]->help);
	}
}

void img_print_create_options(const struct node_create_option *list)
{
	const struct node_create_option *sorted[64];
	size_t n = 0;

	for (; list->name && n < 64; list++)
		sorted[n++] = list;
	print_sorted(sorted, n);
}

/* With a name the protocol's options too. */
static void list_options(const struct node_driver *d, bool with_protocol)
{
	const struct node_create_option *sorted[64];
	size_t n = 0;

	for (const struct node_create_option *o = d->create_options; o->name && n < 64; o++)
		sorted[n++] = o;
	for (const struct node_create_option *o = node_file.create_options; o->name && n < 64 && with_protocol; o++)
		if (!img_find_create_option(d->create_options, o->name))
			sorted[n++] = o;
	if (with_protocol)
		puts("Supported options:");
	else
		printf("Supported %s options:\n", d->name);
	print_sorted(sorted, n);
	if (!with_protocol)
		puts("\nThe protocol level may support further options.\n"
		     "Specify the target filename to include those options.");
}

bool img_option_help(const struct opts *o, const char *format, const char *filename, int *status)
{
	const struct node_driver *d;

	if (!o || (!opts_get(o, "help") && !opts_get(o, "?")))
		return false;
	d = node_driver_find(format);
	*status = 1;
	if (!d) {
		img_error("Unknown file format '%s'", format);
	} else if (!d->create_options) {
		img_error("Format driver '%s' does not support image creation", format);
	} else {
		list_options(d, filename);
		*status = 0;
	}
	return true;
}

int img_check_create_options(const struct node_create_option *a, const struct node_create_option *b, struct opts *o,
			     struct err *err)
{
	const char *key, *value;
	uint64_t number;
	bool on;

	for (unsigned i = 0; opts_at(o, i, &key, &value); i++) {
		const struct node_create_option *x = img_find_create_option(a, key);

		if (!x)
			x = img_find_create_option(b, key);
		if (!x)
			return err_set(err, "Invalid parameter '%s'", key);
		if ((x->kind == 'z' && opts_size(o, key, 0, &number, err)) ||
		    (x->kind == 'n' && opts_number(o, key, 0, &number, err)) ||
		    (x->kind == 'b' && opts_bool(o, key, false, &on, err)))
			return -1;
	}
	return 0;
}

static void print_options(const struct node_create_option *list, const struct node_create_option *not_in,
			  struct opts *o)
{
	struct err err;

	for (; list->name; list++) {
		const char *value = opts_get(o, list->name);
		uint64_t number;

		if (not_in && img_find_create_option(not_in, list->name))
			continue;
		if (value && (list->kind == 'z' || list->kind == 'n')) {
			if (!(list->kind == 'z' ? opts_size(o, list->name, 0, &number, &err)
						: opts_number(o, list->name, 0, &number, &err)))
				printf(" %s=%lld", list->name, (long long)number);
			continue;
		}
		if (!value)
			value = list->dflt;
		if (!value)
			continue;
		printf(" %s=", list->name);
		for (; *value; value++)
			printf(*value == ',' ? ",," : "%c", *value);
	}
}

/* The size comes from the backing file, which must be there and whose format must be said. */
static int look_at_backing(struct img *t, struct img_creation *c, const char *name, const char *format, struct err *err)
{
	char *path = node_has_protocol(name) ? strdup(name) : node_combine(c->filename, name);
	struct opts *o = opts_new();
	struct node *n;
	int ret = -1;

	if (format)
		opts_set(o, "driver", format);
	opts_set(o, "force-share", "on");
	n = node_open(&t->ctx, path, o, NODE_NO_IO, err);
	if (!n) {
		size_t at = strlen(err->msg);

		snprintf(err->msg + at, sizeof(err->msg) - at, "\nCould not open backing image.\n");
	} else if (!format) {
		err_set(err, "Backing file specified without backing format\nDetected format of %s.", n->drv->name);
	} else {
		if (!opts_get(c->o, "size"))
			opts_setf(c->o, "size", "%llu", (unsigned long long)n->size);
		ret = 0;
	}
	node_close(n);
	opts_free(o);
	free(path);
	return ret;
}

static int gather(struct img *t, struct img_creation *c, const struct node_driver *d, struct err *err)
{
	const char *backing, *format;

	if (opts_get(c->o, "size") && c->size >= 0)
		return err_set(err, "The image size must be specified only once");
	if (c->size >= 0)
		opts_setf(c->o, "size", "%lld", (long long)c->size);
	if (c->backing && !img_find_create_option(d->create_options, "backing_file"))
		return err_set(err, "Backing file not supported for file format '%s'", c->format);
	if (c->backing_format && !img_find_create_option(d->create_options, "backing_fmt"))
		return err_set(err, "Backing file format not supported for file format '%s'", c->format);
	if (c->backing)
		opts_set(c->o, "backing_file", c->backing);
	if (c->backing_format)
		opts_set(c->o, "backing_fmt", c->backing_format);
	backing = opts_get(c->o, "backing_file");
	format = opts_get(c->o, "backing_fmt");
	if (backing && !strcmp(c->filename, backing))
		return err_set(err, "Error: Trying to create an image with the same filename as the backing file");
	if (backing && !*backing)
		return err_set(err, "Expected backing file name, got empty string");
	if (backing && !c->no_backing) {
		if (look_at_backing(t, c, backing, format, err))
			return -1;
	} else if (backing && !format) {
		return err_set(err, "Backing file specified without backing format");
	}
	return opts_get(c->o, "size") ? 0 : err_set(err, "Image creation needs a size parameter");
}

int img_create_image(struct img *t, struct img_creation *c, struct err *err)
{
	const struct node_driver *d = node_driver_find(c->format), *p;
	struct opts *copy;
	int ret;

	if (!d)
		return err_set(err, "Unknown file format '%s'", c->format);
	p = node_protocol(c->filename, err);
	if (!p)
		return -1;
	if (!d->create_options || !d->create)
		return err_set(err, "Format driver '%s' does not support image creation", d->name);
	if (!p->create_options)
		return err_set(err, "Protocol driver '%s' does not support image creation", p->name);
	if (img_check_create_options(d->create_options, p->create_options, c->o, err) || gather(t, c, d, err))
		return -1;
	if (!c->quiet) {
		printf("Formatting '%s', fmt=%s", c->filename, c->format);
		print_options(d->create_options, NULL, c->o);
		print_options(p->create_options, d->create_options, c->o);
		putchar('\n');
		fflush(stdout);
	}
	copy = opts_copy(c->o);
	ret = d->create(&t->ctx, c->filename, copy, err);
	opts_free(copy);
	if (ret == -EFBIG)
		err_set(err, "The image size is too large for file format '%s'%s", c->format,
			opts_get(c->o, "cluster_size") || img_find_create_option(d->create_options, "cluster_size")
				? " (try using a larger cluster size)"
				: "");
	return ret;
}

int img_create(struct img *t, int argc, char **argv)
{
	struct img_creation c = { .format = "raw", .size = -1, .o = opts_new() };
	struct err err;
	int status;
	const struct img_option list[] = {
		{ 'f', NULL, IMG_TEXT, &c.format, "FMT", "format of the new image (default: raw)" },
		IMG_ROW_O(c.o, img_add_options),
		{ 'b', NULL, IMG_TEXT, &c.backing, "FILE", "backing file: it has what the new image does not have" },
		{ 'F', NULL, IMG_TEXT, &c.backing_format, "FMT", "its format" },
		{ 'u', NULL, IMG_ON, &c.no_backing, NULL, "do not look at the backing file" },
		IMG_ROW_QUIET(&c.quiet),
		{ 0 },
	};

	status = img_options(t, list, argc, argv);
	if (status >= 0 || img_option_help(c.o, c.format, optind < argc ? argv[optind] : NULL, &status))
		goto out;
	status = 1;
	t->quiet = c.quiet;
	if (optind >= argc) {
		status = img_usage("Expecting image file name");
		goto out;
	}
	c.filename = argv[optind++];
	if (optind < argc && img_size("image size", argv[optind++], &c.size))
		goto out;
	if (optind != argc) {
		status = img_usage("Unexpected argument: %s", argv[optind]);
		goto out;
	}
	if (img_create_image(t, &c, &err))
		img_error("%s: %s", c.filename, err.msg);
	else
		status = 0;
out:
	opts_free(c.o);
	return status;
}
