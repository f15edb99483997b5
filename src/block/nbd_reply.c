/* What an NBD server answers: replies of both kinds, checked, put where they belong. */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/now.h"
#include "block/nbd.h"

#define MAGIC_SIMPLE 0x67446698u
#define MAGIC_CHUNK  0x668e33efu
#define ERRORS_MAX   16u   /* chunks with an error in one answer */
#define PAYLOAD_MAX  1000u /* of a chunk that is no data */

enum { CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS = 5, CHUNK_ERROR = 0x8000 };

/* Errors of the protocol, which are Linux', and no others. */
static int error_of(uint32_t code)
{
	static const int known[] = { EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN };

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (code == (uint32_t)known[i])
			return -known[i];
	return -EINVAL;
}

int nbd_lie(struct node *n, const char *what)
{
	log_line(LOG_WARN, "block", "%s: the NBD server breaks the protocol: %s", n->filename, what);
	return -EPROTO;
}

static void finish_slot(struct nbd_slot *s, int ret)
{
	s->done = true;
	if (!s->ret)
		s->ret = ret;
	if (s->waiter)
		co_wake(s->waiter);
}

static int read_payload(struct node *n, uint8_t *buf, uint32_t len)
{
	struct nbd *s = n->state;

	return len > PAYLOAD_MAX ? nbd_lie(n, "a chunk that is too long") : nbd_link_read(&s->link, buf, len);
}

/* A piece of what a read wants. What came out of order leaves zeroes, not what the buffer had, where nothing comes. */
static int place(struct node *n, struct nbd_slot *t, uint64_t offset, uint64_t len, uint64_t *at)
{
	struct nbd_command *c = t->c;

	if (c->type != NBD_CMD_READ)
		return nbd_lie(n, "data that was not asked for");
	if (!len || offset < c->offset || len > c->bytes - t->got || offset - c->offset > c->bytes - len)
		return nbd_lie(n, "data outside of what was asked for");
	*at = offset - c->offset;
	if (*at != t->got && !t->scattered) {
		iov_zero(c->iov, c->niov, t->got, c->bytes - t->got);
		t->scattered = true;
	}
	t->got += len;
	return 0;
}

static int take_data(struct node *n, struct nbd_slot *t, uint32_t len)
{
	struct nbd *s = n->state;
	struct iovec *part;
	uint8_t b[8];
	uint64_t at;
	unsigned k;
	int ret;

	if (len <= 8)
		return nbd_lie(n, "data of no length");
	ret = nbd_link_read(&s->link, b, sizeof(b));
	if (!ret)
		ret = place(n, t, ld_be64(b), len - 8, &at);
	if (ret)
		return ret;
	part = malloc(t->c->niov * sizeof(*part));
	if (!part)
		return -ENOMEM;
	k = iov_slice(part, t->c->iov, t->c->niov, at, len - 8);
	ret = nbd_link_readv(&s->link, part, k, len - 8);
	free(part);
	return ret;
}

static int take_hole(struct node *n, struct nbd_slot *t, uint32_t len)
{
	uint8_t b[PAYLOAD_MAX];
	uint64_t at;
	int ret = read_payload(n, b, len);

	if (!ret && len != 12)
		ret = nbd_lie(n, "a hole of another length");
	if (!ret)
		ret = place(n, t, ld_be64(b), ld_be32(b + 8), &at);
	if (!ret)
		iov_zero(t->c->iov, t->c->niov, at, ld_be32(b + 8));
	return ret;
}

/* The first extent; it may be longer than what was asked for. */
static int take_status(struct node *n, struct nbd_slot *t, uint32_t len)
{
	struct nbd *s = n->state;
	struct nbd_command *c = t->c;
	uint8_t b[PAYLOAD_MAX];
	int ret = read_payload(n, b, len);

	if (ret)
		return ret;
	if (c->type != NBD_CMD_STATUS || c->extent.bytes)
		return nbd_lie(n, "a status that was not asked for");
	if (len < 12 || ld_be32(b) != s->e.context_id)
		return nbd_lie(n, "a status of something else");
	c->extent.bytes = ld_be32(b + 4);
	c->extent.flags = ld_be32(b + 8);
	return c->extent.bytes ? 0 : nbd_lie(n, "a status of no length");
}

static int take_error(struct node *n, struct nbd_slot *t, uint32_t len)
{
	uint8_t b[PAYLOAD_MAX];
	int ret = len <= PAYLOAD_MAX ? read_payload(n, b, len) : nbd_lie(n, "an error that is too long");

	if (ret)
		return ret;
	if (len < 6 || ld_be16(b + 4) > len - 6 || !ld_be32(b) || t->errors++ == ERRORS_MAX)
		return nbd_lie(n, "an error that is none");
	if (!t->ret)
		t->ret = error_of(ld_be32(b));
	return 0;
}

static int end_of_chunks(struct node *n, struct nbd_slot *t)
{
	struct nbd_command *c = t->c;

	if (!t->ret && c->type == NBD_CMD_READ && t->got != c->bytes)
		return nbd_lie(n, "less data than was asked for");
	if (!t->ret && c->type == NBD_CMD_STATUS && !c->extent.bytes)
		return nbd_lie(n, "no status");
	finish_slot(t, 0);
	return 0;
}

static int take_chunk(struct node *n, struct nbd_slot *t, const uint8_t *head)
{
	uint32_t type = ld_be16(head + 6), len = ld_be32(head + 16);
	bool last = ld_be16(head + 4) & 1;
	int ret;

	if (!((struct nbd *)n->state)->e.structured)
		return nbd_lie(n, "a structured reply that was not agreed on");
	if (type == CHUNK_NONE)
		ret = !last || len ? nbd_lie(n, "an end that is none") : 0;
	else if (type == CHUNK_DATA)
		ret = take_data(n, t, len);
	else if (type == CHUNK_HOLE)
		ret = take_hole(n, t, len);
	else if (type == CHUNK_STATUS)
		ret = take_status(n, t, len);
	else if (type & CHUNK_ERROR)
		ret = take_error(n, t, len);
	else
		ret = nbd_lie(n, "a reply of a kind that was not asked for");
	return ret || !last ? ret : end_of_chunks(n, t);
}

static int take_simple(struct node *n, struct nbd_slot *t, uint32_t error)
{
	struct nbd *s = n->state;
	struct nbd_command *c = t->c;
	int ret = 0;

	if (t->got || t->errors || (s->e.structured && c->type == NBD_CMD_READ) || c->type == NBD_CMD_STATUS)
		return nbd_lie(n, "a simple reply where a structured one belongs");
	if (error)
		t->ret = error_of(error);
	else if (c->type == NBD_CMD_READ)
		ret = nbd_link_readv(&s->link, c->iov, c->niov, c->bytes);
	if (!ret)
		finish_slot(t, 0);
	return ret;
}

static int take_reply(struct node *n)
{
	struct nbd *s = n->state;
	uint8_t b[20];
	struct nbd_slot *t;
	int ret = nbd_link_read(&s->link, b, 16);
	uint32_t magic = ret ? 0 : ld_be32(b);
	uint64_t handle;

	if (ret)
		return ret;
	if (magic != MAGIC_SIMPLE && magic != MAGIC_CHUNK)
		return nbd_lie(n, "a reply without its magic");
	if (magic == MAGIC_CHUNK)
		ret = nbd_link_read(&s->link, b + 16, 4);
	if (ret)
		return ret;
	handle = ld_be64(b + 8);
	t = &s->slots[handle % NBD_SLOTS];
	if (!t->c || t->done || t->handle != handle)
		return nbd_lie(n, "a reply to what was not asked");
	return magic == MAGIC_SIMPLE ? take_simple(n, t, ld_be32(b + 4)) : take_chunk(n, t, b);
}

void nbd_reader(void *opaque)
{
	struct node *n = opaque;
	struct nbd *s = n->state;
	int ret;

	do
		ret = take_reply(n);
	while (!ret);
	s->state = ret == -EPROTO || ret == -ENOMEM ? NBD_QUIT : NBD_LOST;
	s->lost_at = now_ns();
	s->tried_at = 0;
	nbd_link_break(&s->link);
	for (unsigned i = 0; i < NBD_SLOTS; i++) {
		if (s->slots[i].c && !s->slots[i].done) {
			s->slots[i].lost = true;
			finish_slot(&s->slots[i], -EIO);
		}
	}
	s->reading = false;
	co_queue_wake_all(&s->changed);
}
