/*
 * The fonts that firmware, loaders and consoles draw characters with, as far as code page 437 has them. Each is read
 * from where it is: nothing of them but some forms of letters is part of this program. Any thread.
 */
#ifndef VIREO_DISPLAY_FONTS_H
#define VIREO_DISPLAY_FONTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FONT_WIDTH	8u
#define FONT_HEIGHT_MAX 24u
#define FONT_GLYPHS_MAX 288u

struct dots {
	uint64_t word[FONT_HEIGHT_MAX / 8]; /* a row a byte, from the top; the leftmost dot is the highest bit */
};

struct font {
	unsigned height;
	unsigned most_off; /* dots in which a character that was drawn may differ */
	unsigned count;
	struct {
		struct dots dots;
		uint8_t code; /* in code page 437 */
	} glyph[FONT_GLYPHS_MAX];
};

/* Of each of these, false: there is no such font. */

/* That of a VGA BIOS, 8x16, within its image; and what Linux' console draws instead of its wide letters. */
bool font_of_bios(struct font *f, const uint8_t *rom, size_t len);
/* That of EDK II, 8x19, within the first FONT_EDK2_MAX bytes of memory from where its first glyph is. */
#define FONT_EDK2_MAX 16384u
bool font_of_edk2(struct font *f, const uint8_t *data, size_t len);
/* Where one may begin in `data`, from `from` on; `len`: nowhere. */
size_t font_find_edk2(const uint8_t *data, size_t len, size_t from);
/* A whole file of GRUB's format PFF2, of which characters that are 8 dots wide are taken. */
bool font_of_grub(struct font *f, const uint8_t *file, size_t len);

#endif
