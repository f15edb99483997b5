/*
 * Registers of the VGA at 3B0h-3DFh: IBM VGA, as "FreeVGA" and Intel's data sheets of compatible chips describe them.
 */
#include "base/bytes.h"
#include "dev/vga_impl.h"

/* What of a register can be written; beyond the tables nothing is there. */
static const uint8_t seq_mask[SEQ_COUNT] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
static const uint8_t gfx_mask[GFX_COUNT] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };

#define LINE_NS	      31778u /* of 800 dots at 25.175 MHz, as of 900 at 28.322 MHz */
#define LINE_SHOWN_NS 25422u
#define CRTC_LOCKED   0x80u /* in CRTC_RETRACE_END: registers 0 to 7 are read-only, but for: */
#define CRTC_SPLIT_8  0x10u /* in CRTC_OVERFLOW */
#define FIRST	      0x3b0u
#define STATUS_OFF    0x01u
#define STATUS_VBLANK 0x08u

/* --- input status 1 --- */

static uint8_t status(struct vga *v)
{
	const struct vga_lines l = vga_lines(v);
	uint64_t now = (uint64_t)clock_now_ns(v->c.clock), line = now / LINE_NS % l.total;
	uint8_t s = 0;

	if (line >= l.shown || now % LINE_NS >= LINE_SHOWN_NS)
		s |= STATUS_OFF;
	if (line >= l.retrace && line < l.retrace_end)
		s |= STATUS_VBLANK | STATUS_OFF;
	v->attr_data = false;
	return s;
}

/* --- the DAC --- */

static bool dac_is_8bit(const struct vga *v)
{
	return vga_dispi_on(v) && v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC;
}

static uint8_t dac_next(struct vga *v)
{
	uint8_t val = v->palette[3 * v->dac_read + v->dac_part];

	if (++v->dac_part == 3) {
		v->dac_part = 0;
		v->dac_read++;
	}
	return val;
}

/* A color is changed with its third part. */
static void dac_put(struct vga *v, uint8_t val)
{
	uint8_t *color = v->palette + 3 * v->dac_write;

	if (!dac_is_8bit(v))
		val &= 0x3f;
	if (v->dac_part < 2) {
		v->dac_new[v->dac_part++] = val;
		return;
	}
	color[0] = v->dac_new[0];
	color[1] = v->dac_new[1];
	color[2] = val;
	v->dac_part = 0;
	v->dac_write++;
}

/* --- the attribute and CRT controllers --- */

static void attr_write(struct vga *v, uint8_t val)
{
	static const uint8_t masks[] = { 0xef, 0xff, 0x3f, 0x0f, 0x0f };
	unsigned n = v->attr_index & 0x1f;

	v->attr_data = !v->attr_data;
	if (v->attr_data)
		v->attr_index = val & 0x3f;
	else if (n < ATTR_MODE)
		v->attr[n] = val & 0x3f;
	else if (n < ATTR_COUNT)
		v->attr[n] = val & masks[n - ATTR_MODE];
}

static void crtc_write(struct vga *v, uint8_t val)
{
	unsigned n = v->crtc_index;

	if (n >= CRTC_COUNT)
		return;
	if (n > CRTC_OVERFLOW || !(v->crtc[CRTC_RETRACE_END] & CRTC_LOCKED))
		v->crtc[n] = val;
	else if (n == CRTC_OVERFLOW)
		v->crtc[n] = (uint8_t)((v->crtc[n] & ~CRTC_SPLIT_8) | (val & CRTC_SPLIT_8));
}

/* --- ports --- */

/* 3B0h-3BFh or 3D0h-3DFh: only one of both is there. As if it were the latter; 0: not there. */
static unsigned crtc_port(const struct vga *v, unsigned port)
{
	if (port >= 0x3c0 && port < 0x3d0)
		return port;
	if ((port >= 0x3d0) != (v->misc & MISC_COLOR))
		return 0;
	return port < 0x3c0 ? port + 0x20 : port;
}

uint8_t vga_port_read(struct vga *v, unsigned port)
{
	switch (crtc_port(v, port)) {
	case 0x3c0:
		return v->attr_index;
	case 0x3c1:
		return (v->attr_index & 0x1f) < ATTR_COUNT ? v->attr[v->attr_index & 0x1f] : 0;
	case 0x3c2: /* a monitor is there */
		return 0x10;
	case 0x3c4:
		return v->seq_index;
	case 0x3c5:
		return v->seq_index < SEQ_COUNT ? v->seq[v->seq_index] : 0;
	case 0x3c6:
		return v->dac_mask;
	case 0x3c7:
		return v->dac_reading ? 3 : 0;
	case 0x3c8:
		return v->dac_write;
	case 0x3c9:
		return dac_next(v);
	case 0x3ca:
		return v->feature;
	case 0x3cc:
		return v->misc;
	case 0x3ce:
		return v->gfx_index;
	case 0x3cf:
		return v->gfx_index < GFX_COUNT ? v->gfx[v->gfx_index] : 0;
	case 0x3d4:
		return v->crtc_index;
	case 0x3d5:
		return v->crtc_index < CRTC_COUNT ? v->crtc[v->crtc_index] : 0;
	case 0x3da:
		return status(v);
	default:
		return 0xff;
	}
}

void vga_port_write(struct vga *v, unsigned port, uint8_t val)
{
	v->version++;
	switch (crtc_port(v, port)) {
	case 0x3c0:
		attr_write(v, val);
		break;
	case 0x3c2:
		v->misc = val & 0xef;
		break;
	case 0x3c4:
		v->seq_index = val & 7;
		break;
	case 0x3c5:
		if (v->seq_index < SEQ_COUNT)
			v->seq[v->seq_index] = val & seq_mask[v->seq_index];
		break;
	case 0x3c6:
		v->dac_mask = val;
		break;
	case 0x3c7:
		v->dac_read = val;
		v->dac_part = 0;
		v->dac_reading = true;
		break;
	case 0x3c8:
		v->dac_write = val;
		v->dac_part = 0;
		v->dac_reading = false;
		break;
	case 0x3c9:
		dac_put(v, val);
		break;
	case 0x3ce:
		v->gfx_index = val & 15;
		break;
	case 0x3cf:
		if (v->gfx_index < GFX_COUNT)
			v->gfx[v->gfx_index] = val & gfx_mask[v->gfx_index];
		break;
	case 0x3d4:
		v->crtc_index = val;
		break;
	case 0x3d5:
		crtc_write(v, val);
		break;
	case 0x3da:
		v->feature = val & 0x10;
		break;
	default:
		break;
	}
}

static uint64_t read_port(void *opaque, uint64_t off, unsigned size)
{
	return vga_port_read(opaque, (unsigned)(FIRST + off));
}

static void write_port(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	vga_port_write(opaque, (unsigned)(FIRST + off), (uint8_t)val);
}

/* Words come as bytes: index and data at once. */
const struct bus_ops vga_port_ops = { read_port, write_port, { 1, 4 }, { 1, 1 } };
