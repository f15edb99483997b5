/*
 * The io_uring back end of aio.h. Operations wait until the loop is about to sleep and are handed to
 * the kernel in one call; what completed by then is reaped without another wake-up.
 *
 * Everything runs in the loop thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/bytes.h"
#include "base/now.h"
#include "block/aio.h"

#define RING_ENTRIES 128
/* Rounds of submit and reap before the loop gets its turn: completions may submit more. */
#define ROUNDS_MAX 4
#define LARGE	   (128u << 10)
/* A write that took so long was held up by the kernel, and so may the next ones be for a while. */
#define HELD_UP_NS 1000000
#define WARY_NS	   100000000

struct uring {
	struct aio aio;
	struct loop *loop;
	struct loop_fd *watch;
	struct loop_hook hook;
	struct io_uring ring;
	unsigned in_flight; /* in the ring: prepared or with the kernel; at most RING_ENTRIES */
	unsigned prepared;  /* of these, not yet handed to the kernel */
	struct aio_op *waiting, **waiting_tail;
	/* The last one prepared, if that is a write that others may follow in turn: one thread of the kernel makes them
	 * all. */
	struct io_uring_sqe *chain;
	int chain_fd;
	int64_t wary; /* until then (now_ns()) no write is made in this thread */
};

static size_t bytes_of(const struct aio_op *op)
{
	size_t bytes = 0;

	for (unsigned n = 0; n < op->niov; n++)
		bytes += op->iov[n].iov_len;
	return bytes;
}

/*
 * What is in the page cache is copied in the call that submits it. That is best for one read or small ones; large ones
 * that come together are copied by other threads of the kernel, beside each other and beside this one. Not so writes,
 * which would wait for each other there by spinning.
 */
static bool is_large_read(const struct aio_op *op)
{
	return op->kind == AIO_READV && bytes_of(op) >= LARGE;
}

/* Submission entries of an operation. */
static unsigned entries(const struct aio_op *op)
{
	return op->kind == AIO_WRITEV && op->reserve ? 2 : 1;
}

/* Never more in flight than submission entries: get_sqe cannot fail, nor can completions overflow. */
static bool has_room(const struct uring *u, const struct aio_op *op)
{
	return u->in_flight + entries(op) <= RING_ENTRIES;
}

static void prepare(struct uring *u, struct aio_op *op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	bool in_turn = op->kind == AIO_WRITEV && op->in_turn;

	if (in_turn && u->chain && u->chain_fd == op->fd)
		u->chain->flags |= IOSQE_IO_HARDLINK;
	if (entries(op) == 2) {
		/* The write follows in any case, in the same thread of the kernel. */
		io_uring_prep_fallocate(sqe, op->fd, FALLOC_FL_KEEP_SIZE, (off_t)op->offset, (off_t)op->len);
		io_uring_sqe_set_flags(sqe, IOSQE_IO_HARDLINK);
		io_uring_sqe_set_data(sqe, NULL);
		sqe = io_uring_get_sqe(&u->ring);
	}
	switch (op->kind) {
	case AIO_CALL:
		io_uring_prep_nop(sqe); /* only the thread pool makes calls */
		break;
	case AIO_READV:
		io_uring_prep_readv(sqe, op->fd, op->iov, op->niov, op->offset);
		break;
	case AIO_WRITEV:
		io_uring_prep_writev(sqe, op->fd, op->iov, op->niov, op->offset);
		break;
	case AIO_FDATASYNC:
		io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
		break;
	case AIO_FALLOCATE:
		io_uring_prep_fallocate(sqe, op->fd, op->mode, (off_t)op->offset, (off_t)op->len);
		break;
	}
	io_uring_sqe_set_data(sqe, op);
	if (u->in_flight && is_large_read(op))
		io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
	u->chain = in_turn ? sqe : NULL;
	u->chain_fd = op->fd;
	u->in_flight += entries(op);
	u->prepared += entries(op);
}

static void uring_submit(struct aio *a, struct aio_op *op)
{
	struct uring *u = (struct uring *)a;

	op->next = NULL;
	*u->waiting_tail = op;
	u->waiting_tail = &op->next;
}

static struct aio_op *take_waiting(struct uring *u)
{
	struct aio_op *op = u->waiting;

	u->waiting = op->next;
	if (!u->waiting)
		u->waiting_tail = &u->waiting;
	return op;
}

static void fill_from_waiting(struct uring *u)
{
	while (u->waiting && has_room(u, u->waiting))
		prepare(u, take_waiting(u));
}

/*
 * Most file systems take no write into the page cache without waiting, so that io_uring leaves each to another thread,
 * whose wake-ups cost more than a small copy. Small ones are therefore made here, at most one ring full, so that the
 * loop gets its turn; but not while the kernel holds up those that write, as it does when too much of the cache is yet
 * to be written. True when any was made.
 */
static bool write_here(struct uring *u)
{
	unsigned n = 0;

	for (int64_t begin = now_ns(); n < RING_ENTRIES && begin >= u->wary; n++) {
		struct aio_op *op = u->waiting;
		int64_t end;

		if (!op || op->kind != AIO_WRITEV || !op->in_turn || bytes_of(op) >= LARGE)
			break;
		take_waiting(u);
		op->result = aio_perform(op);
		end = now_ns();
		if (end - begin >= HELD_UP_NS)
			u->wary = end + WARY_NS;
		begin = end;
		op->done(op, op->result);
	}
	return n > 0;
}

/* At most one ring full, so that the loop gets its turn. True when anything was reaped. */
static bool reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned n = 0;

	while (n < RING_ENTRIES && !io_uring_peek_cqe(&u->ring, &cqe)) {
		struct aio_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		u->in_flight--;
		n++;
		if (op)
			op->done(op, res);
	}
	return n > 0;
}

static void hand_over(struct uring *u, int *timeout_ms)
{
	int n;

	fill_from_waiting(u);
	u->chain = NULL;
	if (!u->prepared)
		return;
	n = io_uring_submit(&u->ring);
	if (n >= 0)
		u->prepared -= (unsigned)n < u->prepared ? (unsigned)n : u->prepared;
	else if (*timeout_ms < 0 || *timeout_ms > 1)
		*timeout_ms = 1; /* short of memory or of completion space: what is prepared stays, try again soon */
}

static void hook_prepare(void *opaque, int *timeout_ms)
{
	struct uring *u = opaque;

	for (int i = 0; i < ROUNDS_MAX; i++) {
		if (write_here(u))
			continue;
		hand_over(u, timeout_ms);
		if (!reap(u))
			break;
	}
	if ((u->prepared || (u->waiting && has_room(u, u->waiting))) && *timeout_ms != 1)
		*timeout_ms = 0;
}

static void hook_ready(void *opaque)
{
}

static void on_ring_readable(void *opaque, int fd, uint32_t events)
{
	reap(opaque);
}

static bool ring_has_ops(struct io_uring *ring)
{
	static const int needed[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE };
	struct io_uring_probe *p = io_uring_get_probe_ring(ring);
	bool ok = p != NULL;

	for (size_t i = 0; ok && i < ARRAY_LEN(needed); i++)
		ok = io_uring_opcode_supported(p, needed[i]);
	io_uring_free_probe(p);
	return ok;
}

static struct aio *uring_open(struct loop *loop, struct err *err)
{
	struct uring *u = calloc(1, sizeof(*u));
	int ret;

	if (!u) {
		err_errno(err, ENOMEM, "io_uring");
		return NULL;
	}
	u->aio.drv = &aio_uring;
	u->loop = loop;
	u->waiting_tail = &u->waiting;
	ret = io_uring_queue_init(RING_ENTRIES, &u->ring, 0);
	if (ret < 0) {
		err_errno(err, -ret, "io_uring is not available");
		goto out_free;
	}
	if (!ring_has_ops(&u->ring)) {
		err_set(err, "io_uring of this kernel lacks operations");
		goto out_ring;
	}
	u->watch = loop_fd_add(loop, u->ring.ring_fd, EPOLLIN, on_ring_readable, u, err);
	if (!u->watch)
		goto out_ring;
	u->hook = (struct loop_hook){ .prepare = hook_prepare, .ready = hook_ready, .opaque = u };
	loop_hook_add(loop, &u->hook);
	return &u->aio;
out_ring:
	io_uring_queue_exit(&u->ring);
out_free:
	free(u);
	return NULL;
}

static void uring_close(struct aio *a)
{
	struct uring *u = (struct uring *)a;

	loop_hook_del(u->loop, &u->hook);
	loop_fd_del(u->watch);
	io_uring_queue_exit(&u->ring);
	free(u);
}

const struct aio_driver aio_uring = {
	.name = "io_uring",
	.open = uring_open,
	.submit = uring_submit,
	.close = uring_close,
};
