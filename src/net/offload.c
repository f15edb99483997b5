/* Checksums and TCP segmentation for peers that want complete frames. RFC 1071, 791, 9293. Pure. */
#include <string.h>

#include "base/bytes.h"
#include "net/net.h"

#define ETH	14
#define IP4_MIN 20
#define IP6	40
#define TCP_MIN 20
#define TCP	6
#define MSS_MIN 64 /* a frame becomes a thousand at most */
#define FIN_PSH 0x09u
#define CWR	0x80u

static uint32_t sum(const uint8_t *b, size_t len, uint32_t s)
{
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

struct tcp_frame {
	size_t ip, tcp, payload; /* offsets */
	bool v6;
};

/* The driver says where TCP begins (its checksum starts there): behind IPv6 there may be extension headers. */
static bool parse(const uint8_t *f, size_t len, const struct net_offload *o, struct tcp_frame *t)
{
	*t = (struct tcp_frame){ .ip = ETH, .tcp = o->csum_start, .v6 = o->gso == NET_GSO_TCP6 };
	if (len > ETH + 4 && ld_be16(f + 12) == 0x8100)
		t->ip += 4;
	if (!o->checksum || len < t->tcp + TCP_MIN || t->tcp < t->ip + (t->v6 ? IP6 : IP4_MIN))
		return false;
	if (t->v6 ? f[t->ip] >> 4 != 6
		  : f[t->ip] >> 4 != 4 || f[t->ip + 9] != TCP || t->tcp != t->ip + (f[t->ip] & 15u) * 4)
		return false;
	t->payload = t->tcp + (f[t->tcp + 12] >> 4) * 4u;
	return t->payload >= t->tcp + TCP_MIN && t->payload <= len;
}

/* Lengths, identification, sequence number and both checksums of one segment. */
static void finish(uint8_t *f, size_t len, const struct tcp_frame *t, unsigned index, uint32_t done, bool last)
{
	uint8_t *ip = f + t->ip, *tcp = f + t->tcp;
	size_t tcp_len = len - t->tcp;
	uint32_t pseudo = TCP + (uint32_t)tcp_len;

	if (t->v6) {
		st_be16(ip + 4, (uint16_t)(len - t->ip - IP6));
		pseudo = sum(ip + 8, 32, pseudo);
	} else {
		st_be16(ip + 2, (uint16_t)(len - t->ip));
		st_be16(ip + 4, (uint16_t)(ld_be16(ip + 4) + index));
		st_be16(ip + 10, 0);
		st_be16(ip + 10, fold(sum(ip, t->tcp - t->ip, 0)));
		pseudo = sum(ip + 12, 8, pseudo);
	}
	st_be32(tcp + 4, ld_be32(tcp + 4) + done);
	if (!last)
		tcp[13] &= (uint8_t)~FIN_PSH;
	if (index)
		tcp[13] &= (uint8_t)~CWR;
	st_be16(tcp + 16, 0);
	st_be16(tcp + 16, fold(sum(tcp, tcp_len, pseudo)));
}

void net_segment(const uint8_t *frame, size_t len, const struct net_offload *o,
		 void (*out)(void *opaque, const uint8_t *frame, size_t len), void *opaque)
{
	static _Thread_local uint8_t b[NET_FRAME_MAX];
	struct tcp_frame t;
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
		finish(b, t.payload + n, &t, (unsigned)index, (uint32_t)done, done + n == total);
		out(opaque, b, t.payload + n);
		done += n;
	}
}
