/* A wire that nobody holds: frames of the guest are lost, and none comes. */
#include <stdlib.h>

#include "net/net.h"

static bool null_send(struct net_peer *p, const struct net_packet *k)
{
	return true;
}

static void null_destroy(struct net_peer *p)
{
	free(p);
}

static const struct net_peer_ops ops = { .name = "null", .send = null_send, .destroy = null_destroy };

struct net_peer *net_null_new(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	struct net_peer *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	p->ops = &ops;
	p->takes = NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN | NET_USO;
	return p;
}
