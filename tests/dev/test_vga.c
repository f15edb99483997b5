/*
 * dev/vga*.c: registers, planes and latches, the modes as a BIOS sets them, dispi, the frame buffer where its BAR is,
 * and what is shown of all that.
 */
#include "board.h"

#include <string.h>

#include "base/bytes.h"
#include "dev/vga.h"

#define DEVFN  (2 << 3)
#define MEMORY 0xd0000000u
#define MMIO   0xd2000000u
#define SIZE   (1u << 20)
#define A0000  0xa0000u
#define B8000  0xb8000u
#define CELLS  80u

static struct screen_source source;
static struct screen screen;
static struct screen_text text;

static void make(struct board *b)
{
	const struct mem_slot_config slot = { .name = "vga", .size = SIZE, .fd = -1 };
	struct vga_config c = { .bus = b->bus, .clock = b->clock, .devfn = DEVFN, .mem = b->mem, .memory_size = SIZE };
	struct err err;
	int n = mem_add_movable(b->mem, &slot, &err);

	assert_int_equal(n, 0);
	board_pci(b);
	c.pci = b->pci;
	board_add(b, vga_new(&c, &source, &err));
}

static void place(struct board *b, uint32_t memory, uint32_t mmio)
{
	pci_config_write(b->pci, DEVFN, 4, 2, 0);
	pci_config_write(b->pci, DEVFN, 0x10, 4, memory);
	pci_config_write(b->pci, DEVFN, 0x18, 4, mmio);
	pci_config_write(b->pci, DEVFN, 4, 2, 3);
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
	place(b, MEMORY, MMIO);
}

static void end(struct board *b)
{
	screen_free(&screen);
	board_fini(b);
}

/* Index and data in one word, as every driver does it. */
static void seq(struct board *b, uint8_t n, uint8_t v)
{
	board_out(b, 0x3c4, 2, n | v << 8);
}

static void gfx(struct board *b, uint8_t n, uint8_t v)
{
	board_out(b, 0x3ce, 2, n | v << 8);
}

static void crtc(struct board *b, uint8_t n, uint8_t v)
{
	board_out(b, 0x3d4, 2, n | v << 8);
}

static void attr(struct board *b, uint8_t n, uint8_t v)
{
	in8(b, 0x3da);
	out8(b, 0x3c0, n);
	out8(b, 0x3c0, v);
}

static void color(struct board *b, uint8_t n, uint8_t red, uint8_t green, uint8_t blue)
{
	out8(b, 0x3c8, n);
	out8(b, 0x3c9, red);
	out8(b, 0x3c9, green);
	out8(b, 0x3c9, blue);
}

struct mode {
	uint8_t misc, seq[5], crtc[25], gfx[9], attr[21];
};

/* As a VGA BIOS sets them: 3, text of 80x25; 12h, 640x480 in planes; 13h, 320x200 in bytes; 4, 320x200 as a CGA. */
static const struct mode mode3 = {
	0x67,
	{ 3, 0x00, 3, 0, 2 },
	{ 0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0,	0x4f, 0x0d, 0x0e, 0,
	  0,	0,    0,    0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff },
	{ 0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff },
	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x0c, 0, 0x0f, 0, 0 },
};
static const struct mode mode12 = {
	0xe3,
	{ 3, 0x01, 15, 0, 6 },
	{ 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0,	0x40, 0,    0,	 0,
	  0,	0,    0,    0xea, 0x8c, 0xdf, 0x28, 0,	  0xe7, 4,    0xe3, 0xff },
	{ 0, 0, 0, 0, 0, 0, 5, 15, 0xff },
	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1, 0, 15, 0, 0 },
};
static const struct mode mode13 = {
	0x63,
	{ 3, 0x01, 15, 0, 14 },
	{ 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0,	0x41, 0,    0,	 0,
	  0,	0,    0,    0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff },
	{ 0, 0, 0, 0, 0, 0x40, 5, 15, 0xff },
	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x41, 0, 15, 0, 0 },
};
static const struct mode mode4 = {
	0x63,
	{ 3, 0x09, 3, 0, 2 },
	{ 0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0,	0xc1, 0,    0,	 0,
	  0,	0,    0,    0x9c, 0x8e, 0x8f, 0x14, 0,	  0x96, 0xb9, 0xa2, 0xff },
	{ 0, 0, 0, 0, 0, 0x30, 0x0f, 0, 0xff },
	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1, 0, 3, 0, 0 },
};

static void set_mode(struct board *b, const struct mode *m)
{
	out8(b, 0x3c2, m->misc);
	crtc(b, 0x11, 0);
	for (uint8_t n = 0; n < 5; n++)
		seq(b, n, m->seq[n]);
	for (uint8_t n = 0; n < 25; n++)
		crtc(b, n, m->crtc[n]);
	for (uint8_t n = 0; n < 9; n++)
		gfx(b, n, m->gfx[n]);
	for (uint8_t n = 0; n < 21; n++)
		attr(b, n, m->attr[n]);
	in8(b, 0x3da);
	out8(b, 0x3c0, 0x20);
	/* Each color tells its number. */
	for (unsigned n = 0; n < 64; n++)
		color(b, (uint8_t)n, (uint8_t)n, 0, 0);
}

static uint32_t shown(unsigned n)
{
	return (n << 2 | n >> 4) << 16;
}

static uint32_t pixel(unsigned x, unsigned y)
{
	assert_true(x < screen.width && y < screen.height);
	return screen.pixels[y * screen.width + x];
}

static void draw(void)
{
	assert_true(source.draw(source.opaque, &screen, SCREEN_WHOLE));
}

/* --- registers --- */

static void registers_keep_what_they_can(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, 0x3c2, 0x67);
	assert_int_equal(in8(&b, 0x3cc), 0x67);
	seq(&b, 1, 0xff);
	assert_int_equal(board_in(&b, 0x3c4, 2), 0x3d01);
	gfx(&b, 6, 0xff);
	assert_int_equal(in8(&b, 0x3cf), 0x0f);
	crtc(&b, 0x0e, 0x12);
	assert_int_equal(in8(&b, 0x3d5), 0x12);
	/* Registers that are locked, but for one bit. */
	crtc(&b, 0x11, 0x80);
	crtc(&b, 1, 0x55);
	assert_int_equal(in8(&b, 0x3d5), 0);
	crtc(&b, 7, 0xff);
	assert_int_equal(in8(&b, 0x3d5), 0x10);
	/* Index, data, index; status 1 begins with the index again. */
	attr(&b, 5, 0x3f);
	out8(&b, 0x3c0, 5);
	assert_int_equal(in8(&b, 0x3c1), 0x3f);
	in8(&b, 0x3da);
	out8(&b, 0x3c0, 0x25);
	assert_int_equal(in8(&b, 0x3c0), 0x25);
	/* The ports of a monochrome card are there instead. */
	assert_int_equal(in8(&b, 0x3b5), 0xff);
	out8(&b, 0x3c2, 0x66);
	assert_int_equal(in8(&b, 0x3d5), 0xff);
	assert_int_equal(in8(&b, 0x3b4), 7);
	assert_int_equal(in8(&b, 0x3b5), 0x10);
	end(&b);
}

static void the_dac_counts(void **state)
{
	struct board b;

	setup(&b);
	color(&b, 7, 0xff, 2, 3);
	out8(&b, 0x3c9, 4);
	out8(&b, 0x3c9, 5);
	out8(&b, 0x3c7, 7);
	assert_int_equal(in8(&b, 0x3c7), 3);
	assert_int_equal(in8(&b, 0x3c9), 0x3f);
	assert_int_equal(in8(&b, 0x3c9), 2);
	assert_int_equal(in8(&b, 0x3c9), 3);
	/* Two thirds of a color are none. */
	assert_int_equal(in8(&b, 0x3c9), 0);
	end(&b);
}

/* 449 lines of 31.8 us: the retrace comes 70 times a second and is short. */
static void the_retrace_comes_with_time(void **state)
{
	unsigned retraces = 0, hidden = 0;
	uint8_t was = 0;
	struct board b;

	setup(&b);
	set_mode(&b, &mode3);
	for (unsigned n = 0; n < 100000; n++) {
		uint8_t s = in8(&b, 0x3da);

		retraces += s & 8 && !(was & 8);
		hidden += s & 1;
		was = s;
		board_step(&b, 10 * US);
	}
	assert_in_range(retraces, 69, 71);
	assert_in_range(hidden, 25000, 32000);
	end(&b);
}

/* --- planes --- */

static void plane(struct board *b, uint8_t n)
{
	gfx(b, 4, n);
}

static uint8_t of_plane(struct board *b, uint8_t n, uint32_t off)
{
	plane(b, n);
	return (uint8_t)board_read(b, A0000 + off, 1);
}

static void planes(struct board *b, uint32_t off, uint32_t val)
{
	for (uint8_t n = 0; n < 4; n++)
		assert_int_equal(of_plane(b, n, off), val >> (24 - 8 * n) & 0xff);
}

static void write_modes(void **state)
{
	struct board b;

	setup(&b);
	set_mode(&b, &mode12);
	/* 0: the map mask, rotation, set and reset, the bit mask and the functions with the latches. */
	seq(&b, 2, 5);
	board_write(&b, A0000, 1, 0xa5);
	planes(&b, 0, 0xa500a500);
	seq(&b, 2, 15);
	gfx(&b, 3, 4);
	board_write(&b, A0000 + 1, 1, 0x21);
	planes(&b, 1, 0x12121212);
	gfx(&b, 3, 0);
	gfx(&b, 0, 9);
	gfx(&b, 1, 0xb);
	board_write(&b, A0000 + 2, 1, 0x77);
	planes(&b, 2, 0xff0077ff);
	gfx(&b, 8, 0xf0);
	board_read(&b, A0000 + 1, 1);
	board_write(&b, A0000 + 2, 1, 0x00);
	planes(&b, 2, 0xf20202f2);
	gfx(&b, 1, 0);
	gfx(&b, 8, 0xff);
	for (uint8_t fn = 0; fn < 4; fn++) {
		static const uint32_t want[] = { 0x33333333, 0x12121212, 0x33333333, 0x21212121 };

		gfx(&b, 3, (uint8_t)(fn << 3));
		board_read(&b, A0000 + 1, 1);
		board_write(&b, A0000 + 3, 1, 0x33);
		planes(&b, 3, want[fn]);
	}
	gfx(&b, 3, 0);
	/* 1: the latches, whatever is written. */
	board_read(&b, A0000 + 2, 1);
	gfx(&b, 5, 1);
	board_write(&b, A0000 + 4, 1, 0x55);
	planes(&b, 4, 0xf20202f2);
	/* 2: a color, through the bit mask. */
	gfx(&b, 5, 2);
	gfx(&b, 8, 0x0f);
	board_read(&b, A0000 + 1, 1);
	board_write(&b, A0000 + 5, 1, 0x06);
	planes(&b, 5, 0x101f1f10);
	/* 3: set and reset through what is written and the bit mask. */
	gfx(&b, 5, 3);
	gfx(&b, 0, 3);
	gfx(&b, 8, 0x3f);
	board_read(&b, A0000 + 1, 1);
	board_write(&b, A0000 + 6, 1, 0xf8);
	planes(&b, 6, 0x3a3a0202);
	end(&b);
}

static void read_modes(void **state)
{
	struct board b;

	setup(&b);
	set_mode(&b, &mode12);
	for (uint8_t n = 0; n < 4; n++) {
		seq(&b, 2, (uint8_t)(1 << n));
		board_write(&b, A0000, 1, (uint32_t[]){ 0xff, 0xf0, 0x0f, 0xaa }[n]);
	}
	gfx(&b, 5, 8);
	gfx(&b, 2, 0x3);
	gfx(&b, 7, 0xf);
	assert_int_equal(board_read(&b, A0000, 1), 0x50);
	gfx(&b, 7, 0x7);
	assert_int_equal(board_read(&b, A0000, 1), 0xf0);
	gfx(&b, 7, 0);
	assert_int_equal(board_read(&b, A0000, 1), 0xff);
	/* Wide accesses are so many bytes. */
	gfx(&b, 5, 0);
	plane(&b, 3);
	seq(&b, 2, 15);
	board_write(&b, A0000 + 8, 8, 0x0807060504030201);
	assert_int_equal(board_read(&b, A0000 + 8, 8), 0x0807060504030201);
	assert_int_equal(of_plane(&b, 0, 10), 3);
	end(&b);
}

static void the_window_is_where_it_is_said(void **state)
{
	static const struct {
		uint32_t base, size;
	} maps[] = { { 0xa0000, 0x20000 }, { 0xa0000, 0x10000 }, { 0xb0000, 0x8000 }, { 0xb8000, 0x8000 } };
	struct board b;

	setup(&b);
	set_mode(&b, &mode12);
	for (uint8_t n = 0; n < 4; n++) {
		gfx(&b, 6, (uint8_t)(n << 2 | 1));
		for (uint32_t at = 0xa0000; at < 0xc0000; at += 0x8000) {
			bool in = at - maps[n].base < maps[n].size;

			board_write(&b, at, 1, 0x42);
			assert_int_equal(board_read(&b, at, 1), in ? 0x42 : 0xff);
			board_write(&b, at, 1, 0);
		}
	}
	out8(&b, 0x3c2, 0xe1);
	gfx(&b, 6, 1);
	assert_int_equal(board_read(&b, 0xa0000, 1), 0xff);
	end(&b);
}

/* --- pictures --- */

/* A font of which glyph N has the row N in its first line, and its second line is full. */
static void load_font(struct board *b)
{
	seq(b, 2, 4);
	seq(b, 4, 7);
	gfx(b, 5, 0);
	gfx(b, 6, 0);
	for (unsigned n = 0; n < 256; n++)
		board_write(b, A0000 + n * 32, 2, n | 0xff00);
	seq(b, 2, 3);
	seq(b, 4, 3);
	gfx(b, 5, 0x10);
	gfx(b, 6, 0x0e);
}

static void characters_are_drawn(void **state)
{
	struct board b;

	setup(&b);
	set_mode(&b, &mode3);
	load_font(&b);
	crtc(&b, 0x0a, 0x20);
	board_write(&b, B8000, 4, 0x24c11f81);
	board_write(&b, B8000 + 2 * (CELLS + 1), 2, 0x0f41);
	assert_int_equal(board_read(&b, B8000, 4), 0x24c11f81);
	draw();
	assert_int_equal(screen.width, 720);
	assert_int_equal(screen.height, 400);
	/* 81h in white on blue: its first and eighth dot; the ninth is background. */
	for (unsigned x = 0; x < 9; x++)
		assert_int_equal(pixel(x, 0), shown(x == 0 || x == 7 ? 15 : 1));
	assert_int_equal(pixel(8, 1), shown(1));
	/* C1h is a line: the ninth dot is as the eighth. */
	assert_int_equal(pixel(9 + 7, 0), shown(4));
	assert_int_equal(pixel(9 + 8, 0), shown(4));
	assert_int_equal(pixel(9 + 8, 2), shown(2));
	assert_int_equal(pixel(9 + 9, 0), shown(0));
	assert_int_equal(pixel(9 + 1, 16), shown(15));
	/* The cursor: lines 13 and 14 of a cell. */
	crtc(&b, 0x0a, 13);
	crtc(&b, 0x0b, 14);
	crtc(&b, 0x0f, CELLS + 1);
	draw();
	assert_int_equal(pixel(9, 16 + 12), shown(0));
	assert_int_equal(pixel(9, 16 + 13), shown(15));
	assert_int_equal(pixel(17, 16 + 14), shown(15));
	assert_int_equal(pixel(9, 16 + 15), shown(0));
	/* Eight dots; then half the dots, each twice. */
	seq(&b, 1, 1);
	draw();
	assert_int_equal(screen.width, 640);
	seq(&b, 1, 9);
	draw();
	assert_int_equal(screen.width, 1280);
	assert_int_equal(pixel(1, 0), shown(15));
	assert_int_equal(pixel(2, 0), shown(1));
	/* The start moves by cells. */
	crtc(&b, 0x0d, 1);
	draw();
	assert_int_equal(pixel(0, 2), shown(2));
	/* Nothing without the bit of the attribute controller, or with the screen off. */
	in8(&b, 0x3da);
	out8(&b, 0x3c0, 0);
	draw();
	assert_int_equal(pixel(0, 2), 0);
	end(&b);
}

static void characters_are_told(void **state)
{
	char line[SCREEN_LINE_MAX];
	struct board b;

	setup(&b);
	assert_false(source.text(source.opaque, &text));
	set_mode(&b, &mode3);
	for (unsigned n = 0; n < CELLS * 25; n++)
		board_write(&b, B8000 + 2 * n, 2, 0x0720);
	board_write(&b, B8000 + 2 * (CELLS * 3 + 2), 8, 0x0701079b079c0741);
	crtc(&b, 0x0e, 0);
	crtc(&b, 0x0f, CELLS + 5);
	assert_true(source.text(source.opaque, &text));
	assert_int_equal(text.columns, 80);
	assert_int_equal(text.rows, 25);
	assert_int_equal(text.cursor_x, 5);
	assert_int_equal(text.cursor_y, 1);
	screen_line(&text, 3, line);
	assert_string_equal(line, "  A£¢☺");
	screen_line(&text, 4, line);
	assert_string_equal(line, "");
	set_mode(&b, &mode12);
	assert_false(source.text(source.opaque, &text));
	end(&b);
}

static void planes_are_drawn(void **state)
{
	struct board b;

	setup(&b);
	set_mode(&b, &mode12);
	for (uint8_t n = 0; n < 4; n++) {
		seq(&b, 2, (uint8_t)(1 << n));
		board_write(&b, A0000 + 80, 1, 0x80 >> n);
	}
	draw();
	assert_int_equal(screen.width, 640);
	assert_int_equal(screen.height, 480);
	for (unsigned x = 0; x < 4; x++)
		assert_int_equal(pixel(x, 1), shown(1u << x));
	assert_int_equal(pixel(4, 1), 0);
	/* Panning by pixels; a plane that is not shown. */
	attr(&b, 0x13, 2);
	attr(&b, 0x12, 7);
	out8(&b, 0x3c0, 0x20);
	draw();
	assert_int_equal(pixel(0, 1), shown(4));
	assert_int_equal(pixel(1, 1), shown(0));
	/* The lower part of a split screen begins at address 0. */
	crtc(&b, 0x18, 99);
	crtc(&b, 0x07, 0x2e);
	crtc(&b, 0x09, 0);
	draw();
	assert_int_equal(pixel(0, 101), shown(4));
	end(&b);
}

static void bytes_are_drawn(void **state)
{
	struct board b;

	setup(&b);
	set_mode(&b, &mode13);
	board_write(&b, A0000 + 320, 4, 0x04030201);
	draw();
	assert_int_equal(screen.width, 640);
	assert_int_equal(screen.height, 400);
	for (unsigned x = 0; x < 8; x++)
		assert_int_equal(pixel(x, 2), shown(1 + x / 2));
	assert_int_equal(pixel(0, 1), 0);
	assert_int_equal(pixel(0, 3), shown(1));
	assert_int_equal(pixel(0, 4), 0);
	/* Mode X: planes as they are written one by one. */
	seq(&b, 4, 6);
	seq(&b, 2, 2);
	board_write(&b, A0000, 1, 9);
	draw();
	assert_int_equal(pixel(1, 0), 0);
	assert_int_equal(pixel(2, 0), shown(9));
	end(&b);
}

static void cga_is_drawn(void **state)
{
	struct board b;

	setup(&b);
	set_mode(&b, &mode4);
	/* Even lines, then odd lines 8 KiB behind them; four pixels a byte. */
	board_write(&b, B8000, 2, 0xe41b);
	board_write(&b, B8000 + 0x2000, 1, 0xff);
	draw();
	assert_int_equal(screen.width, 640);
	assert_int_equal(screen.height, 400);
	for (unsigned x = 0; x < 8; x++)
		assert_int_equal(pixel(2 * x, 0), shown(x < 4 ? x : 7 - x));
	assert_int_equal(pixel(0, 2), shown(3));
	assert_int_equal(pixel(0, 3), shown(3));
	assert_int_equal(pixel(0, 4), 0);
	end(&b);
}

/* --- dispi --- */

static void dispi(struct board *b, uint16_t n, uint16_t v)
{
	board_out(b, 0x1ce, 2, n);
	board_out(b, 0x1cf, 2, v);
}

static uint16_t dispi_get(struct board *b, uint16_t n)
{
	board_out(b, 0x1ce, 2, n);
	return (uint16_t)board_in(b, 0x1cf, 2);
}

static void linear(struct board *b, uint16_t width, uint16_t height, uint16_t depth)
{
	dispi(b, 4, 0);
	dispi(b, 1, width);
	dispi(b, 2, height);
	dispi(b, 3, depth);
	dispi(b, 4, 0x41);
}

static void dispi_says_what_it_can(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(dispi_get(&b, 0), 0xb0c5);
	dispi(&b, 0, 0xb0c2);
	assert_int_equal(dispi_get(&b, 0), 0xb0c2);
	dispi(&b, 0, 0x1234);
	assert_int_equal(dispi_get(&b, 0), 0xb0c2);
	assert_int_equal(dispi_get(&b, 10), SIZE >> 16);
	dispi(&b, 4, 2);
	assert_int_equal(dispi_get(&b, 1), 16000);
	assert_int_equal(dispi_get(&b, 2), 12000);
	assert_int_equal(dispi_get(&b, 3), 32);
	/* What does not fit into memory is made to. */
	linear(&b, 16000, 12000, 32);
	assert_int_equal(dispi_get(&b, 1), 16000);
	assert_int_equal(dispi_get(&b, 2), SIZE / 64000);
	linear(&b, 0, 0, 7);
	assert_int_equal(dispi_get(&b, 1), 8);
	assert_int_equal(dispi_get(&b, 2), 1);
	assert_int_equal(dispi_get(&b, 3), 8);
	linear(&b, 64, 48, 16);
	dispi(&b, 6, 100);
	assert_int_equal(dispi_get(&b, 6), 96);
	dispi(&b, 8, 0xffff);
	dispi(&b, 9, 0xffff);
	assert_int_equal(dispi_get(&b, 8), 96 - 64);
	assert_int_equal(dispi_get(&b, 9), SIZE / 192 - 48);
	/* The same by BAR 2, and the VGA's ports. */
	assert_int_equal(board_read(&b, MMIO + 0x500 + 2 * 6, 2), 96);
	board_write(&b, MMIO + 0x500 + 2 * 8, 2, 1);
	assert_int_equal(dispi_get(&b, 8), 1);
	board_write(&b, MMIO + 0x404, 2, 0x0f02);
	seq(&b, 2, 15);
	assert_int_equal(board_read(&b, MMIO + 0x405, 1), 15);
	assert_int_equal(board_read(&b, MMIO + 0x600, 4), 8);
	assert_int_equal(board_read(&b, MMIO + 0x604, 4), 0x1e1e1e1e);
	end(&b);
}

static void every_depth_is_drawn(void **state)
{
	static const struct {
		uint16_t depth;
		uint32_t val, shown;
	} depths[] = {
		{ 8, 5, 0x140000 },	    { 15, 0x7c1f, 0xff00ff },	  { 16, 0x07e1, 0x00ff08 },
		{ 24, 0x123456, 0x123456 }, { 32, 0xff123456, 0x123456 },
	};
	struct board b;

	setup(&b);
	set_mode(&b, &mode3);
	for (size_t n = 0; n < ARRAY_LEN(depths); n++) {
		unsigned bytes = (depths[n].depth + 7u) / 8;
		uint8_t le[4];

		linear(&b, 64, 48, depths[n].depth);
		st_le32(le, depths[n].val);
		assert_true(mem_write(b.mem, gpa(MEMORY + (64 * 3 + 2) * bytes), le, bytes));
		draw();
		assert_int_equal(screen.width, 64);
		assert_int_equal(screen.height, 48);
		assert_int_equal(pixel(2, 3), depths[n].shown);
		assert_int_equal(pixel(3, 3), 0);
		/* A screen of a larger one; then the same once more, with what it had, and cleared. */
		dispi(&b, 6, 64);
		dispi(&b, 8, 0);
		dispi(&b, 9, 3);
		draw();
		assert_int_equal(pixel(2, 0), depths[n].shown);
		dispi(&b, 4, 0);
		dispi(&b, 4, 0xc1);
		draw();
		assert_int_equal(pixel(2, 3), depths[n].shown);
	}
	/* 8 bits of each color, when asked for. */
	linear(&b, 64, 48, 8);
	dispi(&b, 4, 0xe1);
	color(&b, 0, 0x81, 0x42, 0x23);
	draw();
	assert_int_equal(pixel(0, 0), 0x814223);
	board_write(&b, MMIO + 0x604, 4, 0xbebebebe);
	linear(&b, 64, 48, 16);
	mem_write(b.mem, gpa(MEMORY), &(uint8_t[2]){ 0x07, 0xe1 }, 2);
	draw();
	assert_int_equal(pixel(0, 0), 0x00ff08);
	end(&b);
}

static void banks_and_planes_of_dispi(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, 0x3c2, 0x63);
	linear(&b, 640, 400, 8);
	dispi(&b, 5, 1);
	board_write(&b, A0000 + 4, 4, 0x04030201);
	assert_int_equal(ld_le32(mem_movable_host(b.mem, 0) + 0x10004), 0x04030201);
	assert_int_equal(board_read(&b, A0000 + 5, 2), 0x0302);
	assert_int_equal(board_read(&b, 0xb0000, 1), 0xff);
	dispi(&b, 5, 0xffff);
	assert_int_equal(dispi_get(&b, 5), (SIZE >> 16) - 1);
	/* 800x600 in 16 colors. */
	set_mode(&b, &mode12);
	linear(&b, 800, 600, 4);
	seq(&b, 2, 10);
	board_write(&b, A0000 + 100, 1, 0x80);
	draw();
	assert_int_equal(screen.width, 800);
	assert_int_equal(screen.height, 600);
	assert_int_equal(pixel(0, 1), shown(10));
	assert_int_equal(pixel(1, 1), 0);
	end(&b);
}

/* --- changes --- */

static unsigned damaged(void)
{
	unsigned rows = 0;

	assert_true(source.draw(source.opaque, &screen, SCREEN_CHANGES));
	for (unsigned y = 0; y < screen.height; y++) {
		rows += screen.damage[y].from != screen.damage[y].to;
		screen.damage[y] = (struct screen_span){ 0, 0 };
	}
	return rows;
}

static void only_changes_are_damage(void **state)
{
	uint32_t white = 0xffffff;
	struct board b;

	setup(&b);
	linear(&b, 256, 200, 32);
	assert_int_equal(damaged(), 200);
	assert_int_equal(damaged(), 0);
	mem_write(b.mem, gpa(MEMORY + 1024 * 7 + 4 * 100), &white, 4);
	assert_true(source.draw(source.opaque, &screen, SCREEN_CHANGES));
	assert_int_equal(screen.damage[7].from, 100);
	assert_int_equal(screen.damage[7].to, 101);
	assert_int_equal(damaged(), 1);
	/* What is written again is none. */
	mem_write(b.mem, gpa(MEMORY + 1024 * 7 + 4 * 100), &white, 4);
	assert_int_equal(damaged(), 0);
	/* Elsewhere in memory, then shown. */
	mem_write(b.mem, gpa(MEMORY + 1024 * 220), &white, 4);
	assert_int_equal(damaged(), 0);
	dispi(&b, 9, 21);
	assert_int_equal(damaged(), 2);
	/* A picture of its own does not take changes from this one. */
	mem_write(b.mem, gpa(MEMORY + 1024 * 50), &white, 4);
	struct screen other = { 0 };
	assert_true(source.draw(source.opaque, &other, SCREEN_WHOLE));
	screen_free(&other);
	assert_int_equal(damaged(), 1);
	end(&b);
}

static void text_that_stands_still_is_not_drawn(void **state)
{
	struct board b;

	setup(&b);
	set_mode(&b, &mode3);
	load_font(&b);
	crtc(&b, 0x0a, 0x20);
	damaged();
	damaged();
	board_write(&b, B8000 + 2 * CELLS, 2, 0x0f55);
	assert_int_equal(damaged(), 2);
	assert_int_equal(damaged(), 0);
	end(&b);
}

/* --- the BAR --- */

static void the_memory_follows_its_bar(void **state)
{
	uint8_t v = 1;
	struct board b;

	setup(&b);
	assert_true(mem_write(b.mem, gpa(MEMORY + 7), &v, 1));
	assert_int_equal(mem_movable_host(b.mem, 0)[7], 1);
	place(&b, 0xe0000000, MMIO);
	assert_false(mem_read(b.mem, gpa(MEMORY + 7), &v, 1));
	assert_true(mem_read(b.mem, gpa(0xe0000007), &v, 1));
	/* The bus leads to the same. */
	assert_int_equal(board_read(&b, 0xe0000007, 1), 1);
	pci_config_write(b.pci, DEVFN, 4, 2, 0);
	assert_false(mem_read(b.mem, gpa(0xe0000007), &v, 1));
	/* Over RAM it is not seen, and over another BAR it is nowhere. */
	place(&b, 0x100000, MMIO);
	assert_true(mem_read(b.mem, gpa(0x100007), &v, 1));
	assert_int_equal(v, 0);
	pci_bus_reset(b.pci);
	assert_false(mem_read(b.mem, gpa(0xe0000007), &v, 1));
	end(&b);
}

static void the_edid_is_one(void **state)
{
	uint8_t e[VGA_EDID_SIZE], sum = 0;
	struct board b;

	setup(&b);
	for (unsigned n = 0; n < VGA_EDID_SIZE; n += 4)
		st_le32(e + n, (uint32_t)board_read(&b, MMIO + n, 4));
	for (unsigned n = 0; n < VGA_EDID_SIZE; n++)
		sum = (uint8_t)(sum + e[n]);
	assert_int_equal(sum, 0);
	assert_int_equal(ld_be64(e), 0x00ffffffffffff00);
	assert_int_equal(e[56] | (e[58] & 0xf0) << 4, 1280);
	assert_int_equal(e[59] | (e[61] & 0xf0) << 4, 800);
	end(&b);
}

static void use(struct board *b)
{
	draw();
	source.text(source.opaque, &text);
	board_write(b, 0xa8000, 4, 0x12345678);
	board_read(b, 0xb8000, 4);
	in8(b, 0x3da);
}

static void its_state_moves(void **state)
{
	struct board b, t;

	setup(&b);
	set_mode(&b, &mode3);
	crtc(&b, 0x0f, 7);
	out8(&b, 0x3c0, 5);
	color(&b, 3, 1, 2, 3);
	board_migrate(&b, &t, make);
	draw();
	assert_int_equal(screen.width, 720);
	assert_int_equal(board_in(&t, 0x3d4, 2), 0x070f);
	linear(&t, 640, 400, 8);
	dispi(&t, 5, 3);
	board_mutate(&t, use);
	end(&t);
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_keep_what_they_can),
		cmocka_unit_test(the_dac_counts),
		cmocka_unit_test(the_retrace_comes_with_time),
		cmocka_unit_test(write_modes),
		cmocka_unit_test(read_modes),
		cmocka_unit_test(the_window_is_where_it_is_said),
		cmocka_unit_test(characters_are_drawn),
		cmocka_unit_test(characters_are_told),
		cmocka_unit_test(planes_are_drawn),
		cmocka_unit_test(bytes_are_drawn),
		cmocka_unit_test(cga_is_drawn),
		cmocka_unit_test(dispi_says_what_it_can),
		cmocka_unit_test(every_depth_is_drawn),
		cmocka_unit_test(banks_and_planes_of_dispi),
		cmocka_unit_test(only_changes_are_damage),
		cmocka_unit_test(text_that_stands_still_is_not_drawn),
		cmocka_unit_test(the_memory_follows_its_bar),
		cmocka_unit_test(the_edid_is_one),
		cmocka_unit_test(its_state_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
