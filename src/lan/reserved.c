/* Addresses in a bridged network that no machine of it may have: see lan_impl.h. */
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/lan_impl.h"

#define MOST 4096u /* of a family */

struct search {
	struct lan_reserved *found;
	int at[2]; /* the bridge, and before addresses are moved there its interface */
	bool full; /* there are more, or there is no memory for them */
};

/* One that is to have room for one more; NULL: it cannot be. */
static void *room(void *v, unsigned len, size_t size)
{
	return len == MOST ? NULL : len & (len - 1) ? v : realloc(v, (len ? 2 * len : 1) * size);
}

static void add4(struct search *s, uint32_t addr)
{
	struct lan_reserved *v = s->found;
	uint32_t *more;

	for (unsigned i = 0; i < v->len4; i++)
		if (v->v4[i] == addr)
			return;
	more = room(v->v4, v->len4, sizeof(*more));
	if (more) {
		v->v4 = more;
		v->v4[v->len4++] = addr;
	}
	s->full |= !more;
}

static void add6(struct search *s, const struct in6_addr *addr)
{
	struct lan_reserved *v = s->found;
	struct in6_addr *more;

	for (unsigned i = 0; i < v->len6; i++)
		if (!memcmp(&v->v6[i], addr, sizeof(*addr)))
			return;
	more = room(v->v6, v->len6, sizeof(*more));
	if (more) {
		v->v6 = more;
		v->v6[v->len6++] = *addr;
	}
	s->full |= !more;
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

/* What routes lead by: of the route's own family, or named with another one (RFC 5549). */
static void add_gateway(struct search *s, unsigned family, const struct rtattr *const *a)
{
	const struct rtvia *via = a[RTA_VIA] ? RTA_DATA(a[RTA_VIA]) : NULL;
	struct {
		struct rtattr head;
		uint8_t addr[16];
	} other = { .head.rta_len = RTA_LENGTH(16) };

	add(s, family, a[RTA_GATEWAY]);
	if (via && RTA_PAYLOAD(a[RTA_VIA]) == sizeof(*via) + 16 && via->rtvia_family == AF_INET6) {
		memcpy(other.addr, via->rtvia_addr, sizeof(other.addr));
		add(s, AF_INET6, &other.head);
	}
}

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
	add(s, h->ifa_family, a[IFA_LOCAL] ? a[IFA_LOCAL] : a[IFA_ADDRESS]);
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
		add_gateway(s, h->rtm_family, a);
	if (!a[RTA_MULTIPATH])
		return;
	hop = RTA_DATA(a[RTA_MULTIPATH]);
	left = RTA_PAYLOAD(a[RTA_MULTIPATH]);
	while (left >= sizeof(*hop) && hop->rtnh_len >= sizeof(*hop) && hop->rtnh_len <= left) {
		const size_t len = RTNH_ALIGN(hop->rtnh_len);

		rtnl_attrs(RTNH_DATA(hop), hop->rtnh_len - sizeof(*hop), each, RTA_MAX);
		if (is_there(s, hop->rtnh_ifindex))
			add_gateway(s, h->rtm_family, each);
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
	struct search s = { .found = found,
			    .at = { (int)if_nametoindex(r->bridge), (int)if_nametoindex(r->def.uplink) } };
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
	if (see_all(l, &s, RTM_GETADDR, see_address, err) || see_all(l, &s, RTM_GETROUTE, see_route, err))
		return -1;
	return s.full ? err_set(err, "bridged: %s: the host has more than %u addresses and routers there",
				r->def.uplink, MOST)
		      : 0;
}

void lan_reserved_free(struct lan_reserved *v)
{
	free(v->v4);
	free(v->v6);
}
