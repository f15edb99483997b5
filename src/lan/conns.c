/*
 * Connections that the kernel follows (nf_conntrack), by ctnetlink: those that a network does not have any more are
 * forgotten. Filters refuse what they carry at once in any case; but as long as somebody goes on sending, their
 * addresses would be translated as before. See nfnl.h.
 *
 * But the kernel takes up a TCP connection in its midst, from whoever speaks first: a machine that had been asked by a
 * port of the host would go on, as if it had asked itself, and be given that same port. So one that has come from
 * elsewhere by a port is kept, as closed and marked as ended, for which filters give both sides a reset (rules_host.c).
 */
#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/lan_impl.h"

#define MOST 1024u /* that are forgotten before it is looked again */
#define ENDED_S                                                                                                        \
	(3 * 3600) /* sides that look whether the other one is there do so each two hours (tcp_keepalive_time) */

/* One direction of it. */
struct side {
	unsigned family; /* 0: none that can be read */
	uint8_t proto;
	uint32_t src4, dst4;
	struct in6_addr src6, dst6;
	uint16_t sport, dport;
};

/* Where the ports of a network lead. */
struct ways {
	const struct lan_def *def;
	struct lan_host *hosts;
	unsigned len;
};

struct conns {
	const struct lan_def *def;
	const struct ways *before, *now; /* NULL: all of the network; else those that only ways of before lead to */
	struct rtnl_messages own;	 /* addresses of the host */
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
	if (value(proto[CTA_PROTO_SRC_PORT], 2))
		s->sport = ld_be16(RTA_DATA(proto[CTA_PROTO_SRC_PORT]));
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

/* Whether it came by this port, as the filters would let it. */
static bool came_by(const struct lan_publish *p, const struct side *there, const struct side *back)
{
	const bool four = there->family == AF_INET;

	if (!(p->families & (four ? LAN_4 : LAN_6)) || (p->udp ? IPPROTO_UDP : IPPROTO_TCP) != there->proto ||
	    there->dport < p->port || there->dport - p->port > p->more ||
	    back->sport - p->to_port != there->dport - p->port)
		return false;
	return four ? !p->at4 || p->at4 == there->dst4
		    : lan_zero6(&p->at6) || !memcmp(&p->at6, &there->dst6, sizeof(p->at6));
}

/*
 * The port by which it came to its machine. One that leads to a machine which is not there may have led to this one; if
 * `to` is given, only where that is what it is called.
 */
static const struct lan_publish *find_way(const struct ways *w, const char *to, const struct side *there,
					  const struct side *back)
{
	for (unsigned i = 0; i < w->def->publish_len; i++) {
		const struct lan_publish *p = &w->def->publish[i];
		const struct lan_target t = lan_target_of(p, w->hosts, w->len);
		const bool four = back->family == AF_INET;

		if (!came_by(p, there, back))
			continue;
		if (four ? t.addr4 : !lan_zero6(&t.addr6)) {
			if (four ? t.addr4 == back->src4 : !memcmp(&t.addr6, &back->src6, sizeof(t.addr6)))
				return p;
		} else if (concerns(w->def, back) && (!to || !strcasecmp(to, p->to))) {
			return p;
		}
	}
	return NULL;
}

/* Somebody else may lead to machines, too: his connections are not looked at. */
static bool is_cut(const struct conns *c, const struct side *there, const struct side *back)
{
	const struct lan_publish *was = find_way(c->before, NULL, there, back);

	return was && !find_way(c->now, was->to, there, back);
}

/* Whether its answers are for the host: also where a machine has asked by a port of the host, in the host's name. */
static bool is_hosts(const struct conns *c, const struct side *back)
{
	for (unsigned i = 0; i < c->own.len; i++) {
		const struct rtnl_message *m = &c->own.v[i];
		const struct ifaddrmsg *head = (const void *)m->data;
		const struct rtattr *a[IFA_MAX + 1];
		const void *own;

		if (m->len < NLMSG_ALIGN(sizeof(*head)) || head->ifa_family != back->family)
			continue;
		rtnl_attrs((const void *)(m->data + NLMSG_ALIGN(sizeof(*head))), m->len - NLMSG_ALIGN(sizeof(*head)), a,
			   IFA_MAX);
		own = value(a[a[IFA_LOCAL] ? IFA_LOCAL : IFA_ADDRESS], back->family == AF_INET ? 4 : 16);
		if (own && (back->family == AF_INET ? ld_be32(own) == back->dst4 : !memcmp(own, &back->dst6, 16)))
			return true;
	}
	return false;
}

/* As its own two sides name it. */
static void begin(struct rtnl_req *q, uint16_t what, const struct nlmsghdr *h, const struct rtattr *const *t)
{
	rtnl_begin(q, NFNL_SUBSYS_CTNETLINK << 8 | what, 0, NLMSG_DATA(h), sizeof(struct nfgenmsg));
	for (unsigned i = 0; i < 3; i++) {
		static const uint16_t names[] = { CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID };
		const struct rtattr *a = t[names[i]];

		if (a)
			rtnl_put(q, names[i] | (i ? 0 : NLA_F_NESTED), RTA_DATA(a), RTA_PAYLOAD(a));
	}
}

/* Closed by one of its sides, so that a new one of the same ports takes its place. */
static void put_ended(struct rtnl_req *q, unsigned status)
{
	const struct nf_ct_tcp_flags closed = { IP_CT_TCP_FLAG_CLOSE_INIT, IP_CT_TCP_FLAG_CLOSE_INIT };
	const uint8_t state = TCP_CONNTRACK_CLOSE;
	struct rtattr *info, *tcp;

	rtnl_put_u32(q, CTA_TIMEOUT, htonl(ENDED_S));
	rtnl_put_u32(q, CTA_STATUS, htonl(status | LAN_ENDED));
	info = rtnl_nest(q, CTA_PROTOINFO);
	tcp = rtnl_nest(q, CTA_PROTOINFO_TCP);
	rtnl_put(q, CTA_PROTOINFO_TCP_STATE, &state, sizeof(state));
	rtnl_put(q, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &closed, sizeof(closed));
	rtnl_nest_end(q, tcp);
	rtnl_nest_end(q, info);
}

static int look(void *opaque, const struct nlmsghdr *h)
{
	const size_t head = NLMSG_SPACE(sizeof(struct nfgenmsg));
	const struct rtattr *t[CTA_MAX + 1];
	struct side there, back;
	struct conns *c = opaque;
	unsigned status;

	if (h->nlmsg_len < head || c->len == MOST)
		return 0;
	rtnl_attrs((const void *)((const char *)h + head), h->nlmsg_len - head, t, CTA_MAX);
	read_side(t[CTA_TUPLE_ORIG], &there);
	read_side(t[CTA_TUPLE_REPLY], &back);
	status = value(t[CTA_STATUS], 4) ? ld_be32(RTA_DATA(t[CTA_STATUS])) : 0;
	if (!there.family || back.family != there.family)
		return 0;
	if (c->now ? (status & LAN_ENDED) == LAN_ENDED || !(status & IPS_DST_NAT) || !is_cut(c, &there, &back)
		   : !concerns(c->def, &there) && !concerns(c->def, &back))
		return 0;
	if (c->now && there.proto == IPPROTO_TCP && !is_hosts(c, &back)) {
		begin(&c->found[c->len], IPCTNL_MSG_CT_NEW, h, t);
		put_ended(&c->found[c->len], status);
	} else {
		begin(&c->found[c->len], IPCTNL_MSG_CT_DELETE, h, t);
	}
	c->len++;
	return 0;
}

/* What cannot be marked is forgotten. */
static int end(struct lan *l, struct rtnl_req *q)
{
	struct err ignored;
	int rc = rtnl_do(&l->nf, q, &ignored);

	if (rc && q->h->nlmsg_type == (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW)) {
		q->h->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
		rc = rtnl_do(&l->nf, q, &ignored);
	}
	return rc;
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
			gone += !end(l, &c->found[i]);
	} while (gone == MOST);
	free(c->found);
}

void lan_forget_conns(struct lan *l, const struct lan_def *d)
{
	if (lan_has_gateway(d))
		forget(l, &(struct conns){ .def = d });
}

/* Whether a port leads where it has led, without a look at any connection. */
static bool leads_on(const struct ways *now, const struct lan_publish *p, const struct lan_target *to)
{
	for (unsigned i = 0; i < now->def->publish_len; i++) {
		const struct lan_publish *o = &now->def->publish[i];
		const struct lan_target t = lan_target_of(o, now->hosts, now->len);

		if (o->port == p->port && o->more == p->more && o->udp == p->udp && o->families == p->families &&
		    o->at4 == p->at4 && o->to_port == p->to_port && !memcmp(&o->at6, &p->at6, sizeof(o->at6)) &&
		    !strcmp(o->to, p->to) && t.addr4 == to->addr4 && !memcmp(&t.addr6, &to->addr6, sizeof(t.addr6)))
			return true;
	}
	return false;
}

static bool all_lead_on(const struct ways *before, const struct ways *now)
{
	for (unsigned i = 0; i < before->def->publish_len; i++) {
		const struct lan_publish *p = &before->def->publish[i];
		const struct lan_target to = lan_target_of(p, before->hosts, before->len);

		if (!leads_on(now, p, &to))
			return false;
	}
	return true;
}

void lan_forget_published(struct lan *l, const struct lan_run *before, const struct lan_run *now)
{
	struct ways was = { .def = &before->def }, is = { .def = &now->def };

	was.hosts = lan_known_hosts(was.def, &before->ports, &was.len);
	is.hosts = lan_known_hosts(is.def, &now->ports, &is.len);
	if (was.hosts && is.hosts && !all_lead_on(&was, &is)) {
		struct conns c = { .def = was.def, .before = &was, .now = &is };
		struct err ignored;

		rtnl_dump(&l->nl, RTM_GETADDR, &c.own, &ignored);
		forget(l, &c);
		rtnl_messages_free(&c.own);
	}
	free(was.hosts);
	free(is.hosts);
}
