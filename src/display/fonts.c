/* See fonts.h. */
#include "display/fonts.h"

#include <string.h>

#include "base/bytes.h"
#include "base/screen.h"

#define CODES 256u
#define SPACE 0x20u

static void put_row(struct dots *d, unsigned y, uint8_t row)
{
	d->word[y / 8] |= (uint64_t)row << y % 8 * 8;
}

/* --- a VGA BIOS --- */

#define BIOS_HEIGHT 16u

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
_Static_assert(CODES + NARROW <= FONT_GLYPHS_MAX, "all forms have their place");

/* Where 256 glyphs begin: by their A, and the blank before it. */
static const uint8_t *find_in_bios(const uint8_t *rom, size_t len)
{
	static const uint8_t letter[BIOS_HEIGHT] = { 0,	   0,	 0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe,
						     0xc6, 0xc6, 0xc6, 0xc6, 0,	   0,	 0,    0 };
	static const uint8_t blank[BIOS_HEIGHT];
	const size_t before = 'A' * BIOS_HEIGHT;

	for (size_t at = before; at + (CODES - 'A') * BIOS_HEIGHT <= len; at++)
		if (!memcmp(rom + at, letter, sizeof(letter)) &&
		    !memcmp(rom + at - ('A' - SPACE) * BIOS_HEIGHT, blank, sizeof(blank)))
			return rom + at - before;
	return NULL;
}

bool font_of_bios(struct font *f, const uint8_t *rom, size_t len)
{
	const uint8_t *rows = find_in_bios(rom, len);

	if (!rows)
		return false;
	/* A console may have been given a font that is nearly this one. */
	*f = (struct font){ .height = BIOS_HEIGHT, .most_off = 6, .count = CODES + NARROW };
	for (unsigned n = 0; n < f->count; n++) {
		bool wide = n < CODES;

		f->glyph[n].code = wide ? (uint8_t)n : (uint8_t)narrow[n - CODES].code;
		for (unsigned y = 0; y < (wide ? BIOS_HEIGHT : 11u); y++)
			put_row(&f->glyph[n].dots, wide ? y : y + 1,
				wide ? rows[n * BIOS_HEIGHT + y] : narrow[n - CODES].row[y]);
	}
	return true;
}

/* --- EDK II: EFI_NARROW_GLYPH of the UEFI specification, 33.3.3 --- */

#define EDK2_HEIGHT 19u
#define EDK2_RECORD (3u + EDK2_HEIGHT) /* the character, attributes, rows */

size_t font_find_edk2(const uint8_t *data, size_t len, size_t from)
{
	static const uint8_t start[EDK2_RECORD + 3] = { [0] = SPACE, [EDK2_RECORD] = SPACE + 1 };
	const uint8_t *at = from < len ? memmem(data + from, len - from, start, sizeof(start)) : NULL;

	return at ? (size_t)(at - data) : len;
}

bool font_of_edk2(struct font *f, const uint8_t *data, size_t len)
{
	*f = (struct font){ .height = EDK2_HEIGHT };
	/* They end with a record of zeros. */
	for (; len >= EDK2_RECORD && ld_le16(data) && !data[2]; data += EDK2_RECORD, len -= EDK2_RECORD) {
		int code = screen_code(ld_le16(data));

		if (code < 0 || f->count == FONT_GLYPHS_MAX)
			continue;
		f->glyph[f->count].code = (uint8_t)code;
		for (unsigned y = 0; y < EDK2_HEIGHT; y++)
			put_row(&f->glyph[f->count].dots, y, data[3 + y]);
		f->count++;
	}
	return f->count > 0x7e - SPACE;
}

/* --- GRUB: "PFF2" of its manual for developers, "Font file format" --- */

#define PFF2_ENTRY 9u  /* of the index: the character, flags, where its glyph is */
#define PFF2_GLYPH 10u /* width, height, offsets x and y, how far to the next one; then dots, a bit each */

struct pff2 {
	const uint8_t *file;
	size_t len;
	const uint8_t *index;
	size_t entries;
	unsigned ascent, descent;
};

static bool read_sections(struct pff2 *p)
{
	for (size_t at = 0; p->len - at >= 8;) {
		const uint8_t *name = p->file + at, *body = name + 8;
		uint32_t len = ld_be32(name + 4);

		/* The dots: to the end, whatever length they say. */
		if (!memcmp(name, "DATA", 4))
			return p->index && p->ascent && p->ascent + p->descent <= FONT_HEIGHT_MAX;
		if (len > p->len - at - 8 || (!at && (memcmp(name, "FILE", 4) || len != 4 || memcmp(body, "PFF2", 4))))
			return false;
		if (!memcmp(name, "ASCE", 4) && len == 2)
			p->ascent = ld_be16(body);
		if (!memcmp(name, "DESC", 4) && len == 2)
			p->descent = ld_be16(body);
		if (!memcmp(name, "CHIX", 4)) {
			p->index = body;
			p->entries = len / PFF2_ENTRY;
		}
		at += 8 + len;
	}
	return false;
}

/* Frames, which it draws with heavy lines, as code page 437 has them. */
static uint32_t light(uint32_t unicode)
{
	static const uint16_t heavy[][2] = {
		{ 0x2501, 0x2500 }, { 0x2503, 0x2502 }, { 0x250f, 0x250c },
		{ 0x2513, 0x2510 }, { 0x2517, 0x2514 }, { 0x251b, 0x2518 },
	};

	for (unsigned n = 0; n < sizeof(heavy) / sizeof(heavy[0]); n++)
		if (unicode == heavy[n][0])
			return heavy[n][1];
	return unicode;
}

/* False: it is not 8 dots wide, or not whole. */
static bool read_glyph(const struct pff2 *p, uint32_t at, struct dots *d)
{
	const uint8_t *g = p->file + at;
	unsigned width, height;
	int left, top;

	if (at > p->len || p->len - at < PFF2_GLYPH || ld_be16(g + 8) != FONT_WIDTH)
		return false;
	width = ld_be16(g);
	height = ld_be16(g + 2);
	left = (int16_t)ld_be16(g + 4);
	top = (int)p->ascent - (int16_t)ld_be16(g + 6) - (int)height;
	if (left < 0 || left + width > FONT_WIDTH || top < 0 || top + height > p->ascent + p->descent ||
	    p->len - at - PFF2_GLYPH < (width * height + 7) / 8)
		return false;
	g += PFF2_GLYPH;
	for (unsigned n = 0; n < width * height; n++)
		if (g[n / 8] & 0x80 >> n % 8)
			put_row(d, (unsigned)top + n / width, (uint8_t)(0x80 >> ((unsigned)left + n % width)));
	return true;
}

bool font_of_grub(struct font *f, const uint8_t *file, size_t len)
{
	struct pff2 p = { .file = file, .len = len };

	if (!read_sections(&p))
		return false;
	*f = (struct font){ .height = p.ascent + p.descent };
	for (size_t n = 0; n < p.entries && f->count < FONT_GLYPHS_MAX; n++) {
		const uint8_t *e = p.index + n * PFF2_ENTRY;
		int code = screen_code(light(ld_be32(e)));

		/* Flags: how it is packed, which no file uses. */
		if (code < 0 || e[4] || !read_glyph(&p, ld_be32(e + 5), &f->glyph[f->count].dots))
			continue;
		f->glyph[f->count++].code = (uint8_t)code;
	}
	return f->count > 0x7e - SPACE;
}
