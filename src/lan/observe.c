/* What a network has done: counters of its interfaces and filters, and what its server says. See lan.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lan/lan_impl.h"

json_t *lan_leases_of(struct lan *l, const struct lan_def *d, struct err *err)
{
	if (!lan_has_server(d)) {
		err_set(err, "network %s hands out no addresses", d->name);
		return NULL;
	}
	return d->dns == LAN_DNS_DNSMASQ ? lan_dnsmasq_leases(l, d->name, err)
					 : lan_server_ask(l, d->name, "leases", NULL, err);
}

json_t *lan_leases(struct lan *l, const char *name, struct err *err)
{
	struct lan_def *d = malloc(sizeof(*d));
	json_t *o = NULL;

	if (!d)
		err_set(err, "out of memory");
	else if (!lan_load(l, name, d, err))
		o = lan_leases_of(l, d, err);
	free(d);
	return o;
}

/* From the machine's side: what leaves a tap comes in at the bridge. */
static json_t *link_stats(struct lan *l, const char *name, bool swap)
{
	static const char *const keys[] = { "received-packets", "sent-packets", "received-bytes",  "sent-bytes",
					    "receive-errors",	"send-errors",	"receive-dropped", "send-dropped" };
	uint64_t v[8];
	json_t *o = json_object();

	if (rtnl_link_stats(&l->nl, name, v))
		return o;
	for (unsigned i = 0; i < 8; i++)
		json_object_set_new(o, keys[i], json_integer((json_int_t)v[swap ? i ^ 1 : i]));
	return o;
}

/* What each cable has carried, as `show` names it. */
static json_t *cable_stats(struct lan *l, const struct lan_run *r, const json_t *refused)
{
	json_t *a = json_array();
	char mac[LAN_TEXTMAC];

	for (unsigned i = 0; i < r->ports.len; i++) {
		const struct lan_port *p = &r->ports.v[i];
		json_t *o, *counters;

		if (!*p->tap || !if_nametoindex(p->tap))
			continue;
		o = json_object();
		json_object_set_new(o, "machine", json_string(p->vm));
		json_object_set_new(o, "tap", json_string(p->tap));
		json_object_set_new(o, "mac", json_string(lan_text_mac(p->mac, mac)));
		counters = link_stats(l, p->tap, true);
		json_object_update(o, counters);
		json_decref(counters);
		json_object_set_new(o, "refused", json_integer(json_integer_value(json_object_get(refused, mac))));
		json_array_append_new(a, o);
	}
	return a;
}

json_t *lan_stats(struct lan *l, const char *name, struct err *err)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	json_t *o = NULL, *drops, *server;
	struct err ignored;

	if (!r || !lan_store_has(&l->store, name)) {
		err_set(err, "no network named '%s' (see `vireo net list`)", name);
	} else if (lan_run_load(l, name, r)) {
		err_set(err, "network %s is down", name);
	} else {
		drops = lan_drops(l, r);
		o = json_object();
		json_object_set_new(o, "bridge", link_stats(l, r->bridge, false));
		json_object_set_new(o, "cables", cable_stats(l, r, json_object_get(drops, "cables")));
		json_object_set(o, "refused", json_object_get(drops, "filters"));
		json_decref(drops);
		server = lan_has_server(&r->def) && r->def.dns != LAN_DNS_DNSMASQ
				 ? lan_server_ask(l, name, "stats", NULL, &ignored)
				 : NULL;
		if (server)
			json_object_set_new(o, "server", server);
		lan_run_free(r);
	}
	free(r);
	return o;
}
