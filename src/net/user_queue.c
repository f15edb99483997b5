/* Frames of the user-mode network that wait for the guest's buffers. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "net/user.h"

#define QUEUE_MAX 256

struct frame {
	struct frame *next;
	size_t len;
	uint8_t data[];
};

struct user_queue {
	struct loop *loop;
	struct net_peer *peer;
	struct frame *first, **last;
	unsigned queued;
};

struct user_queue *user_queue_new(struct loop *loop, struct net_peer *peer)
{
	struct user_queue *q = malloc(sizeof(*q));

	if (q)
		*q = (struct user_queue){ .loop = loop, .peer = peer, .last = &q->first };
	return q;
}

void user_queue_free(struct user_queue *q)
{
	while (q && q->first) {
		struct frame *f = q->first;

		q->first = f->next;
		free(f);
	}
	free(q);
}

void user_queue_drain(struct user_queue *q)
{
	/* The library makes or verifies all checksums. */
	static const struct net_offload complete = { .valid = true };

	while (q->first && net_deliver(q->peer, q->first->data, q->first->len, &complete)) {
		struct frame *f = q->first;

		q->first = f->next;
		if (!q->first)
			q->last = &q->first;
		q->queued--;
		free(f);
	}
}

static void deliver(void *opaque)
{
	user_queue_drain(opaque);
}

/* Never straight to the receiver: this may be the answer to a frame that it is just sending. */
void user_queue_add(struct user_queue *q, const uint8_t *frame, size_t len)
{
	struct frame *f;

	/* The first one may be on its way. */
	f = q->queued > 1 ? container_of(q->last, struct frame, next) : NULL;
	if (f && user_frame_supersedes(frame, len, f->data, f->len)) {
		memcpy(f->data, frame, len);
		return;
	}
	/* A network loses what there is no room for. */
	f = q->queued < QUEUE_MAX ? malloc(sizeof(*f) + len) : NULL;
	if (!f)
		return;
	if (!q->first)
		loop_post(q->loop, deliver, q);
	f->next = NULL;
	f->len = len;
	memcpy(f->data, frame, len);
	*q->last = f;
	q->last = &f->next;
	q->queued++;
}
