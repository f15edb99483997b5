/* Coroutines, options of nodes, and graphs of nodes below the formats. */
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
#include <unistd.h>

#include "block/node.h"

#define MIB (1u << 20)

static char dir[64];
static struct node_ctx ctx;
static struct err err;

/* --- coroutines --- */

static char trace[256];
static struct co *waiting;

static void note(const char *word)
{
	strcat(trace, word);
}

static void inner(void *opaque)
{
	note("i");
	waiting = co_self();
	co_wait();
	note("I");
}

static void outer(void *opaque)
{
	note("o");
	co_start(inner, NULL); /* begins when this one waits or ends */
	note("O");
}

static void test_nothing_runs_between_two_waits(void **state)
{
	trace[0] = 0;
	assert_null(co_self());
	assert_int_equal(co_start(outer, NULL), 0);
	assert_string_equal(trace, "oOi");
	co_wake(waiting);
	assert_string_equal(trace, "oOiI");
}

#define THOUSANDS 3000

static struct co_mutex mutex;
static struct co_queue gate;
static unsigned order[THOUSANDS], entered, inside;

static void visitor(void *opaque)
{
	unsigned me = (unsigned)(uintptr_t)opaque;

	co_queue_wait(&gate);
	co_lock(&mutex);
	assert_int_equal(inside++, 0);
	co_queue_wait(&gate); /* hold it over a wait */
	order[entered++] = me;
	inside--;
	co_unlock(&mutex);
}

static void test_thousands_wait_in_order(void **state)
{
	entered = 0;
	for (uintptr_t i = 0; i < THOUSANDS; i++)
		assert_int_equal(co_start(visitor, (void *)i), 0);
	co_queue_wake_all(&gate);
	while (entered < THOUSANDS)
		assert_true(co_queue_wake(&gate));
	for (unsigned i = 0; i < THOUSANDS; i++)
		assert_int_equal(order[i], i);
	assert_false(mutex.held);
	co_thread_end();
}

static volatile uint64_t sink;

/* Registers that a function must keep, and floating point, survive the switch. */
static void computes(void *opaque)
{
	double *out = opaque, sum = 0;

	for (unsigned i = 1; i <= 10; i++) {
		sum += 1.0 / i;
		co_queue_wait(&gate);
	}
	*out = sum;
}

static void test_registers_survive(void **state)
{
	double a = 0, b = 0;

	co_start(computes, &a);
	co_start(computes, &b);
	for (unsigned i = 0; i < 10; i++) {
		sink += i;
		co_queue_wake_all(&gate);
	}
	assert_true(a > 2.92 && a < 2.93);
	assert_true(a == b);
}

/* --- options --- */

static void test_options(void **state)
{
	struct opts *o = opts_new(), *sub;
	uint64_t v;
	bool on;

	assert_int_equal(opts_parse(o, "driver=qcow2,file.filename=a,,b,lazy,file.driver=file", NULL, &err), 0);
	assert_string_equal(opts_get(o, "driver"), "qcow2");
	assert_string_equal(opts_get(o, "lazy"), "on");
	assert_true(opts_has(o, "file"));
	assert_false(opts_has(o, "fil"));
	sub = opts_take_sub(o, "file");
	assert_string_equal(opts_get(sub, "filename"), "a,b");
	assert_string_equal(opts_get(sub, "driver"), "file");
	opts_free(sub);
	assert_string_equal(opts_unknown(o), "driver");
	opts_take(o, "driver");
	assert_string_equal(opts_unknown(o), "lazy");
	assert_int_equal(opts_bool(o, "lazy", false, &on, &err), 0);
	assert_true(on);
	assert_null(opts_unknown(o));

	assert_int_equal(opts_parse_json(o, "{\"size\": 65536, \"x\": {\"y\": [true, \"z\"]}}", &err), 0);
	assert_string_equal(opts_get(o, "x.y.0"), "on");
	assert_string_equal(opts_get(o, "x.y.1"), "z");
	assert_int_equal(opts_size(o, "size", 0, &v, &err), 0);
	assert_int_equal(v, 65536);
	assert_int_equal(opts_parse_json(o, "{", &err), -1);
	assert_int_equal(opts_parse_json(o, "[1]", &err), -1);
	opts_free(o);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		int ret;
		uint64_t value;
	} sizes[] = {
		{ "0", 0, 0 },	       { "512", 0, 512 }, { "64k", 0, 65536 },	   { "1.5G", 0, 3ull << 29 },
		{ "0x1000", 0, 4096 }, { "3b", 0, 3 },	  { "1T", 0, 1ull << 40 }, { "8E", 0, 8ull << 60 },
		{ "", -1, 0 },	       { "-1", -1, 0 },	  { "k", -1, 0 },	   { "1kk", -1, 0 },
		{ "1x", -1, 0 },       { "1.5", -1, 0 },  { "16E", -2, 0 },	   { "99999999999999999999", -2, 0 },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t v = 0;

		assert_int_equal(opts_parse_size(sizes[i].text, &v), sizes[i].ret);
		if (!sizes[i].ret)
			assert_int_equal(v, sizes[i].value);
	}
}

/* --- graphs --- */

static char path[128];

static void make(off_t size)
{
	int fd;

	snprintf(path, sizeof(path), "%s/image", dir);
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

/* Open what "k=v,..." says, or refuse it for the reason given. */
static struct node *with(const char *text, unsigned flags)
{
	struct opts *o = opts_new();
	struct node *n;

	assert_int_equal(opts_parse(o, text, NULL, &err), 0);
	n = node_open(&ctx, NULL, o, flags, &err);
	opts_free(o);
	return n;
}

static void refuse(const char *text, const char *why)
{
	struct node *n = with(text, NODE_RDWR);

	assert_null(n);
	if (!strstr(err.msg, why))
		fail_msg("'%s' does not say '%s'", err.msg, why);
}

static void raw_window(void *opaque)
{
	char text[256], buf[1024], in[1024];
	struct node *n, *all;

	make(MIB);
	snprintf(text, sizeof(text), "driver=raw,offset=4096,size=8192,file.filename=%s", path);
	n = with(text, NODE_RDWR);
	if (!n)
		fail_msg("%s", err.msg);
	assert_int_equal(n->size, 8192);
	memset(buf, 'w', sizeof(buf));
	assert_int_equal(node_write(n, 7, buf, sizeof(buf)), 0); /* any byte */
	assert_int_equal(node_zeroes(n, 100, 5, 0), 0);
	node_close(n);
	all = node_open(&ctx, path, NULL, NODE_PROTOCOL, &err);
	assert_non_null(all);
	assert_int_equal(node_read(all, 4096 + 7, in, sizeof(in)), 0);
	memset(buf + 93, 0, 5);
	assert_memory_equal(in, buf, sizeof(in));
	/* Behind the end there are zeroes. */
	assert_int_equal(node_read(all, MIB - 512, in, 1024), 0);
	assert_int_equal(in[1023], 0);
	assert_int_equal(node_write(all, 0, buf, 1), -EPERM);
	node_close(all);
}

static void test_raw_window(void **state)
{
	node_ctx_run(&ctx, raw_window, NULL);
}

static void grow(void *opaque)
{
	struct node_resize how = { .size = 3 * MIB, .exact = true };
	struct node_extent e;
	struct node *n;
	char buf[512];

	make(0);
	n = node_open(&ctx, path, NULL, NODE_RDWR | NODE_PROTOCOL, &err);
	assert_non_null(n);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(node_write(n, MIB, buf, 512), 0);
	assert_int_equal(n->size, MIB + 512);
	assert_int_equal(node_zeroes(n, 2 * MIB, 512, 0), 0);
	assert_int_equal(n->size, 2 * MIB + 512);
	assert_int_equal(node_truncate(n, &how, &err), 0);
	assert_int_equal(n->size, 3 * MIB);
	assert_int_equal(node_status(n, 0, 4 * MIB, &e), 0);
	if (e.zero) { /* the file system knows holes */
		assert_int_equal(e.bytes, MIB);
		assert_false(e.eof);
		assert_int_equal(node_status(n, MIB, 4 * MIB, &e), 0);
		assert_true(e.data);
		assert_int_equal(node_status(n, 3 * MIB - 4096, 4 * MIB, &e), 0);
		assert_true(e.zero && e.eof);
	}
	how.size = MIB;
	assert_int_equal(node_truncate(n, &how, &err), 0);
	how.prealloc = PREALLOC_FULL;
	how.size = 2 * MIB;
	assert_int_equal(node_truncate(n, &how, &err), 0);
	assert_true(node_allocated(n) >= MIB);
	node_close(n);
}

static void test_files_grow(void **state)
{
	node_ctx_run(&ctx, grow, NULL);
}

static void refusals(void *opaque)
{
	char text[256];

	make(MIB);
	refuse("driver=floppy", "Unknown driver 'floppy'");
	refuse("size=1", "Must specify either driver or file");
	refuse("driver=raw", "A block device must be specified");
	refuse("driver=file", "requires a file name");
	refuse("driver=null-co,size=1M,sise=3", "'null-co' doesn't support the option 'sise'");
	snprintf(text, sizeof(text), "driver=raw,sise=3,file.filename=%s", path);
	refuse(text, "'raw' does not support the option 'sise'");
	snprintf(text, sizeof(text), "driver=raw,offset=2M,file.filename=%s", path);
	refuse(text, "cannot be greater than size");
	snprintf(text, sizeof(text), "driver=raw,offset=1M,size=512,file.filename=%s", path);
	refuse(text, "has to be smaller or equal");
	refuse("driver=file,filename=/", "Could not open '/'");
	assert_null(node_open(&ctx, "gopher:x", NULL, 0, &err));
	assert_non_null(strstr(err.msg, "Unknown protocol 'gopher'"));
}

static void test_refusals(void **state)
{
	node_ctx_run(&ctx, refusals, NULL);
}

static void json_names(void *opaque)
{
	struct node *n = node_open(&ctx,
				   "json:{\"driver\": \"raw\", \"file\": {\"driver\": \"null-co\", \"size\": 1048576, "
				   "\"read-zeroes\": true}}",
				   NULL, 0, &err);
	char buf[16] = "x";

	if (!n)
		fail_msg("%s", err.msg);
	assert_int_equal(n->size, MIB);
	assert_string_equal(n->file->drv->name, "null-co");
	assert_int_equal(node_read(n, 12345, buf, sizeof(buf)), 0);
	assert_int_equal(buf[0], 0);
	node_close(n);
}

static void test_json_names(void **state)
{
	node_ctx_run(&ctx, json_names, NULL);
}

/* Requests of many coroutines at once, on both back ends. */
static struct node *shared;
static unsigned running;
static struct co *boss;

static void writes_and_reads(void *opaque)
{
	uint64_t at = (uint64_t)(uintptr_t)opaque * 1024;
	char out[1024], in[1024];

	memset(out, (int)(at >> 10), sizeof(out));
	assert_int_equal(node_write(shared, at, out, sizeof(out)), 0);
	assert_int_equal(node_flush(shared), 0);
	assert_int_equal(node_read(shared, at, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	if (!--running)
		co_wake(boss);
}

static void many(void *opaque)
{
	char text[256];

	make(MIB);
	snprintf(text, sizeof(text), "driver=raw,file.filename=%s,file.aio=%s", path, (const char *)opaque);
	shared = with(text, NODE_RDWR);
	if (!shared)
		fail_msg("%s", err.msg);
	running = 500;
	boss = co_self();
	for (uintptr_t i = 0; i < 500; i++)
		assert_int_equal(co_start(writes_and_reads, (void *)i), 0);
	co_wait();
	assert_int_equal(running, 0);
	node_close(shared);
}

static void test_many_at_once(void **state)
{
	node_ctx_run(&ctx, many, (char *)"threads");
	node_ctx_run(&ctx, many, (char *)"native");
}

static int begin(void **state)
{
	/* cmocka's way back from a failure, longjmp(3), does not lead out of a coroutine. */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	strcpy(dir, "/tmp/vireo-node-XXXXXX");
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
		cmocka_unit_test(test_nothing_runs_between_two_waits),
		cmocka_unit_test(test_thousands_wait_in_order),
		cmocka_unit_test(test_registers_survive),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_raw_window),
		cmocka_unit_test(test_files_grow),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_json_names),
		cmocka_unit_test(test_many_at_once),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
