/*
 * The DHCPv4 server: RFC 2131, 2132, 3396, 3442, 4039, 4578. A request in, an answer out; what it knows between is in
 * the leases. The network's only one: what does not fit is refused at once. Relays are not served. The owner's thread.
 */
#ifndef VIREO_LAN_SERVE_DHCP4_H
#define VIREO_LAN_SERVE_DHCP4_H

#include "lan/serve/frame.h"
#include "lan/serve/lease.h"
#include "lan/serve/serve.h"

struct dhcp4_config {
	const struct lan_serve *serve; /* borrowed */
	struct leases *leases;
	uint8_t mac[6]; /* of the server */
};

/* What a request was, for counters: the message's type, or 0 for what is none. */
unsigned dhcp4_handle(const struct dhcp4_config *c, const struct frame_in *in, int64_t now, struct frame_out *out);

#endif
