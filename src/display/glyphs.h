/*
 * Characters of a picture: those of a console that has drawn them with one font (display/fonts.h), in cells of 8 dots
 * and its height. Any thread.
 */
#ifndef VIREO_DISPLAY_GLYPHS_H
#define VIREO_DISPLAY_GLYPHS_H

#include "base/screen.h"
#include "display/fonts.h"

/* Where the first cell begins. */
struct glyph_place {
	unsigned x, y;
};

/*
 * False: it is too large, or much of it is not characters of this font, cells beginning there. The cursor is not told.
 */
bool glyphs_read(const struct screen *s, const struct font *f, struct glyph_place at, struct screen_text *t);

#endif
