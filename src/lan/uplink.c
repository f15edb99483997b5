/*
 * The interface of a bridged network: put into a bridge of ours, which then has the interface's addresses and routes,
 * and given back. What there was is written down before anything is moved. See lan_impl.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "lan/lan_impl.h"

#define SIOCGIWNAME 0x8b01 /* linux/wireless.h, which does not go together with net/if.h */

/* An access point knows one MAC behind each of its stations. */
static bool is_wireless(const char *name)
{
	struct ifreq q = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool yes;

	snprintf(q.ifr_name, sizeof(q.ifr_name), "%s", name);
	yes = fd >= 0 && !ioctl(fd, SIOCGIWNAME, &q);
	if (fd >= 0)
		close(fd);
	return yes;
}

/* --- what is moved --- */

enum { ADDRESSES, ROUTES, NEIGHBORS, KINDS };

static const struct {
	uint16_t get, new, del;
	size_t head;
	const char *key; /* where it is written down */
} kinds[KINDS] = {
	[ADDRESSES] = { RTM_GETADDR, RTM_NEWADDR, RTM_DELADDR, sizeof(struct ifaddrmsg), "addresses" },
	[ROUTES] = { RTM_GETROUTE, RTM_NEWROUTE, RTM_DELROUTE, sizeof(struct rtmsg), "routes" },
	[NEIGHBORS] = { RTM_GETNEIGH, RTM_NEWNEIGH, RTM_DELNEIGH, sizeof(struct ndmsg), "neighbors" },
};

#define MOST 64u /* attributes */

/* The attributes of a message of a kind. */
static void attrs(const struct rtnl_message *m, unsigned kind, const struct rtattr *t[MOST])
{
	const size_t head = NLMSG_ALIGN(kinds[kind].head);

	rtnl_attrs((const void *)(m->data + head), m->len > head ? m->len - head : 0, t, MOST - 1);
}

static int out_of(const struct rtattr *a)
{
	int index = 0;

	if (a && RTA_PAYLOAD(a) == sizeof(index))
		memcpy(&index, RTA_DATA(a), sizeof(index));
	return index;
}

/* Whether one of several ways goes out there; then it goes out at `to` instead, if that is not 0. */
static bool change_ways(void *ways, int len, int from, int to)
{
	struct rtnexthop *h = ways;
	bool any = false;

	for (; RTNH_OK(h, len); len -= (int)RTNH_ALIGN(h->rtnh_len), h = RTNH_NEXT(h)) {
		if (to)
			h->rtnh_flags &= RTNH_F_ONLINK;
		if (h->rtnh_ifindex != from)
			continue;
		any = true;
		if (to)
			h->rtnh_ifindex = to;
	}
	return any;
}

static bool goes_out(const struct rtnl_message *m, int index)
{
	uint8_t ways[RTNL_MESSAGE];
	const struct rtattr *t[MOST];

	attrs(m, ROUTES, t);
	if (!t[RTA_MULTIPATH])
		return out_of(t[RTA_OIF]) == index;
	memcpy(ways, RTA_DATA(t[RTA_MULTIPATH]), RTA_PAYLOAD(t[RTA_MULTIPATH]));
	return change_ways(ways, RTA_PAYLOAD(t[RTA_MULTIPATH]), index, 0);
}

/* What every interface has by itself. */
static bool is_local(const struct rtmsg *r, const struct rtnl_message *m)
{
	const struct rtattr *t[MOST];
	const uint8_t *to;

	attrs(m, ROUTES, t);
	to = t[RTA_DST] && RTA_PAYLOAD(t[RTA_DST]) == 16 ? RTA_DATA(t[RTA_DST]) : NULL;
	return r->rtm_table == RT_TABLE_LOCAL || (r->rtm_family == AF_INET6 && r->rtm_protocol == RTPROT_KERNEL && to &&
						  (to[0] == 0xff || (to[0] == 0xfe && (to[1] & 0xc0) == 0x80)));
}

/*
 * Global addresses; routes; neighbors that somebody has written down. Of routes also the kernel's: it makes them again,
 * unless an address says that it shall not, and those of an address with a time stay when it goes.
 */
static bool is_of(unsigned kind, const struct rtnl_message *m, int index)
{
	const struct ifaddrmsg *a = (const void *)m->data;
	const struct ndmsg *n = (const void *)m->data;
	const struct rtmsg *r = (const void *)m->data;

	if (m->len < kinds[kind].head)
		return false;
	if (kind == ADDRESSES)
		return (int)a->ifa_index == index && a->ifa_scope < RT_SCOPE_LINK;
	if (kind == NEIGHBORS)
		return n->ndm_ifindex == index && n->ndm_state & NUD_PERMANENT;
	return r->rtm_type == RTN_UNICAST && !is_local(r, m) && goes_out(m, index);
}

static int find(struct lan *l, int index, struct rtnl_messages m[KINDS], struct err *err)
{
	int rc = 0;

	memset(m, 0, KINDS * sizeof(*m));
	for (unsigned k = 0; k < KINDS && !rc; k++) {
		unsigned kept = 0;

		rc = rtnl_dump(&l->nl, kinds[k].get, &m[k], err);
		for (unsigned i = 0; i < m[k].len; i++)
			if (is_of(k, &m[k].v[i], index))
				m[k].v[kept++] = m[k].v[i];
		m[k].len = kept;
	}
	return rc;
}

static void forget(struct rtnl_messages m[KINDS])
{
	for (unsigned k = 0; k < KINDS; k++)
		rtnl_messages_free(&m[k]);
}

/* A nexthop object is its interface's, and others may use it. */
static int check_routes(struct lan *l, const char *uplink, struct err *err)
{
	struct rtnl_messages m[KINDS];
	const struct rtattr *t[MOST];
	int rc = find(l, (int)if_nametoindex(uplink), m, err);

	for (unsigned i = 0; i < m[ROUTES].len && !rc; i++) {
		attrs(&m[ROUTES].v[i], ROUTES, t);
		if (t[RTA_NH_ID])
			rc = err_set(err, "bridged: %s has a route by a nexthop object, which cannot be moved", uplink);
	}
	forget(m);
	return rc;
}

/*
 * An IPv4 address that ends, as one by DHCP does: its client goes on asking at the interface, where the bridge takes
 * the answers, and the host would lose it. (IPv6 addresses by router advertisements are the kernel's, which hears these
 * at the bridge as well.)
 */
static int check_lifetimes(struct lan *l, const char *uplink, struct err *err)
{
	const unsigned index = if_nametoindex(uplink);
	struct rtnl_messages m;
	char text[LAN_TEXT4];
	int rc = rtnl_dump(&l->nl, RTM_GETADDR, &m, err);

	for (unsigned i = 0; i < m.len && !rc; i++) {
		const struct ifaddrmsg *a = (const void *)m.v[i].data;
		const struct rtattr *t[IFA_MAX + 1];
		struct ifa_cacheinfo c;

		if (m.v[i].len < sizeof(*a) || a->ifa_index != index || a->ifa_family != AF_INET)
			continue;
		rtnl_attrs(IFA_RTA(a), m.v[i].len - NLMSG_ALIGN(sizeof(*a)), t, IFA_MAX);
		if (!t[IFA_LOCAL] || !t[IFA_CACHEINFO] || RTA_PAYLOAD(t[IFA_CACHEINFO]) < sizeof(c))
			continue;
		memcpy(&c, RTA_DATA(t[IFA_CACHEINFO]), sizeof(c));
		if (c.ifa_valid != ~0u)
			rc = err_set(
				err,
				"bridged: %s has %s for %u s more (by DHCP?), and nobody would renew it on a bridge "
				"of Vireo's: let what configures %s make a bridge of it, and name that one, or give it "
				"an address that stays",
				uplink, lan_text4(ld_be32(RTA_DATA(t[IFA_LOCAL])), text), c.ifa_valid, uplink);
	}
	rtnl_messages_free(&m);
	return rc;
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
	else if (!strncmp(k->alias, "vireo:", 6))
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
	else if (k->master && !(master && lan_is_ours(&l->store, master, d->name)))
		rc = err_set(err, "bridged: %s is part of another interface already; name that one if it is a bridge",
			     d->uplink);
	else if (!k->master && !*joined)
		rc = check_routes(l, d->uplink, err) || check_lifetimes(l, d->uplink, err) ? -1 : 0;
	rtnl_links_free(&links);
	return rc;
}

/* What userland may say of an address. */
#define ADDRESS_FLAGS (IFA_F_NOPREFIXROUTE | IFA_F_MANAGETEMPADDR | IFA_F_HOMEADDRESS | IFA_F_MCAUTOJOIN)

static void head_of_address(struct rtnl_req *q, const struct rtattr *t[MOST], int index)
{
	struct ifaddrmsg *a = NLMSG_DATA(q->h);

	/* One that is an alias stays; else it is the interface's name. */
	if (t[IFA_LABEL] && !memchr(RTA_DATA(t[IFA_LABEL]), ':', RTA_PAYLOAD(t[IFA_LABEL])))
		t[IFA_LABEL] = NULL;
	rtnl_put_u32(q, IFA_FLAGS,
		     ((uint32_t)out_of(t[IFA_FLAGS]) & ADDRESS_FLAGS) |
			     (a->ifa_family == AF_INET6 ? (uint32_t)IFA_F_NODAD : 0));
	a->ifa_index = (uint32_t)index;
	a->ifa_flags = 0;
	t[IFA_FLAGS] = NULL;
}

static void head_of_route(struct rtnl_req *q, const struct rtattr *t[MOST], int from, int index)
{
	struct rtmsg *r = NLMSG_DATA(q->h);
	uint8_t ways[RTNL_MESSAGE];
	const struct rta_cacheinfo *c;

	r->rtm_flags &= RTNH_F_ONLINK;
	if (t[RTA_MULTIPATH]) {
		memcpy(ways, RTA_DATA(t[RTA_MULTIPATH]), RTA_PAYLOAD(t[RTA_MULTIPATH]));
		change_ways(ways, RTA_PAYLOAD(t[RTA_MULTIPATH]), abs(from), index);
		rtnl_put(q, RTA_MULTIPATH, ways, RTA_PAYLOAD(t[RTA_MULTIPATH]));
	} else {
		rtnl_put_u32(q, RTA_OIF, (uint32_t)index);
	}
	/* What a router has said ends when it has said so. */
	c = t[RTA_CACHEINFO] && RTA_PAYLOAD(t[RTA_CACHEINFO]) >= sizeof(*c) ? RTA_DATA(t[RTA_CACHEINFO]) : NULL;
	if (r->rtm_family == AF_INET6 && c && c->rta_expires > 0)
		rtnl_put_u32(q, RTA_EXPIRES, (uint32_t)c->rta_expires / (uint32_t)sysconf(_SC_CLK_TCK));
	t[RTA_OIF] = t[RTA_CACHEINFO] = t[RTA_MULTIPATH] = NULL;
}

/* The message again, for another interface, without what only the kernel says. */
static int repeat(struct lan *l, unsigned kind, const struct rtnl_message *m, const int between[2], struct err *err)
{
	/* By IPv6 there can be one to the same place already, by another interface. */
	const bool beside = kind == ROUTES && ((const struct rtmsg *)m->data)->rtm_family == AF_INET6;
	const struct rtattr *t[MOST];
	struct rtnl_req q;
	int rc;

	rtnl_begin(&q, kinds[kind].new,
		   NLM_F_CREATE | (kind != ROUTES ? NLM_F_REPLACE
				   : beside	  ? NLM_F_APPEND
						  : NLM_F_EXCL),
		   m->data, kinds[kind].head);
	attrs(m, kind, t);
	if (kind == ADDRESSES)
		head_of_address(&q, t, between[1]);
	else if (kind == ROUTES)
		head_of_route(&q, t, between[0], between[1]);
	else
		((struct ndmsg *)NLMSG_DATA(q.h))->ndm_ifindex = between[1], t[NDA_CACHEINFO] = t[NDA_PROBES] = NULL;
	for (size_t i = 0; i < MOST; i++)
		if (t[i])
			rtnl_put(&q, (uint16_t)i, RTA_DATA(t[i]), RTA_PAYLOAD(t[i]));
	rc = rtnl_do(&l->nl, &q, err);
	return rc == -EEXIST ? 0 : rc;
}

/* It may have gone with something else. */
static int delete (struct lan *l, unsigned kind, const struct rtnl_message *m, struct err *err)
{
	struct rtnl_req q;
	int rc;

	rtnl_begin(&q, kinds[kind].del, 0, m->data, m->len);
	rc = rtnl_do(&l->nl, &q, err);
	return rc == -EADDRNOTAVAIL || rc == -ESRCH || rc == -ENOENT ? 0 : rc;
}

/* An IPv4 route goes with its addresses, unless its interface has others; it is the only one to its place. */
static int move_route(struct lan *l, const struct rtnl_message *m, const int between[2], struct err *err)
{
	const bool four = ((const struct rtmsg *)m->data)->rtm_family == AF_INET, out = between[0] > 0;
	struct err ignored;
	int rc;

	if (four && out)
		delete (l, ROUTES, m, &ignored);
	rc = repeat(l, ROUTES, m, between, err);
	if (!rc && !four && out)
		delete (l, ROUTES, m, &ignored);
	return rc;
}

/*
 * Each address is at one of both interfaces at any time; a route by way of another one comes behind that. `between`
 * are the interfaces from and to which; the first is negative where nothing is to be taken away from it.
 */
static int move(struct lan *l, const int between[2], const struct rtnl_messages m[KINDS], struct err *err)
{
	struct err last;
	int rc = 0;

	for (unsigned i = 0; i < m[ADDRESSES].len && !rc; i++)
		rc = repeat(l, ADDRESSES, &m[ADDRESSES].v[i], between, err);
	for (unsigned i = 0; i < m[ADDRESSES].len && !rc && between[0] > 0; i++)
		if (is_of(ADDRESSES, &m[ADDRESSES].v[i], between[0]))
			rc = delete (l, ADDRESSES, &m[ADDRESSES].v[i], err);
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < m[ROUTES].len && !rc; i++)
			if (move_route(l, &m[ROUTES].v[i], between, &last) && pass)
				rc = err_set(err, "a route cannot be moved: %s", last.msg);
	for (unsigned i = 0; i < m[NEIGHBORS].len && !rc; i++)
		rc = repeat(l, NEIGHBORS, &m[NEIGHBORS].v[i], between, err);
	return rc;
}

/* --- written down --- */

static json_t *to_json(const struct rtnl_messages *m)
{
	json_t *a = json_array();
	char hex[2 * RTNL_MESSAGE + 1];

	for (unsigned i = 0; i < m->len; i++) {
		for (unsigned k = 0; k < m->v[i].len; k++)
			snprintf(hex + 2 * k, 3, "%02x", m->v[i].data[k]);
		json_array_append_new(a, json_string(hex));
	}
	return a;
}

static void from_json(struct rtnl_messages *m, const json_t *a)
{
	size_t i;
	json_t *o;

	*m = (struct rtnl_messages){ calloc(json_array_size(a) + 1, sizeof(*m->v)), 0 };
	if (!m->v)
		return;
	json_array_foreach(a, i, o)
	{
		const char *hex = json_string_value(o);
		struct rtnl_message *v = &m->v[m->len];

		if (!hex || strlen(hex) > 2 * RTNL_MESSAGE)
			continue;
		for (v->len = 0; sscanf(hex + 2 * v->len, "%2hhx", &v->data[v->len]) == 1; v->len++)
			;
		m->len += v->len >= sizeof(struct rtmsg);
	}
}

/* As it was before. */
static json_t *write_down(const struct rtnl_link *k, const struct rtnl_messages m[KINDS])
{
	json_t *o = json_pack("{s:s, s:i, s:b}", "name", k->name, "index", k->index, "up", !!(k->flags & IFF_UP));

	for (unsigned i = 0; i < KINDS && o; i++)
		json_object_set_new(o, kinds[i].key, to_json(&m[i]));
	return o;
}

int lan_uplink_take(struct lan *l, struct lan_run *r, struct err *err)
{
	const int index = (int)if_nametoindex(r->def.uplink), bridge = (int)if_nametoindex(r->bridge);
	const struct rtnl_link *k;
	struct rtnl_links links;
	struct rtnl_messages m[KINDS] = { 0 };
	int rc;

	if (rtnl_links(&l->nl, &links, err))
		return -1;
	k = rtnl_find(&links, r->def.uplink);
	if (k && k->master == bridge && r->uplink) {
		rtnl_links_free(&links);
		return 0; /* taken before */
	}
	/* The host goes on under the MAC by which the network outside knows it. */
	rc = !k || rtnl_set_mac(&l->nl, bridge, k->mac, err) || find(l, index, m, err);
	if (!rc && !r->uplink)
		r->uplink = write_down(k, m);
	rtnl_links_free(&links);
	if (rc) {
		forget(m);
		return err_prefix(err, "bridged: %s", r->def.uplink);
	}
	rc = lan_run_save(l, r, err) || rtnl_set_master(&l->nl, index, bridge, err) ||
	     rtnl_set_up(&l->nl, index, true, err) || move(l, (int[]){ index, bridge }, m, err);
	forget(m);
	return rc ? err_prefix(err, "bridged: %s", r->def.uplink) : 0;
}

/* Also by another name, and not another one by its name. 0: it is gone, or was never in the bridge. */
static int find_taken(struct lan *l, const json_t *uplink, int bridge, bool *down)
{
	const char *name = json_string_value(json_object_get(uplink, "name"));
	const struct rtnl_link *k;
	struct rtnl_links links;
	struct err ignored;
	int index;

	if (rtnl_links(&l->nl, &links, &ignored))
		return 0;
	k = rtnl_find_index(&links, (int)json_integer_value(json_object_get(uplink, "index")));
	if (!k || (k->master != bridge && (!name || strcmp(k->name, name))))
		k = name ? rtnl_find(&links, name) : NULL;
	index = k ? k->index : 0;
	rtnl_links_free(&links);
	*down = json_is_false(json_object_get(uplink, "up"));
	return index;
}

/* What was written down and is nowhere any more, as somebody was killed while it was moved. */
static void restore(struct lan *l, const json_t *uplink, int index, bool addresses)
{
	const int between[2] = { -(int)json_integer_value(json_object_get(uplink, "index")), index };
	struct rtnl_messages written[KINDS];
	struct err ignored;
	unsigned kept = 0;

	for (unsigned k = 0; k < KINDS; k++)
		from_json(&written[k], json_object_get(uplink, kinds[k].key));
	/* A lease that has changed since is the bridge's, not the old one. */
	for (unsigned i = 0; i < written[ROUTES].len; i++)
		if (addresses || ((const struct rtmsg *)written[ROUTES].v[i].data)->rtm_protocol != RTPROT_KERNEL)
			written[ROUTES].v[kept++] = written[ROUTES].v[i];
	written[ROUTES].len = kept;
	if (!addresses)
		written[ADDRESSES].len = written[NEIGHBORS].len = 0;
	move(l, between, written, &ignored);
	forget(written);
}

/* What the bridge has by now, and what is written where somebody was killed between both. */
int lan_uplink_give_back(struct lan *l, const struct lan_run *r, struct err *err)
{
	const char *name = json_string_value(json_object_get(r->uplink, "name"));
	/* Not somebody else's, who has its name. */
	const int bridge = lan_link_is_ours(l, r->bridge, r->def.name) ? (int)if_nametoindex(r->bridge) : 0;
	bool down;
	const int index = find_taken(l, r->uplink, bridge, &down);
	struct rtnl_messages m[KINDS] = { 0 };
	struct err ignored;
	int rc = 0;

	if (!index) {
		log_line(LOG_WARN, "lan", "%s: the interface %s is gone: it is not given back what it had", r->def.name,
			 name ? name : "?");
		return 0;
	}
	rc = (bridge && find(l, bridge, m, err)) || rtnl_set_master(&l->nl, index, 0, err) ||
	     (bridge && move(l, (int[]){ bridge, index }, m, err));
	restore(l, r->uplink, index, !m[ADDRESSES].len);
	if (down)
		rtnl_set_up(&l->nl, index, false, &ignored);
	forget(m);
	return rc ? err_prefix(err, "bridged: %s", name) : 0;
}
