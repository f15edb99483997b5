/* mem/: ranges that overflow or leave RAM, DMA, dirty log and code hook. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "mem/mem.h"

#define LOW  (1ull << 20)
#define HIGH (1ull << 32)

static struct mem_space *space(void)
{
	struct mem_space *s = mem_space_new();
	struct err err;
	struct mem_slot_config low = { "low", gpa(0), LOW, MEM_ANON, -1, 0, false };
	struct mem_slot_config rom = { "rom", gpa(LOW), 0x1000, MEM_ANON, -1, 0, true };
	struct mem_slot_config high = { "high", gpa(HIGH), 4 << 20, MEM_MEMFD, -1, 0, false };

	assert_int_equal(mem_add_slot(s, &low, &err), 0);
	assert_int_equal(mem_add_slot(s, &rom, &err), 0);
	assert_int_equal(mem_add_slot(s, &high, &err), 0);
	return s;
}

static void bad_slots_are_refused(void **state)
{
	struct mem_space *s = space();
	struct err err;
	struct mem_slot_config overlap = { "x", gpa(LOW - 0x1000), 0x2000, MEM_ANON, -1, 0, false };
	struct mem_slot_config wrap = { "x", gpa(UINT64_MAX - 0xfff), 0x2000, MEM_ANON, -1, 0, false };
	struct mem_slot_config odd = { "x", gpa(0x200000), 0x123, MEM_ANON, -1, 0, false };

	assert_int_equal(mem_add_slot(s, &overlap, &err), -1);
	assert_string_equal(err.msg, "memory x overlaps low");
	assert_int_equal(mem_add_slot(s, &wrap, &err), -1);
	assert_int_equal(mem_add_slot(s, &odd, &err), -1);
	assert_int_equal(mem_slot_count(s), 3);
	assert_int_equal(mem_ram_size(s), LOW + (4 << 20));
	mem_space_free(s);
}

static void copies_are_whole_or_nothing(void **state)
{
	struct mem_space *s = space();
	uint8_t buf[64];

	memset(buf, 0xa5, sizeof(buf));
	assert_true(mem_write(s, gpa(100), buf, sizeof(buf)));
	memset(buf, 0, sizeof(buf));
	assert_true(mem_read(s, gpa(100), buf, sizeof(buf)));
	assert_int_equal(buf[63], 0xa5);
	assert_false(mem_write(s, gpa(LOW - 32), buf, sizeof(buf))); /* runs into ROM */
	assert_true(mem_read(s, gpa(LOW - 32), buf, sizeof(buf)));
	assert_false(mem_read(s, gpa(LOW + 0x1000 - 1), buf, 2));
	assert_false(mem_read(s, gpa(UINT64_MAX), buf, 2));
	assert_false(mem_read(s, gpa(100), buf, SIZE_MAX));
	assert_true(mem_load_rom(s, gpa(LOW), "rom", 3));
	mem_space_free(s);
}

static void dma_stays_in_one_slot(void **state)
{
	struct mem_space *s = space();
	struct mem_map m;

	assert_true(mem_dma_map(s, gpa(HIGH), 4 << 20, MEM_FROM_DEVICE, &m));
	mem_dma_unmap(&m, 0);
	assert_false(mem_dma_map(s, gpa(HIGH + 1), 4 << 20, MEM_FROM_DEVICE, &m));
	assert_false(mem_dma_map(s, gpa(LOW), 16, MEM_FROM_DEVICE, &m));
	assert_true(mem_dma_map(s, gpa(LOW), 16, MEM_TO_DEVICE, &m));
	assert_false(mem_dma_map(s, gpa(LOW - 8), 16, MEM_TO_DEVICE, &m));
	assert_false(mem_dma_map(s, gpa(0xfee00000), 4, MEM_FROM_DEVICE, &m));
	mem_space_free(s);
}

static void the_dirty_log_names_written_pages_once(void **state)
{
	struct mem_space *s = space();
	uint64_t bits[5];
	struct mem_map m;

	mem_dirty_start(s);
	mem_write(s, gpa(0x1ffe), "abcd", 4); /* pages 1 and 2 */
	assert_true(mem_dma_map(s, gpa(0x5000), 0x3000, MEM_FROM_DEVICE, &m));
	mem_dma_unmap(&m, 0x1001); /* pages 5 and 6, not 7 */
	mem_dirty_fetch(s, 0, 257, bits);
	assert_int_equal(bits[0], 0x66);
	mem_dirty_fetch(s, 0, 257, bits);
	assert_int_equal(bits[0], 0);
	mem_fill(s, gpa(HIGH), 1, 1);
	mem_dirty_fetch(s, 257, 64, bits);
	assert_int_equal(bits[0], 1);
	mem_dirty_stop(s);
	mem_space_free(s);
}

struct seen {
	uint64_t page;
	uint32_t offset, len;
	int calls;
};

static void saw(void *opaque, uint64_t page, uint32_t offset, uint32_t len)
{
	struct seen *x = opaque;

	*x = (struct seen){ page, offset, len, x->calls + 1 };
}

static void stores_to_code_pages_call_the_hook(void **state)
{
	struct mem_space *s = space();
	struct seen seen = { 0 };
	struct mem_window w;

	mem_set_code_hook(s, saw, &seen);
	assert_true(mem_window(s, gpa(0x3123), &w));
	assert_int_equal(w.base.v, 0x3000);
	mem_code_set(s, w.page_index);
	assert_int_equal(*w.flags, MEM_PAGE_CODE);
	mem_write(s, gpa(0x2fff), "ab", 2);
	assert_int_equal(seen.calls, 1);
	assert_int_equal(seen.page, w.page_index);
	assert_int_equal(seen.offset, 0);
	assert_int_equal(seen.len, 1);
	mem_code_clear(s, w.page_index);
	mem_write(s, gpa(0x3000), "ab", 2);
	assert_int_equal(seen.calls, 1);
	mem_space_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_slots_are_refused),
		cmocka_unit_test(copies_are_whole_or_nothing),
		cmocka_unit_test(dma_stays_in_one_slot),
		cmocka_unit_test(the_dirty_log_names_written_pages_once),
		cmocka_unit_test(stores_to_code_pages_call_the_hook),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
