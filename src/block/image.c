/* From the configuration of a disk to its graph of nodes: see image.h. */
#include "block/image.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/format.h"
#include "block/overlay.h"
#include "block/throttle.h"

/* What exists by this name is meant, even if it begins like the name of a protocol. */
static struct node *open_path(struct node_ctx *ctx, const char *path, unsigned flags, struct err *err)
{
	struct opts *o = opts_new();
	struct stat st;
	bool there = !stat(path, &st);
	struct node *file;

	if (!there && node_has_protocol(path)) {
		file = node_open(ctx, path, o, flags, err);
	} else {
		opts_set(o, "driver", there && S_ISBLK(st.st_mode) ? "host_device" : "file");
		opts_set(o, "filename", path);
		file = node_open(ctx, NULL, o, flags, err);
	}
	opts_free(o);
	return file;
}

/* Why c->path could not be opened, in words that tell what would be right; errnum 0: the error is `err`'s. */
static void explain(const struct block_config *c, int errnum, struct err *err)
{
	struct stat st;

	if (errnum == ENOENT && c->readonly) {
		err_set(err, "%s: no such file", c->path);
	} else if (errnum == ENOENT) {
		err_set(err, "%s: no such file; make an image first, for example with: truncate -s 8G %s", c->path,
			c->path);
	} else if (!stat(c->path, &st) && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		err_set(err, "%s is a %s; a disk must be a regular file or a block device", c->path,
			S_ISDIR(st.st_mode)    ? "directory"
			: S_ISFIFO(st.st_mode) ? "pipe"
			: S_ISCHR(st.st_mode)  ? "character device"
					       : "socket");
	} else if (errnum == EROFS && !stat(c->path, &st) && S_ISBLK(st.st_mode)) {
		err_set(err, "%s is a read-only block device; use readonly=on", c->path);
	} else if (errnum == EBUSY) {
		err_set(err, "%s is in use by the host (mounted, or part of a volume); use another device", c->path);
	} else if ((errnum == EACCES || errnum == EROFS || errnum == EPERM) && !c->readonly && !access(c->path, R_OK)) {
		err_errno(err, errnum, "%s cannot be opened for writing (readonly=on would do)", c->path);
	} else if (errnum) {
		err_errno(err, errnum, "%s", c->path);
	} else if (!strstr(err->msg, c->path)) {
		err_prefix(err, "%s", c->path);
	}
}

/* The node of the format over that of the file, which it takes. */
static struct node *open_format(struct node *file, const struct block_config *c, unsigned flags, bool *guessed,
				struct err *err)
{
	uint8_t header[FORMAT_HEADER];
	size_t len = file->size < sizeof(header) ? (size_t)file->size : sizeof(header);
	const struct block_format *format = NULL;
	int ret = len ? node_read(file, 0, header, len) : 0;
	struct node *top;

	if (ret)
		err_errno(err, -ret, "%s: reading its first bytes", c->path);
	else
		format = format_choose(c, header, len, guessed, err);
	if (!format) {
		node_close(file);
		return NULL;
	}
	*guessed = *guessed && !format->probe;
	top = node_open_over(file, format->driver, NULL, flags, err);
	if (!top)
		explain(c, 0, err);
	return top;
}

struct node *image_open(struct node_ctx *ctx, const struct block_config *c, const char *name, bool *guessed,
			struct err *err)
{
	unsigned flags = (c->readonly || c->snapshot ? 0 : NODE_RDWR) | (c->no_lock ? NODE_NO_LOCK : 0) |
			 (c->no_discard ? NODE_NO_DISCARD : 0) | (c->direct ? NODE_DIRECT : 0) |
			 (c->no_flush ? NODE_NO_FLUSH : 0) | NODE_QUIET;
	struct node *file = open_path(ctx, c->path, flags | NODE_PROTOCOL, err), *top;

	if (!file) {
		explain(c, ctx->open_errno, err);
		return NULL;
	}
	top = open_format(file, c, flags, guessed, err);
	if (top && c->snapshot && !c->readonly) {
		*guessed = false; /* nothing is written to where somebody would guess again */
		top = overlay_open(top, flags, err);
	}
	return top ? throttle_over(top, name, &c->limits, flags, err) : NULL;
}
