/* By what interfaces of the host are known as a network's: see lan_impl.h. */
#include <stdio.h>
#include <string.h>

#include "lan/lan_impl.h"

void lan_mark(const struct lan_store *s, const char *name, char buf[RTNL_ALIAS])
{
	snprintf(buf, RTNL_ALIAS, "vireo:%s@%s", name, s->id);
}

static bool marked(const char *alias, const char *mark)
{
	size_t len = strlen(mark);

	return !strncmp(alias, mark, len) &&
	       (!alias[len] || !strncmp(alias + len, LAN_MARK_UPLINK, strlen(LAN_MARK_UPLINK)));
}

bool lan_is_marked(const struct rtnl_link *k)
{
	return !strncmp(k->alias, "vireo:", strlen("vireo:"));
}

/* The mark that is seen, and the MAC that what we make has before that can be put on it, or where somebody has. */
bool lan_is_ours(const struct lan_store *s, const struct rtnl_link *k, const char *name)
{
	bool bridge = !strcmp(k->kind, "bridge");
	char alias[RTNL_ALIAS];
	uint8_t mac[6];

	lan_mark(s, name, alias);
	(bridge ? lan_bridge_mac : lan_server_mac)(name, mac);
	return marked(k->alias, alias) ||
	       ((bridge || !strcmp(k->kind, "veth")) && !lan_is_marked(k) && !memcmp(k->mac, mac, 6));
}

bool lan_has_uplink(const struct rtnl_link *k)
{
	return !strcmp(k->kind, "bridge") && lan_is_marked(k) && strstr(k->alias, LAN_MARK_UPLINK);
}

bool lan_is_cable(const struct lan_store *s, const struct rtnl_link *k, const char *name)
{
	char begin[RTNL_ALIAS];

	lan_mark(s, name, begin);
	strcat(begin, ":");
	return !strcmp(k->kind, "tun") && !strncmp(k->alias, begin, strlen(begin));
}

int lan_unmark_cables(struct lan *l, const char *name, struct err *err)
{
	struct rtnl_links links;
	int rc = 0;

	if (rtnl_links(&l->nl, &links, err))
		return -1;
	for (unsigned i = 0; i < links.len && !rc; i++)
		if (lan_is_cable(&l->store, &links.v[i], name))
			rc = rtnl_set_alias(&l->nl, links.v[i].index, "", err);
	rtnl_links_free(&links);
	return rc ? err_prefix(err, "cables of %s", name) : 0;
}

bool lan_link_is_ours(struct lan *l, const char *link, const char *name)
{
	struct rtnl_links links;
	const struct rtnl_link *k;
	struct err ignored;
	bool ours;

	if (rtnl_links(&l->nl, &links, &ignored))
		return false;
	k = rtnl_find(&links, link);
	ours = k && lan_is_ours(&l->store, k, name);
	rtnl_links_free(&links);
	return ours;
}

/* Where the other's identity begins in its mark; NULL: it is ours, nobody's, or another network's. */
static const char *others(const struct lan_store *s, const struct rtnl_link *k, const char *name)
{
	const size_t len = strlen(name);
	const char *at = lan_is_marked(k) ? strchr(k->alias, '@') : NULL;

	return at && (!len || (at == k->alias + 6 + len && !strncmp(k->alias + 6, name, len))) &&
			       strncmp(at + 1, s->id, strlen(s->id))
		       ? at + 1
		       : NULL;
}

bool lan_find_others(struct lan *l, const char *name, char id[LAN_ID])
{
	struct rtnl_links links;
	struct err ignored;
	const char *from = NULL;

	if (rtnl_links(&l->nl, &links, &ignored))
		return false;
	for (unsigned i = 0; i < links.len && !from; i++)
		from = others(&l->store, &links.v[i], name);
	if (from)
		snprintf(id, LAN_ID, "%.*s", (int)strcspn(from, ":"), from);
	rtnl_links_free(&links);
	return from != NULL;
}

bool lan_is_others(struct lan *l, const char *name)
{
	char id[LAN_ID];

	return lan_find_others(l, name, id);
}

int lan_not_others(struct lan *l, const char *name, struct err *err)
{
	if (!lan_is_others(l, name))
		return 0;
	/* Who may not end it is not told how. */
	return lan_host_rights(err) ? -1
				    : err_set(err,
					      "network %s: there is one of this name on the host, of another run "
					      "directory (`vireo net stop --foreign` removes it)",
					      name);
}

void lan_cable_mark(const struct lan_store *s, const char *name, const uint8_t mac[6], char buf[RTNL_ALIAS])
{
	char text[LAN_TEXTMAC];
	size_t len;

	lan_mark(s, name, buf);
	len = strlen(buf);
	snprintf(buf + len, RTNL_ALIAS - len, ":%s", lan_text_mac(mac, text));
}

bool lan_has_mark(const struct rtnl_link *k, const char *mark)
{
	const size_t len = strlen(mark);

	return !strncmp(k->alias, mark, len) && (!k->alias[len] || k->alias[len] == ':');
}
