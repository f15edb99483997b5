/*
 * Network peers: the host side of a network card. One file per back end; a front end (virtio-net, or a
 * switch) sees this header only.
 *
 * Frames are Ethernet without checksum sequence. A sender may leave work to the peer as struct net_offload says; a peer
 * that cannot do it uses net_segment() (offload.c).
 *
 * Threads: everything of a peer runs in the loop thread that it was made with.
 */
#ifndef VIREO_NET_NET_H
#define VIREO_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/loop.h"

#define NET_FRAME_MAX 65562u /* an IPv4 packet of the greatest size, with its Ethernet and VLAN headers */

/* As virtio-net's header says it (virtio 1.2, 5.1.6). All zero: the frame is complete. */
enum net_gso { NET_GSO_NONE = 0, NET_GSO_TCP4 = 1, NET_GSO_TCP6 = 4 };
struct net_offload {
	bool checksum; /* to be put at csum_start + csum_offset, over [csum_start, end) */
	uint16_t csum_start, csum_offset;
	enum net_gso gso;
	uint16_t mss; /* payload of a segment */
};

/* The front end. */
struct net_receiver {
	/*
	 * A complete frame for the guest, never from within send(). False: no room; the peer drops it or offers it
	 * again after ready().
	 */
	bool (*receive)(void *opaque, const uint8_t *frame, size_t len);
	/* The peer has room again, after a send() that found none; never from within send(). May be NULL. */
	void (*writable)(void *opaque);
	void *opaque;
};

struct net_peer;

struct net_peer_ops {
	const char *name;
	bool checked; /* the checksums of the frames it delivers are right: it made or verified them */
	/*
	 * A frame from the guest, at most NET_FRAME_MAX bytes. False: no room, offer it again after writable(). What
	 * cannot be sent at all is dropped.
	 */
	bool (*send)(struct net_peer *p, const uint8_t *frame, size_t len, const struct net_offload *o);
	/* The receiver has room again. May be NULL. */
	void (*ready)(struct net_peer *p);
	void (*destroy)(struct net_peer *p);
};

struct net_peer {
	const struct net_peer_ops *ops;
	struct net_receiver receiver; /* set by the front end before the guest runs */
};

/*
 * The user-mode network: libslirp with DHCP, DNS, NAT and port forwarding, in a process of its own. Keys are read below
 * `prefix` ("net0"): hostfwd, guestfwdN, restrict, tftp, bootfile.
 */
struct net_peer *net_user_new(struct loop *loop, struct config *c, const char *prefix, struct err *err);

/* The same keys, read only. */
int net_user_check(struct config *c, const char *prefix, struct err *err);

/*
 * Complete a frame in software: fill in the checksum, or cut it into segments; `out` gets each complete frame. A
 * frame whose headers contradict `o` is dropped.
 */
void net_segment(const uint8_t *frame, size_t len, const struct net_offload *o,
		 void (*out)(void *opaque, const uint8_t *frame, size_t len), void *opaque);

#endif
