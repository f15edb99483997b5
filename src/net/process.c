/*
 * See process.h. A socket pair carries a frame a message, with what is left to do to it, both ways.
 * The first message from the process says whether make() has succeeded: a zero, or the error line. Only the first
 * process of all is waited for: make() may take a while (a host that does not answer), and the machine runs.
 */
#include "net/process.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/child.h"
#include "base/identity.h"
#include "base/limit.h"
#include "base/log.h"

#define HEADER	      10u
#define TURN	      64 /* messages before the loop does something else */
#define RESTART_S     1
#define RETRY_S	      2 /* after one that could not begin */
#define MESSAGE_MAX   (HEADER + NET_FRAME_MAX)
#define ANSWER_MS     3000	/* that a process has for a change */
#define SOCKET_BUFFER (1 << 20) /* the kernel gives what it allows */

struct process {
	struct net_peer peer;
	struct net_peer_ops ops;
	struct loop *loop;
	char name[32];
	struct net_peer *(*make)(struct loop *loop, const void *opaque, struct err *err);
	int (*confine)(const void *opaque, struct err *err);
	int (*change)(struct net_peer *peer, const void *opaque, struct err *err);
	void (*print)(const void *opaque, FILE *out);
	void (*end)(void *opaque);
	void *opaque;
	size_t size;
	pid_t pid;
	int fd;	       /* -1: the process has ended */
	bool starting; /* its first message has not come */
	bool told;     /* that none could begin */
	struct loop_fd *watch;
	bool full;    /* send() found no room */
	bool starved; /* `message` waits for the receiver */
	size_t len;
	int timer; /* of the restart */
	struct loop_fd *timer_watch;
	uint8_t message[MESSAGE_MAX];
};

/* --- the messages --- */

/* MSG_CHANGE: to the process, with another configuration in place of a frame, and the socket that is answered on. */
enum { MSG_CHECKSUM = 1, MSG_VALID = 2, MSG_ECN = 4, MSG_CHANGE = 8 };

static void put_header(uint8_t h[HEADER], const struct net_offload *o)
{
	h[0] = (o->checksum ? MSG_CHECKSUM : 0) | (o->valid ? MSG_VALID : 0) | (o->ecn ? MSG_ECN : 0);
	h[1] = (uint8_t)o->gso;
	st_le16(h + 2, o->mss);
	st_le16(h + 4, o->csum_start);
	st_le16(h + 6, o->csum_offset);
	st_le16(h + 8, o->header);
}

/* Neither side believes the other. */
static bool take_header(const uint8_t h[HEADER], struct net_offload *o)
{
	*o = (struct net_offload){
		.checksum = h[0] & MSG_CHECKSUM,
		.valid = h[0] & MSG_VALID,
		.ecn = h[0] & MSG_ECN,
		.gso = (enum net_gso)h[1],
		.mss = ld_le16(h + 2),
		.csum_start = ld_le16(h + 4),
		.csum_offset = ld_le16(h + 6),
		.header = ld_le16(h + 8),
	};
	return net_gso_known(h[1]);
}

/* --- in the new process --- */

struct child {
	struct process *process; /* this one's copy */
	struct net_peer *peer;
	int fd;
	struct loop_fd *watch;
};

static bool child_send(struct child *c, struct iovec *iov, unsigned n)
{
	const struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
	bool sent = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;

	if (!sent && errno != EAGAIN && errno != ENOBUFS)
		_exit(0); /* the machine has ended */
	return sent;
}

static void child_says(struct child *c, const char *text, size_t len)
{
	child_send(c, &(struct iovec){ (void *)text, len }, 1);
}

static bool child_receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	struct child *c = opaque;
	uint8_t header[HEADER];
	struct iovec iov[2] = { { header, HEADER }, { (void *)frame, len } };
	bool sent;

	put_header(header, o);
	sent = child_send(c, iov, 2);
	if (!sent)
		loop_fd_mod(c->watch, EPOLLIN | EPOLLOUT);
	return sent;
}

static void child_changes(struct child *c, const uint8_t *config, size_t len, int answer)
{
	struct process *p = c->process;
	struct err err = { "" };

	if (len != p->size || !p->change) {
		err_set(&err, "%s: this is not its configuration", p->name);
	} else {
		memcpy(p->opaque, config, len);
		p->change(c->peer, p->opaque, &err);
	}
	/* A byte of zero, or the line. */
	send(answer, err.msg, *err.msg ? strlen(err.msg) : 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* As recv(); a descriptor that comes with the message, or -1. */
static ssize_t receive_with(int socket, void *buf, size_t size, int *fd)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr m = { .msg_iov = &(struct iovec){ buf, size },
			    .msg_iovlen = 1,
			    .msg_control = control.space,
			    .msg_controllen = sizeof(control.space) };
	ssize_t n = recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	*fd = -1;
	if (h && h->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(h), sizeof(*fd));
	return n;
}

static void child_event(void *opaque, int fd, uint32_t events)
{
	static uint8_t m[MESSAGE_MAX];
	struct child *c = opaque;
	ssize_t n = 1;
	int answer;

	if (events & EPOLLOUT) {
		loop_fd_mod(c->watch, EPOLLIN);
		if (c->peer->ops->ready)
			c->peer->ops->ready(c->peer);
	}
	for (int turn = 0; turn < TURN && (n = receive_with(fd, m, sizeof(m), &answer)) > 0; turn++) {
		struct net_offload o;

		if ((size_t)n > HEADER && m[0] & MSG_CHANGE)
			child_changes(c, m + HEADER, (size_t)n - HEADER, answer);
		/* The peers here take everything. */
		else if ((size_t)n > HEADER && take_header(m, &o))
			net_send(c->peer, m + HEADER, (size_t)n - HEADER, &o);
		if (answer >= 0)
			close(answer);
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		_exit(0);
}

static struct rlimit files_before;

/* In a program that the network starts, before it begins: descriptors as the machine may have them. */
static void give_files_back(void)
{
	setrlimit(RLIMIT_NOFILE, &files_before);
}

/* The hard limit stays: nobody could give it back. Where calls are filtered, none sets a limit. */
static void limit_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &files_before))
		return;
	r = files_before;
	r.rlim_cur = r.rlim_max < NET_PROCESS_FILES ? r.rlim_max : NET_PROCESS_FILES;
	if (!setrlimit(RLIMIT_NOFILE, &r))
		pthread_atfork(NULL, NULL, give_files_back);
}

static _Noreturn void run_child(struct process *p, int fd, pid_t parent)
{
	struct child c = { .process = p, .fd = 3 };
	char title[16];
	struct err err;
	struct loop *loop;

	snprintf(title, sizeof(title), "vireo:%.9s", p->name);
	child_begin(title, fd, parent);
	limit_memory(NET_PROCESS_MEMORY);
	limit_files();
	limit_set(RLIMIT_CORE, 0);

	loop = loop_new(&err);
	c.peer = loop ? p->make(loop, p->opaque, &err) : NULL;
	/* The machine becomes that later: it has not opened all yet. */
	if (c.peer && identity_take(&err))
		c.peer = NULL;
	c.watch = c.peer ? loop_fd_add(loop, c.fd, EPOLLIN, child_event, &c, &err) : NULL;
	if (!c.watch || (p->confine && p->confine(p->opaque, &err))) {
		child_says(&c, err.msg, strlen(err.msg));
		_exit(1);
	}
	c.peer->receiver = (struct net_receiver){ .receive = child_receive, .opaque = &c };
	c.peer->accepts = UINT_MAX; /* the machine's side knows its guest */
	child_says(&c, "", 1);
	loop_run(loop);
	_exit(0);
}

/* --- in the machine's --- */

static void on_event(void *opaque, int fd, uint32_t events);

/* The end of the process; its status for people in `how`. */
static void bury(struct process *p, char how[static 48])
{
	int status = 0;

	loop_fd_del(p->watch);
	p->watch = NULL;
	close(p->fd);
	p->fd = -1;
	p->starting = false;
	kill(p->pid, SIGKILL);
	waitpid(p->pid, &status, 0);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		snprintf(how, 48, "by a system call that it may not make");
	else if (WIFSIGNALED(status))
		snprintf(how, 48, "by signal %d", WTERMSIG(status));
	else
		snprintf(how, 48, "with status %d", WEXITSTATUS(status));
}

static int spawn(struct process *p, struct err *err)
{
	const int buffer = SOCKET_BUFFER;
	pid_t parent = getpid();
	char how[48];
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return err_errno(err, errno, "%s: socketpair", p->name);
	for (unsigned k = 0; k < 2; k++)
		setsockopt(pair[k], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	p->pid = fork();
	if (p->pid == 0)
		run_child(p, pair[1], parent);
	close(pair[1]);
	if (p->pid < 0) {
		err_errno(err, errno, "%s: fork", p->name);
		close(pair[0]);
		return -1;
	}
	p->fd = pair[0];
	p->starting = true;
	p->watch = loop_fd_add(p->loop, p->fd, EPOLLIN, on_event, p, err);
	if (p->watch)
		return 0;
	bury(p, how);
	return -1;
}

/* The first message, if it is there: a process that cannot begin is buried. */
static int hear(struct process *p, int flags, struct err *err)
{
	char how[48];
	ssize_t n;

	do
		n = recv(p->fd, err->msg, sizeof(err->msg) - 1, flags);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n == 1 && !err->msg[0]) {
		p->starting = p->told = false;
		return 0;
	}
	if (n > 0)
		err->msg[n] = 0;
	else
		err_set(err, "%s: its process has ended", p->name);
	bury(p, how);
	return -1;
}

static void arm(struct process *p, time_t seconds)
{
	const struct itimerspec t = { .it_value.tv_sec = seconds };

	timerfd_settime(p->timer, 0, &t, NULL);
}

static void ended(struct process *p)
{
	bool was_full = p->full;
	char how[48];

	bury(p, how);
	log_guest("net", "%s: its process has ended %s and is started again; connections are lost", p->name, how);
	arm(p, RESTART_S);
	/* What waited for room is lost from now on. */
	p->full = p->starved = false;
	if (was_full && p->peer.receiver.writable)
		p->peer.receiver.writable(p->peer.receiver.opaque);
}

static void not_begun(struct process *p, const struct err *err)
{
	if (!p->told)
		log_line(LOG_ERROR, "net", "%s; the guest is without this network, until that works again", err->msg);
	p->told = true;
	arm(p, RETRY_S);
}

static void on_restart(void *opaque, int fd, uint32_t events)
{
	struct process *p = opaque;
	uint64_t expired;
	struct err err;

	if (read(fd, &expired, sizeof(expired)) >= 0 && p->fd < 0 && spawn(p, &err))
		not_begun(p, &err);
}

/* What to be told of. */
static void update_watch(struct process *p)
{
	if (p->watch)
		loop_fd_mod(p->watch, (p->starved ? 0 : EPOLLIN) | (p->full ? EPOLLOUT : 0u));
}

/* False: the receiver has no room. */
static bool deliver(struct process *p)
{
	struct net_offload o;

	p->starved = take_header(p->message, &o) && !net_deliver(&p->peer, p->message + HEADER, p->len - HEADER, &o);
	return !p->starved;
}

static void take_messages(struct process *p)
{
	for (int turn = 0; turn < TURN; turn++) {
		ssize_t n = recv(p->fd, p->message, MESSAGE_MAX, MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			ended(p);
			return;
		}
		p->len = (size_t)n;
		if ((size_t)n >= HEADER + 14 && (size_t)n <= MESSAGE_MAX && !deliver(p))
			break;
	}
	update_watch(p);
}

static void on_event(void *opaque, int fd, uint32_t events)
{
	struct process *p = opaque;
	struct err err;

	if (p->starting) {
		if (hear(p, MSG_DONTWAIT, &err))
			not_begun(p, &err);
		return;
	}
	if (events & EPOLLOUT && p->full) {
		p->full = false;
		update_watch(p);
		if (p->peer.receiver.writable)
			p->peer.receiver.writable(p->peer.receiver.opaque);
	}
	if (p->fd >= 0 && !p->starved)
		take_messages(p);
	else if (p->fd >= 0 && events & (EPOLLHUP | EPOLLERR))
		ended(p);
}

static bool process_send(struct net_peer *peer, const struct net_packet *k)
{
	struct process *p = (struct process *)peer;
	uint8_t header[HEADER];
	struct iovec iov[1 + NET_PIECES] = { { header, HEADER } };
	const struct msghdr m = { .msg_iov = iov, .msg_iovlen = 1 + k->count };

	if (p->fd < 0 || p->starting)
		return true; /* lost, as on a wire that nobody holds */
	put_header(header, &k->offload);
	memcpy(iov + 1, k->iov, k->count * sizeof(*iov));
	if (sendmsg(p->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
		p->full = true;
		update_watch(p);
		return false;
	}
	return true; /* that it has ended is found out by reading */
}

static void process_ready(struct net_peer *peer)
{
	struct process *p = (struct process *)peer;

	if (p->starved && deliver(p))
		update_watch(p);
}

static void process_print(struct net_peer *peer, FILE *out)
{
	const struct process *p = (struct process *)peer;

	p->print(p->opaque, out);
}

const void *net_process_opaque(const struct net_peer *peer)
{
	return ((const struct process *)peer)->opaque;
}

/* Behind the frames that wait there. `answer` goes with it. */
static int send_change(struct process *p, const void *opaque, int answer, struct err *err)
{
	uint8_t header[HEADER] = { MSG_CHANGE };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .h = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov[2] = { { header, HEADER }, { (void *)opaque, p->size } };
	const struct msghdr m = {
		.msg_iov = iov, .msg_iovlen = 2, .msg_control = control.space, .msg_controllen = sizeof(control.space)
	};

	memcpy(CMSG_DATA(&control.h), &answer, sizeof(answer));
	if (poll(&(struct pollfd){ p->fd, POLLOUT, 0 }, 1, ANSWER_MS) > 0 &&
	    sendmsg(p->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	return err_set(err, "%s: its process takes nothing now", p->name);
}

static int hear_answer(const struct process *p, int fd, struct err *err)
{
	ssize_t n = -1;

	if (poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, ANSWER_MS) > 0)
		n = recv(fd, err->msg, sizeof(err->msg) - 1, MSG_DONTWAIT);
	if (n == 1 && !err->msg[0])
		return 0;
	if (n <= 0)
		return err_set(err, "%s: its process %s", p->name, n ? "does not answer" : "has ended");
	err->msg[n] = 0;
	return -1;
}

int net_process_change(struct net_peer *peer, const void *opaque, struct err *err)
{
	struct process *p = (struct process *)peer;
	int pair[2], rc;

	if (p->fd < 0 || p->starting)
		return err_set(err, "%s: its process is just being started", p->name);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return err_errno(err, errno, "%s: socketpair", p->name);
	rc = send_change(p, opaque, pair[1], err);
	close(pair[1]);
	if (!rc)
		rc = hear_answer(p, pair[0], err);
	close(pair[0]);
	if (!rc)
		memcpy(p->opaque, opaque, p->size);
	return rc;
}

static void process_destroy(struct net_peer *peer)
{
	struct process *p = (struct process *)peer;
	char how[48];

	if (p->fd >= 0)
		bury(p, how);
	loop_fd_del(p->timer_watch);
	if (p->timer >= 0)
		close(p->timer);
	if (p->end)
		p->end(p->opaque);
	free(p->opaque);
	free(p);
}

struct net_peer *net_process_new(struct loop *loop, const struct net_process_config *c, struct err *err)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	p->ops = (struct net_peer_ops){ .name = c->name,
					.send = process_send,
					.ready = process_ready,
					.print = c->print ? process_print : NULL,
					.destroy = process_destroy };
	p->peer.ops = &p->ops;
	p->loop = loop;
	p->fd = -1;
	p->make = c->make;
	p->confine = c->confine;
	p->change = c->change;
	p->size = c->size;
	p->print = c->print;
	snprintf(p->name, sizeof(p->name), "%s", c->name);
	p->ops.name = p->name;
	p->opaque = malloc(c->size);
	p->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (!p->opaque || p->timer < 0) {
		err_errno(err, errno, "%s", p->name);
		goto fail;
	}
	memcpy(p->opaque, c->opaque, c->size);
	p->timer_watch = loop_fd_add(loop, p->timer, EPOLLIN, on_restart, p, err);
	if (p->timer_watch && !spawn(p, err) && !hear(p, 0, err)) {
		p->end = c->end;
		return &p->peer;
	}
fail:
	process_destroy(&p->peer);
	return NULL;
}
