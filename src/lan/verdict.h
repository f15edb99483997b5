/*
 * What packet filters of the host do with a packet of which something is known: by which interfaces it comes and goes,
 * whose it is, what it carries. Rules are carried out as far as that goes. A condition on what is not known is taken
 * for one that is not met, but in what is said of the network's own bridge by its name: whoever has written that has
 * thought of the network, and what it accepts of it counts. So a packet is said to be dropped where every one of its
 * kind is that no such rule accepts.
 */
#ifndef VIREO_LAN_VERDICT_H
#define VIREO_LAN_VERDICT_H

#include "lan/book.h"

/* A byte of which some bits are known. */
struct half_byte {
	uint8_t v, known;
};

struct probe {
	unsigned family;	   /* NFPROTO_IPV4 or NFPROTO_IPV6 */
	const char *in, *out;	   /* interfaces; NULL: not known */
	const char *bridge;	   /* of those the one that rules may name */
	struct half_byte head[40]; /* of IPv4 or IPv6 */
	struct half_byte ports[4];
	int protocol;	  /* -1: not known */
	unsigned state;	  /* one of NF_CT_STATE_* bits as rules have it */
	bool translated;  /* its connection is led here (dnat) */
	bool no_way_back; /* the host has no route to its sender by where it came from */
};

/* Whether this chain, which has a hook, drops it. */
bool verdict_drops(struct book *b, struct book_chain *base, const struct probe *p);

#endif
