/*
 * The host end of a serial port or console: output goes through a bounded buffer and a thread of its own to
 * a file descriptor, a log and the attached clients; input comes from the loop thread.
 *
 * The guest waits for `out` (nothing is lost when a pipe is full). For a client that does not read it waits only where
 * clients are programs that speak a protocol (`programs`).
 *
 * chan_sink() may be used from any thread. Everything else: loop thread, or before it starts.
 */
#ifndef VIREO_VM_CHAN_H
#define VIREO_VM_CHAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/chardev.h"
#include "base/err.h"
#include "base/loop.h"

#define CHAN_CLIENTS 8

struct chan;
struct conlog;

struct chan_config {
	struct loop *loop;
	const char *name; /* for messages; outlives the channel */
	int out;	  /* -1: nowhere. Closed with the channel unless it is one of the standard three */
	bool lossy;	  /* drop what `out` does not take within a moment: a pty that nobody reads */
	bool programs; /* clients are: nothing of theirs is lost, and the device hears when one comes and the last goes
			*/
	struct conlog *log; /* NULL: none. Freed with the channel */
};

/* On error `out` and `log` are still the caller's. */
struct chan *chan_new(const struct chan_config *cfg, struct err *err);
/* Bytes of output that are not written yet, after waiting up to `ms` for them to become none. */
size_t chan_unwritten(struct chan *c, int ms);
/* Drops what is not written. The device behind it must not write any more. */
void chan_free(struct chan *c);

struct char_sink chan_sink(struct chan *c);
struct char_wake chan_wake(struct chan *c);
/* The device behind it; before input arrives. */
void chan_connect(struct chan *c, const struct char_source *source);
/* Where output goes, if it was nowhere until now; before there is any. Takes `fd`. */
void chan_write_to(struct chan *c, int fd);

/* Bytes for the device; what it does not take now is kept, what the buffer has no room for is dropped. */
void chan_input(struct chan *c, const void *buf, size_t len);
/* Look at input before the device gets it, and change it in place. Returns the new length, at most `len`. */
typedef size_t chan_filter(void *opaque, char *buf, size_t len);
/*
 * Read from `fd` (borrowed until the channel is freed; a regular file too) as the device takes it, to its end.
 * `filter` may be NULL.
 */
int chan_read_from(struct chan *c, int fd, chan_filter *filter, void *opaque, struct err *err);
/* A client socket: gets the output and gives input, until it closes. One too many is told so. Takes `fd`. */
void chan_attach(struct chan *c, int fd);

/* Send a break (a serial line's attention signal), if the device knows one. */
void chan_break(struct chan *c);
/* Begin each line on `out` with the time since the VM was started. */
void chan_toggle_timestamps(struct chan *c);

#endif
