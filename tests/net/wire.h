/*
 * A receiver that keeps what comes, and a loop to run: for tests of back ends. One thread.
 */
#ifndef VIREO_TESTS_NET_WIRE_H
#define VIREO_TESTS_NET_WIRE_H

#include "net/net.h"

struct wire {
	struct net_peer *peer;
	unsigned frames, writables, unplugged;
	bool deaf; /* receive() has no room */
	uint8_t last[NET_FRAME_MAX];
	size_t len;
	struct net_offload offload;
};

extern struct loop *wire_loop;

/* What a group begins and ends with: the loop, and a directory. */
int wire_begin(void **state);
int wire_finish(void **state);
/* NAME in it, behind a word as "listen=unix:"; valid until the eighth call. */
const char *wire_path(const char *before, const char *name);

void wire_attach(struct wire *w, struct net_peer *p, unsigned accepts);
/* With a peer of "KEY=VALUE" settings below net0, which end with NULL. False with a line in `err`. */
typedef struct net_peer *wire_make(struct loop *loop, struct config *c, const char *prefix, struct err *err);
bool wire_open(struct wire *w, wire_make *make, unsigned accepts, struct err *err, ...);
void wire_end(struct wire *w);
/* Until so many frames have come; fails the test after some seconds. */
void wire_expect(struct wire *w, unsigned frames);
void wire_run(int ms);
/* Nothing happens in the loop: some rounds of it take as long as they sleep. */
bool wire_sleeps(void);
/* The same settings alone. */
struct config *wire_config(const char *const *settings);
/* A network of this process alone, with `lo` up. False, and it is said, where that is not allowed. */
bool wire_own_network(void);
/* Not on this host's kernel itself: qemu-user knows little of taps, packet sockets and groups. It is said. */
bool wire_emulated(void);
/* Sends `frame`, filled with `mark`; whether there was room. */
bool wire_mark(struct wire *w, uint8_t *frame, size_t len, uint8_t mark);
/* Whether it is installed; if not, it is said. */
bool wire_has(const char *program);
/* A TCP frame over IPv4 with `payload` bytes, its checksum left to do. Its length. */
size_t wire_tcp(uint8_t *f, size_t payload, struct net_offload *o, uint16_t mss);

#endif
