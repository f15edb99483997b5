/* dev/ports.c and dev/pc_testdev.c: fast reset, the exit port, the debug console, the ports of test suites. */
#include "board.h"

#include <string.h>

#include "dev/testdevs.h"

struct text {
	char b[64];
	size_t n, room;
};

static size_t take(void *opaque, const void *buf, size_t len)
{
	struct text *t = opaque;
	size_t n = len < t->room ? len : t->room;

	memcpy(t->b + t->n, buf, n);
	t->n += n;
	t->room -= n;
	return n;
}

static struct text text;

static void make(struct board *b)
{
	const struct machine_control m = board_control(b);
	const struct char_sink sink = { take, &text };
	struct irq_line lines[PC_TESTDEV_LINES];
	struct err err;

	for (unsigned n = 0; n < PC_TESTDEV_LINES; n++)
		lines[n] = board_line(b, n);
	text = (struct text){ .room = sizeof(text.b) };
	board_add(b, port92_new(b->bus, &m, &err));
	board_add(b, debug_exit_new(b->bus, 0x501, &m, &err));
	board_add(b, debugcon_new(b->bus, 0xe9 - 0x10, &sink, &err));
	board_add(b, pc_testdev_new(b->bus, lines, &err));
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
}

#define DEBUGCON 0xd9

static void port_92_resets_and_keeps_a20_on(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(in8(&b, 0x92), 0x02);
	out8(&b, 0x92, 0x00);
	assert_int_equal(in8(&b, 0x92) & 3, 0x02);
	assert_int_equal(b.requests, 0);
	out8(&b, 0x92, 0x03);
	assert_int_equal(b.requests, 1);
	assert_int_equal(b.request, MACHINE_RESET);
	assert_int_equal(in8(&b, 0x92) & 1, 0);
	board_fini(&b);
}

static void debug_exit_ends_with_an_odd_status(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(board_in(&b, 0x501, 4), 0);
	for (unsigned size = 1; size <= 4; size *= 2) {
		board_out(&b, 0x501, size, 0x10 + size);
		assert_int_equal(b.request, MACHINE_EXIT);
		assert_int_equal(b.status, 2 * (0x10 + size) + 1);
	}
	assert_int_equal(b.requests, 3);
	board_out(&b, 0x501, 4, 0xffffffff); /* what a process can say */
	assert_int_equal(b.status, 0xff);
	board_fini(&b);
}

static void debugcon_takes_bytes(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(in8(&b, DEBUGCON), 0xe9);
	for (const char *s = "hello"; *s; s++)
		out8(&b, DEBUGCON, (uint8_t)*s);
	assert_memory_equal(text.b, "hello", 5);
	text.room = 0;
	out8(&b, DEBUGCON, '!'); /* a host that is full loses it; the guest does not wait */
	assert_int_equal(text.n, 5);
	board_fini(&b);
}

static void pc_testdev_drives_lines_and_keeps_memory(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, 0x2000 + 11, 1);
	assert_true(b.line[11].level);
	out8(&b, 0x2000 + 11, 0);
	assert_false(b.line[11].level);
	board_out(&b, 0xe0, 4, 0x11223344);
	assert_int_equal(board_in(&b, 0xe8, 4), 0x11223344);
	assert_int_equal(board_in(&b, 0xe2, 2), 0x1122);
	board_write(&b, 0xff000100, 8, 0x8877665544332211);
	assert_true(board_read(&b, 0xff000103, 4) == 0x77665544);
	board_fini(&b);
}

/* What was not asked for is not there. */
static void absent_devices_answer_nothing(void **state)
{
	static const uint16_t ports[] = { 0x501,  0xe9, DEBUGCON, 0xe0, 0xe4,  0x2000,
					  0x2017, 0x92, 0x60,	  0x64, 0x1f0, 0x3c0 };
	struct board b;

	board_init(&b);
	for (unsigned k = 0; k < sizeof(ports) / sizeof(ports[0]); k++) {
		uint64_t v;

		assert_false(bus_write(b.bus, BUS_PORT, ports[k], 1, 1));
		assert_false(bus_read(b.bus, BUS_PORT, ports[k], 1, &v));
		assert_int_equal(v, 0xff);
	}
	assert_int_equal(b.requests, 0);
	board_fini(&b);
}

static void taken_ports_are_refused(void **state)
{
	struct board b;
	struct err err;
	const struct machine_control m = { 0 };
	const struct char_sink sink = { 0 };

	setup(&b);
	assert_null(debug_exit_new(b.bus, 0x8f, &m, &err));
	assert_non_null(strstr(err.msg, "port92"));
	assert_null(debugcon_new(b.bus, 0x502, &sink, &err));
	assert_non_null(strstr(err.msg, "isa-debug-exit"));
	assert_null(port92_new(b.bus, &m, &err));
	board_fini(&b);
}

static void they_move(void **state)
{
	struct board b, t;

	setup(&b);
	out8(&b, 0x92, 0x40);
	out8(&b, 0x2000 + 3, 1);
	board_out(&b, 0xe0, 4, 0x11223344);
	board_migrate(&b, &t, make);
	assert_int_equal(in8(&t, 0x92), in8(&b, 0x92));
	assert_int_equal(board_in(&t, 0xe0, 4), 0x11223344);
	assert_int_equal(in8(&t, 0x2003), 1);
	board_reset(&t);
	assert_int_equal(in8(&t, 0x92), 0x02);
	assert_int_equal(board_in(&t, 0xe0, 4), 0);
	board_fini(&b);
	board_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(port_92_resets_and_keeps_a20_on),
		cmocka_unit_test(debug_exit_ends_with_an_odd_status),
		cmocka_unit_test(debugcon_takes_bytes),
		cmocka_unit_test(pc_testdev_drives_lines_and_keeps_memory),
		cmocka_unit_test(absent_devices_answer_nothing),
		cmocka_unit_test(taken_ports_are_refused),
		cmocka_unit_test(they_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
