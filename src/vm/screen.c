/* The screen of a machine: the VGA with its memory, and what shows it. */
#include <stdio.h>
#include <string.h>

#include "dev/vga.h"
#include "vm/impl.h"

#define MIB 1048576ull

/* Without firmware what lies below 1 MiB is RAM: the window of the VGA is a hole in it. */
static int open_window(struct vm *vm, struct err *err)
{
	const struct mem_overlay_config c = { "vga", gpa(0xa0000), 0x20000, false, gpa(0) };
	int n;

	if (vm->firmware)
		return 0;
	n = mem_add_overlay(vm->mem, &c, err);
	if (n >= 0)
		mem_overlay_set(vm->mem, (unsigned)n, MEM_OVERLAY_HOLE);
	return n < 0 ? -1 : 0;
}

static int add_memory(struct vm *vm, struct err *err)
{
	struct mem_slot_config slot = { .name = "vga", .fd = -1 };
	int n;

	if (config_size(vm->config, "vga.memory", 16 * MIB, MIB, &vm->screen.size, err))
		return -1;
	slot.size = vm->screen.size;
	if (slot.size < VGA_MEMORY_MIN || slot.size > VGA_MEMORY_MAX || slot.size & (slot.size - 1))
		return err_set(err, "vga.memory: '%s' is not a power of two from 1M to 256M",
			       config_peek(vm->config, "vga.memory"));
	n = mem_add_movable(vm->mem, &slot, err);
	vm->screen.memory = (unsigned)n;
	return n < 0 ? -1 : 0;
}

int vm_add_screen_memory(struct vm *vm, struct err *err)
{
	static const char *const kinds[] = { "none", "std", NULL };
	int kind;

	if (config_choice(vm->config, "vga", 0, kinds, &kind, err))
		return -1;
	vm->screen.wanted = kind;
	return kind && (open_window(vm, err) || add_memory(vm, err)) ? -1 : 0;
}

int vm_add_screen(struct vm *vm, struct err *err)
{
	struct vga_config c = {
		.bus = vm->bus,
		.pci = vm->pci,
		.clock = vm->clock,
		.mem = vm->mem,
		.memory = vm->screen.memory,
		.memory_size = (uint32_t)vm->screen.size,
		.blind = vm->engine->dirty_log != NULL,
		.moved = vm_remapped,
		.opaque = vm,
	};
	/* OVMF has a driver of its own. */
	const struct vm_rom rom = { "vgabios", "/usr/share/seabios/vgabios-stdvga.bin",
				    vm->firmware && strcmp(vm->firmware, "uefi") };
	struct device *d;
	uint64_t slot;
	char text[8];

	if (!vm->screen.wanted)
		return 0;
	if (config_uint(vm->config, "vga.addr", 2, (struct config_range){ 1, 31 }, &slot, err))
		return -1;
	snprintf(text, sizeof(text), "%u", (unsigned)slot);
	if (config_choose(vm->config, "vga.addr", text, err))
		return -1;
	c.devfn = (uint8_t)(slot << 3);
	d = vga_new(&c, &vm->screen.source, err);
	if (!d)
		return -1;
	vm_add_device(vm, d);
	return vm_add_rom(vm, "vga", &rom, err);
}
