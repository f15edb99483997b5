/* The parts of a network's packet filters, which rules.c puts together. */
#ifndef VIREO_LAN_RULES_IMPL_H
#define VIREO_LAN_RULES_IMPL_H

#include "lan/rules.h"

/* The beginning of a table, by which it is known as ours. */
void lan_rules_table(FILE *f, const char *family, const char *name);
/* Of a network in which the host has an address. */
void lan_rules_routed(FILE *f, const struct lan_rules *r);
/* Of one in which it has none; its bridge must be there. */
void lan_rules_isolated(FILE *f, const struct lan_rules *r);
/* What machines may send each other, the host and the outside. */
void lan_rules_guarded(FILE *f, const struct lan_rules *r);

#endif
