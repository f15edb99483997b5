/* See verdict.h. Expressions are those of linux/netfilter/nf_tables.h. */
#include "lan/verdict.h"

#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/xt_conntrack.h>
#include <linux/netfilter/xt_mark.h>
#include <linux/netfilter/xt_state.h>
#include <net/ethernet.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define STEPS	16384u /* rules that are looked at for one packet */
#define DEEPEST 16u    /* jumps within each other: the kernel's limit */
#define ATTRS	12

/* Of a condition. */
enum truth { NO, MAYBE, YES };

struct walk {
	struct book *book;
	const struct probe *p;
	const struct book_chain *chain;
	unsigned steps;
	/* Of the rule that is looked at. */
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

static void load(struct walk *w, const struct rtattr *reg, const struct half_byte *v, size_t len)
{
	struct half_byte *c = cells(w, reg, len);

	if (c)
		memcpy(c, v, len * sizeof(*c));
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

static void load_interface(struct walk *w, const struct rtattr *reg, const char *name, bool by_number)
{
	const size_t len = by_number ? 4 : IFNAMSIZ;
	struct half_byte b[IFNAMSIZ] = { 0 };
	const uint32_t index = name && by_number ? if_nametoindex(name) : 0;

	for (size_t i = 0; name && i < len; i++)
		b[i].known = 0xff;
	for (size_t i = 0; i < len && name; i++)
		b[i].v = by_number ? ((const uint8_t *)&index)[i] : i < strlen(name) ? (uint8_t)name[i] : 0;
	load(w, reg, b, len);
}

/* The least and the greatest that they may be. */
static void bounds(const struct half_byte *c, size_t len, uint8_t *low, uint8_t *high)
{
	for (size_t i = 0; i < len; i++) {
		low[i] = c[i].v & c[i].known;
		high[i] = low[i] | (uint8_t)~c[i].known;
	}
}

static enum truth equal(const struct half_byte *c, const uint8_t *v, size_t len)
{
	enum truth t = YES;

	for (size_t i = 0; i < len; i++) {
		if ((c[i].v ^ v[i]) & c[i].known)
			return NO;
		if (c[i].known != 0xff)
			t = MAYBE;
	}
	return t;
}

static enum truth not(enum truth t) { return t == MAYBE ? MAYBE : t == YES ? NO : YES; }

/* --- expressions --- */

static enum truth see_meta(struct walk *w, const struct rtattr *const *t)
{
	const struct rtattr *to = t[NFTA_META_DREG];
	const uint32_t key = number(t[NFTA_META_KEY]);
	const struct probe *p = w->p;
	const bool six = p->family == NFPROTO_IPV6;

	if (!to)
		return YES;
	if (key == NFT_META_IIFNAME || key == NFT_META_IIF)
		load_interface(w, to, p->in, key == NFT_META_IIF);
	else if (key == NFT_META_OIFNAME || key == NFT_META_OIF)
		load_interface(w, to, p->out, key == NFT_META_OIF);
	else if (key == NFT_META_NFPROTO)
		load_byte(w, to, (uint8_t)p->family);
	else if (key == NFT_META_L4PROTO)
		load_byte(w, to, p->protocol);
	else if (key == NFT_META_MARK)
		load_number(w, to, 0, ~0u); /* nobody has marked it before */
	else if (key == NFT_META_PROTOCOL)
		load(w, to, (const struct half_byte[]){ { six ? 0x86 : 0x08, 0xff }, { six ? 0xdd : 0, 0xff } }, 2);
	else
		load(w, to, (const struct half_byte[16]){ { 0 } }, 16);
	return YES;
}

static enum truth see_ct(struct walk *w, const struct rtattr *const *t)
{
	const struct rtattr *to = t[NFTA_CT_DREG];
	const uint32_t key = number(t[NFTA_CT_KEY]);

	if (to && key == NFT_CT_STATE)
		load_number(w, to, w->p->state, ~0u);
	else if (to && key == NFT_CT_STATUS)
		load_number(w, to, w->p->translated ? IPS_DST_NAT : 0, IPS_DST_NAT);
	else if (to)
		load(w, to, (const struct half_byte[16]){ { 0 } }, 16);
	return YES;
}

static enum truth see_payload(struct walk *w, const struct rtattr *const *t)
{
	const bool ports = number(t[NFTA_PAYLOAD_BASE]) == NFT_PAYLOAD_TRANSPORT_HEADER;
	const bool head = number(t[NFTA_PAYLOAD_BASE]) == NFT_PAYLOAD_NETWORK_HEADER;
	const struct half_byte *from = ports ? w->p->ports : w->p->head;
	const size_t at = number(t[NFTA_PAYLOAD_OFFSET]), len = number(t[NFTA_PAYLOAD_LEN]);
	const size_t size = ports ? sizeof(w->p->ports) : head ? sizeof(w->p->head) : 0;
	struct half_byte b[BOOK_KEY] = { 0 };

	if (!t[NFTA_PAYLOAD_DREG])
		return YES;
	for (size_t i = 0; len <= BOOK_KEY && i < len; i++)
		if (at < size / sizeof(*from) && i < size / sizeof(*from) - at)
			b[i] = from[at + i];
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
		return equal(c, RTA_DATA(data), len);
	if (op == NFT_CMP_NEQ)
		return not(equal(c, RTA_DATA(data), len));
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
		const enum truth same = memcmp(e->key + i, e->end + i, 4) ? MAYBE : equal(c + i, e->key + i, 4);

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
		const enum truth t = e->len != len ? NO : e->ranges ? within(c, e) : equal(c, e->key, len);

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
	if (number(t[NFTA_LOOKUP_FLAGS]) & NFT_LOOKUP_F_INV)
		return not(in);
	if (t[NFTA_LOOKUP_DREG] && !number(t[NFTA_LOOKUP_DREG]) && in != NO && found)
		w->verdict = found->verdict;
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

static enum truth match_comment(const struct probe *p, const void *info)
{
	return YES;
}

/* Each has its own bit for what nobody follows. */
static bool has_state(const struct probe *p, unsigned mask, unsigned untracked)
{
	return mask & (p->state == NF_CT_STATE_UNTRACKED_BIT ? untracked : p->state);
}

static enum truth match_conntrack(const struct probe *p, const void *info)
{
	const struct xt_conntrack_mtinfo2 *m = info;
	const bool in = has_state(p, m->state_mask, XT_CONNTRACK_STATE_UNTRACKED);

	if (m->match_flags != XT_CONNTRACK_STATE)
		return MAYBE;
	return in == !(m->invert_flags & XT_CONNTRACK_STATE) ? YES : NO;
}

static enum truth match_state(const struct probe *p, const void *info)
{
	const struct xt_state_info *m = info;

	return has_state(p, m->statemask, XT_STATE_UNTRACKED) ? YES : NO;
}

static enum truth match_mark(const struct probe *p, const void *info)
{
	const struct xt_mark_mtinfo1 *m = info;

	return !m->mark == !m->invert ? YES : NO;
}

static const struct {
	const char *name;
	uint32_t revision; /* the first one that is like this */
	size_t size;
	enum truth (*see)(const struct probe *p, const void *info);
} matches[] = {
	{ "comment", 0, 0, match_comment },
	{ "conntrack", 2, sizeof(struct xt_conntrack_mtinfo2), match_conntrack },
	{ "state", 0, sizeof(struct xt_state_info), match_state },
	{ "mark", 1, sizeof(struct xt_mark_mtinfo1), match_mark },
};

static enum truth see_match(struct walk *w, const struct rtattr *const *t)
{
	const struct rtattr *info = t[NFTA_MATCH_INFO];
	char name[NFNL_NAME];

	if (!info || !nfnl_text(t[NFTA_MATCH_NAME], name))
		return MAYBE;
	for (size_t i = 0; i < ARRAY_LEN(matches); i++)
		if (!strcmp(matches[i].name, name) && number(t[NFTA_MATCH_REV]) >= matches[i].revision &&
		    RTA_PAYLOAD(info) >= matches[i].size)
			return matches[i].see(w->p, RTA_DATA(info));
	return MAYBE;
}

static enum truth see_target(struct walk *w, const struct rtattr *const *t)
{
	char name[NFNL_NAME];

	if (!nfnl_text(t[NFTA_TARGET_NAME], name))
		return MAYBE;
	if (!strcmp(name, "REJECT"))
		return see_reject(w, t);
	return strcmp(name, "NFQUEUE") ? YES : see_queue(w, t);
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
	{ "last", see_nothing },
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

static enum truth carry_out(struct walk *w, const struct rtattr *rule)
{
	size_t len = RTA_PAYLOAD(rule);
	enum truth all = YES;

	memset(w->reg, 0, sizeof(w->reg));
	w->verdict.there = false;
	for (const struct rtattr *a = RTA_DATA(rule); RTA_OK(a, len) && !w->verdict.there && all != NO;
	     a = RTA_NEXT(a, len)) {
		const enum truth t = see(w, a);

		all = t < all ? t : all;
	}
	return all;
}

/* --- chains --- */

enum end { ON, PASSES, DROPPED };

/* What may be met may accept, but for certain it drops nothing. */
static enum end walk(struct walk *w, struct book_chain *c, unsigned depth)
{
	size_t len;

	book_read(w->book, c);
	len = c->len;
	for (const struct rtattr *rule = c->rules; rule && RTA_OK(rule, len); rule = RTA_NEXT(rule, len)) {
		enum truth met;
		struct book_chain *to;
		enum end end = ON;

		if (!w->steps--)
			return PASSES; /* nobody knows */
		w->chain = c;
		met = carry_out(w, rule);
		if (!w->verdict.there || met == NO)
			continue;
		if (w->verdict.code == NF_ACCEPT) {
			return PASSES;
		} else if (w->verdict.code == NF_DROP) {
			end = DROPPED;
		} else if (w->verdict.code == NFT_JUMP || w->verdict.code == NFT_GOTO) {
			const bool back = w->verdict.code == NFT_JUMP;

			to = depth < DEEPEST ? book_find(w->book, c->family, c->table, w->verdict.chain) : NULL;
			end = to ? walk(w, to, depth + 1) : PASSES;
			if (end == ON && !back && met == YES)
				return ON;
		} else if (w->verdict.code == NFT_RETURN && met == YES) {
			return ON;
		}
		if (end == PASSES || (end == DROPPED && met == YES))
			return end;
	}
	return c->cut ? PASSES : ON;
}

bool verdict_drops(struct book *b, struct book_chain *base, const struct probe *p)
{
	struct walk *w = malloc(sizeof(*w));
	enum end end = PASSES;

	if (w) {
		*w = (struct walk){ .book = b, .p = p, .steps = STEPS };
		end = walk(w, base, 0);
	}
	free(w);
	return end == DROPPED || (end == ON && base->drops);
}
