/*
 * Who has which address: one table for each family, bounded, and kept in a file.
 *
 * A machine that the network knows (struct lan_host) has one address, which is kept for it always: no number of others
 * can take it. Others share what is left, by MAC and client id: at most LEASES_PER_MAC each, so many new ones a second,
 * for a short time when much of the range is gone. What somebody has is never given to another before its time is over.
 *
 * Times are seconds since 1970, by a clock that never jumps (the caller's). The thread of the owner.
 */
#ifndef VIREO_LAN_SERVE_LEASE_H
#define VIREO_LAN_SERVE_LEASE_H

#include "lan/addr.h"
#include "lan/serve/serve.h"

#define LEASES_MAX     4096u /* of unknown machines */
#define LEASES_PER_MAC 4u
#define LEASE_ID_MAX   64u /* of a longer id: the beginning and a hash */
#define LEASE_HOLD_S   10  /* for what was offered */
#define LEASE_SHORT_S  120 /* for unknown machines, when half of the range is gone */
#define LEASE_BAD_S    600 /* of an address that somebody else was seen to have */

enum lease_state {
	LEASE_FREE,
	LEASE_KEPT, /* for a known machine, which does not have it now */
	LEASE_OFFERED,
	LEASE_BOUND,
	LEASE_BAD, /* declined */
};

struct lease {
	struct lan_addr addr;
	int64_t expires;
	uint8_t state;
	bool known;
	uint8_t mac[6];
	uint8_t id_len;
	uint8_t id[LEASE_ID_MAX];
	char name[LAN_NAME_MAX + 1];
	/* private: chains, by number + 1 */
	uint32_t by_addr, by_mac, by_name, next_free;
};

struct lease_client {
	uint8_t mac[6];
	const uint8_t *id;
	size_t id_len;
	const char *name; /* what it calls itself, as it came; NULL: nothing */
};

struct leases_config {
	struct lan_addr first, last; /* of one family; with IPv6, of one /64 */
	struct lan_addr own[2];	     /* the server's and the gateway's, which are nobody's */
	struct lan_addr net;	     /* with its length: what a fixed address must lie in */
	unsigned bits;
	unsigned lease_s;
};

struct leases;
struct leases *leases_new(const struct leases_config *c, struct err *err);
void leases_free(struct leases *l);
/* The tables of both families: a name belongs to one machine in both. */
void leases_pair(struct leases *a, struct leases *b);

/*
 * The known machines from now on, from `h` for this table's family. Refused as a whole, with the reason: addresses or
 * names twice, addresses that are not of this network, no room. Who had a fixed address of another's loses it.
 */
int leases_check_hosts(const struct leases *l, const struct lan_host *h, unsigned len, struct err *err);
void leases_set_hosts(struct leases *l, const struct lan_host *h, unsigned len, int64_t now);

/* What the client has or is kept for it; NULL. */
struct lease *leases_find(struct leases *l, const struct lease_client *c);
/* The same, or a new one: `wanted` (any: none) if it is free. NULL: there is none to give now. */
struct lease *leases_offer(struct leases *l, const struct lease_client *c, struct lan_addr wanted, int64_t now);
/* `addr` is the client's now, until `expires`: what it has or was offered, or what is free. NULL: it cannot have it. */
struct lease *leases_bind(struct leases *l, const struct lease_client *c, struct lan_addr addr, int64_t now);
/* False: the client does not have it. */
bool leases_release(struct leases *l, const struct lease_client *c, struct lan_addr addr);
bool leases_decline(struct leases *l, const struct lease_client *c, struct lan_addr addr, int64_t now);
/* How long it may have it. */
unsigned leases_term(const struct leases *l, const struct lease *e);
/* Whether a machine has this MAC that the network knows. */
bool leases_knows(const struct leases *l, const uint8_t mac[6]);

/* What has expired is free. At least once a second. */
void leases_expire(struct leases *l, int64_t now);

/* By address or name (any case), what is bound, or kept for a known machine. NULL. */
const struct lease *leases_at(const struct leases *l, struct lan_addr a);
const struct lease *leases_named(const struct leases *l, const char *name);
/* One after the other; NULL after the last. */
const struct lease *leases_next(const struct leases *l, const struct lease *e);

struct leases_count {
	unsigned bound, offered, kept, bad, size; /* `size`: addresses, or as many as there is room for */
	uint64_t refused;			  /* newcomers */
};
void leases_count(const struct leases *l, struct leases_count *n);
/* Whether something that is written to the file has changed since it was last asked. */
bool leases_changed(struct leases *l);

/* A label of DNS from what a client calls itself; false: nothing is left of it. */
bool lease_label(const char *from, char name[LAN_NAME_MAX + 1]);

/* What a file says that somebody has. False: it is not to be had. */
bool leases_restore(struct leases *l, const struct lease *from, int64_t now);

/*
 * The file: replaced at once or not at all. Either table may be NULL. A line that is not one, or claims
 * what is not to be had, is passed over, and counted in `bad`. -1: there is a file and it cannot be read.
 */
struct lease_file {
	int dir;
	const char *name;
	int64_t ahead; /* seconds by which the day's clock, which the file goes by, is ahead of the caller's */
};
int leases_load(struct leases *l4, struct leases *l6, const struct lease_file *f, int64_t now, unsigned *bad);
/* -1 with errno set; the old one is there still. */
int leases_save(struct leases *l4, struct leases *l6, const struct lease_file *f);

#endif
