/*
 * Questions to other name servers. What is not the answer to exactly what was asked is not one: it comes from the
 * server's address to the port that the kernel chose for this question, with its number and its name in the case that
 * was rolled for it. The same question is asked once, however many wait for it. Who waits for most gives way to others.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/entropy.h"
#include "lan/serve/dns_impl.h"
#include "lan/serve/resolv.h"

#define SOCKETS	   64u /* by UDP, of each family: questions at a time */
#define STREAMS	   8u  /* by TCP, of each family */
#define WAITERS	   24u /* for one answer: more than one machine has addresses */
#define ASKING_MAX 32u /* of one client */
#define TRIES	   4u
#define TRY_MS	   1000
#define STREAM_MS  4000
#define MISTAKES   8u /* answers to something else, then TCP is used */

struct waiter {
	struct dns_client c;
	struct dns_query q;
};

struct pending {
	struct dns *d;
	bool used, stream;
	bool plain;	    /* without EDNS, which somebody does not know */
	struct dns_query q; /* in small letters; `sent` as it went out */
	struct dns_query sent;
	unsigned tries, server, mistakes;
	int64_t since_ms, sent_ms;
	int family, slot; /* -1: it has no socket */
	struct loop_fd *watch;
	unsigned waiters;
	struct waiter waiter[WAITERS];
	/* By TCP: what is still to be sent, or has come. */
	uint8_t *buffer;
	size_t len, done;
	bool sending;
};

struct forward {
	int udp[2][SOCKETS], tcp[2][STREAMS]; /* IPv4, IPv6; -1: the host has none */
	bool udp_used[2][SOCKETS], tcp_used[2][STREAMS];
	unsigned servers, good; /* `good`: who answered last */
	struct sockaddr_storage server[LAN_FORWARDERS_MAX];
	int resolv; /* where versions of the host's resolv.conf come from; -1: its servers are given */
	struct pending pending[SOCKETS];
};

static void ask(struct pending *p);
static void fail(struct pending *p);

/* --- whom to ask --- */

static bool read_server(char *line, struct sockaddr_storage *s)
{
	struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)s;
	struct sockaddr_in *a4 = (struct sockaddr_in *)s;
	char *save = NULL, *word = strtok_r(line, " \t", &save), *scope;

	if (!word || strcmp(word, "nameserver") || !(word = strtok_r(NULL, " \t\r", &save)))
		return false;
	memset(s, 0, sizeof(*s));
	if (inet_pton(AF_INET, word, &a4->sin_addr) == 1) {
		a4->sin_family = AF_INET;
		a4->sin_port = htobe16(53);
		return true;
	}
	/* A scope by its number only: names of interfaces are others here. */
	scope = strchr(word, '%');
	if (scope) {
		*scope = 0;
		a6->sin6_scope_id = (uint32_t)strtoul(scope + 1, NULL, 10);
	}
	a6->sin6_family = AF_INET6;
	a6->sin6_port = htobe16(53);
	return inet_pton(AF_INET6, word, &a6->sin6_addr) == 1 && (!scope || a6->sin6_scope_id);
}

/* Our own address would ask us again. */
static bool is_us(const struct lan_serve *s, const struct sockaddr_storage *a)
{
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)a;
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a;

	return a->ss_family == AF_INET ? a4->sin_addr.s_addr == s->addr4.s_addr
				       : !memcmp(&a6->sin6_addr, &s->addr6, sizeof(s->addr6));
}

/* The servers of the host's resolv.conf, if that has changed. */
static void read_resolv(struct forward *f, const struct lan_serve *s)
{
	static char text[RESOLV_MAX + 1];
	char *save = NULL;
	ssize_t len = -1, n;

	while (f->resolv >= 0 && (n = recv(f->resolv, text, RESOLV_MAX, MSG_DONTWAIT)) > 0)
		len = n;
	if (len < 0)
		return;
	text[len] = 0;
	f->servers = f->good = 0;
	for (char *line = strtok_r(text, "\n", &save); line && f->servers < LAN_FORWARDERS_MAX;
	     line = strtok_r(NULL, "\n", &save))
		if (read_server(line, &f->server[f->servers]) && !is_us(s, &f->server[f->servers]))
			f->servers++;
}

struct forward *forward_new(const struct lan_serve *s, struct err *err)
{
	struct forward *f = calloc(1, sizeof(*f));

	if (!f) {
		err_set(err, "out of memory");
		return NULL;
	}
	for (unsigned k = 0; k < 2; k++) {
		int family = k ? AF_INET6 : AF_INET;

		for (unsigned n = 0; n < SOCKETS; n++)
			f->udp[k][n] = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		for (unsigned n = 0; n < STREAMS; n++)
			f->tcp[k][n] = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	if (f->udp[0][0] < 0) {
		err_errno(err, errno, "%s: sockets to other name servers", s->name);
		free(f);
		return NULL;
	}
	f->resolv = s->forwarders ? -1 : resolv_watch(s, err);
	if (!s->forwarders && f->resolv < 0) {
		free(f);
		return NULL;
	}
	f->servers = s->forwarders < LAN_FORWARDERS_MAX ? s->forwarders : LAN_FORWARDERS_MAX;
	memcpy(f->server, s->forwarder, sizeof(f->server));
	read_resolv(f, s);
	return f;
}

int forward_begin(struct dns *d, struct err *err)
{
	for (unsigned n = 0; n < SOCKETS; n++)
		d->forward->pending[n] = (struct pending){ .d = d, .slot = -1 };
	return 0;
}

unsigned forward_pending(const struct forward *f)
{
	unsigned n = 0;

	for (unsigned k = 0; k < SOCKETS; k++)
		n += f->pending[k].used;
	return n;
}

/* --- sockets --- */

static bool take_free(struct pending *p, int family)
{
	struct forward *f = p->d->forward;
	unsigned k = family == AF_INET6, len = p->stream ? STREAMS : SOCKETS;
	bool *used = p->stream ? f->tcp_used[k] : f->udp_used[k];
	const int *fd = p->stream ? f->tcp[k] : f->udp[k];

	for (unsigned n = 0; n < len; n++) {
		if (used[n] || fd[n] < 0)
			continue;
		used[n] = true;
		p->family = family;
		p->slot = (int)n;
		return true;
	}
	return false;
}

static unsigned streams_of(const struct forward *f, int family, uint16_t bucket)
{
	unsigned count = 0;

	for (unsigned n = 0; n < SOCKETS; n++) {
		const struct pending *p = &f->pending[n];

		count += p->stream && p->slot >= 0 && p->family == family && p->waiters &&
			 p->waiter[0].c.bucket == bucket;
	}
	return count;
}

/* Streams are few: the oldest of who has most of them gives way to who has less. */
static bool take_socket(struct pending *p, int family)
{
	struct forward *f = p->d->forward;
	struct pending *worst = NULL;
	unsigned most;

	if (take_free(p, family))
		return true;
	if (!p->stream)
		return false;
	most = streams_of(f, family, p->waiter[0].c.bucket);
	for (unsigned n = 0; n < SOCKETS; n++) {
		struct pending *o = &f->pending[n];
		unsigned has;

		if (!o->stream || o->slot < 0 || o->family != family || !o->waiters)
			continue;
		has = streams_of(f, family, o->waiter[0].c.bucket);
		if (has > most || (worst && has == most && o->since_ms < worst->since_ms)) {
			most = has;
			worst = o;
		}
	}
	if (worst)
		fail(worst);
	return worst && take_free(p, family);
}

static int fd_of(const struct pending *p)
{
	const struct forward *f = p->d->forward;
	unsigned k = p->family == AF_INET6;

	return p->stream ? f->tcp[k][p->slot] : f->udp[k][p->slot];
}

/* Dissolved, the socket loses its port: the next question has another. */
static void give_back(struct pending *p)
{
	struct forward *f = p->d->forward;
	const struct sockaddr none = { .sa_family = AF_UNSPEC };
	uint8_t byte;

	if (p->slot < 0)
		return;
	loop_fd_del(p->watch);
	p->watch = NULL;
	/* It may not have been connected. What had come already is for nobody. */
	(void)!connect(fd_of(p), &none, sizeof(none));
	for (unsigned n = 0; !p->stream && n < 64 && recv(fd_of(p), &byte, 1, MSG_DONTWAIT) >= 0; n++)
		;
	if (p->stream)
		f->tcp_used[p->family == AF_INET6][p->slot] = false;
	else
		f->udp_used[p->family == AF_INET6][p->slot] = false;
	p->slot = -1;
}

/* --- questions --- */

static void end(struct pending *p)
{
	give_back(p);
	free(p->buffer);
	p->buffer = NULL;
	for (unsigned n = 0; n < p->waiters; n++)
		p->d->asking[p->waiter[n].c.bucket]--;
	p->waiters = 0;
	p->used = false;
}

static void fail(struct pending *p)
{
	p->d->n.failed++;
	for (unsigned n = 0; n < p->waiters; n++)
		dns_reply_rcode(p->d, &p->waiter[n].c, &p->waiter[n].q, DNS_SERVFAIL);
	end(p);
}

static void succeed(struct pending *p, uint8_t *m, const struct dns_answer *a)
{
	p->d->forward->good = p->server;
	dns_cache_put(p->d->cache, &p->q, p->d->v->now, m, a);
	for (unsigned n = 0; n < p->waiters; n++)
		dns_reply(p->d, &p->waiter[n].c, &p->waiter[n].q, m, a->len);
	end(p);
}

/* The next server, or the end. */
static void try_next(struct pending *p)
{
	p->server++;
	if (++p->tries >= TRIES)
		fail(p);
	else
		ask(p);
}

static void go_by_stream(struct pending *p)
{
	give_back(p);
	p->stream = true;
	ask(p);
}

static bool is_inside(const void *opaque, bool six, const uint8_t *data)
{
	static const uint8_t mapped[12] = { [10] = 0xff, 0xff };
	const struct lan_serve *s = opaque;
	const uint32_t mask = s->prefix4 ? ~0u << (32 - s->prefix4) : 0;

	if (six && memcmp(data, mapped, sizeof(mapped)))
		return s->prefix6 && !memcmp(data, &s->addr6, 8);
	return s->prefix4 && !((ld_be32(six ? data + 12 : data) ^ be32toh(s->addr4.s_addr)) & mask);
}

static void refuse(struct pending *p)
{
	p->d->n.refused++;
	for (unsigned n = 0; n < p->waiters; n++)
		dns_reply_rcode(p->d, &p->waiter[n].c, &p->waiter[n].q, DNS_REFUSED);
	end(p);
}

/*
 * The same server once more, which may not know EDNS: RFC 6891, 7. An error alone proves less than an answer: it has no
 * name whose case was rolled. So it is no try, after which the case would not be.
 */
static void ask_plainly(struct pending *p)
{
	p->plain = true;
	ask(p);
}

static void take_answer(struct pending *p, uint8_t *m, size_t len)
{
	struct dns_answer a;

	if (dns_read_bare_error(m, len, &p->sent)) {
		ask_plainly(p);
	} else if (!dns_read_answer(m, len, &p->sent, &a)) {
		p->d->n.mismatched++;
		if (p->stream)
			try_next(p);
		else if (++p->mistakes >= MISTAKES)
			go_by_stream(p);
	} else if (a.truncated) {
		if (p->stream)
			fail(p);
		else
			go_by_stream(p);
	} else if (p->sent.edns && (a.rcode == DNS_FORMERR || a.rcode == DNS_NOTIMP)) {
		ask_plainly(p);
	} else if ((a.rcode == DNS_SERVFAIL || a.rcode == DNS_REFUSED || a.rcode == DNS_NOTIMP) &&
		   p->tries + 1 < TRIES && p->d->forward->servers > 1) {
		try_next(p);
	} else if (p->d->v->s.alone && dns_any_address(m, a.len, is_inside, &p->d->v->s)) {
		refuse(p);
	} else {
		succeed(p, m, &a);
	}
}

static void on_udp(void *opaque, int fd, uint32_t events)
{
	static uint8_t m[4096];
	struct pending *p = opaque;
	ssize_t n = recv(fd, m, sizeof(m), MSG_DONTWAIT);

	server_clock(p->d->v);
	if (n >= 0)
		take_answer(p, m, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		try_next(p); /* nobody is there */
}

/* The message behind its length, which is sent first and read then. */
static void on_tcp(void *opaque, int fd, uint32_t events)
{
	struct pending *p = opaque;
	ssize_t n;

	server_clock(p->d->v);
	if (p->sending) {
		n = send(fd, p->buffer + p->done, p->len - p->done, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0 && (p->done += (size_t)n) == p->len) {
			p->sending = false;
			p->done = 0;
			p->len = 2;
			loop_fd_mod(p->watch, EPOLLIN);
		}
	} else {
		n = recv(fd, p->buffer + p->done, p->len - p->done, MSG_DONTWAIT);
		if (n > 0 && (p->done += (size_t)n) == p->len && p->len == 2)
			p->len += ld_be16(p->buffer);
		if (n > 0 && p->done == p->len) {
			take_answer(p, p->buffer + 2, p->len - 2);
			return;
		}
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		try_next(p);
}

/* Letters in a case that nobody else can know; not when it asks again: there are servers that do not keep it. */
static void roll_case(struct dns_name *n)
{
	uint8_t bits[DNS_NAME_MAX / 8 + 1];

	if (!entropy_get(bits, sizeof(bits)))
		return;
	for (unsigned k = 0; k < n->len; k++)
		if (n->b[k] >= 'a' && n->b[k] <= 'z' && bits[k / 8] >> k % 8 & 1)
			n->b[k] ^= 32;
}

static size_t write_question(struct pending *p, uint8_t *m)
{
	struct dns_writer w;

	p->sent = p->q;
	p->sent.edns = !p->plain;
	p->sent.size = DNS_UDP_MAX;
	if (!entropy_get(&p->sent.id, sizeof(p->sent.id)))
		p->sent.id = (uint16_t)p->d->v->now_ms;
	if (!p->tries)
		roll_case(&p->sent.name);
	dns_begin(&w, m, DNS_UDP_MAX, &p->sent, 0);
	dns_end(&w, &p->sent, DNS_OK, false);
	st_be16(m + 2, (uint16_t)(DNS_RD | (p->q.flags & (DNS_CD | DNS_AD))));
	return w.len;
}

static bool send_question(struct pending *p, const struct sockaddr_storage *to)
{
	socklen_t len = to->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	uint8_t m[DNS_UDP_MAX];
	size_t size = write_question(p, m);
	int fd = fd_of(p);
	struct err err;

	if (connect(fd, (const struct sockaddr *)to, len) && errno != EINPROGRESS)
		return false;
	if (!p->stream) {
		if (send(fd, m, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			return false;
	} else {
		if (!p->buffer && !(p->buffer = malloc(2 + DNS_MAX)))
			return false;
		st_be16(p->buffer, (uint16_t)size);
		memcpy(p->buffer + 2, m, size);
		p->len = 2 + size;
		p->done = 0;
		p->sending = true;
	}
	p->watch = loop_fd_add(p->d->v->loop, fd, p->stream ? EPOLLOUT : EPOLLIN, p->stream ? on_tcp : on_udp, p, &err);
	return p->watch;
}

/* To the server whose turn it is; those that cannot be reached are passed over. */
static void ask(struct pending *p)
{
	struct forward *f = p->d->forward;

	for (; f->servers && p->tries < TRIES; p->tries++, p->server++) {
		const struct sockaddr_storage *to = &f->server[p->server %= f->servers];

		give_back(p);
		if (!take_socket(p, to->ss_family))
			continue;
		p->sent_ms = p->d->v->now_ms;
		p->d->n.forwarded++;
		if (send_question(p, to))
			return;
	}
	fail(p);
}

static bool is_same(const struct pending *p, const struct dns_query *q)
{
	return p->used && p->q.type == q->type && p->q.class == q->class && p->q.secure == q->secure &&
	       p->q.flags == q->flags && p->q.name.len == q->name.len && !memcmp(p->q.name.b, q->name.b, q->name.len);
}

/* A place for one more question: a free one, or the oldest of the client who has most, if that is not the one who asks.
 */
static struct pending *place(struct dns *d, uint16_t bucket)
{
	struct pending *worst = NULL;
	unsigned most = d->asking[bucket];

	for (unsigned n = 0; n < SOCKETS; n++) {
		struct pending *p = &d->forward->pending[n];
		unsigned has;

		if (!p->used)
			return p;
		has = p->waiters ? d->asking[p->waiter[0].c.bucket] : 0;
		if (has > most || (worst && has == most && p->since_ms < worst->since_ms)) {
			most = has;
			worst = p;
		}
	}
	if (worst)
		fail(worst);
	return worst;
}

static unsigned waiters_of(const struct pending *p, uint16_t bucket)
{
	unsigned count = 0;

	for (unsigned n = 0; n < p->waiters; n++)
		count += p->waiter[n].c.bucket == bucket;
	return count;
}

/* One more who waits; where there is no room, in place of one of who does so most. False: that is who asks. */
static bool add_waiter(struct pending *p, const struct dns_query *q, const struct dns_client *c)
{
	unsigned most = waiters_of(p, c->bucket);
	struct waiter *w = NULL;

	for (unsigned n = 0; p->waiters == WAITERS && n < WAITERS; n++) {
		unsigned has = waiters_of(p, p->waiter[n].c.bucket);

		if (has <= most)
			continue;
		most = has;
		w = &p->waiter[n];
	}
	if (w) {
		p->d->asking[w->c.bucket]--;
		dns_reply_rcode(p->d, &w->c, &w->q, DNS_SERVFAIL);
	} else if (p->waiters < WAITERS) {
		w = &p->waiter[p->waiters++];
	} else {
		return false;
	}
	*w = (struct waiter){ *c, *q };
	p->d->asking[c->bucket]++;
	return true;
}

bool forward_ask(struct dns *d, const struct dns_query *q, const struct dns_client *c)
{
	struct forward *f = d->forward;
	struct dns_query small = *q;
	struct pending *p = NULL;

	if (!f->servers || d->asking[c->bucket] >= ASKING_MAX)
		return false;
	dns_lower(&small.name);
	for (unsigned n = 0; n < SOCKETS && !p; n++)
		if (is_same(&f->pending[n], &small))
			p = &f->pending[n];
	if (p)
		return add_waiter(p, q, c);
	p = place(d, c->bucket);
	if (!p)
		return false;
	p->used = true;
	p->stream = p->plain = false;
	p->q = small;
	p->tries = p->mistakes = 0;
	p->server = f->good;
	p->since_ms = d->v->now_ms;
	p->slot = -1;
	add_waiter(p, q, c);
	ask(p);
	return true;
}

void forward_tick(struct dns *d)
{
	struct forward *f = d->forward;

	read_resolv(f, &d->v->s);
	for (unsigned n = 0; n < SOCKETS; n++) {
		struct pending *p = &f->pending[n];

		if (!p->used || d->v->now_ms - p->sent_ms < (p->stream ? STREAM_MS : TRY_MS))
			continue;
		d->n.timeouts++;
		try_next(p);
	}
}
