/*
 * The virtio devices other than the disk: constructors for the machine, which hands the result to a transport.
 * NULL with a line in `err`. Main loop thread, before vCPUs run.
 */
#ifndef VIREO_VIRTIO_DEVICES_H
#define VIREO_VIRTIO_DEVICES_H

#include "base/chardev.h"
#include "net/net.h"
#include "virtio/virtio.h"

/* Section 5.4: random numbers from the host's kernel. */
struct virtio_dev *virtio_rng_new(struct mem_space *mem, struct loop *loop, struct err *err);

/* Section 5.5: inflate, deflate, free page reporting and statistics. */
struct virtio_dev *virtio_balloon_new(struct mem_space *mem, struct loop *loop, struct err *err);
/* Without these of its features, which it has otherwise. Before it is attached. */
void virtio_balloon_without(struct virtio_dev *d, bool deflate_on_oom, bool reporting);
/* How many bytes the guest should give back; how many it has given. Loop thread. */
void virtio_balloon_set(struct virtio_dev *d, uint64_t bytes);
/* Called when the driver has said how much it gives, in its thread and with the device's lock. Before it runs. */
void virtio_balloon_on_change(struct virtio_dev *d, void (*fn)(void *opaque), void *opaque);
uint64_t virtio_balloon_actual(struct virtio_dev *d);
/*
 * Statistics by tag (5.5.6.4; 4: free memory, 5: total memory in bytes); all ones: not known. ask() is answered
 * some time later; false: no driver, or the last question is still open. stats() copies what came last and says
 * whether it answers the last question. Any thread.
 */
#define VIRTIO_BALLOON_STATS 10
bool virtio_balloon_ask(struct virtio_dev *d);
bool virtio_balloon_stats(struct virtio_dev *d, uint64_t stats[VIRTIO_BALLOON_STATS]);

/* Section 5.3: port 0 is the console, port 1, if it has a name, the channel of a guest agent. */
#define VIRTIO_CONSOLE_PORTS 2
struct virtio_console_port {
	const char *name; /* NULL: none */
	struct char_sink sink;
	struct char_wake wake;
	struct char_source *source; /* filled */
};
struct virtio_console_config {
	struct mem_space *mem;
	struct loop *loop;
	struct virtio_console_port port[VIRTIO_CONSOLE_PORTS];
};
struct virtio_dev *virtio_console_new(const struct virtio_console_config *c, struct err *err);
/* The window's size changed. Loop thread. */
void virtio_console_resize(void *d, uint16_t columns, uint16_t rows);

/* Section 5.1. The peer is taken, also on error. */
struct virtio_net_config {
	struct mem_space *mem;
	struct loop *loop;
	struct net_peer *peer; /* with `control`, and others behind it, the card has as many queue pairs */
	uint8_t mac[6];
	uint16_t mtu;	 /* 0: not said to the guest */
	bool link_known; /* these two are said to the guest */
	uint32_t speed;	 /* Mbit/s; all ones: not known */
	uint8_t duplex;	 /* 0: half, 1: full, 0xff: not known */
	/* Of the queues: powers of two up to VRING_MAX_SIZE; 0: 256. */
	uint16_t rx_size, tx_size;
	bool control;	   /* a control queue and what it is for */
	bool rss, hash;	   /* with it: queues by hashes of what comes in, hashes in its headers */
	uint64_t withheld; /* feature bits that are not offered */
};
struct virtio_dev *virtio_net_new(const struct virtio_net_config *c, struct err *err);
/* Plug the cable in, or out: frames are dropped then, and the driver is told. Any thread. */
void virtio_net_set_link(struct virtio_dev *d, bool up);
/* The guest says on its network where it is, or this card does for it. Any thread, without the card's lock. */
void virtio_net_announce(struct virtio_dev *d);

#endif
