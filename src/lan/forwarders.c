/* Who else forwards on this host: see host.h. */
#include <stdio.h>
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

static bool leads_on(const struct rtnl_messages *routes, int index)
{
	for (unsigned i = 0; i < routes->len; i++) {
		const struct rtmsg *r = (const void *)routes->v[i].data;
		const struct rtattr *a[RTA_MAX + 1];
		int oif;

		if (routes->v[i].len < sizeof(*r) || r->rtm_dst_len)
			continue;
		rtnl_attrs(RTM_RTA(r), routes->v[i].len - NLMSG_ALIGN(sizeof(*r)), a, RTA_MAX);
		if (!a[RTA_GATEWAY] || !a[RTA_OIF] || RTA_PAYLOAD(a[RTA_OIF]) != sizeof(oif))
			continue;
		memcpy(&oif, RTA_DATA(a[RTA_OIF]), sizeof(oif));
		if (oif == index)
			return true;
	}
	return false;
}

static void see_links(struct lan_forwarders *f, const struct rtnl_links *links, const struct rtnl_messages *addresses,
		      const struct rtnl_messages *routes)
{
	for (unsigned i = 0; i < addresses->len; i++) {
		const struct ifaddrmsg *a = (const void *)addresses->v[i].data;
		const struct rtnl_link *k;

		if (addresses->v[i].len < sizeof(*a) || a->ifa_scope >= RT_SCOPE_LINK)
			continue;
		k = rtnl_find_index(links, (int)a->ifa_index);
		if (k && (!strcmp(k->kind, "bridge") || !strcmp(k->kind, "veth")) &&
		    strncmp(k->alias, NFNL_MARK, strlen(NFNL_MARK)) && !leads_on(routes, k->index))
			snprintf(f->who[a->ifa_family == AF_INET6], LAN_WHO, "%s", k->name);
	}
}

void lan_find_forwarders(struct rtnl *nl, struct rtnl *nf, struct lan_forwarders *f)
{
	struct rtnl_messages addresses = { 0 }, routes = { 0 };
	struct rtnl_links links = { 0 };
	struct err ignored;

	*f = (struct lan_forwarders){ 0 };
	nfnl_hooks(nf, see_hook, f, &ignored);
	if (!rtnl_links(nl, &links, &ignored) && !rtnl_dump(nl, RTM_GETADDR, &addresses, &ignored) &&
	    !rtnl_dump(nl, RTM_GETROUTE, &routes, &ignored))
		see_links(f, &links, &addresses, &routes);
	rtnl_messages_free(&routes);
	rtnl_messages_free(&addresses);
	rtnl_links_free(&links);
}
