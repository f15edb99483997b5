/*
 * Characters of a picture: those of a console that has drawn them with the font of a VGA BIOS (as Linux' fbcon does),
 * in cells of 8x16 pixels from the upper left corner. Any thread.
 */
#ifndef VIREO_DISPLAY_GLYPHS_H
#define VIREO_DISPLAY_GLYPHS_H

#include <stddef.h>

#include "base/screen.h"

#define GLYPH_HEIGHT 16u

/* The first bytes of a font of 256 glyphs in the image of a BIOS, GLYPH_HEIGHT each; NULL: there is none. */
const uint8_t *glyphs_find(const uint8_t *rom, size_t len);
/* False: it is too large, or much of it is not characters of this font. The cursor is not told. */
bool glyphs_read(const struct screen *s, const uint8_t *font, struct screen_text *t);

#endif
