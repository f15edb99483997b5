/* Requests to encrypted sectors, through a buffer of their own, and the format that is nothing else: LUKS. */
#include "block/crypt_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/filter.h"
#include "block/luks.h"
#include "block/secret.h"

#define CHUNK (1u << 20)

/* [at, at + bytes) as whole sectors: what comes before it in the first, and all of them. */
static uint64_t whole(uint64_t at, uint64_t bytes, uint64_t *head)
{
	*head = at % CRYPT_SECTOR;
	return align_up(*head + bytes, CRYPT_SECTOR);
}

static int read_whole(struct crypt_io *io, uint64_t at, uint64_t iv_at, uint8_t *buf, uint64_t bytes)
{
	uint64_t there = at < io->n->size ? io->n->size - at : 0;
	int ret;

	/* The last sector of a file may be there in part. */
	if (there < bytes)
		memset(buf + there, 0, bytes - there);
	ret = there ? node_read(io->n, at, buf, there < bytes ? there : bytes) : 0;
	return ret ? ret : crypt_run(io->c, false, iv_at / CRYPT_SECTOR, buf, bytes);
}

int crypt_read(struct crypt_io *io, uint64_t at, uint64_t iv_at, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
	uint64_t done = 0, room = bytes < CHUNK ? bytes + 2 * CRYPT_SECTOR : CHUNK + 2 * CRYPT_SECTOR;
	uint8_t *buf = NULL;
	int ret = posix_memalign((void **)&buf, 4096, room) ? -ENOMEM : 0;

	while (!ret && done < bytes) {
		uint64_t part = bytes - done < CHUNK ? bytes - done : CHUNK, head, all = whole(at + done, part, &head);

		ret = read_whole(io, at + done - head, iv_at + done - head, buf, all);
		if (!ret)
			iov_from_buf(iov, niov, done, buf + head, part);
		done += part;
	}
	free(buf);
	return ret;
}

/* `bytes` of a request, `done` behind its beginning. */
struct part {
	uint64_t at, iv_at, done, bytes;
};

static int write_part(struct crypt_io *io, const struct part *p, uint8_t *buf, const struct iovec *iov, unsigned niov)
{
	uint64_t head, at = p->at + p->done, iv_at = p->iv_at + p->done, all = whole(at, p->bytes, &head);
	bool edges = all != p->bytes;
	int ret = 0;

	at -= head;
	iv_at -= head;
	if (edges) {
		co_lock(&io->edges);
		ret = read_whole(io, at, iv_at, buf, CRYPT_SECTOR);
		if (!ret && all > CRYPT_SECTOR)
			ret = read_whole(io, at + all - CRYPT_SECTOR, iv_at + all - CRYPT_SECTOR,
					 buf + all - CRYPT_SECTOR, CRYPT_SECTOR);
	}
	iov_to_buf(buf + head, iov, niov, p->done, p->bytes);
	if (!ret)
		ret = crypt_run(io->c, true, iv_at / CRYPT_SECTOR, buf, all);
	if (!ret)
		ret = node_write(io->n, at, buf, all);
	if (edges)
		co_unlock(&io->edges);
	return ret;
}

int crypt_write(struct crypt_io *io, uint64_t at, uint64_t iv_at, uint64_t bytes, const struct iovec *iov,
		unsigned niov)
{
	uint64_t room = bytes < CHUNK ? bytes + 2 * CRYPT_SECTOR : CHUNK + 2 * CRYPT_SECTOR;
	struct part p = { .at = at, .iv_at = iv_at };
	uint8_t *buf = NULL;
	int ret = posix_memalign((void **)&buf, 4096, room) ? -ENOMEM : 0;

	while (!ret && p.done < bytes) {
		p.bytes = bytes - p.done < CHUNK ? bytes - p.done : CHUNK;
		ret = write_part(io, &p, buf, iov, niov);
		p.done += p.bytes;
	}
	free(buf);
	return ret;
}

/* --- the luks driver --- */

struct luks_node {
	struct luks l;
	struct crypt_io io;
	char *secret;
};

static const struct node_create_option create_options[] = {
	{ "size", 'z', "Virtual disk size", NULL },
	{ "key-secret", 's', "ID of the secret that provides the keyslot key", NULL },
	LUKS_CREATE_OPTIONS(""),
	{ "preallocation", 's', "Preallocation mode (allowed values: off, falloc, full)", NULL },
	{ NULL },
};

static const struct node_create_option amend_options[] = { LUKS_AMEND_OPTIONS(""), { NULL } };

static uint64_t payload(const struct node *n)
{
	return (uint64_t)((const struct luks_node *)n->state)->l.payload * CRYPT_SECTOR;
}

static int unlock(struct node *n, const char *secret, struct err *err)
{
	struct luks_node *s = n->state;
	uint8_t key[CRYPT_KEY_MAX];
	const void *pass;
	size_t len;
	int ret;

	if (!secret)
		return err_set(err, "Parameter 'key-secret' is required for cipher");
	pass = secret_get(n->ctx, secret, &len, err);
	if (!pass || luks_unlock(&s->l, pass, len, key, err) < 0)
		return -1;
	s->io.c = crypt_new(&s->l.spec, key, s->l.key_bytes, err);
	crypt_wipe(key, sizeof(key));
	ret = s->io.c ? 0 : -1;
	return ret;
}

static int luks_open(struct node *n, struct opts *o, struct err *err)
{
	struct luks_node *s = n->state;
	const char *secret = opts_take(o, "key-secret");

	if (luks_read(&s->l, n->file, 0, n->file->size, err))
		return -1;
	n->size = n->file->size > payload(n) ? n->file->size - payload(n) : 0;
	n->align = n->file->align;
	s->io.n = n->file;
	if (!(n->flags & NODE_NO_IO) && unlock(n, secret, err))
		return -1;
	s->secret = secret ? strdup(secret) : NULL;
	return 0;
}

static void luks_close(struct node *n)
{
	struct luks_node *s = n->state;

	crypt_free(s->io.c);
	free(s->secret);
}

static int write_zeroes(struct node *n, struct node_req *r)
{
	struct luks_node *s = n->state;
	void *zeroes = calloc(1, CHUNK);
	int ret = zeroes ? 0 : -ENOMEM;

	for (uint64_t done = 0; done < r->bytes && !ret; done += CHUNK) {
		struct iovec v = { zeroes, r->bytes - done < CHUNK ? r->bytes - done : CHUNK };

		ret = crypt_write(&s->io, payload(n) + r->offset + done, r->offset + done, v.iov_len, &v, 1);
	}
	free(zeroes);
	return ret;
}

static int carry_out(struct node *n, struct node_req *r)
{
	struct luks_node *s = n->state;

	if (!s->io.c && r->op != BLOCK_FLUSH)
		return -EPERM;
	switch (r->op) {
	case BLOCK_READ:
		return crypt_read(&s->io, payload(n) + r->offset, r->offset, r->bytes, r->iov, r->niov);
	case BLOCK_WRITE:
		return crypt_write(&s->io, payload(n) + r->offset, r->offset, r->bytes, r->iov, r->niov);
	case BLOCK_WRITE_ZEROES:
		return write_zeroes(n, r);
	case BLOCK_FLUSH:
		return node_flush(n->file);
	case BLOCK_DISCARD:
		return 0; /* what is a hole would read as noise */
	}
	return -EINVAL;
}

static void luks_submit(struct node *n, struct node_req *r)
{
	filter_start(n, r, carry_out);
}

static int luks_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e)
{
	*e = (struct node_extent){ .bytes = bytes, .allocated = true, .data = true };
	return 0;
}

static int luks_truncate(struct node *n, const struct node_resize *how, struct err *err)
{
	struct node_resize below = *how;
	int ret;

	if (how->size > INT64_MAX - payload(n)) {
		err_set(err, "The requested file size is too large");
		return -EFBIG;
	}
	below.size += payload(n);
	ret = node_truncate(n->file, &below, err);
	n->size = n->file->size - payload(n);
	return ret;
}

static int make(struct node *file, uint64_t size, const struct luks_wishes *w, enum node_prealloc mode, struct err *err)
{
	struct luks l;
	uint8_t key[CRYPT_KEY_MAX];
	struct node_resize how = { .prealloc = mode, .exact = true };
	int ret = luks_plan(&l, w, key, err);

	how.size = size + l.room;
	l.n = file;
	if (!ret)
		ret = size > INT64_MAX - l.room ? err_set(err, "The requested file size is too large")
						: node_truncate(file, &how, err);
	if (!ret)
		ret = luks_put_key(&l, 0, w, key, err);
	crypt_wipe(key, sizeof(key));
	return ret;
}

static int luks_create(struct node_ctx *c, const char *filename, struct opts *o, struct err *err)
{
	const char *prealloc = opts_take(o, "preallocation");
	struct opts *none = opts_new();
	struct node *file = NULL;
	struct luks_wishes w;
	uint64_t size;
	unsigned mode = 0;
	int ret = -EINVAL;

	while (prealloc && node_prealloc_names[mode] && strcmp(prealloc, node_prealloc_names[mode]))
		mode++;
	if (opts_size(o, "size", 0, &size, err) || luks_take_wishes(&w, o, "", err))
		goto out;
	if (!node_prealloc_names[mode]) {
		err_set(err, "Parameter 'preallocation' does not accept value '%s'", prealloc);
		goto out;
	}
	ret = node_create_protocol(c, filename, none, err);
	if (ret)
		goto out;
	file = node_open(c, filename, NULL, NODE_RDWR | NODE_RESIZE | NODE_PROTOCOL, err);
	ret = file ? make(file, align_up(size, 512), &w, (enum node_prealloc)mode, err) : -EIO;
	if (ret)
		node_remove_file(c, filename);
out:
	node_close(file);
	opts_free(none);
	return ret;
}

static int luks_info(struct node *n, struct node_info *i)
{
	i->encrypted = true;
	return 0;
}

static struct json_t *luks_specifics(struct node *n)
{
	return luks_json(&((struct luks_node *)n->state)->l);
}

static int luks_amend_node(struct node *n, struct opts *o, bool force, struct err *err)
{
	struct luks_node *s = n->state;

	return luks_amend(&s->l, o, "", s->secret, force, err);
}

const struct node_driver node_luks = {
	.name = "luks",
	.state_size = sizeof(struct luks_node),
	.create_options = create_options,
	.amend_options = amend_options,
	.open = luks_open,
	.close = luks_close,
	.submit = luks_submit,
	.create = luks_create,
	.truncate = luks_truncate,
	.status = luks_status,
	.info = luks_info,
	.specifics = luks_specifics,
	.amend = luks_amend_node,
};
