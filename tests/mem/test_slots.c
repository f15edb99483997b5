/* mem/: what backs a slot, windows, pages that are given back, ROM, and slots that come while the dirty log is on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem/mem.h"

#define PAGE MEM_PAGE_SIZE

static struct err err;

static void add(struct mem_space *s, const char *name, uint64_t base, uint64_t pages)
{
	const struct mem_slot_config c = { name, gpa(base), pages * PAGE, MEM_ANON, -1, 0, false };

	assert_int_equal(mem_add_slot(s, &c, &err), 0);
}

static void new_ram_is_zero_and_holds_what_is_written(void **state)
{
	static const enum mem_backing kinds[] = { MEM_ANON, MEM_MEMFD };

	for (unsigned k = 0; k < 2; k++) {
		struct mem_space *s = mem_space_new();
		const struct mem_slot_config c = { "ram", gpa(0x1000), 4 << 20, kinds[k], -1, 0, false };
		uint64_t v = ~0ull;

		assert_int_equal(mem_add_slot(s, &c, &err), 0);
		assert_true(mem_read(s, gpa(0x1000 + (4 << 20) - 8), &v, 8));
		assert_int_equal(v, 0);
		v = 0x1122334455667788;
		assert_true(mem_write(s, gpa(0x1ffd), &v, 8)); /* across pages */
		v = 0;
		assert_true(mem_read(s, gpa(0x1ffd), &v, 8));
		assert_int_equal(v, 0x1122334455667788);
		mem_space_free(s);
	}
}

/* A private mapping: the file's bytes at first, and it never changes. */
static void a_file_is_what_ram_begins_with(void **state)
{
	struct mem_space *s = mem_space_new();
	int fd = memfd_create("state", 0);
	struct mem_slot_config c = { "ram", gpa(0), 2 * PAGE, MEM_FILE, fd, PAGE, false };
	char b[6] = "";

	assert_int_equal(ftruncate(fd, 3 * PAGE), 0);
	assert_int_equal(pwrite(fd, "first", 5, PAGE), 5);
	assert_int_equal(pwrite(fd, "last", 4, 3 * PAGE - 4), 4);
	assert_int_equal(mem_add_slot(s, &c, &err), 0);
	assert_true(mem_read(s, gpa(0), b, 5));
	assert_string_equal(b, "first");
	assert_true(mem_read(s, gpa(2 * PAGE - 4), b, 5 - 1));
	assert_memory_equal(b, "last", 4);
	assert_true(mem_write(s, gpa(0), "other", 5));
	assert_int_equal(pread(fd, b, 5, PAGE), 5);
	assert_string_equal(b, "first");
	/* Given back, a page is the file's again. */
	mem_discard(s, gpa(0), PAGE);
	assert_true(mem_read(s, gpa(0), b, 5));
	assert_string_equal(b, "first");
	mem_space_free(s);
	close(fd);
}

/* Others see what is written, and what is given back is gone from the file. */
static void a_file_may_be_shared(void **state)
{
	struct mem_space *s = mem_space_new();
	int fd = memfd_create("shared", 0);
	struct mem_slot_config c = { "ram", gpa(0), 2 * PAGE, MEM_FILE, fd, PAGE, false, .shared = true };
	struct stat st;
	char b[6] = "";

	assert_int_equal(ftruncate(fd, 3 * PAGE), 0);
	assert_int_equal(pwrite(fd, "zero", 4, 0), 4);
	assert_int_equal(mem_add_slot(s, &c, &err), 0);
	assert_true(mem_write(s, gpa(0), "first", 5));
	assert_int_equal(pread(fd, b, 5, PAGE), 5);
	assert_string_equal(b, "first");
	assert_int_equal(pwrite(fd, "other", 5, 2 * PAGE), 5);
	assert_true(mem_read(s, gpa(PAGE), b, 5));
	assert_string_equal(b, "other");
	mem_discard(s, gpa(0), PAGE);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, 2 * PAGE / 512);
	assert_true(mem_read(s, gpa(0), b, 1));
	assert_int_equal(b[0], 0);
	assert_int_equal(pread(fd, b, 4, 0), 4);
	assert_memory_equal(b, "zero", 4);
	mem_space_free(s);
	close(fd);
}

static void all_of_it_may_be_there_at_once(void **state)
{
	static unsigned char in_core[64];
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(page != MAP_FAILED);
	/* Advice that qemu-user does not know succeeds. */
	if (!madvise(page, PAGE, MADV_POPULATE_WRITE) && !mincore(page, PAGE, in_core) && !(in_core[0] & 1)) {
		print_message("skipped: this host does not do what MADV_POPULATE_WRITE asks for\n");
		skip();
	}
	munmap(page, PAGE);
	for (unsigned n = 0; n < 2; n++) {
		struct mem_space *s = mem_space_new();
		struct mem_slot_config c = { "ram", gpa(0), 64 * PAGE, MEM_ANON, -1, 0, false, .prealloc = n };
		struct mem_window w;
		unsigned count = 0;

		assert_int_equal(mem_add_slot(s, &c, &err), 0);
		assert_true(mem_window(s, gpa(0), &w));
		assert_int_equal(mincore(w.host, 64 * PAGE, in_core), 0);
		for (unsigned k = 0; k < 64; k++)
			count += in_core[k] & 1;
		assert_int_equal(count, n ? 64 : 0);
		mem_space_free(s);
	}
}

static void a_window_reaches_to_the_end_of_its_slot(void **state)
{
	struct mem_space *s = mem_space_new();
	struct mem_window w, again;
	const char *name;

	add(s, "a", 0, 4);
	add(s, "b", 4 * PAGE, 4); /* right behind, and yet another */
	add(s, "far", 1ull << 40, 2);
	assert_true(mem_window(s, gpa(PAGE + 5), &w));
	assert_int_equal(w.base.v, PAGE);
	assert_int_equal(w.size, 3 * PAGE);
	assert_int_equal(w.page_index, 1);
	assert_true(mem_window(s, gpa((1ull << 40) + PAGE), &w));
	assert_int_equal(w.size, PAGE);
	assert_int_equal(w.page_index, 9);
	assert_int_equal(mem_page_count(s), 10);
	w.host[7] = 0x5a;
	uint8_t b = 0;
	assert_true(mem_read(s, gpa((1ull << 40) + PAGE + 7), &b, 1));
	assert_int_equal(b, 0x5a);
	assert_false(mem_window(s, gpa(8 * PAGE), &w));
	assert_false(mem_window(s, gpa(UINT64_MAX), &w));
	assert_true(mem_slot_window(s, 2, &again, &name));
	assert_string_equal(name, "far");
	assert_int_equal(again.size, 2 * PAGE);
	assert_false(mem_slot_window(s, 3, &again, &name));
	mem_space_free(s);
}

static void there_is_an_end_of_slots(void **state)
{
	struct mem_space *s = mem_space_new();
	struct mem_slot_config c = { "one more", gpa(0), PAGE, MEM_ANON, -1, 0, false };
	unsigned n = 0;

	while (n < 1000 && !mem_add_slot(s, &c, &err)) {
		c.base.v += PAGE;
		n++;
	}
	assert_in_range(n, 8, 999);
	assert_non_null(strstr(err.msg, "one more"));
	assert_int_equal(mem_slot_count(s), n);
	mem_space_free(s);
}

static void pages_that_are_given_back_read_as_zero(void **state)
{
	static const enum mem_backing kinds[] = { MEM_ANON, MEM_MEMFD };

	for (unsigned k = 0; k < 2; k++) {
		struct mem_space *s = mem_space_new();
		const struct mem_slot_config c = { "ram", gpa(0), 8 * PAGE, kinds[k], -1, 0, false };
		uint64_t dirty;
		uint8_t b;

		assert_int_equal(mem_add_slot(s, &c, &err), 0);
		assert_true(mem_fill(s, gpa(0), 0xee, 8 * PAGE));
		mem_dirty_start(s);
		/* Whole pages only: the second and the third. And nothing beyond the slot. */
		mem_discard(s, gpa(PAGE - 1), 3 * PAGE - 1);
		mem_discard(s, gpa(7 * PAGE), 2 * PAGE);
		for (unsigned page = 0; page < 8; page++) {
			assert_true(mem_read(s, gpa(page * PAGE), &b, 1));
			assert_int_equal(b, page == 1 || page == 2 ? 0 : 0xee);
		}
		/* It is a change like others. */
		mem_dirty_fetch(s, 0, 8, &dirty);
		assert_int_equal(dirty, 6);
		mem_space_free(s);
	}
}

static void rom_changes_for_loaders_only(void **state)
{
	struct mem_space *s = mem_space_new();
	const struct mem_slot_config c = { "rom", gpa(0), PAGE, MEM_ANON, -1, 0, true };
	struct mem_map m;
	char b[4];

	assert_int_equal(mem_add_slot(s, &c, &err), 0);
	assert_true(mem_load_rom(s, gpa(16), "rom", 4));
	assert_false(mem_write(s, gpa(16), "ram", 4));
	assert_false(mem_fill(s, gpa(16), 0, 4));
	assert_false(mem_dma_map(s, gpa(16), 4, MEM_FROM_DEVICE, &m));
	mem_discard(s, gpa(0), PAGE);
	assert_true(mem_read(s, gpa(16), b, 4));
	assert_string_equal(b, "rom");
	assert_int_equal(mem_ram_size(s), 0);
	mem_space_free(s);
}

/* Whoever follows the log has not copied its pages yet. */
static void a_slot_that_comes_late_is_all_dirty(void **state)
{
	struct mem_space *s = mem_space_new();
	uint64_t dirty;

	add(s, "a", 0, 8);
	mem_dirty_start(s);
	add(s, "b", 1 << 20, 70);
	mem_dirty_fetch(s, 8, 64, &dirty);
	assert_true(dirty == ~0ull);
	mem_dirty_fetch(s, 72, 6, &dirty);
	assert_int_equal(dirty, 0x3f);
	assert_true(mem_write(s, gpa((1 << 20) + 65 * PAGE), "x", 1));
	mem_dirty_fetch(s, 8, 64, &dirty);
	assert_int_equal(dirty, 0);
	mem_dirty_fetch(s, 72, 6, &dirty);
	assert_int_equal(dirty, 2);
	mem_dirty_stop(s);
	/* And without a log it is not. */
	add(s, "c", 2 << 20, 4);
	mem_dirty_fetch(s, 78, 4, &dirty);
	assert_int_equal(dirty, 0);
	mem_space_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_ram_is_zero_and_holds_what_is_written),
		cmocka_unit_test(a_file_is_what_ram_begins_with),
		cmocka_unit_test(a_file_may_be_shared),
		cmocka_unit_test(all_of_it_may_be_there_at_once),
		cmocka_unit_test(a_window_reaches_to_the_end_of_its_slot),
		cmocka_unit_test(there_is_an_end_of_slots),
		cmocka_unit_test(pages_that_are_given_back_read_as_zero),
		cmocka_unit_test(rom_changes_for_loaders_only),
		cmocka_unit_test(a_slot_that_comes_late_is_all_dirty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
