/*
 * Cards in networks of the host, for the table of back ends (nets.c): "netN.backend" names the network. Main thread,
 * while the machine is made.
 */
#ifndef VIREO_VM_LAN_H
#define VIREO_VM_LAN_H

#include <stdbool.h>

#include "base/config.h"

struct net_peer;
struct vm;

/* Whether there is a network of this name. */
bool vm_lan_is(const char *name);
/* Whether root has networks that are not this user\'s. */
bool vm_lan_is_roots(void);
/* Card `n` gets the network's MTU, and a MAC that follows from the names of machine and network, if it was given none.
 */
int vm_lan_prepare(struct config *c, unsigned n, const char *prefix, struct err *err);
/* A cable in the network, which is started if it is down (`started`: it was). Keys: queues. */
struct net_peer *vm_lan_peer(struct vm *vm, const char *prefix, bool *started, struct err *err);
/* Of a machine that has not begun, and has no cables any more: what it has started ends. */
void vm_lan_leave(struct config *c, const char *prefix);

#endif
