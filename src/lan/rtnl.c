/* See rtnl.h. */
#include "lan/rtnl.h"

#include <errno.h>
#include <limits.h>
#include <linux/if_arp.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/veth.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/array.h"
#include "base/bytes.h"
#include "base/entropy.h"

#define ANSWER (64 * 1024)

static int open_family(struct rtnl *r, int family, struct err *err)
{
	const struct sockaddr_nl a = { .nl_family = AF_NETLINK };
	const int on = 1;

	r->seq = 0;
	r->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
	if (r->fd < 0)
		return err_errno(err, errno, "netlink");
	if (bind(r->fd, (const struct sockaddr *)&a, sizeof(a))) {
		err_errno(err, errno, "netlink");
		close(r->fd);
		return -1;
	}
	setsockopt(r->fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(r->fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	setsockopt(r->fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	return 0;
}

int rtnl_open(struct rtnl *r, struct err *err)
{
	return open_family(r, NETLINK_ROUTE, err);
}

int rtnl_open_netfilter(struct rtnl *r, struct err *err)
{
	return open_family(r, NETLINK_NETFILTER, err);
}

void rtnl_close(struct rtnl *r)
{
	close(r->fd);
}

/* --- requests --- */

static void *extend(struct rtnl_req *q, size_t len)
{
	size_t at = NLMSG_ALIGN(q->h->nlmsg_len);

	if (q->full || at + NLMSG_ALIGN(len) > sizeof(q->buf)) {
		q->full = true;
		return NULL;
	}
	memset(q->buf + at, 0, NLMSG_ALIGN(len));
	q->h->nlmsg_len = (uint32_t)(at + len);
	return q->buf + at;
}

void rtnl_begin(struct rtnl_req *q, uint16_t type, uint16_t flags, const void *head, size_t len)
{
	void *to;

	q->h = (struct nlmsghdr *)q->buf;
	q->full = false;
	*q->h = (struct nlmsghdr){ .nlmsg_len = NLMSG_HDRLEN,
				   .nlmsg_type = type,
				   .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags) };
	to = extend(q, len);
	if (to && len)
		memcpy(to, head, len);
}

struct rtattr *rtnl_put(struct rtnl_req *q, uint16_t type, const void *data, size_t len)
{
	struct rtattr *a = extend(q, RTA_LENGTH(len));

	if (!a)
		return NULL;
	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	return a;
}

void rtnl_put_text(struct rtnl_req *q, uint16_t type, const char *text)
{
	rtnl_put(q, type, text, strlen(text) + 1);
}

void rtnl_put_u32(struct rtnl_req *q, uint16_t type, uint32_t v)
{
	rtnl_put(q, type, &v, sizeof(v));
}

struct rtattr *rtnl_nest(struct rtnl_req *q, uint16_t type)
{
	return rtnl_put(q, type, NULL, 0);
}

void rtnl_nest_end(struct rtnl_req *q, struct rtattr *nest)
{
	if (!q->full)
		nest->rta_len = (uint16_t)(q->buf + q->h->nlmsg_len - (char *)nest);
}

void rtnl_attrs(const struct rtattr *a, size_t len, const struct rtattr **table, unsigned max)
{
	/* Signed: the last one may be shorter than what RTA_NEXT() takes off for it. */
	int left = len < INT_MAX ? (int)len : INT_MAX;

	memset(table, 0, (max + 1) * sizeof(*table));
	for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		unsigned type = a->rta_type & NLA_TYPE_MASK;

		if (type <= max)
			table[type] = a;
	}
}

struct nlmsghdr *rtnl_next(struct nlmsghdr *h, size_t *len)
{
	size_t step = NLMSG_ALIGN(h->nlmsg_len);

	*len -= step < *len ? step : *len;
	return (struct nlmsghdr *)((char *)h + step);
}

/* What the kernel says of an error, behind the request that it may have copied. */
static const char *explanation(const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = NLMSG_DATA(h);
	size_t at = sizeof(*e), len = h->nlmsg_len - NLMSG_HDRLEN;
	const struct rtattr *t[NLMSGERR_ATTR_MSG + 1];

	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		at += e->msg.nlmsg_len - NLMSG_HDRLEN;
	if (at > len)
		return NULL;
	rtnl_attrs((const struct rtattr *)((const char *)e + NLMSG_ALIGN(at)), len - NLMSG_ALIGN(at), t,
		   NLMSGERR_ATTR_MSG);
	if (!t[NLMSGERR_ATTR_MSG] ||
	    ((const char *)RTA_DATA(t[NLMSGERR_ATTR_MSG]))[RTA_PAYLOAD(t[NLMSGERR_ATTR_MSG]) - 1])
		return NULL;
	return RTA_DATA(t[NLMSGERR_ATTR_MSG]);
}

static int failed(const struct nlmsghdr *h, struct err *err)
{
	const struct nlmsgerr *e = NLMSG_DATA(h);
	const char *why = explanation(h);

	if (why)
		err_set(err, "%s (%s)", strerror(-e->error), why);
	else
		err_set(err, "%s", strerror(-e->error));
	return e->error;
}

static int transmit(struct rtnl *r, struct nlmsghdr *h, struct err *err)
{
	h->nlmsg_seq = ++r->seq;
	if (send(r->fd, h, h->nlmsg_len, 0) != (ssize_t)h->nlmsg_len)
		return err_errno(err, errno, "netlink"), -EIO;
	return 0;
}

int rtnl_do(struct rtnl *r, struct rtnl_req *q, struct err *err)
{
	_Alignas(8) char buf[8192];

	if (q->full)
		return err_set(err, "netlink: a request is too long"), -E2BIG;
	q->h->nlmsg_flags |= NLM_F_ACK;
	if (transmit(r, q->h, err))
		return -EIO;
	for (;;) {
		ssize_t n = recv(r->fd, buf, sizeof(buf), 0);
		size_t len = n < 0 ? 0 : (size_t)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "netlink"), -EIO;
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, len); h = rtnl_next(h, &len)) {
			if (h->nlmsg_seq != r->seq || h->nlmsg_type != NLMSG_ERROR)
				continue;
			return ((struct nlmsgerr *)NLMSG_DATA(h))->error ? failed(h, err) : 0;
		}
	}
}

/* --- dumps --- */

/* Whether all has been said: not where one message is longer than the kernel can say (32 KiB). */
static int ended(const struct nlmsghdr *h, struct err *err)
{
	int error = 0;

	if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(error)))
		memcpy(&error, NLMSG_DATA(h), sizeof(error));
	return error < 0 ? err_set(err, "netlink: %s", strerror(-error)), error : 0;
}

int rtnl_each(struct rtnl *r, struct rtnl_req *q, rtnl_fn *fn, void *opaque, struct err *err)
{
	char *buf = malloc(ANSWER);
	int rc = -ENOMEM;

	if (!buf || transmit(r, q->h, err))
		goto out;
	for (;;) {
		ssize_t n = recv(r->fd, buf, ANSWER, 0);
		size_t len = n < 0 ? 0 : (size_t)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			rc = err_errno(err, errno, "netlink");
			goto out;
		}
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, len); h = rtnl_next(h, &len)) {
			if (h->nlmsg_seq != r->seq)
				continue;
			rc = h->nlmsg_type == NLMSG_ERROR  ? failed(h, err)
			     : h->nlmsg_type == NLMSG_DONE ? ended(h, err)
							   : 0;
			if (h->nlmsg_type == NLMSG_DONE || rc)
				goto out;
			rc = fn(opaque, h) ? err_set(err, "out of memory") : 0;
			if (rc)
				goto out;
		}
	}
out:
	free(buf);
	return rc;
}

static void copy_text(const struct rtattr *a, char *to, size_t size)
{
	size_t n = a ? RTA_PAYLOAD(a) : 0;

	if (n >= size)
		n = size - 1;
	if (n)
		memcpy(to, RTA_DATA(a), n);
	to[n] = '\0';
}

static uint32_t u32_of(const struct rtattr *a)
{
	uint32_t v = 0;

	if (a && RTA_PAYLOAD(a) >= sizeof(v))
		memcpy(&v, RTA_DATA(a), sizeof(v));
	return v;
}

static int add_link(void *opaque, const struct nlmsghdr *h)
{
	struct rtnl_links *l = opaque;
	const struct ifinfomsg *i = NLMSG_DATA(h);
	const struct rtattr *t[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];
	struct rtnl_link *v;

	if (h->nlmsg_type != RTM_NEWLINK)
		return 0;
	if (!array_more(l->v, l->len))
		return -1;
	v = &l->v[l->len++];
	memset(v, 0, sizeof(*v));
	rtnl_attrs(IFLA_RTA(i), IFLA_PAYLOAD(h), t, IFLA_MAX);
	v->index = i->ifi_index;
	v->flags = i->ifi_flags;
	v->loopback = i->ifi_flags & IFF_LOOPBACK;
	v->ethernet = i->ifi_type == ARPHRD_ETHER;
	v->master = (int)u32_of(t[IFLA_MASTER]);
	v->mtu = u32_of(t[IFLA_MTU]);
	if (t[IFLA_ADDRESS] && RTA_PAYLOAD(t[IFLA_ADDRESS]) == 6)
		memcpy(v->mac, RTA_DATA(t[IFLA_ADDRESS]), 6);
	copy_text(t[IFLA_IFNAME], v->name, sizeof(v->name));
	copy_text(t[IFLA_IFALIAS], v->alias, sizeof(v->alias));
	if (t[IFLA_LINKINFO]) {
		rtnl_attrs(RTA_DATA(t[IFLA_LINKINFO]), RTA_PAYLOAD(t[IFLA_LINKINFO]), info, IFLA_INFO_MAX);
		copy_text(info[IFLA_INFO_KIND], v->kind, sizeof(v->kind));
		copy_text(info[IFLA_INFO_SLAVE_KIND], v->master_kind, sizeof(v->master_kind));
	}
	return 0;
}

int rtnl_links(struct rtnl *r, struct rtnl_links *l, struct err *err)
{
	struct rtnl_req q;
	int rc;

	*l = (struct rtnl_links){ 0 };
	rtnl_begin(&q, RTM_GETLINK, NLM_F_DUMP, &(struct ifinfomsg){ 0 }, sizeof(struct ifinfomsg));
	rc = rtnl_each(r, &q, add_link, l, err);
	if (rc)
		rtnl_links_free(l);
	return rc ? -1 : 0;
}

void rtnl_links_free(struct rtnl_links *l)
{
	free(l->v);
	*l = (struct rtnl_links){ 0 };
}

const struct rtnl_link *rtnl_find(const struct rtnl_links *l, const char *name)
{
	for (unsigned i = 0; i < l->len; i++)
		if (!strcmp(l->v[i].name, name))
			return &l->v[i];
	return NULL;
}

const struct rtnl_link *rtnl_find_index(const struct rtnl_links *l, int index)
{
	for (unsigned i = 0; i < l->len; i++)
		if (l->v[i].index == index)
			return &l->v[i];
	return NULL;
}

bool rtnl_parse(const struct nlmsghdr *h, size_t head, const struct rtattr **table, unsigned max)
{
	const size_t from = NLMSG_SPACE(head);

	if (h->nlmsg_len < NLMSG_LENGTH(head))
		return false;
	rtnl_attrs((const void *)((const char *)h + from), h->nlmsg_len > from ? h->nlmsg_len - from : 0, table, max);
	return true;
}

struct rtnexthop *rtnl_next_hop(const struct rtattr *ways, const struct rtnexthop *h)
{
	const size_t len = ways ? RTA_PAYLOAD(ways) : 0;
	const size_t at = h ? (size_t)((const char *)h - (char *)RTA_DATA(ways)) + RTNH_ALIGN(h->rtnh_len) : 0;
	struct rtnexthop *next;

	if (!range_within(at, sizeof(*next), len))
		return NULL;
	next = (void *)((char *)RTA_DATA(ways) + at);
	return next->rtnh_len >= sizeof(*next) && next->rtnh_len <= len - at ? next : NULL;
}

bool rtnl_next_way(const struct rtattr *const *route, struct rtnl_way *w)
{
	const struct rtattr *own[RTA_MAX + 1];

	w->hop = rtnl_next_hop(route[RTA_MULTIPATH], w->hop);
	if (w->hop)
		rtnl_attrs(RTNH_DATA(w->hop), w->hop->rtnh_len - sizeof(*w->hop), own, RTA_MAX);
	else if (w->begun)
		return false;
	w->begun = true;
	w->index = w->hop ? w->hop->rtnh_ifindex : (int)u32_of(route[RTA_OIF]);
	w->gateway = (w->hop ? own : route)[RTA_GATEWAY];
	w->via = (w->hop ? own : route)[RTA_VIA];
	return true;
}

static void begin(struct rtnl_req *q, const struct rtnl_ask *ask, uint8_t family)
{
	const struct ndmsg n = { .ndm_family = family, .ndm_flags = ask->proxies ? NTF_PROXY : 0 };
	const struct ifaddrmsg a = { .ifa_family = family, .ifa_index = (uint32_t)ask->index };
	const struct rtmsg route = { .rtm_family = family };

	if (ask->type == RTM_GETADDR)
		rtnl_begin(q, ask->type, NLM_F_DUMP, &a, sizeof(a));
	else if (ask->type == RTM_GETNEIGH)
		rtnl_begin(q, ask->type, NLM_F_DUMP, &n, sizeof(n));
	else
		rtnl_begin(q, ask->type, NLM_F_DUMP, &route, sizeof(route));
	if (ask->index && ask->type != RTM_GETADDR)
		rtnl_put_u32(q, ask->type == RTM_GETNEIGH ? NDA_IFINDEX : RTA_OIF, (uint32_t)ask->index);
}

int rtnl_each_of(struct rtnl *r, const struct rtnl_ask *ask, rtnl_fn *fn, void *opaque, struct err *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	struct rtnl_req q;
	int rc = 0;

	for (unsigned i = 0; i < ARRAY_LEN(families) && !rc; i++) {
		begin(&q, ask, families[i]);
		rc = rtnl_each(r, &q, fn, opaque, err);
		/* An interface that has gone has nothing. */
		if (rc == -ENODEV && ask->index)
			rc = 0;
	}
	return rc ? -1 : 0;
}

static int add_message(void *opaque, const struct nlmsghdr *h)
{
	struct rtnl_messages *m = opaque;
	size_t len = h->nlmsg_len - NLMSG_HDRLEN;

	if (len > RTNL_MESSAGE)
		return 0;
	if (!array_more(m->v, m->len))
		return -1;
	m->v[m->len].len = (uint16_t)len;
	memcpy(m->v[m->len++].data, NLMSG_DATA(h), len);
	return 0;
}

int rtnl_dump(struct rtnl *r, uint16_t type, struct rtnl_messages *m, struct err *err)
{
	int rc;

	*m = (struct rtnl_messages){ 0 };
	rc = rtnl_each_of(r, &(struct rtnl_ask){ .type = type }, add_message, m, err);
	if (rc)
		rtnl_messages_free(m);
	return rc;
}

void rtnl_messages_free(struct rtnl_messages *m)
{
	free(m->v);
	*m = (struct rtnl_messages){ 0 };
}

/* --- links --- */

static void put_new(struct rtnl_req *q, const struct rtnl_new *n)
{
	rtnl_put_text(q, IFLA_IFNAME, n->name);
	if (n->mac)
		rtnl_put(q, IFLA_ADDRESS, n->mac, 6);
	if (n->mtu)
		rtnl_put_u32(q, IFLA_MTU, n->mtu);
}

int rtnl_add_bridge(struct rtnl *r, const struct rtnl_new *n, struct err *err)
{
	struct rtnl_req q;
	struct rtattr *info, *data;
	const uint8_t off = 0;

	rtnl_begin(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &(struct ifinfomsg){ 0 }, sizeof(struct ifinfomsg));
	put_new(&q, n);
	info = rtnl_nest(&q, IFLA_LINKINFO);
	rtnl_put_text(&q, IFLA_INFO_KIND, "bridge");
	data = rtnl_nest(&q, IFLA_INFO_DATA);
	/* Nobody asks for groups in such a network, so that all that is sent to one must reach everybody. */
	rtnl_put(&q, IFLA_BR_MCAST_SNOOPING, &off, sizeof(off));
	rtnl_put_u32(&q, IFLA_BR_STP_STATE, 0);
	rtnl_nest_end(&q, data);
	rtnl_nest_end(&q, info);
	return rtnl_do(r, &q, err);
}

int rtnl_add_veth(struct rtnl *r, const struct rtnl_new *n, const struct rtnl_new *peer, pid_t pid, struct err *err)
{
	struct rtnl_req q;
	struct rtattr *info, *data, *other;
	void *head;

	rtnl_begin(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &(struct ifinfomsg){ 0 }, sizeof(struct ifinfomsg));
	put_new(&q, n);
	info = rtnl_nest(&q, IFLA_LINKINFO);
	rtnl_put_text(&q, IFLA_INFO_KIND, "veth");
	data = rtnl_nest(&q, IFLA_INFO_DATA);
	other = rtnl_nest(&q, VETH_INFO_PEER);
	head = extend(&q, sizeof(struct ifinfomsg));
	if (!head)
		return err_set(err, "netlink: a request is too long"), -E2BIG;
	put_new(&q, peer);
	rtnl_put_u32(&q, IFLA_NET_NS_PID, (uint32_t)pid);
	rtnl_nest_end(&q, other);
	rtnl_nest_end(&q, data);
	rtnl_nest_end(&q, info);
	return rtnl_do(r, &q, err);
}

int rtnl_del_link(struct rtnl *r, int index, struct err *err)
{
	struct rtnl_req q;

	rtnl_begin(&q, RTM_DELLINK, 0, &(struct ifinfomsg){ .ifi_index = index }, sizeof(struct ifinfomsg));
	return rtnl_do(r, &q, err);
}

/* A request to change a link. */
static void change(struct rtnl_req *q, int index, unsigned flags, unsigned which)
{
	rtnl_begin(q, RTM_NEWLINK, 0,
		   &(struct ifinfomsg){ .ifi_index = index, .ifi_flags = flags, .ifi_change = which },
		   sizeof(struct ifinfomsg));
}

int rtnl_del_links(struct rtnl *r, const int *index, unsigned n, struct err *err)
{
	struct rtnl_req q;
	uint32_t group;
	int rc = 0;

	if (n < 2 || !entropy_get(&group, sizeof(group)))
		group = 0;
	for (unsigned i = 0; i < n && group && !rc; i++) {
		change(&q, index[i], 0, 0);
		rtnl_put_u32(&q, IFLA_GROUP, group);
		rc = rtnl_do(r, &q, err);
	}
	if (group && !rc) {
		rtnl_begin(&q, RTM_DELLINK, 0, &(struct ifinfomsg){ 0 }, sizeof(struct ifinfomsg));
		rtnl_put_u32(&q, IFLA_GROUP, group);
		if (!rtnl_do(r, &q, err))
			return 0;
	}
	/* One by one; what has gone meanwhile is what was wanted. */
	rc = 0;
	for (unsigned i = 0; i < n; i++) {
		struct err why;
		int e = rtnl_del_link(r, index[i], &why);

		if (e && e != -ENODEV && !rc) {
			rc = e;
			*err = why;
		}
	}
	return rc;
}

int rtnl_set_up(struct rtnl *r, int index, bool up, struct err *err)
{
	struct rtnl_req q;

	change(&q, index, up ? IFF_UP : 0, IFF_UP);
	return rtnl_do(r, &q, err);
}

int rtnl_set_master(struct rtnl *r, int index, int master, struct err *err)
{
	struct rtnl_req q;

	change(&q, index, 0, 0);
	rtnl_put_u32(&q, IFLA_MASTER, (uint32_t)master);
	return rtnl_do(r, &q, err);
}

int rtnl_set_hairpin(struct rtnl *r, int index, bool on, struct err *err)
{
	const uint8_t mode = on;
	struct rtattr *info;
	struct rtnl_req q;

	rtnl_begin(&q, RTM_SETLINK, 0, &(struct ifinfomsg){ .ifi_family = AF_BRIDGE, .ifi_index = index },
		   sizeof(struct ifinfomsg));
	info = rtnl_nest(&q, IFLA_PROTINFO | NLA_F_NESTED);
	rtnl_put(&q, IFLA_BRPORT_MODE, &mode, sizeof(mode));
	rtnl_nest_end(&q, info);
	return rtnl_do(r, &q, err);
}

int rtnl_set_alias(struct rtnl *r, int index, const char *alias, struct err *err)
{
	struct rtnl_req q;

	change(&q, index, 0, 0);
	rtnl_put(&q, IFLA_IFALIAS, alias, strlen(alias));
	return rtnl_do(r, &q, err);
}

int rtnl_set_mac(struct rtnl *r, int index, const uint8_t mac[6], struct err *err)
{
	struct rtnl_req q;

	change(&q, index, 0, 0);
	rtnl_put(&q, IFLA_ADDRESS, mac, 6);
	return rtnl_do(r, &q, err);
}

int rtnl_set_mtu(struct rtnl *r, int index, unsigned mtu, struct err *err)
{
	struct rtnl_req q;

	change(&q, index, 0, 0);
	rtnl_put_u32(&q, IFLA_MTU, mtu);
	return rtnl_do(r, &q, err);
}

/* --- addresses --- */

int rtnl_add_addr(struct rtnl *r, int index, int family, const void *addr, unsigned prefix, struct err *err)
{
	const size_t len = family == AF_INET ? 4 : 16;
	const struct ifaddrmsg a = { .ifa_family = (uint8_t)family,
				     .ifa_prefixlen = (uint8_t)prefix,
				     .ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0,
				     .ifa_index = (uint32_t)index };
	struct rtnl_req q;
	int rc;

	rtnl_begin(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &a, sizeof(a));
	rtnl_put(&q, IFA_LOCAL, addr, len);
	rtnl_put(&q, IFA_ADDRESS, addr, len);
	if (family == AF_INET && prefix < 31) {
		uint32_t all = ld_be32(addr) | (prefix ? ~(~0u << (32 - prefix)) : ~0u);
		uint8_t broadcast[4];

		st_be32(broadcast, all);
		rtnl_put(&q, IFA_BROADCAST, broadcast, sizeof(broadcast));
	}
	rc = rtnl_do(r, &q, err);
	return rc == -EEXIST ? 0 : rc;
}

/* --- counters --- */

struct wanted {
	const char *name;
	uint64_t *v;
	bool found;
};

static int read_stats(void *opaque, const struct nlmsghdr *h)
{
	struct wanted *w = opaque;
	const struct ifinfomsg *i = NLMSG_DATA(h);
	const struct rtattr *t[IFLA_MAX + 1];
	char name[IFNAMSIZ];

	rtnl_attrs(IFLA_RTA(i), IFLA_PAYLOAD(h), t, IFLA_MAX);
	copy_text(t[IFLA_IFNAME], name, sizeof(name));
	if (strcmp(name, w->name) || !t[IFLA_STATS64] || RTA_PAYLOAD(t[IFLA_STATS64]) < 8 * sizeof(*w->v))
		return 0;
	memcpy(w->v, RTA_DATA(t[IFLA_STATS64]), 8 * sizeof(*w->v));
	w->found = true;
	return 0;
}

int rtnl_link_stats(struct rtnl *r, const char *name, uint64_t v[8])
{
	struct wanted w = { name, v, false };
	struct rtnl_req q;
	struct err ignored;

	rtnl_begin(&q, RTM_GETLINK, NLM_F_DUMP, &(struct ifinfomsg){ 0 }, sizeof(struct ifinfomsg));
	return rtnl_each(r, &q, read_stats, &w, &ignored) || !w.found ? -1 : 0;
}
