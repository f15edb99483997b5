/* display/glyphs.c: characters of a picture, in any two colors, with a font that is nearly the BIOS's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "display/glyphs.h"

static uint8_t rom[8192], *const made = rom + 1000;
static struct screen_text text;

/* Glyphs that differ by many dots, with an A and a blank where they are looked for. */
static void make_font(void)
{
	static const uint8_t letter[] = {
		0, 0, 0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6, 0, 0, 0, 0
	};
	uint32_t seed = 1;

	for (unsigned n = 0; n < 256 * GLYPH_HEIGHT; n++) {
		seed = seed * 1664525 + 1013904223;
		made[n] = (uint8_t)(seed >> 24);
	}
	memset(made, 0, GLYPH_HEIGHT);
	memset(made + ' ' * GLYPH_HEIGHT, 0, GLYPH_HEIGHT);
	memcpy(made + 'A' * GLYPH_HEIGHT, letter, GLYPH_HEIGHT);
}

static void put(struct screen *s, unsigned column, unsigned row, unsigned code, const uint32_t color[2])
{
	for (unsigned y = 0; y < GLYPH_HEIGHT; y++)
		for (unsigned x = 0; x < 8; x++)
			s->pixels[(row * GLYPH_HEIGHT + y) * s->width + column * 8 + x] =
				color[made[code * GLYPH_HEIGHT + y] >> (7 - x) & 1];
}

static void the_font_is_found(void **state)
{
	make_font();
	assert_ptr_equal(glyphs_find(rom, sizeof(rom)), made);
	assert_null(glyphs_find(rom, 1000 + 256 * GLYPH_HEIGHT - 1));
	assert_null(glyphs_find(rom + 1001, 7000));
	made[' ' * GLYPH_HEIGHT] = 1;
	assert_null(glyphs_find(rom, sizeof(rom)));
}

static void characters_are_read(void **state)
{
	static const uint32_t colors[3][2] = { { 0, 0xaaaaaa }, { 0xffffff, 0 }, { 0x0000aa, 0xffff55 } };
	struct screen s = { 0 };
	char line[SCREEN_LINE_MAX];

	make_font();
	assert_true(screen_resize(&s, 20 * 8 + 5, 4 * GLYPH_HEIGHT + 3));
	for (unsigned n = 0; n < 5; n++)
		put(&s, 2 + n, 1, "HelAo"[n], colors[n % 3]);
	/* Some dots are others. */
	s.pixels[(GLYPH_HEIGHT + 3) * s.width + 17] ^= 0xaaaaaa;
	s.pixels[(GLYPH_HEIGHT + 9) * s.width + 19] ^= 0xaaaaaa;
	assert_true(glyphs_read(&s, made, &text));
	assert_int_equal(text.columns, 20);
	assert_int_equal(text.rows, 4);
	screen_line(&text, 1, line);
	assert_string_equal(line, "  HelAo");
	screen_line(&text, 0, line);
	assert_string_equal(line, "");
	/* A narrow form, and something that is nothing. */
	for (unsigned y = 0; y < 10; y++)
		for (unsigned x = 0; x < 8; x++)
			s.pixels[(y + 2) * s.width + 8 + x] =
				0x7e7e5a1818181818ull >> (63 - (y < 8 ? y : 7) * 8 - x) & 1;
	for (unsigned x = 0; x < 8; x++)
		for (unsigned y = 9; y < 12; y++)
			s.pixels[y * s.width + 8 + x] = y < 11 ? 0x18 >> (7 - x) & 1 : 0x3c >> (7 - x) & 1;
	for (unsigned n = 0; n < 8 * GLYPH_HEIGHT; n += 3)
		s.pixels[n / 8 * s.width + 24 + n % 8] = 7;
	/* The cursor, where there is nothing. */
	for (unsigned x = 0; x < 8; x++)
		s.pixels[14 * s.width + 40 + x] = s.pixels[15 * s.width + 40 + x] = 0xaaaaaa;
	assert_true(glyphs_read(&s, made, &text));
	screen_line(&text, 0, line);
	assert_string_equal(line, " T ■");
	screen_free(&s);
}

static void pictures_are_none(void **state)
{
	static const uint32_t colors[2] = { 0, 0xaaaaaa };
	struct screen s = { 0 };

	make_font();
	assert_true(screen_resize(&s, 160, 64));
	assert_false(glyphs_read(&s, made, &text));
	put(&s, 0, 0, 'A', colors);
	assert_true(glyphs_read(&s, made, &text));
	/* Three colors, and dots that are no glyph. */
	for (unsigned x = 0; x < 160; x++)
		s.pixels[40 * 160 + x] = x * 0x010101;
	assert_false(glyphs_read(&s, made, &text));
	assert_true(screen_resize(&s, 8 * 300, 64));
	put(&s, 0, 0, 'A', colors);
	assert_false(glyphs_read(&s, made, &text));
	screen_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_font_is_found),
		cmocka_unit_test(characters_are_read),
		cmocka_unit_test(pictures_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
