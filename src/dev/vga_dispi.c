/*
 * The Bochs dispi interface (VBE DISPI 0xB0C5): linear modes by ports 1CEh and 1CFh, and by BAR 2 as QEMU's
 * docs/specs/standard-vga has it. Also the EDID, which is in that BAR.
 */
#include <string.h>

#include "base/bytes.h"
#include "dev/vga_impl.h"

/* BAR 2 */
#define MMIO_PORTS    0x400u /* 3C0h to 3DFh */
#define MMIO_DISPI    0x500u /* a word each */
#define MMIO_EXT      0x600u
#define MMIO_ENDIAN   0x604u
#define EXT_SIZE      8u
#define ENDIAN_LITTLE 0x1e1e1e1eu
#define ENDIAN_BIG    0xbebebebeu

static unsigned bytes_a_pixel(const struct vga *v)
{
	return (v->dispi[DISPI_DEPTH] + 7u) / 8;
}

uint32_t vga_dispi_pitch(const struct vga *v)
{
	return v->dispi[DISPI_DEPTH] == 4 ? v->dispi[DISPI_VIRTUAL_WIDTH] / 8u
					  : v->dispi[DISPI_VIRTUAL_WIDTH] * bytes_a_pixel(v);
}

static uint16_t within(uint32_t val, uint32_t low, uint32_t high)
{
	return (uint16_t)(val < low ? low : val > high ? high : val);
}

void vga_dispi_fix(struct vga *v)
{
	static const uint16_t depths[] = { 4, 8, 15, 16, 24, 32 };
	uint16_t *d = v->dispi;
	uint32_t memory = v->c.memory_size, rows, widest;
	bool known = false;

	for (size_t n = 0; n < ARRAY_LEN(depths); n++)
		known |= d[DISPI_DEPTH] == depths[n];
	if (!known)
		d[DISPI_DEPTH] = 8;
	if (d[DISPI_DEPTH] == 4)
		memory /= 4;
	/* A row, at the least, is in memory; the narrowest has 8 pixels. */
	widest = d[DISPI_DEPTH] == 4 ? memory * 8 : memory / bytes_a_pixel(v);
	widest = widest < DISPI_WIDTH_MAX ? widest : DISPI_WIDTH_MAX;
	d[DISPI_WIDTH] = within(d[DISPI_WIDTH], 8, widest) & 0xfff8;
	d[DISPI_VIRTUAL_WIDTH] = within(d[DISPI_VIRTUAL_WIDTH], d[DISPI_WIDTH], widest) & 0xfff8;
	rows = memory / vga_dispi_pitch(v);
	d[DISPI_VIRTUAL_HEIGHT] = within(rows, 1, 0xffff);
	d[DISPI_HEIGHT] = within(d[DISPI_HEIGHT], 1, rows < DISPI_HEIGHT_MAX ? rows : DISPI_HEIGHT_MAX);
	d[DISPI_X] = within(d[DISPI_X], 0, (uint32_t)d[DISPI_VIRTUAL_WIDTH] - d[DISPI_WIDTH]);
	d[DISPI_Y] = within(d[DISPI_Y], 0, (uint32_t)d[DISPI_VIRTUAL_HEIGHT] - d[DISPI_HEIGHT]);
	d[DISPI_BANK] &= (uint16_t)((v->c.memory_size >> 16) - 1);
}

static void enable(struct vga *v, uint16_t val)
{
	bool was = vga_dispi_on(v);
	uint16_t *d = v->dispi;

	d[DISPI_ENABLE] = val & (DISPI_ENABLED | DISPI_CAPS | DISPI_8BIT_DAC | DISPI_LINEAR | DISPI_KEEP);
	if (!(val & DISPI_ENABLED)) {
		d[DISPI_BANK] = 0;
		return;
	}
	if (was)
		return;
	d[DISPI_VIRTUAL_WIDTH] = d[DISPI_WIDTH];
	d[DISPI_X] = d[DISPI_Y] = 0;
	vga_dispi_fix(v);
	if (val & DISPI_KEEP)
		return;
	size_t len = (size_t)vga_dispi_pitch(v) * d[DISPI_HEIGHT] * (d[DISPI_DEPTH] == 4 ? 4 : 1);
	memset(v->memory, 0, len);
	mem_movable_written(v->c.mem, v->c.memory, 0, len);
}

static void dispi_write(struct vga *v, unsigned n, uint16_t val)
{
	v->version++;
	switch (n) {
	case DISPI_ID:
		if (val >= DISPI_ID_0 && val <= DISPI_ID_5)
			v->dispi[n] = val;
		break;
	case DISPI_WIDTH:
	case DISPI_HEIGHT:
	case DISPI_DEPTH:
	case DISPI_VIRTUAL_WIDTH:
	case DISPI_X:
	case DISPI_Y:
	case DISPI_BANK:
		v->dispi[n] = val;
		/* A mode that is set up piece by piece is looked at when it is switched on. */
		if (vga_dispi_on(v))
			vga_dispi_fix(v);
		break;
	case DISPI_ENABLE:
		enable(v, val);
		break;
	default:
		break;
	}
}

static uint16_t dispi_read(const struct vga *v, unsigned n)
{
	static const uint16_t most[] = {
		[DISPI_WIDTH] = DISPI_WIDTH_MAX, [DISPI_HEIGHT] = DISPI_HEIGHT_MAX, [DISPI_DEPTH] = 32
	};

	if (n >= DISPI_COUNT)
		return 0;
	if (v->dispi[DISPI_ENABLE] & DISPI_CAPS && n >= DISPI_WIDTH && n <= DISPI_DEPTH)
		return most[n];
	return v->dispi[n];
}

/* --- ports: an index at 1CEh, and data at 1CFh, which is not aligned and comes as bytes, or at 1D0h --- */

static uint64_t port_read(void *opaque, uint64_t off, unsigned size)
{
	const struct vga *v = opaque;
	uint16_t data = dispi_read(v, v->dispi_index);

	switch (off) {
	case 0:
		return v->dispi_index & size_mask(size);
	case 1:
		return data & 0xff;
	case 2:
		return size == 2 ? data : data >> 8;
	default:
		return size_mask(size);
	}
}

static void port_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct vga *v = opaque;

	if (off == 0)
		v->dispi_index = (uint16_t)val;
	else if (off == 1)
		v->dispi_low = (uint8_t)val;
	else if (off == 2)
		dispi_write(v, v->dispi_index, (uint16_t)(size == 2 ? val : (val & 0xff) << 8 | v->dispi_low));
}

const struct bus_ops vga_dispi_ops = { port_read, port_write, { 1, 4 }, { 1, 2 } };

/* --- BAR 2 --- */

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned size)
{
	struct vga *v = opaque;
	uint64_t val = 0;

	if (off + size <= VGA_EDID_SIZE)
		memcpy(&val, v->edid + off, size);
	else if (off >= MMIO_PORTS && off < MMIO_PORTS + 0x20)
		for (unsigned n = 0; n < size; n++)
			val |= (uint64_t)vga_port_read(v, (unsigned)(0x3c0 + off - MMIO_PORTS + n)) << 8 * n;
	else if (off >= MMIO_DISPI && off < MMIO_DISPI + 2 * DISPI_COUNT)
		return dispi_read(v, (unsigned)(off - MMIO_DISPI) / 2) >> 8 * (off & 1) & size_mask(size);
	else if (off == MMIO_EXT)
		return EXT_SIZE;
	else if (off == MMIO_ENDIAN)
		return (v->big_endian ? ENDIAN_BIG : ENDIAN_LITTLE) & size_mask(size);
	else
		return 0;
	return off < VGA_EDID_SIZE ? le64toh(val) : val;
}

static void mmio_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct vga *v = opaque;

	if (off >= MMIO_PORTS && off < MMIO_PORTS + 0x20) {
		for (unsigned n = 0; n < size; n++)
			vga_port_write(v, (unsigned)(0x3c0 + off - MMIO_PORTS + n), (uint8_t)(val >> 8 * n));
	} else if (off >= MMIO_DISPI && off < MMIO_DISPI + 2 * DISPI_COUNT && size == 2) {
		dispi_write(v, (unsigned)(off - MMIO_DISPI) / 2, (uint16_t)val);
	} else if (off == MMIO_ENDIAN && size == 4 && (val == ENDIAN_LITTLE || val == ENDIAN_BIG)) {
		v->big_endian = val == ENDIAN_BIG;
		v->version++;
	}
}

/* Wider accesses than what is there come in pieces of 4: the registers are words, but for the last two. */
const struct bus_ops vga_mmio_ops = { mmio_read, mmio_write, { 1, 4 }, { 1, 4 } };

/* --- EDID --- */

#define EDID_DOT_10KHZ(pixels) ((unsigned)((uint64_t)(pixels)*60 / 10000))

/* A detailed timing: blanking a fifth of the width, and 25 lines. */
static void timing(uint8_t *t, unsigned w, unsigned h)
{
	unsigned blank = w / 5 & ~7u, lines = 25, front = 32, sync = 32;
	unsigned clock = EDID_DOT_10KHZ((uint64_t)(w + blank) * (h + lines));

	st_le16(t, (uint16_t)clock);
	t[2] = (uint8_t)w;
	t[3] = (uint8_t)blank;
	t[4] = (uint8_t)(w >> 8 << 4 | blank >> 8);
	t[5] = (uint8_t)h;
	t[6] = (uint8_t)lines;
	t[7] = (uint8_t)(h >> 8 << 4);
	t[8] = (uint8_t)front;
	t[9] = (uint8_t)sync;
	t[10] = 3 << 4 | 6;
	/* At 96 dots an inch, in millimeters. */
	t[12] = (uint8_t)(w * 254 / 960);
	t[13] = (uint8_t)(h * 254 / 960);
	t[14] = (uint8_t)((w * 254 / 960) >> 8 << 4 | (h * 254 / 960) >> 8);
	t[17] = 0x18; /* digital, separate sync */
}

/* A text descriptor of 13 characters. */
static void text(uint8_t *d, uint8_t tag, const char *s)
{
	size_t len = strlen(s);

	memset(d, 0, 18);
	d[3] = tag;
	memset(d + 5, ' ', 13);
	memcpy(d + 5, s, len);
	d[5 + len] = '\n';
}

void vga_edid(uint8_t e[VGA_EDID_SIZE], unsigned w, unsigned h)
{
	static const uint8_t chromaticity[10] = { 0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54 };
	/* Width, and aspect 0: 16:10, 1: 4:3, 2: 5:4, 3: 16:9 */
	static const struct {
		uint16_t width;
		uint8_t aspect;
	} standard[8] = { { 1920, 3 }, { 1680, 0 }, { 1600, 1 }, { 1440, 0 },
			  { 1280, 2 }, { 1280, 0 }, { 1024, 1 }, { 800, 1 } };
	uint8_t sum = 0;

	memset(e, 0, VGA_EDID_SIZE);
	memset(e + 1, 0xff, 6);
	st_be16(e + 8, ('V' - '@') << 10 | ('R' - '@') << 5 | ('O' - '@'));
	st_le16(e + 10, 0x1111);
	e[16] = 1;
	e[17] = 2026 - 1990;
	e[18] = 1;
	e[19] = 4;
	e[20] = 0xa5; /* digital, 8 bits a color, DisplayPort */
	e[21] = (uint8_t)(w * 254 / 9600);
	e[22] = (uint8_t)(h * 254 / 9600);
	e[23] = 120;  /* gamma 2.2 */
	e[24] = 0x06; /* sRGB, and the first timing is preferred */
	memcpy(e + 25, chromaticity, sizeof(chromaticity));
	e[35] = 0x21; /* 640x480 and 800x600 at 60 Hz */
	e[36] = 0x08; /* 1024x768 at 60 Hz */
	for (unsigned n = 0; n < 8; n++) {
		e[38 + 2 * n] = (uint8_t)(standard[n].width / 8 - 31);
		e[39 + 2 * n] = (uint8_t)(standard[n].aspect << 6);
	}
	timing(e + 54, w, h);
	text(e + 72, 0xfc, "Vireo Screen");
	/* 50 to 125 Hz, 30 to 160 kHz, 600 MHz */
	text(e + 90, 0xfd, "");
	memcpy(e + 95, (const uint8_t[]){ 50, 125, 30, 160, 60, 0, '\n' }, 7);
	text(e + 108, 0x10, "");
	memset(e + 113, 0, 13);
	for (unsigned n = 0; n < VGA_EDID_SIZE - 1; n++)
		sum = (uint8_t)(sum + e[n]);
	e[127] = (uint8_t)-sum;
}
