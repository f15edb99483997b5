/* Tables of iptables-legacy, and how a rule lies in them: see book.h. */
#ifndef VIREO_LAN_LEGACY_H
#define VIREO_LAN_LEGACY_H

#include "lan/book.h"

/* Where in an entry (linux/netfilter_ipv4/ip_tables.h, or of IPv6) its matches and target begin, and the next one. */
struct legacy_entry {
	unsigned matches, target, next;
};
struct legacy_entry legacy_entry(unsigned family, const void *at);
/* Add the chains of all tables that there are. */
void legacy_read(struct book *b);

#endif
