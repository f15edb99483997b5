/* dev/rtc146818.c: time of day, interrupts, memory. Motorola MC146818A data sheet. Noon of a Sunday at the start. */
#include "board.h"

#include <time.h>

enum { A = 10, B = 11, C = 12, D = 13, CENTURY = 0x32 };
#define PIE 0x40
#define AIE 0x20
#define UIE 0x10
#define SET 0x80
#define DM  0x04
#define H24 0x02

static void make(struct board *b)
{
	struct err err;

	board_add(b, rtc146818_new(b->bus, b->clock, board_line(b, 8), &err));
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
}

static uint8_t get(struct board *b, uint8_t reg)
{
	out8(b, 0x70, reg);
	return in8(b, 0x71);
}

static void put(struct board *b, uint8_t reg, uint8_t val)
{
	out8(b, 0x70, reg);
	out8(b, 0x71, val);
}

/* seconds, minutes, hours, weekday, day, month, year, century as they read */
static void check(struct board *b, const uint8_t want[8])
{
	static const uint8_t regs[8] = { 0, 2, 4, 6, 7, 8, 9, CENTURY };

	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(get(b, regs[k]), want[k]);
}

/* --- time of day --- */

static void the_time_is_the_wall_clocks(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(get(&b, A), 0x26);
	assert_int_equal(get(&b, B), H24);
	assert_int_equal(get(&b, D), 0x80);
	check(&b, (uint8_t[]){ 0x00, 0x00, 0x12, 1, 0x15, 0x03, 0x26, 0x20 });
	board_step(&b, 59 * S + 999 * MS);
	check(&b, (uint8_t[]){ 0x59, 0x00, 0x12, 1, 0x15, 0x03, 0x26, 0x20 });
	board_step(&b, MS);
	check(&b, (uint8_t[]){ 0x00, 0x01, 0x12, 1, 0x15, 0x03, 0x26, 0x20 });
	board_step(&b, (17 * 24 + 12) * 3600 * S);
	check(&b, (uint8_t[]){ 0x00, 0x01, 0x00, 5, 0x02, 0x04, 0x26, 0x20 });
	board_fini(&b);
}

static void hours_and_numbers_have_modes(void **state)
{
	static const struct {
		uint8_t mode;
		uint8_t hours[4]; /* at 0, 1, 12, 23 o'clock */
	} modes[] = {
		{ H24, { 0x00, 0x01, 0x12, 0x23 } },
		{ H24 | DM, { 0, 1, 12, 23 } },
		{ 0, { 0x12, 0x01, 0x92, 0x91 } },
		{ DM, { 12, 1, 0x80 | 12, 0x80 | 11 } },
	};
	static const int hour[4] = { 0, 1, 12, 23 };
	struct board b;

	for (unsigned k = 0; k < 4; k++) {
		for (unsigned h = 0; h < 4; h++) {
			setup(&b);
			put(&b, B, modes[k].mode);
			board_step(&b, (12 + hour[h]) * 3600 * S + 45 * S);
			assert_int_equal(get(&b, 4), modes[k].hours[h]);
			assert_int_equal(get(&b, 0), modes[k].mode & DM ? 45 : 0x45);
			assert_int_equal(get(&b, 9), modes[k].mode & DM ? 26 : 0x26);
			/* What is written in that mode is read in that mode. */
			put(&b, 4, modes[k].hours[3 - h]);
			assert_int_equal(get(&b, 4), modes[k].hours[3 - h]);
			put(&b, B, H24);
			assert_int_equal(get(&b, 4), modes[0].hours[3 - h]);
			board_fini(&b);
		}
	}
}

/* As mc146818_set_time() of Linux does. */
static void the_time_can_be_set(void **state)
{
	struct board b;

	setup(&b);
	board_step(&b, 300 * MS);
	put(&b, B, H24 | SET);
	put(&b, 0, 0x58);
	put(&b, 2, 0x59);
	put(&b, 4, 0x23);
	put(&b, 7, 0x28);
	put(&b, 8, 0x02);
	put(&b, 9, 0x99);
	put(&b, CENTURY, 0x19);
	board_step(&b, 5 * S); /* it stands */
	assert_int_equal(get(&b, 0), 0x58);
	put(&b, B, H24);
	check(&b, (uint8_t[]){ 0x58, 0x59, 0x23, 1, 0x28, 0x02, 0x99, 0x19 });
	/* The second goes on where it was, 300 ms into it. */
	board_step(&b, 699 * MS);
	assert_int_equal(get(&b, 0), 0x58);
	board_step(&b, MS);
	assert_int_equal(get(&b, 0), 0x59);
	board_step(&b, S);
	check(&b, (uint8_t[]){ 0x00, 0x00, 0x00, 2, 0x01, 0x03, 0x99, 0x19 });
	/* One register alone, without SET. What is passed over so rings no alarm. */
	get(&b, C);
	put(&b, 5, 0x00);
	put(&b, 3, 0x20);
	put(&b, 1, 0x00);
	put(&b, 2, 0x30);
	assert_int_equal(get(&b, C) & 0x30, 0);
	check(&b, (uint8_t[]){ 0x00, 0x30, 0x00, 2, 0x01, 0x03, 0x99, 0x19 });
	board_fini(&b);
}

static void the_divider_reset_starts_half_a_second_before_an_update(void **state)
{
	struct board b;

	setup(&b);
	board_step(&b, 123 * MS);
	put(&b, A, 0x76);
	board_step(&b, 7 * S);
	assert_int_equal(get(&b, 0), 0x00);
	put(&b, A, 0x26);
	board_step(&b, 499 * MS);
	assert_int_equal(get(&b, 0), 0x00);
	assert_int_equal(get(&b, A), 0x26);
	board_step(&b, 900 * US);
	assert_int_equal(get(&b, A), 0xa6); /* the update comes */
	board_step(&b, 100 * US);
	assert_int_equal(get(&b, 0), 0x01);
	board_fini(&b);
}

static void dates_that_are_none_do_no_harm(void **state)
{
	struct board b;

	setup(&b);
	for (unsigned v = 0; v < 256; v += 5) {
		for (uint8_t reg = 0; reg < 10; reg++)
			put(&b, reg, (uint8_t)(v + reg));
		put(&b, CENTURY, (uint8_t)v);
		for (uint8_t reg = 0; reg < 14; reg++)
			get(&b, reg);
		board_step(&b, S);
	}
	/* It still counts. */
	put(&b, 0, 0x10);
	board_step(&b, S);
	assert_int_equal(get(&b, 0), 0x11);
	board_fini(&b);
}

static void update_in_progress_warns_244_us_before(void **state)
{
	struct board b;

	setup(&b);
	board_step(&b, S - 245 * US);
	assert_int_equal(get(&b, A), 0x26);
	board_step(&b, 2 * US);
	assert_int_equal(get(&b, A), 0xa6);
	board_step(&b, 242 * US);
	assert_int_equal(get(&b, A), 0xa6);
	assert_int_equal(get(&b, 0), 0x00);
	board_step(&b, US);
	assert_int_equal(get(&b, A), 0x26);
	assert_int_equal(get(&b, 0), 0x01);
	/* Not while the guest holds it, and it cannot be written. */
	board_step(&b, S - 100 * US);
	put(&b, B, H24 | SET);
	assert_int_equal(get(&b, A), 0x26);
	put(&b, A, 0xa6);
	assert_int_equal(get(&b, A), 0x26);
	board_fini(&b);
}

/* --- memory --- */

static void memory_is_kept(void **state)
{
	struct board b;

	setup(&b);
	for (unsigned n = 14; n < 128; n++)
		if (n != CENTURY)
			put(&b, (uint8_t)n, (uint8_t)(n ^ 0x5a));
	/* Index bit 7 masks NMIs and is none of the index. */
	assert_int_equal(get(&b, 0x80 | 0x40), 0x40 ^ 0x5a);
	assert_int_equal(in8(&b, 0x70), 0xff);
	board_reset(&b);
	for (unsigned n = 14; n < 128; n++)
		if (n != CENTURY)
			assert_int_equal(get(&b, (uint8_t)n), n ^ 0x5a);
	put(&b, D, 0);
	assert_int_equal(get(&b, D), 0x80);
	rtc146818_poke(b.devices, 0x34, 0x77);
	assert_int_equal(get(&b, 0x34), 0x77);
	board_fini(&b);
}

static void a_reset_keeps_time_and_ends_interrupts(void **state)
{
	struct board b;

	setup(&b);
	put(&b, 4, 0x05);
	put(&b, B, H24 | PIE | AIE | UIE | DM);
	board_step(&b, 1500 * MS);
	assert_true(b.line[8].level);
	board_reset(&b);
	assert_false(b.line[8].level);
	assert_int_equal(get(&b, B), H24 | DM);
	assert_int_equal(get(&b, 4), 5);
	assert_int_equal(get(&b, 0), 1);
	assert_true(clock_icount_next(b.clock) == CLOCK_NEVER);
	board_fini(&b);
}

/* --- interrupts --- */

static void periodic_interrupts_at_each_rate(void **state)
{
	struct board b;

	for (unsigned rate = 1; rate < 16; rate++) {
		unsigned hz = 32768 >> ((rate < 3 ? rate + 7 : rate) - 1), n;

		setup(&b);
		put(&b, A, (uint8_t)(0x20 | rate));
		put(&b, B, H24 | PIE);
		get(&b, C);
		board_step(&b, clock_icount_next(b.clock));
		for (n = 0; n < 10; n++) {
			assert_true(b.line[8].level);
			assert_int_equal(get(&b, C) & 0xe0, 0xc0);
			assert_false(b.line[8].level);
			assert_in_range(clock_icount_next(b.clock), S / hz - 1, S / hz + 1);
			board_step(&b, clock_icount_next(b.clock) - 1);
			assert_false(b.line[8].level);
			board_step(&b, 1);
		}
		board_fini(&b);
	}
	setup(&b);
	put(&b, A, 0x20); /* rate 0 is off */
	put(&b, B, H24 | PIE);
	board_step(&b, 10 * S);
	assert_int_equal(b.line[8].rises, 0);
	board_fini(&b);
}

static void an_interrupt_stays_until_c_is_read(void **state)
{
	struct board b;

	setup(&b);
	put(&b, B, H24 | PIE);
	board_step(&b, 10 * S);
	assert_int_equal(b.line[8].rises, 1);
	assert_true(b.line[8].level);
	assert_true(clock_icount_next(b.clock) == CLOCK_NEVER); /* nothing more to wait for */
	/* All flags show, enabled or not; IRQF because of one. (Noon is no alarm at 00:00:00.) */
	assert_int_equal(get(&b, C), 0xd0);
	assert_false(b.line[8].level);
	assert_int_equal(get(&b, C), 0);
	board_step(&b, 10 * MS);
	assert_int_equal(b.line[8].rises, 2);
	board_fini(&b);
}

static void flags_are_set_without_their_enables(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(get(&b, C), 0);
	put(&b, 5, 0x12); /* 12:00:03 */
	put(&b, 3, 0x00);
	put(&b, 1, 0x03);
	assert_true(clock_icount_next(b.clock) == CLOCK_NEVER); /* and nothing ticks for them */
	board_step(&b, 500 * MS);
	assert_int_equal(get(&b, C), 0x40);
	board_step(&b, S);
	assert_int_equal(get(&b, C), 0x50);
	board_step(&b, 5 * S);
	assert_int_equal(get(&b, C), 0x70);
	assert_int_equal(b.line[8].rises, 0);
	/* A flag that is set interrupts when it becomes enabled. */
	board_step(&b, S);
	put(&b, B, H24 | UIE);
	assert_true(b.line[8].level);
	put(&b, B, H24);
	assert_false(b.line[8].level);
	board_fini(&b);
}

static void updates_interrupt_each_second(void **state)
{
	struct board b;

	setup(&b);
	board_step(&b, 250 * MS);
	put(&b, B, H24 | UIE);
	get(&b, C);
	for (unsigned k = 1; k <= 5; k++) {
		board_step(&b, k == 1 ? 750 * MS - 1 : S - 1);
		assert_false(b.line[8].level);
		board_step(&b, 1);
		assert_true(b.line[8].level);
		assert_int_equal(get(&b, C) & 0xb0, 0x90);
		assert_int_equal(get(&b, 0), k);
	}
	/* SET clears the enable and stops updates. */
	put(&b, B, H24 | UIE | SET);
	assert_int_equal(get(&b, B), H24 | SET);
	board_step(&b, 10 * S);
	assert_int_equal(get(&b, C) & 0x30, 0);
	board_fini(&b);
}

static void alarm(struct board *b, uint8_t h, uint8_t m, uint8_t s)
{
	put(b, 5, h);
	put(b, 3, m);
	put(b, 1, s);
}

/* Seconds until the alarm rings, up to two days. */
static int64_t rings(struct board *b)
{
	int64_t began = clock_now_ns(b->clock);

	put(b, B, get(b, B) | AIE);
	get(b, C);
	if (clock_icount_next(b->clock) == CLOCK_NEVER)
		return -1;
	board_step(b, clock_icount_next(b->clock));
	assert_true(b->line[8].level);
	assert_int_equal(get(b, C) & 0xa0, 0xa0);
	return (clock_now_ns(b->clock) - began) / S;
}

static void alarms_match_or_do_not_care(void **state)
{
	static const struct {
		uint8_t h, m, s;
		int64_t after;
	} alarms[] = {
		{ 0x12, 0x00, 0x05, 5 },     { 0x13, 0x30, 0x00, 5400 },      { 0x11, 0x59, 0x59, 86399 },
		{ 0xc0, 0xff, 0x07, 7 },     { 0xff, 0x10, 0x00, 600 },	      { 0xff, 0xc0, 0xc0, 1 },
		{ 0x12, 0x00, 0x00, 86400 }, { 0x23, 0xff, 0xff, 11 * 3600 }, { 0x12, 0x60, 0x00, -1 },
		{ 0xff, 0xff, 0x60, -1 },    { 0x24, 0xff, 0xff, -1 },	      { 0xff, 0x7f, 0xff, -1 },
	};

	for (unsigned k = 0; k < sizeof(alarms) / sizeof(alarms[0]); k++) {
		struct board b;

		setup(&b);
		alarm(&b, alarms[k].h, alarms[k].m, alarms[k].s);
		assert_int_equal(rings(&b), alarms[k].after);
		board_fini(&b);
	}
}

static void alarms_follow_the_modes(void **state)
{
	struct board b;

	setup(&b);
	put(&b, B, DM);		     /* binary, 12 hours */
	alarm(&b, 0x80 | 1, 30, 45); /* half past one in the afternoon */
	assert_int_equal(rings(&b), 90 * 60 + 45);
	board_fini(&b);
}

static void a_flag_that_waits_is_not_raised_again(void **state)
{
	struct board b;

	setup(&b);
	put(&b, B, H24 | PIE | UIE);
	clock_icount_advance(b.clock, 3600 * S); /* an hour late */
	assert_int_equal(b.line[8].rises, 1);
	assert_int_equal(get(&b, C), 0xd0);
	assert_int_equal(get(&b, C), 0);
	board_fini(&b);
}

/* --- saved state --- */

static void it_moves_with_time_and_interrupts(void **state)
{
	struct board b, t;

	setup(&b);
	put(&b, 9, 0x31);
	put(&b, 0x40, 0x77);
	put(&b, A, 0x2f); /* 2 Hz */
	alarm(&b, 0xff, 0xff, 0x30);
	put(&b, B, H24 | PIE | AIE);
	board_step(&b, 700 * MS);
	assert_true(b.line[8].level);
	board_migrate(&b, &t, make);
	assert_true(t.line[8].level);
	for (unsigned n = 0; n < 128; n++)
		assert_int_equal(get(&b, (uint8_t)n), get(&t, (uint8_t)n));
	for (unsigned k = 0; k < 100; k++) {
		board_step(&b, 333 * MS);
		board_step(&t, 333 * MS);
		assert_int_equal(b.line[8].level, t.line[8].level);
		assert_int_equal(get(&b, C), get(&t, C));
		assert_int_equal(get(&b, 0), get(&t, 0));
	}
	board_fini(&b);
	board_fini(&t);
}

/* The wall clock went on for three weeks meanwhile: one alarm, one update, and the time is right. */
static void time_that_passed_while_saved_is_not_replayed(void **state)
{
	struct board b, t;
	unsigned rises;

	setup(&b);
	alarm(&b, 0x12, 0x00, 0x30);
	put(&b, B, H24 | PIE | AIE | UIE);
	get(&b, C);
	board_migrate(&b, &t, make);
	clock_set_wall_base(t.clock, (BOARD_EPOCH + 21 * 86400 + 3600) * S);
	rises = t.line[8].rises;
	board_step(&t, 5 * MS);
	assert_int_equal(t.line[8].rises, rises + 1);
	assert_int_equal(get(&t, C), 0xf0);
	check(&t, (uint8_t[]){ 0x00, 0x00, 0x13, 1, 0x05, 0x04, 0x26, 0x20 });
	board_fini(&b);
	board_fini(&t);
}

static void use(struct board *b)
{
	for (unsigned n = 0; n < 14; n++)
		get(b, (uint8_t)n);
	put(b, 0, 0x30);
	put(b, B, H24 | PIE | AIE | UIE);
	board_step(b, 3 * MS);
	put(b, A, 0x70);
	put(b, A, 0x26);
	get(b, C);
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;

	setup(&b);
	put(&b, B, H24 | PIE);
	board_step(&b, MS);
	board_mutate(&b, use);
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_time_is_the_wall_clocks),
		cmocka_unit_test(hours_and_numbers_have_modes),
		cmocka_unit_test(the_time_can_be_set),
		cmocka_unit_test(the_divider_reset_starts_half_a_second_before_an_update),
		cmocka_unit_test(dates_that_are_none_do_no_harm),
		cmocka_unit_test(update_in_progress_warns_244_us_before),
		cmocka_unit_test(memory_is_kept),
		cmocka_unit_test(a_reset_keeps_time_and_ends_interrupts),
		cmocka_unit_test(periodic_interrupts_at_each_rate),
		cmocka_unit_test(an_interrupt_stays_until_c_is_read),
		cmocka_unit_test(flags_are_set_without_their_enables),
		cmocka_unit_test(updates_interrupt_each_second),
		cmocka_unit_test(alarms_match_or_do_not_care),
		cmocka_unit_test(alarms_follow_the_modes),
		cmocka_unit_test(a_flag_that_waits_is_not_raised_again),
		cmocka_unit_test(it_moves_with_time_and_interrupts),
		cmocka_unit_test(time_that_passed_while_saved_is_not_replayed),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
