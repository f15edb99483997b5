/*
 * The DHCPv6 server: RFC 8415 with IA_NA, 3646, 4704. As dhcp4.h. A known machine has one address, whatever it calls
 * itself; no temporary addresses and no prefixes are to be had. Relays are not served. The owner's thread.
 */
#ifndef VIREO_LAN_SERVE_DHCP6_H
#define VIREO_LAN_SERVE_DHCP6_H

#include "lan/serve/frame.h"
#include "lan/serve/lease.h"
#include "lan/serve/serve.h"

struct dhcp6_config {
	const struct lan_serve *serve; /* borrowed */
	struct leases *leases;	       /* NULL: facts only, no addresses */
	uint8_t mac[6];		       /* of the server, which its DUID is made of */
};

/* The message's type, or 0 for what is none. */
unsigned dhcp6_handle(const struct dhcp6_config *c, const struct frame_in *in, int64_t now, struct frame_out *out);

#endif
