/*
 * Router advertisements: RFC 4861, 8106. Who solicits is answered at once, and alone (RFC 6085: a group's address, the
 * MAC of one). Pure, but for the clock that the caller brings.
 */
#ifndef VIREO_LAN_SERVE_RA_H
#define VIREO_LAN_SERVE_RA_H

#include "lan/serve/frame.h"
#include "lan/serve/serve.h"

#define RA_EVERY_S 200	 /* unsolicited ones, after the first three */
#define RA_OLD_S   86400 /* how long somebody may believe in a prefix */
#define RA_FIRST_S 16
#define RA_FIRSTS  3

/* `end`: the router is one no more. `to` NULL: all nodes. `mac`: the server's. */
void ra_make(const struct lan_serve *s, const uint8_t mac[6], const uint8_t *to, bool end, struct frame_out *out);
/* Whether a frame is a router solicitation as it should be. */
bool ra_is_solicitation(const struct frame_in *in);

#endif
