/*
 * A hostile driver of the VGA: its registers with any order and value, dispi modes of any size, the window and the
 * memory, the BAR anywhere, and between all that somebody who looks at the screen. Eight bytes are one step.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "dev/vga.h"

#define SIZE  (1u << 20)
#define STEPS 512
#define DRAWS 24 /* of large pictures, in one input */
#define DEVFN 16

struct fuzz {
	struct loop *loop;
	struct vclock *clock;
	struct mem_space *mem;
	struct bus *bus;
	struct pci_bus *pci;
	struct device *vga;
	struct screen_source source;
	struct screen screen;
	struct screen_text text;
	unsigned draws;
};

static void send_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static void make(struct fuzz *f)
{
	const struct mem_slot_config ram = { .name = "ram", .base = gpa(0), .size = SIZE, .fd = -1 },
				     slot = { .name = "vga", .size = SIZE, .fd = -1 };
	static const struct irq_line intx[4];
	const struct msi_sink msi = { send_msi, NULL };
	struct vga_config c = { .devfn = DEVFN, .memory_size = SIZE };
	struct err err;

	f->loop = loop_new(&err);
	f->clock = clock_new(f->loop, CLOCK_SOURCE_ICOUNT, &err);
	f->mem = mem_space_new();
	f->bus = bus_new();
	f->pci = pci_bus_new(f->bus, intx, &msi);
	if (mem_add_slot(f->mem, &ram, &err) || mem_add_movable(f->mem, &slot, &err))
		abort();
	c.bus = f->bus;
	c.pci = f->pci;
	c.clock = f->clock;
	c.mem = f->mem;
	f->vga = vga_new(&c, &f->source, &err);
	if (!f->vga)
		abort();
	pci_config_write(f->pci, DEVFN, 0x10, 4, 0xd0000000);
	pci_config_write(f->pci, DEVFN, 0x18, 4, 0xd2000000);
	pci_config_write(f->pci, DEVFN, 4, 2, 3);
}

static void look(struct fuzz *f, enum screen_how how)
{
	if (f->draws++ >= DRAWS)
		return;
	if (!f->source.draw(f->source.opaque, &f->screen, how))
		return;
	for (unsigned y = 0; y < f->screen.height; y++)
		if (f->screen.damage[y].to > f->screen.width)
			abort();
}

static void step(struct fuzz *f, const uint8_t *s)
{
	uint32_t val = ld_le32(s + 4), at = ld_le16(s + 2);
	unsigned size = 1u << (s[1] & 3);
	uint64_t v;

	switch (s[0] % 16) {
	case 0 ... 3: /* index and data */
		bus_write(f->bus, BUS_PORT, (uint64_t[]){ 0x3c4, 0x3ce, 0x3d4, 0x3b4 }[s[0] % 16], 2, val);
		break;
	case 4:
		bus_write(f->bus, BUS_PORT, 0x3b0 + at % 0x30, size > 4 ? 4 : size, val);
		break;
	case 5:
		bus_read(f->bus, BUS_PORT, 0x3b0 + at % 0x30, size > 4 ? 4 : size, &v);
		break;
	case 6 ... 8:
		bus_write(f->bus, BUS_PORT, 0x1ce, 2, s[1] % 12);
		bus_write(f->bus, BUS_PORT, 0x1cf, 2, s[0] & 0x80 ? val : val & 0x3ff);
		break;
	case 9:
		bus_write(f->bus, BUS_MMIO, 0xa0000 + (val >> 8 & 0x1ffff), size, val * 0x100000001ull);
		break;
	case 10:
		bus_read(f->bus, BUS_MMIO, 0xa0000 + (val >> 8 & 0x1ffff), size, &v);
		break;
	case 11:
		bus_write(f->bus, BUS_MMIO, 0xd2000000 + at % 0x800, size, val);
		bus_read(f->bus, BUS_MMIO, 0xd2000000 + at % 0x800, size, &v);
		break;
	case 12:
		mem_write(f->mem, gpa(0xd0000000 + val % SIZE), s, s[1] & 7);
		bus_read(f->bus, BUS_MMIO, 0xd0000000 + val % SIZE, size, &v);
		break;
	case 13:
		pci_config_write(f->pci, DEVFN, (uint8_t)at, 4, val);
		break;
	case 14:
		look(f, s[1] & 1 ? SCREEN_WHOLE : SCREEN_CHANGES);
		break;
	default:
		f->source.text(f->source.opaque, &f->text);
		if (s[1] == 0xff)
			devices_reset(f->vga);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz f;

	memset(&f, 0, sizeof(f));
	make(&f);
	for (unsigned n = 0; size >= 8 && n < STEPS; data += 8, size -= 8, n++)
		step(&f, data);
	look(&f, SCREEN_CHANGES);
	screen_free(&f.screen);
	f.vga->destroy(f.vga);
	pci_bus_free(f.pci);
	bus_free(f.bus);
	mem_space_free(f.mem);
	clock_free(f.clock);
	loop_free(f.loop);
	return 0;
}
