/* The names of a network's machines, and what is said of names that are nobody's else. */
#include <string.h>

#include "lan/serve/dns_impl.h"

#define TTL_S	    10u /* a machine may have another address soon */
#define OWN_NAME    "dns"
#define FREE_NAME   "_dns" /* no machine can be called so */
#define TARGET_SIZE (LAN_NAME_MAX + LAN_DOMAIN_MAX + 2)

/* What a name is here. */
struct place {
	bool ours; /* of this network: nobody else is asked */
	bool exists;
	bool zoned;  /* in a zone of this network: its domain, or one of its addresses, */
	size_t zone; /* which is the name without so many bytes; 0: it is the zone's own */
	struct in_addr v4;
	struct in6_addr v6;
	char target[TARGET_SIZE]; /* of a reverse name */
};

static bool ends_with(const char *text, const char *suffix, size_t *head)
{
	size_t len = strlen(text), n = strlen(suffix);

	if (len < n || strcmp(text + len - n, suffix))
		return false;
	*head = len - n;
	return true;
}

/* A name of ours, in the zone behind so many bytes of it: as many of the text as of the labels on the wire. */
static void set_zone(struct place *p, size_t before)
{
	p->ours = p->zoned = true;
	p->zone = before;
}

/* By the name of a machine, without its domain. */
static void find_machine(const struct dns *d, const char *name, struct place *p)
{
	const struct server *v = d->v;
	const struct lease *e4 = v->l4 ? leases_named(v->l4, name) : NULL;
	const struct lease *e6 = v->l6 ? leases_named(v->l6, name) : NULL;

	p->exists = true;
	if (e4 || e6) {
		p->v4 = e4 ? addr_to4(e4->addr) : p->v4;
		p->v6 = e6 ? addr_to6(e6->addr) : p->v6;
	} else if (!strcmp(name, OWN_NAME) || !strcmp(name, FREE_NAME)) {
		p->v4 = v->s.addr4;
		p->v6 = v->s.addr6;
	} else if (!strcmp(name, "gateway") && (v->s.gateway4.s_addr || !addr_any(addr_of6(&v->s.router6)))) {
		p->v4 = v->s.gateway4;
		p->v6 = v->s.router6;
	} else {
		p->exists = false;
	}
}

static void write_target(const struct dns *d, const char *name, char target[TARGET_SIZE])
{
	snprintf(target, TARGET_SIZE, "%s%s%s", name, *d->v->s.domain ? "." : "", d->v->s.domain);
}

static void set_target(const struct dns *d, const char *name, struct place *p)
{
	if (!*name)
		return;
	write_target(d, name, p->target);
	p->exists = true;
}

/* How what leads to this server is called, whoever else is called as it is. */
static const char *own_name(const struct dns *d)
{
	const struct server *v = d->v;
	bool taken = (v->l4 && leases_named(v->l4, OWN_NAME)) || (v->l6 && leases_named(v->l6, OWN_NAME));

	return taken ? FREE_NAME : OWN_NAME;
}

static void find_address(const struct dns *d, struct lan_addr a, struct place *p)
{
	const struct server *v = d->v;
	const struct leases *l = addr_is4(a) ? v->l4 : v->l6;
	const struct lease *e = l ? leases_at(l, a) : NULL;

	if (addr_eq(a, addr_of4(v->s.addr4)) || addr_eq(a, addr_of6(&v->s.addr6)))
		set_target(d, own_name(d), p);
	else if (addr_eq(a, addr_of4(v->s.gateway4)) || addr_eq(a, addr_of6(&v->s.router6)))
		set_target(d, "gateway", p);
	else if (e)
		set_target(d, e->name, p);
}

/* Where the last `n` labels begin. */
static size_t last_labels(const char *text, size_t len, unsigned n)
{
	while (len && (text[len - 1] != '.' || --n))
		len--;
	return len;
}

/* "4.3.2.1": bytes from the last on; how many there are, or -1. */
static int read_octets(const char *text, size_t len, uint8_t b[4])
{
	int n = 0;
	size_t at = len;

	while (at) {
		unsigned value = 0, unit = 1, digits = 0;

		while (at && text[at - 1] != '.') {
			char c = text[--at];

			if (c < '0' || c > '9' || ++digits > 3)
				return -1;
			value += (unsigned)(c - '0') * unit;
			unit *= 10;
		}
		if (!digits || value > 255 || n == 4)
			return -1;
		b[n++] = (uint8_t)value;
		if (at)
			at--;
	}
	return n;
}

static int read_nibbles(const char *text, size_t len, uint8_t b[16])
{
	int n = 0;

	memset(b, 0, 16);
	for (size_t at = len; at;) {
		const char *digits = "0123456789abcdef", *c = strchr(digits, text[at - 1]);

		if (!c || n == 32 || (at > 1 && text[at - 2] != '.'))
			return -1;
		b[n / 2] |= (uint8_t)((c - digits) << (n % 2 ? 0 : 4));
		n++;
		at -= at > 1 ? 2 : 1;
	}
	return n;
}

static void find_reverse4(const struct dns *d, const char *text, size_t len, struct place *p)
{
	const struct lan_serve *s = &d->v->s;
	uint8_t b[4] = { 0 };
	int n = read_octets(text, len, b);
	struct lan_addr a;

	/* As many bytes as the network's prefix has at least: so many make a zone. */
	if (!s->addr4.s_addr || n < 0 || (unsigned)n * 8 < s->prefix4)
		return;
	a = (struct lan_addr){ 0, LAN_V4 | ld_be32(b) };
	if (!addr_same_net(a, addr_of4(s->addr4), s->prefix4))
		return;
	set_zone(p, last_labels(text, len, (s->prefix4 + 7) / 8));
	p->exists = n < 4 || !p->zone;
	if (n == 4)
		find_address(d, a, p);
}

static void find_reverse6(const struct dns *d, const char *text, size_t len, struct place *p)
{
	const struct lan_serve *s = &d->v->s;
	struct lan_addr own = addr_of6(&s->addr6), a;
	uint8_t b[16];
	int n = read_nibbles(text, len, b);

	if (addr_any(own) || n < 0 || (unsigned)n * 4 < s->prefix6)
		return;
	a = (struct lan_addr){ ld_be64(b), ld_be64(b + 8) };
	if (!addr_same_net(a, own, s->prefix6))
		return;
	set_zone(p, last_labels(text, len, (s->prefix6 + 3) / 4));
	p->exists = n < 32 || !p->zone;
	if (n == 32)
		find_address(d, a, p);
}

/* Of what there is at the top of a zone. Who validates asks top-level domains so, which a machine may be called as. */
static bool is_of_a_zone(unsigned type)
{
	return type == DNS_NS || type == DNS_SOA || type == DNS_DS || type == DNS_DNSKEY;
}

static void find(const struct dns *d, const struct dns_query *q, struct place *p)
{
	const char *domain = d->v->s.domain;
	char text[DNS_NAME_MAX + 1];
	size_t head;

	memset(p, 0, sizeof(*p));
	dns_text(&q->name, text);
	if (ends_with(text, ".in-addr.arpa", &head)) {
		find_reverse4(d, text, head, p);
	} else if (ends_with(text, ".ip6.arpa", &head)) {
		find_reverse6(d, text, head, p);
	} else if (!strcmp(text, "localhost") || ends_with(text, ".localhost", &head)) {
		/* RFC 6761, 6.3. */
		p->ours = p->exists = true;
		p->v4.s_addr = htobe32(INADDR_LOOPBACK);
		p->v6 = (struct in6_addr)IN6ADDR_LOOPBACK_INIT;
	} else if (ends_with(text, ".invalid", &head) || ends_with(text, ".onion", &head)) {
		p->ours = true;
	} else if (*domain && !strcmp(text, domain)) {
		set_zone(p, 0);
		p->exists = true;
	} else if (*domain && ends_with(text, domain, &head) && head && text[head - 1] == '.') {
		set_zone(p, head);
		text[head - 1] = 0;
		if (!strchr(text, '.'))
			find_machine(d, text, p);
	} else if (*text && !strchr(text, '.')) {
		find_machine(d, text, p);
		/* Addresses of a name without dots are nobody else's; what else is asked of such a name may be. */
		p->ours = p->exists ? !is_of_a_zone(q->type) : q->type == DNS_A || q->type == DNS_AAAA;
	}
}

static bool own_whole_name(const struct dns *d, struct dns_name *n)
{
	char text[TARGET_SIZE];

	write_target(d, own_name(d), text);
	return dns_name_of(text, n);
}

/* Whose the zone is, and for how long absence can be remembered (RFC 2308): as local zones have it in RFC 6303, 3. */
static void put_soa(struct dns_writer *w, const struct dns *d, enum dns_section where, const struct place *p)
{
	/* Serial, refresh, retry, expire, minimum. */
	static const uint32_t numbers[] = { 1, 3600, 1200, 604800, TTL_S };
	struct dns_record r = { .type = DNS_SOA, .ttl = TTL_S, .skip = p->zone };
	struct dns_name domain, server, nobody;
	uint8_t data[2 * DNS_NAME_MAX + sizeof(numbers)];

	/* What is in no zone is absent by the word of the domain's. */
	if (!p->zoned) {
		if (!*d->v->s.domain || !dns_name_of(d->v->s.domain, &domain))
			return;
		r.name = &domain;
	}
	if (!own_whole_name(d, &server) || !dns_name_of("nobody.invalid", &nobody))
		return;
	memcpy(data, server.b, server.len);
	memcpy(data + server.len, nobody.b, nobody.len);
	r.len = (size_t)server.len + nobody.len;
	for (size_t k = 0; k < ARRAY_LEN(numbers); k++, r.len += 4)
		st_be32(data + r.len, numbers[k]);
	r.data = data;
	dns_put(w, where, &r);
}

/* What a zone has at its top, which is the question's name. */
static bool put_top(struct dns_writer *w, const struct dns *d, const struct dns_query *q, const struct place *p)
{
	struct dns_record r = { .type = DNS_NS, .ttl = TTL_S };
	struct dns_name server;
	bool any = false;

	if (q->type == DNS_SOA || q->type == DNS_ANY) {
		put_soa(w, d, DNS_ANSWER, p);
		any = true;
	}
	if ((q->type == DNS_NS || q->type == DNS_ANY) && own_whole_name(d, &server)) {
		r.data = server.b, r.len = server.len;
		dns_put(w, DNS_ANSWER, &r);
		any = true;
	}
	return any;
}

/* Those records of the name that are asked for; false: none. */
static bool put_records(struct dns_writer *w, const struct dns *d, const struct dns_query *q, const struct place *p)
{
	static const struct in6_addr none;
	struct dns_record r = { .ttl = TTL_S };
	struct dns_name target;
	bool any = p->zoned && !p->zone && put_top(w, d, q, p);

	if (p->v4.s_addr && (q->type == DNS_A || q->type == DNS_ANY)) {
		r.type = DNS_A, r.data = &p->v4, r.len = 4;
		dns_put(w, DNS_ANSWER, &r);
		any = true;
	}
	if (memcmp(&p->v6, &none, 16) && (q->type == DNS_AAAA || q->type == DNS_ANY)) {
		r.type = DNS_AAAA, r.data = &p->v6, r.len = 16;
		dns_put(w, DNS_ANSWER, &r);
		any = true;
	}
	if (*p->target && (q->type == DNS_PTR || q->type == DNS_ANY) && dns_name_of(p->target, &target)) {
		r.type = DNS_PTR, r.data = target.b, r.len = target.len;
		dns_put(w, DNS_ANSWER, &r);
		any = true;
	}
	return any;
}

bool dns_local(const struct dns *d, const struct dns_query *q, struct dns_writer *w, enum dns_rcode *rcode)
{
	struct place p;

	*rcode = DNS_OK;
	if (q->class != DNS_IN || q->type == DNS_AXFR || q->type == DNS_IXFR) {
		*rcode = DNS_REFUSED;
		return true;
	}
	find(d, q, &p);
	if (!p.ours)
		return false;
	st_be16(w->b + 2, ld_be16(w->b + 2) | DNS_AA);
	if (!p.exists)
		*rcode = DNS_NXDOMAIN;
	if (!p.exists || !put_records(w, d, q, &p))
		put_soa(w, d, DNS_AUTHORITY, &p);
	return true;
}
