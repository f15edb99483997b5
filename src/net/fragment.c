/* See fragment.h. RFC 791, section 3.2; RFC 8200, section 4.5; the strictness about overlaps is that of RFC 5722. */
#include "net/fragment.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define ETH	   14u
#define IP_MIN	   20u
#define IP6	   40u
#define IP6_PART   8u  /* the header of a fragment */
#define IP6_NEXT   44u /* its number */
#define KEY	   37u /* source, destination, identification, protocol */
#define MORE	   0x2000u
#define OFFSET	   0x1fffu
#define BLOCKS	   (FRAGMENT_PACKET_MAX / 8 + 1)
#define HEADER_MAX (ETH + 60)

struct packet {
	bool used, v6;
	int64_t since_ms;
	uint8_t key[KEY];
	uint32_t total;	     /* bytes behind the header; 0: the last fragment has not come */
	uint32_t blocks;     /* of 8 bytes that are there */
	unsigned header_len; /* with Ethernet's; 0: the first fragment has not come */
	uint8_t header[HEADER_MAX];
	uint8_t have[BLOCKS / 8 + 1];
	uint8_t data[FRAGMENT_PACKET_MAX + 7];
};

struct fragments {
	struct packet packet[FRAGMENT_PACKETS];
	uint8_t whole[HEADER_MAX + FRAGMENT_PACKET_MAX];
};

struct fragments *fragments_new(void)
{
	return calloc(1, sizeof(struct fragments));
}

void fragments_free(struct fragments *f)
{
	free(f);
}

/* What a fragment says of itself. */
struct part {
	uint8_t key[KEY]; /* addresses of IPv4 have zeros behind them */
	bool v6, more;
	unsigned at, len;
	unsigned header_len; /* with Ethernet's, without the fragment's own */
	const uint8_t *data;
};

static bool is_v6(const uint8_t *frame, size_t len)
{
	return len >= ETH + IP6 && ld_be16(frame + 12) == 0x86dd && frame[ETH] >> 4 == 6;
}

bool fragment_is(const uint8_t *frame, size_t len)
{
	if (is_v6(frame, len))
		return frame[ETH + 6] == IP6_NEXT;
	return len >= ETH + IP_MIN && ld_be16(frame + 12) == 0x0800 && frame[ETH] >> 4 == 4 &&
	       ld_be16(frame + ETH + 6) & (MORE | OFFSET);
}

static bool read4(struct part *p, const uint8_t *ip, size_t len)
{
	unsigned ihl = (ip[0] & 15u) * 4, total = ld_be16(ip + 2), field = ld_be16(ip + 6);

	if (ihl < IP_MIN || total < ihl || total > len)
		return false;
	*p = (struct part){ .more = field & MORE, .at = (field & OFFSET) * 8, .len = total - ihl };
	p->header_len = ETH + ihl;
	p->data = ip + ihl;
	memcpy(p->key, ip + 12, 8);
	memcpy(p->key + 32, ip + 4, 2);
	p->key[36] = ip[9];
	return true;
}

static bool read6(struct part *p, const uint8_t *ip, size_t len)
{
	unsigned payload = ld_be16(ip + 4);
	const uint8_t *h = ip + IP6;

	if (payload < IP6_PART || payload > len - IP6)
		return false;
	*p = (struct part){ .v6 = true, .more = h[3] & 1, .at = ld_be16(h + 2) & ~7u, .len = payload - IP6_PART };
	p->header_len = ETH + IP6;
	p->data = h + IP6_PART;
	memcpy(p->key, ip + 8, 32);
	memcpy(p->key + 32, h + 4, 4);
	p->key[36] = h[0];
	return true;
}

/* The packet that a fragment belongs to; a new one takes the place of the oldest. */
static struct packet *find(struct fragments *f, const struct part *part, int64_t now_ms)
{
	struct packet *oldest = &f->packet[0];

	for (unsigned n = 0; n < FRAGMENT_PACKETS; n++) {
		struct packet *p = &f->packet[n];

		if (p->used && now_ms - p->since_ms > FRAGMENT_SECONDS * 1000)
			p->used = false;
		if (p->used && p->v6 == part->v6 && !memcmp(p->key, part->key, KEY))
			return p;
		if (oldest->used && (!p->used || p->since_ms < oldest->since_ms))
			oldest = p;
	}
	oldest->used = true;
	oldest->v6 = part->v6;
	oldest->since_ms = now_ms;
	oldest->total = oldest->blocks = oldest->header_len = 0;
	memcpy(oldest->key, part->key, KEY);
	memset(oldest->have, 0, sizeof(oldest->have));
	return oldest;
}

/* False: the fragments contradict each other. */
static bool put(struct packet *p, unsigned at, const uint8_t *data, unsigned len, bool more)
{
	if (!len || (more && len % 8) || at + len > FRAGMENT_PACKET_MAX - IP_MIN || (p->total && at + len > p->total))
		return false;
	for (unsigned b = at / 8; b < (at + len + 7) / 8; b++) {
		if (p->have[b / 8] >> b % 8 & 1)
			return false;
		p->have[b / 8] |= (uint8_t)(1u << b % 8);
		p->blocks++;
	}
	memcpy(p->data + at, data, len);
	if (!more) {
		/* Nothing may lie beyond the end. */
		for (unsigned b = (at + len + 7) / 8; b < BLOCKS; b++)
			if (p->have[b / 8] >> b % 8 & 1)
				return false;
		p->total = at + len;
	}
	return true;
}

static void finish4(uint8_t *ip, unsigned ihl, unsigned len, unsigned field)
{
	uint32_t s = 0;

	st_be16(ip + 2, (uint16_t)(ihl + len));
	st_be16(ip + 6, (uint16_t)field);
	st_be16(ip + 10, 0);
	for (unsigned k = 0; k < ihl; k += 2)
		s += ld_be16(ip + k);
	s = (s & 0xffff) + (s >> 16);
	st_be16(ip + 10, (uint16_t) ~(s + (s >> 16)));
}

static const uint8_t *complete(struct fragments *f, struct packet *p, size_t *whole)
{
	uint8_t *ip = f->whole + ETH;
	unsigned ihl = p->header_len - ETH;

	p->used = false;
	if (ihl + p->total > FRAGMENT_PACKET_MAX)
		return NULL;
	memcpy(f->whole, p->header, p->header_len);
	memcpy(f->whole + p->header_len, p->data, p->total);
	if (p->v6) {
		st_be16(ip + 4, (uint16_t)p->total);
		ip[6] = p->key[36];
	} else {
		finish4(ip, ihl, p->total, 0);
	}
	*whole = p->header_len + p->total;
	return f->whole;
}

const uint8_t *fragments_add(struct fragments *f, const uint8_t *frame, size_t len, int64_t now_ms, size_t *whole)
{
	struct part part;
	struct packet *p;

	if (!(is_v6(frame, len) ? read6(&part, frame + ETH, len - ETH) : read4(&part, frame + ETH, len - ETH)))
		return NULL;
	p = find(f, &part, now_ms);
	if (!put(p, part.at, part.data, part.len, part.more)) {
		p->used = false;
		return NULL;
	}
	if (!part.at) {
		p->header_len = part.header_len;
		memcpy(p->header, frame, p->header_len);
	}
	return p->total && p->header_len && p->blocks == (p->total + 7) / 8 ? complete(f, p, whole) : NULL;
}

void fragments_cut(const uint8_t *frame, size_t len, unsigned mtu, uint32_t id,
		   void (*out)(void *opaque, const uint8_t *frame, size_t len), void *opaque)
{
	bool v6 = is_v6(frame, len), v4 = len >= ETH + IP_MIN && ld_be16(frame + 12) == 0x0800;
	unsigned header = ETH + (v6 ? IP6 : v4 ? (frame[ETH] & 15u) * 4 : 0), own = v6 ? IP6_PART : 0, most, field;
	uint8_t b[HEADER_MAX + IP6_PART + FRAGMENT_MTU_MAX];

	if (len <= ETH + mtu || !(v4 || v6) || len < header) {
		out(opaque, frame, len);
		return;
	}
	most = (ETH + (mtu < FRAGMENT_MTU_MAX ? mtu : FRAGMENT_MTU_MAX) - header - own) & ~7u;
	field = v4 ? ld_be16(frame + ETH + 6) & (MORE | OFFSET) : 0;
	memcpy(b, frame, header);
	for (size_t at = header; at < len; at += most) {
		unsigned n = len - at < most ? (unsigned)(len - at) : most, place = (unsigned)(at - header);
		bool more = at + n < len || field & MORE;
		uint8_t *own_at = b + header;

		if (v6) {
			st_be16(b + ETH + 4, (uint16_t)(own + n));
			b[ETH + 6] = IP6_NEXT;
			own_at[0] = frame[ETH + 6];
			own_at[1] = 0;
			st_be16(own_at + 2, (uint16_t)(place | more));
			st_be32(own_at + 4, id);
		} else {
			finish4(b + ETH, header - ETH, n, ((field & OFFSET) + place / 8) | (more ? MORE : 0));
		}
		memcpy(own_at + own, frame + at, n);
		out(opaque, b, header + own + n);
	}
}
