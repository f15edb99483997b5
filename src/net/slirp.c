/* libslirp in the loop thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <libslirp.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "net/fragment.h"
#include "net/user.h"

#define MTU	  1500
#define QUEUE_MAX 256 /* frames that wait for the guest's buffers */
/*
 * Sockets of the host that the guest can hold, each with up to 256 KiB of buffers. Beyond the first number new TCP
 * connections and pings are lost, beyond the second all datagrams.
 */
#define SOCKETS_TCP 512
#define SOCKETS_MAX 640
#define INCOMING    512 /* by forwarded ports; others wait at the port. They take nothing from the guest's own */
#define RELEASE_MS  100 /* between looks for those of them that have ended, while they are many */
#define POLL_MAX    (SOCKETS_MAX + INCOMING + NET_FORWARDS + 64)

struct frame {
	struct frame *next;
	size_t len;
	uint8_t data[];
};

struct timer {
	struct user *user;
	struct timer *next;
	SlirpTimerCb fn;
	void *opaque;
	int64_t deadline_ms; /* -1: not armed */
};

/* Whose a socket is. Datagrams of all who send some come by their port's own. */
enum whose { OF_GUEST, OF_OTHERS, TCP_PORT, UDP_PORT, KINDS };

/* What is known of a file descriptor, by its number. */
struct watch {
	bool open; /* one of slirp's */
	enum whose whose;
	unsigned port;		       /* unless it is the guest's: of the forwarded ones, by its number */
	struct sockaddr_in peer;       /* who has come by it */
	uint32_t events;	       /* in the epoll set; 0: it is not there */
	uint32_t wanted;	       /* in the round of the poll set that is being made */
	uint8_t flow[USER_FRAME_FLOW]; /* of a connection of the guest's over IPv6; zeros: none */
};

struct user {
	struct net_peer peer;
	struct loop *loop;
	struct loop_hook hook;
	Slirp *slirp;
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
	int64_t release_ms; /* when those that have ended are looked for again */
	int epoll;
	struct loop_fd *watch;
	struct frame *first, **last;
	unsigned queued;
	struct user_pipe *pipes[NET_GUEST_FORWARDS];
	unsigned pipe_count;
	const uint8_t *syn;	     /* the flow that the frame begins which the library is looking at, or NULL */
	int last_flow;		     /* the descriptor that was found last */
	struct fragments *fragments; /* the library's own reassembly mixes up its buffers */
};

static int64_t now_ns(void *opaque)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* --- frames to the guest --- */

static void drain_queue(struct user *u)
{
	/* The library makes or verifies all checksums. */
	static const struct net_offload complete = { .valid = true };

	while (u->first && net_deliver(&u->peer, u->first->data, u->first->len, &complete)) {
		struct frame *f = u->first;

		u->first = f->next;
		if (!u->first)
			u->last = &u->first;
		u->queued--;
		free(f);
	}
}

static void deliver(void *opaque)
{
	drain_queue(opaque);
}

/* Never straight to the receiver: this may be the answer to a frame that it is just sending. */
static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
	struct user *u = opaque;
	struct frame *f;

	/* The first one may be on its way. */
	f = u->queued > 1 ? container_of(u->last, struct frame, next) : NULL;
	if (f && user_frame_supersedes(buf, len, f->data, f->len)) {
		memcpy(f->data, buf, len);
		return (ssize_t)len;
	}
	/* A network loses what there is no room for. */
	if (u->queued == QUEUE_MAX)
		return (ssize_t)len;
	f = malloc(sizeof(*f) + len);
	if (!f)
		return (ssize_t)len;
	if (!u->first)
		loop_post(u->loop, deliver, u);
	f->next = NULL;
	f->len = len;
	memcpy(f->data, buf, len);
	*u->last = f;
	u->last = &f->next;
	u->queued++;
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

static void run_timers(struct user *u)
{
	int64_t now = now_ns(NULL) / 1000000;

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

	if (!u->forward_count || getsockname(fd, (struct sockaddr *)&at, &len) || at.sin_family != AF_INET ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size))
		return OF_GUEST;
	for (*port = 0; *port < u->forward_count; ++*port) {
		const struct net_forward *f = &u->forwards[*port];

		if (f->udp == (type == SOCK_DGRAM) && f->host_port == ntohs(at.sin_port) &&
		    (!f->host.s_addr || f->host.s_addr == at.sin_addr.s_addr))
			return type == SOCK_DGRAM ? UDP_PORT : listens ? TCP_PORT : OF_OTHERS;
	}
	return OF_GUEST;
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
			getpeername(fd, (struct sockaddr *)&w->peer, &(socklen_t){ sizeof(w->peer) });
		if (ntohl(w->peer.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET)
			w->peer.sin_addr = u->host;
		/*
		 * The library lets one wait, and the kernel drops what those who come beside it send: some begin again
		 * after a second, others believe that they are connected and never hear of anybody (SYN cookies).
		 */
		if (w->whose == TCP_PORT)
			listen(fd, INCOMING);
		if (u->syn)
			memcpy(w->flow, u->syn, USER_FRAME_FLOW);
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
	u->polls[u->count] = (struct pollfd){ .fd = fd, .events = e };
	return (int)u->count++;
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

/* --- connections that have ended --- */

/*
 * The library keeps what both sides have ended for ten seconds, with its descriptor and buffers (TIME_WAIT). Where
 * others may need the room a reset ends that at once; the guest does not see it. Only the library's text tells the
 * states. Of two numbers that are half of all apart one is of the past, which a reset must be.
 */
static void release_ended(struct user *u)
{
	char *text = slirp_connection_info(u->slirp), address[16];
	unsigned fd, received, sent;
	uint8_t f[USER_FRAME_RESET];
	struct in_addr guest;
	uint16_t port;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		const struct watch *w;

		line += *line == '\n';
		if (sscanf(line, " TCP[TIME_WAIT] %u %*s %*u %15s %hu %u %u", &fd, address, &port, &received, &sent) !=
			    5 ||
		    fd >= u->watches_size || !u->watches[fd].peer.sin_port || received || sent ||
		    !inet_aton(address, &guest))
			continue;
		w = &u->watches[fd];
		for (uint32_t k = 0; k < 2 && w->open && w->whose == OF_OTHERS; k++) {
			user_frame_reset(f, guest, port, &w->peer, k << 31);
			slirp_input(u->slirp, f, sizeof(f));
		}
	}
	g_free(text);
}

/* Before each sleep: what slirp waits for now, in the epoll set. */
static void prepare(void *opaque, int *timeout_ms)
{
	struct user *u = opaque;
	int64_t now = now_ns(NULL) / 1000000;
	uint32_t timeout = *timeout_ms < 0 ? 60000 : (uint32_t)*timeout_ms;

	u->count = 0;
	if (u->sockets[OF_OTHERS] > u->incoming_shared / 2) {
		if (now >= u->release_ms) {
			release_ended(u);
			u->release_ms = now + RELEASE_MS;
		}
		if (timeout > RELEASE_MS)
			timeout = RELEASE_MS;
	}
	for (unsigned n = 0; n < u->pipe_count; n++)
		user_pipe_watch(u->pipes[n]);
	slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
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
	run_timers(u);
}

/* ready() follows each wake-up; this only makes the loop wake. */
static void woken(void *opaque, int fd, uint32_t events)
{
}

/* --- the peer --- */

/* How many sockets there may be for this packet to go in: what cannot open a new one always may. */
static unsigned socket_limit(const uint8_t *f, size_t len)
{
	bool v4 = len >= 34 && ld_be16(f + 12) == 0x0800, v6 = len >= 54 && ld_be16(f + 12) == 0x86dd;
	size_t l4 = v4 ? 14 + (f[14] & 15u) * 4 : 54;
	uint8_t protocol = v4 ? f[23] : v6 ? f[20] : 0;

	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
		return SOCKETS_TCP;
	if (protocol == IPPROTO_TCP && l4 + 14 <= len)
		return (f[l4 + 13] & (TH_SYN | TH_ACK)) == TH_SYN ? SOCKETS_TCP : UINT_MAX;
	if (protocol == IPPROTO_UDP && l4 + 4 <= len)
		return ld_be16(f + l4 + 2) == 67 ? UINT_MAX : SOCKETS_MAX; /* slirp is the DHCP server */
	return UINT_MAX;
}

static bool is_flow(const struct user *u, int fd, const uint8_t *flow)
{
	return (unsigned)fd < u->watches_size && !memcmp(u->watches[fd].flow, flow, USER_FRAME_FLOW);
}

/* The descriptor of the connection that a segment is of, or -1. */
static int find_flow(struct user *u, const uint8_t *f, size_t len)
{
	const uint8_t *flow = user_frame_flow(f, len);

	if (!flow || is_flow(u, u->last_flow, flow))
		return flow ? u->last_flow : -1;
	for (unsigned fd = 0; fd < u->watches_size; fd++)
		if (is_flow(u, (int)fd, flow))
			return u->last_flow = (int)fd;
	return -1;
}

static void input(void *opaque, const uint8_t *frame, size_t len)
{
	struct user *u = opaque;

	if (fragment_is(frame, len)) {
		frame = fragments_add(u->fragments, frame, len, now_ns(NULL) / 1000000, &len);
		if (!frame)
			return;
	}
	if (u->sockets[OF_GUEST] < socket_limit(frame, len)) {
		const uint8_t *flow = user_frame_flow(frame, len);

		u->syn = flow && frame[14 + 40 + 13] & TH_SYN ? flow : NULL;
		slirp_input(u->slirp, frame, (int)len);
		u->syn = NULL;
	} else {
		log_guest("net", "the guest has %u connections open; further ones are refused", u->sockets[OF_GUEST]);
	}
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
	drain_queue((struct user *)p);
}

static void destroy(struct net_peer *p)
{
	struct user *u = (struct user *)p;

	/* No descriptor is left in the epoll set: all are closed. */
	if (u->slirp)
		slirp_cleanup(u->slirp);
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
	while (u->first) {
		struct frame *f = u->first;

		u->first = f->next;
		free(f);
	}
	free(u);
}

static const struct net_peer_ops ops = { .name = "user", .send = user_send, .ready = user_ready, .destroy = destroy };

/* Where there are few descriptors, what others open leaves the guest its share. */
static unsigned incoming_max(void)
{
	const unsigned others = SOCKETS_MAX + NET_FORWARDS + 64;
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

static int add_forward(struct user *u, const struct net_forward *f, const char *name, struct err *err)
{
	if (!slirp_add_hostfwd(u->slirp, f->udp, f->host, f->host_port, f->guest, f->guest_port))
		return 0;
	return err_errno(err, errno, "%s.hostfwd: %s port %u of %s", name, f->udp ? "UDP" : "TCP", f->host_port,
			 inet_ntoa(f->host));
}

static void remove_forward(struct user *u, struct net_forward *f)
{
	if (f->guest_port)
		slirp_remove_hostfwd(u->slirp, f->udp, f->host, f->host_port);
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
	const SlirpConfig cfg = {
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
	u->last = &u->first;
	u->epoll = epoll_create1(EPOLL_CLOEXEC);
	u->fragments = fragments_new();
	g_log_set_handler("Slirp", G_LOG_LEVEL_WARNING | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_MESSAGE, library_log, NULL);
	u->slirp = slirp_new(&cfg, &callbacks, u);
	if (!u->slirp || u->epoll < 0 || !u->fragments) {
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
