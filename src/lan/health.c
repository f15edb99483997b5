/*
 * Whether a network that runs is as it was made: what of it is not there, or otherwise. Looked at only; reconcile.c
 * makes it so again. See lan_impl.h.
 */
#include <linux/if_ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/bytes.h"
#include "lan/lan_impl.h"

/* In the order in which they are told. */
static const struct {
	enum lan_fault fault;
	const char *text;
} texts[] = {
	{ LAN_NO_RECORD, "nothing that can be read is written of it, and something of it is there" },
	{ LAN_UNFINISHED, "it could not be made, or who was making or ending it was killed" },
	{ LAN_NO_BRIDGE, "its bridge is gone" },
	{ LAN_BRIDGE_DOWN, "its bridge is down" },
	{ LAN_NO_ADDRESSES, "the host has not its addresses in it" },
	{ LAN_NO_SERVER, "its server is gone" },
	{ LAN_SERVER_HANGS, "its server hangs: it is there, and does not answer" },
	{ LAN_SERVER_OUT, "its server's cable is down, or not in the bridge" },
	{ LAN_NO_FILTERS, "its packet filters are gone" },
	{ LAN_OTHER_FILTERS, "its packet filters are not as they were loaded" },
	{ LAN_CABLE_OUT, "a machine's cable is down, or not in the bridge" },
	{ LAN_UPLINK_OUT, "no interface of the host is in the bridge" },
	{ LAN_UPLINK_DOWN, "the host's interface in the bridge is down" },
	{ LAN_NO_FORWARDING, "the host does not forward" },
	{ LAN_NO_MARK, "its bridge has lost its mark (alias)" },
	{ LAN_OTHER_MTU, "its bridge has another MTU" },
	{ LAN_BRIDGE_STILL, "its bridge does not forward" },
};

json_t *lan_fault_texts(unsigned faults)
{
	json_t *a = json_array();

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (faults & texts[i].fault)
			json_array_append_new(a, json_string(texts[i].text));
	return a;
}

/* --- the host --- */

static void add_sum(void *opaque, const char *table, uint64_t sum)
{
	struct lan_sight *s = opaque;
	struct lan_names *n = &s->filtered;

	if (!array_more(s->sums, n->len) || !array_more(n->v, n->len))
		return;
	s->sums[n->len] = sum;
	n->v[n->len] = strdup(table + strlen(LAN_TABLE));
	n->len += !!n->v[n->len];
}

int lan_look(struct lan *l, const struct lan_names *names, struct lan_sight *s, struct err *err)
{
	*s = (struct lan_sight){ 0 };
	s->blind = lan_host_rights(&s->why);
	if (rtnl_links(&l->nl, &s->links, err) || rtnl_dump(&l->nl, RTM_GETADDR, &s->addresses, err)) {
		lan_sight_free(s);
		return -1;
	}
	if (s->blind)
		return 0;
	s->unfiltered = nfnl_sums(&l->nf, LAN_TABLE "*", add_sum, s, &s->why);
	lan_servers_ask(l, names, &s->answering, &s->hanging);
	return 0;
}

void lan_sight_free(struct lan_sight *s)
{
	rtnl_links_free(&s->links);
	rtnl_messages_free(&s->addresses);
	lan_names_free(&s->filtered);
	lan_names_free(&s->answering);
	lan_names_free(&s->hanging);
	free(s->sums);
	s->sums = NULL;
}

/* --- one network --- */

/* The host's own in the network. */
static bool has_addresses(const struct rtnl_messages *m, const struct lan_run *r, int index)
{
	const struct in6_addr six = lan_host6(&r->def.net6.addr, 1);
	bool found4 = !lan_has_gateway(&r->def) || !r->def.net4.len,
	     found6 = !lan_has_gateway(&r->def) || !r->def.net6.len;

	for (unsigned i = 0; i < m->len; i++) {
		const struct ifaddrmsg *a = (const void *)m->v[i].data;
		const struct rtattr *t[IFA_MAX + 1];

		if (m->v[i].len < sizeof(*a) || (int)a->ifa_index != index)
			continue;
		rtnl_attrs(IFA_RTA(a), m->v[i].len - NLMSG_ALIGN(sizeof(*a)), t, IFA_MAX);
		if (!t[IFA_ADDRESS])
			continue;
		if (a->ifa_family == AF_INET)
			found4 |= ld_be32(RTA_DATA(t[IFA_ADDRESS])) == lan_gateway4(&r->def);
		else
			found6 |= !memcmp(RTA_DATA(t[IFA_ADDRESS]), &six, sizeof(six));
	}
	return found4 && found6;
}

static bool is_port(const struct rtnl_link *k, const struct rtnl_link *bridge)
{
	return k->master == bridge->index && (k->flags & IFF_UP);
}

/* Of something that is not ours, whatever it is called by now. */
static unsigned uplink_faults(const struct rtnl_links *links, const struct rtnl_link *bridge)
{
	unsigned faults = LAN_UPLINK_OUT;

	for (unsigned i = 0; i < links->len; i++) {
		if (links->v[i].master != bridge->index || lan_is_marked(&links->v[i]))
			continue;
		if (links->v[i].flags & IFF_UP)
			return 0;
		faults = LAN_UPLINK_DOWN;
	}
	return faults;
}

static unsigned bridge_faults(const struct lan_run *r, const struct lan_sight *s, const struct rtnl_link *bridge)
{
	const struct rtnl_link *server;
	unsigned faults = 0;
	char name[IFNAMSIZ];

	for (unsigned i = 0; i < r->ports.len; i++) {
		const struct rtnl_link *k = *r->ports.v[i].tap ? rtnl_find(&s->links, r->ports.v[i].tap) : NULL;

		if (k && !is_port(k, bridge))
			faults |= LAN_CABLE_OUT;
	}
	if (!r->made)
		return faults;
	lan_server_name(&r->def, name);
	server = rtnl_find(&s->links, name);
	if (server && !is_port(server, bridge))
		faults |= LAN_SERVER_OUT;
	if (!(bridge->flags & IFF_UP))
		faults |= LAN_BRIDGE_DOWN;
	if (!lan_is_marked(bridge))
		faults |= LAN_NO_MARK;
	/* As it comes in a bridged network is what the kernel makes of it. */
	if (r->def.mtu ? bridge->mtu != r->def.mtu : r->def.model != LAN_BRIDGED && bridge->mtu != ETH_DATA_LEN)
		faults |= LAN_OTHER_MTU;
	if (!has_addresses(&s->addresses, r, bridge->index))
		faults |= LAN_NO_ADDRESSES;
	if (*r->def.uplink)
		faults |= uplink_faults(&s->links, bridge);
	return faults;
}

static unsigned filter_faults(struct lan *l, const char *name, const struct lan_sight *s)
{
	for (unsigned i = 0; i < s->filtered.len; i++)
		if (!strcmp(s->filtered.v[i], name))
			return lan_has_rules(l, name, s->sums[i]) ? 0 : LAN_OTHER_FILTERS;
	return LAN_NO_FILTERS;
}

static bool forwards(const char *path)
{
	char value[8] = "";

	return !lan_sysctl_get(path, value, sizeof(value)) || strcmp(value, "0");
}

static unsigned server_faults(struct lan *l, const struct lan_run *r, const struct lan_sight *s)
{
	if (!lan_has_server(&r->def) || lan_names_has(&s->answering, r->def.name))
		return 0;
	if (lan_names_has(&s->hanging, r->def.name))
		return LAN_SERVER_HANGS;
	return lan_dnsmasq_alive(l, r) ? 0 : LAN_NO_SERVER;
}

/* Of the host as a whole; of the bridge, which the host's switch turns off along with all. */
static unsigned forwarding_faults(const struct lan_run *r)
{
	const bool four = lan_has_gateway(&r->def) && r->def.net4.len,
		   six = lan_has_gateway(&r->def) && r->def.net6.len;
	char path[64];

	if ((four && !forwards("ipv4/ip_forward")) || (six && !forwards("ipv6/conf/all/forwarding")))
		return LAN_NO_FORWARDING;
	for (unsigned version = 4; version <= 6; version += 2) {
		snprintf(path, sizeof(path), "ipv%u/conf/%s/forwarding", version, r->bridge);
		if ((version == 4 ? four : six) && !forwards(path))
			return LAN_BRIDGE_STILL;
	}
	return 0;
}

/* Whoever has written another alias on it: a bridged network's has the MAC of its interface, and that in it. */
static bool is_its_own(struct lan *l, const struct lan_run *r, const struct lan_sight *s,
		       const struct rtnl_link *bridge)
{
	const struct rtnl_link *k = *r->def.uplink ? rtnl_find(&s->links, r->def.uplink) : NULL;

	return lan_is_ours(&l->store, bridge, r->def.name) ||
	       (!lan_is_marked(bridge) && k && k->master == bridge->index);
}

unsigned lan_faults(struct lan *l, const struct lan_run *r, const struct lan_sight *s)
{
	const struct rtnl_link *bridge = rtnl_find(&s->links, r->bridge);
	unsigned faults = r->up ? 0 : LAN_UNFINISHED;

	if (!bridge || (r->made && !is_its_own(l, r, s, bridge)))
		faults |= LAN_NO_BRIDGE;
	else
		faults |= bridge_faults(r, s, bridge);
	if (!s->blind)
		faults |= filter_faults(l, r->def.name, s) | server_faults(l, r, s);
	return faults & LAN_NO_BRIDGE ? faults : faults | forwarding_faults(r);
}

bool lan_lacks_uplink(struct lan *l, const struct lan_run *r)
{
	const struct rtnl_link *bridge;
	struct rtnl_links links;
	struct err ignored;
	bool yes;

	if (!r->made || !*r->def.uplink || rtnl_links(&l->nl, &links, &ignored))
		return false;
	bridge = rtnl_find(&links, r->bridge);
	yes = bridge && uplink_faults(&links, bridge);
	rtnl_links_free(&links);
	return yes;
}

unsigned lan_remains(struct lan *l, const char *name, const struct lan_sight *s)
{
	for (unsigned i = 0; i < s->links.len; i++)
		if (lan_is_ours(&l->store, &s->links.v[i], name))
			return LAN_NO_RECORD;
	return lan_names_has(&s->filtered, name) && !lan_is_others(l, name) ? LAN_NO_RECORD : 0;
}
