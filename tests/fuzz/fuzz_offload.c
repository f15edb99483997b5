/*
 * The work on a frame as a header of a tap or a guest says it, done in software: any header, any frame, for a guest
 * that accepts any part of it. What comes out is complete, or what the guest accepts.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "net/net.h"

static unsigned accepts;
static size_t bytes;

static bool receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	if (len > NET_FRAME_MAX || !net_gso_known(o->gso))
		abort();
	if ((o->checksum && !(accepts & NET_CSUM)) || (o->gso == NET_GSO_TCP4 && !(accepts & NET_TSO4)) ||
	    (o->gso == NET_GSO_TCP6 && !(accepts & NET_TSO6)) || (o->gso == NET_GSO_UDP && !(accepts & NET_USO)))
		abort();
	bytes += len;
	return bytes < 100000 || len & 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct net_peer_ops ops = { .name = "fuzz" };
	struct net_peer p = { .ops = &ops, .receiver.receive = receive };
	struct net_offload o;

	if (size < 11 || size - 11 > NET_FRAME_MAX)
		return 0;
	o = (struct net_offload){
		.checksum = data[0] & 1,
		.valid = data[0] & 2,
		.ecn = data[1] & 0x80,
		.gso = (enum net_gso)(data[1] & 0x7f),
		.header = ld_le16(data + 2),
		.mss = ld_le16(data + 4),
		.csum_start = ld_le16(data + 6),
		.csum_offset = ld_le16(data + 8),
	};
	if (!net_gso_known(o.gso))
		return 0;
	accepts = p.accepts = data[10];
	bytes = 0;
	net_deliver(&p, data + 11, size - 11, &o);
	return 0;
}
