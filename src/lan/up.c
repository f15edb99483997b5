/* A network taken up and down on its host: see lan_impl.h. */
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "lan/lan_impl.h"
#include "lan/serve/ra.h"

#define REMOVALS 8 /* of filters, while others remove some of them */

/* --- filters --- */

/* The bridges of the networks that may talk with this one: whichever of both says so. */
static unsigned find_peers(struct lan *l, const struct lan_def *d, char (*peers)[IFNAMSIZ], unsigned most)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	struct lan_names running = { 0 };
	struct err ignored;
	unsigned len = 0;

	if (!r || lan_store_running(&l->store, &running, &ignored)) {
		free(r);
		return 0;
	}
	for (unsigned n = 0; n < running.len && len < most; n++) {
		if (!strcmp(running.v[n], d->name) || lan_run_load(l, running.v[n], r))
			continue;
		if ((lan_def_names(d, running.v[n]) || lan_def_names(&r->def, d->name)) && lan_has_gateway(&r->def))
			memcpy(peers[len++], r->bridge, IFNAMSIZ);
		lan_run_free(r);
	}
	lan_names_free(&running);
	free(r);
	return len;
}

static int load_rules(struct lan *l, const struct lan_run *r, bool check, struct err *err)
{
	char peers[64][IFNAMSIZ], *text = NULL;
	struct lan_rules rules = { .def = &r->def,
				   .bridge = r->bridge,
				   .ports = &r->ports,
				   .peers = peers,
				   .peers_len = find_peers(l, &r->def, peers, 64),
				   .nf = check ? NULL : &l->nf,
				   .nl = &l->nl };
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int rc;

	if (!f)
		return err_set(err, "out of memory");
	rc = lan_rules_check(&l->nf, r->def.name, err) || lan_find_reserved(l, r, &rules.reserved, err) ? -1 : 0;
	if (!rc)
		lan_rules_write(f, &rules, !check);
	if (fclose(f) && !rc)
		rc = err_set(err, "out of memory");
	if (!rc)
		rc = nft_run(text, check, err);
	lan_reserved_free(&rules.reserved);
	free(text);
	return rc;
}

/* The sum over a network's filters when they were loaded. */
#define FILTERS "filters"

static void keep_sum(void *opaque, const char *table, uint64_t sum)
{
	*(uint64_t *)opaque = sum;
}

bool lan_has_rules(struct lan *l, const char *name, uint64_t sum)
{
	char path[2 * LAN_PATH], text[24] = "";
	uint64_t loaded;
	FILE *f;
	bool same;

	lan_run_path(&l->store, name, FILTERS, path, sizeof(path));
	f = fopen(path, "re");
	same = f && fgets(text, sizeof(text), f) && sscanf(text, "%" SCNx64, &loaded) == 1 && loaded == sum;
	if (f)
		fclose(f);
	return same;
}

int lan_load_rules(struct lan *l, const struct lan_run *r, struct err *err)
{
	char path[2 * LAN_PATH], table[NFNL_NAME], text[24];
	struct err ignored;
	json_t *drops = lan_drops(l, r);
	uint64_t sum = 0;
	int rc = load_rules(l, r, false, err);

	if (!rc)
		lan_drops_keep(l, r->def.name, drops);
	json_decref(drops);
	if (rc)
		return -1;
	/* Where it cannot be seen or written down they are loaded once more than is needed. */
	snprintf(table, sizeof(table), LAN_TABLE "%s", r->def.name);
	lan_run_path(&l->store, r->def.name, FILTERS, path, sizeof(path));
	if (!nfnl_sums(&l->nf, table, keep_sum, &sum, &ignored)) {
		snprintf(text, sizeof(text), "%016" PRIx64 "\n", sum);
		lan_write_file(path, text, false, &ignored);
	}
	return 0;
}

/* Those whose filters know of this network; without `d` all. */
static void load_others(struct lan *l, const char *name, const struct lan_def *d)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	struct lan_names running = { 0 };
	struct err ignored;

	if (r && !lan_store_running(&l->store, &running, &ignored)) {
		for (unsigned n = 0; n < running.len; n++) {
			if (!strcmp(running.v[n], name) || lan_run_load(l, running.v[n], r))
				continue;
			if (!d || lan_def_names(d, running.v[n]) || lan_def_names(&r->def, name))
				lan_load_rules(l, r, &ignored);
			lan_run_free(r);
		}
	}
	lan_names_free(&running);
	free(r);
}

void lan_load_others(struct lan *l, const char *name)
{
	load_others(l, name, NULL);
}

/* --- cables --- */

static bool find_link(struct lan *l, const char *name, struct rtnl_link *found)
{
	const struct rtnl_link *k;
	struct rtnl_links links;
	struct err ignored;

	if (rtnl_links(&l->nl, &links, &ignored))
		return false;
	k = rtnl_find(&links, name);
	if (k)
		*found = *k;
	rtnl_links_free(&links);
	return k;
}

/* As it comes in a bridged network is what its interface has: a bridge has the least that any of its ports has. */
unsigned lan_mtu(struct lan *l, const struct lan_def *d)
{
	struct rtnl_link k;

	if (d->mtu)
		return d->mtu;
	return d->model == LAN_BRIDGED && find_link(l, d->uplink, &k) ? k.mtu : ETH_DATA_LEN;
}

/* The interface of a cable: by its number, and by its mark or, if somebody has replaced that, in the bridge. */
static const struct rtnl_link *find_cable(struct lan *l, const struct lan_run *r, const struct lan_port *p,
					  const struct rtnl_links *links)
{
	const struct rtnl_link *k = p->index ? rtnl_find_index(links, p->index) : rtnl_find(links, p->tap);
	const struct rtnl_link *bridge = rtnl_find(links, r->bridge);
	char mark[RTNL_ALIAS];

	lan_cable_mark(&l->store, r->def.name, p->mac, mark);
	return k && lan_ifname_ok(k->name) &&
			       (lan_has_mark(k, mark) || (bridge && k->master == bridge->index && !lan_is_marked(k)))
		       ? k
		       : NULL;
}

int lan_prune_ports(struct lan *l, struct lan_run *r, const struct rtnl_links *links)
{
	int changed = 0;

	for (unsigned i = 0; i < r->ports.len; i++) {
		struct lan_port *p = &r->ports.v[i];
		const struct rtnl_link *k = *p->tap ? find_cable(l, r, p, links) : NULL;

		p->index = k ? k->index : 0;
		if (strcmp(p->tap, k ? k->name : "")) {
			snprintf(p->tap, sizeof(p->tap), "%s", k ? k->name : "");
			changed++;
		}
	}
	return changed;
}

/*
 * A machine that asks for a published port of its own: where bridged frames pass the host's filters (br_netfilter) they
 * come back by the port that they came from, which must not be refused.
 */
static int set_hairpin(struct lan *l, const struct lan_run *r, int index, struct err *err)
{
	return lan_has_gateway(&r->def) ? rtnl_set_hairpin(&l->nl, index, r->def.publish_len > 0, err) : 0;
}

int lan_plug_cables(struct lan *l, const struct lan_run *r, struct err *err)
{
	const int bridge = (int)if_nametoindex(r->bridge);
	const unsigned mtu = lan_mtu(l, &r->def);
	struct rtnl_links links;
	int rc = 0;

	if (rtnl_links(&l->nl, &links, err))
		return -1;
	for (unsigned i = 0; i < r->ports.len && !rc; i++) {
		const struct rtnl_link *k = *r->ports.v[i].tap ? rtnl_find(&links, r->ports.v[i].tap) : NULL;

		if (k && ((k->mtu != mtu && rtnl_set_mtu(&l->nl, k->index, mtu, err)) ||
			  (k->master != bridge && rtnl_set_master(&l->nl, k->index, bridge, err)) ||
			  set_hairpin(l, r, k->index, err) ||
			  (!(k->flags & IFF_UP) && rtnl_set_up(&l->nl, k->index, true, err))))
			rc = if_nametoindex(k->name) ? -1 : 0; /* or its machine has ended */
	}
	rtnl_links_free(&links);
	return rc;
}

/* --- up --- */

/*
 * The bridge's switches, before it is up: it takes no address by itself but the link-local one that follows from its
 * MAC, believes no router, does not wait until nobody says that its address is taken (filters see to that), and
 * forwards, whatever new interfaces do. In the place of an interface it does what that did.
 */
static int set_switches(const struct lan_run *r, const struct rtnl_link *bridge, struct err *err)
{
	const bool inner = lan_has_gateway(&r->def), four = inner && r->def.net4.len, six = inner && r->def.net6.len;
	const struct {
		unsigned version;
		const char *name, *value;
	} values[] = { { 6, "accept_ra", "0" },
		       { 6, "autoconf", "0" },
		       { 6, "accept_dad", "0" },
		       { 6, "addr_gen_mode", "0" },
		       { 6, "disable_ipv6", six ? "0" : "1" },
		       { 6, "forwarding", six ? "1" : "0" },
		       { 4, "forwarding", four ? "1" : "0" } };
	char path[64], now[8];

	if (r->def.model == LAN_BRIDGED)
		return bridge->flags & IFF_UP ? 0 : lan_switches_copy(r->def.uplink, r->bridge, err);
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		snprintf(path, sizeof(path), "ipv%u/conf/%s/%s", values[i].version, r->bridge, values[i].name);
		/* A host without IPv6 has none of its switches. */
		if (!lan_sysctl_get(path, now, sizeof(now)) && !(values[i].version == 6 ? six : four))
			continue;
		if (lan_sysctl_set(path, values[i].value, err))
			return -1;
	}
	return 0;
}

int lan_mark_bridge(struct lan *l, const struct lan_run *r, int index, struct err *err)
{
	char alias[RTNL_ALIAS];

	lan_mark(&l->store, r->def.name, alias);
	if (r->def.model == LAN_BRIDGED) {
		strcat(alias, LAN_MARK_UPLINK);
		strcat(alias, r->def.uplink);
	}
	return rtnl_set_alias(&l->nl, index, alias, err);
}

static int make_bridge(struct lan *l, struct lan_run *r, struct err *err)
{
	const unsigned mtu = lan_mtu(l, &r->def);
	struct rtnl_link k;
	uint8_t mac[6];
	bool follows;

	lan_bridge_mac(r->def.name, mac);
	if (!if_nametoindex(r->bridge) &&
	    rtnl_add_bridge(&l->nl, &(struct rtnl_new){ .name = r->bridge, .mac = mac, .mtu = r->def.mtu }, err))
		return err_prefix(err, "bridge %s", r->bridge);
	if (!find_link(l, r->bridge, &k))
		return err_set(err, "bridge %s: it is gone", r->bridge);
	/* Once it is set it follows no interface any more. */
	follows = r->def.model == LAN_BRIDGED && !r->def.mtu && k.mtu == mtu;
	if (lan_mark_bridge(l, r, k.index, err) || (!follows && rtnl_set_mtu(&l->nl, k.index, mtu, err)))
		return err_prefix(err, "bridge %s", r->bridge);
	return set_switches(r, &k, err);
}

struct unwanted {
	const struct lan_def *d;
	int index;
	bool found;
	struct rtnl_req del;
};

static int see_address(void *opaque, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *a = NLMSG_DATA(h);
	const struct rtattr *t[IFA_MAX + 1];
	struct unwanted *u = opaque;
	uint32_t v4;

	if (!rtnl_parse(h, sizeof(*a), t, IFA_MAX) || (int)a->ifa_index != u->index || a->ifa_scope == RT_SCOPE_LINK ||
	    !t[IFA_ADDRESS])
		return 0;
	v4 = a->ifa_family == AF_INET ? ld_be32(RTA_DATA(t[IFA_ADDRESS])) : 0;
	if (a->ifa_family == AF_INET ? u->d->net4.len == a->ifa_prefixlen && v4 == lan_gateway4(u->d)
				     : u->d->net6.len && lan_in6(&u->d->net6, RTA_DATA(t[IFA_ADDRESS])))
		return 0;
	u->found = true;
	rtnl_begin(&u->del, RTM_DELADDR, 0, a, h->nlmsg_len - NLMSG_HDRLEN);
	return 0;
}

/* What was edited away goes, too: one after the other, as others may go with it. */
static int drop_addresses(struct lan *l, const struct lan_run *r, int index, struct err *err)
{
	struct unwanted u = { .d = &r->def, .index = index };
	int rc;

	do {
		u.found = false;
		rc = rtnl_each_of(&l->nl, &(struct rtnl_ask){ RTM_GETADDR, .index = index }, see_address, &u, err);
		if (!rc && u.found)
			rc = rtnl_do(&l->nl, &u.del, err);
	} while (!rc && u.found);
	return rc;
}

static int give_addresses(struct lan *l, const struct lan_run *r, struct err *err)
{
	const struct lan_def *d = &r->def;
	const int index = (int)if_nametoindex(r->bridge);
	const struct in6_addr six = lan_host6(&d->net6.addr, 1);
	uint8_t four[4];

	st_be32(four, lan_gateway4(d));
	if (d->model != LAN_BRIDGED && drop_addresses(l, r, index, err))
		return -1;
	if (lan_has_gateway(d) && d->net4.len && rtnl_add_addr(&l->nl, index, AF_INET, four, d->net4.len, err))
		return err_prefix(err, "bridge %s", r->bridge);
	if (lan_has_gateway(d) && d->net6.len && rtnl_add_addr(&l->nl, index, AF_INET6, &six, d->net6.len, err))
		return err_prefix(err, "bridge %s", r->bridge);
	return rtnl_set_up(&l->nl, index, true, err) ? err_prefix(err, "bridge %s", r->bridge) : 0;
}

/* Nothing has been changed yet. */
static int check_host(struct lan *l, struct lan_run *r, struct err *err)
{
	const struct rtnl_link *k;
	struct rtnl_links links;
	char server[IFNAMSIZ];
	bool joined = false;
	int rc = 0;

	if (lan_not_others(l, r->def.name, err))
		return -1;
	if (r->def.model == LAN_BRIDGED && lan_uplink_check(l, &r->def, &joined, err))
		return -1;
	r->made = !joined;
	if (joined)
		snprintf(r->bridge, sizeof(r->bridge), "%s", r->def.uplink);
	else
		lan_bridge_name(&r->def, r->bridge);
	if (rtnl_links(&l->nl, &links, err))
		return -1;
	k = rtnl_find(&links, r->bridge);
	if (!joined && k && !lan_is_ours(&l->store, k, r->def.name))
		rc = err_set(err,
			     "bridge: the name %s is taken by an interface that is not this network's (--bridge says "
			     "another)",
			     r->bridge);
	lan_server_name(&r->def, server);
	k = rtnl_find(&links, server);
	if (!rc && k && lan_has_server(&r->def) && !lan_is_ours(&l->store, k, r->def.name))
		rc = err_set(err, "the name %s is taken by an interface that is not this network's", server);
	rtnl_links_free(&links);
	return rc || load_rules(l, r, true, err) ? -1 : 0;
}

/* Cables that are there although nothing is written of them any more. */
static int adopt(struct lan *l, struct lan_run *r, struct err *err)
{
	struct rtnl_links links;
	char begin[RTNL_ALIAS], text[LAN_TEXTMAC];
	int rc = 0;

	if (rtnl_links(&l->nl, &links, err))
		return -1;
	lan_prune_ports(l, r, &links);
	lan_mark(&l->store, r->def.name, begin);
	strcat(begin, ":");
	for (unsigned i = 0; i < links.len && !rc; i++) {
		const struct rtnl_link *k = &links.v[i];
		const char *rest = k->alias + strlen(begin);
		struct lan_port *p;
		uint8_t mac[6];

		if (strncmp(k->alias, begin, strlen(begin)))
			continue;
		snprintf(text, sizeof(text), "%s", rest);
		rest += strlen(text);
		if (!lan_ifname_ok(k->name) || !lan_parse_mac(text, mac))
			continue;
		p = lan_port_add(r, mac, k->name, *rest == ':' ? rest + 1 : "", err);
		if (p)
			p->index = k->index;
		else
			rc = -1;
	}
	rtnl_links_free(&links);
	return rc;
}

static int take_up(struct lan *l, struct lan_run *r, const struct lan_run *now, struct err *err)
{
	/* Filters come before the cables. */
	if ((r->made && make_bridge(l, r, err)) || lan_load_rules(l, r, err) ||
	    (r->made && give_addresses(l, r, err)) || lan_plug_cables(l, r, err) ||
	    (lan_has_gateway(&r->def) && lan_forwarding_on(&l->nl, &l->nf, &l->store, &r->def, err)) ||
	    (r->def.model == LAN_BRIDGED && r->made && lan_uplink_take(l, r, err)) || lan_server_start(l, r, now, err))
		return -1;
	r->up = true;
	*r->why = '\0';
	return lan_run_save(l, r, err);
}

/* Whether what there is of a network cannot become the other, but must go for it. Filters alone make nat of routed. */
static bool is_other(const struct lan_run *a, const struct lan_run *b)
{
	const bool filters = lan_has_gateway(&a->def) && lan_has_gateway(&b->def);

	return (a->def.model != b->def.model && !filters) || a->made != b->made || strcmp(a->bridge, b->bridge) ||
	       strcmp(a->def.uplink, b->def.uplink);
}

/* What a machine that has a cable would not know of, or NULL. */
static const char *is_lost(const struct lan_run *now, const struct lan_run *r, bool narrow)
{
	if (is_other(now, r))
		return "would be cut off for a moment";
	if (narrow)
		return "would go on sending packets that are too large";
	/* Each has its own address. */
	if (now->def.dns != LAN_DNS_OFF && now->def.dns != r->def.dns)
		return "would go on asking a name server that is no more";
	return NULL;
}

static int check_machines(struct lan *l, struct lan_run *r, const struct lan_run *now, bool force, struct err *err)
{
	const unsigned had = lan_mtu(l, &now->def), has = lan_mtu(l, &r->def);

	for (unsigned i = 0; now->known && !force && i < r->ports.len; i++) {
		const struct lan_port *p = &r->ports.v[i];
		const char *lost = is_lost(now, r, has < had && (!p->mtu || has < p->mtu));

		if (*p->tap && lost)
			return err_set(err, "network %s: machine %s has a cable in it, and %s (--force)", r->def.name,
				       lan_port_name(p), lost);
	}
	return lan_ports_fit(r, force, err) ? err_prefix(err, "network %s", r->def.name) : 0;
}

/* What machines believe of before is said to be no more, as long as they may. */
static void keep_old6(struct lan_run *r, const struct lan_run *now)
{
	const bool moved = now->known && now->def.net6.len &&
			   (!r->def.net6.len || memcmp(&now->def.net6.addr, &r->def.net6.addr, 16));
	const time_t t = time(NULL);

	r->old6_len = 0;
	if (moved)
		r->old6[r->old6_len++] = (struct lan_old6){ lan_host6(&now->def.net6.addr, 2), t + RA_OLD_S };
	for (unsigned i = 0; i < now->old6_len && r->old6_len < LAN_OLD6_MAX; i++)
		if (now->old6[i].until > t && !(r->def.net6.len && lan_in6(&r->def.net6, &now->old6[i].addr6)) &&
		    !(moved && lan_in6(&now->def.net6, &now->old6[i].addr6)))
			r->old6[r->old6_len++] = now->old6[i];
}

/* From what `now` is. Written down first, so that whoever comes next knows what may be there. */
static int become(struct lan *l, struct lan_run *r, const struct lan_run *now, struct err *err)
{
	if (now->known && is_other(now, r)) {
		if (lan_down(l, r->def.name, err))
			return -1;
		json_decref(r->uplink);
		r->uplink = NULL;
	}
	keep_old6(r, now);
	r->up = false;
	return lan_run_save(l, r, err) || take_up(l, r, now, err) ? -1 : 0;
}

int lan_up(struct lan *l, const struct lan_def *d, bool force, struct err *err)
{
	struct lan_run *r = calloc(2, sizeof(*r)), *now = r + 1;
	struct err ignored;
	int rc = -1;

	if (!r)
		return err_set(err, "out of memory");
	lan_run_load(l, d->name, now);
	if (!lan_run_load(l, d->name, r))
		lan_ports_ask(l, r);
	r->def = *d;
	r->fresh = !lan_store_has(&l->store, d->name);
	if (check_host(l, r, err) || adopt(l, r, err) || check_machines(l, r, now, force, err))
		goto out;
	rc = become(l, r, now, err);
	if (!rc && now->known)
		lan_forget_published(l, now, r);
	if (!rc) {
		lan_firewalls_warn(&l->nl, d, r->bridge);
		lan_ports_warn(r, NULL);
	}
	if (!rc)
		load_others(l, d->name, d);
	else if (now->up && !become(l, now, r, &ignored))
		load_others(l, d->name, &now->def);
	/* The next command tries again, for the machines in it. */
	else if (!lan_has_cables(r))
		lan_down(l, d->name, &ignored);
out:
	if (rc && !now->known && !lan_has_cables(r))
		lan_run_remove(&l->store, d->name, &ignored);
	lan_run_free(now);
	lan_run_free(r);
	free(r);
	return rc;
}

/* --- down --- */

/* Whether a machine would be left in a bridge that stays, where nothing looks at what it sends any more. */
static bool is_left(struct lan *l, const struct rtnl_links *links, const struct rtnl_link *k, const char *name)
{
	const struct rtnl_link *bridge = rtnl_find_index(links, k->master);

	return bridge && !lan_is_ours(&l->store, bridge, name) && lan_is_cable(&l->store, k, name);
}

/* Ours of this network: links by their mark, whatever is written or lost. */
static int remove_links(struct lan *l, const char *name, struct err *err)
{
	struct rtnl_links links;
	int *index, rc = 0;
	unsigned n = 0;

	if (rtnl_links(&l->nl, &links, err))
		return -1;
	index = calloc(links.len + 1, sizeof(*index));
	for (unsigned i = 0; index && i < links.len && !rc; i++)
		if (lan_is_ours(&l->store, &links.v[i], name))
			index[n++] = links.v[i].index;
		else if (is_left(l, &links, &links.v[i], name))
			rc = rtnl_set_master(&l->nl, links.v[i].index, 0, err);
	if (!index)
		rc = err_set(err, "out of memory");
	else if (!rc)
		rc = rtnl_del_links(&l->nl, index, n, err) ? err_prefix(err, "interfaces of %s", name) : 0;
	free(index);
	rtnl_links_free(&links);
	return rc;
}

/* A transaction that removes its filters, and what forwarding was like before where nobody else needs it. */
static int prepare_removal(struct lan *l, const char *name, struct nfnl_batch *b, struct err *err)
{
	nfnl_begin(b);
	if (!lan_is_others(l, ""))
		lan_forwarding_off(&l->nl, &l->nf, &l->store, name, b);
	return lan_rules_remove(&l->nf, name, b, err);
}

/* A transaction fails as a whole where something has gone since it was listed: what is left then is listed anew. */
int lan_remove_rules(struct lan *l, const char *name, struct err *err)
{
	int rc = -ENOENT;

	for (unsigned n = 0; n < REMOVALS && rc == -ENOENT; n++) {
		struct nfnl_batch b;

		rc = prepare_removal(l, name, &b, err) ? -1 : nfnl_commit(&l->nf, &b, err);
		nfnl_end(&b);
	}
	return rc ? -1 : 0;
}

struct removal {
	struct lan *l;
	struct nfnl_batch batch;
	struct err err;
	int rc;
};

static void *remove_filters(void *opaque)
{
	struct removal *v = opaque;

	v->rc = nfnl_commit(&v->l->nf, &v->batch, &v->err);
	return NULL;
}

/*
 * Interfaces and filters: for each the kernel waits until nobody looks at them any more, so both go at once. Where
 * machines have cables the filters are the last: nobody shall send a frame that is not looked at.
 */
static int remove_all(struct lan *l, const struct lan_run *r, struct err *err)
{
	struct removal v = { .l = l };
	struct err ignored;
	pthread_t thread;
	bool beside = false;
	int rc;

	v.rc = prepare_removal(l, r->def.name, &v.batch, &v.err);
	if (!v.rc && r->known && !lan_has_cables(r))
		beside = !pthread_create(&thread, NULL, remove_filters, &v);
	rc = remove_links(l, r->def.name, err);
	if (beside)
		pthread_join(thread, NULL);
	else if (!v.rc)
		remove_filters(&v);
	nfnl_end(&v.batch);
	if (v.rc == -ENOENT)
		v.rc = lan_remove_rules(l, r->def.name, &v.err);
	if (v.rc)
		rc = err_set(rc ? &ignored : err, "%s", v.err.msg);
	return rc;
}

/* What its bridge says, where nothing is written of it. */
static void find_uplink(struct lan *l, const char *name, struct lan_run *r)
{
	struct rtnl_links links;
	struct err ignored;

	if (rtnl_links(&l->nl, &links, &ignored))
		return;
	for (unsigned i = 0; i < links.len && !r->uplink; i++) {
		const struct rtnl_link *k = &links.v[i];
		const char *uplink = strstr(k->alias, LAN_MARK_UPLINK);

		if (!lan_has_uplink(k) || !lan_is_ours(&l->store, k, name))
			continue;
		snprintf(r->bridge, sizeof(r->bridge), "%s", k->name);
		r->uplink = json_pack("{s:s}", "name", uplink + strlen(LAN_MARK_UPLINK));
	}
	rtnl_links_free(&links);
}

int lan_down(struct lan *l, const char *name, struct err *err)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	struct err ignored;
	int rc = 0;

	if (!r)
		return err_set(err, "out of memory");
	lan_run_load(l, name, r);
	if (r->known && r->up) {
		/* A directory that takes no files any more keeps nothing from going. */
		r->up = false;
		lan_run_save(l, r, &ignored);
	}
	if (!r->known)
		snprintf(r->def.name, sizeof(r->def.name), "%s", name);
	lan_server_stop(l, r, false);
	if (!r->uplink)
		find_uplink(l, name, r);
	if (r->uplink)
		rc = lan_uplink_give_back(l, r, err);
	if (remove_all(l, r, rc ? &ignored : err))
		rc = -1;
	if (r->known)
		lan_forget_conns(l, &r->def);
	if (!rc)
		rc = lan_run_remove(&l->store, name, err);
	if (!lan_store_has(&l->store, name))
		lan_keep_remove(&l->store, name, NULL);
	if (r->known)
		load_others(l, name, &r->def);
	lan_run_free(r);
	free(r);
	return rc;
}
