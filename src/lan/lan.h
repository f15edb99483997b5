/*
 * Networks as objects: made, started, shown and removed, and cables of machines put into them. What is so on the host
 * is looked at first, each time: what a killed process has left is finished or removed, and nothing else is touched.
 *
 * Main thread. A struct lan holds a lock against all others: open it, do one thing, close it.
 */
#ifndef VIREO_LAN_LAN_H
#define VIREO_LAN_LAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "lan/def.h"

struct lan;

/* To look only, which needs no rights; or to change something, after what was left over has been dealt with. */
struct lan *lan_open(bool change, struct err *err);
void lan_close(struct lan *l);

/* What `create` and `edit` leave to be chosen. */
struct lan_wishes {
	bool no4, no6; /* no addresses of this family */
	bool no_start;
	bool bridge; /* the interface of a bridged network must be a bridge */
};
/* `d` is checked and completed, kept, and the network started: all of it or nothing. */
int lan_create(struct lan *l, struct lan_def *d, const struct lan_wishes *w, struct err *err);
/*
 * Another definition for a network of that name; what runs follows, without its machines losing their cables. Refused
 * where one could not keep its addresses, or is cut off for a moment, unless `force`. After an error all is as it was.
 */
int lan_edit(struct lan *l, struct lan_def *d, const struct lan_wishes *w, bool force, struct err *err);
int lan_load(struct lan *l, const char *name, struct lan_def *d, struct err *err);
/* Refused while machines have cables in it, unless `force`. */
int lan_delete(struct lan *l, const char *name, bool force, struct err *err);
int lan_start(struct lan *l, const char *name, struct err *err);
int lan_stop(struct lan *l, const char *name, bool force, struct err *err);
/* What another run directory has made of this name, which may know of it no more. */
int lan_stop_foreign(struct lan *l, const char *name, struct err *err);

/* An array of objects: name, model, state, bridge, ... */
json_t *lan_list(struct lan *l, struct err *err);
/* Whether this user has a place of his own for networks, and root has some, too. */
bool lan_roots_are_elsewhere(void);
/* One of them, with its definition and its cables. */
json_t *lan_show(struct lan *l, const char *name, struct err *err);
json_t *lan_leases(struct lan *l, const char *name, struct err *err);
json_t *lan_stats(struct lan *l, const char *name, struct err *err);

/* --- cables --- */

#define LAN_QUEUES_MAX 16
struct lan_cable {
	/* What is asked for. */
	const char *network, *vm;
	uint8_t mac[6]; /* all zero: one is chosen */
	unsigned queues;
	bool trusted; /* it may send whatever it wants: a router, a host of machines of its own */
	/* What there is: descriptors of the tap, one a queue, with virtio-net headers; they end the cable. */
	int fd[LAN_QUEUES_MAX];
	char tap[IFNAMSIZ];
	unsigned mtu;	      /* 0: as usual */
	struct in_addr addr4; /* that the network's server gives it; 0.0.0.0: none */
	bool started;	      /* the network was down before */
};
/* Whether a name is that of a network; needs no rights. */
bool lan_is_defined(const char *name);
/*
 * What card `n` of a machine should be before it has its cable: the network's MTU, or one that it can have, and a MAC
 * if it has none, which follows from the names, so that the machine comes back to its address, and which nobody in the
 * network has now.
 */
int lan_prepare(struct lan_cable *c, unsigned n, struct err *err);
/* Starts the network, if it is down. */
int lan_attach(struct lan_cable *c, struct err *err);
/* For a machine that has come to nothing, once its cables are closed: stop what it has started, if nobody else is in
 * it. */
void lan_leave(const char *network);

/* libvirt's XML of a network. */
struct lan_xml {
	const char *text;
	size_t len;
	const char *name; /* in place of its own; NULL: none */
	FILE *notes;	  /* gets a line for each thing that will be otherwise */
};
/* What cannot be kept is refused by its name. */
int lan_def_from_xml(struct lan_def *d, struct lan_wishes *w, const struct lan_xml *x, struct err *err);

#endif
