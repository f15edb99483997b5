/* See dns.h: queries in, answers out. */
#include "lan/serve/dns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "lan/serve/dns_impl.h"

#define PORT	      53
#define TURN	      32 /* queries before the loop does something else */
#define CLIENT_PER_S  1000u
#define CLIENT_BURST  2000u
#define UDP_QUERY_MAX 1500u

static void send_out(struct dns *d, const struct dns_client *c, const struct dns_writer *w)
{
	d->n.answers++;
	if (c->connection >= 0)
		dns_tcp_send(d, c, w->b, w->len);
	else
		/* Whoever does not take it asks again. */
		(void)!sendto(c->fd, w->b, w->len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&c->addr,
			      c->len);
}

/* The room for one message, of which the loop has one at a time. */
static uint8_t *room(void)
{
	static uint8_t b[DNS_MAX];

	return b;
}

void dns_reply_rcode(struct dns *d, const struct dns_client *c, const struct dns_query *q, enum dns_rcode rcode)
{
	struct dns_writer w;

	dns_begin(&w, room(), DNS_UDP_MAX, q, d->forward ? DNS_RA : 0);
	dns_end(&w, q, rcode, true);
	send_out(d, c, &w);
}

void dns_reply(struct dns *d, const struct dns_client *c, const struct dns_query *q, const uint8_t *m, size_t len)
{
	struct dns_writer w = { .b = room(), .len = len, .max = DNS_MAX };
	uint16_t flags = ld_be16(m + 2);

	memcpy(w.b, m, len);
	st_be16(w.b, q->id);
	st_be16(w.b + 2, (uint16_t)(DNS_QR | DNS_RA | (q->flags & (DNS_RD | DNS_CD)) | (flags & 15) |
				    (q->secure || q->flags & DNS_AD ? flags & DNS_AD : 0)));
	/* As the client wrote it. */
	memcpy(w.b + DNS_HEADER, q->name.b, q->name.len);
	dns_end(&w, q, (enum dns_rcode)(flags & 15), c->connection < 0);
	send_out(d, c, &w);
}

/* What other servers know, from the cache or from them. */
static void ask_others(struct dns *d, const struct dns_query *q, const struct dns_client *c)
{
	uint8_t m[DNS_UDP_MAX];
	size_t len;

	if (!d->forward) {
		d->n.refused++;
		dns_reply_rcode(d, c, q, DNS_REFUSED);
		return;
	}
	len = dns_cache_get(d->cache, q, d->v->now, m);
	if (len) {
		d->n.cached++;
		dns_reply(d, c, q, m, len);
	} else if (!(q->flags & DNS_RD)) {
		d->n.refused++;
		dns_reply_rcode(d, c, q, DNS_REFUSED);
	} else if (!forward_ask(d, q, c)) {
		d->n.failed++;
		dns_reply_rcode(d, c, q, DNS_SERVFAIL);
	}
}

static void mute(struct dns *d, const struct dns_client *c)
{
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)&c->addr;

	if (a4->sin_family == AF_INET)
		mute_note(&d->mute[0], &a4->sin_addr);
	else
		mute_note(&d->mute[1], &c->addr.sin6_addr);
}

void dns_query(struct dns *d, const uint8_t *m, size_t len, const struct dns_client *c)
{
	enum dns_rcode rcode;
	struct dns_writer w;
	struct dns_query q;
	int rc = dns_read_query(m, len, &q);

	d->n.queries++;
	if (!bucket_take(&d->clients[c->bucket], d->v->now_ms, CLIENT_PER_S, CLIENT_BURST)) {
		d->n.limited++;
		if (c->connection >= 0)
			dns_reply_rcode(d, c, &q, DNS_REFUSED);
		else
			mute(d, c);
		return;
	}
	if (rc != DNS_OK) {
		d->n.malformed++;
		if (rc > 0 || c->connection >= 0)
			dns_reply_rcode(d, c, &q, rc > 0 ? (enum dns_rcode)rc : DNS_FORMERR);
		return;
	}
	dns_begin(&w, room(), DNS_UDP_MAX, &q, d->forward ? DNS_RA : 0);
	if (!dns_local(d, &q, &w, &rcode)) {
		ask_others(d, &q, c);
		return;
	}
	d->n.local++;
	dns_end(&w, &q, rcode, c->connection < 0);
	send_out(d, c, &w);
}

uint16_t dns_bucket(const struct dns *d, const struct sockaddr *a)
{
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a;
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)a;
	uint64_t h = a->sa_family == AF_INET6 ? lan_hash(&d->v->key, &a6->sin6_addr, 16)
					      : lan_hash(&d->v->key, &a4->sin_addr, 4);

	return (uint16_t)(h % DNS_CLIENTS);
}

static void on_udp(void *opaque, int fd, uint32_t events)
{
	struct dns *d = opaque;
	uint8_t m[UDP_QUERY_MAX];

	server_clock(d->v);
	for (unsigned n = 0; n < TURN; n++) {
		struct dns_client c = { .connection = -1, .fd = fd, .len = sizeof(c.addr) };
		ssize_t len = recvfrom(fd, m, sizeof(m), MSG_DONTWAIT, (struct sockaddr *)&c.addr, &c.len);

		if (len < 0)
			break;
		c.bucket = dns_bucket(d, (struct sockaddr *)&c.addr);
		dns_query(d, m, (size_t)len, &c);
	}
}

/* A socket at the server's address of one family: the global one, or IPv6's link-local one. */
static int open_socket(struct dns *d, int family, int type, struct err *err)
{
	const struct lan_serve *s = &d->v->s;
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htobe16(PORT), .sin_addr = s->addr4 };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htobe16(PORT), .sin6_addr = s->addr6 };
	int fd, on = 1, rc;

	if (addr_any(addr_of6(&s->addr6))) {
		a6.sin6_addr = mac_link_local(d->v->mac);
		a6.sin6_scope_id = if_nametoindex(s->ifname);
	}
	fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "a socket for names");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	/* The address may not be ready. */
	setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on));
	rc = family == AF_INET ? bind(fd, (struct sockaddr *)&a4, sizeof(a4))
			       : bind(fd, (struct sockaddr *)&a6, sizeof(a6));
	if (!rc && type == SOCK_STREAM)
		rc = listen(fd, DNS_CONNECTIONS);
	return rc ? err_errno(err, errno, "the port for names of the servers' address") : fd;
}

static int begin(struct dns *d, struct err *err)
{
	const bool families[2] = { d->v->s.addr4.s_addr != 0,
				   d->v->s.ra || d->v->s.dhcp6 || !addr_any(addr_of6(&d->v->s.addr6)) };

	for (unsigned n = 0; n < DNS_CONNECTIONS; n++)
		d->connection[n].fd = -1;
	for (unsigned k = 0; k < 2; k++) {
		int family = k ? AF_INET6 : AF_INET;

		d->udp[k] = d->tcp[k] = -1;
		if (!families[k])
			continue;
		d->udp[k] = open_socket(d, family, SOCK_DGRAM, err);
		d->tcp[k] = d->udp[k] < 0 ? -1 : open_socket(d, family, SOCK_STREAM, err);
		if (d->tcp[k] < 0 || !loop_fd_add(d->v->loop, d->udp[k], EPOLLIN, on_udp, d, err))
			return -1;
		mute_init(&d->mute[k], d->udp[k], k ? MUTE_IP6 : MUTE_IP4, NULL, 0);
	}
	return dns_tcp_begin(d, err);
}

struct dns *dns_new(struct server *v, struct forward *f, struct err *err)
{
	struct dns *d = calloc(1, sizeof(*d));

	if (!d || !(d->cache = dns_cache_new())) {
		err_set(err, "out of memory");
		return NULL;
	}
	d->v = v;
	d->forward = f;
	/* What is open ends with the process. */
	return begin(d, err) || (f && forward_begin(d, err)) ? NULL : d;
}

void dns_tick(struct dns *d)
{
	for (unsigned k = 0; k < 2; k++)
		if (d->udp[k] >= 0)
			mute_tick(&d->mute[k]);
	dns_tcp_tick(d);
	if (d->forward)
		forward_tick(d);
}

json_t *dns_stats(const struct dns *d)
{
	const struct {
		const char *name;
		uint64_t n;
	} counters[] = {
		{ "queries", d->n.queries },
		{ "local", d->n.local },
		{ "cached", d->n.cached },
		{ "forwarded", d->n.forwarded },
		{ "answers", d->n.answers },
		{ "failed", d->n.failed },
		{ "refused", d->n.refused },
		{ "limited", d->n.limited },
		{ "muted", d->mute[0].times + d->mute[1].times },
		{ "malformed", d->n.malformed },
		{ "mismatched", d->n.mismatched },
		{ "timeouts", d->n.timeouts },
		{ "cache-entries", dns_cache_count(d->cache) },
		{ "pending", d->forward ? forward_pending(d->forward) : 0 },
	};
	json_t *o = json_object();

	for (size_t k = 0; k < ARRAY_LEN(counters); k++)
		json_object_set_new(o, counters[k].name, json_integer((json_int_t)counters[k].n));
	return o;
}
