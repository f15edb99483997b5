/* A connection to an NBD server: one coroutine reads, one writes, and a clock may end both. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/now.h"
#include "block/nbd.h"

#define IOV_BATCH 256u

/* Who waited finds out by itself what has become of the connection: nothing here is touched after the first wake-up. */
static void wake_all(struct nbd_link *l)
{
	struct co *waiting[] = { l->reader, l->writer, l->sleeper };

	l->reader = l->writer = l->sleeper = NULL;
	for (unsigned i = 0; i < ARRAY_LEN(waiting); i++)
		if (waiting[i])
			co_wake(waiting[i]);
}

static void want(struct nbd_link *l, uint32_t events)
{
	if (events == l->wanted)
		return;
	l->wanted = events;
	loop_fd_mod(l->watch, events);
}

static void on_socket(void *opaque, int fd, uint32_t events)
{
	struct nbd_link *l = opaque;
	struct co *reader = NULL, *writer = NULL;

	if (events & (EPOLLHUP | EPOLLERR)) {
		/* The kernel says so until somebody looks; what is there can still be read. */
		events |= EPOLLIN | EPOLLOUT;
		loop_fd_del(l->watch);
		l->watch = NULL;
	}
	if (events & EPOLLIN) {
		reader = l->reader;
		l->reader = NULL;
	}
	if (events & EPOLLOUT) {
		writer = l->writer;
		l->writer = NULL;
	}
	if (l->watch)
		want(l, (l->reader ? EPOLLIN : 0u) | (l->writer ? EPOLLOUT : 0u));
	if (reader)
		co_wake(reader);
	if (writer)
		co_wake(writer);
}

static void on_timer(void *opaque, int fd, uint32_t events)
{
	struct nbd_link *l = opaque;
	uint64_t expired;

	if (read(fd, &expired, sizeof(expired)) < 0)
		return;
	if (now_ns() >= l->deadline)
		nbd_link_break(l);
	else
		wake_all(l);
}

int nbd_link_init(struct nbd_link *l, struct node_ctx *c, struct err *err)
{
	*l = (struct nbd_link){ .ctx = c, .fd = -1, .deadline = NBD_NEVER };
	l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->timer < 0)
		return err_errno(err, errno, "timerfd");
	l->timer_watch = loop_fd_add(c->loop, l->timer, EPOLLIN, on_timer, l, err);
	return l->timer_watch ? 0 : -1;
}

void nbd_link_free(struct nbd_link *l)
{
	if (!l->ctx)
		return;
	nbd_link_close(l);
	loop_fd_del(l->timer_watch);
	if (l->timer >= 0)
		close(l->timer);
	l->timer = -1;
	l->ctx = NULL;
}

static void arm(struct nbd_link *l, int64_t when)
{
	struct itimerspec at = { { 0, 0 }, { when / 1000000000, when % 1000000000 } };

	if (when == NBD_NEVER)
		at.it_value = (struct timespec){ 0, 0 };
	timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

void nbd_link_deadline(struct nbd_link *l, int64_t when)
{
	l->deadline = when;
	l->broken &= l->fd >= 0;
	arm(l, when);
}

void nbd_link_sleep(struct nbd_link *l, int64_t until)
{
	if (until > l->deadline)
		until = l->deadline;
	while (now_ns() < until && !l->broken) {
		arm(l, until);
		l->sleeper = co_self();
		co_wait();
	}
	arm(l, l->deadline);
}

void nbd_link_break(struct nbd_link *l)
{
	l->broken = true;
	if (l->fd >= 0)
		shutdown(l->fd, SHUT_RDWR);
	wake_all(l);
}

void nbd_link_end(struct nbd_link *l)
{
	shutdown(l->fd, SHUT_WR);
}

void nbd_link_close(struct nbd_link *l)
{
	loop_fd_del(l->watch);
	l->watch = NULL;
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	l->at = l->have = 0;
	l->broken = false;
}

/* Until the socket is ready for it. */
static int wait_for(struct nbd_link *l, struct co **who, uint32_t event)
{
	if (l->broken)
		return now_ns() >= l->deadline ? -ETIMEDOUT : -EPIPE;
	if (!l->watch)
		return -EPIPE;
	*who = co_self();
	want(l, l->wanted | event);
	co_wait();
	return l->broken ? now_ns() >= l->deadline ? -ETIMEDOUT : -EPIPE : 0;
}

/* --- connecting --- */

struct lookup {
	const struct nbd_address *a;
	struct addrinfo *found;
	int why;
};

static int look_up(void *opaque)
{
	struct lookup *k = opaque;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };

	k->why = getaddrinfo(k->a->host, k->a->port, &hints, &k->found);
	return k->why ? -EHOSTUNREACH : 0;
}

static int connect_to(struct nbd_link *l, const struct sockaddr *to, socklen_t len)
{
	socklen_t size = sizeof(int);
	struct err ignored;
	int on = 1, ret = 0;

	nbd_link_close(l);
	if (now_ns() >= l->deadline)
		return -ETIMEDOUT;
	l->fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return -errno;
	l->wanted = 0;
	/* A socket that is not on its way yet says that it is hung up: it is watched from when it is. */
	if (connect(l->fd, to, len) && errno != EINPROGRESS)
		ret = -errno;
	else if (!(l->watch = loop_fd_add(l->ctx->loop, l->fd, 0, on_socket, l, &ignored)))
		ret = -ENOMEM;
	else
		ret = wait_for(l, &l->writer, EPOLLOUT);
	if (!ret && getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &ret, &size))
		ret = -errno;
	else if (ret > 0)
		ret = -ret;
	if (!ret && to->sa_family != AF_UNIX)
		setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (ret)
		nbd_link_close(l);
	return ret;
}

static int connect_unix(struct nbd_link *l, const struct nbd_address *a, struct err *err)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = strlen(a->path);
	int ret;

	if (len >= sizeof(to.sun_path)) {
		err_set(err, "UNIX socket path '%s' is too long", a->path);
		return -ENAMETOOLONG;
	}
	memcpy(to.sun_path + a->is_abstract, a->path, len);
	ret = connect_to(l, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1));
	if (ret)
		err_errno(err, -ret, "Failed to connect to '%s'", a->path);
	return ret;
}

int nbd_link_connect(struct nbd_link *l, const struct nbd_address *a, struct err *err)
{
	struct lookup k = { .a = a };
	int ret;

	if (a->is_unix)
		return connect_unix(l, a, err);
	ret = node_work(l->ctx, look_up, &k);
	if (ret) {
		err_set(err, "address resolution failed for %s:%s: %s", a->host, a->port, gai_strerror(k.why));
		return ret;
	}
	ret = -ENOENT;
	for (struct addrinfo *i = k.found; i && ret; i = i->ai_next)
		ret = connect_to(l, i->ai_addr, i->ai_addrlen);
	freeaddrinfo(k.found);
	if (ret)
		err_errno(err, -ret, "Failed to connect to '%s:%s'", a->host, a->port);
	return ret;
}

/* --- reading and writing --- */

static int again(struct nbd_link *l, ssize_t n, struct co **who, uint32_t event)
{
	if (!n)
		return -EPIPE;
	if (errno == EINTR)
		return 0;
	return errno == EAGAIN ? wait_for(l, who, event) : -errno;
}

int nbd_link_read(struct nbd_link *l, void *buf, size_t bytes)
{
	struct iovec iov = { buf, bytes };

	return nbd_link_readv(l, &iov, 1, bytes);
}

/* What is there already, and then straight to where it belongs if that is much. */
int nbd_link_readv(struct nbd_link *l, const struct iovec *iov, unsigned niov, uint64_t bytes)
{
	struct iovec part[IOV_BATCH];
	uint64_t done = 0;

	while (done < bytes) {
		ssize_t n;

		if (l->have > l->at) {
			size_t ready = l->have - l->at;

			if (ready > bytes - done)
				ready = (size_t)(bytes - done);
			iov_from_buf(iov, niov, done, l->in + l->at, ready);
			l->at += (unsigned)ready;
			done += ready;
			continue;
		}
		if (bytes - done < sizeof(l->in)) {
			n = read(l->fd, l->in, sizeof(l->in));
			l->at = 0;
			l->have = n > 0 ? (unsigned)n : 0;
		} else {
			/* A batch at most, in case that there are more pieces than the kernel takes. */
			unsigned first = 0;
			uint64_t skip = done;
			unsigned k;

			while (skip >= iov[first].iov_len)
				skip -= iov[first++].iov_len;
			k = niov - first < IOV_BATCH ? niov - first : IOV_BATCH;
			k = iov_slice(part, iov + first, k, skip, bytes - done);
			n = readv(l->fd, part, (int)k);
			done += n > 0 ? (uint64_t)n : 0;
		}
		if (n <= 0) {
			int ret = again(l, n, &l->reader, EPOLLIN);

			if (ret)
				return ret;
		}
	}
	return 0;
}

int nbd_link_writev(struct nbd_link *l, struct iovec *iov, unsigned niov)
{
	while (niov) {
		struct msghdr m = { .msg_iov = iov, .msg_iovlen = niov < IOV_BATCH ? niov : IOV_BATCH };
		ssize_t n;

		if (l->fd < 0 || l->broken)
			return -EPIPE;
		n = sendmsg(l->fd, &m, MSG_NOSIGNAL);
		if (n <= 0) {
			int ret = again(l, n ? n : -1, &l->writer, EPOLLOUT);

			if (ret)
				return ret;
			continue;
		}
		for (; niov && (size_t)n >= iov->iov_len; iov++, niov--)
			n -= (ssize_t)iov->iov_len;
		if (niov) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

int nbd_link_write(struct nbd_link *l, const void *buf, size_t bytes)
{
	struct iovec iov = { (void *)buf, bytes };

	return nbd_link_writev(l, &iov, 1);
}
