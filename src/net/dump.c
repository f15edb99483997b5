/*
 * Frames of a network, both ways, into a file that tcpdump and the like read (pcap, the format of libpcap's
 * savefile(5)). A peer in front of another: it keeps what passes, and changes nothing. A frame that travels whole is
 * in the file whole, with the checksum that it has.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "net/backend.h"

#define MAGIC_US	  0xa1b2c3d4u
#define LINKTYPE_ETHERNET 1u

struct dump;

/* In front of one queue pair. */
struct tapped {
	struct net_peer peer;
	struct net_peer *inner;
	struct dump *dump;
};

struct dump {
	struct net_peer_ops ops;
	int fd; /* -1: it could not be written any more */
	uint32_t maxlen;
	char name[32];
	struct tapped queue[NET_QUEUES_MAX];
};

/* How much of it is in the file. Why it is not more, only the write behind one that was cut short tells: see errno. */
static size_t put(int fd, struct iovec *v, int count)
{
	size_t done = 0;

	for (;;) {
		ssize_t n = writev(fd, v, count);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return done;
		done += (size_t)n;
		for (; count && (size_t)n >= v->iov_len; v++, count--)
			n -= (ssize_t)v->iov_len;
		if (!count)
			return done;
		v->iov_base = (uint8_t *)v->iov_base + n;
		v->iov_len -= (size_t)n;
	}
}

static void keep(struct dump *d, const struct iovec *iov, unsigned count, size_t len)
{
	uint32_t kept = len < d->maxlen ? (uint32_t)len : d->maxlen, left = kept;
	struct iovec v[1 + NET_PIECES];
	uint32_t header[4];
	struct timespec t;
	unsigned n = 1;
	size_t done;
	off_t at;

	if (d->fd < 0)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	header[0] = (uint32_t)t.tv_sec;
	header[1] = (uint32_t)(t.tv_nsec / 1000);
	header[2] = kept;
	header[3] = (uint32_t)len;
	v[0] = (struct iovec){ header, sizeof(header) };
	for (unsigned k = 0; k < count && left; k++, n++) {
		v[n] = iov[k];
		if (v[n].iov_len > left)
			v[n].iov_len = left;
		left -= (uint32_t)v[n].iov_len;
	}
	done = put(d->fd, v, (int)n);
	if (done == sizeof(header) + kept)
		return;
	log_line(LOG_ERROR, "net", "%s.dump: nothing more is kept: %s", d->name, strerror(errno));
	/* Half a record at the end would make the whole a file that is cut short. */
	at = lseek(d->fd, 0, SEEK_CUR);
	if (done > 0 && (at < (off_t)done || ftruncate(d->fd, at - (off_t)done)))
		log_line(LOG_WARN, "net", "%s.dump: its last frame is not whole", d->name);
	close(d->fd);
	d->fd = -1;
}

/* --- from the guest --- */

static bool dump_send(struct net_peer *p, const struct net_packet *k)
{
	struct tapped *t = container_of(p, struct tapped, peer);

	if (!t->inner->ops->send(t->inner, k))
		return false;
	keep(t->dump, k->iov, k->count, k->len);
	return true;
}

static void dump_ready(struct net_peer *p)
{
	struct tapped *t = container_of(p, struct tapped, peer);

	if (t->inner->ops->ready)
		t->inner->ops->ready(t->inner);
}

static void dump_set_guest(struct net_peer *p)
{
	struct tapped *t = container_of(p, struct tapped, peer);

	net_set_guest(t->inner, p->accepts, p->queues);
}

static void dump_destroy(struct net_peer *p)
{
	struct tapped *t = container_of(p, struct tapped, peer);
	struct dump *d = t->dump;

	t->inner->ops->destroy(t->inner);
	if (d->fd >= 0)
		close(d->fd);
	free(d);
}

/* --- to the guest --- */

static bool dump_receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	struct tapped *t = opaque;

	if (!net_deliver(&t->peer, frame, len, o))
		return false;
	keep(t->dump, &(struct iovec){ (void *)frame, len }, 1, len);
	return true;
}

static void dump_writable(void *opaque)
{
	const struct tapped *t = opaque;

	if (t->peer.receiver.writable)
		t->peer.receiver.writable(t->peer.receiver.opaque);
}

static void dump_unplugged(void *opaque)
{
	struct tapped *t = opaque;

	net_unplugged(&t->peer);
}

/* --- life --- */

/* A new file, or the end of one that has this header. */
static bool begin_records(const struct dump *d, bool goes_on)
{
	const uint32_t header[6] = { MAGIC_US, 4u << 16 | 2u, 0, 0, d->maxlen, LINKTYPE_ETHERNET };
	uint32_t there[6];

	if (goes_on && pread(d->fd, there, sizeof(there), 0) == sizeof(there) && !memcmp(there, header, sizeof(header)))
		return lseek(d->fd, 0, SEEK_END) >= 0;
	return !ftruncate(d->fd, 0) && write(d->fd, header, sizeof(header)) == sizeof(header);
}

static int begin_file(struct dump *d, const struct net_dump_config *c, struct err *err)
{
	struct stat st;

	/* A pipe or a device could hold up the machine's loop, and opening one already. */
	d->fd = open(c->path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	if (d->fd < 0 ? errno == ENXIO : !fstat(d->fd, &st) && !S_ISREG(st.st_mode))
		return err_set(err, "%s.dump: %s is no regular file", d->name, c->path);
	/* Records of two in one file would be those of none. */
	if (d->fd >= 0 && flock(d->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
		return err_set(err, "%s.dump: %s is in use: another card's frames are kept there", d->name, c->path);
	if (d->fd < 0 || !begin_records(d, c->goes_on))
		return err_errno(err, errno, "%s.dump: %s", d->name, c->path);
	return 0;
}

struct net_peer *net_dump_new(struct net_peer *inner, const struct net_dump_config *c, struct err *err)
{
	struct dump *d = calloc(1, sizeof(*d));
	unsigned n = 0;

	if (!d) {
		inner->ops->destroy(inner);
		err_set(err, "out of memory");
		return NULL;
	}
	snprintf(d->name, sizeof(d->name), "%s", c->name);
	d->maxlen = c->maxlen;
	d->ops = (struct net_peer_ops){ .name = inner->ops->name,
					.send = dump_send,
					.ready = dump_ready,
					.set_guest = dump_set_guest,
					.destroy = dump_destroy };
	for (struct net_peer *p = inner; p && n < NET_QUEUES_MAX; p = p->next, n++) {
		struct tapped *t = &d->queue[n];

		*t = (struct tapped){ .peer = { .ops = &d->ops, .takes = p->takes }, .inner = p, .dump = d };
		memcpy(t->peer.interface, p->interface, sizeof(t->peer.interface));
		if (n)
			d->queue[n - 1].peer.next = &t->peer;
		p->receiver = (struct net_receiver){ dump_receive, dump_writable, t, dump_unplugged };
	}
	if (!begin_file(d, c, err))
		return &d->queue[0].peer;
	dump_destroy(&d->queue[0].peer);
	return NULL;
}
