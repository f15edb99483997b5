/*
 * Coroutines: functions that wait for I/O without holding their thread, so that the metadata of an image format reads
 * as straight code while thousands of requests are in flight. Each has a stack of its own with a guard page below it.
 *
 * A coroutine belongs to the thread that started it. It runs until it waits, and nothing else runs in that thread
 * meanwhile: state is consistent from one wait to the next. Private to block/ and its tools.
 */
#ifndef VIREO_BLOCK_CO_H
#define VIREO_BLOCK_CO_H

#include <stdbool.h>
#include <stddef.h>

struct co;
typedef void co_fn(void *opaque);

/*
 * Start fn(opaque): from outside of coroutines it runs until its first wait before co_start() returns, from within one
 * as soon as that waits or ends. -1 without memory for a stack.
 */
int co_start(co_fn *fn, void *opaque);

/* The running coroutine; NULL outside. */
struct co *co_self(void);

/* Wait until somebody calls co_wake(). In a coroutine only. */
void co_wait(void);

/* Run fn(opaque) on a stack of its own and wait for its end, where calls may go deep. In a coroutine only. */
int co_call(co_fn *fn, void *opaque);

/* Let `c`, which waits, go on: at once from outside of coroutines, else when the running one waits or ends. */
void co_wake(struct co *c);

/* Give back the stacks that this thread keeps for later coroutines. */
void co_thread_end(void);

/* Coroutines that wait for something, first come first served. All zero is an empty one. */
struct co_queue {
	struct co *first, *last;
};
void co_queue_wait(struct co_queue *q);
bool co_queue_wake(struct co_queue *q); /* the first; false: nobody waits */
void co_queue_wake_all(struct co_queue *q);

/* All zero is a free one. */
struct co_mutex {
	bool held;
	struct co_queue waiting;
};
void co_lock(struct co_mutex *m);
void co_unlock(struct co_mutex *m);

#endif
