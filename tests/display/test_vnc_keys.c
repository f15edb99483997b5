/* display/vnc_keys.c and the characters of base/input.c: what viewers and people type, as keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/input-event-codes.h>

#include "base/input.h"
#include "display/vnc.h"

static void keysyms_are_keys(void **state)
{
	static const struct {
		uint32_t keysym;
		unsigned key;
	} some[] = {
		{ 'a', KEY_A },
		{ 'A', KEY_A },
		{ '1', KEY_1 },
		{ '!', KEY_1 },
		{ '~', KEY_GRAVE },
		{ ' ', KEY_SPACE },
		{ 0xff0d, KEY_ENTER },
		{ 0xff1b, KEY_ESC },
		{ 0xff50, KEY_HOME },
		{ 0xff57, KEY_END },
		{ 0xffbe, KEY_F1 },
		{ 0xffc8, KEY_F11 },
		{ 0xffc9, KEY_F12 },
		{ 0xffe1, KEY_LEFTSHIFT },
		{ 0xffea, KEY_RIGHTALT },
		{ 0xfe20, KEY_TAB },
		{ 0xffff, KEY_DELETE },
		{ 0xffb9, KEY_KP9 },
		{ 0xff9f, KEY_KPDOT },
		{ 0xff9e, KEY_KP0 },
		{ 0xffaf, KEY_KPSLASH },
		{ 0xff67, KEY_COMPOSE },
		{ 0xff58, 0 },
		{ 0x7f, 0 },
		{ 0x1f, 0 },
		{ 0xe4, 0 },
		{ 0xffe6, 0 },
		{ 0xffffffff, 0 },
	};

	for (size_t n = 0; n < sizeof(some) / sizeof(some[0]); n++)
		assert_int_equal(vnc_key(some[n].keysym), some[n].key);
	for (uint32_t n = 0; n < 0x20000; n++)
		assert_true(vnc_key(n) < INPUT_KEYS);
}

static void characters_are_keys(void **state)
{
	unsigned with = 0, without = 0;
	bool shift;

	assert_int_equal(input_char('\n', &shift), KEY_ENTER);
	assert_false(shift);
	assert_int_equal(input_char('"', &shift), KEY_APOSTROPHE);
	assert_true(shift);
	assert_int_equal(input_char('Z', &shift), KEY_Z);
	assert_true(shift);
	assert_int_equal(input_char(0, &shift), 0);
	assert_int_equal(input_char('\r', &shift), 0);
	assert_int_equal(input_char((char)0xe1, &shift), 0);
	for (int c = 0x20; c < 0x7f; c++) {
		assert_int_not_equal(input_char((char)c, &shift), 0);
		with += shift;
		without += !shift;
	}
	/* 47 keys have two characters each, and there is the blank. */
	assert_int_equal(with, 47);
	assert_int_equal(without, 48);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keysyms_are_keys),
		cmocka_unit_test(characters_are_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
