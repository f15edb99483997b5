/*
 * IPv6 addresses that machines make themselves, by whom they are heard first (RFC 6620): see rules.h. A set for all of
 * a network says what is somebody's, another one whose; and each machine has a small one, so that it has no more than
 * its share. They are taken along when the filters are made anew, also those of machines that have no cable now: they
 * come back.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/rules_impl.h"

#define MOST 16u /* of one machine */

struct entry {
	const struct lan_port *port;
	struct in6_addr addr;
	unsigned expires; /* seconds */
};
struct learned {
	const struct lan_rules *r;
	struct entry *v;
	unsigned len, most;
};

/* Somebody else has it by right by now. */
static bool is_taken(const struct lan_rules *r, const struct in6_addr *a)
{
	const uint8_t *b = a->s6_addr + 8;
	const uint8_t mac[6] = { b[0] ^ 2, b[1], b[2], b[5], b[6], b[7] };
	uint8_t bridge[6];

	lan_bridge_mac(r->def->name, bridge);
	if (b[3] != 0xff || b[4] != 0xfe)
		return false;
	for (unsigned i = 0; i < r->ports->len; i++)
		if (*r->ports->v[i].tap && !memcmp(r->ports->v[i].mac, mac, 6))
			return true;
	return !memcmp(bridge, mac, 6);
}

bool lan_is_looked_at(const struct lan_port *p)
{
	return *p->tap && p->index && !p->trusted;
}

static const struct lan_port *owner(const struct lan_rules *r, const uint8_t mac[6])
{
	for (unsigned i = 0; i < r->ports->len; i++)
		if (!memcmp(r->ports->v[i].mac, mac, 6))
			return &r->ports->v[i];
	return NULL;
}

/* The parts of a key are filled up to words. */
#define ADDRESS_AT 8u

static void found(void *opaque, const void *key, size_t len, uint64_t expires)
{
	struct learned *l = opaque;
	struct entry *e = &l->v[l->len];
	const struct lan_port *port;
	unsigned has = 0;

	if (len != ADDRESS_AT + sizeof(e->addr) || l->len == l->most || expires < 1000)
		return;
	port = owner(l->r, key);
	memcpy(&e->addr, (const uint8_t *)key + ADDRESS_AT, sizeof(e->addr));
	for (unsigned i = 0; i < l->len; i++)
		has += l->v[i].port == port;
	if (!port || port->trusted || has == MOST || is_taken(l->r, &e->addr))
		return;
	e->port = port;
	e->expires = (unsigned)(expires / 1000);
	l->len++;
}

static void find(struct learned *l, const struct lan_rules *r)
{
	char table[LAN_NET_NAME + sizeof(LAN_TABLE)];
	struct err ignored;

	*l = (struct learned){ .r = r, .most = MOST * r->ports->len };
	l->v = calloc(l->most + 1, sizeof(*l->v));
	snprintf(table, sizeof(table), LAN_TABLE "%s", r->def->name);
	if (r->nf && l->v)
		nfnl_elements(r->nf, &(struct nfnl_set){ NFPROTO_BRIDGE, table, "mine" }, found, l, &ignored);
}

/* Those of one machine, or of all. */
static void put(FILE *f, const struct learned *l, const char *name, bool with_mac, const struct lan_port *of)
{
	const char *type = with_mac ? "typeof ether saddr . @nh,64,128" : "typeof @nh,64,128";
	char head[128], mac[LAN_TEXTMAC];
	struct lan_set s;

	snprintf(head, sizeof(head), "%s; flags dynamic,timeout; timeout 1h; size %u", type,
		 of ? MOST : l->most + MOST);
	lan_set_open(&s, f, name, head);
	for (unsigned i = 0; i < l->len; i++) {
		const struct entry *e = &l->v[i];

		if (of && e->port != of)
			continue;
		lan_set_next(&s);
		if (with_mac)
			fprintf(f, "%s . ", lan_text_mac(e->port->mac, mac));
		lan_rules_hex6(f, &e->addr);
		fprintf(f, " expires %us", e->expires);
	}
	lan_set_close(&s);
}

/* Its set may be full: then nothing is added, and the packet is not what it may send. */
static void put_share(FILE *f, const struct learned *l, const struct lan_port *p)
{
	static const struct {
		char letter;
		const char *at;
	} places[] = { { 's', "@nh,64,128" }, { 't', "@th,64,128" } };
	char mac[LAN_MACHINE], name[LAN_MACHINE + 2] = "l-";

	strcat(name, lan_machine(p->mac, mac));
	put(f, l, name, false, p);
	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		fprintf(f, "\tchain %c-%s {\n\t\tupdate @%s { %s } return\n\t\tgoto " LAN_REFUSED "\n\t}\n",
			places[i].letter, mac, name, places[i].at);
}

void lan_rules_learned(FILE *f, const struct lan_rules *r)
{
	struct learned l;

	find(&l, r);
	put(f, &l, "learned", false, NULL);
	put(f, &l, "mine", true, NULL);
	for (unsigned i = 0; i < r->ports->len; i++)
		if (lan_is_looked_at(&r->ports->v[i]))
			put_share(f, &l, &r->ports->v[i]);
	free(l.v);
}

void lan_rules_learn(FILE *f, const struct lan_rules *r, const char *at)
{
	char mac[LAN_TEXTMAC], name[LAN_MACHINE];
	bool any = false;

	for (unsigned i = 0; i < r->ports->len; i++) {
		const struct lan_port *p = &r->ports->v[i];

		if (!lan_is_looked_at(p))
			continue;
		fprintf(f, "%s%s : jump %c-%s", any ? ", " : "\t\tether saddr vmap { ", lan_text_mac(p->mac, mac),
			at[1] == 'n' ? 's' : 't', lan_machine(p->mac, name));
		any = true;
	}
	fprintf(f,
		"%s\t\tupdate @mine { ether saddr . %s } update @learned { %s }\n"
		"\t\tether saddr . %s != @mine goto " LAN_REFUSED "\n",
		any ? " }\n" : "", at, at, at);
}
