/*
 * Addresses of both families as one kind of number, and a keyed hash, so that nobody outside can choose what falls into
 * one bucket. Pure functions, any thread.
 */
#ifndef VIREO_LAN_ADDR_H
#define VIREO_LAN_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* IPv4 is ::ffff:a.b.c.d; all zero is no address. */
struct lan_addr {
	uint64_t hi, lo;
};

#define LAN_V4 0xffff00000000ull

static inline struct lan_addr addr_of4(struct in_addr a)
{
	return a.s_addr ? (struct lan_addr){ 0, LAN_V4 | be32toh(a.s_addr) } : (struct lan_addr){ 0 };
}

static inline struct lan_addr addr_of6(const struct in6_addr *a)
{
	return (struct lan_addr){ ld_be64(a->s6_addr), ld_be64(a->s6_addr + 8) };
}

static inline bool addr_is4(struct lan_addr a)
{
	return !a.hi && a.lo >> 32 == 0xffff;
}

static inline struct in_addr addr_to4(struct lan_addr a)
{
	return (struct in_addr){ htobe32((uint32_t)a.lo) };
}

static inline struct in6_addr addr_to6(struct lan_addr a)
{
	struct in6_addr v;

	st_be64(v.s6_addr, a.hi);
	st_be64(v.s6_addr + 8, a.lo);
	return v;
}

static inline bool addr_any(struct lan_addr a)
{
	return !a.hi && !a.lo;
}

static inline bool addr_eq(struct lan_addr a, struct lan_addr b)
{
	return a.hi == b.hi && a.lo == b.lo;
}

/* Whether both lie in one prefix of `bits`; IPv4 counts its own 32. */
bool addr_same_net(struct lan_addr a, struct lan_addr b, unsigned bits);

#define ADDR_TEXT 46
/* As inet_ntop(3) writes it. */
const char *addr_text(struct lan_addr a, char text[ADDR_TEXT]);
/* False if it is neither an IPv4 nor an IPv6 address. */
bool addr_parse(const char *text, struct lan_addr *a);

#define MAC_TEXT 18
const char *mac_text(const uint8_t mac[6], char text[MAC_TEXT]);
/* XX:XX:XX:XX:XX:XX and nothing else. */
bool mac_parse(const char *text, uint8_t mac[6]);
static inline bool mac_is_zero(const uint8_t mac[6])
{
	return !(mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}
/* The link-local address that a card makes of its MAC: RFC 4291, appendix A. */
struct in6_addr mac_link_local(const uint8_t mac[6]);

struct lan_key {
	uint64_t k[2];
};
struct lan_key lan_key_new(void);
/* SipHash-2-4. */
uint64_t lan_hash(const struct lan_key *key, const void *data, size_t len);

/* A bucket of tokens; all zero it is full. `now_ms` never runs backwards. */
struct bucket {
	int64_t at_ms;
	uint32_t spent; /* thousandths of a token */
};
bool bucket_take(struct bucket *b, int64_t now_ms, unsigned per_s, unsigned burst);

#endif
