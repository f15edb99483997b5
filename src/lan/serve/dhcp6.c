/* See dhcp6.h. */
#include "lan/serve/dhcp6.h"

#include <string.h>

#include "base/bytes.h"

#define CLIENT_PORT 546
#define SERVER_PORT 547
#define DUID_MAX    130u
#define SERVER_DUID 10u
#define IAS	    4u /* of one message, and addresses of one of them */
#define BODY_MAX    1200u

enum message {
	SOLICIT = 1,
	ADVERTISE,
	REQUEST,
	CONFIRM,
	RENEW,
	REBIND,
	REPLY,
	RELEASE,
	DECLINE,
	RECONFIGURE,
	INFORMATION
};

enum option {
	O_CLIENT = 1,
	O_SERVER,
	O_IA_NA,
	O_IA_TA,
	O_IA_ADDR,
	O_REQUESTED,
	O_PREFERENCE,
	O_STATUS = 13,
	O_RAPID = 14,
	O_DNS = 23,
	O_DOMAINS = 24,
	O_IA_PD = 25,
	O_REFRESH = 32,
	O_FQDN = 39,
};

enum status { SUCCESS, UNSPECIFIED, NO_ADDRS, NO_BINDING, NOT_ON_LINK, USE_MULTICAST, NO_PREFIX };

struct ia {
	uint16_t kind; /* the option */
	uint32_t id;
	unsigned len;
	struct lan_addr addr[IAS];
};

struct request {
	uint8_t type;
	const uint8_t *b;
	const uint8_t *duid;
	size_t duid_len;
	bool to_us, to_other; /* by the server's DUID */
	bool rapid, dns, domains;
	unsigned ias;
	struct ia ia[IAS];
	struct lease_client client;
	char name[LAN_NAME_MAX + 1];
	uint8_t mac[6];
};

static void make_duid(const struct dhcp6_config *c, uint8_t duid[SERVER_DUID])
{
	/* RFC 8415, 11.4: a link-layer address. */
	st_be16(duid, 3);
	st_be16(duid + 2, 1);
	memcpy(duid + 4, c->mac, 6);
}

/* --- the request --- */

static struct lan_addr addr_at(const uint8_t *p)
{
	return (struct lan_addr){ ld_be64(p), ld_be64(p + 8) };
}

struct option_at {
	unsigned type;
	size_t len;
	const uint8_t *p;
};

/* The next of the options in `*p` up to `end`. False at the end, with `*p` there if all was in order. */
static bool next(const uint8_t **p, const uint8_t *end, struct option_at *o)
{
	if (end - *p < 4 || ld_be16(*p + 2) > end - *p - 4)
		return false;
	*o = (struct option_at){ ld_be16(*p), ld_be16(*p + 2), *p + 4 };
	*p += 4 + o->len;
	return true;
}

static bool take_ia(struct request *r, const struct option_at *o)
{
	size_t head = o->type == O_IA_TA ? 4 : 12;
	const uint8_t *p = o->p + head, *end = o->p + o->len;
	struct option_at sub;
	struct ia *ia;

	if (o->len < head)
		return false;
	if (r->ias >= IAS)
		return true; /* more than anybody needs */
	ia = &r->ia[r->ias++];
	ia->kind = (uint16_t)o->type;
	ia->id = ld_be32(o->p);
	while (next(&p, end, &sub))
		if (sub.type == O_IA_ADDR && sub.len >= 24 && ia->len < IAS)
			ia->addr[ia->len++] = addr_at(sub.p);
	return p == end;
}

static bool take_option(struct request *r, const struct option_at *o, const uint8_t duid[SERVER_DUID])
{
	switch (o->type) {
	case O_CLIENT:
		if (o->len < 3 || o->len > DUID_MAX)
			return false;
		r->duid = o->p;
		r->duid_len = o->len;
		break;
	case O_SERVER:
		r->to_us = o->len == SERVER_DUID && !memcmp(o->p, duid, SERVER_DUID);
		r->to_other = !r->to_us;
		break;
	case O_IA_NA:
	case O_IA_TA:
	case O_IA_PD:
		return take_ia(r, o);
	case O_RAPID:
		r->rapid = true;
		break;
	case O_REQUESTED:
		for (size_t n = 0; n + 2 <= o->len; n += 2) {
			r->dns |= ld_be16(o->p + n) == O_DNS;
			r->domains |= ld_be16(o->p + n) == O_DOMAINS;
		}
		break;
	case O_FQDN:
		/* Flags and labels: the first is the name. */
		if (o->len < 2 || o->p[1] > LAN_NAME_MAX || o->p[1] > o->len - 2)
			break;
		memcpy(r->name, o->p + 2, o->p[1]);
		r->client.name = r->name;
		break;
	}
	return true;
}

static bool parse(struct request *r, const struct frame_in *in, const uint8_t duid[SERVER_DUID])
{
	const uint8_t *p = in->data + 4, *end = in->data + in->len;
	struct option_at o;

	memset(r, 0, sizeof(*r));
	if (in->len < 4)
		return false;
	r->b = in->data;
	r->type = in->data[0];
	memcpy(r->mac, in->mac, 6);
	memcpy(r->client.mac, in->mac, 6);
	while (next(&p, end, &o))
		if (!take_option(r, &o, duid))
			return false;
	return p == end;
}

/* RFC 8415, 16: which of the two DUIDs a message must have. */
static bool is_valid(const struct request *r)
{
	bool server = r->to_us || r->to_other;

	switch (r->type) {
	case SOLICIT:
	case CONFIRM:
	case REBIND:
		return r->duid && !server;
	case REQUEST:
	case RENEW:
	case RELEASE:
	case DECLINE:
		return r->duid && r->to_us;
	case INFORMATION:
		return !r->ias && !r->to_other;
	}
	return false;
}

/* --- the answer --- */

struct writer {
	uint8_t *b;
	size_t len;
};

/* Begins an option; an answer has room for all that may be in it. */
static uint8_t *put(struct writer *w, enum option type, size_t len)
{
	uint8_t *p = w->b + w->len;

	if (w->len + 4 + len > BODY_MAX)
		return NULL;
	st_be16(p, type);
	st_be16(p + 2, (uint16_t)len);
	memset(p + 4, 0, len);
	w->len += 4 + len;
	return p + 4;
}

static void put_bytes(struct writer *w, enum option type, const void *data, size_t len)
{
	uint8_t *p = put(w, type, len);

	if (p && len)
		memcpy(p, data, len);
}

static void put_status(struct writer *w, enum status status)
{
	uint8_t *p = put(w, O_STATUS, 2);

	if (p)
		st_be16(p, status);
}

/* An IA with an address (or none: any) for `term` seconds, or with a status that is not success. */
static void put_ia(struct writer *w, const struct ia *ia, struct lan_addr a, unsigned term, enum status status)
{
	size_t head = ia->kind == O_IA_TA ? 4 : 12, at = w->len;
	uint8_t *p = put(w, (enum option)ia->kind, head);

	if (!p)
		return;
	st_be32(p, ia->id);
	if (head == 12) {
		st_be32(p + 4, term / 2);
		st_be32(p + 8, (uint32_t)(term * 4ull / 5));
	}
	p = addr_any(a) ? NULL : put(w, O_IA_ADDR, 24);
	if (p) {
		st_be64(p, a.hi);
		st_be64(p + 8, a.lo);
		st_be32(p + 16, term);
		st_be32(p + 20, term);
	}
	if (status)
		put_status(w, status);
	st_be16(w->b + at + 2, (uint16_t)(w->len - at - 4));
}

static void put_facts(struct writer *w, const struct dhcp6_config *c, const struct request *r)
{
	static const struct in6_addr none;
	const struct in6_addr own = mac_link_local(c->mac);
	const char *domain = c->serve->domain;
	uint8_t *p;

	if (r->dns && c->serve->dns)
		put_bytes(w, O_DNS, memcmp(&c->serve->addr6, &none, 16) ? &c->serve->addr6 : &own, 16);
	if (!r->domains || !*domain || !(p = put(w, O_DOMAINS, strlen(domain) + 2)))
		return;
	for (; *domain; domain++) {
		if (*domain == '.') {
			p += *p + 1;
			continue;
		}
		p[1 + *p] = (uint8_t)*domain;
		*p += 1;
	}
}

static void begin(struct writer *w, struct frame_out *out, const struct request *r, uint8_t type,
		  const uint8_t duid[SERVER_DUID])
{
	*w = (struct writer){ out->b + FRAME_UDP6, 4 };
	w->b[0] = type;
	memcpy(w->b + 1, r->b + 1, 3);
	put_bytes(w, O_SERVER, duid, SERVER_DUID);
	if (r->duid)
		put_bytes(w, O_CLIENT, r->duid, r->duid_len);
}

static void finish(struct writer *w, struct frame_out *out, const struct dhcp6_config *c, const struct frame_in *in)
{
	struct frame_ends e = {
		.src6 = mac_link_local(c->mac), .dst6 = in->src6, .sport = SERVER_PORT, .dport = CLIENT_PORT
	};

	memcpy(e.src_mac, c->mac, 6);
	memcpy(e.dst_mac, in->mac, 6);
	frame_udp6(out, &e, w->len);
}

/* --- addresses --- */

/* Who asks for this IA: a machine has as many as its card has, which lease.h bounds. */
static struct lease_client client_of(const struct request *r, const struct ia *ia, uint8_t id[DUID_MAX + 4])
{
	struct lease_client c = r->client;

	st_be32(id, ia->id);
	memcpy(id + 4, r->duid, r->duid_len);
	c.id = id;
	c.id_len = r->duid_len + 4;
	return c;
}

static bool on_link(const struct dhcp6_config *c, struct lan_addr a)
{
	return addr_same_net(a, addr_of6(&c->serve->addr6), c->serve->prefix6);
}

/* An address for a new IA; `bind`: it is the client's, too. False: there is none. */
static bool give(const struct dhcp6_config *c, const struct request *r, const struct ia *ia, bool bind, int64_t now,
		 struct writer *w)
{
	uint8_t id[DUID_MAX + 4];
	struct lease_client client = client_of(r, ia, id);
	struct lease *e = leases_offer(c->leases, &client, ia->len ? ia->addr[0] : (struct lan_addr){ 0 }, now);

	if (e && bind)
		e = leases_bind(c->leases, &client, e->addr, now);
	if (e)
		put_ia(w, ia, e->addr, leases_term(c->leases, e), SUCCESS);
	return e;
}

/* What it has, for longer. Addresses that are not its own it loses at once. */
static void extend(const struct dhcp6_config *c, const struct request *r, const struct ia *ia, int64_t now,
		   struct writer *w)
{
	uint8_t id[DUID_MAX + 4];
	struct lease_client client = client_of(r, ia, id);
	struct lease *e = NULL;

	for (unsigned n = 0; n < ia->len && !e; n++)
		e = leases_bind(c->leases, &client, ia->addr[n], now);
	if (e)
		put_ia(w, ia, e->addr, leases_term(c->leases, e), SUCCESS);
	else if (ia->len && r->type == REBIND)
		put_ia(w, ia, ia->addr[0], 0, SUCCESS);
	else
		put_ia(w, ia, (struct lan_addr){ 0 }, 0, NO_BINDING);
}

static void give_up(const struct dhcp6_config *c, const struct request *r, const struct ia *ia, int64_t now,
		    struct writer *w)
{
	uint8_t id[DUID_MAX + 4];
	struct lease_client client = client_of(r, ia, id);
	bool had = false;

	for (unsigned n = 0; n < ia->len; n++)
		had |= r->type == RELEASE ? leases_release(c->leases, &client, ia->addr[n])
					  : leases_decline(c->leases, &client, ia->addr[n], now);
	if (!had)
		put_ia(w, ia, (struct lan_addr){ 0 }, 0, NO_BINDING);
}

/* All IAs of a message. */
static void put_ias(const struct dhcp6_config *c, const struct request *r, int64_t now, struct writer *w)
{
	bool bind = r->type == REQUEST || r->rapid;
	unsigned seen = 0;

	for (unsigned n = 0; n < r->ias; n++) {
		const struct ia *ia = &r->ia[n];

		if (ia->kind != O_IA_NA) {
			put_ia(w, ia, (struct lan_addr){ 0 }, 0, ia->kind == O_IA_PD ? NO_PREFIX : NO_ADDRS);
			continue;
		}
		/* A known machine has one address. */
		if (!c->leases || (seen++ && leases_knows(c->leases, r->mac)))
			put_ia(w, ia, (struct lan_addr){ 0 }, 0, NO_ADDRS);
		else if (r->type == RENEW || r->type == REBIND)
			extend(c, r, ia, now, w);
		else if (r->type == RELEASE || r->type == DECLINE)
			give_up(c, r, ia, now, w);
		else if (!give(c, r, ia, bind, now, w))
			put_ia(w, ia, (struct lan_addr){ 0 }, 0, NO_ADDRS);
	}
}

/* False: there is nothing to say. */
static bool confirm(const struct dhcp6_config *c, const struct request *r, struct writer *w)
{
	unsigned addresses = 0;
	bool all = true;

	for (unsigned n = 0; n < r->ias; n++) {
		for (unsigned k = 0; k < r->ia[n].len; k++) {
			addresses++;
			all = all && on_link(c, r->ia[n].addr[k]);
		}
	}
	put_status(w, all ? SUCCESS : NOT_ON_LINK);
	return addresses;
}

unsigned dhcp6_handle(const struct dhcp6_config *c, const struct frame_in *in, int64_t now, struct frame_out *out)
{
	uint8_t duid[SERVER_DUID];
	struct request r;
	struct writer w;

	out->len = 0;
	make_duid(c, duid);
	if (!parse(&r, in, duid) || !is_valid(&r))
		return 0;
	begin(&w, out, &r, r.type == SOLICIT && !r.rapid ? ADVERTISE : REPLY, duid);
	if (in->dst6.s6_addr[0] != 0xff) {
		/* RFC 8415, 18.4: they were not told that they may. */
		if (!r.to_us)
			return 0;
		put_status(&w, USE_MULTICAST);
	} else if (r.type == CONFIRM) {
		if (!confirm(c, &r, &w))
			return r.type;
	} else {
		if (r.type == RELEASE || r.type == DECLINE)
			put_status(&w, SUCCESS);
		/* The client need not wait for other servers: there are none. */
		if (r.type == SOLICIT)
			put_bytes(&w, O_PREFERENCE, "\377", 1);
		if (r.type == SOLICIT && r.rapid)
			put(&w, O_RAPID, 0);
		put_ias(c, &r, now, &w);
		put_facts(&w, c, &r);
	}
	finish(&w, out, c, in);
	return r.type;
}
