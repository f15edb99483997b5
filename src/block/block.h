/*
 * Block nodes: disk images behind asynchronous read, write, flush, discard and write-zeroes.
 *
 * Every node has an I/O thread of its own that runs an event loop (block_loop()). A front end adds
 * its doorbells to that loop, submits from there and gets its completions there, so that a disk's
 * requests never change threads. Tools without a loop use block_submit_wait().
 *
 * block_open, block_close, block_call, block_drain, block_resize, block_resume, block_submit_wait: any thread but
 * the I/O thread. block_submit, block_cancel_stalled and callbacks: the I/O thread. Getters: any.
 */
#ifndef VIREO_BLOCK_BLOCK_H
#define VIREO_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/stats.h"
#include "block/req.h"

#define BLOCK_SECTOR 512u

struct block_node;

/*
 * What becomes of a read or a write that the host cannot carry out: it fails (REPORT), it is said to have succeeded
 * (IGNORE), or it is stalled until it succeeds (STOP; ENOSPC: only for want of space). Flushes, and what comes after
 * one that has failed, are always reported.
 */
enum block_on_error { BLOCK_ON_ERROR_DEFAULT, BLOCK_REPORT, BLOCK_IGNORE, BLOCK_STOP, BLOCK_ENOSPC };

enum block_aio { BLOCK_AIO_AUTO, BLOCK_AIO_URING, BLOCK_AIO_THREADS };

/* Of all requests, of reads, of writes; a second. 0: none. The totals exclude the others. */
struct block_limits {
	uint64_t iops, iops_rd, iops_wr;
	uint64_t bps, bps_rd, bps_wr; /* bytes */
};

/* All zero but `path` is a good configuration. Strings are borrowed during block_open(). */
struct block_config {
	const char *path;   /* a regular file or a block device */
	const char *format; /* NULL: from the suffix and the header of the image */
	const char *name;   /* for messages and the thread, "disk0"; NULL: the path */
	bool readonly;
	bool snapshot;	 /* the image is not written to: what is written is forgotten at the end */
	bool no_lock;	 /* another program may use the image at the same time */
	bool no_discard; /* accept discards without effect: keep the space allocated */
	bool follow;	 /* open whatever backing file an image names; else only one beside it, with its format */
	bool odd_size;	 /* a raw file may end within a sector: reads give zeroes there (for tools) */
	bool direct;	 /* around the page cache */
	bool no_flush;	 /* flushes succeed without effect */
	enum block_on_error on_write, on_read; /* default: BLOCK_ENOSPC, BLOCK_REPORT */
	enum block_aio aio;
	struct block_limits limits;
	/* The opener that paths go through: an fd or -1 with errno. NULL: open(2). */
	int (*open_path)(void *opaque, const char *path, int flags);
	void *open_opaque;
};

struct block_req;
/* `ret` is 0 or -errno: EINVAL (range), EROFS, EPERM, ENOSPC, EIO (also: the disk has failed before), ... */
typedef void block_done_fn(struct block_req *r, int ret);

/* Owned by the caller, who keeps it and its buffers unchanged until done(). */
struct block_req {
	enum block_op op;
	uint32_t flags;		 /* BLOCK_REQ_UNMAP */
	uint64_t offset, bytes;	 /* bytes; not for FLUSH */
	const struct iovec *iov; /* READ, WRITE: exactly `bytes` in total; at most BLOCK_MAX_IOV entries */
	unsigned niov;
	block_done_fn *done; /* may be called before block_submit() returns */
	void *opaque;

	/* private to block/ */
	struct block_node *node;
	struct block_req *next;
	struct node_req io;
	bool retried;		 /* it was stalled */
	struct iovec *guard_iov; /* with a private copy of sector 0 */
};

#define BLOCK_MAX_IOV 1022u
/* The most bytes one request may move or cover; larger ones get EINVAL. */
#define BLOCK_MAX_BYTES (1ull << 31)

struct block_node *block_open(const struct block_config *c, struct err *err);
/* Waits for what is in flight, cancels what is stalled. Its users have detached from the loop. */
void block_close(struct block_node *n);

/* What the node is. The size is in bytes, a multiple of BLOCK_SECTOR. */
uint64_t block_size(const struct block_node *n);
bool block_readonly(const struct block_node *n);
const struct block_limits *block_limits(const struct block_node *n);
bool block_can_discard(const struct block_node *n);
const char *block_format_name(const struct block_node *n);
const char *block_aio_name(const struct block_node *n); /* "io_uring" or "threads" */
const char *block_path(const struct block_node *n);
const char *block_name(const struct block_node *n); /* as in block_config */
/* When the image was written last, in nanoseconds since 1970, by anybody; 0: a block device does not tell. */
uint64_t block_modified(const struct block_node *n);
struct loop *block_loop(struct block_node *n);
/* A flush has failed: everything is refused with EIO until the image is opened again. */
bool block_failed(const struct block_node *n);

/*
 * Make it `size` bytes, a multiple of BLOCK_SECTOR; what is new reads as zeroes. The node is drained (block_drain()),
 * or nobody uses it. Any thread but the I/O thread.
 */
int block_resize(struct block_node *n, uint64_t size, struct err *err);

void block_submit(struct block_node *n, struct block_req *r);
/* Submit from any other thread and wait; returns the result. done and opaque are overwritten. */
int block_submit_wait(struct block_node *n, struct block_req *r);

/* Run fn(opaque) in the I/O thread and wait until it has returned. */
void block_call(struct block_node *n, loop_fn *fn, void *opaque);

/*
 * Wait until nothing is in flight; stalled requests stay stalled and are not retried before the
 * matching block_resume(). The caller has stopped submitting.
 */
void block_drain(struct block_node *n);
void block_resume(struct block_node *n);

enum block_event {
	BLOCK_EVENT_NOSPACE, /* a request is stalled, for want of space as a rule: pause the VM */
	BLOCK_EVENT_SPACE,   /* the stalled requests went through: the VM may go on */
	BLOCK_EVENT_FAILED   /* a flush failed; see block_failed() */
};
typedef void block_event_fn(void *opaque, enum block_event e);
/*
 * With a handler, requests are stalled as on_write and on_read say, and retried several times a second; without one
 * they fail. Called in the I/O thread: hand the news on, do not wait there.
 * Set it before the first request.
 */
void block_set_event(struct block_node *n, block_event_fn *fn, void *opaque);
/* End stalled requests with ECANCELED (device reset). */
void block_cancel_stalled(struct block_node *n);
/* Requests are stalled: a state saved now would lose them. Any thread, after block_drain(). */
bool block_has_stalled(const struct block_node *n);
/* Why, as an errno, and whether it is a read. */
int block_stall_cause(const struct block_node *n, bool *read);

struct block_stats {
	stat_t reads, writes, flushes, discards, zeroes; /* requests */
	stat_t read_bytes, written_bytes;
	stat_t errors, stalls;
};
struct block_stats *block_get_stats(struct block_node *n);

#endif
