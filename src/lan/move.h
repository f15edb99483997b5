/*
 * What an interface has of addresses, routes and neighbors, as the kernel's own messages, and its move to another
 * interface. Main thread.
 */
#ifndef VIREO_LAN_MOVE_H
#define VIREO_LAN_MOVE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "lan/rtnl.h"

/* Proxies are neighbors for which the host answers. */
enum { LAN_ADDRESSES, LAN_ROUTES, LAN_NEIGHBORS, LAN_PROXIES, LAN_KINDS };

struct lan_message {
	size_t len; /* of data: what follows the header */
	_Alignas(8) uint8_t data[];
};
struct lan_messages {
	struct lan_message **v;
	unsigned len;
};
struct lan_held {
	int index; /* of the interface that has it, or had it */
	struct lan_messages of[LAN_KINDS];
};

/*
 * All that somebody has given it and what routers have said, but not what every interface has by itself. Of routes also
 * the kernel's: it makes them again, unless an address says that it shall not, and those of an address with a time stay
 * when it goes.
 */
int lan_held_find(struct rtnl *nl, const struct rtnl_link *k, struct lan_held *h, struct err *err);
void lan_held_free(struct lan_held *h);
/* Nothing else, and none that routers have said. */
void lan_held_keep_routes(struct lan_held *h);
void lan_held_drop_routes(struct lan_held *h);
/*
 * Whether all of it can be moved, and written down before. A nexthop object cannot: it is its interface's, and others
 * may use it.
 */
int lan_held_check(const struct lan_held *h, const char *ifname, struct err *err);

/*
 * To the interface `to`. Each address is at one of both at any time; a route by way of another one comes behind that.
 * `away`: it is taken away from where it was found; else it is nowhere any more. What is there already is no error.
 */
int lan_held_move(struct rtnl *nl, const struct lan_held *h, int to, bool away, struct err *err);

/* Into an object, and from one: what cannot be read is left out. */
void lan_held_write(const struct lan_held *h, json_t *o);
void lan_held_read(struct lan_held *h, const json_t *o);

#endif
