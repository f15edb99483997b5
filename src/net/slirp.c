/* libslirp in the loop thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <libslirp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "net/fragment.h"
#include "net/user.h"

#define MTU	  1500
#define WHOLE_MTU 65521 /* the most that the library takes */
/*
 * Sockets of the host that the guest can hold: connections of TCP, each with up to 256 KiB of buffers, beyond which new
 * ones are lost; and those of datagrams and pings, of which the longest unused give way.
 */
#define CONNECTIONS 512
#define DATAGRAMS   256
#define INCOMING    512 /* by forwarded ports; others wait at the port. They take nothing from the guest's own */
#define POLL_MAX    (CONNECTIONS + DATAGRAMS + INCOMING + NET_FORWARDS + 64)
#define UNUSED_MS   240000 /* after which the library closes a socket of datagrams */
/* Between looks for connections that have ended, while they are many. */
#define RELEASE_INCOMING_MS 100
#define RELEASE_MS	    20 /* by the guest's own, which come one behind the other */

struct timer {
	struct user *user;
	struct timer *next;
	SlirpTimerCb fn;
	void *opaque;
	int64_t deadline_ms; /* -1: not armed */
};

/* Whose a socket is. Datagrams of all who send some come by their port's own. */
enum whose { OF_GUEST, GUEST_DATAGRAMS, OF_OTHERS, TCP_PORT, UDP_PORT, KINDS };

/* What is known of a file descriptor, by its number. */
struct watch {
	bool open; /* one of slirp's */
	enum whose whose;
	unsigned port;	       /* unless it is the guest's: of the forwarded ones, by its number */
	uint32_t events;       /* in the epoll set; 0: it is not there */
	uint32_t wanted;       /* in the round of the poll set that is being made */
	unsigned polled;       /* where it is in the poll set, if it is */
	struct user_flow flow; /* of a connection; zeros: not known */
};

struct user {
	struct net_peer peer;
	struct loop *loop;
	struct loop_hook hook;
	/*
	 * The library closes sockets of datagrams by the clock alone, which no connection must see jump: it is there
	 * twice.
	 */
	Slirp *slirp, *datagrams;
	int64_t ahead_ms; /* the clock of `datagrams` */
	struct user_limit connection_limit, datagram_limit;
	struct timer *timers;
	/* slirp's poll set; the sleep is in an epoll set of the same descriptors, which the loop watches */
	struct pollfd polls[POLL_MAX];
	unsigned count;
	int watched[POLL_MAX]; /* what is in the epoll set */
	unsigned watched_count;
	struct watch *watches; /* by descriptor */
	unsigned watches_size, sockets[KINDS];
	struct in_addr host; /* this one, as the guest knows it */
	struct net_forward forwards[NET_FORWARDS];
	unsigned forward_count;
	/* By forwarded ports of TCP: what each has for itself, what is for whoever comes, and what each has now. */
	unsigned incoming_own, incoming_shared, incoming[NET_FORWARDS];
	int64_t released_ms; /* when those that have ended were looked for */
	int epoll;
	struct loop_fd *watch;
	struct user_queue *queue;
	struct user_pipe *pipes[NET_GUEST_FORWARDS];
	unsigned pipe_count;
	const struct user_flow *syn; /* that the frame begins which the library is looking at, or NULL */
	int last_flow;		     /* the descriptor that was found last */
	/* The library's own reassembly mixes up its buffers, and it knows no fragments of IPv6. */
	struct fragments *fragments;
	unsigned mtu; /* of what goes to the guest */
	uint32_t fragment_id;
};

static int64_t now_ns(void *opaque)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int64_t now_ms(void)
{
	return now_ns(NULL) / 1000000;
}

/* --- what slirp sends and says --- */

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
	const struct user *u = opaque;

	user_queue_add(u->queue, buf, len);
	return (ssize_t)len;
}

static void send_piece(void *opaque, const uint8_t *frame, size_t len)
{
	send_packet(frame, len, opaque);
}

/* Datagrams are whole to the library. What it is asked about the network itself it answers once. */
static ssize_t send_datagram(const void *buf, size_t len, void *opaque)
{
	struct user *u = opaque;

	if (!user_frame_answers_neighbor(buf, len))
		fragments_cut(buf, len, u->mtu, u->fragment_id++, send_piece, u);
	return (ssize_t)len;
}

static void guest_error(const char *msg, void *opaque)
{
	log_guest("net", "user network: %s", msg);
}

/* The library's own warnings: a guest can cause them without end. */
static void library_log(const char *domain, GLogLevelFlags level, const char *msg, void *opaque)
{
	log_guest("net", "user network: %s", msg);
}

/* --- timers --- */

static void *timer_new(SlirpTimerCb fn, void *cb_opaque, void *opaque)
{
	struct user *u = opaque;
	struct timer *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	*t = (struct timer){ u, u->timers, fn, cb_opaque, -1 };
	u->timers = t;
	return t;
}

static void timer_free(void *timer, void *opaque)
{
	struct user *u = opaque;

	for (struct timer **t = &u->timers; *t; t = &(*t)->next) {
		if (*t == timer) {
			*t = (*t)->next;
			break;
		}
	}
	free(timer);
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	((struct timer *)timer)->deadline_ms = expire_ms;
}

/* That of `datagrams` makes the router known, which it is. */
static void timer_never(void *timer, int64_t expire_ms, void *opaque)
{
}

static void run_timers(struct user *u)
{
	int64_t now = now_ms();

	for (struct timer *t = u->timers, *next; t; t = next) {
		next = t->next;
		if (t->deadline_ms >= 0 && t->deadline_ms <= now) {
			t->deadline_ms = -1;
			t->fn(t->opaque);
		}
	}
}

/* --- slirp's descriptors --- */

static struct watch *watch_of(struct user *u, int fd)
{
	unsigned size = u->watches_size;
	struct watch *more;

	if (fd < 0)
		return NULL;
	while ((unsigned)fd >= size)
		size = size ? size * 2 : 64;
	if (size != u->watches_size) {
		more = realloc(u->watches, size * sizeof(*more));
		if (!more)
			return NULL;
		memset(more + u->watches_size, 0, (size - u->watches_size) * sizeof(*more));
		u->watches = more;
		u->watches_size = size;
	}
	return &u->watches[fd];
}

/* What somebody has opened by a forwarded port has that port at this end, as the port's own socket has. */
static enum whose whose(const struct user *u, int fd, unsigned *port)
{
	struct sockaddr_in at;
	socklen_t len = sizeof(at), size = sizeof(int);
	int type = 0, listens = 0;
	enum whose guest;

	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
	guest = type == SOCK_STREAM ? OF_GUEST : GUEST_DATAGRAMS;
	if (!u->forward_count || getsockname(fd, (struct sockaddr *)&at, &len) || at.sin_family != AF_INET ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size))
		return guest;
	for (*port = 0; *port < u->forward_count; ++*port) {
		const struct net_forward *f = &u->forwards[*port];

		if (f->guest_port && f->udp == (type == SOCK_DGRAM) && f->host_port == ntohs(at.sin_port) &&
		    (!f->host.s_addr || f->host.s_addr == at.sin_addr.s_addr))
			return type == SOCK_DGRAM ? UDP_PORT : listens ? TCP_PORT : OF_OTHERS;
	}
	return guest;
}

/* The connection that has come in, as the guest sees it. */
static void incoming_flow(const struct user *u, int fd, struct watch *w)
{
	const struct net_forward *f = &u->forwards[w->port];
	struct sockaddr_in peer;

	if (getpeername(fd, (struct sockaddr *)&peer, &(socklen_t){ sizeof(peer) }))
		return;
	if (ntohl(peer.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET)
		peer.sin_addr = u->host;
	user_flow_set(&w->flow, f->guest, f->guest_port, &peer);
}

static void count(struct user *u, const struct watch *w, int change)
{
	u->sockets[w->whose] += (unsigned)change;
	if (w->whose == OF_OTHERS)
		u->incoming[w->port] += (unsigned)change;
}

/*
 * Half of what may come in is divided among the ports of TCP, the other half is for whoever comes: no port takes all
 * from another.
 */
static bool may_come(const struct user *u, unsigned port)
{
	unsigned beyond = 0;

	if (u->incoming[port] < u->incoming_own)
		return true;
	for (unsigned n = 0; n < u->forward_count; n++)
		if (u->incoming[n] > u->incoming_own)
			beyond += u->incoming[n] - u->incoming_own;
	return beyond < u->incoming_shared;
}

/* slirp tells of sockets that it opens, though not of all: the others are seen when they are polled. */
static void opened(int fd, void *opaque)
{
	struct user *u = opaque;
	struct watch *w = watch_of(u, fd);

	if (w && !w->open) {
		w->open = true;
		w->whose = whose(u, fd, &w->port);
		if (w->whose == OF_OTHERS)
			incoming_flow(u, fd, w);
		else if (u->syn)
			w->flow = *u->syn;
		/*
		 * The library lets one wait, and the kernel drops what those who come beside it send: some begin again
		 * after a second, others believe that they are connected and never hear of anybody (SYN cookies).
		 */
		if (w->whose == TCP_PORT)
			listen(fd, INCOMING);
		count(u, w, 1);
	}
}

static void closing(int fd, void *opaque)
{
	struct user *u = opaque;
	struct watch *w = watch_of(u, fd);

	if (!w || !w->open)
		return;
	if (w->events)
		epoll_ctl(u->epoll, EPOLL_CTL_DEL, fd, NULL);
	count(u, w, -1);
	*w = (struct watch){ 0 };
}

static void nothing(void *opaque)
{
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = now_ns,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = opened,
	.unregister_poll_fd = closing,
	.notify = nothing,
};

static int64_t datagram_clock(void *opaque)
{
	const struct user *u = opaque;

	return now_ns(NULL) + u->ahead_ms * 1000000;
}

static const SlirpCb datagram_callbacks = {
	.send_packet = send_datagram,
	.guest_error = guest_error,
	.clock_get_ns = datagram_clock,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_never,
	.register_poll_fd = opened,
	.unregister_poll_fd = closing,
	.notify = nothing,
};

/* --- the poll set --- */

static int add_poll(int fd, int events, void *opaque)
{
	struct user *u = opaque;
	short e = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
			  (events & SLIRP_POLL_PRI ? POLLPRI : 0));
	struct watch *w = watch_of(u, fd);

	if (u->count == POLL_MAX || !w)
		return -1;
	opened(fd, u);
	/* Whoever comes now waits until another one has gone. */
	if (w->whose == TCP_PORT && !may_come(u, w->port))
		return -1;
	w->wanted |= (uint32_t)e;
	w->polled = u->count;
	u->polls[u->count] = (struct pollfd){ .fd = fd, .events = e };
	return (int)u->count++;
}

/* Where it is already. */
static int same_poll(int fd, int events, void *opaque)
{
	const struct user *u = opaque;
	const struct watch *w = (unsigned)fd < u->watches_size ? &u->watches[fd] : NULL;

	return w && w->polled < u->count && u->polls[w->polled].fd == fd ? (int)w->polled : -1;
}

static int get_revents(int index, void *opaque)
{
	struct user *u = opaque;
	short r = index >= 0 && (unsigned)index < u->count ? u->polls[index].revents : 0;

	return (r & POLLIN ? SLIRP_POLL_IN : 0) | (r & POLLOUT ? SLIRP_POLL_OUT : 0) |
	       (r & POLLPRI ? SLIRP_POLL_PRI : 0) | (r & POLLERR ? SLIRP_POLL_ERR : 0) |
	       (r & POLLHUP ? SLIRP_POLL_HUP : 0);
}

static void set_events(struct user *u, int fd, uint32_t events)
{
	struct watch *w = &u->watches[fd];
	struct epoll_event e = { .events = events, .data.fd = fd };

	if (w->events != events && !epoll_ctl(u->epoll,
					      !events	  ? EPOLL_CTL_DEL
					      : w->events ? EPOLL_CTL_MOD
							  : EPOLL_CTL_ADD,
					      fd, &e))
		w->events = events;
}

/* The epoll set becomes what slirp has asked for: a call for each change only. */
static void update_epoll(struct user *u)
{
	for (unsigned n = 0; n < u->watched_count; n++)
		if (!u->watches[u->watched[n]].wanted)
			set_events(u, u->watched[n], 0);
	u->watched_count = 0;
	for (unsigned n = 0; n < u->count; n++) {
		struct watch *w = &u->watches[u->polls[n].fd];

		if (!w->wanted)
			continue;
		set_events(u, u->polls[n].fd, w->wanted);
		w->wanted = 0;
		u->watched[u->watched_count++] = u->polls[n].fd;
	}
}

/* --- what makes room --- */

/*
 * The library keeps what both sides have ended for ten seconds, with its descriptor and buffers, when the guest was the
 * second to end it. A reset ends that at once; the guest does not see it. Of two numbers that are half of all apart one
 * is of the past, which a reset must be.
 */
static void release(void *opaque, unsigned fd)
{
	static const struct user_flow none;
	struct user *u = opaque;
	uint8_t f[USER_FRAME_RESET];

	for (uint32_t k = 0; k < 2 && fd < u->watches_size; k++) {
		const struct watch *w = &u->watches[fd];

		if (w->open && memcmp(&w->flow, &none, sizeof(none)))
			slirp_input(u->slirp, f, (int)user_frame_reset(f, &w->flow, k << 31));
	}
}

static void release_ended(struct user *u)
{
	user_each_ended(u->slirp, release, u);
	u->released_ms = now_ms();
}

/* Closes what has been unused for so long, of all the sockets of datagrams. */
static void close_unused(struct user *u, int64_t ms)
{
	uint32_t timeout = 0;

	u->ahead_ms = UNUSED_MS - ms;
	slirp_pollfds_poll(u->datagrams, 1, get_revents, u);
	slirp_pollfds_fill(u->datagrams, &timeout, same_poll, u);
}

/* Whether there is room for one more connection of the guest's. */
static bool connection_fits(struct user *u)
{
	if (u->sockets[OF_GUEST] > CONNECTIONS / 2 && now_ms() - u->released_ms >= RELEASE_MS)
		release_ended(u);
	if (u->sockets[OF_GUEST] < CONNECTIONS)
		return true;
	user_limit_met(&u->connection_limit, now_ms(),
		       "the guest has as many connections of TCP open as it may; what would open further "
		       "ones is dropped, until some end");
	return false;
}

/* The same for datagrams, which may be of a flow that is there. The longest unused give way, some at a time. */
static bool datagram_fits(struct user *u)
{
	if (u->sockets[GUEST_DATAGRAMS] < DATAGRAMS)
		return true;
	for (int64_t ms = UNUSED_MS; ms && u->sockets[GUEST_DATAGRAMS] == DATAGRAMS; ms = ms * 3 / 4)
		close_unused(u, ms);
	close_unused(u, UNUSED_MS); /* the clock is right again */
	user_limit_met(&u->datagram_limit, now_ms(),
		       "the guest sends datagrams by as many ports as it may; those that it has not used for the "
		       "longest get no answers any more");
	return u->sockets[GUEST_DATAGRAMS] < DATAGRAMS;
}

/* Before each sleep: what slirp waits for now, in the epoll set. */
static void prepare(void *opaque, int *timeout_ms)
{
	struct user *u = opaque;
	int64_t now = now_ms();
	uint32_t timeout = *timeout_ms < 0 ? 60000 : (uint32_t)*timeout_ms;

	u->count = 0;
	if (u->sockets[OF_OTHERS] > u->incoming_shared / 2) {
		if (now - u->released_ms >= RELEASE_INCOMING_MS)
			release_ended(u);
		if (timeout > RELEASE_INCOMING_MS)
			timeout = RELEASE_INCOMING_MS;
	}
	for (unsigned n = 0; n < u->pipe_count; n++)
		user_pipe_watch(u->pipes[n]);
	user_limit_over(&u->connection_limit, now, "the guest's connections of TCP are fewer than it may have again");
	user_limit_over(&u->datagram_limit, now, "the guest's datagrams need no more ports than it may have again");
	slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
	slirp_pollfds_fill(u->datagrams, &timeout, add_poll, u);
	update_epoll(u);
	for (struct timer *t = u->timers; t; t = t->next)
		if (t->deadline_ms >= 0 && t->deadline_ms - now < timeout)
			timeout = t->deadline_ms > now ? (uint32_t)(t->deadline_ms - now) : 0;
	*timeout_ms = (int)timeout;
}

static void ready(void *opaque)
{
	struct user *u = opaque;
	int rc = poll(u->polls, u->count, 0);

	slirp_pollfds_poll(u->slirp, rc < 0, get_revents, u);
	slirp_pollfds_poll(u->datagrams, rc < 0, get_revents, u);
	run_timers(u);
}

/* ready() follows each wake-up; this only makes the loop wake. */
static void woken(void *opaque, int fd, uint32_t events)
{
}

/* --- the peer --- */

/* The descriptor of the connection that a segment is of, or -1. */
static int find_flow(struct user *u, const uint8_t *f, size_t len)
{
	struct user_flow flow;

	if (!user_frame_flow(&flow, f, len))
		return -1;
	if ((unsigned)u->last_flow < u->watches_size && !memcmp(&u->watches[u->last_flow].flow, &flow, sizeof(flow)))
		return u->last_flow;
	for (unsigned fd = 0; fd < u->watches_size; fd++)
		if (!memcmp(&u->watches[fd].flow, &flow, sizeof(flow)))
			return u->last_flow = (int)fd;
	return -1;
}

static void input(void *opaque, const uint8_t *frame, size_t len)
{
	struct user *u = opaque;
	enum user_frame_kind kind;
	struct user_flow flow;

	if (fragment_is(frame, len)) {
		frame = fragments_add(u->fragments, frame, len, now_ms(), &len);
		if (!frame)
			return;
	}
	kind = user_frame_kind(frame, len);
	if ((kind == USER_FRAME_SYN && !connection_fits(u)) || (kind == USER_FRAME_DATAGRAM && !datagram_fits(u)))
		return;
	if (kind == USER_FRAME_DATAGRAM || kind == USER_FRAME_NEIGHBOR)
		slirp_input(u->datagrams, frame, (int)len);
	if (kind == USER_FRAME_DATAGRAM)
		return;
	u->syn = kind == USER_FRAME_SYN && user_frame_flow(&flow, frame, len) ? &flow : NULL;
	slirp_input(u->slirp, frame, (int)len);
	u->syn = NULL;
}

/* While on, the host's kernel keeps what is no full segment of its own until there is more. */
static void cork(int fd, int on)
{
	if (fd >= 0)
		setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
}

static bool user_send(struct net_peer *p, const struct net_packet *k)
{
	static uint8_t buf[NET_FRAME_MAX];
	struct user *u = (struct user *)p;
	const uint8_t *frame = net_flat(k, buf);
	struct net_offload o = k->offload;
	int fd = -1;

	/*
	 * A segment of TCP ends here, whatever its size: one of 64 KiB costs the library as much as one of 1460 bytes.
	 * It has its own length in the header, as it would travel whole. Over IPv6 the library answers that a packet
	 * is too big when it is larger than its MTU, so it gets pieces, and makes a call for each: the host sends them
	 * together.
	 */
	if (o.gso == NET_GSO_TCP4)
		o.gso = NET_GSO_NONE;
	else if (o.gso == NET_GSO_TCP6)
		fd = find_flow(u, frame, k->len);
	cork(fd, 1);
	net_segment(frame, k->len, &o, input, u);
	cork(fd, 0);
	return true;
}

static void user_ready(struct net_peer *p)
{
	user_queue_drain(((struct user *)p)->queue);
}

static void destroy(struct net_peer *p)
{
	struct user *u = (struct user *)p;

	/* No descriptor is left in the epoll set: all are closed. */
	if (u->slirp)
		slirp_cleanup(u->slirp);
	if (u->datagrams)
		slirp_cleanup(u->datagrams);
	for (unsigned n = 0; n < u->pipe_count; n++)
		user_pipe_free(u->pipes[n]);
	free(u->watches);
	fragments_free(u->fragments);
	if (u->watch) {
		loop_hook_del(u->loop, &u->hook);
		loop_fd_del(u->watch);
	}
	if (u->epoll >= 0)
		close(u->epoll);
	user_queue_free(u->queue);
	free(u);
}

static const struct net_peer_ops ops = { .name = "user", .send = user_send, .ready = user_ready, .destroy = destroy };

/* Where there are few descriptors, what others open leaves the guest its share. */
static unsigned incoming_max(void)
{
	const unsigned others = CONNECTIONS + DATAGRAMS + NET_FORWARDS + 64;
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur >= INCOMING + others)
		return INCOMING;
	return files.rlim_cur > others + 16 ? (unsigned)files.rlim_cur - others : 16;
}

/* Whose all sockets are, and what each port may have, with the forwarded ports of now. */
static void share_out(struct user *u)
{
	unsigned most = incoming_max(), ports = 0;

	for (unsigned n = 0; n < u->forward_count; n++)
		ports += u->forwards[n].guest_port && !u->forwards[n].udp;
	memset(u->sockets, 0, sizeof(u->sockets));
	memset(u->incoming, 0, sizeof(u->incoming));
	for (unsigned fd = 0; fd < u->watches_size; fd++) {
		struct watch *w = &u->watches[fd];

		if (!w->open)
			continue;
		/* Some were told of before they had their port; who has come by one that is gone has its place. */
		if (w->whose != OF_OTHERS)
			w->whose = whose(u, (int)fd, &w->port);
		count(u, w, 1);
	}
	u->incoming_own = ports ? most / 2 / ports : 0;
	u->incoming_shared = most - ports * u->incoming_own;
}

static Slirp *instance(const struct user *u, const struct net_forward *f)
{
	return f->udp ? u->datagrams : u->slirp;
}

static int add_forward(struct user *u, const struct net_forward *f, const char *name, struct err *err)
{
	if (!slirp_add_hostfwd(instance(u, f), f->udp, f->host, f->host_port, f->guest, f->guest_port))
		return 0;
	return net_user_refused(f, name, errno, err);
}

static void remove_forward(struct user *u, struct net_forward *f)
{
	if (f->guest_port)
		slirp_remove_hostfwd(instance(u, f), f->udp, f->host, f->host_port);
	*f = (struct net_forward){ 0 };
}

static bool same_forward(const struct net_forward *a, const struct net_forward *b)
{
	return a->udp == b->udp && a->host.s_addr == b->host.s_addr && a->host_port == b->host_port &&
	       a->guest.s_addr == b->guest.s_addr && a->guest_port == b->guest_port;
}

/* A place at a time: what goes makes room for what comes. */
static int change_forwards(struct user *u, const struct net_user_config *c, struct err *err)
{
	int rc = 0;

	for (unsigned n = 0; n < NET_FORWARDS; n++)
		if (!same_forward(&u->forwards[n], &c->forward[n]))
			remove_forward(u, &u->forwards[n]);
	for (unsigned n = 0; n < c->count && !rc; n++) {
		if (!c->forward[n].guest_port || u->forwards[n].guest_port)
			continue;
		rc = add_forward(u, &c->forward[n], c->name, err);
		if (!rc)
			u->forwards[n] = c->forward[n];
	}
	u->forward_count = c->count;
	share_out(u);
	return rc;
}

int net_slirp_change(struct net_peer *peer, const struct net_user_config *c, struct err *err)
{
	return change_forwards((struct user *)peer, c, err);
}

static int add_guest_forwards(struct user *u, const struct net_user_config *c, struct err *err)
{
	for (unsigned n = 0; n < c->guest_count; n++) {
		const struct net_guest_forward *f = &c->guest_forward[n];
		struct in_addr addr = f->addr;
		char key[64];
		int rc;

		snprintf(key, sizeof(key), "%s.guestfwd%u", c->name, n);
		if (f->kind == NET_TO_TCP) {
			u->pipes[u->pipe_count] = user_pipe_new(u->loop, u->slirp, f, key, err);
			if (!u->pipes[u->pipe_count++])
				return -1;
		}
		rc = f->kind == NET_TO_COMMAND ? slirp_add_exec(u->slirp, f->where, &addr, f->port)
		     : f->kind == NET_TO_UNIX  ? slirp_add_unix(u->slirp, f->where, &addr, f->port)
					       : slirp_add_guestfwd(u->slirp, user_pipe_write,
								    u->pipes[u->pipe_count - 1], &addr, f->port);
		if (rc < 0)
			return err_set(err, "%s: port %u of %s is taken, or not in the guest's network", key, f->port,
				       inet_ntoa(f->addr));
	}
	return 0;
}

static const char *or_null(const char *text)
{
	return *text ? text : NULL;
}

struct net_peer *net_slirp_new(struct loop *loop, const struct net_user_config *c, struct err *err)
{
	struct user *u = calloc(1, sizeof(*u));
	const char *search[NET_SEARCH + 1] = { NULL };
	SlirpConfig cfg = {
		.version = 4,
		.restricted = c->restricted,
		.in_enabled = c->ipv4,
		.vnetwork = c->net,
		.vnetmask = c->mask,
		.vhost = c->host,
		.vdhcp_start = c->dhcp,
		.vnameserver = c->dns,
		.in6_enabled = c->ipv6,
		.vprefix_addr6 = c->prefix6,
		.vprefix_len = c->prefix6_length,
		.vhost6 = c->host6,
		.vnameserver6 = c->dns6,
		.vhostname = or_null(c->hostname),
		.vdomainname = or_null(c->domain),
		.vdnssearch = c->search_count ? search : NULL,
		.tftp_server_name = or_null(c->tftp_server),
		.tftp_path = or_null(c->tftp),
		.bootfile = or_null(c->bootfile),
		/* Packets of no more than 1500 bytes by itself, and of less if the guest has a card that takes less. */
		.if_mtu = c->mtu < MTU ? c->mtu : 0,
	};

	for (unsigned n = 0; n < c->search_count; n++)
		search[n] = c->search + c->search_at[n];
	if (!u) {
		err_set(err, "out of memory");
		return NULL;
	}
	u->peer.ops = &ops;
	u->loop = loop;
	u->host = c->host;
	u->queue = user_queue_new(loop, &u->peer);
	u->epoll = epoll_create1(EPOLL_CLOEXEC);
	u->fragments = fragments_new();
	g_log_set_handler("Slirp", G_LOG_LEVEL_WARNING | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_MESSAGE, library_log, NULL);
	u->slirp = slirp_new(&cfg, &callbacks, u);
	u->mtu = cfg.if_mtu ? c->mtu : MTU;
	cfg.if_mtu = WHOLE_MTU;
	u->datagrams = slirp_new(&cfg, &datagram_callbacks, u);
	if (!u->slirp || !u->datagrams || u->epoll < 0 || !u->fragments || !u->queue) {
		err_set(err, "%s: the user-mode network cannot start", c->name);
		goto fail;
	}
	if (change_forwards(u, c, err) || add_guest_forwards(u, c, err))
		goto fail;
	u->watch = loop_fd_add(loop, u->epoll, EPOLLIN, woken, u, err);
	if (!u->watch)
		goto fail;
	u->hook = (struct loop_hook){ prepare, ready, u, NULL };
	loop_hook_add(loop, &u->hook);
	return &u->peer;
fail:
	destroy(&u->peer);
	return NULL;
}
