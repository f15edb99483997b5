/*
 * Connections that the kernel follows (nf_conntrack), by ctnetlink: those that a network does not have any more are
 * forgotten. Filters refuse what they carry at once in any case; but as long as somebody goes on sending, their
 * addresses would be translated as before. See nfnl.h.
 */
#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/lan_impl.h"

#define MOST 1024u /* that are forgotten before it is looked again */

/* One direction of it. */
struct side {
	unsigned family; /* 0: none that can be read */
	uint8_t proto;
	uint32_t src4, dst4;
	struct in6_addr src6, dst6;
	uint16_t dport;
};

struct conns {
	const struct lan_def *def;
	const struct lan_publish *ports; /* NULL: all of the network; else those that came by one of these */
	unsigned ports_len;
	struct rtnl_req *found;
	unsigned len;
};

static const void *value(const struct rtattr *a, size_t size)
{
	return a && RTA_PAYLOAD(a) == size ? RTA_DATA(a) : NULL;
}

static void read_side(const struct rtattr *a, struct side *s)
{
	const struct rtattr *t[CTA_TUPLE_MAX + 1], *ip[CTA_IP_MAX + 1], *proto[CTA_PROTO_MAX + 1];

	*s = (struct side){ 0 };
	if (!a)
		return;
	rtnl_attrs(RTA_DATA(a), RTA_PAYLOAD(a), t, CTA_TUPLE_MAX);
	if (!t[CTA_TUPLE_IP] || !t[CTA_TUPLE_PROTO])
		return;
	rtnl_attrs(RTA_DATA(t[CTA_TUPLE_IP]), RTA_PAYLOAD(t[CTA_TUPLE_IP]), ip, CTA_IP_MAX);
	rtnl_attrs(RTA_DATA(t[CTA_TUPLE_PROTO]), RTA_PAYLOAD(t[CTA_TUPLE_PROTO]), proto, CTA_PROTO_MAX);
	if (value(proto[CTA_PROTO_NUM], 1))
		s->proto = *(const uint8_t *)RTA_DATA(proto[CTA_PROTO_NUM]);
	if (value(proto[CTA_PROTO_DST_PORT], 2))
		s->dport = ld_be16(RTA_DATA(proto[CTA_PROTO_DST_PORT]));
	if (value(ip[CTA_IP_V4_SRC], 4) && value(ip[CTA_IP_V4_DST], 4)) {
		s->family = AF_INET;
		s->src4 = ld_be32(RTA_DATA(ip[CTA_IP_V4_SRC]));
		s->dst4 = ld_be32(RTA_DATA(ip[CTA_IP_V4_DST]));
	} else if (value(ip[CTA_IP_V6_SRC], 16) && value(ip[CTA_IP_V6_DST], 16)) {
		s->family = AF_INET6;
		memcpy(&s->src6, RTA_DATA(ip[CTA_IP_V6_SRC]), 16);
		memcpy(&s->dst6, RTA_DATA(ip[CTA_IP_V6_DST]), 16);
	}
}

static bool in4(const struct lan_def *d, uint32_t a)
{
	return d->net4.len && !((a ^ d->net4.addr) & lan_mask4(d->net4.len));
}

static bool in6(const struct lan_def *d, const struct in6_addr *a)
{
	return d->net6.len && lan_in6(&d->net6, a);
}

/* Whether it begins or ends at a machine of the network; addresses of machines are in both directions or in one. */
static bool concerns(const struct lan_def *d, const struct side *s)
{
	return s->family == AF_INET ? in4(d, s->src4) || in4(d, s->dst4) : in6(d, &s->src6) || in6(d, &s->dst6);
}

static bool came_by(const struct conns *c, const struct side *s)
{
	for (unsigned i = 0; i < c->ports_len; i++) {
		const struct lan_publish *p = &c->ports[i];

		if (s->dport >= p->port && s->dport <= p->port + p->more &&
		    p->families & (s->family == AF_INET ? LAN_4 : LAN_6) &&
		    (p->udp ? IPPROTO_UDP : IPPROTO_TCP) == s->proto)
			return true;
	}
	return false;
}

static int look(void *opaque, const struct nlmsghdr *h)
{
	const size_t head = NLMSG_SPACE(sizeof(struct nfgenmsg));
	const struct rtattr *t[CTA_MAX + 1];
	struct side there, back;
	struct conns *c = opaque;
	struct rtnl_req *q = &c->found[c->len];

	if (h->nlmsg_len < head || c->len == MOST)
		return 0;
	rtnl_attrs((const void *)((const char *)h + head), h->nlmsg_len - head, t, CTA_MAX);
	read_side(t[CTA_TUPLE_ORIG], &there);
	read_side(t[CTA_TUPLE_REPLY], &back);
	if (!there.family || back.family != there.family)
		return 0;
	if (c->ports ? !value(t[CTA_STATUS], 4) || !(ld_be32(RTA_DATA(t[CTA_STATUS])) & IPS_DST_NAT) ||
			       !came_by(c, &there) || !concerns(c->def, &back)
		     : !concerns(c->def, &there) && !concerns(c->def, &back))
		return 0;
	rtnl_begin(q, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, NLMSG_DATA(h), sizeof(struct nfgenmsg));
	for (unsigned i = 0; i < 3; i++) {
		static const uint16_t names[] = { CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID };
		const struct rtattr *a = t[names[i]];

		if (a)
			rtnl_put(q, names[i] | (i ? 0 : NLA_F_NESTED), RTA_DATA(a), RTA_PAYLOAD(a));
	}
	c->len++;
	return 0;
}

static void forget(struct lan *l, struct conns *c)
{
	const struct nfgenmsg g = { .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0 };
	struct rtnl_req q;
	struct err ignored;
	unsigned gone;

	c->found = calloc(MOST, sizeof(*c->found));
	/* Until none is left; where none can be removed, not for ever. */
	do {
		gone = c->len = 0;
		rtnl_begin(&q, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP, &g, sizeof(g));
		if (!c->found || rtnl_each(&l->nf, &q, look, c, &ignored))
			break;
		for (unsigned i = 0; i < c->len; i++)
			gone += !rtnl_do(&l->nf, &c->found[i], &ignored);
	} while (gone == MOST);
	free(c->found);
}

void lan_forget_conns(struct lan *l, const struct lan_def *d)
{
	if (lan_has_gateway(d))
		forget(l, &(struct conns){ .def = d });
}

static bool publishes(const struct lan_def *d, const struct lan_publish *p)
{
	for (unsigned i = 0; i < d->publish_len; i++) {
		const struct lan_publish *o = &d->publish[i];

		if (o->port == p->port && o->more == p->more && o->udp == p->udp && o->families == p->families &&
		    o->at4 == p->at4 && o->to_port == p->to_port && !memcmp(&o->at6, &p->at6, sizeof(o->at6)) &&
		    !strcmp(o->to, p->to))
			return true;
	}
	return false;
}

void lan_forget_published(struct lan *l, const struct lan_def *before, const struct lan_def *now)
{
	struct lan_publish *gone = calloc(before->publish_len + 1, sizeof(*gone));
	unsigned len = 0;

	for (unsigned i = 0; gone && i < before->publish_len; i++)
		if (!publishes(now, &before->publish[i]))
			gone[len++] = before->publish[i];
	if (len)
		forget(l, &(struct conns){ .def = before, .ports = gone, .ports_len = len });
	free(gone);
}
