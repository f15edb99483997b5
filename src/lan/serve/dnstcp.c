/* Queries by TCP (RFC 7766): a bounded number of connections, one query of each at a time; who has most loses first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/accept.h"
#include "lan/serve/dns_impl.h"

#define IDLE_MS 10000

static void on_connection(void *opaque, int fd, uint32_t events);

static void hang_up(struct dns_connection *k)
{
	if (k->fd < 0)
		return;
	loop_fd_del(k->watch);
	close(k->fd);
	free(k->out);
	k->out = NULL;
	k->fd = -1;
	k->generation++;
}

static bool has_query(const struct dns_connection *k)
{
	return k->in_len >= 2 && k->in_len >= 2u + ld_be16(k->in);
}

/* The next query that is there whole. */
static void take(struct dns_connection *k)
{
	struct dns_client c = { .connection = (int)(k - k->d->connection),
				.generation = k->generation,
				.bucket = k->bucket };
	uint8_t m[DNS_QUERY_MAX];
	size_t len;

	while (k->fd >= 0 && !k->busy && k->in_len >= 2) {
		len = ld_be16(k->in);
		if (len > DNS_QUERY_MAX) {
			hang_up(k);
			return;
		}
		if (k->in_len < 2 + len)
			return;
		memcpy(m, k->in + 2, len);
		k->in_len -= 2 + len;
		memmove(k->in, k->in + 2 + len, k->in_len);
		k->busy = true;
		loop_fd_mod(k->watch, 0);
		dns_query(k->d, m, len, &c);
	}
}

static void flush(struct dns_connection *k)
{
	while (k->out_sent < k->out_len) {
		ssize_t n = send(k->fd, k->out + k->out_sent, k->out_len - k->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			loop_fd_mod(k->watch, EPOLLOUT);
			return;
		}
		if (n <= 0) {
			hang_up(k);
			return;
		}
		k->out_sent += (size_t)n;
		k->since_ms = k->d->v->now_ms;
	}
	free(k->out);
	k->out = NULL;
	k->out_len = k->out_sent = 0;
	k->busy = false;
	/* The next one, which has come meanwhile, is taken by the loop. */
	loop_fd_mod(k->watch, EPOLLIN | (has_query(k) ? EPOLLOUT : 0u));
}

void dns_tcp_send(struct dns *d, const struct dns_client *c, const uint8_t *m, size_t len)
{
	struct dns_connection *k = &d->connection[c->connection];

	if (k->fd < 0 || k->generation != c->generation || !k->busy || k->out)
		return;
	k->out = malloc(2 + len);
	if (!k->out) {
		hang_up(k);
		return;
	}
	st_be16(k->out, (uint16_t)len);
	memcpy(k->out + 2, m, len);
	k->out_len = 2 + len;
	k->out_sent = 0;
	flush(k);
}

static void on_connection(void *opaque, int fd, uint32_t events)
{
	struct dns_connection *k = opaque;
	ssize_t n;

	server_clock(k->d->v);
	if (events & (EPOLLERR | EPOLLHUP)) {
		hang_up(k);
		return;
	}
	if (k->out) {
		flush(k);
	} else if (!k->busy && !has_query(k)) {
		n = recv(fd, k->in + k->in_len, sizeof(k->in) - k->in_len, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			hang_up(k);
			return;
		}
		k->in_len += (size_t)n;
		k->since_ms = k->d->v->now_ms;
	}
	take(k);
}

/* A free place, or that of the one who has most of them: its connection that has said nothing for longest. */
static struct dns_connection *place(struct dns *d)
{
	struct dns_connection *worst = NULL;
	unsigned most = 0;

	for (unsigned n = 0; n < DNS_CONNECTIONS; n++) {
		struct dns_connection *k = &d->connection[n];
		unsigned same = 0;

		if (k->fd < 0)
			return k;
		for (unsigned m = 0; m < DNS_CONNECTIONS; m++)
			same += d->connection[m].bucket == k->bucket;
		if (same > most || (same == most && k->since_ms < worst->since_ms)) {
			most = same;
			worst = k;
		}
	}
	hang_up(worst);
	return worst;
}

static void on_connect(void *opaque, int fd)
{
	struct dns *d = opaque;
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);
	struct dns_connection *k;
	struct err err;

	if (getpeername(fd, (struct sockaddr *)&a, &len)) { /* it has gone */
		close(fd);
		return;
	}
	server_clock(d->v);
	k = place(d);
	k->d = d;
	k->watch = loop_fd_add(d->v->loop, fd, EPOLLIN, on_connection, k, &err);
	if (!k->watch) {
		close(fd);
		return;
	}
	k->fd = fd;
	k->bucket = dns_bucket(d, (struct sockaddr *)&a);
	k->since_ms = d->v->now_ms;
	k->busy = false;
	k->in_len = k->out_len = k->out_sent = 0;
}

void dns_tcp_tick(struct dns *d)
{
	for (unsigned n = 0; n < DNS_CONNECTIONS; n++)
		if (d->connection[n].fd >= 0 && d->v->now_ms - d->connection[n].since_ms > IDLE_MS)
			hang_up(&d->connection[n]);
}

int dns_tcp_begin(struct dns *d, struct err *err)
{
	for (unsigned k = 0; k < 2; k++)
		if (d->tcp[k] >= 0 && !accepter_new(d->v->loop, d->tcp[k], d->v->s.name, on_connect, d, err))
			return -1;
	return 0;
}
