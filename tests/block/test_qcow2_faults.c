/*
 * Images over files of which one call fails, or all from one on. The same small history is carried out again and again,
 * each time with another call that fails: errors must reach who asked, nothing may hang, and when the image is opened
 * again check finds no more than leaks, each sector has what it was given, and a bitmap that calls itself right has
 * each write.
 *
 * VIREO_FAULT_STEP: 1 tries every call, 5 (the default) each fifth of plain qcow2 and fewer of the others.
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
#include "block/qcow2_bitmap.h"
#include "block/secret.h"
#include "faults.h"
#include "pick.h"

#define SECTOR	512u
#define DISK	(256u * 1024u)
#define SECTORS (DISK / SECTOR)
#define OPS	48u

static const struct kind_of_image {
	const char *options;
	unsigned fewer; /* of its calls are tried */
	bool raw, data, crypt, bitmaps;
} kinds[] = {
	{ "cluster_size=4k,size=256k", 1 },
	{ "cluster_size=4k,size=256k,encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=1", 12,
	  .crypt = true },
	{ "cluster_size=4k,size=256k", 12, .bitmaps = true },
	{ "cluster_size=4k,size=256k,data_file=data", 12, .data = true },
	{ "cluster_size=4k,size=256k,data_file=data,data_file_raw=on", 24, .data = true },
	{ "cluster_size=16k,size=256k,extended_l2=on,lazy_refcounts=on", 24 },
	{ "size=256k", 4, .raw = true },
};

static struct node_ctx ctx;
static struct err err;
static const struct kind_of_image *kind;
static int image_fd, data_fd;
static char what[256]; /* is being tried */

static uint64_t rnd(uint64_t below)
{
	return pick(below);
}

static int open_memory(void *opaque, const char *path, int flags)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", strcmp(path, "data") ? image_fd : data_fd);
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

	opts_parse(o, "file.driver=file,file.filename=image,discard=unmap", NULL, &err);
	opts_set(o, "driver", kind->raw ? "raw" : "qcow2");
	if (kind->crypt)
		opts_set(o, "encrypt.key-secret", "s0");
	n = node_open(&ctx, NULL, o, flags, &err);
	opts_free(o);
	return n;
}

/* Operation 0 is that nothing has been written: zeroes. */
static int one_op(struct node *n, unsigned op, unsigned *snaps)
{
	uint64_t at = rnd(SECTORS), count = 1 + rnd(24), cluster = 16384;
	bool snapshots = !kind->raw && !kind->data, compress = snapshots && !kind->crypt;
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
		if (snapshots && !*snaps && !(ret = n->drv->snapshot_create(n, &s, &err)))
			*snaps = 1;
		return ret;
	case 9:
		if (*snaps && !(ret = n->drv->snapshot_delete(n, "s", &err)))
			*snaps = 0;
		return ret;
	case 10:
		how.size = n->size + 65536;
		return kind->bitmaps ? 0 : node_truncate(n, &how, &err); /* those in use would refuse it */
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

	if (op % 12 == 4 && compress) {
		/* Several clusters, which are compressed at once. */
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

/* A bitmap that calls itself right has each write that can be read. */
static void check_bitmap(struct node *n, const uint8_t *all)
{
	for (unsigned i = 0; i < qc(n)->bitmaps.n; i++) {
		struct qc_bitmap *b = &qc(n)->bitmaps.at[i];

		if (b->inconsistent)
			continue;
		if (qc_bitmap_load(n, b))
			fail_msg("%s: reading the bitmap", what);
		for (unsigned k = 0; k < SECTORS; k++) {
			uint64_t bit_at = k * SECTOR >> b->granularity;

			if (all[k * SECTOR] && !(b->bits[bit_at / 8] >> bit_at % 8 & 1))
				fail_msg("%s: the bitmap does not have sector %u", what, k);
		}
	}
}

static void check_again(void)
{
	struct node_check c = { 0 };
	struct node *n = open_image(NODE_RDWR);
	uint8_t *all;

	if (!n)
		fail_msg("%s: opening again: %s", what, err.msg);
	if (!kind->raw && (n->drv->check(n, &c, 0) || c.corruptions || c.check_errors))
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
	if (kind->bitmaps)
		check_bitmap(n, all);
	free(all);
	node_close(n);
}

static void make_image(void)
{
	struct opts *o = opts_new();
	struct bitmap_request r = { .action = BITMAP_ADD, .name = "b", .granularity = 512 };
	struct node *n;

	image_fd = memfd_create("image", MFD_CLOEXEC);
	data_fd = memfd_create("data", MFD_CLOEXEC);
	opts_parse(o, kind->options, NULL, &err);
	if (kind->raw ? node_create_file(&ctx, "image", o, &err) : node_qcow2.create(&ctx, "image", o, &err))
		fail_msg("%s", err.msg);
	opts_free(o);
	if (!kind->bitmaps)
		return;
	n = open_image(NODE_RDWR);
	if (!n || n->drv->bitmaps->act(n, &r, &err))
		fail_msg("%s", err.msg);
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

static int copy_of(int fd)
{
	int copy = memfd_create("copy", MFD_CLOEXEC);
	off_t size = lseek(fd, 0, SEEK_END);
	char *p = malloc((size_t)size + 1);

	assert_int_equal(pread(fd, p, (size_t)size, 0), size);
	assert_int_equal(pwrite(copy, p, (size_t)size, 0), size);
	free(p);
	return copy;
}

/* What there would be if the process ended here. */
static void check_unclosed(void)
{
	int image = image_fd, data = data_fd;
	bool failed = sync_failed;

	image_fd = copy_of(image);
	data_fd = copy_of(data);
	sync_failed = true; /* what was not flushed may still be in caches */
	check_again();
	sync_failed = failed;
	close(image_fd);
	close(data_fd);
	image_fd = image;
	data_fd = data;
}

/* The history, with calls of one kind that fail from the `skip`-th on. How many there were. */
static unsigned history(enum fault_call c, unsigned skip, unsigned times, int errnum, size_t most)
{
	unsigned snaps = 0, begun;
	struct node *n;

	snprintf(what, sizeof(what), "%s%s, %s: %s %u of the %u-th on",
		 kind->raw	 ? "raw "
		 : kind->bitmaps ? "bitmaps "
				 : "",
		 kind->options, strerror(errnum), call_names[c], times, skip);
	fault_none();
	pick_seed = 88172645463325252ull;
	errors = 0;
	sync_failed = false;
	for (unsigned i = 0; i < SECTORS; i++)
		model[i].is = model[i].since = bit(0);
	make_image();
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
	check_unclosed();
	node_close(n);
	check_again();
	close(image_fd);
	close(data_fd);
	return begun;
}

static unsigned every_call_of(enum fault_call c, unsigned times, int errnum, unsigned step)
{
	/* Those are each tried a hundred times. */
	unsigned by = errnum == EINTR && times > 1 ? 8 * step : step, tried = 0, calls;

	for (unsigned i = (unsigned)c % step;; i += by) {
		calls = history(c, i, times, errnum, 0);
		tried++;
		if (calls <= i)
			return tried; /* it had fewer */
		if (errnum == EINTR && times == 1)
			assert_int_equal(errors, 0); /* it is tried again, a hundred times at most */
		else if (times > 1 && c != FAULT_ALLOCATE)
			assert_true(errors > 0);
	}
}

static void every_call(void *unused)
{
	static const int errnums[] = { EIO, ENOSPC, EINTR };
	static const unsigned how_often[] = { 1, 1000000 };
	unsigned step = getenv("VIREO_FAULT_STEP") ? (unsigned)atoi(getenv("VIREO_FAULT_STEP")) : 5, tried = 0;

	quiet(true);
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		kind = &kinds[i];
		for (unsigned k = 0; k < 3 * 2 * FAULT_CALLS; k++)
			tried += every_call_of((enum fault_call)(k % FAULT_CALLS), how_often[k / FAULT_CALLS / 3],
					       errnums[k / FAULT_CALLS % 3], step > 1 ? step * kind->fewer : 1);
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
	for (unsigned i = 0; i < 4 * ARRAY_LEN(kinds); i++) {
		kind = &kinds[i / 4];
		history(FAULT_READ, 1000000, 0, EIO, most[i % 4]);
		assert_int_equal(errors, 0);
	}
	quiet(false);
}

static void test_calls_that_fall_short(void **state)
{
	node_ctx_run(&ctx, short_calls, NULL);
}

/* --- forced writes --- */

static int forced(struct node *n, enum block_op op, uint64_t offset, void *buf, uint64_t bytes)
{
	struct iovec v = { buf, bytes };
	struct node_req r = {
		.op = op, .flags = BLOCK_REQ_FUA, .offset = offset, .bytes = bytes, .iov = &v, .niov = 1
	};

	return node_io(n, &r);
}

/* In the files, as they are while the image is open. */
static void expect_stored(uint64_t offset, const void *want, uint64_t bytes)
{
	int image = image_fd, data = data_fd;
	uint8_t *got = malloc(bytes);
	struct node *n;

	image_fd = copy_of(image);
	data_fd = copy_of(data);
	n = open_image(0);
	assert_non_null(n);
	assert_int_equal(node_read(n, offset, got, bytes), 0);
	assert_memory_equal(got, want, bytes);
	node_close(n);
	free(got);
	close(image_fd);
	close(data_fd);
	image_fd = image;
	data_fd = data;
}

static void forced_writes_to(struct node *n)
{
	uint8_t buf[8192], zeroes[4096] = { 0 };
	unsigned before;

	memset(buf, 0x5a, sizeof(buf));
	fault_none();
	assert_int_equal(node_write(n, 65536, buf, 4096), 0);
	before = fault_begun(FAULT_SYNC);
	assert_int_equal(forced(n, BLOCK_WRITE, 8192, buf, sizeof(buf)), 0);
	assert_true(fault_begun(FAULT_SYNC) > before);
	expect_stored(8192, buf, sizeof(buf));
	expect_stored(65536, buf, 4096); /* it is a flush: what was there already is stored too */
	/* What only changes data, and zeroes, which may be only metadata. */
	for (unsigned i = 0; i < 2; i++) {
		before = fault_begun(FAULT_SYNC);
		memset(buf, i ? 0 : 0xa5, 4096);
		assert_int_equal(forced(n, i ? BLOCK_WRITE_ZEROES : BLOCK_WRITE, 8192, buf, 4096), 0);
		assert_true(fault_begun(FAULT_SYNC) > before);
		expect_stored(8192, i ? zeroes : buf, 4096);
	}
	/* Others are not flushed. */
	before = fault_begun(FAULT_SYNC);
	assert_int_equal(node_write(n, 12288, buf, 4096), 0);
	assert_int_equal(fault_begun(FAULT_SYNC), before);
	fault_fail(FAULT_WRITE, 0, 1, ENOSPC);
	assert_int_equal(forced(n, BLOCK_WRITE, 12288, buf, 4096), -ENOSPC);
	assert_int_equal(fault_begun(FAULT_SYNC), before);
	fault_fail(FAULT_SYNC, 0, 1, EIO);
	assert_int_equal(forced(n, BLOCK_WRITE, 12288, buf, 4096), -EIO);
}

static void forced_writes(void *unused)
{
	quiet(true);
	for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		struct node *n;

		kind = &kinds[k];
		snprintf(what, sizeof(what), "forced writes, %s", kind->options);
		make_image();
		n = open_image(NODE_RDWR);
		assert_non_null(n);
		forced_writes_to(n);
		fault_none();
		node_close(n);
		close(image_fd);
		close(data_fd);
	}
	quiet(false);
}

/* A write with FUA is done when it, and what leads to it, is in the file, and a flush has ended well. */
static void test_forced_writes_are_flushed(void **state)
{
	node_ctx_run(&ctx, forced_writes, NULL);
}

static int setup(void **unused)
{
	struct opts *o = opts_new();

	setenv("CMOCKA_TEST_ABORT", "1", 1);
	if (node_ctx_init(&ctx, &err))
		return -1;
	pick_init(&ctx);
	ctx.open_path = open_memory;
	opts_parse(o, "qom-type=secret,id=s0,data=passphrase", NULL, &err);
	if (secret_add(&ctx, o, &err))
		return -1;
	opts_free(o);
	return 0;
}

static int teardown(void **unused)
{
	secrets_free(&ctx);
	node_ctx_free(&ctx);
	co_thread_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_call_fails_once),
		cmocka_unit_test(test_calls_that_fall_short),
		cmocka_unit_test(test_forced_writes_are_flushed),
	};

	return cmocka_run_group_tests_name("block_qcow2_faults", tests, setup, teardown);
}
