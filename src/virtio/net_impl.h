/*
 * What the files of virtio-net share. Everything but `frame` and what runs over the TX rings is guarded by d.lock.
 *
 * Frames to the peer are sent in the loop's thread under `tx_lock` alone, straight from the guest's buffers: resets and
 * drains take it to wait for that. Order: d.lock, tx_lock.
 */
#ifndef VIREO_VIRTIO_NET_IMPL_H
#define VIREO_VIRTIO_NET_IMPL_H

#include "virtio/devices.h"

/* Feature bits, virtio 1.2 section 5.1.3 */
enum {
	F_CSUM = 0,
	F_GUEST_CSUM = 1,
	F_CTRL_GUEST_OFFLOADS = 2,
	F_MTU = 3,
	F_MAC = 5,
	F_GUEST_TSO4 = 7,
	F_GUEST_TSO6 = 8,
	F_GUEST_ECN = 9,
	F_HOST_TSO4 = 11,
	F_HOST_TSO6 = 12,
	F_HOST_ECN = 13,
	F_MRG_RXBUF = 15,
	F_STATUS = 16,
	F_CTRL_VQ = 17,
	F_CTRL_RX = 18,
	F_CTRL_VLAN = 19,
	F_CTRL_RX_EXTRA = 20,
	F_GUEST_ANNOUNCE = 21,
	F_MQ = 22,
	F_CTRL_MAC_ADDR = 23,
	F_GUEST_USO4 = 54,
	F_GUEST_USO6 = 55,
	F_HOST_USO = 56,
	F_HASH_REPORT = 57,
	F_RSS = 60,
	F_SPEED_DUPLEX = 63
};

#define NET_MACS 64 /* of the receive filter; more and all are let in */

enum { STATUS_LINK_UP = 1, STATUS_ANNOUNCE = 2 };

/* What comes in (5.1.6.5.1 to 5.1.6.5.3), as the driver last said. */
struct net_filter {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool uni_overflow, multi_overflow;
	uint32_t unicast, multicast; /* how many in `mac`, in this order */
	uint8_t mac[NET_MACS][6];
	uint32_t vlans[4096 / 32];
};

#define NET_RSS_TABLE 128    /* queues in the table */
#define NET_RSS_KEY   40     /* bytes */
#define NET_RSS_TYPES 0x1ffu /* IPv4, IPv6, TCP and UDP over each; the three of IPv6 with extension headers */

/* Hashes of what comes in, as the driver last said. */
struct net_rss {
	bool steers;	/* the table says which queue a frame goes to; else it is the peer's */
	uint32_t types; /* what is hashed */
	uint16_t mask, unclassified;
	uint16_t table[NET_RSS_TABLE];
	uint8_t key[NET_RSS_KEY];
};

struct net_hash {
	uint32_t value;
	uint16_t report; /* what was hashed; 0: nothing */
};

struct net;
struct net_pair {
	struct net *n;
	struct net_peer *peer;
	unsigned index;
	unsigned starved; /* peers that wait for receive buffers here, a bit each */
};

/* The configuration space. `mac` and `status` are always there. */
struct net_space {
	uint8_t head[8]; /* mac, status */
	uint8_t tail[4]; /* max_virtqueue_pairs, mtu */
	uint8_t rss[12]; /* speed, duplex, rss_max_key_size, rss_max_indirection_table_length, supported_hash_types */
};

struct net {
	struct virtio_dev d;
	struct net_peer *peer; /* of pair 0 */
	struct net_space config;
	uint8_t mac[6]; /* the card's own, which it has again after a reset */
	unsigned pairs;
	bool control;  /* there is a control queue */
	bool hashes;   /* RSS or reports are offered */
	bool announce; /* at the next resume: the guest has come from elsewhere */
	unsigned told; /* what the peer knows that the guest takes */
	pthread_mutex_t tx_lock;
	struct net_pair pair[NET_QUEUES_MAX];
	/* --- set through the control queue, saved --- */
	struct net_filter filter;
	uint16_t active;   /* pairs in use */
	uint64_t offloads; /* of the features that the guest has accepted */
	struct net_rss rss;
	uint8_t frame[NET_FRAME_MAX];
};

static inline bool net_link_up(const struct net *n)
{
	return __atomic_load_n(&n->config.head[6], __ATOMIC_RELAXED) & STATUS_LINK_UP;
}

/* --- net_ctrl.c; with the lock --- */
extern const struct state_desc net_filter_state;
/* Are the loaded values possible here? */
int net_ctrl_loaded(const struct net *n, struct err *err);
void net_ctrl_reset(struct net *n);
bool net_filter_passes(const struct net *n, const uint8_t *frame, size_t len);
/* How many pairs the driver may use: one, unless it has agreed to more. */
unsigned net_agreed_pairs(const struct net *n);
/* It is behind these (5.1.2). */
unsigned net_ctrl_queue(const struct net *n);
void net_ctrl_process(struct net *n);

/* --- net_rss.c; with the lock --- */
extern const struct state_desc net_rss_state;
int net_rss_loaded(const struct net *n, struct err *err);
struct net_hash net_rss_hash(const struct net_rss *r, const uint8_t *frame, size_t len);
/* The pair that a frame goes to. */
unsigned net_rss_pair(const struct net_rss *r, struct net_hash h);
/* Of the class MQ: 1 and 2. */
bool net_rss_command(struct net *n, unsigned command, struct vring_chain *c);

/* --- net.c --- */
/* Tell the peer what the guest takes now, and ask for what waited for buffers where it goes no longer. */
void net_tell_guest(struct net *n);

#endif
