/*
 * Asynchronous file I/O under the block room: io_uring, or a small thread pool where io_uring is
 * refused (containers, old kernels). Both drive the same operations and finish them in the thread
 * of the loop they were made with.
 *
 * Private to block/. aio_submit(): the loop thread, or before the loop runs. Everything else: the
 * thread that opens and closes the node, while the loop does not run.
 */
#ifndef VIREO_BLOCK_AIO_H
#define VIREO_BLOCK_AIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

enum aio_kind { AIO_READV, AIO_WRITEV, AIO_FDATASYNC, AIO_FALLOCATE, AIO_CALL /* threads only */ };

struct aio_op {
	enum aio_kind kind;
	int fd;
	int mode;		 /* AIO_FALLOCATE: as fallocate(2) */
	uint64_t offset, len;	 /* bytes; `len` is for AIO_FALLOCATE and `reserve` */
	const struct iovec *iov; /* borrowed until done; at most IOV_MAX entries */
	unsigned niov;
	bool reserve; /* AIO_WRITEV: have room for `len` bytes first; whether that went well does not matter */
	bool in_turn; /* AIO_WRITEV: the kernel makes those of this file one after the other anyway */
	int (*call)(void *opaque); /* AIO_CALL: in a thread of the pool; 0 or -errno */
	void *opaque;
	void (*done)(struct aio_op *op, ssize_t result); /* bytes, 0, or -errno; in the loop thread */
	/* private to the back end */
	struct aio_op *next;
	ssize_t result;
};

struct aio;

struct aio_driver {
	const char *name;
	struct aio *(*open)(struct loop *loop, struct err *err);
	void (*submit)(struct aio *a, struct aio_op *op);
	void (*close)(struct aio *a); /* nothing is in flight */
};

/* Each back end embeds this as its first member. */
struct aio {
	const struct aio_driver *drv;
};

/* Makes the call of an operation and waits for it: bytes, 0, or -errno. Any thread. */
ssize_t aio_perform(const struct aio_op *op);

extern const struct aio_driver aio_uring;
extern const struct aio_driver aio_threads;

#endif
