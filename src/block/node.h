/*
 * Nodes: the graph behind a disk. A protocol node (file, host_device, null-co) moves bytes; a format node (raw, qcow2)
 * stands on one, its child `file`, and may have a `backing` node, which has what it does not, and a `data_file`.
 * Each format or protocol is one const table of functions, struct node_driver.
 *
 * A graph belongs to one node_ctx: one event loop and its thread. Everything here runs in that thread; what is marked
 * "waits" in a coroutine (co.h). Private to block/ and the image tool.
 */
#ifndef VIREO_BLOCK_NODE_H
#define VIREO_BLOCK_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "block/aio.h"
#include "block/co.h"
#include "block/event.h"
#include "block/opts.h"
#include "block/req.h"

enum node_aio { NODE_AIO_AUTO, NODE_AIO_URING, NODE_AIO_THREADS };

/* Which files may be opened because an image names them. */
enum node_follow {
	NODE_FOLLOW_ANY,  /* all: an image tool on its user's behalf */
	NODE_FOLLOW_NEAR, /* a file in the directory of the image that names it, with its format recorded there */
};

/* What the nodes of one graph, or of one run of a tool, share. */
struct secret;
struct throttle_group;
struct incomplete;
struct node_ctx {
	struct loop *loop;
	enum node_aio aio;
	enum node_follow follow;
	/* The opener that paths go through: an fd or -1 with errno. NULL: open(2). */
	int (*open_path)(void *opaque, const char *path, int flags);
	void *open_opaque;
	/* A flush of a file failed, for good: called once for each file. May be NULL. */
	void (*failed)(void *opaque, const char *path, int ret);
	void *failed_opaque;
	/* How much of a long call is done, of 1; it may become less. May be NULL. */
	void (*progress)(void *opaque, double done);
	void *progress_opaque;
	struct secret *secrets;		  /* secret.h */
	struct throttle_group *throttles; /* throttle.h */
	/* private */
	const char *making; /* incomplete.h */
	bool over_incomplete;
	struct incomplete *incomplete;
	struct aio *uring, *threads;
	int open_errno; /* of the last path that could not be opened */
	unsigned depth; /* of node_open() within itself */
	bool too_deep;	/* and that was why it failed */
	bool loop_is_own;
};

/* With a loop of its own, which node_ctx_run() runs. */
int node_ctx_init(struct node_ctx *c, struct err *err);
void node_ctx_free(struct node_ctx *c);
/* Run fn(opaque) as a coroutine in this thread, and the loop until it has ended. Not from within a coroutine. */
void node_ctx_run(struct node_ctx *c, co_fn *fn, void *opaque);

/* Run fn(opaque), which computes, in a thread of its own; what it returned. Waits. */
int node_work(struct node_ctx *c, int (*fn)(void *opaque), void *opaque);
/* The context's back end of the kind that is wanted, made when first needed. */
struct aio *node_ctx_aio(struct node_ctx *c, enum node_aio which, struct err *err);

#define NODE_RDWR	  1u	/* for writing too */
#define NODE_PROTOCOL	  2u	/* the file itself: no format is looked for */
#define NODE_NO_BACKING	  4u	/* leave the backing node out */
#define NODE_NO_LOCK	  8u	/* other programs may use the image at the same time, for writing too */
#define NODE_NO_DISCARD	  16u	/* accept discards without effect */
#define NODE_DIRECT	  32u	/* around the page cache */
#define NODE_NO_FLUSH	  64u	/* flushes succeed without effect */
#define NODE_CHECK	  128u	/* to be checked or repaired: open what is known to be corrupt */
#define NODE_RAW_GUESSED  256u	/* (found) the format was guessed raw */
#define NODE_OPENED	  512u	/* (private) its driver has opened it */
#define NODE_NO_IO	  1024u /* only its metadata is wanted */
#define NODE_RESIZE	  2048u /* others must not change the size, and we may */
#define NODE_BACKING_RDWR 4096u /* the backing node for writing too (commit) */
#define NODE_QUIET	  8192u /* no warnings */

#define NODE_CHAIN_MAX 256u /* nodes behind each other */

/* What a byte range is, from `offset` on for `bytes`. */
struct node_extent {
	uint64_t bytes; /* that are all the same */
	bool allocated; /* this node says what they are, not its backing node */
	bool data;	/* something is stored */
	bool zero;	/* they read as zeroes */
	bool compressed;
	bool has_offset; /* `file` has them at `offset` as they are */
	bool look_below; /* what is data here may be a hole in `file` */
	bool eof;	 /* up to the end of the node */
	uint64_t offset;
	struct node *file;
	unsigned depth; /* how many backing nodes down (node_status_chain()) */
};

enum node_prealloc { PREALLOC_OFF, PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL };
extern const char *const node_prealloc_names[]; /* NULL-terminated */

struct node_resize {
	uint64_t size;
	enum node_prealloc prealloc;
	bool exact; /* or larger */
};

struct node_info {
	uint64_t cluster_size; /* 0: none */
	bool dirty, encrypted;
	uint64_t vm_state_offset; /* where the state of a machine begins */
};

/* Each finding is also a line on stderr. */
struct node_check {
	int64_t corruptions, leaks, check_errors, corruptions_fixed, leaks_fixed;
	uint64_t allocated_clusters, total_clusters, compressed_clusters, fragmented_clusters;
	uint64_t image_end_offset;
};
#define CHECK_FIX_LEAKS	 1u
#define CHECK_FIX_ERRORS 2u

struct node_snapshot {
	char *id, *name;
	uint64_t vm_state_size, disk_size, date_sec, vm_clock_ns, icount;
	uint32_t date_ns;
	bool has_icount;
};

/* An option of creating, with QEMU's name and words. */
struct node_create_option {
	const char *name;
	char kind; /* 's' text, 'b' switch, 'z' size, 'n' number */
	const char *help;
	const char *dflt; /* as text; NULL: none */
};

struct node_driver;
struct node_bitmap_ops;

struct node {
	const struct node_driver *drv;
	struct node_ctx *ctx;
	void *state; /* drv->state_size bytes, zero at first */
	uint32_t flags;
	uint64_t size;	/* bytes, as they are */
	uint32_t align; /* of offset and bytes of requests to it; 1: any */
	char *filename; /* as it was named; "json:{...}" when no name says it */
	struct opts *options;
	struct node *file, *backing, *data_file;
	struct node *parent;
	bool detects_zeroes, unmaps_zeroes; /* writes of nothing but zeroes are write-zeroes, which may deallocate */
	/* What the image says about its backing file; NULL: nothing. */
	char *backing_name, *backing_format;
};

struct node_driver {
	const char *name;
	size_t state_size;
	bool is_protocol;
	bool is_remote;	    /* a protocol whose names are no paths */
	bool is_filter;	    /* what it is asked its child is asked, or less; that child is opened like itself */
	bool has_backing;   /* may have a backing node */
	bool compresses;    /* takes BLOCK_REQ_COMPRESSED */
	bool forces;	    /* takes BLOCK_REQ_FUA, if its child does; without, a flush of the node follows the write */
	const char *prefix; /* of names that are for this protocol: "null-co"; NULL: none */
	const struct node_create_option *create_options; /* ends with name == NULL; NULL: cannot create */
	const struct node_create_option *amend_options;	 /* the same, for amend() */

	/* A format node's child `file` is open. Waits. */
	int (*open)(struct node *n, struct opts *o, struct err *err);
	/* Write back what is cached and forget the state; children are still open. Waits. */
	void (*close)(struct node *n);
	/* Carry out `r`, whose range has been checked by whoever asked. */
	void (*submit)(struct node *n, struct node_req *r);

	/* All below may be NULL, return 0 or -errno (with `err` filled when there is one), and wait. */
	int (*create)(struct node_ctx *c, const char *filename, struct opts *o, struct err *err);
	/* What create() would say of its options before it makes anything. */
	int (*check_create)(struct opts *o, struct err *err);
	int (*truncate)(struct node *n, const struct node_resize *how, struct err *err);
	int (*status)(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e);
	int (*info)(struct node *n, struct node_info *i);
	/* Facts of the format for `info`: an object of name to value. */
	struct json_t *(*specifics)(struct node *n);
	int (*check)(struct node *n, struct node_check *c, unsigned fix);
	int (*change_backing)(struct node *n, const char *file, const char *format, struct err *err);
	int (*make_empty)(struct node *n);
	int (*amend)(struct node *n, struct opts *o, bool force, struct err *err);
	uint64_t (*allocated)(struct node *n); /* bytes on the host */
	/* A request of its parent has come this far. */
	void (*event)(struct node *n, enum node_event e);
	/* Read or write the state of a machine, which lies behind the disk. */
	int (*vmstate)(struct node *n, bool write, uint64_t offset, void *buf, uint64_t bytes);

	const struct node_bitmap_ops *bitmaps; /* bitmap.h */

	int (*snapshot_list)(struct node *n, struct node_snapshot **out, unsigned *count);
	int (*snapshot_create)(struct node *n, struct node_snapshot *s, struct err *err);
	int (*snapshot_apply)(struct node *n, const char *id_or_name, struct err *err);
	int (*snapshot_delete)(struct node *n, const char *id_or_name, struct err *err);
	/* Make the node show a snapshot, read only. */
	int (*snapshot_load)(struct node *n, const char *id_or_name, struct err *err);
};

extern const struct node_driver node_file, node_host_device, node_host_cdrom, node_null_co, node_null_aio, node_raw,
	node_qcow2, node_blkdebug, node_blklogwrites, node_throttle, node_copy_on_read, node_compress, node_nbd,
	node_nbd_tcp, node_nbd_unix, node_luks;
/* NULL-terminated. */
extern const struct node_driver *const node_drivers[];
const struct node_driver *node_driver_find(const char *name);

/*
 * Open what `filename` (may be NULL) and `o` describe; `o` is the caller's and may be NULL. A name with `json:` before
 * an object is more options. An option that no driver took is an error. Waits.
 */
struct node *node_open(struct node_ctx *c, const char *filename, const struct opts *o, unsigned flags, struct err *err);
/* The same for a child that is open already, which it takes, also on error. Waits. */
struct node *node_open_over(struct node *file, const struct node_driver *drv, const struct opts *o, unsigned flags,
			    struct err *err);
/* With its children. Waits. NULL is fine. */
void node_close(struct node *n);

/* Open n->file, whose options begin with "NAME.". More NODE_* flags than those of `n` may be given. Waits. */
int node_open_child(struct node *n, const char *name, const char *filename, struct opts *o, unsigned flags,
		    struct err *err);
/* Open for `n` the backing node that its image names, or `o` describes. Waits. */
int node_open_backing(struct node *n, struct opts *o, struct err *err);
/* What `name`, written in the image of `n`, is called here. Caller frees. NULL: with an error. */
char *node_resolve(const struct node *n, const char *name, struct err *err);
/* An error when the context's rule does not let `path` be opened, which the image of `n` calls `name`. */
int node_may_follow(const struct node *n, const char *name, const char *path, struct err *err);
/* `name` relative to the directory of `base`. Caller frees. */
char *node_combine(const char *base, const char *name);
/* The path of the file at the bottom; NULL when it has none. */
const char *node_path(const struct node *n);
/* True when `name` begins with the name of a protocol and a colon. */
bool node_has_protocol(const char *name);
/* The protocol for `filename`; NULL with an error. */
const struct node_driver *node_protocol(const char *filename, struct err *err);
/* The size of what is stored, on the host; NODE_UNKNOWN on another. */
#define NODE_UNKNOWN UINT64_MAX
uint64_t node_allocated(struct node *n);
uint64_t node_modified(const struct node *n);
const char *node_aio_name(const struct node *n); /* "io_uring" or "threads", of the file at the bottom */
/* Make, or empty, what `filename` names, by its protocol. Waits. */
int node_create_protocol(struct node_ctx *c, const char *filename, struct opts *o, struct err *err);
/* create() of the file driver, and of protocols where nothing can be made: what is there must be large enough. */
int node_create_file(struct node_ctx *c, const char *filename, struct opts *o, struct err *err);
/* A regular file whose making failed goes away. */
void node_remove_file(struct node_ctx *c, const char *filename);
int node_create_existing(struct node_ctx *c, const char *filename, struct opts *o, struct err *err);

static inline bool node_readonly(const struct node *n)
{
	return !(n->flags & NODE_RDWR);
}

/* The node under filters. */
static inline struct node *node_unfiltered(struct node *n)
{
	while (n->drv->is_filter)
		n = n->file;
	return n;
}

/* Tell `n` what its parent is about to do. Waits. */
static inline void node_event(struct node *n, enum node_event e)
{
	if (n->drv->event)
		n->drv->event(n, e);
}

/* --- requests (all wait but the first) --- */

void node_submit(struct node *n, struct node_req *r);
int node_io(struct node *n, struct node_req *r); /* `done` is overwritten */
int node_read(struct node *n, uint64_t offset, void *buf, size_t bytes);
int node_write(struct node *n, uint64_t offset, const void *buf, size_t bytes);
int node_readv(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov);
int node_writev(struct node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov);
int node_zeroes(struct node *n, uint64_t offset, uint64_t bytes, uint32_t flags);
int node_discard(struct node *n, uint64_t offset, uint64_t bytes);
int node_flush(struct node *n);
int node_truncate(struct node *n, const struct node_resize *how, struct err *err);
/* One extent of the node itself; what a driver does not know is data. */
int node_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e);
/* The same through the backing nodes down to, not including, `base` (NULL: all). */
int node_status_chain(struct node *n, struct node *base, uint64_t offset, uint64_t bytes, struct node_extent *e);

/* Helpers for scattered buffers. */
unsigned iov_slice(struct iovec *out, const struct iovec *iov, unsigned niov, uint64_t skip, uint64_t bytes);
void iov_to_buf(void *buf, const struct iovec *iov, unsigned niov, uint64_t skip, size_t bytes);
void iov_from_buf(const struct iovec *iov, unsigned niov, uint64_t skip, const void *buf, size_t bytes);
bool iov_is_zero(const struct iovec *iov, unsigned niov);
void iov_zero(const struct iovec *iov, unsigned niov, uint64_t skip, uint64_t bytes);

#endif
