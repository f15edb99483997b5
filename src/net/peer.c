/* What all peers and front ends share: what a guest accepts, and frames from one side to the other. */
#include <string.h>

#include "net/backend.h"

void net_set_guest(struct net_peer *p, unsigned accepts, unsigned queues)
{
	bool changed = p->accepts != accepts || p->queues != queues;

	p->queues = queues;
	for (struct net_peer *q = p; q; q = q->next)
		q->accepts = accepts;
	if (changed && p->ops->set_guest)
		p->ops->set_guest(p);
}

void net_unplugged(struct net_peer *p)
{
	p->gone = true;
	if (p->receiver.unplugged)
		p->receiver.unplugged(p->receiver.opaque);
}

bool net_gso_known(unsigned gso)
{
	return gso == NET_GSO_NONE || gso == NET_GSO_TCP4 || gso == NET_GSO_TCP6 || gso == NET_GSO_UDP;
}

/* The work on a frame, as a mask. */
static unsigned work(const struct net_offload *o)
{
	static const unsigned kinds[] = {
		[NET_GSO_TCP4] = NET_TSO4, [NET_GSO_TCP6] = NET_TSO6, [NET_GSO_UDP] = NET_USO
	};

	return (o->checksum ? NET_CSUM : 0u) | kinds[o->gso] | (o->gso && o->ecn ? NET_ECN : 0u);
}

struct delivery {
	struct net_peer *peer;
	bool begun, refused;
};

/* Segments that find no room are lost, but the first: then the frame may come again. */
static void deliver_one(void *opaque, const uint8_t *frame, size_t len)
{
	static const struct net_offload complete = { .valid = true };
	struct delivery *d = opaque;
	const struct net_receiver *r = &d->peer->receiver;

	if (d->refused)
		return;
	d->refused = !r->receive(r->opaque, frame, len, &complete);
	d->begun |= !d->refused;
}

bool net_deliver(struct net_peer *p, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	struct delivery d = { .peer = p };

	if (!p->receiver.receive)
		return true;
	if (!(work(o) & ~p->accepts))
		return p->receiver.receive(p->receiver.opaque, frame, len, o);
	net_segment(frame, len, o, deliver_one, &d);
	return d.begun || !d.refused;
}

bool net_send(struct net_peer *p, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	const struct iovec iov = { (void *)frame, len };

	return p->ops->send(p, &(struct net_packet){ &iov, 1, true, len, *o });
}

void net_announce(struct net_peer *p, const uint8_t mac[6])
{
	uint8_t f[60] = { 0 };

	memset(f, 0xff, 6);
	memcpy(f + 6, mac, 6);
	memcpy(f + 12, "\x80\x35\0\1\x08\0\6\4\0\3", 10);
	memcpy(f + 22, mac, 6);
	memcpy(f + 32, mac, 6);
	net_send(p, f, sizeof(f), &(struct net_offload){ 0 });
}

const uint8_t *net_flat(const struct net_packet *k, uint8_t *buf)
{
	size_t at = 0;

	if (k->stable && k->count == 1)
		return k->iov->iov_base;
	for (unsigned n = 0; n < k->count; n++) {
		memcpy(buf + at, k->iov[n].iov_base, k->iov[n].iov_len);
		at += k->iov[n].iov_len;
	}
	return buf;
}
