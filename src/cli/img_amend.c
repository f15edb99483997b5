/* vireo img amend: change what an image was created with. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/img_impl.h"

struct amend {
	struct opts *o;
	bool progress, force, has_o;
};

static int add_o(void *opaque, const char *text)
{
	struct amend *a = opaque;

	a->has_o = true;
	return img_add_options(a->o, text);
}

static bool wants_help(const struct opts *o)
{
	return opts_get(o, "help") || opts_get(o, "?");
}

static int help(const char *format)
{
	const struct node_driver *d = node_driver_find(format);

	if (!d) {
		img_error("Unknown file format '%s'", format);
		return 1;
	}
	if (!d->amend) {
		img_error("Format driver '%s' does not support option amendment", format);
		return 1;
	}
	printf("Amend options for '%s':\n", format);
	img_print_create_options(d->amend_options);
	return 0;
}

static void tell(void *opaque, double done)
{
	img_progress(opaque, done * 100);
}

static int amend(struct img *t, struct node *n, const struct amend *a)
{
	struct err err, why;
	struct opts *copy;
	int ret;

	if (wants_help(a->o))
		return help(n->drv->name);
	if (!n->drv->amend) {
		img_error("Format driver '%s' does not support option amendment", n->drv->name);
		return 1;
	}
	if (img_check_create_options(n->drv->amend_options, NULL, a->o, &err)) {
		if (!img_check_create_options(n->drv->amend_options, n->drv->create_options, a->o, &why))
			img_error("%s\nThis option is only supported for image creation\n", err.msg);
		else
			img_error("%s", err.msg);
		return 1;
	}
	copy = opts_copy(a->o);
	t->ctx.progress = tell;
	t->ctx.progress_opaque = t;
	ret = n->drv->amend(n, copy, a->force, &err);
	t->ctx.progress = NULL;
	img_progress(t, 100);
	if (ret)
		img_error("%s", err.msg);
	opts_free(copy);
	return ret ? 1 : 0;
}

int img_amend(struct img *t, int argc, char **argv)
{
	struct amend a = { .o = opts_new() };
	struct img_source s = { .flags = NODE_RDWR | NODE_RESIZE };
	const char *cache = NULL;
	struct node *n = NULL;
	int status;
	const struct img_option list[] = {
		{ 'o', NULL, IMG_CALL, &a, "OPTIONS",
		  "options to change, as KEY=VALUE,...; help lists those that can be", .call = add_o,
		  .syntax = IMG_MUST },
		IMG_ROW_FORMAT(NULL, &s.format),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		IMG_ROW_CACHE(&cache),
		IMG_ROW_PROGRESS(&a.progress),
		IMG_ROW_QUIET(&t->quiet),
		{ 0, "force", IMG_ON, &a.force, NULL, "change also what may lock everybody out, as the last key slot" },
		{ 0 },
	};

	status = img_options(t, list, argc, argv);
	if (status >= 0)
		goto out;
	if (!a.has_o) {
		status = img_usage("Must specify options (-o)");
		goto out;
	}
	img_progress_begin(t, a.progress);
	status = 1;
	if (s.format && wants_help(a.o)) {
		status = help(s.format);
	} else if (optind != argc - 1) {
		img_error("Expecting one image file name");
	} else if (img_cache_mode(cache, &s.flags)) {
		img_error("Invalid cache option: %s", cache);
	} else {
		s.name = argv[optind];
		n = img_open_node(t, &s);
		status = n ? amend(t, n, &a) : 1;
	}
	img_progress_end(t);
	node_close(n);
out:
	opts_free(a.o);
	return status;
}
