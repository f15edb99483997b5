/*
 * What the filters of a network have refused since it was started. They are replaced whenever a machine comes or goes,
 * and begin to count anew then: what they have counted before is kept in a file. See lan_impl.h.
 */
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "lan/lan_impl.h"

#define KEPT "refused.json"

struct count {
	const struct lan_run *r;
	const char *table;
	json_t *filters, *cables; /* by chain; by the MAC of whose cable it is */
};

static void add(json_t *o, const char *key, uint64_t n)
{
	json_object_set_new(o, key, json_integer((json_int_t)n + json_integer_value(json_object_get(o, key))));
}

/* What an expression has counted. False: it does not count. */
static bool counted(const struct rtattr *expression, uint64_t *packets)
{
	const struct rtattr *t[NFTA_EXPR_DATA + 1], *c[NFTA_COUNTER_PACKETS + 1];
	char name[NFNL_NAME];

	nfnl_nested(expression, t, NFTA_EXPR_DATA);
	if (!nfnl_text(t[NFTA_EXPR_NAME], name) || strcmp(name, "counter"))
		return false;
	nfnl_nested(t[NFTA_EXPR_DATA], c, NFTA_COUNTER_PACKETS);
	if (!c[NFTA_COUNTER_PACKETS] || RTA_PAYLOAD(c[NFTA_COUNTER_PACKETS]) != 8)
		return false;
	*packets = ld_be64(RTA_DATA(c[NFTA_COUNTER_PACKETS]));
	return true;
}

/* Each rule of ours that counts drops. */
static int add_rule(void *opaque, unsigned family, const struct rtattr *const *t)
{
	const struct rtattr *list = t[NFTA_RULE_EXPRESSIONS];
	int left = list ? (int)RTA_PAYLOAD(list) : 0;
	char table[NFNL_NAME], chain[NFNL_NAME];
	const struct count *c = opaque;
	uint64_t packets;

	if (!nfnl_text(t[NFTA_RULE_TABLE], table) || strcmp(table, c->table) || !nfnl_text(t[NFTA_RULE_CHAIN], chain))
		return 0;
	for (const struct rtattr *a = list ? RTA_DATA(list) : NULL; a && RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (counted(a, &packets))
			add(c->filters, chain, packets);
	return 0;
}

/* An element of the set of cables: the number of its interface, and a counter. */
static void add_cable(const struct count *c, const struct rtattr *element)
{
	const struct rtattr *t[NFTA_SET_ELEM_EXPR + 1], *key[NFTA_DATA_VALUE + 1];
	char mac[LAN_TEXTMAC];
	uint64_t packets;
	int index;

	nfnl_nested(element, t, NFTA_SET_ELEM_EXPR);
	nfnl_nested(t[NFTA_SET_ELEM_KEY], key, NFTA_DATA_VALUE);
	if (!key[NFTA_DATA_VALUE] || RTA_PAYLOAD(key[NFTA_DATA_VALUE]) != sizeof(index) ||
	    !counted(t[NFTA_SET_ELEM_EXPR], &packets))
		return;
	memcpy(&index, RTA_DATA(key[NFTA_DATA_VALUE]), sizeof(index));
	for (unsigned i = 0; i < c->r->ports.len; i++)
		if (c->r->ports.v[i].index == index)
			add(c->cables, lan_text_mac(c->r->ports.v[i].mac, mac), packets);
}

static int add_cables(void *opaque, unsigned family, const struct rtattr *const *t)
{
	const struct rtattr *list = t[NFTA_SET_ELEM_LIST_ELEMENTS];
	int left = list ? (int)RTA_PAYLOAD(list) : 0;

	for (const struct rtattr *a = list ? RTA_DATA(list) : NULL; a && RTA_OK(a, left); a = RTA_NEXT(a, left))
		add_cable(opaque, a);
	return 0;
}

static json_t *part(json_t *o, const char *key)
{
	if (!json_is_object(json_object_get(o, key)))
		json_object_set_new(o, key, json_object());
	return json_object_get(o, key);
}

json_t *lan_drops(struct lan *l, const struct lan_run *r)
{
	static const unsigned families[] = { NFPROTO_INET, NFPROTO_BRIDGE };
	json_t *o = lan_run_read(&l->store, r->def.name, KEPT);
	char table[NFNL_NAME];
	struct count c = { .r = r, .table = table };
	struct err ignored;

	if (!json_is_object(o)) {
		json_decref(o);
		o = json_object();
	}
	c.filters = part(o, "filters");
	c.cables = part(o, "cables");
	snprintf(table, sizeof(table), LAN_TABLE "%s", r->def.name);
	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		nfnl_each(&l->nf, &(struct nfnl_query){ NFT_MSG_GETRULE, families[i], table, NULL }, add_rule, &c,
			  &ignored);
	nfnl_each(&l->nf, &(struct nfnl_query){ NFT_MSG_GETSETELEM, NFPROTO_BRIDGE, table, LAN_REFUSED }, add_cables,
		  &c, &ignored);
	return o;
}

static bool has_any(const json_t *counts)
{
	const char *key;
	json_t *n;

	json_object_foreach((json_t *)counts, key, n)
	{
		if (json_integer_value(n))
			return true;
	}
	return false;
}

void lan_drops_keep(struct lan *l, const char *name, const json_t *drops)
{
	struct err ignored;

	/* Where nothing can be written they begin anew. */
	if (has_any(json_object_get(drops, "filters")) || has_any(json_object_get(drops, "cables")))
		lan_run_write(&l->store, name, KEPT, drops, &ignored);
}
