/*
 * What the files of the VGA share: its registers as the guest has left them. The lock guards all of it; memory is not
 * guarded, as guests write to it at any time.
 *
 * Plane p of address a is byte 4 * a + p of the memory; with chained planes, byte a.
 */
#ifndef VIREO_DEV_VGA_IMPL_H
#define VIREO_DEV_VGA_IMPL_H

#include "dev/vga.h"

/* Sequencer */
enum { SEQ_CLOCKING = 1, SEQ_MAP_MASK, SEQ_FONT, SEQ_MEMORY, SEQ_COUNT };
#define CLOCKING_8_DOTS	  0x01u
#define CLOCKING_HALF	  0x08u
#define CLOCKING_OFF	  0x20u
#define MEMORY_NO_ODDEVEN 0x04u
#define MEMORY_CHAIN4	  0x08u
/* Graphics controller */
enum {
	GFX_SET,
	GFX_SET_ENABLE,
	GFX_COMPARE,
	GFX_ROTATE,
	GFX_READ_MAP,
	GFX_MODE,
	GFX_MISC,
	GFX_IGNORE,
	GFX_MASK,
	GFX_COUNT
};
#define MODE_READ_1   0x08u
#define MODE_ODDEVEN  0x10u
#define MISC_GRAPHICS 0x01u
/* CRT controller */
enum {
	CRTC_SHOWN_COLUMNS = 0x01,
	CRTC_TOTAL_ROWS = 0x06,
	CRTC_OVERFLOW = 0x07,
	CRTC_HEIGHT = 0x09,
	CRTC_CURSOR_TOP = 0x0a,
	CRTC_CURSOR_BOTTOM = 0x0b,
	CRTC_START = 0x0c, /* high, then low */
	CRTC_CURSOR = 0x0e,
	CRTC_RETRACE = 0x10,
	CRTC_RETRACE_END = 0x11,
	CRTC_SHOWN_ROWS = 0x12,
	CRTC_OFFSET = 0x13,
	CRTC_MODE = 0x17,
	CRTC_SPLIT = 0x18,
	CRTC_COUNT
};
#define HEIGHT_DOUBLE 0x80u
/* Attribute controller */
enum { ATTR_MODE = 0x10, ATTR_PLANES = 0x12, ATTR_PAN = 0x13, ATTR_COLORS = 0x14, ATTR_COUNT };
#define ATTR_LINES   0x04u
#define ATTR_BLINK   0x08u
#define ATTR_CUT_54  0x80u
#define ATTR_VISIBLE 0x20u /* of the index */
/* Miscellaneous output */
#define MISC_COLOR  0x01u
#define MISC_MEMORY 0x02u
/* Bochs dispi */
enum {
	DISPI_ID,
	DISPI_WIDTH,
	DISPI_HEIGHT,
	DISPI_DEPTH,
	DISPI_ENABLE,
	DISPI_BANK,
	DISPI_VIRTUAL_WIDTH,
	DISPI_VIRTUAL_HEIGHT,
	DISPI_X,
	DISPI_Y,
	DISPI_MEMORY,
	DISPI_COUNT
};
#define DISPI_ID_0	 0xb0c0u
#define DISPI_ID_5	 0xb0c5u
#define DISPI_ENABLED	 0x01u
#define DISPI_CAPS	 0x02u
#define DISPI_8BIT_DAC	 0x20u
#define DISPI_LINEAR	 0x40u
#define DISPI_KEEP	 0x80u
#define DISPI_WIDTH_MAX	 16000u
#define DISPI_HEIGHT_MAX 12000u

struct vga {
	struct device dev;
	pthread_mutex_t lock;
	struct pci_dev pci;
	struct vga_config c;
	uint8_t *memory;

	uint8_t misc, feature;
	uint8_t seq_index, seq[SEQ_COUNT];
	uint8_t gfx_index, gfx[GFX_COUNT];
	uint8_t crtc_index, crtc[CRTC_COUNT];
	uint8_t attr_index, attr[ATTR_COUNT];
	bool attr_data; /* the next write to 3C0h is data */
	uint8_t dac_mask, dac_read, dac_write, dac_part, dac_new[2];
	bool dac_reading;
	uint8_t palette[768]; /* as written: 6 bits, or 8 */
	uint8_t latch[4];
	uint16_t dispi_index, dispi[DISPI_COUNT];
	uint8_t dispi_low; /* of a word that comes as bytes */
	bool big_endian;

	/* Not saved. */
	uint32_t version;  /* changes whenever a register or memory was written to that the picture depends on */
	uint64_t *written; /* pages, for mem_movable_fetch() */
	uint8_t edid[VGA_EDID_SIZE];
};

/* --- vga_regs.c --- */
extern const struct bus_ops vga_port_ops; /* offset 0: 3B0h; `opaque` is the struct vga */
uint8_t vga_port_read(struct vga *v, unsigned port);
void vga_port_write(struct vga *v, unsigned port, uint8_t val);

/* --- vga_dispi.c --- */
extern const struct bus_ops vga_dispi_ops; /* offset 0: 1CEh */
extern const struct bus_ops vga_mmio_ops;  /* BAR 2 */
static inline bool vga_dispi_on(const struct vga *v)
{
	return v->dispi[DISPI_ENABLE] & DISPI_ENABLED;
}
/* Bytes from one row to the next; with 4 bits a pixel of each plane. */
uint32_t vga_dispi_pitch(const struct vga *v);
/* Make the registers agree with each other and with the memory. */
void vga_dispi_fix(struct vga *v);

/* --- vga_mem.c --- */
extern const struct bus_ops vga_window_ops; /* A0000h to BFFFFh */
extern const struct bus_ops vga_linear_ops; /* BAR 0, where it is not memory */

/* --- vga_draw.c --- */
bool vga_draw(void *opaque, struct screen *s, enum screen_how how);
bool vga_text(void *opaque, struct screen_text *t);
/* The display, in lines: all of one frame, those shown, and the retrace. */
struct vga_lines {
	unsigned total, shown, retrace, retrace_end;
};
struct vga_lines vga_lines(const struct vga *v);

#endif
