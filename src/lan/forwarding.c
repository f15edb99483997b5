/*
 * The host forwards while a network needs it: see host.h. What was so before is kept in a table of nft without a rule,
 * "vireo_forwarding": it lives exactly as long as the switches do, whatever happens to files. Its chains say it: "ipv4"
 * or "ipv6", that this one was off; and since the kernel sets others along with these, "redirects", that no redirects
 * were taken; "on4-", "on6-" or "ra-" and an interface's name as hex, that this one forwarded, or listened to routers.
 * The same is in a file, since somebody may remove all tables (`nft flush ruleset`): then the table is made again.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "lan/host.h"
#include "lan/lan_impl.h"

#define MOST		 256 /* interfaces of which one is given back what it had */
#define NOTES_MOST	 4096
#define REDIRECTS	 "redirects"
#define ACCEPT_REDIRECTS "ipv4/conf/all/accept_redirects"

static const struct {
	const char *chain, *path;
	const char *on; /* before the name of one that was on */
} switches[] = { { "ipv4", "ipv4/ip_forward", "on4-" }, { "ipv6", "ipv6/conf/all/forwarding", "on6-" } };

static const char ra[] = "ra-", accept_ra[] = "accept_ra", forwarding[] = "forwarding";

/* Which of the switches a definition needs. */
static bool needs(const struct lan_def *d, size_t i)
{
	return lan_has_gateway(d) && (i ? d->net6.len : d->net4.len);
}

static bool is_set(const char *path, const char *value)
{
	char now[8];

	return lan_sysctl_get(path, now, sizeof(now)) && !strcmp(now, value);
}

/* Ours, and none that has an interface of the host in it and what that had. */
static bool is_inner(const struct rtnl_link *k)
{
	return lan_is_marked(k) && !lan_has_uplink(k);
}

/* The same of an interface's own switches. */
static void own_path(char path[96], bool six, const char *ifname, const char *which)
{
	snprintf(path, 96, "ipv%d/conf/%.15s/%s", six ? 6 : 4, ifname, which);
}

static bool is_own(bool six, const char *ifname, const char *which, const char *value)
{
	char path[96];

	own_path(path, six, ifname, which);
	return is_set(path, value);
}

static int set_own(bool six, const char *ifname, const char *which, const char *value, struct err *err)
{
	char path[96];

	own_path(path, six, ifname, which);
	return lan_sysctl_set(path, value, err);
}

static void add_chain(struct nfnl_batch *b, const char *begin, const char *ifname)
{
	char chain[NFNL_NAME];
	int n = snprintf(chain, sizeof(chain), "%s", begin);

	for (; *ifname; ifname++)
		n += snprintf(chain + n, sizeof(chain) - (size_t)n, "%02x", (unsigned char)*ifname);
	nfnl_add_chain(b, NFPROTO_INET, LAN_FORWARDING, chain);
}

/* The interface of such a chain; false: it is none. */
static bool ifname_of(const char *chain, const char *begin, char buf[IFNAMSIZ])
{
	unsigned n = 0;

	if (strncmp(chain, begin, strlen(begin)))
		return false;
	for (chain += strlen(begin); n < IFNAMSIZ - 1 && sscanf(chain, "%2hhx", (unsigned char *)&buf[n]) == 1;
	     chain += 2)
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
	return !k->loopback && !is_inner(k) && is_own(true, k->name, accept_ra, "1") &&
	       !is_own(true, k->name, forwarding, "1");
}

/* --- the file --- */

static void notes_path(const struct lan_store *s, char path[2 * LAN_PATH])
{
	snprintf(path, 2 * LAN_PATH, "%s" LAN_FORWARDING_NOTES, s->run);
}

static void write_note(void *opaque, unsigned family, const char *chain)
{
	fprintf(opaque, "%s\n", chain);
}

/* All chains that there are. */
static int write_notes(struct rtnl *nf, const struct lan_store *s, struct err *err)
{
	char path[2 * LAN_PATH], here[LAN_HERE], *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int rc;

	if (!f)
		return err_set(err, "out of memory");
	lan_here(here);
	fprintf(f, "%s\n", here);
	rc = nfnl_chains(nf, LAN_FORWARDING, write_note, f, err);
	if (fclose(f))
		rc = err_set(err, "out of memory");
	notes_path(s, path);
	if (!rc)
		rc = lan_write_file(path, text, false, err);
	free(text);
	return rc ? -1 : 0;
}

static bool is_note(const char *word)
{
	for (const char *p = word; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '-')
			return false;
	return *word != '\0';
}

bool lan_forwarding_recall(struct rtnl *nf, const struct lan_store *s)
{
	char path[2 * LAN_PATH], here[LAN_HERE], word[128]; /* more than a name's bytes as hex */
	struct nfnl_batch b;
	struct err ignored;
	bool any = false;
	FILE *f;

	notes_path(s, path);
	f = fopen(path, "re");
	if (!f)
		return false;
	lan_here(here);
	nfnl_begin(&b);
	nfnl_add_table(&b, NFPROTO_INET, LAN_FORWARDING);
	if (fscanf(f, "%127s", word) == 1 && !strcmp(word, here))
		for (unsigned n = 0; n < NOTES_MOST && fscanf(f, "%127s", word) == 1; n++) {
			if (!is_note(word))
				continue;
			nfnl_add_chain(&b, NFPROTO_INET, LAN_FORWARDING, word);
			any = true;
		}
	fclose(f);
	any = any && !nfnl_commit(nf, &b, &ignored);
	nfnl_end(&b);
	return any;
}

/* First written down, then done. */
static int note(struct rtnl *nf, const struct rtnl_links *links, const bool off[2], struct err *err)
{
	struct nfnl_batch b;
	int rc;

	nfnl_begin(&b);
	nfnl_add_table(&b, NFPROTO_INET, LAN_FORWARDING);
	for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
		if (!off[i])
			continue;
		nfnl_add_chain(&b, NFPROTO_INET, LAN_FORWARDING, switches[i].chain);
		if (is_own(i, "default", forwarding, "1"))
			add_chain(&b, switches[i].on, "default");
		for (unsigned n = 0; n < links->len; n++)
			if (!is_inner(&links->v[n]) && is_own(i, links->v[n].name, forwarding, "1"))
				add_chain(&b, switches[i].on, links->v[n].name);
	}
	if (off[0] && is_set(ACCEPT_REDIRECTS, "0"))
		nfnl_add_chain(&b, NFPROTO_INET, LAN_FORWARDING, REDIRECTS);
	for (unsigned i = 0; off[1] && i < links->len; i++)
		if (listens(&links->v[i]))
			add_chain(&b, ra, links->v[i].name);
	rc = nfnl_commit(nf, &b, err);
	nfnl_end(&b);
	return rc;
}

int lan_forwarding_on(struct rtnl *nl, struct rtnl *nf, const struct lan_store *s, const struct lan_def *d,
		      struct err *err)
{
	bool off[2] = { false };
	struct rtnl_links links;
	int rc;

	for (size_t i = 0; i < ARRAY_LEN(switches); i++)
		off[i] = needs(d, i) && !is_set(switches[i].path, "1");
	if (!off[0] && !off[1])
		return 0;
	if (nfnl_check_table(nf, LAN_FORWARDING, err) || rtnl_links(nl, &links, err))
		return -1;
	rc = note(nf, &links, off, err) || write_notes(nf, s, err) ? -1 : 0;
	for (unsigned i = 0; off[1] && i < links.len && !rc; i++)
		if (listens(&links.v[i]))
			rc = set_own(true, links.v[i].name, accept_ra, "2", err);
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

struct notes {
	struct nfnl_batch *b;
	FILE *kept;		     /* what stays in the file */
	bool keep[2], off[2], taken; /* the switches as they are; redirects are taken */
	struct lan_forwarders others;
	bool any, left;
	/* What is given back. */
	bool noted[2], refuse;
	struct {
		char ifname[IFNAMSIZ];
		bool six;
	} on[MOST];
	unsigned len;
};

/* What somebody else has changed since is left as it is. */
static void give_back(void *opaque, unsigned family, const char *chain)
{
	struct notes *n = opaque;
	char ifname[IFNAMSIZ];
	bool own[2] = { ifname_of(chain, switches[0].on, ifname), false };
	bool listened = !own[0] && ifname_of(chain, ra, ifname), six;
	struct err ignored;

	if (family != NFPROTO_INET)
		return;
	own[1] = !own[0] && !listened && ifname_of(chain, switches[1].on, ifname);
	six = listened || own[1] || !strcmp(chain, switches[1].chain);
	if (n->keep[six] || (!six && !own[0] && strcmp(chain, switches[0].chain) && strcmp(chain, REDIRECTS))) {
		n->left = true;
		if (n->kept)
			write_note(n->kept, family, chain);
		return;
	}
	if (listened && !*n->others.who[1] && is_own(true, ifname, accept_ra, "2"))
		set_own(true, ifname, accept_ra, "1", &ignored);
	/* Where the switch is off already this has been begun before. */
	if (own[six] && n->len < MOST && (n->off[six] || is_own(six, ifname, forwarding, "1"))) {
		memcpy(n->on[n->len].ifname, ifname, IFNAMSIZ);
		n->on[n->len++].six = six;
	}
	n->noted[six] |= !strcmp(chain, switches[six].chain);
	n->refuse |= !strcmp(chain, REDIRECTS) && (n->off[0] || !n->taken);
	nfnl_del_chain(n->b, NFPROTO_INET, LAN_FORWARDING, chain);
}

static void note_table(void *opaque, unsigned family, const char *name)
{
	struct notes *n = opaque;

	n->any |= family == NFPROTO_INET && !strcmp(name, LAN_FORWARDING);
}

/* The switches, and what the kernel sets along with them. */
static void turn_off(const struct notes *n)
{
	struct err ignored;

	for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
		if (!n->noted[i] || n->off[i])
			continue;
		if (*n->others.who[i])
			log_line(LOG_WARN, "lan", "IPv%d forwarding stays on, for others (%s)", i ? 6 : 4,
				 n->others.who[i]);
		else
			lan_sysctl_set(switches[i].path, "0", &ignored);
	}
	if (n->refuse)
		lan_sysctl_set(ACCEPT_REDIRECTS, "0", &ignored);
	for (unsigned i = 0; i < n->len; i++)
		set_own(n->on[i].six, n->on[i].ifname, forwarding, "1", &ignored);
}

void lan_forwarding_off(struct rtnl *nl, struct rtnl *nf, const struct lan_store *s, const char *but,
			struct nfnl_batch *b)
{
	struct notes n = { .b = b };
	char path[2 * LAN_PATH], here[LAN_HERE], *text = NULL;
	struct err ignored;
	size_t len;

	if (nfnl_tables(nf, note_table, &n, &ignored) || !n.any)
		return;
	n.kept = open_memstream(&text, &len);
	lan_here(here);
	if (n.kept)
		fprintf(n.kept, "%s\n", here);
	for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
		n.keep[i] = needed(s, but, i);
		n.off[i] = !is_set(switches[i].path, "1");
	}
	if (!n.keep[0] || !n.keep[1])
		lan_find_forwarders(nl, nf, &n.others);
	n.taken = is_set(ACCEPT_REDIRECTS, "1");
	notes_path(s, path);
	if (!nfnl_chains(nf, LAN_FORWARDING, give_back, &n, &ignored)) {
		turn_off(&n);
		if (!n.left)
			nfnl_del_table(b, NFPROTO_INET, LAN_FORWARDING);
		if (!n.left || !n.kept || fflush(n.kept) || lan_write_file(path, text, false, &ignored))
			unlink(path);
	}
	if (n.kept)
		fclose(n.kept);
	free(text);
}
