/* Conditions and targets of iptables and ebtables for which nf_tables has no expression: see verdict_impl.h. */
#include "lan/verdict_impl.h"

#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/xt_conntrack.h>
#include <linux/netfilter/xt_mark.h>
#include <linux/netfilter/xt_multiport.h>
#include <linux/netfilter/xt_state.h>
#include <linux/netfilter/xt_tcpudp.h>
#include <linux/netfilter_bridge/ebt_arp.h>
#include <linux/netfilter_bridge/ebt_ip.h>
#include <linux/netfilter_bridge/ebt_ip6.h>
#include <string.h>

#include "base/bytes.h"

static enum truth both(enum truth a, enum truth b)
{
	return a < b ? a : b;
}

static enum truth inverted_if(bool inverted, enum truth t)
{
	return inverted ? not(t) : t;
}

static enum truth match_comment(const struct probe *p, const void *info)
{
	return YES;
}

/* --- connections and marks --- */

/* Each has its own bit for what nobody follows. */
static enum truth has_state(const struct probe *p, unsigned mask, unsigned untracked)
{
	const bool followed = mask & p->state, alone = mask & untracked;

	if (p->untracked && followed != alone && p->state != NF_CT_STATE_UNTRACKED_BIT)
		return MAYBE;
	return (p->state == NF_CT_STATE_UNTRACKED_BIT ? alone : followed) ? YES : NO;
}

/* Whose addresses are translated is a state as well; of senders' nothing is known. */
static enum truth is_translated(const struct probe *p, unsigned mask)
{
	if (mask & XT_CONNTRACK_STATE_DNAT && p->translated)
		return YES;
	return mask & XT_CONNTRACK_STATE_SNAT && p->state != NF_CT_STATE_UNTRACKED_BIT ? MAYBE : NO;
}

static enum truth match_conntrack(const struct probe *p, const void *info)
{
	const struct xt_conntrack_mtinfo2 *m = info;
	const enum truth in = has_state(p, m->state_mask, XT_CONNTRACK_STATE_UNTRACKED);

	if (m->match_flags != XT_CONNTRACK_STATE)
		return MAYBE;
	return inverted_if(m->invert_flags & XT_CONNTRACK_STATE, in == NO ? is_translated(p, m->state_mask) : in);
}

static enum truth match_state(const struct probe *p, const void *info)
{
	const struct xt_state_info *m = info;

	return has_state(p, m->statemask, XT_STATE_UNTRACKED);
}

static enum truth match_mark(const struct probe *p, const void *info)
{
	const struct xt_mark_mtinfo1 *m = info;

	return p->marked ? MAYBE : !m->mark == !m->invert ? YES : NO;
}

/* --- ports --- */

static enum truth is_port(const struct half_byte c[2], const uint16_t range[2])
{
	const unsigned known = (unsigned)c[0].known << 8 | c[1].known, v = (unsigned)c[0].v << 8 | c[1].v;

	if (known != 0xffff)
		return range[0] || range[1] != 0xffff ? MAYBE : YES;
	return v >= range[0] && v <= range[1] ? YES : NO;
}

/* The source's and the destination's; NULL: any. */
static enum truth are_ports(const struct probe *p, const uint16_t *from, bool not_from, const uint16_t *to, bool not_to)
{
	const enum truth t = from ? inverted_if(not_from, is_port(p->ports, from)) : YES;

	return to ? both(t, inverted_if(not_to, is_port(p->ports + 2, to))) : t;
}

static enum truth match_tcp(const struct probe *p, const void *info)
{
	const struct xt_tcp *m = info;

	return both(m->option || m->flg_mask ? MAYBE : YES,
		    are_ports(p, m->spts, m->invflags & XT_TCP_INV_SRCPT, m->dpts, m->invflags & XT_TCP_INV_DSTPT));
}

static enum truth match_udp(const struct probe *p, const void *info)
{
	const struct xt_udp *m = info;

	return are_ports(p, m->spts, m->invflags & XT_UDP_INV_SRCPT, m->dpts, m->invflags & XT_UDP_INV_DSTPT);
}

/* Of destinations only. */
static enum truth match_multiport(const struct probe *p, const void *info)
{
	const struct xt_multiport_v1 *m = info;
	enum truth t = NO;

	if (m->flags != XT_MULTIPORT_DESTINATION)
		return MAYBE;
	for (unsigned i = 0; i < m->count && i < XT_MULTI_PORTS; i++) {
		const uint16_t range[2] = { m->ports[i], m->ports[i + (m->pflags[i] && i + 1 < XT_MULTI_PORTS)] };
		const enum truth in = is_port(p->ports + 2, range);

		t = in > t ? in : t;
		i += m->pflags[i] != 0;
	}
	return inverted_if(m->invert, t);
}

/* --- what ebtables knows of IP and ARP --- */

/* What of a header is compared, where the module's bit says so. */
struct part {
	uint8_t bit;
	size_t at, len;
	const void *value, *mask; /* NULL: all of it */
};

static enum truth all_parts(const struct probe *p, const struct part *v, size_t len, uint8_t bits, uint8_t inverted)
{
	enum truth t = YES;

	for (size_t i = 0; i < len; i++)
		if (bits & v[i].bit)
			t = both(t, inverted_if(inverted & v[i].bit,
						verdict_masked(p->head + v[i].at, v[i].value, v[i].mask, v[i].len)));
	return t;
}

static enum truth match_ip(const struct probe *p, const void *info)
{
	const struct ebt_ip_info *m = info;
	const struct part parts[] = {
		{ EBT_IP_SOURCE, 12, 4, &m->saddr, &m->smsk },
		{ EBT_IP_DEST, 16, 4, &m->daddr, &m->dmsk },
		{ EBT_IP_TOS, 1, 1, &m->tos, NULL },
		{ EBT_IP_PROTO, 9, 1, &m->protocol, NULL },
	};
	const enum truth t = both(all_parts(p, parts, ARRAY_LEN(parts), m->bitmask, m->invflags),
				  are_ports(p, m->bitmask & EBT_IP_SPORT ? m->sport : NULL, m->invflags & EBT_IP_SPORT,
					    m->bitmask & EBT_IP_DPORT ? m->dport : NULL, m->invflags & EBT_IP_DPORT));

	return m->bitmask & (EBT_IP_ICMP | EBT_IP_IGMP) ? both(t, MAYBE) : t;
}

static enum truth match_ip6(const struct probe *p, const void *info)
{
	const struct ebt_ip6_info *m = info;
	const struct part parts[] = {
		{ EBT_IP6_SOURCE, 8, 16, &m->saddr, &m->smsk },
		{ EBT_IP6_DEST, 24, 16, &m->daddr, &m->dmsk },
		{ EBT_IP6_PROTO, 6, 1, &m->protocol, NULL },
	};
	const enum truth t =
		both(all_parts(p, parts, ARRAY_LEN(parts), m->bitmask, m->invflags),
		     are_ports(p, m->bitmask & EBT_IP6_SPORT ? m->sport : NULL, m->invflags & EBT_IP6_SPORT,
			       m->bitmask & EBT_IP6_DPORT ? m->dport : NULL, m->invflags & EBT_IP6_DPORT));

	return m->bitmask & (EBT_IP6_TCLASS | EBT_IP6_ICMP6) ? both(t, MAYBE) : t;
}

static enum truth match_arp(const struct probe *p, const void *info)
{
	const struct ebt_arp_info *m = info;
	const struct part parts[] = {
		{ EBT_ARP_HTYPE, 0, 2, &m->htype, NULL },	{ EBT_ARP_PTYPE, 2, 2, &m->ptype, NULL },
		{ EBT_ARP_OPCODE, 6, 2, &m->opcode, NULL },	{ EBT_ARP_SRC_MAC, 8, 6, m->smaddr, m->smmsk },
		{ EBT_ARP_SRC_IP, 14, 4, &m->saddr, &m->smsk }, { EBT_ARP_DST_MAC, 18, 6, m->dmaddr, m->dmmsk },
		{ EBT_ARP_DST_IP, 24, 4, &m->daddr, &m->dmsk },
	};
	const enum truth t = all_parts(p, parts, ARRAY_LEN(parts), m->bitmask, m->invflags);

	return m->bitmask & EBT_ARP_GRAT ? both(t, MAYBE) : t;
}

/* --- by name --- */

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
	{ "tcp", 0, sizeof(struct xt_tcp), match_tcp },
	{ "udp", 0, sizeof(struct xt_udp), match_udp },
	{ "multiport", 1, sizeof(struct xt_multiport_v1), match_multiport },
	{ "ip", 0, sizeof(struct ebt_ip_info), match_ip },
	{ "ip6", 0, sizeof(struct ebt_ip6_info), match_ip6 },
	{ "arp", 0, sizeof(struct ebt_arp_info), match_arp },
};

enum truth verdict_match(const struct xt_module *m, const struct probe *p)
{
	for (size_t i = 0; i < ARRAY_LEN(matches); i++)
		if (!strcmp(matches[i].name, m->name) && m->revision >= matches[i].revision &&
		    m->size >= matches[i].size)
			return matches[i].see(p, m->info);
	return MAYBE;
}

/* Behind which the next rule is looked at. ebtables' own (mark, snat and so on) accept, unless they say otherwise. */
static const char *const go_on[] = {
	"AUDIT", "CHECKSUM", "CLASSIFY", "CONNMARK",  "CONNSECMARK", "CT",     "DSCP",
	"ECN",	 "HL",	     "HMARK",	 "IDLETIMER", "LED",	     "LOG",    "MARK",
	"NFLOG", "NOTRACK",  "RATEEST",	 "SECMARK",   "SET",	     "TCPMSS", "TCPOPTSTRIP",
	"TEE",	 "TOS",	     "TRACE",	 "TTL",	      "ULOG",	     "log",    "nflog",
};

void verdict_target(const struct xt_module *m, struct book_verdict *v)
{
	for (size_t i = 0; i < ARRAY_LEN(go_on); i++)
		if (!strcmp(go_on[i], m->name))
			return;
	*v = (struct book_verdict){ .there = true, .code = strcmp(m->name, "REJECT") ? NF_ACCEPT : NF_DROP };
}
