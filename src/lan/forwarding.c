/*
 * The host forwards while a network needs it: see host.h. What was so before is kept in a table of nft without a rule,
 * "vireo_forwarding": it lives exactly as long as the switches do, whatever happens to files. A chain "ipv4" or "ipv6"
 * in it says that this one was off; a chain "ra-" and an interface's name as hex, that it listened to routers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/host.h"

static const struct {
	const char *chain, *path;
} switches[] = { { "ipv4", "ipv4/ip_forward" }, { "ipv6", "ipv6/conf/all/forwarding" } };

/* Which of the switches a definition needs. */
static bool needs(const struct lan_def *d, size_t i)
{
	return lan_has_gateway(d) && (i ? d->net6.len : d->net4.len);
}

static void accept_ra_path(char *buf, size_t size, const char *ifname)
{
	snprintf(buf, size, "ipv6/conf/%.15s/accept_ra", ifname);
}

static void chain_of(const char *ifname, char buf[NFNL_NAME])
{
	int n = snprintf(buf, NFNL_NAME, "ra-");

	for (; *ifname; ifname++)
		n += snprintf(buf + n, (size_t)(NFNL_NAME - n), "%02x", (unsigned char)*ifname);
}

/* The interface of such a chain; false: it is none. */
static bool ifname_of(const char *chain, char buf[IFNAMSIZ])
{
	unsigned n = 0;

	if (strncmp(chain, "ra-", 3))
		return false;
	for (chain += 3; n < IFNAMSIZ - 1 && sscanf(chain, "%2hhx", (unsigned char *)&buf[n]) == 1; chain += 2)
		n++;
	buf[n] = '\0';
	return n && !strchr(buf, '/') && strcmp(buf, ".") && strcmp(buf, "..");
}

/*
 * A host that forwards IPv6 listens to routers no more, and forgets its default route, unless the interface says 2.
 * Each that listens now goes on.
 */
static bool listens(const struct rtnl_link *k)
{
	char path[96], now[8];

	accept_ra_path(path, sizeof(path), k->name);
	return !k->loopback && strncmp(k->alias, "vireo:", 6) && lan_sysctl_get(path, now, sizeof(now)) &&
	       !strcmp(now, "1");
}

/* First written down, then done. */
static int note(struct rtnl *nf, const struct rtnl_links *links, const bool off[2], struct err *err)
{
	char chain[NFNL_NAME];
	struct nfnl_batch b;
	int rc;

	nfnl_begin(&b);
	nfnl_add_table(&b, NFPROTO_INET, LAN_FORWARDING);
	for (size_t i = 0; i < ARRAY_LEN(switches); i++)
		if (off[i])
			nfnl_add_chain(&b, NFPROTO_INET, LAN_FORWARDING, switches[i].chain);
	for (unsigned i = 0; off[1] && i < links->len; i++) {
		if (!listens(&links->v[i]))
			continue;
		chain_of(links->v[i].name, chain);
		nfnl_add_chain(&b, NFPROTO_INET, LAN_FORWARDING, chain);
	}
	rc = nfnl_commit(nf, &b, err);
	nfnl_end(&b);
	return rc;
}

int lan_forwarding_on(struct rtnl *nl, struct rtnl *nf, const struct lan_def *d, struct err *err)
{
	bool off[2] = { false };
	struct rtnl_links links;
	char path[96], now[8];
	int rc;

	for (size_t i = 0; i < ARRAY_LEN(switches); i++)
		off[i] = needs(d, i) && (!lan_sysctl_get(switches[i].path, now, sizeof(now)) || strcmp(now, "1"));
	if (!off[0] && !off[1])
		return 0;
	if (rtnl_links(nl, &links, err))
		return -1;
	rc = note(nf, &links, off, err);
	for (unsigned i = 0; off[1] && i < links.len && !rc; i++) {
		accept_ra_path(path, sizeof(path), links.v[i].name);
		if (listens(&links.v[i]))
			rc = lan_sysctl_set(path, "2", err);
	}
	for (size_t i = 0; i < ARRAY_LEN(switches) && !rc; i++)
		if (off[i])
			rc = lan_sysctl_set(switches[i].path, "1", err);
	rtnl_links_free(&links);
	return rc;
}

/* --- off --- */

/* Whether a network that runs needs one, but that of the name `but`. */
static bool needed(const struct lan_store *s, const char *but, size_t which)
{
	struct lan_def *d = malloc(sizeof(*d));
	struct lan_names names = { 0 };
	struct err ignored;
	bool yes = !d || lan_store_running(s, &names, &ignored);

	for (unsigned i = 0; i < names.len && !yes; i++) {
		json_t *state = strcmp(names.v[i], but) ? lan_run_read(s, names.v[i], "state.json") : NULL;

		yes = !lan_def_from_json(d, json_object_get(state, "def"), &ignored) && needs(d, which);
		json_decref(state);
	}
	lan_names_free(&names);
	free(d);
	return yes;
}

/* What somebody else has changed since is left as it is. */
static void set_back(const char *path, const char *from, const char *to)
{
	char now[8];
	struct err ignored;

	if (lan_sysctl_get(path, now, sizeof(now)) && !strcmp(now, from))
		lan_sysctl_set(path, to, &ignored);
}

struct notes {
	struct nfnl_batch *b;
	bool keep[2], left, any;
};

static void give_back(void *opaque, unsigned family, const char *chain)
{
	char ifname[IFNAMSIZ], path[96];
	struct notes *n = opaque;
	bool listened = ifname_of(chain, ifname);
	size_t i = listened || !strcmp(chain, switches[1].chain);

	if (n->keep[i] || (!listened && strcmp(chain, switches[i].chain))) {
		n->left = true;
		return;
	}
	if (listened) {
		accept_ra_path(path, sizeof(path), ifname);
		set_back(path, "2", "1");
	} else {
		set_back(switches[i].path, "1", "0");
	}
	nfnl_del_chain(n->b, NFPROTO_INET, LAN_FORWARDING, chain);
}

static void note_table(void *opaque, unsigned family, const char *name)
{
	struct notes *n = opaque;

	n->any |= family == NFPROTO_INET && !strcmp(name, LAN_FORWARDING);
}

void lan_forwarding_off(struct rtnl *nf, const struct lan_store *s, const char *but, struct nfnl_batch *b)
{
	struct notes n = { .b = b };
	struct err ignored;

	if (nfnl_tables(nf, note_table, &n, &ignored) || !n.any)
		return;
	for (size_t i = 0; i < ARRAY_LEN(switches); i++)
		n.keep[i] = needed(s, but, i);
	if (!nfnl_chains(nf, LAN_FORWARDING, give_back, &n, &ignored) && !n.left)
		nfnl_del_table(b, NFPROTO_INET, LAN_FORWARDING);
}
