/* boot/linux.c: bzImages of all protocol versions, and what boot_params says. */
#include "images.h"
#include "rig.h"

static void start(struct boot_rig *r, struct image *k, uint64_t ram)
{
	boot_rig_init(r, ram);
	image_bzimage(k);
}

static void load(struct boot_rig *r, const struct image *k)
{
	boot_rig_kernel(r, k->b, k->len);
	boot_rig_load(r);
}

static void refuse(struct boot_rig *r, const struct image *k, const char *says)
{
	boot_rig_kernel(r, k->b, k->len);
	boot_rig_refuse(r, says);
}

static void loads_where_the_kernel_wants_to_be(void **state)
{
	struct boot_rig r;
	struct image k;

	start(&r, &k, 64 * MIB);
	load(&r, &k);
	assert_int_equal(r.e.kind, BOOT_LONG64);
	assert_int_equal(r.e.rip, 16 * MIB + 0x200);
	assert_int_equal(r.e.esi, BOOT_ZERO_PAGE);
	assert_memory_equal(boot_rig_at(&r, 16 * MIB, BZ_CODE), k.b + BZ_SETUP, BZ_CODE);
	boot_rig_free(&r);
}

static void boot_params_describe_the_machine(void **state)
{
	struct boot_rig r;
	struct image k;
	const uint8_t *zp;

	start(&r, &k, 64 * MIB);
	r.c.ram_high = 32 * MIB;
	r.c.append = "root=/dev/vda quiet";
	boot_rig_initrd(&r, "an old-style image", 18);
	k.b[0x211] |= 0x40;
	load(&r, &k);
	zp = boot_rig_at(&r, BOOT_ZERO_PAGE, 4096);
	assert_int_equal(zp[0x1ef], 0);
	assert_memory_equal(zp + 0x202, "HdrS", 4);
	assert_int_equal(zp[0x210], 0xff);
	assert_int_equal(zp[0x211], 0x41);
	assert_string_equal((const char *)boot_rig_at(&r, ld_le32(zp + 0x228), 32), "root=/dev/vda quiet");
	assert_int_equal(ld_le32(zp + 0x214), 16 * MIB);
	assert_int_equal(ld_le32(zp + 0x218), 64 * MIB - 4096);
	assert_int_equal(ld_le32(zp + 0x21c), 18);
	assert_memory_equal(boot_rig_at(&r, 64 * MIB - 4096, 18), "an old-style image", 18);
	assert_int_equal(ld_le64(zp + 0x70), BOOT_RSDP);
	assert_int_equal(zp[0x1e8], 4);
	assert_int_equal(ld_le64(zp + 0x2d0), 0);
	assert_int_equal(ld_le64(zp + 0x2d0 + 8), 0x9fc00);
	assert_int_equal(ld_le32(zp + 0x2d0 + 16), 1);
	assert_int_equal(ld_le32(zp + 0x2d0 + 20 + 16), 2);
	assert_int_equal(ld_le64(zp + 0x2d0 + 40), MIB);
	assert_int_equal(ld_le64(zp + 0x2d0 + 48), 63 * MIB);
	assert_int_equal(ld_le64(zp + 0x2d0 + 60), 1ull << 32);
	assert_int_equal(ld_le64(zp + 0x2d0 + 68), 32 * MIB);
	boot_rig_free(&r);
}

static void page_tables_map_four_gib(void **state)
{
	struct boot_rig r;
	struct image k;
	const uint8_t *gdt;

	start(&r, &k, 64 * MIB);
	load(&r, &k);
	for (uint64_t at = 0; at < 4ull << 30; at += 0x345678) {
		uint64_t e = ld_le64(boot_rig_at(&r, BOOT_PAGE_TABLES + 8 * (at >> 39), 8));

		e = ld_le64(boot_rig_at(&r, (e & ~0xfffull) + 8 * (at >> 30 & 511), 8));
		assert_int_equal(e & 1, 1);
		e = ld_le64(boot_rig_at(&r, (e & ~0xfffull) + 8 * (at >> 21 & 511), 8));
		assert_int_equal(e & 0x81, 0x81);
		assert_int_equal((e & ~0x1fffffull) | (at & 0x1fffff), at);
	}
	gdt = boot_rig_at(&r, BOOT_GDT, 32);
	assert_int_equal(ld_le64(gdt + 16) >> 53 & 1, 1);
	boot_rig_free(&r);
}

static void without_a_64_bit_entry_the_32_bit_one_is_used(void **state)
{
	struct boot_rig r;
	struct image k;
	const uint8_t *gdt;

	start(&r, &k, 64 * MIB);
	st_le16(k.b + 0x236, 0);
	load(&r, &k);
	assert_int_equal(r.e.kind, BOOT_FLAT32);
	assert_int_equal(r.e.rip, 16 * MIB);
	assert_int_equal(r.e.esi, BOOT_ZERO_PAGE);
	assert_int_equal(r.e.ebx | r.e.eax, 0);
	gdt = boot_rig_at(&r, BOOT_GDT, 32);
	assert_int_equal(ld_le64(gdt + 16), 0x00cf9b000000ffff);
	/* Before protocol 2.12 there was no such flag. */
	st_le16(k.b + 0x236, 1);
	st_le16(k.b + 0x206, 0x20b);
	load(&r, &k);
	assert_int_equal(r.e.kind, BOOT_FLAT32);
	boot_rig_free(&r);
}

static void too_little_memory_is_told(void **state)
{
	struct boot_rig r;
	struct image k;

	/* It wants to be at 16 MiB and needs 8 there, whether it can move or not. */
	start(&r, &k, 23 * MIB);
	refuse(&r, &k, "needs 24 MiB");
	k.b[0x234] = 0;
	refuse(&r, &k, "needs 24 MiB");
	/* Old kernels always want to be at 1 MiB. */
	st_le16(k.b + 0x206, 0x204);
	load(&r, &k);
	assert_int_equal(r.e.rip, MIB);
	boot_rig_free(&r);
}

static void the_initrd_lies_where_the_kernel_can_reach_it(void **state)
{
	struct boot_rig r;
	struct image k;
	static const uint8_t initrd[3 * MIB];
	const uint8_t *zp;

	start(&r, &k, 64 * MIB);
	boot_rig_initrd(&r, initrd, sizeof(initrd));
	st_le32(k.b + 0x22c, 32 * MIB - 1);
	load(&r, &k);
	zp = boot_rig_at(&r, BOOT_ZERO_PAGE, 4096);
	assert_int_equal(ld_le32(zp + 0x218), 29 * MIB);
	/* Beside the kernel's whole working space: 16 + 8 + 3 MiB. */
	st_le32(k.b + 0x22c, 27 * MIB - 1);
	load(&r, &k);
	st_le32(k.b + 0x22c, 27 * MIB - 2);
	refuse(&r, &k, "does not fit beside the kernel");
	st_le32(k.b + 0x22c, 0xffffffff);
	load(&r, &k);
	assert_int_equal(ld_le32(zp + 0x218), 61 * MIB);
	boot_rig_free(&r);
}

static void command_lines_have_a_limit(void **state)
{
	struct boot_rig r;
	struct image k;
	char text[0x10002];

	start(&r, &k, 64 * MIB);
	memset(text, 'x', sizeof(text));
	text[2047] = 0;
	r.c.append = text;
	load(&r, &k);
	text[2047] = 'x';
	text[2048] = 0;
	refuse(&r, &k, "at most 2047 bytes");
	st_le16(k.b + 0x206, 0x205);
	text[255] = 0;
	load(&r, &k);
	text[255] = 'x';
	refuse(&r, &k, "at most 255 bytes");
	image_bzimage(&k);
	st_le32(k.b + 0x238, 0xffffffff);
	text[2048] = 'x';
	text[0x10000] = 0;
	refuse(&r, &k, "longer than");
	boot_rig_free(&r);
}

static void truncated_kernels_are_refused(void **state)
{
	struct boot_rig r;
	struct image k;

	start(&r, &k, 64 * MIB);
	boot_rig_truncations(&r, k.b, k.len - 15);
	/* The header counts paragraphs, and the last one need not be whole. */
	k.len -= 15;
	load(&r, &k);
	boot_rig_free(&r);
}

static void lying_headers_are_refused(void **state)
{
	struct boot_rig r;
	struct image k;

	start(&r, &k, 64 * MIB);
	k.b[0x1f1] = 255;
	refuse(&r, &k, "truncated");
	image_bzimage(&k);
	st_le32(k.b + 0x1f4, BZ_CODE / 16 + 1);
	refuse(&r, &k, "truncated");
	st_le32(k.b + 0x1f4, 0xffffffff);
	refuse(&r, &k, "truncated");
	image_bzimage(&k);
	st_le32(k.b + 0x260, 0xffffffff);
	refuse(&r, &k, "needs 4112 MiB");
	image_bzimage(&k);
	k.b[0x234] = 0;
	for (unsigned shift = 0; shift < 64; shift++) {
		st_le64(k.b + 0x258, ~0ull << shift);
		boot_rig_kernel(&r, k.b, k.len);
		boot_rig_refuse(&r, r.kernel_path);
	}
	image_bzimage(&k);
	k.b[0x211] = 0;
	refuse(&r, &k, "zImage");
	image_bzimage(&k);
	st_le16(k.b + 0x206, 0x201);
	refuse(&r, &k, "2.01");
	boot_rig_free(&r);
}

static void the_header_ends_where_its_jump_says(void **state)
{
	struct boot_rig r;
	struct image k;
	const uint8_t *zp;

	start(&r, &k, 64 * MIB);
	memset(k.b + 0x26c, 0xee, 0x200);
	k.b[0x201] = 0xff;
	load(&r, &k);
	zp = boot_rig_at(&r, BOOT_ZERO_PAGE, 4096);
	assert_int_equal(zp[0x28f], 0xee);
	assert_int_equal(zp[0x290], 0);
	k.b[0x201] = 0x6a;
	load(&r, &k);
	assert_int_equal(zp[0x26b], k.b[0x26b]);
	assert_int_equal(zp[0x26c], 0);
	k.b[0x201] = 0;
	load(&r, &k);
	boot_rig_free(&r);
}

static void other_files_are_named_for_what_they_are(void **state)
{
	static const struct {
		unsigned at;
		const char *magic, *says;
	} odd[] = { { 0, "\x1f\x8b\x08", "gzip -dc" },	{ 0, "\x28\xb5\x2f\xfd", "zstd -dc" },
		    { 0, "MZ\xea\x07", "EFI program" }, { 0x38, "ARM\x64", "arm64" },
		    { 0, "070701", "initrd" },		{ 0, "hello", "not a kernel" } };
	struct boot_rig r;
	uint8_t b[4096];

	boot_rig_init(&r, 64 * MIB);
	for (unsigned n = 0; n < ARRAY_LEN(odd); n++) {
		memset(b, 0, sizeof(b));
		memcpy(b + odd[n].at, odd[n].magic, strlen(odd[n].magic));
		boot_rig_kernel(&r, b, sizeof(b));
		boot_rig_refuse(&r, odd[n].says);
	}
	r.c.kernel = "/dev";
	boot_rig_refuse(&r, "not a regular file");
	r.c.kernel = "/dev/zero";
	boot_rig_refuse(&r, "not a regular file");
	r.c.kernel = "/no/such/kernel";
	boot_rig_refuse(&r, "/no/such/kernel: No such file");
	boot_rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_where_the_kernel_wants_to_be),
		cmocka_unit_test(boot_params_describe_the_machine),
		cmocka_unit_test(page_tables_map_four_gib),
		cmocka_unit_test(without_a_64_bit_entry_the_32_bit_one_is_used),
		cmocka_unit_test(too_little_memory_is_told),
		cmocka_unit_test(the_initrd_lies_where_the_kernel_can_reach_it),
		cmocka_unit_test(command_lines_have_a_limit),
		cmocka_unit_test(truncated_kernels_are_refused),
		cmocka_unit_test(lying_headers_are_refused),
		cmocka_unit_test(the_header_ends_where_its_jump_says),
		cmocka_unit_test(other_files_are_named_for_what_they_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
