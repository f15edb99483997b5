/*
 * The host end of a serial port or console: output goes through a bounded buffer and a thread of its own to
 * a file descriptor, a log and at most one attached client; input comes from the loop thread.
 *
 * chan_sink() may be used from any thread. Everything else: loop thread.
 */
#ifndef VIREO_VM_CHAN_H
#define VIREO_VM_CHAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/chardev.h"
#include "base/err.h"
#include "base/loop.h"

struct chan;

/* `out` and `log` may be -1; both are closed with the channel unless `out` is 1. */
struct chan *chan_new(struct loop *loop, int out, int log, struct err *err);
/* Writes what is left (for at most a second) and frees. */
void chan_free(struct chan *c);

struct char_sink chan_sink(struct chan *c);
struct char_wake chan_wake(struct chan *c);
/* The device behind it; before input arrives. */
void chan_connect(struct chan *c, const struct char_source *source);
/* Bytes for the device; what it does not take now is kept (bounded), the rest dropped. */
void chan_input(struct chan *c, const void *buf, size_t len);
/* Read from `fd` (borrowed until the channel is freed) into the device; `filter` may be NULL. */
int chan_read_from(struct chan *c, int fd, struct err *err);
/* A client socket: gets the output and gives input, until it closes. A second one is refused. Takes `fd`. */
void chan_attach(struct chan *c, int fd);

#endif
