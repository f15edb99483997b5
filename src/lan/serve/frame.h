/*
 * The frames of the servers, without the kernel's tables of neighbours: an answer goes to the MAC that asked. Whole
 * frames in, whole frames out. Pure functions, any thread.
 */
#ifndef VIREO_LAN_SERVE_FRAME_H
#define VIREO_LAN_SERVE_FRAME_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_ETH  14u
#define FRAME_UDP4 (FRAME_ETH + 20u + 8u) /* where the contents begin */
#define FRAME_UDP6 (FRAME_ETH + 40u + 8u)
#define FRAME_ICMP (FRAME_ETH + 40u)
#define FRAME_MAX  (FRAME_ETH + 1500u)

struct frame_in {
	bool v6;
	uint8_t proto;	/* IPPROTO_UDP or IPPROTO_ICMPV6 */
	uint8_t mac[6]; /* who sent it */
	bool multicast; /* to a group or everybody, by its MAC */
	struct in_addr src4, dst4;
	struct in6_addr src6, dst6;
	uint16_t sport, dport;
	const uint8_t *data; /* in the frame: behind UDP's header; at ICMP's */
	size_t len;
};

/*
 * False for anything but UDP over IPv4 or IPv6 and ICMPv6, whole and without extension headers. `summed`: the checksum
 * has been made already; a frame of this host's may not have one.
 */
bool frame_parse(const uint8_t *frame, size_t len, bool summed, struct frame_in *in);

struct frame_out {
	size_t len; /* 0: there is none */
	uint8_t b[FRAME_MAX];
};

struct frame_ends {
	uint8_t src_mac[6], dst_mac[6];
	struct in_addr src4, dst4;
	struct in6_addr src6, dst6;
	uint16_t sport, dport;
};

/* Put headers around the `len` bytes at FRAME_UDP4, FRAME_UDP6 or FRAME_ICMP of `o`, which fit. */
void frame_udp4(struct frame_out *o, const struct frame_ends *e, size_t len);
void frame_udp6(struct frame_out *o, const struct frame_ends *e, size_t len);
void frame_icmp6(struct frame_out *o, const struct frame_ends *e, size_t len);

#endif
