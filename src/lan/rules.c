/* The tables of a network as one text: see rules.h. */
#include "lan/rules_impl.h"

#include <string.h>

#include "base/bytes.h"

static const char *const families[] = { "inet", "netdev", "bridge" };

/* "add" makes the "delete" succeed where there is none. */
static void remove_tables(FILE *f, const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		fprintf(f, "add table %s " LAN_TABLE "%s\ndelete table %s " LAN_TABLE "%s\n", families[i], name,
			families[i], name);
}

struct removal {
	struct nfnl_batch *b;
	char table[LAN_NET_NAME + sizeof(LAN_TABLE)];
};

static void remove_table(void *opaque, unsigned family, const char *name)
{
	struct removal *r = opaque;

	if (!strcmp(name, r->table) && (family == NFPROTO_INET || family == NFPROTO_NETDEV || family == NFPROTO_BRIDGE))
		nfnl_del_table(r->b, family, name);
}

int lan_rules_remove(struct rtnl *nf, const char *name, struct nfnl_batch *b, struct err *err)
{
	struct removal r = { .b = b };

	snprintf(r.table, sizeof(r.table), LAN_TABLE "%s", name);
	return nfnl_tables(nf, remove_table, &r, err);
}

int lan_rules_check(struct rtnl *nf, const char *name, struct err *err)
{
	char table[LAN_NET_NAME + sizeof(LAN_TABLE)];

	snprintf(table, sizeof(table), LAN_TABLE "%s", name);
	return nfnl_check_table(nf, table, err);
}

void lan_rules_write(FILE *f, const struct lan_rules *r, bool device)
{
	remove_tables(f, r->def->name);
	if (lan_has_gateway(r->def))
		lan_rules_routed(f, r);
	if (r->def->model == LAN_ISOLATED && device)
		lan_rules_isolated(f, r);
	lan_rules_guarded(f, r);
}
