/*
 * What is left over: a record without its things, things without their record, and what somebody who was killed had
 * begun. Finished where machines have cables in it, else removed. See lan_impl.h.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lan/lan_impl.h"

/* The networks whose tables there are, and whether there is a note about forwarding. */
static int tables(struct lan_names *n, bool *forwarding, struct err *err)
{
	json_t *j = nft_json((const char *const[]){ "list", "tables", NULL }, err), *o;
	size_t i;

	*n = (struct lan_names){ 0 };
	if (!j)
		return -1;
	json_array_foreach(json_object_get(j, "nftables"), i, o)
	{
		const char *name = json_string_value(json_object_get(json_object_get(o, "table"), "name"));
		void *v;

		*forwarding |= name && !strcmp(name, LAN_FORWARDING);
		if (!name || strncmp(name, LAN_TABLE, strlen(LAN_TABLE)) || !lan_name_ok(name + strlen(LAN_TABLE)) ||
		    lan_names_has(n, name + strlen(LAN_TABLE)))
			continue;
		v = realloc(n->v, (n->len + 1) * sizeof(*n->v));
		if (!v)
			break;
		n->v = v;
		n->v[n->len] = strdup(name + strlen(LAN_TABLE));
		n->len += !!n->v[n->len];
	}
	json_decref(j);
	return 0;
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

static bool has_cables(const struct lan_run *r)
{
	for (unsigned i = 0; i < r->ports.len; i++)
		if (*r->ports.v[i].tap)
			return true;
	return false;
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
	if (!there || (!r->up && !has_cables(r)))
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
	const char *from = !strncmp(k->alias, "vireo:", 6)	       ? k->alias + 6
			   : !*k->alias && !strncmp(k->name, "vr-", 3) ? k->name + 3
								       : "";

	snprintf(name, LAN_NET_NAME + 1, "%s", from);
	if (!lan_name_ok(name) || !lan_is_ours(k, name))
		*name = '\0';
}

int lan_reconcile(struct lan *l, struct err *err)
{
	struct lan_names running = { 0 }, filters = { 0 };
	struct rtnl_links links = { 0 };
	char name[LAN_NET_NAME + 1], path[2 * LAN_PATH];
	struct err ignored;
	bool forwarding = false;
	int rc = -1;

	/* Whoever may change nothing finds nothing either. */
	if (lan_host_rights(&ignored))
		return 0;
	if (lan_store_running(&l->store, &running, err) || rtnl_links(&l->nl, &links, err))
		goto out;
	/* Without nft there can be nothing left of its. */
	rc = tables(&filters, &forwarding, err) && running.len ? -1 : 0;
	for (unsigned i = 0; i < running.len && !rc; i++)
		rc = look(l, running.v[i], &links, &filters, err);
	for (unsigned i = 0; i < links.len && !rc; i++) {
		owner(&links.v[i], name);
		if (*name && !lan_names_has(&running, name) && if_nametoindex(links.v[i].name))
			rc = again(l, name, err);
	}
	for (unsigned i = 0; i < filters.len && !rc; i++)
		if (!lan_names_has(&running, filters.v[i]) &&
		    lan_run_path(&l->store, filters.v[i], "", path, sizeof(path)) == 0 && access(path, F_OK))
			rc = lan_remove_rules(filters.v[i], err);
	if (forwarding && !running.len)
		lan_forwarding_off(&l->store);
out:
	lan_names_free(&running);
	lan_names_free(&filters);
	rtnl_links_free(&links);
	return rc;
}
