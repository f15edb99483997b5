/*
 * The other side of a stream or datagram back end: anything, in any pieces, with a guest that is deaf at times. The
 * first byte of the input says which it is; then a byte of length and of what the guest does, and so many bytes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/backend.h"

static bool deaf;

static bool receive(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *o)
{
	volatile uint8_t sink;

	if (len < NET_HEADER_MIN || len > NET_FRAME_MAX || o->checksum || o->gso || o->valid)
		abort();
	sink = frame[len - 1]; /* all of it is there */
	(void)sink;
	return !deaf;
}

static void quit(void *opaque)
{
	loop_quit(opaque);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err;
	struct loop *loop = loop_new(&err);
	bool stream = size && data[0] & 1;
	struct net_peer *p;
	int pair[2];

	log_set_level(LOG_ERROR);
	if (!loop || socketpair(AF_UNIX, stream ? SOCK_STREAM : SOCK_DGRAM, 0, pair))
		abort();
	p = stream ? net_stream_make(
			     loop, &(struct net_stream_config){ .name = "net0", .fd = pair[0], .listen_fd = -1 }, &err)
		   : net_dgram_make(loop, &(struct net_dgram_config){ .name = "net0", .fd = pair[0] }, &err);
	if (!p)
		abort();
	p->receiver = (struct net_receiver){ .receive = receive };
	deaf = false;
	for (size_t at = 1; at + 2 <= size;) {
		size_t len = data[at] | (data[at + 1] & 0x70u) << 4;

		deaf = data[at + 1] & 1;
		if (data[at + 1] & 2)
			p->ops->ready(p);
		if (data[at + 1] & 4)
			net_send(p, data, size < NET_FRAME_MAX ? size : NET_FRAME_MAX, &(struct net_offload){ 0 });
		at += 2;
		if (len > size - at)
			len = size - at;
		if (send(pair[1], data + at, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			shutdown(pair[1], SHUT_WR);
		at += len;
		loop_post(loop, quit, loop);
		loop_run(loop);
	}
	p->ops->destroy(p);
	close(pair[1]);
	loop_free(loop);
	return 0;
}
