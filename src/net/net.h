/*
 * Network peers: the host side of a network card. One file per back end; a front end (virtio-net, e1000, or a switch)
 * sees this header only.
 *
 * Frames are Ethernet without checksum sequence. Either side may leave work on them to the other as struct net_offload
 * says: a peer takes any work (what it cannot pass on it does with net_segment(), offload.c), a front end what it has
 * named in net_set_guest(); net_deliver() does the rest of it.
 *
 * A card of several queue pairs has a peer for each, linked by `next`: the first one stands for all of them in
 * net_set_guest() and destroy.
 *
 * Threads: everything of a peer runs in the loop thread that it was made with.
 */
#ifndef VIREO_NET_NET_H
#define VIREO_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/uio.h>

#include "base/config.h"
#include "base/err.h"
#include "base/loop.h"

#define NET_FRAME_MAX 65562u /* an IPv4 packet of the greatest size, with its Ethernet and VLAN headers */

/* As virtio-net's header says it (virtio 1.2, 5.1.6). All zero: the frame is complete, and nobody has verified it. */
enum net_gso { NET_GSO_NONE = 0, NET_GSO_TCP4 = 1, NET_GSO_TCP6 = 4, NET_GSO_UDP = 5 };
struct net_offload {
	bool checksum; /* to be put at csum_start + csum_offset, over [csum_start, end) */
	bool valid;    /* its checksums are right: the peer has made or verified them */
	bool ecn;      /* of TCP: the first segment alone has CWR */
	uint16_t csum_start, csum_offset;
	enum net_gso gso;
	uint16_t mss;	 /* payload of a segment */
	uint16_t header; /* the length of all headers; a hint, 0: not known */
};

bool net_gso_known(unsigned gso);

/* Work that one side can leave to the other. */
enum {
	NET_CSUM = 1,
	NET_TSO4 = 2,
	NET_TSO6 = 4,
	NET_ECN = 8, /* with either TSO */
	NET_USO = 16 /* UDP, over IPv4 and IPv6 */
};

/* A frame from the guest. It lies where the guest put it, and may change as long as it is not `stable`. */
struct net_packet {
	const struct iovec *iov;
	unsigned count;
	bool stable;
	size_t len; /* of all pieces: at most NET_FRAME_MAX */
	struct net_offload offload;
};
#define NET_PIECES 64 /* of a packet, at most */

/* The front end. */
struct net_receiver {
	/*
	 * A frame for the guest with work that it accepts, never from within send(); see net_deliver(). False: no room;
	 * the peer drops it or offers it again after ready().
	 */
	bool (*receive)(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o);
	/* The peer has room again, after a send() that found none; never from within send(). May be NULL. */
	void (*writable)(void *opaque);
	void *opaque;
	/*
	 * The other end is gone for good, as a cable that was pulled. Of the first peer, never from within send(). May
	 * be NULL.
	 */
	void (*unplugged)(void *opaque);
};

struct net_peer;

struct net_peer_ops {
	const char *name;
	/*
	 * A frame from the guest. False: no room, offer it again after writable(). What cannot be sent at all is
	 * dropped. Calls nothing of the receiver: a front end may hold its locks. A peer that looks into the frame, or
	 * needs it later, takes a copy first: net_flat().
	 */
	bool (*send)(struct net_peer *p, const struct net_packet *k);
	/* The receiver has room again. May be NULL. */
	void (*ready)(struct net_peer *p);
	/* `accepts` or `queues` has changed. Of the first peer. May be NULL. */
	void (*set_guest)(struct net_peer *p);
	/* For people, what `info usernet` says. Of the first peer. May be NULL. */
	void (*print)(struct net_peer *p, FILE *out);
	void (*destroy)(struct net_peer *p);
};

struct net_peer {
	const struct net_peer_ops *ops;
	struct net_receiver receiver; /* set by the front end before the guest runs */
	struct net_peer *next;	      /* of the next queue pair */
	unsigned takes;		      /* the work that is passed on and not done in software */
	unsigned accepts;	      /* work that the guest takes: see net_set_guest() */
	unsigned queues;	      /* pairs in use; of the first peer */
	char interface[16];	      /* of the host, where it is one: for people; of the first peer */
	bool gone;		      /* unplugged() was or would have been called; of the first peer */
};

/* What the front end accepts, after each negotiation; before the first it is nothing, of one queue. */
void net_set_guest(struct net_peer *p, unsigned accepts, unsigned queues);

/* A peer's frame to its receiver: work that the guest does not accept is done before. As receive(). */
bool net_deliver(struct net_peer *p, const uint8_t *frame, size_t len, const struct net_offload *o);

/* A frame in one piece that does not change, to a peer. */
bool net_send(struct net_peer *p, const uint8_t *frame, size_t len, const struct net_offload *o);

/* A reverse ARP of that card, which switches learn from where it is. */
void net_announce(struct net_peer *p, const uint8_t mac[6]);

/* The packet's bytes in one piece that no guest can change: in `buf`, of NET_FRAME_MAX bytes, or where they are. */
const uint8_t *net_flat(const struct net_packet *k, uint8_t *buf);

/*
 * The user-mode network: libslirp with DHCP, DNS, NAT and port forwarding, in a process of its own. Keys are read below
 * `prefix` ("net0"): hostfwd, guestfwdN, restrict, tftp, bootfile; and where it is and what it tells a guest: net,
 * host, dns, dhcpstart, ipv4, ipv6, ipv6-net, ipv6-host, ipv6-dns, hostname, domainname, dnssearch, tftp-server-name.
 */
struct net_peer *net_user_new(struct loop *loop, struct config *c, const char *prefix, struct err *err);

/* The same keys, read only: nothing is opened. So are those of the others below. */
int net_user_check(struct config *c, const char *prefix, struct err *err);
int net_tap_check(struct config *c, const char *prefix, struct err *err);
int net_socket_check(struct config *c, const char *prefix, struct err *err);
int net_stream_check(struct config *c, const char *prefix, struct err *err);
int net_dgram_check(struct config *c, const char *prefix, struct err *err);

/*
 * A port more, or less, of a user-mode network that net_user_new() has made: "[tcp|udp]:[ADDRESS]:PORT", and behind it
 * "-[ADDRESS]:PORT" of one more. The key below `prefix` says so, too, from then on.
 */
int net_user_add_forward(struct net_peer *p, struct config *c, const char *prefix, const char *text, struct err *err);
/* 1 if there is none such. */
int net_user_remove_forward(struct net_peer *p, struct config *c, const char *prefix, const char *text,
			    struct err *err);

/* For people: where a user-mode network is. */
void net_user_describe(struct config *c, const char *prefix, FILE *out);

#define NET_QUEUES_MAX 8 /* pairs of one card */

/* A tap of the host. Keys: ifname, fd, fds, script, downscript, bridge, helper, queues, sndbuf. */
struct net_peer *net_tap_new(struct loop *loop, struct config *c, const char *prefix, struct err *err);
/*
 * The same of descriptors that are open (IFF_TAP | IFF_NO_PI, and IFF_VNET_HDR for frames that travel whole), each a
 * queue of one tap. They are taken, also on error. `name` is for people ("net0").
 */
struct net_peer *net_tap_from_fds(struct loop *loop, const char *name, const int *fds, unsigned count, struct err *err);

/*
 * Sockets with QEMU's wire formats. Keys: listen, connect, reconnect, fd (stream); remote, local, fd (dgram); socket
 * has those of stream, and mcast, udp, localaddr.
 */
struct net_peer *net_socket_new(struct loop *loop, struct config *c, const char *prefix, struct err *err);
struct net_peer *net_stream_new(struct loop *loop, struct config *c, const char *prefix, struct err *err);
struct net_peer *net_dgram_new(struct loop *loop, struct config *c, const char *prefix, struct err *err);

/* The program passt. Keys: socket (of one that runs), program, tcp-ports, udp-ports. */
struct net_peer *net_passt_new(struct loop *loop, struct config *c, const char *prefix, struct err *err);

/* Nothing is at the other end. */
struct net_peer *net_null_new(struct loop *loop, struct config *c, const char *prefix, struct err *err);

/* What passes `inner` is kept in a file of pcap's format. Takes `inner`, also on error. */
struct net_dump_config {
	const char *name; /* "net0" */
	const char *path;
	uint32_t maxlen; /* bytes of a frame that are kept */
	bool goes_on;	 /* behind what there is, if that is a capture like this one */
};
struct net_peer *net_dump_new(struct net_peer *inner, const struct net_dump_config *c, struct err *err);

/*
 * Complete a frame in software: fill in the checksum, or cut it into segments; `out` gets each complete frame. A
 * frame whose headers contradict `o` is dropped.
 */
void net_segment(const uint8_t *frame, size_t len, const struct net_offload *o,
		 void (*out)(void *opaque, const uint8_t *frame, size_t len), void *opaque);

#endif
