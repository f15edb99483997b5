/* Block nodes over a file that fails: errors reach who asked, no flush succeeds after one that failed, and writes
 * without room wait for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/now.h"
#include "block/block.h"
#include "block/node.h"
#include "faults.h"

#define DISK (1u << 20)

static struct block_node *node;
static int disk_fd;
static struct node_ctx creator;

static int open_memfd(void *opaque, const char *path, int flags)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, DISK))
		return -1;
	disk_fd = dup(fd);
	return fd;
}

static int begin(void **state)
{
	const struct block_config c = {
		.path = "test-disk", .format = "raw", .open_path = open_memfd, .aio = BLOCK_AIO_THREADS
	};
	struct err err;

	fault_none();
	node = block_open(&c, &err);
	assert_non_null(node);
	return 0;
}

static int end(void **state)
{
	fault_none();
	block_close(node);
	close(disk_fd);
	return 0;
}

static int io(enum block_op op, uint64_t offset, void *buf, uint64_t bytes)
{
	struct iovec iov = { buf, bytes };
	struct block_req r = { .op = op, .offset = offset, .bytes = bytes, .iov = &iov, .niov = 1 };

	return block_submit_wait(node, &r);
}

/* A request that is not waited for. */
struct later {
	struct block_req r;
	struct iovec iov;
	sem_t done;
	bool is_done;
	int ret;
};

static void later_done(struct block_req *r, int ret)
{
	struct later *l = r->opaque;

	l->ret = ret;
	__atomic_store_n(&l->is_done, true, __ATOMIC_RELEASE);
	sem_post(&l->done);
}

static void later_submit(void *opaque)
{
	block_submit(node, &((struct later *)opaque)->r);
}

static void submit(struct later *l, enum block_op op, uint64_t offset, void *buf, uint64_t bytes)
{
	*l = (struct later){ .iov = { buf, bytes } };
	l->r = (struct block_req){ .op = op, .offset = offset, .bytes = bytes, .iov = &l->iov, .niov = 1 };
	l->r.done = later_done;
	l->r.opaque = l;
	sem_init(&l->done, 0, 0);
	block_call(node, later_submit, l);
}

static bool is_done(struct later *l)
{
	return __atomic_load_n(&l->is_done, __ATOMIC_ACQUIRE);
}

static int wait_for(struct later *l)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 10;
	if (sem_timedwait(&l->done, &t))
		fail_msg("a request never ended");
	sem_destroy(&l->done);
	return l->ret;
}

static void test_errors_reach_the_request(void **state)
{
	uint8_t buf[512] = { 0 };

	fault_fail(FAULT_READ, 0, 1, EIO);
	assert_int_equal(io(BLOCK_READ, 0, buf, 512), -EIO);
	assert_int_equal(io(BLOCK_READ, 0, buf, 512), 0);
	fault_fail(FAULT_WRITE, 0, 1, EIO);
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), -EIO);
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), 0);
	fault_fail(FAULT_ALLOCATE, 0, 2, EIO);
	assert_int_equal(io(BLOCK_DISCARD, 0, NULL, 4096), -EIO);
	assert_int_equal(io(BLOCK_WRITE_ZEROES, 0, NULL, 4096), -EIO);
	assert_int_equal(block_get_stats(node)->errors, 4);
	/* Without a handler a disk that is full is an error too. */
	fault_fail(FAULT_WRITE, 0, 1, ENOSPC);
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), -ENOSPC);
	assert_false(block_has_stalled(node));
	assert_false(block_failed(node));
}

static void test_interrupted_calls_are_repeated(void **state)
{
	uint8_t buf[512] = { 0 };

	fault_fail(FAULT_WRITE, 0, 3, EINTR);
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), 0);
	fault_fail(FAULT_READ, 0, 3, EAGAIN);
	assert_int_equal(io(BLOCK_READ, 0, buf, 512), 0);
	fault_fail(FAULT_WRITE, 0, 1000, EAGAIN); /* but not for ever */
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), -EAGAIN);
	assert_true(fault_begun(FAULT_WRITE) < 500);
}

static void test_short_transfers(void **state)
{
	uint8_t out[3000], in[3072];
	struct iovec wv[3] = { { out, 7 }, { out + 7, 1017 }, { out + 1024, 1024 } };
	struct iovec rv[4] = { { in, 1 }, { in + 1, 1000 }, { in + 1001, 1000 }, { in + 2001, 47 } };
	struct block_req w = { .op = BLOCK_WRITE, .offset = 512, .bytes = 2048, .iov = wv, .niov = 3 };
	struct block_req r = { .op = BLOCK_READ, .offset = 512, .bytes = 2048, .iov = rv, .niov = 4 };

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 31 + 7);
	for (size_t most = 1; most < 2100; most = most * 3 + 1) {
		memset(in, 0, sizeof(in));
		out[0]++;
		fault_shorten(most);
		assert_int_equal(block_submit_wait(node, &w), 0);
		assert_int_equal(block_submit_wait(node, &r), 0);
		assert_memory_equal(in, out, 2048);
	}
	/* An error in the middle of it. */
	fault_shorten(100);
	fault_fail(FAULT_WRITE, 5, 1, EIO);
	assert_int_equal(block_submit_wait(node, &w), -EIO);
	fault_fail(FAULT_READ, 5, 1, EIO);
	assert_int_equal(block_submit_wait(node, &r), -EIO);
	assert_int_equal(block_submit_wait(node, &w), 0);
}

/* A file that became shorter behind our back reads as zero. */
static void test_file_shrinks(void **state)
{
	uint8_t buf[2048];

	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 2048), 0);
	assert_int_equal(ftruncate(disk_fd, 1000), 0);
	assert_int_equal(io(BLOCK_READ, 0, buf, 2048), 0);
	assert_int_equal(buf[999], 0xee);
	for (int i = 1000; i < 2048; i++)
		assert_int_equal(buf[i], 0);
}

/* --- zeroes and discards where the file system helps, and where it does not --- */

static void is_filled(uint64_t from, uint64_t to, uint8_t with)
{
	static uint8_t buf[DISK];

	assert_int_equal(pread(disk_fd, buf, to - from, (off_t)from), to - from);
	for (uint64_t i = 0; i < to - from; i++)
		if (buf[i] != with)
			fail_msg("byte %llu is %#x", (unsigned long long)(from + i), buf[i]);
}

static void fill_disk(void)
{
	static uint8_t buf[DISK];

	memset(buf, 0xdd, sizeof(buf));
	assert_int_equal(pwrite(disk_fd, buf, DISK, 0), DISK);
}

static int zeroes(uint64_t offset, uint64_t bytes, uint32_t flags)
{
	struct block_req r = { .op = BLOCK_WRITE_ZEROES, .flags = flags, .offset = offset, .bytes = bytes };

	return block_submit_wait(node, &r);
}

static void test_zeroes_without_fallocate(void **state)
{
	fill_disk();
	fault_fail(FAULT_ALLOCATE, 0, 1000, EOPNOTSUPP);
	fault_shorten(5000);
	assert_int_equal(zeroes(512, 300 * 512, BLOCK_REQ_UNMAP), 0);
	is_filled(0, 512, 0xdd);
	is_filled(512, 301 * 512, 0);
	is_filled(301 * 512, DISK, 0xdd);
	assert_int_equal(fault_begun(FAULT_ALLOCATE), 2); /* punch, zero range, and never again */
	assert_int_equal(zeroes(0, 512, BLOCK_REQ_UNMAP), 0);
	assert_int_equal(io(BLOCK_DISCARD, 0, NULL, DISK), 0); /* advice that is not taken */
	assert_int_equal(fault_begun(FAULT_ALLOCATE), 2);
	is_filled(512 * 301, DISK, 0xdd);
	/* Over the whole disk, in pieces. */
	fault_shorten(0);
	assert_int_equal(zeroes(0, DISK, 0), 0);
	is_filled(0, DISK, 0);
}

static void test_discard_that_is_refused(void **state)
{
	fill_disk();
	fault_fail(FAULT_ALLOCATE, 0, 1, EOPNOTSUPP);
	assert_int_equal(io(BLOCK_DISCARD, 0, NULL, DISK), 0);
	is_filled(0, DISK, 0xdd);
	assert_int_equal(io(BLOCK_DISCARD, 0, NULL, DISK), 0);
	assert_int_equal(fault_begun(FAULT_ALLOCATE), 1);
	assert_int_equal(zeroes(4096, 4096, BLOCK_REQ_UNMAP), 0); /* must not only be advice */
	is_filled(4096, 8192, 0);
}

/* --- flushes --- */

static void test_failed_flush_is_final(void **state)
{
	uint8_t buf[512] = { 0 };

	fault_fail(FAULT_SYNC, 1, 1, EIO); /* the second fails, and the kernel then says that all is well */
	assert_int_equal(io(BLOCK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(io(BLOCK_FLUSH, 0, NULL, 0), -EIO);
	assert_true(block_failed(node));
	assert_int_equal(io(BLOCK_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), -EIO);
	assert_int_equal(io(BLOCK_READ, 0, buf, 512), -EIO);
	assert_int_equal(io(BLOCK_DISCARD, 0, NULL, 512), -EIO);
	assert_int_equal(fault_begun(FAULT_SYNC), 2);
}

static void test_flushes_share(void **state)
{
	struct later l[4];

	fault_hold(FAULT_SYNC);
	for (int i = 0; i < 4; i++)
		submit(&l[i], BLOCK_FLUSH, 0, NULL, 0);
	fault_expect_waiting(FAULT_SYNC, 1);
	usleep(20000);
	assert_int_equal(fault_begun(FAULT_SYNC), 1); /* one at a time */
	assert_false(is_done(&l[0]));
	fault_let_go(FAULT_SYNC);
	for (int i = 0; i < 4; i++)
		assert_int_equal(wait_for(&l[i]), 0);
	assert_int_equal(fault_begun(FAULT_SYNC), 2); /* and one for all that came meanwhile */
	assert_int_equal(block_get_stats(node)->flushes, 4);
}

/* What comes while a flush runs is not covered by it. */
static void test_flush_that_fails_takes_the_waiting_along(void **state)
{
	struct later l[3];

	fault_hold(FAULT_SYNC);
	fault_fail(FAULT_SYNC, 0, 1, EIO);
	for (int i = 0; i < 3; i++)
		submit(&l[i], BLOCK_FLUSH, 0, NULL, 0);
	fault_expect_waiting(FAULT_SYNC, 1);
	fault_let_go(FAULT_SYNC);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wait_for(&l[i]), -EIO);
	assert_int_equal(fault_begun(FAULT_SYNC), 1);
	block_drain(node); /* nothing is left over */
	block_resume(node);
}

static _Atomic bool drained;

static void *drain(void *opaque)
{
	block_drain(node);
	drained = true;
	return NULL;
}

/* For the last of all that is out. */
static void test_drain_waits(void **state)
{
	uint8_t buf[512] = { 0 };
	struct later l[2];
	pthread_t thread;

	drained = false;
	fault_hold(FAULT_WRITE);
	submit(&l[0], BLOCK_WRITE, 0, buf, 512);
	submit(&l[1], BLOCK_FLUSH, 0, NULL, 0);
	fault_expect_waiting(FAULT_WRITE, 1);
	assert_int_equal(pthread_create(&thread, NULL, drain, NULL), 0);
	usleep(20000);
	assert_int_equal(io(BLOCK_READ, 0, buf, 512), 0);
	assert_int_equal(wait_for(&l[1]), 0);
	usleep(20000);
	assert_false(drained);
	fault_let_go(FAULT_WRITE);
	pthread_join(thread, NULL);
	assert_true(is_done(&l[0]));
	block_resume(node);
	wait_for(&l[0]);
}

/* --- no space --- */

static sem_t nospace, space, failed;

static void on_event(void *opaque, enum block_event e)
{
	sem_post(e == BLOCK_EVENT_NOSPACE ? &nospace : e == BLOCK_EVENT_SPACE ? &space : &failed);
}

static void expect_event(sem_t *s)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 10;
	if (sem_timedwait(s, &t))
		fail_msg("an event is missing");
}

static void handle_events(void)
{
	sem_init(&nospace, 0, 0);
	sem_init(&space, 0, 0);
	sem_init(&failed, 0, 0);
	block_set_event(node, on_event, NULL);
}

static bool happened(sem_t *s)
{
	return sem_trywait(s) == 0;
}

static void test_writes_wait_for_space(void **state)
{
	uint8_t buf[4][512];
	struct later l[4];

	handle_events();
	fault_fail(FAULT_WRITE, 0, 1000000, ENOSPC);
	for (int i = 0; i < 4; i++) {
		memset(buf[i], 'a' + i, 512);
		submit(&l[i], BLOCK_WRITE, (uint64_t)i * 512, buf[i], 512);
	}
	expect_event(&nospace);
	block_drain(node); /* stalled requests do not hold it up */
	assert_true(block_has_stalled(node));
	assert_int_equal(io(BLOCK_READ, 0, buf[0], 0), 0); /* the rest of the disk works */
	block_resume(node);
	usleep(400000); /* long enough for a try again */
	assert_false(is_done(&l[0]));
	assert_false(happened(&space));
	fault_fail(FAULT_WRITE, 0, 0, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(wait_for(&l[i]), 0);
	expect_event(&space);
	assert_false(happened(&nospace)); /* told once */
	assert_false(block_has_stalled(node));
	for (unsigned i = 0; i < 4; i++)
		is_filled(i * 512, (i + 1) * 512, (uint8_t)('a' + i));
	/* The same for zeroes and discards that need room. */
	fault_fail(FAULT_ALLOCATE, 0, 1, ENOSPC);
	submit(&l[0], BLOCK_WRITE_ZEROES, 0, NULL, 512);
	expect_event(&nospace);
	assert_int_equal(wait_for(&l[0]), 0);
	expect_event(&space);
}

static void test_stalled_writes_end_with_a_reset(void **state)
{
	uint8_t buf[512];
	struct later l[2];

	handle_events();
	memset(buf, 'x', sizeof(buf));
	fault_fail(FAULT_WRITE, 0, 1000000, ENOSPC);
	submit(&l[0], BLOCK_WRITE, 0, buf, 512);
	submit(&l[1], BLOCK_WRITE, 512, buf, 512);
	expect_event(&nospace);
	block_drain(node);
	block_call(node, (loop_fn *)block_cancel_stalled, node);
	fault_none();
	block_resume(node);
	assert_int_equal(wait_for(&l[0]), -ECANCELED);
	assert_int_equal(wait_for(&l[1]), -ECANCELED);
	expect_event(&space);
	usleep(400000);
	is_filled(0, 1024, 0); /* nothing is written any more */
}

static void test_drained_disk_does_not_try_again(void **state)
{
	uint8_t buf[512];
	struct later l;

	handle_events();
	memset(buf, 'x', sizeof(buf));
	fault_fail(FAULT_WRITE, 0, 1, ENOSPC);
	submit(&l, BLOCK_WRITE, 0, buf, 512);
	expect_event(&nospace);
	block_drain(node);
	unsigned tries = fault_begun(FAULT_WRITE);
	usleep(600000);
	assert_int_equal(fault_begun(FAULT_WRITE), tries);
	assert_false(is_done(&l));
	block_resume(node);
	assert_int_equal(wait_for(&l), 0);
	expect_event(&space);
}

static void test_failed_flush_is_told(void **state)
{
	handle_events();
	fault_fail(FAULT_SYNC, 0, 1, ENOSPC); /* no space for what was acknowledged already: lost all the same */
	assert_int_equal(io(BLOCK_FLUSH, 0, NULL, 0), -ENOSPC);
	expect_event(&failed);
	assert_true(block_failed(node));
	assert_false(happened(&nospace));
}

/* The same disk with another policy. */
static void begin_again(enum block_on_error on_write, enum block_on_error on_read, bool no_flush)
{
	const struct block_config c = { .path = "test-disk",
					.format = "raw",
					.open_path = open_memfd,
					.aio = BLOCK_AIO_THREADS,
					.on_write = on_write,
					.on_read = on_read,
					.no_flush = no_flush };
	struct err err;

	end(NULL);
	node = block_open(&c, &err);
	assert_non_null(node);
	handle_events();
}

static void test_errors_are_ignored_or_reported(void **state)
{
	uint8_t buf[512] = { 0 };

	begin_again(BLOCK_IGNORE, BLOCK_IGNORE, false);
	fault_fail(FAULT_READ, 0, 1, EIO);
	assert_int_equal(io(BLOCK_READ, 0, buf, 512), 0);
	fault_fail(FAULT_WRITE, 0, 1, ENOSPC);
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), 0);
	fault_fail(FAULT_ALLOCATE, 0, 1, EIO);
	assert_int_equal(io(BLOCK_DISCARD, 0, NULL, 4096), 0);
	assert_int_equal(block_get_stats(node)->errors, 3);
	assert_int_equal(io(BLOCK_READ, DISK, buf, 512), -EINVAL); /* the guest's own mistakes are told */
	/* So is what was acknowledged and is lost, and what comes after it. */
	fault_fail(FAULT_SYNC, 0, 1, EIO);
	assert_int_equal(io(BLOCK_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(io(BLOCK_READ, 0, buf, 512), -EIO);
	assert_false(happened(&nospace));
	begin_again(BLOCK_REPORT, BLOCK_REPORT, false);
	fault_fail(FAULT_WRITE, 0, 1, ENOSPC);
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), -ENOSPC);
	assert_false(happened(&nospace));
	begin_again(BLOCK_ENOSPC, BLOCK_REPORT, false);
	fault_fail(FAULT_WRITE, 0, 1, EIO);
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), -EIO);
}

static void test_any_error_may_stall(void **state)
{
	uint8_t buf[512] = { 0 };
	struct later l;
	bool read;

	begin_again(BLOCK_STOP, BLOCK_STOP, false);
	for (int op = BLOCK_READ; op <= BLOCK_WRITE; op++) {
		fault_fail(op == BLOCK_READ ? FAULT_READ : FAULT_WRITE, 0, 1, EIO);
		submit(&l, (enum block_op)op, 0, buf, 512);
		expect_event(&nospace);
		assert_int_equal(block_stall_cause(node, &read), EIO);
		assert_int_equal(read, op == BLOCK_READ);
		assert_int_equal(wait_for(&l), 0);
		expect_event(&space);
		assert_false(block_has_stalled(node));
	}
}

static int open_again(void *opaque, const char *path, int flags)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", disk_fd);
	return open(name, flags & ~(O_CREAT | O_EXCL));
}

static void create_qcow2(void *result)
{
	struct opts *o = opts_new();
	struct err err;

	opts_parse(o, "cluster_size=4k,size=256k", NULL, &err);
	*(int *)result = node_qcow2.create(&creator, "test-disk", o, &err);
	opts_free(o);
}

/* Tables that are written with a flush, and cannot be: no file says that it has lost anything, but it is not done. */
static void test_a_flush_that_fails_is_told(void **state)
{
	static const enum block_on_error policies[] = { BLOCK_STOP, BLOCK_IGNORE, BLOCK_ENOSPC };
	struct block_config c = {
		.path = "test-disk", .format = "qcow2", .open_path = open_again, .aio = BLOCK_AIO_THREADS
	};
	uint8_t buf[512] = { 1 };
	struct err err;
	int ret;

	for (unsigned n = 0; n < 3; n++) {
		end(NULL);
		disk_fd = memfd_create("disk", MFD_CLOEXEC);
		assert_int_equal(node_ctx_init(&creator, &err), 0);
		creator.aio = NODE_AIO_THREADS;
		creator.open_path = open_again;
		node_ctx_run(&creator, create_qcow2, &ret);
		node_ctx_free(&creator);
		assert_int_equal(ret, 0);
		c.on_write = policies[n];
		node = block_open(&c, &err);
		assert_non_null(node);
		handle_events();
		assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), 0);
		fault_fail(FAULT_WRITE, 0, 1, ENOSPC);
		assert_int_equal(io(BLOCK_FLUSH, 0, NULL, 0), -ENOSPC);
		assert_false(happened(&nospace));
		assert_false(block_failed(node));
		assert_int_equal(io(BLOCK_FLUSH, 0, NULL, 0), 0);
	}
}

static void test_flushes_may_be_nothing(void **state)
{
	uint8_t buf[512] = { 0 };

	begin_again(BLOCK_ON_ERROR_DEFAULT, BLOCK_ON_ERROR_DEFAULT, true);
	fault_fail(FAULT_SYNC, 0, 1, EIO);
	assert_int_equal(io(BLOCK_WRITE, 0, buf, 512), 0);
	assert_int_equal(io(BLOCK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(fault_begun(FAULT_SYNC), 0);
}

static unsigned flushes_with_closing(bool write, bool flush, bool no_flush)
{
	uint8_t buf[512] = { 0 };
	unsigned n;

	begin_again(BLOCK_ON_ERROR_DEFAULT, BLOCK_ON_ERROR_DEFAULT, no_flush);
	assert_int_equal(io(write ? BLOCK_WRITE : BLOCK_READ, 0, buf, 512), 0);
	if (flush)
		assert_int_equal(io(BLOCK_FLUSH, 0, NULL, 0), 0);
	block_close(node);
	close(disk_fd);
	n = fault_begun(FAULT_SYNC);
	begin(NULL);
	return n;
}

static void test_closing_flushes_what_is_left(void **state)
{
	assert_int_equal(flushes_with_closing(false, false, false), 0);
	assert_int_equal(flushes_with_closing(true, false, false), 1);
	assert_int_equal(flushes_with_closing(true, true, false), 1);
	assert_int_equal(flushes_with_closing(true, false, true), 0);
}

static int begin_uring(void **state)
{
	const struct block_config c = {
		.path = "test-disk", .format = "raw", .open_path = open_memfd, .aio = BLOCK_AIO_URING
	};
	struct err err;

	fault_none();
	node = block_open(&c, &err);
	if (!node)
		printf("skipped: %s\n", err.msg);
	return 0;
}

static int end_uring(void **state)
{
	return node ? end(state) : 0;
}

/* Whether a write is a call of the disk's own thread. */
static bool written_here(size_t bytes)
{
	static uint8_t buf[256 << 10];
	unsigned before = fault_begun(FAULT_WRITE);

	assert_int_equal(io(BLOCK_WRITE, 0, buf, bytes), 0);
	return fault_begun(FAULT_WRITE) != before;
}

/* With io_uring. A thread that had no processor for a while counts as one that had to wait: then once more. */
static void test_small_writes_are_calls_until_one_waits(void **state)
{
	uint8_t buf[4096] = { 0 };
	bool waited = false;

	if (!node)
		skip();
	for (int again = 0; !waited; again++) {
		struct later l;
		int64_t begin;
		bool here;

		assert_int_not_equal(again, 1000);
		if (!written_here(4096))
			usleep(10000);
		assert_false(written_here(256 << 10));
		fault_hold(FAULT_WRITE);
		submit(&l, BLOCK_WRITE, 0, buf, sizeof(buf));
		while (!fault_waiting(FAULT_WRITE) && !is_done(&l))
			usleep(100);
		waited = !is_done(&l);
		usleep(3000);
		begin = now_ms();
		fault_let_go(FAULT_WRITE);
		assert_int_equal(wait_for(&l), 0);
		here = written_here(4096);
		waited = waited && now_ms() < begin + 90;
		assert_false(waited && here);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_errors_reach_the_request),
		TEST(test_interrupted_calls_are_repeated),
		TEST(test_short_transfers),
		TEST(test_file_shrinks),
		TEST(test_zeroes_without_fallocate),
		TEST(test_discard_that_is_refused),
		TEST(test_failed_flush_is_final),
		TEST(test_flushes_share),
		TEST(test_flush_that_fails_takes_the_waiting_along),
		TEST(test_drain_waits),
		TEST(test_writes_wait_for_space),
		TEST(test_stalled_writes_end_with_a_reset),
		TEST(test_drained_disk_does_not_try_again),
		TEST(test_failed_flush_is_told),
		TEST(test_errors_are_ignored_or_reported),
		TEST(test_any_error_may_stall),
		TEST(test_a_flush_that_fails_is_told),
		TEST(test_flushes_may_be_nothing),
		TEST(test_closing_flushes_what_is_left),
		cmocka_unit_test_setup_teardown(test_small_writes_are_calls_until_one_waits, begin_uring, end_uring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
