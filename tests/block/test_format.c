/* Image formats: what is recognised, which names go with which headers, and the guard of a guessed raw disk's sector 0.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/block.h"
#include "block/format.h"

#define DISK (1u << 20)

/* The start of an image of each format. */
static const struct {
	const char *format, *bytes;
	size_t len, at;
} headers[] = {
	{ "qcow2", "QFI\xfb\0\0\0\2", 8, 0 },
	{ "qcow2", "QFI\xfb\0\0\0\3", 8, 0 },
	{ "qcow2", "QFI\xfb\0\0\0\x7f", 8, 0 }, /* a version to come is no raw disk either */
	{ "qcow", "QFI\xfb\0\0\0\1", 8, 0 },
	{ "qed", "QED\0", 4, 0 },
	{ "vmdk", "KDMV", 4, 0 },
	{ "vmdk", "COWD", 4, 0 },
	{ "vmdk", "# Disk DescriptorFile\nversion=1\n", 32, 0 },
	{ "vmdk", "\n# a comment\n# Disk DescriptorFile\n", 35, 0 },
	{ "vhdx", "vhdxfile", 8, 0 },
	{ "vpc", "conectix", 8, 0 },
	{ "vdi", "\x7f\x10\xda\xbe", 4, 0x40 },
	{ "parallels", "WithoutFreeSpace", 16, 0 },
	{ "parallels", "WithouFreSpacExt", 16, 0 },
	{ "bochs", "Bochs Virtual HD Image", 22, 0 },
	{ "cloop", "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1", 82, 0 },
};
#define HEADERS (sizeof(headers) / sizeof(headers[0]))

static void fill(uint8_t *sector, size_t k)
{
	memset(sector, 0, 512);
	memcpy(sector + headers[k].at, headers[k].bytes, headers[k].len);
}

static void test_probe(void **state)
{
	uint8_t b[FORMAT_HEADER] = { 0 };

	assert_null(format_probe(b, sizeof(b)));
	memset(b, 0xff, sizeof(b));
	assert_null(format_probe(b, sizeof(b)));
	for (size_t k = 0; k < HEADERS; k++) {
		const struct block_format *f;

		fill(b, k);
		f = format_probe(b, 512);
		assert_non_null(f);
		assert_string_equal(f->name, headers[k].format);
		/* Nothing is read beyond what there is. */
		assert_null(format_probe(b, headers[k].at + 3));
	}
	assert_null(format_probe(b, 0));
}

static struct err err;

static const char *choice(const char *path, const char *format, const uint8_t *b, size_t len, bool *guessed)
{
	const struct block_config c = { .path = path, .format = format };
	const struct block_format *f = format_choose(&c, b, len, guessed, &err);

	return f ? f->name : NULL;
}

static void test_choose(void **state)
{
	uint8_t raw[512] = "x", qcow2[512], vmdk[512];
	bool guessed;

	fill(qcow2, 0);
	assert_string_equal(choice("a/disk.img", NULL, raw, 512, &guessed), "raw");
	assert_true(guessed);
	assert_string_equal(choice("a/disk.img", "raw", raw, 512, &guessed), "raw");
	assert_false(guessed);
	assert_string_equal(choice("disk", NULL, raw, 512, &guessed), "raw");
	assert_string_equal(choice("disk.d/img", NULL, raw, 512, &guessed), "raw"); /* a dot in a directory's name */
	assert_string_equal(choice("disk.RAW", NULL, raw, 0, &guessed), "raw");
	assert_string_equal(choice("disk.qcow2", "raw", qcow2, 512, &guessed), "raw"); /* who names it, means it */

	assert_null(choice("disk.img", NULL, qcow2, 512, &guessed));
	assert_non_null(strstr(err.msg, "the header says qcow2"));
	assert_null(choice("disk.qcow2", NULL, raw, 512, &guessed));
	assert_non_null(strstr(err.msg, "the name says qcow2"));
	assert_string_equal(choice("disk.qcow2", NULL, qcow2, 512, &guessed), "qcow2");
	fill(vmdk, 5);
	assert_null(choice("disk.vmdk", NULL, vmdk, 512, &guessed));
	assert_non_null(strstr(err.msg, "not supported; supported: raw, qcow2"));
	assert_null(choice("disk.img", "qcow2", raw, 512, &guessed));
	assert_non_null(strstr(err.msg, "is not a qcow2 image"));
	assert_null(choice("disk.img", "floppy", raw, 512, &guessed));
	assert_non_null(strstr(err.msg, "unknown image format 'floppy'"));
}

/* --- the guard --- */

static int disk_fd;

static int open_memfd(void *opaque, const char *path, int flags)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, DISK))
		return -1;
	disk_fd = dup(fd);
	return fd;
}

static struct block_node *open_disk(const char *format)
{
	const struct block_config c = { .path = "disk.img", .format = format, .open_path = open_memfd };
	struct block_node *n = block_open(&c, &err);

	assert_non_null(n);
	return n;
}

static int write_iov(struct block_node *n, uint64_t offset, struct iovec *iov, unsigned niov)
{
	struct block_req r = { .op = BLOCK_WRITE, .offset = offset, .iov = iov, .niov = niov };

	for (unsigned k = 0; k < niov; k++)
		r.bytes += iov[k].iov_len;
	return block_submit_wait(n, &r);
}

static int write_disk(struct block_node *n, uint64_t offset, void *buf, size_t len)
{
	struct iovec iov = { buf, len };

	return write_iov(n, offset, &iov, 1);
}

static void test_guessed_raw_stays_raw(void **state)
{
	struct block_node *n = open_disk(NULL);
	static uint8_t b[4096], disk[4096];

	for (size_t k = 0; k < HEADERS; k++) {
		struct iovec parts[5] = {
			{ b, 1 }, { b + 1, 2 }, { b + 3, 0 }, { b + 3, 600 }, { b + 603, sizeof(b) - 603 }
		};

		fill(b, k);
		assert_int_equal(write_disk(n, 0, b, 512), -EPERM);
		assert_int_equal(write_disk(n, 0, b, 4096), -EPERM);
		assert_int_equal(write_iov(n, 0, parts, 5), -EPERM);
		assert_int_equal(write_disk(n, 512, b, 512), 0); /* anywhere else it is data */
	}
	assert_int_equal(pread(disk_fd, disk, 512, 0), 512);
	for (int i = 0; i < 512; i++)
		assert_int_equal(disk[i], 0);

	/* What looks like nothing goes through whole, whatever its pieces. */
	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(i * 7 + i / 512 + 1);
	for (size_t cut = 1; cut < 1000; cut += 37) {
		struct iovec parts[3] = { { b, cut }, { b + cut, 1 }, { b + cut + 1, sizeof(b) - cut - 1 } };

		b[0]++;
		assert_int_equal(write_iov(n, 0, parts, 3), 0);
		assert_int_equal(pread(disk_fd, disk, 4096, 0), 4096);
		assert_memory_equal(disk, b, 4096);
	}
	/* A part of the sector could complete a header that is half there. */
	assert_int_equal(write_disk(n, 0, b, 256), -EINVAL);
	assert_int_equal(write_disk(n, 256, b, 512), -EINVAL);
	close(disk_fd);
	block_close(n);
}

static void test_named_raw_takes_anything(void **state)
{
	struct block_node *n = open_disk("raw");
	uint8_t b[512];

	for (size_t k = 0; k < HEADERS; k++) {
		fill(b, k);
		assert_int_equal(write_disk(n, 0, b, 512), 0);
	}
	close(disk_fd);
	block_close(n);
}

/* The guest changes its buffer after the look: the copy that was looked at is what is written. */
static void change(struct block_req *r, int ret)
{
}

struct racing {
	struct block_node *n;
	struct block_req r;
	uint8_t *b;
};

static void submit_and_change(void *opaque)
{
	struct racing *x = opaque;

	block_submit(x->n, &x->r);
	memcpy(x->b, "QFI\xfb\0\0\0\3", 8); /* before the kernel has seen the request */
}

static void test_guard_looks_at_what_it_writes(void **state)
{
	static uint8_t b[512], disk[512];
	struct iovec iov = { b, 512 };
	struct racing x = { .n = open_disk(NULL), .b = b };

	b[0] = 'o';
	x.r = (struct block_req){ .op = BLOCK_WRITE, .bytes = 512, .iov = &iov, .niov = 1, .done = change };
	block_call(x.n, submit_and_change, &x);
	block_drain(x.n);
	block_resume(x.n);
	assert_int_equal(b[0], 'Q');
	assert_int_equal(pread(disk_fd, disk, 512, 0), 512);
	assert_int_equal(disk[0], 'o');
	close(disk_fd);
	block_close(x.n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_guessed_raw_stays_raw),
		cmocka_unit_test(test_named_raw_takes_anything),
		cmocka_unit_test(test_guard_looks_at_what_it_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
