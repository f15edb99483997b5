/* The parts of a network's packet filters, which rules.c puts together. */
#ifndef VIREO_LAN_RULES_IMPL_H
#define VIREO_LAN_RULES_IMPL_H

#include "lan/rules.h"

/* Of a network in which the host has an address. */
void lan_rules_routed(FILE *f, const struct lan_rules *r);
/* Of one in which it has none; its bridge must be there. */
void lan_rules_isolated(FILE *f, const struct lan_rules *r);
/* What machines may send each other, the host and the outside. */
void lan_rules_guarded(FILE *f, const struct lan_rules *r);

/* --- inside of that --- */
/* The chain "cable", by which everything goes that comes from a cable that is looked at, in the set "cables". */
void lan_rules_ports(FILE *f, const struct lan_rules *r);
/* Sets of the addresses that machines have made themselves, with what was learned under the filters before. */
void lan_rules_learned(FILE *f, const struct lan_rules *r);
/* Whether there is a cable by which not all may pass. */
bool lan_is_looked_at(const struct lan_port *p);
/* Rules by which the sender has the address at this place of its packet from now on, or is refused. */
void lan_rules_learn(FILE *f, const struct lan_rules *r, const char *at);

/* --- rules_text.c --- */
/* The beginning of a table, by which it is known as ours. */
void lan_rules_table(FILE *f, const char *family, const char *name);
/* A set whose elements come one by one. */
struct lan_set {
	FILE *f;
	bool any;
};
void lan_set_open(struct lan_set *s, FILE *f, const char *name, const char *head);
/* Where the next element is to be written. */
FILE *lan_set_next(struct lan_set *s);
void lan_set_close(struct lan_set *s);

/* Numbers as the kernel compares them with bytes of a packet. */
void lan_rules_hex6(FILE *f, const struct in6_addr *a);
/* A machine's name in chains and sets: its MAC, since it comes back by another tap. Returns buf. */
#define LAN_MACHINE 13
const char *lan_machine(const uint8_t mac[6], char buf[LAN_MACHINE]);

#endif
