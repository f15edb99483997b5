/* Filters: how long throttled requests take, and copies that do not overwrite what is written meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "block/blkdebug.h"
#include "block/block.h"
#include "block/filter.h"
#include "block/throttle.h"

#define KIB 1024u
#define MIB (1024u * 1024u)

static struct node_ctx ctx;
static struct err err;
static char dir[64];

static struct opts *options(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static struct opts *options(const char *fmt, ...)
{
	struct opts *o = opts_new();
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (opts_parse(o, text, NULL, &err))
		fail_msg("%s", err.msg);
	return o;
}

static struct node *open_with(struct opts *o)
{
	struct node *n = node_open(&ctx, NULL, o, NODE_RDWR, &err);

	if (!n)
		fail_msg("%s", err.msg);
	opts_free(o);
	return n;
}

static void group(const char *text)
{
	struct opts *o = options("%s", text);

	if (throttle_add(&ctx, o, &err))
		fail_msg("%s", err.msg);
	opts_free(o);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- throttle --- */

struct one {
	struct node *n;
	unsigned number, bytes;
	bool write;
};

static unsigned running, order[256], ended;
static struct co *boss;

static void request(void *opaque)
{
	struct one *o = opaque;
	static char buf[MIB];

	assert_int_equal(o->write ? node_write(o->n, 0, buf, o->bytes) : node_read(o->n, 0, buf, o->bytes), 0);
	order[ended++] = o->number;
	if (!--running)
		co_wake(boss);
}

/* `count` requests at once, by turns to both nodes; how long they took. */
static double run_all(struct node *a, struct node *b, unsigned count, unsigned bytes, bool write)
{
	static struct one all[256];
	double from = now();

	running = count;
	ended = 0;
	boss = co_self();
	for (unsigned i = 0; i < count; i++) {
		all[i] = (struct one){ i % 2 ? b : a, i, bytes, write };
		assert_int_equal(co_start(request, &all[i]), 0);
	}
	co_wait();
	return now() - from;
}

static void expect_seconds(double took, double least)
{
	/* A loaded host wakes late. */
	if (took < least - 0.002 || took > least + 3)
		fail_msg("%.3f s; should be %.3f", took, least);
}

static struct node *throttled(const char *name)
{
	return open_with(options("driver=throttle,throttle-group=%s,file.driver=null-co,file.size=%u", name, 16 * MIB));
}

static void limits(void *unused)
{
	struct node *a, *b;

	/* A tenth of a second's worth goes at once, and the one that finds it not quite full. */
	group("id=ops,x-iops-total=200");
	a = throttled("ops");
	b = throttled("ops");
	expect_seconds(run_all(a, b, 71, 512, false), 50 / 200.0);
	for (unsigned i = 0; i < ended; i++)
		assert_int_equal(order[i], i);
	node_close(a);
	node_close(b);
	group("id=bytes,limits.bps-write=1048576");
	a = throttled("bytes");
	expect_seconds(run_all(a, a, 40, 256 * KIB / 8, true), (39 * 32768 - 104857.6) / 1048576);
	expect_seconds(run_all(a, a, 40, 256 * KIB / 8, false), 0); /* reads are free */
	node_close(a);
	/* A burst of a second at 100 a second, then 20. */
	group("id=burst,x-iops-total=20,x-iops-total-max=100");
	a = throttled("burst");
	expect_seconds(run_all(a, a, 105, 512, false), 4 / 20.0);
	node_close(a);
	/* Each 4 KiB count. */
	group("id=size,x-iops-total=100,x-iops-size=4096");
	a = throttled("size");
	expect_seconds(run_all(a, a, 4, 64 * KIB, false), (3 * 16 - 10) / 100.0);
	node_close(a);
}

static void test_throttled_requests_take_their_time(void **state)
{
	node_ctx_run(&ctx, limits, NULL);
}

static void test_a_disk_with_limits(void **state)
{
	char path[96], buf[512];
	struct iovec v = { buf, sizeof(buf) };
	struct block_config c = { .path = path, .format = "raw", .name = "disk0", .limits = { .iops_rd = 100 } };
	struct block_node *n;
	double from;

	snprintf(path, sizeof(path), "%s/disk", dir);
	close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	assert_int_equal(truncate(path, MIB), 0);
	n = block_open(&c, &err);
	if (!n)
		fail_msg("%s", err.msg);
	assert_string_equal(block_format_name(n), "raw");
	from = now();
	for (unsigned i = 0; i < 50; i++) {
		struct block_req r = { .op = i < 31 ? BLOCK_READ : BLOCK_WRITE, .bytes = 512, .iov = &v, .niov = 1 };

		assert_int_equal(block_submit_wait(n, &r), 0);
	}
	/* Ten go at once, with what leaks meanwhile; writes are free. */
	expect_seconds(now() - from, 20 / 100.0);
	block_close(n);
	c.limits.iops = 5;
	assert_null(block_open(&c, &err));
	assert_non_null(strstr(err.msg, "disk0: bps/iops/max total values and read/write values cannot be used"));
}

/* --- copy on read --- */

static struct node *top;
static uint8_t *model;

static void reader(void *opaque)
{
	unsigned k = (unsigned)(uintptr_t)opaque;
	uint8_t *buf = malloc(64 * KIB);

	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(node_read(top, (i * 7 + k) % 64 * 16 * KIB, buf, 16 * KIB), 0);
	free(buf);
	if (!--running)
		co_wake(boss);
}

static void writer(void *opaque)
{
	unsigned k = (unsigned)(uintptr_t)opaque;

	for (unsigned i = 0; i < 128; i++) {
		uint64_t at = ((i * 13 + k) % 128 * 16 + k) * 512;

		memset(model + at, (int)(i + 1), 512);
		assert_int_equal(node_write(top, at, model + at, 512), 0);
	}
	if (!--running)
		co_wake(boss);
}

static void copies(void *unused)
{
	char path[96], base[96];
	struct opts *o = options("size=%u", MIB);
	struct node_extent e;
	uint8_t *all;
	FILE *f;

	snprintf(path, sizeof(path), "%s/a", dir);
	snprintf(base, sizeof(base), "%s/base", dir);
	model = malloc(MIB);
	memset(model, 0xbb, MIB);
	f = fopen(base, "w");
	assert_int_equal(fwrite(model, 1, MIB, f), MIB);
	fclose(f);
	if (node_qcow2.create(&ctx, path, o, &err))
		fail_msg("%s", err.msg);
	opts_free(o);
	top = open_with(options("driver=copy-on-read,file.driver=qcow2,file.file.filename=%s,file.backing.driver=raw,"
				"file.backing.file.filename=%s",
				path, base));
	running = 8;
	boss = co_self();
	for (uintptr_t i = 0; i < 4; i++) {
		assert_int_equal(co_start(writer, (void *)i), 0);
		assert_int_equal(co_start(reader, (void *)i), 0);
	}
	co_wait();
	all = malloc(MIB);
	assert_int_equal(node_read(top, 0, all, MIB), 0);
	assert_memory_equal(all, model, MIB);
	/* Everything that was read is there now. */
	for (uint64_t at = 0; at < MIB; at += e.bytes) {
		assert_int_equal(node_status(top->file, at, MIB - at, &e), 0);
		assert_true(e.allocated);
	}
	node_close(top);
	free(all);
	free(model);
}

static bool done[2];

static void read_first(void *opaque)
{
	uint8_t buf[512];

	assert_int_equal(node_read(top, 0, buf, sizeof(buf)), 0);
	assert_int_equal(buf[0], 0xbb);
	done[0] = true;
	if (!--running)
		co_wake(boss);
}

static void write_second(void *opaque)
{
	uint8_t buf[512];

	memset(buf, 0x11, sizeof(buf));
	assert_int_equal(node_write(top, 512, buf, sizeof(buf)), 0);
	done[1] = true;
	if (!--running)
		co_wake(boss);
}

/* A copy is kept right before it is written; a write to its cluster must come after it. */
static void held_copy(void *unused)
{
	struct opts *o = options("size=%u", MIB);
	char path[96], base[96];
	uint8_t buf[512];

	snprintf(path, sizeof(path), "%s/b", dir);
	snprintf(base, sizeof(base), "%s/base", dir);
	if (node_qcow2.create(&ctx, path, o, &err))
		fail_msg("%s", err.msg);
	opts_free(o);
	top = open_with(options("driver=copy-on-read,file.driver=blkdebug,file.image.driver=qcow2,file.image.file."
				"filename=%s,file.image.backing.driver=raw,file.image.backing.file.filename=%s",
				path, base));
	assert_int_equal(blkdebug_break(top, "cor_write", "A"), 0);
	running = 2;
	done[0] = done[1] = false;
	boss = co_self();
	assert_int_equal(co_start(read_first, NULL), 0);
	while (!blkdebug_is_suspended(top, "A"))
		filter_yield(top);
	assert_int_equal(co_start(write_second, NULL), 0);
	for (unsigned i = 0; i < 1000; i++) {
		usleep(100);
		filter_yield(top);
	}
	assert_false(done[0] || done[1]);
	assert_int_equal(blkdebug_resume(top, "A"), 0);
	while (running)
		co_wait();
	assert_int_equal(node_read(top, 512, buf, sizeof(buf)), 0);
	assert_int_equal(buf[0], 0x11);
	node_close(top);
}

static void test_copies_do_not_overwrite(void **state)
{
	node_ctx_run(&ctx, copies, NULL);
	node_ctx_run(&ctx, held_copy, NULL);
}

static int begin(void **state)
{
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	strcpy(dir, "/tmp/vireo-filter-XXXXXX");
	assert_non_null(mkdtemp(dir));
	return node_ctx_init(&ctx, &err);
}

static int end(void **state)
{
	char cmd[128];

	node_ctx_free(&ctx);
	co_thread_end();
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_throttled_requests_take_their_time),
		cmocka_unit_test(test_a_disk_with_limits),
		cmocka_unit_test(test_copies_do_not_overwrite),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
