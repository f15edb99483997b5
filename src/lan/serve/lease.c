/* See lease.h. */
#include "lan/serve/lease.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ENTRIES	     (LEASES_MAX + LAN_HOSTS_MAX)
#define BUCKETS	     8192u /* a power of two */
#define BAD_MAX	     64u   /* addresses that may be out of use because somebody said so */
#define NEW_PER_S    50u
#define NEW_BURST    256u
#define HOLD_LEAST_S 2 /* an offer is not taken back before, even for somebody else */
#define PROBES	     64u

struct leases {
	struct leases_config c;
	struct leases *pair;
	struct lan_key key;
	uint64_t addresses;	   /* in the range */
	unsigned size;		   /* how many unknown machines may have one */
	unsigned used, known, bad; /* `used`: by unknown machines, and addresses out of use */
	unsigned count[LEASE_BAD + 1];
	uint64_t refused;
	struct bucket newcomers;
	bool changed;
	uint32_t free;
	uint32_t addr_head[BUCKETS], mac_head[BUCKETS], name_head[BUCKETS];
	struct lease e[ENTRIES];
};

/* --- chains --- */

static uint32_t *addr_head(struct leases *l, struct lan_addr a)
{
	return &l->addr_head[lan_hash(&l->key, &a, sizeof(a)) % BUCKETS];
}

static uint32_t *mac_head(struct leases *l, const uint8_t mac[6])
{
	return &l->mac_head[lan_hash(&l->key, mac, 6) % BUCKETS];
}

static uint32_t *name_head(struct leases *l, const char *name)
{
	return &l->name_head[lan_hash(&l->key, name, strlen(name)) % BUCKETS];
}

static uint32_t number(const struct leases *l, const struct lease *e)
{
	return (uint32_t)(e - l->e) + 1;
}

#define CHAIN(by)                                                                                                      \
	static void link_##by(struct leases *l, uint32_t *head, struct lease *e)                                       \
	{                                                                                                              \
		e->by = *head;                                                                                         \
		*head = number(l, e);                                                                                  \
	}                                                                                                              \
	static void unlink_##by(struct leases *l, uint32_t *head, struct lease *e)                                     \
	{                                                                                                              \
		while (*head && *head != number(l, e))                                                                 \
			head = &l->e[*head - 1].by;                                                                    \
		if (*head)                                                                                             \
			*head = e->by;                                                                                 \
	}
CHAIN(by_addr)
CHAIN(by_mac)
CHAIN(by_name)
#undef CHAIN

static void set_state(struct leases *l, struct lease *e, enum lease_state state)
{
	l->count[e->state]--;
	l->count[state]++;
	if (state == LEASE_BOUND || e->state == LEASE_BOUND)
		l->changed = true;
	e->state = (uint8_t)state;
}

static void set_name(struct leases *l, struct lease *e, const char *name)
{
	if (!strcmp(e->name, name))
		return;
	if (*e->name)
		unlink_by_name(l, name_head(l, e->name), e);
	strcpy(e->name, name);
	if (*e->name)
		link_by_name(l, name_head(l, e->name), e);
	l->changed = true;
}

static struct lease *at(const struct leases *l, struct lan_addr a)
{
	struct leases *w = (struct leases *)l;

	for (uint32_t n = *addr_head(w, a); n; n = l->e[n - 1].by_addr)
		if (addr_eq(l->e[n - 1].addr, a))
			return &w->e[n - 1];
	return NULL;
}

/* `mac` NULL: nobody's. */
static struct lease *add(struct leases *l, struct lan_addr a, const uint8_t *mac, bool known)
{
	struct lease *e = l->free ? &l->e[l->free - 1] : NULL;

	if (!e || (!known && l->used >= l->size))
		return NULL;
	l->free = e->next_free;
	memset(e, 0, sizeof(*e));
	e->addr = a;
	e->known = known;
	*(known ? &l->known : &l->used) += 1;
	if (mac) {
		memcpy(e->mac, mac, 6);
		link_by_mac(l, mac_head(l, mac), e);
	}
	link_by_addr(l, addr_head(l, a), e);
	l->count[LEASE_FREE]++; /* until it has its state */
	return e;
}

static void drop(struct leases *l, struct lease *e)
{
	set_name(l, e, "");
	unlink_by_addr(l, addr_head(l, e->addr), e);
	if (e->state != LEASE_BAD)
		unlink_by_mac(l, mac_head(l, e->mac), e);
	set_state(l, e, LEASE_FREE);
	l->count[LEASE_FREE]--;
	*(e->known ? &l->known : &l->used) -= 1;
	e->next_free = l->free;
	l->free = number(l, e);
}

/* --- the table --- */

struct leases *leases_new(const struct leases_config *c, struct err *err)
{
	struct leases *l;

	if (c->first.hi != c->last.hi || c->first.lo > c->last.lo || addr_is4(c->first) != addr_is4(c->last)) {
		err_set(err, "the range of addresses is not one: its end must not lie before its beginning%s",
			addr_is4(c->first) ? "" : ", and both in one /64");
		return NULL;
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		err_set(err, "out of memory");
		return NULL;
	}
	l->c = *c;
	l->key = lan_key_new();
	l->addresses = c->last.lo - c->first.lo + 1; /* 0: all of a /64 */
	l->size = l->addresses && l->addresses < LEASES_MAX ? (unsigned)l->addresses : LEASES_MAX;
	for (uint32_t n = ENTRIES; n; n--) {
		l->e[n - 1].next_free = l->free;
		l->free = n;
	}
	return l;
}

void leases_free(struct leases *l)
{
	free(l);
}

void leases_pair(struct leases *a, struct leases *b)
{
	a->pair = b;
	b->pair = a;
}

static bool in_range(const struct leases *l, struct lan_addr a)
{
	return a.hi == l->c.first.hi && a.lo >= l->c.first.lo && a.lo <= l->c.last.lo;
}

static bool is_own(const struct leases *l, struct lan_addr a)
{
	return addr_eq(a, l->c.own[0]) || addr_eq(a, l->c.own[1]);
}

static bool is_free(const struct leases *l, struct lan_addr a)
{
	return in_range(l, a) && !is_own(l, a) && !at(l, a);
}

/* A free address, the same for the same client if it is to be had; any: none. */
static struct lan_addr choose(const struct leases *l, const struct lease_client *c)
{
	/* Not keyed: the same after a restart, too. */
	static const struct lan_key fixed = { { 1, 2 } };
	uint64_t h = lan_hash(&fixed, c->mac, 6) ^ (c->id_len ? lan_hash(&fixed, c->id, c->id_len) : 0);
	struct lan_addr a = l->c.first;

	for (unsigned n = 0; n < PROBES; n++) {
		a.lo = l->c.first.lo + (l->addresses ? h % l->addresses : h);
		if (is_free(l, a))
			return a;
		h = lan_hash(&fixed, &h, sizeof(h));
	}
	/* A range that is nearly full is a small one, or has but these many in use. */
	for (uint64_t n = 0; n < ENTRIES + 3 && (!l->addresses || n < l->addresses); n++) {
		a.lo = l->c.first.lo + n;
		if (is_free(l, a))
			return a;
	}
	return (struct lan_addr){ 0 };
}

static void copy_id(const struct leases *l, struct lease *e, const struct lease_client *c)
{
	static const struct lan_key fixed[2] = { { { 3, 4 } }, { { 5, 6 } } };

	e->id_len = (uint8_t)(c->id_len < LEASE_ID_MAX ? c->id_len : LEASE_ID_MAX);
	if (e->id_len)
		memcpy(e->id, c->id, e->id_len);
	for (unsigned n = 0; n < 2 && c->id_len > LEASE_ID_MAX; n++)
		st_le64(e->id + LEASE_ID_MAX - 16 + 8 * n, lan_hash(&fixed[n], c->id, c->id_len));
}

static bool same_id(const struct leases *l, const struct lease *e, const struct lease_client *c)
{
	struct lease other;

	copy_id(l, &other, c);
	return e->id_len == other.id_len && !memcmp(e->id, other.id, e->id_len);
}

static struct lease *known_of(const struct leases *l, const uint8_t mac[6])
{
	struct leases *w = (struct leases *)l;

	for (uint32_t n = *mac_head(w, mac); n; n = l->e[n - 1].by_mac)
		if (l->e[n - 1].known && !memcmp(l->e[n - 1].mac, mac, 6))
			return &w->e[n - 1];
	return NULL;
}

bool leases_knows(const struct leases *l, const uint8_t mac[6])
{
	return known_of(l, mac);
}

/* Also how many the MAC has; at most LEASES_PER_MAC. */
static struct lease *find(struct leases *l, const struct lease_client *c, unsigned *of_mac)
{
	struct lease *e = known_of(l, c->mac);

	*of_mac = 0;
	for (uint32_t n = *mac_head(l, c->mac); n && !e; n = l->e[n - 1].by_mac) {
		if (memcmp(l->e[n - 1].mac, c->mac, 6))
			continue;
		*of_mac += 1;
		if (same_id(l, &l->e[n - 1], c))
			e = &l->e[n - 1];
	}
	return e;
}

struct lease *leases_find(struct leases *l, const struct lease_client *c)
{
	unsigned of_mac;

	return find(l, c, &of_mac);
}

unsigned leases_term(const struct leases *l, const struct lease *e)
{
	return !e->known && l->used > l->size / 2 && l->c.lease_s > LEASE_SHORT_S ? LEASE_SHORT_S : l->c.lease_s;
}

/* Somebody who was offered an address and has not come for it gives way. */
static bool withdraw(struct leases *l, int64_t now)
{
	struct lease *oldest = NULL;

	for (struct lease *e = l->e; l->count[LEASE_OFFERED] && e < l->e + ENTRIES; e++)
		if (e->state == LEASE_OFFERED && !e->known && (!oldest || e->expires < oldest->expires))
			oldest = e;
	if (!oldest || oldest->expires - LEASE_HOLD_S > now - HOLD_LEAST_S)
		return false;
	drop(l, oldest);
	return true;
}

/* The address is free, or any. */
static struct lease *newcomer(struct leases *l, const struct lease_client *c, struct lan_addr a, int64_t now)
{
	struct lease *e = NULL;

	if (bucket_take(&l->newcomers, now * 1000, NEW_PER_S, NEW_BURST)) {
		if (!addr_any(a) || !addr_any(a = choose(l, c)) || (withdraw(l, now) && !addr_any(a = choose(l, c))))
			e = add(l, a, c->mac, false);
		if (!e && !addr_any(a) && withdraw(l, now))
			e = add(l, a, c->mac, false);
	}
	if (!e) {
		l->refused++;
		return NULL;
	}
	copy_id(l, e, c);
	return e;
}

static bool name_is_free(const struct leases *l, const char *name, const uint8_t mac[6])
{
	struct leases *w = (struct leases *)l;

	for (uint32_t n = l ? *name_head(w, name) : 0; n; n = l->e[n - 1].by_name)
		if (!strcmp(l->e[n - 1].name, name) && memcmp(l->e[n - 1].mac, mac, 6))
			return false;
	return true;
}

static bool is_reserved(const char *name)
{
	static const char *const names[] = { "localhost", "wpad", "isatap", "gateway", "dns" };

	for (size_t n = 0; n < ARRAY_LEN(names); n++)
		if (!strcmp(names[n], name))
			return true;
	return false;
}

/* Whether a known machine is called so, in which case it keeps that name. */
static void rename_to(struct leases *l, struct lease *e, const char *wanted)
{
	char name[LAN_NAME_MAX + 1];

	if (!wanted || !lease_label(wanted, name) || is_reserved(name) || (e->known && *e->name))
		return;
	if (name_is_free(l, name, e->mac) && name_is_free(l->pair, name, e->mac))
		set_name(l, e, name);
}

struct lease *leases_offer(struct leases *l, const struct lease_client *c, struct lan_addr wanted, int64_t now)
{
	unsigned of_mac;
	struct lease *e = find(l, c, &of_mac);

	if (!e && of_mac >= LEASES_PER_MAC) {
		l->refused++;
		return NULL;
	}
	if (!e)
		e = newcomer(l, c, is_free(l, wanted) ? wanted : (struct lan_addr){ 0 }, now);
	if (!e || e->state == LEASE_BOUND)
		return e;
	set_state(l, e, LEASE_OFFERED);
	e->expires = now + LEASE_HOLD_S;
	return e;
}

struct lease *leases_bind(struct leases *l, const struct lease_client *c, struct lan_addr addr, int64_t now)
{
	unsigned of_mac;
	struct lease *e = find(l, c, &of_mac);

	if (!e && of_mac < LEASES_PER_MAC && is_free(l, addr))
		e = newcomer(l, c, addr, now);
	if (!e || !addr_eq(e->addr, addr))
		return NULL;
	if (e->known)
		copy_id(l, e, c);
	set_state(l, e, LEASE_BOUND);
	e->expires = now + leases_term(l, e);
	l->changed = true;
	rename_to(l, e, c->name);
	return e;
}

bool leases_restore(struct leases *l, const struct lease *from, int64_t now)
{
	struct lease_client c = { .id = from->id, .id_len = from->id_len, .name = from->name };
	unsigned of_mac;
	struct lease *e;

	memcpy(c.mac, from->mac, 6);
	e = find(l, &c, &of_mac);
	if (from->expires <= now || from->mac[0] & 1)
		return false;
	if (!e && of_mac < LEASES_PER_MAC && is_free(l, from->addr))
		e = add(l, from->addr, from->mac, false);
	if (!e || !addr_eq(e->addr, from->addr) || e->state == LEASE_BOUND)
		return false;
	copy_id(l, e, &c);
	set_state(l, e, LEASE_BOUND);
	e->expires = from->expires < now + l->c.lease_s ? from->expires : now + l->c.lease_s;
	rename_to(l, e, c.name);
	return true;
}

/* The client no longer has it. */
static void end(struct leases *l, struct lease *e)
{
	if (!e->known) {
		drop(l, e);
		return;
	}
	set_state(l, e, LEASE_KEPT);
	e->expires = 0;
}

bool leases_release(struct leases *l, const struct lease_client *c, struct lan_addr addr)
{
	struct lease *e = leases_find(l, c);

	if (!e || !addr_eq(e->addr, addr) || e->state == LEASE_KEPT)
		return false;
	end(l, e);
	return true;
}

bool leases_decline(struct leases *l, const struct lease_client *c, struct lan_addr addr, int64_t now)
{
	struct lease *e = leases_find(l, c);

	if (!e || !addr_eq(e->addr, addr) || e->state == LEASE_KEPT)
		return false;
	/* What is kept for a machine stays its own, and nobody can put the range out of use by saying so. */
	if (e->known || l->count[LEASE_BAD] >= BAD_MAX || l->count[LEASE_BAD] >= l->size / 4) {
		end(l, e);
		return true;
	}
	set_name(l, e, "");
	unlink_by_mac(l, mac_head(l, e->mac), e);
	set_state(l, e, LEASE_BAD);
	e->expires = now + LEASE_BAD_S;
	return true;
}

void leases_expire(struct leases *l, int64_t now)
{
	for (struct lease *e = l->e; e < l->e + ENTRIES; e++)
		if (e->state > LEASE_KEPT && e->expires <= now)
			end(l, e);
}

/* --- known machines --- */

static struct lan_addr host_addr(const struct leases *l, const struct lan_host *h)
{
	return addr_is4(l->c.first) ? addr_of4(h->addr4) : addr_of6(&h->addr6);
}

static int compare_mac(const void *a, const void *b)
{
	return memcmp(*(const struct lan_host *const *)a, *(const struct lan_host *const *)b, 6);
}

static int compare_name(const void *a, const void *b)
{
	return strcasecmp((*(const struct lan_host *const *)a)->name, (*(const struct lan_host *const *)b)->name);
}

static int compare_addr4(const void *a, const void *b)
{
	return memcmp(&(*(const struct lan_host *const *)a)->addr4, &(*(const struct lan_host *const *)b)->addr4, 4);
}

static int compare_addr6(const void *a, const void *b)
{
	return memcmp(&(*(const struct lan_host *const *)a)->addr6, &(*(const struct lan_host *const *)b)->addr6, 16);
}

/* What two machines have in common that may not. */
static int check_twice(const struct lan_host *h, unsigned len, struct err *err)
{
	static const struct {
		int (*compare)(const void *a, const void *b);
		const char *what;
	} kinds[] = {
		{ compare_mac, "the same MAC" },
		{ compare_name, "the same name" },
		{ compare_addr4, "the same IPv4 address" },
		{ compare_addr6, "the same IPv6 address" },
	};
	static const struct lan_host none;
	const struct lan_host **order = calloc(len ? len : 1, sizeof(struct lan_host *));
	char m[2][MAC_TEXT];
	int rc = 0;

	if (!order)
		return err_set(err, "out of memory");
	for (unsigned n = 0; n < len; n++)
		order[n] = &h[n];
	for (size_t k = 0; k < ARRAY_LEN(kinds) && !rc; k++) {
		const struct lan_host *const nothing = &none;

		qsort(order, len, sizeof(struct lan_host *), kinds[k].compare);
		for (unsigned n = 1; n < len && !rc; n++)
			if (!kinds[k].compare(&order[n - 1], &order[n]) &&
			    (!k || kinds[k].compare(&order[n], &nothing)))
				rc = err_set(err, "the machines %s and %s have %s", mac_text(order[n - 1]->mac, m[0]),
					     mac_text(order[n]->mac, m[1]), kinds[k].what);
	}
	free(order);
	return rc;
}

int leases_check_hosts(const struct leases *l, const struct lan_host *h, unsigned len, struct err *err)
{
	char name[LAN_NAME_MAX + 1], text[ADDR_TEXT], mac[MAC_TEXT];
	uint64_t in = 0;

	if (len > LAN_HOSTS_MAX)
		return err_set(err, "%u machines are more than the %u that a network has", len, LAN_HOSTS_MAX);
	for (unsigned n = 0; n < len; n++) {
		struct lan_addr a = host_addr(l, &h[n]);

		mac_text(h[n].mac, mac);
		if (h[n].mac[0] & 1 || mac_is_zero(h[n].mac))
			return err_set(err, "%s is not the MAC of a machine", mac);
		if (*h[n].name && (!lease_label(h[n].name, name) || strcasecmp(name, h[n].name)))
			return err_set(err, "'%s' is no name for a machine: letters, digits and '-', %u at most",
				       h[n].name, LAN_NAME_MAX);
		if (!addr_any(a) && (is_own(l, a) || !addr_same_net(a, l->c.net, l->c.bits)))
			return err_set(err, "the machine %s cannot have %s: %s", mac, addr_text(a, text),
				       is_own(l, a) ? "it is the network's own" : "it is not of this network");
		in += addr_any(a) || in_range(l, a);
	}
	/* The network's own two may lie in the range. */
	for (unsigned k = 0; k < 2; k++)
		in += !addr_any(l->c.own[k]) && in_range(l, l->c.own[k]);
	if (l->addresses && in > l->addresses)
		return err_set(err, "%u machines do not fit into the range of %llu addresses", len,
			       (unsigned long long)l->addresses);
	return check_twice(h, len, err);
}

static void become_known(struct leases *l, struct lease *e)
{
	if (!e->known)
		l->used--, l->known++;
	e->known = true;
}

/* The one that a machine had; others of its MAC end. */
static struct lease *take_over(struct leases *l, const uint8_t mac[6])
{
	struct lease *found = NULL;
	uint32_t next;

	for (uint32_t n = *mac_head(l, mac); n; n = next) {
		struct lease *e = &l->e[n - 1];

		next = e->by_mac;
		if (memcmp(e->mac, mac, 6))
			continue;
		if (!found || (e->state == LEASE_BOUND && found->state != LEASE_BOUND)) {
			if (found)
				drop(l, found);
			found = e;
		} else {
			drop(l, e);
		}
	}
	return found;
}

static void set_host(struct leases *l, const struct lan_host *h)
{
	const struct lease_client c = { .mac = { h->mac[0], h->mac[1], h->mac[2], h->mac[3], h->mac[4], h->mac[5] } };
	struct lan_addr a = host_addr(l, h);
	struct lease *e = take_over(l, h->mac), *other = addr_any(a) ? NULL : at(l, a);
	char name[LAN_NAME_MAX + 1] = "";

	if (e && (addr_any(a) ? !in_range(l, e->addr) : !addr_eq(e->addr, a))) {
		drop(l, e);
		e = NULL;
	}
	if (other && other != e)
		drop(l, other);
	if (!e && addr_any(a)) {
		a = choose(l, &c);
		/* Others have it all: one of them goes. */
		for (struct lease *v = l->e; addr_any(a) && v < l->e + ENTRIES; v++) {
			if (v->state > LEASE_KEPT && !v->known && in_range(l, v->addr)) {
				a = v->addr;
				drop(l, v);
			}
		}
	}
	if (!e && !addr_any(a))
		e = add(l, a, h->mac, true);
	if (!e)
		return;
	become_known(l, e);
	if (e->state == LEASE_FREE)
		set_state(l, e, LEASE_KEPT);
	if (*h->name)
		lease_label(h->name, name);
	for (unsigned k = 0; k < 2 && *name; k++) {
		struct leases *t = k ? l->pair : l;
		uint32_t next;

		/* Whoever has taken that name loses it. */
		for (uint32_t n = t ? *name_head(t, name) : 0; n; n = next) {
			struct lease *v = &t->e[n - 1];

			next = v->by_name;
			if (memcmp(v->mac, h->mac, 6) && !strcmp(v->name, name))
				set_name(t, v, "");
		}
	}
	if (*name)
		set_name(l, e, name);
}

void leases_set_hosts(struct leases *l, const struct lan_host *h, unsigned len, int64_t now)
{
	/* Those that are known no longer: what they have they have until it expires. */
	for (struct lease *e = l->e; e < l->e + ENTRIES; e++) {
		if (!e->known)
			continue;
		e->known = false;
		l->known--, l->used++;
	}
	for (unsigned fixed = 2; fixed-- > 0;)
		for (unsigned n = 0; n < len; n++)
			if (addr_any(host_addr(l, &h[n])) != fixed)
				set_host(l, &h[n]);
	for (struct lease *e = l->e; e < l->e + ENTRIES; e++)
		if (e->state == LEASE_KEPT && !e->known)
			drop(l, e);
	l->changed = true;
}

/* --- looking --- */

static bool is_shown(const struct lease *e)
{
	return e->state == LEASE_BOUND || e->known;
}

const struct lease *leases_at(const struct leases *l, struct lan_addr a)
{
	const struct lease *e = at(l, a);

	return e && is_shown(e) ? e : NULL;
}

const struct lease *leases_named(const struct leases *l, const char *name)
{
	char low[LAN_NAME_MAX + 1];

	if (!lease_label(name, low) || strcasecmp(name, low))
		return NULL;
	for (uint32_t n = *name_head((struct leases *)l, low); n; n = l->e[n - 1].by_name)
		if (!strcmp(l->e[n - 1].name, low) && is_shown(&l->e[n - 1]))
			return &l->e[n - 1];
	return NULL;
}

const struct lease *leases_next(const struct leases *l, const struct lease *e)
{
	for (e = e ? e + 1 : l->e; e < l->e + ENTRIES; e++)
		if (is_shown(e))
			return e;
	return NULL;
}

void leases_count(const struct leases *l, struct leases_count *n)
{
	*n = (struct leases_count){ .bound = l->count[LEASE_BOUND],
				    .offered = l->count[LEASE_OFFERED],
				    .kept = l->count[LEASE_KEPT],
				    .bad = l->count[LEASE_BAD],
				    .size = l->size,
				    .refused = l->refused };
}

bool leases_changed(struct leases *l)
{
	bool was = l->changed;

	l->changed = false;
	return was;
}

bool lease_label(const char *from, char name[LAN_NAME_MAX + 1])
{
	unsigned n = 0;

	for (; *from && *from != '.' && n < LAN_NAME_MAX; from++) {
		char c = *from >= 'A' && *from <= 'Z' ? (char)(*from | 32) : *from;
		bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

		if (good || n)
			name[n++] = good ? c : '-';
	}
	while (n && name[n - 1] == '-')
		n--;
	name[n] = 0;
	return n;
}
