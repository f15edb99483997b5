/*
 * The servers of one network, in a process and a network name space of their own: DHCPv4, DHCPv6, router advertisements
 * and DNS. What guests send is parsed there and nowhere else: without rights, without files but the leases, and without
 * a way to the host's network but the sockets of the forwarder, which an isolated network's process does not have.
 *
 * lan_serve_start() is for whoever makes the network, any thread; lan_serve_run() is the process itself.
 */
#ifndef VIREO_LAN_SERVE_SERVE_H
#define VIREO_LAN_SERVE_SERVE_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define LAN_HOSTS_MAX	   4096u
#define LAN_FORWARDERS_MAX 4u
#define LAN_OLD6_MAX	   4u
#define LAN_NAME_MAX	   63u	/* a label of DNS */
#define LAN_DOMAIN_MAX	   127u /* bytes of text */

/*
 * A machine that the network knows. Its addresses are kept for it, whatever others ask for: those that are given here,
 * or where none is (all zero), one of the range. `name` ("": none) is its name in DNS, which nobody else can take.
 */
struct lan_host {
	uint8_t mac[6];
	char name[LAN_NAME_MAX + 1];
	struct in_addr addr4;
	struct in6_addr addr6;
};

/* Where the servers were before, in a prefix that the network has no more, as somebody may still believe `until` then.
 */
struct lan_old6 {
	struct in6_addr addr6;
	int64_t until; /* seconds since 1970 */
};

/* All of it is copied. Addresses that are all zero are absent. */
struct lan_serve {
	char name[32]; /* of the network, for the log */
	/*
	 * The interface in the server's name space, and what it is given there: the servers answer at these addresses.
	 * They are not the gateway's, which is the host.
	 */
	char ifname[IFNAMSIZ];
	uint8_t mac[6]; /* all zero: as it is */
	struct in_addr addr4;
	unsigned prefix4; /* bits */
	struct in6_addr addr6;
	unsigned prefix6; /* bits; 64 for SLAAC */

	/* What is handed out: an inclusive range each. */
	struct in_addr first4, last4;
	struct in6_addr first6, last6;
	unsigned lease_s; /* seconds; 0: an hour */
	unsigned mtu;	  /* 0: not told */

	/* The router, if there is one: without it neither gateway nor default route is told to anybody. */
	struct in_addr gateway4;
	/*
	 * A link-local address, and the MAC of who has it. Advertisements are sent in its name, from the server's MAC:
	 * what filters the server's port must let them pass.
	 */
	struct in6_addr gateway6;
	struct in6_addr router6; /* the one of the network that it has as well */
	uint8_t gateway_mac[6];

	bool dhcp4, dhcp6, ra, dns;
	struct lan_old6 old6[LAN_OLD6_MAX]; /* the newest first; said to be no more by RAs */
	unsigned old6_len;
	bool slaac;			 /* RAs let everybody make its own address, too (with dhcp6; without, always) */
	char domain[LAN_DOMAIN_MAX + 1]; /* of the names of the machines: "lab.internal"; "": they have none */

	/*
	 * DNS of the rest of the world: nowhere (REFUSED), or these servers, or with none of them those
	 * of /etc/resolv.conf, as it is from time to time.
	 */
	bool forward;
	/*
	 * Nobody else has addresses of this network: answers of the rest of the world that have one are refused, so
	 * that a page from there cannot ask the network's machines in its own name (DNS rebinding).
	 */
	bool alone;
	unsigned forwarders;
	struct sockaddr_storage forwarder[LAN_FORWARDERS_MAX]; /* AF_INET or AF_INET6, with port */

	/* For booting by the network: where the file is (TFTP), which one, and which one for UEFI ("": the same). */
	struct in_addr boot_server;
	char boot_file[128], boot_file_efi[128];

	const struct lan_host *hosts;
	unsigned hosts_len;

	/*
	 * Replaced by renaming a file beside it, as `uid`: its directory is that user's. "": leases are not kept. A
	 * file that is lost, cut or lies costs the leases that are wrong in it.
	 */
	char lease_path[256];
	/* A socket that is made here (mode 0600), see below. "": none. */
	char control_path[108];
	/* Appended to; what guests can cause is limited. "": the standard error, which stays open. */
	char log_path[256];
	uid_t uid; /* (uid_t)-1: stay who it is */
	gid_t gid;
};

/*
 * Fork the process and wait until it serves. It has a session of its own, and of this process's descriptors its
 * standard error only; it ends by SIGTERM or "stop". Once it has its name space, attach() (in this process) puts the
 * interface `s->ifname` into the one of `pid`; the server gives it its addresses and takes it up. Nothing is left of it
 * after an error. Returns its pid, or -1 with an error.
 */
struct lan_serve_attach {
	int (*fn)(void *opaque, pid_t pid, struct err *err);
	void *opaque;
};
pid_t lan_serve_start(const struct lan_serve *s, const struct lan_serve_attach *attach, struct err *err);

/*
 * The same in this process, in the name space as it is, on an interface that is up and has its addresses. Writes to
 * `ready` (-1: none) a zero byte, or the line of an error, and closes it. Ends when `stop` (-1: none) reads its end, by
 * SIGTERM or by "stop". For a process of its own: the rights are gone afterwards.
 */
int lan_serve_run(const struct lan_serve *s, int ready, int stop, struct err *err);

/*
 * The control socket takes a JSON object a line and answers with one: {"return": ...} or {"error": {"class", "desc"}}.
 *
 *   {"execute": "leases"}  a list of {"family": 4 or 6, "mac", "address", "name", "id" (client id or DUID, hex),
 *                          "expires" (seconds since 1970; 0: kept for a known machine that does not have it now),
 *                          "known": whether the machine is one of the hosts}
 *   {"execute": "stats"}   an object of counters
 *   {"execute": "hosts", "arguments": {"hosts": [{"mac", "name", "address4", "address6"}, ...]}}
 *                          the known machines from now on; all but "mac" may be absent. Refused as a whole, or taken.
 *   {"execute": "stop"}    the process ends, after the answer; with {"replaced": true} another one takes its place: its
 *                          router is not said to be no more
 */

#endif
