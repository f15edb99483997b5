/*
 * Taps of the host's kernel, each queue pair a descriptor: frames go with their header of work both ways
 * (IFF_VNET_HDR), so that one of 64 KiB crosses whole, and TUNSETOFFLOAD says what the guest takes. What has no such
 * header (a descriptor from somebody else) gets complete frames.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "net/backend.h"
#include "net/tap.h"

#define HEADER	       10u /* struct virtio_net_hdr */
#define HDR_NEEDS_CSUM 1u
#define HDR_DATA_VALID 2u
#define GSO_ECN	       0x80u
#define TURN	       64 /* frames before the loop does something else */

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct tap {
	struct net_peer peer;
	struct net_peer_ops ops;
	char name[32];
	int fd;
	unsigned header;       /* HEADER or 0 */
	bool attached;	       /* a queue that gets frames */
	bool gone;	       /* of the first: this was said */
	struct tap *first;     /* of the queues */
	struct loop_fd *watch; /* NULL: somebody has deleted the interface */
	bool full;	       /* send() found no room */
	bool starved;	       /* `in`, of `len` bytes with its header, waits for the receiver */
	size_t len;
	struct net_tap_script down; /* of the first */
	uint8_t in[HEADER + NET_FRAME_MAX];
};

static void update_watch(struct tap *t)
{
	if (t->watch)
		loop_fd_mod(t->watch, (t->starved ? 0u : EPOLLIN) | (t->full ? EPOLLOUT : 0u));
}

/* --- from the kernel, whose headers can be those of somebody who writes to its packet sockets --- */

static bool take_header(const uint8_t *h, struct net_offload *o)
{
	*o = (struct net_offload){
		.checksum = h[0] & HDR_NEEDS_CSUM,
		.valid = h[0] & HDR_DATA_VALID,
		.ecn = h[1] & GSO_ECN,
		.gso = (enum net_gso)(h[1] & ~GSO_ECN),
		.header = ld_le16(h + 2),
		.mss = ld_le16(h + 4),
		.csum_start = ld_le16(h + 6),
		.csum_offset = ld_le16(h + 8),
	};
	return net_gso_known(o->gso);
}

static bool deliver(struct tap *t)
{
	struct net_offload o = { 0 };

	t->starved = (!t->header || take_header(t->in, &o)) &&
		     !net_deliver(&t->peer, t->in + t->header, t->len - t->header, &o);
	return !t->starved;
}

static void wake_guest(struct tap *t)
{
	bool was_full = t->full;

	t->full = false;
	if (was_full && t->peer.receiver.writable)
		t->peer.receiver.writable(t->peer.receiver.opaque);
}

/* The interface has been deleted: its descriptor would be ready with an error for ever. What is sent is lost. */
static void gone(struct tap *t)
{
	struct tap *first = t->first;

	loop_fd_del(t->watch);
	t->watch = NULL;
	t->starved = false;
	wake_guest(t);
	if (first->gone)
		return;
	first->gone = true;
	log_line(LOG_WARN, "net", "%s: somebody has deleted the tap: the cable is out", first->name);
	net_unplugged(&first->peer);
}

static void on_event(void *opaque, int fd, uint32_t events)
{
	struct tap *t = opaque;
	struct ifreq r;

	if (events & (EPOLLERR | EPOLLHUP) && ioctl(fd, TUNGETIFF, &r) && errno == EBADFD) {
		gone(t);
		return;
	}
	if (events & EPOLLOUT)
		wake_guest(t);
	for (int turn = 0; !t->starved && turn < TURN; turn++) {
		ssize_t n = read(fd, t->in, t->header + NET_FRAME_MAX);

		if (n < 0)
			break;
		t->len = (size_t)n;
		if (t->len >= t->header + NET_HEADER_MIN)
			deliver(t);
	}
	update_watch(t);
}

/* --- to the kernel, which checks the header --- */

static void put_header(uint8_t h[HEADER], const struct net_packet *k)
{
	const struct net_offload *o = &k->offload;
	size_t least = (size_t)o->csum_start + (o->gso == NET_GSO_UDP ? 8 : 20), header = o->header;

	memset(h, 0, HEADER);
	h[0] = o->checksum ? HDR_NEEDS_CSUM : 0;
	h[1] = (uint8_t)o->gso | (o->gso && o->ecn ? GSO_ECN : 0);
	/* So much the kernel puts in one piece: without the hint, all 64 KiB. */
	if (header < least)
		header = least;
	st_le16(h + 2, o->gso ? (uint16_t)(header < k->len ? header : k->len) : 0);
	st_le16(h + 4, o->gso ? o->mss : 0);
	st_le16(h + 6, o->checksum ? o->csum_start : 0);
	st_le16(h + 8, o->checksum ? o->csum_offset : 0);
}

static bool give(struct tap *t, const struct iovec *iov, unsigned count)
{
	ssize_t n;

	do
		n = writev(t->fd, iov, (int)count);
	while (n < 0 && errno == EINTR);
	if (n >= 0 || errno != EAGAIN)
		return true; /* what the kernel does not like is lost */
	t->full = true;
	update_watch(t);
	return false;
}

/* Nothing is left to do to it. */
static void give_segment(void *opaque, const uint8_t *frame, size_t len)
{
	static const uint8_t done[HEADER];
	struct tap *t = opaque;
	const struct iovec iov[] = { { (void *)done, t->header }, { (void *)frame, len } };

	give(t, iov, ARRAY_LEN(iov));
}

/* Can the kernel do what is left? Before Linux 6.2 it knew no segments of UDP. */
static bool kernel_does(const struct tap *t, const struct net_offload *o)
{
	if (!t->header)
		return !o->checksum && !o->gso;
	return o->gso != NET_GSO_UDP || t->peer.takes & NET_USO;
}

static bool tap_send(struct net_peer *p, const struct net_packet *k)
{
	struct tap *t = container_of(p, struct tap, peer);
	static uint8_t buf[NET_FRAME_MAX];
	uint8_t header[HEADER];
	struct iovec iov[1 + NET_PIECES] = { { header, HEADER } };

	if (!kernel_does(t, &k->offload)) {
		if (t->full)
			return false;
		net_segment(net_flat(k, buf), k->len, &k->offload, give_segment, t);
		return true;
	}
	if (!t->header)
		return give(t, k->iov, k->count);
	put_header(header, k);
	memcpy(iov + 1, k->iov, k->count * sizeof(*iov));
	return give(t, iov, 1 + k->count);
}

static void tap_ready(struct net_peer *p)
{
	struct tap *t = container_of(p, struct tap, peer);

	if (t->starved && deliver(t))
		update_watch(t);
}

/* --- what the guest takes --- */

static unsigned tun_offloads(unsigned accepts)
{
	static const struct {
		unsigned net, tun;
	} bits[] = {
		{ NET_CSUM, TUN_F_CSUM },
		{ NET_TSO4, TUN_F_TSO4 },
		{ NET_TSO6, TUN_F_TSO6 },
		{ NET_ECN, TUN_F_TSO_ECN },
		{ NET_USO, TUN_F_USO4 | TUN_F_USO6 },
	};
	unsigned tun = 0;

	/* Nothing is to be had without checksums. */
	for (size_t n = 0; accepts & NET_CSUM && n < ARRAY_LEN(bits); n++)
		tun |= accepts & bits[n].net ? bits[n].tun : 0;
	return tun;
}

static void tap_set_guest(struct net_peer *p)
{
	struct tap *first = container_of(p, struct tap, peer);
	unsigned n = 0;

	if (first->gone)
		return;
	/* What has a header and cannot be set is completed by net_deliver(). */
	if (first->header && ioctl(first->fd, TUNSETOFFLOAD, tun_offloads(p->accepts & p->takes)))
		log_guest("net", "%s: TUNSETOFFLOAD: %s", first->name, strerror(errno));
	for (struct net_peer *q = p; q && p->next; q = q->next, n++) {
		struct tap *t = container_of(q, struct tap, peer);
		struct ifreq r = { .ifr_flags = n < p->queues ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

		if (t->attached != (n < p->queues) && !ioctl(t->fd, TUNSETQUEUE, &r))
			t->attached = !t->attached;
	}
}

/* --- life --- */

static void tap_destroy(struct net_peer *p)
{
	struct tap *t = container_of(p, struct tap, peer);
	int rc = net_tap_run_script(&t->down);

	if (rc)
		log_line(LOG_WARN, "net", "%s: %s %s has ended with status %d", t->name, t->down.program,
			 t->down.ifname, rc);
	while (p) {
		t = container_of(p, struct tap, peer);
		p = p->next;
		loop_fd_del(t->watch);
		close(t->fd);
		free(t);
	}
}

/* What the descriptor can do, and the header that is used here. */
static int look(struct tap *t, struct err *err)
{
	struct ifreq r = { 0 };
	int size = HEADER, little = 1;

	if (ioctl(t->fd, TUNGETIFF, &r))
		return err_errno(err, errno, "%s: descriptor %d is no tap", t->name, t->fd);
	if (!(r.ifr_flags & IFF_TAP) || !(r.ifr_flags & IFF_NO_PI))
		return err_set(err, "%s: %s is no tap without packet information (IFF_TAP | IFF_NO_PI)", t->name,
			       r.ifr_name);
	memcpy(t->peer.interface, r.ifr_name, sizeof(t->peer.interface));
	if (!(r.ifr_flags & IFF_VNET_HDR))
		return 0;
	if (ioctl(t->fd, TUNSETVNETHDRSZ, &size) || ioctl(t->fd, TUNSETVNETLE, &little))
		return err_errno(err, errno, "%s: %s: the header cannot be set", t->name, r.ifr_name);
	t->header = HEADER;
	t->peer.takes = NET_CSUM | NET_TSO4 | NET_TSO6 | NET_ECN;
	if (!ioctl(t->fd, TUNSETOFFLOAD, tun_offloads(NET_CSUM | NET_USO)))
		t->peer.takes |= NET_USO;
	if (ioctl(t->fd, TUNSETOFFLOAD, 0))
		return err_errno(err, errno, "%s: %s: TUNSETOFFLOAD", t->name, r.ifr_name);
	return 0;
}

static struct tap *make_queue(struct loop *loop, const char *name, int fd, struct err *err)
{
	struct tap *t = calloc(1, sizeof(*t));

	if (!t) {
		close(fd);
		err_set(err, "out of memory");
		return NULL;
	}
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->ops = (struct net_peer_ops){ .name = t->name,
					.send = tap_send,
					.ready = tap_ready,
					.set_guest = tap_set_guest,
					.destroy = tap_destroy };
	t->peer.ops = &t->ops;
	t->fd = fd;
	t->attached = true;
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
		err_errno(err, errno, "%s: descriptor %d", name, fd);
	else if (!look(t, err))
		t->watch = loop_fd_add(loop, fd, EPOLLIN, on_event, t, err);
	if (t->watch)
		return t;
	tap_destroy(&t->peer);
	return NULL;
}

struct net_peer *net_tap_from_fds(struct loop *loop, const char *name, const int *fds, unsigned count, struct err *err)
{
	struct net_peer *first = NULL, **last = &first;
	unsigned n = 0;

	while (n < count) {
		struct tap *t = make_queue(loop, name, fds[n++], err);

		if (!t)
			goto fail;
		*last = &t->peer;
		last = &t->peer.next;
		t->first = container_of(first, struct tap, peer);
		if (strcmp(t->peer.interface, first->interface)) {
			err_set(err, "%s: descriptor %d is a queue of %s, and the first one of %s", name, fds[n - 1],
				t->peer.interface, first->interface);
			goto fail;
		}
	}
	return first;
fail:
	while (n < count)
		close(fds[n++]);
	if (first)
		first->ops->destroy(first);
	return NULL;
}

void net_tap_set_down(struct net_peer *p, const struct net_tap_script *down)
{
	container_of(p, struct tap, peer)->down = *down;
}
