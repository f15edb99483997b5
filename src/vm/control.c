/* See control.h. */
#include "vm/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/accept.h"
#include "base/log.h"
#include "base/sock.h"
#include "vm/impl.h"
#include "vm/rundir.h"
#include "vm/terminal.h"

#define PLACES	    16
#define LINKS	    16
#define INPUT	    16384
#define PIECE	    4096u /* a write to a pipe that has room takes as much */
#define UNREAD_SLOW 65536u
#define UNREAD_MAX  (1u << 20) /* that may wait behind an answer, which may be long */
#define OUTPUT_MAX  (16u << 20)

struct place {
	struct control *control;
	const struct control_protocol *protocol;
	char key[16];
	const char *path; /* of a socket of ours, to be removed; or NULL */
	int fd;		  /* it listens; -1: it does not */
	struct accepter *accepter;
	bool wait, pretty;
};

struct link {
	struct control *control;
	const struct control_protocol *protocol; /* NULL: free */
	void *session;
	const struct place *place; /* NULL: the run directory's, or the terminal */
	int in, out;		   /* the same, or those of standard I/O; -1: none */
	struct loop_fd *in_watch, *out_watch;
	uint32_t in_events, out_events;
	char *unread;
	size_t unread_len, unread_size, unread_most;
	char input[INPUT]; /* not taken yet */
	size_t input_len;
	int passed_fd;
	bool ended; /* nothing more comes in; what is unread is still to go out */
	bool dropped;
};

struct control {
	struct vm *vm;
	struct place places[PLACES];
	unsigned place_count;
	struct link links[LINKS];
};

static const struct control_protocol *const protocols[] = { &qmp_protocol, &monitor_protocol };
#define PROTOCOLS (sizeof(protocols) / sizeof(protocols[0]))

/* --- links --- */

static void close_link(struct link *l)
{
	l->protocol->close(l->session);
	loop_fd_del(l->in_watch);
	loop_fd_del(l->out_watch);
	if (l->in > 2)
		close(l->in);
	if (l->passed_fd >= 0)
		close(l->passed_fd);
	free(l->unread);
	memset(l, 0, sizeof(*l));
}

static void reap(void *opaque)
{
	struct control *c = opaque;

	for (unsigned n = 0; n < LINKS; n++)
		if (c->links[n].protocol && c->links[n].dropped)
			close_link(&c->links[n]);
}

void link_drop(struct link *l)
{
	if (!l->dropped)
		loop_post(l->control->vm->loop, reap, l->control);
	l->dropped = true;
}

void link_leave(struct link *l)
{
	if (l->in == l->out)
		link_drop(l);
}

bool link_is_dropped(const struct link *l)
{
	return l->dropped;
}

bool link_is_pretty(const struct link *l)
{
	return l->place && l->place->pretty;
}

bool link_is_slow(const struct link *l)
{
	return l->unread_len >= UNREAD_SLOW;
}

int link_take_fd(struct link *l)
{
	int fd = l->passed_fd;

	l->passed_fd = -1;
	return fd;
}

/* Standard output is others' too, who would not like it not to block. */
static ssize_t write_some(struct link *l)
{
	struct pollfd p = { .fd = l->out, .events = POLLOUT };
	size_t len = l->unread_len < PIECE ? l->unread_len : PIECE;

	if (l->out > 2)
		return send(l->out, l->unread, l->unread_len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (poll(&p, 1, 0) == 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(l->out, l->unread, len);
}

static void want(struct loop_fd *watch, uint32_t *now, uint32_t events)
{
	if (watch && *now != events)
		loop_fd_mod(watch, events);
	*now = events;
}

static void update_events(struct link *l)
{
	uint32_t in = l->input_len || l->ended || link_is_slow(l) ? 0 : EPOLLIN, out = l->unread_len ? EPOLLOUT : 0;

	if (l->out_watch) {
		want(l->in_watch, &l->in_events, in);
		want(l->out_watch, &l->out_events, out);
	} else {
		want(l->in_watch, &l->in_events, in | out);
	}
}

static void flush(struct link *l)
{
	while (l->unread_len) {
		ssize_t n = write_some(l);

		if (n <= 0) {
			if (n < 0 && errno != EAGAIN && errno != EINTR)
				link_drop(l);
			break;
		}
		l->unread_len -= (size_t)n;
		memmove(l->unread, l->unread + n, l->unread_len);
	}
	if (l->ended && !l->unread_len)
		link_drop(l);
	update_events(l);
}

void link_write(struct link *l, const char *bytes, size_t len)
{
	if (l->dropped)
		return;
	if (!l->unread_len)
		l->unread_most = UNREAD_MAX;
	/* While so much is unread only events come, for whom there is room again. */
	if (len > UNREAD_SLOW && l->unread_most < l->unread_len + len + UNREAD_MAX)
		l->unread_most = l->unread_len + len + UNREAD_MAX;
	if (len > l->unread_most - l->unread_len || l->unread_most > OUTPUT_MAX) {
		link_drop(l);
		return;
	}
	if (l->unread_len + len > l->unread_size) {
		size_t size = l->unread_len + len + 4096;
		char *grown = realloc(l->unread, size);

		if (!grown) {
			link_drop(l);
			return;
		}
		l->unread = grown;
		l->unread_size = size;
	}
	memcpy(l->unread + l->unread_len, bytes, len);
	l->unread_len += len;
	flush(l);
}

static void offer_input(struct link *l)
{
	while (l->input_len && !l->dropped && !link_is_slow(l)) {
		size_t n = l->protocol->input(l->session, l->input, l->input_len);

		l->input_len -= n;
		memmove(l->input, l->input + n, l->input_len);
	}
	if (!l->dropped)
		update_events(l);
}

void link_feed(struct link *l, const char *bytes, size_t len)
{
	if (len > sizeof(l->input) - l->input_len)
		len = sizeof(l->input) - l->input_len;
	memcpy(l->input + l->input_len, bytes, len);
	l->input_len += len;
	offer_input(l);
}

/* With the descriptor that may come with it. */
static ssize_t receive(struct link *l)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} space;
	struct iovec iov = { l->input, sizeof(l->input) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space.bytes, .msg_controllen = sizeof(space.bytes)
	};
	struct cmsghdr *h;
	ssize_t n;

	if (l->in != l->out)
		return read(l->in, l->input, sizeof(l->input));
	n = recvmsg(l->in, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
		if (l->passed_fd >= 0)
			close(l->passed_fd);
		memcpy(&l->passed_fd, CMSG_DATA(h), sizeof(int));
	}
	return n;
}

static void take_input(struct link *l)
{
	ssize_t n = receive(l);

	if (n > 0) {
		l->input_len = (size_t)n;
		offer_input(l);
	} else if (n == 0 && l->in == 0) {
		/* Nobody types any more; what is said may still be of interest. */
		loop_fd_del(l->in_watch);
		l->in_watch = NULL;
	} else if (n == 0 && l->unread_len) {
		l->ended = true;
		update_events(l);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		link_drop(l);
	}
}

static void link_ready(void *opaque, int fd, uint32_t events)
{
	struct link *l = opaque;

	if (l->dropped)
		return;
	if (events & EPOLLOUT) {
		flush(l);
		offer_input(l);
	}
	if (events & ~(uint32_t)EPOLLOUT && !l->dropped) {
		if (!l->input_len && !l->ended)
			take_input(l);
		else if (events & (EPOLLHUP | EPOLLERR)) /* it has left what it had asked */
			link_drop(l);
	}
}

/* Standard input that is a file is always ready, which epoll refuses to say. */
static void read_file(void *opaque)
{
	struct link *l = opaque;

	if (!l->protocol || l->dropped || l->in != 0)
		return;
	if (!l->input_len && !link_is_slow(l)) {
		ssize_t n = read(0, l->input, 256);

		if (n <= 0)
			return;
		l->input_len = (size_t)n;
	}
	offer_input(l);
	loop_post(l->control->vm->loop, read_file, l);
}

static int watch_link(struct link *l, struct err *err)
{
	struct loop *loop = l->control->vm->loop;

	l->in_events = EPOLLIN;
	if (l->in >= 0)
		l->in_watch = loop_fd_add(loop, l->in, EPOLLIN, link_ready, l, err);
	if (l->in >= 0 && !l->in_watch) {
		if (l->in != 0 || errno != EPERM)
			return -1;
		loop_post(loop, read_file, l);
	}
	/* A file takes all at once. */
	if (l->in != l->out)
		l->out_watch = loop_fd_add(loop, l->out, 0, link_ready, l, err);
	return 0;
}

/* Takes the descriptors if it succeeds. */
static struct link *open_link(struct control *c, const struct control_protocol *p, const struct place *place, int in,
			      int out)
{
	struct link *l = NULL;
	struct err err;

	for (unsigned n = 0; n < LINKS; n++)
		if (!c->links[n].protocol)
			l = &c->links[n];
	if (!l) {
		log_guest("control", "more than %d clients", LINKS);
		return NULL;
	}
	*l = (struct link){ .control = c, .place = place, .in = in, .out = out, .passed_fd = -1 };
	if (watch_link(l, &err)) {
		log_line(LOG_WARN, "control", "%s", err.msg);
		return NULL;
	}
	l->protocol = p;
	l->session = p->open(c->vm, l);
	if (l->session)
		return l;
	loop_fd_del(l->in_watch);
	loop_fd_del(l->out_watch);
	l->protocol = NULL;
	return NULL;
}

struct link *control_terminal(struct control *c, const struct control_protocol *p, bool *fresh)
{
	*fresh = false;
	for (unsigned n = 0; n < LINKS; n++)
		if (c->links[n].protocol == p && c->links[n].in < 0 && !c->links[n].dropped)
			return &c->links[n];
	*fresh = true;
	return open_link(c, p, NULL, -1, 1);
}

/* --- places --- */

bool control_waits(const struct control *c)
{
	for (unsigned n = 0; c && n < c->place_count; n++)
		if (c->places[n].wait)
			return true;
	return false;
}

static void arrived(struct place *p)
{
	bool was = p->wait;

	p->wait = false;
	if (was)
		vm_clients_came(p->control->vm);
}

static void take_client(void *opaque, int fd)
{
	struct place *p = opaque;

	if (open_link(p->control, p->protocol, p, fd, fd))
		arrived(p);
	else
		close(fd);
}

static int listen_at(struct place *p, int fd, struct err *err)
{
	p->fd = fd;
	if (fd >= 0)
		p->accepter = accepter_new(p->control->vm->loop, fd, p->key, take_client, p, err);
	return p->accepter ? 0 : -1;
}

static int connected(struct place *p, int fd, struct err *err)
{
	if (fd < 0)
		return -1;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (open_link(p->control, p->protocol, p, fd, fd))
		return 0;
	close(fd);
	return err_set(err, "%s: too many clients", p->key);
}

/* "fd:N" */
static int open_inherited(struct place *p, const char *number, struct err *err)
{
	int is = 0, on = 0, fd;
	socklen_t len = sizeof(int);
	char *end;

	fd = (int)strtoul(number, &end, 10);
	if (*end || end == number || fd < 3 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &is, &len) || is != SOCK_STREAM)
		return err_set(err, "%s: '%s' is not the number of a socket that was inherited", p->key, number);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	len = sizeof(int);
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len);
	return on ? listen_at(p, fd, err) : connected(p, fd, err);
}

static int open_stdio(struct place *p, struct err *err)
{
	if (terminal_claim(p->control->vm->terminal, p->key, NULL, err))
		return -1;
	return open_link(p->control, p->protocol, p, 0, 1) ? 0 : err_set(err, "%s: stdio cannot be used", p->key);
}

/* What "KEY" says, if it is anything. */
static int open_place(struct control *c, struct place *p, const char *where, bool server, struct err *err)
{
	int fd;

	if (!strcmp(where, "stdio"))
		return open_stdio(p, err);
	if (!strncmp(where, "fd:", 3))
		return open_inherited(p, where + 3, err);
	if (!server)
		return connected(p, sock_connect(p->key, where, err), err);
	fd = sock_listen(p->key, where, err);
	if (fd >= 0)
		p->path = sock_path(where);
	return listen_at(p, fd, err);
}

static int add_place(struct control *c, const struct control_protocol *protocol, const char *key, struct err *err)
{
	struct place *p = &c->places[c->place_count];
	const char *where, *id;
	bool server;
	char sub[32];

	if (c->place_count == PLACES - PROTOCOLS)
		return err_set(err, "%s: at most %u places", key, (unsigned)(PLACES - PROTOCOLS));
	*p = (struct place){ .control = c, .protocol = protocol, .fd = -1 };
	snprintf(p->key, sizeof(p->key), "%s", key);
#define SUB(name) (snprintf(sub, sizeof(sub), "%s." name, key), sub)
	if (config_str(c->vm->config, key, "none", &where, err) ||
	    config_str(c->vm->config, SUB("id"), NULL, &id, err) ||
	    config_bool(c->vm->config, SUB("server"), true, &server, err) ||
	    config_bool(c->vm->config, SUB("wait"), false, &p->wait, err) ||
	    config_bool(c->vm->config, SUB("pretty"), false, &p->pretty, err))
		return -1;
#undef SUB
	if (!strcmp(where, "none"))
		return 0;
	c->place_count++;
	p->wait &= server && strcmp(where, "stdio");
	return open_place(c, p, where, server, err);
}

static int add_rundir_place(struct control *c, const struct control_protocol *protocol, struct err *err)
{
	struct place *p = &c->places[c->place_count++];
	char file[24];

	*p = (struct place){ .control = c, .protocol = protocol, .fd = -1 };
	snprintf(file, sizeof(file), "%s.sock", protocol->name);
	return listen_at(p, rundir_listen(c->vm->rundir, file, err), err);
}

int control_start(struct control *c, struct err *err)
{
	for (size_t k = 0; k < PROTOCOLS; k++)
		if (add_rundir_place(c, protocols[k], err))
			return -1;
	return 0;
}

static int add_places(struct control *c, struct err *err)
{
	for (size_t k = 0; k < PROTOCOLS; k++)
		for (unsigned n = 0;; n++) {
			char key[16];

			snprintf(key, sizeof(key), "%s%u", protocols[k]->name, n);
			if (!config_peek(c->vm->config, key))
				break;
			if (add_place(c, protocols[k], key, err))
				return -1;
		}
	return 0;
}

struct control *control_new(struct vm *vm, struct err *err)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(err, "out of memory");
		return NULL;
	}
	c->vm = vm;
	if (!add_places(c, err))
		return c;
	control_free(c);
	return NULL;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	for (unsigned n = 0; n < LINKS; n++)
		if (c->links[n].protocol)
			close_link(&c->links[n]);
	for (unsigned n = 0; n < c->place_count; n++) {
		struct place *p = &c->places[n];

		accepter_free(p->accepter);
		if (p->fd >= 0)
			close(p->fd);
		if (p->path)
			unlink(p->path);
	}
	free(c);
}
