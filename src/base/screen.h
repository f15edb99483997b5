/*
 * A picture and the characters of a screen, between the device that has them and whoever shows them: VNC, screenshots.
 *
 * Whoever shows it owns a struct screen, and the source draws into it: pixels that have changed, each row's from the
 * first to the last of them. A source may be asked by any thread; each struct screen belongs to one.
 */
#ifndef VIREO_BASE_SCREEN_H
#define VIREO_BASE_SCREEN_H

#include <stdbool.h>
#include <stdint.h>

#define SCREEN_COLUMNS_MAX 256u
#define SCREEN_ROWS_MAX	   256u

struct screen_span {
	uint16_t from, to; /* pixels [from, to) of a row; nothing where they are equal */
};

struct screen {
	unsigned width, height;	    /* at most 65535 each */
	uint32_t *pixels;	    /* 00RRGGBBh, rows of `width` */
	struct screen_span *damage; /* of each row; who shows it empties them */
	uint32_t seen;		    /* the source's own: what was drawn last */
};

/* Characters as they are in memory: a code and an attribute each (low byte: code). */
struct screen_text {
	unsigned columns, rows;
	unsigned cursor_x, cursor_y; /* beyond the last one: there is none */
	uint16_t cell[SCREEN_ROWS_MAX * SCREEN_COLUMNS_MAX];
};

enum screen_how {
	SCREEN_CHANGES, /* what has changed since this was asked last: one struct screen only may be drawn so */
	SCREEN_WHOLE	/* everything, with cursor and blinking characters shown */
};

/* What a device gives. */
struct screen_source {
	/* False: no memory for a picture of this size. */
	bool (*draw)(void *opaque, struct screen *s, enum screen_how how);
	/* False: it shows no characters, but a picture. */
	bool (*text)(void *opaque, struct screen_text *t);
	void *opaque;
};

/* All black and damaged if the size is another one. False: no memory; nothing has changed then. */
bool screen_resize(struct screen *s, unsigned width, unsigned height);
/* `row` has `s->width` pixels. */
void screen_put_row(struct screen *s, unsigned y, const uint32_t *row);
void screen_free(struct screen *s); /* what it holds */

/* Row `y` as UTF-8 of what code page 437, the font of every BIOS, shows for its codes; without blanks at its end. */
#define SCREEN_LINE_MAX (SCREEN_COLUMNS_MAX * 3 + 1)
/* The code that is this Unicode character there, -1: none is. */
int screen_code(uint32_t unicode);
void screen_line(const struct screen_text *t, unsigned y, char line[SCREEN_LINE_MAX]);

#endif
