/* What networks there are, how they are, and what is in them: see lan.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lan/lan_impl.h"

#define PATIENCE_MS 2000 /* with who is changing something */

static void put(json_t *o, const char *key, const char *text)
{
	json_object_set_new(o, key, json_string(text));
}

/* And what is wrong with it. */
static const char *state_of(struct lan *l, const char *name, struct lan_run *r, const struct lan_sight *s,
			    unsigned *faults)
{
	*faults = 0;
	if (r->known && !lan_is_here(r))
		return lan_is_elsewhere(l, r) ? "elsewhere" : "down";
	if (r->known) {
		lan_prune_ports(l, r, &s->links);
		*faults = lan_faults(l, r, s);
		return !r->up ? "broken" : *faults ? "degraded" : "up";
	}
	*faults = lan_remains(l, name, s);
	if (lan_run_has(&l->store, name))
		*faults |= LAN_NO_RECORD;
	return *faults ? "broken" : "down";
}

static json_t *describe(struct lan *l, const char *name, const struct lan_sight *s)
{
	struct lan_def *d = malloc(sizeof(*d));
	struct lan_run *r = calloc(1, sizeof(*r));
	json_t *o = json_object();
	unsigned cables = 0, faults;
	char text[LAN_TEXT6];
	struct err err;

	put(o, "name", name);
	if (!d || !r) {
		put(o, "state", "unknown");
	} else if (lan_load(l, name, d, &err)) {
		put(o, "state", "unknown");
		put(o, "error", err.msg);
	} else {
		bool known = !lan_run_load(l, name, r);

		put(o, "model", lan_model_names[d->model]);
		put(o, "state", state_of(l, name, r, s, &faults));
		if (faults)
			json_object_set_new(o, "problems", lan_fault_texts(faults));
		if (known && *r->why)
			put(o, "error", r->why);
		if (known && s->blind)
			put(o, "unseen", s->why.msg);
		if (*d->uplink)
			put(o, "uplink", d->uplink);
		if (known)
			put(o, "bridge", r->bridge);
		if (d->net4.len)
			put(o, "subnet", lan_text_net4(&d->net4, text));
		if (d->net6.len)
			put(o, "subnet6", lan_text_net6(&d->net6, text));
		for (unsigned i = 0; i < r->ports.len; i++)
			cables += *r->ports.v[i].tap && rtnl_find(&s->links, r->ports.v[i].tap);
		json_object_set_new(o, "cables", json_integer(cables));
		lan_run_free(r);
	}
	free(d);
	free(r);
	return o;
}

static json_t *describe_all(struct lan *l, const struct lan_names *names, bool *odd, struct err *err)
{
	struct lan_sight s;
	json_t *a, *o;

	*odd = false;
	if (lan_look(l, names, &s, err))
		return NULL;
	a = json_array();
	for (unsigned i = 0; i < names->len; i++) {
		/* Deleted meanwhile. */
		if (!lan_store_has(&l->store, names->v[i]))
			continue;
		o = describe(l, names->v[i], &s);
		*odd |= json_object_get(o, "problems") != NULL;
		json_array_append_new(a, o);
	}
	lan_sight_free(&s);
	return a;
}

/*
 * What is wrong may be on its way while somebody changes something: then it is looked at again when that has ended, or
 * said to be changing. Nobody is kept from changing anything for longer than the look takes.
 */
static json_t *settled(struct lan *l, const struct lan_names *names, struct err *err)
{
	const bool held = l->store.lock >= 0, alone = held || lan_store_share(&l->store, 0) > 0;
	bool odd;
	json_t *a = describe_all(l, names, &odd, err), *o;
	int rc = 0;
	size_t i;

	if (!a || !odd || alone)
		goto out;
	rc = lan_store_share(&l->store, PATIENCE_MS);
	if (rc > 0) {
		json_decref(a);
		a = describe_all(l, names, &odd, err);
		goto out;
	}
	json_array_foreach(a, i, o)
	{
		if (!rc && json_object_get(o, "problems"))
			put(o, "state", "changing");
	}
out:
	if (!held)
		lan_store_unlock(&l->store);
	return a;
}

json_t *lan_list(struct lan *l, struct err *err)
{
	struct lan_names names;
	json_t *a;

	if (lan_store_names(&l->store, &names, err))
		return NULL;
	a = settled(l, &names, err);
	lan_names_free(&names);
	return a;
}

static json_t *cables(const struct lan_ports *p)
{
	json_t *a = json_array();
	char text[LAN_TEXT6];

	for (unsigned i = 0; i < p->len; i++) {
		const struct lan_port *port = &p->v[i];
		json_t *o;

		if (!*port->tap || !if_nametoindex(port->tap))
			continue;
		o = json_object();
		put(o, "machine", port->vm);
		put(o, "tap", port->tap);
		put(o, "mac", lan_text_mac(port->mac, text));
		if (port->trusted)
			json_object_set_new(o, "trusted", json_true());
		if (port->addr4)
			put(o, "address", lan_text4(port->addr4, text));
		if (!lan_zero6(&port->addr6))
			put(o, "address6", lan_text6(&port->addr6, text));
		json_array_append_new(a, o);
	}
	return a;
}

/* What keeps machines from what the network is for, as long as it does. */
static void put_warnings(struct lan *l, const struct lan_run *r, json_t *o)
{
	json_t *said = lan_firewalls(&l->nl, &r->def, r->bridge);

	if (json_array_size(said))
		json_object_set(o, "warnings", said);
	json_decref(said);
}

json_t *lan_show(struct lan *l, const char *name, struct err *err)
{
	struct lan_def *d = malloc(sizeof(*d));
	struct lan_run *r = calloc(1, sizeof(*r));
	json_t *a = NULL, *o = NULL;

	if (!d || !r)
		err_set(err, "out of memory");
	else if (!lan_load(l, name, d, err))
		a = settled(l, &(struct lan_names){ (char *[]){ (char *)name }, 1 }, err);
	if (a) {
		o = json_incref(json_array_get(a, 0));
		json_decref(a);
		if (lan_run_load(l, name, r))
			memset(r, 0, sizeof(*r));
		json_object_set_new(o, "definition", lan_def_to_json(d));
		/* Its machines ask the network outside. */
		if (d->model == LAN_BRIDGED) {
			json_object_del(json_object_get(o, "definition"), "dhcp");
			json_object_del(json_object_get(o, "definition"), "dns");
		}
		json_object_set_new(o, "cables", cables(&r->ports));
		if (r->known && lan_is_here(r))
			put_warnings(l, r, o);
		lan_run_free(r);
	}
	free(d);
	free(r);
	return o;
}
