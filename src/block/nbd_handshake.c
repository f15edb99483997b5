/* The negotiation with an NBD server: fixed newstyle with NBD_OPT_GO, and the older ways where that is not known. */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "block/nbd.h"

#define MAGIC_INIT  0x4e42444d41474943ull /* "NBDMAGIC" */
#define MAGIC_OPTS  0x49484156454f5054ull /* "IHAVEOPT" */
#define MAGIC_OLD   0x0000420281861253ull
#define MAGIC_REPLY 0x0003e889045565a9ull

enum { FIXED_NEWSTYLE = 1, NO_ZEROES = 2 };
enum { OPT_EXPORT_NAME = 1, OPT_ABORT = 2, OPT_GO = 7, OPT_STRUCTURED = 8, OPT_SET_CONTEXT = 10 };
enum { REP_ACK = 1, REP_INFO = 3, REP_CONTEXT = 4 };
enum { INFO_EXPORT = 0, INFO_BLOCK_SIZE = 3 };
#define REP_ERROR 0x80000000u

/* More replies to one option than anybody needs. */
#define REPLIES_MAX 64u
#define PADDING	    124u

struct reply {
	uint32_t type, len;
	uint8_t data[NBD_STRING_MAX + 64]; /* all of it is read */
};

/* What errors of an option mean. */
static const char *const errors[] = {
	[1] = "the server does not know what it is asked",
	[2] = "Denied by server",
	[3] = "the server calls the question invalid",
	[4] = "Server lacks support",
	[5] = "TLS negotiation required",
	[6] = "Requested export not available",
	[7] = "Server shutting down",
	[8] = "Server requires INFO_BLOCK_SIZE",
	[9] = "the question is too long for the server",
};

static int read_failed(int ret, struct err *err)
{
	if (ret == -EPIPE)
		err_set(err, "the NBD server ended the connection during negotiation");
	else if (ret == -ETIMEDOUT)
		err_set(err, "the NBD server did not finish the negotiation in time");
	else if (ret)
		err_errno(err, -ret, "negotiation with the NBD server");
	return ret;
}

static int lie(struct err *err, const char *what)
{
	err_set(err, "the NBD server breaks the protocol: %s", what);
	return -EPROTO;
}

static int read_some(struct nbd_link *l, void *buf, size_t bytes, struct err *err)
{
	return read_failed(nbd_link_read(l, buf, bytes), err);
}

static int ask(struct nbd_link *l, uint32_t option, const void *data, size_t len, struct err *err)
{
	uint8_t head[16];
	struct iovec iov[2] = { { head, sizeof(head) }, { (void *)data, len } };

	st_be64(head, MAGIC_OPTS);
	st_be32(head + 8, option);
	st_be32(head + 12, (uint32_t)len);
	return read_failed(nbd_link_writev(l, iov, len ? 2 : 1), err);
}

static int hear(struct nbd_link *l, uint32_t option, struct reply *r, struct err *err)
{
	uint8_t head[20];
	int ret = read_some(l, head, sizeof(head), err);

	if (ret)
		return ret;
	if (ld_be64(head) != MAGIC_REPLY)
		return lie(err, "a reply without its magic");
	if (ld_be32(head + 8) != option)
		return lie(err, "a reply to what was not asked");
	r->type = ld_be32(head + 12);
	r->len = ld_be32(head + 16);
	if (r->len >= sizeof(r->data))
		return lie(err, "a reply that is too long");
	ret = r->len ? read_some(l, r->data, r->len, err) : 0;
	r->data[ret ? 0 : r->len] = 0;
	return ret;
}

static int refused(const struct reply *r, struct err *err)
{
	uint32_t code = r->type & ~REP_ERROR;
	const char *what = code < ARRAY_LEN(errors) ? errors[code] : NULL;

	if (!what)
		what = "the NBD server refuses, for a reason that is not known here";
	if (r->len)
		err_set(err, "%s\nserver reported: %s\n", what, (const char *)r->data);
	else
		err_set(err, "%s", what);
	return -EINVAL;
}

/* 1: the server will send structured replies; 0: it will not. */
static int ask_structured(struct nbd_link *l, struct reply *r, struct err *err)
{
	int ret = ask(l, OPT_STRUCTURED, NULL, 0, err);

	if (!ret)
		ret = hear(l, OPT_STRUCTURED, r, err);
	if (ret)
		return ret;
	if (!(r->type & REP_ERROR) && r->type != REP_ACK)
		return lie(err, "an answer of another kind to NBD_OPT_STRUCTURED_REPLY");
	return r->type == REP_ACK;
}

/* For the status of blocks; a server that does not have it is asked for none. */
static int ask_context(struct nbd_link *l, struct nbd_export *e, struct reply *r, struct err *err)
{
	uint8_t q[2 * NBD_STRING_MAX + 12];
	size_t name = strlen(e->name), context = strlen(e->context);
	int ret;

	st_be32(q, (uint32_t)name);
	memcpy(q + 4, e->name, name);
	st_be32(q + 4 + name, 1);
	st_be32(q + 8 + name, (uint32_t)context);
	memcpy(q + 12 + name, e->context, context);
	ret = ask(l, OPT_SET_CONTEXT, q, 12 + name + context, err);
	while (!ret) {
		ret = hear(l, OPT_SET_CONTEXT, r, err);
		if (ret || r->type & REP_ERROR || r->type == REP_ACK)
			break;
		if (r->type != REP_CONTEXT || r->len <= 4)
			return lie(err, "an answer of another kind to NBD_OPT_SET_META_CONTEXT");
		if (e->has_context)
			return lie(err, "more than one context for one that was asked for");
		if (strlen((char *)r->data + 4) != context || memcmp(r->data + 4, e->context, context))
			return lie(err, "a context that was not asked for");
		e->has_context = true;
		e->context_id = ld_be32(r->data);
	}
	return ret;
}

static int take_info(struct nbd_export *e, const struct reply *r, bool *told, struct err *err)
{
	unsigned type = r->len >= 2 ? ld_be16(r->data) : 0;

	if (r->len < 2 || (type == INFO_EXPORT && r->len != 12) || (type == INFO_BLOCK_SIZE && r->len != 14))
		return lie(err, "information of a wrong length");
	if (type == INFO_EXPORT) {
		*told = true;
		e->size = ld_be64(r->data + 2);
		e->flags = ld_be16(r->data + 10);
	} else if (type == INFO_BLOCK_SIZE) {
		e->min_block = ld_be32(r->data + 2);
		e->max_block = ld_be32(r->data + 10);
		if (!is_pow2(e->min_block) || e->min_block > 64u * 1024)
			return lie(err, "a smallest block that is no power of two or larger than 64 KiB");
		if (e->max_block < e->min_block)
			return lie(err, "a largest block that is smaller than the smallest");
	}
	return 0;
}

/* 1: requests may begin; 0: the server does not know NBD_OPT_GO. */
static int ask_go(struct nbd_link *l, struct nbd_export *e, struct reply *r, struct err *err)
{
	uint8_t q[NBD_STRING_MAX + 8];
	size_t name = strlen(e->name);
	bool told = false;
	int ret;

	st_be32(q, (uint32_t)name);
	memcpy(q + 4, e->name, name);
	st_be16(q + 4 + name, 1);
	st_be16(q + 6 + name, INFO_BLOCK_SIZE);
	ret = ask(l, OPT_GO, q, 8 + name, err);
	for (unsigned i = 0; !ret; i++) {
		if (i == REPLIES_MAX)
			return lie(err, "no end of information");
		ret = hear(l, OPT_GO, r, err);
		if (ret)
			return ret;
		if (r->type == (REP_ERROR | 1))
			return 0;
		if (r->type & REP_ERROR)
			return refused(r, err);
		if (r->type == REP_ACK)
			return told && !r->len ? 1 : lie(err, "an export of which nothing was said");
		if (r->type != REP_INFO)
			return lie(err, "an answer of another kind to NBD_OPT_GO");
		ret = take_info(e, r, &told, err);
	}
	return ret;
}

/* The end of the older ways. */
static int take_rest(struct nbd_link *l, struct nbd_export *e, unsigned flags_len, bool zeroes, struct err *err)
{
	uint8_t b[12 + PADDING];
	size_t len = 8 + flags_len;
	int ret = read_some(l, b, len + (zeroes ? PADDING : 0), err);

	if (ret)
		return ret;
	e->size = ld_be64(b);
	e->flags = flags_len == 2 ? ld_be16(b + 8) : (uint16_t)ld_be32(b + 8);
	return 0;
}

static int newstyle(struct nbd_link *l, struct nbd_export *e, struct err *err)
{
	struct reply r;
	uint8_t b[4];
	unsigned flags;
	int ret = read_some(l, b, 2, err);

	if (ret)
		return ret;
	flags = ld_be16(b) & (FIXED_NEWSTYLE | NO_ZEROES);
	st_be32(b, flags);
	ret = read_failed(nbd_link_write(l, b, 4), err);
	if (!ret && flags & FIXED_NEWSTYLE) {
		ret = ask_structured(l, &r, err);
		e->structured = ret == 1;
		ret = e->structured ? ask_context(l, e, &r, err) : ret;
		if (!ret)
			ret = ask_go(l, e, &r, err);
		if (ret)
			return ret < 0 ? ret : 0;
	}
	if (!ret)
		ret = ask(l, OPT_EXPORT_NAME, e->name, strlen(e->name), err);
	return ret ? ret : take_rest(l, e, 2, !(flags & NO_ZEROES), err);
}

static int negotiate(struct nbd_link *l, struct nbd_export *e, struct err *err)
{
	uint8_t b[16];
	int ret = read_some(l, b, sizeof(b), err);

	if (ret)
		return ret;
	if (ld_be64(b) != MAGIC_INIT)
		return lie(err, "no NBD magic at the beginning");
	if (ld_be64(b + 8) == MAGIC_OPTS)
		return newstyle(l, e, err);
	if (ld_be64(b + 8) != MAGIC_OLD)
		return lie(err, "no magic of a negotiation that is known");
	if (*e->name) {
		err_set(err, "Server does not support non-empty export names");
		return -EINVAL;
	}
	return take_rest(l, e, 4, true, err);
}

int nbd_handshake(struct nbd_link *l, struct nbd_export *e, struct err *err)
{
	int ret;

	e->structured = e->has_context = false;
	e->min_block = e->max_block = 0;
	ret = negotiate(l, e, err);
	if (ret)
		return ret;
	if (e->size > INT64_MAX)
		return lie(err, "an export of more than 2^63 bytes");
	if (!(e->flags & NBD_FLAG_HAS_FLAGS))
		e->flags = 0;
	return 0;
}
