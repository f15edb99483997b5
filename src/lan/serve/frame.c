/* See frame.h: RFC 791, 768, 8200 and 4443. */
#include "lan/serve/frame.h"

#include <string.h>

#include "base/bytes.h"

#define ETH_IP4 0x0800
#define ETH_IP6 0x86dd

static uint32_t sum(const uint8_t *b, size_t len, uint32_t s)
{
	for (; len > 1; b += 2, len -= 2)
		s += ld_be16(b);
	return len ? s + (uint32_t)(*b << 8) : s;
}

static uint16_t fold(uint32_t s)
{
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static bool parse_udp(const uint8_t *p, size_t len, struct frame_in *in)
{
	if (len < 8 || ld_be16(p + 4) < 8 || ld_be16(p + 4) > len)
		return false;
	in->sport = ld_be16(p);
	in->dport = ld_be16(p + 2);
	in->data = p + 8;
	in->len = ld_be16(p + 4) - 8u;
	return true;
}

static bool parse4(const uint8_t *ip, size_t len, bool summed, struct frame_in *in)
{
	size_t ihl, total;

	if (len < 20 || ip[0] >> 4 != 4)
		return false;
	ihl = (ip[0] & 15u) * 4;
	total = ld_be16(ip + 2);
	/* No part of a packet that came in pieces. */
	if (ihl < 20 || total < ihl || total > len || ld_be16(ip + 6) & 0x3fff || ip[9] != IPPROTO_UDP ||
	    fold(sum(ip, ihl, 0)))
		return false;
	in->proto = IPPROTO_UDP;
	memcpy(&in->src4, ip + 12, 4);
	memcpy(&in->dst4, ip + 16, 4);
	if (!parse_udp(ip + ihl, total - ihl, in))
		return false;
	return summed || !ld_be16(ip + ihl + 6) || !fold(sum(ip + ihl, in->len + 8, sum(ip + 12, 8, 17 + in->len + 8)));
}

static bool parse6(const uint8_t *ip, size_t len, bool summed, struct frame_in *in)
{
	size_t total;

	if (len < 40 || ip[0] >> 4 != 6)
		return false;
	total = ld_be16(ip + 4);
	if (total > len - 40 || (ip[6] != IPPROTO_UDP && ip[6] != IPPROTO_ICMPV6))
		return false;
	in->proto = ip[6];
	memcpy(&in->src6, ip + 8, 16);
	memcpy(&in->dst6, ip + 24, 16);
	in->data = ip + 40;
	in->len = total;
	if (in->proto == IPPROTO_UDP) {
		/* RFC 8200, 8.1: there is a checksum. */
		if (!parse_udp(ip + 40, total, in) || (!summed && !ld_be16(ip + 46)))
			return false;
		total = in->len + 8;
	} else if (total < 4 || ip[7] != 255) {
		return false; /* what neighbours say has passed no router */
	}
	return summed || !fold(sum(ip + 40, total, sum(ip + 8, 32, (uint32_t)total + in->proto)));
}

bool frame_parse(const uint8_t *frame, size_t len, bool summed, struct frame_in *in)
{
	memset(in, 0, sizeof(*in));
	if (len < FRAME_ETH || frame[6] & 1)
		return false;
	memcpy(in->mac, frame + 6, 6);
	in->multicast = frame[0] & 1;
	in->v6 = ld_be16(frame + 12) == ETH_IP6;
	if (in->v6)
		return parse6(frame + FRAME_ETH, len - FRAME_ETH, summed, in);
	return ld_be16(frame + 12) == ETH_IP4 && parse4(frame + FRAME_ETH, len - FRAME_ETH, summed, in);
}

static void ethernet(uint8_t *b, const struct frame_ends *e, uint16_t type)
{
	memcpy(b, e->dst_mac, 6);
	memcpy(b + 6, e->src_mac, 6);
	st_be16(b + 12, type);
}

static void udp(uint8_t *p, const struct frame_ends *e, size_t len, uint32_t pseudo)
{
	uint16_t s;

	st_be16(p, e->sport);
	st_be16(p + 2, e->dport);
	st_be16(p + 4, (uint16_t)(8 + len));
	st_be16(p + 6, 0);
	s = fold(sum(p, 8 + len, pseudo + 17 + 8 + (uint32_t)len));
	st_be16(p + 6, s ? s : 0xffff);
}

void frame_udp4(struct frame_out *o, const struct frame_ends *e, size_t len)
{
	uint8_t *ip = o->b + FRAME_ETH;

	ethernet(o->b, e, ETH_IP4);
	memset(ip, 0, 20);
	ip[0] = 0x45;
	ip[1] = 0x10;
	st_be16(ip + 2, (uint16_t)(28 + len));
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, &e->src4, 4);
	memcpy(ip + 16, &e->dst4, 4);
	st_be16(ip + 10, fold(sum(ip, 20, 0)));
	udp(ip + 20, e, len, sum(ip + 12, 8, 0));
	o->len = FRAME_UDP4 + len;
}

static void ip6(struct frame_out *o, const struct frame_ends *e, uint8_t proto, size_t len)
{
	uint8_t *ip = o->b + FRAME_ETH;

	ethernet(o->b, e, ETH_IP6);
	memset(ip, 0, 8);
	ip[0] = 0x60;
	st_be16(ip + 4, (uint16_t)len);
	ip[6] = proto;
	ip[7] = 255;
	memcpy(ip + 8, &e->src6, 16);
	memcpy(ip + 24, &e->dst6, 16);
	o->len = FRAME_ETH + 40 + len;
}

void frame_udp6(struct frame_out *o, const struct frame_ends *e, size_t len)
{
	ip6(o, e, IPPROTO_UDP, 8 + len);
	udp(o->b + FRAME_ETH + 40, e, len, sum(o->b + FRAME_ETH + 8, 32, 0));
}

void frame_icmp6(struct frame_out *o, const struct frame_ends *e, size_t len)
{
	uint8_t *p = o->b + FRAME_ICMP;

	ip6(o, e, IPPROTO_ICMPV6, len);
	st_be16(p + 2, 0);
	st_be16(p + 2, fold(sum(p, len, sum(o->b + FRAME_ETH + 8, 32, (uint32_t)len + IPPROTO_ICMPV6))));
}
