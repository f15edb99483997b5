/* boot/initrd.c: whole archives pass, and each truncation of them is noticed. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "rig.h"

struct archive {
	uint8_t b[300000];
	size_t len;
};

static void add(struct archive *a, const void *data, size_t len)
{
	assert_true(a->len + len <= sizeof(a->b));
	memcpy(a->b + a->len, data, len);
	a->len += len;
}

static void pad(struct archive *a)
{
	while (a->len % 4)
		add(a, "", 1);
}

static void add_member(struct archive *a, const char *name, const void *data, size_t len)
{
	char h[111];

	snprintf(h, sizeof(h), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, 0100644, 0, 0, 1, 0,
		 (unsigned)len, 0, 0, 0, 0, (unsigned)strlen(name) + 1, 0);
	add(a, h, 110);
	add(a, name, strlen(name) + 1);
	pad(a);
	add(a, data, len);
	pad(a);
}

static void make_cpio(struct archive *a)
{
	static uint8_t data[100000];

	/* Something that does not compress to nothing. */
	for (unsigned n = 0; n < sizeof(data); n++)
		data[n] = (uint8_t)(n * n >> 7 ^ n * 31);
	a->len = 0;
	add_member(a, "kernel/x86/microcode/none.bin", data, 777);
	add_member(a, "init", data, sizeof(data));
	add_member(a, "empty", data, 0);
	add_member(a, "TRAILER!!!", data, 0);
}

static void compress_gzip(const struct archive *in, struct archive *out)
{
	z_stream z = { .next_in = (uint8_t *)in->b, .avail_in = (uInt)in->len };

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_out = out->b + out->len;
	z.avail_out = (uInt)(sizeof(out->b) - out->len);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	out->len = sizeof(out->b) - z.avail_out;
	deflateEnd(&z);
}

static void compress_zstd(const struct archive *in, struct archive *out, int checksum, int content_size)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t n;

	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, checksum);
	ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, content_size);
	n = ZSTD_compress2(c, out->b + out->len, sizeof(out->b) - out->len, in->b, in->len);
	assert_false(ZSTD_isError(n));
	out->len += n;
	ZSTD_freeCCtx(c);
}

/* The legacy lz4 frame: its blocks, which nobody decodes here. */
static void add_lz4(struct archive *out)
{
	static const uint8_t block[1000] = { 0xf0 };
	uint8_t len[4];

	add(out, "\x02\x21\x4c\x18", 4);
	for (unsigned n = 1; n < 4; n++) {
		st_le32(len, 100 * n);
		add(out, len, 4);
		add(out, block, 100 * n);
	}
}

/* What xz --check=crc32 makes of "initramfs" and a newline. */
static const uint8_t xz[] = { 0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02,
			      0x00, 0x21, 0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00,
			      0x09, 0x69, 0x6e, 0x69, 0x74, 0x72, 0x61, 0x6d, 0x66, 0x73, 0x0a, 0x00, 0x00,
			      0x00, 0x02, 0xfb, 0x33, 0x0e, 0x00, 0x01, 0x1e, 0x0a, 0xea, 0x63, 0x12, 0x14,
			      0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59, 0x5a };

/* 0: whole; 1: truncated or damaged, and said so in one line. */
static int check_bytes(const uint8_t *b, size_t len, struct err *err)
{
	static const atomic_bool never;
	struct initrd_check *rest;
	int fd = memfd_create("initrd", 0), rc;

	assert_int_equal(write(fd, b, len), len);
	rc = initrd_check(fd, len, "FILE", &rest, err);
	close(fd);
	if (rest) {
		assert_int_equal(rc, 0);
		rc = initrd_check_rest(rest, &never, err);
		initrd_check_free(rest);
	}
	if (rc) {
		assert_non_null(strstr(err->msg, "initrd: FILE is "));
		assert_null(strchr(err->msg, '\n'));
	}
	return rc ? 1 : 0;
}

static void assert_whole(const struct archive *a)
{
	struct err err;

	if (check_bytes(a->b, a->len, &err))
		fail_msg("%s", err.msg);
}

/* Every cut in [from, to), in steps that hit each offset near the ends. */
static void assert_cuts_noticed(const struct archive *a, size_t from, size_t to)
{
	struct err err;

	for (size_t len = from; len < to; len += len - from < 300 || to - len < 300 ? 1 : 97)
		if (!check_bytes(a->b, len, &err))
			fail_msg("cut at %zu of %zu is not noticed", len, a->len);
}

static void plain_cpio(void **state)
{
	struct archive a;
	struct err err;

	make_cpio(&a);
	assert_whole(&a);
	/* An archive may end without a trailer, so a cut between two members can only be a warning. */
	for (size_t len = 6; len < a.len - 3; len += len % 1000 < 300 || len > 101000 ? 1 : 97) {
		if (!check_bytes(a.b, len, &err) && memcmp(a.b + align_up(len, 4), "070701", 6))
			fail_msg("cut at %zu of %zu is not noticed", len, a.len);
	}
	a.b[60] = 'z';
	assert_int_equal(check_bytes(a.b, a.len, &err), 1);
}

static void gzip_is_inflated(void **state)
{
	struct archive a, g = { .len = 0 };
	struct err err;

	make_cpio(&a);
	compress_gzip(&a, &g);
	assert_whole(&g);
	assert_cuts_noticed(&g, 2, g.len);
	g.b[g.len / 2] ^= 0x10;
	assert_int_equal(check_bytes(g.b, g.len, &err), 1);
}

static void zstd_frames_are_walked(void **state)
{
	struct archive a;
	struct err err;

	make_cpio(&a);
	for (int n = 0; n < 4; n++) {
		struct archive z = { .len = 0 };

		compress_zstd(&a, &z, n & 1, n >> 1);
		assert_whole(&z);
		assert_cuts_noticed(&z, 5, z.len);
	}
	for (size_t size = 0; size < 70000; size = size * 3 + 1) {
		struct archive z = { .len = 0 };
		struct archive part = a;

		part.len = size;
		compress_zstd(&part, &z, 1, 1);
		assert_whole(&z);
		assert_int_equal(check_bytes(z.b, z.len - 1, &err), 1);
	}
}

static void xz_has_a_footer(void **state)
{
	struct archive a = { .len = 0 };
	struct err err;

	add(&a, xz, sizeof(xz));
	assert_whole(&a);
	assert_cuts_noticed(&a, 6, a.len);
	/* Padding behind it, and another archive. */
	add(&a, "\0\0\0\0", 4);
	assert_whole(&a);
	add_member(&a, "TRAILER!!!", "", 0);
	assert_whole(&a);
	assert_int_equal(check_bytes(a.b, a.len - 100, &err), 1);
}

static void lz4_blocks_are_walked(void **state)
{
	struct archive a = { .len = 0 };
	struct err err;

	add_lz4(&a);
	assert_whole(&a);
	assert_int_equal(check_bytes(a.b, a.len - 1, &err), 1);
	assert_int_equal(check_bytes(a.b, a.len - 301, &err), 1);
}

static void parts_follow_each_other(void **state)
{
	struct archive cpio, a = { .len = 0 };
	struct err err;
	size_t first;

	make_cpio(&cpio);
	make_cpio(&a);
	for (unsigned n = 0; n < 512; n++)
		add(&a, "", 1);
	first = a.len;
	compress_gzip(&cpio, &a);
	compress_zstd(&cpio, &a, 1, 1);
	assert_whole(&a);
	assert_cuts_noticed(&a, first + 2, first + 400);
	assert_int_equal(check_bytes(a.b, a.len - 1, &err), 1);
}

static void other_contents_are_not_judged(void **state)
{
	struct archive a = { .len = 0 };

	add(&a, "hsqs", 4);
	for (unsigned n = 0; n < 5000; n++)
		add(&a, "x", 1);
	assert_whole(&a);
	a.len = 0;
	for (unsigned n = 0; n < 200000; n++)
		add(&a, "", 1);
	assert_whole(&a);
}

static void a_cancelled_check_says_nothing(void **state)
{
	static const atomic_bool now = true;
	struct archive a, g = { .len = 0 };
	struct initrd_check *rest;
	struct err err;
	int fd = memfd_create("initrd", 0);

	make_cpio(&a);
	compress_gzip(&a, &g);
	assert_int_equal(write(fd, g.b, g.len / 2), g.len / 2);
	assert_int_equal(initrd_check(fd, g.len / 2, "FILE", &rest, &err), 0);
	close(fd);
	assert_non_null(rest);
	assert_int_equal(initrd_check_rest(rest, &now, &err), 0);
	initrd_check_free(rest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_cpio),
		cmocka_unit_test(gzip_is_inflated),
		cmocka_unit_test(zstd_frames_are_walked),
		cmocka_unit_test(xz_has_a_footer),
		cmocka_unit_test(lz4_blocks_are_walked),
		cmocka_unit_test(parts_follow_each_other),
		cmocka_unit_test(other_contents_are_not_judged),
		cmocka_unit_test(a_cancelled_check_says_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
