/* Addresses in a bridged network that no machine of it may have: see lan_impl.h. */
#include <linux/rtnetlink.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/lan_impl.h"

static void add(struct lan_reserved *v, unsigned family, const struct rtattr *a)
{
	if (!a)
		return;
	if (family == AF_INET && RTA_PAYLOAD(a) == 4 && v->len4 < ARRAY_LEN(v->v4))
		v->v4[v->len4++] = ld_be32(RTA_DATA(a));
	else if (family == AF_INET6 && RTA_PAYLOAD(a) == 16 && v->len6 < ARRAY_LEN(v->v6))
		memcpy(&v->v6[v->len6++], RTA_DATA(a), sizeof(*v->v6));
}

/* What routes lead by: of the route's own family, or named with another one (RFC 5549). */
static void add_gateway(struct lan_reserved *v, unsigned family, const struct rtattr *const *a)
{
	const struct rtvia *via = a[RTA_VIA] ? RTA_DATA(a[RTA_VIA]) : NULL;
	struct {
		struct rtattr head;
		uint8_t addr[16];
	} other = { .head.rta_len = RTA_LENGTH(16) };

	add(v, family, a[RTA_GATEWAY]);
	if (via && RTA_PAYLOAD(a[RTA_VIA]) == sizeof(*via) + 16 && via->rtvia_family == AF_INET6) {
		memcpy(other.addr, via->rtvia_addr, sizeof(other.addr));
		add(v, AF_INET6, &other.head);
	}
}

struct search {
	struct lan_reserved *found;
	int at[2]; /* the bridge, and before addresses are moved there its interface */
};

static bool is_there(const struct search *s, int index)
{
	return index && (index == s->at[0] || index == s->at[1]);
}

static void see_address(struct search *s, const struct rtnl_message *m)
{
	const struct ifaddrmsg *h = (const void *)m->data;
	const struct rtattr *a[IFA_MAX + 1];

	if (m->len < sizeof(*h) || !is_there(s, (int)h->ifa_index))
		return;
	rtnl_attrs(IFA_RTA(h), m->len - NLMSG_ALIGN(sizeof(*h)), a, IFA_MAX);
	add(s->found, h->ifa_family, a[IFA_LOCAL] ? a[IFA_LOCAL] : a[IFA_ADDRESS]);
}

static void see_route(struct search *s, const struct rtnl_message *m)
{
	const struct rtmsg *h = (const void *)m->data;
	const struct rtattr *a[RTA_MAX + 1], *each[RTA_MAX + 1];
	const struct rtnexthop *hop;
	size_t left;

	if (m->len < sizeof(*h))
		return;
	rtnl_attrs(RTM_RTA(h), m->len - NLMSG_ALIGN(sizeof(*h)), a, RTA_MAX);
	if (a[RTA_OIF] && RTA_PAYLOAD(a[RTA_OIF]) == sizeof(int) && is_there(s, *(const int *)RTA_DATA(a[RTA_OIF])))
		add_gateway(s->found, h->rtm_family, a);
	if (!a[RTA_MULTIPATH])
		return;
	hop = RTA_DATA(a[RTA_MULTIPATH]);
	left = RTA_PAYLOAD(a[RTA_MULTIPATH]);
	while (left >= sizeof(*hop) && hop->rtnh_len >= sizeof(*hop) && hop->rtnh_len <= left) {
		const size_t len = RTNH_ALIGN(hop->rtnh_len);

		rtnl_attrs(RTNH_DATA(hop), hop->rtnh_len - sizeof(*hop), each, RTA_MAX);
		if (is_there(s, hop->rtnh_ifindex))
			add_gateway(s->found, h->rtm_family, each);
		left = len < left ? left - len : 0;
		hop = RTNH_NEXT(hop);
	}
}

static int see_all(struct lan *l, struct search *s, uint16_t type,
		   void (*see)(struct search *s, const struct rtnl_message *m), struct err *err)
{
	struct rtnl_messages m;

	if (rtnl_dump(&l->nl, type, &m, err))
		return -1;
	for (unsigned i = 0; i < m.len; i++)
		see(s, &m.v[i]);
	rtnl_messages_free(&m);
	return 0;
}

int lan_find_reserved(struct lan *l, const struct lan_run *r, struct lan_reserved *found, struct err *err)
{
	const struct in6_addr local = { .s6_addr = { 0xfe, 0x80 } };
	struct search s = { found, { (int)if_nametoindex(r->bridge), (int)if_nametoindex(r->def.uplink) } };
	const struct rtnl_link *k;
	struct rtnl_links links;

	if (r->def.model != LAN_BRIDGED)
		return 0;
	if (rtnl_links(&l->nl, &links, err))
		return -1;
	/* The one that its interface makes of its MAC, whether or not it has it now. */
	k = rtnl_find(&links, r->def.uplink);
	if (k)
		found->v6[found->len6++] = lan_eui64(&local, k->mac);
	rtnl_links_free(&links);
	return see_all(l, &s, RTM_GETADDR, see_address, err) || see_all(l, &s, RTM_GETROUTE, see_route, err) ? -1 : 0;
}
