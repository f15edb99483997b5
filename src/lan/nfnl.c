/* See nfnl.h. */
#include "lan/nfnl.h"

#include <errno.h>
#include <fnmatch.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/array.h"
#include "base/bytes.h"

static uint16_t type(unsigned message)
{
	return (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | message);
}

static void begin(struct rtnl_req *q, uint16_t message, uint16_t flags, unsigned family)
{
	const struct nfgenmsg g = { .nfgen_family = (uint8_t)family, .version = NFNETLINK_V0 };

	rtnl_begin(q, message, flags, &g, sizeof(g));
}

/* --- what there is --- */

struct walk {
	nfnl_fn *fn;
	void *opaque;
	const char *table; /* NULL: tables */
	bool foreign;	   /* those that are not ours */
};

/* nft keeps a comment as a type (0), a length and a text. */
static bool is_ours(const struct rtattr *a)
{
	const uint8_t *b = a ? RTA_DATA(a) : NULL;

	return b && RTA_PAYLOAD(a) >= 2 + strlen(NFNL_MARK) && !b[0] && !memcmp(b + 2, NFNL_MARK, strlen(NFNL_MARK));
}

bool nfnl_text(const struct rtattr *a, char buf[NFNL_NAME])
{
	size_t n = a ? RTA_PAYLOAD(a) : 0;

	if (!n || n > NFNL_NAME || memchr(RTA_DATA(a), 0, n) != (char *)RTA_DATA(a) + n - 1)
		return false;
	memcpy(buf, RTA_DATA(a), n);
	return true;
}

static int found(void *opaque, const struct nlmsghdr *h)
{
	const size_t head = NLMSG_SPACE(sizeof(struct nfgenmsg));
	const struct nfgenmsg *g = NLMSG_DATA(h);
	const struct rtattr *t[8];
	char table[NFNL_NAME], name[NFNL_NAME];
	struct walk *w = opaque;

	if (h->nlmsg_len < head)
		return 0;
	rtnl_attrs((const void *)((const char *)h + head), h->nlmsg_len - head, t, ARRAY_LEN(t) - 1);
	if (!nfnl_text(t[w->table ? NFTA_CHAIN_NAME : NFTA_TABLE_NAME], name))
		return 0;
	if (!w->table && is_ours(t[NFTA_TABLE_USERDATA]) == w->foreign)
		return 0;
	if (!w->table || (nfnl_text(t[NFTA_CHAIN_TABLE], table) && !strcmp(table, w->table)))
		w->fn(w->opaque, g->nfgen_family, name);
	return 0;
}

int nfnl_tables(struct rtnl *nf, nfnl_fn *fn, void *opaque, struct err *err)
{
	struct rtnl_req q;

	begin(&q, type(NFT_MSG_GETTABLE), NLM_F_DUMP, NFPROTO_UNSPEC);
	return rtnl_each(nf, &q, found, &(struct walk){ fn, opaque, NULL, false }, err);
}

struct search {
	const char *name;
	const char *family;
};

static void compare(void *opaque, unsigned family, const char *name)
{
	static const char *const families[] = {
		[NFPROTO_INET] = "inet", [NFPROTO_NETDEV] = "netdev", [NFPROTO_BRIDGE] = "bridge"
	};
	struct search *s = opaque;

	if (!strcmp(name, s->name) && family < ARRAY_LEN(families) && families[family])
		s->family = families[family];
}

int nfnl_check_table(struct rtnl *nf, const char *name, struct err *err)
{
	struct search s = { .name = name };
	struct rtnl_req q;

	begin(&q, type(NFT_MSG_GETTABLE), NLM_F_DUMP, NFPROTO_UNSPEC);
	if (rtnl_each(nf, &q, found, &(struct walk){ compare, &s, NULL, true }, err))
		return -1;
	return s.family ? err_set(err, "the table %s %s of packet filters is somebody else's", s.family, name) : 0;
}

int nfnl_chains(struct rtnl *nf, const char *table, nfnl_fn *fn, void *opaque, struct err *err)
{
	struct rtnl_req q;

	begin(&q, type(NFT_MSG_GETCHAIN), NLM_F_DUMP, NFPROTO_UNSPEC);
	return rtnl_each(nf, &q, found, &(struct walk){ fn, opaque, table, false }, err);
}

struct elements {
	nfnl_element_fn *fn;
	void *opaque;
};

void nfnl_nested(const struct rtattr *a, const struct rtattr **t, unsigned most)
{
	if (a)
		rtnl_attrs(RTA_DATA(a), RTA_PAYLOAD(a), t, most);
	else
		memset(t, 0, (most + 1) * sizeof(*t));
}

static void found_element(const struct elements *e, const struct rtattr *a)
{
	const struct rtattr *t[NFTA_SET_ELEM_EXPIRATION + 1], *data[NFTA_DATA_VALUE + 1], *expires;

	nfnl_nested(a, t, ARRAY_LEN(t) - 1);
	nfnl_nested(t[NFTA_SET_ELEM_KEY], data, ARRAY_LEN(data) - 1);
	expires = t[NFTA_SET_ELEM_EXPIRATION];
	if (data[NFTA_DATA_VALUE])
		e->fn(e->opaque, RTA_DATA(data[NFTA_DATA_VALUE]), RTA_PAYLOAD(data[NFTA_DATA_VALUE]),
		      expires && RTA_PAYLOAD(expires) == 8 ? ld_be64(RTA_DATA(expires)) : 0);
}

static int found_elements(void *opaque, const struct nlmsghdr *h)
{
	const size_t head = NLMSG_SPACE(sizeof(struct nfgenmsg));
	const struct rtattr *t[NFTA_SET_ELEM_LIST_ELEMENTS + 1], *a;
	size_t len;

	if (h->nlmsg_len < head)
		return 0;
	rtnl_attrs((const void *)((const char *)h + head), h->nlmsg_len - head, t, ARRAY_LEN(t) - 1);
	a = t[NFTA_SET_ELEM_LIST_ELEMENTS];
	if (!a)
		return 0;
	len = RTA_PAYLOAD(a);
	for (a = RTA_DATA(a); RTA_OK(a, len); a = RTA_NEXT(a, len))
		found_element(opaque, a);
	return 0;
}

int nfnl_elements(struct rtnl *nf, const struct nfnl_set *set, nfnl_element_fn *fn, void *opaque, struct err *err)
{
	struct rtnl_req q;

	begin(&q, type(NFT_MSG_GETSETELEM), NLM_F_DUMP, set->family);
	rtnl_put_text(&q, NFTA_SET_ELEM_LIST_TABLE, set->table);
	rtnl_put_text(&q, NFTA_SET_ELEM_LIST_SET, set->name);
	return rtnl_each(nf, &q, found_elements, &(struct elements){ fn, opaque }, err) ? -1 : 0;
}

/* --- a sum of all that tables are --- */

#define SETS_MOST 65536u

/*
 * What says that something is another one: the kernel gives a new handle to each that is made, but for a rule in place
 * of another one. All name their table. A dump of rules is of one family, others are of all.
 */
static const struct part {
	uint16_t message;
	uint16_t attrs[6];
	uint8_t family;
} parts[] = {
	{ NFT_MSG_GETTABLE, { NFTA_TABLE_HANDLE, NFTA_TABLE_FLAGS } },
	{ NFT_MSG_GETCHAIN,
	  { NFTA_CHAIN_NAME, NFTA_CHAIN_HANDLE, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY, NFTA_CHAIN_TYPE,
	    NFTA_CHAIN_FLAGS } },
	{ NFT_MSG_GETRULE, { NFTA_RULE_CHAIN, NFTA_RULE_HANDLE }, NFPROTO_INET },
	{ NFT_MSG_GETRULE, { NFTA_RULE_CHAIN, NFTA_RULE_HANDLE }, NFPROTO_NETDEV },
	{ NFT_MSG_GETRULE, { NFTA_RULE_CHAIN, NFTA_RULE_HANDLE }, NFPROTO_BRIDGE },
	{ NFT_MSG_GETSET, { NFTA_SET_NAME, NFTA_SET_HANDLE, NFTA_SET_FLAGS } },
};
#define ATTRS_MOST NFTA_SET_HANDLE

struct set_name {
	unsigned family;
	char name[NFNL_NAME];
};

struct sum {
	char table[NFNL_NAME];
	uint64_t v;
	/* Whose elements are the same until somebody else changes them. */
	struct set_name *sets;
	unsigned len;
};

struct sums {
	const char *pattern;
	const struct part *part;
	struct sum *v;
	unsigned len, last; /* a dump says all of one table, then all of the next */
};

/* FNV-1a. */
static uint64_t mix(uint64_t v, const void *data, size_t len)
{
	for (const uint8_t *p = data; len--; p++)
		v = (v ^ *p) * 0x100000001b3u;
	return v;
}

#define MIX_BEGIN 0xcbf29ce484222325u

/* What a rule does, without what its counters have counted. */
static uint64_t mix_expressions(uint64_t v, const struct rtattr *list)
{
	int left = list ? (int)RTA_PAYLOAD(list) : 0;

	for (const struct rtattr *a = list ? RTA_DATA(list) : NULL; a && RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		const struct rtattr *t[NFTA_EXPR_DATA + 1];
		char name[NFNL_NAME];

		nfnl_nested(a, t, NFTA_EXPR_DATA);
		if (!nfnl_text(t[NFTA_EXPR_NAME], name))
			continue;
		v = mix(v, name, strlen(name));
		if (t[NFTA_EXPR_DATA] && strcmp(name, "counter"))
			v = mix(v, t[NFTA_EXPR_DATA], t[NFTA_EXPR_DATA]->rta_len);
	}
	return v;
}

static int add_set(struct sum *s, unsigned family, const struct rtattr *const *t)
{
	const struct rtattr *flags = t[NFTA_SET_FLAGS];
	const uint32_t bits = flags && RTA_PAYLOAD(flags) == 4 ? ld_be32(RTA_DATA(flags)) : 0;

	if ((bits & (NFT_SET_ANONYMOUS | NFT_SET_EVAL | NFT_SET_TIMEOUT)) || s->len == SETS_MOST)
		return 0;
	if (!array_more(s->sets, s->len))
		return -1;
	s->sets[s->len].family = family;
	s->len += nfnl_text(t[NFTA_SET_NAME], s->sets[s->len].name);
	return 0;
}

/* That of the table of this name. NULL: it is none of those that are meant, or there is no memory: `*full` then. */
static struct sum *sum_of(struct sums *all, const char *table, bool *full)
{
	struct sum *v = all->v;

	*full = false;
	if (all->last < all->len && !strcmp(v[all->last].table, table))
		return &v[all->last];
	if (fnmatch(all->pattern, table, 0))
		return NULL;
	for (all->last = 0; all->last < all->len; all->last++)
		if (!strcmp(v[all->last].table, table))
			return &v[all->last];
	v = realloc(v, (all->len + 1) * sizeof(*v));
	if (!v) {
		*full = true;
		return NULL;
	}
	all->v = v;
	v[all->len] = (struct sum){ .v = MIX_BEGIN };
	strcpy(v[all->len].table, table);
	return &v[all->len++];
}

static int add_part(void *opaque, const struct nlmsghdr *h)
{
	const size_t head = NLMSG_SPACE(sizeof(struct nfgenmsg));
	const struct nfgenmsg *g = NLMSG_DATA(h);
	const struct rtattr *t[ATTRS_MOST + 1];
	struct sums *all = opaque;
	const struct part *part = all->part;
	char table[NFNL_NAME];
	struct sum *s;
	bool full;

	if (h->nlmsg_len < head)
		return 0;
	rtnl_attrs((const void *)((const char *)h + head), h->nlmsg_len - head, t, ATTRS_MOST);
	if (!nfnl_text(t[NFTA_TABLE_NAME], table))
		return 0;
	s = sum_of(all, table, &full);
	if (!s)
		return full ? -1 : 0;
	s->v = mix(s->v, &g->nfgen_family, sizeof(g->nfgen_family));
	s->v = mix(s->v, &part->message, sizeof(part->message));
	for (size_t i = 0; i < ARRAY_LEN(part->attrs); i++)
		if (part->attrs[i] && t[part->attrs[i]])
			s->v = mix(s->v, t[part->attrs[i]], t[part->attrs[i]]->rta_len);
	if (part->message == NFT_MSG_GETRULE)
		s->v = mix_expressions(s->v, t[NFTA_RULE_EXPRESSIONS]);
	return part->message == NFT_MSG_GETSET ? add_set(s, g->nfgen_family, t) : 0;
}

/* In any order. */
static void add_element(void *opaque, const void *key, size_t len, uint64_t expires)
{
	uint64_t *v = opaque;

	*v += mix(MIX_BEGIN, key, len);
}

static int add_elements(struct rtnl *nf, struct sum *s, struct err *err)
{
	for (unsigned i = 0; i < s->len; i++) {
		const struct nfnl_set set = { s->sets[i].family, s->table, s->sets[i].name };
		uint64_t elements = 0;

		if (nfnl_elements(nf, &set, add_element, &elements, err))
			return -1;
		s->v = mix(s->v, &elements, sizeof(elements));
	}
	return 0;
}

int nfnl_sums(struct rtnl *nf, const char *pattern, nfnl_sum_fn *fn, void *opaque, struct err *err)
{
	struct sums all = { .pattern = pattern };
	int rc = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts) && !rc; i++) {
		struct rtnl_req q;

		all.part = &parts[i];
		begin(&q, type(parts[i].message), NLM_F_DUMP, parts[i].family);
		rc = rtnl_each(nf, &q, add_part, &all, err);
	}
	for (unsigned i = 0; i < all.len && !rc; i++) {
		rc = add_elements(nf, &all.v[i], err);
		if (!rc)
			fn(opaque, all.v[i].table, all.v[i].v);
	}
	for (unsigned i = 0; i < all.len; i++)
		free(all.v[i].sets);
	free(all.v);
	return rc ? -1 : 0;
}

/* --- hooks --- */

struct hooks {
	nfnl_hook_fn *fn;
	void *opaque;
};

static int found_hook(void *opaque, const struct nlmsghdr *m)
{
	const size_t head = NLMSG_SPACE(sizeof(struct nfgenmsg));
	const struct nfgenmsg *g = NLMSG_DATA(m);
	const struct rtattr *t[NFTA_CHAIN_TYPE + 1], *hook[NFTA_HOOK_HOOKNUM + 1];
	char table[NFNL_NAME], kind[NFNL_NAME];
	const struct hooks *w = opaque;

	if (m->nlmsg_len < head)
		return 0;
	rtnl_attrs((const void *)((const char *)m + head), m->nlmsg_len - head, t, ARRAY_LEN(t) - 1);
	nfnl_nested(t[NFTA_CHAIN_HOOK], hook, ARRAY_LEN(hook) - 1);
	if (hook[NFTA_HOOK_HOOKNUM] && RTA_PAYLOAD(hook[NFTA_HOOK_HOOKNUM]) == 4 && t[NFTA_CHAIN_USE] &&
	    RTA_PAYLOAD(t[NFTA_CHAIN_USE]) == 4 && nfnl_text(t[NFTA_CHAIN_TABLE], table) &&
	    nfnl_text(t[NFTA_CHAIN_TYPE], kind))
		w->fn(w->opaque, &(struct nfnl_hook){ .family = g->nfgen_family,
						      .hook = ld_be32(RTA_DATA(hook[NFTA_HOOK_HOOKNUM])),
						      .table = table,
						      .type = kind,
						      .full = ld_be32(RTA_DATA(t[NFTA_CHAIN_USE])) != 0 });
	return 0;
}

int nfnl_hooks(struct rtnl *nf, nfnl_hook_fn *fn, void *opaque, struct err *err)
{
	struct rtnl_req q;

	begin(&q, type(NFT_MSG_GETCHAIN), NLM_F_DUMP, NFPROTO_UNSPEC);
	return rtnl_each(nf, &q, found_hook, &(struct hooks){ fn, opaque }, err) ? -1 : 0;
}

/* --- anything --- */

struct each {
	nfnl_each_fn *fn;
	void *opaque;
};

static int found_any(void *opaque, const struct nlmsghdr *h)
{
	const size_t head = NLMSG_SPACE(sizeof(struct nfgenmsg));
	const struct nfgenmsg *g = NLMSG_DATA(h);
	const struct rtattr *t[NFNL_ATTRS + 1];
	const struct each *e = opaque;

	if (h->nlmsg_len < head)
		return 0;
	rtnl_attrs((const void *)((const char *)h + head), h->nlmsg_len - head, t, NFNL_ATTRS);
	return e->fn(e->opaque, g->nfgen_family, t);
}

int nfnl_each(struct rtnl *nf, const struct nfnl_query *query, nfnl_each_fn *fn, void *opaque, struct err *err)
{
	struct rtnl_req q;

	begin(&q, type(query->message), NLM_F_DUMP, query->family);
	/* Rules, and elements of sets, are asked for by the same numbers. */
	if (query->table)
		rtnl_put_text(&q, NFTA_RULE_TABLE, query->table);
	if (query->name)
		rtnl_put_text(&q, NFTA_RULE_CHAIN, query->name);
	return rtnl_each(nf, &q, found_any, &(struct each){ fn, opaque }, err) ? -1 : 0;
}

/* --- transactions --- */

static void put(struct nfnl_batch *b, const struct rtnl_req *q)
{
	size_t len = NLMSG_ALIGN(q->h->nlmsg_len), size = b->size ? 2 * b->size : sizeof(q->buf);
	char *buf = b->buf;

	if (!q->full && b->len + len > b->size && (buf = realloc(b->buf, size))) {
		b->buf = buf;
		b->size = size;
	}
	if (q->full || !buf) {
		b->full = true;
		return;
	}
	memcpy(b->buf + b->len, q->buf, len);
	b->last = b->len;
	b->len += len;
}

/* The marks around what belongs together. */
static void put_mark(struct nfnl_batch *b, uint16_t message)
{
	const struct nfgenmsg g = { .version = NFNETLINK_V0, .res_id = htobe16(NFNL_SUBSYS_NFTABLES) };
	struct rtnl_req q;

	rtnl_begin(&q, message, 0, &g, sizeof(g));
	put(b, &q);
}

void nfnl_begin(struct nfnl_batch *b)
{
	*b = (struct nfnl_batch){ 0 };
	put_mark(b, NFNL_MSG_BATCH_BEGIN);
}

void nfnl_end(struct nfnl_batch *b)
{
	free(b->buf);
}

static void change(struct nfnl_batch *b, unsigned message, unsigned family, const char *table, const char *chain)
{
	static const char comment[] = "\0\7" NFNL_MARK;
	bool add = message == NFT_MSG_NEWTABLE || message == NFT_MSG_NEWCHAIN;
	struct rtnl_req q;

	begin(&q, type(message), add ? NLM_F_CREATE : 0, family);
	rtnl_put_text(&q, NFTA_TABLE_NAME, table); /* and NFTA_CHAIN_TABLE */
	if (chain)
		rtnl_put_text(&q, NFTA_CHAIN_NAME, chain);
	if (message == NFT_MSG_NEWTABLE)
		rtnl_put(&q, NFTA_TABLE_USERDATA, comment, sizeof(comment));
	put(b, &q);
}

void nfnl_add_table(struct nfnl_batch *b, unsigned family, const char *name)
{
	change(b, NFT_MSG_NEWTABLE, family, name, NULL);
}

void nfnl_add_chain(struct nfnl_batch *b, unsigned family, const char *table, const char *name)
{
	change(b, NFT_MSG_NEWCHAIN, family, table, name);
}

void nfnl_del_table(struct nfnl_batch *b, unsigned family, const char *name)
{
	change(b, NFT_MSG_DELTABLE, family, name, NULL);
}

void nfnl_del_chain(struct nfnl_batch *b, unsigned family, const char *table, const char *name)
{
	change(b, NFT_MSG_DELCHAIN, family, table, name);
}

/*
 * The kernel has answered when it has taken the batch: to the last change, which is the one before the number `end`, or
 * why it takes none.
 */
static int answers(struct rtnl *nf, uint32_t begin, uint32_t end, struct err *err)
{
	_Alignas(8) char buf[8192];
	bool done = false, last = false;
	int e = 0;

	while (!last) {
		ssize_t n = recv(nf->fd, buf, sizeof(buf), MSG_DONTWAIT);
		size_t len = n < 0 ? 0 : (size_t)n;

		if (n < 0 && (errno == EINTR || errno == ENOBUFS))
			continue;
		if (n < 0)
			break;
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, len); h = rtnl_next(h, &len)) {
			if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_seq - begin > end - begin)
				continue;
			done = true;
			last |= h->nlmsg_seq + 1 == end;
			if (!e)
				e = -((struct nlmsgerr *)NLMSG_DATA(h))->error;
		}
	}
	e = done ? e : EIO;
	return e ? err_errno(err, e, "packet filters"), -e : 0;
}

int nfnl_commit(struct rtnl *nf, struct nfnl_batch *b, struct err *err)
{
	const int room = (int)b->len * 2;
	const uint32_t begin = nf->seq + 1;

	if (!b->last)
		return b->full ? err_set(err, "out of memory"), -ENOMEM : 0;
	((struct nlmsghdr *)(b->buf + b->last))->nlmsg_flags |= NLM_F_ACK;
	put_mark(b, NFNL_MSG_BATCH_END);
	if (b->full)
		return err_set(err, "out of memory"), -ENOMEM;
	for (size_t at = 0; at < b->len; at += NLMSG_ALIGN(((struct nlmsghdr *)(b->buf + at))->nlmsg_len))
		((struct nlmsghdr *)(b->buf + at))->nlmsg_seq = ++nf->seq;
	setsockopt(nf->fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	if (send(nf->fd, b->buf, b->len, 0) != (ssize_t)b->len)
		return err_errno(err, errno, "packet filters"), -EIO;
	return answers(nf, begin, nf->seq, err);
}
