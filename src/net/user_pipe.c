/* A port of the guest's network that is one connection of the host, made at the start. */
#include <errno.h>
#include <libslirp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/sock.h"
#include "net/user.h"

struct user_pipe {
	Slirp *slirp;
	struct in_addr addr;
	uint16_t port;
	int fd;
	struct loop_fd *watch; /* NULL: it has ended */
	bool open;	       /* the guest takes bytes */
};

/* Whoever does not read them holds up this network, and no other. */
ssize_t user_pipe_write(const void *buf, size_t len, void *opaque)
{
	const struct user_pipe *p = opaque;
	const char *b = buf;

	for (size_t done = 0; p->watch && done < len;) {
		ssize_t n = send(p->fd, b + done, len - done, MSG_NOSIGNAL);

		if (n <= 0 && errno != EINTR)
			break; /* it has gone: bytes go nowhere */
		done += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)len;
}

static void ready(void *opaque, int fd, uint32_t events)
{
	struct user_pipe *p = opaque;
	size_t room = slirp_socket_can_recv(p->slirp, p->addr, p->port);
	uint8_t b[4096];
	ssize_t n;

	if (!room && !(events & (EPOLLHUP | EPOLLERR)))
		return;
	n = recv(fd, b, room && room < sizeof(b) ? room : sizeof(b), MSG_DONTWAIT);
	if (n > 0 && room) {
		slirp_socket_recv(p->slirp, p->addr, p->port, b, (int)n);
	} else if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
		loop_fd_del(p->watch);
		p->watch = NULL;
	}
}

void user_pipe_watch(struct user_pipe *p)
{
	bool open = slirp_socket_can_recv(p->slirp, p->addr, p->port) > 0;

	if (p->watch && open != p->open)
		loop_fd_mod(p->watch, open ? EPOLLIN : 0);
	p->open = open;
}

struct user_pipe *user_pipe_new(struct loop *loop, struct Slirp *slirp, const struct net_guest_forward *f,
				const char *key, struct err *err)
{
	struct user_pipe *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	*p = (struct user_pipe){ .slirp = slirp, .addr = f->addr, .port = f->port };
	p->fd = sock_connect(key, f->where, err);
	p->watch = p->fd >= 0 ? loop_fd_add(loop, p->fd, 0, ready, p, err) : NULL;
	if (p->watch)
		return p;
	user_pipe_free(p);
	return NULL;
}

void user_pipe_free(struct user_pipe *p)
{
	if (!p)
		return;
	loop_fd_del(p->watch);
	if (p->fd >= 0)
		close(p->fd);
	free(p);
}
