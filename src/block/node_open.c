/* Opening and closing graphs of nodes: names, protocols, formats, backing nodes. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/crypt_io.h"
#include "block/format.h"
#include "block/node.h"

const struct node_driver *const node_drivers[] = { &node_raw,
						   &node_luks,
						   &node_qcow2,
						   &node_file,
						   &node_host_device,
						   &node_host_cdrom,
						   &node_null_co,
						   &node_null_aio,
						   &node_blkdebug,
						   &node_blklogwrites,
						   &node_throttle,
						   &node_copy_on_read,
						   &node_compress,
						   &node_nbd,
						   &node_nbd_tcp,
						   &node_nbd_unix,
						   NULL };

const struct node_driver *node_driver_find(const char *name)
{
	for (unsigned i = 0; node_drivers[i]; i++)
		if (!strcmp(node_drivers[i]->name, name))
			return node_drivers[i];
	return NULL;
}

/* --- names --- */

bool node_has_protocol(const char *name)
{
	size_t n = strcspn(name, ":/");

	return n && name[n] == ':';
}

const struct node_driver *node_protocol(const char *filename, struct err *err)
{
	size_t n = strcspn(filename, ":");
	struct stat st;

	if (!node_has_protocol(filename))
		return !stat(filename, &st) && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)) ? &node_host_device
											    : &node_file;
	for (unsigned i = 0; node_drivers[i]; i++) {
		const char *prefix = node_drivers[i]->prefix;

		if (prefix && strlen(prefix) == n && !strncmp(prefix, filename, n))
			return node_drivers[i];
	}
	err_set(err, "Unknown protocol '%.*s'", (int)n, filename);
	return NULL;
}

char *node_combine(const char *base, const char *name)
{
	const char *slash = strrchr(base, '/');
	char *out;

	if (*name == '/' || !slash)
		return strdup(name);
	return asprintf(&out, "%.*s%s", (int)(slash - base + 1), base, name) < 0 ? NULL : out;
}

char *node_resolve(const struct node *n, const char *name, struct err *err)
{
	const char *base = node_path(n);
	char *out;

	if (!base && *name != '/' && !node_has_protocol(name)) {
		err_set(err, "Cannot use relative backing file names for '%s'", n->filename);
		return NULL;
	}
	out = !base || node_has_protocol(name) ? strdup(name) : node_combine(base, name);
	if (!out)
		err_errno(err, ENOMEM, "%s", name);
	return out;
}

int node_create_protocol(struct node_ctx *c, const char *filename, struct opts *o, struct err *err)
{
	const struct node_driver *d = node_protocol(filename, err);

	if (!d)
		return -EINVAL;
	if (!d->create) {
		err_set(err, "Protocol driver '%s' does not support image creation", d->name);
		return -ENOTSUP;
	}
	return d->create(c, filename, o, err);
}

/* The first sector is made empty, so that nobody finds an old image there. */
int node_create_existing(struct node_ctx *c, const char *filename, struct opts *o, struct err *err)
{
	struct node_resize how = { .exact = false };
	struct node *n;
	int ret = -EINVAL;

	if (opts_size(o, "size", 0, &how.size, err))
		return ret;
	n = node_open(c, filename, NULL, NODE_RDWR | NODE_RESIZE | NODE_PROTOCOL, err);
	if (!n)
		return ret;
	ret = node_truncate(n, &how, err);
	if (!ret && n->size) {
		ret = node_zeroes(n, 0, n->size < 512 ? n->size : 512, BLOCK_REQ_UNMAP);
		if (ret)
			err_errno(err, -ret, "Failed to clear the new image's first sector");
	}
	node_close(n);
	return ret;
}

/* What `run` may open because an image names it: see DESIGN.md, "Block node". */
int node_may_follow(const struct node *n, const char *name, const char *path, struct err *err)
{
	const char *own = node_path(n), *kind = name == n->backing_name ? "backing" : "data";
	char *image, *named;
	struct stat st;
	int ret = 0;

	if (n->ctx->follow == NODE_FOLLOW_ANY)
		return 0;
	/* A data file has no format: it is what it is. */
	if (name == n->backing_name && !n->backing_format)
		return err_set(err,
			       "%s names the backing file %s without its format, so it is not followed; backing=follow "
			       "would, or record it with: vireo img rebase -u -b %s -F FORMAT %s",
			       own ? own : n->filename, n->backing_name, n->backing_name, own ? own : n->filename);
	image = own && !node_has_protocol(path) ? realpath(own, NULL) : NULL;
	named = image ? realpath(path, NULL) : NULL;
	if (!named || stat(named, &st) || !S_ISREG(st.st_mode)) {
		ret = err_set(err, "%s names the %s file %s, which is not a file here; backing=follow would try it",
			      own ? own : n->filename, kind, name);
	} else {
		*strrchr(image, '/') = 0;
		*strrchr(named, '/') = 0;
		if (strcmp(image, named))
			ret = err_set(err,
				      "%s names the %s file %s, which lies in another directory, so it is not "
				      "followed; backing=follow would",
				      own, kind, name);
	}
	free(image);
	free(named);
	return ret;
}

/* --- opening --- */

/* Options that every node has; they are handed on to its children. */
static int take_common(struct node *n, struct opts *o, struct err *err)
{
	bool readonly, automatic, direct, no_flush, share;
	const char *discard, *detect;

	opts_take(o, "node-name");
	opts_take(o, "cache.writeback");
	if (opts_bool(o, "read-only", node_readonly(n), &readonly, err) ||
	    opts_bool(o, "auto-read-only", false, &automatic, err) ||
	    opts_bool(o, "cache.direct", n->flags & NODE_DIRECT, &direct, err) ||
	    opts_bool(o, "cache.no-flush", n->flags & NODE_NO_FLUSH, &no_flush, err) ||
	    opts_bool(o, "force-share", n->flags & NODE_NO_LOCK, &share, err))
		return -1;
	discard = opts_take(o, "discard");
	if (discard && (!strcmp(discard, "unmap") || !strcmp(discard, "on")))
		n->flags &= ~NODE_NO_DISCARD;
	else if (discard && (!strcmp(discard, "ignore") || !strcmp(discard, "off")))
		n->flags |= NODE_NO_DISCARD;
	else if (discard)
		return err_set(err, "Invalid discard option");
	detect = opts_take(o, "detect-zeroes");
	n->detects_zeroes = detect && strcmp(detect, "off");
	n->unmaps_zeroes = detect && !strcmp(detect, "unmap");
	if (n->detects_zeroes && !n->unmaps_zeroes && strcmp(detect, "on"))
		return err_set(err, "invalid parameter value: %s", detect);
	if (n->unmaps_zeroes && n->flags & NODE_NO_DISCARD)
		return err_set(
			err,
			"setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
	n->flags &= ~(NODE_DIRECT | NODE_NO_FLUSH | NODE_NO_LOCK | (readonly ? NODE_RDWR : 0u));
	n->flags |= (direct ? NODE_DIRECT : 0u) | (no_flush ? NODE_NO_FLUSH : 0u) | (share ? NODE_NO_LOCK : 0u);
	if (share && opts_get(o, "force-share") && !node_readonly(n))
		return err_set(err, "force-share=on can only be used with read-only images");
	return 0;
}

static const struct node_driver *probe(struct node *n, struct err *err)
{
	uint8_t header[FORMAT_HEADER];
	const struct block_format *f;
	size_t len = n->file->size < sizeof(header) ? (size_t)n->file->size : sizeof(header);
	int ret = len ? node_read(n->file, 0, header, len) : 0;

	if (ret) {
		err_errno(err, -ret, "Could not read image for determining its format");
		return NULL;
	}
	f = format_probe(header, len);
	if (f && !f->driver) {
		err_set(err, "Unknown driver '%s'", f->name);
		return NULL;
	}
	if (f)
		return f->driver;
	n->flags |= NODE_RAW_GUESSED;
	if (!node_readonly(n) && !(n->flags & NODE_QUIET))
		fprintf(stderr,
			"WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
			"         Automatically detecting the format is dangerous for raw images, write operations on "
			"block 0 will be restricted.\n"
			"         Specify the 'raw' format explicitly to remove the restrictions.\n",
			n->file->filename);
	return &node_raw;
}

/* What a child inherits. */
static unsigned child_flags(const struct node *n)
{
	return n->flags & ~(NODE_RAW_GUESSED | NODE_CHECK | NODE_OPENED);
}

int node_open_child(struct node *n, const char *name, const char *filename, struct opts *o, unsigned flags,
		    struct err *err)
{
	struct opts *sub = opts_take_sub(o, name);
	const char *ref = opts_take(o, name);
	const char *dummy;

	if (ref) {
		err_set(err, "Cannot find device='%s' nor node-name='%s'", ref, ref);
	} else if (!filename && !opts_at(sub, 0, &dummy, &dummy)) {
		err_set(err, "A block device must be specified for \"%s\"", name);
	} else {
		n->file = node_open(n->ctx, filename, sub, child_flags(n) | flags, err);
		if (n->file)
			n->file->parent = n;
	}
	opts_free(sub);
	return n->file ? 0 : -1;
}

static int open_protocol(struct node *n, const char *filename, struct opts *o, struct err *err)
{
	const char *given = filename;

	if (filename) {
		if (!n->drv)
			n->drv = node_protocol(filename, err);
		if (!n->drv)
			return -1;
		if (node_has_protocol(filename) && n->drv->prefix &&
		    !strncmp(filename, n->drv->prefix, strcspn(filename, ":")) && !strcmp(n->drv->prefix, "file"))
			filename += strlen("file:");
		/* What is left may look like a protocol and is none. */
		if (filename != given && node_has_protocol(filename)) {
			char *plain = node_combine("./", filename);

			opts_set(o, "filename", plain);
			free(plain);
			return 0;
		}
		if (!opts_get(o, "filename"))
			opts_set(o, "filename", filename);
	} else if (!n->drv) {
		filename = opts_get(o, "filename");
		if (!filename)
			return err_set(err, "Must specify either driver or file");
		n->drv = node_protocol(filename, err);
		if (!n->drv)
			return -1;
	}
	return 0;
}

/* True when opening the file by its name alone would make another node. */
static bool has_strong_options(const struct node *n)
{
	const char *key, *value;

	if (n->file && !strncmp(n->file->filename, "json:", 5) && !n->drv->is_filter)
		return true;
	if (n->drv == &node_blkdebug && !strcmp(n->filename, n->drv->name))
		return true;
	for (unsigned i = 0; opts_at(n->options, i, &key, &value); i++)
		if (!strncmp(key, "encrypt.", 8) || !strcmp(key, "key-secret") ||
		    (n->drv == &node_raw && (!strcmp(key, "offset") || !strcmp(key, "size"))))
			return true;
	return false;
}

/* Such a node is named by its options. */
static int name_by_options(struct node *n, struct err *err)
{
	static const char *const common[] = { "driver",		 "node-name",	 "cache.direct", "cache.no-flush",
					      "cache.writeback", "force-share",	 "read-only",	 "auto-read-only",
					      "discard",	 "detect-zeroes" };
	const char *key, *value;
	json_t *o;
	char *text, *name;

	if (!has_strong_options(n))
		return 0;
	o = json_pack("{s:s}", "driver", n->drv->name);
	for (unsigned i = 0; opts_at(n->options, i, &key, &value); i++) {
		bool skip = false;

		for (size_t k = 0; k < ARRAY_LEN(common) && !skip; k++)
			skip = !strcmp(key, common[k]);
		if (!skip)
			json_object_set_new(o, key, json_string(value));
	}
	if (n->file && !opts_has(n->options, "file") && !n->drv->is_filter)
		json_object_set_new(o, "file.filename", json_string(n->file->filename));
	text = json_dumps(o, 0);
	json_decref(o);
	if (!text || asprintf(&name, "json:%s", text) < 0) {
		free(text);
		return err_errno(err, ENOMEM, "%s", n->drv->name);
	}
	free(text);
	free(n->filename);
	n->filename = name;
	return 0;
}

static int open_self(struct node *n, const char *filename, struct opts *o, struct err *err)
{
	const char *name = opts_take(o, "driver");
	const char *own;

	if (name) {
		n->drv = node_driver_find(name);
		if (!n->drv)
			return err_set(err, "Unknown driver '%s'", name);
		if (n->drv->is_protocol)
			n->flags |= NODE_PROTOCOL;
	}
	if (take_common(n, o, err))
		return -1;
	if (n->flags & NODE_PROTOCOL && !(n->drv && !n->drv->is_protocol)) {
		if (open_protocol(n, filename, o, err))
			return -1;
	} else {
		if (!n->drv && !filename && !opts_has(o, "file"))
			return err_set(err, "Must specify either driver or file");
		if (!n->file &&
		    node_open_child(n, "file", filename, o, n->drv && n->drv->is_filter ? 0 : NODE_PROTOCOL, err))
			return -1;
		if (!n->drv)
			n->drv = probe(n, err);
		if (!n->drv)
			return -1;
	}
	n->options = opts_copy(o);
	own = n->file ? n->file->filename : opts_get(o, "filename");
	n->filename = strdup(own ? own : n->drv->name);
	n->align = 1;
	n->state = calloc(1, n->drv->state_size ? n->drv->state_size : 1);
	if (!n->state || !n->filename)
		return err_errno(err, ENOMEM, "%s", n->drv->name);
	if (n->drv->open(n, o, err))
		return -1;
	n->flags |= NODE_OPENED;
	return name_by_options(n, err);
}

struct open_backing {
	struct node *n;
	const char *path;
	struct opts *o;
	unsigned flags;
	struct err *err;
};

static void open_backing_body(void *opaque)
{
	struct open_backing *b = opaque;

	b->n->backing = node_open(b->n->ctx, b->path, b->o, b->flags, b->err);
	if (!b->n->backing)
		if (!b->n->ctx->too_deep) /* once is enough */
			err_prefix(b->err, "Could not open backing file");
}

int node_open_backing(struct node *n, struct opts *o, struct err *err)
{
	struct opts *sub = opts_take_sub(o, "backing");
	const char *ref = opts_take(o, "backing"), *dummy;
	unsigned flags = child_flags(n) & ~(NODE_PROTOCOL | NODE_RESIZE);
	bool own = opts_at(sub, 0, &dummy, &dummy);
	char *path = NULL;
	int ret = -1;

	if (!(n->flags & NODE_BACKING_RDWR))
		flags &= ~NODE_RDWR;
	if (ref && *ref) {
		err_set(err, "Cannot find device='%s' nor node-name='%s'", ref, ref);
		goto out;
	}
	if ((ref && !*ref) || (!own && !n->backing_name)) {
		ret = 0; /* "backing": null, or there is none */
		goto out;
	}
	if (n->backing_name && !opts_has(sub, "file") && !opts_get(sub, "filename")) {
		path = node_resolve(n, n->backing_name, err);
		if (!path || node_may_follow(n, n->backing_name, path, err))
			goto out;
		if (n->backing_format && !opts_get(sub, "driver"))
			opts_set(sub, "driver", n->backing_format);
	}
	struct open_backing b = { n, path, sub, flags, err };

	/* Chains may be long, and stacks are not. */
	if (co_call(open_backing_body, &b))
		err_errno(err, ENOMEM, "%s", n->backing_name);
	if (n->backing)
		n->backing->parent = n;
	ret = n->backing ? 0 : -1;
out:
	free(path);
	opts_free(sub);
	return ret;
}

static int open_whole(struct node *n, const char *filename, struct opts *o, struct err *err)
{
	const char *unknown;

	if (open_self(n, filename, o, err))
		return -1;
	if (n->drv->has_backing && !(n->flags & NODE_NO_BACKING)) {
		if (node_open_backing(n, o, err))
			return -1;
	} else if (n->drv->has_backing) {
		opts_free(opts_take_sub(o, "backing"));
		opts_take(o, "backing");
	}
	unknown = opts_unknown(o);
	if (!unknown)
		return 0;
	if (n->drv->is_protocol)
		return err_set(err, "Block protocol '%s' doesn't support the option '%s'", n->drv->name, unknown);
	return err_set(err, "Block format '%s' does not support the option '%s'", n->drv->name, unknown);
}

static struct node *new_node(struct node_ctx *c, unsigned flags, struct err *err)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n) {
		err_errno(err, ENOMEM, "node");
		return NULL;
	}
	n->ctx = c;
	n->flags = flags;
	return n;
}

static struct node *open_new(struct node *n, const char *filename, struct opts *o, struct err *err)
{
	int ret;

	if (n->ctx->depth == NODE_CHAIN_MAX) {
		err_set(err, "more than %u images stand behind each other, or in a circle", NODE_CHAIN_MAX);
		n->ctx->too_deep = true;
		node_close(n);
		return NULL;
	}
	if (!n->ctx->depth++)
		n->ctx->too_deep = false;
	ret = open_whole(n, filename, o, err);
	n->ctx->depth--;
	if (!ret)
		return n;
	node_close(n);
	return NULL;
}

/* The options of a "json:" name, where the caller has not given others. */
static int merge_json(struct opts *o, const char *text, struct err *err)
{
	struct opts *json = opts_new();
	const char *key, *value;
	int ret = opts_parse_json(json, text, err);

	for (unsigned i = 0; !ret && opts_at(json, i, &key, &value); i++)
		if (!opts_get(o, key))
			opts_set(o, key, value);
	opts_free(json);
	return ret;
}

struct node *node_open(struct node_ctx *c, const char *filename, const struct opts *given, unsigned flags,
		       struct err *err)
{
	struct opts *o = opts_copy(given);
	struct node *n = new_node(c, flags, err);

	if (n && filename && !strncmp(filename, "json:", 5)) {
		if (merge_json(o, filename + 5, err)) {
			node_close(n);
			n = NULL;
		}
		filename = NULL;
	}
	if (n)
		n = open_new(n, filename, o, err);
	opts_free(o);
	return n;
}

struct node *node_open_over(struct node *file, const struct node_driver *drv, const struct opts *given, unsigned flags,
			    struct err *err)
{
	struct opts *o = opts_copy(given);
	struct node *n = new_node(file->ctx, flags, err);

	if (n) {
		n->file = file;
		n->drv = drv;
		file->parent = n;
		n = open_new(n, NULL, o, err);
	} else {
		node_close(file);
	}
	opts_free(o);
	return n;
}

void node_close(struct node *n)
{
	while (n) {
		struct node *backing = n->backing;

		if (n->flags & NODE_OPENED && n->drv->close)
			n->drv->close(n);
		node_close(n->file);
		node_close(n->data_file);
		opts_free(n->options);
		free(n->backing_name);
		free(n->backing_format);
		free(n->filename);
		free(n->state);
		free(n);
		n = backing; /* a loop, since chains may be long */
	}
}
