/*
 * The top of a graph of nodes, as front ends see it: checks requests, guards sector 0 of a guessed raw image, latches a
 * failed disk, parks writes that found no space, and counts what is in flight for those who wait.
 *
 * All state but the atomics belongs to the I/O thread.
 */
#include "block/block.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/format.h"
#include "block/image.h"

#define RETRY_MS    250
#define PATIENCE_NS 60000 /* a guest that asks for one block after the other is back by then */

_Static_assert(BLOCK_MAX_IOV + 1 <= IOV_MAX, "preadv and friends take IOV_MAX, and the guard may add one");

struct waiter {
	sem_t sem;
	struct waiter *next;
};

struct block_node {
	char *path, *name;
	bool readonly, guessed;
	struct block_limits limits;
	enum block_on_error on_write, on_read;
	uint64_t size; /* bytes, a multiple of BLOCK_SECTOR */
	struct node_ctx ctx;
	struct node *top;
	struct loop *loop; /* the context's */
	pthread_t thread;

	unsigned in_flight;
	struct node_req write_back; /* of tables that a format keeps in memory */
	bool writing_back;
	unsigned held; /* block_drain() calls that wait for their block_resume() */
	struct waiter *waiters;
	atomic_bool failed;

	/* Requests that wait for better times, as a rule writes for space; oldest first. */
	struct block_req *stalled, **stalled_tail;
	atomic_bool nospace;
	_Atomic int cause; /* of that: an errno, negative of a read */
	int retry_fd;
	struct loop_fd *retry_watch;
	block_event_fn *event;
	void *event_opaque;

	struct block_stats stats;
};

static void post_event(struct block_node *n, enum block_event e)
{
	if (n->event)
		n->event(n->event_opaque, e);
}

/* --- stalled writes --- */

static void retry_arm(struct block_node *n, bool on)
{
	struct itimerspec t = { 0 };

	if (on) {
		t.it_value.tv_nsec = RETRY_MS * 1000000l;
		t.it_interval = t.it_value;
	}
	timerfd_settime(n->retry_fd, 0, &t, NULL);
}

static void complete(struct node_req *io, int ret);

static void dispatch(struct block_node *n, struct block_req *r)
{
	n->in_flight++;
	r->io.op = r->op;
	r->io.flags = r->flags;
	r->io.offset = r->offset;
	r->io.bytes = r->bytes;
	r->io.done = complete;
	node_submit(n->top, &r->io);
}

static void retry_one(struct block_node *n)
{
	struct block_req *r = n->stalled;

	n->stalled = r->next;
	if (!n->stalled)
		n->stalled_tail = &n->stalled;
	r->retried = true;
	dispatch(n, r);
}

static void on_retry_timer(void *opaque, int fd, uint32_t events)
{
	struct block_node *n = opaque;
	uint64_t expired;

	if (read(fd, &expired, sizeof(expired)) < 0)
		return;
	if (n->stalled && !n->held)
		retry_one(n);
}

/* What becomes of it. */
static enum block_on_error on_error(const struct block_node *n, const struct block_req *r, int ret)
{
	enum block_on_error e = r->op == BLOCK_READ ? n->on_read : n->on_write;

	if (!ret || ret == -EOPNOTSUPP || r->op == BLOCK_FLUSH ||
	    atomic_load_explicit(&n->failed, memory_order_relaxed))
		return BLOCK_REPORT;
	if (e == BLOCK_ENOSPC)
		e = ret == -ENOSPC || ret == -EDQUOT ? BLOCK_STOP : BLOCK_REPORT;
	return e == BLOCK_STOP && !n->event ? BLOCK_REPORT : e;
}

static void stall(struct block_node *n, struct block_req *r, int ret)
{
	r->next = NULL;
	*n->stalled_tail = r;
	n->stalled_tail = &r->next;
	stat_add(&n->stats.stalls, 1);
	if (n->nospace)
		return;
	n->cause = r->op == BLOCK_READ ? ret : -ret;
	n->nospace = true;
	if (ret == -ENOSPC)
		log_guest("block", "%s: no space left for a write of the guest; it waits until there is room", n->name);
	else
		log_guest("block", "%s: a request of the guest waits until it succeeds: %s", n->name, strerror(-ret));
	retry_arm(n, true);
	post_event(n, BLOCK_EVENT_NOSPACE);
}

/* A write went through while others may be stalled. */
static void space_found(struct block_node *n)
{
	if (n->stalled) {
		if (!n->held)
			retry_one(n);
		return;
	}
	n->nospace = false;
	retry_arm(n, false);
	post_event(n, BLOCK_EVENT_SPACE);
}

void block_cancel_stalled(struct block_node *n)
{
	struct block_req *r = n->stalled;

	n->stalled = NULL;
	n->stalled_tail = &n->stalled;
	if (n->nospace) {
		n->nospace = false;
		retry_arm(n, false);
		post_event(n, BLOCK_EVENT_SPACE);
	}
	while (r) {
		struct block_req *next = r->next;

		free(r->guard_iov);
		r->guard_iov = NULL;
		r->done(r, -ECANCELED);
		r = next;
	}
}

bool block_has_stalled(const struct block_node *n)
{
	return n->nospace;
}

int block_stall_cause(const struct block_node *n, bool *read)
{
	int cause = n->cause;

	*read = cause < 0;
	return cause < 0 ? -cause : cause;
}

/* --- the life of a request --- */

static void wake_waiters(struct block_node *n)
{
	struct waiter *w = n->waiters;

	n->waiters = NULL;
	while (w) {
		struct waiter *next = w->next; /* gone after the post */

		sem_post(&w->sem);
		w = next;
	}
}

static bool is_write(enum block_op op)
{
	return op == BLOCK_WRITE || op == BLOCK_DISCARD || op == BLOCK_WRITE_ZEROES;
}

static void count(struct block_node *n, const struct block_req *r, int ret)
{
	stat_t *const counters[] = {
		[BLOCK_READ] = &n->stats.reads,		 [BLOCK_WRITE] = &n->stats.writes,
		[BLOCK_FLUSH] = &n->stats.flushes,	 [BLOCK_DISCARD] = &n->stats.discards,
		[BLOCK_WRITE_ZEROES] = &n->stats.zeroes,
	};

	if (ret) {
		stat_add(&n->stats.errors, 1);
		return;
	}
	stat_add(counters[r->op], 1);
	if (r->op == BLOCK_READ)
		stat_add(&n->stats.read_bytes, r->bytes);
	else if (r->op == BLOCK_WRITE)
		stat_add(&n->stats.written_bytes, r->bytes);
}

/* --- the end of a request --- */

/* A flush of one of its files has failed; the file says so once. */
static void on_failed(void *opaque, const char *path, int ret)
{
	struct block_node *n = opaque;

	if (atomic_exchange(&n->failed, true))
		return;
	log_line(LOG_ERROR, "block", "%s: flushing to %s failed: %s; the disk is out of service", n->name, path,
		 strerror(-ret));
	post_event(n, BLOCK_EVENT_FAILED);
}

static void complete(struct node_req *io, int ret)
{
	struct block_req *r = container_of(io, struct block_req, io);
	struct block_node *n = r->node;
	enum block_on_error what;

	n->in_flight--;
	what = on_error(n, r, ret);
	if (what == BLOCK_STOP) {
		stall(n, r, ret);
		goto out;
	}
	count(n, r, ret);
	if (what == BLOCK_IGNORE)
		ret = 0;
	free(r->guard_iov);
	r->guard_iov = NULL;
	bool wrote = !ret && (r->retried || is_write(r->op)) && n->nospace;
	r->done(r, ret);
	if (wrote)
		space_found(n);
out:
	if (!n->in_flight)
		wake_waiters(n);
}

static int check(struct block_node *n, const struct block_req *r)
{
	uint64_t total = 0;

	if ((unsigned)r->op > BLOCK_WRITE_ZEROES)
		return -EINVAL;
	if (atomic_load_explicit(&n->failed, memory_order_relaxed))
		return -EIO;
	if (r->op != BLOCK_READ && r->op != BLOCK_FLUSH && n->readonly)
		return -EROFS;
	if (r->op == BLOCK_FLUSH)
		return 0;
	if (r->bytes > BLOCK_MAX_BYTES || !range_within(r->offset, r->bytes, n->size))
		return -EINVAL;
	if (r->op != BLOCK_READ && r->op != BLOCK_WRITE)
		return 0;
	if (r->niov > BLOCK_MAX_IOV)
		return -EINVAL;
	for (unsigned i = 0; i < r->niov; i++)
		if (__builtin_add_overflow(total, r->iov[i].iov_len, &total))
			return -EINVAL;
	return total == r->bytes ? 0 : -EINVAL;
}

/*
 * A raw image whose format was guessed must be guessed raw the next time too: a write that makes
 * sector 0 look like another format is refused. The guest may change its buffer after the look, so
 * the look is taken at a copy, and the copy is what is written.
 */
static int guard_sector0(struct block_req *r)
{
	uint8_t *sector;
	size_t got = 0;
	unsigned i = 0;

	if (r->bytes < BLOCK_SECTOR || r->offset)
		return -EINVAL; /* a part of the sector does not tell what it will look like */
	r->guard_iov = malloc((r->niov + 1) * sizeof(*r->guard_iov) + BLOCK_SECTOR);
	if (!r->guard_iov)
		return -ENOMEM;
	sector = (uint8_t *)(r->guard_iov + r->niov + 1);
	r->guard_iov[0] = (struct iovec){ sector, BLOCK_SECTOR };
	r->io.niov = 1;
	for (; i < r->niov; i++) {
		size_t len = r->iov[i].iov_len;
		size_t take = len < BLOCK_SECTOR - got ? len : BLOCK_SECTOR - got;

		memcpy(sector + got, r->iov[i].iov_base, take);
		got += take;
		if (len > take)
			r->guard_iov[r->io.niov++] = (struct iovec){ (char *)r->iov[i].iov_base + take, len - take };
	}
	r->io.iov = r->guard_iov;
	if (!format_probe(sector, BLOCK_SECTOR))
		return 0;
	log_guest("block",
		  "the guest may not write a disk image header to sector 0 of a disk whose format was guessed; "
		  "format=raw allows it");
	return -EPERM;
}

void block_submit(struct block_node *n, struct block_req *r)
{
	int ret = check(n, r);

	r->node = n;
	r->retried = false;
	r->guard_iov = NULL;
	r->io.iov = r->iov;
	r->io.niov = r->niov;
	if (!ret && n->guessed && r->op == BLOCK_WRITE && r->bytes && r->offset < BLOCK_SECTOR)
		ret = guard_sector0(r);
	if (ret || (r->op != BLOCK_FLUSH && !r->bytes)) {
		count(n, r, ret);
		free(r->guard_iov);
		r->guard_iov = NULL;
		r->done(r, ret);
		return;
	}
	dispatch(n, r);
}

/* --- from other threads --- */

struct call {
	loop_fn *fn;
	void *opaque;
	struct waiter w;
};

static void run_call(void *opaque)
{
	struct call *c = opaque;

	c->fn(c->opaque);
	sem_post(&c->w.sem);
}

static void wait_and_destroy(sem_t *s)
{
	while (sem_wait(s) && errno == EINTR)
		;
	sem_destroy(s);
}

void block_call(struct block_node *n, loop_fn *fn, void *opaque)
{
	struct call c = { .fn = fn, .opaque = opaque };

	sem_init(&c.w.sem, 0, 0);
	loop_post(n->loop, run_call, &c);
	wait_and_destroy(&c.w.sem);
}

struct drain {
	struct block_node *n;
	struct waiter w;
};

static void written_back(struct node_req *r, int ret)
{
	struct block_node *n = container_of(r, struct block_node, write_back);

	n->writing_back = false;
	if (!--n->in_flight)
		wake_waiters(n);
}

/* A state that is saved now goes with the file as it is then: a format's tables must be in it. */
static void write_back(struct block_node *n)
{
	if (!node_unfiltered(n->top)->drv->close || n->readonly || n->writing_back || n->failed)
		return;
	n->writing_back = true;
	n->in_flight++;
	n->write_back = (struct node_req){ .op = BLOCK_FLUSH, .done = written_back };
	node_submit(n->top, &n->write_back);
}

static void drain_fn(void *opaque)
{
	struct drain *d = opaque;

	d->n->held++;
	write_back(d->n);
	if (!d->n->in_flight) {
		sem_post(&d->w.sem);
		return;
	}
	d->w.next = d->n->waiters;
	d->n->waiters = &d->w;
}

void block_drain(struct block_node *n)
{
	struct drain d = { .n = n };

	sem_init(&d.w.sem, 0, 0);
	loop_post(n->loop, drain_fn, &d);
	wait_and_destroy(&d.w.sem);
}

static void resume_fn(void *opaque)
{
	struct block_node *n = opaque;

	if (n->held)
		n->held--;
}

void block_resume(struct block_node *n)
{
	block_call(n, resume_fn, n);
}

struct sync {
	struct block_node *n;
	struct block_req *r;
	int ret;
	struct waiter w;
};

static void sync_done(struct block_req *r, int ret)
{
	struct sync *s = r->opaque;

	s->ret = ret;
	sem_post(&s->w.sem);
}

static void sync_fn(void *opaque)
{
	struct sync *s = opaque;

	block_submit(s->n, s->r);
}

int block_submit_wait(struct block_node *n, struct block_req *r)
{
	struct sync s = { .n = n, .r = r };

	sem_init(&s.w.sem, 0, 0);
	r->done = sync_done;
	r->opaque = &s;
	loop_post(n->loop, sync_fn, &s);
	wait_and_destroy(&s.w.sem);
	return s.ret;
}

static void cancel_fn(void *opaque)
{
	block_cancel_stalled(opaque);
}

struct resizing {
	struct block_node *n;
	struct node_resize how;
	struct err *err;
	int ret;
	struct waiter w;
};

static void resize_body(void *opaque)
{
	struct resizing *r = opaque;
	struct block_node *n = r->n;

	r->ret = node_truncate(n->top, &r->how, r->err);
	if (r->ret && !*r->err->msg)
		err_errno(r->err, -r->ret, "%s", n->path);
	n->size = align_up(n->top->size, BLOCK_SECTOR);
	sem_post(&r->w.sem);
}

static void resize_fn(void *opaque)
{
	struct resizing *r = opaque;

	if (!co_start(resize_body, r))
		return;
	r->ret = err_set(r->err, "out of memory");
	sem_post(&r->w.sem);
}

int block_resize(struct block_node *n, uint64_t size, struct err *err)
{
	struct resizing r = { .n = n, .how = { .size = size }, .err = err };

	*err->msg = 0;
	sem_init(&r.w.sem, 0, 0);
	loop_post(n->loop, resize_fn, &r);
	wait_and_destroy(&r.w.sem);
	return r.ret ? -1 : 0;
}

/* --- opening and closing --- */

static int check_size(struct block_node *n, const struct block_config *c, struct err *err)
{
	uint64_t size = n->top->size;

	if (size > INT64_MAX - BLOCK_SECTOR)
		return err_set(err, "%s: a size of %llu bytes is beyond what a file can have", c->path,
			       (unsigned long long)size);
	n->size = align_up(size, BLOCK_SECTOR);
	if (n->size != size && !c->odd_size)
		return err_set(err,
			       "%s: its size of %llu bytes is no multiple of %u; make it so with: truncate -s %%%u %s",
			       c->path, (unsigned long long)size, BLOCK_SECTOR, BLOCK_SECTOR, c->path);
	return 0;
}

struct opening {
	struct block_node *n;
	const struct block_config *c;
	struct err *err;
	int ret;
	sem_t done;
};

static void open_body(void *opaque)
{
	struct opening *o = opaque;

	struct block_node *n = o->n;

	n->top = image_open(&n->ctx, o->c, n->name, &n->guessed, o->err);
	o->ret = n->top ? check_size(n, o->c, o->err) : -1;
}

static void close_body(void *opaque)
{
	struct block_node *n = opaque;

	node_close(n->top);
	n->top = NULL;
}

/* A coroutine stays in its thread, and some live as long as their node: it is opened, used and closed here. */
static void *io_thread(void *opaque)
{
	struct opening *o = opaque;
	struct block_node *n = o->n;
	int ret;

	node_ctx_run(&n->ctx, open_body, o);
	ret = o->ret;
	sem_post(&o->done);
	loop_set_patience(n->loop, PATIENCE_NS);
	if (!ret)
		loop_run(n->loop);
	if (n->top)
		node_ctx_run(&n->ctx, close_body, n);
	co_thread_end();
	return NULL;
}

/* Once the disk is open, or it has failed. */
static int start_thread(struct block_node *n, struct opening *o)
{
	sigset_t all, old;
	char title[16];
	int ret;

	sem_init(&o->done, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	ret = pthread_create(&n->thread, NULL, io_thread, o);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		sem_destroy(&o->done);
		return err_errno(o->err, ret, "%s: starting its thread", n->path);
	}
	snprintf(title, sizeof(title), "io:%s", n->name);
	pthread_setname_np(n->thread, title);
	wait_and_destroy(&o->done);
	if (o->ret)
		pthread_join(n->thread, NULL);
	return o->ret;
}

static void free_node(struct block_node *n)
{
	if (n->retry_watch)
		loop_fd_del(n->retry_watch);
	if (n->retry_fd >= 0)
		close(n->retry_fd);
	node_ctx_free(&n->ctx);
	free(n->name);
	free(n->path);
	free(n);
}

struct block_node *block_open(const struct block_config *c, struct err *err)
{
	struct block_node *n = calloc(1, sizeof(*n));
	struct opening opening = { .n = n, .c = c, .err = err, .ret = -1 };

	if (!n) {
		err_errno(err, ENOMEM, "%s", c->path);
		return NULL;
	}
	n->retry_fd = -1;
	n->stalled_tail = &n->stalled;
	n->readonly = c->readonly;
	n->limits = c->limits;
	n->on_write = c->on_write ? c->on_write : BLOCK_ENOSPC;
	n->on_read = c->on_read ? c->on_read : BLOCK_REPORT;
	n->path = strdup(c->path);
	n->name = strdup(c->name ? c->name : c->path);
	if (!n->path || !n->name) {
		err_errno(err, ENOMEM, "%s", c->path);
		goto out;
	}
	if (node_ctx_init(&n->ctx, err))
		goto out;
	n->loop = n->ctx.loop;
	n->ctx.aio = (enum node_aio)c->aio;
	n->ctx.follow = c->follow ? NODE_FOLLOW_ANY : NODE_FOLLOW_NEAR;
	n->ctx.open_path = c->open_path;
	n->ctx.open_opaque = c->open_opaque;
	n->ctx.failed = on_failed;
	n->ctx.failed_opaque = n;
	n->retry_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (n->retry_fd < 0) {
		err_errno(err, errno, "%s: timerfd", c->path);
		goto out;
	}
	n->retry_watch = loop_fd_add(n->loop, n->retry_fd, EPOLLIN, on_retry_timer, n, err);
	if (!n->retry_watch || start_thread(n, &opening))
		goto out;
	return n;
out:
	free_node(n);
	return NULL;
}

void block_close(struct block_node *n)
{
	block_drain(n);
	block_call(n, cancel_fn, n);
	loop_quit(n->loop);
	pthread_join(n->thread, NULL);
	free_node(n);
}

const struct block_limits *block_limits(const struct block_node *n)
{
	return &n->limits;
}

uint64_t block_size(const struct block_node *n)
{
	return n->size;
}

bool block_readonly(const struct block_node *n)
{
	return n->readonly;
}

bool block_can_discard(const struct block_node *n)
{
	return !n->readonly && !(n->top->flags & NODE_NO_DISCARD);
}

const char *block_format_name(const struct block_node *n)
{
	return node_unfiltered(n->top)->drv->name;
}

const char *block_aio_name(const struct block_node *n)
{
	return node_aio_name(n->top);
}

const char *block_path(const struct block_node *n)
{
	return n->path;
}

const char *block_name(const struct block_node *n)
{
	return n->name;
}

uint64_t block_modified(const struct block_node *n)
{
	return node_modified(n->top);
}

struct loop *block_loop(struct block_node *n)
{
	return n->loop;
}

bool block_failed(const struct block_node *n)
{
	return atomic_load_explicit(&n->failed, memory_order_relaxed);
}

void block_set_event(struct block_node *n, block_event_fn *fn, void *opaque)
{
	n->event = fn;
	n->event_opaque = opaque;
}

struct block_stats *block_get_stats(struct block_node *n)
{
	return &n->stats;
}
