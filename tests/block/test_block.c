/* Block nodes over real files: both back ends, refusals, locks, zeroes, the guard of sector 0. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block.h"

#define MIB (1u << 20)

static char dir[64];
static struct err err;

static const char *image(const char *name, off_t size)
{
	static char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
	return path;
}

static void poke(const char *path, off_t at, const void *buf, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, buf, len, at), len);
	close(fd);
}

static int io(struct block_node *n, enum block_op op, uint64_t offset, void *buf, uint64_t bytes, uint32_t flags)
{
	struct iovec iov = { buf, bytes };
	struct block_req r = { .op = op, .flags = flags, .offset = offset, .bytes = bytes, .iov = &iov, .niov = 1 };

	return block_submit_wait(n, &r);
}

static struct block_node *must_open(const struct block_config *c)
{
	struct block_node *n = block_open(c, &err);

	if (!n)
		print_error("%s\n", err.msg);
	assert_non_null(n);
	return n;
}

static void must_refuse(const struct block_config *c, const char *why)
{
	struct block_node *n = block_open(c, &err);

	assert_null(n);
	if (!strstr(err.msg, why))
		fail_msg("'%s' does not say '%s'", err.msg, why);
	assert_null(strchr(err.msg, '\n'));
}

/* --- both back ends --- */

static bool uring_works(void)
{
	struct block_config c = { .path = image("probe.img", MIB), .aio = BLOCK_AIO_URING };
	struct block_node *n = block_open(&c, &err);

	if (n)
		block_close(n);
	return n != NULL;
}

static void round_trip(enum block_aio aio)
{
	struct block_config c = { .path = image("rw.img", 8 * MIB), .aio = aio };
	struct block_node *n = must_open(&c);
	uint8_t out[3 * 512], in[3 * 512];

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = i * 7 + 1;
	assert_int_equal(block_size(n), 8 * MIB);
	assert_string_equal(block_format_name(n), "raw");
	assert_int_equal(io(n, BLOCK_WRITE, 4096, out, sizeof(out), 0), 0);
	assert_int_equal(io(n, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(io(n, BLOCK_READ, 4096, in, sizeof(in), 0), 0);
	assert_memory_equal(in, out, sizeof(in));

	/* Scattered, and at the very end. */
	struct iovec iov[3] = { { in, 512 }, { in + 512, 100 }, { in + 612, 412 } };
	struct block_req r = { .op = BLOCK_READ, .offset = 4096 + 512, .bytes = 1024, .iov = iov, .niov = 3 };
	assert_int_equal(block_submit_wait(n, &r), 0);
	assert_memory_equal(in, out + 512, 1024);
	assert_int_equal(io(n, BLOCK_WRITE, 8 * MIB - 512, out, 512, 0), 0);

	/* Zeroes with and without deallocation, and a discard. */
	assert_int_equal(io(n, BLOCK_WRITE_ZEROES, 4096, NULL, 512, 0), 0);
	assert_int_equal(io(n, BLOCK_WRITE_ZEROES, 4608, NULL, 512, BLOCK_REQ_UNMAP), 0);
	assert_int_equal(io(n, BLOCK_READ, 4096, in, sizeof(in), 0), 0);
	for (int i = 0; i < 1024; i++)
		assert_int_equal(in[i], 0);
	assert_memory_equal(in + 1024, out + 1024, 512);
	assert_int_equal(io(n, BLOCK_DISCARD, 0, NULL, MIB, 0), 0);
	assert_int_equal(io(n, BLOCK_READ, 5120, in, 512, 0), 0);
	assert_int_equal(block_get_stats(n)->discards, 1);
	assert_int_equal(block_get_stats(n)->written_bytes, sizeof(out) + 512);

	/* Ranges that wrap, lie beyond the end, or do not agree with the buffers. */
	assert_int_equal(io(n, BLOCK_READ, 8 * MIB - 512, in, 1024, 0), -EINVAL);
	assert_int_equal(io(n, BLOCK_WRITE, UINT64_MAX - 511, out, 512, 0), -EINVAL);
	r.bytes = 2048;
	assert_int_equal(block_submit_wait(n, &r), -EINVAL);
	r.op = 99;
	assert_int_equal(block_submit_wait(n, &r), -EINVAL);
	block_close(n);
}

static void test_uring(void **state)
{
	if (!uring_works())
		skip();
	round_trip(BLOCK_AIO_URING);
}

static void test_threads(void **state)
{
	round_trip(BLOCK_AIO_THREADS);
}

/* More requests at once than the ring has entries. */
#define MANY 600

struct many {
	struct block_node *n;
	struct block_req req[MANY];
	struct iovec iov[MANY];
	uint32_t data[MANY][128];
	int left;
	enum block_op op;
	sem_t all;
};

static void one_done(struct block_req *r, int ret)
{
	struct many *m = r->opaque;

	assert_int_equal(ret, 0);
	if (!--m->left)
		sem_post(&m->all);
}

static void submit_many(void *opaque)
{
	struct many *m = opaque;

	m->left = MANY;
	for (int i = 0; i < MANY; i++) {
		m->iov[i] = (struct iovec){ m->data[i], 512 };
		m->req[i] = (struct block_req){
			.op = m->op,
			.offset = i * 512,
			.bytes = 512,
			.iov = &m->iov[i],
			.niov = 1,
			.done = one_done,
			.opaque = m,
		};
		block_submit(m->n, &m->req[i]);
	}
}

static void many(enum block_aio aio)
{
	struct block_config c = { .path = image("many.img", MIB), .format = "raw", .aio = aio };
	struct many *m = calloc(1, sizeof(*m));

	m->n = must_open(&c);
	sem_init(&m->all, 0, 0);
	for (int i = 0; i < MANY; i++)
		m->data[i][0] = m->data[i][127] = 77 + i;
	m->op = BLOCK_WRITE;
	block_call(m->n, submit_many, m);
	block_drain(m->n); /* nothing is out when it returns */
	assert_int_equal(m->left, 0);
	block_resume(m->n);
	sem_wait(&m->all);
	memset(m->data, 0, sizeof(m->data));
	m->op = BLOCK_READ;
	block_call(m->n, submit_many, m);
	sem_wait(&m->all);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(m->data[i][127], 77 + i);
	block_close(m->n);
	sem_destroy(&m->all);
	free(m);
}

static void test_many(void **state)
{
	many(BLOCK_AIO_THREADS);
	many(BLOCK_AIO_AUTO);
}

/* --- refusals --- */

static void test_odd_size(void **state)
{
	struct block_config c = { .path = image("odd.img", 1000) };
	uint8_t buf[1024];

	must_refuse(&c, "no multiple of 512");
	c.odd_size = true;
	c.format = "raw";
	memset(buf, 0xee, sizeof(buf));
	poke(c.path, 0, buf, 1000);
	struct block_node *n = must_open(&c);
	assert_int_equal(block_size(n), 1024);
	assert_int_equal(io(n, BLOCK_READ, 0, buf, 1024, 0), 0);
	assert_int_equal(buf[999], 0xee);
	assert_int_equal(buf[1000], 0);
	assert_int_equal(buf[1023], 0);
	block_close(n);
}

static void test_refused_paths(void **state)
{
	struct block_config c = { .path = dir };

	must_refuse(&c, "is a directory");
	c.path = "/dev/null";
	must_refuse(&c, "is a character device");
	c.path = "/nonexistent/disk.img";
	must_refuse(&c, "no such file");
	c.path = image("fine.img", MIB);
	c.format = "floppy";
	must_refuse(&c, "unknown image format 'floppy'");
}

static void test_readonly(void **state)
{
	struct block_config c = { .path = image("ro.img", MIB), .readonly = true };
	struct block_node *n = must_open(&c);
	uint8_t buf[512] = { 0 };

	assert_true(block_readonly(n));
	assert_false(block_can_discard(n));
	assert_int_equal(io(n, BLOCK_READ, 0, buf, 512, 0), 0);
	assert_int_equal(io(n, BLOCK_WRITE, 0, buf, 512, 0), -EROFS);
	assert_int_equal(io(n, BLOCK_DISCARD, 0, NULL, 512, 0), -EROFS);
	assert_int_equal(io(n, BLOCK_WRITE_ZEROES, 0, NULL, 512, 0), -EROFS);
	assert_int_equal(io(n, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	block_close(n);
}

static void test_locks(void **state)
{
	struct block_config writer = { .path = image("lock.img", MIB) };
	struct block_config reader = { .path = writer.path, .readonly = true };
	struct block_node *a = must_open(&writer), *b;

	must_refuse(&writer, "in use by another VM");
	must_refuse(&reader, "being written by another VM");
	reader.no_lock = true;
	block_close(must_open(&reader));
	reader.no_lock = false;
	block_close(a);
	a = must_open(&reader);
	b = must_open(&reader);
	must_refuse(&writer, "in use by another VM");
	block_close(a);
	block_close(b);
	block_close(must_open(&writer));
}

static void test_formats(void **state)
{
	struct block_config c = { .path = image("disguise.img", MIB) };
	char header[512] = "QFI\xfb\0\0\0\3";
	struct block_node *n;

	poke(c.path, 0, header, sizeof(header));
	must_refuse(&c, "the header says qcow2");
	c.format = "qcow2";
	must_refuse(&c, "Unsupported cluster size");
	c.format = "raw";
	n = must_open(&c);
	assert_int_equal(io(n, BLOCK_WRITE, 0, header, 512, 0), 0); /* named: the guest may write what it likes */
	block_close(n);

	c.path = image("guessed.img", MIB);
	c.format = NULL;
	n = must_open(&c);
	assert_int_equal(io(n, BLOCK_WRITE, 0, header, 512, 0), -EPERM);
	header[0] = 'x';
	assert_int_equal(io(n, BLOCK_WRITE, 0, header, 512, 0), 0);
	memset(header, 0, sizeof(header));
	assert_int_equal(io(n, BLOCK_READ, 0, header, 512, 0), 0);
	assert_int_equal(header[0], 'x');
	block_close(n);
	c.path = image("claim.qcow2", MIB);
	must_refuse(&c, "the name says qcow2");
}

static int make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/vireo-block-XXXXXX", tmp && strlen(tmp) < 30 ? tmp : "/tmp");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = { "probe.img", "rw.img",   "many.img",     "odd.img",     "fine.img",
					     "ro.img",	  "lock.img", "disguise.img", "guessed.img", "claim.qcow2" };
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uring),	      cmocka_unit_test(test_threads),  cmocka_unit_test(test_many),
		cmocka_unit_test(test_odd_size),      cmocka_unit_test(test_readonly), cmocka_unit_test(test_locks),
		cmocka_unit_test(test_refused_paths), cmocka_unit_test(test_formats),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
