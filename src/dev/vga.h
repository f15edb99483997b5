/*
 * A VGA with the Bochs "dispi" extension, as QEMU's `-vga std` has them: PCI function 1234:1111. BAR 0 is the memory,
 * BAR 2 the registers once more. Present only when asked for. Threads as in isa.h; what shows the screen may ask from
 * any.
 */
#ifndef VIREO_DEV_VGA_H
#define VIREO_DEV_VGA_H

#include "base/screen.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/pci.h"
#include "clock/clock.h"
#include "mem/mem.h"

#define VGA_MEMORY_MIN (1u << 20)
#define VGA_MEMORY_MAX (256u << 20)

struct vga_config {
	struct bus *bus;
	struct pci_bus *pci;
	struct vclock *clock; /* for the retrace */
	uint8_t devfn;
	struct mem_space *mem;
	unsigned memory; /* of mem_add_movable(): its number, and its size, VGA_MEMORY_MIN to VGA_MEMORY_MAX */
	uint32_t memory_size;
	/* Stores of guests go past the flags of pages: pictures are compared instead. */
	bool blind;
	void (*moved)(void *opaque); /* the memory has; a vCPU's thread, or with vCPUs stopped */
	void *opaque;
};
/* `source` is filled. */
struct device *vga_new(const struct vga_config *c, struct screen_source *source, struct err *err);

/*
 * What an EDID says of a monitor for pictures of this size, 8 to 4095 pixels each way, at 60 Hz and with the sizes that
 * are usual: VESA E-EDID 1.4.
 */
#define VGA_EDID_SIZE 128
void vga_edid(uint8_t edid[VGA_EDID_SIZE], unsigned width, unsigned height);

#endif
