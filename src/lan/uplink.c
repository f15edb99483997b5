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
	else if (k->master && !(master && lan_is_ours(&l->store, master, d->name)))
		rc = err_set(err, "bridged: %s is part of another interface already; name that one if it is a bridge",
			     d->uplink);
	rtnl_links_free(&links);
	return rc;
}

/* --- what is moved --- */

static int out_of(const struct rtattr *a)
{
	int index = 0;

	if (a && RTA_PAYLOAD(a) == sizeof(index))
		memcpy(&index, RTA_DATA(a), sizeof(index));
	return index;
}

/* Global addresses; routes that somebody has set. What the kernel makes of these it makes again. */
static bool is_address(const struct rtnl_message *m, int index)
{
	const struct ifaddrmsg *a = (const void *)m->data;

	return m->len >= sizeof(*a) && (int)a->ifa_index == index && a->ifa_scope < RT_SCOPE_LINK;
}

static bool is_route(const struct rtnl_message *m, int index)
{
	const struct rtmsg *r = (const void *)m->data;
	const struct rtattr *t[RTA_MAX + 1];

	if (m->len < sizeof(*r) || r->rtm_type != RTN_UNICAST || r->rtm_protocol == RTPROT_KERNEL ||
	    r->rtm_protocol == RTPROT_RA)
		return false;
	rtnl_attrs(RTM_RTA(r), m->len - NLMSG_ALIGN(sizeof(*r)), t, RTA_MAX);
	return out_of(t[RTA_OIF]) == index;
}

/* The message again, for another interface, without what only the kernel says. */
static void for_other(struct rtnl_req *q, const struct rtnl_message *m, uint16_t type, int index)
{
	bool address = type == RTM_NEWADDR;
	size_t head = address ? sizeof(struct ifaddrmsg) : sizeof(struct rtmsg);
	const struct rtattr *t[64];

	rtnl_begin(q, type, NLM_F_CREATE | (address ? NLM_F_REPLACE : NLM_F_EXCL), m->data, head);
	rtnl_attrs((const void *)(m->data + NLMSG_ALIGN(head)), m->len - NLMSG_ALIGN(head), t, ARRAY_LEN(t) - 1);
	if (address) {
		struct ifaddrmsg *a = NLMSG_DATA(q->h);

		a->ifa_index = (uint32_t)index;
		a->ifa_flags = a->ifa_family == AF_INET6 ? IFA_F_NODAD : 0;
		t[IFA_LABEL] = t[IFA_FLAGS] = NULL;
	} else {
		((struct rtmsg *)NLMSG_DATA(q->h))->rtm_flags = 0;
		t[RTA_OIF] = t[RTA_CACHEINFO] = t[RTA_PREF] = NULL;
	}
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		if (t[i])
			rtnl_put(q, (uint16_t)i, RTA_DATA(t[i]), RTA_PAYLOAD(t[i]));
	if (!address)
		rtnl_put_u32(q, RTA_OIF, (uint32_t)index);
}

static int repeat(struct lan *l, const struct rtnl_message *m, uint16_t type, int index, struct err *err)
{
	struct rtnl_req q;
	int rc;

	for_other(&q, m, type, index);
	rc = rtnl_do(&l->nl, &q, err);
	return rc == -EEXIST ? 0 : rc;
}

static int del_address(struct lan *l, const struct rtnl_message *m, struct err *err)
{
	struct rtnl_req q;
	int rc;

	rtnl_begin(&q, RTM_DELADDR, 0, m->data, m->len);
	rc = rtnl_do(&l->nl, &q, err);
	return rc == -EADDRNOTAVAIL ? 0 : rc;
}

/* Each address is at one of both interfaces at any time; a route by way of another one comes behind that. */
static int move(struct lan *l, int from, int to, const struct rtnl_messages m[2], struct err *err)
{
	struct err last;
	int rc = 0;

	for (unsigned i = 0; i < m[0].len && !rc; i++)
		rc = repeat(l, &m[0].v[i], RTM_NEWADDR, to, err);
	for (unsigned i = 0; i < m[0].len && !rc && from; i++)
		if (is_address(&m[0].v[i], from))
			rc = del_address(l, &m[0].v[i], err);
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < m[1].len && !rc; i++)
			if (repeat(l, &m[1].v[i], RTM_NEWROUTE, to, &last) && pass)
				rc = err_set(err, "a route cannot be moved: %s", last.msg);
	return rc;
}

static int find(struct lan *l, int index, struct rtnl_messages m[2], struct err *err)
{
	memset(m, 0, 2 * sizeof(*m));
	if (rtnl_dump(&l->nl, RTM_GETADDR, &m[0], err))
		return -1;
	if (rtnl_dump(&l->nl, RTM_GETROUTE, &m[1], err)) {
		rtnl_messages_free(&m[0]);
		return -1;
	}
	for (unsigned k = 0; k < 2; k++) {
		unsigned kept = 0;

		for (unsigned i = 0; i < m[k].len; i++)
			if ((k ? is_route : is_address)(&m[k].v[i], index))
				m[k].v[kept++] = m[k].v[i];
		m[k].len = kept;
	}
	return 0;
}

static void forget(struct rtnl_messages m[2])
{
	rtnl_messages_free(&m[0]);
	rtnl_messages_free(&m[1]);
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

int lan_uplink_take(struct lan *l, struct lan_run *r, struct err *err)
{
	const int index = (int)if_nametoindex(r->def.uplink), bridge = (int)if_nametoindex(r->bridge);
	const struct rtnl_link *k;
	struct rtnl_links links;
	struct rtnl_messages m[2];
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
	rtnl_links_free(&links);
	if (rc)
		return err_prefix(err, "bridged: %s", r->def.uplink);
	if (!r->uplink)
		r->uplink = json_pack("{s:s, s:o, s:o}", "name", r->def.uplink, "addresses", to_json(&m[0]), "routes",
				      to_json(&m[1]));
	rc = lan_run_save(l, r, err) || rtnl_set_master(&l->nl, index, bridge, err) ||
	     rtnl_set_up(&l->nl, index, true, err) || move(l, index, bridge, m, err);
	forget(m);
	return rc ? err_prefix(err, "bridged: %s", r->def.uplink) : 0;
}

/* What the bridge has by now, and what is written where somebody was killed between both. */
int lan_uplink_give_back(struct lan *l, const struct lan_run *r, struct err *err)
{
	const char *name = json_string_value(json_object_get(r->uplink, "name"));
	const int index = name ? (int)if_nametoindex(name) : 0, bridge = (int)if_nametoindex(r->bridge);
	struct rtnl_messages m[2], written[2];
	struct err ignored;
	int rc = 0;

	/* Pulled out of the host; or never in the bridge, or out of it again. */
	if (!index)
		return 0;
	if (bridge && find(l, bridge, m, err))
		return -1;
	if (!bridge)
		memset(m, 0, sizeof(m));
	rc = rtnl_set_master(&l->nl, index, 0, err);
	if (!rc)
		rc = move(l, bridge, index, m, err);
	from_json(&written[0], json_object_get(r->uplink, "addresses"));
	from_json(&written[1], json_object_get(r->uplink, "routes"));
	/* A lease that has changed since is the bridge's, not the old one. */
	if (!m[0].len)
		move(l, 0, index, written, &ignored);
	else
		move(l, 0, index, (struct rtnl_messages[2]){ { 0 }, written[1] }, &ignored);
	forget(written);
	forget(m);
	return rc ? err_prefix(err, "bridged: %s", name) : 0;
}
