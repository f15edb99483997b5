/*
 * A guest without a kernel for tests of network peers: Ethernet, ARP, DHCP, UDP and just enough TCP. Every frame that
 * arrives has its checksums verified. One thread, which also runs the peer's loop.
 */
#ifndef VIREO_TESTS_NET_GUEST_H
#define VIREO_TESTS_NET_GUEST_H

#include "net/net.h"

#define GUEST_CONNS 1024
#define GUEST_DATA  65536u

/* Addresses in host byte order, in 10.0.2.0/24 unless a test is about others. */
extern uint32_t guest_net, guest_ip;
#define GUEST_IP  guest_ip /* 10.0.2.15 */
#define HOST_IP	  (guest_net + 2)
#define SERVER_IP (guest_net + 3) /* of names */

struct conn {
	bool used, established, fin, reset;
	uint32_t peer_ip, snd, rcv;
	uint16_t port, peer_port;
	uint8_t *data; /* what came, GUEST_DATA bytes; NULL: it is counted only */
	size_t len;
};

struct guest {
	struct loop *loop;
	struct config *config;
	struct net_peer *peer;
	bool deaf; /* receive() has no room */
	unsigned frames;
	uint8_t mac[6], router_mac[6];
	struct conn conn[GUEST_CONNS];
	/* The last datagram that came, and the last DHCP answer. */
	uint8_t udp[2048], dhcp[600];
	size_t udp_len, dhcp_len;
	uint32_t udp_ip;
	uint16_t udp_port, udp_peer_port;
	/* ARP */
	bool router_known;
};

/* What guest_start() makes. NULL: libslirp in this process. */
extern struct net_peer *(*guest_make)(struct loop *loop, struct config *c, const char *prefix, struct err *err);

/* A network with the given "KEY=VALUE" settings below net0, ends with NULL. False with a line in `err`. */
bool guest_start(struct guest *g, struct err *err, ...);
void guest_end(struct guest *g);

/* Run the loop for a moment, or until fn(opaque) is true; the latter fails the test after some seconds. */
void guest_run(struct guest *g, int ms);
void guest_until(struct guest *g, bool (*fn)(void *opaque), void *opaque);

/* ARP for the router's address; everything else needs it. */
void guest_arp(struct guest *g);
/* `type`: 1 discover, 3 request. */
void guest_dhcp(struct guest *g, uint8_t type);
/* The value of an option of the last answer as a big-endian number; 0: it has none. */
uint32_t guest_dhcp_option(const struct guest *g, uint8_t option);
void guest_udp(struct guest *g, uint16_t port, uint32_t ip, uint16_t peer_port, const void *data, size_t len);

/* Until a datagram has come. */
void guest_hears(struct guest *g);
/* A datagram to a socket of the host is answered by that. */
void guest_asks(struct guest *g);
/* One to the UDP port `port` of this host comes to the guest's port 53, and its answer back. */
void guest_is_asked(struct guest *g, uint16_t port);

struct conn *guest_connect(struct guest *g, uint32_t ip, uint16_t peer_port);
void guest_send(struct guest *g, struct conn *c, const void *data, size_t len);
/* As one frame that the peer must cut. */
void guest_send_tso(struct guest *g, struct conn *c, const void *data, size_t len, uint16_t mss);
void guest_close(struct guest *g, struct conn *c);
/* The connection that came in to `port`, or NULL. */
struct conn *guest_accepted(struct guest *g, uint16_t port);
/* The same, once it is there. */
struct conn *guest_comes(struct guest *g, uint16_t port);
unsigned guest_established(const struct guest *g);
/* Until it is established; until so many bytes have come. */
void guest_connected(struct guest *g, struct conn *c);
void guest_read(struct guest *g, struct conn *c, size_t len);

/* A frame as it is. */
void guest_raw(struct guest *g, const uint8_t *frame, size_t len);

/* A socket of the host on 127.0.0.1, which does not block; a port of 0 is chosen. */
int host_socket(int type, uint16_t *port);
/* A TCP or UDP port of the host that nobody has. */
uint16_t free_port(int type);
/* A connection to a port of this host that is made while the loop runs. */
int host_begin(uint16_t port);
/* One that is made, or -1. */
int host_connect(const char *address, uint16_t port);
/* How many descriptors the test has. */
unsigned open_files(void);
/* Have this program, and its processes, as many as the tests of limits open. */
void allow_many_files(void);
/* The next connection; so many bytes, while the guest's loop runs. */
int host_accept(struct guest *g, int fd);
void host_read(struct guest *g, int fd, void *buf, size_t len);

#endif
