/*
 * The name server of a network: the names of its machines, forward and reverse (RFC 1035, 2308, 6891), and for the rest
 * of the world a forwarder with a cache. The owner's thread.
 */
#ifndef VIREO_LAN_SERVE_DNS_H
#define VIREO_LAN_SERVE_DNS_H

#include <jansson.h>

#include "base/err.h"
#include "lan/serve/serve.h"

struct server;
struct forward;
struct dns;

/*
 * The sockets to other name servers, all that there will ever be: made where these are reached. Each query has a port
 * of its own, which the kernel chooses.
 */
struct forward *forward_new(const struct lan_serve *s, struct err *err);

/* Takes `f` (NULL: there is no rest of the world). */
struct dns *dns_new(struct server *v, struct forward *f, struct err *err);
/* Each second. */
void dns_tick(struct dns *d);
json_t *dns_stats(const struct dns *d);

#endif
