/* See glyphs.h. */
#include "display/glyphs.h"

#include <string.h>

#define WIDTH	  8u
#define COUNT	  256u
#define MOST_OFF  6u /* dots in which a glyph may differ from these */
#define SPACE	  0x20u
#define UNKNOWN	  0xfeu /* a small square */
#define KNOWN_PCT 80u	/* of the cells that are not empty */

/* Of some characters a BIOS has a form that is nine dots wide; a console of eight has these. Rows 1 to 11. */
static const struct {
	char code;
	uint8_t row[11];
} narrow[] = {
	{ '0', { 0, 0x38, 0x6c, 0xc6, 0xc6, 0xd6, 0xd6, 0xc6, 0xc6, 0x6c, 0x38 } },
	{ 'M', { 0, 0xc6, 0xee, 0xfe, 0xfe, 0xd6, 0xc6, 0xc6, 0xc6, 0xc6, 0xc6 } },
	{ 'T', { 0, 0x7e, 0x7e, 0x5a, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x3c } },
	{ 'V', { 0, 0xc6, 0xc6, 0xc6, 0xc6, 0xc6, 0xc6, 0xc6, 0x6c, 0x38, 0x10 } },
	{ 'W', { 0, 0xc6, 0xc6, 0xc6, 0xc6, 0xd6, 0xd6, 0xd6, 0xfe, 0xee, 0x6c } },
	{ 'X', { 0, 0xc6, 0xc6, 0x6c, 0x7c, 0x38, 0x38, 0x7c, 0x6c, 0xc6, 0xc6 } },
	{ 'Y', { 0, 0x66, 0x66, 0x66, 0x66, 0x3c, 0x18, 0x18, 0x18, 0x18, 0x3c } },
	{ 'Z', { 0, 0xfe, 0xc6, 0x86, 0x0c, 0x18, 0x30, 0x60, 0xc2, 0xc6, 0xfe } },
	{ 'f', { 0, 0x1c, 0x36, 0x32, 0x30, 0x78, 0x30, 0x30, 0x30, 0x30, 0x78 } },
	{ 'm', { 0, 0, 0, 0, 0xec, 0xfe, 0xd6, 0xd6, 0xd6, 0xd6, 0xc6 } },
	{ 'v', { 0, 0, 0, 0, 0xc6, 0xc6, 0xc6, 0xc6, 0xc6, 0x6c, 0x38 } },
	{ 'w', { 0, 0, 0, 0, 0xc6, 0xc6, 0xd6, 0xd6, 0xd6, 0xfe, 0x6c } },
	{ 'x', { 0, 0, 0, 0, 0xc6, 0x6c, 0x38, 0x38, 0x38, 0x6c, 0xc6 } },
	{ '~', { 0x76, 0xdc } },
};
#define NARROW (sizeof(narrow) / sizeof(narrow[0]))

const uint8_t *glyphs_find(const uint8_t *rom, size_t len)
{
	static const uint8_t letter[GLYPH_HEIGHT] = { 0,    0,	  0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe,
						      0xc6, 0xc6, 0xc6, 0xc6, 0,    0,	  0,	0 };
	static const uint8_t blank[GLYPH_HEIGHT];
	const size_t before = 'A' * GLYPH_HEIGHT;

	for (size_t at = before; at + (COUNT - 'A') * GLYPH_HEIGHT <= len; at++)
		if (!memcmp(rom + at, letter, sizeof(letter)) &&
		    !memcmp(rom + at - ('A' - SPACE) * GLYPH_HEIGHT, blank, sizeof(blank)))
			return rom + at - before;
	return NULL;
}

struct dots {
	uint64_t half[2]; /* a row a byte, from the top */
};

static unsigned differ(const struct dots *a, const struct dots *b)
{
	return (unsigned)(__builtin_popcountll(a->half[0] ^ b->half[0]) +
			  __builtin_popcountll(a->half[1] ^ b->half[1]));
}

struct glyph {
	struct dots dots;
	uint8_t code;
};

enum cell_kind { CELL_EMPTY, CELL_DOTS, CELL_PICTURE };

/* The dots of a cell that differ from its first one; with three colors it is no character. */
static enum cell_kind take_cell(const struct screen *s, unsigned column, unsigned row, struct dots *d)
{
	const uint32_t *p = s->pixels + (size_t)row * GLYPH_HEIGHT * s->width + column * WIDTH;
	uint32_t first = p[0], second = first;

	*d = (struct dots){ { 0, 0 } };
	for (unsigned y = 0; y < GLYPH_HEIGHT; y++, p += s->width) {
		for (unsigned x = 0; x < WIDTH; x++) {
			if (p[x] == first)
				continue;
			if (second == first)
				second = p[x];
			if (p[x] != second)
				return CELL_PICTURE;
			d->half[y / 8] |= 1ull << (y % 8 * 8 + (WIDTH - 1 - x));
		}
	}
	return second == first ? CELL_EMPTY : CELL_DOTS;
}

/* The glyph that is nearest, either color being the paper; -1: none is near. */
static int recognize(const struct dots *cell, const struct glyph *known)
{
	const struct dots other = { { ~cell->half[0], ~cell->half[1] } };
	unsigned best = MOST_OFF + 1;
	int found = -1;

	for (unsigned n = 0; n < COUNT + NARROW; n++) {
		unsigned a = differ(cell, &known[n].dots), b = differ(&other, &known[n].dots);

		a = a < b ? a : b;
		if (a >= best)
			continue;
		best = a;
		found = known[n].code;
	}
	return found;
}

static void put_row(struct dots *d, unsigned y, uint8_t row)
{
	d->half[y / 8] |= (uint64_t)row << y % 8 * 8;
}

static void take_font(const uint8_t *font, struct glyph known[COUNT + NARROW])
{
	memset(known, 0, (COUNT + NARROW) * sizeof(*known));
	for (unsigned n = 0; n < COUNT + NARROW; n++) {
		bool wide = n < COUNT;

		known[n].code = wide ? (uint8_t)n : (uint8_t)narrow[n - COUNT].code;
		for (unsigned y = 0; y < (wide ? GLYPH_HEIGHT : 11u); y++)
			put_row(&known[n].dots, wide ? y : y + 1,
				wide ? font[n * GLYPH_HEIGHT + y] : narrow[n - COUNT].row[y]);
	}
}

bool glyphs_read(const struct screen *s, const uint8_t *font, struct screen_text *t)
{
	struct glyph font_glyphs[COUNT + NARROW];
	unsigned known = 0, drawn = 0;

	t->columns = s->width / WIDTH;
	t->rows = s->height / GLYPH_HEIGHT;
	t->cursor_x = t->cursor_y = SCREEN_COLUMNS_MAX;
	if (t->columns > SCREEN_COLUMNS_MAX || t->rows > SCREEN_ROWS_MAX)
		return false;
	take_font(font, font_glyphs);
	for (unsigned n = 0; n < t->columns * t->rows; n++) {
		struct dots cell;
		enum cell_kind kind = take_cell(s, n % t->columns, n / t->columns, &cell);
		int code = kind == CELL_DOTS ? recognize(&cell, font_glyphs) : -1;

		/* A cursor that blinks: two lines below whatever is there. */
		if (code < 0 && kind == CELL_DOTS && cell.half[1] >> 48 == 0xffff) {
			cell.half[1] &= ~0ull >> 16;
			code = recognize(&cell, font_glyphs);
		}

		drawn += kind != CELL_EMPTY;
		known += code >= 0;
		t->cell[n] = kind == CELL_EMPTY ? SPACE : code < 0 ? UNKNOWN : (uint16_t)code;
	}
	return known && known >= drawn * KNOWN_PCT / 100;
}
