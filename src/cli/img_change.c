/* vireo img snapshot, resize, rebase and commit: what changes images that are there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/bitmap.h"
#include "cli/img_impl.h"
#include "cli/img_snapshots.h"

#define PIECE (2u << 20)

/* --- snapshot --- */

static int list_snapshots(struct node *n)
{
	struct node_snapshot *sn;
	unsigned count;

	if (!n->drv->snapshot_list || n->drv->snapshot_list(n, &sn, &count))
		return 0;
	if (count)
		img_print_snapshots(sn, count);
	free(sn);
	return 0;
}

static int create_snapshot(struct node *n, const char *name)
{
	struct node_snapshot sn = { .name = (char *)name, .has_icount = true };
	struct timespec now;
	struct err err;
	int ret;

	clock_gettime(CLOCK_REALTIME, &now);
	sn.date_sec = (uint64_t)now.tv_sec;
	sn.date_ns = (uint32_t)(now.tv_nsec / 1000 * 1000);
	ret = n->drv->snapshot_create ? n->drv->snapshot_create(n, &sn, &err) : -ENOTSUP;
	if (ret)
		img_error("Could not create snapshot '%s': %d (%s)", name, ret, strerror(-ret));
	return ret;
}

static bool has_bitmaps(struct node *n)
{
	struct bitmap_info *list = NULL;
	unsigned count = 0;
	bool has = n->drv->bitmaps && !n->drv->bitmaps->list(n, &list, &count) && count;

	free(list);
	return has;
}

static int apply_snapshot(struct node *n, const char *name)
{
	struct err err = { "" };
	int ret;

	if (!n->drv->snapshot_apply) {
		img_error("Could not apply snapshot '%s': Block driver does not support internal snapshots", name);
		return -1;
	}
	ret = has_bitmaps(n) ? err_set(&err, "Device has active dirty bitmaps") : n->drv->snapshot_apply(n, name, &err);
	if (ret)
		img_error("Could not apply snapshot '%s': %s", name, err.msg[0] ? err.msg : "Could not load snapshot");
	return ret;
}

/* By its name: an ID, which others have for a name, is not looked at. */
static int delete_named(struct node *n, const char *name, struct err *err)
{
	struct node_snapshot *sn;
	unsigned count, i = 0;
	int ret;

	if (!n->drv->snapshot_delete)
		return -ENOENT;
	ret = n->drv->snapshot_list(n, &sn, &count);
	if (ret) {
		err_errno(err, -ret, "reading the list of snapshots");
		return ret;
	}
	while (i < count && strcmp(sn[i].name, name))
		i++;
	ret = i < count ? n->drv->snapshot_delete(n, sn[i].id, err) : -ENOENT;
	free(sn);
	return ret;
}

static int delete_snapshot(struct node *n, const char *name)
{
	struct err err = { "" };
	int ret = delete_named(n, name, &err);

	if (ret == -ENOENT)
		img_error("Could not delete snapshot '%s': snapshot not found", name);
	else if (ret)
		img_error("Could not delete snapshot '%s': %s", name, err.msg);
	return ret;
}

struct snapshot {
	char action;
	const char *name;
};

static int choose_action(struct snapshot *s, char action, const char *name)
{
	if (s->action)
		return img_usage("Cannot mix '-l', '-a', '-c', '-d'");
	*s = (struct snapshot){ action, name };
	return 0;
}

static int choose_list(void *s, const char *name)
{
	return choose_action(s, 'l', NULL);
}

static int choose_apply(void *s, const char *name)
{
	return choose_action(s, 'a', name);
}

static int choose_create(void *s, const char *name)
{
	return choose_action(s, 'c', name);
}

static int choose_delete(void *s, const char *name)
{
	return choose_action(s, 'd', name);
}

int img_snapshot(struct img *t, int argc, char **argv)
{
	struct img_source s = { 0 };
	struct snapshot a = { 0 };
	struct node *n;
	const struct img_option list[] = {
		{ 'l', NULL, IMG_NOTE, &a, NULL, "list the snapshots", .call = choose_list },
		{ 'a', NULL, IMG_CALL, &a, "SNAPSHOT", "go back to one", .call = choose_apply, .syntax = IMG_OR },
		{ 'c', NULL, IMG_CALL, &a, "SNAPSHOT", "make one of this name", .call = choose_create,
		  .syntax = IMG_OR },
		{ 'd', NULL, IMG_CALL, &a, "SNAPSHOT", "delete one", .call = choose_delete, .syntax = IMG_OR },
		IMG_ROW_QUIET(&t->quiet),
		IMG_ROW_SHARE(&t->force_share),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		{ 0 },
	};
	int ret = img_options_one(t, list, argc, argv, &s);

	if (ret >= 0)
		return ret;
	s.flags = a.action == 'l' ? 0 : NODE_RDWR;
	n = img_open_node(t, &s);
	if (!n)
		return 1;
	ret = 0;
	if (a.action == 'l')
		ret = list_snapshots(n);
	else if (a.action == 'c')
		ret = create_snapshot(n, a.name);
	else if (a.action == 'a')
		ret = apply_snapshot(n, a.name);
	else if (a.action == 'd')
		ret = delete_snapshot(n, a.name);
	node_close(n);
	return ret ? 1 : 0;
}

/* --- resize --- */

struct resize {
	const char *size;
	unsigned prealloc;
	bool shrink;
};

static int resize(struct img *t, struct node *n, const struct resize *r)
{
	const char *text = r->size + (*r->size == '+' || *r->size == '-');
	struct node_resize how = { .prealloc = (enum node_prealloc)r->prealloc, .exact = true };
	struct opts *o = opts_new();
	struct err err;
	uint64_t by;
	int64_t total;
	int ret;

	opts_set(o, "size", text);
	ret = opts_size(o, "size", 0, &by, &err);
	opts_free(o);
	if (ret) {
		img_error("%s", err.msg);
		return 1;
	}
	total = *r->size == '+' ? (int64_t)(n->size + by) : *r->size == '-' ? (int64_t)(n->size - by) : (int64_t)by;
	if (total <= 0) {
		img_error("New image size must be positive");
		return 1;
	}
	if ((uint64_t)total <= n->size && r->prealloc) {
		img_error("Preallocation can only be used for growing images");
		return 1;
	}
	if ((uint64_t)total < n->size && !r->shrink) {
		img_error("Use the --shrink option to perform a shrink operation.");
		fputs("qemu-img: warning: Shrinking an image will delete all data beyond the shrunken image's end. "
		      "Before "
		      "performing such an operation, make sure there is no important data there.\n",
		      stderr);
		return 1;
	}
	how.size = (uint64_t)total;
	if (node_truncate(n, &how, &err)) {
		img_error("%s", err.msg);
		return 1;
	}
	img_say(t, "Image resized.\n");
	return 0;
}

static int choose_prealloc(void *opaque, const char *text)
{
	unsigned *mode = opaque;

	*mode = 0;
	while (node_prealloc_names[*mode] && strcmp(node_prealloc_names[*mode], text))
		(*mode)++;
	if (node_prealloc_names[*mode])
		return 0;
	img_error("Invalid preallocation mode '%s'", text);
	return -1;
}

int img_resize(struct img *t, int argc, char **argv)
{
	struct img_source s = { .flags = NODE_RDWR | NODE_RESIZE };
	struct resize r = { 0 };
	struct node *n;
	int status;
	const struct img_option list[] = {
		IMG_ROW_FORMAT(NULL, &s.format),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		IMG_ROW_QUIET(&t->quiet),
		{ 0, "preallocation", IMG_CALL, &r.prealloc, "off|metadata|falloc|full",
		  "what is allocated of what is new", .call = choose_prealloc },
		{ 0, "shrink", IMG_ON, &r.shrink, NULL, "it may become smaller, and lose what is behind the new end" },
		{ 0 },
	};

	if (argc < 3)
		return img_usage("Not enough arguments");
	r.size = argv[--argc]; /* may begin with a minus */
	status = img_options(t, list, argc, argv);
	if (status >= 0)
		return status;
	if (optind != argc - 1)
		return img_usage("Expecting image file name and size");
	s.name = argv[optind];
	n = img_open_node(t, &s);
	if (!n)
		return 1;
	status = resize(t, n, &r);
	node_close(n);
	return status;
}

/* --- rebase --- */

struct rebase {
	const char *base, *format;
	unsigned src_flags;
	bool unsafe, share, progress;
};

/* What `n` has at a place, with zeroes behind its end. */
static int read_padded(struct node *n, uint64_t at, char *buf, uint64_t bytes)
{
	uint64_t there = n && at < n->size ? n->size - at : 0;

	if (there > bytes)
		there = bytes;
	memset(buf + there, 0, bytes - there);
	return there ? node_read(n, at, buf, there) : 0;
}

/* Copy into the image what is another thing in the new backing file. */
static int keep_content(struct img *t, struct node *n, struct node *base)
{
	char *old = malloc(PIECE), *new = malloc(PIECE);
	int ret = old && new ? 0 : -ENOMEM;

	for (uint64_t at = 0; at < n->size && !ret;) {
		struct node_extent e;
		uint64_t bytes = n->size - at < PIECE ? n->size - at : PIECE;

		ret = node_status(n, at, bytes, &e);
		if (ret) {
			img_error("error while reading image metadata: %s", strerror(-ret));
			break;
		}
		bytes = e.bytes;
		if (!e.allocated) {
			if (read_padded(n->backing, at, old, bytes)) {
				img_error("error while reading from old backing file");
				ret = -EIO;
			} else if (read_padded(base, at, new, bytes)) {
				img_error("error while reading from new backing file");
				ret = -EIO;
			}
			for (uint64_t k = 0; k < bytes && !ret; k += 65536) {
				uint64_t len = bytes - k < 65536 ? bytes - k : 65536;

				if (!memcmp(old + k, new + k, len))
					continue;
				ret = !n->backing || at + k >= n->backing->size ? node_zeroes(n, at + k, len, 0)
										: node_write(n, at + k, old + k, len);
				if (ret)
					img_error("Error while writing to COW image: %s", strerror(-ret));
			}
		}
		at += bytes;
		img_progress(t, (double)at * 100.0 / (double)n->size);
	}
	free(old);
	free(new);
	return ret;
}

static int open_base(struct img *t, struct node *n, const struct rebase *r, struct node **base)
{
	struct opts *o = opts_new();
	struct err err;
	char *path;

	path = node_resolve(n, r->base, &err);
	if (r->format)
		opts_set(o, "driver", r->format);
	if (r->share)
		opts_set(o, "force-share", "on");
	*base = path ? node_open(&t->ctx, path, o, r->src_flags, &err) : NULL;
	if (!*base)
		img_error("Could not open new backing file '%s': %s", r->base, err.msg);
	opts_free(o);
	free(path);
	return *base ? 0 : -1;
}

static int rebase(struct img *t, struct node *n, const struct rebase *r)
{
	struct node *base = NULL;
	struct err err;
	int ret;

	if (r->format && !node_driver_find(r->format)) {
		img_error("Invalid format name: '%s'", r->format);
		return 1;
	}
	if (!r->unsafe) {
		if (*r->base && open_base(t, n, r, &base))
			return 1;
		ret = keep_content(t, n, base);
		node_close(base);
		if (!ret)
			ret = node_flush(n);
		if (ret)
			return 1;
	}
	if (*r->base && !r->format)
		ret = -EINVAL;
	else
		ret = n->drv->change_backing ? n->drv->change_backing(n, r->base, r->format, &err) : -ENOTSUP;
	if (ret == -ENOSPC)
		img_error("Could not change the backing file to '%s': No space left in the file header", r->base);
	else if (ret == -EINVAL && !r->format)
		img_error("Could not change the backing file to '%s': backing format must be specified", r->base);
	else if (ret)
		img_error("Could not change the backing file to '%s': %s", r->base, strerror(-ret));
	return ret ? 1 : 0;
}

int img_rebase(struct img *t, int argc, char **argv)
{
	struct img_source s = { .flags = NODE_RDWR };
	struct rebase r = { 0 };
	const char *cache = NULL, *src_cache = NULL;
	struct node *n;
	int status;
	const struct img_option list[] = {
		{ 'b', NULL, IMG_TEXT, &r.base, "FILE", "the new backing file; an empty name: none" },
		{ 'F', NULL, IMG_TEXT, &r.format, "FMT", "its format" },
		{ 'u', NULL, IMG_ON, &r.unsafe, NULL,
		  "change the name only: the two have the same content, or it does not matter" },
		IMG_ROW_FORMAT(NULL, &s.format),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		IMG_ROW_PROGRESS(&r.progress),
		IMG_ROW_QUIET(&t->quiet),
		IMG_ROW_CACHE(&cache),
		IMG_ROW_SRC_CACHE(&src_cache),
		IMG_ROW_SHARE(&r.share), /* of the new backing file */
		{ 0 },
	};

	status = img_options_one(t, list, argc, argv, &s);
	if (status >= 0)
		return status;
	if (!r.unsafe && !r.base)
		return img_usage("Must specify backing file (-b) or use unsafe mode (-u)");
	if (!r.base)
		r.base = "";
	if (r.unsafe)
		s.flags |= NODE_NO_BACKING;
	if (img_cache_mode(cache, &s.flags)) {
		img_error("Invalid cache option: %s", cache);
		return 1;
	}
	if (img_cache_mode(src_cache, &r.src_flags)) {
		img_error("Invalid source cache option: %s", src_cache);
		return 1;
	}
	img_progress_begin(t, r.progress);
	n = img_open_node(t, &s);
	status = n ? rebase(t, n, &r) : 1;
	if (!status)
		img_progress(t, 100);
	img_progress_end(t);
	node_close(n);
	return status;
}

/* --- commit --- */

static int commit_extents(struct img *t, struct node *n, struct node *base, struct img_rate *rate)
{
	char *buf = malloc(PIECE);
	int ret = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0; at < n->size && !ret;) {
		struct node_extent e;

		ret = node_status_chain(n, base, at, n->size - at, &e);
		if (ret)
			break;
		if (e.allocated && e.zero) {
			ret = node_zeroes(base, at, e.bytes, BLOCK_REQ_UNMAP);
		} else if (e.allocated) {
			if (e.bytes > PIECE)
				e.bytes = PIECE;
			ret = node_read(n, at, buf, e.bytes);
			if (!ret)
				ret = node_write(base, at, buf, e.bytes);
			img_rate_wait(&t->ctx, rate, e.bytes);
		}
		at += e.bytes;
		img_progress(t, (double)at * 100.0 / (double)n->size);
	}
	free(buf);
	return ret;
}

/* True when `name`, seen from the image before it, is this node. */
static bool is_called(const struct node *n, const char *name)
{
	const char *path = node_path(n);
	char *resolved, *a, *b;
	struct err err;
	bool is;

	if (n->parent->backing_name && !strcmp(n->parent->backing_name, name))
		return true;
	resolved = node_resolve(n->parent, name, &err);
	a = resolved ? realpath(resolved, NULL) : NULL;
	b = path ? realpath(path, NULL) : NULL;
	is = a && b && !strcmp(a, b);
	free(resolved);
	free(a);
	free(b);
	return is;
}

struct commit {
	const char *name, *base;
	int64_t rate; /* bytes a second; 0: as they come */
	bool drop, progress;
};

static int commit(struct img *t, struct node *n, const struct commit *c)
{
	struct node *base = n->backing;
	struct img_rate rate = { .bytes = (uint64_t)c->rate };
	struct err err;
	int ret = 0;

	while (c->base && base && !is_called(base, c->base))
		base = base->backing;
	if (!base) {
		if (c->base)
			img_error("Did not find '%s' in the backing chain of '%s'", c->base, c->name);
		else
			img_error("Image does not have a backing file");
		return 1;
	}
	if (base->size < n->size) {
		const struct node_resize how = { .size = n->size };

		ret = node_truncate(base, &how, &err);
		if (ret) {
			img_error("%s", err.msg);
			return 1;
		}
	}
	img_progress_begin(t, c->progress);
	ret = commit_extents(t, n, base, &rate);
	if (!ret)
		img_progress(t, 100);
	img_progress_end(t);
	if (!ret)
		ret = node_flush(base);
	if (ret) {
		img_error("Block job failed: %s", strerror(-ret));
		return 1;
	}
	if (!c->drop && n->drv->make_empty)
		ret = n->drv->make_empty(n);
	if (ret) {
		img_error("Failed to empty %s: %s", c->name, strerror(-ret));
		return 1;
	}
	img_say(t, "Image committed.\n");
	return 0;
}

int img_commit(struct img *t, int argc, char **argv)
{
	struct img_source s = { .flags = NODE_RDWR | NODE_BACKING_RDWR };
	struct commit c = { 0 };
	const char *cache = NULL;
	struct node *n;
	int status;
	const struct img_option list[] = {
		{ 'b', NULL, IMG_TEXT, &c.base, "FILE", "the image of the chain into which (default: the next)" },
		{ 'd', NULL, IMG_ON, &c.drop, NULL, "leave the image as it is, instead of emptying it" },
		IMG_ROW_FORMAT(NULL, &s.format),
		IMG_ROW_IMAGE_OPTS(&s.is_opts),
		IMG_ROW_CACHE(&cache),
		IMG_ROW_PROGRESS(&c.progress),
		IMG_ROW_QUIET(&t->quiet),
		IMG_ROW_RATE(&c.rate),
		{ 0 },
	};

	status = img_options_one(t, list, argc, argv, &s);
	if (status >= 0)
		return status;
	if (c.base)
		c.drop = true; /* of what lies between nothing is taken away */
	c.name = s.name;
	if (img_cache_mode(cache, &s.flags)) {
		img_error("Invalid cache option: %s", cache);
		return 1;
	}
	n = img_open_node(t, &s);
	if (!n)
		return 1;
	status = commit(t, n, &c);
	node_close(n);
	return status;
}
