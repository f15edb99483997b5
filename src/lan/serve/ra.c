/* See ra.h. */
#include "lan/serve/ra.h"

#include <string.h>

#include "base/bytes.h"
#include "lan/addr.h"

#define SOLICITATION  133
#define ADVERTISEMENT 134
#define LIFETIME_S    1800u
#define HEADER	      16u

enum option { SOURCE_MAC = 1, PREFIX = 3, MTU = 5, RDNSS = 25, DNSSL = 31 };

bool ra_is_solicitation(const struct frame_in *in)
{
	static const struct in6_addr none;
	bool nameless = !memcmp(&in->src6, &none, 16);

	if (!in->v6 || in->proto != IPPROTO_ICMPV6 || in->len < 8 || in->data[0] != SOLICITATION || in->data[1])
		return false;
	for (size_t n = 8; n < in->len;) {
		size_t len;

		if (in->len - n < 2)
			return false;
		len = in->data[n + 1] * 8u;
		if (!len || len > in->len - n || (nameless && in->data[n] == SOURCE_MAC))
			return false;
		n += len;
	}
	return true;
}

static uint8_t *option(uint8_t **p, enum option type, unsigned len)
{
	uint8_t *at = *p;

	memset(at, 0, len);
	at[0] = (uint8_t)type;
	at[1] = (uint8_t)(len / 8);
	*p += len;
	return at;
}

static void put_prefix(uint8_t **p, const struct in6_addr *addr, unsigned bits, bool everybody, uint32_t lifetime)
{
	uint8_t *o = option(p, PREFIX, 32);

	o[2] = (uint8_t)bits;
	o[3] = (uint8_t)(0x80 | (everybody ? 0x40 : 0));
	st_be32(o + 4, lifetime);
	st_be32(o + 8, lifetime / 2);
	memcpy(o + 16, addr, 16);
	/* The bits behind it are nobody's. */
	for (unsigned bit = bits; bit < 128; bit++)
		o[16 + bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
}

static uint8_t *put_resolver(uint8_t **p, const struct in6_addr *addr, uint32_t lifetime)
{
	uint8_t *o = option(p, RDNSS, 24);

	st_be32(o + 4, lifetime);
	memcpy(o + 8, addr, 16);
	return o;
}

/* RFC 9096: a host that is not told keeps an address of before, and prefers it, for half a day. */
static void put_old(uint8_t **p, const struct lan_serve *s)
{
	for (unsigned i = 0; i < s->old6_len; i++) {
		put_prefix(p, &s->old6[i].addr6, 64, true, 0);
		if (s->dns)
			put_resolver(p, &s->old6[i].addr6, 0);
	}
}

static void put_names(uint8_t **p, const struct lan_serve *s, const struct in6_addr *dns)
{
	size_t len = strlen(s->domain);
	uint8_t *o, *label;

	put_resolver(p, dns, LIFETIME_S);
	if (!len)
		return;
	/* As many bytes as the text has, one for the first length and one for the end. */
	o = option(p, DNSSL, (unsigned)align_up(8 + len + 2, 8));
	st_be32(o + 4, LIFETIME_S);
	label = o + 8;
	for (size_t n = 0; n < len; n++) {
		if (s->domain[n] == '.') {
			label += *label + 1;
			continue;
		}
		label[1 + *label] = (uint8_t)s->domain[n];
		*label += 1;
	}
}

void ra_make(const struct lan_serve *s, const uint8_t mac[6], const uint8_t *to, bool end, struct frame_out *out)
{
	static const struct in6_addr none;
	const uint8_t all_mac[6] = { 0x33, 0x33, 0, 0, 0, 1 };
	bool router = memcmp(&s->gateway6, &none, 16), prefix = memcmp(&s->addr6, &none, 16);
	struct in6_addr own = mac_link_local(mac);
	struct frame_ends e = { .src6 = router ? s->gateway6 : own, .dst6 = { .s6_addr = { 0xff, 2, [15] = 1 } } };
	uint8_t *b = out->b + FRAME_ICMP, *p = b + HEADER;

	memset(b, 0, HEADER);
	b[0] = ADVERTISEMENT;
	b[4] = 64;
	b[5] = (uint8_t)(s->dhcp6 ? 0xc0 : 0);
	st_be16(b + 6, router && !end ? LIFETIME_S : 0);
	memcpy(option(&p, SOURCE_MAC, 8) + 2, router ? s->gateway_mac : mac, 6);
	if (s->mtu >= 1280)
		st_be32(option(&p, MTU, 8) + 4, s->mtu);
	if (prefix)
		put_prefix(&p, &s->addr6, s->prefix6, s->prefix6 == 64 && (s->slaac || !s->dhcp6), RA_OLD_S);
	put_old(&p, s);
	if (s->dns && (prefix || !s->old6_len))
		put_names(&p, s, prefix ? &s->addr6 : &own);
	memcpy(e.src_mac, mac, 6);
	memcpy(e.dst_mac, to ? to : all_mac, 6);
	frame_icmp6(out, &e, (size_t)(p - b));
}
