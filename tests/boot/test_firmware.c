/* boot/firmware.c and boot/ivt.c: ROMs at the top of 4 GiB, and what a BIOS leaves for real mode. */
#include <unistd.h>

#include "rig.h"

#define KIB 1024u
#define TOP (1ull << 32)

/* Each 16 bytes tell where in the file they are. */
static uint8_t *numbered(size_t len)
{
	uint8_t *b = malloc(len);

	assert_non_null(b);
	for (size_t at = 0; at < len; at += 16) {
		memset(b + at, 0x90, 16);
		st_le32(b + at, (uint32_t)at);
	}
	return b;
}

static uint32_t at(struct boot_rig *r, uint64_t addr)
{
	uint32_t v = ~0u;

	assert_true(mem_read(r->c.mem, gpa(addr), &v, 4));
	return v;
}

static void a_rom_ends_at_4_gib(void **state)
{
	static const unsigned sizes[] = { 64 * KIB, 128 * KIB, 256 * KIB, 8192 * KIB };

	for (unsigned n = 0; n < 4; n++) {
		uint32_t size = sizes[n];
		struct mem_slot_config slot = { 0 };
		struct boot_firmware f = { 0 };
		struct boot_rig r;
		uint8_t *rom = numbered(size), b = 0;

		boot_rig_init(&r, 2 * MIB);
		boot_rig_kernel(&r, rom, size);
		f.code = r.kernel_path;
		assert_int_equal(boot_firmware_slot(&f, &slot, &r.err), 0);
		assert_int_equal(slot.base.v, TOP - size);
		assert_int_equal(slot.size, size);
		assert_true(slot.readonly);
		assert_int_equal(mem_add_slot(r.c.mem, &slot, &r.err), 0);
		assert_int_equal(boot_load_firmware(r.c.mem, &f, &r.err), 0);
		for (uint32_t off = 0; off < size; off += 0x1000)
			assert_int_equal(at(&r, TOP - size + off), off);
		assert_int_equal(at(&r, TOP - 16), size - 16); /* the reset vector */
		assert_false(mem_write(r.c.mem, gpa(TOP - 16), &b, 1));
		boot_rig_free(&r);
		free(rom);
	}
}

static void a_name_stands_for_a_package(void **state)
{
	static const struct {
		const char *name, *package, *file;
		bool vars;
	} known[] = { { "bios", "seabios", "/bios-256k.bin", false }, { "uefi", "ovmf", "/OVMF_CODE_4M.fd", true } };
	struct boot_firmware f;
	struct err err;

	assert_int_equal(boot_firmware_find("./bios", &f, &err), 0);
	assert_string_equal(f.code, "./bios");
	assert_null(f.vars);
	for (unsigned n = 0; n < 2; n++) {
		if (boot_firmware_find(known[n].name, &f, &err)) {
			assert_non_null(strstr(err.msg, "install the package"));
			assert_non_null(strstr(err.msg, known[n].package));
		} else {
			assert_string_equal(strrchr(f.code, '/'), known[n].file);
			assert_int_equal(f.vars != NULL, known[n].vars);
		}
	}
}

static void refuse(size_t len, const char *says)
{
	struct mem_slot_config slot;
	struct boot_firmware f = { 0 };
	struct boot_rig r;
	uint8_t *rom = calloc(1, len + 1);

	boot_rig_init(&r, 2 * MIB);
	boot_rig_kernel(&r, rom, len);
	f.code = r.kernel_path;
	assert_int_equal(boot_firmware_slot(&f, &slot, &r.err), -1);
	if (!strstr(r.err.msg, says) || !strstr(r.err.msg, r.kernel_path))
		fail_msg("'%s' does not say '%s'", r.err.msg, says);
	boot_rig_free(&r);
	free(rom);
}

static void odd_sizes_are_refused(void **state)
{
	refuse(0, "empty");
	refuse(1, "multiple of 4 KiB");
	refuse(64 * KIB - 1, "multiple of 4 KiB");
	refuse(64 * KIB + 16, "multiple of 4 KiB");
	refuse(60 * KIB, "from 64 KiB");
	refuse(8192 * KIB + 64 * KIB, "to 8 MiB");
}

static void a_file_that_changes_meanwhile_is_an_error(void **state)
{
	struct mem_slot_config slot;
	struct boot_firmware f = { 0 };
	struct boot_rig r;
	uint8_t *rom = numbered(192 * KIB);

	boot_rig_init(&r, 2 * MIB);
	boot_rig_kernel(&r, rom, 128 * KIB);
	f.code = r.kernel_path;
	assert_int_equal(boot_firmware_slot(&f, &slot, &r.err), 0);
	assert_int_equal(mem_add_slot(r.c.mem, &slot, &r.err), 0);
	boot_rig_kernel(&r, rom, 192 * KIB);
	assert_int_equal(boot_load_firmware(r.c.mem, &f, &r.err), -1);
	assert_non_null(strstr(r.err.msg, "has changed"));
	boot_rig_kernel(&r, rom, 0);
	assert_int_equal(boot_load_firmware(r.c.mem, &f, &r.err), -1);
	boot_rig_free(&r);
	free(rom);
}

/* --- real mode's vectors --- */

static uint16_t word(struct boot_rig *r, uint64_t addr)
{
	return (uint16_t)at(r, addr);
}

/* The linear address that a vector leads to. */
static uint64_t handler(struct boot_rig *r, unsigned vector)
{
	return word(r, 4 * vector) + ((uint64_t)word(r, 4 * vector + 2) << 4);
}

static void vectors_lead_to_handlers_that_return(void **state)
{
	/* OUT A0h and OUT 20h end an interrupt of the second and of the first 8259. */
	static const uint8_t first[] = { 0xb0, 0x20, 0xe6, 0x20 }, second[] = { 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20 };
	struct boot_rig r;

	boot_rig_init(&r, 2 * MIB);
	assert_int_equal(boot_put_ivt(&r.c, &r.err), 0);
	for (unsigned v = 0; v < 256; v++) {
		const uint8_t *code = boot_rig_at(&r, handler(&r, v), 32);
		bool by_second = v >= 0x70 && v < 0x78, by_first = v >= 8 && v < 16;

		assert_in_range(handler(&r, v), 0xf0000, 0xfffff);
		if (!by_first && !by_second)
			assert_int_equal(code[0], 0xcf);
		else
			assert_non_null(by_second ? memmem(code, 20, second, sizeof(second))
						  : memmem(code, 20, first, sizeof(first)));
		/* Each ends by IRET, and nothing of it was cut off. */
		assert_non_null(memchr(code, 0xcf, 20));
	}
	/* The timer counts its ticks in the data area: inc dword [6Ch] with DS 40h. */
	assert_non_null(memmem(boot_rig_at(&r, handler(&r, 8), 32), 20, "\x66\xff\x06\x6c\0", 5));
	boot_rig_free(&r);
}

static void the_data_area_says_what_there_is(void **state)
{
	struct boot_rig r;

	boot_rig_init(&r, 2 * MIB);
	mem_fill(r.c.mem, gpa(0), 0xff, 0x600);
	assert_int_equal(boot_put_ivt(&r.c, &r.err), 0);
	assert_int_equal(word(&r, 0x400), 0x3f8);	    /* the first serial port */
	assert_int_equal(word(&r, 0x402), 0);		    /* and no second */
	assert_int_equal(word(&r, 0x40e) << 4, BOOT_EBDA);  /* segment of the EBDA */
	assert_int_equal(word(&r, 0x413) * KIB, BOOT_EBDA); /* memory below it */
	assert_int_equal(at(&r, 0x46c), 0);		    /* ticks */
	assert_int_equal(at(&r, 0x500), 0xffffffff);	    /* nothing behind it */
	boot_rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rom_ends_at_4_gib),
		cmocka_unit_test(a_name_stands_for_a_package),
		cmocka_unit_test(odd_sizes_are_refused),
		cmocka_unit_test(a_file_that_changes_meanwhile_is_an_error),
		cmocka_unit_test(vectors_lead_to_handlers_that_return),
		cmocka_unit_test(the_data_area_says_what_there_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
