/*
 * A byte channel between a device and whatever stands on the host side of it (terminal, socket, log
 * file). Output goes from the device to a sink; input comes by a function of the device that says
 * how much it took, so that neither side buffers without bound.
 *
 * A sink's write() is called with the device's lock held or from its thread: it must not call back
 * into the device and must not block. It may take less than `len`; the device then keeps the rest and
 * waits for its own `can_write` function (char_source) to be called.
 */
#ifndef VIREO_BASE_CHARDEV_H
#define VIREO_BASE_CHARDEV_H

#include <stddef.h>

struct char_sink {
	/* Bytes taken, 0 to len. NULL: everything is dropped. */
	size_t (*write)(void *opaque, const void *buf, size_t len);
	void *opaque;
};

static inline size_t char_sink_write(const struct char_sink *s, const void *buf, size_t len)
{
	return s->write ? s->write(s->opaque, buf, len) : len;
}

/*
 * The device's side, for the host end to call. Any thread without the device's lock; they take it.
 *   input:     bytes taken, 0 to len; after less than len, wait for `want_input` of the host end.
 *   can_write: the sink has room again.
 *   connected: somebody opened or left the host end (a guest may want to know); may be NULL.
 *   brk:       a break condition on the line; may be NULL.
 */
struct char_source {
	size_t (*input)(void *opaque, const void *buf, size_t len);
	void (*can_write)(void *opaque);
	void (*connected)(void *opaque, int yes);
	void *opaque;
	void (*brk)(void *opaque);
};

/* The device has room for input again: called from any thread, must not call back. fn may be NULL. */
struct char_wake {
	void (*fn)(void *opaque);
	void *opaque;
};

static inline void char_wake_up(const struct char_wake *w)
{
	if (w->fn)
		w->fn(w->opaque);
}

#endif
