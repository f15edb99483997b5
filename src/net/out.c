/* Frames that a socket has not taken yet: see backend.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "net/backend.h"

#define PREFIX 4u

int net_out_init(struct net_out *o, struct err *err)
{
	*o = (struct net_out){ .data = malloc(NET_OUT_MAX) };
	return o->data ? 0 : err_set(err, "out of memory");
}

void net_out_free(struct net_out *o)
{
	free(o->data);
	o->data = NULL;
}

void net_out_clear(struct net_out *o)
{
	o->begin = o->end = 0;
}

void net_out_add(void *out, const uint8_t *frame, size_t len)
{
	struct net_out *o = out;

	if (len + PREFIX > NET_OUT_MAX - o->end)
		return;
	st_be32(o->data + o->end, (uint32_t)len);
	memcpy(o->data + o->end + PREFIX, frame, len);
	o->end += PREFIX + len;
}

void net_out_packet(struct net_out *o, const struct net_packet *k, size_t sent)
{
	static uint8_t buf[NET_FRAME_MAX];

	if (net_out_empty(o))
		net_out_clear(o);
	net_segment(net_flat(k, buf), k->len, &k->offload, net_out_add, o);
	o->begin += sent;
}

int net_out_stream(struct net_out *o, int fd)
{
	while (!net_out_empty(o)) {
		ssize_t n = send(fd, o->data + o->begin, o->end - o->begin, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return errno == EAGAIN || errno == ENOBUFS ? 0 : -1;
		o->begin += (size_t)n;
	}
	net_out_clear(o);
	return 1;
}

int net_out_datagrams(struct net_out *o, int fd, const struct sockaddr *to, socklen_t to_len)
{
	while (!net_out_empty(o)) {
		size_t len = ld_be32(o->data + o->begin);

		if (sendto(fd, o->data + o->begin + PREFIX, len, MSG_DONTWAIT | MSG_NOSIGNAL, to, to_len) < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN)
				return 0;
		}
		o->begin += PREFIX + len;
	}
	net_out_clear(o);
	return 1;
}
