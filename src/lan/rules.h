/*
 * The packet filters of a network: one table of each needed family, named "vireo-NAME", as one text for the program
 * nft, which replaces them in one transaction. Other tables are never named. Main thread.
 *
 *   inet    what passes the host: forwarding, translation of addresses, published ports
 *   netdev  what reaches the host from an isolated network, and back: nothing
 *   bridge  what a machine may send: its own addresses only, and nothing that a server or a router says
 */
#ifndef VIREO_LAN_RULES_H
#define VIREO_LAN_RULES_H

#include <linux/netfilter/nf_conntrack_common.h>
#include <stdio.h>

#include "base/err.h"
#include "lan/def.h"
#include "lan/nfnl.h"

#define LAN_TABLE "vireo-" /* before the name of a network */
#define LAN_REFUSED                                                                                                    \
	"refused"	/* a chain, and the set in which it counts what each cable has sent that was not its own */
#define LAN_FROM "from" /* the chain that is without rules where no machine has a cable */

/* Of connections by a port that leads to their machine no more: the kernel keeps them for a time that is fixed. */
#define LAN_ENDED ((unsigned)(IPS_DST_NAT | IPS_FIXED_TIMEOUT))

/* A machine's cable in a network. */
struct lan_port {
	char tap[IFNAMSIZ]; /* "": pulled; its addresses are still kept for it */
	int index;	    /* of that interface, whatever it is called by now; 0: not known */
	char vm[64];
	uint8_t mac[6];
	uint32_t addr4;	       /* 0: none of ours (bridged) */
	struct in6_addr addr6; /* zero: as addr4 */
	bool trusted;	       /* what it sends is not looked at */
	unsigned mtu; /* that its card was told, and which it has no more than; 0: none, or that is not known */
};
struct lan_ports {
	struct lan_port *v;
	unsigned len;
};

/*
 * What the host itself has in a bridged network, and the routers that its routes lead by there; each once.
 */
struct lan_reserved {
	uint32_t *v4;
	struct in6_addr *v6;
	unsigned len4, len6;
};

/* All that the tables of a network are made of. */
struct lan_rules {
	const struct lan_def *def;
	const char *bridge;
	const struct lan_ports *ports;
	/* Networks of this host with which this one may talk, as their bridges. */
	char (*peers)[IFNAMSIZ];
	unsigned peers_len;
	struct lan_reserved reserved;
	struct rtnl *nf; /* where what machines have learned is kept from; NULL: nowhere */
	struct rtnl *nl; /* whose neighbors are spared; NULL: nobody's */
};

/*
 * Write the transaction that replaces the tables by others. Without `device` (the bridge is not there yet) what hangs
 * on one is left out.
 */
void lan_rules_write(FILE *f, const struct lan_rules *r, bool device);
/* An error where somebody else has a table of their name. */
int lan_rules_check(struct rtnl *nf, const char *name, struct err *err);
/* Add to a transaction what removes those that there are. */
int lan_rules_remove(struct rtnl *nf, const char *name, struct nfnl_batch *b, struct err *err);

#endif
