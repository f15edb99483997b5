/*
 * The parts of the tap back end: descriptors and what runs over them (tap.c), where they come from (tap_open.c).
 * Private to net/; the loop thread.
 */
#ifndef VIREO_NET_TAP_H
#define VIREO_NET_TAP_H

#include <net/if.h>

#include "net/net.h"

/* A program that is run with the name of an interface: "" for none. */
struct net_tap_script {
	char program[256], ifname[IFNAMSIZ];
};
/* Its exit status; -1: it could not be run. */
int net_tap_run_script(const struct net_tap_script *s);
/* What is run when the peer is destroyed. */
void net_tap_set_down(struct net_peer *p, const struct net_tap_script *down);

#endif
