/*
 * Who a network's machines are: the same for its DHCP, its DNS and its published ports. Any thread; a list belongs to
 * its caller.
 */
#ifndef VIREO_LAN_KNOWN_H
#define VIREO_LAN_KNOWN_H

#include "lan/def.h"
#include "lan/rules.h"
#include "lan/serve/serve.h"

/*
 * Those that the definition names, and those that have cables. A name is the first one's that has it, and nobody
 * else's: those of the definition come first. NULL: no memory.
 */
struct lan_host *lan_known_hosts(const struct lan_def *d, const struct lan_ports *ports, unsigned *len);

/* What a port leads to: addresses of a machine that is there, or the one that is given. Zero where there is none. */
struct lan_target {
	uint32_t addr4;
	struct in6_addr addr6;
};
struct lan_target lan_target_of(const struct lan_publish *p, const struct lan_host *hosts, unsigned len);
/*
 * The machine that is called as the port says and has a cable, but is somebody else for DNS: the definition gives its
 * MAC another name. Of a list of lan_known_hosts() for the same ports; NULL: there is none, or one that the port leads
 * to.
 */
const struct lan_host *lan_renamed(const struct lan_publish *p, const struct lan_ports *ports,
				   const struct lan_host *hosts, unsigned len);

#endif
