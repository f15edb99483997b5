/* display/glyphs.c, fonts.c: characters of a picture, in any two colors, with fonts of a BIOS, EDK II and GRUB. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "display/glyphs.h"

#define GLYPH_HEIGHT 16u

static uint8_t rom[8192], *const made = rom + 1000;
static struct screen_text text;
static struct font font;
static const struct glyph_place corner;

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
	assert_true(font_of_bios(&font, rom, sizeof(rom)));
	assert_int_equal(font.height, 16);
	assert_int_equal(font.glyph['A'].dots.word[0] >> 16 & 0xffffff, 0x6c3810);
	assert_false(font_of_bios(&font, rom, 1000 + 256 * GLYPH_HEIGHT - 1));
	assert_false(font_of_bios(&font, rom + 1001, 7000));
	made[' ' * GLYPH_HEIGHT] = 1;
	assert_false(font_of_bios(&font, rom, sizeof(rom)));
}

static void characters_are_read(void **state)
{
	static const uint32_t colors[3][2] = { { 0, 0xaaaaaa }, { 0xffffff, 0 }, { 0x0000aa, 0xffff55 } };
	struct screen s = { 0 };
	char line[SCREEN_LINE_MAX];

	make_font();
	assert_true(font_of_bios(&font, rom, sizeof(rom)));
	assert_true(screen_resize(&s, 20 * 8 + 5, 4 * GLYPH_HEIGHT + 3));
	for (unsigned n = 0; n < 5; n++)
		put(&s, 2 + n, 1, "HelAo"[n], colors[n % 3]);
	/* Some dots are others. */
	s.pixels[(GLYPH_HEIGHT + 3) * s.width + 17] ^= 0xaaaaaa;
	s.pixels[(GLYPH_HEIGHT + 9) * s.width + 19] ^= 0xaaaaaa;
	assert_true(glyphs_read(&s, &font, corner, &text));
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
	assert_true(glyphs_read(&s, &font, corner, &text));
	screen_line(&text, 0, line);
	assert_string_equal(line, " T ■");
	screen_free(&s);
}

static void pictures_are_none(void **state)
{
	static const uint32_t colors[2] = { 0, 0xaaaaaa };
	struct screen s = { 0 };

	make_font();
	assert_true(font_of_bios(&font, rom, sizeof(rom)));
	assert_true(screen_resize(&s, 160, 64));
	assert_false(glyphs_read(&s, &font, corner, &text));
	put(&s, 0, 0, 'A', colors);
	assert_true(glyphs_read(&s, &font, corner, &text));
	/* Three colors, and dots that are no glyph. */
	for (unsigned x = 0; x < 160; x++)
		s.pixels[40 * 160 + x] = x * 0x010101;
	assert_false(glyphs_read(&s, &font, corner, &text));
	assert_true(screen_resize(&s, 8 * 300, 64));
	put(&s, 0, 0, 'A', colors);
	assert_false(glyphs_read(&s, &font, corner, &text));
	screen_free(&s);
}

/* --- other fonts --- */

/* A glyph of 8 dots for each of these, and its picture: a frame about the bits of its code. */
static uint8_t row_of(unsigned code, unsigned y, unsigned height)
{
	if (code == ' ' || !y || y + 1 >= height)
		return 0;
	return (uint8_t)(y == 1 || y == height - 2 ? 0x7e : 0x42 | (code >> y % 8 & 1 ? 0x24 : 0x08));
}

static void draw(struct screen *s, struct glyph_place at, const char *line, unsigned height)
{
	for (unsigned n = 0; line[n]; n++)
		for (unsigned y = 0; y < height; y++)
			for (unsigned x = 0; x < 8; x++)
				s->pixels[(at.y + y) * s->width + at.x + n * 8 + x] =
					row_of((unsigned char)line[n], y, height) >> (7 - x) & 1 ? 0x989898 : 0;
}

static void cursor(struct screen *s, unsigned x, unsigned y, unsigned lines)
{
	for (unsigned n = 0; n < 8 * lines; n++)
		s->pixels[(y + n / 8) * s->width + x + n % 8] = 0x989898;
}

#define EDK2_AT 777u
static uint8_t memory[EDK2_AT + 97 * 22];

static void make_edk2(void)
{
	memset(memory, 0, sizeof(memory));
	for (unsigned c = ' '; c < 0x7f; c++) {
		st_le16(memory + EDK2_AT + (c - ' ') * 22, (uint16_t)c);
		for (unsigned y = 0; y < 19; y++)
			memory[EDK2_AT + (c - ' ') * 22 + 3 + y] = row_of(c, y, 19);
	}
	st_le16(memory + EDK2_AT + 95 * 22, 0x2191);
	memory[EDK2_AT + 95 * 22 + 8] = 0x10;
}

static void the_font_of_edk2_is_in_memory(void **state)
{
	const struct glyph_place at = { 4, 5 };
	struct screen s = { 0 };
	char line[SCREEN_LINE_MAX];

	make_edk2();
	assert_int_equal(font_find_edk2(memory, sizeof(memory), 0), EDK2_AT);
	assert_int_equal(font_find_edk2(memory, sizeof(memory), EDK2_AT + 1), sizeof(memory));
	assert_int_equal(font_find_edk2(memory, EDK2_AT + 24, 0), EDK2_AT + 24);
	assert_int_equal(font_find_edk2(memory, 10, 11), 10);
	assert_true(font_of_edk2(&font, memory + EDK2_AT, sizeof(memory) - EDK2_AT));
	assert_int_equal(font.count, 96);
	assert_true(screen_resize(&s, 200, 80));
	draw(&s, (struct glyph_place){ at.x + 16, at.y + 19 }, "Shell> x", 19);
	/* A cursor of three lines, on nothing and on a letter. */
	cursor(&s, at.x + 96, at.y + 19 + 16, 3);
	cursor(&s, at.x + 24, at.y + 19 + 15, 3);
	assert_true(glyphs_read(&s, &font, at, &text));
	assert_int_equal(text.columns, 24);
	assert_int_equal(text.rows, 3);
	screen_line(&text, 1, line);
	/* What the cursor hides is gone: this letter has lost its last line. */
	assert_string_equal(line, "  S■ell> x");
	assert_false(glyphs_read(&s, &font, (struct glyph_place){ 0, 5 }, &text));
	assert_false(glyphs_read(&s, &font, (struct glyph_place){ 201, 81 }, &text));
	screen_free(&s);
	/* Too few of them. */
	st_le16(memory + EDK2_AT + 60 * 22, 0);
	assert_false(font_of_edk2(&font, memory + EDK2_AT, sizeof(memory) - EDK2_AT));
}

static uint8_t file[65536];
static size_t file_len;

static uint8_t *section(const char *name, uint32_t len)
{
	uint8_t *body = file + file_len + 8;

	memcpy(file + file_len, name, 4);
	st_be32(file + file_len + 4, len);
	file_len += 8 + len;
	return body;
}

/* Printable ASCII without its margins, a heavy corner, one that is wide, and one that says it is packed. */
static void make_grub(void)
{
	uint8_t *index, *g;
	unsigned n = 0;

	memset(file, 0, sizeof(file));
	file_len = 0;
	memcpy(section("FILE", 4), "PFF2", 4);
	memcpy(section("NAME", 5), "Some", 5);
	st_be16(section("ASCE", 2), 14);
	st_be16(section("DESC", 2), 2);
	index = section("CHIX", 98 * 9);
	section("DATA", 0);
	st_be32(file + file_len - 4, UINT32_MAX);
	for (unsigned c = ' '; c < 0x7f + 3; c++) {
		unsigned code = c < 0x7f ? c : c == 0x7f ? 0x250f : c == 0x80 ? 0x2190 : 0x2192;

		st_be32(index + n * 9, code);
		index[n * 9 + 4] = code == 0x2192;
		st_be32(index + n++ * 9 + 5, (uint32_t)file_len);
		g = file + file_len;
		st_be16(g, 6);
		st_be16(g + 2, 14);
		st_be16(g + 4, 1);
		st_be16(g + 6, (uint16_t)-1);
		st_be16(g + 8, code == 0x2190 ? 16 : 8);
		for (unsigned bit = 0; bit < 6 * 14; bit++)
			if (row_of(code, bit / 6 + 1, 16) & 0x40 >> bit % 6)
				g[10 + bit / 8] |= (uint8_t)(0x80 >> bit % 8);
		file_len += 10 + 11;
	}
}

static void a_font_of_grub_is_a_file(void **state)
{
	const struct glyph_place at = { 10, 10 };
	struct screen s = { 0 };
	char line[SCREEN_LINE_MAX];

	make_grub();
	assert_true(font_of_grub(&font, file, file_len));
	assert_int_equal(font.height, 16);
	assert_int_equal(font.count, 96);
	assert_int_equal(font.glyph[95].code, 0xda);
	assert_true(screen_resize(&s, 200, 60));
	draw(&s, at, "grub> boot", 16);
	cursor(&s, at.x + 88, at.y + 14, 2);
	assert_true(glyphs_read(&s, &font, at, &text));
	screen_line(&text, 0, line);
	assert_string_equal(line, "grub> boot");
	screen_free(&s);
}

/* Whatever bytes there are: nothing is read that is not there. */
static void fonts_that_lie(void **state)
{
	uint32_t seed = 1;

	for (unsigned n = 0; n < 20000; n++) {
		uint8_t *copy;
		size_t len;

		if (n % 2)
			make_grub();
		else
			make_edk2();
		for (unsigned k = 0; k < 1 + n % 5; k++) {
			seed = seed * 1664525 + 1013904223;
			if (n % 2)
				file[(seed >> 8) % (n % 4 == 1 ? 1000 : file_len)] = (uint8_t)(seed >> 24 | n % 3);
			else
				memory[EDK2_AT + (seed >> 8) % (97 * 22)] = (uint8_t)(seed >> 24);
		}
		len = n % 2 ? file_len : sizeof(memory) - EDK2_AT;
		len = n % 7 ? len : (seed >> 4) % len;
		copy = malloc(len + 1);
		assert_non_null(copy);
		memcpy(copy, n % 2 ? file : memory + EDK2_AT, len);
		(void)(n % 2 ? font_of_grub(&font, copy, len) : font_of_edk2(&font, copy, len));
		assert_in_range(font.count, 0, FONT_GLYPHS_MAX);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_font_is_found),	    cmocka_unit_test(characters_are_read),
		cmocka_unit_test(pictures_are_none),	    cmocka_unit_test(the_font_of_edk2_is_in_memory),
		cmocka_unit_test(a_font_of_grub_is_a_file), cmocka_unit_test(fonts_that_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
