/* mem/overlay.c: what lies over a slot, in both looks, and who hears of writes through it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "mem/mem.h"

#define PAGE MEM_PAGE_SIZE
#define ROM  0x100000u

static struct err err;

struct rig {
	struct mem_space *mem, *over;
	unsigned a, b; /* pages 4 and 5 with a ROM; pages 6 and 7 without */
};

static int add(struct mem_space *s, uint64_t base, uint64_t pages, bool readonly)
{
	const struct mem_slot_config c = {
		readonly ? "rom" : "ram", gpa(base), pages * PAGE, MEM_ANON, -1, 0, readonly
	};

	return mem_add_slot(s, &c, &err);
}

static void setup(struct rig *r)
{
	const struct mem_overlay_config a = { "a", gpa(4 * PAGE), 2 * PAGE, true, gpa(ROM + PAGE) },
					b = { "b", gpa(6 * PAGE), 2 * PAGE, false, gpa(0) };

	r->mem = mem_space_new();
	r->over = mem_space_over(r->mem);
	assert_int_equal(add(r->mem, 0, 16, false) | add(r->mem, ROM, 4, true), 0);
	r->a = (unsigned)mem_add_overlay(r->mem, &a, &err);
	r->b = (unsigned)mem_add_overlay(r->mem, &b, &err);
	assert_int_equal(r->a, 0);
	assert_int_equal(r->b, 1);
	for (unsigned n = 0; n < 16; n++) {
		uint8_t v = (uint8_t)n;

		assert_true(mem_write(r->mem, gpa(n * PAGE), &v, 1));
	}
	for (unsigned n = 0; n < 4; n++) {
		uint8_t v = (uint8_t)(0xa0 + n);

		assert_true(mem_load_rom(r->mem, gpa(ROM + n * PAGE), &v, 1));
	}
}

static void end(struct rig *r)
{
	mem_space_free(r->over);
	mem_space_free(r->mem);
}

/* The first byte of a page; -1: nothing is there. */
static int at(struct mem_space *s, unsigned page)
{
	uint8_t v;

	return mem_read(s, gpa(page * PAGE), &v, 1) ? v : -1;
}

static bool put(struct mem_space *s, unsigned page, uint8_t v)
{
	return mem_write(s, gpa(page * PAGE), &v, 1);
}

static void each_mode_shows_what_it_says(void **state)
{
	struct rig r;

	setup(&r);
	assert_int_equal(at(r.mem, 4), 4);
	assert_true(put(r.mem, 4, 0x44));
	mem_overlay_set(r.mem, r.a, MEM_OVERLAY_READONLY);
	assert_int_equal(at(r.mem, 4), 0x44);
	assert_false(put(r.mem, 4, 0x55));
	mem_overlay_set(r.mem, r.a, MEM_OVERLAY_ROM);
	assert_int_equal(at(r.mem, 4), 0xa1);
	assert_int_equal(at(r.mem, 5), 0xa2);
	assert_false(put(r.mem, 4, 0x55));
	mem_overlay_set(r.mem, r.b, MEM_OVERLAY_ROM); /* which has none */
	assert_int_equal(at(r.mem, 6), -1);
	mem_overlay_set(r.mem, r.a, MEM_OVERLAY_HOLE);
	assert_int_equal(at(r.mem, 4), -1);
	assert_int_equal(at(r.mem, 3), 3);
	assert_int_equal(at(r.mem, 8), 8);
	mem_overlay_set(r.mem, r.a, MEM_OVERLAY_NONE);
	mem_overlay_set(r.mem, 77, MEM_OVERLAY_HOLE); /* nobody's */
	assert_int_equal(at(r.mem, 4), 0x44);
	end(&r);
}

static void looks_differ(void **state)
{
	struct rig r;

	setup(&r);
	mem_overlay_set(r.mem, r.b, MEM_OVERLAY_HOLE);
	assert_int_equal(at(r.mem, 6), -1);
	assert_int_equal(at(r.over, 6), 6);
	assert_true(put(r.over, 6, 0x66));
	mem_overlay_set(r.over, r.b, MEM_OVERLAY_HOLE);
	mem_overlay_set(r.mem, r.b, MEM_OVERLAY_NONE);
	assert_int_equal(at(r.over, 6), -1);
	assert_int_equal(at(r.mem, 6), 0x66);
	end(&r);
}

/* Whatever the modes are: nobody keeps a pointer over an edge, and nothing is copied in part. */
static void windows_end_at_edges(void **state)
{
	struct mem_window w, rom;
	struct mem_map m;
	uint8_t b[3 * PAGE] = { 0 };
	struct rig r;

	setup(&r);
	assert_true(mem_window(r.mem, gpa(PAGE), &w));
	assert_int_equal(w.size, 3 * PAGE);
	assert_true(mem_window(r.mem, gpa(5 * PAGE), &w));
	assert_int_equal(w.size, PAGE);
	assert_true(mem_window(r.mem, gpa(8 * PAGE), &w));
	assert_int_equal(w.size, 8 * PAGE);
	assert_false(mem_dma_map(r.mem, gpa(3 * PAGE), PAGE + 1, MEM_TO_DEVICE, &m));
	assert_true(mem_write(r.mem, gpa(3 * PAGE), b, sizeof(b)));
	mem_overlay_set(r.mem, r.a, MEM_OVERLAY_ROM);
	assert_true(put(r.mem, 3, 3));
	assert_false(mem_write(r.mem, gpa(3 * PAGE), b, sizeof(b)));
	assert_int_equal(at(r.mem, 3), 3);
	/* A ROM that is shown elsewhere is the same memory, with the same flags. */
	assert_true(mem_window(r.mem, gpa(5 * PAGE), &w) && mem_window(r.mem, gpa(ROM + 2 * PAGE), &rom));
	assert_ptr_equal(w.host, rom.host);
	assert_ptr_equal(w.flags, rom.flags);
	assert_int_equal(w.page_index, rom.page_index);
	assert_true(w.readonly);
	end(&r);
}

static void what_lies_below_can_be_written(void **state)
{
	struct rig r;

	setup(&r);
	mem_overlay_set(r.mem, r.a, MEM_OVERLAY_ROM);
	assert_true(mem_overlay_write(r.mem, gpa(4 * PAGE), "\x99", 1));
	assert_int_equal(at(r.mem, 4), 0xa1);
	mem_overlay_set(r.mem, r.a, MEM_OVERLAY_NONE);
	assert_int_equal(at(r.mem, 4), 0x99);
	assert_false(mem_overlay_write(r.mem, gpa(3 * PAGE), "\x99", 1));
	assert_false(mem_overlay_write(r.mem, gpa(6 * PAGE - 1), "\x99\x99", 2));
	end(&r);
}

static uint64_t heard_page;

static void hear(void *opaque, uint64_t page, uint32_t offset, uint32_t len)
{
	heard_page = page;
}

static void writes_are_heard_of_the_page_that_took_them(void **state)
{
	struct mem_window w;
	struct rig r;

	setup(&r);
	mem_set_code_hook(r.mem, hear, NULL);
	assert_true(mem_window(r.mem, gpa(5 * PAGE), &w));
	mem_code_set(r.mem, w.page_index);
	mem_overlay_set(r.mem, r.a, MEM_OVERLAY_ROM);
	heard_page = ~0ull;
	assert_true(mem_overlay_write(r.mem, gpa(5 * PAGE + 8), "\x99", 1));
	assert_int_equal(heard_page, w.page_index);
	/* And a ROM that is loaded again through where it is shown. */
	assert_true(mem_window(r.mem, gpa(ROM + PAGE), &w));
	mem_code_set(r.mem, w.page_index);
	assert_true(mem_load_rom(r.mem, gpa(4 * PAGE), "\xa1", 1));
	assert_int_equal(heard_page, w.page_index);
	end(&r);
}

static void a_log_has_all_of_what_was_remapped(void **state)
{
	struct mem_window w;
	uint64_t bits = 0;
	struct rig r;

	setup(&r);
	mem_dirty_start(r.mem);
	mem_overlay_set(r.mem, r.a, MEM_OVERLAY_READONLY);
	assert_true(mem_window(r.mem, gpa(4 * PAGE), &w));
	mem_dirty_fetch(r.mem, w.page_index, 3, &bits);
	assert_int_equal(bits, 3);
	mem_dirty_fetch(r.mem, w.page_index, 3, &bits);
	assert_int_equal(bits, 0);
	end(&r);
}

static void pieces_stay_where_they_are(void **state)
{
	static const struct {
		uint64_t base, size;
	} pieces[] = { { 0, 4 * PAGE },
		       { 4 * PAGE, 2 * PAGE },
		       { 6 * PAGE, 2 * PAGE },
		       { 8 * PAGE, 8 * PAGE },
		       { ROM, 4 * PAGE } };
	struct mem_window w;
	struct rig r;

	setup(&r);
	assert_int_equal(add(r.over, 0x2000, 1, false), 0); /* of the other look: none of ours */
	assert_int_equal(mem_piece_count(r.mem), 5);
	mem_overlay_set(r.mem, r.a, MEM_OVERLAY_ROM);
	for (unsigned n = 0; n < 5; n++) {
		assert_true(mem_piece_window(r.mem, n, &w));
		assert_int_equal(w.base.v, pieces[n].base);
		assert_int_equal(w.size, pieces[n].size);
	}
	mem_overlay_set(r.mem, r.b, MEM_OVERLAY_HOLE);
	assert_int_equal(mem_piece_count(r.mem), 5);
	assert_false(mem_piece_window(r.mem, 2, &w));
	assert_false(mem_piece_window(r.mem, 5, &w));
	end(&r);
}

static void odd_ones_are_refused(void **state)
{
	const struct mem_overlay_config odd[] = {
		{ "x", gpa(4 * PAGE), PAGE, false, gpa(0) },		     /* over another */
		{ "x", gpa(15 * PAGE), 2 * PAGE, false, gpa(0) },	     /* past the slot */
		{ "x", gpa(32 * PAGE), PAGE, false, gpa(0) },		     /* nowhere */
		{ "x", gpa(8 * PAGE), 5, false, gpa(0) },		     /* no pages */
		{ "x", gpa(8 * PAGE), 0, false, gpa(0) },		     /* nothing */
		{ "x", gpa(8 * PAGE), 2 * PAGE, true, gpa(ROM + 3 * PAGE) }, /* past the ROM */
	};
	struct mem_overlay_config one = { "x", gpa(0), PAGE, false, gpa(0) };
	struct rig r;

	setup(&r);
	for (unsigned n = 0; n < sizeof(odd) / sizeof(odd[0]); n++)
		assert_int_equal(mem_add_overlay(r.mem, &odd[n], &err), -1);
	assert_int_equal(mem_add_overlay(r.over, &one, &err), -1);
	assert_int_equal(add(r.mem, 0x200000, 32, false), 0);
	for (unsigned n = 0; n < 24; n++) {
		one.base = gpa(0x200000 + n * PAGE);
		assert_int_equal(mem_add_overlay(r.mem, &one, &err), n < 18 ? 2 + (int)n : -1);
	}
	end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_mode_shows_what_it_says),
		cmocka_unit_test(looks_differ),
		cmocka_unit_test(windows_end_at_edges),
		cmocka_unit_test(what_lies_below_can_be_written),
		cmocka_unit_test(writes_are_heard_of_the_page_that_took_them),
		cmocka_unit_test(a_log_has_all_of_what_was_remapped),
		cmocka_unit_test(pieces_stay_where_they_are),
		cmocka_unit_test(odd_ones_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
