/* Rules of iptables-legacy, by their entries: see verdict_impl.h. */
#include "lan/legacy.h"
#include "lan/verdict_impl.h"

#include <net/if.h>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <string.h>

static enum truth part(enum truth so_far, bool inverted, enum truth t)
{
	const enum truth is = inverted ? not(t) : t;

	return is < so_far ? is : so_far;
}

static enum truth is_link(const struct probe_link *l, const char *name, const uint8_t *mask)
{
	struct half_byte b[IFNAMSIZ];

	verdict_name(l, b);
	return verdict_masked(b, name, mask, IFNAMSIZ);
}

/* A packet of a probe is no fragment. */
static enum truth sees4(const struct ipt_ip *m, const struct probe *p)
{
	enum truth t = m->flags & IPT_F_FRAG && !(m->invflags & IPT_INV_FRAG) ? NO : YES;

	t = part(t, m->invflags & IPT_INV_SRCIP, verdict_masked(p->head + 12, &m->src, &m->smsk, 4));
	t = part(t, m->invflags & IPT_INV_DSTIP, verdict_masked(p->head + 16, &m->dst, &m->dmsk, 4));
	t = part(t, m->invflags & IPT_INV_VIA_IN, is_link(&p->in, m->iniface, m->iniface_mask));
	t = part(t, m->invflags & IPT_INV_VIA_OUT, is_link(&p->out, m->outiface, m->outiface_mask));
	return m->proto ? part(t, m->invflags & IPT_INV_PROTO, m->proto == p->protocol ? YES : NO) : t;
}

static enum truth sees6(const struct ip6t_ip6 *m, const struct probe *p)
{
	enum truth t = m->flags & IP6T_F_TOS ? MAYBE : YES;

	t = part(t, m->invflags & IP6T_INV_SRCIP, verdict_masked(p->head + 8, &m->src, &m->smsk, 16));
	t = part(t, m->invflags & IP6T_INV_DSTIP, verdict_masked(p->head + 24, &m->dst, &m->dmsk, 16));
	t = part(t, m->invflags & IP6T_INV_VIA_IN, is_link(&p->in, m->iniface, m->iniface_mask));
	t = part(t, m->invflags & IP6T_INV_VIA_OUT, is_link(&p->out, m->outiface, m->outiface_mask));
	return m->flags & IP6T_F_PROTO ? part(t, m->invflags & IP6T_INV_PROTO, m->proto == p->protocol ? YES : NO) : t;
}

/* What a target of no name says: a chain by where it begins, or the verdict that nf_tables has, and one less. */
static void decide(const struct book *b, const struct book_chain *c, int verdict, bool jumps, struct book_verdict *v)
{
	const struct book_chain *to = verdict >= 0 ? book_at(b, c, (unsigned)verdict) : NULL;

	*v = (struct book_verdict){ .there = true, .code = verdict == XT_RETURN ? NFT_RETURN : -verdict - 1 };
	if (verdict >= 0)
		v->code = jumps ? NFT_JUMP : NFT_GOTO;
	else if (v->code != NFT_RETURN && v->code != NF_DROP)
		v->code = NF_ACCEPT; /* or a program decides */
	if (to)
		memcpy(v->chain, to->name, sizeof(v->chain));
}

static enum truth all_matches(const uint8_t *rule, const struct legacy_entry *e, const struct probe *p)
{
	enum truth t = YES;
	unsigned size;

	for (unsigned at = e->matches; t != NO && at + sizeof(struct xt_entry_match) <= e->target; at += size) {
		const struct xt_entry_match *m = (const void *)(rule + at);

		size = m->u.match_size;
		if (size < sizeof(*m) || size > e->target - at)
			return MAYBE;
		t = part(t, false,
			 verdict_match(
				 &(struct xt_module){ m->u.user.name, m->u.user.revision, m->data, size - sizeof(*m) },
				 p));
	}
	return t;
}

enum truth verdict_entry(const struct book *b, const struct book_chain *c, const void *rule, const struct probe *p,
			 struct book_verdict *v)
{
	const bool six = c->family == NFPROTO_IPV6;
	const struct ipt_ip *four = rule;
	const struct ip6t_ip6 *head6 = rule;
	const struct legacy_entry e = legacy_entry(c->family, rule);
	const struct xt_entry_target *target = (const void *)((const uint8_t *)rule + e.target);
	const int next = (int)(c->from + e.next) + (int)((const uint8_t *)rule - (const uint8_t *)c->rules);
	const int verdict = ((const struct xt_standard_target *)target)->verdict;

	v->there = false;
	if (*target->u.user.name)
		verdict_target(&(struct xt_module){ target->u.user.name, target->u.user.revision, NULL, 0 }, v);
	else if (verdict != next) /* one that only counts leads on */
		decide(b, c, verdict, !(six ? head6->flags & IP6T_F_GOTO : four->flags & IPT_F_GOTO), v);
	return part(six ? sees6(head6, p) : sees4(four, p), false, all_matches(rule, &e, p));
}
