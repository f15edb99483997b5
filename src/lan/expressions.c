/* Rules of nf_tables, by their expressions (linux/netfilter/nf_tables.h): see verdict_impl.h. */
#include "lan/verdict_impl.h"

#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <net/ethernet.h>
#include <string.h>

#include "base/bytes.h"

#define ATTRS 12

/* Of the rule that is looked at. */
struct walk {
	struct book *book;
	const struct probe *p;
	const struct book_chain *chain;
	struct half_byte reg[BOOK_KEY];
	struct book_verdict verdict;
};

static uint32_t number(const struct rtattr *a)
{
	return a && RTA_PAYLOAD(a) == 4 ? ld_be32(RTA_DATA(a)) : 0;
}

static const struct rtattr *value(const struct rtattr *data)
{
	const struct rtattr *t[NFTA_DATA_VALUE + 1];

	nfnl_nested(data, t, ARRAY_LEN(t) - 1);
	return t[NFTA_DATA_VALUE];
}

/* --- registers: four of 16 bytes, or sixteen of 4 in the same place --- */

static struct half_byte *cells(struct walk *w, const struct rtattr *reg, size_t len)
{
	const uint32_t r = number(reg);
	const size_t at = r >= NFT_REG32_00 ? (r - NFT_REG32_00) * 4ul : (r - 1) * 16ul;

	return r && at < BOOK_KEY && len <= BOOK_KEY - at ? w->reg + at : NULL;
}

/* What is left of the last four bytes the kernel clears, which is of the key where several are looked for at once. */
static void load(struct walk *w, const struct rtattr *reg, const struct half_byte *v, size_t len)
{
	struct half_byte *c = cells(w, reg, 1);

	if (!c)
		return;
	for (size_t i = 0; i < len && c + i < w->reg + BOOK_KEY; i++)
		c[i] = v[i];
	for (size_t i = len; i % 4 && c + i < w->reg + BOOK_KEY; i++)
		c[i] = (struct half_byte){ 0, 0xff };
}

/* `known`: which of its bits are. */
static void load_number(struct walk *w, const struct rtattr *reg, uint32_t v, uint32_t known)
{
	struct half_byte b[4];

	for (unsigned i = 0; i < 4; i++)
		b[i] = (struct half_byte){ ((const uint8_t *)&v)[i], ((const uint8_t *)&known)[i] };
	load(w, reg, b, 4);
}

static void load_byte(struct walk *w, const struct rtattr *reg, uint8_t v)
{
	load(w, reg, &(struct half_byte){ v, 0xff }, 1);
}

static void load_interface(struct walk *w, const struct rtattr *reg, const struct probe_link *l, bool by_number)
{
	const uint32_t index = l->name && by_number && !l->begins ? if_nametoindex(l->name) : 0;
	struct half_byte name[IFNAMSIZ];

	verdict_name(l, name);
	if (by_number)
		load_number(w, reg, index, l->name && !l->begins ? ~0u : 0);
	else
		load(w, reg, name, IFNAMSIZ);
}

/* The least and the greatest that they may be. */
static void bounds(const struct half_byte *c, size_t len, uint8_t *low, uint8_t *high)
{
	for (size_t i = 0; i < len; i++) {
		low[i] = c[i].v & c[i].known;
		high[i] = low[i] | (uint8_t)~c[i].known;
	}
}

/* --- expressions --- */

static enum truth see_meta(struct walk *w, const struct rtattr *const *t)
{
	const struct rtattr *to = t[NFTA_META_DREG];
	const uint32_t key = number(t[NFTA_META_KEY]);
	const struct probe *p = w->p;
	const bool frame = w->chain->family == NFPROTO_BRIDGE;
	uint8_t type[2];

	if (!to)
		return YES;
	if (key == NFT_META_L4PROTO && p->family == NFPROTO_ARP)
		return NO;
	st_be16(type, probe_ethertype(p->family));
	if (key == NFT_META_IIFNAME || key == NFT_META_IIF)
		load_interface(w, to, &p->in, key == NFT_META_IIF);
	else if (key == NFT_META_OIFNAME || key == NFT_META_OIF)
		load_interface(w, to, &p->out, key == NFT_META_OIF);
	else if ((key == NFT_META_BRI_IIFNAME && p->in.name) || (key == NFT_META_BRI_OIFNAME && p->out.name))
		load_interface(w, to, &(struct probe_link){ p->bridge, false }, false);
	else if (key == NFT_META_NFPROTO)
		load_byte(w, to, frame ? NFPROTO_BRIDGE : (uint8_t)p->family);
	else if (key == NFT_META_L4PROTO)
		load_byte(w, to, p->protocol);
	else if (key == NFT_META_MARK)
		load_number(w, to, 0, p->marked ? 0 : ~0u);
	else if (key == NFT_META_PROTOCOL)
		load(w, to, (const struct half_byte[]){ { type[0], 0xff }, { type[1], 0xff } }, 2);
	else
		load(w, to, (const struct half_byte[16]){ { 0 } }, 16);
	return YES;
}

static enum truth see_ct(struct walk *w, const struct rtattr *const *t)
{
	const struct rtattr *to = t[NFTA_CT_DREG];
	const uint32_t key = number(t[NFTA_CT_KEY]);

	if (to && key == NFT_CT_STATE)
		load_number(w, to, w->p->state, w->p->untracked ? ~(w->p->state | NF_CT_STATE_UNTRACKED_BIT) : ~0u);
	else if (to && key == NFT_CT_STATUS)
		load_number(w, to, w->p->translated ? IPS_DST_NAT : 0, IPS_DST_NAT);
	else if (to)
		load(w, to, (const struct half_byte[16]){ { 0 } }, 16);
	return YES;
}

static enum truth see_payload(struct walk *w, const struct rtattr *const *t)
{
	const struct probe *p = w->p;
	const struct {
		const struct half_byte *v;
		size_t len;
	} headers[] = {
		[NFT_PAYLOAD_LL_HEADER] = { p->frame, ARRAY_LEN(p->frame) },
		[NFT_PAYLOAD_NETWORK_HEADER] = { p->head, ARRAY_LEN(p->head) },
		[NFT_PAYLOAD_TRANSPORT_HEADER] = { p->ports, ARRAY_LEN(p->ports) },
	};
	const size_t base = number(t[NFTA_PAYLOAD_BASE]), at = number(t[NFTA_PAYLOAD_OFFSET]),
		     len = number(t[NFTA_PAYLOAD_LEN]), size = base < ARRAY_LEN(headers) ? headers[base].len : 0;
	struct half_byte b[BOOK_KEY] = { 0 };

	if (!t[NFTA_PAYLOAD_DREG])
		return YES;
	if (base == NFT_PAYLOAD_TRANSPORT_HEADER && p->family == NFPROTO_ARP)
		return NO;
	for (size_t i = 0; len <= BOOK_KEY && i < len; i++)
		if (at < size && i < size - at)
			b[i] = headers[base].v[at + i];
	load(w, t[NFTA_PAYLOAD_DREG], b, len <= BOOK_KEY ? len : BOOK_KEY);
	return YES;
}

/* Whether a reverse path filter finds the way. */
static enum truth see_fib(struct walk *w, const struct rtattr *const *t)
{
	const uint32_t flags = number(t[NFTA_FIB_FLAGS]);
	const uint8_t known = w->p->no_way_back && flags & NFTA_FIB_F_SADDR && flags & NFTA_FIB_F_IIF ? 0xff : 0;
	struct half_byte b[16];

	for (size_t i = 0; i < sizeof(b) / sizeof(*b); i++)
		b[i] = (struct half_byte){ 0, known };
	load(w, t[NFTA_FIB_DREG], b, 16);
	return YES;
}

static enum truth see_bitwise(struct walk *w, const struct rtattr *const *t)
{
	const struct rtattr *mask = value(t[NFTA_BITWISE_MASK]), *flip = value(t[NFTA_BITWISE_XOR]);
	const size_t len = number(t[NFTA_BITWISE_LEN]);
	const struct half_byte *from = cells(w, t[NFTA_BITWISE_SREG], len);
	struct half_byte b[BOOK_KEY] = { 0 };
	const bool known = from && mask && flip && RTA_PAYLOAD(mask) == len && RTA_PAYLOAD(flip) == len;

	for (size_t i = 0; known && i < len; i++) {
		const uint8_t m = ((const uint8_t *)RTA_DATA(mask))[i], x = ((const uint8_t *)RTA_DATA(flip))[i];

		b[i] = (struct half_byte){ (from[i].v & m) ^ x, from[i].known | (uint8_t)~m };
	}
	load(w, t[NFTA_BITWISE_DREG], b, len <= BOOK_KEY ? len : BOOK_KEY);
	return YES;
}

static enum truth see_cmp(struct walk *w, const struct rtattr *const *t)
{
	const uint32_t op = number(t[NFTA_CMP_OP]);
	const struct rtattr *data = value(t[NFTA_CMP_DATA]);
	const size_t len = data ? RTA_PAYLOAD(data) : 0;
	const struct half_byte *c = data ? cells(w, t[NFTA_CMP_SREG], len) : NULL;
	uint8_t low[BOOK_KEY], high[BOOK_KEY];
	int least, most;

	if (!c)
		return MAYBE;
	if (op == NFT_CMP_EQ)
		return verdict_equal(c, RTA_DATA(data), len);
	if (op == NFT_CMP_NEQ)
		return not(verdict_equal(c, RTA_DATA(data), len));
	bounds(c, len, low, high);
	least = memcmp(low, RTA_DATA(data), len);
	most = memcmp(high, RTA_DATA(data), len);
	if (op == NFT_CMP_LT || op == NFT_CMP_GTE) {
		const enum truth less = most < 0 ? YES : least >= 0 ? NO : MAYBE;

		return op == NFT_CMP_LT ? less : not(less);
	} else {
		const enum truth greater = least > 0 ? YES : most <= 0 ? NO : MAYBE;

		return op == NFT_CMP_GT ? greater : not(greater);
	}
}

static enum truth see_range(struct walk *w, const struct rtattr *const *t)
{
	const struct rtattr *from = value(t[NFTA_RANGE_FROM_DATA]), *to = value(t[NFTA_RANGE_TO_DATA]);
	const size_t len = from ? RTA_PAYLOAD(from) : 0;
	const struct half_byte *c = to && RTA_PAYLOAD(to) == len ? cells(w, t[NFTA_RANGE_SREG], len) : NULL;
	uint8_t low[BOOK_KEY], high[BOOK_KEY];
	enum truth in = MAYBE;

	if (!c)
		return MAYBE;
	bounds(c, len, low, high);
	if (memcmp(low, RTA_DATA(from), len) >= 0 && memcmp(high, RTA_DATA(to), len) <= 0)
		in = YES;
	else if (memcmp(high, RTA_DATA(from), len) < 0 || memcmp(low, RTA_DATA(to), len) > 0)
		in = NO;
	return number(t[NFTA_RANGE_OP]) == NFT_RANGE_NEQ ? not(in) : in;
}

/* The last place up to `key` where one begins, or ends; NULL: none. */
static const struct book_element *before(const struct book_set *s, const uint8_t *key, size_t len)
{
	const struct book_element *found = NULL;

	for (unsigned i = 0; i < s->len; i++) {
		const struct book_element *e = &s->v[i];
		const int order = found ? memcmp(e->key, found->key, len) : 1;

		if (e->len == len && memcmp(e->key, key, len) <= 0 &&
		    (order > 0 || (!order && found->flags & NFT_SET_ELEM_INTERVAL_END)))
			found = e;
	}
	return found;
}

/* A key of several parts, of which some are ranges, as numbers of four bytes. */
static enum truth within(const struct half_byte *c, const struct book_element *e)
{
	enum truth t = YES;

	for (size_t i = 0; i + 4 <= e->len; i += 4) {
		const enum truth same = memcmp(e->key + i, e->end + i, 4) ? MAYBE : verdict_equal(c + i, e->key + i, 4);

		t = same < t ? same : t;
	}
	return t;
}

static enum truth look_up(const struct book_set *s, const struct half_byte *c, size_t len,
			  const struct book_element **found)
{
	enum truth best = NO;

	if (s->intervals) {
		uint8_t low[BOOK_KEY], high[BOOK_KEY];

		bounds(c, len, low, high);
		*found = before(s, low, len);
		if (*found != before(s, high, len))
			return MAYBE;
		best = *found && !((*found)->flags & NFT_SET_ELEM_INTERVAL_END) ? YES : NO;
	}
	for (unsigned i = 0; !s->intervals && i < s->len && best != YES; i++) {
		const struct book_element *e = &s->v[i];
		const enum truth t = e->len != len ? NO : e->ranges ? within(c, e) : verdict_equal(c, e->key, len);

		if (t > best) {
			best = t;
			*found = e;
		}
	}
	for (unsigned i = 0; i < s->len && best == NO; i++)
		if (!s->v[i].len) {
			*found = &s->v[i]; /* of all that is not in it otherwise */
			best = YES;
		}
	return best;
}

/* What a map says where nobody knows by which key: that it is accepted, unless all of it says something else. */
static void any_verdict(const struct book_set *s, struct book_verdict *v)
{
	*v = (struct book_verdict){ .there = true, .code = NF_ACCEPT };
	for (unsigned i = 0, same = 0; i < s->len; i++) {
		const struct book_verdict *one = &s->v[i].verdict;

		if (!one->there)
			continue; /* the end of a range */
		if (same && (one->code != v->code || strcmp(one->chain, v->chain))) {
			v->code = NF_ACCEPT;
			return;
		}
		*v = *one;
		same = 1;
	}
}

static enum truth see_lookup(struct walk *w, const struct rtattr *const *t)
{
	const struct book_element *found = NULL;
	const struct book_set *s;
	const struct half_byte *c;
	char name[NFNL_NAME];
	enum truth in;
	size_t len = 0;

	if (!nfnl_text(t[NFTA_LOOKUP_SET], name) || !(s = book_set(w->book, w->chain, name)))
		return MAYBE;
	for (unsigned i = 0; i < s->len && !len; i++)
		len = s->v[i].len;
	c = cells(w, t[NFTA_LOOKUP_SREG], len);
	if (!c)
		return MAYBE;
	in = look_up(s, c, len, &found);
	if (in == NO && s->grows)
		in = MAYBE;
	if (number(t[NFTA_LOOKUP_FLAGS]) & NFT_LOOKUP_F_INV)
		return not(in);
	if (t[NFTA_LOOKUP_DREG] && !number(t[NFTA_LOOKUP_DREG]) && in == YES)
		w->verdict = found->verdict;
	else if (t[NFTA_LOOKUP_DREG] && !number(t[NFTA_LOOKUP_DREG]) && in == MAYBE)
		any_verdict(s, &w->verdict);
	else if (t[NFTA_LOOKUP_DREG])
		load(w, t[NFTA_LOOKUP_DREG], (const struct half_byte[16]){ { 0 } }, 16);
	return in;
}

static enum truth see_immediate(struct walk *w, const struct rtattr *const *t)
{
	const struct rtattr *data[NFTA_DATA_VERDICT + 1], *v;
	struct half_byte b[BOOK_KEY];
	size_t len;

	nfnl_nested(t[NFTA_IMMEDIATE_DATA], data, ARRAY_LEN(data) - 1);
	v = data[NFTA_DATA_VALUE];
	len = v && RTA_PAYLOAD(v) <= BOOK_KEY ? RTA_PAYLOAD(v) : 0;
	for (size_t i = 0; i < len; i++)
		b[i] = (struct half_byte){ ((const uint8_t *)RTA_DATA(v))[i], 0xff };
	if (number(t[NFTA_IMMEDIATE_DREG]))
		load(w, t[NFTA_IMMEDIATE_DREG], b, len);
	else
		book_verdict(data[NFTA_DATA_VERDICT], &w->verdict);
	return YES;
}

static enum truth see_reject(struct walk *w, const struct rtattr *const *t)
{
	w->verdict = (struct book_verdict){ .there = true, .code = NF_DROP };
	return YES;
}

/* A program decides. */
static enum truth see_queue(struct walk *w, const struct rtattr *const *t)
{
	w->verdict = (struct book_verdict){ .there = true, .code = NF_ACCEPT };
	return YES;
}

/* --- what iptables-nft has for what nf_tables has no expression for --- */

static bool module(struct xt_module *m, char name[NFNL_NAME], const struct rtattr *text, const struct rtattr *revision,
		   const struct rtattr *info)
{
	*m = (struct xt_module){ .name = name, .revision = number(revision) };
	m->info = info ? RTA_DATA(info) : NULL;
	m->size = info ? RTA_PAYLOAD(info) : 0;
	return nfnl_text(text, name);
}

static enum truth see_match(struct walk *w, const struct rtattr *const *t)
{
	char name[NFNL_NAME];
	struct xt_module m;

	return module(&m, name, t[NFTA_MATCH_NAME], t[NFTA_MATCH_REV], t[NFTA_MATCH_INFO]) ? verdict_match(&m, w->p)
											   : MAYBE;
}

static enum truth see_target(struct walk *w, const struct rtattr *const *t)
{
	char name[NFNL_NAME];
	struct xt_module m;

	if (!module(&m, name, t[NFTA_TARGET_NAME], t[NFTA_TARGET_REV], t[NFTA_TARGET_INFO]))
		return MAYBE;
	verdict_target(&m, &w->verdict);
	return YES;
}

/* Counters by name; what else has one may end the rule. */
static enum truth see_object(struct walk *w, const struct rtattr *const *t)
{
	return number(t[NFTA_OBJREF_IMM_TYPE]) == NFT_OBJECT_COUNTER ? YES : MAYBE;
}

static enum truth see_nothing(struct walk *w, const struct rtattr *const *t)
{
	return YES;
}

static const struct {
	const char *name;
	enum truth (*see)(struct walk *w, const struct rtattr *const *t);
} expressions[] = {
	{ "meta", see_meta },	  { "ct", see_ct },	      { "payload", see_payload },
	{ "fib", see_fib },	  { "bitwise", see_bitwise }, { "cmp", see_cmp },
	{ "range", see_range },	  { "lookup", see_lookup },   { "immediate", see_immediate },
	{ "reject", see_reject }, { "queue", see_queue },     { "match", see_match },
	{ "target", see_target }, { "counter", see_nothing }, { "log", see_nothing },
	{ "last", see_nothing },  { "objref", see_object },
};

/* Of others nothing is known any more, nor of what they may have written. */
static enum truth see(struct walk *w, const struct rtattr *expression)
{
	const struct rtattr *e[NFTA_EXPR_DATA + 1], *t[ATTRS + 1];
	char name[NFNL_NAME];

	nfnl_nested(expression, e, ARRAY_LEN(e) - 1);
	nfnl_nested(e[NFTA_EXPR_DATA], t, ATTRS);
	if (nfnl_text(e[NFTA_EXPR_NAME], name))
		for (size_t i = 0; i < ARRAY_LEN(expressions); i++)
			if (!strcmp(expressions[i].name, name))
				return expressions[i].see(w, t);
	memset(w->reg, 0, sizeof(w->reg));
	return MAYBE;
}

enum truth verdict_expressions(struct book *b, const struct book_chain *c, const struct rtattr *rule,
			       const struct probe *p, struct book_verdict *v)
{
	struct walk w = { .book = b, .p = p, .chain = c };
	size_t len = RTA_PAYLOAD(rule);
	enum truth all = YES;

	for (const struct rtattr *a = RTA_DATA(rule); RTA_OK(a, len) && !w.verdict.there && all != NO;
	     a = RTA_NEXT(a, len)) {
		const enum truth t = see(&w, a);

		all = t < all ? t : all;
	}
	*v = w.verdict;
	return all;
}
