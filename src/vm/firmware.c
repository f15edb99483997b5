/*
 * A machine that begins in a ROM: the memory that the ROM needs, and what firmware asks of CMOS and fw_cfg before it
 * knows the machine. The numbers of CMOS bytes and the names of files are those that SeaBIOS and OVMF know from QEMU.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "boot/boot.h"
#include "cpu/x86/cpuid.h"
#include "dev/fw_cfg.h"
#include "vm/impl.h"

#define MIB 1048576ull

/* --- memory --- */

/* What is seen below 1 MiB, or where flash is, has changed. */
void vm_remapped(void *opaque)
{
	struct vm *vm = opaque;
	struct vm_cpu *self = cpus_self();

	if (vm->engine_vm && vm->engine->remapped)
		vm->engine->remapped(vm->engine_vm, self ? self->vcpu : NULL);
}

/* Overlays over the array of each flash. */
static int add_flash_overlays(struct vm *vm, const struct mem_slot_config *slot, struct err *err)
{
	const struct boot_firmware *f = &vm->firmware_files;
	const struct mem_overlay_config parts[2] = {
		{ "flash0", gpa(slot->base.v + f->vars_size), f->code_size, false, gpa(0) },
		{ "flash1", slot->base, f->vars_size, false, gpa(0) },
	};

	for (unsigned k = 0; f->vars && k < 2; k++) {
		int n = mem_add_overlay(vm->mem, &parts[k], err);

		if (n < 0)
			return -1;
		vm->flash[k] = (unsigned)n;
	}
	return 0;
}

static int choose_phys_bits(struct vm *vm, struct err *err)
{
	const char *model = config_peek(vm->config, "cpu.model");
	char text[512];

	if ((model && strstr(model, "phys-bits=")) || x86_phys_bits() <= VM_FIRMWARE_PHYS_BITS ||
	    vm->ram_high >> 32 >= 1u << (VM_FIRMWARE_PHYS_BITS - 32 - 1))
		return 0;
	if (snprintf(text, sizeof(text), "%s,phys-bits=%d", model ? model : "max", VM_FIRMWARE_PHYS_BITS) >=
	    (int)sizeof(text))
		return 0;
	return config_set(vm->config, "cpu.model", text, err);
}

int vm_add_firmware(struct vm *vm, struct err *err)
{
	struct boot_firmware *f = &vm->firmware_files;
	const char *vars;
	struct mem_slot_config slot;

	vm->vars_fd = -1;
	/* A disk without a kernel starts as on any PC. */
	if (!config_peek(vm->config, "firmware") && !config_peek(vm->config, "kernel") &&
	    (config_peek(vm->config, "disk0.path") || config_peek(vm->config, "cdrom0.path")) &&
	    config_choose(vm->config, "firmware", "bios", err))
		return -1;
	if (config_str(vm->config, "firmware", NULL, &vm->firmware, err) ||
	    config_str(vm->config, "firmware.vars", NULL, &vars, err))
		return -1;
	if (!vm->firmware)
		return vars ? err_set(err, "firmware.vars: there is no firmware that has variables") : 0;
	vm->upper = (struct i440fx_memory){ vm->mem, mem_space_over(vm->mem), .changed = vm_remapped, .opaque = vm };
	if (!vm->upper.smm)
		return err_set(err, "out of memory");
	if (boot_firmware_find(vm->firmware, f, err) || choose_phys_bits(vm, err))
		return -1;
	/* Firmware of one's own has its variables in a file that is there. */
	if (vars && !f->vars)
		f->vars = vars;
	return boot_firmware_slot(f, &slot, err) || mem_add_slot(vm->mem, &slot, err) ||
			       i440fx_add_overlays(&vm->upper, slot.base.v, slot.size, err) ||
			       add_flash_overlays(vm, &slot, err) || vm_open_vars(vm, vars, err)
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

/* The first serial port is where firmware shows its messages and takes keys, beside the screen if there is one. */
static int add_serial_console(struct vm *vm, struct err *err)
{
	uint8_t port[2];

	st_le16(port, 0x3f8);
	return vm->com[0] ? fw_cfg_add_file(vm->fw_cfg, "etc/sercon-port", port, 2, err) : 0;
}

/* Which sleeping states there are, a byte each with SLP_TYP; bit 7: it is there. */
static int add_states(struct vm *vm, struct err *err)
{
	static const uint8_t states[6] = { [5] = 0x80 | PM_SLP_S5 };

	return fw_cfg_add_file(vm->fw_cfg, "etc/system-states", states, sizeof(states), err);
}

static int add_smbios(struct vm *vm, struct err *err)
{
	const struct smbios_config c = pc_smbios(vm);
	struct smbios_files f;

	smbios_make_files(&c, &f);
	return fw_cfg_add_file(vm->fw_cfg, "etc/smbios/smbios-anchor", f.anchor, sizeof(f.anchor), err) ||
			       fw_cfg_add_file(vm->fw_cfg, "etc/smbios/smbios-tables", f.tables, f.tables_size, err)
		       ? -1
		       : 0;
}

/* --- ACPI: the tables say where firmware has put things, so they are made when it asks for them --- */

/* BARs lie above RAM; SeaBIOS and OVMF begin at 2 GiB at the lowest, and end at the I/O APIC. */
static struct acpi_config tables(struct vm *vm)
{
	struct acpi_config a = pc_acpi(vm);
	uint16_t pm = piix4_pm_base(vm->pm);
	uint8_t routes[4];

	if (pm) {
		a.pm_event = pm;
		a.pm_control = pm + (PM_CONTROL - PM_BASE);
		a.pm_timer = pm + (PM_TIMER - PM_BASE);
	}
	a.pci_hole = (uint32_t)(vm->ram_low > 2048 * MIB ? vm->ram_low : 2048 * MIB);
	a.pci_hole_end = IOAPIC_BASE;
	if (!pci_high_bars(vm->pci, &a.pci_high, &a.pci_high_end))
		a.pci_high = a.pci_high_end = 0;
	piix3_routes(vm->piix3, routes);
	/* The table begins at pin A of slot 0, the routes at that of slot 1. What is not routed yet goes where OVMF
	 * will. */
	for (unsigned n = 0; n < 4; n++) {
		unsigned route = (n + 3) & 3;

		a.pci_gsi[n] = routes[route] < 16 ? routes[route] : route < 2 ? 11 : 10;
	}
	return a;
}

static void make_tables(void *opaque, struct device *fw_cfg)
{
	struct vm *vm = opaque;
	const struct acpi_config a = tables(vm);
	struct acpi_files *f = malloc(sizeof(*f));
	struct err err;

	if (!f || acpi_make_files(&a, f, &err) ||
	    !fw_cfg_remake(fw_cfg, "etc/acpi/tables", f->tables, f->tables_size) ||
	    !fw_cfg_remake(fw_cfg, "etc/acpi/rsdp", f->rsdp, sizeof(f->rsdp)) ||
	    !fw_cfg_remake(fw_cfg, "etc/table-loader", f->script, f->script_size))
		log_guest("pc", "firmware finds the ACPI tables of a machine that was not set up");
	free(f);
}

static int add_acpi(struct vm *vm, struct err *err)
{
	const struct acpi_config a = tables(vm);
	struct acpi_files *f = malloc(sizeof(*f));
	int rc;

	if (!f)
		return err_set(err, "out of memory");
	rc = acpi_make_files(&a, f, err);
	/* Room for longer numbers. */
	f->tables_size = align_up(f->tables_size + 512, 4096);
	if (f->tables_size > sizeof(f->tables))
		f->tables_size = sizeof(f->tables);
	fw_cfg_set_make(vm->fw_cfg, make_tables, vm);
	rc = rc || fw_cfg_add_made(vm->fw_cfg, "etc/acpi/tables", f->tables, f->tables_size, err) ||
	     fw_cfg_add_made(vm->fw_cfg, "etc/acpi/rsdp", f->rsdp, sizeof(f->rsdp), err) ||
	     fw_cfg_add_made(vm->fw_cfg, "etc/table-loader", f->script, f->script_size, err);
	free(f);
	return rc ? -1 : 0;
}

/* --- the order in which firmware tries to boot --- */

#define CHOICES_MAX 64
#define CHOICE_NAME 64
#define KINDS	    3

/* What can be booted: Open Firmware's name of it, and where it comes. */
struct choice {
	uint64_t order;
	char name[CHOICE_NAME];
};

struct choices {
	struct choice list[CHOICES_MAX];
	unsigned count;
};

static const char *const kinds[KINDS] = { "disk", "cdrom", "net" };

/* `at`: its slot, or its place among the IDE drives. */
static void name_choice(struct vm *vm, struct choice *c, const char *key, uint64_t at)
{
	const char *kind = key, *bus;
	char bus_key[40];

	snprintf(bus_key, sizeof(bus_key), "%s.bus", key);
	bus = config_peek(vm->config, bus_key);
	if (!strncmp(kind, "net", 3))
		snprintf(c->name, sizeof(c->name), "/pci@i0cf8/ethernet@%x/ethernet-phy@0\n", (unsigned)at);
	else if (!strncmp(kind, "cdrom", 5) || (bus && !strcmp(bus, "ide")))
		snprintf(c->name, sizeof(c->name), "/pci@i0cf8/ide@1,1/drive@%x/disk@%x\n", (unsigned)at >> 1,
			 (unsigned)at & 1);
	else
		snprintf(c->name, sizeof(c->name), "/pci@i0cf8/scsi@%x/disk@0,0\n", (unsigned)at);
}

/* The devices of one kind in the order of the configuration, but first those with a "bootindex", by that. */
static int add_choices(struct vm *vm, struct choices *c, const char *kind, uint64_t order, struct err *err)
{
	for (unsigned n = 0; n < VM_DISKS && c->count < CHOICES_MAX; n++) {
		struct choice *new = &c->list[c->count];
		char device[32], key[48];
		uint64_t at;

		snprintf(device, sizeof(device), "%s%u", kind, n);
		snprintf(key, sizeof(key), "%s.addr", device);
		if (!config_peek(vm->config, key))
			continue;
		if (config_uint(vm->config, key, 0, (struct config_range){ 0, 31 }, &at, err))
			return -1;
		snprintf(key, sizeof(key), "%s.bootindex", device);
		if (config_uint(vm->config, key, order + n, (struct config_range){ 0, UINT32_MAX }, &new->order, err))
			return -1;
		name_choice(vm, new, device, at);
		c->count++;
	}
	return 0;
}

static int by_order(const void *a, const void *b)
{
	const struct choice *x = a, *y = b;

	return x->order < y->order ? -1 : x->order > y->order;
}

/* The next of the kinds in a list with commas, each of which may be there once; or -1. */
static int next_kind(const char **list, unsigned *seen)
{
	size_t len = strcspn(*list, ",");

	for (unsigned n = 0; n < KINDS; n++) {
		if (strlen(kinds[n]) != len || strncmp(*list, kinds[n], len) || *seen >> n & 1)
			continue;
		*seen |= 1u << n;
		*list += len + ((*list)[len] == ',' && (*list)[len + 1]);
		return (int)n;
	}
	return -1;
}

#define ORDER_MAX ((CHOICES_MAX + 1) * CHOICE_NAME + 8)

/* `text`, of `key`: kinds of devices. Whoever leaves one out does not boot from it. The length of `list`, or -1. */
static int make_order(struct vm *vm, const char *key, const char *text, char list[ORDER_MAX], struct err *err)
{
	struct choices c = { .count = 0 };
	uint64_t order = UINT32_MAX + 1ull;
	const char *rest;
	unsigned seen = 0;
	size_t len = 0;

	*list = '\0';

	/* What is to be started before anything else. */
	if (vm->pass)
		len += (size_t)snprintf(list, ORDER_MAX, "%s", BOOT_PASS_ORDER);
	for (rest = text; *rest || !seen; order += VM_DISKS) {
		int kind = next_kind(&rest, &seen);

		if (kind < 0)
			return err_set(err, "%s: '%s' is not a list of disk, cdrom and net, as disk,net", key, text);
		if (add_choices(vm, &c, kinds[kind], order, err))
			return -1;
	}
	qsort(c.list, c.count, sizeof(c.list[0]), by_order);
	for (unsigned n = 0; n < c.count; n++)
		len += (size_t)snprintf(list + len, ORDER_MAX - len, "%s", c.list[n].name);
	if (seen != (1u << KINDS) - 1)
		len += (size_t)snprintf(list + len, ORDER_MAX - len, "HALT\n");
	return (int)len;
}

/* "boot.order", and "boot.once" up to the first reset. */
static int add_order(struct vm *vm, struct err *err)
{
	char list[ORDER_MAX] = "", once[ORDER_MAX];
	const char *text, *text_once;
	int len, len_once;

	if (config_str(vm->config, "boot.order", "disk,cdrom,net", &text, err) ||
	    config_str(vm->config, "boot.once", NULL, &text_once, err))
		return -1;
	len = make_order(vm, "boot.order", text, list, err);
	if (len < 0)
		return -1;
	if (!text_once)
		return len ? fw_cfg_add_file(vm->fw_cfg, "bootorder", list, (size_t)len + 1, err) : 0;
	len_once = make_order(vm, "boot.once", text_once, once, err);
	if (len_once < 0)
		return -1;
	vm->order_after_once = strdup(list);
	if (!vm->order_after_once)
		return err_set(err, "out of memory");
	/* A file has its length from the beginning; zeros end the text. */
	memset(once + len_once, 0, sizeof(once) - (size_t)len_once);
	if (len < len_once)
		len = len_once;
	return fw_cfg_add_made(vm->fw_cfg, "bootorder", once, (size_t)len + 1, err);
}

static void end_once(struct vm *vm)
{
	if (!vm->order_after_once || !vm->begun)
		return;
	pthread_mutex_lock(vm->fw_cfg->lock);
	fw_cfg_remake(vm->fw_cfg, "bootorder", vm->order_after_once, strlen(vm->order_after_once));
	pthread_mutex_unlock(vm->fw_cfg->lock);
}

/* "boot.menu": how many milliseconds a menu waits for a key. */
static int add_menu(struct vm *vm, struct err *err)
{
	uint8_t menu[2] = { 0 }, wait[2];
	uint64_t ms;

	if (config_uint(vm->config, "boot.menu", 0, (struct config_range){ 0, 65535 }, &ms, err))
		return -1;
	st_le16(wait, (uint16_t)ms);
	menu[0] = ms > 0;
	return fw_cfg_add(vm->fw_cfg, FW_CFG_BOOT_MENU, menu, 2, err) ||
			       (ms && fw_cfg_add_file(vm->fw_cfg, "etc/boot-menu-wait", wait, 2, err))
		       ? -1
		       : 0;
}

/* --- a kernel that firmware starts --- */

static int add_number(struct vm *vm, uint16_t key, uint32_t number, struct err *err)
{
	uint8_t le[4];

	st_le32(le, number);
	return fw_cfg_add(vm->fw_cfg, key, le, sizeof(le), err);
}

static int add_part(struct vm *vm, const struct boot_part *p, struct err *err)
{
	if (add_number(vm, p->addr_key, p->at, err) || add_number(vm, p->size_key, p->len, err))
		return -1;
	return p->data ? fw_cfg_add(vm->fw_cfg, p->data_key, p->data, p->len, err)
		       : fw_cfg_add_part(vm->fw_cfg, p->data_key, (struct fw_cfg_part){ p->fd, p->off, p->len }, err);
}

static int add_kernel(struct vm *vm, struct err *err)
{
	struct boot_config b;

	if (pc_boot_config(vm, &b, err))
		return -1;
	if (!b.kernel)
		return 0;
	if (boot_pass_new(&b, &vm->pass, err))
		return -1;
	for (unsigned n = 0; n < BOOT_PASS_PARTS; n++)
		if (add_part(vm, &vm->pass->parts[n], err))
			return -1;
	return fw_cfg_add_file(vm->fw_cfg, BOOT_PASS_ROM, vm->pass->rom, BOOT_ROM_SIZE, err);
}

int vm_tell_firmware(struct vm *vm, struct err *err)
{
	static const uint8_t irq0_override[4] = { 1 };

	if (!vm->firmware)
		return 0;
	return fw_cfg_add(vm->fw_cfg, FW_CFG_IRQ0_OVERRIDE, irq0_override, 4, err) || add_e820(vm, err) ||
			       add_states(vm, err) || add_serial_console(vm, err) || add_smbios(vm, err) ||
			       add_acpi(vm, err) || add_kernel(vm, err) || add_order(vm, err) || add_menu(vm, err)
		       ? -1
		       : 0;
}

int vm_boot_firmware(struct vm *vm, struct err *err)
{
	if (vm->pass) {
		struct initrd_check *unsure = vm->pass->unsure;

		vm->pass->unsure = NULL;
		if (vm_check_initrd(vm, unsure, err))
			return -1;
	}
	if (boot_load_firmware(vm->mem, &vm->firmware_files, err))
		return -1;
	end_once(vm);
	vm_sync_vars(vm);
	fill_cmos(vm);
	for (unsigned n = 0; n < vm->cpus; n++)
		vm->engine->vcpu_reset(vm->cpu[n].vcpu);
	return 0;
}
