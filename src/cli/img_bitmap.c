/* vireo img bitmap, and what convert and measure do with bitmaps. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/bitmap.h"
#include "cli/img_impl.h"

#define ACTIONS_MAX 64u

static const char *const action_names[] = { "add", "remove", "clear", "enable", "disable", "merge" };

struct actions {
	struct {
		enum bitmap_action action;
		const char *src;
	} at[ACTIONS_MAX];
	unsigned n;
	bool add, merge;
};

static int put(struct actions *a, enum bitmap_action action, const char *src)
{
	if (a->n == ACTIONS_MAX) {
		img_error("more than %u actions", ACTIONS_MAX);
		return -1;
	}
	a->at[a->n].action = action;
	a->at[a->n++].src = src;
	a->add |= action == BITMAP_ADD;
	a->merge |= action == BITMAP_MERGE;
	return 0;
}

static int put_add(void *a, const char *text)
{
	return put(a, BITMAP_ADD, NULL);
}

static int put_remove(void *a, const char *text)
{
	return put(a, BITMAP_REMOVE, NULL);
}

static int put_clear(void *a, const char *text)
{
	return put(a, BITMAP_CLEAR, NULL);
}

static int put_enable(void *a, const char *text)
{
	return put(a, BITMAP_ENABLE, NULL);
}

static int put_disable(void *a, const char *text)
{
	return put(a, BITMAP_DISABLE, NULL);
}

static int put_merge(void *a, const char *text)
{
	return put(a, BITMAP_MERGE, text);
}

static int act(struct node *n, const struct bitmap_request *r)
{
	struct err err;
	int ret;

	if (!n->drv->bitmaps)
		ret = r->action == BITMAP_ADD ? err_set(&err, "Cannot store dirty bitmaps in %s", n->filename)
					      : err_set(&err, "Dirty bitmap '%s' not found", r->name);
	else
		ret = n->drv->bitmaps->act(n, r, &err);
	if (ret)
		img_error("Operation %s on bitmap %s failed: %s", action_names[r->action], r->name, err.msg);
	return ret;
}

static const char *contradiction(const struct actions *a, int64_t granularity, const struct img_source *src)
{
	if (!a->n)
		return "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge";
	if (granularity && !a->add)
		return "granularity only supported with --add";
	if (src->format && !src->name)
		return "-F only supported with -b";
	if (src->name && !a->merge)
		return "Merge bitmap source file only supported with --merge";
	return NULL;
}

int img_bitmap(struct img *t, int argc, char **argv)
{
	struct img_source s = { .flags = NODE_RDWR | NODE_NO_BACKING }, src = { .flags = NODE_NO_BACKING };
	struct bitmap_request r = { 0 };
	struct actions a = { .n = 0 };
	struct node *n, *from = NULL;
	int64_t granularity = 0;
	const char *why;
	int status;
	const struct img_option list[] = {
		{ 0, "add", IMG_NOTE, &a, NULL, "make the bitmap", .call = put_add, .syntax = IMG_MUST | IMG_MANY },
		{ 0, "remove", IMG_NOTE, &a, NULL, "take it away", .call = put_remove, .syntax = IMG_OR },
		{ 0, "clear", IMG_NOTE, &a, NULL, "nothing in it is marked any more", .call = put_clear,
		  .syntax = IMG_OR },
		{ 0, "enable", IMG_NOTE, &a, NULL, "writes are marked in it from now on", .call = put_enable,
		  .syntax = IMG_OR },
		{ 0, "disable", IMG_NOTE, &a, NULL, "writes are not marked in it any more", .call = put_disable,
		  .syntax = IMG_OR },
		{ 0, "merge", IMG_CALL, &a, "BITMAP", "mark in it what this other one has marked", .call = put_merge,
		  .syntax = IMG_OR },
		{ 'g', "granularity", IMG_SIZE, &granularity, "SIZE", "with --add: how many bytes a bit stands for",
		  "granularity" },
		{ 'b', "source-file", IMG_TEXT, &src.name, "FILE", "with --merge: the image that has the other one" },
		{ 'F', "source-format", IMG_TEXT, &src.format, "FMT", "with -b: the format of that image" },
		IMG_ROW_FORMAT(NULL, &s.format),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		{ 0 },
	};

	status = img_options(t, list, argc, argv);
	if (status >= 0)
		return status;
	why = contradiction(&a, granularity, &src);
	if (!why && optind != argc - 2)
		why = "Expecting filename and bitmap name";
	if (why) {
		img_error("%s", why);
		return 1;
	}
	s.name = argv[optind];
	r.name = argv[optind + 1];
	r.granularity = (uint64_t)granularity;
	n = img_open_node(t, &s);
	if (n && src.name)
		from = img_open_node(t, &src);
	status = n && (from || !src.name) ? 0 : 1;
	for (unsigned i = 0; i < a.n && !status; i++) {
		r.action = a.at[i].action;
		r.src = from ? from : n;
		r.src_name = a.at[i].src;
		status = act(n, &r) ? 1 : 0;
	}
	node_close(from);
	node_close(n);
	return status;
}

/* --- convert and measure --- */

int img_bitmaps_check(struct node *src, bool skip_broken)
{
	struct bitmap_info *b = NULL;
	unsigned count = 0;
	int ret = 0;

	if (!src->drv->bitmaps || src->drv->bitmaps->list(src, &b, &count)) {
		img_error("Source lacks bitmap support");
		return -1;
	}
	for (unsigned i = count; i-- && !ret && !skip_broken;) {
		if (!b[i].inconsistent)
			continue;
		img_error("Cannot copy inconsistent bitmap '%s'\nTry --skip-broken-bitmaps, or use 'qemu-img bitmap "
			  "--remove' to delete it\n",
			  b[i].name);
		ret = -1;
	}
	free(b);
	return ret;
}

static int copy_one(struct node *src, struct node *target, const struct bitmap_info *b)
{
	struct bitmap_request r = { BITMAP_ADD, b->name, b->granularity, !b->enabled, src, b->name };
	struct err err;

	if (target->drv->bitmaps->act(target, &r, &err)) {
		img_error("Failed to create bitmap %s: %s", b->name, err.msg);
		return -1;
	}
	r.action = BITMAP_MERGE;
	if (!target->drv->bitmaps->act(target, &r, &err))
		return 0;
	img_error("Failed to populate bitmap %s: %s", b->name, err.msg);
	r.action = BITMAP_REMOVE;
	target->drv->bitmaps->act(target, &r, &err);
	return -1;
}

int img_bitmaps_copy(struct node *src, struct node *target, bool skip_broken)
{
	struct bitmap_info *b;
	unsigned count;
	int ret = src->drv->bitmaps->list(src, &b, &count);

	if (ret) {
		img_error("%s", strerror(-ret));
		return -1;
	}
	for (unsigned i = 0; i < count && !ret; i++) {
		if (b[i].inconsistent && skip_broken)
			fprintf(stderr, "qemu-img: warning: Skipping inconsistent bitmap '%s'\n", b[i].name);
		else
			ret = copy_one(src, target, &b[i]);
	}
	free(b);
	return ret;
}

uint64_t img_bitmaps_size(struct node *n, uint64_t cluster)
{
	struct bitmap_info *b = NULL;
	unsigned count = 0;
	uint64_t all = 0, dir = 0;

	if (n->drv->bitmaps && n->drv->bitmaps->list(n, &b, &count))
		return 0;
	for (unsigned i = 0; i < count; i++) {
		uint64_t bits = (n->size + b[i].granularity - 1) / b[i].granularity;
		uint64_t data = align_up((bits + 7) / 8, cluster);

		all += data + align_up(data / cluster * 8, cluster);
		dir += align_up(24 + strlen(b[i].name), 8);
	}
	free(b);
	return all + align_up(dir, cluster);
}
