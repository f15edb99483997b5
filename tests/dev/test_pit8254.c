/* dev/pit8254.c: the interval timer and port 61h. Intel 8254 data sheet, "Mode Definitions". */
#include "board.h"

#define HZ 1193182

#define CONTROL	     0x43
#define LATCH(n)     ((n) << 6)
#define READ_BACK(n) (0xc0 | 2 << (n))
#define NO_COUNT     0x20
#define NO_STATUS    0x10

static void make(struct board *b)
{
	struct err err;

	board_add(b, pit8254_new(b->bus, b->clock, board_line(b, 0), &err));
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
}

/* To the middle of the n-th tick from the start, so that rounding is out of the way. */
static void to_tick(struct board *b, uint64_t n)
{
	int64_t at = (int64_t)(((__int128)(2 * n + 1) * S) / (2 * HZ));

	board_step(b, at - clock_now_ns(b->clock));
}

static void mode(struct board *b, unsigned n, unsigned m, bool bcd)
{
	out8(b, CONTROL, (uint8_t)(n << 6 | 0x30 | m << 1 | bcd));
}

static void load(struct board *b, unsigned n, uint16_t count)
{
	out8(b, (uint16_t)(0x40 + n), (uint8_t)count);
	out8(b, (uint16_t)(0x40 + n), count >> 8);
}

static uint16_t read(struct board *b, unsigned n)
{
	uint8_t low = in8(b, (uint16_t)(0x40 + n));

	return (uint16_t)(low | in8(b, (uint16_t)(0x40 + n)) << 8);
}

static uint16_t latched(struct board *b, unsigned n)
{
	out8(b, CONTROL, (uint8_t)LATCH(n));
	return read(b, n);
}

static uint8_t status(struct board *b, unsigned n)
{
	out8(b, CONTROL, (uint8_t)(READ_BACK(n) | NO_COUNT));
	return in8(b, (uint16_t)(0x40 + n));
}

static bool out2(struct board *b)
{
	return in8(b, 0x61) >> 5 & 1;
}

static void gate2(struct board *b, bool up)
{
	out8(b, 0x61, up);
}

/* Channel 2 with the gate high, at tick 0; a count that is written is loaded at tick 1. */
static void channel2(struct board *b, unsigned m)
{
	setup(b);
	to_tick(b, 0);
	gate2(b, true);
	mode(b, 2, m, false);
}

/* --- modes, on channel 2 --- */

static void mode_0_rises_at_the_terminal_count(void **state)
{
	struct board b;

	channel2(&b, 0);
	assert_false(out2(&b));
	load(&b, 2, 10);
	to_tick(&b, 1);
	assert_int_equal(latched(&b, 2), 10);
	to_tick(&b, 10);
	assert_int_equal(latched(&b, 2), 1);
	assert_false(out2(&b));
	to_tick(&b, 11); /* N + 1 after the write */
	assert_int_equal(latched(&b, 2), 0);
	assert_true(out2(&b));
	to_tick(&b, 12);
	assert_int_equal(latched(&b, 2), 0xffff); /* it counts on */
	assert_true(out2(&b));
	to_tick(&b, 12 + 65536);
	assert_int_equal(latched(&b, 2), 0xffff);
	assert_true(out2(&b));
	/* The first byte of a new count stops it and lowers the output. */
	out8(&b, 0x42, 4);
	assert_false(out2(&b));
	out8(&b, 0x42, 0);
	to_tick(&b, 12 + 65536 + 4);
	assert_false(out2(&b));
	to_tick(&b, 12 + 65536 + 5);
	assert_true(out2(&b));
	board_fini(&b);
}

static void mode_0_is_held_by_the_gate(void **state)
{
	struct board b;

	channel2(&b, 0);
	load(&b, 2, 10);
	to_tick(&b, 5);
	assert_int_equal(latched(&b, 2), 6);
	gate2(&b, false);
	to_tick(&b, 1000);
	assert_int_equal(latched(&b, 2), 6);
	assert_false(out2(&b));
	gate2(&b, true);
	to_tick(&b, 1001);
	assert_int_equal(latched(&b, 2), 6);
	to_tick(&b, 1006);
	assert_false(out2(&b));
	to_tick(&b, 1007);
	assert_true(out2(&b));
	/* A count written while it is low waits for the gate. */
	gate2(&b, false);
	load(&b, 2, 3);
	to_tick(&b, 1100);
	assert_int_equal(latched(&b, 2), 3);
	gate2(&b, true);
	to_tick(&b, 1103);
	assert_false(out2(&b));
	to_tick(&b, 1104);
	assert_true(out2(&b));
	board_fini(&b);
}

static void mode_1_is_triggered_by_the_gate(void **state)
{
	struct board b;

	channel2(&b, 1);
	gate2(&b, false);
	load(&b, 2, 5);
	assert_true(out2(&b));
	to_tick(&b, 100);
	assert_true(out2(&b));
	gate2(&b, true);
	to_tick(&b, 101);
	assert_false(out2(&b));
	gate2(&b, false); /* a low gate changes nothing */
	to_tick(&b, 105);
	assert_false(out2(&b));
	to_tick(&b, 106);
	assert_true(out2(&b));
	/* Triggered again in the middle. */
	gate2(&b, true);
	to_tick(&b, 109);
	gate2(&b, false);
	gate2(&b, true);
	to_tick(&b, 114);
	assert_false(out2(&b));
	to_tick(&b, 115);
	assert_true(out2(&b));
	/* A new count is for the next trigger. */
	gate2(&b, false);
	gate2(&b, true);
	load(&b, 2, 20);
	to_tick(&b, 121);
	assert_true(out2(&b));
	gate2(&b, false);
	gate2(&b, true);
	to_tick(&b, 141);
	assert_false(out2(&b));
	to_tick(&b, 142);
	assert_true(out2(&b));
	board_fini(&b);
}

static void mode_2_is_low_for_the_last_tick(void **state)
{
	struct board b;

	channel2(&b, 2);
	load(&b, 2, 4);
	for (unsigned t = 1; t < 40; t++) {
		to_tick(&b, t);
		assert_int_equal(latched(&b, 2), 4 - (t - 1) % 4);
		assert_int_equal(out2(&b), (t - 1) % 4 != 3);
	}
	/* A new count comes with the next period: the one of ticks 37 to 40 is the last. */
	load(&b, 2, 6);
	assert_int_equal(status(&b, 2) & 0x40, 0x40); /* null count until then */
	to_tick(&b, 40);
	assert_int_equal(latched(&b, 2), 1);
	to_tick(&b, 41);
	assert_int_equal(latched(&b, 2), 6);
	assert_int_equal(status(&b, 2) & 0x40, 0);
	/* A low gate raises the output at once, a rising one loads. */
	to_tick(&b, 46);
	assert_false(out2(&b));
	gate2(&b, false);
	assert_true(out2(&b));
	to_tick(&b, 100);
	assert_true(out2(&b));
	gate2(&b, true);
	to_tick(&b, 101);
	assert_int_equal(latched(&b, 2), 6);
	to_tick(&b, 106);
	assert_false(out2(&b));
	board_fini(&b);
}

static void mode_3_is_a_square(void **state)
{
	struct board b;

	channel2(&b, 3);
	load(&b, 2, 8);
	for (unsigned t = 1; t < 40; t++) {
		to_tick(&b, t);
		assert_int_equal(out2(&b), (t - 1) % 8 < 4);
		assert_int_equal(latched(&b, 2), 8 - 2 * ((t - 1) % 4));
	}
	/* An odd count is high one tick longer. */
	mode(&b, 2, 7, false); /* 7 is 3 */
	load(&b, 2, 5);
	for (unsigned t = 40; t < 80; t++) {
		to_tick(&b, t);
		assert_int_equal(out2(&b), (t - 40) % 5 < 3);
		assert_int_equal(latched(&b, 2) % 2, 0);
	}
	gate2(&b, false);
	for (unsigned t = 80; t < 90; t++) {
		to_tick(&b, t);
		assert_true(out2(&b));
	}
	board_fini(&b);
}

static void mode_4_strobes_once(void **state)
{
	struct board b;

	channel2(&b, 4);
	load(&b, 2, 5);
	for (unsigned t = 1; t < 12; t++) {
		to_tick(&b, t);
		assert_int_equal(out2(&b), t != 6);
	}
	/* A new count starts anew; a low gate holds. */
	load(&b, 2, 5);
	to_tick(&b, 14);
	gate2(&b, false);
	to_tick(&b, 50);
	assert_int_equal(latched(&b, 2), 3);
	gate2(&b, true);
	for (unsigned t = 51; t < 60; t++) {
		to_tick(&b, t);
		assert_int_equal(out2(&b), t != 54);
	}
	board_fini(&b);
}

static void mode_5_strobes_after_a_trigger(void **state)
{
	struct board b;

	channel2(&b, 5);
	gate2(&b, false);
	load(&b, 2, 3);
	to_tick(&b, 50);
	assert_true(out2(&b));
	gate2(&b, true);
	gate2(&b, false);
	for (unsigned t = 51; t < 60; t++) {
		to_tick(&b, t);
		assert_int_equal(out2(&b), t != 54);
	}
	board_fini(&b);
}

/* --- counts and how they are read --- */

static void bcd_counts_in_tens(void **state)
{
	struct board b;

	setup(&b);
	to_tick(&b, 0);
	gate2(&b, true);
	mode(&b, 2, 2, true);
	load(&b, 2, 0x1000);
	to_tick(&b, 1);
	assert_int_equal(latched(&b, 2), 0x1000);
	to_tick(&b, 2);
	assert_int_equal(latched(&b, 2), 0x0999);
	to_tick(&b, 1 + 1000);
	assert_int_equal(latched(&b, 2), 0x1000);
	/* 0 is 10000; past the end it goes on from 9999. */
	mode(&b, 2, 0, true);
	load(&b, 2, 0);
	to_tick(&b, 1003);
	assert_int_equal(latched(&b, 2), 0x9999);
	to_tick(&b, 1002 + 9999);
	assert_false(out2(&b));
	to_tick(&b, 1002 + 10000);
	assert_true(out2(&b));
	to_tick(&b, 1002 + 10001);
	assert_int_equal(latched(&b, 2), 0x9999);
	/* Digits that are none do no harm. */
	load(&b, 2, 0xffff);
	read(&b, 2);
	board_fini(&b);
}

static void zero_is_65536(void **state)
{
	struct board b;

	channel2(&b, 2);
	load(&b, 2, 0);
	to_tick(&b, 1);
	assert_int_equal(latched(&b, 2), 0);
	to_tick(&b, 2);
	assert_int_equal(latched(&b, 2), 0xffff);
	to_tick(&b, 1 + 65535);
	assert_false(out2(&b));
	to_tick(&b, 1 + 65536);
	assert_true(out2(&b));
	board_fini(&b);
}

static void a_latch_holds_until_it_is_read(void **state)
{
	struct board b;

	channel2(&b, 2);
	load(&b, 2, 0x8123);
	to_tick(&b, 2);
	out8(&b, CONTROL, LATCH(2));
	to_tick(&b, 0x500);
	out8(&b, CONTROL, LATCH(2)); /* ignored: one is latched */
	assert_int_equal(read(&b, 2), 0x8122);
	assert_int_equal(read(&b, 2), 0x8123 - 0x4ff);
	/* A control word drops it. */
	out8(&b, CONTROL, LATCH(2));
	mode(&b, 2, 2, false);
	load(&b, 2, 0x4000);
	to_tick(&b, 0x501);
	assert_int_equal(read(&b, 2), 0x4000);
	board_fini(&b);
}

static void bytes_are_written_and_read_as_programmed(void **state)
{
	struct board b;

	channel2(&b, 2);
	out8(&b, CONTROL, 0x94); /* low byte only */
	out8(&b, 0x42, 0x80);
	to_tick(&b, 3);
	assert_int_equal(in8(&b, 0x42), 0x7e);
	assert_int_equal(in8(&b, 0x42), 0x7e);
	out8(&b, CONTROL, 0xa4); /* high byte only */
	out8(&b, 0x42, 0x80);
	to_tick(&b, 6);
	assert_int_equal(in8(&b, 0x42), 0x7f);
	out8(&b, CONTROL, LATCH(2));
	assert_int_equal(in8(&b, 0x42), 0x7f);
	assert_int_equal(in8(&b, CONTROL), 0xff); /* the control word cannot be read */
	board_fini(&b);
}

static void read_back_latches_status_then_count(void **state)
{
	struct board b;

	channel2(&b, 3);
	assert_int_equal(status(&b, 2), 0xf6); /* output, null count, both bytes, mode 3 */
	load(&b, 2, 0x1000);
	assert_int_equal(status(&b, 2), 0xf6); /* not loaded yet */
	to_tick(&b, 1);
	assert_int_equal(status(&b, 2), 0xb6);
	to_tick(&b, 1 + 0x800);
	assert_int_equal(status(&b, 2), 0x36);
	/* Both: the status comes first. */
	mode(&b, 1, 2, false);
	load(&b, 1, 0x200);
	to_tick(&b, 0x810);
	out8(&b, CONTROL, READ_BACK(1) | READ_BACK(2));
	to_tick(&b, 0x820);
	assert_int_equal(in8(&b, 0x41), 0xb4);
	assert_int_equal(read(&b, 1), 0x200 - (0x810 - 0x802));
	assert_int_equal(in8(&b, 0x42), 0x36);
	read(&b, 2);
	/* The count alone; a second status is ignored while one waits. */
	out8(&b, CONTROL, READ_BACK(1) | NO_STATUS);
	assert_int_equal(read(&b, 1), 0x200 - (0x820 - 0x802));
	mode(&b, 1, 2, false);
	out8(&b, CONTROL, READ_BACK(1) | NO_COUNT);
	load(&b, 1, 0x200);
	to_tick(&b, 0x900);
	out8(&b, CONTROL, READ_BACK(1) | NO_COUNT);
	assert_int_equal(in8(&b, 0x41), 0xf4); /* from before the load */
	assert_int_equal(status(&b, 1), 0xb4);
	board_fini(&b);
}

/* --- interrupt 0 --- */

static void a_rate_interrupts_each_period(void **state)
{
	for (unsigned m = 2; m <= 3; m++) {
		struct board b;

		setup(&b);
		to_tick(&b, 0);
		mode(&b, 0, m, false);
		assert_int_equal(b.line[0].rises, 0);
		load(&b, 0, 11932); /* 100 Hz */
		to_tick(&b, 11932);
		assert_int_equal(b.line[0].rises, 0);
		to_tick(&b, 11933);
		assert_int_equal(b.line[0].rises, 1);
		assert_true(b.line[0].level);
		to_tick(&b, 1 + 11932 * 100);
		assert_int_equal(b.line[0].rises, 100);
		/* Programming it is no tick. */
		mode(&b, 0, 2, false);
		to_tick(&b, 1 + 11932 * 200);
		assert_int_equal(b.line[0].rises, 100);
		/* Mode 0 begins low. */
		mode(&b, 0, 0, false);
		assert_false(b.line[0].level);
		board_fini(&b);
	}
}

static void a_terminal_count_interrupts_once(void **state)
{
	struct board b;

	setup(&b);
	to_tick(&b, 0);
	mode(&b, 0, 0, false);
	load(&b, 0, 1000);
	assert_false(b.line[0].level);
	to_tick(&b, 1000);
	assert_false(b.line[0].level);
	to_tick(&b, 1001);
	assert_true(b.line[0].level);
	to_tick(&b, 200000);
	assert_int_equal(b.line[0].rises, 1);
	load(&b, 0, 1000);
	assert_false(b.line[0].level);
	to_tick(&b, 202000);
	assert_int_equal(b.line[0].rises, 2);
	/* A count of one byte lowers it too. */
	out8(&b, CONTROL, 0x10);
	out8(&b, 0x40, 100);
	to_tick(&b, 202200);
	assert_int_equal(b.line[0].rises, 3);
	out8(&b, 0x40, 100);
	assert_false(b.line[0].level);
	to_tick(&b, 202400);
	/* A strobe rises a tick after it fell. */
	b.line[0].rises = 2;
	mode(&b, 0, 4, false);
	load(&b, 0, 1000);
	to_tick(&b, 203401);
	assert_int_equal(b.line[0].rises, 2);
	to_tick(&b, 203402);
	assert_int_equal(b.line[0].rises, 3);
	to_tick(&b, 300000);
	assert_int_equal(b.line[0].rises, 3);
	board_fini(&b);
}

static void gated_modes_never_interrupt(void **state)
{
	struct board b;

	setup(&b);
	for (unsigned m = 1; m <= 5; m += 4) {
		mode(&b, 0, m, false);
		load(&b, 0, 10);
	}
	board_step(&b, S);
	assert_int_equal(b.line[0].rises, 0);
	assert_true(clock_icount_next(b.clock) == CLOCK_NEVER);
	board_fini(&b);
}

static void missed_periods_are_not_replayed(void **state)
{
	struct board b;

	setup(&b);
	mode(&b, 0, 2, false);
	load(&b, 0, 1193);
	clock_icount_advance(b.clock, 3600 * S);
	assert_int_equal(b.line[0].rises, 1);
	board_step(&b, 2 * MS);
	assert_true(b.line[0].rises == 2 || b.line[0].rises == 3);
	board_fini(&b);
}

static void fast_rates_do_not_keep_the_host_busy(void **state)
{
	struct board b;

	setup(&b);
	mode(&b, 0, 2, false);
	for (unsigned count = 1; count < 100; count *= 3) {
		unsigned before = b.line[0].rises;

		load(&b, 0, (uint16_t)count);
		board_step(&b, 100 * MS);
		assert_true(b.line[0].rises - before <= 1010);
		assert_true(b.line[0].rises - before >= 500);
	}
	board_fini(&b);
}

static void a_reset_stops_it(void **state)
{
	struct board b;

	setup(&b);
	mode(&b, 0, 2, false);
	load(&b, 0, 1000);
	gate2(&b, true);
	board_step(&b, 10 * MS);
	board_reset(&b);
	assert_false(b.line[0].level);
	assert_int_equal(in8(&b, 0x61) & 15, 0);
	unsigned rises = b.line[0].rises;
	board_step(&b, S);
	assert_int_equal(b.line[0].rises, rises);
	board_fini(&b);
}

static void port_61(void **state)
{
	struct board b;
	unsigned changes = 0;

	setup(&b);
	out8(&b, 0x61, 0xff);
	assert_int_equal(in8(&b, 0x61) & 0xcf, 0x0f);
	/* The refresh bit toggles every 15 us. */
	for (unsigned k = 0, last = in8(&b, 0x61) >> 4 & 1; k < 1000; k++) {
		unsigned now;

		board_step(&b, US);
		now = in8(&b, 0x61) >> 4 & 1;
		changes += now != last;
		last = now;
	}
	assert_true(changes >= 65 && changes <= 67);
	board_fini(&b);
}

/* --- saved state --- */

static void every_mode_moves_running(void **state)
{
	for (unsigned m = 0; m <= 5; m++) {
		struct board b, t;

		channel2(&b, m);
		load(&b, 2, 3000);
		gate2(&b, false);
		gate2(&b, true);
		mode(&b, 0, m, false);
		load(&b, 0, 2000);
		to_tick(&b, 500);
		if (m == 4)
			gate2(&b, false); /* held */
		if (m == 2)
			load(&b, 0, 5000); /* waits for the next period */
		out8(&b, CONTROL, READ_BACK(0));
		out8(&b, 0x41, 0x12); /* half of a count */
		board_migrate(&b, &t, make);
		t.line[0] = b.line[0];
		for (unsigned k = 0; k < 40; k++) {
			assert_int_equal(in8(&b, 0x61), in8(&t, 0x61));
			for (unsigned n = 0; n < 3; n++)
				assert_int_equal(in8(&b, (uint16_t)(0x40 + n)), in8(&t, (uint16_t)(0x40 + n)));
			assert_int_equal(b.line[0].rises, t.line[0].rises);
			assert_int_equal(b.line[0].level, t.line[0].level);
			board_step(&b, 357 * US);
			board_step(&t, 357 * US);
			if (k == 20) {
				gate2(&b, m & 1);
				gate2(&t, m & 1);
				out8(&b, 0x41, 0x34);
				out8(&t, 0x41, 0x34);
			}
		}
		board_fini(&b);
		board_fini(&t);
	}
}

static void use(struct board *b)
{
	for (uint16_t port = 0x40; port < 0x43; port++)
		in8(b, port);
	gate2(b, false);
	gate2(b, true);
	in8(b, 0x61);
	load(b, 0, 1);
	board_step(b, 300 * US);
	for (unsigned n = 0; n < 3; n++) {
		status(b, n);
		latched(b, n);
	}
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	for (unsigned m = 0; m <= 5; m++) {
		struct board b;

		channel2(&b, m);
		load(&b, 2, 3000);
		mode(&b, 0, m, true);
		load(&b, 0, 2000);
		to_tick(&b, 500);
		board_mutate(&b, use);
		board_fini(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mode_0_rises_at_the_terminal_count),
		cmocka_unit_test(mode_0_is_held_by_the_gate),
		cmocka_unit_test(mode_1_is_triggered_by_the_gate),
		cmocka_unit_test(mode_2_is_low_for_the_last_tick),
		cmocka_unit_test(mode_3_is_a_square),
		cmocka_unit_test(mode_4_strobes_once),
		cmocka_unit_test(mode_5_strobes_after_a_trigger),
		cmocka_unit_test(bcd_counts_in_tens),
		cmocka_unit_test(zero_is_65536),
		cmocka_unit_test(a_latch_holds_until_it_is_read),
		cmocka_unit_test(bytes_are_written_and_read_as_programmed),
		cmocka_unit_test(read_back_latches_status_then_count),
		cmocka_unit_test(a_rate_interrupts_each_period),
		cmocka_unit_test(a_terminal_count_interrupts_once),
		cmocka_unit_test(gated_modes_never_interrupt),
		cmocka_unit_test(missed_periods_are_not_replayed),
		cmocka_unit_test(fast_rates_do_not_keep_the_host_busy),
		cmocka_unit_test(a_reset_stops_it),
		cmocka_unit_test(port_61),
		cmocka_unit_test(every_mode_moves_running),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
