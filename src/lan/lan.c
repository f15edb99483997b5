/* Networks as objects: see lan.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "lan/lan_impl.h"
#include "lan/subnets.h"

struct lan *lan_open(bool change, struct err *err)
{
	struct lan *l = calloc(1, sizeof(*l));

	if (!l) {
		err_set(err, "out of memory");
		return NULL;
	}
	l->leaving = -1;
	if (lan_store_find(&l->store, err) || rtnl_open(&l->nl, err)) {
		free(l);
		return NULL;
	}
	if (rtnl_open_netfilter(&l->nf, err)) {
		rtnl_close(&l->nl);
		free(l);
		return NULL;
	}
	if (!change)
		return l;
	if (!lan_store_lock(&l->store, err) && !lan_check_space(l, err)) {
		nft_hold(l->store.lock);
		lan_store_tidy(&l->store);
		if (!lan_reconcile(l, err))
			return l;
	}
	lan_close(l);
	return NULL;
}

void lan_close(struct lan *l)
{
	lan_server_await(l);
	nft_hold(-1);
	lan_store_unlock(&l->store);
	rtnl_close(&l->nl);
	rtnl_close(&l->nf);
	free(l);
}

int lan_load(struct lan *l, const char *name, struct lan_def *d, struct err *err)
{
	return lan_store_load(&l->store, name, d, err);
}

static bool runs(struct lan *l, const char *name)
{
	return lan_run_has(&l->store, name);
}

/* --- making --- */

typedef int other_fn(struct lan *l, struct lan_def *o, const void *opaque, struct err *err);

/* Call `fn` with each other definition that can be read, until one is not 0. */
static int each_other(struct lan *l, const char *name, other_fn *fn, const void *opaque, struct err *err)
{
	struct lan_def *o = malloc(sizeof(*o));
	struct lan_names names = { 0 };
	struct err ignored;
	int rc = 0;

	if (!o || lan_store_names(&l->store, &names, err)) {
		free(o);
		return o ? -1 : err_set(err, "out of memory");
	}
	for (unsigned n = 0; n < names.len && !rc; n++)
		if (strcmp(names.v[n], name) && !lan_store_load(&l->store, names.v[n], o, &ignored))
			rc = fn(l, o, opaque, err);
	lan_names_free(&names);
	free(o);
	return rc;
}

/* A port of the host leads to one place, and an interface is one network's, also of those that are down. */
static int check_other(struct lan *l, struct lan_def *o, const void *opaque, struct err *err)
{
	const struct lan_def *d = opaque;
	char mine[2][IFNAMSIZ], theirs[2][IFNAMSIZ];
	unsigned port;

	for (unsigned i = 0; i < d->publish_len; i++)
		for (unsigned k = 0; k < o->publish_len; k++) {
			port = lan_publish_meets(&d->publish[i], &o->publish[k]);
			if (port)
				return err_set(err, "publish: port %u leads to network %s already", port, o->name);
		}
	lan_bridge_name(d, mine[0]);
	lan_server_name(d, mine[1]);
	lan_bridge_name(o, theirs[0]);
	lan_server_name(o, theirs[1]);
	for (unsigned i = 0; i < 4; i++)
		if (!strcmp(mine[i / 2], theirs[i % 2]))
			return err_set(err, "bridge: the name %s is one of network %s's (--bridge gives another)",
				       mine[i / 2], o->name);
	return 0;
}

/* One that was named before may have gone since. */
static int check_routes(struct lan *l, const struct lan_def *d, const struct lan_def *old, struct err *err)
{
	struct lan_def *o = malloc(sizeof(*o));
	struct err ignored;
	int rc = o ? 0 : err_set(err, "out of memory");

	for (unsigned i = 0; i < d->routes_len && !rc; i++) {
		if (old && lan_def_names(old, d->routes[i]))
			continue;
		if (!lan_store_has(&l->store, d->routes[i]))
			rc = err_set(err, "route: there is no network named '%s'", d->routes[i]);
		else if (!lan_load(l, d->routes[i], o, &ignored) && !lan_has_gateway(o))
			rc = err_set(err, "route: network %s is %s, and has routes to no other one", o->name,
				     lan_model_names[o->model]);
	}
	free(o);
	return rc;
}

/* What the others say of it: they would reach it again once it is what it was. */
static int check_named(struct lan *l, struct lan_def *o, const void *opaque, struct err *err)
{
	const struct lan_def *d = opaque;

	return lan_def_names(o, d->name)
		       ? err_set(err,
				 "model: network %s has a route to network %s, and to one that is %s there is none "
				 "(take it out first: `vireo net edit %s --route`)",
				 o->name, d->name, lan_model_names[d->model], o->name)
		       : 0;
}

static int check_bridge(struct lan *l, const struct lan_def *d, const struct lan_wishes *w, struct err *err)
{
	struct rtnl_links links;
	const struct rtnl_link *k;
	int rc;

	if (rtnl_links(&l->nl, &links, err))
		return -1;
	k = rtnl_find(&links, d->uplink);
	rc = (k ? !strcmp(k->kind, "bridge") : w->no_start) ? 0 : err_set(err, "there is no bridge %s", d->uplink);
	rtnl_links_free(&links);
	return rc;
}

/* Of all interfaces and of new ones: nobody has IPv6 here, and machines would be told of a way that ends at the host.
 */
static bool host_is_without_ipv6(void)
{
	char all[8] = "", new[8] = "";

	return lan_sysctl_get("ipv6/conf/all/disable_ipv6", all, sizeof(all)) && *all == '1' &&
	       lan_sysctl_get("ipv6/conf/default/disable_ipv6", new, sizeof(new)) && *new == '1';
}

/* Complete it, and hold it against the host and the other networks. `old`: what it was before an edit. */
static int fit(struct lan *l, struct lan_def *d, const struct lan_def *old, const struct lan_wishes *w, struct err *err)
{
	unsigned want = d->model == LAN_BRIDGED ? 0 : (w->no4 ? 0 : LAN_WANT4) | (w->no6 ? 0 : LAN_WANT6);

	if (want & LAN_WANT6 && !d->net6.len && !(old && old->net6.len) && lan_has_gateway(d) &&
	    host_is_without_ipv6()) {
		want &= ~LAN_WANT6;
		log_line(LOG_WARN, "lan",
			 "%s: IPv6 is off on this host, and so in the network (--subnet6 has it all the same)",
			 d->name);
	}
	return (w->bridge && check_bridge(l, d, w, err)) || lan_fit_subnets(&l->store, &l->nl, d, old, want, err) ||
			       lan_def_check(d, err) || each_other(l, d->name, check_other, d, err)
		       ? -1
		       : 0;
}

/* From now on it is one whose definition may be lost. */
static void has_begun(struct lan *l, const char *name)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	struct err ignored;

	if (r && !lan_run_load(l, name, r)) {
		r->fresh = false;
		lan_run_save(l, r, &ignored);
		lan_run_free(r);
	}
	free(r);
}

int lan_create(struct lan *l, struct lan_def *d, const struct lan_wishes *w, struct err *err)
{
	struct err ignored;

	if (lan_name_check(d->name, err))
		return -1;
	if (lan_store_has(&l->store, d->name))
		return err_set(err, "a network named '%s' is there already", d->name);
	if ((!w->no_start && (lan_host_rights(err) || lan_not_others(l, d->name, err))) || fit(l, d, NULL, w, err) ||
	    check_routes(l, d, NULL, err) || (!w->no_start && lan_check_listeners(d, NULL, err)) ||
	    (!runs(l, d->name) && lan_unmark_cables(l, d->name, err)) || (!w->no_start && lan_up(l, d, false, err)))
		return -1;
	/* Last, so that whoever is killed before leaves nothing that would be kept. */
	if (!lan_store_save(&l->store, d, err)) {
		if (!w->no_start)
			has_begun(l, d->name);
		return 0;
	}
	if (!w->no_start)
		lan_down(l, d->name, &ignored);
	return -1;
}

static bool same(const struct lan_def *a, const struct lan_def *b)
{
	json_t *one = lan_def_to_json(a), *other = lan_def_to_json(b);
	bool yes = one && json_equal(one, other);

	json_decref(one);
	json_decref(other);
	return yes;
}

int lan_start(struct lan *l, const char *name, struct err *err)
{
	struct lan_def *d = malloc(sizeof(*d));
	struct lan_run *r = calloc(1, sizeof(*r));
	const struct lan_def *before;
	int rc = -1;

	if (!d || !r) {
		err_set(err, "out of memory");
		goto out;
	}
	if (lan_load(l, name, d, err) || lan_host_rights(err) || lan_not_others(l, name, err))
		goto out;
	before = lan_run_load(l, name, r) ? NULL : &r->def;
	/* What runs as it is defined has been looked at by lan_open(). */
	if (before && r->up && same(before, d) && !lan_lacks_uplink(l, r)) {
		lan_firewalls_warn(&l->nl, d, r->bridge);
		rc = 0;
		goto out;
	}
	rc = lan_fit_subnets(&l->store, &l->nl, d, before, 0, err) || lan_check_listeners(d, before, err) ? -1 : 0;
	if (!rc)
		rc = lan_up(l, d, false, err);
out:
	if (r)
		lan_run_free(r);
	free(r);
	free(d);
	return rc;
}

/* --- unmaking --- */

static int check_unused(struct lan *l, const char *name, struct err *err)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	struct rtnl_links links;
	char who[512] = "";
	unsigned count = 0;
	size_t len = 0;

	if (!r || lan_run_load(l, name, r)) {
		free(r);
		return 0;
	}
	if (!rtnl_links(&l->nl, &links, err)) {
		lan_prune_ports(l, r, &links);
		rtnl_links_free(&links);
	}
	for (unsigned i = 0; i < r->ports.len; i++) {
		if (!*r->ports.v[i].tap)
			continue;
		count++;
		if (len < sizeof(who))
			len += (size_t)snprintf(who + len, sizeof(who) - len, "%s%s", len ? ", " : "",
						lan_port_name(&r->ports.v[i]));
	}
	if (count)
		err_set(err,
			count == 1 ? "network %s: machine %s has a cable in it (--force pulls it)"
				   : "network %s: machines %s%s have cables in it (--force pulls them)",
			name, who, len < sizeof(who) ? "" : "...");
	lan_run_free(r);
	free(r);
	return count ? -1 : 0;
}

int lan_stop_foreign(struct lan *l, const char *name, struct err *err)
{
	char own[LAN_ID], theirs[LAN_ID];
	int rc;

	if (!lan_name_ok(name) || !lan_find_others(l, name, theirs))
		return err_set(err, "no other run directory has a network named '%s' on this host", name);
	if (lan_host_rights(err))
		return -1;
	/* With its marks taken for ours. */
	memcpy(own, l->store.id, sizeof(own));
	memcpy(l->store.id, theirs, sizeof(theirs));
	rc = lan_down(l, name, err);
	memcpy(l->store.id, own, sizeof(own));
	/* Our own servers end when their interface is gone. */
	lan_dnsmasq_stop_foreign(l, name);
	return rc;
}

int lan_stop(struct lan *l, const char *name, bool force, struct err *err)
{
	if (lan_name_ok(name) && !runs(l, name) && lan_not_others(l, name, err))
		return -1;
	if (!lan_name_ok(name) || (!lan_store_has(&l->store, name) && !runs(l, name)))
		return lan_store_lacks(name, err);
	if (!runs(l, name))
		return 0;
	if (lan_host_rights(err) || (!force && check_unused(l, name, err)))
		return -1;
	return lan_down(l, name, err);
}

static bool drop_route(struct lan_def *d, const char *name)
{
	unsigned len = 0;
	bool any;

	for (unsigned i = 0; i < d->routes_len; i++)
		if (strcmp(d->routes[i], name))
			memmove(d->routes[len++], d->routes[i], sizeof(d->routes[i]));
	any = len < d->routes_len;
	memset(d->routes[len], 0, (d->routes_len - len) * sizeof(d->routes[0]));
	d->routes_len = len;
	return any;
}

/* A later network of this name is another one: nobody has said that it is to be reached. */
static int forget_route(struct lan *l, struct lan_def *o, const void *opaque, struct err *err)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	int rc = 0;

	if (r && !lan_run_load(l, o->name, r)) {
		if (drop_route(&r->def, opaque))
			rc = lan_run_save(l, r, err);
		lan_run_free(r);
	}
	free(r);
	return rc || (drop_route(o, opaque) && lan_store_save(&l->store, o, err)) ? -1 : 0;
}

int lan_delete(struct lan *l, const char *name, bool force, struct err *err)
{
	/* A definition that cannot be read any more can be removed. */
	if (lan_store_removable(&l->store, name, err) || lan_stop(l, name, force, err) ||
	    each_other(l, name, forget_route, name, err))
		return -1;
	lan_keep_remove(&l->store, name, NULL);
	return lan_store_remove(&l->store, name, err);
}

int lan_edit(struct lan *l, struct lan_def *d, const struct lan_wishes *w, bool force, struct err *err)
{
	struct lan_def *old = malloc(sizeof(*old));
	bool started = runs(l, d->name);
	struct err ignored;
	int rc = -1;

	if (!old)
		return err_set(err, "out of memory");
	if (lan_load(l, d->name, old, err) || (started && lan_host_rights(err)) || fit(l, d, old, w, err) ||
	    check_routes(l, d, old, err) ||
	    (lan_has_gateway(old) && !lan_has_gateway(d) && each_other(l, d->name, check_named, d, err)) ||
	    (started && lan_check_listeners(d, old, err)) || lan_store_save(&l->store, d, err))
		goto out;
	rc = started ? lan_up(l, d, force, err) : 0;
	if (rc) {
		lan_store_save(&l->store, old, &ignored);
	} else if (started && old->routes_len) {
		/* Also those that it has named before. */
		lan_load_others(l, d->name);
	}
out:
	free(old);
	return rc;
}
