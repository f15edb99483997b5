/*
 * The event loop: file descriptors and posted functions. One per VM (the main loop), further ones
 * where a room needs its own thread.
 *
 * loop_run() is called by one thread, "the loop thread"; callbacks run there. loop_fd_add(), loop_post() and
 * loop_quit() may be called from any thread; everything else from the loop thread, or before it
 * starts.
 */
#ifndef VIREO_BASE_LOOP_H
#define VIREO_BASE_LOOP_H

#include <stdint.h>

#include "base/err.h"

struct loop;
struct loop_fd;

/* `events` is a mask of EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP as of epoll_ctl(2). */
typedef void loop_fd_fn(void *opaque, int fd, uint32_t events);
typedef void loop_fn(void *opaque);

struct loop *loop_new(struct err *err);
void loop_free(struct loop *l);

/*
 * Watch `fd` (borrowed), level-triggered. The handle is valid until loop_fd_del(), also in callbacks. On error errno
 * says why: EPERM for files that are always ready.
 */
struct loop_fd *loop_fd_add(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *opaque, struct err *err);
void loop_fd_mod(struct loop_fd *w, uint32_t events);
void loop_fd_del(struct loop_fd *w); /* NULL is fine */

/*
 * A hook for libraries that bring their own poll set (libslirp): `prepare` is called before each
 * sleep and may lower the timeout in ms (-1 = none); `ready` after each wake-up.
 */
struct loop_hook {
	void (*prepare)(void *opaque, int *timeout_ms);
	void (*ready)(void *opaque);
	void *opaque;
	struct loop_hook *next; /* owned by the loop */
};
void loop_hook_add(struct loop *l, struct loop_hook *h);
void loop_hook_del(struct loop *l, struct loop_hook *h);

/* Call fn(opaque) once, soon, in the loop thread. */
void loop_post(struct loop *l, loop_fn *fn, void *opaque);

/*
 * Look for work so long (ns; 0, at first: not at all) before going to sleep, if the last wait was as short: who comes
 * again at once finds the thread awake, and no time is spent on a loop that has little to do. Before the loop runs, or
 * in it.
 */
void loop_set_patience(struct loop *l, int64_t ns);

void loop_run(struct loop *l); /* until loop_quit() */
void loop_quit(struct loop *l);

#endif
