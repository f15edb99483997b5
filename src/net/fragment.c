/* See fragment.h. RFC 791, section 3.2; the strictness about overlaps is that of RFC 5722. */
#include "net/fragment.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define ETH	   14u
#define IP_MIN	   20u
#define MORE	   0x2000u
#define OFFSET	   0x1fffu
#define BLOCKS	   (FRAGMENT_PACKET_MAX / 8 + 1)
#define HEADER_MAX (ETH + 60)

struct packet {
	bool used;
	int64_t since_ms;
	uint8_t key[11];     /* source, destination, identification, protocol */
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

bool fragment_is(const uint8_t *frame, size_t len)
{
	return len >= ETH + IP_MIN && ld_be16(frame + 12) == 0x0800 && frame[ETH] >> 4 == 4 &&
	       ld_be16(frame + ETH + 6) & (MORE | OFFSET);
}

static void make_key(uint8_t *key, const uint8_t *ip)
{
	memcpy(key, ip + 12, 8);
	memcpy(key + 8, ip + 4, 2);
	key[10] = ip[9];
}

/* The packet that a fragment belongs to; a new one takes the place of the oldest. */
static struct packet *find(struct fragments *f, const uint8_t *ip, int64_t now_ms)
{
	struct packet *oldest = &f->packet[0];
	uint8_t key[11];

	make_key(key, ip);
	for (unsigned n = 0; n < FRAGMENT_PACKETS; n++) {
		struct packet *p = &f->packet[n];

		if (p->used && now_ms - p->since_ms > FRAGMENT_SECONDS * 1000)
			p->used = false;
		if (p->used && !memcmp(p->key, key, sizeof(key)))
			return p;
		if (oldest->used && (!p->used || p->since_ms < oldest->since_ms))
			oldest = p;
	}
	oldest->used = true;
	oldest->since_ms = now_ms;
	oldest->total = oldest->blocks = oldest->header_len = 0;
	memcpy(oldest->key, key, sizeof(key));
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

static const uint8_t *complete(struct fragments *f, struct packet *p, size_t *whole)
{
	uint8_t *ip = f->whole + ETH;
	unsigned ihl = p->header_len - ETH;
	uint32_t s = 0;

	p->used = false;
	if (ihl + p->total > FRAGMENT_PACKET_MAX)
		return NULL;
	memcpy(f->whole, p->header, p->header_len);
	memcpy(f->whole + p->header_len, p->data, p->total);
	st_be16(ip + 2, (uint16_t)(ihl + p->total));
	st_be16(ip + 6, 0);
	st_be16(ip + 10, 0);
	for (unsigned k = 0; k < ihl; k += 2)
		s += ld_be16(ip + k);
	s = (s & 0xffff) + (s >> 16);
	st_be16(ip + 10, (uint16_t) ~(s + (s >> 16)));
	*whole = p->header_len + p->total;
	return f->whole;
}

const uint8_t *fragments_add(struct fragments *f, const uint8_t *frame, size_t len, int64_t now_ms, size_t *whole)
{
	const uint8_t *ip = frame + ETH;
	unsigned ihl = (ip[0] & 15u) * 4, total = ld_be16(ip + 2), field = ld_be16(ip + 6);
	struct packet *p;

	if (ihl < IP_MIN || total < ihl || total > len - ETH)
		return NULL;
	p = find(f, ip, now_ms);
	if (!put(p, (field & OFFSET) * 8, ip + ihl, total - ihl, field & MORE)) {
		p->used = false;
		return NULL;
	}
	if (!(field & OFFSET)) {
		p->header_len = ETH + ihl;
		memcpy(p->header, frame, p->header_len);
	}
	return p->total && p->header_len && p->blocks == (p->total + 7) / 8 ? complete(f, p, whole) : NULL;
}
