/*
 * rtnetlink (rtnetlink(7)): the links, addresses and routes of one network name space, through one socket. Each call
 * waits for the kernel's answer. A socket belongs to its thread.
 *
 * Errors that the kernel explains carry its words.
 */
#ifndef VIREO_LAN_RTNL_H
#define VIREO_LAN_RTNL_H

#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct rtnl {
	int fd;
	uint32_t seq;
};

int rtnl_open(struct rtnl *r, struct err *err);
/* The same for nfnl.h. */
int rtnl_open_netfilter(struct rtnl *r, struct err *err);
void rtnl_close(struct rtnl *r);

/* --- requests: a message that is built up --- */

#define RTNL_REQUEST 16384
struct rtnl_req {
	struct nlmsghdr *h; /* into buf */
	_Alignas(8) char buf[RTNL_REQUEST];
	bool full; /* something did not fit: rtnl_do() refuses it */
};

void rtnl_begin(struct rtnl_req *q, uint16_t type, uint16_t flags, const void *head, size_t len);
/* The attribute within the request; NULL: it did not fit. */
struct rtattr *rtnl_put(struct rtnl_req *q, uint16_t type, const void *data, size_t len);
void rtnl_put_text(struct rtnl_req *q, uint16_t type, const char *text);
void rtnl_put_u32(struct rtnl_req *q, uint16_t type, uint32_t v);
/* Attributes within another one; the result is for rtnl_nest_end(). */
struct rtattr *rtnl_nest(struct rtnl_req *q, uint16_t type);
void rtnl_nest_end(struct rtnl_req *q, struct rtattr *nest);
/* 0, or a negative errno, with what the kernel says of it in `err`. */
int rtnl_do(struct rtnl *r, struct rtnl_req *q, struct err *err);

/* The attributes of a message: by type, up to `max`; lengths are checked. */
void rtnl_attrs(const struct rtattr *a, size_t len, const struct rtattr **table, unsigned max);
/* The message behind `h` of those that begin with it and are `len` bytes. */
struct nlmsghdr *rtnl_next(struct nlmsghdr *h, size_t *len);
/* Called for each message of the answer to a dump. It asks nothing by the same socket; -1: memory is short. */
typedef int rtnl_fn(void *opaque, const struct nlmsghdr *h);
int rtnl_each(struct rtnl *r, struct rtnl_req *q, rtnl_fn *fn, void *opaque, struct err *err);

/* --- links --- */

#define RTNL_ALIAS 160
struct rtnl_link {
	int index, master;
	unsigned flags; /* IFF_UP and so on */
	unsigned mtu;
	uint8_t mac[6];
	char name[IFNAMSIZ], kind[16], alias[RTNL_ALIAS], master_kind[16];
	bool loopback, ethernet;
};
struct rtnl_links {
	struct rtnl_link *v;
	unsigned len;
};
int rtnl_links(struct rtnl *r, struct rtnl_links *l, struct err *err);
void rtnl_links_free(struct rtnl_links *l);
const struct rtnl_link *rtnl_find(const struct rtnl_links *l, const char *name);
const struct rtnl_link *rtnl_find_index(const struct rtnl_links *l, int index);

/* What a new link is given. */
struct rtnl_new {
	const char *name;
	const uint8_t *mac; /* NULL: a random one */
	unsigned mtu;	    /* 0: as it comes */
};
int rtnl_add_bridge(struct rtnl *r, const struct rtnl_new *n, struct err *err);
/* A pair of them: `peer` in the name space of the process `pid`. */
int rtnl_add_veth(struct rtnl *r, const struct rtnl_new *n, const struct rtnl_new *peer, pid_t pid, struct err *err);
int rtnl_del_link(struct rtnl *r, int index, struct err *err);
/*
 * All of these, by a group that nobody else is in: one wait of the kernel instead of one for each, which is most of the
 * time. Those that are not there any more are no error.
 */
int rtnl_del_links(struct rtnl *r, const int *index, unsigned n, struct err *err);
int rtnl_set_up(struct rtnl *r, int index, bool up, struct err *err);
int rtnl_set_master(struct rtnl *r, int index, int master, struct err *err); /* 0: none */
/* Whether a port of a bridge gets back what has come from it. */
int rtnl_set_hairpin(struct rtnl *r, int index, bool on, struct err *err);
int rtnl_set_alias(struct rtnl *r, int index, const char *alias, struct err *err);
int rtnl_set_mac(struct rtnl *r, int index, const uint8_t mac[6], struct err *err);
int rtnl_set_mtu(struct rtnl *r, int index, unsigned mtu, struct err *err);

/* The first of struct rtnl_link_stats64: packets, bytes, errors and lost ones, received before sent each. */
int rtnl_link_stats(struct rtnl *r, const char *name, uint64_t v[8]);

/* --- addresses, routes and neighbors, as the kernel's own messages: there may be a million of them --- */

struct rtnl_ask {
	uint16_t type; /* RTM_GETADDR, RTM_GETROUTE or RTM_GETNEIGH */
	bool proxies;  /* of neighbors those for which the host answers */
	int index;     /* only what is at this interface; 0: all. Older kernels give all the same: look at it */
};
/* Of both families, each as it comes. */
int rtnl_each_of(struct rtnl *r, const struct rtnl_ask *ask, rtnl_fn *fn, void *opaque, struct err *err);

/* The attributes of one behind its header of `head` bytes, by type. False: it is shorter than that. */
bool rtnl_parse(const struct nlmsghdr *h, size_t head, const struct rtattr **table, unsigned max);
/*
 * The ways that a route goes by, one or several, from its attributes: begin with a way of zeros. False: that were all.
 * One that leads nowhere has one way, of no interface (0).
 */
struct rtnl_way {
	int index; /* of the interface */
	const struct rtattr *gateway, *via;
	const struct rtnexthop *hop;
	bool begun;
};
bool rtnl_next_way(const struct rtattr *const *route, struct rtnl_way *w);
/* Of several (RTA_MULTIPATH), where they are changed: the one behind `h`, or the first (NULL). NULL: that were all. */
struct rtnexthop *rtnl_next_hop(const struct rtattr *ways, const struct rtnexthop *h);

/* The host's addresses as a list. */
#define RTNL_MESSAGE 512
struct rtnl_message {
	uint16_t len; /* of data: what follows the header */
	_Alignas(8) uint8_t data[RTNL_MESSAGE];
};
struct rtnl_messages {
	struct rtnl_message *v;
	unsigned len;
};
int rtnl_dump(struct rtnl *r, uint16_t type, struct rtnl_messages *m, struct err *err);
void rtnl_messages_free(struct rtnl_messages *m);

int rtnl_add_addr(struct rtnl *r, int index, int family, const void *addr, unsigned prefix, struct err *err);

#endif
