/*
 * A frame a datagram: the wire format of QEMU's `-netdev dgram` and of `socket` with udp= or mcast=. Anybody may send
 * to such a socket: what is no frame is lost, and nothing is remembered of a sender.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "net/backend.h"

#define TURN 64 /* frames before the loop does something else */

struct dgram {
	struct net_peer peer;
	struct net_peer_ops ops;
	struct net_dgram_config c;
	struct loop_fd *watch; /* NULL: somebody has shut it down */
	int room_fd;	       /* of a Unix socket's frames; -1: the socket itself tells when there is room */
	struct loop_fd *room;
	bool full;    /* send() found no room */
	bool starved; /* `in`, of `len` bytes, waits for the receiver */
	size_t len;
	struct net_out out;
	uint8_t in[NET_FRAME_MAX + 1];
};

static const struct sockaddr *to(const struct dgram *d)
{
	return d->c.to_len ? (const struct sockaddr *)&d->c.to : NULL;
}

static void update_watch(struct dgram *d)
{
	uint32_t out = net_out_empty(&d->out) ? 0 : EPOLLOUT;

	if (d->watch)
		loop_fd_mod(d->watch, (d->starved ? 0u : EPOLLIN) | (d->room ? 0 : out));
	if (d->room)
		loop_fd_mod(d->room, out);
}

static bool deliver(struct dgram *d)
{
	static const struct net_offload none = { 0 };

	d->starved = !net_deliver(&d->peer, d->in, d->len, &none);
	return !d->starved;
}

/*
 * What can be sent. Only a connected Unix socket hears that its other end has room. Connected, the socket itself would
 * hear nobody but the one that is there now, which may be another soon, and what waits in it would be lost when it is
 * no more: so another one is connected, by which nothing is sent.
 */
static bool flush(struct dgram *d)
{
	if (net_out_datagrams(&d->out, d->c.fd, to(d), d->c.to_len))
		return true;
	if (d->room_fd < 0 || !connect(d->room_fd, to(d), d->c.to_len))
		return false;
	net_out_clear(&d->out);
	return true;
}

/* Whoever has passed the descriptor has shut it down: it would be ready with nothing for ever. */
static void gone(struct dgram *d)
{
	loop_fd_del(d->watch);
	loop_fd_del(d->room);
	d->watch = d->room = NULL;
	d->starved = false;
	net_out_clear(&d->out);
	log_line(LOG_WARN, "net", "%s: the socket has been shut down: the cable is out", d->c.name);
	net_unplugged(&d->peer);
}

static void go_on(struct dgram *d)
{
	if (!net_out_empty(&d->out) && flush(d) && d->full) {
		d->full = false;
		if (d->peer.receiver.writable)
			d->peer.receiver.writable(d->peer.receiver.opaque);
	}
}

static void on_room(void *opaque, int fd, uint32_t events)
{
	struct dgram *d = opaque;

	go_on(d);
	update_watch(d);
}

static void on_event(void *opaque, int fd, uint32_t events)
{
	struct dgram *d = opaque;

	if (events & EPOLLHUP) {
		gone(d);
		return;
	}
	go_on(d);
	for (int turn = 0; !d->starved && turn < TURN; turn++) {
		ssize_t n = recv(fd, d->in, sizeof(d->in), MSG_DONTWAIT);

		/* Other errors tell what has become of a frame that was sent. */
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		d->len = n < 0 ? 0 : (size_t)n;
		if (d->len >= NET_HEADER_MIN && d->len <= NET_FRAME_MAX)
			deliver(d);
	}
	update_watch(d);
}

static bool dgram_send(struct net_peer *p, const struct net_packet *k)
{
	struct dgram *d = container_of(p, struct dgram, peer);

	if (!net_out_empty(&d->out)) {
		d->full = true;
		return false;
	}
	if (!k->offload.checksum && !k->offload.gso) {
		const struct msghdr m = { .msg_name = (void *)to(d),
					  .msg_namelen = d->c.to_len,
					  .msg_iov = (struct iovec *)k->iov,
					  .msg_iovlen = k->count };

		if (sendmsg(d->c.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EAGAIN)
			return true;
	}
	net_out_packet(&d->out, k, 0);
	if (!flush(d))
		update_watch(d);
	return true;
}

static void dgram_ready(struct net_peer *p)
{
	struct dgram *d = container_of(p, struct dgram, peer);

	if (d->starved && deliver(d))
		update_watch(d);
}

static void dgram_destroy(struct net_peer *p)
{
	struct dgram *d = container_of(p, struct dgram, peer);

	loop_fd_del(d->watch);
	loop_fd_del(d->room);
	close(d->c.fd);
	if (d->room_fd >= 0)
		close(d->room_fd);
	if (*d->c.path)
		unlink(d->c.path);
	net_out_free(&d->out);
	free(d);
}

static int watch_room(struct dgram *d, struct loop *loop, struct err *err)
{
	d->room_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (d->room_fd < 0)
		return err_errno(err, errno, "%s: socket", d->c.name);
	d->room = loop_fd_add(loop, d->room_fd, 0, on_room, d, err);
	return d->room ? 0 : -1;
}

struct net_peer *net_dgram_make(struct loop *loop, const struct net_dgram_config *c, struct err *err)
{
	struct dgram *d = calloc(1, sizeof(*d));

	if (!d) {
		close(c->fd);
		err_set(err, "out of memory");
		return NULL;
	}
	d->c = *c;
	d->ops = (struct net_peer_ops){
		.name = d->c.name, .send = dgram_send, .ready = dgram_ready, .destroy = dgram_destroy
	};
	d->peer.ops = &d->ops;
	d->room_fd = -1;
	if (net_out_init(&d->out, err) || (c->to.ss_family == AF_UNIX && watch_room(d, loop, err)))
		goto fail;
	d->watch = loop_fd_add(loop, c->fd, EPOLLIN, on_event, d, err);
	if (d->watch)
		return &d->peer;
fail:
	dgram_destroy(&d->peer);
	return NULL;
}
