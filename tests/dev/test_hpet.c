/* dev/hpet.c: the counter, comparators once and again, what they interrupt, and what they take from the old timers. */
#include "board.h"

#include "base/bytes.h"
#include "dev/hpet.h"

#define TIMERS 4
enum { ID = 0, CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xf0 };
enum {
	LEVEL = 2,
	ENABLE = 4,
	PERIODIC = 8,
	SET = 0x40,
	BITS_32 = 0x100,
	ROUTE_2 = 2 << 9,
	ROUTE_8 = 8 << 9,
	FSB = 0x4000
};

static struct irq_line pit, rtc;
static bool with_fsb;

static void send_msi(void *opaque, uint64_t addr, uint32_t data)
{
	struct board *b = opaque;

	b->msi[b->msis].addr = addr;
	b->msi[b->msis++].data = data;
}

static void make(struct board *b)
{
	const struct hpet_config c = { .bus = b->bus,
				       .clock = b->clock,
				       .irq0 = board_line(b, 0),
				       .irq8 = board_line(b, 8),
				       .msi = { .send = send_msi, .opaque = b },
				       .timers = TIMERS,
				       .fsb = with_fsb,
				       .pit = &pit,
				       .rtc = &rtc };
	struct err err;

	board_add(b, hpet_new(&c, &err));
}

static uint64_t get(struct board *b, unsigned reg)
{
	return board_read(b, HPET_BASE + reg, 8);
}

static void set(struct board *b, unsigned reg, uint64_t v)
{
	board_write(b, HPET_BASE + reg, 8, v);
}

static unsigned timer(unsigned n, unsigned reg)
{
	return 0x100 + 0x20 * n + reg;
}

static void configure(struct board *b, unsigned n, uint64_t config)
{
	set(b, timer(n, 0), config);
}

static void compare(struct board *b, unsigned n, uint64_t v)
{
	set(b, timer(n, 8), v);
}

static void begin(struct board *b)
{
	with_fsb = false;
	board_init(b);
	make(b);
}

static void what_it_is(void **state)
{
	struct board b;

	begin(&b);
	assert_int_equal(get(&b, ID), 10000000ull << 32 | 0x8086a301);
	assert_int_equal(board_read(&b, HPET_BASE + 4, 4), 10000000);
	assert_int_equal(get(&b, timer(0, 0)), 0x104ull << 32 | 0x30);
	assert_int_equal(get(&b, timer(0, 8)), UINT64_MAX);
	assert_int_equal(get(&b, timer(TIMERS, 0)), 0);
	assert_int_equal(get(&b, 0x3f8), 0);
	configure(&b, 0, UINT64_MAX);
	assert_int_equal(get(&b, timer(0, 0)) & 0xffffffff, 0x3f7e);
	board_fini(&b);
}

static void it_counts_while_it_is_on(void **state)
{
	struct board b;

	begin(&b);
	board_step(&b, 1 * S);
	assert_int_equal(get(&b, COUNTER), 0);
	set(&b, CONFIG, 1);
	board_step(&b, 1 * US);
	assert_int_equal(get(&b, COUNTER), 100);
	board_step(&b, 9);
	assert_int_equal(get(&b, COUNTER), 100);
	board_step(&b, 1);
	assert_int_equal(get(&b, COUNTER), 101);
	set(&b, CONFIG, 0);
	board_step(&b, 1 * S);
	assert_int_equal(get(&b, COUNTER), 101);
	set(&b, COUNTER, 0x1ffffffffull);
	set(&b, CONFIG, 1);
	board_step(&b, 10);
	assert_int_equal(get(&b, COUNTER), 0x200000000ull);
	/* In halves. */
	set(&b, CONFIG, 0);
	board_write(&b, HPET_BASE + COUNTER, 4, 5);
	board_write(&b, HPET_BASE + COUNTER + 4, 4, 7);
	assert_int_equal(get(&b, COUNTER), 7ull << 32 | 5);
	assert_int_equal(board_read(&b, HPET_BASE + COUNTER + 4, 4), 7);
	board_fini(&b);
}

static void once(void **state)
{
	struct board b;

	begin(&b);
	set(&b, CONFIG, 1);
	configure(&b, 2, ENABLE | ROUTE_8);
	compare(&b, 2, 1000);
	board_step(&b, 9999);
	assert_int_equal(b.line[8].rises, 0);
	board_step(&b, 1);
	assert_int_equal(b.line[8].rises, 1);
	assert_false(b.line[8].level);
	assert_int_equal(get(&b, STATUS), 0);
	board_step(&b, 100 * S);
	assert_int_equal(b.line[8].rises, 1);
	/* One that is behind matches after a whole round, which 64 bits never make. */
	compare(&b, 2, 1000);
	board_step(&b, 1000 * S);
	assert_int_equal(b.line[8].rises, 1);
	/* 32 bits do, and do again. */
	set(&b, COUNTER, 0);
	configure(&b, 2, ENABLE | ROUTE_8 | BITS_32);
	compare(&b, 2, 0xabc00000064ull);
	assert_int_equal(get(&b, timer(2, 8)), 100);
	board_step(&b, 1000);
	assert_int_equal(b.line[8].rises, 2);
	board_step(&b, (1ll << 32) * 10);
	assert_int_equal(b.line[8].rises, 3);
	/* What is due comes before what is written then: clocks run timers late at times. */
	compare(&b, 2, (uint32_t)get(&b, COUNTER));
	configure(&b, 2, ROUTE_8);
	assert_int_equal(b.line[8].rises, 4);
	/* Nowhere, not allowed to, switched off. */
	configure(&b, 2, ENABLE | 5 << 9);
	compare(&b, 2, get(&b, COUNTER) + 10);
	board_step(&b, 1 * MS);
	configure(&b, 2, ROUTE_8);
	compare(&b, 2, get(&b, COUNTER) + 10);
	board_step(&b, 1 * MS);
	configure(&b, 2, ENABLE | ROUTE_8);
	compare(&b, 2, get(&b, COUNTER) + 10);
	set(&b, CONFIG, 0);
	board_step(&b, 1 * MS);
	assert_int_equal(b.line[8].rises, 4);
	set(&b, CONFIG, 1);
	board_step(&b, 1 * MS);
	assert_int_equal(b.line[8].rises, 5);
	board_fini(&b);
}

static void again_and_again(void **state)
{
	struct board b;
	unsigned before;

	begin(&b);
	set(&b, CONFIG, 1);
	/* As Linux does it: the first match and then the period. */
	configure(&b, 0, ENABLE | ROUTE_2 | PERIODIC | SET | BITS_32);
	compare(&b, 0, 500000);
	assert_int_equal(get(&b, timer(0, 0)) & SET, 0);
	compare(&b, 0, 100000); /* 1 ms */
	board_step(&b, 4999 * US);
	assert_int_equal(b.line[0].rises, 0);
	board_step(&b, 1 * US);
	assert_int_equal(b.line[0].rises, 1);
	assert_int_equal(get(&b, timer(0, 8)), 600000);
	for (unsigned n = 0; n < 10; n++)
		board_step(&b, 1 * MS);
	assert_int_equal(b.line[0].rises, 11);
	/* Across the end of 32 bits. */
	set(&b, COUNTER, 0xffffff00);
	configure(&b, 0, ENABLE | ROUTE_2 | PERIODIC | SET | BITS_32);
	compare(&b, 0, 0xffffff80);
	compare(&b, 0, 0x80000);
	board_step(&b, 1280);
	assert_int_equal(b.line[0].rises, 12);
	assert_int_equal(get(&b, timer(0, 8)), 0x7ff80);
	board_step(&b, 0x80000 * 10);
	assert_int_equal(b.line[0].rises, 13);
	/* Without interrupts the comparator goes on all the same. */
	configure(&b, 0, PERIODIC | SET);
	compare(&b, 0, get(&b, COUNTER) + 1000);
	compare(&b, 0, 1000);
	board_step(&b, 12 * US);
	assert_int_equal(get(&b, timer(0, 8)) - get(&b, COUNTER), 800);
	/* A period of nothing, and a very short one: the host has other things to do. */
	configure(&b, 0, ENABLE | ROUTE_2 | PERIODIC | SET);
	compare(&b, 0, get(&b, COUNTER) + 10);
	compare(&b, 0, 0);
	board_step(&b, 1 * S);
	before = b.line[0].rises;
	configure(&b, 0, ENABLE | ROUTE_2 | PERIODIC | SET);
	compare(&b, 0, get(&b, COUNTER) + 10);
	compare(&b, 0, 10);
	for (unsigned n = 0; n < 1000; n++)
		board_step(&b, 1 * MS);
	assert_in_range(b.line[0].rises - before, 9000, 10001);
	board_fini(&b);
}

static void what_was_missed_is_one(void **state)
{
	struct board b;

	begin(&b);
	set(&b, CONFIG, 1);
	configure(&b, 0, ENABLE | ROUTE_2 | PERIODIC | SET);
	compare(&b, 0, 100000);
	compare(&b, 0, 100000);
	/* The clock's timers run late. */
	clock_icount_advance(b.clock, 10500 * US);
	assert_in_range(b.line[0].rises, 1, 10);
	assert_int_equal(get(&b, timer(0, 8)), 1100000);
	board_fini(&b);
}

static void levels(void **state)
{
	struct board b;

	begin(&b);
	set(&b, CONFIG, 1);
	configure(&b, 1, ENABLE | LEVEL | ROUTE_8);
	configure(&b, 2, ENABLE | LEVEL | ROUTE_8);
	compare(&b, 1, 1000);
	compare(&b, 2, 2000);
	board_step(&b, 20 * US);
	assert_int_equal(get(&b, STATUS), 6);
	assert_true(b.line[8].level);
	set(&b, STATUS, 2);
	assert_true(b.line[8].level);
	board_write(&b, HPET_BASE + STATUS, 4, 4);
	assert_false(b.line[8].level);
	/* The status without the interrupt, which comes when it is allowed. */
	configure(&b, 1, LEVEL | ROUTE_8);
	compare(&b, 1, get(&b, COUNTER) + 10);
	board_step(&b, 1 * US);
	assert_int_equal(get(&b, STATUS), 2);
	assert_false(b.line[8].level);
	configure(&b, 1, LEVEL | ENABLE | ROUTE_8);
	assert_true(b.line[8].level);
	configure(&b, 1, LEVEL | ENABLE | ROUTE_2);
	assert_false(b.line[8].level);
	assert_true(b.line[0].level);
	configure(&b, 1, ENABLE | ROUTE_2);
	assert_false(b.line[0].level);
	assert_int_equal(get(&b, STATUS), 0);
	board_fini(&b);
}

static void legacy_replacement(void **state)
{
	struct board b;

	begin(&b);
	/* The old timers go through, beside a timer of ours. */
	irq_set(&pit, true);
	assert_true(b.line[0].level);
	irq_set(&pit, false);
	irq_set(&rtc, true);
	assert_true(b.line[8].level);
	/* Then they do not, and timers 0 and 1 are there whatever their routes say. */
	set(&b, CONFIG, 3);
	assert_int_equal(get(&b, CONFIG), 3);
	assert_false(b.line[8].level);
	irq_set(&pit, true);
	assert_false(b.line[0].level);
	configure(&b, 0, ENABLE | ROUTE_8);
	configure(&b, 1, ENABLE | ROUTE_2);
	compare(&b, 0, 100);
	compare(&b, 1, 200);
	board_step(&b, 1 * US);
	assert_int_equal(b.line[0].rises, 2);
	assert_int_equal(b.line[8].rises, 1);
	board_step(&b, 1 * US);
	assert_int_equal(b.line[0].rises, 2);
	assert_int_equal(b.line[8].rises, 2);
	/* Back: what they say now is seen. */
	irq_set(&pit, false);
	set(&b, CONFIG, 1);
	assert_false(b.line[0].level);
	assert_true(b.line[8].level);
	irq_set(&rtc, false);
	assert_false(b.line[8].level);
	board_fini(&b);
}

static void messages(void **state)
{
	struct board b;

	begin(&b);
	set(&b, CONFIG, 1);
	/* Absent unless asked for. */
	configure(&b, 0, ENABLE | FSB);
	assert_int_equal(get(&b, timer(0, 0)) & 0xc000, 0);
	set(&b, timer(0, 0x10), 1);
	assert_int_equal(get(&b, timer(0, 0x10)), 0);
	board_fini(&b);

	with_fsb = true;
	board_init(&b);
	make(&b);
	set(&b, CONFIG, 1);
	configure(&b, 3, ENABLE | FSB | ROUTE_8);
	assert_int_equal(get(&b, timer(3, 0)) & 0xc000, 0xc000);
	set(&b, timer(3, 0x10), 0xfee0100000000041);
	compare(&b, 3, 100);
	board_step(&b, 1 * US);
	assert_int_equal(b.msis, 1);
	assert_int_equal(b.msi[0].addr, 0xfee01000);
	assert_int_equal(b.msi[0].data, 0x41);
	assert_int_equal(b.line[8].rises, 0);
	board_fini(&b);
}

static void use(struct board *b)
{
	get(b, COUNTER);
	for (unsigned n = 0; n < TIMERS; n++) {
		get(b, timer(n, 8));
		compare(b, n, 77);
	}
	set(b, STATUS, 0xf);
}

static void saved_states(void **state)
{
	struct board a, b;

	begin(&a);
	set(&a, CONFIG, 3);
	configure(&a, 0, ENABLE | PERIODIC | SET);
	compare(&a, 0, 100000);
	compare(&a, 0, 200000);
	configure(&a, 2, ENABLE | ROUTE_8 | BITS_32);
	compare(&a, 2, 1000);
	configure(&a, 3, ENABLE | LEVEL | ROUTE_8);
	compare(&a, 3, 5);
	irq_set(&pit, true);
	board_step(&a, 5 * US);
	assert_true(a.line[8].level);
	board_migrate(&a, &b, make);
	assert_int_equal(get(&a, COUNTER), get(&b, COUNTER));
	/* A level is the controllers' to save; ours knows it and lets go of it. */
	b.line[8].level = true;
	irq_set(&rtc, true);
	irq_set(&rtc, false);
	assert_true(b.line[8].level);
	set(&b, STATUS, 8);
	assert_false(b.line[8].level);
	board_step(&b, 5 * US);
	assert_int_equal(b.line[8].rises, 1);
	board_step(&b, 990 * US);
	assert_int_equal(b.line[0].rises, 1);
	board_step(&b, 2 * MS);
	assert_int_equal(b.line[0].rises, 2);
	set(&b, CONFIG, 0);
	assert_true(b.line[0].level);
	board_mutate(&a, use);
	board_fini(&a);
	board_fini(&b);
}

static void a_reset(void **state)
{
	struct board b;

	begin(&b);
	set(&b, CONFIG, 3);
	configure(&b, 0, ENABLE);
	compare(&b, 0, 100);
	board_reset(&b);
	board_step(&b, 1 * S);
	assert_int_equal(b.line[0].rises, 0);
	assert_int_equal(get(&b, COUNTER), 0);
	assert_int_equal(get(&b, timer(0, 8)), UINT64_MAX);
	irq_set(&pit, true);
	assert_true(b.line[0].level);
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_is),
		cmocka_unit_test(it_counts_while_it_is_on),
		cmocka_unit_test(once),
		cmocka_unit_test(again_and_again),
		cmocka_unit_test(what_was_missed_is_one),
		cmocka_unit_test(levels),
		cmocka_unit_test(legacy_replacement),
		cmocka_unit_test(messages),
		cmocka_unit_test(saved_states),
		cmocka_unit_test(a_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
