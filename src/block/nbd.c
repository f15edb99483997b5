/*
 * The protocol node `nbd`: a disk that a server of the Network Block Device protocol exports. Up to 16 requests are on
 * their way at once, each with a slot. When the connection is lost, who comes next connects again; within
 * `reconnect-delay` those that were on their way are asked again instead of failing.
 */
#include "block/nbd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/now.h"

#define MAGIC_REQUEST  0x25609513u
#define SECOND	       1000000000ll
#define HANDSHAKE_TIME (30 * SECOND)
#define FIRST_PAUSE    (SECOND / 10)
#define STATUS_HOLE    1u
#define STATUS_ZERO    2u

/* --- connecting --- */

/* What the server says now must do for who opened the node. */
static int fits(struct node *n, const struct nbd_export *e, struct err *err)
{
	struct nbd *s = n->state;
	bool again = n->flags & NODE_OPENED;

	if (s->context && !e->has_context)
		return err_set(err, "requested x-dirty-bitmap %s not found", s->context);
	if (e->flags & NBD_FLAG_READ_ONLY && !node_readonly(n))
		return err_set(err, "request on write denied without write permission");
	if (again && e->size != n->size)
		return err_set(err, "%s has another size than before", n->filename);
	return 0;
}

static int connect_once(struct node *n, struct err *err)
{
	struct nbd *s = n->state;
	struct nbd_export e = s->e;
	int ret = nbd_link_connect(&s->link, &s->address, err);

	if (!ret)
		ret = nbd_handshake(&s->link, &e, err);
	if (!ret && fits(n, &e, err))
		ret = -EINVAL;
	if (ret) {
		nbd_link_close(&s->link);
		return ret;
	}
	s->e = e;
	s->state = NBD_CONNECTED;
	s->reading = true;
	nbd_link_deadline(&s->link, NBD_NEVER);
	if (co_start(nbd_reader, n)) {
		s->state = NBD_LOST;
		s->reading = false;
		err_errno(err, ENOMEM, "%s", n->filename);
		return -ENOMEM;
	}
	return 0;
}

/* Once at least, and until `until`. */
static int connect_until(struct node *n, int64_t until, struct err *err)
{
	struct nbd *s = n->state;
	int64_t pause = FIRST_PAUSE;
	int ret;

	for (;;) {
		int64_t now = now_ns(), limit = until > now ? until : now + HANDSHAKE_TIME;

		nbd_link_deadline(&s->link, limit);
		ret = connect_once(n, err);
		if (!ret || s->state == NBD_QUIT || now_ns() >= until)
			return ret;
		nbd_link_deadline(&s->link, until);
		nbd_link_sleep(&s->link, now_ns() + pause);
		pause = pause < SECOND / 2 ? 2 * pause : SECOND;
		if (now_ns() >= until)
			return ret;
	}
}

/* Somebody's turn to connect again; the others wait for that. 0 or -EIO. */
static int connected(struct node *n)
{
	struct nbd *s = n->state;
	struct err err;
	int64_t until;

	while (s->connecting || (s->state != NBD_CONNECTED && s->reading))
		co_queue_wait(&s->changed);
	if (s->state == NBD_CONNECTED)
		return 0;
	until = s->lost_at + (int64_t)s->reconnect_delay * SECOND;
	/* When it is too late to wait: one try a second. */
	if (s->state == NBD_QUIT || (now_ns() >= until && now_ns() < s->tried_at + SECOND))
		return -EIO;
	s->connecting = true;
	co_lock(&s->send);
	if (connect_until(n, until, &err))
		log_line(LOG_INFO, "block", "%s", err.msg);
	co_unlock(&s->send);
	s->tried_at = now_ns();
	s->connecting = false;
	co_queue_wake_all(&s->changed);
	return s->state == NBD_CONNECTED ? 0 : -EIO;
}

/* --- requests --- */

static int send_command(struct node *n, struct nbd_slot *t)
{
	struct nbd *s = n->state;
	struct nbd_command *c = t->c;
	bool data = c->type == NBD_CMD_WRITE;
	struct iovec *iov = malloc((1 + (data ? c->niov : 0)) * sizeof(*iov));
	uint8_t head[28];
	int ret = -EIO;

	st_be32(head, MAGIC_REQUEST);
	st_be16(head + 4, (uint16_t)c->flags);
	st_be16(head + 6, (uint16_t)c->type);
	st_be64(head + 8, t->handle);
	st_be64(head + 16, c->offset);
	st_be32(head + 24, (uint32_t)c->bytes);
	if (iov) {
		iov[0] = (struct iovec){ head, sizeof(head) };
		if (data)
			memcpy(iov + 1, c->iov, c->niov * sizeof(*iov));
		ret = nbd_link_writev(&s->link, iov, 1 + (data ? c->niov : 0));
	}
	free(iov);
	return ret;
}

static struct nbd_slot *take_slot(struct node *n, struct nbd_command *c)
{
	struct nbd *s = n->state;
	unsigned i = 0;

	while (s->slots[i].c)
		i++;
	s->slots[i] = (struct nbd_slot){ .c = c, .handle = ++s->count * NBD_SLOTS + i };
	s->in_flight++;
	return &s->slots[i];
}

/* One attempt; `*lost`: the connection was lost on the way. */
static int attempt(struct node *n, struct nbd_command *c, bool *lost)
{
	struct nbd *s = n->state;
	struct nbd_slot *t;
	int ret;

	*lost = false;
	while (s->in_flight == NBD_SLOTS)
		co_queue_wait(&s->free_slots);
	/* Counted before it waits again, or more would come than there are slots for. */
	t = take_slot(n, c);
	t->done = true; /* nothing is heard for it yet */
	ret = connected(n);
	co_lock(&s->send);
	if (!ret && s->state == NBD_CONNECTED) {
		t->done = false;
		c->extent.bytes = 0;
		/* Who fails here leaves a broken connection: the reader finds out, and says so to everybody. */
		if (send_command(n, t))
			nbd_link_break(&s->link);
		co_unlock(&s->send);
		while (!t->done) {
			t->waiter = co_self();
			co_wait();
		}
		ret = t->ret;
		*lost = t->lost;
	} else {
		co_unlock(&s->send);
		*lost = !ret;
		ret = -EIO;
	}
	t->c = NULL;
	s->in_flight--;
	co_queue_wake(&s->free_slots);
	return ret;
}

static int command(struct node *n, struct nbd_command *c)
{
	struct nbd *s = n->state;
	bool lost;
	int ret;

	do
		ret = attempt(n, c, &lost);
	while (lost && s->reconnect_delay && s->state != NBD_QUIT);
	return ret;
}

static int flush(struct node *n)
{
	struct nbd *s = n->state;
	struct nbd_command c = { .type = NBD_CMD_FLUSH };

	return s->e.flags & NBD_FLAG_SEND_FLUSH && !(n->flags & NODE_NO_FLUSH) ? command(n, &c) : 0;
}

/* `c` in pieces that the server takes. */
static int in_pieces(struct node *n, struct nbd_command *c, uint64_t most)
{
	struct iovec *part = c->iov ? malloc(c->niov * sizeof(*part)) : NULL;
	const struct nbd_command whole = *c;
	int ret = c->iov && !part ? -ENOMEM : 0;

	for (uint64_t done = 0; !ret && done < whole.bytes; done += c->bytes) {
		c->offset = whole.offset + done;
		c->bytes = whole.bytes - done < most ? whole.bytes - done : most;
		if (part) {
			c->iov = part;
			c->niov = iov_slice(part, whole.iov, whole.niov, done, c->bytes);
		}
		ret = command(n, c);
	}
	free(part);
	return ret;
}

static uint64_t most_bytes(const struct nbd *s)
{
	return s->e.max_block && s->e.max_block < NBD_BUFFER_MAX ? s->e.max_block : NBD_BUFFER_MAX;
}

static int transfer(struct node *n, const struct node_req *r)
{
	struct nbd *s = n->state;
	bool write = r->op == BLOCK_WRITE, fua = write && r->flags & BLOCK_REQ_FUA;
	struct nbd_command c = { .type = write ? NBD_CMD_WRITE : NBD_CMD_READ,
				 .offset = r->offset,
				 .bytes = r->bytes,
				 .iov = r->iov,
				 .niov = r->niov };
	int ret;

	if (fua && s->e.flags & NBD_FLAG_SEND_FUA) {
		c.flags = NBD_CMD_FUA;
		fua = false;
	}
	if (r->bytes <= most_bytes(s))
		ret = command(n, &c);
	else
		ret = in_pieces(n, &c, align_down(most_bytes(s), n->align));
	return !ret && fua ? flush(n) : ret;
}

static int write_zeroes_out(struct node *n, const struct node_req *r)
{
	size_t chunk = r->bytes < (1u << 20) ? (size_t)r->bytes : 1u << 20;
	void *zeroes = calloc(1, chunk);
	int ret = zeroes ? 0 : -ENOMEM;

	for (uint64_t done = 0; !ret && done < r->bytes; done += chunk) {
		struct iovec v = { zeroes, r->bytes - done < chunk ? (size_t)(r->bytes - done) : chunk };
		struct node_req part = { .op = BLOCK_WRITE,
					 .flags = r->flags & BLOCK_REQ_FUA,
					 .offset = r->offset + done,
					 .bytes = v.iov_len,
					 .iov = &v,
					 .niov = 1 };

		ret = transfer(n, &part);
	}
	free(zeroes);
	return ret;
}

static int write_zeroes(struct node *n, const struct node_req *r)
{
	struct nbd *s = n->state;
	bool fua = r->flags & BLOCK_REQ_FUA, fast = r->flags & BLOCK_REQ_NO_FALLBACK;
	struct nbd_command c = { .type = NBD_CMD_ZEROES, .offset = r->offset, .bytes = r->bytes };
	int ret;

	if (!(s->e.flags & NBD_FLAG_SEND_WRITE_ZEROES) || (fast && !(s->e.flags & NBD_FLAG_SEND_FAST_ZERO)))
		return fast ? -ENOTSUP : write_zeroes_out(n, r);
	if (fua && s->e.flags & NBD_FLAG_SEND_FUA) {
		c.flags |= NBD_CMD_FUA;
		fua = false;
	}
	if (!(r->flags & BLOCK_REQ_UNMAP))
		c.flags |= NBD_CMD_NO_HOLE;
	if (fast)
		c.flags |= NBD_CMD_FAST_ZERO;
	ret = in_pieces(n, &c, align_down(most_bytes(s), n->align));
	return !ret && fua ? flush(n) : ret;
}

static int discard(struct node *n, const struct node_req *r)
{
	struct nbd *s = n->state;
	uint64_t end = r->offset + r->bytes;
	struct nbd_command c = { .type = NBD_CMD_TRIM, .offset = align_up(r->offset, n->align) };

	end = end == n->size ? end : align_down(end, n->align);
	if (!(s->e.flags & NBD_FLAG_SEND_TRIM) || n->flags & NODE_NO_DISCARD || end <= c.offset)
		return 0;
	c.bytes = end - c.offset;
	return in_pieces(n, &c, NBD_STATUS_MAX);
}

/* A range that is no whole blocks of the server's: the blocks are read, and written with the change. */
static int padded(struct node *n, const struct node_req *r)
{
	uint64_t first = align_down(r->offset, n->align), end = align_up(r->offset + r->bytes, n->align);
	struct iovec v = { NULL, 0 };
	struct node_req whole = { .op = BLOCK_READ, .offset = first, .iov = &v, .niov = 1 };
	int ret;

	if (end > n->size)
		end = n->size;
	v.iov_len = whole.bytes = end - first;
	v.iov_base = malloc(v.iov_len);
	ret = v.iov_base ? transfer(n, &whole) : -ENOMEM;
	if (!ret && r->op == BLOCK_READ) {
		iov_from_buf(r->iov, r->niov, 0, (uint8_t *)v.iov_base + (r->offset - first), r->bytes);
	} else if (!ret) {
		whole.op = BLOCK_WRITE;
		whole.flags = r->flags & BLOCK_REQ_FUA;
		if (r->op == BLOCK_WRITE)
			iov_to_buf((uint8_t *)v.iov_base + (r->offset - first), r->iov, r->niov, 0, r->bytes);
		else
			memset((uint8_t *)v.iov_base + (r->offset - first), 0, r->bytes);
		ret = transfer(n, &whole);
	}
	free(v.iov_base);
	return ret;
}

static int aligned_request(struct node *n, const struct node_req *r)
{
	if (r->op == BLOCK_WRITE_ZEROES)
		return write_zeroes(n, r);
	return transfer(n, r);
}

/* Zeroes may be a whole disk: only their ends are read. */
static int unaligned_zeroes(struct node *n, const struct node_req *r)
{
	uint64_t end = r->offset + r->bytes, first = align_up(r->offset, n->align), last = align_down(end, n->align);
	struct node_req part = *r;
	int ret = 0;

	if (first >= last)
		return padded(n, r);
	if (first > r->offset) {
		part.bytes = first - r->offset;
		ret = padded(n, &part);
	}
	part.offset = first;
	part.bytes = last - first;
	if (!ret)
		ret = write_zeroes(n, &part);
	part.offset = last;
	part.bytes = end - last;
	return !ret && part.bytes ? padded(n, &part) : ret;
}

static int request(struct node *n, struct node_req *r)
{
	struct nbd *s = n->state;
	bool aligned = !((r->offset | r->bytes) & (n->align - 1));
	struct filter_range range;
	int ret;

	if (r->op == BLOCK_FLUSH)
		return flush(n);
	if (r->op != BLOCK_READ && node_readonly(n))
		return -EPERM;
	if (!range_within(r->offset, r->bytes, n->size))
		return r->op == BLOCK_READ ? -EIO : -ENOSPC;
	if (!r->bytes)
		return 0;
	if (r->op == BLOCK_DISCARD)
		return discard(n, r);
	if (n->align == 1)
		return aligned_request(n, r);
	filter_range_begin(&s->ranges, &range, align_down(r->offset, n->align), align_up(r->bytes, n->align) + n->align,
			   !aligned && r->op != BLOCK_READ);
	if (aligned)
		ret = aligned_request(n, r);
	else
		ret = r->op == BLOCK_WRITE_ZEROES ? unaligned_zeroes(n, r) : padded(n, r);
	filter_range_end(&s->ranges, &range);
	return ret;
}

static void nbd_submit(struct node *n, struct node_req *r)
{
	filter_start(n, r, request);
}

static int nbd_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e)
{
	struct nbd *s = n->state;
	uint64_t first = align_down(offset, n->align), end = align_up(offset + bytes, n->align);
	struct nbd_command c = { .type = NBD_CMD_STATUS, .flags = NBD_CMD_REQ_ONE, .offset = first };
	uint64_t got;
	int ret;

	*e = (struct node_extent){
		.bytes = bytes, .allocated = true, .data = true, .has_offset = true, .offset = offset, .file = n
	};
	if (!s->e.has_context)
		return 0;
	end = end < n->size ? end : n->size;
	c.bytes = end - first < NBD_STATUS_MAX ? end - first : NBD_STATUS_MAX;
	ret = command(n, &c);
	if (ret)
		return ret;
	got = c.extent.bytes < end - first ? c.extent.bytes : end - first;
	if (got <= offset - first)
		return nbd_lie(n, "a status of less than a block");
	e->bytes = got - (offset - first);
	if (s->depths && c.extent.flags > STATUS_ZERO)
		c.extent.flags = STATUS_ZERO;
	e->data = !(c.extent.flags & STATUS_HOLE);
	e->zero = c.extent.flags & STATUS_ZERO;
	e->allocated = e->data || e->zero;
	return 0;
}

/* --- opening --- */

static void nbd_close(struct node *n)
{
	struct nbd *s = n->state;

	if (s->state == NBD_CONNECTED) {
		struct nbd_command bye = { .type = NBD_CMD_DISC };
		struct nbd_slot t = { .c = &bye };

		/* The server hangs up when it has done everything; who opens the disk next finds it done. */
		nbd_link_deadline(&s->link, now_ns() + SECOND);
		if (send_command(n, &t))
			nbd_link_break(&s->link);
		else
			nbd_link_end(&s->link);
	}
	while (s->reading)
		co_queue_wait(&s->changed);
	nbd_link_free(&s->link);
	nbd_address_free(&s->address);
	free(s->export);
	free(s->context);
}

static int take_options(struct node *n, struct opts *o, struct err *err)
{
	struct nbd *s = n->state;
	const char *tls = opts_take(o, "tls-creds"), *context;

	if (nbd_address_take(&s->address, o, &s->export, err))
		return -1;
	if (tls)
		return err_set(err, "tls-creds: connections with TLS are not supported");
	context = opts_take(o, "x-dirty-bitmap");
	if (context && strlen(context) > NBD_STRING_MAX)
		return err_set(err, "x-dirty-bitmap query too long to send to server");
	if (context && !(s->context = strdup(context)))
		return err_errno(err, ENOMEM, "nbd");
	s->depths = context && !strcmp(context, "qemu:allocation-depth");
	if (opts_number(o, "reconnect-delay", 0, &s->reconnect_delay, err) ||
	    opts_number(o, "open-timeout", 0, &s->open_timeout, err))
		return -1;
	if (s->reconnect_delay > UINT32_MAX || s->open_timeout > UINT32_MAX)
		return err_set(err, "a time of more than 2^32 seconds");
	s->e.name = s->export ? s->export : "";
	s->e.context = s->context ? s->context : "base:allocation";
	return 0;
}

static int nbd_open(struct node *n, struct opts *o, struct err *err)
{
	struct nbd *s = n->state;
	char *name;

	if (take_options(n, o, err) || nbd_link_init(&s->link, n->ctx, err))
		goto fail;
	name = nbd_address_name(&s->address, s->export);
	if (!name) {
		err_errno(err, ENOMEM, "nbd");
		goto fail;
	}
	free(n->filename);
	n->filename = name;
	if (connect_until(n, now_ns() + (int64_t)s->open_timeout * SECOND, err))
		goto fail;
	n->size = s->e.size;
	n->align = s->e.min_block ? s->e.min_block : 1;
	return 0;
fail:
	nbd_close(n);
	return -1;
}

static int nbd_truncate(struct node *n, const struct node_resize *how, struct err *err)
{
	if (how->exact && how->size != n->size) {
		err_set(err, "Cannot resize NBD nodes");
		return -ENOTSUP;
	}
	if (how->size > n->size) {
		err_set(err, "Cannot grow NBD nodes");
		return -EINVAL;
	}
	return 0;
}

static const struct node_create_option create_options[] = {
	{ "size", 'z', "Virtual disk size", NULL },
	{ NULL },
};

#define NBD_DRIVER(PREFIX)                                                                                             \
	{                                                                                                              \
		.name = "nbd", .state_size = sizeof(struct nbd), .is_protocol = true, .is_remote = true,               \
		.forces = true, .prefix = PREFIX, .create_options = create_options, .create = node_create_existing,    \
		.open = nbd_open, .close = nbd_close, .submit = nbd_submit, .truncate = nbd_truncate,                  \
		.status = nbd_status,                                                                                  \
	}

const struct node_driver node_nbd = NBD_DRIVER("nbd");
const struct node_driver node_nbd_tcp = NBD_DRIVER("nbd+tcp");
const struct node_driver node_nbd_unix = NBD_DRIVER("nbd+unix");
