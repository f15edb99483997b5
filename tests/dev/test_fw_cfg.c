/* dev/fw_cfg.c: selector, data, directory, DMA. docs/specs/fw_cfg of QEMU. */
#include "board.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "dev/fw_cfg.h"

#define SELECT 0x510
#define DATA   0x511
#define DMA    0x514

enum { ERROR = 1, READ = 2, SKIP = 4, CHOOSE = 8, WRITE = 16 };

static void make(struct board *b)
{
	struct err err;
	uint8_t ram[8];

	b->own = board_add(b, fw_cfg_new(b->bus, b->mem, &err));
	st_le64(ram, 0x123456789a);
	assert_int_equal(fw_cfg_add(b->own, FW_CFG_RAM_SIZE, ram, 8, &err), 0);
	assert_int_equal(fw_cfg_add_file(b->own, "etc/one", "first file", 10, &err), 0);
	assert_int_equal(fw_cfg_add_file(b->own, "opt/two", "", 0, &err), 0);
	assert_int_equal(fw_cfg_add_file(b->own, "opt/three", "third", 5, &err), 0);
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
}

static void pick(struct board *b, uint16_t key)
{
	board_out(b, SELECT, 2, key);
}

static void fetch(struct board *b, void *buf, size_t n)
{
	for (size_t k = 0; k < n; k++)
		((uint8_t *)buf)[k] = in8(b, DATA);
}

static uint64_t read_le(struct board *b, unsigned n)
{
	uint8_t v[8] = { 0 };

	fetch(b, v, n);
	return ld_le64(v);
}

static void well_known_keys(void **state)
{
	struct board b;
	char text[5] = { 0 };

	setup(&b);
	pick(&b, FW_CFG_SIGNATURE);
	fetch(&b, text, 4);
	assert_string_equal(text, "QEMU");
	pick(&b, FW_CFG_ID);
	assert_int_equal(read_le(&b, 4), 3); /* traditional and DMA */
	pick(&b, FW_CFG_RAM_SIZE);
	assert_true(read_le(&b, 8) == 0x123456789a);
	assert_int_equal(in8(&b, DATA), 0); /* past the end */
	pick(&b, FW_CFG_RAM_SIZE);
	assert_int_equal(in8(&b, DATA), 0x9a);
	board_fini(&b);
}

static void keys_that_are_not_there_read_as_zero(void **state)
{
	struct board b;

	setup(&b);
	for (unsigned key = 0; key < 0x10000; key += 7) {
		bool there = key < 2 || key == FW_CFG_RAM_SIZE || key == FW_CFG_FILE_DIR || (key >= 0x20 && key < 0x23);

		if (there || (key & ~0x4000u) < 0x23)
			continue;
		pick(&b, (uint16_t)key);
		assert_int_equal(read_le(&b, 8), 0);
	}
	pick(&b, 0x8000 | FW_CFG_SIGNATURE); /* of an architecture */
	assert_int_equal(read_le(&b, 4), 0);
	pick(&b, FW_CFG_UUID);
	assert_int_equal(read_le(&b, 8), 0);
	board_fini(&b);
}

static void sizes_of_accesses(void **state)
{
	struct board b;

	setup(&b);
	pick(&b, FW_CFG_SIGNATURE);
	out8(&b, SELECT, FW_CFG_RAM_SIZE); /* a byte selects nothing */
	out8(&b, DATA, 'X');		   /* and nothing can be written */
	assert_int_equal(in8(&b, DATA), 'Q');
	assert_int_equal(board_in(&b, DATA, 2), 0xff00 | 'E'); /* the second byte is no port of it */
	assert_int_equal(board_in(&b, SELECT, 2), 0);
	assert_int_equal(in8(&b, DATA), 'M');
	board_fini(&b);
}

static void the_directory_lists_files(void **state)
{
	static const struct {
		const char *name, *data;
	} files[] = { { "etc/one", "first file" }, { "opt/two", "" }, { "opt/three", "third" } };
	struct board b;
	uint8_t dir[4 + 64 * 3];

	setup(&b);
	pick(&b, FW_CFG_FILE_DIR);
	fetch(&b, dir, sizeof(dir));
	assert_int_equal(ld_be32(dir), 3);
	for (unsigned n = 0; n < 3; n++) {
		const uint8_t *e = dir + 4 + 64 * n;
		char data[16] = { 0 };

		assert_int_equal(ld_be32(e), strlen(files[n].data));
		assert_int_equal(ld_be16(e + 4), 0x20 + n);
		assert_int_equal(ld_be16(e + 6), 0);
		assert_string_equal((const char *)e + 8, files[n].name);
		pick(&b, ld_be16(e + 4));
		fetch(&b, data, ld_be32(e));
		assert_string_equal(data, files[n].data);
	}
	board_fini(&b);
}

static void there_is_room_for_48_files_of_short_names(void **state)
{
	struct board b;
	struct err err;
	char name[80];

	setup(&b);
	memset(name, 'n', 56);
	name[56] = 0;
	assert_int_equal(fw_cfg_add_file(b.own, name, "", 0, &err), -1);
	name[55] = 0;
	assert_int_equal(fw_cfg_add_file(b.own, name, "", 0, &err), 0);
	assert_int_equal(fw_cfg_add_file(b.own, "opt/two", "x", 1, &err), -1);
	assert_string_equal(err.msg, "fw_cfg: duplicate file name: opt/two");
	for (unsigned n = 4; n < 48; n++) {
		snprintf(name, sizeof(name), "file%u", n);
		assert_int_equal(fw_cfg_add_file(b.own, name, "", 0, &err), 0);
	}
	assert_int_equal(fw_cfg_add_file(b.own, "more", "", 0, &err), -1);
	assert_non_null(strstr(err.msg, "no room for more"));
	assert_int_equal(fw_cfg_add(b.own, FW_CFG_FILE_FIRST, "", 0, &err), -1);
	assert_int_equal(fw_cfg_add(b.own, 0x8008, "", 0, &err), -1);
	/* Eight keys are the architecture's. */
	assert_int_equal(fw_cfg_add(b.own, FW_CFG_IRQ0_OVERRIDE, "\1", 1, &err), 0);
	assert_int_equal(fw_cfg_add(b.own, 0x8007, "\7", 1, &err), 0);
	board_out(&b, 0x510, 2, FW_CFG_IRQ0_OVERRIDE);
	assert_int_equal(in8(&b, 0x511), 1);
	assert_int_equal(in8(&b, 0x511), 0);
	board_out(&b, 0x510, 2, 0x8007);
	assert_int_equal(in8(&b, 0x511), 7);
	for (unsigned key = 0x8008; key < 0x10000; key += 0x77) {
		board_out(&b, 0x510, 2, key & ~0x4000u);
		if ((key & ~0xc000u) >= 8)
			assert_int_equal(in8(&b, 0x511), 0);
	}
	board_fini(&b);
}

/* --- DMA --- */

#define DESC 0x1000
#define BUF  0x2000

static uint32_t dma_at(struct board *b, uint64_t desc, uint32_t control, uint64_t addr, uint32_t len)
{
	uint8_t d[16];

	st_be32(d, control);
	st_be32(d + 4, len);
	st_be64(d + 8, addr);
	mem_write(b->mem, gpa(desc), d, 16);
	board_out(b, DMA, 4, htobe32((uint32_t)(desc >> 32)));
	board_out(b, DMA + 4, 4, htobe32((uint32_t)desc));
	memset(d, 0xee, 4);
	mem_read(b->mem, gpa(desc), d, 4);
	return ld_be32(d);
}

static uint32_t dma(struct board *b, uint32_t control, uint64_t addr, uint32_t len)
{
	return dma_at(b, DESC, control, addr, len);
}

static void the_dma_port_has_a_signature(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(board_in(&b, DMA, 4), be32toh(0x51454d55));
	assert_int_equal(board_in(&b, DMA + 4, 4), be32toh(0x20434647));
	assert_int_equal(board_in(&b, DMA, 2), 0xffff); /* doublewords only */
	board_fini(&b);
}

static void dma_selects_skips_and_reads(void **state)
{
	struct board b;
	char buf[16];

	setup(&b);
	assert_true(mem_fill(b.mem, gpa(BUF), 0xaa, 16));
	assert_int_equal(dma(&b, 0x20 << 16 | CHOOSE | READ, BUF, 5), 0);
	assert_true(mem_read(b.mem, gpa(BUF), buf, 6));
	assert_memory_equal(buf, "first\xaa", 6);
	assert_int_equal(dma(&b, SKIP, 0, 1), 0);
	/* It goes on where the last one stopped; past the end come zeroes. */
	assert_int_equal(dma(&b, READ, BUF, 8), 0);
	assert_true(mem_read(b.mem, gpa(BUF), buf, 9));
	assert_memory_equal(buf, "file\0\0\0\0\xaa", 9);
	assert_int_equal(dma(&b, 0x22 << 16 | CHOOSE, 0, 0), 0);
	assert_int_equal(in8(&b, DATA), 't');
	assert_int_equal(dma(&b, SKIP, 0, 0xffffffff), 0);
	assert_int_equal(in8(&b, DATA), 0);
	board_fini(&b);
}

static void bad_dma_is_an_error(void **state)
{
	struct board b;

	setup(&b);
	pick(&b, 0x20);
	assert_int_equal(dma(&b, READ, BOARD_RAM - 2, 5), ERROR); /* not all RAM: nothing is written */
	assert_int_equal(dma(&b, READ, ~0ull - 1, 5), ERROR);
	assert_int_equal(dma(&b, READ, ~0ull - 4, 0xffffffff), ERROR);
	assert_int_equal(dma(&b, READ, BUF, BOARD_RAM), ERROR);
	assert_int_equal(dma(&b, WRITE, BUF, 5), ERROR);
	assert_int_equal(dma(&b, 0, BUF, 5), ERROR);
	assert_int_equal(in8(&b, DATA), 'f');
	/* A descriptor that is not in memory. */
	dma_at(&b, BOARD_RAM - 8, READ, BUF, 4);
	dma_at(&b, ~0ull - 8, READ, BUF, 4);
	assert_int_equal(in8(&b, DATA), 'i');
	board_fini(&b);
}

/* An item that is bytes 3 to 40002 of a file of 50000. */
static void a_part_of_a_file_is_read_when_it_is_asked_for(void **state)
{
	struct fw_cfg_part part = { .fd = memfd_create("file", 0), .off = 3, .len = 40000 };
	struct board b;
	struct err err;
	uint8_t *data = calloc(1, 50000), *buf = calloc(1, 40008);

	setup(&b);
	for (unsigned n = 0; n < 50000; n++)
		data[n] = (uint8_t)(n * 7 + n / 256);
	assert_int_equal(pwrite(part.fd, data, 50000, 0), 50000);
	assert_int_equal(fw_cfg_add_part(b.own, 0x20, part, &err), -1);
	assert_int_equal(fw_cfg_add_part(b.own, 0x11, part, &err), 0);
	pick(&b, 0x11);
	assert_int_equal(in8(&b, DATA), data[3]);
	assert_int_equal(in8(&b, DATA), data[4]);
	assert_true(mem_fill(b.mem, gpa(BUF), 0xaa, 40008));
	assert_int_equal(dma(&b, READ, BUF, 40000), 0);
	assert_true(mem_read(b.mem, gpa(BUF), buf, 40008));
	assert_memory_equal(buf, data + 5, 39998);
	assert_int_equal(ld_le64(buf + 39996) >> 16, 0xaaaaaaaa0000); /* zeros past its end */
	assert_int_equal(in8(&b, DATA), 0);
	/* A file that has been cut meanwhile. */
	assert_int_equal(ftruncate(part.fd, 30000), 0);
	assert_int_equal(dma(&b, 0x11 << 16 | CHOOSE | READ, BUF, 40000), ERROR);
	assert_int_equal(dma(&b, 0x11 << 16 | CHOOSE | READ, BUF, 29000), 0);
	assert_int_equal(dma(&b, SKIP, 0, 1000), 0);
	assert_int_equal(in8(&b, DATA), 0);
	board_fini(&b);
	close(part.fd);
	free(data);
	free(buf);
}

/* --- life --- */

static void a_reset_forgets_the_selection(void **state)
{
	struct board b;

	setup(&b);
	pick(&b, 0x20);
	in8(&b, DATA);
	board_reset(&b);
	assert_int_equal(in8(&b, DATA), 'Q'); /* key 0 */
	board_fini(&b);
}

static void it_moves_in_the_middle_of_an_item(void **state)
{
	struct board b, t;
	char text[7] = { 0 };

	setup(&b);
	pick(&b, 0x20);
	for (unsigned k = 0; k < 4; k++)
		in8(&b, DATA);
	board_out(&b, DMA, 4, 0x01000000);
	board_migrate(&b, &t, make);
	fetch(&t, text, 6);
	assert_string_equal(text, "t file");
	board_fini(&b);
	board_fini(&t);
}

static void use(struct board *b)
{
	for (unsigned k = 0; k < 20; k++)
		in8(b, DATA);
	board_out(b, DMA + 4, 4, htobe32(DESC));
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;

	setup(&b);
	pick(&b, 0x20);
	in8(&b, DATA);
	board_mutate(&b, use);
	board_fini(&b);
}

/* --- files that are made when they are asked for --- */

static unsigned makes;

static void make_files(void *opaque, struct device *d)
{
	char text[16];

	snprintf(text, sizeof(text), "made %u", ++makes);
	assert_true(fw_cfg_remake(d, "made/one", text, strlen(text)));
	assert_true(fw_cfg_remake(d, "made/two", "2", 1));
	assert_false(fw_cfg_remake(d, "made/two", "too long", 8));
	assert_false(fw_cfg_remake(d, "etc/one", "x", 1));
	assert_false(fw_cfg_remake(d, "none", "x", 1));
}

static void make_with_made(struct board *b)
{
	struct err err;

	make(b);
	fw_cfg_set_make(b->own, make_files, NULL);
	assert_int_equal(fw_cfg_add_made(b->own, "made/one", "0123456789", 10, &err), 0);
	assert_int_equal(fw_cfg_add_made(b->own, "made/two", "ab", 2, &err), 0);
	makes = 0;
}

static void files_are_made_once_after_a_reset(void **state)
{
	struct board b, t;
	char text[11] = { 0 };

	board_init(&b);
	make_with_made(&b);
	pick(&b, FW_CFG_FILE_FIRST);
	fetch(&b, text, 10);
	assert_int_equal(makes, 0);
	pick(&b, FW_CFG_FILE_FIRST + 3);
	fetch(&b, text, 6);
	assert_memory_equal(text, "made 1", 6);
	assert_int_equal(read_le(&b, 4), 0);
	pick(&b, FW_CFG_FILE_FIRST + 4);
	assert_int_equal(read_le(&b, 2), '2');
	assert_int_equal(makes, 1);
	/* In the middle of one the other machine makes them before it goes on. */
	pick(&b, FW_CFG_FILE_FIRST + 3);
	fetch(&b, text, 4);
	board_migrate(&b, &t, make_with_made);
	fetch(&t, text, 2);
	assert_memory_equal(text, " 1", 2);
	board_reset(&b);
	pick(&b, FW_CFG_FILE_FIRST + 3);
	assert_int_equal(read_le(&b, 4), ld_le32((const uint8_t *)"made"));
	assert_int_equal(makes, 2);
	board_fini(&b);
	board_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(well_known_keys),
		cmocka_unit_test(keys_that_are_not_there_read_as_zero),
		cmocka_unit_test(sizes_of_accesses),
		cmocka_unit_test(the_directory_lists_files),
		cmocka_unit_test(there_is_room_for_48_files_of_short_names),
		cmocka_unit_test(the_dma_port_has_a_signature),
		cmocka_unit_test(dma_selects_skips_and_reads),
		cmocka_unit_test(bad_dma_is_an_error),
		cmocka_unit_test(a_part_of_a_file_is_read_when_it_is_asked_for),
		cmocka_unit_test(a_reset_forgets_the_selection),
		cmocka_unit_test(it_moves_in_the_middle_of_an_item),
		cmocka_unit_test(files_are_made_once_after_a_reset),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
