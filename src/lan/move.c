/* What an interface has, and its move to another one: see move.h. */
#include "lan/move.h"

#include <errno.h>
#include <linux/ipv6_route.h>
#include <linux/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/array.h"
#include "lan/ip.h"

static const struct {
	uint16_t get, new, del;
	size_t head;
	const char *key; /* where it is written down */
} kinds[LAN_KINDS] = {
	[LAN_ADDRESSES] = { RTM_GETADDR, RTM_NEWADDR, RTM_DELADDR, sizeof(struct ifaddrmsg), "addresses" },
	[LAN_ROUTES] = { RTM_GETROUTE, RTM_NEWROUTE, RTM_DELROUTE, sizeof(struct rtmsg), "routes" },
	[LAN_NEIGHBORS] = { RTM_GETNEIGH, RTM_NEWNEIGH, RTM_DELNEIGH, sizeof(struct ndmsg), "neighbors" },
	[LAN_PROXIES] = { RTM_GETNEIGH, RTM_NEWNEIGH, RTM_DELNEIGH, sizeof(struct ndmsg), "proxies" },
};

#define MOST 64u /* attributes */

/* The attributes of a message of a kind. */
static void attrs(const struct lan_message *m, unsigned kind, const struct rtattr *t[MOST])
{
	const size_t head = NLMSG_ALIGN(kinds[kind].head);

	rtnl_attrs((const void *)(m->data + head), m->len > head ? m->len - head : 0, t, MOST - 1);
}

static int int_of(const struct rtattr *a)
{
	int v = 0;

	if (a && RTA_PAYLOAD(a) == sizeof(v))
		memcpy(&v, RTA_DATA(a), sizeof(v));
	return v;
}

static struct in6_addr six_of(const struct rtattr *a)
{
	struct in6_addr v = { 0 };

	if (a && RTA_PAYLOAD(a) == sizeof(v))
		memcpy(&v, RTA_DATA(a), sizeof(v));
	return v;
}

/* --- what an interface has --- */

static bool goes_out(const struct lan_message *m, int index)
{
	const struct rtattr *t[MOST];
	struct rtnl_way w = { 0 };

	attrs(m, LAN_ROUTES, t);
	while (rtnl_next_way(t, &w))
		if (w.index == index)
			return true;
	return false;
}

/* What every interface has by itself. */
static bool is_local(const struct rtmsg *r, const struct lan_message *m)
{
	const struct rtattr *t[MOST];
	const uint8_t *to;

	attrs(m, LAN_ROUTES, t);
	to = t[RTA_DST] && RTA_PAYLOAD(t[RTA_DST]) == 16 ? RTA_DATA(t[RTA_DST]) : NULL;
	return r->rtm_protocol == RTPROT_KERNEL &&
	       (r->rtm_table == RT_TABLE_LOCAL ||
		(r->rtm_family == AF_INET6 && to && (to[0] == 0xff || (to[0] == 0xfe && (to[1] & 0xc0) == 0x80))));
}

/* The link-local address that the kernel makes: it says so, or (before Linux 5.18) it follows from the MAC. */
static bool is_own(const struct ifaddrmsg *a, const struct lan_message *m, const uint8_t mac[6])
{
	const struct in6_addr prefix = { .s6_addr = { 0xfe, 0x80 } }, own = lan_eui64(&prefix, mac);
	const struct rtattr *t[MOST];
	struct in6_addr addr;

	if (a->ifa_family != AF_INET6 || a->ifa_scope != RT_SCOPE_LINK)
		return false;
	attrs(m, LAN_ADDRESSES, t);
	addr = six_of(t[IFA_ADDRESS]);
	return (t[IFA_PROTO] && *(const uint8_t *)RTA_DATA(t[IFA_PROTO]) == IFAPROT_KERNEL_LL) ||
	       !memcmp(&addr, &own, sizeof(own));
}

/* One that the kernel has made beside another one and takes back with it (RFC 8981). Nobody else can make such ones. */
static bool is_temporary(const struct ifaddrmsg *a)
{
	return a->ifa_family == AF_INET6 && a->ifa_flags & IFA_F_TEMPORARY;
}

static bool is_of(unsigned kind, const struct lan_message *m, const struct rtnl_link *k)
{
	const struct ifaddrmsg *a = (const void *)m->data;
	const struct ndmsg *n = (const void *)m->data;
	const struct rtmsg *r = (const void *)m->data;

	if (m->len < kinds[kind].head)
		return false;
	switch (kind) {
	case LAN_ADDRESSES:
		return (int)a->ifa_index == k->index && !is_own(a, m, k->mac) && !is_temporary(a);
	case LAN_ROUTES:
		return !is_local(r, m) && goes_out(m, k->index);
	case LAN_NEIGHBORS:
		return n->ndm_ifindex == k->index && n->ndm_state & NUD_PERMANENT;
	default:
		return n->ndm_ifindex == k->index;
	}
}

/*
 * A route by a router that the kernel has heard of is the kernel's own: it changes and ends it as the router says, and
 * makes no one way of it and of others. It is marked in its flags, of which the kernel has no such one.
 */
#define HEARD 0x80000000u

static bool is_text(const struct rtattr *a, const char *hex)
{
	const struct in6_addr v = six_of(a);
	char text[33];

	for (unsigned i = 0; i < sizeof(v); i++)
		snprintf(text + 2 * i, 3, "%02x", v.s6_addr[i]);
	return !strcmp(text, hex);
}

static bool is_line(const struct lan_message *m, const char *to, unsigned len, const char *by, unsigned metric)
{
	const struct rtmsg *r = (const void *)m->data;
	const struct rtattr *t[MOST];

	attrs(m, LAN_ROUTES, t);
	return r->rtm_family == AF_INET6 && r->rtm_dst_len == len && (unsigned)int_of(t[RTA_PRIORITY]) == metric &&
	       is_text(t[RTA_DST], to) && is_text(t[RTA_GATEWAY], by);
}

/* /proc/net/ipv6_route says which. */
static void mark_heard(struct lan_messages *m, const char *ifname)
{
	FILE *f = fopen("/proc/net/ipv6_route", "re");
	char line[256], to[33], by[33], dev[IFNAMSIZ];
	unsigned len, metric, flags;

	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%32s %x %*s %*s %32s %x %*s %*s %x %15s", to, &len, by, &metric, &flags, dev) != 6 ||
		    !(flags & RTF_ADDRCONF) || !(flags & (RTF_DEFAULT | RTF_ROUTEINFO)) || strcmp(dev, ifname))
			continue;
		for (unsigned i = 0; i < m->len; i++)
			if (is_line(m->v[i], to, len, by, metric))
				((struct rtmsg *)m->v[i]->data)->rtm_flags |= HEARD;
	}
	fclose(f);
}

static struct lan_message *new_message(struct lan_messages *m, size_t len)
{
	struct lan_message *v = array_more(m->v, m->len) ? malloc(sizeof(*v) + len) : NULL;

	if (v) {
		v->len = len;
		m->v[m->len++] = v;
	}
	return v;
}

struct search {
	struct lan_held *h;
	const struct rtnl_link *k;
	unsigned kind;
};

static int see(void *opaque, const struct nlmsghdr *head)
{
	const struct search *s = opaque;
	struct lan_messages *m = &s->h->of[s->kind];
	const size_t len = head->nlmsg_len - NLMSG_HDRLEN;
	struct lan_message *v = new_message(m, len);

	if (!v)
		return -1;
	memcpy(v->data, NLMSG_DATA(head), len);
	if (!is_of(s->kind, v, s->k))
		free(m->v[--m->len]);
	return 0;
}

int lan_held_find(struct rtnl *nl, const struct rtnl_link *k, struct lan_held *h, struct err *err)
{
	struct search s = { h, k, 0 };
	int rc = 0;

	*h = (struct lan_held){ .index = k->index };
	for (; s.kind < LAN_KINDS && !rc; s.kind++)
		rc = rtnl_each_of(nl, &(struct rtnl_ask){ kinds[s.kind].get, s.kind == LAN_PROXIES, k->index }, see, &s,
				  err);
	mark_heard(&h->of[LAN_ROUTES], k->name);
	if (rc)
		lan_held_free(h);
	return rc;
}

static void empty(struct lan_messages *m)
{
	for (unsigned i = 0; i < m->len; i++)
		free(m->v[i]);
	free(m->v);
	*m = (struct lan_messages){ 0 };
}

void lan_held_free(struct lan_held *h)
{
	for (unsigned i = 0; i < LAN_KINDS; i++)
		empty(&h->of[i]);
}

void lan_held_drop_routes(struct lan_held *h)
{
	empty(&h->of[LAN_ROUTES]);
}

/* With room for what a request has beside it. */
#define LONGEST	     (RTNL_REQUEST - 256u)
#define MOST_WRITTEN (512u * 1024)

int lan_held_check(const struct lan_held *h, const char *ifname, struct err *err)
{
	const struct rtattr *t[MOST];
	size_t written = 0;

	for (unsigned i = 0; i < LAN_KINDS; i++)
		for (unsigned n = 0; n < h->of[i].len; n++) {
			const struct lan_message *m = h->of[i].v[n];

			written += 2 * m->len + 4;
			attrs(m, i, t);
			if (i == LAN_ROUTES && t[RTA_NH_ID])
				return err_set(err, "%s has a route by a nexthop object, which cannot be moved",
					       ifname);
			if (m->len > LONGEST)
				return err_set(err, "%s has a route by so many ways that it cannot be moved", ifname);
		}
	return written > MOST_WRITTEN ? err_set(err,
						"%s has more routes than can be moved: %u; let what makes them make "
						"a bridge of it, and name that one",
						ifname, h->of[LAN_ROUTES].len)
				      : 0;
}

void lan_held_keep_routes(struct lan_held *h)
{
	struct lan_messages *m = &h->of[LAN_ROUTES];
	unsigned kept = 0;

	for (unsigned i = 0; i < m->len; i++)
		if (((const struct rtmsg *)m->v[i]->data)->rtm_flags & HEARD)
			free(m->v[i]);
		else
			m->v[kept++] = m->v[i];
	m->len = kept;
	for (unsigned i = 0; i < LAN_KINDS; i++)
		if (i != LAN_ROUTES)
			empty(&h->of[i]);
}

/* --- its move --- */

/* What userland may say of an address. */
#define ADDRESS_FLAGS (IFA_F_NODAD | IFA_F_NOPREFIXROUTE | IFA_F_MANAGETEMPADDR | IFA_F_HOMEADDRESS | IFA_F_MCAUTOJOIN)

static uint32_t flags_of(const struct lan_message *address)
{
	const struct rtattr *t[MOST];

	attrs(address, LAN_ADDRESSES, t);
	return (uint32_t)int_of(t[IFA_FLAGS]) & ADDRESS_FLAGS;
}

static void put_address(struct rtnl_req *q, const struct rtattr *t[MOST], int to, uint32_t flags)
{
	struct ifaddrmsg *a = NLMSG_DATA(q->h);

	/* One that is an alias stays; else it is the interface's name. */
	if (t[IFA_LABEL] && !memchr(RTA_DATA(t[IFA_LABEL]), ':', RTA_PAYLOAD(t[IFA_LABEL])))
		t[IFA_LABEL] = NULL;
	rtnl_put_u32(q, IFA_FLAGS, flags);
	a->ifa_index = (uint32_t)to;
	a->ifa_flags = 0;
	t[IFA_FLAGS] = NULL;
}

static void put_ways(struct rtnl_req *q, const struct rtattr *ways, int from, int to)
{
	const struct rtattr *copy = rtnl_put(q, RTA_MULTIPATH, RTA_DATA(ways), RTA_PAYLOAD(ways));
	struct rtnexthop *h = NULL;

	while ((h = rtnl_next_hop(copy, h))) {
		h->rtnh_flags &= RTNH_F_ONLINK;
		if (h->rtnh_ifindex == from)
			h->rtnh_ifindex = to;
	}
}

static void put_route(struct rtnl_req *q, const struct rtattr *t[MOST], int from, int to)
{
	struct rtmsg *r = NLMSG_DATA(q->h);
	const struct rta_cacheinfo *c;

	r->rtm_flags &= RTNH_F_ONLINK;
	if (t[RTA_MULTIPATH])
		put_ways(q, t[RTA_MULTIPATH], from, to);
	else
		rtnl_put_u32(q, RTA_OIF, (uint32_t)to);
	c = t[RTA_CACHEINFO] && RTA_PAYLOAD(t[RTA_CACHEINFO]) >= sizeof(*c) ? RTA_DATA(t[RTA_CACHEINFO]) : NULL;
	if (r->rtm_family == AF_INET6 && c && c->rta_expires > 0)
		rtnl_put_u32(q, RTA_EXPIRES, (uint32_t)c->rta_expires / (uint32_t)sysconf(_SC_CLK_TCK));
	t[RTA_OIF] = t[RTA_CACHEINFO] = t[RTA_MULTIPATH] = NULL;
}

/* Netlink knows no such routes, but the older way does. */
static int repeat_heard(const struct lan_message *m, int to, struct err *err)
{
	const struct rtmsg *r = (const void *)m->data;
	const struct rta_cacheinfo *c;
	const struct rtattr *t[MOST];
	struct in6_rtmsg q = { .rtmsg_dst_len = r->rtm_dst_len, .rtmsg_ifindex = to };
	int fd, rc = 0;

	attrs(m, LAN_ROUTES, t);
	c = t[RTA_CACHEINFO] && RTA_PAYLOAD(t[RTA_CACHEINFO]) >= sizeof(*c) ? RTA_DATA(t[RTA_CACHEINFO]) : NULL;
	if (c && c->rta_expires < 0)
		return 0;
	q.rtmsg_dst = six_of(t[RTA_DST]);
	q.rtmsg_gateway = six_of(t[RTA_GATEWAY]);
	q.rtmsg_metric = (uint32_t)int_of(t[RTA_PRIORITY]);
	q.rtmsg_flags = RTF_UP | RTF_GATEWAY | RTF_ADDRCONF | (r->rtm_dst_len ? RTF_ROUTEINFO : RTF_DEFAULT);
	if (t[RTA_PREF])
		q.rtmsg_flags |= RTF_PREF((uint32_t) * (const uint8_t *)RTA_DATA(t[RTA_PREF]));
	if (c && c->rta_expires) {
		q.rtmsg_flags |= RTF_EXPIRES;
		q.rtmsg_info = (unsigned long)c->rta_expires;
	}
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || (ioctl(fd, SIOCADDRT, &q) && errno != EEXIST))
		rc = err_errno(err, errno, "SIOCADDRT");
	if (fd >= 0)
		close(fd);
	return rc;
}

static int repeat_as(struct rtnl *nl, unsigned kind, const struct lan_message *m, const int between[2], uint32_t flags,
		     struct err *err)
{
	/* By IPv6 there can be one to the same place already, by another interface. */
	const bool beside = kind == LAN_ROUTES && ((const struct rtmsg *)m->data)->rtm_family == AF_INET6;
	const struct rtattr *t[MOST];
	struct rtnl_req q;
	int rc;

	rtnl_begin(&q, kinds[kind].new,
		   NLM_F_CREATE | (kind != LAN_ROUTES ? NLM_F_REPLACE
				   : beside	      ? NLM_F_APPEND
						      : NLM_F_EXCL),
		   m->data, kinds[kind].head);
	attrs(m, kind, t);
	if (kind == LAN_ADDRESSES)
		put_address(&q, t, between[1], flags);
	else if (kind == LAN_ROUTES)
		put_route(&q, t, between[0], between[1]);
	else
		((struct ndmsg *)NLMSG_DATA(q.h))->ndm_ifindex = between[1], t[NDA_CACHEINFO] = t[NDA_PROBES] = NULL;
	for (size_t i = 0; i < MOST; i++)
		if (t[i])
			rtnl_put(&q, (uint16_t)i, RTA_DATA(t[i]), RTA_PAYLOAD(t[i]));
	rc = rtnl_do(nl, &q, err);
	return rc == -EEXIST ? 0 : rc;
}

/*
 * The message again, for another interface, without what only the kernel says. An IPv6 address is the host's already:
 * the kernel shall not ask first whether it is somebody else's, but may do so the next time.
 */
static int repeat(struct rtnl *nl, unsigned kind, const struct lan_message *m, const int between[2], struct err *err)
{
	const bool address = kind == LAN_ADDRESSES,
		   six = address && ((const struct ifaddrmsg *)m->data)->ifa_family == AF_INET6;
	const uint32_t flags = address ? flags_of(m) : 0, at_first = flags | (six ? (uint32_t)IFA_F_NODAD : 0);
	int rc;

	if (kind == LAN_ROUTES && ((const struct rtmsg *)m->data)->rtm_flags & HEARD)
		return repeat_heard(m, between[1], err);
	rc = repeat_as(nl, kind, m, between, at_first, err);
	return rc || at_first == flags ? rc : repeat_as(nl, kind, m, between, flags, err);
}

/* It may have gone with something else. */
static int delete (struct rtnl *nl, unsigned kind, const struct lan_message *m, struct err *err)
{
	struct rtnl_req q;
	int rc;

	rtnl_begin(&q, kinds[kind].del, 0, m->data, m->len);
	if (kind == LAN_ROUTES)
		((struct rtmsg *)NLMSG_DATA(q.h))->rtm_flags &= ~HEARD;
	rc = rtnl_do(nl, &q, err);
	return rc == -EADDRNOTAVAIL || rc == -ESRCH || rc == -ENOENT ? 0 : rc;
}

/* An IPv4 route goes with its addresses, unless its interface has others; it is the only one to its place. */
static int move_route(struct rtnl *nl, const struct lan_message *m, const int between[2], bool away, struct err *err)
{
	const bool four = ((const struct rtmsg *)m->data)->rtm_family == AF_INET;
	struct err ignored;
	int rc;

	if (four && away)
		delete (nl, LAN_ROUTES, m, &ignored);
	rc = repeat(nl, LAN_ROUTES, m, between, err);
	if (!rc && !four && away)
		delete (nl, LAN_ROUTES, m, &ignored);
	return rc;
}

int lan_held_move(struct rtnl *nl, const struct lan_held *h, int to, bool away, struct err *err)
{
	const struct lan_messages *addresses = &h->of[LAN_ADDRESSES], *routes = &h->of[LAN_ROUTES];
	const int between[2] = { h->index, to };
	struct err last;
	int rc = 0;

	for (unsigned i = 0; i < addresses->len && !rc; i++)
		rc = repeat(nl, LAN_ADDRESSES, addresses->v[i], between, err);
	for (unsigned i = 0; i < addresses->len && !rc && away; i++)
		rc = delete (nl, LAN_ADDRESSES, addresses->v[i], err);
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < routes->len && !rc; i++)
			if (move_route(nl, routes->v[i], between, away, &last) && pass)
				rc = err_set(err, "a route cannot be moved: %s", last.msg);
	for (unsigned kind = LAN_NEIGHBORS; kind <= LAN_PROXIES; kind++)
		for (unsigned i = 0; i < h->of[kind].len && !rc; i++)
			rc = repeat(nl, kind, h->of[kind].v[i], between, err);
	return rc;
}

/* --- written down --- */

static json_t *to_json(const struct lan_message *m)
{
	char *hex = malloc(2 * m->len + 1);
	json_t *o;

	if (!hex)
		return NULL;
	for (size_t i = 0; i < m->len; i++)
		snprintf(hex + 2 * i, 3, "%02x", m->data[i]);
	o = json_stringn(hex, 2 * m->len);
	free(hex);
	return o;
}

static void from_json(struct lan_messages *m, unsigned kind, const json_t *o)
{
	const char *hex = json_string_value(o);
	const size_t len = hex ? strlen(hex) / 2 : 0;
	struct lan_message *v = len >= kinds[kind].head && len <= LONGEST ? new_message(m, len) : NULL;

	for (size_t i = 0; v && i < len; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &v->data[i]) != 1)
			v->data[i] = 0;
}

void lan_held_write(const struct lan_held *h, json_t *o)
{
	json_object_set_new(o, "from", json_integer(h->index));
	for (unsigned i = 0; i < LAN_KINDS; i++) {
		json_t *a = json_array();

		for (unsigned n = 0; n < h->of[i].len; n++)
			json_array_append_new(a, to_json(h->of[i].v[n]));
		json_object_set_new(o, kinds[i].key, a);
	}
}

void lan_held_read(struct lan_held *h, const json_t *o)
{
	size_t n;
	json_t *v;

	*h = (struct lan_held){ .index = (int)json_integer_value(json_object_get(o, "from")) };
	for (unsigned i = 0; i < LAN_KINDS; i++)
		json_array_foreach(json_object_get(o, kinds[i].key), n, v) from_json(&h->of[i], i, v);
}
