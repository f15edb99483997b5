/*
 * What packet filters of the host that are not ours keep from a network, and what its administrator can do about it:
 * they have their say whatever ours accept, and nobody would look for them where a machine has no address. Nothing of
 * theirs is changed. Main thread.
 */
#ifndef VIREO_LAN_FIREWALLS_H
#define VIREO_LAN_FIREWALLS_H

#include <jansson.h>

#include "lan/def.h"
#include "lan/rtnl.h"

/* A sentence for each chain of theirs that drops something, with a command that helps; none where nothing can be seen.
 */
json_t *lan_firewalls(struct rtnl *nl, const struct lan_def *d, const char *bridge);
/* The same as warnings. */
void lan_firewalls_warn(struct rtnl *nl, const struct lan_def *d, const char *bridge);

#endif
