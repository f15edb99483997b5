/*
 * Unaligned loads and stores in a named byte order, and small arithmetic that everyone needs.
 * Pure functions, any thread.
 */
#ifndef VIREO_BASE_BYTES_H
#define VIREO_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BYTES_ACCESSORS(bits)                                                                                          \
	static inline uint##bits##_t ld_le##bits(const void *p)                                                        \
	{                                                                                                              \
		uint##bits##_t v;                                                                                      \
		memcpy(&v, p, sizeof(v));                                                                              \
		return le##bits##toh(v);                                                                               \
	}                                                                                                              \
	static inline void st_le##bits(void *p, uint##bits##_t v)                                                      \
	{                                                                                                              \
		v = htole##bits(v);                                                                                    \
		memcpy(p, &v, sizeof(v));                                                                              \
	}                                                                                                              \
	static inline uint##bits##_t ld_be##bits(const void *p)                                                        \
	{                                                                                                              \
		uint##bits##_t v;                                                                                      \
		memcpy(&v, p, sizeof(v));                                                                              \
		return be##bits##toh(v);                                                                               \
	}                                                                                                              \
	static inline void st_be##bits(void *p, uint##bits##_t v)                                                      \
	{                                                                                                              \
		v = htobe##bits(v);                                                                                    \
		memcpy(p, &v, sizeof(v));                                                                              \
	}
BYTES_ACCESSORS(16)
BYTES_ACCESSORS(32)
BYTES_ACCESSORS(64)
#undef BYTES_ACCESSORS

/* The low `size` bytes (1, 2, 4, 8) set. */
static inline uint64_t size_mask(unsigned size)
{
	return size >= 8 ? ~0ull : (1ull << (size * 8)) - 1;
}

static inline uint64_t align_down(uint64_t v, uint64_t pow2)
{
	return v & ~(pow2 - 1);
}

/* Caller makes sure that v + pow2 does not overflow. */
static inline uint64_t align_up(uint64_t v, uint64_t pow2)
{
	return (v + pow2 - 1) & ~(pow2 - 1);
}

static inline bool is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* True when [off, off + len) lies within [0, size), without overflow. */
static inline bool range_within(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static inline bool is_all_zero(const void *bytes, size_t n)
{
	const unsigned char *p = bytes;

	return !n || (!p[0] && !p[n - 1] && !p[n / 2] && !memcmp(p, p + 1, n - 1));
}

#define ARRAY_LEN(a)			(sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
