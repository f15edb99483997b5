/*
 * virtio-net's control queue (virtio 1.2 section 5.1.6.5): what the receive filter lets in, which offloads the driver
 * wants now, how many queue pairs it uses, and that it has announced itself.
 */
#include <string.h>

#include "base/bytes.h"
#include "virtio/net_impl.h"

#define TURN 16 /* commands before the loop does something else */

enum { CLASS_RX, CLASS_MAC, CLASS_VLAN, CLASS_ANNOUNCE, CLASS_MQ, CLASS_OFFLOADS, CLASSES };
enum { ACK_OK, ACK_ERR };

#define GUEST_OFFLOADS                                                                                                 \
	(1ull << F_GUEST_CSUM | 1ull << F_GUEST_TSO4 | 1ull << F_GUEST_TSO6 | 1ull << F_GUEST_ECN |                    \
	 1ull << F_GUEST_USO4 | 1ull << F_GUEST_USO6)

/* --- the filter --- */

void net_ctrl_reset(struct net *n)
{
	n->filter = (struct net_filter){ .promisc = true };
	n->rss = (struct net_rss){ 0 };
	n->active = 1;
	n->offloads = GUEST_OFFLOADS;
}

static bool listed(const uint8_t (*mac)[6], uint32_t count, const uint8_t *addr)
{
	for (uint32_t k = 0; k < count; k++)
		if (!memcmp(mac[k], addr, 6))
			return true;
	return false;
}

static bool vlan_passes(const struct net *n, const uint8_t *frame, size_t len)
{
	unsigned id;

	if (!virtio_has_feature(&n->d, F_CTRL_VLAN) || len < 18 || ld_be16(frame + 12) != 0x8100)
		return true;
	id = ld_be16(frame + 14) & 0xfff;
	return n->filter.vlans[id >> 5] >> (id & 31) & 1;
}

bool net_filter_passes(const struct net *n, const uint8_t *frame, size_t len)
{
	const struct net_filter *f = &n->filter;

	if (f->promisc)
		return true;
	if (!vlan_passes(n, frame, len))
		return false;
	if (!memcmp(frame, "\xff\xff\xff\xff\xff\xff", 6))
		return !f->nobcast;
	if (frame[0] & 1)
		return !f->nomulti &&
		       (f->allmulti || f->multi_overflow || listed(f->mac + f->unicast, f->multicast, frame));
	return !f->nouni &&
	       (f->alluni || f->uni_overflow || !memcmp(frame, n->config.head, 6) || listed(f->mac, f->unicast, frame));
}

/* --- commands: false, and nothing has changed, for what is not one --- */

static bool set_rx(struct net *n, unsigned command, struct vring_chain *c)
{
	bool *const modes[] = { &n->filter.promisc, &n->filter.allmulti, &n->filter.alluni,
				&n->filter.nomulti, &n->filter.nouni,	 &n->filter.nobcast };
	unsigned feature = command < 2 ? F_CTRL_RX : F_CTRL_RX_EXTRA;
	uint8_t on;

	if (command >= ARRAY_LEN(modes) || !virtio_has_feature(&n->d, feature) || vring_read(c, &on, 1) != 1)
		return false;
	*modes[command] = on;
	return true;
}

/* A count and so many addresses; those that have no room in the table are passed over. */
static bool read_macs(struct vring_chain *c, struct net_filter *f, uint32_t used, uint32_t *count, bool *overflow)
{
	uint8_t word[4];
	uint64_t bytes;

	if (vring_read(c, word, 4) != 4)
		return false;
	*count = ld_le32(word);
	bytes = 6ull * *count;
	if (vring_read_left(c) < bytes)
		return false;
	*overflow = *count > NET_MACS - used;
	if (!*overflow)
		return vring_read(c, f->mac + used, bytes) == bytes;
	*count = 0;
	return vring_read_skip(c, bytes) == bytes;
}

static bool set_mac(struct net *n, unsigned command, struct vring_chain *c)
{
	struct net_filter f = n->filter;
	uint8_t mac[6];

	if (command == 1) {
		if (!virtio_has_feature(&n->d, F_CTRL_MAC_ADDR) || vring_read(c, mac, 6) != 6)
			return false;
		memcpy(n->config.head, mac, 6);
		return true;
	}
	if (command || !virtio_has_feature(&n->d, F_CTRL_RX) || !read_macs(c, &f, 0, &f.unicast, &f.uni_overflow) ||
	    !read_macs(c, &f, f.unicast, &f.multicast, &f.multi_overflow))
		return false;
	n->filter = f;
	return true;
}

static bool set_vlan(struct net *n, unsigned command, struct vring_chain *c)
{
	uint8_t word[2];
	unsigned id;

	if (command > 1 || !virtio_has_feature(&n->d, F_CTRL_VLAN) || vring_read(c, word, 2) != 2)
		return false;
	id = ld_le16(word);
	if (id > 4095)
		return false;
	if (command)
		n->filter.vlans[id >> 5] &= ~(1u << (id & 31));
	else
		n->filter.vlans[id >> 5] |= 1u << (id & 31);
	return true;
}

static bool announced(struct net *n, unsigned command, struct vring_chain *c)
{
	if (command || !virtio_has_feature(&n->d, F_GUEST_ANNOUNCE))
		return false;
	n->config.head[6] &= (uint8_t)~STATUS_ANNOUNCE;
	return true;
}

static bool set_pairs(struct net *n, unsigned command, struct vring_chain *c)
{
	uint8_t word[2];
	unsigned pairs;

	if (command)
		return net_rss_command(n, command, c);
	if (!virtio_has_feature(&n->d, F_MQ) || vring_read(c, word, 2) != 2)
		return false;
	pairs = ld_le16(word);
	if (!pairs || pairs > net_agreed_pairs(n))
		return false;
	n->active = (uint16_t)pairs;
	n->rss.steers = false;
	net_tell_guest(n);
	return true;
}

static bool set_offloads(struct net *n, unsigned command, struct vring_chain *c)
{
	uint8_t word[8];
	uint64_t bits;

	if (command || !virtio_has_feature(&n->d, F_CTRL_GUEST_OFFLOADS) || vring_read(c, word, 8) != 8)
		return false;
	bits = ld_le64(word);
	if (bits & ~(n->d.features & GUEST_OFFLOADS))
		return false;
	n->offloads = bits;
	net_tell_guest(n);
	return true;
}

unsigned net_agreed_pairs(const struct net *n)
{
	return virtio_has_feature(&n->d, F_MQ) || virtio_has_feature(&n->d, F_RSS) ? n->pairs : 1;
}

unsigned net_ctrl_queue(const struct net *n)
{
	return 2 * net_agreed_pairs(n);
}

void net_ctrl_process(struct net *n)
{
	static bool (*const classes[CLASSES])(struct net * n, unsigned command, struct vring_chain *c) = {
		[CLASS_RX] = set_rx,	      [CLASS_MAC] = set_mac,  [CLASS_VLAN] = set_vlan,
		[CLASS_ANNOUNCE] = announced, [CLASS_MQ] = set_pairs, [CLASS_OFFLOADS] = set_offloads,
	};
	unsigned q = net_ctrl_queue(n);
	struct vring_chain *c;

	for (unsigned turn = 0; turn < TURN; turn++) {
		uint8_t header[2], ack = ACK_ERR;

		c = virtio_pop(&n->d, q);
		if (!c)
			return;
		if (!vring_write_left(c)) {
			virtio_done(&n->d, q, c, 0);
			virtio_fail(&n->d, "a control command without room for its answer");
			return;
		}
		if (vring_read(c, header, 2) == 2 && header[0] < CLASSES && classes[header[0]](n, header[1], c))
			ack = ACK_OK;
		vring_write(c, &ack, 1);
		virtio_done(&n->d, q, c, 1);
	}
	virtio_defer(&n->d, q);
}

/* --- saved state --- */

static int filter_loaded(void *obj, struct err *err)
{
	const struct net_filter *f = obj;

	if (f->unicast > NET_MACS || f->multicast > NET_MACS - f->unicast)
		return err_set(err, "a receive filter of %u and %u addresses", f->unicast, f->multicast);
	return 0;
}

int net_ctrl_loaded(const struct net *n, struct err *err)
{
	if (!n->active || n->active > net_agreed_pairs(n))
		return err_set(err, "%u queue pairs of %u", n->active, net_agreed_pairs(n));
	if (n->offloads & ~GUEST_OFFLOADS)
		return err_set(err, "offloads that there are not");
	return net_rss_loaded(n, err);
}

#define F struct net_filter
static const struct state_field fields[] = {
	STATE_BOOLF(F, promisc),
	STATE_BOOLF(F, allmulti),
	STATE_BOOLF(F, alluni),
	STATE_BOOLF(F, nomulti),
	STATE_BOOLF(F, nouni),
	STATE_BOOLF(F, nobcast),
	STATE_BOOLF(F, uni_overflow),
	STATE_BOOLF(F, multi_overflow),
	STATE_U32F(F, unicast),
	STATE_U32F(F, multicast),
	STATE_ARRAY_(STATE_U8, uint8_t, F, mac),
	STATE_U32A(F, vlans),
	STATE_FIELD_END,
};
const struct state_desc net_filter_state = {
	.name = "filter", .version = 1, .min_version = 1, .fields = fields, .post_load = filter_loaded
};
