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

/* The counters of a chain's rules that drop, by chain. */
static void add_drops(json_t *drops, const json_t *rule)
{
	const char *chain = json_string_value(json_object_get(rule, "chain"));
	json_t *expr = json_object_get(rule, "expr"), *e;
	json_int_t packets = -1;
	bool drop = false;
	size_t i;

	json_array_foreach(expr, i, e)
	{
		if (json_object_get(e, "counter"))
			packets = json_integer_value(json_object_get(json_object_get(e, "counter"), "packets"));
		drop |= !!json_object_get(e, "drop");
	}
	if (!chain || packets < 0 || !drop)
		return;
	packets += json_integer_value(json_object_get(drops, chain));
	json_object_set_new(drops, chain, json_integer(packets));
}

/* By its interface, which nft has the name of or, where that is gone, the number. */
static const char *machine_at(const struct lan_run *r, const char *interface)
{
	const int index = (int)if_nametoindex(interface);

	for (unsigned i = 0; i < r->ports.len; i++)
		if (r->ports.v[i].index == (index ? index : atoi(interface)))
			return lan_port_name(&r->ports.v[i]);
	return interface;
}

/* What the filters have refused of each cable. */
static void add_cables(json_t *drops, const struct lan_run *r, const json_t *set)
{
	json_t *e;
	size_t i;

	if (strcmp(json_string_value(json_object_get(set, "name")), LAN_REFUSED))
		return;
	json_array_foreach(json_object_get(set, "elem"), i, e)
	{
		const json_t *elem = json_object_get(e, "elem"), *counter = json_object_get(elem, "counter");
		const char *interface = json_string_value(json_object_get(elem, "val"));

		if (interface)
			json_object_set(drops, machine_at(r, interface), json_object_get(counter, "packets"));
	}
}

static json_t *filter_stats(const struct lan_run *r)
{
	static const char *const families[] = { "inet", "bridge" };
	json_t *drops = json_object(), *o;
	char table[LAN_NET_NAME + sizeof(LAN_TABLE)];
	struct err ignored;
	size_t n;

	snprintf(table, sizeof(table), LAN_TABLE "%s", r->def.name);
	for (size_t i = 0; i < 2; i++) {
		json_t *j = nft_json((const char *const[]){ "list", "table", families[i], table, NULL }, &ignored);

		json_array_foreach(json_object_get(j, "nftables"), n, o)
		{
			if (json_object_get(o, "rule"))
				add_drops(drops, json_object_get(o, "rule"));
			else if (json_object_get(o, "set"))
				add_cables(drops, r, json_object_get(o, "set"));
		}
		json_decref(j);
	}
	return drops;
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

json_t *lan_stats(struct lan *l, const char *name, struct err *err)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	json_t *o = NULL, *cables, *server;
	struct err ignored;

	if (!r || !lan_store_has(&l->store, name)) {
		lan_store_lacks(name, err);
	} else if (lan_run_load(l, name, r)) {
		err_set(err, "network %s is down", name);
	} else {
		o = json_object();
		json_object_set_new(o, "bridge", link_stats(l, r->bridge, false));
		cables = json_object();
		for (unsigned i = 0; i < r->ports.len; i++) {
			const struct lan_port *p = &r->ports.v[i];

			if (*p->tap && if_nametoindex(p->tap))
				json_object_set_new(cables, *p->vm ? p->vm : p->tap, link_stats(l, p->tap, true));
		}
		json_object_set_new(o, "machines", cables);
		json_object_set_new(o, "refused", filter_stats(r));
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
