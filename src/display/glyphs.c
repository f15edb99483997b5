/* See glyphs.h. */
#include "display/glyphs.h"

#define SPACE	  0x20u
#define UNKNOWN	  0xfeu /* a small square */
#define KNOWN_PCT 80u	/* of the cells that are not empty */
#define WORDS	  (FONT_HEIGHT_MAX / 8)

static uint8_t get_row(const struct dots *d, unsigned y)
{
	return (uint8_t)(d->word[y / 8] >> y % 8 * 8);
}

static void put_row(struct dots *d, unsigned y, uint8_t row)
{
	d->word[y / 8] &= ~(0xffull << y % 8 * 8);
	d->word[y / 8] |= (uint64_t)row << y % 8 * 8;
}

enum cell_kind { CELL_EMPTY, CELL_DOTS, CELL_PICTURE };

/* The dots of a cell that differ from its first one; with three colors it is no character. */
static enum cell_kind take_cell(const struct screen *s, const uint32_t *p, unsigned height, struct dots *d)
{
	uint32_t first = p[0], second = first;

	*d = (struct dots){ 0 };
	for (unsigned y = 0; y < height; y++, p += s->width) {
		uint8_t row = 0;

		for (unsigned x = 0; x < FONT_WIDTH; x++) {
			if (p[x] == first)
				continue;
			if (second == first)
				second = p[x];
			if (p[x] != second)
				return CELL_PICTURE;
			row |= (uint8_t)(0x80 >> x);
		}
		put_row(d, y, row);
	}
	return second == first ? CELL_EMPTY : CELL_DOTS;
}

static unsigned differ(const struct dots *a, const struct dots *b)
{
	unsigned n = 0;

	for (unsigned w = 0; w < WORDS; w++)
		n += (unsigned)__builtin_popcountll(a->word[w] ^ b->word[w]);
	return n;
}

/* The glyph that is nearest, either color being the paper; -1: none is near. */
static int recognize(const struct dots *cell, const struct font *f)
{
	struct dots other = { 0 };
	unsigned best = f->most_off + 1;
	int found = -1;

	for (unsigned y = 0; y < f->height; y++)
		put_row(&other, y, (uint8_t)~get_row(cell, y));
	for (unsigned n = 0; n < f->count && best; n++) {
		unsigned a = differ(cell, &f->glyph[n].dots), b = differ(&other, &f->glyph[n].dots);

		a = a < b ? a : b;
		if (a >= best)
			continue;
		best = a;
		found = f->glyph[n].code;
	}
	return found;
}

/* A cursor: two lines or more in the lower half, over whatever is there. False: there is none. */
static bool remove_cursor(struct dots *cell, unsigned height)
{
	unsigned y = height, lines = 0;

	while (--y > height / 2) {
		if (get_row(cell, y) == 0xff)
			lines++;
		else if (lines)
			break;
	}
	for (unsigned n = 1; n <= lines; n++)
		put_row(cell, y + n, 0);
	return lines >= 2;
}

static int read_cell(struct dots *cell, const struct font *f)
{
	int code = recognize(cell, f);

	return code < 0 && remove_cursor(cell, f->height) ? recognize(cell, f) : code;
}

bool glyphs_read(const struct screen *s, const struct font *f, struct glyph_place at, struct screen_text *t)
{
	unsigned known = 0, drawn = 0;

	t->columns = s->width > at.x ? (s->width - at.x) / FONT_WIDTH : 0;
	t->rows = s->height > at.y ? (s->height - at.y) / f->height : 0;
	t->cursor_x = t->cursor_y = SCREEN_COLUMNS_MAX;
	if (t->columns > SCREEN_COLUMNS_MAX || t->rows > SCREEN_ROWS_MAX)
		return false;
	for (unsigned n = 0; n < t->columns * t->rows; n++) {
		const uint32_t *from = s->pixels + (size_t)(at.y + n / t->columns * f->height) * s->width + at.x +
				       n % t->columns * FONT_WIDTH;
		struct dots cell;
		enum cell_kind kind = take_cell(s, from, f->height, &cell);
		int code = kind == CELL_DOTS ? read_cell(&cell, f) : -1;

		drawn += kind != CELL_EMPTY;
		known += code >= 0;
		t->cell[n] = kind == CELL_EMPTY ? SPACE : code < 0 ? UNKNOWN : (uint16_t)code;
	}
	return known && known >= drawn * KNOWN_PCT / 100;
}
