/* boot/pass.c: what fw_cfg has of a kernel that firmware starts, and the ROM that loads it. */
#include "boot/pass.h"
#include "images.h"
#include "rig.h"

struct pass_rig {
	struct boot_rig r;
	struct image k;
	struct boot_pass *p;
};

static void start(struct pass_rig *t, uint64_t ram)
{
	boot_rig_init(&t->r, ram);
	image_bzimage(&t->k);
	t->p = NULL;
}

static void pass(struct pass_rig *t)
{
	boot_pass_free(t->p);
	boot_rig_kernel(&t->r, t->k.b, t->k.len);
	if (boot_pass_new(&t->r.c, &t->p, &t->r.err))
		fail_msg("%s", t->r.err.msg);
}

static void refuse(struct pass_rig *t, const char *says)
{
	boot_pass_free(t->p);
	boot_rig_kernel(&t->r, t->k.b, t->k.len);
	assert_int_equal(boot_pass_new(&t->r.c, &t->p, &t->r.err), -1);
	if (!strstr(t->r.err.msg, says) || strchr(t->r.err.msg, '\n'))
		fail_msg("'%s' does not say '%s'", t->r.err.msg, says);
}

static void finish(struct pass_rig *t)
{
	boot_pass_free(t->p);
	boot_rig_free(&t->r);
}

static void parts_lie_where_the_16_bit_entry_wants_them(void **state)
{
	struct pass_rig t;
	const struct boot_part *kernel, *initrd, *cmdline, *setup;

	start(&t, 64 * MIB);
	boot_rig_initrd(&t.r, "an old-style image", 18);
	t.r.c.append = "root=/dev/vda quiet";
	pass(&t);
	kernel = &t.p->parts[BOOT_PASS_KERNEL];
	initrd = &t.p->parts[BOOT_PASS_INITRD];
	cmdline = &t.p->parts[BOOT_PASS_CMDLINE];
	setup = &t.p->parts[BOOT_PASS_SETUP_PART];
	assert_int_equal(kernel->at, MIB);
	assert_int_equal(kernel->off, BZ_SETUP);
	assert_int_equal(kernel->len, BZ_CODE);
	assert_null(kernel->data);
	/* Below what a BIOS keeps for itself. */
	assert_int_equal(initrd->at, 63 * MIB - 4096);
	assert_int_equal(initrd->len, 18);
	assert_int_equal(initrd->off, 0);
	assert_string_equal(cmdline->data, "root=/dev/vda quiet");
	assert_int_equal(cmdline->len, 20);
	assert_int_equal(setup->len, BZ_SETUP);
	assert_int_equal(t.p->setup[0x210], 0xff);
	assert_int_equal(t.p->setup[0x211], 0x81);
	assert_int_equal(ld_le32(t.p->setup + 0x218), initrd->at);
	assert_int_equal(ld_le32(t.p->setup + 0x21c), 18);
	assert_int_equal(ld_le32(t.p->setup + 0x228), cmdline->at);
	/* Setup, heap and stack end where the command line begins. */
	assert_true(setup->at + setup->len < cmdline->at &&
		    setup->at + ld_le16(t.p->setup + 0x224) + 0x200u < cmdline->at);
	assert_memory_equal(t.p->setup + 0x230, t.k.b + 0x230, BZ_SETUP - 0x230);
	finish(&t);
}

static uint8_t sum(const uint8_t *b, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s += *b++;
	return s;
}

static void the_rom_loads_what_there_is(void **state)
{
	struct pass_rig t;

	for (unsigned with = 0; with < 2; with++) {
		const uint8_t *list, *pnp, *rom;
		unsigned count = 0;

		start(&t, 64 * MIB);
		if (with)
			boot_rig_initrd(&t.r, "an old-style image", 18);
		pass(&t);
		rom = t.p->rom;
		assert_int_equal(ld_le16(rom), 0xaa55);
		assert_int_equal(rom[2] * 512, BOOT_ROM_SIZE);
		assert_int_equal(sum(rom, BOOT_ROM_SIZE), 0);
		pnp = rom + ld_le16(rom + 0x1a);
		assert_memory_equal(pnp, "$PnP", 4);
		assert_int_equal(sum(pnp, pnp[5] * 16u), 0);
		assert_int_equal(rom[ld_le16(pnp + 0x1a)], 0xfa); /* cli, where it boots from */
		/* Its list: a descriptor for each part. */
		list = rom + rom[ld_le16(pnp + 0x1a) + 9];
		for (; ld_be32(list); list += 16, count++) {
			const struct boot_part *p = t.p->parts;

			while (p->data_key != ld_be16(list))
				assert_true(++p < t.p->parts + BOOT_PASS_PARTS);
			assert_int_equal(ld_be16(list + 2), 8 | 2);
			assert_int_equal(ld_be32(list + 4), p->len);
			assert_int_equal(ld_be64(list + 8), p->at);
		}
		assert_int_equal(count, 3 + with);
		finish(&t);
	}
}

static void the_initrd_lies_beside_the_unpacked_kernel(void **state)
{
	static const uint8_t initrd[3 * MIB];
	struct pass_rig t;

	/* 16 + 8 MiB for the kernel, 3 for it, 1 for the BIOS. */
	start(&t, 28 * MIB);
	boot_rig_initrd(&t.r, initrd, sizeof(initrd));
	pass(&t);
	assert_int_equal(t.p->parts[BOOT_PASS_INITRD].at, 24 * MIB);
	st_le32(t.k.b + 0x22c, 27 * MIB - 2);
	refuse(&t, "does not fit beside the kernel");
	finish(&t);
	start(&t, 28 * MIB - 4096);
	boot_rig_initrd(&t.r, initrd, sizeof(initrd));
	refuse(&t, "does not fit beside the kernel");
	finish(&t);
}

static void what_cannot_be_started_is_refused(void **state)
{
	struct pass_rig t;
	char text[0x10002];

	start(&t, 64 * MIB);
	t.k.len = 0;
	refuse(&t, "empty");
	image_elf64(&t.k);
	refuse(&t, "is not a bzImage");
	image_bzimage(&t.k);
	t.k.len -= 16;
	refuse(&t, "truncated");
	image_bzimage(&t.k);
	t.k.b[0x1f1] = 0x60;
	memset(t.k.b + BZ_SETUP, 0, BZ_CODE);
	t.k.len = IMAGE_MAX;
	refuse(&t, "truncated");
	image_bzimage(&t.k);
	for (unsigned shift = 0; shift < 64; shift++) {
		st_le64(t.k.b + 0x258, ~0ull << shift);
		refuse(&t, "needs");
	}
	image_bzimage(&t.k);
	st_le32(t.k.b + 0x260, 47 * MIB + 1);
	refuse(&t, "needs 65 MiB");
	st_le32(t.k.b + 0x260, 47 * MIB);
	pass(&t);
	memset(text, 'x', sizeof(text));
	text[2048] = 0;
	t.r.c.append = text;
	refuse(&t, "at most 2047 bytes");
	st_le32(t.k.b + 0x238, 0xffffffff);
	text[2048] = 'x';
	text[0x10000] = 0;
	refuse(&t, "at most 65535 bytes");
	text[0xffff] = 0;
	pass(&t);
	st_le32(t.k.b + 0x260, 8 * MIB);
	t.r.c.initrd = "/none";
	refuse(&t, "No such file");
	boot_rig_initrd(&t.r, "070701 cut", 10);
	refuse(&t, "truncated");
	finish(&t);
	start(&t, 4 * MIB);
	refuse(&t, "at least 8 MiB");
	finish(&t);
}

static void a_setup_has_room(void **state)
{
	static uint8_t big[0x20000];
	struct pass_rig t;

	start(&t, 64 * MIB);
	memcpy(big, t.k.b, BZ_SETUP);
	for (unsigned sectors = 0x5f; sectors < 0x61; sectors++) {
		big[0x1f1] = (uint8_t)sectors;
		boot_rig_kernel(&t.r, big, sizeof(big));
		boot_pass_free(t.p);
		assert_int_equal(boot_pass_new(&t.r.c, &t.p, &t.r.err), sectors == 0x5f ? 0 : -1);
	}
	assert_non_null(strstr(t.r.err.msg, "a setup of 49664 bytes"));
	finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_lie_where_the_16_bit_entry_wants_them),
		cmocka_unit_test(the_rom_loads_what_there_is),
		cmocka_unit_test(the_initrd_lies_beside_the_unpacked_kernel),
		cmocka_unit_test(what_cannot_be_started_is_refused),
		cmocka_unit_test(a_setup_has_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
