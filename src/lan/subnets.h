/*
 * Which subnets a network may have: those that it says are held against what others have, and free ones are found for
 * it. What others have is looked at one after the other and not kept: the host may know a million routes. Main thread,
 * with the lock of the store held.
 */
#ifndef VIREO_LAN_SUBNETS_H
#define VIREO_LAN_SUBNETS_H

#include "base/err.h"
#include "lan/def.h"
#include "lan/rtnl.h"
#include "lan/store.h"

/* Free subnets that are wanted, where the network has none. */
enum { LAN_WANT4 = 1, LAN_WANT6 = 2 };

/*
 * Give `d` what is wanted (LAN_WANT4 and so on): a /24 of the private address space, a unique local /64. An error says
 * who keeps a subnet of `d` from it: whoever has one that overlaps, but for wider routes of the host that a network's
 * own comes before; and the host alone where it is not in the network itself. Not asked of those that the network has
 * had `before` (NULL: none). What is at the bridge of the network itself is its own, whatever it is called now.
 */
int lan_fit_subnets(const struct lan_store *store, struct rtnl *nl, struct lan_def *d, const struct lan_def *before,
		    unsigned want, struct err *err);

/* --- its parts --- */

/* How somebody has a subnet. */
enum lan_hold {
	LAN_HOLD_NETWORK, /* a network of ours, also one that is down */
	LAN_HOLD_LINK,	  /* the host is in it */
	LAN_HOLD_AHEAD,	  /* the host knows a way there, and takes it rather than any to a network */
	LAN_HOLD_ROUTE,	  /* the host knows a way there */
};

#define LAN_CANDIDATES 16u
struct lan_subnets {
	struct lan_def *d;
	bool check4, check6;
	char who4[48], who6[48]; /* the first who keeps its subnets from it; "": nobody */
	uint8_t *four;		 /* how others have each /24 of the private address space; NULL: none is wanted */
	struct lan_net6 six[LAN_CANDIDATES];
	uint8_t had[LAN_CANDIDATES]; /* and these */
	unsigned candidates;
};
int lan_subnets_begin(struct lan_subnets *s, struct lan_def *d, const struct lan_def *before, unsigned want,
		      struct err *err);
/* The network, or the interface, `by` has it. */
void lan_subnets_see4(struct lan_subnets *s, const struct lan_net4 *n, enum lan_hold how, const char *by);
void lan_subnets_see6(struct lan_subnets *s, const struct lan_net6 *n, enum lan_hold how, const char *by);
/* After all has been seen; `s` is no more. */
int lan_subnets_end(struct lan_subnets *s, struct err *err);

#endif
