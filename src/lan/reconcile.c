/*
 * What is left over: a record without its things, things without their record, and what somebody who was killed had
 * begun. Finished where machines have cables in it, else removed. See lan_impl.h.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lan/lan_impl.h"

/* The networks whose tables there are, and whether there is a note about forwarding. */
struct tables {
	struct lan_names names;
	bool forwarding;
};

static void add_table(void *opaque, unsigned family, const char *table)
{
	const char *name = table + strlen(LAN_TABLE);
	struct tables *t = opaque;
	void *v;

	t->forwarding |= !strcmp(table, LAN_FORWARDING);
	if (strncmp(table, LAN_TABLE, strlen(LAN_TABLE)) || !lan_name_ok(name) || lan_names_has(&t->names, name))
		return;
	v = realloc(t->names.v, (t->names.len + 1) * sizeof(*t->names.v));
	if (!v)
		return;
	t->names.v = v;
	t->names.v[t->names.len] = strdup(name);
	t->names.len += !!t->names.v[t->names.len];
}

/* Make it so again by its definition; what cannot be made so goes. */
static int again(struct lan *l, const char *name, struct err *err)
{
	struct lan_def *d = malloc(sizeof(*d));
	struct err why;
	int rc = !d || lan_store_load(&l->store, name, d, &why) || lan_up(l, d, &why) ? lan_down(l, name, err) : 0;

	free(d);
	return rc;
}

static int look(struct lan *l, const char *name, const struct rtnl_links *links, const struct lan_names *filters,
		struct err *err)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	const struct rtnl_link *bridge;
	bool there;
	int rc = 0;

	if (!r)
		return err_set(err, "out of memory");
	if (lan_run_load(l, name, r)) {
		free(r);
		return again(l, name, err);
	}
	bridge = rtnl_find(links, r->bridge);
	there = bridge && (!r->made || lan_is_ours(bridge, name));
	if (lan_prune_ports(l, r, links) && r->up && there)
		rc = lan_run_save(l, r, err) || lan_load_rules(l, r, err) || lan_server_hosts(l, r, err) ? -1 : 0;
	if (!there || (!r->up && !lan_has_cables(r)))
		rc = lan_down(l, name, err);
	else if (!r->up || !lan_names_has(filters, name) || (lan_has_server(&r->def) && !lan_server_alive(l, name)))
		rc = again(l, name, err);
	lan_run_free(r);
	free(r);
	return rc;
}

/* Of which network a link is, or "": by its mark, or as a bridge that was not given one any more. */
static void owner(const struct rtnl_link *k, char name[LAN_NET_NAME + 1])
{
	const char *from = !strncmp(k->alias, "vireo:", 6)						? k->alias + 6
			   : !*k->alias && (!strncmp(k->name, "vr-", 3) || !strncmp(k->name, "vs-", 3)) ? k->name + 3
													: "";

	snprintf(name, LAN_NET_NAME + 1, "%s", from);
	if (!lan_name_ok(name) || !lan_is_ours(k, name))
		*name = '\0';
}

int lan_reconcile(struct lan *l, struct err *err)
{
	struct lan_names running = { 0 };
	struct tables t = { 0 };
	struct rtnl_links links = { 0 };
	char name[LAN_NET_NAME + 1], path[2 * LAN_PATH];
	struct err ignored;
	int rc = -1;

	/* Whoever may change nothing finds nothing either. */
	if (lan_host_rights(&ignored))
		return 0;
	if (lan_store_running(&l->store, &running, err) || rtnl_links(&l->nl, &links, err))
		goto out;
	/* A kernel without packet filters has none that could be left. */
	rc = nfnl_tables(&l->nf, add_table, &t, err) && running.len ? -1 : 0;
	for (unsigned i = 0; i < running.len && !rc; i++)
		rc = look(l, running.v[i], &links, &t.names, err);
	for (unsigned i = 0; i < links.len && !rc; i++) {
		owner(&links.v[i], name);
		if (*name && !lan_names_has(&running, name) && if_nametoindex(links.v[i].name))
			rc = again(l, name, err);
	}
	for (unsigned i = 0; i < t.names.len && !rc; i++)
		if (!lan_names_has(&running, t.names.v[i]) &&
		    lan_run_path(&l->store, t.names.v[i], "", path, sizeof(path)) == 0 && access(path, F_OK))
			rc = lan_remove_rules(l, t.names.v[i], err);
	if (t.forwarding && !running.len)
		lan_remove_rules(l, "", &ignored);
out:
	lan_names_free(&running);
	lan_names_free(&t.names);
	rtnl_links_free(&links);
	return rc;
}
