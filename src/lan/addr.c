/* See addr.h. */
#include "lan/addr.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/entropy.h"

bool addr_same_net(struct lan_addr a, struct lan_addr b, unsigned bits)
{
	unsigned low;

	if (addr_is4(a) != addr_is4(b))
		return false;
	if (addr_is4(a))
		bits += 96;
	if (bits <= 64)
		return !bits || !((a.hi ^ b.hi) >> (64 - bits));
	low = bits < 128 ? 128 - bits : 0;
	return a.hi == b.hi && !((a.lo ^ b.lo) >> low);
}

const char *addr_text(struct lan_addr a, char text[ADDR_TEXT])
{
	struct in_addr v4 = addr_to4(a);
	struct in6_addr v6 = addr_to6(a);

	return addr_is4(a) ? inet_ntop(AF_INET, &v4, text, ADDR_TEXT) : inet_ntop(AF_INET6, &v6, text, ADDR_TEXT);
}

bool addr_parse(const char *text, struct lan_addr *a)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1)
		*a = addr_of4(v4);
	else if (inet_pton(AF_INET6, text, &v6) == 1)
		*a = addr_of6(&v6);
	else
		return false;
	return true;
}

const char *mac_text(const uint8_t mac[6], char text[MAC_TEXT])
{
	snprintf(text, MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return text;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

bool mac_parse(const char *text, uint8_t mac[6])
{
	for (unsigned n = 0; n < 6; n++, text += 3) {
		int high = hex(text[0]), low = high < 0 ? -1 : hex(text[1]);

		if (low < 0 || text[2] != (n < 5 ? ':' : 0))
			return false;
		mac[n] = (uint8_t)(high << 4 | low);
	}
	return true;
}

struct in6_addr mac_link_local(const uint8_t mac[6])
{
	return (struct in6_addr){ .s6_addr = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe,
					       mac[3], mac[4], mac[5] } };
}

struct lan_key lan_key_new(void)
{
	struct lan_key key = { { 0x736f6d6570736575ull, 0x646f72616e646f6dull } };

	entropy_get(&key, sizeof(key));
	return key;
}

static uint64_t rotl(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

static void sip_rounds(uint64_t v[4], unsigned rounds)
{
	while (rounds--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] = rotl(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] = rotl(v[2], 32);
	}
}

uint64_t lan_hash(const struct lan_key *key, const void *data, size_t len)
{
	uint64_t v[4] = { key->k[0] ^ 0x736f6d6570736575ull, key->k[1] ^ 0x646f72616e646f6dull,
			  key->k[0] ^ 0x6c7967656e657261ull, key->k[1] ^ 0x7465646279746573ull };
	const uint8_t *p = data;
	uint64_t last = (uint64_t)len << 56;
	size_t n = 0;

	for (; n + 8 <= len; n += 8) {
		uint64_t m = ld_le64(p + n);

		v[3] ^= m;
		sip_rounds(v, 2);
		v[0] ^= m;
	}
	for (size_t k = n; k < len; k++)
		last |= (uint64_t)p[k] << 8 * (k - n);
	v[3] ^= last;
	sip_rounds(v, 2);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

bool bucket_take(struct bucket *b, int64_t now_ms, unsigned per_s, unsigned burst)
{
	uint64_t back = (uint64_t)(now_ms - b->at_ms) * per_s;

	b->at_ms = now_ms;
	b->spent = back >= b->spent ? 0 : b->spent - (uint32_t)back;
	if (b->spent + 1000 > burst * 1000)
		return false;
	b->spent += 1000;
	return true;
}
