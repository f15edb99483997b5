/* See book.h. */
#include "lan/book.h"

#include <linux/netfilter/nf_tables.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/bytes.h"
#include "lan/legacy.h"
#include "lan/rules.h"

#define CHAINS	 4096u
#define SEARCHED 16384u /* rules, for writers */
#define WRITERS	 256u

static uint32_t number(const struct rtattr *a)
{
	return a && RTA_PAYLOAD(a) == 4 ? ld_be32(RTA_DATA(a)) : 0;
}

/* --- chains --- */

static int add_chain(void *opaque, unsigned family, const struct rtattr *const *t)
{
	const struct rtattr *hook[NFTA_HOOK_HOOKNUM + 1];
	struct book *b = opaque;
	struct book_chain c = { .family = family, .hook = BOOK_NO_HOOK };
	char type[NFNL_NAME] = "";

	if (!nfnl_text(t[NFTA_CHAIN_TABLE], c.table) || !nfnl_text(t[NFTA_CHAIN_NAME], c.name))
		return 0;
	nfnl_nested(t[NFTA_CHAIN_HOOK], hook, ARRAY_LEN(hook) - 1);
	if (hook[NFTA_HOOK_HOOKNUM])
		c.hook = number(hook[NFTA_HOOK_HOOKNUM]);
	c.drops = t[NFTA_CHAIN_POLICY] && number(t[NFTA_CHAIN_POLICY]) == NF_DROP;
	if (nfnl_text(t[NFTA_CHAIN_TYPE], type) && strlen(type) < sizeof(c.type))
		memcpy(c.type, type, strlen(type));
	return book_add(b, &c);
}

int book_add(struct book *b, const struct book_chain *c)
{
	if (b->chains_len == CHAINS || !array_more(b->chains, b->chains_len))
		return -1;
	b->chains[b->chains_len++] = *c;
	return 0;
}

/* Chains of one that sleeps see nothing. */
static int see_table(void *opaque, unsigned family, const struct rtattr *const *t)
{
	const struct book *b = opaque;
	char name[NFNL_NAME];

	if (!(number(t[NFTA_TABLE_FLAGS]) & NFT_TABLE_F_DORMANT) || !nfnl_text(t[NFTA_TABLE_NAME], name))
		return 0;
	for (unsigned i = 0; i < b->chains_len; i++)
		if (b->chains[i].family == family && !strcmp(b->chains[i].table, name))
			b->chains[i].hook = BOOK_NO_HOOK;
	return 0;
}

int book_open(struct book *b, struct err *err)
{
	*b = (struct book){ .rules_left = BOOK_RULES, .elements_left = BOOK_ELEMENTS };
	if (rtnl_open_netfilter(&b->nf, err))
		return -1;
	b->open = true;
	if (nfnl_each(&b->nf, &(struct nfnl_query){ .message = NFT_MSG_GETCHAIN }, add_chain, b, err) ||
	    nfnl_each(&b->nf, &(struct nfnl_query){ .message = NFT_MSG_GETTABLE }, see_table, b, err)) {
		book_close(b);
		return -1;
	}
	legacy_read(b);
	return 0;
}

void book_close(struct book *b)
{
	for (unsigned i = 0; i < b->chains_len; i++)
		free(b->chains[i].rules);
	for (unsigned i = 0; i < b->sets_len; i++)
		free(b->sets[i].v);
	for (unsigned i = 0; i < b->writers_len; i++)
		free(b->writers[i].rule);
	free(b->chains);
	free(b->sets);
	free(b->writers);
	if (b->open)
		rtnl_close(&b->nf);
	*b = (struct book){ 0 };
}

static bool is_beside(const struct book_chain *c, const struct book_chain *other)
{
	return c->family == other->family && c->legacy == other->legacy && !strcmp(c->table, other->table);
}

struct book_chain *book_find(const struct book *b, const struct book_chain *c, const char *name)
{
	for (unsigned i = 0; i < b->chains_len; i++)
		if (is_beside(&b->chains[i], c) && !strcmp(b->chains[i].name, name))
			return &b->chains[i];
	return NULL;
}

const struct book_chain *book_at(const struct book *b, const struct book_chain *c, unsigned from)
{
	for (unsigned i = 0; i < b->chains_len; i++)
		if (is_beside(&b->chains[i], c) && b->chains[i].hook == BOOK_NO_HOOK && b->chains[i].from == from)
			return &b->chains[i];
	return NULL;
}

/* All of it, or -1: then another socket is needed, since the kernel goes on with what was asked. */
static int ask(struct book *b, const struct nfnl_query *q, nfnl_each_fn *fn, void *opaque)
{
	struct err ignored;
	int rc = b->open ? nfnl_each(&b->nf, q, fn, opaque, &ignored) : -1;

	if (rc && b->open) {
		rtnl_close(&b->nf);
		b->open = !rtnl_open_netfilter(&b->nf, &ignored);
	}
	return rc;
}

/* --- rules --- */

struct reading {
	struct book *book;
	struct book_chain *chain;
	struct book_set *set;
};

static int add_rule(void *opaque, unsigned family, const struct rtattr *const *t)
{
	const struct reading *r = opaque;
	const struct rtattr *e = t[NFTA_RULE_EXPRESSIONS];
	struct book_chain *c = r->chain;
	size_t len = e ? RTA_ALIGN(e->rta_len) : 0;

	if (!e)
		return 0;
	if (!r->book->rules_left)
		return -1;
	r->book->rules_left--;
	if (c->len + len > c->size) {
		size_t size = 2 * c->size + len;
		void *v = realloc(c->rules, size);

		if (!v)
			return -1;
		c->rules = v;
		c->size = size;
	}
	memcpy((char *)c->rules + c->len, e, e->rta_len);
	c->len += len;
	return 0;
}

void book_read(struct book *b, struct book_chain *c)
{
	const struct nfnl_query q = { NFT_MSG_GETRULE, c->family, c->table, c->name };
	struct reading r = { .book = b, .chain = c };

	if (!c->read)
		c->cut = ask(b, &q, add_rule, &r) != 0;
	c->read = true;
}

const void *book_next(const struct book_chain *c, size_t *at)
{
	const char *rule = (const char *)c->rules + *at;
	const size_t left = c->len - *at;

	if (!c->rules || !left || (!c->legacy && !RTA_OK((const struct rtattr *)rule, left)))
		return NULL;
	*at += c->legacy ? legacy_entry(c->family, rule).next : RTA_ALIGN(((const struct rtattr *)rule)->rta_len);
	*at = *at < c->len ? *at : c->len;
	return rule;
}

/* --- writers --- */

static int add_writer(struct book *b, const struct book_chain *c, const void *rule, size_t len)
{
	struct book_writer w = { c, NULL, b->writes(c, rule) };

	if (b->looked_at++ == SEARCHED)
		return -1;
	if (!w.what)
		return 0;
	w.rule = malloc(len);
	if (!w.rule || b->writers_len == WRITERS || !array_more(b->writers, b->writers_len)) {
		free(w.rule);
		return -1;
	}
	memcpy(w.rule, rule, len);
	b->writers[b->writers_len++] = w;
	return 0;
}

static int see_rule(void *opaque, unsigned family, const struct rtattr *const *t)
{
	const struct rtattr *e = t[NFTA_RULE_EXPRESSIONS];
	struct book_chain like = { .family = family };
	struct book *b = opaque;
	const struct book_chain *c;
	char name[NFNL_NAME];

	if (!e || !nfnl_text(t[NFTA_RULE_TABLE], like.table) || !nfnl_text(t[NFTA_RULE_CHAIN], name) ||
	    !strncmp(like.table, LAN_TABLE, strlen(LAN_TABLE)))
		return 0;
	if (!b->writes(&like, e))
		return b->looked_at++ == SEARCHED ? -1 : 0;
	c = book_find(b, &like, name);
	return c ? add_writer(b, c, e, e->rta_len) : -1;
}

void book_search(struct book *b, unsigned (*writes)(const struct book_chain *c, const void *rule))
{
	const void *rule;

	if (b->searched)
		return;
	b->searched = true;
	b->writes = writes;
	if (ask(b, &(struct nfnl_query){ .message = NFT_MSG_GETRULE }, see_rule, b))
		b->unsure = BOOK_MARKS | BOOK_UNTRACKS;
	for (unsigned i = 0; i < b->chains_len; i++)
		for (size_t at = 0, from = 0; b->chains[i].legacy && (rule = book_next(&b->chains[i], &at)); from = at)
			if (add_writer(b, &b->chains[i], rule, at - from))
				b->unsure = BOOK_MARKS | BOOK_UNTRACKS;
}

/* --- sets --- */

void book_verdict(const struct rtattr *a, struct book_verdict *v)
{
	const struct rtattr *t[NFTA_VERDICT_CHAIN + 1];

	nfnl_nested(a, t, ARRAY_LEN(t) - 1);
	*v = (struct book_verdict){ .there = t[NFTA_VERDICT_CODE], .code = (int)number(t[NFTA_VERDICT_CODE]) };
	nfnl_text(t[NFTA_VERDICT_CHAIN], v->chain);
}

static unsigned value_of(const struct rtattr *data, uint8_t buf[BOOK_KEY])
{
	const struct rtattr *t[NFTA_DATA_VALUE + 1];
	size_t len;

	nfnl_nested(data, t, ARRAY_LEN(t) - 1);
	len = t[NFTA_DATA_VALUE] ? RTA_PAYLOAD(t[NFTA_DATA_VALUE]) : 0;
	if (!len || len > BOOK_KEY)
		return 0;
	memcpy(buf, RTA_DATA(t[NFTA_DATA_VALUE]), len);
	return (unsigned)len;
}

static int add_element(struct book *b, struct book_set *s, const struct rtattr *a)
{
	const struct rtattr *t[NFTA_SET_ELEM_KEY_END + 1], *data[NFTA_DATA_VERDICT + 1];
	struct book_element *e;

	if (!b->elements_left || !array_more(s->v, s->len))
		return -1;
	b->elements_left--;
	e = &s->v[s->len++];
	*e = (struct book_element){ 0 };
	nfnl_nested(a, t, ARRAY_LEN(t) - 1);
	e->len = value_of(t[NFTA_SET_ELEM_KEY], e->key);
	e->ranges = value_of(t[NFTA_SET_ELEM_KEY_END], e->end) && memcmp(e->key, e->end, e->len) != 0;
	e->flags = number(t[NFTA_SET_ELEM_FLAGS]);
	nfnl_nested(t[NFTA_SET_ELEM_DATA], data, ARRAY_LEN(data) - 1);
	book_verdict(data[NFTA_DATA_VERDICT], &e->verdict);
	return 0;
}

static int add_elements(void *opaque, unsigned family, const struct rtattr *const *t)
{
	const struct rtattr *list = t[NFTA_SET_ELEM_LIST_ELEMENTS];
	const struct reading *r = opaque;
	size_t len = list ? RTA_PAYLOAD(list) : 0;
	int rc = 0;

	for (const struct rtattr *a = list ? RTA_DATA(list) : NULL; a && RTA_OK(a, len) && !rc; a = RTA_NEXT(a, len))
		rc = add_element(r->book, r->set, a);
	return rc;
}

static int add_set(void *opaque, unsigned family, const struct rtattr *const *t)
{
	const uint32_t flags = number(t[NFTA_SET_FLAGS]);
	struct book *b = opaque;
	struct book_set s = { .family = family, .grows = flags & NFT_SET_EVAL };

	/* Of several parts each has its ranges. */
	s.intervals = flags & NFT_SET_INTERVAL && !(flags & NFT_SET_CONCAT);
	if (!nfnl_text(t[NFTA_SET_TABLE], s.table) || !nfnl_text(t[NFTA_SET_NAME], s.name))
		return 0;
	if (b->sets_len == BOOK_SETS || !array_more(b->sets, b->sets_len))
		return -1;
	b->sets[b->sets_len++] = s;
	return 0;
}

static struct book_set *find_set(const struct book *b, const struct book_chain *c, const char *name)
{
	for (unsigned i = 0; i < b->sets_len; i++) {
		struct book_set *s = &b->sets[i];

		if (s->family == c->family && !strcmp(s->name, name) && !strcmp(s->table, c->table))
			return s;
	}
	return NULL;
}

const struct book_set *book_set(struct book *b, const struct book_chain *c, const char *name)
{
	const struct nfnl_query q = { NFT_MSG_GETSETELEM, c->family, c->table, name };
	struct reading r = { .book = b };

	if (!b->listed)
		ask(b, &(struct nfnl_query){ .message = NFT_MSG_GETSET }, add_set, b);
	b->listed = true;
	r.set = find_set(b, c, name);
	if (r.set && !r.set->read)
		r.set->cut = ask(b, &q, add_elements, &r) != 0;
	if (r.set)
		r.set->read = true;
	return r.set && !r.set->cut ? r.set : NULL;
}
