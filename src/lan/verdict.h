/*
 * What packet filters of the host do with a packet of which something is known: by which interfaces it comes and goes,
 * whose it is, what it carries. Rules are carried out as far as that goes. One that may be met, by a condition on what
 * is not known, may accept it: so a packet is said to be dropped only where every one of its kind is.
 */
#ifndef VIREO_LAN_VERDICT_H
#define VIREO_LAN_VERDICT_H

#include <linux/if_ether.h>

#include "lan/book.h"

/* A byte of which some bits are known. */
struct half_byte {
	uint8_t v, known;
};

/* An interface; NULL: not known. */
struct probe_link {
	const char *name;
	bool begins; /* so, and how it goes on is not known */
};

struct probe {
	unsigned family; /* NFPROTO_IPV4 or NFPROTO_IPV6; in a bridge also NFPROTO_ARP */
	struct probe_link in, out;
	const char *bridge;	    /* in which it is; NULL: it passes the host */
	struct half_byte frame[14]; /* in a bridge */
	struct half_byte head[40];  /* of IPv4, IPv6 or ARP */
	struct half_byte ports[4];
	uint8_t protocol; /* IPPROTO_TCP and so on */
	unsigned state;	  /* one of NF_CT_STATE_* bits as rules have it */
	/* What verdict_drops() finds: it may have a mark; nobody may follow it, whatever its state. */
	bool marked, untracked;
	bool translated;  /* its connection is led here (dnat) */
	bool no_way_back; /* the host has no route to its sender by where it came from */
};

/* By a frame's header. */
static inline uint16_t probe_ethertype(unsigned family)
{
	return family == NFPROTO_IPV6 ? ETH_P_IPV6 : family == NFPROTO_ARP ? ETH_P_ARP : ETH_P_IP;
}
/* Whether this chain, which has a hook, drops it. */
bool verdict_drops(struct book *b, struct book_chain *base, const struct probe *p);

#endif
