/*
 * Frames of a network, both ways, into a file that tcpdump and the like read (pcap, the format of libpcap's
 * savefile(5)). A peer in front of another: it keeps what passes, and changes nothing. A frame that travels whole is
 * in the file whole, with the checksum that it has.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "net/backend.h"
#include "net/dump_file.h"

struct dump;

/* In front of one queue pair. */
struct tapped {
	struct net_peer peer;
	struct net_peer *inner;
	struct dump *dump;
};

struct dump {
	struct net_peer_ops ops;
	struct dump_file *file;
	struct tapped queue[NET_QUEUES_MAX];
};

/* --- from the guest --- */

static bool dump_send(struct net_peer *p, const struct net_packet *k)
{
	struct tapped *t = container_of(p, struct tapped, peer);

	if (!t->inner->ops->send(t->inner, k))
		return false;
	dump_file_add(t->dump->file, k->iov, k->count, k->len);
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
	if (d->file)
		dump_file_close(d->file);
	free(d);
}

/* --- to the guest --- */

static bool dump_receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	struct tapped *t = opaque;

	if (!net_deliver(&t->peer, frame, len, o))
		return false;
	dump_file_add(t->dump->file, &(struct iovec){ (void *)frame, len }, 1, len);
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

struct net_peer *net_dump_new(struct net_peer *inner, const struct net_dump_config *c, struct err *err)
{
	struct dump *d = calloc(1, sizeof(*d));
	unsigned n = 0;

	if (!d) {
		inner->ops->destroy(inner);
		err_set(err, "out of memory");
		return NULL;
	}
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
	d->file = dump_file_open(c, err);
	if (d->file)
		return &d->queue[0].peer;
	dump_destroy(&d->queue[0].peer);
	return NULL;
}
