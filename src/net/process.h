/*
 * A network peer in a process of its own: what it does wrong with a guest's frames stays there. Its memory and
 * descriptors have limits; when it ends it is started again, and the guest has only lost frames.
 *
 * Threads: as net.h says.
 */
#ifndef VIREO_NET_PROCESS_H
#define VIREO_NET_PROCESS_H

#include "net/net.h"

#define NET_PROCESS_MEMORY (384u << 20) /* bytes that it may allocate */
#define NET_PROCESS_FILES  1400		/* descriptors, where its user may have so many */

struct net_process_config {
	const char *name;
	/* Called in the new process, whose loop runs it. */
	struct net_peer *(*make)(struct loop *loop, const void *opaque, struct err *err);
	/* There as well, once it is made: what the process gives up before the first frame. May be NULL. */
	int (*confine)(const void *opaque, struct err *err);
	const void *opaque; /* copied, `size` bytes */
	size_t size;
	/* Here: for net_peer_ops.print; and at the end. They get the copy of `opaque`. May be NULL. */
	void (*print)(const void *opaque, FILE *out);
	void (*end)(void *opaque);
};

/* NULL with the line in `err` that make() has left; end() is not called then. */
struct net_peer *net_process_new(struct loop *loop, const struct net_process_config *c, struct err *err);

#endif
