/*
 * What the VGA shows: characters, planes, the two interleaved bits of CGA, bytes, and the linear modes of dispi.
 * Pictures are as the registers say, but of one dot a pixel: rows that a monitor would show twice are there twice in
 * modes with planes and bytes, and once in text.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/now.h"
#include "dev/vga_impl.h"

#define ROW_MAX	    (DISPI_WIDTH_MAX + 16)
#define BLACK_W	    640u
#define BLACK_H	    400u
#define FONT_BYTES  (8192u * 4)
#define GLYPH_ROWS  32u
#define BLINK_NS    266000000ull /* 16 frames on, 16 off; the cursor twice as fast */
#define CURSOR_OFF  0x20u
#define LINE_GLYPHS 0xc0u /* to DFh: their eighth column goes on in the ninth */

/* What a picture is made from, copied under the lock. */
struct view {
	const uint8_t *memory;
	uint32_t mask; /* of addresses in memory */
	unsigned width, height;
	uint32_t start, pitch; /* bytes of memory */
	unsigned depth;	       /* of linear modes; 0: it is none */
	bool swap;	       /* the bytes of pixels are the other way round */
	uint32_t color[256];   /* 00RRGGBB */
};

/* --- sizes --- */

static unsigned split_line(const struct vga *v)
{
	return v->crtc[CRTC_SPLIT] | (v->crtc[CRTC_OVERFLOW] & 0x10u) << 4 | (v->crtc[CRTC_HEIGHT] & 0x40u) << 3;
}

struct vga_lines vga_lines(const struct vga *v)
{
	uint8_t over = v->crtc[CRTC_OVERFLOW];
	struct vga_lines l;

	l.total = (v->crtc[CRTC_TOTAL_ROWS] | (over & 1u) << 8 | (over & 0x20u) << 4) + 2;
	l.shown = (v->crtc[CRTC_SHOWN_ROWS] | (over & 2u) << 7 | (over & 0x40u) << 3) + 1;
	l.retrace = v->crtc[CRTC_RETRACE] | (over & 4u) << 6 | (over & 0x80u) << 2;
	/* Its end is told by the low 4 bits of the line. */
	l.retrace_end = l.retrace + ((v->crtc[CRTC_RETRACE_END] - l.retrace) & 15);
	return l;
}

static bool is_graphics(const struct vga *v)
{
	return vga_dispi_on(v) || v->gfx[GFX_MISC] & MISC_GRAPHICS;
}

static bool is_dark(const struct vga *v)
{
	return !vga_dispi_on(v) && (!(v->attr_index & ATTR_VISIBLE) || v->seq[SEQ_CLOCKING] & CLOCKING_OFF);
}

/* --- colors --- */

static uint32_t dac(const struct vga *v, unsigned n)
{
	const uint8_t *c = v->palette + 3 * (n & v->dac_mask);
	bool wide = vga_dispi_on(v) && v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC;
	uint32_t rgb = 0;

	for (unsigned k = 0; k < 3; k++)
		rgb = rgb << 8 | (wide ? c[k] : (uint32_t)(c[k] << 2 | c[k] >> 4));
	return rgb;
}

/* The attribute controller's choice of 16 among the 256. */
static uint32_t attr_color(const struct vga *v, unsigned n)
{
	unsigned index = v->attr[n & 15], high = v->attr[ATTR_COLORS];

	if (v->attr[ATTR_MODE] & ATTR_CUT_54)
		return dac(v, (high & 15) << 4 | (index & 15));
	return dac(v, (high & 12) << 4 | (index & 63));
}

static void take_colors(const struct vga *v, struct view *w, bool sixteen)
{
	for (unsigned n = 0; n < 256; n++)
		w->color[n] = sixteen ? attr_color(v, n & v->attr[ATTR_PLANES]) : dac(v, n);
}

/* --- text --- */

struct cells {
	unsigned columns, rows, height, dots, scale;
	uint32_t start, pitch, cursor; /* bytes of memory */
};

static bool measure_text(const struct vga *v, struct cells *c)
{
	unsigned shown = vga_lines(v).shown;

	c->columns = v->crtc[CRTC_SHOWN_COLUMNS] + 1u;
	c->height = (v->crtc[CRTC_HEIGHT] & 0x1fu) + 1;
	c->rows = shown / (c->height << !!(v->crtc[CRTC_HEIGHT] & HEIGHT_DOUBLE));
	c->dots = v->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS ? 8 : 9;
	c->scale = v->seq[SEQ_CLOCKING] & CLOCKING_HALF ? 2 : 1;
	c->start = (uint32_t)ld_be16(v->crtc + CRTC_START) * 4;
	c->cursor = (uint32_t)ld_be16(v->crtc + CRTC_CURSOR) * 4;
	c->pitch = v->crtc[CRTC_OFFSET] * 8u;
	return c->rows && c->rows <= SCREEN_ROWS_MAX;
}

static uint32_t font_at(unsigned three_bits)
{
	/* The third bit counts 8 KiB, the first two 16 KiB. */
	return ((three_bits >> 2 & 1) | (three_bits << 1 & 6)) * FONT_BYTES;
}

struct glyphs {
	const struct vga *v;
	const struct cells *c;
	uint32_t font[2], colors[16];
	bool blink_on, blinks, cursor_on;
};

static void draw_cell(const struct glyphs *g, uint32_t at, unsigned line, uint32_t *out)
{
	const struct vga *v = g->v;
	const uint8_t *cell = v->memory + (at & (v->c.memory_size - 1));
	uint8_t code = cell[0], attr = cell[1];
	uint32_t fg = g->colors[attr & 15], bg = g->colors[attr >> 4 & (g->blinks ? 7 : 15)];
	unsigned bits = v->memory[g->font[attr >> 3 & 1] + (code * GLYPH_ROWS + line) * 4 + 2], top, bottom;

	bits <<= 1;
	if ((code & 0xe0) == LINE_GLYPHS && v->attr[ATTR_MODE] & ATTR_LINES)
		bits |= bits >> 1 & 1;
	if (g->blinks && attr & 0x80 && !g->blink_on)
		bits = 0;
	top = v->crtc[CRTC_CURSOR_TOP] & 0x1f;
	bottom = v->crtc[CRTC_CURSOR_BOTTOM] & 0x1f;
	if (g->cursor_on && at == g->c->cursor && line >= top && line <= bottom)
		bits = 0x1ff;
	for (unsigned x = 0; x < g->c->dots; x++)
		for (unsigned k = 0; k < g->c->scale; k++)
			*out++ = bits >> (8 - x) & 1 ? fg : bg;
}

static bool draw_text(const struct vga *v, struct screen *s, bool whole, unsigned phase)
{
	struct cells c;
	struct glyphs g = { .v = v, .c = &c };
	uint32_t row[SCREEN_COLUMNS_MAX * 18];

	if (!measure_text(v, &c))
		return screen_resize(s, BLACK_W, BLACK_H);
	if (!screen_resize(s, c.columns * c.dots * c.scale, c.rows * c.height))
		return false;
	for (unsigned n = 0; n < 16; n++)
		g.colors[n] = attr_color(v, n & v->attr[ATTR_PLANES]);
	g.font[0] = font_at((v->seq[SEQ_FONT] & 3) | (v->seq[SEQ_FONT] >> 2 & 4));
	g.font[1] = font_at((v->seq[SEQ_FONT] >> 2 & 3) | (v->seq[SEQ_FONT] >> 3 & 4));
	g.blinks = v->attr[ATTR_MODE] & ATTR_BLINK;
	g.blink_on = whole || phase & 2;
	g.cursor_on = (whole || phase & 1) && !(v->crtc[CRTC_CURSOR_TOP] & CURSOR_OFF);
	for (unsigned y = 0; y < c.rows * c.height; y++) {
		for (unsigned x = 0; x < c.columns; x++)
			draw_cell(&g, c.start + y / c.height * c.pitch + x * 4, y % c.height,
				  row + x * c.dots * c.scale);
		screen_put_row(s, y, row);
	}
	return true;
}

bool vga_text(void *opaque, struct screen_text *t)
{
	struct vga *v = opaque;
	struct cells c;
	bool is;

	pthread_mutex_lock(&v->lock);
	is = !is_graphics(v) && !is_dark(v) && measure_text(v, &c);
	if (is) {
		t->columns = c.columns;
		t->rows = c.rows;
		t->cursor_x = t->cursor_y = SCREEN_COLUMNS_MAX;
		for (unsigned n = 0; n < c.columns * c.rows; n++) {
			uint32_t at = c.start + n / c.columns * c.pitch + n % c.columns * 4;

			t->cell[n] = ld_le16(v->memory + (at & (v->c.memory_size - 1)));
			if (at == c.cursor && !(v->crtc[CRTC_CURSOR_TOP] & CURSOR_OFF)) {
				t->cursor_x = n % c.columns;
				t->cursor_y = n / c.columns;
			}
		}
	}
	pthread_mutex_unlock(&v->lock);
	return is;
}

/* --- planes and bytes: 8 pixels of 4 bytes of memory each --- */

static void eight_planar(const struct view *w, uint32_t bits, uint32_t *out)
{
	for (unsigned x = 0; x < 8; x++) {
		unsigned b = 7 - x;

		*out++ = w->color[(bits >> b & 1) | (bits >> (8 + b) & 1) << 1 | (bits >> (16 + b) & 1) << 2 |
				  (bits >> (24 + b) & 1) << 3];
	}
}

/* Pairs of bits: of planes 0 and 2 the first four pixels, of 1 and 3 the others. */
static void eight_pairs(const struct view *w, uint32_t bits, uint32_t *out)
{
	for (unsigned x = 0; x < 8; x++) {
		unsigned b = (x / 4) * 8 + (6 - x % 4 * 2);

		*out++ = w->color[(bits >> b & 3) | (bits >> (16 + b) & 3) << 2];
	}
}

static void eight_bytes(const struct view *w, uint32_t bits, uint32_t *out)
{
	for (unsigned x = 0; x < 8; x++)
		*out++ = w->color[bits >> (x / 2 * 8) & 0xff];
}

typedef void eight_fn(const struct view *w, uint32_t bits, uint32_t *out);

/* The address bits that the CRT controller replaces by those of the line in its row: as CGA and Hercules have them. */
static uint32_t row_address(const struct vga *v, uint32_t at, unsigned line)
{
	unsigned mode = v->crtc[CRTC_MODE], bit = 14 + (mode >> 6 & 1);

	if (!(mode & 1))
		at = (at & ~(1u << bit)) | (line & 1) << bit;
	if (!(mode & 2))
		at = (at & ~(2u << bit)) | (line >> 1 & 1) << (bit + 1);
	return at;
}

static bool draw_planes(const struct vga *v, struct screen *s, struct view *w)
{
	static eight_fn *const kinds[4] = { eight_planar, eight_pairs, eight_bytes, eight_bytes };
	unsigned shift = v->gfx[GFX_MODE] >> 5 & 3, doubled = v->crtc[CRTC_HEIGHT] & HEIGHT_DOUBLE ? 2 : 1;
	unsigned tall = (v->crtc[CRTC_HEIGHT] & 0x1fu) + 1, split = split_line(v), pan = v->attr[ATTR_PAN] & 7;
	unsigned columns = v->crtc[CRTC_SHOWN_COLUMNS] + 1u, half = v->seq[SEQ_CLOCKING] & CLOCKING_HALF ? 2 : 1;
	bool interleaved = (v->crtc[CRTC_MODE] & 3) != 3;
	uint32_t row[ROW_MAX], at = w->start, eight[8];

	if (vga_dispi_on(v)) {
		shift = 0;
		doubled = tall = half = 1;
		pan = 0;
		interleaved = false;
		split = UINT32_MAX;
		columns = w->width / 8;
	}
	if (!screen_resize(s, columns * 8 * half, w->height))
		return false;
	take_colors(v, w, shift < 2);
	for (unsigned y = 0, line = 0; y < w->height; y++) {
		uint32_t here = interleaved ? row_address(v, at, line % tall) : at;

		for (unsigned x = 0; x <= columns; x++, here += 4) {
			kinds[shift](w, ld_le32(w->memory + (here & w->mask & ~3u)), eight);
			for (unsigned k = 0; k < 8 * half; k++)
				row[x * 8 * half + k] = eight[k / half];
		}
		screen_put_row(s, y, row + pan * half);
		if (y % doubled == doubled - 1 && ++line % tall == 0)
			at += w->pitch;
		if (y == split)
			at = line = 0;
	}
	return true;
}

/* --- linear modes --- */

static uint32_t from_565(unsigned p)
{
	unsigned r = p >> 11, g = p >> 5 & 63, b = p & 31;

	return (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
}

static uint32_t from_555(unsigned p)
{
	return from_565((p << 1 & 0xffc0) | (p >> 4 & 0x20) | (p & 31));
}

static void linear_row(const struct view *w, const uint8_t *p, uint32_t *row)
{
	switch (w->depth) {
	case 8:
		for (unsigned x = 0; x < w->width; x++)
			row[x] = w->color[p[x]];
		break;
	case 15:
	case 16:
		for (unsigned x = 0; x < w->width; x++) {
			unsigned v = w->swap ? ld_be16(p + 2 * x) : ld_le16(p + 2 * x);

			row[x] = w->depth == 15 ? from_555(v) : from_565(v);
		}
		break;
	case 24:
		for (unsigned x = 0; x < w->width; x++, p += 3)
			row[x] = w->swap ? (uint32_t)(p[0] << 16 | p[1] << 8 | p[2])
					 : (uint32_t)(p[2] << 16 | p[1] << 8 | p[0]);
		break;
	default:
		for (unsigned x = 0; x < w->width; x++)
			row[x] = (w->swap ? ld_be32(p + 4 * x) : ld_le32(p + 4 * x)) & 0xffffff;
		break;
	}
}

/* Whether a page of [at, at + len) is in the map. */
static bool touched(const uint64_t *pages, uint64_t at, uint64_t len)
{
	for (uint64_t p = at >> MEM_PAGE_SHIFT; p <= (at + len - 1) >> MEM_PAGE_SHIFT; p++)
		if (pages[p / 64] >> (p % 64) & 1)
			return true;
	return false;
}

/* `pages`: those that were written to; NULL: all may have been. */
static bool draw_linear(const struct view *w, struct screen *s, const uint64_t *pages)
{
	uint32_t *row;

	if (!screen_resize(s, w->width, w->height))
		return false;
	row = malloc(w->width * sizeof(*row));
	for (unsigned y = 0; row && y < w->height; y++) {
		uint64_t at = w->start + (uint64_t)y * w->pitch, len = w->width * ((w->depth + 7ull) / 8);

		if (pages && !touched(pages, at, len))
			continue;
		linear_row(w, w->memory + at, row);
		screen_put_row(s, y, row);
	}
	free(row);
	return row;
}

/* --- all --- */

static struct view view_of(const struct vga *v)
{
	struct view w = { .memory = v->memory, .mask = v->c.memory_size - 1, .swap = v->big_endian };
	unsigned depth = v->dispi[DISPI_DEPTH];

	if (!vga_dispi_on(v)) {
		w.height = vga_lines(v).shown;
		w.start = (uint32_t)ld_be16(v->crtc + CRTC_START) * 4;
		w.pitch = v->crtc[CRTC_OFFSET] * 8u;
		return w;
	}
	w.width = v->dispi[DISPI_WIDTH];
	w.height = v->dispi[DISPI_HEIGHT];
	w.pitch = vga_dispi_pitch(v);
	w.depth = depth == 4 ? 0 : depth;
	w.start = v->dispi[DISPI_Y] * w.pitch +
		  (depth == 4 ? v->dispi[DISPI_X] / 8u : v->dispi[DISPI_X] * ((depth + 7u) / 8));
	if (depth == 4) {
		w.pitch *= 4;
		w.start *= 4;
	}
	return w;
}

static bool draw_dark(struct screen *s)
{
	static const uint32_t black[ROW_MAX];

	if (!s->pixels && !screen_resize(s, BLACK_W, BLACK_H))
		return false;
	for (unsigned y = 0; y < s->height && s->width <= ROW_MAX; y++)
		screen_put_row(s, y, black);
	return true;
}

bool vga_draw(void *opaque, struct screen *s, enum screen_how how)
{
	struct vga *v = opaque;
	bool whole = how == SCREEN_WHOLE, written = true, same, ok;
	/* Bit 0: the cursor; bit 1: characters. */
	unsigned phase = (unsigned)((uint64_t)now_ns() / BLINK_NS);
	struct view w;
	uint32_t seen;

	pthread_mutex_lock(&v->lock);
	if (!whole)
		written = mem_movable_fetch(v->c.mem, v->c.memory, v->written) || v->c.blind;
	seen = v->version << 2 | (is_graphics(v) || is_dark(v) ? 0 : phase & 3);
	same = !whole && s->pixels && s->seen == seen;
	w = view_of(v);
	if (same && !written) {
		ok = true;
	} else if (is_dark(v)) {
		ok = draw_dark(s);
	} else if (w.depth) {
		take_colors(v, &w, false);
		pthread_mutex_unlock(&v->lock);
		ok = draw_linear(&w, s, same && !v->c.blind ? v->written : NULL);
		s->seen = seen;
		return ok;
	} else {
		ok = is_graphics(v) ? draw_planes(v, s, &w) : draw_text(v, s, whole, phase);
	}
	s->seen = seen;
	pthread_mutex_unlock(&v->lock);
	return ok;
}
