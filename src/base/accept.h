/*
 * Who comes to a listening socket. The kernel says without an end that somebody waits there, also while there is no
 * descriptor or no memory for another connection: nobody is taken then for a second, and everything else goes on.
 */
#ifndef VIREO_BASE_ACCEPT_H
#define VIREO_BASE_ACCEPT_H

#include <stdbool.h>

#include "base/loop.h"

#define ACCEPT_PAUSE_MS 1000

/*
 * Who waits at `fd`, with flags as of accept4(2) (it is closed on exec); or -1. `*full`: there is no room, which has
 * been logged with `name`; come again after the pause. Any thread.
 */
int accept_one(int fd, int flags, const char *name, bool *full);

struct accepter;
/* Takes `fd`, which does not block. The accepter may be held, but not freed. */
typedef void accept_fn(void *opaque, int fd);

/* `fd` and `name` are borrowed. These belong to the loop's thread. */
struct accepter *accepter_new(struct loop *l, int fd, const char *name, accept_fn *fn, void *opaque, struct err *err);
/* Leave others waiting, or not any more. */
void accepter_hold(struct accepter *a, bool on);
void accepter_free(struct accepter *a); /* NULL is fine */

#endif
