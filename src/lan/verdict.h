/*
 * What packet filters of the host do with a packet of which something is known: by which interfaces it comes and goes,
 * whose it is, what it carries. Rules are carried out as far as that goes. One that may be met, by a condition on what
 * is not known, may accept it: so a packet is said to be dropped only where every one of its kind is.
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
	struct half_byte head[40]; /* of IPv4 or IPv6 */
	struct half_byte ports[4];
	uint8_t protocol; /* IPPROTO_TCP and so on */
	unsigned state;	  /* one of NF_CT_STATE_* bits as rules have it */
	bool translated;  /* its connection is led here (dnat) */
	bool no_way_back; /* the host has no route to its sender by where it came from */
};

/* Whether this chain, which has a hook, drops it. */
bool verdict_drops(struct book *b, struct book_chain *base, const struct probe *p);

#endif
