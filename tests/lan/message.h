/* Requests for the tests of the servers: whole frames from one machine. Test helpers, one thread. */
#ifndef VIREO_TESTS_LAN_MESSAGE_H
#define VIREO_TESTS_LAN_MESSAGE_H

#include "lan/serve/frame.h"
#include "lan/serve/lease.h"

#define NOW	1700000000
#define SERVER	"\x52\x54\0\0\0\2"
#define MACHINE "\x52\x54\0\0\0\7"

/* The network of the tests: 10.0.0.0/24 and fd00::/64; the machine 52:54:00:00:00:09 is known. */
struct lan_serve test_network(void);
struct leases *test_leases(const struct lan_serve *s, bool v6);

/* A request in `m`, of which in->data are the contents. */
struct frame_in *test_request(bool v6, const void *data, size_t len);
/* The contents of an answer, which must be sound. NULL: there is none. */
const struct frame_in *test_answer(const struct frame_out *out);

#endif
