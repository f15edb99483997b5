/*
 * qcow2 images against a copy of what the disk should hold: random requests, several at once, on images of every kind;
 * our check and QEMU's must find nothing, and QEMU must read the same bytes.
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
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/block.h"
#include "block/node.h"

#define KIB  1024u
#define MIB  (1024u * 1024u)
#define DISK (6u * MIB + 512u)

static char dir[64];
static struct node_ctx ctx;
static struct err err;
static uint64_t seed;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static char *file_in_dir(const char *name)
{
	static char paths[4][160];
	static unsigned k;

	k = (k + 1) % 4;
	snprintf(paths[k], sizeof(paths[k]), "%s/%s", dir, name);
	return paths[k];
}

static bool have_qemu(void)
{
	static int have = -1;

	if (have < 0)
		have = !system("qemu-img --version >/dev/null 2>&1");
	return have;
}

static void must_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void must_run(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	strcat(cmd, " >/tmp/vireo-qcow2-out 2>&1 || { cat /tmp/vireo-qcow2-out; false; }");
	if (system(cmd))
		fail_msg("failed: %s", cmd);
}

static void create(const char *name, const char *options)
{
	struct opts *o = opts_new();

	assert_int_equal(opts_parse(o, options, NULL, &err), 0);
	unlink(file_in_dir(name));
	if (node_qcow2.create(&ctx, file_in_dir(name), o, &err))
		fail_msg("%s: %s", options, err.msg);
	opts_free(o);
}

static struct node *open_image(const char *name, unsigned flags)
{
	struct opts *o = opts_new();
	struct node *n;

	opts_set(o, "driver", "qcow2");
	n = node_open(&ctx, file_in_dir(name), o, flags, &err);
	if (!n)
		fail_msg("%s: %s", name, err.msg);
	opts_free(o);
	return n;
}

static void must_be_clean(const char *name, bool leaks_too)
{
	struct node *n = open_image(name, NODE_CHECK);
	struct node_check c = { 0 };

	assert_int_equal(n->drv->check(n, &c, 0), 0);
	if (c.corruptions || c.check_errors || (leaks_too && c.leaks))
		fail_msg("%s: %lld corruptions, %lld leaks", name, (long long)c.corruptions, (long long)c.leaks);
	node_close(n);
	if (have_qemu())
		must_run("qemu-img check -q %s", file_in_dir(name));
}

/* --- random requests --- */

static uint8_t shadow[DISK + 8 * MIB];
static struct node *disk;
static unsigned running;
static struct co *boss;
static bool no_compression;

struct request {
	enum { OP_WRITE, OP_READ, OP_ZERO, OP_UNMAP, OP_DISCARD, OP_COMPRESS, OP_KINDS } op;
	uint64_t offset, bytes;
	uint8_t fill;
};

static void compare_range(uint64_t offset, uint64_t bytes)
{
	uint8_t *in = malloc(bytes);

	assert_int_equal(node_read(disk, offset, in, bytes), 0);
	for (uint64_t i = 0; i < bytes; i++)
		if (in[i] != shadow[offset + i])
			fail_msg("byte %llu is %02x, should be %02x", (unsigned long long)(offset + i), in[i],
				 shadow[offset + i]);
	free(in);
}

static void fill_range(uint8_t *buf, uint64_t bytes, uint8_t fill)
{
	for (uint64_t i = 0; i < bytes; i++)
		buf[i] = (uint8_t)(fill + (i >> 9) + (i & 3) * 17);
}

static void carry_out(const struct request *r)
{
	struct node_req c = {
		.op = BLOCK_WRITE, .flags = BLOCK_REQ_COMPRESSED, .offset = r->offset, .bytes = r->bytes
	};
	uint8_t *buf = malloc(r->bytes);
	struct iovec parts[3] = { { buf, r->bytes / 3 },
				  { buf + r->bytes / 3, 0 },
				  { buf + r->bytes / 3, r->bytes - r->bytes / 3 } };

	fill_range(buf, r->bytes, r->fill);
	switch (r->op) {
	case OP_WRITE:
		assert_int_equal(node_writev(disk, r->offset, r->bytes, parts, 3), 0);
		memcpy(shadow + r->offset, buf, r->bytes);
		break;
	case OP_COMPRESS:
		c.iov = parts;
		c.niov = 3;
		assert_int_equal(node_io(disk, &c), 0);
		memcpy(shadow + r->offset, buf, r->bytes);
		break;
	case OP_ZERO:
	case OP_UNMAP:
		assert_int_equal(node_zeroes(disk, r->offset, r->bytes, r->op == OP_UNMAP ? BLOCK_REQ_UNMAP : 0), 0);
		memset(shadow + r->offset, 0, r->bytes);
		break;
	case OP_DISCARD:
		assert_int_equal(node_discard(disk, r->offset, r->bytes), 0);
		assert_int_equal(node_read(disk, r->offset, shadow + r->offset, r->bytes), 0); /* old or zeroes */
		break;
	default:
		compare_range(r->offset, r->bytes);
	}
	free(buf);
}

static void request_body(void *opaque)
{
	struct request *r = opaque;

	carry_out(r);
	free(r);
	if (!--running)
		co_wake(boss);
}

static struct request *random_request(uint64_t low, uint64_t high)
{
	struct request *r = malloc(sizeof(*r));
	struct node_info info = { 0 };
	uint64_t most = rnd(4) ? 9000 : 600 * KIB;

	disk->drv->info(disk, &info);
	r->op = rnd(OP_KINDS);
	r->fill = (uint8_t)rnd(256);
	r->offset = low + rnd(high - low);
	r->bytes = 1 + rnd(most);
	if (r->bytes > high - r->offset)
		r->bytes = high - r->offset;
	if (r->op == OP_COMPRESS && no_compression)
		r->op = OP_WRITE;
	if (r->op == OP_COMPRESS) {
		r->offset = (low + info.cluster_size - 1) / info.cluster_size * info.cluster_size;
		r->bytes = info.cluster_size;
		if (r->offset + r->bytes > high)
			r->op = OP_READ, r->offset = low, r->bytes = high - low;
	}
	return r;
}

/* Requests that do not overlap, all at once: each in its own part of the disk. */
static void volley(unsigned count)
{
	uint64_t part = disk->size / count;

	boss = co_self();
	running = count;
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(co_start(request_body, random_request(i * part, (i + 1) * part)), 0);
	while (running)
		co_wait();
}

struct kind {
	const char *options;
	const char *backing; /* pattern of a raw backing file; NULL: none */
	uint64_t backing_size;
};

static void compare_with_qemu(const char *name)
{
	FILE *f;

	if (!have_qemu())
		return;
	f = fopen(file_in_dir("shadow"), "w");
	assert_non_null(f);
	assert_int_equal(fwrite(shadow, 1, disk ? disk->size : DISK, f), disk ? disk->size : DISK);
	fclose(f);
	must_run("qemu-img compare -q -f qcow2 -F raw %s %s", file_in_dir(name), file_in_dir("shadow"));
}

static void make_backing(uint64_t size)
{
	FILE *f = fopen(file_in_dir("base"), "w");

	assert_non_null(f);
	fill_range(shadow, size, 200);
	assert_int_equal(fwrite(shadow, 1, size, f), size);
	fclose(f);
}

static void snapshots(unsigned *alive)
{
	struct node_snapshot sn = { .name = (char *)"snap" };

	if (*alive < 3 && rnd(2)) {
		assert_int_equal(disk->drv->snapshot_create(disk, &sn, &err), 0);
		(*alive)++;
	} else if (*alive && rnd(2)) {
		assert_int_equal(disk->drv->snapshot_delete(disk, "snap", &err), 0);
		(*alive)--;
	}
}

static void random_image(const struct kind *k, bool with_snapshots)
{
	char options[256];
	unsigned alive = 0;

	memset(shadow, 0, sizeof(shadow));
	if (k->backing)
		make_backing(k->backing_size);
	snprintf(options, sizeof(options), "size=%u,%s%s%s", DISK, k->options,
		 k->backing ? ",backing_fmt=raw,backing_file=" : "", k->backing ? file_in_dir("base") : "");
	unlink(file_in_dir("data"));
	create("image", options);
	no_compression = strstr(k->options, "data_file");
	disk = open_image("image", NODE_RDWR | NODE_NO_FLUSH);
	for (unsigned round = 0; round < 40; round++) {
		volley(1 + (unsigned)rnd(12));
		if (with_snapshots)
			snapshots(&alive);
		if (!rnd(8))
			assert_int_equal(node_flush(disk), 0);
		if (!rnd(10)) {
			node_close(disk);
			must_be_clean("image", true);
			disk = open_image("image", NODE_RDWR | NODE_NO_FLUSH);
		}
	}
	compare_range(0, disk->size);
	assert_int_equal(node_flush(disk), 0);
	while (alive--)
		assert_int_equal(disk->drv->snapshot_delete(disk, "snap", &err), 0);
	compare_range(0, disk->size);
	node_close(disk);
	must_be_clean("image", true);
	disk = open_image("image", 0);
	compare_range(0, disk->size);
	compare_with_qemu("image");
	node_close(disk);
	disk = NULL;
}

static const struct kind kinds[] = {
	{ "cluster_size=64k", NULL, 0 },
	{ "cluster_size=512", NULL, 0 },
	{ "cluster_size=4k,compat=0.10", NULL, 0 },
	{ "cluster_size=4k,refcount_bits=1", NULL, 0 },
	{ "cluster_size=1k,refcount_bits=64", NULL, 0 },
	{ "cluster_size=2M", NULL, 0 },
	{ "cluster_size=8k,lazy_refcounts=on", NULL, 0 },
	{ "cluster_size=8k,compression_type=zstd", NULL, 0 },
	{ "cluster_size=16k,extended_l2=on", NULL, 0 },
	{ "cluster_size=64k,extended_l2=on", "b", 3 * MIB },
	{ "cluster_size=64k", "b", 3 * MIB + 512 },
	{ "cluster_size=4k,compat=0.10", "b", 9 * MIB / 2 },
	{ "cluster_size=4k,preallocation=metadata", NULL, 0 },
	{ "cluster_size=64k,preallocation=full", NULL, 0 },
};

static void all_kinds(void *opaque)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		seed = 77 + i;
		print_message("%s%s\n", kinds[i].options, kinds[i].backing ? ", with a backing file" : "");
		random_image(&kinds[i], false);
		if (!strstr(kinds[i].options, "refcount_bits=1"))
			random_image(&kinds[i], true);
	}
}

static void test_random_requests(void **state)
{
	if (!have_qemu())
		puts("without qemu-img, only our own check looks at the images");
	node_ctx_run(&ctx, all_kinds, NULL);
}

/* --- images that lie --- */

static void poke(const char *name, uint64_t at, uint64_t value, unsigned bytes)
{
	int fd = open(file_in_dir(name), O_WRONLY | O_CLOEXEC);
	uint8_t be[8];

	st_be64(be, value);
	assert_int_equal(pwrite(fd, be + 8 - bytes, bytes, (off_t)at), bytes);
	close(fd);
}

static const struct {
	uint64_t at, value;
	unsigned bytes;
	const char *says;
} lies[] = {
	{ 0, 0, 4, "Image is not in qcow2 format" },
	{ 4, 4, 4, "Unsupported qcow2 version 4" },
	{ 20, 8, 4, "Unsupported cluster size: 2^8" },
	{ 20, 31, 4, "Unsupported cluster size: 2^31" },
	{ 24, 1ull << 63, 8, "too big" },
	{ 24, 1ull << 62, 8, "Image is too big" },
	{ 24, 1ull << 36, 8, "L1 table is too small" },
	{ 36, 0x7fffffff, 4, "Active L1 table too large" },
	{ 40, 0x12345, 8, "Active L1 table offset invalid" },
	{ 40, 0x7ffffffffffff000, 8, "" },
	{ 48, 0x12345, 8, "Reference count table offset invalid" },
	{ 56, 0x7fffffff, 4, "Reference count table too large" },
	{ 56, 0, 4, "does not contain a reference count table" },
	{ 60, 0x7fffffff, 4, "Snapshot table too large" },
	{ 60, 0x1000, 4, "" },
	{ 72, 1ull << 63, 8, "Unsupported qcow2 feature(s): Unknown incompatible feature: 8000000000000000" },
	{ 72, 1 << 4 | 1 << 5, 8, "Unsupported qcow2 feature(s): " },
	{ 72, 1 << 3, 8, "Compression type incompatible feature bit must not be set" },
	{ 72, 2, 8, "cannot be opened read/write" },
	{ 96, 7, 4, "Reference count entry width too large" },
	{ 100, 103, 4, "qcow2 header too short" },
	{ 100, 0x10001, 4, "qcow2 header exceeds cluster size" },
	{ 8, 0x10001, 8, "Invalid backing file offset" },
	{ 116, 0xffffff, 4, "Header extension too large" },
};

static void open_lies(void *opaque)
{
	struct opts *o = opts_new();

	opts_set(o, "driver", "qcow2");
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct node *n;

		create("lie", "size=64M");
		poke("lie", lies[i].at, lies[i].value, lies[i].bytes);
		n = node_open(&ctx, file_in_dir("lie"), o, NODE_RDWR, &err);
		if (n && *lies[i].says)
			fail_msg("opened; should say '%s'", lies[i].says);
		if (!n && !strstr(err.msg, lies[i].says))
			fail_msg("'%s' does not say '%s'", err.msg, lies[i].says);
		/* One line, and perhaps what can be done about it. */
		if (!n && strchr(err.msg, '\n'))
			assert_int_equal(strncmp(strchr(err.msg, '\n'), "\nYou can force-remove", 21), 0);
		node_close(n);
	}
	opts_free(o);
}

static void test_headers_that_lie(void **state)
{
	node_ctx_run(&ctx, open_lies, NULL);
}

/* An entry that leads a write into metadata: nothing is written, and the image is marked. */
static void overlaps(void *opaque)
{
	static const struct {
		uint64_t target;
	} targets[] = { { 0x10000 }, { 0x20000 }, { 0x30000 }, { 0x40000 }, { 0x200 }, { 0x60200 } };
	static char buf[512], before[65536], after[65536];

	memset(buf, 'x', sizeof(buf));
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct node *n, *file;

		create("lie", "size=64M");
		n = open_image("lie", NODE_RDWR);
		assert_int_equal(node_write(n, 0, buf, sizeof(buf)), 0);
		node_close(n);
		/* Header, refcount table, block, L1, L2, data: the first L2 entry. */
		poke("lie", 0x40000, 1ull << 63 | targets[i].target, 8);
		file = node_open(&ctx, file_in_dir("lie"), NULL, NODE_PROTOCOL, &err);
		assert_int_equal(node_read(file, targets[i].target & ~0xffffull, before, sizeof(before)), 0);
		node_close(file);
		n = open_image("lie", NODE_RDWR);
		assert_int_equal(node_write(n, 0, buf, sizeof(buf)), -EIO);
		assert_int_equal(node_write(n, 1 << 20, buf, sizeof(buf)), -EIO); /* no more writes */
		node_close(n);
		file = node_open(&ctx, file_in_dir("lie"), NULL, NODE_PROTOCOL, &err);
		assert_int_equal(node_read(file, targets[i].target & ~0xffffull, after, sizeof(after)), 0);
		if (targets[i].target >= 0x10000)
			assert_memory_equal(before, after, sizeof(before));
		assert_int_equal(node_read(file, 72, after, 8), 0);
		assert_int_equal(after[7] & 2, 2);
		node_close(file);
	}
}

static void test_writes_into_metadata_are_prevented(void **state)
{
	node_ctx_run(&ctx, overlaps, NULL);
}

/* A snapshot whose table cannot be: nothing is allocated for it, and the image stays as it was. */
static void lying_snapshot(void *opaque)
{
	struct node_snapshot sn = { .name = (char *)"s" };
	uint8_t be[8];
	struct node *n;

	create("lie", "size=64M");
	n = open_image("lie", NODE_RDWR);
	assert_int_equal(n->drv->snapshot_create(n, &sn, &err), 0);
	assert_int_equal(node_read(n->file, 64, be, 8), 0);
	node_close(n);
	for (unsigned k = 0; k < 2; k++) {
		poke("lie", ld_be64(be) + 8, k ? 1 : 0xffffffff, 4);
		poke("lie", ld_be64(be), k ? 0x12345 : 0x50000, 8);
		n = open_image("lie", NODE_RDWR);
		assert_int_not_equal(n->drv->snapshot_delete(n, "s", &err), 0);
		assert_non_null(
			strstr(err.msg, k ? "Snapshot L1 table offset invalid" : "Snapshot L1 table too large"));
		assert_int_not_equal(n->drv->snapshot_apply(n, "s", &err), 0);
		node_close(n);
		n = open_image("lie", 0);
		assert_int_not_equal(n->drv->snapshot_load(n, "s", &err), 0);
		node_close(n);
	}
}

static void test_snapshots_that_lie(void **state)
{
	node_ctx_run(&ctx, lying_snapshot, NULL);
}

/* A leak and a count that is too low are found, and repaired. */
static void repairs(void *opaque)
{
	char buf[512] = "x";
	struct node_check c = { 0 };
	struct node *n;

	create("lie", "size=64M");
	n = open_image("lie", NODE_RDWR);
	assert_int_equal(node_write(n, 0, buf, sizeof(buf)), 0);
	node_close(n);
	assert_int_equal(truncate(file_in_dir("lie"), 10 * 65536), 0);
	poke("lie", 0x20000 + 2 * 9, 1, 2); /* nothing refers to cluster 9 */
	poke("lie", 0x20000 + 2 * 5, 0, 2); /* the data's */
	n = open_image("lie", NODE_RDWR | NODE_CHECK);
	assert_int_equal(n->drv->check(n, &c, 0), 0);
	assert_int_equal(c.leaks, 1);
	assert_int_equal(c.corruptions, 2); /* the count, and COPIED */
	c = (struct node_check){ 0 };
	assert_int_equal(n->drv->check(n, &c, CHECK_FIX_LEAKS | CHECK_FIX_ERRORS), 0);
	assert_int_equal(c.leaks + c.corruptions, 0);
	assert_int_equal(c.leaks_fixed, 1);
	assert_int_equal(c.corruptions_fixed, 1);
	node_close(n);
	must_be_clean("lie", true);
}

static void test_check_repairs(void **state)
{
	node_ctx_run(&ctx, repairs, NULL);
}

/* --- what a machine may open --- */

static struct block_node *open_disk(const char *name, bool follow)
{
	const struct block_config c = { .path = file_in_dir(name), .format = "qcow2", .follow = follow };

	return block_open(&c, &err);
}

static void make_chain(void *opaque)
{
	char options[256];

	assert_int_equal(mkdir(file_in_dir("elsewhere"), 0700), 0);
	create("base.qcow2", "size=1M");
	create("elsewhere/far.qcow2", "size=1M");
	create("near", "size=1M,backing_fmt=qcow2,backing_file=base.qcow2");
	create("unnamed", "size=1M,backing_file=base.qcow2");
	snprintf(options, sizeof(options), "size=1M,backing_fmt=qcow2,backing_file=%s",
		 file_in_dir("elsewhere/far.qcow2"));
	create("far", options);
	create("json", "size=1M,backing_fmt=qcow2,backing_file=json:{\"driver\":\"null-co\"}");
	create("device", "size=1M,backing_fmt=raw,backing_file=/dev/null");
	create("loop", "size=1M,backing_fmt=qcow2,backing_file=loop");
	assert_int_equal(symlink("elsewhere/far.qcow2", file_in_dir("link.qcow2")), 0);
	create("linked", "size=1M,backing_fmt=qcow2,backing_file=link.qcow2");
	snprintf(options, sizeof(options), "size=1M,data_file=%s", file_in_dir("data"));
	create("with_data", options);
	snprintf(options, sizeof(options), "size=1M,data_file=%s", file_in_dir("elsewhere/data"));
	create("far_data", options);
}

/* Readers share their locks. */
static void open_loop(void *opaque)
{
	assert_null(node_open(&ctx, file_in_dir("loop"), NULL, 0, &err));
	assert_non_null(strstr(err.msg, "or in a circle"));
}

static void test_what_a_machine_may_open(void **state)
{
	static const struct {
		const char *name, *says;
	} refused[] = {
		{ "unnamed", "without its format" }, { "far", "another directory" },	{ "json", "not a file here" },
		{ "device", "not a file here" },     { "linked", "another directory" }, { "loop", "is being written" },
		{ "far_data", "the data file" },
	};
	struct block_node *n;

	node_ctx_run(&ctx, make_chain, NULL);
	n = open_disk("near", false);
	if (!n)
		fail_msg("%s", err.msg);
	assert_string_equal(block_format_name(n), "qcow2");
	block_close(n);
	n = open_disk("with_data", false);
	if (!n)
		fail_msg("%s", err.msg);
	block_close(n);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		assert_null(open_disk(refused[i].name, false));
		if (!strstr(err.msg, refused[i].says))
			fail_msg("'%s' does not say '%s'", err.msg, refused[i].says);
		assert_null(strchr(err.msg, '\n'));
	}
	node_ctx_run(&ctx, open_loop, NULL);
	n = open_disk("far", true);
	assert_non_null(n);
	block_close(n);
	n = open_disk("unnamed", true);
	assert_non_null(n);
	block_close(n);
}

/* What is written is in the file once the disk is drained, as a saved state needs it. */
static void test_drained_is_written_back(void **state)
{
	struct block_node *n = open_disk("base.qcow2", false);
	char buf[4096];
	struct iovec iov = { buf, sizeof(buf) };
	struct block_req r = { .op = BLOCK_WRITE, .offset = 8192, .bytes = sizeof(buf), .iov = &iov, .niov = 1 };

	memset(buf, 'd', sizeof(buf));
	assert_non_null(n);
	assert_int_equal(block_submit_wait(n, &r), 0);
	block_drain(n);
	if (have_qemu())
		must_run("! qemu-io -U -r -f qcow2 -c 'read -P 0x64 8192 4096' %s | grep -q 'verification failed'",
			 file_in_dir("base.qcow2"));
	block_resume(n);
	block_close(n);
}

static int begin(void **state)
{
	/* cmocka's way back from a failure, longjmp(3), does not lead out of a coroutine. */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	strcpy(dir, "/tmp/vireo-qcow2-XXXXXX");
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
		cmocka_unit_test(test_random_requests),
		cmocka_unit_test(test_headers_that_lie),
		cmocka_unit_test(test_writes_into_metadata_are_prevented),
		cmocka_unit_test(test_snapshots_that_lie),
		cmocka_unit_test(test_check_repairs),
		cmocka_unit_test(test_what_a_machine_may_open),
		cmocka_unit_test(test_drained_is_written_back),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
