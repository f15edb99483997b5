/*
 * What is left over: a record without its things, things without their record, and what somebody who was killed had
 * begun. Finished where machines have cables in it, else removed. See lan_impl.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "lan/lan_impl.h"

/* The networks that have tables, and whether there is a note about forwarding. */
struct tables {
	struct lan_names names;
	bool forwarding;
};

/* What is looked at, before anything is changed. */
struct host {
	struct lan_sight sight;
	struct tables tables;
};

static void add_table(void *opaque, unsigned family, const char *table)
{
	const char *name = table + strlen(LAN_TABLE);
	struct tables *t = opaque;

	t->forwarding |= !strcmp(table, LAN_FORWARDING);
	if (strncmp(table, LAN_TABLE, strlen(LAN_TABLE)) || !lan_name_ok(name) || lan_names_has(&t->names, name))
		return;
	lan_names_add(&t->names, name);
}

/* What could not be mended: said once, and by `list` and `show` as long as the record is there. */
static void tell(struct lan *l, const char *name, const char *what, const struct err *why)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	const bool known = r && !lan_run_load(l, name, r);
	char text[LAN_WHY];
	struct err ignored;

	snprintf(text, sizeof(text), "%.60s: %.440s", what, why->msg);
	if (!known || strcmp(r->why, text))
		log_line(LOG_WARN, "lan", "network %s %s", name, text);
	if (known) {
		r->up = false;
		snprintf(r->why, sizeof(r->why), "%s", text);
		lan_run_save(l, r, &ignored);
		lan_run_free(r);
	}
	free(r);
}

/* Whoever has asked for something else is not refused for that. */
static void take_down(struct lan *l, const char *name)
{
	struct err why;

	if (lan_down(l, name, &why))
		tell(l, name, "could not be removed", &why);
}

/*
 * Make it so again as it was, or where that is lost as it is defined. What cannot be made so goes; with cables in it,
 * the next command tries again.
 */
static void again(struct lan *l, const char *name)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	struct lan_def *d = malloc(sizeof(*d));
	bool defined = true, kept;
	struct err why;

	if (!r || !d)
		goto out;
	if (!lan_run_load(l, name, r))
		*d = r->def;
	else
		defined = !lan_store_load(&l->store, name, d, &why);
	lan_run_free(r);
	if (defined && !lan_up(l, d, false, &why))
		goto out;
	kept = !lan_run_load(l, name, r) && lan_has_cables(r);
	lan_run_free(r);
	/* What is nobody's any more is removed without a word. */
	if (defined || lan_store_has(&l->store, name))
		tell(l, name, kept ? "could not be repaired" : "could not be repaired and is taken down", &why);
	if (!kept)
		take_down(l, name);
out:
	free(d);
	free(r);
}

/* Its bridge is gone with what it had of the host's, and is made anew for the machines. */
static void give_back(struct lan *l, struct lan_run *r)
{
	struct err why;

	if (lan_uplink_give_back(l, r, &why))
		log_line(LOG_WARN, "lan", "network %s: what its interface had is not given back: %s", r->def.name,
			 why.msg);
	json_decref(r->uplink);
	r->uplink = NULL;
	lan_run_save(l, r, &why);
}

/* Without these it is made anew. */
#define ANEW                                                                                                           \
	(LAN_UNFINISHED | LAN_NO_BRIDGE | LAN_BRIDGE_DOWN | LAN_NO_ADDRESSES | LAN_NO_SERVER | LAN_SERVER_HANGS |      \
	 LAN_SERVER_OUT | LAN_OTHER_MTU | LAN_BRIDGE_STILL)

static void look(struct lan *l, const char *name, const struct host *h)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	bool there, whole, moved;
	unsigned faults;
	struct err why;

	if (!r)
		return;
	if (lan_run_load(l, name, r)) {
		free(r);
		again(l, name);
		return;
	}
	moved = lan_prune_ports(l, r, &h->sight.links);
	faults = lan_faults(l, r, &h->sight);
	/* It has had its time with all others: nobody waits for its goodbye as well. */
	if (faults & LAN_SERVER_HANGS)
		lan_server_kill(l, r);
	/* First of all: without it others would take the bridge for somebody else's. */
	if (faults & LAN_NO_MARK)
		lan_mark_bridge(l, r, rtnl_find(&h->sight.links, r->bridge)->index, &why);
	there = !(faults & LAN_NO_BRIDGE);
	whole = !(faults & ANEW);
	if (whole && moved)
		whole = !lan_run_save(l, r, &why) && !lan_load_rules(l, r, &why) && !lan_server_hosts(l, r, &why);
	else if (whole && faults & (LAN_NO_FILTERS | LAN_OTHER_FILTERS))
		whole = !lan_load_rules(l, r, &why);
	if (whole && faults & LAN_CABLE_OUT)
		whole = !lan_plug_cables(l, r, &why);
	if (whole && faults & LAN_NO_FORWARDING)
		whole = !lan_forwarding_on(&l->nl, &l->nf, &l->store, &r->def, &why);
	if (!there && r->uplink && lan_has_cables(r))
		give_back(l, r);
	/* Nothing else is left of a create that was killed. */
	if ((!there || !r->up || (r->fresh && !lan_store_has(&l->store, name))) && !lan_has_cables(r))
		take_down(l, name);
	else if (!whole)
		again(l, name);
	lan_run_free(r);
	free(r);
}

/*
 * Of which network a link is, or "": by its mark, or as a bridge that was not given one any more. A cable is of one as
 * long as it is in a bridge, which may be somebody else's.
 */
static void owner(const struct lan_store *s, const struct rtnl_link *k, char name[LAN_NET_NAME + 1])
{
	const bool called = !strncmp(k->name, "vr-", 3) || !strncmp(k->name, "vs-", 3);
	const char *from = lan_is_marked(k) ? k->alias + 6 : called ? k->name + 3 : "";

	snprintf(name, LAN_NET_NAME + 1, "%.*s", (int)strcspn(from, "@"), from);
	if (!lan_name_ok(name) || !(lan_is_ours(s, k, name) || (k->master && lan_is_cable(s, k, name))))
		*name = '\0';
}

int lan_reconcile(struct lan *l, struct err *err)
{
	struct lan_names running = { 0 }, seen = { 0 };
	struct host h = { 0 };
	struct tables *t = &h.tables;
	const struct rtnl_links *links = &h.sight.links;
	char name[LAN_NET_NAME + 1];
	struct err why;
	int rc = -1;

	/* Whoever may change nothing finds nothing either. */
	if (lan_host_rights(&why))
		return 0;
	if (lan_store_running(&l->store, &running, err) || lan_look(l, &running, &h.sight, err))
		goto out;
	rc = nfnl_tables(&l->nf, add_table, t, err);
	if (!rc && h.sight.unfiltered)
		rc = err_set(err, "%s", h.sight.why.msg);
	/* A kernel without packet filters has none that could be left. */
	if (!running.len)
		rc = 0;
	if (!rc && !t->forwarding)
		t->forwarding = lan_forwarding_recall(&l->nf, &l->store);
	for (unsigned i = 0; i < running.len && !rc; i++)
		look(l, running.v[i], &h);
	for (unsigned i = 0; i < links->len && !rc; i++) {
		owner(&l->store, &links->v[i], name);
		if (!*name || lan_names_has(&running, name) || lan_names_has(&seen, name))
			continue;
		lan_names_add(&seen, name);
		again(l, name);
	}
	for (unsigned i = 0; i < t->names.len && !rc; i++)
		if (!lan_names_has(&running, t->names.v[i]) && !lan_is_others(l, t->names.v[i]) &&
		    !lan_run_has(&l->store, t->names.v[i]) && lan_remove_rules(l, t->names.v[i], &why))
			log_line(LOG_WARN, "lan", "filters of network %s, which is gone, could not be removed: %s",
				 t->names.v[i], why.msg);
	if (t->forwarding && !running.len && !rc && lan_remove_rules(l, "", &why))
		log_line(LOG_WARN, "lan", "forwarding of the host is not given back: %s", why.msg);
out:
	lan_names_free(&running);
	lan_names_free(&seen);
	lan_names_free(&t->names);
	lan_sight_free(&h.sight);
	return rc;
}
