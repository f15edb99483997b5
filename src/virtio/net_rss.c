/*
 * virtio-net's hashes of received frames (virtio 1.2, 5.1.6.4.3): Toeplitz over addresses and ports, reported to the
 * driver (5.1.6.4.4), and queues chosen by them (RSS, 5.1.6.5.6 and 5.1.6.5.7).
 */
#include <string.h>

#include "base/bytes.h"
#include "virtio/net_impl.h"

#define ETHERNET    14u
#define VLAN	    4u
#define IP4_MIN	    20u
#define IP6	    40u
#define PORTS	    4u
#define EXTENSIONS  8 /* headers of IPv6 that are passed over; behind more there is no TCP or UDP */
#define IP6_ADDRESS 16u
#define IP_HOP	    0u
#define IP_TCP	    6u
#define IP_UDP	    17u
#define IP_ROUTING  43u
#define IP_FRAGMENT 44u
#define IP_OPTIONS  60u

/* --- the frame --- */

/* Where its addresses and ports are, as far as there are any. */
struct flow {
	bool v6, extended;		  /* extended: by headers of IPv6 */
	const uint8_t *addresses, *ports; /* NULL: none */
	const uint8_t *home, *route;	  /* what headers of mobile nodes have instead of the addresses; or NULL */
	uint8_t protocol;
};

static void find4(const uint8_t *ip, size_t len, struct flow *f)
{
	size_t header = (ip[0] & 15u) * 4;

	if (len < IP4_MIN || ip[0] >> 4 != 4 || header < IP4_MIN)
		return;
	f->addresses = ip + 12;
	f->protocol = ip[9];
	/* A fragment has ports or has none: all of a packet's have the same hash. */
	if (!(ld_be16(ip + 6) & 0x3fff) && len >= header + PORTS)
		f->ports = ip + header;
}

/* The home address in options for the destination (RFC 6275, 6.3). */
static const uint8_t *find_home(const uint8_t *h, size_t size)
{
	enum { PAD1 = 0, HOME = 201 };

	for (size_t at = 2; at + 2 <= size; at += h[at] == PAD1 ? 1 : 2u + h[at + 1])
		if (h[at] == HOME && h[at + 1] == IP6_ADDRESS && at + 2 + IP6_ADDRESS <= size)
			return h + at + 2;
	return NULL;
}

/* That of routing headers of type 2 (RFC 6275, 6.4), which have this size. */
static const uint8_t *find_route(const uint8_t *h, size_t size)
{
	return size == 8 + IP6_ADDRESS && h[2] == 2 ? h + 8 : NULL;
}

static bool is_passed(uint8_t header)
{
	return header == IP_HOP || header == IP_ROUTING || header == IP_OPTIONS;
}

static void find6(const uint8_t *ip, size_t len, struct flow *f)
{
	size_t at = IP6;
	uint8_t next;

	if (len < IP6 || ip[0] >> 4 != 6)
		return;
	f->v6 = true;
	f->addresses = ip + 8;
	next = ip[6];
	f->extended = is_passed(next) || next == IP_FRAGMENT;
	for (unsigned n = 0; n < EXTENSIONS && is_passed(next) && at + 8 <= len; n++) {
		size_t size = (ip[at + 1] + 1u) * 8;

		if (size > len - at) /* there is nothing behind it */
			break;
		if (next == IP_OPTIONS && !f->home)
			f->home = find_home(ip + at, size);
		if (next == IP_ROUTING && !f->route)
			f->route = find_route(ip + at, size);
		next = ip[at];
		at += size;
	}
	f->protocol = next;
	if (next != IP_FRAGMENT && len >= PORTS && at <= len - PORTS)
		f->ports = ip + at;
}

static struct flow find(const uint8_t *frame, size_t len)
{
	struct flow f = { 0 };
	size_t at = ETHERNET;

	if (len >= ETHERNET + VLAN && ld_be16(frame + 12) == 0x8100)
		at += VLAN;
	if (len <= at)
		return f;
	switch (ld_be16(frame + at - 2)) {
	case 0x0800:
		find4(frame + at, len - at, &f);
		break;
	case 0x86dd:
		find6(frame + at, len - at, &f);
		break;
	}
	return f;
}

/* --- the hash --- */

static uint32_t toeplitz(const uint8_t *key, const uint8_t *data, size_t len)
{
	uint32_t window = ld_be32(key), hash = 0;

	for (size_t k = 0; k < len; k++) {
		for (unsigned bit = 8; bit--;) {
			hash ^= data[k] >> bit & 1 ? window : 0;
			window = window << 1 | (key[k + 4] >> bit & 1);
		}
	}
	return hash;
}

/* A hash type's bit, and what it is called in a report; the first that a frame is of. */
static const struct {
	uint8_t protocol; /* 0: any */
	bool v6, mobile;  /* mobile: of what is extended, with the addresses that mobile nodes have (5.1.6.4.3.4) */
	uint32_t type;
	uint16_t report;
} kinds[] = {
	{ IP_TCP, false, false, 1u << 1, 2 }, { IP_UDP, false, false, 1u << 2, 3 }, { 0, false, false, 1u << 0, 1 },
	{ IP_TCP, true, true, 1u << 7, 8 },   { IP_UDP, true, true, 1u << 8, 9 },   { 0, true, true, 1u << 6, 7 },
	{ IP_TCP, true, false, 1u << 4, 5 },  { IP_UDP, true, false, 1u << 5, 6 },  { 0, true, false, 1u << 3, 4 },
};

struct net_hash net_rss_hash(const struct net_rss *r, const uint8_t *frame, size_t len)
{
	struct flow f = r->types ? find(frame, len) : (struct flow){ 0 };
	size_t size = f.v6 ? 2 * IP6_ADDRESS : 8;
	uint8_t data[2 * IP6_ADDRESS + PORTS];

	for (size_t k = 0; f.addresses && k < ARRAY_LEN(kinds); k++) {
		if (!(r->types & kinds[k].type) || kinds[k].v6 != f.v6 || (kinds[k].mobile && !f.extended))
			continue;
		if (kinds[k].protocol && (kinds[k].protocol != f.protocol || !f.ports))
			continue;
		memcpy(data, f.addresses, size);
		if (kinds[k].mobile && f.home)
			memcpy(data, f.home, IP6_ADDRESS);
		if (kinds[k].mobile && f.route)
			memcpy(data + IP6_ADDRESS, f.route, IP6_ADDRESS);
		if (kinds[k].protocol) {
			memcpy(data + size, f.ports, PORTS);
			size += PORTS;
		}
		return (struct net_hash){ toeplitz(r->key, data, size), kinds[k].report };
	}
	return (struct net_hash){ 0 };
}

unsigned net_rss_pair(const struct net_rss *r, struct net_hash h)
{
	return h.report ? r->table[h.value & r->mask] : r->unclassified;
}

/* --- the driver's commands --- */

static bool read16(struct vring_chain *c, uint16_t *v)
{
	uint8_t b[2];

	if (vring_read(c, b, 2) != 2)
		return false;
	*v = ld_le16(b);
	return true;
}

static bool read_key(struct vring_chain *c, struct net_rss *r)
{
	uint8_t len;

	memset(r->key, 0, sizeof(r->key));
	return vring_read(c, &len, 1) == 1 && len <= NET_RSS_KEY && vring_read(c, r->key, len) == len;
}

static bool read_types(struct vring_chain *c, struct net_rss *r)
{
	uint8_t b[4];

	if (vring_read(c, b, 4) != 4)
		return false;
	r->types = ld_le32(b);
	return !(r->types & ~NET_RSS_TYPES);
}

static bool possible(const struct net_rss *r, unsigned pairs)
{
	if (r->mask >= NET_RSS_TABLE || r->mask & (r->mask + 1) || r->unclassified >= pairs)
		return false;
	for (unsigned k = 0; k <= r->mask; k++)
		if (r->table[k] >= pairs)
			return false;
	return true;
}

static bool set_queues(struct net *n, struct vring_chain *c)
{
	struct net_rss r = { .steers = true };
	uint16_t senders;

	if (!read_types(c, &r) || !read16(c, &r.mask) || r.mask >= NET_RSS_TABLE || !read16(c, &r.unclassified))
		return false;
	for (unsigned k = 0; k <= r.mask; k++)
		if (!read16(c, &r.table[k]))
			return false;
	if (!read16(c, &senders) || !senders || senders > net_agreed_pairs(n) || !read_key(c, &r) ||
	    !possible(&r, net_agreed_pairs(n)))
		return false;
	n->rss = r;
	n->active = senders;
	net_tell_guest(n);
	return true;
}

static bool set_reports(struct net *n, struct vring_chain *c)
{
	struct net_rss r = { 0 };
	uint16_t reserved;

	if (!read_types(c, &r))
		return false;
	for (unsigned k = 0; k < 4; k++)
		if (!read16(c, &reserved))
			return false;
	if (!read_key(c, &r))
		return false;
	n->rss = r;
	net_tell_guest(n);
	return true;
}

bool net_rss_command(struct net *n, unsigned command, struct vring_chain *c)
{
	if (command == 1 && virtio_has_feature(&n->d, F_RSS))
		return set_queues(n, c);
	return command == 2 && virtio_has_feature(&n->d, F_HASH_REPORT) && set_reports(n, c);
}

/* --- saved state --- */

int net_rss_loaded(const struct net *n, struct err *err)
{
	if (n->rss.types & ~NET_RSS_TYPES || !possible(&n->rss, net_agreed_pairs(n)))
		return err_set(err, "a table of receive queues that there are not");
	return 0;
}

#define F struct net_rss
static const struct state_field fields[] = {
	STATE_BOOLF(F, steers), STATE_U32F(F, types), STATE_U16F(F, mask), STATE_U16F(F, unclassified),
	STATE_U16A(F, table),	STATE_U8A(F, key),    STATE_FIELD_END,
};
const struct state_desc net_rss_state = { .name = "rss", .version = 1, .min_version = 1, .fields = fields };
