/*
 * How programs and people command a machine: places where they come in (the run directory's sockets, and those of the
 * keys "qmpN" and "monitorN"), and links, the connections to them. What is said on a link is its protocol's: qmp.c and
 * monitor.c. Loop thread.
 *
 * Links are bounded in number and in what they may leave unread: who goes beyond is dropped. Nobody waits for one.
 */
#ifndef VIREO_VM_CONTROL_H
#define VIREO_VM_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct vm;
struct control;
struct link;

struct control_protocol {
	const char *name; /* "qmp": the key of its places, and the name of its socket in the run directory */
	/* NULL: no memory. The link is there until close(). */
	void *(*open)(struct vm *vm, struct link *l);
	/* Bytes taken, of at least one. Fewer than `len`: the rest comes again when the other side has read. */
	size_t (*input)(void *session, const char *bytes, size_t len);
	void (*close)(void *session);
};

/* Opens the places of the configuration; those of the run directory, which tell that the machine is there, at the
 * start. */
struct control *control_new(struct vm *vm, struct err *err);
int control_start(struct control *c, struct err *err);
void control_free(struct control *c);
/* Some place is to have a client before the machine is started. `c` may be NULL. */
bool control_waits(const struct control *c);

/* The link without a connection: output to the terminal, and what link_feed() is given as its input. NULL: none. */
struct link *control_terminal(struct control *c, const struct control_protocol *p, bool *fresh);

/* Bytes for the other side: at once, or when it reads. */
void link_write(struct link *l, const char *bytes, size_t len);
/* As if the other side had said it. */
void link_feed(struct link *l, const char *bytes, size_t len);
/* So much is unread that input had better wait. */
bool link_is_slow(const struct link *l);
/* Soon; until then nothing comes in or goes out. */
void link_drop(struct link *l);
bool link_is_dropped(const struct link *l);
/* The other side wishes to go: a socket is closed, the terminal stays. */
void link_leave(struct link *l);
/* "qmpN.pretty" */
bool link_is_pretty(const struct link *l);
/* A descriptor that has come with the input (SCM_RIGHTS), which is the caller's then; -1: none. */
int link_take_fd(struct link *l);

extern const struct control_protocol qmp_protocol, monitor_protocol;

#endif
