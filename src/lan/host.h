/*
 * The host that networks stand in: what it allows, its switches under /proc/sys/net, and who else needs these.
 * Main thread, with the lock of the store held.
 */
#ifndef VIREO_LAN_HOST_H
#define VIREO_LAN_HOST_H

#include "base/err.h"
#include "lan/def.h"
#include "lan/nfnl.h"
#include "lan/store.h"

/* The rights to change networks, and to make name spaces of them. */
int lan_host_rights(struct err *err);

/* /proc/sys/net/PATH, as "ipv4/ip_forward". */
bool lan_sysctl_get(const char *path, char *buf, unsigned size);
int lan_sysctl_set(const char *path, const char *value, struct err *err);
/* All switches that an interface has for itself, to another one that is not up yet. */
int lan_switches_copy(const char *from, const char *to, struct err *err);

/* Of which boot and name space what is so is: a file may outlive both. */
#define LAN_HERE 80
void lan_here(char buf[LAN_HERE]);

/*
 * Who else has the host forward, by family: whoever translates addresses, or has a bridge or a pair with the host in it
 * for others to leave by. "": nobody is seen.
 */
#define LAN_WHO 48
struct lan_forwarders {
	char who[2][LAN_WHO];
};
void lan_find_forwarders(struct rtnl *nl, struct rtnl *nf, struct lan_forwarders *f);

#define LAN_FORWARDING "vireo_forwarding" /* a table of nft */
/*
 * Let the host forward, and remember what was so before: given back by lan_forwarding_off(), once no network needs it,
 * where nobody else has changed it since.
 */
int lan_forwarding_on(struct rtnl *nl, struct rtnl *nf, const struct lan_store *s, const struct lan_def *d,
		      struct err *err);
/* The table is not there: whether it was lost, and is there again. */
bool lan_forwarding_recall(struct rtnl *nf, const struct lan_store *s);
/*
 * That of the name `but` counts no more. What was remembered goes with `b`. Where others forward by now it stays on,
 * and is theirs: they have found it so, and would be cut off.
 */
void lan_forwarding_off(struct rtnl *nl, struct rtnl *nf, const struct lan_store *s, const char *but,
			struct nfnl_batch *b);

#endif
