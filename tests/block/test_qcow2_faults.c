/*
 * qcow2 over a file of which one call fails, or all from one on. The same small history is carried out again and again,
 * each time with another call that fails: errors must reach who asked, nothing may hang, and when the image is opened
 * again check finds no more than leaks and each sector has what it was given.
 *
 * VIREO_FAULT_STEP: 1 tries every call, 5 (the default) each fifth.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/node.h"
#include "faults.h"

#define SECTOR	512u
#define DISK	(256u * 1024u)
#define SECTORS (DISK / SECTOR)
#define OPS	48u

static struct node_ctx ctx;
static struct err err;
static int image_fd;
static uint64_t seed;
static char what[256]; /* is being tried */

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static int open_memory(void *opaque, const char *path, int flags)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", image_fd);
	return open(name, flags & ~(O_CREAT | O_EXCL));
}

/* What a sector has been given: by which operations, as a set. */
static struct {
	uint64_t is;	/* one of these: just one when the last one succeeded */
	uint64_t since; /* all since the last flush that succeeded */
} model[SECTORS];
static bool sync_failed; /* the file refuses everything now: what was not flushed may be gone */

static uint64_t bit(unsigned op)
{
	return 1ull << op;
}

static void given(uint64_t offset, uint64_t bytes, unsigned op, int ret)
{
	for (uint64_t i = offset / SECTOR; i < (offset + bytes) / SECTOR; i++) {
		model[i].is = ret ? model[i].is | bit(op) : bit(op);
		model[i].since |= bit(op);
	}
}

static struct node *open_image(unsigned flags)
{
	struct opts *o = opts_new();
	struct node *n;

	opts_parse(o, "driver=qcow2,file.driver=file,file.filename=image,discard=unmap", NULL, &err);
	n = node_open(&ctx, NULL, o, flags, &err);
	opts_free(o);
	return n;
}

/* Operation 0 is that nothing has been written: zeroes. */
static int one_op(struct node *n, unsigned op, unsigned *snaps)
{
	uint64_t at = rnd(SECTORS), count = 1 + rnd(24), cluster = 4096;
	struct node_snapshot s = { .name = (char *)"s" };
	struct node_resize how = { .exact = true };
	uint8_t *buf;
	int ret = 0;

	if (count > SECTORS - at)
		count = SECTORS - at;
	switch (op % 12) {
	case 3:
		ret = node_flush(n);
		for (unsigned i = 0; i < SECTORS && !ret; i++)
			model[i].since = model[i].is;
		return ret;
	case 5:
		ret = node_zeroes(n, at * SECTOR, count * SECTOR, BLOCK_REQ_UNMAP);
		if (!ret)
			for (uint64_t i = at; i < at + count; i++) {
				model[i].is = bit(0);
				model[i].since |= bit(0);
			}
		else
			given(at * SECTOR, count * SECTOR, 0, ret);
		return ret;
	case 6:
		at = align_down(at * SECTOR, cluster);
		ret = node_discard(n, at, cluster);
		given(at, cluster, 0, ret);
		return ret;
	case 7:
		if (!*snaps && !(ret = n->drv->snapshot_create(n, &s, &err)))
			*snaps = 1;
		return ret;
	case 9:
		if (*snaps && !(ret = n->drv->snapshot_delete(n, "s", &err)))
			*snaps = 0;
		return ret;
	case 10:
		how.size = n->size + 65536;
		return node_truncate(n, &how, &err);
	case 11:
		buf = malloc(count * SECTOR);
		ret = node_read(n, at * SECTOR, buf, count * SECTOR);
		for (uint64_t i = 0; i < count && !ret; i++)
			if (!(model[at + i].is & bit(buf[i * SECTOR])))
				fail_msg("%s: sector %llu reads as of operation %u", what, (unsigned long long)(at + i),
					 buf[i * SECTOR]);
		free(buf);
		return ret;
	default:
		break;
	}
	struct node_req r = { .op = BLOCK_WRITE, .niov = 1 };
	struct iovec v;

	if (op % 12 == 4) {
		at = align_down(at * SECTOR, cluster) / SECTOR;
		count = cluster / SECTOR;
		r.flags = BLOCK_REQ_COMPRESSED;
	}
	v = (struct iovec){ malloc(count * SECTOR), count * SECTOR };
	memset(v.iov_base, (int)op, v.iov_len);
	r.offset = at * SECTOR;
	r.bytes = v.iov_len;
	r.iov = &v;
	ret = node_io(n, &r);
	given(at * SECTOR, count * SECTOR, op, ret);
	free(v.iov_base);
	return ret;
}

static unsigned errors;

static void check_again(void)
{
	struct node_check c = { 0 };
	struct node *n = open_image(NODE_RDWR);
	uint8_t *all;

	if (!n)
		fail_msg("%s: opening again: %s", what, err.msg);
	if (n->drv->check(n, &c, 0) || c.corruptions || c.check_errors)
		fail_msg("%s: %lld corruptions, %lld errors", what, (long long)c.corruptions,
			 (long long)c.check_errors);
	all = malloc(DISK);
	if (node_read(n, 0, all, DISK))
		fail_msg("%s: reading again", what);
	for (unsigned i = 0; i < SECTORS; i++) {
		uint64_t may = sync_failed ? model[i].since : model[i].is;

		if (!(may & bit(all[i * SECTOR])) || memcmp(all + i * SECTOR, all + i * SECTOR + 1, SECTOR - 1))
			fail_msg("%s: sector %u is of operation %u, not of %#llx", what, i, all[i * SECTOR],
				 (unsigned long long)may);
	}
	free(all);
	node_close(n);
}

static void quiet(bool on)
{
	static int old = -1;

	fflush(stderr);
	if (getenv("VIREO_FAULT_ALOUD"))
		return;
	if (on) {
		old = dup(2);
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 2);
	} else {
		dup2(old, 2);
		close(old);
	}
}

static const char *const call_names[] = { "read", "write", "fdatasync", "fallocate" };

/* The history, with calls of one kind that fail from the `skip`-th on. How many there were. */
static unsigned history(enum fault_call c, unsigned skip, unsigned times, int errnum, size_t most)
{
	struct opts *o = opts_new();
	unsigned snaps = 0, begun;
	struct node *n;

	snprintf(what, sizeof(what), "%s: %s %u of the %u-th on", strerror(errnum), call_names[c], times, skip);
	fault_none();
	seed = 88172645463325252ull;
	errors = 0;
	sync_failed = false;
	for (unsigned i = 0; i < SECTORS; i++)
		model[i].is = model[i].since = bit(0);
	image_fd = memfd_create("image", 0);
	opts_parse(o, "cluster_size=4k,size=256k", NULL, &err);
	if (node_qcow2.create(&ctx, "image", o, &err))
		fail_msg("%s", err.msg);
	opts_free(o);
	n = open_image(NODE_RDWR);
	assert_non_null(n);
	fault_none();
	fault_fail(c, skip, times, errnum);
	fault_shorten(most);
	for (unsigned op = 1; op < OPS; op++)
		errors += one_op(n, op, &snaps) != 0;
	begun = fault_begun(c);
	if (c == FAULT_SYNC && begun > skip && (errnum != EINTR || times > 1))
		sync_failed = true;
	/* The file can be written again, unless a flush of it has failed. */
	fault_none();
	node_close(n);
	check_again();
	close(image_fd);
	return begun;
}

static void every_call(void *unused)
{
	static const int errnums[] = { EIO, ENOSPC, EINTR };
	static const unsigned how_often[] = { 1, 1000000 };
	unsigned step = getenv("VIREO_FAULT_STEP") ? (unsigned)atoi(getenv("VIREO_FAULT_STEP")) : 5, tried = 0;

	if (!step)
		step = 1;
	quiet(true);
	for (unsigned k = 0; k < 3 * 2 * FAULT_CALLS; k++) {
		enum fault_call c = (enum fault_call)(k % FAULT_CALLS);
		int errnum = errnums[k / FAULT_CALLS % 3];
		unsigned times = how_often[k / FAULT_CALLS / 3], calls;
		unsigned by = errnum == EINTR && times > 1 ? 8 * step : step; /* each is tried a hundred times */

		for (unsigned i = k % step;; i += by) {
			calls = history(c, i, times, errnum, 0);
			tried++;
			if (calls <= i)
				break; /* it had fewer */
			if (errnum == EINTR && times == 1)
				assert_int_equal(errors, 0); /* it is tried again, a hundred times at most */
			else if (times > 1 && c != FAULT_ALLOCATE)
				assert_true(errors > 0);
		}
	}
	quiet(false);
	print_message("%u histories\n", tried);
}

static void test_every_call_fails_once(void **state)
{
	node_ctx_run(&ctx, every_call, NULL);
}

/* Each call moves no more than some bytes: nobody notices. */
static void short_calls(void *unused)
{
	static const size_t most[] = { 1, 100, 512, 4095 };

	quiet(true);
	for (unsigned i = 0; i < 4; i++) {
		history(FAULT_READ, 1000000, 0, EIO, most[i]);
		assert_int_equal(errors, 0);
	}
	quiet(false);
}

static void test_calls_that_fall_short(void **state)
{
	node_ctx_run(&ctx, short_calls, NULL);
}

static int setup(void **unused)
{
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	if (node_ctx_init(&ctx, &err))
		return -1;
	ctx.aio = NODE_AIO_THREADS;
	ctx.open_path = open_memory;
	return 0;
}

static int teardown(void **unused)
{
	node_ctx_free(&ctx);
	co_thread_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_call_fails_once),
		cmocka_unit_test(test_calls_that_fall_short),
	};

	return cmocka_run_group_tests_name("block_qcow2_faults", tests, setup, teardown);
}
