/*
 * The parts of the NBD client: where a server is (nbd_address.c), a socket that coroutines read and write (nbd_link.c),
 * the negotiation (nbd_handshake.c), what it answers
 * (nbd_reply.c) and the node (nbd.c). The protocol is the NBD project's doc/proto.md; numbers are
 * big-endian. Nothing that a server says is believed before it has been checked. Private to block/; the thread of the
 * node's loop.
 */
#ifndef VIREO_BLOCK_NBD_H
#define VIREO_BLOCK_NBD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"
#include "block/co.h"
#include "block/filter.h"
#include "block/node.h"
#include "block/opts.h"

#define NBD_STRING_MAX 4096u	   /* of a name */
#define NBD_BUFFER_MAX (32u << 20) /* of a read, a write and zeroes */
#define NBD_STATUS_MAX (1u << 30)  /* of a question for the status, and of a trim */
#define NBD_NEVER      (INT64_MAX) /* a deadline that does not come */

enum {
	NBD_FLAG_HAS_FLAGS = 1,
	NBD_FLAG_READ_ONLY = 2,
	NBD_FLAG_SEND_FLUSH = 4,
	NBD_FLAG_SEND_FUA = 8,
	NBD_FLAG_SEND_TRIM = 32,
	NBD_FLAG_SEND_WRITE_ZEROES = 64,
	NBD_FLAG_SEND_FAST_ZERO = 2048,
};

enum { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_DISC, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_ZEROES = 6, NBD_CMD_STATUS };
enum { NBD_CMD_FUA = 1, NBD_CMD_NO_HOLE = 2, NBD_CMD_REQ_ONE = 8, NBD_CMD_FAST_ZERO = 16 };

/* --- where a server is --- */

struct nbd_address {
	bool is_unix, is_abstract;
	char *path, *host, *port; /* path, or host and port */
};

/* Take the options that say it, or `filename` if it is there; the name of the export goes to *export (NULL: none). */
int nbd_address_take(struct nbd_address *a, struct opts *o, char **export, struct err *err);
/* "nbd://host:port/export" or the like. Caller frees; NULL without memory. */
char *nbd_address_name(const struct nbd_address *a, const char *export);
void nbd_address_free(struct nbd_address *a);

/* --- a socket --- */

struct nbd_link {
	struct node_ctx *ctx;
	int fd, timer; /* -1: none */
	struct loop_fd *watch, *timer_watch;
	uint32_t wanted;
	struct co *reader, *writer, *sleeper;
	bool broken;	  /* by us, or the time is over */
	int64_t deadline; /* of everything that waits, ns of the monotonic clock */
	uint8_t in[4096];
	unsigned at, have;
};

int nbd_link_init(struct nbd_link *l, struct node_ctx *c, struct err *err);
void nbd_link_free(struct nbd_link *l);
/* 0 or -errno with `err`. Waits, as all below; what is read or written is all or -errno (EPIPE: the end). */
int nbd_link_connect(struct nbd_link *l, const struct nbd_address *a, struct err *err);
int nbd_link_read(struct nbd_link *l, void *buf, size_t bytes);
int nbd_link_readv(struct nbd_link *l, const struct iovec *iov, unsigned niov, uint64_t bytes);
/* Of one coroutine at a time. `iov` is changed. */
int nbd_link_writev(struct nbd_link *l, struct iovec *iov, unsigned niov);
int nbd_link_write(struct nbd_link *l, const void *buf, size_t bytes);
/* Nothing more will be written. Does not wait. */
void nbd_link_end(struct nbd_link *l);
/* Let who reads or writes fail. Does not wait. */
void nbd_link_break(struct nbd_link *l);
/* After nobody reads or writes any longer. Does not wait. */
void nbd_link_close(struct nbd_link *l);
/* From now on nothing waits longer than until `when`. Does not wait. */
void nbd_link_deadline(struct nbd_link *l, int64_t when);
void nbd_link_sleep(struct nbd_link *l, int64_t until);

/* --- negotiation --- */

struct nbd_export {
	const char *name;    /* "" for the default */
	const char *context; /* of the status that is wanted */
	uint64_t size;
	uint16_t flags;
	uint32_t min_block, max_block; /* 0: not said */
	bool structured, has_context;
	uint32_t context_id;
};

/* On a new connection, up to where requests begin. Waits. */
int nbd_handshake(struct nbd_link *l, struct nbd_export *e, struct err *err);

/* --- the node --- */

#define NBD_SLOTS 16u /* requests on their way */

struct nbd_command {
	unsigned type, flags;
	uint64_t offset, bytes;
	const struct iovec *iov;
	unsigned niov;
	/* answer */
	struct {
		uint32_t bytes, flags;
	} extent;
};

struct nbd_slot {
	struct nbd_command *c; /* NULL: free */
	struct co *waiter;
	uint64_t handle;
	uint64_t got; /* bytes of a read */
	unsigned errors;
	int ret;
	bool scattered; /* they do not come in order */
	bool done, lost;
};

struct nbd {
	struct nbd_address address;
	struct nbd_export e;
	char *export, *context;
	bool depths; /* the context is qemu:allocation-depth */
	uint64_t reconnect_delay, open_timeout;
	struct nbd_link link;
	enum { NBD_LOST, NBD_CONNECTED, NBD_QUIT } state;
	bool reading, connecting;
	int64_t lost_at, tried_at;
	struct nbd_slot slots[NBD_SLOTS];
	unsigned in_flight;
	uint64_t count; /* of requests: a handle is never used again */
	struct co_queue free_slots, changed;
	struct co_mutex send;
	struct filter_ranges ranges;
};

/*
 * The coroutine that reads what the server says to the node `opaque` and fills the slots; when the connection is lost
 * it fails those that wait. A server that breaks the protocol is not asked a second time.
 */
void nbd_reader(void *opaque);
/* Say of the server that it does; -EPROTO. */
int nbd_lie(struct node *n, const char *what);

#endif
