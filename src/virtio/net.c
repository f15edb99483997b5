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
#define HEADER_HASH    20u /* and with a hash */
#define HDR_NEEDS_CSUM 1u
#define HDR_DATA_VALID 2u
#define GSO_ECN	       0x80u
#define MAX_CHAINS     64  /* of one received frame */
#define TURN	       128 /* frames before the loop does something else */
#define PUBLISH	       32  /* frames before the driver gets their buffers back */
#define QUEUE_SIZE     256 /* unless another one is said */
#define SPEED_DUPLEX   5   /* bytes of the configuration space */
#define ETHERNET       14u
#define VLAN_TAG       4u

static unsigned rx_queue(const struct net_pair *p)
{
	return 2 * p->index;
}

static unsigned tx_queue(const struct net_pair *p)
{
	return 2 * p->index + 1;
}

static size_t header_size(const struct net *n)
{
	return virtio_has_feature(&n->d, F_HASH_REPORT) ? HEADER_HASH : HEADER;
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
	uint8_t hdr[HEADER_HASH];
	size_t bytes, header = header_size(n);

	if (vring_read(c, hdr, header) != header || !offload_of(hdr, &k.offload) || !net_link_up(n))
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

		/* Of a driver that has no more buffers than these there is nothing to wait for. */
		if (!next)
			return *count == d->queues[rx_queue(p)].size ? NEVER : TOO_LITTLE;
		c[(*count)++] = next;
		room += vring_write_left(next);
		if (vring_write_left(next) < header_size(p->n)) { /* 5.1.6.3.1 */
			virtio_fail(d, "a receive buffer without room for its header");
			return NEVER;
		}
	}
	return room >= need ? ENOUGH : NEVER;
}

/* All but how many buffers there are. */
static void header_of(const struct net *n, const struct net_offload *o, struct net_hash hash,
		      uint8_t hdr[static HEADER_HASH])
{
	bool valid = o->valid && n->d.features & n->offloads & 1ull << F_GUEST_CSUM;

	hdr[0] = o->checksum ? HDR_NEEDS_CSUM : valid ? HDR_DATA_VALID : 0;
	hdr[1] = (uint8_t)o->gso | (o->gso && o->ecn ? GSO_ECN : 0);
	st_le16(hdr + 2, o->header);
	st_le16(hdr + 4, o->mss);
	st_le16(hdr + 6, o->csum_start);
	st_le16(hdr + 8, o->csum_offset);
	st_le32(hdr + 12, hash.value);
	st_le16(hdr + 16, hash.report);
	st_le16(hdr + 18, 0);
}

/* Into the buffers of `p`, from the peer of pair `from`. False: there is no room yet. */
static bool put(struct net_pair *p, unsigned from, const uint8_t *frame, size_t len, uint8_t hdr[static HEADER_HASH])
{
	struct net *n = p->n;
	size_t header = header_size(n), done = 0;
	struct vring_chain *c[MAX_CHAINS];
	enum gathered g;
	unsigned count;

	g = gather(p, header + len, c, &count);
	if (g != ENOUGH) {
		while (count)
			vring_unpop(c[--count]);
		p->starved |= g == TOO_LITTLE ? 1u << from : 0;
		return g == NEVER;
	}
	st_le16(hdr + 10, (uint16_t)count);
	for (unsigned k = 0; k < count; k++) {
		size_t w = k ? 0 : vring_write(c[k], hdr, header), m;

		m = vring_write(c[k], frame + done, len - done);
		done += m;
		vring_push(c[k], (uint32_t)(w + m));
	}
	virtio_publish(&n->d, rx_queue(p));
	return true;
}

/* Larger packets than a driver was promised, unless it cuts them itself (5.1.4.1). Tags are no part of them. */
static bool too_large(const struct net *n, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	size_t header = ETHERNET;

	while (header < ETHERNET + 2 * VLAN_TAG && len >= header + VLAN_TAG &&
	       (ld_be16(frame + header - 2) == 0x8100 || ld_be16(frame + header - 2) == 0x88a8))
		header += VLAN_TAG;
	return virtio_has_feature(&n->d, F_MTU) && !o->gso && len - header > ld_le16(n->config.tail + 2);
}

static bool receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	struct net_pair *p = opaque;
	struct net *n = p->n;
	uint8_t hdr[HEADER_HASH];
	struct net_hash hash;
	unsigned to = p->index;
	bool taken = true;

	pthread_mutex_lock(&n->d.lock);
	if (!virtio_running(&n->d)) {
		taken = !atomic_load(&n->d.paused); /* no driver: nobody listens */
		goto out;
	}
	if ((o->checksum || o->gso) && n->told != accepts(n)) {
		/* It was made for what another driver took, or this one has taken until now: set_guest() asks again. */
		p->starved |= 1u << p->index;
		taken = false;
		goto out;
	}
	hash = net_rss_hash(&n->rss, frame, len);
	if (n->rss.steers)
		to = net_rss_pair(&n->rss, hash);
	else if (to >= n->active)
		goto out;
	if (net_link_up(n) && net_filter_passes(n, frame, len) && !too_large(n, frame, len, o)) {
		header_of(n, o, hash, hdr);
		taken = put(&n->pair[to], p->index, frame, len, hdr);
	}
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
		for (unsigned k = 0; k < n->pairs; k++)
			if (p->starved >> k & 1)
				loop_post(d->loop, tell_peer, &n->pair[k]);
		p->starved = 0;
	}
}

/* --- life --- */

/* A peer belongs to the loop's thread. */
static void set_guest(void *opaque)
{
	struct net *n = opaque;
	unsigned mask, active, waiting = 0;

	pthread_mutex_lock(&n->d.lock);
	mask = n->told = accepts(n);
	active = n->active;
	for (unsigned k = 0; k < n->pairs; k++) {
		waiting |= n->pair[k].starved;
		n->pair[k].starved = 0;
	}
	pthread_mutex_unlock(&n->d.lock);
	net_set_guest(n->peer, mask, active);
	for (unsigned k = 0; k < n->pairs; k++)
		if (waiting >> k & 1)
			tell_peer(&n->pair[k]);
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

/*
 * `starved` stays: frames that wait with the peer are asked for with the next buffer. The next driver, maybe of another
 * system, finds the card's own address.
 */
static void reset(struct virtio_dev *d)
{
	struct net *n = d->self;

	wait_for_tx(n);
	net_ctrl_reset(n);
	memcpy(n->config.head, n->mac, sizeof(n->mac));
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

/* Whoever cannot say itself where it is now is announced. */
static void send_rarp(void *opaque)
{
	struct net *n = opaque;

	net_announce(n->peer, n->config.head);
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
		n->pair[k].starved = (1u << n->pairs) - 1; /* whoever it was */
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

void virtio_net_announce(struct virtio_dev *d)
{
	pthread_mutex_lock(&d->lock);
	announce(d->self);
	pthread_mutex_unlock(&d->lock);
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
	{ F_HASH_REPORT, F_CTRL_VQ },
	{ F_RSS, F_CTRL_VQ },
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
#define CONTROL_FIELDS                                                                                                 \
	CONFIG_FIELD, STATE_SUB(struct net, filter, &net_filter_state), STATE_U16F(struct net, active),                \
		STATE_U64F(struct net, offloads)
static const struct state_field control_fields[] = { CONTROL_FIELDS, STATE_FIELD_END };
static const struct state_desc state_control = {
	.name = "net", .version = 1, .min_version = 1, .fields = control_fields, .post_load = post_load
};

/* Where hashes are offered, which is said with the machine's configuration. */
static const struct state_field hash_fields[] = { CONTROL_FIELDS, STATE_SUB(struct net, rss, &net_rss_state),
						  STATE_FIELD_END };
static const struct state_desc state_hash = {
	.name = "net", .version = 1, .min_version = 1, .fields = hash_fields, .post_load = post_load
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

static uint16_t queue_size(uint16_t said)
{
	return said ? said : QUEUE_SIZE;
}

static void describe(struct net *n, const struct virtio_net_config *c)
{
	struct virtio_dev *d = &n->d;

	d->name = "virtio-net";
	d->id = VIRTIO_ID_NET;
	d->ops = &ops;
	d->self = n;
	d->state = n->hashes ? &state_hash : n->control ? &state_control : &state;
	d->mem = c->mem;
	d->loop = c->loop;
	d->pci_class = 0x02000000;
	d->offered =
		ALWAYS | (n->control ? WITH_CONTROL : 0) | (n->pairs > 1 ? BIT(F_MQ) : 0) | (c->mtu ? BIT(F_MTU) : 0);
	d->offered |= (c->rss ? BIT(F_RSS) : 0) | (c->hash ? BIT(F_HASH_REPORT) : 0) |
		      (c->link_known ? BIT(F_SPEED_DUPLEX) : 0);
	d->withheld = c->withheld;
	d->needs = needs;
	memcpy(n->mac, c->mac, sizeof(n->mac));
	memcpy(n->config.head, c->mac, sizeof(n->mac));
	st_le16(n->config.head + 6, STATUS_LINK_UP);
	st_le16(n->config.tail, (uint16_t)n->pairs);
	st_le16(n->config.tail + 2, c->mtu);
	d->config = (uint8_t *)&n->config;
	st_le32(n->config.rss, c->link_known ? c->speed : UINT32_MAX);
	n->config.rss[4] = c->link_known ? c->duplex : 0xff;
	n->config.rss[5] = NET_RSS_KEY;
	st_le16(n->config.rss + 6, NET_RSS_TABLE);
	st_le32(n->config.rss + 8, NET_RSS_TYPES);
	d->config_size = n->hashes		? sizeof(n->config)
			 : c->link_known	? offsetof(struct net_space, rss) + SPEED_DUPLEX
			 : n->control || c->mtu ? offsetof(struct net_space, rss)
						: sizeof(n->config.head);
	d->n_queues = 2 * n->pairs + n->control;
	for (unsigned q = 0; q < d->n_queues; q++)
		d->queues[q].max_size = q == 2 * n->pairs ? 64 : queue_size(q & 1 ? c->tx_size : c->rx_size);
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
	n->hashes = c->rss || c->hash;
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
