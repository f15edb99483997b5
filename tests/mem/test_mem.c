/* mem/: ranges that overflow or leave RAM, DMA, dirty log and code hook. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>

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

/*
 * --- the dirty log and a writer ---
 *
 * Each is stopped wherever it happens to be, while the other goes on: the writer in even rounds, the one that fetches
 * in odd ones.
 */

#define HAMMERED (LOW / MEM_PAGE_SIZE) /* pages: the more, the less of a fetch is the fence at its end */
struct hammer {
	struct mem_space *space;
	pthread_barrier_t turn; /* before a round, and after it */
	pthread_t fetcher, writer;
	uint32_t copy[HAMMERED]; /* the first word of each page, kept up to date by the log */
	uint32_t value;
	bool stop_fetcher;
	_Atomic bool rest, end;
};
static _Atomic bool hold, held;

static void stay(int sig)
{
	held = true;
	while (hold)
		sched_yield();
	held = false;
}

static void stop_thread(pthread_t who)
{
	hold = true;
	pthread_kill(who, SIGUSR1);
	while (!held)
		sched_yield();
}

static void let_go(void)
{
	hold = false;
	while (held)
		sched_yield();
}

static void write_all(struct hammer *h)
{
	for (unsigned n = 0; n < HAMMERED; n++) {
		h->value++;
		mem_write(h->space, gpa(n * MEM_PAGE_SIZE), &h->value, sizeof(h->value));
	}
}

static void follow(struct hammer *h)
{
	uint64_t bits[HAMMERED / 64];

	mem_dirty_fetch(h->space, 0, HAMMERED, bits);
	for (unsigned k = 0; k < HAMMERED; k++)
		if (bits[k / 64] >> (k % 64) & 1)
			mem_read(h->space, gpa(k * MEM_PAGE_SIZE), &h->copy[k], sizeof(h->copy[k]));
}

static void *write_on(void *opaque)
{
	struct hammer *h = opaque;

	for (;;) {
		pthread_barrier_wait(&h->turn);
		if (h->end)
			return NULL;
		for (unsigned n = 0; h->stop_fetcher && n < 20; n++) {
			stop_thread(h->fetcher);
			write_all(h);
			let_go();
			write_all(h);
		}
		while (!h->stop_fetcher && !h->rest)
			write_all(h);
		h->rest = true;
		pthread_barrier_wait(&h->turn);
	}
}

/* How many pages the log has forgotten when both have come to rest. */
static unsigned stale_pages(struct hammer *h)
{
	unsigned stale = 0;
	uint32_t now;

	h->rest = false;
	pthread_barrier_wait(&h->turn);
	for (unsigned n = 0; !h->stop_fetcher && n < 20; n++) {
		stop_thread(h->writer);
		follow(h);
		let_go();
		follow(h);
	}
	while (h->stop_fetcher && !h->rest)
		follow(h);
	h->rest = true;
	pthread_barrier_wait(&h->turn);
	follow(h);
	for (unsigned k = 0; k < HAMMERED; k++) {
		mem_read(h->space, gpa(k * MEM_PAGE_SIZE), &now, sizeof(now));
		stale += h->copy[k] != now;
	}
	return stale;
}

static void the_dirty_log_loses_no_store_that_comes_meanwhile(void **state)
{
	struct hammer h = { .space = space(), .fetcher = pthread_self() };
	time_t end = time(NULL) + 2;
	unsigned stale = 0;

	signal(SIGUSR1, stay);
	mem_fence_init();
	mem_dirty_start(h.space);
	pthread_barrier_init(&h.turn, NULL, 2);
	assert_int_equal(pthread_create(&h.writer, NULL, write_on, &h), 0);
	/* On a busy machine a stop takes milliseconds. */
	for (unsigned round = 0; (round < 10 || time(NULL) < end) && !stale; round++) {
		h.stop_fetcher = round & 1;
		stale = stale_pages(&h);
	}
	h.end = true;
	pthread_barrier_wait(&h.turn);
	pthread_join(h.writer, NULL);
	pthread_barrier_destroy(&h.turn);
	signal(SIGUSR1, SIG_DFL);
	assert_int_equal(stale, 0);
	mem_space_free(h.space);
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

/* As SMM looks at memory: one slot lies over another, and they share what is said about pages. */
static void a_space_may_lie_over_another(void **state)
{
	struct mem_space *s = space(), *over = mem_space_over(s);
	const struct mem_slot_config c = { "over", gpa(0x2000), 0x1000, MEM_ANON, -1, 0, false };
	struct seen seen = { 0 };
	struct mem_window w, below;
	struct mem_map m;
	char b[4] = "";
	struct err err;

	assert_int_equal(mem_add_slot(over, &c, &err), 0);
	assert_int_equal(mem_add_slot(over, &c, &err), -1);
	mem_write(s, gpa(0x1fff), "abc", 3);
	assert_true(mem_read(over, gpa(0x1fff), b, 3));
	assert_memory_equal(b, "a\0\0", 3);
	assert_true(mem_write(over, gpa(0x2ffe), "xyz", 3));
	assert_true(mem_read(s, gpa(0x2ffe), b, 3));
	assert_memory_equal(b, "\0\0z", 3);
	/* Windows and maps end where it begins and where it ends. */
	assert_true(mem_window(over, gpa(0x1000), &w));
	assert_int_equal(w.size, 0x1000);
	assert_true(mem_window(s, gpa(0x2000), &below) && mem_window(over, gpa(0x2000), &w));
	assert_int_equal(w.size, 0x1000);
	assert_int_not_equal(w.page_index, below.page_index);
	assert_ptr_equal(w.space, over);
	assert_false(mem_dma_map(over, gpa(0x1800), 0x1000, MEM_TO_DEVICE, &m));
	assert_true(mem_dma_map(s, gpa(0x1800), 0x1000, MEM_TO_DEVICE, &m));
	mem_dma_unmap(&m, 0);
	/* One hook for both. */
	mem_set_code_hook(over, saw, &seen);
	mem_code_set(s, w.page_index);
	mem_write(s, gpa(0x2000), "a", 1);
	assert_int_equal(seen.calls, 0);
	mem_write(over, gpa(0x2000), "a", 1);
	assert_int_equal(seen.calls, 1);
	assert_int_equal(seen.page, w.page_index);
	mem_space_free(over);
	mem_space_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_slots_are_refused),
		cmocka_unit_test(copies_are_whole_or_nothing),
		cmocka_unit_test(dma_stays_in_one_slot),
		cmocka_unit_test(the_dirty_log_names_written_pages_once),
		cmocka_unit_test(the_dirty_log_loses_no_store_that_comes_meanwhile),
		cmocka_unit_test(stores_to_code_pages_call_the_hook),
		cmocka_unit_test(a_space_may_lie_over_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
