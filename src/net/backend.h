/*
 * What the back ends share. Private to net/; the loop thread.
 */
#ifndef VIREO_NET_BACKEND_H
#define VIREO_NET_BACKEND_H

#include <sys/socket.h>

#include "net/net.h"

#define NET_HEADER_MIN 14u /* what is shorter is no frame */
#define NET_OUT_MAX    (256u << 10)

/* Tell the receiver that the other end is gone for good. */
void net_unplugged(struct net_peer *first);

/* --- out.c: frames on their way to a socket, each behind its length of four bytes, big-endian --- */

struct net_out {
	uint8_t *data; /* NET_OUT_MAX bytes */
	size_t begin, end;
};

int net_out_init(struct net_out *o, struct err *err);
void net_out_free(struct net_out *o);
static inline bool net_out_empty(const struct net_out *o)
{
	return o->begin == o->end;
}
void net_out_clear(struct net_out *o);
/* As net_segment() calls it: `out` is a struct net_out. What has no room is lost. */
void net_out_add(void *out, const uint8_t *frame, size_t len);
/*
 * The packet with all its work done. Of one that needs none, the first `sent` bytes (of its length and it) have gone
 * already.
 */
void net_out_packet(struct net_out *o, const struct net_packet *k, size_t sent);
/* What the socket takes. 1: all has gone; 0: it takes no more now; -1: it is at an end (errno). */
int net_out_stream(struct net_out *o, int fd);
/* The same for datagrams, each a frame. Those that cannot be sent are lost. */
int net_out_datagrams(struct net_out *o, int fd, const struct sockaddr *to, socklen_t to_len);

/* --- stream.c: frames behind their lengths on a stream socket --- */

struct net_stream_config {
	char name[32];		    /* "net0" */
	int fd;			    /* of the connection; or -1. Taken, also on error */
	int listen_fd;		    /* or -1: where one comes from, again when it has ended. Taken, also on error */
	char path[108];		    /* a socket's, to be removed at the end; "": none */
	struct sockaddr_storage to; /* or, to_len > 0, where one is made to */
	socklen_t to_len;
	unsigned reconnect_s; /* 0: an end is the end */
	/*
	 * Instead of `to`: makes a connection, again `reconnect_s` after an end, and later each time when it does not
	 * hold; ends what open() has begun, and says how it has ended, if it knows that; ends both. May be NULL.
	 */
	int (*open)(void *opaque, struct err *err);
	const char *(*close)(void *opaque);
	void (*release)(void *opaque); /* also on error */
	void *opaque;
};
struct net_peer *net_stream_make(struct loop *loop, const struct net_stream_config *c, struct err *err);

/* --- dgram.c: frames in datagrams --- */

struct net_dgram_config {
	char name[32];
	int fd; /* Taken, also on error */
	char path[108];
	struct sockaddr_storage to; /* to_len 0: the descriptor is connected */
	socklen_t to_len;
};
struct net_peer *net_dgram_make(struct loop *loop, const struct net_dgram_config *c, struct err *err);

#endif
