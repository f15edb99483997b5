/*
 * The user-mode network: libslirp in the loop thread. The guest gets 10.0.2.15 by DHCP, the host is
 * 10.0.2.2, the name server 10.0.2.3, as people know it from QEMU.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libslirp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "net/net.h"

#define POLL_MAX  1024
#define QUEUE_MAX 256 /* frames that wait for the guest's buffers */

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

struct user {
	struct net_peer peer;
	struct loop *loop;
	struct loop_hook hook;
	Slirp *slirp;
	struct timer *timers;
	/* slirp's poll set; the sleep is in an epoll set of the same descriptors, which the loop watches */
	struct pollfd polls[POLL_MAX];
	unsigned count;
	int watched[POLL_MAX];
	unsigned watched_count;
	int epoll;
	struct loop_fd *watch;
	struct frame *first, **last;
	unsigned queued;
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
	while (u->first && u->peer.receiver.receive(u->peer.receiver.opaque, u->first->data, u->first->len)) {
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
	struct user *u = opaque;

	if (u->peer.receiver.receive)
		drain_queue(u);
}

/* Never straight to the receiver: this may be the answer to a frame that it is just sending. */
static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
	struct user *u = opaque;
	struct frame *f;

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

static void nothing_fd(int fd, void *opaque)
{
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
	.register_poll_fd = nothing_fd,
	.unregister_poll_fd = nothing_fd,
	.notify = nothing,
};

/* --- the poll set --- */

static int add_poll(int fd, int events, void *opaque)
{
	struct user *u = opaque;
	short e = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
			  (events & SLIRP_POLL_PRI ? POLLPRI : 0));

	if (u->count == POLL_MAX)
		return -1;
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

static bool in_set(const struct user *u, int fd)
{
	for (unsigned n = 0; n < u->count; n++)
		if (u->polls[n].fd == fd)
			return true;
	return false;
}

/* Before each sleep: what slirp waits for now, in the epoll set. */
static void prepare(void *opaque, int *timeout_ms)
{
	struct user *u = opaque;
	int64_t now = now_ns(NULL) / 1000000;
	uint32_t timeout = *timeout_ms < 0 ? 60000 : (uint32_t)*timeout_ms;

	u->count = 0;
	slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
	for (unsigned n = 0; n < u->watched_count; n++)
		if (!in_set(u, u->watched[n]))
			epoll_ctl(u->epoll, EPOLL_CTL_DEL, u->watched[n], NULL);
	u->watched_count = 0;
	for (unsigned n = 0; n < u->count; n++) {
		struct epoll_event e = { .events = (uint32_t)u->polls[n].events, .data.fd = u->polls[n].fd };

		/* A number that was closed and used again has left the set by itself. */
		if (epoll_ctl(u->epoll, EPOLL_CTL_MOD, e.data.fd, &e))
			epoll_ctl(u->epoll, EPOLL_CTL_ADD, e.data.fd, &e);
		u->watched[u->watched_count++] = e.data.fd;
	}
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

static void input(void *opaque, const uint8_t *frame, size_t len)
{
	slirp_input(((struct user *)opaque)->slirp, frame, (int)len);
}

static void user_send(struct net_peer *p, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	net_segment(frame, len, o, input, p);
}

static void user_ready(struct net_peer *p)
{
	drain_queue((struct user *)p);
}

static void destroy(struct net_peer *p)
{
	struct user *u = (struct user *)p;

	if (u->slirp)
		slirp_cleanup(u->slirp);
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

static const struct net_peer_ops ops = {
	.name = "user", .checked = true, .send = user_send, .ready = user_ready, .destroy = destroy
};

/* --- configuration --- */

/* "HOSTADDR:PORT" or ":PORT" or "PORT"; an empty address stays as it is. */
static bool parse_end(const char *text, struct in_addr *addr, int *port)
{
	const char *colon = strrchr(text, ':');
	char host[32], *end;
	long n;

	if (colon && colon != text) {
		size_t len = (size_t)(colon - text);

		if (len >= sizeof(host))
			return false;
		memcpy(host, text, len);
		host[len] = 0;
		if (inet_pton(AF_INET, host, addr) != 1)
			return false;
	}
	text = colon ? colon + 1 : text;
	n = strtol(text, &end, 10);
	*port = (int)n;
	return *text && !*end && n > 0 && n < 65536;
}

/* "tcp:[ADDR]:PORT-[ADDR]:PORT", several separated by '+'. */
static int add_forward(struct user *u, const char *key, const char *text, struct err *err)
{
	struct in_addr host = { .s_addr = htonl(INADDR_LOOPBACK) }, guest = { .s_addr = inet_addr("10.0.2.15") };
	char copy[128], *dash;
	int host_port, guest_port;
	bool udp = !strncmp(text, "udp:", 4);

	if ((!udp && strncmp(text, "tcp:", 4)) || strlen(text) >= sizeof(copy))
		goto bad;
	strcpy(copy, text + 4);
	dash = strchr(copy, '-');
	if (!dash)
		goto bad;
	*dash = 0;
	if (!parse_end(copy, &host, &host_port) || !parse_end(dash + 1, &guest, &guest_port))
		goto bad;
	if (slirp_add_hostfwd(u->slirp, udp, host, host_port, guest, guest_port))
		return err_errno(err, errno, "%s: %s port %d of the host", key, udp ? "UDP" : "TCP", host_port);
	return 0;
bad:
	return err_set(err, "%s: '%s' is not tcp:[ADDRESS]:PORT-[ADDRESS]:PORT", key, text);
}

static int add_forwards(struct user *u, struct config *c, const char *prefix, struct err *err)
{
	const char *list;
	char key[64], *copy, *rest, *word;
	int rc = 0;

	snprintf(key, sizeof(key), "%s.hostfwd", prefix);
	if (config_str(c, key, "", &list, err))
		return -1;
	copy = rest = strdup(list);
	if (!copy)
		return err_set(err, "out of memory");
	while (!rc && (word = strsep(&rest, "+")))
		if (*word)
			rc = add_forward(u, key, word, err);
	free(copy);
	return rc;
}

struct net_peer *net_user_new(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	struct user *u = calloc(1, sizeof(*u));
	SlirpConfig cfg = {
		.version = 4,
		.in_enabled = true,
		.vnetwork.s_addr = inet_addr("10.0.2.0"),
		.vnetmask.s_addr = inet_addr("255.255.255.0"),
		.vhost.s_addr = inet_addr("10.0.2.2"),
		.vdhcp_start.s_addr = inet_addr("10.0.2.15"),
		.vnameserver.s_addr = inet_addr("10.0.2.3"),
		.in6_enabled = true,
		.vprefix_len = 64,
	};
	char key[64];
	bool restricted;

	if (!u) {
		err_set(err, "out of memory");
		return NULL;
	}
	u->peer.ops = &ops;
	u->loop = loop;
	u->last = &u->first;
	u->epoll = epoll_create1(EPOLL_CLOEXEC);
	snprintf(key, sizeof(key), "%s.restrict", prefix);
	if (config_bool(c, key, false, &restricted, err))
		goto fail;
	cfg.restricted = restricted;
	inet_pton(AF_INET6, "fec0::", &cfg.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &cfg.vhost6);
	inet_pton(AF_INET6, "fec0::3", &cfg.vnameserver6);
	u->slirp = slirp_new(&cfg, &callbacks, u);
	if (!u->slirp || u->epoll < 0) {
		err_set(err, "%s: the user-mode network cannot start", prefix);
		goto fail;
	}
	if (add_forwards(u, c, prefix, err))
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
