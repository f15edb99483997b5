/*
 * The host forwards while a network needs it: see host.h. What was so before is kept in a table of nft without a rule,
 * "vireo_forwarding": it lives exactly as long as the switches do, whatever happens to files. A chain "ipv4" or "ipv6"
 * in it says that this one was off; a set holds the interfaces that listened to routers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/host.h"
#include "lan/nft.h"

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

static int run(FILE *f, char **text, struct err *err)
{
	int rc = fclose(f) ? err_set(err, "out of memory") : nft_run(*text, false, err);

	free(*text);
	return rc;
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
static int note(const struct rtnl_links *links, const bool off[2], struct err *err)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return err_set(err, "out of memory");
	fputs("table inet " LAN_FORWARDING " {\n", f);
	for (size_t i = 0; i < ARRAY_LEN(switches); i++)
		if (off[i])
			fprintf(f, "chain %s { }\n", switches[i].chain);
	for (unsigned i = 0, n = 0; off[1] && i < links->len; i++)
		if (listens(&links->v[i]))
			fprintf(f, "%s\"%s\"", n++ ? ", " : "set accept_ra { type ifname; elements = { ",
				links->v[i].name);
	fputs(off[1] && strstr((fflush(f), text), "accept_ra") ? " }; }\n}\n" : "}\n", f);
	return run(f, &text, err);
}

int lan_forwarding_on(struct rtnl *nl, const struct lan_def *d, struct err *err)
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
	rc = note(&links, off, err);
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

/* Whether a network that runs needs one. */
static bool needed(const struct lan_store *s, size_t which)
{
	struct lan_def *d = malloc(sizeof(*d));
	struct lan_names names = { 0 };
	struct err ignored;
	bool yes = !d || lan_store_running(s, &names, &ignored);

	for (unsigned i = 0; i < names.len && !yes; i++) {
		json_t *state = lan_run_read(s, names.v[i], "state.json");

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

static void listen_again(const json_t *set)
{
	json_t *elements = json_object_get(set, "elem"), *e;
	char path[96];
	size_t i;

	json_array_foreach(elements, i, e)
	{
		if (!json_string_value(e) || strpbrk(json_string_value(e), "/"))
			continue;
		accept_ra_path(path, sizeof(path), json_string_value(e));
		set_back(path, "2", "1");
	}
}

void lan_forwarding_off(const struct lan_store *s)
{
	struct err ignored;
	json_t *table = nft_json((const char *const[]){ "list", "table", "inet", LAN_FORWARDING, NULL }, &ignored),
	       *list = json_object_get(table, "nftables"), *o;
	bool left = false;
	char text[256] = "";
	size_t n;

	json_array_foreach(list, n, o)
	{
		const char *chain = json_string_value(json_object_get(json_object_get(o, "chain"), "name"));
		json_t *set = json_object_get(o, "set");
		size_t i = set || (chain && !strcmp(chain, switches[1].chain)), at = strlen(text);

		if ((!chain && !set) || needed(s, i)) {
			left |= chain || set;
			continue;
		}
		if (set)
			listen_again(set);
		else
			set_back(switches[i].path, "1", "0");
		snprintf(text + at, sizeof(text) - at, "delete %s inet " LAN_FORWARDING " %s\n", set ? "set" : "chain",
			 set ? "accept_ra" : switches[i].chain);
	}
	if (table && !left)
		snprintf(text, sizeof(text), "delete table inet " LAN_FORWARDING "\n");
	if (*text)
		nft_run(text, false, &ignored);
	json_decref(table);
}
