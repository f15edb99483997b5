/* Checksums and segmentation of TCP and UDP for sides that want complete frames. RFC 1071, 791, 768, 9293. Pure. */
#include <string.h>

#include "base/bytes.h"
#include "net/net.h"

#define ETH	14
#define IP4_MIN 20
#define IP6	40
#define TCP_MIN 20
#define TCP	6
#define UDP	17
#define UDP_LEN 8
#define MSS_MIN 64 /* a frame becomes a thousand at most */
/* Each of them has all headers: longer ones than any extensions of IPv6 would be 16 MB of one frame. */
#define HEADERS_MAX 1024
#define FIN_PSH	    0x09u
#define CWR	    0x80u

/* The sum of big-endian words, not folded. Words of any order and size have the same sum, in their own order. */
static uint32_t sum(const uint8_t *b, size_t len, uint32_t s)
{
	uint64_t wide = 0;
	uint16_t folded;

	for (; len >= 32; b += 32, len -= 32) {
		uint32_t w[8];

		memcpy(w, b, sizeof(w));
		for (unsigned n = 0; n < 8; n++)
			wide += w[n];
	}
	while (wide >> 16)
		wide = (wide & 0xffff) + (wide >> 16);
	folded = (uint16_t)wide;
	s += ld_be16((const uint8_t *)&folded);
	for (; len > 1; b += 2, len -= 2)
		s += ld_be16(b);
	return len ? s + ((uint32_t)*b << 8) : s;
}

static uint16_t fold(uint32_t s)
{
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

/* The field already holds the sum of the pseudo header. */
static bool fill_checksum(uint8_t *frame, size_t len, const struct net_offload *o)
{
	size_t at = (size_t)o->csum_start + o->csum_offset;
	uint16_t c;

	if (o->csum_start >= len || !range_within(at, 2, len))
		return false;
	c = fold(sum(frame + o->csum_start, len - o->csum_start, 0));
	st_be16(frame + at, c ? c : 0xffff);
	return true;
}

struct parsed {
	size_t ip, l4, payload; /* offsets */
	bool v6, udp;
};

/* Of a VLAN, or of one within another. */
static bool is_tag(unsigned type)
{
	return type == 0x8100 || type == 0x88a8;
}

/* The driver says where TCP or UDP begins (its checksum starts there): behind IPv6 there may be extension headers. */
static bool parse(const uint8_t *f, size_t len, const struct net_offload *o, struct parsed *t)
{
	size_t least = o->gso == NET_GSO_UDP ? UDP_LEN : TCP_MIN;

	*t = (struct parsed){ .ip = ETH, .l4 = o->csum_start, .udp = o->gso == NET_GSO_UDP };
	while (len > t->ip + 4 && is_tag(ld_be16(f + t->ip - 2)))
		t->ip += 4;
	t->v6 = t->udp ? len > t->ip && f[t->ip] >> 4 == 6 : o->gso == NET_GSO_TCP6;
	if (!o->checksum || len < t->l4 + least || t->l4 < t->ip + (t->v6 ? IP6 : IP4_MIN))
		return false;
	if (t->v6 ? f[t->ip] >> 4 != 6
		  : f[t->ip] >> 4 != 4 || f[t->ip + 9] != (t->udp ? UDP : TCP) || t->l4 != t->ip + (f[t->ip] & 15u) * 4)
		return false;
	t->payload = t->l4 + (t->udp ? UDP_LEN : (f[t->l4 + 12] >> 4) * 4u);
	return t->payload >= t->l4 + least && t->payload <= len && t->payload <= HEADERS_MAX;
}

/* What the segments of TCP have of their own. */
static void finish_tcp(uint8_t *tcp, unsigned index, uint32_t done, bool last)
{
	st_be32(tcp + 4, ld_be32(tcp + 4) + done);
	if (!last)
		tcp[13] &= (uint8_t)~FIN_PSH;
	if (index)
		tcp[13] &= (uint8_t)~CWR;
}

/* Lengths, identification, sequence number and both checksums of one segment. */
static void finish(uint8_t *f, size_t len, const struct parsed *t, unsigned index)
{
	uint8_t *ip = f + t->ip, *l4 = f + t->l4, *at = l4 + (t->udp ? 6 : 16);
	size_t l4_len = len - t->l4;
	uint32_t pseudo = (t->udp ? UDP : TCP) + (uint32_t)l4_len;
	uint16_t c;

	if (t->v6) {
		st_be16(ip + 4, (uint16_t)(len - t->ip - IP6));
		pseudo = sum(ip + 8, 32, pseudo);
	} else {
		st_be16(ip + 2, (uint16_t)(len - t->ip));
		st_be16(ip + 4, (uint16_t)(ld_be16(ip + 4) + index));
		st_be16(ip + 10, 0);
		st_be16(ip + 10, fold(sum(ip, t->l4 - t->ip, 0)));
		pseudo = sum(ip + 12, 8, pseudo);
	}
	if (t->udp)
		st_be16(l4 + 4, (uint16_t)l4_len);
	st_be16(at, 0);
	c = fold(sum(l4, l4_len, pseudo));
	st_be16(at, c || !t->udp ? c : 0xffff);
}

void net_segment(const uint8_t *frame, size_t len, const struct net_offload *o,
		 void (*out)(void *opaque, const uint8_t *frame, size_t len), void *opaque)
{
	static _Thread_local uint8_t b[NET_FRAME_MAX];
	struct parsed t;
	size_t total;

	if (len > sizeof(b))
		return;
	if (o->gso == NET_GSO_NONE) {
		if (!o->checksum) {
			out(opaque, frame, len);
			return;
		}
		memcpy(b, frame, len);
		if (fill_checksum(b, len, o))
			out(opaque, b, len);
		return;
	}
	if (!parse(frame, len, o, &t) || o->mss < MSS_MIN)
		return;
	total = len - t.payload;
	for (size_t done = 0, index = 0; done < total || !index; index++) {
		size_t n = total - done < o->mss ? total - done : o->mss;

		memcpy(b, frame, t.payload);
		memcpy(b + t.payload, frame + t.payload + done, n);
		if (!t.udp)
			finish_tcp(b + t.l4, (unsigned)index, (uint32_t)done, done + n == total);
		finish(b, t.payload + n, &t, (unsigned)index);
		out(opaque, b, t.payload + n);
		done += n;
	}
}
