/* The parts of the name server, for each other only. One thread. */
#ifndef VIREO_LAN_SERVE_DNS_IMPL_H
#define VIREO_LAN_SERVE_DNS_IMPL_H

#include <netinet/in.h>
#include <stdio.h>

#include "lan/serve/dns.h"
#include "lan/serve/dnsmsg.h"
#include "lan/serve/impl.h"

#define DNS_CLIENTS 1024u /* buckets of them, by address */

/* Where an answer goes. */
struct dns_client {
	int connection; /* -1: by UDP */
	uint32_t generation;
	int fd;
	socklen_t len;
	struct sockaddr_in6 addr; /* or sockaddr_in */
	uint16_t bucket;
};

struct dns_counters {
	uint64_t queries, local, cached, forwarded, answers, failed, limited, malformed, mismatched, timeouts, refused;
};

/* --- the cache: bounded, of whole messages --- */

struct dns_cache;
struct dns_cache *dns_cache_new(void);
/* The message for `q`, with its times to live as they are now; 0: none. */
size_t dns_cache_get(struct dns_cache *c, const struct dns_query *q, int64_t now, uint8_t m[static DNS_UDP_MAX]);
void dns_cache_put(struct dns_cache *c, const struct dns_query *q, int64_t now, const uint8_t *m,
		   const struct dns_answer *a);
unsigned dns_cache_count(const struct dns_cache *c);

/* --- other name servers --- */

/* Ask them, and dns_reply() later. False: nobody can be asked. */
bool forward_ask(struct dns *d, const struct dns_query *q, const struct dns_client *c);
void forward_tick(struct dns *d);
int forward_begin(struct dns *d, struct err *err);
unsigned forward_pending(const struct forward *f);

/* --- the server --- */

#define DNS_CONNECTIONS 32u
#define DNS_QUERY_MAX	1024u /* bytes by TCP */

struct dns_connection {
	struct dns *d;
	int fd; /* -1: none */
	struct loop_fd *watch;
	uint32_t generation;
	uint16_t bucket;
	int64_t since_ms; /* of the last byte */
	bool busy;	  /* an answer is being found, or sent */
	size_t in_len;
	uint8_t in[2 + DNS_QUERY_MAX];
	uint8_t *out;
	size_t out_len, out_sent;
};

struct dns {
	struct server *v;
	struct forward *forward; /* NULL: there is no rest of the world */
	struct dns_cache *cache;
	struct dns_counters n;
	int udp[2], tcp[2];  /* -1: none */
	struct mute mute[2]; /* of the UDP sockets */
	struct bucket clients[DNS_CLIENTS];
	uint16_t asking[DNS_CLIENTS]; /* of each, what other servers are being asked */
	struct dns_connection connection[DNS_CONNECTIONS];
};

/* An answer from this network alone. False: others have to be asked. */
bool dns_local(const struct dns *d, const struct dns_query *q, struct dns_writer *w, enum dns_rcode *rcode);

/* Send `m`, an answer from elsewhere as dns_read_answer() left it, to who asked `q`; or an rcode alone. */
void dns_reply(struct dns *d, const struct dns_client *c, const struct dns_query *q, const uint8_t *m, size_t len);
void dns_reply_rcode(struct dns *d, const struct dns_client *c, const struct dns_query *q, enum dns_rcode rcode);

int dns_tcp_begin(struct dns *d, struct err *err);
void dns_tcp_tick(struct dns *d);
/* An answer for a connection, if it is the same still. */
void dns_tcp_send(struct dns *d, const struct dns_client *c, const uint8_t *m, size_t len);
/* A query from anywhere. */
void dns_query(struct dns *d, const uint8_t *m, size_t len, const struct dns_client *c);
uint16_t dns_bucket(const struct dns *d, const struct sockaddr *a);

#endif
