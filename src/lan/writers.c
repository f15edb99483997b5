/* What rules do to packets that others look at: they mark them, or keep them from being followed. See verdict_impl.h.
 */
#include "lan/legacy.h"
#include "lan/verdict_impl.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter/xt_CT.h>
#include <string.h>

#include "base/bytes.h"

#define ATTRS 4

static unsigned of_module(const char *name, const void *info, size_t size)
{
	const struct xt_ct_target_info_v1 *ct = info;

	if (!strcmp(name, "MARK") || !strcmp(name, "CONNMARK") || !strcmp(name, "HMARK") || !strcmp(name, "mark"))
		return BOOK_MARKS;
	if (!strcmp(name, "NOTRACK") || (!strcmp(name, "CT") && (size < sizeof(*ct) || ct->flags & XT_CT_NOTRACK)))
		return BOOK_UNTRACKS;
	return 0;
}

static unsigned of_expression(const struct rtattr *expression)
{
	const struct rtattr *e[NFTA_EXPR_DATA + 1], *t[ATTRS + 1], *info;
	char name[NFNL_NAME], target[NFNL_NAME];

	nfnl_nested(expression, e, ARRAY_LEN(e) - 1);
	nfnl_nested(e[NFTA_EXPR_DATA], t, ATTRS);
	if (!nfnl_text(e[NFTA_EXPR_NAME], name))
		return 0;
	if (!strcmp(name, "notrack"))
		return BOOK_UNTRACKS;
	if (!strcmp(name, "meta") && t[NFTA_META_SREG] && t[NFTA_META_KEY])
		return ld_be32(RTA_DATA(t[NFTA_META_KEY])) == NFT_META_MARK ? BOOK_MARKS : 0;
	info = t[NFTA_TARGET_INFO];
	if (strcmp(name, "target") || !info || !nfnl_text(t[NFTA_TARGET_NAME], target))
		return 0;
	return of_module(target, RTA_DATA(info), RTA_PAYLOAD(info));
}

static unsigned writes(const struct book_chain *c, const void *rule)
{
	const struct rtattr *list = rule;
	unsigned what = 0;
	size_t len;

	if (c->legacy) {
		const struct legacy_entry e = legacy_entry(c->family, rule);
		const struct xt_entry_target *target = (const void *)((const uint8_t *)rule + e.target);

		return of_module(target->u.user.name, target->data, e.next - e.target - sizeof(*target));
	}
	len = RTA_PAYLOAD(list);
	for (const struct rtattr *a = RTA_DATA(list); RTA_OK(a, len); a = RTA_NEXT(a, len))
		what |= of_expression(a);
	return what;
}

/* Frames are at other interfaces in the hooks of bridges and devices than packets elsewhere. */
static bool may_meet(struct book *b, const struct book_writer *w, const struct probe *p)
{
	const struct book_chain *c = w->chain;
	struct probe any = *p;
	struct book_verdict v;

	if (c->family != NFPROTO_INET && c->family != NFPROTO_IPV4 && c->family != NFPROTO_IPV6)
		return true;
	if (p->family == NFPROTO_ARP || (c->family != NFPROTO_INET && c->family != p->family))
		return false;
	any.marked = any.untracked = true;
	if (p->bridge)
		any.in = any.out = (struct probe_link){ 0 };
	return (c->legacy ? verdict_entry(b, c, w->rule, &any, &v) : verdict_expressions(b, c, w->rule, &any, &v)) !=
	       NO;
}

/* Which of these chains come before which is not looked at. */
void verdict_writers(struct book *b, struct probe *p)
{
	unsigned what;

	book_search(b, writes);
	what = b->unsure;
	for (unsigned i = 0; i < b->writers_len; i++)
		if (b->writers[i].what & ~what && may_meet(b, &b->writers[i], p))
			what |= b->writers[i].what;
	p->marked = what & BOOK_MARKS;
	p->untracked = what & BOOK_UNTRACKS;
}
