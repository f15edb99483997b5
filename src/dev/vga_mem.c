/*
 * The memory of the VGA as the window at A0000h-BFFFFh shows it: four planes behind latches and a small arithmetic
 * unit, or bytes in a row (chained planes, and banks of dispi).
 */
#include <string.h>

#include "base/bytes.h"
#include "dev/vga_impl.h"

#define BANK 0x10000u

/* A byte for each plane from a bit for each plane. */
static uint32_t spread(unsigned planes)
{
	uint32_t v = 0;

	for (unsigned p = 0; p < 4; p++)
		v |= planes >> p & 1 ? 0xffu << 8 * p : 0;
	return v;
}

/* Where the window at `off` leads to; false: nowhere. */
static bool window(const struct vga *v, uint64_t off, uint32_t *at)
{
	static const struct {
		uint32_t base, size;
	} maps[4] = { { 0, 0x20000 }, { 0, 0x10000 }, { 0x10000, 0x8000 }, { 0x18000, 0x8000 } };
	unsigned map = v->gfx[GFX_MISC] >> 2 & 3;

	if (!(v->misc & MISC_MEMORY))
		return false;
	if (vga_dispi_on(v))
		map = 1;
	if (off - maps[map].base >= maps[map].size)
		return false;
	*at = (uint32_t)(off - maps[map].base);
	if (vga_dispi_on(v))
		*at += v->dispi[DISPI_BANK] * BANK;
	return true;
}

static bool chained(const struct vga *v)
{
	return vga_dispi_on(v) ? v->dispi[DISPI_DEPTH] > 4 : v->seq[SEQ_MEMORY] & MEMORY_CHAIN4;
}

/* With odd and even addresses in planes of their own, two are one address of the planes. */
static bool odd_even(const struct vga *v)
{
	return v->gfx[GFX_MODE] & MODE_ODDEVEN && !vga_dispi_on(v);
}

static uint8_t *planes_at(const struct vga *v, uint32_t at)
{
	return v->memory + (at * 4 & (v->c.memory_size - 1));
}

/* --- reads --- */

static uint8_t read_byte(struct vga *v, uint32_t at)
{
	unsigned plane = v->gfx[GFX_READ_MAP];
	uint32_t diff;

	if (chained(v)) {
		at &= v->c.memory_size - 1;
		memcpy(v->latch, v->memory + (at & ~3u), 4);
		return v->memory[at];
	}
	if (odd_even(v)) {
		plane = (plane & 2) | (at & 1);
		at >>= 1;
	}
	memcpy(v->latch, planes_at(v, at), 4);
	if (!(v->gfx[GFX_MODE] & MODE_READ_1))
		return v->latch[plane & 3];
	/* Ones where all planes that count have the color. */
	diff = (ld_le32(v->latch) ^ spread(v->gfx[GFX_COMPARE])) & spread(v->gfx[GFX_IGNORE]);
	diff |= diff >> 16;
	return (uint8_t) ~(diff | diff >> 8);
}

static uint64_t window_read(void *opaque, uint64_t off, unsigned size)
{
	struct vga *v = opaque;
	uint64_t val = 0;
	uint32_t at;

	for (unsigned n = 0; n < size; n++)
		val |= (uint64_t)(window(v, off + n, &at) ? read_byte(v, at) : 0xff) << 8 * n;
	return val;
}

/* --- writes --- */

static uint32_t combine(const struct vga *v, uint32_t val, uint32_t mask)
{
	uint32_t latch = ld_le32(v->latch);

	switch (v->gfx[GFX_ROTATE] >> 3 & 3) {
	case 1:
		val &= latch;
		break;
	case 2:
		val |= latch;
		break;
	case 3:
		val ^= latch;
		break;
	default:
		break;
	}
	return (val & mask) | (latch & ~mask);
}

static uint8_t rotated(const struct vga *v, uint8_t val)
{
	unsigned n = v->gfx[GFX_ROTATE] & 7;

	return (uint8_t)(val >> n | val << (8 - n));
}

/* What the four planes would get. */
static uint32_t written(const struct vga *v, uint8_t val)
{
	const uint32_t each = 0x01010101, mask = v->gfx[GFX_MASK] * each;
	uint32_t set = spread(v->gfx[GFX_SET]), enabled;

	switch (v->gfx[GFX_MODE] & 3) {
	case 0:
		enabled = spread(v->gfx[GFX_SET_ENABLE]);
		return combine(v, (rotated(v, val) * each & ~enabled) | (set & enabled), mask);
	case 1:
		return ld_le32(v->latch);
	case 2:
		return combine(v, spread(val & 15), mask);
	default:
		return combine(v, set, rotated(v, val) * each & mask);
	}
}

static void write_planes(struct vga *v, uint32_t at, uint8_t val)
{
	unsigned planes = v->seq[SEQ_MAP_MASK];
	uint32_t mask;
	uint8_t *p;

	if (odd_even(v)) {
		planes &= at & 1 ? 0xau : 0x5u;
		at >>= 1;
	}
	p = planes_at(v, at);
	mask = spread(planes);
	st_le32(p, (ld_le32(p) & ~mask) | (written(v, val) & mask));
	mem_movable_written(v->c.mem, v->c.memory, (uint64_t)(p - v->memory), 4);
}

static void write_byte(struct vga *v, uint32_t at, uint8_t val)
{
	if (!chained(v)) {
		write_planes(v, at, val);
		return;
	}
	at &= v->c.memory_size - 1;
	if (!vga_dispi_on(v) && !(v->seq[SEQ_MAP_MASK] >> (at & 3) & 1))
		return;
	v->memory[at] = val;
	mem_movable_written(v->c.mem, v->c.memory, at, 1);
}

static void window_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct vga *v = opaque;
	uint32_t at;

	for (unsigned n = 0; n < size; n++)
		if (window(v, off + n, &at))
			write_byte(v, at, (uint8_t)(val >> 8 * n));
}

const struct bus_ops vga_window_ops = { window_read, window_write, { 1, 8 }, { 1, 8 } };

/* --- BAR 0, for those who come by the bus --- */

static uint64_t linear_read(void *opaque, uint64_t off, unsigned size)
{
	const struct vga *v = opaque;
	uint64_t val = 0;

	memcpy(&val, v->memory + off, size);
	return le64toh(val);
}

static void linear_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct vga *v = opaque;

	val = htole64(val);
	memcpy(v->memory + off, &val, size);
	mem_movable_written(v->c.mem, v->c.memory, off, size);
}

const struct bus_ops vga_linear_ops = { linear_read, linear_write, { 1, 8 }, { 1, 8 } };
