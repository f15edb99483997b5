/*
 * The parts of the user-mode network: what the configuration says, and libslirp. Private to net/; the loop thread.
 */
#ifndef VIREO_NET_USER_H
#define VIREO_NET_USER_H

#include <netinet/in.h>

#include "net/net.h"

#define NET_FORWARDS 64
#define NET_SEARCH   16 /* domains to look for names in */

struct net_forward {
	bool udp;
	struct in_addr host, guest;
	uint16_t host_port, guest_port; /* host byte order; of the guest 0: there is none at this place */
	bool chosen;			/* the kernel chooses that of the host */
	int held;			/* > 0: a socket that keeps it; closed in the network's process */
};

#define NET_GUEST_FORWARDS 8
/* A port of an address in the guest's network, and what is behind it. */
struct net_guest_forward {
	enum net_guest_forward_kind {
		NET_TO_COMMAND, /* one for each connection, its standard input and output */
		NET_TO_UNIX,	/* a connection to that socket for each */
		NET_TO_TCP	/* one connection, made at the start */
	} kind;
	struct in_addr addr;
	uint16_t port;	 /* host byte order */
	char where[256]; /* of TCP: "tcp:HOST:PORT" */
};

struct net_user_config {
	char name[32];				   /* "net0" */
	bool restricted;			   /* nothing but DHCP and forwarded ports */
	uint16_t mtu;				   /* that the card has told the guest; 0: none */
	bool ipv4, ipv6;			   /* one of them at least */
	struct in_addr net, mask, host, dns, dhcp; /* dhcp: of the guest, where no other is said */
	struct in6_addr prefix6, host6, dns6;
	uint8_t prefix6_length;
	char hostname[33], domain[256], tftp_server[256]; /* what DHCP tells; "": nothing */
	char search[256];				  /* names, each with its end, at search_at */
	uint16_t search_at[NET_SEARCH];
	unsigned search_count;
	char tftp[1024], bootfile[128]; /* a directory that TFTP gives files of, what DHCP says to load; "": none */
	unsigned count;
	struct net_forward forward[NET_FORWARDS];
	unsigned guest_count;
	struct net_guest_forward guest_forward[NET_GUEST_FORWARDS];
};

/* The keys below `prefix`. Opens nothing. */
int net_user_read(struct net_user_config *u, struct config *c, const char *prefix, struct err *err);

/* user_place.c: of them those that say where the network is, which others are compared with; after `restricted`. */
int net_user_read_place(struct net_user_config *u, struct config *c, const char *prefix, struct err *err);
/* A host of the network may have this address. */
bool net_user_has(const struct net_user_config *u, struct in_addr a);

/*
 * user_jail.c: from now on this process, which is the network's alone, may do no more than libslirp has to for this
 * configuration.
 */
int net_user_confine(const struct net_user_config *c, struct err *err);
/* The error that a port of the host is not opened, and what helps where that takes a right. Always returns -1. */
int net_user_refused(const struct net_forward *f, const char *name, int errnum, struct err *err);

/* --- user_frame.c --- */

/*
 * A TCP acknowledgement that says all that the one before it has said. The library makes one for each segment, which a
 * large frame of the guest has many of. Those that repeat a number say that something is missing.
 */
bool user_frame_supersedes(const uint8_t *f, size_t len, const uint8_t *old, size_t old_len);

enum user_frame_kind {
	USER_FRAME_OTHER,
	USER_FRAME_SYN,	     /* TCP, begins a connection */
	USER_FRAME_DATAGRAM, /* UDP, a message of ICMP, a ping of ICMPv6 */
	USER_FRAME_NEIGHBOR  /* who has an address: ARP, and neighbor discovery of IPv6 */
};
enum user_frame_kind user_frame_kind(const uint8_t *f, size_t len);
/* Of the last kind, and says who has it. */
bool user_frame_answers_neighbor(const uint8_t *f, size_t len);

/* A connection of TCP from the guest's side, as a packet has it. Addresses of IPv4 are mapped ones. */
struct user_flow {
	uint8_t guest[16], peer[16], ports[4];
};
/* `port` in host byte order. */
void user_flow_set(struct user_flow *w, struct in_addr guest, uint16_t port, const struct sockaddr_in *peer);
/* The one that the guest sends a segment of; false: it is no such frame, or has options of IP. */
bool user_frame_flow(struct user_flow *w, const uint8_t *f, size_t len);
/* A reset, as if the guest had sent it itself. The frame's length. */
#define USER_FRAME_RESET (14 + 40 + 20)
size_t user_frame_reset(uint8_t f[USER_FRAME_RESET], const struct user_flow *w, uint32_t seq);

/* --- user_pipe.c: a port of the guest's network that is one connection of the host --- */

struct Slirp;
struct user_pipe;

/* Connects to f->where; an error begins with `key`. */
struct user_pipe *user_pipe_new(struct loop *loop, struct Slirp *slirp, const struct net_guest_forward *f,
				const char *key, struct err *err);
/* The guest's bytes, for slirp_add_guestfwd(). */
ssize_t user_pipe_write(const void *buf, size_t len, void *opaque);
/* Before each sleep: only while the guest takes bytes is anybody asked for some. */
void user_pipe_watch(struct user_pipe *p);
/* After slirp's end. `p` may be NULL. */
void user_pipe_free(struct user_pipe *p);

/* --- user_queue.c: frames that wait for the guest --- */

struct user_queue;
struct user_queue *user_queue_new(struct loop *loop, struct net_peer *peer); /* NULL: out of memory */
void user_queue_free(struct user_queue *q);				     /* `q` may be NULL */
/* Copies the frame, and delivers it when the loop runs. */
void user_queue_add(struct user_queue *q, const uint8_t *frame, size_t len);
/* The guest has room. */
void user_queue_drain(struct user_queue *q);

/* --- user_limit.c --- */

/* That a guest has met a limit is told once, and so is that it has not for a while. */
struct user_limit {
	bool met;
	int64_t last_ms;
};
void user_limit_met(struct user_limit *l, int64_t now_ms, const char *text);
void user_limit_over(struct user_limit *l, int64_t now_ms, const char *text);

/* The descriptors of connections that both sides have ended, and that hold no bytes. */
void user_each_ended(struct Slirp *slirp, void (*fn)(void *opaque, unsigned fd), void *opaque);

/* libslirp in this process. Taken ports are an error. */
struct net_peer *net_slirp_new(struct loop *loop, const struct net_user_config *c, struct err *err);

/* Its forwarded ports become those of `c`; what came by others goes on. On error they are as before. */
int net_slirp_change(struct net_peer *peer, const struct net_user_config *c, struct err *err);

#endif
