/* dev/i8042.c, ps2_keyboard.c, ps2_mouse.c: the controller's commands, scan codes of all sets, the mouse's protocols.
 */
#include "board.h"

#include <linux/input-event-codes.h>
#include <string.h>

#include "base/bytes.h"

static struct input_sink input;

static void make(struct board *b)
{
	const struct i8042_config c = {
		.bus = b->bus, .irq1 = board_line(b, 1), .irq12 = board_line(b, 12), .machine = board_control(b)
	};
	struct err err;

	board_add(b, i8042_new(&c, &input, &err));
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
}

/* All that there is to read, up to `len` bytes; a byte of the mouse has 100h. */
static unsigned drain(struct board *b, uint16_t *buf, unsigned len)
{
	unsigned n = 0;

	while (in8(b, 0x64) & 1 && n < len) {
		uint16_t aux = in8(b, 0x64) & 0x20 ? 0x100 : 0;

		buf[n++] = aux | in8(b, 0x60);
	}
	return n;
}

#define EXPECT(b, ...)                                                                                                 \
	do {                                                                                                           \
		static const uint16_t want_[] = { __VA_ARGS__ };                                                       \
		uint16_t got_[64] = { 0 };                                                                             \
		assert_int_equal(drain(b, got_, 64), ARRAY_LEN(want_));                                                \
		for (unsigned n_ = 0; n_ < ARRAY_LEN(want_); n_++)                                                     \
			assert_int_equal(got_[n_], want_[n_]);                                                         \
	} while (0)

static void nothing(struct board *b)
{
	assert_int_equal(in8(b, 0x64) & 1, 0);
}

static void command(struct board *b, uint8_t c, int byte)
{
	out8(b, 0x64, c);
	if (byte >= 0)
		out8(b, 0x60, (uint8_t)byte);
}

static void press(unsigned key)
{
	input.key(input.opaque, key, true);
}

static void let_go(unsigned key)
{
	input.key(input.opaque, key, false);
}

static void move(int dx, int dy, int dz, uint8_t buttons)
{
	const struct input_mouse m = { dx, dy, dz, buttons };

	input.mouse(input.opaque, &m);
}

static void to_mouse(struct board *b, uint8_t byte)
{
	command(b, 0xd4, byte);
}

/* --- the controller --- */

static void self_tests_and_memory(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(in8(&b, 0x64), 0x10);
	command(&b, 0xaa, -1);
	EXPECT(&b, 0x55);
	assert_int_equal(in8(&b, 0x64) & 4, 4);
	assert_int_equal(in8(&b, 0x64) & 8, 8); /* the last write was a command */
	command(&b, 0xab, -1);
	EXPECT(&b, 0x00);
	command(&b, 0xa9, -1);
	EXPECT(&b, 0x00);
	command(&b, 0x65, 0x42);
	assert_int_equal(in8(&b, 0x64) & 8, 0);
	command(&b, 0x25, -1);
	EXPECT(&b, 0x42);
	command(&b, 0x60, 0x30);
	command(&b, 0x20, -1);
	EXPECT(&b, 0x30);
	command(&b, 0xae, -1);
	command(&b, 0xa8, -1);
	command(&b, 0x20, -1);
	EXPECT(&b, 0x00);
	command(&b, 0xd2, 0x77); /* as if from the devices */
	EXPECT(&b, 0x77);
	command(&b, 0xd3, 0x78);
	EXPECT(&b, 0x178);
	nothing(&b);
	board_fini(&b);
}

static void reset_and_a20(void **state)
{
	struct board b;

	setup(&b);
	command(&b, 0xd0, -1);
	EXPECT(&b, 0xc3);
	command(&b, 0xdd, -1);
	command(&b, 0xd0, -1);
	EXPECT(&b, 0xc1);
	command(&b, 0xd1, 0xdf);
	command(&b, 0xd0, -1);
	EXPECT(&b, 0xcf);
	assert_int_equal(b.requests, 0);
	command(&b, 0xf1, -1);
	assert_int_equal(b.requests, 0);
	command(&b, 0xfe, -1);
	assert_int_equal(b.requests, 1);
	assert_int_equal(b.request, MACHINE_RESET);
	command(&b, 0xd1, 0xde);
	assert_int_equal(b.requests, 2);
	board_fini(&b);
}

static void interrupts(void **state)
{
	struct board b;

	setup(&b);
	press(KEY_A);
	assert_true(b.line[1].level);
	assert_false(b.line[12].level);
	press(KEY_B);
	assert_int_equal(b.line[1].rises, 1);
	in8(&b, 0x60);
	assert_int_equal(b.line[1].rises, 2); /* one for each byte */
	in8(&b, 0x60);
	assert_false(b.line[1].level);
	/* Masked: bytes come all the same. */
	command(&b, 0x60, 0);
	press(KEY_A);
	assert_false(b.line[1].level);
	EXPECT(&b, 0x1c);
	/* Both clocks are off until they are wanted. */
	command(&b, 0x60, 0x33);
	press(KEY_A);
	nothing(&b);
	command(&b, 0xae, -1);
	assert_true(b.line[1].level);
	EXPECT(&b, 0x1c);
	to_mouse(&b, 0xf4);
	assert_true(b.line[12].level);
	EXPECT(&b, 0x1fa);
	assert_false(b.line[12].level);
	board_fini(&b);
}

/* --- the keyboard --- */

static void scan_codes(void **state)
{
	struct board b;

	setup(&b);
	press(KEY_A);
	let_go(KEY_A);
	press(KEY_RIGHT);
	let_go(KEY_RIGHT);
	EXPECT(&b, 0x1c, 0xf0, 0x1c, 0xe0, 0x74, 0xe0, 0xf0, 0x74);
	press(KEY_F7);
	let_go(KEY_F7);
	press(KEY_PAUSE);
	let_go(KEY_PAUSE);
	EXPECT(&b, 0x83, 0xf0, 0x83, 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77);
	/* Translated, as every PC has it after its start. */
	command(&b, 0x60, 0x43);
	press(KEY_A);
	let_go(KEY_A);
	press(KEY_RIGHT);
	let_go(KEY_RIGHT);
	press(KEY_F7);
	let_go(KEY_F7);
	EXPECT(&b, 0x1e, 0x9e, 0xe0, 0x4d, 0xe0, 0xcd, 0x41, 0xc1);
	press(KEY_PAUSE);
	EXPECT(&b, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
	/* Every key that Linux counts as one of set 1 is that number. */
	for (uint8_t k = KEY_ESC; k <= KEY_KPDOT; k++) {
		uint16_t got[4];

		press(k);
		let_go(k);
		assert_int_equal(drain(&b, got, 4), 2);
		assert_int_equal(got[0], k);
		assert_int_equal(got[1], k | 0x80);
	}
	board_fini(&b);
}

static void keyboard_set(struct board *b, uint8_t set)
{
	out8(b, 0x60, 0xf0);
	out8(b, 0x60, set);
	EXPECT(b, 0xfa, 0xfa);
}

static void the_other_sets(void **state)
{
	struct board b;

	setup(&b);
	keyboard_set(&b, 1);
	press(KEY_RIGHTCTRL);
	let_go(KEY_RIGHTCTRL);
	EXPECT(&b, 0xe0, 0x1d, 0xe0, 0x9d);
	keyboard_set(&b, 3);
	out8(&b, 0x60, 0xf0);
	out8(&b, 0x60, 0);
	EXPECT(&b, 0xfa, 0xfa, 3);
	/* Letters repeat and have no release, shift has one and does not repeat. */
	press(KEY_A);
	press(KEY_A);
	let_go(KEY_A);
	press(KEY_LEFTSHIFT);
	press(KEY_LEFTSHIFT);
	let_go(KEY_LEFTSHIFT);
	press(KEY_F1);
	EXPECT(&b, 0x1c, 0x1c, 0x12, 0xf0, 0x12, 0x07);
	out8(&b, 0x60, 0xfa); /* all make, break, typematic */
	EXPECT(&b, 0xfa);
	press(KEY_RIGHT);
	press(KEY_RIGHT);
	let_go(KEY_RIGHT);
	EXPECT(&b, 0x6a, 0x6a, 0xf0, 0x6a);
	out8(&b, 0x60, 0xfd); /* this key: make only */
	out8(&b, 0x60, 0x6a);
	out8(&b, 0x60, 0xee);
	EXPECT(&b, 0xfa, 0xfa, 0xee);
	press(KEY_RIGHT);
	press(KEY_RIGHT);
	let_go(KEY_RIGHT);
	EXPECT(&b, 0x6a);
	out8(&b, 0x60, 0xf0);
	out8(&b, 0x60, 4);
	EXPECT(&b, 0xfa, 0xfe);
	board_fini(&b);
}

static void keyboard_commands(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, 0x60, 0xff);
	EXPECT(&b, 0xfa, 0xaa);
	out8(&b, 0x60, 0xfe); /* again */
	EXPECT(&b, 0xaa);
	out8(&b, 0x60, 0xf2);
	EXPECT(&b, 0xfa, 0xab, 0x83);
	out8(&b, 0x60, 0xed);
	out8(&b, 0x60, 0x07);
	EXPECT(&b, 0xfa, 0xfa);
	out8(&b, 0x60, 0xf3); /* given up for another one */
	out8(&b, 0x60, 0xee);
	EXPECT(&b, 0xfa, 0xee);
	out8(&b, 0x60, 0xf5);
	EXPECT(&b, 0xfa);
	press(KEY_A);
	nothing(&b);
	out8(&b, 0x60, 0xf4);
	EXPECT(&b, 0xfa);
	press(KEY_A);
	EXPECT(&b, 0x1c);
	out8(&b, 0x60, 0x10);
	EXPECT(&b, 0xfe);
	board_fini(&b);
}

static void what_is_not_read_is_bounded(void **state)
{
	uint16_t got[1000];
	struct board b;
	unsigned bytes;

	setup(&b);
	for (unsigned n = 0; n < 1000; n++)
		press(KEY_RIGHT);
	/* Whole codes only: those in 16 bytes, of which one is in the buffer, and 128 that wait. */
	bytes = drain(&b, got, 1000);
	assert_int_equal(bytes, 16 + 2 * 128);
	for (unsigned n = 0; n < bytes; n++)
		assert_int_equal(got[n], n & 1 ? 0x74 : 0xe0);
	for (unsigned n = 0; n < 1000; n++)
		out8(&b, 0x60, 0xf2);
	assert_true(drain(&b, got, 64) <= 33);
	board_fini(&b);
}

/* --- the mouse --- */

static void mouse_packets(void **state)
{
	struct board b;

	setup(&b);
	to_mouse(&b, 0xff);
	EXPECT(&b, 0x1fa, 0x1aa, 0x100);
	move(5, 5, 0, 0);
	nothing(&b); /* not before it is told to */
	to_mouse(&b, 0xf4);
	EXPECT(&b, 0x1fa);
	move(5, 3, 0, INPUT_LEFT);
	EXPECT(&b, 0x129, 0x105, 0x1fd);
	move(0, 0, 0, INPUT_LEFT);
	nothing(&b);
	move(0, 0, 0, INPUT_RIGHT | INPUT_MIDDLE);
	EXPECT(&b, 0x10e, 0x100, 0x100);
	/* What does not fit into one packet comes in several; more than anybody moves is forgotten. */
	move(-300, 0, 0, 0);
	EXPECT(&b, 0x118, 0x101, 0x100, 0x118, 0x1d3, 0x100);
	for (unsigned n = 0; n < 10000; n++)
		move(1 << 30, 1 << 30, 1 << 30, 0);
	for (unsigned n = 0; in8(&b, 0x64) & 1; n++) {
		assert_true(n < 200);
		in8(&b, 0x60);
	}
	board_fini(&b);
}

static void rates(struct board *b, uint8_t first, uint8_t second)
{
	const uint8_t r[] = { first, second, 80 };

	for (unsigned n = 0; n < 3; n++) {
		to_mouse(b, 0xf3);
		to_mouse(b, r[n]);
		EXPECT(b, 0x1fa, 0x1fa);
	}
	to_mouse(b, 0xf2);
}

static void wheels_and_more_buttons(void **state)
{
	struct board b;

	setup(&b);
	rates(&b, 100, 100);
	EXPECT(&b, 0x1fa, 0x100);
	rates(&b, 200, 100);
	EXPECT(&b, 0x1fa, 0x103);
	to_mouse(&b, 0xf4);
	EXPECT(&b, 0x1fa);
	move(0, 0, -1, 0);
	EXPECT(&b, 0x108, 0x100, 0x100, 0x1ff);
	rates(&b, 200, 200);
	EXPECT(&b, 0x1fa, 0x104);
	move(0, 0, 2, INPUT_EXTRA);
	EXPECT(&b, 0x108, 0x100, 0x100, 0x122);
	to_mouse(&b, 0xff);
	EXPECT(&b, 0x1fa, 0x1aa, 0x100);
	to_mouse(&b, 0xf2);
	EXPECT(&b, 0x1fa, 0x100);
	board_fini(&b);
}

static void mouse_modes(void **state)
{
	struct board b;

	setup(&b);
	to_mouse(&b, 0xf0);
	EXPECT(&b, 0x1fa);
	to_mouse(&b, 0xf4);
	EXPECT(&b, 0x1fa);
	move(7, 0, 0, INPUT_LEFT);
	nothing(&b);
	to_mouse(&b, 0xeb);
	EXPECT(&b, 0x1fa, 0x109, 0x107, 0x100);
	to_mouse(&b, 0xe8);
	to_mouse(&b, 3);
	to_mouse(&b, 0xe7);
	EXPECT(&b, 0x1fa, 0x1fa); /* a command drops what was not read but for the controller's byte */
	to_mouse(&b, 0xe9);
	EXPECT(&b, 0x1fa, 0x174, 0x103, 0x164);
	to_mouse(&b, 0xee);
	to_mouse(&b, 0x42);
	EXPECT(&b, 0x1fa, 0x142);
	to_mouse(&b, 0xec);
	EXPECT(&b, 0x1fa);
	to_mouse(&b, 0xea);
	EXPECT(&b, 0x1fa);
	move(4, 0, 0, INPUT_LEFT); /* 2:1 */
	EXPECT(&b, 0x109, 0x106, 0x100);
	to_mouse(&b, 0x01);
	EXPECT(&b, 0x1fe);
	board_fini(&b);
}

/* --- names and saved states --- */

static void every_name_is_a_key(void **state)
{
	struct board b;
	const char *name;

	setup(&b);
	assert_int_equal(input_key("ctrl"), KEY_LEFTCTRL);
	assert_int_equal(input_key("none"), 0);
	for (unsigned n = 0; (name = input_key_name(n)) != NULL; n++) {
		uint16_t got[16];

		assert_in_range(input_key(name), 1, INPUT_KEYS - 1);
		press(input_key(name));
		assert_in_range(drain(&b, got, 16), 1, 8);
		let_go(input_key(name));
		drain(&b, got, 16);
	}
	press(INPUT_KEYS);
	nothing(&b);
	board_fini(&b);
}

static void use(struct board *b)
{
	for (unsigned n = 0; n < 256; n++) {
		press(n);
		out8(b, 0x60, (uint8_t)n);
		to_mouse(b, (uint8_t)n);
		command(b, (uint8_t)n, (int)n);
		in8(b, 0x60);
		move((int)n, -(int)n, 1, (uint8_t)n);
	}
}

static void saved_states(void **state)
{
	struct board a, b;

	setup(&a);
	keyboard_set(&a, 3);
	to_mouse(&a, 0xf4);
	EXPECT(&a, 0x1fa);
	press(KEY_A);
	press(KEY_B);
	for (unsigned n = 0; n < 20; n++)
		press(KEY_C);
	move(3, 0, 0, 0);
	board_migrate(&a, &b, make);
	assert_true(b.line[1].level);
	EXPECT(&b, 0x1c, 0x32, 0x21, 0x21, 0x21, 0x21, 0x21, 0x21, 0x21, 0x21, 0x21, 0x21, 0x21, 0x21, 0x21, 0x21, 0x21,
	       0x21, 0x21, 0x21, 0x21, 0x21, 0x108, 0x103, 0x100);
	board_mutate(&a, use);
	board_reset(&a);
	nothing(&a);
	board_fini(&a);
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(self_tests_and_memory),
		cmocka_unit_test(reset_and_a20),
		cmocka_unit_test(interrupts),
		cmocka_unit_test(scan_codes),
		cmocka_unit_test(the_other_sets),
		cmocka_unit_test(keyboard_commands),
		cmocka_unit_test(what_is_not_read_is_bounded),
		cmocka_unit_test(mouse_packets),
		cmocka_unit_test(wheels_and_more_buttons),
		cmocka_unit_test(mouse_modes),
		cmocka_unit_test(every_name_is_a_key),
		cmocka_unit_test(saved_states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
