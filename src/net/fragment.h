/*
 * IPv4 fragments from a guest, put together again for peers that want whole packets. Strict where hosts may be: a
 * fragment that overlaps another one, or that contradicts the packet's length, ends the packet. Bounded: a few packets
 * at a time, each for some seconds.
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

#endif
