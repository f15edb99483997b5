/* irq/x86/lapic_timer.c: one-shot, periodic, TSC deadline. SDM vol. 3, 11.5.4. A count at divide 1 is a nanosecond. */
#include "apic.h"

#include <unistd.h>

#define VECTOR 0x40

static void make(struct board *b)
{
	board_chip(b, 2);
}

static void setup(struct board *b, uint32_t lvt)
{
	board_init(b);
	make(b);
	board_step(b, 12345);
	apic_enable(b, 0);
	apic_write(b, 0, LAPIC_DIVIDE, 0xb);
	apic_write(b, 0, LAPIC_LVT, lvt);
}

static uint32_t count(struct board *b)
{
	return apic_read(b, 0, LAPIC_CURRENT_COUNT);
}

static void a_one_shot_fires_once(void **state)
{
	struct board b;

	setup(&b, VECTOR);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000000);
	assert_int_equal(count(&b), 1000000);
	board_step(&b, 400000);
	assert_int_equal(count(&b), 600000);
	board_step(&b, 599999);
	assert_int_equal(count(&b), 1);
	assert_false(apic_pending(&b, 0));
	board_step(&b, 1);
	assert_int_equal(count(&b), 0);
	assert_int_equal(apic_ack(&b, 0), VECTOR);
	apic_eoi(&b, 0);
	board_step(&b, 10 * S);
	assert_false(apic_pending(&b, 0));
	assert_int_equal(apic_read(&b, 0, LAPIC_INITIAL_COUNT), 1000000);
	board_fini(&b);
}

static void a_count_of_zero_stops_it(void **state)
{
	struct board b;

	setup(&b, VECTOR);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000000);
	board_step(&b, 500000);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 0);
	assert_int_equal(count(&b), 0);
	board_step(&b, S);
	assert_false(apic_pending(&b, 0));
	/* A new count starts anew. */
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000);
	board_step(&b, 999);
	assert_false(apic_pending(&b, 0));
	board_step(&b, 1);
	assert_int_equal(apic_drain(&b, 0), 1);
	board_fini(&b);
}

static void it_divides(void **state)
{
	static const struct {
		uint32_t reg;
		unsigned by;
	} divides[] = { { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 }, { 10, 128 }, { 11, 1 } };
	struct board b;

	setup(&b, VECTOR);
	for (unsigned k = 0; k < 8; k++) {
		apic_write(&b, 0, LAPIC_DIVIDE, divides[k].reg | 4); /* bit 2 does not exist */
		assert_int_equal(apic_read(&b, 0, LAPIC_DIVIDE), divides[k].reg);
		apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000);
		board_step(&b, 500 * divides[k].by);
		assert_int_equal(count(&b), 500);
		board_step(&b, 500 * divides[k].by - 1);
		assert_int_equal(apic_drain(&b, 0), 0);
		board_step(&b, 1);
		assert_int_equal(apic_drain(&b, 0), 1);
	}
	board_fini(&b);
}

static void a_new_divide_goes_on_from_the_count(void **state)
{
	struct board b;

	setup(&b, VECTOR);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000);
	board_step(&b, 400);
	apic_write(&b, 0, LAPIC_DIVIDE, 10); /* 128 */
	assert_int_equal(count(&b), 600);
	board_step(&b, 600 * 128 - 1);
	assert_int_equal(apic_drain(&b, 0), 0);
	board_step(&b, 1);
	assert_int_equal(apic_drain(&b, 0), 1);
	board_fini(&b);
}

static void a_periodic_one_goes_on(void **state)
{
	struct board b;

	setup(&b, VECTOR | LVT_PERIODIC);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000000);
	for (unsigned k = 0; k < 5; k++) {
		board_step(&b, 999999);
		assert_int_equal(count(&b), 1);
		assert_int_equal(apic_drain(&b, 0), 0);
		board_step(&b, 1);
		assert_int_equal(count(&b), 1000000);
		assert_int_equal(apic_drain(&b, 0), 1);
	}
	/* Masked, it counts on and says nothing. */
	apic_write(&b, 0, LAPIC_LVT, VECTOR | LVT_PERIODIC | LVT_MASKED);
	board_step(&b, 1500000);
	assert_int_equal(count(&b), 500000);
	assert_false(apic_pending(&b, 0));
	apic_write(&b, 0, LAPIC_LVT, VECTOR | LVT_PERIODIC);
	board_step(&b, 500000);
	assert_int_equal(apic_drain(&b, 0), 1);
	/* As a one-shot it ends with this period. */
	apic_write(&b, 0, LAPIC_LVT, VECTOR);
	board_step(&b, 10 * MS);
	assert_int_equal(apic_drain(&b, 0), 1);
	assert_int_equal(count(&b), 0);
	board_fini(&b);
}

/* After a thousand days the guest gets one tick, at once, and the phase stays. */
static void missed_periods_are_not_replayed(void **state)
{
	struct board b;
	unsigned before;

	setup(&b, VECTOR | LVT_PERIODIC);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000000);
	before = b.cpu[0].signals[CPU_SIGNAL_INTR];
	clock_icount_advance(b.clock, 1000 * 86400 * S + 250000);
	assert_int_equal(b.cpu[0].signals[CPU_SIGNAL_INTR], before + 1);
	assert_int_equal(apic_drain(&b, 0), 1);
	assert_int_equal(count(&b), 750000);
	board_step(&b, 750000);
	assert_int_equal(apic_drain(&b, 0), 1);
	board_fini(&b);
}

static void very_short_periods_do_not_keep_the_host_busy(void **state)
{
	struct board b;

	setup(&b, VECTOR | LVT_PERIODIC);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1);
	int64_t next = clock_icount_next(b.clock);
	board_step(&b, next);
	assert_true(clock_icount_next(b.clock) >= 20 * US - 1);
	board_fini(&b);
}

static void the_tsc_deadline(void **state)
{
	struct board b;
	uint64_t v;

	setup(&b, VECTOR | LVT_DEADLINE);
	uint64_t now = clock_tsc(b.clock);
	assert_true(apic_wrmsr(&b, 0, MSR_TSC_DEADLINE, now + 1000000));
	assert_true(apic_rdmsr(&b, 0, MSR_TSC_DEADLINE, &v) && v == now + 1000000);
	/* The counts mean nothing in this mode. */
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 5);
	assert_int_equal(apic_read(&b, 0, LAPIC_INITIAL_COUNT) | count(&b), 0);
	apic_write(&b, 0, LAPIC_DIVIDE, 10);
	board_step(&b, 999999);
	assert_false(apic_pending(&b, 0));
	board_step(&b, 1);
	assert_int_equal(apic_drain(&b, 0), 1);
	assert_true(apic_rdmsr(&b, 0, MSR_TSC_DEADLINE, &v) && v == 0);
	/* A time that is over fires at once; 0 disarms. */
	assert_true(apic_wrmsr(&b, 0, MSR_TSC_DEADLINE, 1));
	assert_int_equal(apic_drain(&b, 0), 1);
	assert_true(apic_rdmsr(&b, 0, MSR_TSC_DEADLINE, &v) && v == 0);
	assert_true(apic_wrmsr(&b, 0, MSR_TSC_DEADLINE, clock_tsc(b.clock) + 1000));
	assert_true(apic_wrmsr(&b, 0, MSR_TSC_DEADLINE, 0));
	board_step(&b, S);
	assert_false(apic_pending(&b, 0));
	assert_true(apic_wrmsr(&b, 0, MSR_TSC_DEADLINE, ~0ull));
	board_step(&b, S);
	assert_false(apic_pending(&b, 0));
	board_fini(&b);
}

static void a_change_of_mode_disarms(void **state)
{
	struct board b;
	uint64_t v;

	setup(&b, VECTOR);
	/* The deadline is ignored in the other modes. */
	assert_true(apic_wrmsr(&b, 0, MSR_TSC_DEADLINE, clock_tsc(b.clock) + 1000));
	assert_true(apic_rdmsr(&b, 0, MSR_TSC_DEADLINE, &v) && v == 0);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000);
	apic_write(&b, 0, LAPIC_LVT, VECTOR | LVT_DEADLINE);
	board_step(&b, S);
	assert_false(apic_pending(&b, 0));
	assert_true(apic_wrmsr(&b, 0, MSR_TSC_DEADLINE, clock_tsc(b.clock) + 1000));
	apic_write(&b, 0, LAPIC_LVT, VECTOR);
	assert_true(apic_rdmsr(&b, 0, MSR_TSC_DEADLINE, &v) && v == 0);
	board_step(&b, S);
	assert_false(apic_pending(&b, 0));
	board_fini(&b);
}

static void a_bad_vector_is_an_error(void **state)
{
	struct board b;

	setup(&b, 7);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000);
	board_step(&b, 1000);
	assert_false(apic_pending(&b, 0));
	apic_write(&b, 0, LAPIC_ESR, 0);
	assert_int_equal(apic_read(&b, 0, LAPIC_ESR), LAPIC_ESR_RECEIVED_VECTOR);
	board_fini(&b);
}

static void init_stops_it(void **state)
{
	struct board b;
	struct intc i;

	setup(&b, VECTOR | LVT_PERIODIC);
	i = irqchip_intc(b.chip);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000);
	i.ops->init(i.opaque, 0);
	assert_true(clock_icount_next(b.clock) == CLOCK_NEVER);
	assert_int_equal(apic_read(&b, 0, LAPIC_INITIAL_COUNT) | apic_read(&b, 0, LAPIC_DIVIDE), 0);
	board_fini(&b);
}

/* The host's time passes, and the clock's thread never comes. */
static void setup_on_host_time(struct board *b, uint32_t lvt)
{
	struct err err;

	board_init(b);
	clock_free(b->clock);
	b->clock = clock_new(b->loop, CLOCK_SOURCE_HOST, &err);
	assert_non_null(b->clock);
	clock_start(b->clock);
	make(b);
	apic_enable(b, 0);
	apic_write(b, 0, LAPIC_DIVIDE, 0xb);
	apic_write(b, 0, LAPIC_LVT, lvt);
}

/* What is read and written is right all the same. */
static void a_late_clock_thread_is_not_seen(void **state)
{
	struct board b;

	setup_on_host_time(&b, VECTOR);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000);
	usleep(100);
	assert_int_equal(count(&b), 0);
	assert_int_equal(apic_drain(&b, 0), 1);
	apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000);
	usleep(100);
	apic_write(&b, 0, LAPIC_LVT, VECTOR | LVT_PERIODIC); /* after its end: it does not begin again */
	assert_int_equal(count(&b), 0);
	assert_int_equal(apic_drain(&b, 0), 1);
	board_fini(&b);
}

/*
 * A guest that looks at the TSC before and after the count never finds them apart, however long its thread was not
 * running and whatever it changed meanwhile: both are the one clock of the machine.
 */
static void the_count_is_the_time_that_the_tsc_tells(void **state)
{
	static const unsigned sleeps[] = { 0, 100, 1900, 2100, 7000, 0, 10 };
	const uint64_t initial = 2000000;
	uint64_t started, armed, before, gone;
	struct board b;

	for (unsigned k = 0; k < 2; k++) {
		setup_on_host_time(&b, VECTOR | LVT_PERIODIC);
		started = clock_tsc(b.clock);
		apic_write(&b, 0, LAPIC_INITIAL_COUNT, (uint32_t)initial);
		armed = clock_tsc(b.clock);
		for (unsigned n = 0; n < 7 * 20; n++) {
			usleep(sleeps[n % 7]);
			/* The mode as it is, written again, changes nothing. */
			if (k)
				apic_write(&b, 0, LAPIC_LVT, VECTOR | LVT_PERIODIC | (n & 1 ? LVT_MASKED : 0));
			before = clock_tsc(b.clock) - armed;
			gone = initial - count(&b);
			/* Some time of the reading is that far in a period. */
			assert_in_range((gone + 1000 * initial - before) % initial, 0,
					clock_tsc(b.clock) - started - before);
		}
		/* As a one-shot it ends with the period, and stands. */
		apic_write(&b, 0, LAPIC_LVT, VECTOR);
		before = clock_tsc(b.clock);
		assert_in_range(count(&b), 0, initial);
		while (count(&b))
			;
		assert_true(clock_tsc(b.clock) - before <= initial + 1000 * MS);
		usleep(3000);
		assert_int_equal(count(&b), 0);
		board_fini(&b);
	}
}

/* --- saved state: each mode, armed --- */

static void it_moves_armed(void **state)
{
	static const uint32_t modes[] = { 0, LVT_PERIODIC, LVT_DEADLINE };

	for (unsigned k = 0; k < 3; k++) {
		struct board b, t;

		setup(&b, VECTOR | modes[k]);
		if (modes[k] == LVT_DEADLINE)
			assert_true(apic_wrmsr(&b, 0, MSR_TSC_DEADLINE, clock_tsc(b.clock) + 1000000));
		else
			apic_write(&b, 0, LAPIC_INITIAL_COUNT, 1000000);
		board_step(&b, 300000);
		board_migrate(&b, &t, make);
		assert_int_equal(count(&b), count(&t));
		assert_true(clock_icount_next(b.clock) == clock_icount_next(t.clock));
		board_step(&t, 699999);
		assert_int_equal(apic_drain(&t, 0), 0);
		board_step(&t, 1);
		assert_int_equal(apic_drain(&t, 0), 1);
		board_step(&t, 1000000);
		assert_int_equal(apic_drain(&t, 0), modes[k] == LVT_PERIODIC);
		board_fini(&b);
		board_fini(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_one_shot_fires_once),
		cmocka_unit_test(a_count_of_zero_stops_it),
		cmocka_unit_test(it_divides),
		cmocka_unit_test(a_new_divide_goes_on_from_the_count),
		cmocka_unit_test(a_periodic_one_goes_on),
		cmocka_unit_test(missed_periods_are_not_replayed),
		cmocka_unit_test(very_short_periods_do_not_keep_the_host_busy),
		cmocka_unit_test(the_tsc_deadline),
		cmocka_unit_test(a_change_of_mode_disarms),
		cmocka_unit_test(a_bad_vector_is_an_error),
		cmocka_unit_test(init_stops_it),
		cmocka_unit_test(a_late_clock_thread_is_not_seen),
		cmocka_unit_test(the_count_is_the_time_that_the_tsc_tells),
		cmocka_unit_test(it_moves_armed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
