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
#define NET_PROCESS_FILES  1600		/* descriptors, where its user may have so many */

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
	/*
	 * In the process, which runs: the configuration is another one. -1 with a line in `err`, and then all is as
	 * before. May be NULL.
	 */
	int (*change)(struct net_peer *peer, const void *opaque, struct err *err);
};

/* NULL with the line in `err` that make() has left; end() is not called then. */
struct net_peer *net_process_new(struct loop *loop, const struct net_process_config *c, struct err *err);

/* Of a peer made by it: the copy of `opaque`. */
const void *net_process_opaque(const struct net_peer *peer);

/*
 * The process, and those after it, have this configuration from now on, of the same size. -1 with what change() says of
 * it, or that there is no process now, or none that answers within seconds: that is waited for.
 */
int net_process_change(struct net_peer *peer, const void *opaque, struct err *err);

#endif
