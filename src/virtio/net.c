/*
 * virtio-net (virtio 1.2 section 5.1): one queue pair in front of a net peer. Frames are copied: the peer needs
 * them whole, and the guest may change its buffers at any time.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "virtio/devices.h"

#define F_CSUM	     0
#define F_GUEST_CSUM 1
#define F_MAC	     5
#define F_HOST_TSO4  11
#define F_HOST_TSO6  12
#define F_MRG_RXBUF  15
#define F_STATUS     16

#define HEADER	       12u /* struct virtio_net_hdr with num_buffers */
#define HDR_NEEDS_CSUM 1u
#define HDR_DATA_VALID 2u
#define GSO_ECN	       0x80u
#define MAX_CHAINS     64  /* of one received frame */
#define TURN	       128 /* frames before the loop does something else */

enum { Q_RX, Q_TX, QUEUES };

struct net {
	struct virtio_dev d;
	struct net_peer *peer;
	uint8_t config[8]; /* mac, status */
	bool starved;	   /* the peer waits for receive buffers */
	bool waits;	   /* `frame`, of `len` bytes, waits for the peer */
	size_t len;
	uint8_t frame[HEADER + NET_FRAME_MAX];
};

/* --- transmit --- */

static bool offload_of(const uint8_t *hdr, size_t len, struct net_offload *o)
{
	*o = (struct net_offload){
		.checksum = hdr[0] & HDR_NEEDS_CSUM,
		.gso = (enum net_gso)(hdr[1] & ~GSO_ECN),
		.ecn = hdr[1] & GSO_ECN,
		.header = ld_le16(hdr + 2),
		.mss = ld_le16(hdr + 4),
		.csum_start = ld_le16(hdr + 6),
		.csum_offset = ld_le16(hdr + 8),
	};
	return o->gso == NET_GSO_NONE || o->gso == NET_GSO_TCP4 || o->gso == NET_GSO_TCP6;
}

/* What cannot be a frame is dropped, as a wire would do. The peer is called without the lock. */
static void send_frame(struct net *n)
{
	struct net_offload o;
	bool sent;

	n->waits = false;
	if (n->len <= HEADER + 14 || !offload_of(n->frame, n->len, &o))
		return;
	pthread_mutex_unlock(&n->d.lock);
	sent = net_send(n->peer, n->frame + HEADER, n->len - HEADER, &o);
	pthread_mutex_lock(&n->d.lock);
	/* After a reset meanwhile nobody waits for it. */
	n->waits = !sent && virtio_running(&n->d);
}

static bool link_up(const struct net *n)
{
	return n->config[6] & 1;
}

static void transmit(struct net *n)
{
	struct vring_chain *c;
	int turn = 0;

	if (n->waits)
		send_frame(n);
	while (!n->waits && turn++ < TURN && (c = virtio_pop(&n->d, Q_TX))) {
		n->len = vring_read(c, n->frame, sizeof(n->frame));
		if (vring_read_left(c) || !link_up(n))
			n->len = 0; /* longer than any frame, or nowhere to go */
		vring_push(c, 0);
		send_frame(n);
	}
	virtio_publish(&n->d, Q_TX);
	if (turn > TURN)
		virtio_defer(&n->d, Q_TX);
}

/* Any frame that waits is looked at, and so is the queue. */
static void writable(void *opaque)
{
	virtio_defer(&((struct net *)opaque)->d, Q_TX);
}

/* --- receive: one chain, or several when the driver merges --- */

enum gathered {
	ENOUGH,
	TOO_LITTLE, /* for now */
	NEVER	    /* buffers like these cannot hold the frame */
};

static enum gathered gather(struct net *n, size_t need, struct vring_chain **c, unsigned *count)
{
	size_t room = 0;
	unsigned max = virtio_has_feature(&n->d, F_MRG_RXBUF) ? MAX_CHAINS : 1;

	*count = 0;
	while (room < need && *count < max) {
		struct vring_chain *next = virtio_pop(&n->d, Q_RX);

		if (!next)
			return TOO_LITTLE;
		c[(*count)++] = next;
		room += vring_write_left(next);
		if (vring_write_left(next) < HEADER) { /* 5.1.6.3.1 */
			virtio_fail(&n->d, "a receive buffer without room for its header");
			return NEVER;
		}
	}
	return room >= need ? ENOUGH : NEVER;
}

static void header_of(const struct net *n, const struct net_offload *o, unsigned buffers, uint8_t hdr[static HEADER])
{
	bool valid = o->valid && virtio_has_feature(&n->d, F_GUEST_CSUM);

	hdr[0] = o->checksum ? HDR_NEEDS_CSUM : valid ? HDR_DATA_VALID : 0;
	hdr[1] = (uint8_t)o->gso | (o->gso && o->ecn ? GSO_ECN : 0);
	st_le16(hdr + 2, o->header);
	st_le16(hdr + 4, o->mss);
	st_le16(hdr + 6, o->csum_start);
	st_le16(hdr + 8, o->csum_offset);
	st_le16(hdr + 10, (uint16_t)buffers);
}

static bool receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	struct net *n = opaque;
	struct vring_chain *c[MAX_CHAINS];
	uint8_t hdr[HEADER];
	enum gathered g;
	unsigned count;
	size_t done = 0;
	bool taken = true;

	pthread_mutex_lock(&n->d.lock);
	if (!virtio_running(&n->d)) {
		taken = !atomic_load(&n->d.paused); /* no driver: nobody listens */
		goto out;
	}
	if (!link_up(n))
		goto out;
	g = gather(n, HEADER + len, c, &count);
	if (g != ENOUGH) {
		while (count)
			vring_unpop(c[--count]);
		n->starved = g == TOO_LITTLE;
		taken = g == NEVER;
		goto out;
	}
	header_of(n, o, count, hdr);
	for (unsigned k = 0; k < count; k++) {
		size_t w = k ? 0 : vring_write(c[k], hdr, HEADER), m;

		m = vring_write(c[k], frame + done, len - done);
		done += m;
		vring_push(c[k], (uint32_t)(w + m));
	}
	virtio_publish(&n->d, Q_RX);
out:
	pthread_mutex_unlock(&n->d.lock);
	return taken;
}

/* The peer calls receive(), which takes the lock. */
static void tell_peer(void *opaque)
{
	struct net *n = opaque;

	if (n->peer->ops->ready)
		n->peer->ops->ready(n->peer);
}

static void process(struct virtio_dev *d, unsigned q)
{
	struct net *n = d->self;

	if (q == Q_TX) {
		transmit(n);
	} else if (n->starved) {
		n->starved = false;
		loop_post(d->loop, tell_peer, n);
	}
}

/* --- life --- */

static void activate(struct virtio_dev *d)
{
	const struct net *n = d->self;

	net_set_guest(n->peer, virtio_has_feature(d, F_GUEST_CSUM) ? NET_CSUM : 0, 1);
}

/* `starved` stays: frames that wait with the peer are asked for with the next buffer. */
static void reset(struct virtio_dev *d)
{
	struct net *n = d->self;

	n->waits = false;
}

static void resume(struct virtio_dev *d)
{
	pthread_mutex_lock(&d->lock);
	((struct net *)d->self)->starved = true;
	pthread_mutex_unlock(&d->lock);
}

static void destroy(struct virtio_dev *d)
{
	struct net *n = d->self;

	n->peer->ops->destroy(n->peer);
	virtio_fini(d);
	free(n);
}

void virtio_net_set_link(struct virtio_dev *d, bool up)
{
	struct net *n = d->self;

	pthread_mutex_lock(&d->lock);
	if (link_up(n) != up) {
		n->config[6] = up;
		virtio_config_changed(d);
	}
	pthread_mutex_unlock(&d->lock);
}

static const struct virtio_ops ops = {
	.activate = activate, .process = process, .reset = reset, .resume = resume, .destroy = destroy
};
static const struct virtio_need needs[] = { { F_HOST_TSO4, F_CSUM }, { F_HOST_TSO6, F_CSUM }, { 0, 0 } };
static const struct state_field fields[] = { STATE_U8A(struct net, config), STATE_FIELD_END };
static const struct state_desc state = { .name = "net", .version = 1, .min_version = 1, .fields = fields };

struct virtio_dev *virtio_net_new(const struct virtio_net_config *c, struct err *err)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n) {
		c->peer->ops->destroy(c->peer);
		err_set(err, "out of memory");
		return NULL;
	}
	n->peer = c->peer;
	n->peer->receiver = (struct net_receiver){ receive, writable, n };
	n->d.name = "virtio-net";
	n->d.id = VIRTIO_ID_NET;
	n->d.ops = &ops;
	n->d.self = n;
	n->d.state = &state;
	n->d.mem = c->mem;
	n->d.loop = c->loop;
	n->d.pci_class = 0x02000000;
	n->d.offered = 1u << F_CSUM | 1u << F_GUEST_CSUM | 1u << F_MAC | 1u << F_HOST_TSO4 | 1u << F_HOST_TSO6 |
		       1u << F_MRG_RXBUF | 1u << F_STATUS;
	n->d.needs = needs;
	memcpy(n->config, c->mac, 6);
	st_le16(n->config + 6, 1); /* link up */
	n->d.config = n->config;
	n->d.config_size = sizeof(n->config);
	n->d.n_queues = QUEUES;
	n->d.queues[Q_RX].max_size = n->d.queues[Q_TX].max_size = 256;
	if (!virtio_init(&n->d, err))
		return &n->d;
	n->peer->ops->destroy(n->peer);
	free(n);
	return NULL;
}
