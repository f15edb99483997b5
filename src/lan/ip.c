/* See ip.h. */
#include "lan/ip.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool lan_parse4(const char *text, uint32_t *addr)
{
	struct in_addr a;

	if (inet_pton(AF_INET, text, &a) != 1)
		return false;
	*addr = ntohl(a.s_addr);
	return true;
}

bool lan_parse6(const char *text, struct in6_addr *addr)
{
	return inet_pton(AF_INET6, text, addr) == 1;
}

bool lan_parse_mac(const char *text, uint8_t mac[6])
{
	int end = 0;

	return strlen(text) == LAN_TEXTMAC - 1 &&
	       sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
		      &mac[5], &end) == 6 &&
	       !text[end] && !(mac[0] & 1) && (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

/* Take "ADDRESS/LEN" apart. */
static bool split(const char *text, char addr[LAN_TEXT6], unsigned *len, unsigned most)
{
	const char *slash = strchr(text, '/');
	char *end;
	unsigned long n;

	if (!slash || slash - text >= LAN_TEXT6 || slash[1] < '0' || slash[1] > '9')
		return false;
	memcpy(addr, text, (size_t)(slash - text));
	addr[slash - text] = '\0';
	n = strtoul(slash + 1, &end, 10);
	*len = (unsigned)n;
	return !*end && n && n <= most;
}

uint32_t lan_mask4(unsigned len)
{
	return len ? ~0u << (32 - len) : 0;
}

static struct in6_addr masked6(const struct in6_addr *a, unsigned len)
{
	struct in6_addr m = *a;

	for (unsigned i = 0; i < 16; i++) {
		unsigned bits = len > i * 8 ? len - i * 8 : 0;

		m.s6_addr[i] &= bits >= 8 ? 0xff : (uint8_t)(0xff00 >> bits);
	}
	return m;
}

bool lan_parse_net4(const char *text, struct lan_net4 *n)
{
	char addr[LAN_TEXT6];

	return split(text, addr, &n->len, 32) && lan_parse4(addr, &n->addr) && !(n->addr & ~lan_mask4(n->len));
}

bool lan_parse_net6(const char *text, struct lan_net6 *n)
{
	char addr[LAN_TEXT6];
	struct in6_addr m;

	if (!split(text, addr, &n->len, 128) || !lan_parse6(addr, &n->addr))
		return false;
	m = masked6(&n->addr, n->len);
	return !memcmp(&m, &n->addr, sizeof(m));
}

const char *lan_text4(uint32_t addr, char buf[LAN_TEXT4])
{
	snprintf(buf, LAN_TEXT4, "%u.%u.%u.%u", addr >> 24, addr >> 16 & 0xff, addr >> 8 & 0xff, addr & 0xff);
	return buf;
}

const char *lan_text6(const struct in6_addr *addr, char buf[LAN_TEXT6])
{
	return inet_ntop(AF_INET6, addr, buf, LAN_TEXT6);
}

const char *lan_text_net4(const struct lan_net4 *n, char buf[LAN_TEXT4])
{
	size_t at = strlen(lan_text4(n->addr, buf));

	snprintf(buf + at, LAN_TEXT4 - at, "/%u", n->len);
	return buf;
}

const char *lan_text_net6(const struct lan_net6 *n, char buf[LAN_TEXT6])
{
	size_t at = strlen(lan_text6(&n->addr, buf));

	snprintf(buf + at, LAN_TEXT6 - at, "/%u", n->len);
	return buf;
}

const char *lan_text_mac(const uint8_t mac[6], char buf[LAN_TEXTMAC])
{
	snprintf(buf, LAN_TEXTMAC, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return buf;
}

bool lan_in4(const struct lan_net4 *n, uint32_t addr)
{
	return (addr & lan_mask4(n->len)) == n->addr;
}

bool lan_in6(const struct lan_net6 *n, const struct in6_addr *addr)
{
	struct in6_addr m = masked6(addr, n->len);

	return !memcmp(&m, &n->addr, sizeof(m));
}

bool lan_private4(const struct lan_net4 *n)
{
	static const struct lan_net4 spaces[] = {
		{ 0x0a000000, 8 }, { 0xac100000, 12 }, { 0xc0a80000, 16 }, { 0x64400000, 10 }
	};

	for (unsigned i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
		if (n->len >= spaces[i].len && lan_in4(&spaces[i], n->addr))
			return true;
	return false;
}

bool lan_overlap4(const struct lan_net4 *a, const struct lan_net4 *b)
{
	return a->len <= b->len ? lan_in4(a, b->addr) : lan_in4(b, a->addr);
}

bool lan_overlap6(const struct lan_net6 *a, const struct lan_net6 *b)
{
	return a->len <= b->len ? lan_in6(a, &b->addr) : lan_in6(b, &a->addr);
}

struct in6_addr lan_eui64(const struct in6_addr *prefix, const uint8_t mac[6])
{
	struct in6_addr a = *prefix;
	const uint8_t id[8] = { mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5] };

	memcpy(a.s6_addr + 8, id, sizeof(id));
	return a;
}

struct in6_addr lan_host6(const struct in6_addr *prefix, uint32_t host)
{
	struct in6_addr a = *prefix;

	for (unsigned i = 0; i < 4; i++)
		a.s6_addr[15 - i] = (uint8_t)(host >> (8 * i));
	return a;
}

bool lan_zero6(const struct in6_addr *a)
{
	return IN6_IS_ADDR_UNSPECIFIED(a);
}

uint32_t lan_sum(const void *data, unsigned len)
{
	const uint8_t *p = data;
	uint32_t h = 2166136261u;

	while (len--)
		h = (h ^ *p++) * 16777619u;
	return h;
}
