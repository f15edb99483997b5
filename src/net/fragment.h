/*
 * Fragments of IPv4 and IPv6 from a guest, put together again for peers that want whole packets, and packets cut to
 * fragments for it. Strict where hosts may be: a
 * fragment that overlaps another one, or that contradicts the packet's length, ends the packet. Of IPv6 those whose
 * header stands right behind the packet's. Bounded: a few packets at a time, each for some seconds.
 *
 * One thread.
 */
#ifndef VIREO_NET_FRAGMENT_H
#define VIREO_NET_FRAGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAGMENT_PACKETS    8 /* being put together; the oldest makes room */
#define FRAGMENT_SECONDS    15
#define FRAGMENT_PACKET_MAX 65535u

struct fragments;

struct fragments *fragments_new(void); /* NULL: out of memory */
void fragments_free(struct fragments *f);

bool fragment_is(const uint8_t *frame, size_t len);
/*
 * Takes an Ethernet frame for which fragment_is() is true. The whole frame, and its length in *whole, when this was the
 * last part of it: valid until the next call. Else NULL.
 */
const uint8_t *fragments_add(struct fragments *f, const uint8_t *frame, size_t len, int64_t now_ms, size_t *whole);

#define FRAGMENT_MTU_MAX 1500u
/* A frame, in as many as are needed for a guest that takes packets of `mtu` bytes. `id` is of IPv6's. */
void fragments_cut(const uint8_t *frame, size_t len, unsigned mtu, uint32_t id,
		   void (*out)(void *opaque, const uint8_t *frame, size_t len), void *opaque);

#endif
