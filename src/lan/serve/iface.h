/* The interface of the servers, in their name space. Main thread. */
#ifndef VIREO_LAN_SERVE_IFACE_H
#define VIREO_LAN_SERVE_IFACE_H

#include <linux/filter.h>

#include "lan/serve/serve.h"

/* Its MAC, addresses (IPv6 without waiting for who else has them), and up; nothing is routed or learnt from routers. */
int iface_set(const struct lan_serve *s, struct err *err);
/* Its number and MAC. */
int iface_get(const char *ifname, unsigned *index, uint8_t mac[6], struct err *err);
/*
 * A packet socket on it that gets requests only: UDP to a DHCP server of either family, and router solicitations. UDP
 * sockets at those ports, which read nothing, keep the kernel from saying that nobody is there.
 */
int iface_open(const struct lan_serve *s, unsigned index, struct err *err);
/* The filter of that socket. */
const struct sock_filter *iface_filter(unsigned *len);

#endif
