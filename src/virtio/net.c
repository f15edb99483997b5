/*
 * virtio-net (virtio 1.2 section 5.1): queue pairs, each in front of a net peer, and the control queue (net_ctrl.c).
 * Frames to the peer stay in the guest's buffers, where the guest may change them at any time: peers know. Frames to
 * the guest are copied once.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "virtio/net_impl.h"

#define HEADER	       12u /* struct virtio_net_hdr with num_buffers */
#define HDR_NEEDS_CSUM 1u
#define HDR_DATA_VALID 2u
#define GSO_ECN	       0x80u
#define MAX_CHAINS     64  /* of one received frame */
#define TURN	       128 /* frames before the loop does something else */
#define PUBLISH	       32  /* frames before the driver gets their buffers back */
#define QUEUE_SIZE     256

static unsigned rx_queue(const struct net_pair *p)
{
	return 2 * p->index;
}

static unsigned tx_queue(const struct net_pair *p)
{
	return 2 * p->index + 1;
}

/* --- transmit --- */

static bool offload_of(const uint8_t *hdr, struct net_offload *o)
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
	return net_gso_known(o->gso);
}

/* What cannot be a frame is dropped, as a wire would do. False: the peer has no room for it. */
static bool send_chain(struct net_pair *p, struct vring_chain *c)
{
	struct net *n = p->n;
	struct iovec iov[NET_PIECES];
	struct net_packet k = { .iov = iov };
	uint8_t hdr[HEADER];
	size_t bytes;

	if (vring_read(c, hdr, HEADER) != HEADER || !offload_of(hdr, &k.offload) || !net_link_up(n))
		return true;
	k.len = vring_read_left(c);
	if (k.len <= 14 || k.len > NET_FRAME_MAX)
		return true;
	k.count = vring_read_iov(c, k.len, iov, NET_PIECES, &bytes);
	if (bytes < k.len) { /* in more pieces than peers take */
		vring_read(c, n->frame, k.len);
		iov[0] = (struct iovec){ n->frame, k.len };
		k.count = 1;
		k.stable = true;
	}
	return p->peer->ops->send(p->peer, &k);
}

/* Chains and what they point to are the loop's thread's as long as it has tx_lock. True: there may be more. */
static bool transmit_turn(struct net_pair *p)
{
	struct virtio_dev *d = &p->n->d;
	unsigned q = tx_queue(p), turn;

	for (turn = 0; turn < TURN; turn++) {
		struct vring_chain *c = virtio_pop(d, q);

		if (!c)
			break;
		if (!send_chain(p, c)) {
			vring_unpop(c); /* until writable() */
			break;
		}
		vring_push(c, 0);
		if (turn % PUBLISH == PUBLISH - 1)
			virtio_publish(d, q);
	}
	virtio_publish(d, q);
	return turn == TURN;
}

static void transmit(struct net_pair *p)
{
	struct net *n = p->n;
	bool more;

	pthread_mutex_unlock(&n->d.lock);
	pthread_mutex_lock(&n->tx_lock);
	more = transmit_turn(p);
	pthread_mutex_unlock(&n->tx_lock);
	pthread_mutex_lock(&n->d.lock);
	if (more)
		virtio_defer(&n->d, tx_queue(p));
}

static void writable(void *opaque)
{
	const struct net_pair *p = opaque;

	virtio_defer(&p->n->d, tx_queue(p));
}

/* --- receive: one chain, or several when the driver merges --- */

enum gathered {
	ENOUGH,
	TOO_LITTLE, /* for now */
	NEVER	    /* buffers like these cannot hold the frame */
};

static enum gathered gather(struct net_pair *p, size_t need, struct vring_chain **c, unsigned *count)
{
	struct virtio_dev *d = &p->n->d;
	size_t room = 0;
	unsigned max = virtio_has_feature(d, F_MRG_RXBUF) ? MAX_CHAINS : 1;

	*count = 0;
	while (room < need && *count < max) {
		struct vring_chain *next = virtio_pop(d, rx_queue(p));

		if (!next)
			return TOO_LITTLE;
		c[(*count)++] = next;
		room += vring_write_left(next);
		if (vring_write_left(next) < HEADER) { /* 5.1.6.3.1 */
			virtio_fail(d, "a receive buffer without room for its header");
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
	struct net_pair *p = opaque;
	struct net *n = p->n;
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
	if (!net_link_up(n) || p->index >= n->active || !net_filter_passes(n, frame, len))
		goto out;
	g = gather(p, HEADER + len, c, &count);
	if (g != ENOUGH) {
		while (count)
			vring_unpop(c[--count]);
		p->starved = g == TOO_LITTLE;
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
	virtio_publish(&n->d, rx_queue(p));
out:
	pthread_mutex_unlock(&n->d.lock);
	return taken;
}

/* The peer calls receive(), which takes the lock. */
static void tell_peer(void *opaque)
{
	const struct net_pair *p = opaque;

	if (p->peer->ops->ready)
		p->peer->ops->ready(p->peer);
}

static void process(struct virtio_dev *d, unsigned q)
{
	struct net *n = d->self;
	struct net_pair *p = &n->pair[q / 2];

	if (n->control && virtio_has_feature(d, F_CTRL_VQ) && q == net_ctrl_queue(n)) {
		net_ctrl_process(n);
	} else if (q / 2 >= n->pairs) {
		return;
	} else if (q & 1) {
		transmit(p);
	} else if (p->starved) {
		p->starved = false;
		loop_post(d->loop, tell_peer, p);
	}
}

/* --- life --- */

/* USO is one for both versions of IP where it comes from. */
static unsigned accepts(const struct net *n)
{
	static const struct {
		uint64_t features;
		unsigned net;
	} bits[] = {
		{ 1ull << F_GUEST_CSUM, NET_CSUM },
		{ 1ull << F_GUEST_TSO4, NET_TSO4 },
		{ 1ull << F_GUEST_TSO6, NET_TSO6 },
		{ 1ull << F_GUEST_ECN, NET_ECN },
		{ 1ull << F_GUEST_USO4 | 1ull << F_GUEST_USO6, NET_USO },
	};
	uint64_t agreed = n->d.features & n->offloads;
	unsigned net = 0;

	for (size_t k = 0; k < ARRAY_LEN(bits); k++)
		net |= (agreed & bits[k].features) == bits[k].features ? bits[k].net : 0;
	return net;
}

/* A peer belongs to the loop's thread. */
static void set_guest(void *opaque)
{
	struct net *n = opaque;
	unsigned mask, active;

	pthread_mutex_lock(&n->d.lock);
	mask = accepts(n);
	active = n->active;
	pthread_mutex_unlock(&n->d.lock);
	net_set_guest(n->peer, mask, active);
}

void net_tell_guest(struct net *n)
{
	loop_post(n->d.loop, set_guest, n);
}

static void activate(struct virtio_dev *d)
{
	net_tell_guest(d->self);
}

/* Frames that are being sent are still in the guest's memory. */
static void wait_for_tx(struct net *n)
{
	pthread_mutex_lock(&n->tx_lock);
	pthread_mutex_unlock(&n->tx_lock);
}

/* `starved` stays: frames that wait with the peer are asked for with the next buffer. */
static void reset(struct virtio_dev *d)
{
	struct net *n = d->self;

	wait_for_tx(n);
	net_ctrl_reset(n);
	n->config.head[6] &= (uint8_t)~STATUS_ANNOUNCE;
}

static void reset_queue(struct virtio_dev *d, unsigned q)
{
	wait_for_tx(d->self);
}

static void drain(struct virtio_dev *d)
{
	wait_for_tx(d->self);
}

/* Whoever cannot say itself where it is now is announced: a reverse ARP, which switches learn from. */
static void send_rarp(void *opaque)
{
	struct net *n = opaque;
	uint8_t f[60] = { 0 };

	memset(f, 0xff, 6);
	memcpy(f + 6, n->config.head, 6);
	memcpy(f + 12, "\x80\x35\0\1\x08\0\6\4\0\3", 10);
	memcpy(f + 22, n->config.head, 6);
	memcpy(f + 32, n->config.head, 6);
	net_send(n->peer, f, sizeof(f), &(struct net_offload){ 0 });
}

static void announce(struct net *n)
{
	n->announce = false;
	if (!net_link_up(n) || !(n->d.status & VIRTIO_S_DRIVER_OK))
		return;
	if (virtio_has_feature(&n->d, F_GUEST_ANNOUNCE)) {
		n->config.head[6] |= STATUS_ANNOUNCE;
		virtio_config_changed(&n->d);
	} else {
		loop_post(n->d.loop, send_rarp, n);
	}
}

static void resume(struct virtio_dev *d)
{
	struct net *n = d->self;

	pthread_mutex_lock(&d->lock);
	for (unsigned k = 0; k < n->pairs; k++)
		n->pair[k].starved = true;
	if (n->announce)
		announce(n);
	pthread_mutex_unlock(&d->lock);
}

static void destroy(struct virtio_dev *d)
{
	struct net *n = d->self;

	n->peer->ops->destroy(n->peer);
	virtio_fini(d);
	pthread_mutex_destroy(&n->tx_lock);
	free(n);
}

void virtio_net_set_link(struct virtio_dev *d, bool up)
{
	struct net *n = d->self;

	pthread_mutex_lock(&d->lock);
	if (net_link_up(n) != up) {
		n->config.head[6] ^= STATUS_LINK_UP;
		virtio_config_changed(d);
	}
	pthread_mutex_unlock(&d->lock);
}

static const struct virtio_ops ops = {
	.activate = activate,
	.process = process,
	.reset = reset,
	.reset_queue = reset_queue,
	.drain = drain,
	.resume = resume,
	.destroy = destroy,
};
static const struct virtio_need needs[] = {
	{ F_GUEST_TSO4, F_GUEST_CSUM },
	{ F_GUEST_TSO6, F_GUEST_CSUM },
	{ F_GUEST_USO4, F_GUEST_CSUM },
	{ F_GUEST_USO6, F_GUEST_CSUM },
	{ F_HOST_TSO4, F_CSUM },
	{ F_HOST_TSO6, F_CSUM },
	{ F_HOST_USO, F_CSUM },
	{ F_CTRL_RX, F_CTRL_VQ },
	{ F_CTRL_VLAN, F_CTRL_VQ },
	{ F_CTRL_RX_EXTRA, F_CTRL_VQ },
	{ F_GUEST_ANNOUNCE, F_CTRL_VQ },
	{ F_MQ, F_CTRL_VQ },
	{ F_CTRL_MAC_ADDR, F_CTRL_VQ },
	{ F_CTRL_GUEST_OFFLOADS, F_CTRL_VQ },
	{ 0, 0 },
};

static int post_load(void *obj, struct err *err)
{
	struct net *n = obj;

	n->announce = true;
	return n->control ? net_ctrl_loaded(n, err) : 0;
}

/* Cards of machines from before there was a control queue have but this: a table inside another cannot have parts. */
#define CONFIG_FIELD                                                                                                   \
	{                                                                                                              \
		"config", STATE_U8, offsetof(struct net, config.head), 1, 8, NULL, 0, false                            \
	}
static const struct state_field fields[] = { CONFIG_FIELD, STATE_FIELD_END };
static const struct state_desc state = {
	.name = "net", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};
static const struct state_field control_fields[] = {
	CONFIG_FIELD,
	STATE_SUB(struct net, filter, &net_filter_state),
	STATE_U16F(struct net, active),
	STATE_U64F(struct net, offloads),
	STATE_FIELD_END,
};
static const struct state_desc state_control = {
	.name = "net", .version = 1, .min_version = 1, .fields = control_fields, .post_load = post_load
};

#define BIT(feature) (1ull << (feature))
#define ALWAYS                                                                                                         \
	(BIT(F_CSUM) | BIT(F_GUEST_CSUM) | BIT(F_MAC) | BIT(F_GUEST_TSO4) | BIT(F_GUEST_TSO6) | BIT(F_GUEST_ECN) |     \
	 BIT(F_HOST_TSO4) | BIT(F_HOST_TSO6) | BIT(F_HOST_ECN) | BIT(F_MRG_RXBUF) | BIT(F_STATUS) |                    \
	 BIT(F_GUEST_USO4) | BIT(F_GUEST_USO6) | BIT(F_HOST_USO))
#define WITH_CONTROL                                                                                                   \
	(BIT(F_CTRL_VQ) | BIT(F_CTRL_RX) | BIT(F_CTRL_VLAN) | BIT(F_CTRL_RX_EXTRA) | BIT(F_GUEST_ANNOUNCE) |           \
	 BIT(F_CTRL_MAC_ADDR) | BIT(F_CTRL_GUEST_OFFLOADS))

static void unplugged(void *opaque)
{
	const struct net_pair *p = opaque;

	virtio_net_set_link(&p->n->d, false);
}

static void add_pairs(struct net *n)
{
	for (struct net_peer *p = n->peer; p && n->pairs < (n->control ? NET_QUEUES_MAX : 1); p = p->next) {
		struct net_pair *pair = &n->pair[n->pairs];

		*pair = (struct net_pair){ .n = n, .peer = p, .index = n->pairs++ };
		p->receiver = (struct net_receiver){ receive, writable, pair, unplugged };
	}
}

static void describe(struct net *n, const struct virtio_net_config *c)
{
	struct virtio_dev *d = &n->d;

	d->name = "virtio-net";
	d->id = VIRTIO_ID_NET;
	d->ops = &ops;
	d->self = n;
	d->state = n->control ? &state_control : &state;
	d->mem = c->mem;
	d->loop = c->loop;
	d->pci_class = 0x02000000;
	d->offered =
		ALWAYS | (n->control ? WITH_CONTROL : 0) | (n->pairs > 1 ? BIT(F_MQ) : 0) | (c->mtu ? BIT(F_MTU) : 0);
	d->withheld = c->withheld;
	d->needs = needs;
	memcpy(n->config.head, c->mac, 6);
	st_le16(n->config.head + 6, STATUS_LINK_UP);
	st_le16(n->config.tail, (uint16_t)n->pairs);
	st_le16(n->config.tail + 2, c->mtu);
	d->config = (uint8_t *)&n->config;
	d->config_size = n->control || c->mtu ? sizeof(n->config) : sizeof(n->config.head);
	d->n_queues = 2 * n->pairs + n->control;
	for (unsigned q = 0; q < d->n_queues; q++)
		d->queues[q].max_size = q == 2 * n->pairs ? 64 : QUEUE_SIZE;
}

struct virtio_dev *virtio_net_new(const struct virtio_net_config *c, struct err *err)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n) {
		c->peer->ops->destroy(c->peer);
		err_set(err, "out of memory");
		return NULL;
	}
	n->peer = c->peer;
	n->control = c->control;
	pthread_mutex_init(&n->tx_lock, NULL);
	add_pairs(n);
	net_ctrl_reset(n);
	describe(n, c);
	if (!virtio_init(&n->d, err))
		return &n->d;
	n->peer->ops->destroy(n->peer);
	free(n);
	return NULL;
}
