/* Who else forwards on this host: see host.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lan/host.h"
#include "lan/rules.h"

/* --- translation: of others' tables --- */

static void see_hook(void *opaque, const struct nfnl_hook *h)
{
	struct lan_forwarders *f = opaque;

	if (h->hook != NF_INET_POST_ROUTING || strcmp(h->type, "nat") || !h->full ||
	    !strncmp(h->table, LAN_TABLE, strlen(LAN_TABLE)))
		return;
	for (size_t six = 0; six < 2; six++)
		if (h->family == NFPROTO_INET || h->family == (six ? NFPROTO_IPV6 : NFPROTO_IPV4))
			snprintf(f->who[six], sizeof(f->who[six]), "table %.*s", LAN_WHO - 7, h->table);
}

/* --- bridges and pairs of others in which the host has an address, and is not a machine behind a router --- */

struct search {
	struct rtnl_links links;
	uint8_t *in; /* which families it has addresses of, of each of them */
	int index;   /* of the one whose routes are looked at */
	bool led;    /* there is a way on by it */
};

static int see_address(void *opaque, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *a = NLMSG_DATA(h);
	const struct rtnl_link *k;
	struct search *s = opaque;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*a)) || a->ifa_scope >= RT_SCOPE_LINK)
		return 0;
	k = rtnl_find_index(&s->links, (int)a->ifa_index);
	if (k && (!strcmp(k->kind, "bridge") || !strcmp(k->kind, "veth")) &&
	    strncmp(k->alias, NFNL_MARK, strlen(NFNL_MARK)))
		s->in[k - s->links.v] |= 1u << (a->ifa_family == AF_INET6);
	return 0;
}

static int see_route(void *opaque, const struct nlmsghdr *h)
{
	const struct rtmsg *r = NLMSG_DATA(h);
	const struct rtattr *a[RTA_MAX + 1];
	struct rtnl_way w = { 0 };
	struct search *s = opaque;

	if (!rtnl_parse(h, sizeof(*r), a, RTA_MAX) || r->rtm_dst_len)
		return 0;
	while (rtnl_next_way(a, &w))
		s->led |= w.gateway && w.index == s->index;
	return 0;
}

static void see_links(struct rtnl *nl, struct search *s, struct lan_forwarders *f)
{
	struct err ignored;

	if (rtnl_each_of(nl, &(struct rtnl_ask){ RTM_GETADDR }, see_address, s, &ignored))
		return;
	for (unsigned i = 0; i < s->links.len; i++) {
		const unsigned asked = (*f->who[0] ? 0 : 1) | (*f->who[1] ? 0 : 2), new = s->in[i] & asked;

		s->index = s->links.v[i].index;
		s->led = false;
		if (!new ||
		    rtnl_each_of(nl, &(struct rtnl_ask){ RTM_GETROUTE, .index = s->index }, see_route, s, &ignored))
			continue;
		for (size_t six = 0; six < 2 && !s->led; six++)
			if (new & 1u << six)
				snprintf(f->who[six], sizeof(f->who[six]), "%s", s->links.v[i].name);
	}
}

void lan_find_forwarders(struct rtnl *nl, struct rtnl *nf, struct lan_forwarders *f)
{
	struct search s = { 0 };
	struct err ignored;

	*f = (struct lan_forwarders){ 0 };
	nfnl_hooks(nf, see_hook, f, &ignored);
	if (rtnl_links(nl, &s.links, &ignored))
		return;
	s.in = calloc(s.links.len, sizeof(*s.in));
	if (s.in)
		see_links(nl, &s, f);
	free(s.in);
	rtnl_links_free(&s.links);
}
