/*
 * A machine that begins in a ROM: the memory that the ROM needs, and what firmware asks of CMOS and fw_cfg before it
 * knows the machine. The numbers of CMOS bytes and the names of files are those that SeaBIOS and OVMF know from QEMU.
 */
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"
#include "dev/fw_cfg.h"
#include "vm/impl.h"

#define MIB 1048576ull

/* --- memory --- */

/* What is seen below 1 MiB, or where flash is, has changed. */
static void remapped(void *opaque)
{
	struct vm *vm = opaque;
	struct vm_cpu *self = cpus_self();

	if (vm->engine->remapped)
		vm->engine->remapped(vm->engine_vm, self ? self->vcpu : NULL);
}

int vm_add_firmware(struct vm *vm, struct err *err)
{
	const char *name;
	struct mem_slot_config slot;

	if (config_str(vm->config, "firmware", NULL, &name, err))
		return -1;
	if (!name)
		return 0;
	vm->upper = (struct i440fx_memory){ vm->mem, mem_space_over(vm->mem), .changed = remapped, .opaque = vm };
	if (!vm->upper.smm)
		return err_set(err, "out of memory");
	return boot_firmware_find(name, &vm->firmware, err) || boot_firmware_slot(vm->firmware, &slot, err) ||
			       mem_add_slot(vm->mem, &slot, err) ||
			       i440fx_add_overlays(&vm->upper, slot.base.v, slot.size, err)
		       ? -1
		       : 0;
}

/* --- CMOS --- */

enum {
	CMOS_EQUIPMENT = 0x14,
	CMOS_BASE = 0x15,     /* KiB below 640 KiB */
	CMOS_EXTENDED = 0x17, /* KiB above 1 MiB, at most 64 MiB of them; again at 30h */
	CMOS_EXTENDED_AGAIN = 0x30,
	CMOS_ABOVE_16M = 0x34, /* units of 64 KiB below 4 GiB */
	CMOS_BOOT_3 = 0x38,    /* third device; bit 0: the first sector need not end in AA55h */
	CMOS_BOOT_1_2 = 0x3d,
	CMOS_ABOVE_4G = 0x5b, /* three bytes; units of 64 KiB */
	CMOS_CPUS = 0x5f      /* all but the first */
};

static void poke16(struct vm *vm, uint8_t index, uint64_t v)
{
	v = v < 0xffff ? v : 0xffff;
	rtc146818_poke(vm->rtc, index, (uint8_t)v);
	rtc146818_poke(vm->rtc, index + 1, (uint8_t)(v >> 8));
}

static void fill_cmos(struct vm *vm)
{
	uint64_t extended = (vm->ram_low - MIB) / 1024, high = vm->ram_high >> 16;

	rtc146818_poke(vm->rtc, CMOS_EQUIPMENT, 0x06); /* a coprocessor and a mouse port; no floppy drive */
	poke16(vm, CMOS_BASE, 640);
	poke16(vm, CMOS_EXTENDED, extended);
	poke16(vm, CMOS_EXTENDED_AGAIN, extended);
	poke16(vm, CMOS_ABOVE_16M, vm->ram_low > 16 * MIB ? (vm->ram_low - 16 * MIB) >> 16 : 0);
	poke16(vm, CMOS_ABOVE_4G, high & 0xffff);
	rtc146818_poke(vm->rtc, CMOS_ABOVE_4G + 2, (uint8_t)(high >> 16));
	rtc146818_poke(vm->rtc, CMOS_BOOT_1_2, 0x02); /* a hard disk, and nothing else */
	rtc146818_poke(vm->rtc, CMOS_BOOT_3, 0x01);
	rtc146818_poke(vm->rtc, CMOS_CPUS, (uint8_t)(vm->cpus - 1));
}

/* --- fw_cfg --- */

static unsigned put_range(uint8_t *entry, uint64_t base, uint64_t size)
{
	st_le64(entry, base);
	st_le64(entry + 8, size);
	st_le32(entry + 16, 1); /* RAM */
	return 20;
}

static int add_e820(struct vm *vm, struct err *err)
{
	uint8_t map[40];
	unsigned len = put_range(map, 0, vm->ram_low);

	if (vm->ram_high)
		len += put_range(map + len, 1ull << 32, vm->ram_high);
	return fw_cfg_add_file(vm->fw_cfg, "etc/e820", map, len, err);
}

/* Without a screen the first serial port is where firmware shows its messages and takes keys. */
static int add_serial_console(struct vm *vm, struct err *err)
{
	uint8_t port[2];

	st_le16(port, 0x3f8);
	return vm->com[0] ? fw_cfg_add_file(vm->fw_cfg, "etc/sercon-port", port, 2, err) : 0;
}

int vm_tell_firmware(struct vm *vm, struct err *err)
{
	static const uint8_t no_menu[2], irq0_override[4] = { 1 };

	if (!vm->firmware)
		return 0;
	return fw_cfg_add(vm->fw_cfg, FW_CFG_BOOT_MENU, no_menu, 2, err) ||
			       fw_cfg_add(vm->fw_cfg, FW_CFG_IRQ0_OVERRIDE, irq0_override, 4, err) ||
			       add_e820(vm, err) || add_serial_console(vm, err)
		       ? -1
		       : 0;
}

int vm_boot_firmware(struct vm *vm, struct err *err)
{
	if (boot_load_firmware(vm->mem, vm->firmware, err))
		return -1;
	fill_cmos(vm);
	for (unsigned n = 0; n < vm->cpus; n++)
		vm->engine->vcpu_reset(vm->cpu[n].vcpu);
	return 0;
}
