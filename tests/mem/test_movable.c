/* mem/movable.c: memory that is moved, what it gives way to, and who hears of writes to it wherever it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "mem/mem.h"

#define PAGE MEM_PAGE_SIZE
#define SIZE (64u * PAGE)
#define AT   0x80000000u
#define THEN 0x90000000u

static struct err err;

static struct mem_space *setup(void)
{
	struct mem_space *s = mem_space_new();
	const struct mem_slot_config ram = { "ram", gpa(0), 4 * SIZE, MEM_ANON, -1, 0, false },
				     moves = { "moves", gpa(0), SIZE, MEM_ANON, -1, 0, false };

	assert_int_equal(mem_add_slot(s, &ram, &err), 0);
	assert_int_equal(mem_add_movable(s, &moves, &err), 0);
	return s;
}

static bool put(struct mem_space *s, uint64_t at, uint8_t v)
{
	return mem_write(s, gpa(at), &v, 1);
}

static int get(struct mem_space *s, uint64_t at)
{
	uint8_t v;

	return mem_read(s, gpa(at), &v, 1) ? v : -1;
}

static void it_is_where_it_was_moved(void **state)
{
	struct mem_space *s = setup(), *over = mem_space_over(s);
	struct mem_window w;
	gpa_t at;

	assert_int_equal(get(s, AT), -1);
	assert_int_equal(get(s, 1ull << 62), -1);
	assert_true(mem_move(s, 0, AT));
	assert_true(put(s, AT + 5, 7));
	assert_int_equal(mem_movable_host(s, 0)[5], 7);
	assert_int_equal(get(over, AT + 5), 7);
	assert_true(mem_window(s, gpa(AT + PAGE), &w));
	assert_int_equal(w.size, SIZE - PAGE);
	assert_true(mem_address_of(s, w.host, &at));
	assert_int_equal(at.v, AT + PAGE);
	assert_false(put(s, AT + SIZE - 1, 1) && get(s, AT + SIZE) != -1);

	assert_true(mem_move(s, 0, THEN));
	assert_int_equal(get(s, AT + 5), -1);
	assert_int_equal(get(s, THEN + 5), 7);
	/* Back to a place where it has been. */
	assert_true(mem_move(s, 0, AT));
	assert_int_equal(get(s, AT + 5), 7);
	assert_false(mem_move(s, 0, 0));
	assert_int_equal(get(s, AT + 5), -1);
	assert_int_equal(mem_ram_size(s), 4 * SIZE);
	assert_true(mem_slot_window(s, 1, &w, NULL));
	assert_int_equal(w.base.v, 0);
	assert_ptr_equal(w.host, mem_movable_host(s, 0));
	mem_space_free(over);
	mem_space_free(s);
}

static void what_lies_still_is_seen(void **state)
{
	struct mem_space *s = setup();

	put(s, SIZE, 3);
	assert_false(mem_move(s, 0, SIZE));
	assert_false(mem_move(s, 0, AT + PAGE));
	assert_false(mem_move(s, 0, 1ull << 32));
	assert_int_equal(get(s, SIZE), 3);
	mem_space_free(s);
}

static unsigned written(struct mem_space *s, uint64_t *first)
{
	uint64_t bits[1];

	if (!mem_movable_fetch(s, 0, bits))
		return 0;
	*first = bits[0];
	return (unsigned)__builtin_popcountll(bits[0]);
}

static void writes_are_told(void **state)
{
	struct mem_space *s = setup();
	struct mem_map m;
	uint64_t bits, log[6];

	mem_move(s, 0, AT);
	assert_int_equal(written(s, &bits), 64);
	assert_int_equal(written(s, &bits), 0);
	put(s, AT + 3 * PAGE + 1, 1);
	put(s, AT + 3 * PAGE + 2, 1);
	assert_int_equal(written(s, &bits), 1);
	assert_int_equal(bits, 8);
	assert_true(mem_dma_map(s, gpa(AT + 5 * PAGE), 2 * PAGE, MEM_FROM_DEVICE, &m));
	mem_dma_unmap(&m, 2 * PAGE);
	assert_int_equal(written(s, &bits), 2);
	assert_int_equal(bits, 3 << 5);

	/* The dirty log has its own. */
	mem_dirty_start(s);
	put(s, AT, 1);
	assert_int_equal(written(s, &bits), 1);
	put(s, AT, 2);
	mem_dirty_fetch(s, 4 * 64, 64, log);
	assert_int_equal(log[0], 1);
	assert_int_equal(written(s, &bits), 1);
	mem_dirty_fetch(s, 4 * 64, 64, log);
	mem_move(s, 0, THEN);
	mem_dirty_fetch(s, 4 * 64, 64, log);
	assert_int_equal(log[0], ~0ull);
	mem_dirty_stop(s);
	/* With the log went what would have told of writes, so all are. */
	assert_int_equal(written(s, &bits), 64);
	put(s, THEN + PAGE, 2);
	assert_int_equal(written(s, &bits), 1);
	mem_space_free(s);
}

static void pieces_show_it(void **state)
{
	struct mem_space *s = setup();
	struct mem_window w;

	assert_int_equal(mem_piece_count(s), 2);
	assert_true(mem_piece_window(s, 0, &w));
	assert_false(mem_piece_window(s, 1, &w));
	mem_move(s, 0, THEN);
	assert_true(mem_piece_window(s, 1, &w));
	assert_int_equal(w.base.v, THEN);
	assert_int_equal(w.size, SIZE);
	mem_space_free(s);
}

static void bad_ones_are_refused(void **state)
{
	struct mem_space *s = setup();
	struct mem_slot_config c = { "odd", gpa(0), 3 * SIZE, MEM_ANON, -1, 0, false };

	assert_int_equal(mem_add_movable(s, &c, &err), -1);
	c.size = PAGE;
	assert_int_equal(mem_add_movable(s, &c, &err), -1);
	c.size = SIZE;
	assert_int_equal(mem_add_movable(s, &c, &err), 1);
	assert_int_equal(mem_add_movable(s, &c, &err), -1);
	assert_false(mem_move(s, 2, AT));
	mem_space_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_where_it_was_moved), cmocka_unit_test(what_lies_still_is_seen),
		cmocka_unit_test(writes_are_told),	    cmocka_unit_test(pieces_show_it),
		cmocka_unit_test(bad_ones_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
