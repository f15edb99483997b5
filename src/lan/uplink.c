/*
 * The interface of a bridged network: put into a bridge of ours, which then has the interface's addresses and routes,
 * and given back. What is moved is written down first. See lan_impl.h.
 */
#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "lan/lan_impl.h"
#include "lan/move.h"

#define SIOCGIWNAME 0x8b01 /* linux/wireless.h, which does not go together with net/if.h */

/* An access point knows one MAC behind each of its stations. */
static bool is_wireless(const char *name)
{
	struct ifreq q = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char path[64];
	bool yes;

	snprintf(q.ifr_name, sizeof(q.ifr_name), "%s", name);
	yes = fd >= 0 && !ioctl(fd, SIOCGIWNAME, &q);
	if (fd >= 0)
		close(fd);
	/* Newer ones do not answer that any more. */
	snprintf(path, sizeof(path), "/sys/class/net/%s/phy80211", name);
	return yes || !access(path, F_OK);
}

/* What is made of an interface and takes all that comes there itself: the kernel has one such place for each. */
static const char *const takers[] = { "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec", "dsa" };
/* What is made of another one and has frames for its own address only; and what has none. */
static const char *const single[] = { "macvlan", "macvtap", "ipvlan", "ipvtap", "vrf" };

static bool is_one_of(const char *kind, const char *const *kinds, size_t len)
{
	while (len && strcmp(kind, kinds[len - 1]))
		len--;
	return len;
}

struct kin {
	int index;
	bool whole;			      /* it takes frames for any address all the same */
	char taker[IFNAMSIZ], kind[IFNAMSIZ]; /* made of it; "": nobody is seen */
};

static void copy(char buf[IFNAMSIZ], const struct rtattr *a)
{
	snprintf(buf, IFNAMSIZ, "%.*s", a ? (int)RTA_PAYLOAD(a) : 0, a ? (const char *)RTA_DATA(a) : "");
}

static uint32_t number(const struct rtattr *a)
{
	return a && RTA_PAYLOAD(a) >= 4 ? *(const uint32_t *)RTA_DATA(a) : 0;
}

static int see_kin(void *opaque, const struct nlmsghdr *h)
{
	const struct rtattr *t[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1] = { 0 }, *mode[IFLA_MACVLAN_MAX + 1] = { 0 };
	const struct ifinfomsg *i = NLMSG_DATA(h);
	struct kin *k = opaque;
	char kind[IFNAMSIZ];

	if (h->nlmsg_type != RTM_NEWLINK || !rtnl_parse(h, sizeof(*i), t, IFLA_MAX) || !t[IFLA_LINKINFO])
		return 0;
	rtnl_attrs(RTA_DATA(t[IFLA_LINKINFO]), RTA_PAYLOAD(t[IFLA_LINKINFO]), info, IFLA_INFO_MAX);
	copy(kind, info[IFLA_INFO_KIND]);
	if (i->ifi_index == k->index && !strcmp(kind, "macvlan") && info[IFLA_INFO_DATA]) {
		rtnl_attrs(RTA_DATA(info[IFLA_INFO_DATA]), RTA_PAYLOAD(info[IFLA_INFO_DATA]), mode, IFLA_MACVLAN_MAX);
		k->whole = number(mode[IFLA_MACVLAN_MODE]) == MACVLAN_MODE_PASSTHRU;
	}
	/* A number in another name space is none here. */
	if ((int)number(t[IFLA_LINK]) == k->index && !t[IFLA_LINK_NETNSID] &&
	    is_one_of(kind, takers, ARRAY_LEN(takers))) {
		copy(k->taker, t[IFLA_IFNAME]);
		memcpy(k->kind, kind, sizeof(k->kind));
	}
	return 0;
}

/* What the kernel would refuse, or take and bring nothing to a machine. */
static int check_kind(struct lan *l, const struct rtnl_link *k, struct err *err)
{
	struct kin kin = { .index = k->index };
	struct rtnl_req q;

	rtnl_begin(&q, RTM_GETLINK, NLM_F_DUMP, &(struct ifinfomsg){ 0 }, sizeof(struct ifinfomsg));
	if (rtnl_each(&l->nl, &q, see_kin, &kin, err))
		return -1;
	if (is_one_of(k->kind, single, ARRAY_LEN(single)) && !kin.whole)
		return err_set(err,
			       "bridged: %s is a %s, which has no frames for other addresses than its own; use a "
			       "network with model nat",
			       k->name, k->kind);
	return *kin.taker
		       ? err_set(err,
				 "bridged: %s is what %s (%s) is made of, which takes what comes there, and can be in "
				 "no bridge",
				 k->name, kin.taker, kin.kind)
		       : 0;
}

static int check_routes(struct lan *l, const struct rtnl_link *k, struct err *err)
{
	struct lan_held h;
	int rc;

	if (lan_held_find(&l->nl, k, &h, err))
		return -1;
	rc = lan_held_check(&h, k->name, err) ? err_prefix(err, "bridged") : 0;
	lan_held_free(&h);
	return rc;
}

struct lifetime {
	unsigned index, left;
	char text[LAN_TEXT4];
};

static int see_lifetime(void *opaque, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *a = NLMSG_DATA(h);
	const struct rtattr *t[IFA_MAX + 1];
	struct ifa_cacheinfo c = { .ifa_valid = ~0u };
	struct lifetime *l = opaque;

	if (!rtnl_parse(h, sizeof(*a), t, IFA_MAX) || a->ifa_index != l->index || a->ifa_family != AF_INET)
		return 0;
	if (t[IFA_LOCAL] && t[IFA_CACHEINFO] && RTA_PAYLOAD(t[IFA_CACHEINFO]) >= sizeof(c))
		memcpy(&c, RTA_DATA(t[IFA_CACHEINFO]), sizeof(c));
	if (c.ifa_valid != ~0u) {
		lan_text4(ld_be32(RTA_DATA(t[IFA_LOCAL])), l->text);
		l->left = c.ifa_valid;
	}
	return 0;
}

/*
 * An IPv4 address that ends, as one by DHCP does: its client goes on asking at the interface, where the bridge takes
 * the answers, and the host would lose it. (IPv6 addresses by router advertisements are the kernel's, which hears these
 * at the bridge as well.)
 */
static int check_lifetimes(struct lan *l, const struct rtnl_link *k, struct err *err)
{
	struct lifetime some = { .index = (unsigned)k->index };

	if (rtnl_each_of(&l->nl, &(struct rtnl_ask){ RTM_GETADDR, .index = k->index }, see_lifetime, &some, err))
		return -1;
	return *some.text
		       ? err_set(err,
				 "bridged: %s has %s for %u s more (by DHCP?), and nobody would renew it on a "
				 "bridge of Vireo's: let what configures %s make a bridge of it, and name that one, or "
				 "give it an address that stays",
				 k->name, some.text, some.left, k->name)
		       : 0;
}

int lan_uplink_check(struct lan *l, const struct lan_def *d, bool *joined, struct err *err)
{
	struct rtnl_links links;
	const struct rtnl_link *k, *master;
	int rc = 0;

	if (rtnl_links(&l->nl, &links, err))
		return -1;
	k = rtnl_find(&links, d->uplink);
	master = k ? rtnl_find_index(&links, k->master) : NULL;
	*joined = k && !strcmp(k->kind, "bridge");
	if (!k)
		rc = err_set(err, "bridged: there is no interface %s", d->uplink);
	else if (lan_is_marked(k))
		rc = err_set(err, "bridged: %s belongs to a network of Vireo's", d->uplink);
	else if (k->loopback || !k->ethernet)
		rc = err_set(err, "bridged: %s is no Ethernet interface", d->uplink);
	else if (is_wireless(d->uplink))
		rc = err_set(err,
			     "bridged: %s is wireless, and an access point takes one address only; use a network with "
			     "model nat",
			     d->uplink);
	else if (d->mtu > k->mtu)
		rc = err_set(err, "mtu: %u is more than %s has, which is %u", d->mtu, d->uplink, k->mtu);
	else if (master && lan_is_marked(master) && !lan_is_ours(&l->store, master, d->name))
		rc = err_set(err, "bridged: %s is in %s, the bridge of another network of Vireo's", d->uplink,
			     master->name);
	else if (k->master && !(master && lan_is_ours(&l->store, master, d->name)))
		rc = err_set(err, "bridged: %s is part of another interface already; name that one if it is a bridge",
			     d->uplink);
	else if (!k->master && !*joined)
		rc = check_kind(l, k, err) || check_routes(l, k, err) || check_lifetimes(l, k, err) ? -1 : 0;
	rtnl_links_free(&links);
	return rc;
}

/* --- what is written down --- */

/* As it was before, "from" the interface. */
static json_t *write_down(const struct rtnl_link *k, const struct lan_held *h)
{
	char here[LAN_HERE];
	json_t *o;

	lan_here(here);
	o = json_pack("{s:s, s:i, s:b, s:s}", "name", k->name, "index", k->index, "up", !!(k->flags & IFF_UP), "boot",
		      here);
	if (o)
		lan_held_write(h, o);
	return o;
}

/* Numbers and addresses of another boot or name space say nothing here. */
static bool is_of_here(const json_t *uplink)
{
	const char *boot = json_string_value(json_object_get(uplink, "boot"));
	char here[LAN_HERE];

	lan_here(here);
	return !boot || !strcmp(boot, here);
}

/*
 * Whether all of it is at the bridge, or whoever moved it was killed. Older versions do not say so: with them it is
 * when the interface is in the bridge. (Where files are lost nothing is known but its name.)
 */
static bool is_whole(const json_t *uplink, bool joined)
{
	const json_t *whole = json_object_get(uplink, "whole");

	return whole ? json_is_true(whole) : joined && json_object_get(uplink, "index");
}

/*
 * What was written down and is nowhere any more. While it is moved an address is somewhere, and so is what routers have
 * said; a route may have gone with them.
 */
static void restore(struct lan *l, const json_t *uplink, int to, bool routes_only)
{
	struct lan_held h;
	struct err ignored;

	if (!is_of_here(uplink))
		return;
	lan_held_read(&h, uplink);
	if (routes_only)
		lan_held_keep_routes(&h);
	lan_held_move(&l->nl, &h, to, false, &ignored);
	lan_held_free(&h);
}

/* --- taken and given back --- */

static int join(struct lan *l, const struct lan_run *r, const struct rtnl_link *k, int bridge, struct err *err)
{
	const int rc = rtnl_set_master(&l->nl, k->index, bridge, err);

	if (rc == -EBUSY)
		return err_set(err, "somebody takes what comes there already (a container, by a macvlan?)");
	/* A bridge whose MTU nobody has changed gets the interface's, also where it was made with another one. */
	return rc || !r->def.mtu ? rc : rtnl_set_mtu(&l->nl, bridge, r->def.mtu, err);
}

static int take(struct lan *l, struct lan_run *r, const struct rtnl_link *k, int bridge, struct err *err)
{
	const bool interrupted = r->uplink != NULL;
	struct lan_held h;
	int rc;

	/* The host goes on under the MAC by which the network outside knows it. */
	if (rtnl_set_mac(&l->nl, bridge, k->mac, err) || lan_held_find(&l->nl, k, &h, err))
		return -1;
	if (!interrupted)
		r->uplink = write_down(k, &h);
	json_object_set_new(r->uplink, "whole", json_false());
	rc = lan_run_save(l, r, err) || join(l, r, k, bridge, err) || rtnl_set_up(&l->nl, k->index, true, err);
	rc = rc || lan_held_move(&l->nl, &h, bridge, true, err) ? -1 : 0;
	if (!rc && interrupted)
		restore(l, r->uplink, bridge, true);
	if (!rc && h.of[LAN_ADDRESSES].len)
		log_line(LOG_WARN, "lan",
			 "%s: the host's addresses are %s's while the network is up: rules of its firewall that name "
			 "%s do not see what comes by %s",
			 r->def.name, r->bridge, k->name, r->bridge);
	lan_held_free(&h);
	json_object_set_new(r->uplink, "whole", json_boolean(!rc));
	return rc;
}

int lan_uplink_take(struct lan *l, struct lan_run *r, struct err *err)
{
	const int bridge = (int)if_nametoindex(r->bridge);
	const struct rtnl_link *k;
	struct rtnl_links links;
	int rc = 0;

	if (rtnl_links(&l->nl, &links, err))
		return -1;
	if (r->uplink && !is_of_here(r->uplink)) {
		json_decref(r->uplink);
		r->uplink = NULL;
	}
	k = rtnl_find(&links, r->def.uplink);
	if (!k)
		rc = err_set(err, "there is no such interface");
	else if (k->master != bridge || !is_whole(r->uplink, true))
		rc = take(l, r, k, bridge, err);
	else if (!(k->flags & IFF_UP))
		rc = rtnl_set_up(&l->nl, k->index, true, err);
	rtnl_links_free(&links);
	return rc ? err_prefix(err, "bridged: %s", r->def.uplink) : 0;
}

/* Also by another name, and not another one by its name. NULL: it is gone. */
static const struct rtnl_link *find_taken(const struct rtnl_links *links, const json_t *uplink, int bridge)
{
	const char *name = json_string_value(json_object_get(uplink, "name"));
	const int index = is_of_here(uplink) ? (int)json_integer_value(json_object_get(uplink, "index")) : 0;
	const struct rtnl_link *k = rtnl_find_index(links, index);

	if (k && (k->master == bridge || (name && !strcmp(k->name, name))))
		return k;
	return name ? rtnl_find(links, name) : NULL;
}

/* What the bridge has by now, and what is written where somebody was killed between both. */
static int give_back(struct lan *l, const struct lan_run *r, const struct rtnl_link *bridge, const struct rtnl_link *k,
		     struct err *err)
{
	const bool down = json_is_false(json_object_get(r->uplink, "up")), cut = !down && !(k->flags & IFF_UP),
		   joined = bridge && k->master == bridge->index;
	struct lan_held h = { 0 };
	struct err ignored;
	int rc;

	if (bridge && lan_held_find(&l->nl, bridge, &h, err))
		return -1;
	/* A directory that takes no files any more keeps nothing from going. */
	if (bridge && is_whole(r->uplink, joined) && !lan_held_check(&h, r->bridge, &ignored)) {
		json_object_set_new(r->uplink, "whole", json_false());
		lan_held_write(&h, r->uplink);
		lan_run_save(l, r, &ignored);
	}
	rc = joined ? rtnl_set_master(&l->nl, k->index, 0, err) : 0;
	/* First, since IPv6 addresses go when it goes down; it has no routes then. */
	if (!rc && down)
		rc = rtnl_set_up(&l->nl, k->index, false, err);
	/* Somebody may have set it down meanwhile, and knows why. */
	if (cut && h.of[LAN_ROUTES].len)
		log_line(LOG_WARN, "lan",
			 "%s: %s is down, where the kernel has no routes: those that it had are not given back",
			 r->def.name, k->name);
	if (down || cut)
		lan_held_drop_routes(&h);
	rc = rc || lan_held_move(&l->nl, &h, k->index, true, err) ? -1 : 0;
	restore(l, r->uplink, k->index, h.of[LAN_ADDRESSES].len);
	lan_held_free(&h);
	return rc;
}

int lan_uplink_give_back(struct lan *l, const struct lan_run *r, struct err *err)
{
	const char *name = json_string_value(json_object_get(r->uplink, "name"));
	const struct rtnl_link *bridge, *k;
	struct rtnl_links links;
	int rc = 0;

	if (rtnl_links(&l->nl, &links, err))
		return -1;
	/* Not somebody else's, who has its name. */
	bridge = rtnl_find(&links, r->bridge);
	if (bridge && !lan_is_ours(&l->store, bridge, r->def.name))
		bridge = NULL;
	k = find_taken(&links, r->uplink, bridge ? bridge->index : 0);
	if (k && (bridge || is_of_here(r->uplink)))
		rc = give_back(l, r, bridge, k, err);
	else if (!k)
		log_line(LOG_WARN, "lan", "%s: the interface %s is gone: it is not given back what it had", r->def.name,
			 name ? name : "?");
	rtnl_links_free(&links);
	return rc ? err_prefix(err, "bridged: %s", name) : 0;
}
