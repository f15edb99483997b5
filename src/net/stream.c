/*
 * Frames behind their lengths (four bytes, big-endian) on a stream socket: the wire format of QEMU's `-netdev socket`
 * and `stream`, and of passt. The other side is not trusted: a length that no frame has ends the connection.
 *
 * One connection at a time. Without one, the guest's frames are lost, as on a wire that nobody holds.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/accept.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/now.h"
#include "net/backend.h"

#define PREFIX	4u
#define IN_SIZE (PREFIX + NET_FRAME_MAX + 65536u)
#define PAUSE_S 60 /* before a connection that never holds is made again; it holds when it was there so long */

struct stream {
	struct net_peer peer;
	struct net_peer_ops ops;
	struct loop *loop;
	struct net_stream_config c;
	int fd; /* -1: there is no connection */
	bool connecting;
	struct loop_fd *watch, *timer_watch;
	struct accepter *accepter; /* NULL: it connects */
	int timer;
	int64_t since_ns; /* of the connection */
	unsigned pause_s; /* before the last one */
	bool full;	  /* send() found no room */
	bool starved;	  /* the frame at in_begin waits for the receiver */
	struct net_out out;
	size_t in_begin, in_end;
	uint8_t in[IN_SIZE];
};

static void on_event(void *opaque, int fd, uint32_t events);

static void update_watch(struct stream *s)
{
	uint32_t in = s->starved ? 0 : EPOLLIN, out = s->connecting || !net_out_empty(&s->out) ? EPOLLOUT : 0;

	if (s->watch)
		loop_fd_mod(s->watch, in | out);
}

/* What is made here and ends at once is made later each time; where others are, it is the user who says when. */
static void come_again(struct stream *s)
{
	bool held = now_ns() - s->since_ns >= PAUSE_S * 1000000000ll;
	unsigned longer = s->c.open && !held ? 2 * s->pause_s : 0;

	s->pause_s = longer < s->c.reconnect_s ? s->c.reconnect_s : longer < PAUSE_S ? longer : PAUSE_S;
	timerfd_settime(s->timer, 0, &(struct itimerspec){ .it_value.tv_sec = s->pause_s }, NULL);
}

/* Whoever waits for room need not any more. */
static void wake_guest(struct stream *s)
{
	bool was_full = s->full;

	s->full = false;
	if (was_full && s->peer.receiver.writable)
		s->peer.receiver.writable(s->peer.receiver.opaque);
}

/* The end of a connection, and where the next one comes from. */
static void disconnect(struct stream *s, const char *why)
{
	const char *how;

	loop_fd_del(s->watch);
	s->watch = NULL;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->connecting = s->starved = false;
	s->in_begin = s->in_end = 0;
	net_out_clear(&s->out);
	how = s->c.close ? s->c.close(s->c.opaque) : NULL;
	if (s->accepter)
		accepter_hold(s->accepter, false);
	else if (s->c.reconnect_s)
		come_again(s);
	if (s->c.open)
		log_guest("net", "%s: the connection has ended: %s; again in %u s", s->c.name, how ? how : why,
			  s->pause_s);
	else if (why)
		log_guest("net", "%s: the connection has ended: %s", s->c.name, why);
	wake_guest(s);
}

/* Takes `fd`. */
static int connected(struct stream *s, int fd, bool connecting, struct err *err)
{
	const int on = 1;

	/* Frames do not wait for each other's acknowledgement. Sockets of other kinds know no such delay. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	s->watch = loop_fd_add(s->loop, fd, connecting ? EPOLLOUT : EPOLLIN, on_event, s, err);
	if (!s->watch) {
		close(fd);
		return -1;
	}
	s->fd = fd;
	s->since_ns = now_ns();
	s->connecting = connecting;
	if (s->accepter)
		accepter_hold(s->accepter, true);
	return 0;
}

static void on_client(void *opaque, int fd)
{
	struct stream *s = opaque;
	struct err err;

	if (!connected(s, fd, false, &err))
		log_line(LOG_INFO, "net", "%s: connected", s->c.name);
}

/* One that is made, or begun. */
static int connect_again(struct stream *s, struct err *err)
{
	bool connecting;
	int fd;

	if (s->c.open) {
		fd = s->c.open(s->c.opaque, err);
		return fd < 0 ? -1 : connected(s, fd, false, err);
	}
	fd = socket(s->c.to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "%s: socket", s->c.name);
	connecting = connect(fd, (const struct sockaddr *)&s->c.to, s->c.to_len) != 0;
	if (connecting && errno != EINPROGRESS) {
		err_errno(err, errno, "%s: cannot connect", s->c.name);
		close(fd);
		return -1;
	}
	return connected(s, fd, connecting, err);
}

static void on_timer(void *opaque, int fd, uint32_t events)
{
	struct stream *s = opaque;
	uint64_t expired;
	struct err err;

	if (read(fd, &expired, sizeof(expired)) < 0 || s->fd >= 0)
		return;
	if (connect_again(s, &err))
		come_again(s);
}

/* --- from the socket --- */

/* The frames that have come whole. False: the other side lies. */
static bool take_frames(struct stream *s)
{
	static const struct net_offload none = { 0 };

	s->starved = false;
	while (s->in_end - s->in_begin >= PREFIX) {
		const uint8_t *f = s->in + s->in_begin;
		size_t len = ld_be32(f);

		if (len > NET_FRAME_MAX)
			return false;
		if (s->in_end - s->in_begin - PREFIX < len)
			break;
		if (len >= NET_HEADER_MIN && !net_deliver(&s->peer, f + PREFIX, len, &none)) {
			s->starved = true;
			break;
		}
		s->in_begin += PREFIX + len;
	}
	memmove(s->in, s->in + s->in_begin, s->in_end - s->in_begin);
	s->in_end -= s->in_begin;
	s->in_begin = 0;
	return true;
}

static void read_frames(struct stream *s)
{
	ssize_t n = recv(s->fd, s->in + s->in_end, IN_SIZE - s->in_end, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		disconnect(s, n ? strerror(errno) : "the other side has closed it");
		return;
	}
	s->in_end += (size_t)n;
	if (!take_frames(s))
		disconnect(s, "a frame of a length that none has");
	else
		update_watch(s);
}

static void on_event(void *opaque, int fd, uint32_t events)
{
	struct stream *s = opaque;
	int error = 0;

	if (s->connecting) {
		socklen_t len = sizeof(error);

		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) || error) {
			disconnect(s, NULL); /* nobody there yet */
			return;
		}
		s->connecting = false;
		log_line(LOG_INFO, "net", "%s: connected", s->c.name);
	} else if (events & EPOLLOUT && !net_out_empty(&s->out) && net_out_stream(&s->out, fd) < 0) {
		disconnect(s, strerror(errno));
		return;
	}
	if (net_out_empty(&s->out))
		wake_guest(s);
	if (!s->starved && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_frames(s);
	else if (s->starved && events & (EPOLLHUP | EPOLLERR))
		disconnect(s, "the other side has closed it");
	else
		update_watch(s);
}

/* --- from the guest --- */

static bool stream_send(struct net_peer *p, const struct net_packet *k)
{
	struct stream *s = container_of(p, struct stream, peer);
	bool complete = !k->offload.checksum && !k->offload.gso;
	uint8_t prefix[PREFIX];
	struct iovec iov[1 + NET_PIECES] = { { prefix, PREFIX } };
	const struct msghdr m = { .msg_iov = iov, .msg_iovlen = 1 + k->count };
	ssize_t n = 0;

	if (s->fd < 0 || s->connecting)
		return true;
	if (!net_out_empty(&s->out)) {
		s->full = true;
		return false;
	}
	if (complete) {
		st_be32(prefix, (uint32_t)k->len);
		memcpy(iov + 1, k->iov, k->count * sizeof(*iov));
		n = sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return true; /* reading finds out that it has ended */
		if (n == (ssize_t)(PREFIX + k->len))
			return true;
		n = n < 0 ? 0 : n;
	}
	net_out_packet(&s->out, k, (size_t)n);
	if (net_out_stream(&s->out, s->fd) < 0)
		net_out_clear(&s->out);
	if (!net_out_empty(&s->out))
		update_watch(s);
	return true;
}

static void stream_ready(struct net_peer *p)
{
	struct stream *s = container_of(p, struct stream, peer);

	if (!s->starved)
		return;
	if (!take_frames(s))
		disconnect(s, "a frame of a length that none has");
	else
		update_watch(s);
}

static void stream_destroy(struct net_peer *p)
{
	struct stream *s = container_of(p, struct stream, peer);

	loop_fd_del(s->watch);
	accepter_free(s->accepter);
	loop_fd_del(s->timer_watch);
	if (s->fd >= 0)
		close(s->fd);
	if (s->c.listen_fd >= 0)
		close(s->c.listen_fd);
	if (s->timer >= 0)
		close(s->timer);
	if (*s->c.path)
		unlink(s->c.path);
	if (s->c.release)
		s->c.release(s->c.opaque);
	net_out_free(&s->out);
	free(s);
}

static int begin(struct stream *s, int fd, struct err *err)
{
	s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->timer < 0)
		return err_errno(err, errno, "%s", s->c.name);
	s->timer_watch = loop_fd_add(s->loop, s->timer, EPOLLIN, on_timer, s, err);
	if (!s->timer_watch || net_out_init(&s->out, err))
		return -1;
	if (s->c.listen_fd >= 0) {
		s->accepter = accepter_new(s->loop, s->c.listen_fd, s->c.name, on_client, s, err);
		if (!s->accepter)
			return -1;
	}
	if (fd >= 0)
		return connected(s, fd, false, err);
	if (s->c.listen_fd < 0 && connect_again(s, err)) {
		if (!s->c.reconnect_s)
			return -1;
		come_again(s);
	}
	return 0;
}

struct net_peer *net_stream_make(struct loop *loop, const struct net_stream_config *c, struct err *err)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(err, "out of memory");
		return NULL;
	}
	s->c = *c;
	s->ops = (struct net_peer_ops){
		.name = s->c.name, .send = stream_send, .ready = stream_ready, .destroy = stream_destroy
	};
	s->peer.ops = &s->ops;
	s->loop = loop;
	s->fd = s->timer = -1;
	if (!begin(s, c->fd, err))
		return &s->peer;
	stream_destroy(&s->peer);
	return NULL;
}
