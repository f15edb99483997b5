/* Addresses in a bridged network that no machine of it may have: see lan_impl.h. */
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/bytes.h"
#include "lan/lan_impl.h"

#define MOST 4096u /* of a family */

struct search {
	struct lan_reserved *found;
	int at;	   /* the interface that is looked at */
	bool full; /* there are more, or there is no memory for them */
};

static void add4(struct search *s, uint32_t addr)
{
	struct lan_reserved *v = s->found;

	for (unsigned i = 0; i < v->len4; i++)
		if (v->v4[i] == addr)
			return;
	if (v->len4 == MOST || !array_more(v->v4, v->len4))
		s->full = true;
	else
		v->v4[v->len4++] = addr;
}

static void add6(struct search *s, const struct in6_addr *addr)
{
	struct lan_reserved *v = s->found;

	for (unsigned i = 0; i < v->len6; i++)
		if (!memcmp(&v->v6[i], addr, sizeof(*addr)))
			return;
	if (v->len6 == MOST || !array_more(v->v6, v->len6))
		s->full = true;
	else
		v->v6[v->len6++] = *addr;
}

static void add(struct search *s, unsigned family, const struct rtattr *a)
{
	struct in6_addr six;

	if (a && family == AF_INET && RTA_PAYLOAD(a) == 4) {
		add4(s, ld_be32(RTA_DATA(a)));
	} else if (a && family == AF_INET6 && RTA_PAYLOAD(a) == sizeof(six)) {
		memcpy(&six, RTA_DATA(a), sizeof(six));
		add6(s, &six);
	}
}

/* What a route leads by: of its own family, or named with another one (RFC 5549). */
static void add_gateway(struct search *s, unsigned family, const struct rtnl_way *w)
{
	const struct rtvia *via = w->via ? RTA_DATA(w->via) : NULL;
	struct in6_addr six;

	add(s, family, w->gateway);
	if (via && RTA_PAYLOAD(w->via) == sizeof(*via) + sizeof(six) && via->rtvia_family == AF_INET6) {
		memcpy(&six, via->rtvia_addr, sizeof(six));
		add6(s, &six);
	}
}

static int see_address(void *opaque, const struct nlmsghdr *m)
{
	const struct ifaddrmsg *h = NLMSG_DATA(m);
	const struct rtattr *a[IFA_MAX + 1];
	struct search *s = opaque;

	if (rtnl_parse(m, sizeof(*h), a, IFA_MAX) && (int)h->ifa_index == s->at)
		add(s, h->ifa_family, a[IFA_LOCAL] ? a[IFA_LOCAL] : a[IFA_ADDRESS]);
	return 0;
}

static int see_route(void *opaque, const struct nlmsghdr *m)
{
	const struct rtmsg *h = NLMSG_DATA(m);
	const struct rtattr *a[RTA_MAX + 1];
	struct rtnl_way w = { 0 };
	struct search *s = opaque;

	while (rtnl_parse(m, sizeof(*h), a, RTA_MAX) && rtnl_next_way(a, &w))
		if (w.index == s->at)
			add_gateway(s, h->rtm_family, &w);
	return 0;
}

int lan_find_reserved(struct lan *l, const struct lan_run *r, struct lan_reserved *found, struct err *err)
{
	const struct in6_addr local = { .s6_addr = { 0xfe, 0x80 } };
	/* The bridge, and before addresses are moved there its interface. */
	const int places[] = { (int)if_nametoindex(r->bridge), (int)if_nametoindex(r->def.uplink) };
	struct search s = { .found = found };
	const struct rtnl_link *k;
	struct rtnl_links links;
	struct in6_addr own;

	if (r->def.model != LAN_BRIDGED)
		return 0;
	if (rtnl_links(&l->nl, &links, err))
		return -1;
	/* The one that its interface makes of its MAC, whether or not it has it now. */
	k = rtnl_find(&links, r->def.uplink);
	if (k) {
		own = lan_eui64(&local, k->mac);
		add6(&s, &own);
	}
	rtnl_links_free(&links);
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		s.at = places[i];
		if (s.at &&
		    (rtnl_each_of(&l->nl, &(struct rtnl_ask){ RTM_GETADDR, .index = s.at }, see_address, &s, err) ||
		     rtnl_each_of(&l->nl, &(struct rtnl_ask){ RTM_GETROUTE, .index = s.at }, see_route, &s, err)))
			return -1;
	}
	return s.full ? err_set(err, "bridged: %s: the host has more than %u addresses and routers there",
				r->def.uplink, MOST)
		      : 0;
}

void lan_reserved_free(struct lan_reserved *v)
{
	free(v->v4);
	free(v->v6);
}
