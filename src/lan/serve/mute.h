/*
 * Who floods a socket is not heard for the rest of the second: the kernel drops what comes from there before it waits
 * in the socket's queue, where it would be in others' way. The owner's thread.
 */
#ifndef VIREO_LAN_SERVE_MUTE_H
#define VIREO_LAN_SERVE_MUTE_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

#define MUTE_SOURCES 16u
#define MUTE_AFTER   64u /* too many in a second */
#define MUTE_KEY     16u

enum mute_kind { MUTE_MAC, MUTE_IP4, MUTE_IP6 };

struct mute {
	int fd;
	enum mute_kind kind;
	const struct sock_filter *filter; /* of those who are heard; borrowed */
	unsigned filter_len;
	uint64_t times; /* that somebody was muted */
	/* private */
	bool muted;
	struct {
		uint8_t key[MUTE_KEY];
		unsigned count;
	} source[MUTE_SOURCES];
};

/* `filter` NULL: all are heard. The filter is the socket's already. */
void mute_init(struct mute *m, int fd, enum mute_kind kind, const struct sock_filter *filter, unsigned len);
/* One of this MAC or address was more than is heard of it. */
void mute_note(struct mute *m, const void *key);
/* Each second. */
void mute_tick(struct mute *m);

#endif
