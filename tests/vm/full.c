/* See full.h. */
#include "full.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "vm/impl.h"

#define RINGS	   0x400000u
#define QUEUE_ROOM 0x8000u
#define SIZE	   64u

#define S_DRIVER      3u /* ACKNOWLEDGE, DRIVER */
#define S_FEATURES_OK 8u
#define S_DRIVER_OK   4u
#define F_PACKED      (1u << 2) /* of the second word */

static uint64_t base;
static struct bus *bus;

static uint32_t in(unsigned reg)
{
	uint64_t v;

	bus_read(bus, BUS_MMIO, base + reg, 4, &v);
	return (uint32_t)v;
}

static void out(unsigned reg, uint32_t v)
{
	bus_write(bus, BUS_MMIO, base + reg, 4, v);
}

/* Split rings get four buffers that the device may write. */
static void add_buffers(struct vm *vm, uint64_t ring)
{
	uint8_t desc[16], avail[2 + 2 + 8];

	for (unsigned n = 0; n < 4; n++) {
		st_le64(desc, ring + 0x4000 + 0x1000 * n);
		st_le32(desc + 8, 2048);
		st_le16(desc + 12, 2);
		st_le16(desc + 14, 0);
		mem_write(vm->mem, gpa(ring + 16 * n), desc, sizeof(desc));
		st_le16(avail + 4 + 2 * n, (uint16_t)n);
	}
	st_le16(avail, 0);
	st_le16(avail + 2, 4);
	mem_write(vm->mem, gpa(ring + 0x1000), avail, sizeof(avail));
}

static void drive(struct vm *vm, unsigned device)
{
	bool packed = device & 1;
	uint32_t high;

	out(0x70, S_DRIVER);
	for (unsigned word = 0; word < 2; word++) {
		out(0x14, word);
		out(0x24, word);
		high = in(0x10);
		out(0x20, word && !packed ? high & ~F_PACKED : high);
	}
	out(0x70, S_DRIVER | S_FEATURES_OK);
	for (unsigned q = 0; q < 8; q++) {
		uint64_t ring = RINGS + QUEUE_ROOM * (8 * device + q);

		out(0x30, q);
		if (!in(0x34))
			break;
		if (!packed && q == 0)
			add_buffers(vm, ring);
		out(0x38, in(0x34) < SIZE ? in(0x34) : SIZE);
		out(0x80, (uint32_t)ring);
		out(0x90, (uint32_t)ring + 0x1000);
		out(0xa0, (uint32_t)ring + 0x2000);
		out(0x44, 1);
	}
	out(0x70, S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	if (!(in(0x70) & S_DRIVER_OK))
		abort();
	out(0x50, 0);
}

void full_drive(struct vm *vm)
{
	bus = vm->bus;
	for (unsigned n = 0; n < vm->mmio_count; n++) {
		base = VM_MMIO_BASE + 0x1000 * n;
		drive(vm, n);
	}
}
