/*
 * Addresses of a network as values and as text. IPv4 addresses are numbers in the host's byte order, so that ranges can
 * be counted through. Pure functions, any thread.
 */
#ifndef VIREO_LAN_IP_H
#define VIREO_LAN_IP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct lan_net4 {
	uint32_t addr;
	unsigned len; /* bits; 0 with addr 0: none */
};
struct lan_net6 {
	struct in6_addr addr;
	unsigned len;
};

#define LAN_TEXT4   20 /* with "/24" */
#define LAN_TEXT6   52
#define LAN_TEXTMAC 18

/* The whole text, or false. */
bool lan_parse4(const char *text, uint32_t *addr);
bool lan_parse6(const char *text, struct in6_addr *addr);
bool lan_parse_mac(const char *text, uint8_t mac[6]); /* a unicast one */
/* "10.1.2.0/24": without bits of a host. */
bool lan_parse_net4(const char *text, struct lan_net4 *n);
bool lan_parse_net6(const char *text, struct lan_net6 *n);

const char *lan_text4(uint32_t addr, char buf[LAN_TEXT4]);
const char *lan_text6(const struct in6_addr *addr, char buf[LAN_TEXT6]);
const char *lan_text_net4(const struct lan_net4 *n, char buf[LAN_TEXT4]);
const char *lan_text_net6(const struct lan_net6 *n, char buf[LAN_TEXT6]);
const char *lan_text_mac(const uint8_t mac[6], char buf[LAN_TEXTMAC]);

uint32_t lan_mask4(unsigned len);
bool lan_in4(const struct lan_net4 *n, uint32_t addr);
bool lan_in6(const struct lan_net6 *n, const struct in6_addr *addr);
/* Nobody's in the world: RFC 1918, and the carriers' 100.64.0.0/10 (RFC 6598). */
bool lan_private4(const struct lan_net4 *n);
bool lan_overlap4(const struct lan_net4 *a, const struct lan_net4 *b);
bool lan_overlap6(const struct lan_net6 *a, const struct lan_net6 *b);

/* An address of a /64 (or of fe80::/64) with the interface identifier that is made of a MAC (RFC 4291, appendix A). */
struct in6_addr lan_eui64(const struct in6_addr *prefix, const uint8_t mac[6]);
/* The address of a /64 with the number `host` in its low 32 bits. */
struct in6_addr lan_host6(const struct in6_addr *prefix, uint32_t host);
bool lan_zero6(const struct in6_addr *a);

/* FNV-1a: what is derived from names needs no secret. */
uint32_t lan_sum(const void *data, unsigned len);

#endif
