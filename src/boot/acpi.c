/*
 * ACPI 6.4: RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET and a DSDT that describes the processors, the PCI host, ISA
 * devices and virtio-mmio.
 */
#include "boot/acpi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/aml.h"
#include "boot/boot.h"

#define HEADER	   36
#define AREA_MAX   (BOOT_RSDP - BOOT_ACPI)
#define XAPIC_IDS  255 /* as many can be named by 8 bits; FFh means all */
#define PM_IO_SIZE 0x40
#define RSDP_RSDT  16
#define RSDP_XSDT  24

/*
 * Tables are built one after the other in an image of the area. What is to be changed by who puts the tables elsewhere
 * is noted: pointers, and tables, whose checksums are left to him.
 */
struct area {
	uint8_t data[AREA_MAX];
	uint32_t used, base;
	bool elsewhere;
	struct {
		uint32_t at, size;
	} pointer[16], table[8];
	unsigned pointers, tables;
};

/* A pointer of `size` bytes at `at` to a table of the area. */
static void put_pointer(struct area *a, uint32_t at, unsigned size, uint32_t to)
{
	if (size == 4)
		st_le32(a->data + at, to);
	else
		st_le64(a->data + at, to);
	if (a->pointers < ARRAY_LEN(a->pointer)) {
		a->pointer[a->pointers].at = at;
		a->pointer[a->pointers++].size = size;
	}
}

static uint8_t checksum(const uint8_t *b, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *b++);
	return (uint8_t)-sum;
}

/* Close the table that starts at `at` and ends at a->used; its guest address. */
static uint32_t finish(struct area *a, uint32_t at, const char *signature, uint8_t revision)
{
	uint8_t *t = a->data + at;
	uint32_t len = a->used - at;

	memcpy(t, signature, 4);
	st_le32(t + 4, len);
	t[8] = revision;
	memcpy(t + 10, "VIREO ", 6);
	memcpy(t + 16, "VIREOPC ", 8);
	st_le32(t + 24, 1);
	memcpy(t + 28, "VIRE", 4);
	st_le32(t + 32, 1);
	t[9] = 0;
	if (!a->elsewhere)
		t[9] = checksum(t, len);
	if (a->tables < ARRAY_LEN(a->table)) {
		a->table[a->tables].at = at;
		a->table[a->tables++].size = len;
	}
	a->used = (uint32_t)align_up(a->used, 64);
	return a->base + at;
}

/* --- DSDT --- */

static void pci_routing(struct aml *m, const struct acpi_config *c)
{
	aml_name(m, "_PRT");
	aml_package(m, 31 * 4);
	for (uint32_t slot = 1; slot < 32; slot++) {
		for (uint32_t pin = 0; pin < 4; pin++) {
			aml_package(m, 4);
			aml_int(m, slot << 16 | 0xffff);
			aml_int(m, pin);
			aml_int(m, 0);
			aml_int(m, c->pci_gsi[(pin + slot) & 3]);
			aml_end(m);
		}
	}
	aml_end(m);
}

static void pci_host(struct aml *m, const struct acpi_config *c)
{
	aml_device(m, "PCI0");
	aml_name(m, "_HID");
	aml_eisaid(m, "PNP0A03");
	aml_name_int(m, "_UID", 0);
	aml_name_int(m, "_BBN", 0);
	aml_resources(m, "_CRS");
	aml_res_bus_range(m, 0, 0xff);
	aml_res_io(m, 0xcf8, 8);
	aml_res_io_window(m, 0, 0xcf7);
	aml_res_io_window(m, 0xd00, 0xffff);
	aml_res_memory_window(m, c->pci_hole, c->pci_hole_end - 1);
	if (c->pci_high_end)
		aml_res_memory_window(m, c->pci_high, c->pci_high_end - 1);
	aml_resources_end(m);
	pci_routing(m, c);
	aml_end(m);
}

static void processors(struct aml *m, const struct acpi_config *c)
{
	for (unsigned n = 0; n < c->cpus; n++) {
		char name[sizeof("CXXX")];

		snprintf(name, sizeof(name), "C%03X", n & 0xfff);
		aml_device(m, name);
		aml_name_string_value(m, "_HID", "ACPI0007");
		aml_name_int(m, "_UID", n);
		aml_end(m);
	}
}

static void isa_devices(struct aml *m, const struct acpi_config *c)
{
	const struct {
		const char *name, *hid;
		uint8_t uid, ports, irq; /* irq 0: none */
		uint16_t port, port2;	 /* 0: none */
		bool there;
	} isa[] = {
		{ "COM1", "PNP0501", 1, 8, 4, 0x3f8, 0, c->com[0] },
		{ "COM2", "PNP0501", 2, 8, 3, 0x2f8, 0, c->com[1] },
		{ "KBD", "PNP0303", 0, 1, 1, 0x60, 0x64, c->i8042 },
		{ "MOU", "PNP0F13", 0, 1, 12, 0, 0, c->i8042 },
		{ "PEVT", "QEMU0001", 0, 1, 0, c->pvpanic, 0, c->pvpanic },
		{ "RTC", "PNP0B00", 0, 2, 8, 0x70, 0, true },
		/* What no other node describes: the ports of power management. */
		{ "MISC", "PNP0C02", 0, PM_IO_SIZE, 0, c->pm_event, 0, true },
	};

	for (unsigned n = 0; n < ARRAY_LEN(isa); n++) {
		if (!isa[n].there)
			continue;
		aml_device(m, isa[n].name);
		if (strlen(isa[n].hid) == 7) {
			aml_name(m, "_HID");
			aml_eisaid(m, isa[n].hid);
		} else {
			aml_name_string_value(m, "_HID", isa[n].hid);
		}
		aml_name_int(m, "_UID", isa[n].uid);
		aml_resources(m, "_CRS");
		if (isa[n].port)
			aml_res_io(m, isa[n].port, isa[n].ports);
		if (isa[n].port2)
			aml_res_io(m, isa[n].port2, isa[n].ports);
		if (isa[n].irq)
			aml_res_irq(m, isa[n].irq);
		aml_resources_end(m);
		aml_end(m);
	}
}

static void timers(struct aml *m, const struct acpi_config *c)
{
	if (!c->hpet)
		return;
	aml_device(m, "HPET");
	aml_name(m, "_HID");
	aml_eisaid(m, "PNP0103");
	aml_name_int(m, "_UID", 0);
	aml_resources(m, "_CRS");
	aml_res_memory32(m, c->hpet, 0x400);
	aml_resources_end(m);
	aml_end(m);
}

static void virtio_mmio(struct aml *m, const struct acpi_config *c)
{
	for (unsigned n = 0; n < c->mmio_count; n++) {
		char name[sizeof("VRXX")];

		snprintf(name, sizeof(name), "VR%02X", n & 0xff);
		aml_device(m, name);
		aml_name_string_value(m, "_HID", "LNRO0005");
		aml_name_int(m, "_UID", n);
		aml_name_int(m, "_CCA", 1);
		aml_resources(m, "_CRS");
		aml_res_memory32(m, c->mmio[n].base, c->mmio[n].size);
		aml_res_interrupt(m, c->mmio[n].gsi);
		aml_resources_end(m);
		aml_end(m);
	}
}

static uint32_t dsdt(struct area *a, const struct acpi_config *c)
{
	uint32_t at = a->used;
	struct aml m = { .buf = a->data + at, .len = HEADER, .size = AREA_MAX - at };

	aml_scope(&m, "\\_SB_");
	processors(&m, c);
	pci_host(&m, c);
	isa_devices(&m, c);
	timers(&m, c);
	virtio_mmio(&m, c);
	aml_end(&m);
	aml_name(&m, "\\_S5");
	aml_package(&m, 4);
	aml_int(&m, c->s5);
	aml_int(&m, c->s5);
	aml_int(&m, 0);
	aml_int(&m, 0);
	aml_end(&m);
	if (!aml_ok(&m))
		return 0;
	a->used = at + (uint32_t)m.len;
	return finish(a, at, "DSDT", 2);
}

/* --- fixed tables --- */

/* Generic address structure: system I/O. */
static void gas_io(uint8_t *g, uint16_t port, uint8_t bits, uint8_t access)
{
	g[0] = 1;
	g[1] = bits;
	g[3] = access;
	st_le64(g + 4, port);
}

static uint32_t facs(struct area *a)
{
	uint32_t at = a->used;
	uint8_t *t = a->data + at;

	memcpy(t, "FACS", 4);
	st_le32(t + 4, 64);
	t[32] = 2;
	a->used += 64;
	return a->base + at;
}

static uint32_t fadt(struct area *a, const struct acpi_config *c, uint32_t dsdt_at, uint32_t facs_at)
{
	enum { WBINVD = 1u << 0, PROC_C1 = 1u << 2, SLP_BUTTON = 1u << 5, RTC_FIXED = 1u << 6, RESET_REG = 1u << 10 };
	uint32_t at = a->used;
	uint8_t *t = a->data + at;

	put_pointer(a, at + 36, 4, facs_at);
	put_pointer(a, at + 40, 4, dsdt_at);
	st_le16(t + 46, c->sci);
	st_le32(t + 56, c->pm_event);
	st_le32(t + 64, c->pm_control);
	st_le32(t + 76, c->pm_timer);
	t[88] = 4;
	t[89] = 2;
	t[91] = 4;
	st_le16(t + 96, 0xfff); /* no C2, no C3 */
	st_le16(t + 98, 0xfff);
	t[108] = 0x32;					      /* century byte of the RTC */
	st_le16(t + 109, (uint16_t)(1 << 2 | c->i8042 << 1)); /* no VGA; ISA devices are in the DSDT; an 8042? */
	st_le32(t + 112, WBINVD | PROC_C1 | SLP_BUTTON | RTC_FIXED | RESET_REG);
	gas_io(t + 116, 0xcf9, 8, 1);
	t[128] = 6;
	t[131] = 4; /* minor version */
	put_pointer(a, at + 140, 8, dsdt_at);
	gas_io(t + 148, c->pm_event, 32, 2);
	gas_io(t + 172, c->pm_control, 16, 2);
	gas_io(t + 208, c->pm_timer, 32, 3);
	a->used += 276;
	return finish(a, at, "FACP", 6);
}

/* An entry of the MADT of `len` bytes; what is not set by the caller is 0. */
static uint8_t *madt_entry(struct area *a, uint8_t type, uint8_t len)
{
	uint8_t *e = a->data + a->used;

	e[0] = type;
	e[1] = len;
	a->used += len;
	return e;
}

/* An interrupt source override: ISA `irq` is `gsi`, with these MPS flags. */
static void override(struct area *a, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	uint8_t *e = madt_entry(a, 2, 10);

	e[3] = irq;
	st_le32(e + 4, gsi);
	st_le16(e + 8, flags);
}

/* Local APICs, and that LINT1 of all of them is NMI. Ids that 8 bits cannot name are x2APIC entries. */
static void madt_processors(struct area *a, unsigned cpus)
{
	uint8_t *e;

	for (unsigned n = 0; n < cpus; n++) {
		if (n < XAPIC_IDS) {
			e = madt_entry(a, 0, 8);
			e[2] = e[3] = (uint8_t)n;
			st_le32(e + 4, 1);
		} else {
			e = madt_entry(a, 9, 16);
			st_le32(e + 4, n);
			st_le32(e + 8, 1);
			st_le32(e + 12, n);
		}
	}
	e = madt_entry(a, 4, 6);
	e[2] = 0xff;
	e[5] = 1;
	if (cpus > XAPIC_IDS) {
		e = madt_entry(a, 10, 12);
		st_le32(e + 4, 0xffffffff);
		e[8] = 1;
	}
}

static uint32_t madt(struct area *a, const struct acpi_config *c)
{
	enum { LEVEL_HIGH = 0x0d };
	uint32_t at = a->used;
	uint16_t done = 0;
	uint8_t *e;

	st_le32(a->data + at + 36, (uint32_t)c->lapic);
	st_le32(a->data + at + 40, 1); /* 8259s are there */
	a->used += 44;
	madt_processors(a, c->cpus);
	e = madt_entry(a, 1, 12);
	st_le32(e + 4, (uint32_t)c->ioapic);
	override(a, 0, 2, 0);
	override(a, c->sci, c->sci, LEVEL_HIGH);
	for (unsigned n = 0; n < 4; n++) {
		if (c->pci_gsi[n] < 16 && !(done >> c->pci_gsi[n] & 1)) {
			override(a, c->pci_gsi[n], c->pci_gsi[n], LEVEL_HIGH);
			done |= (uint16_t)(1u << c->pci_gsi[n]);
		}
	}
	return finish(a, at, "APIC", 5);
}

/* IA-PC HPET specification 1.0a, 3.2.4. */
static uint32_t hpet(struct area *a, const struct acpi_config *c)
{
	uint32_t at = a->used;
	uint8_t *t = a->data + at;

	st_le32(t + 36, c->hpet_id);
	t[41] = 64; /* bits, in memory */
	st_le64(t + 44, c->hpet);
	a->used += 56;
	return finish(a, at, "HPET", 1);
}

/* RSDT and XSDT: the same list, in addresses of 4 or 8 bytes. */
static uint32_t root(struct area *a, const char *signature, const uint32_t *tables, unsigned count, unsigned each)
{
	uint32_t at = a->used;

	for (unsigned n = 0; n < count; n++)
		put_pointer(a, at + HEADER + each * n, each, tables[n]);
	a->used += HEADER + each * count;
	return finish(a, at, signature, 1);
}

/* What the tables behind the DSDT take at most. */
static size_t fixed_size(const struct acpi_config *c)
{
	return 2048 + 16u * c->cpus;
}

/* False: more than fits. */
static bool build(struct area *a, const struct acpi_config *c, uint8_t rsdp[ACPI_RSDP])
{
	uint32_t at = dsdt(a, c), tables[3];
	unsigned count = 2;

	if (!at || c->cpus > ACPI_MAX_CPUS || a->used + fixed_size(c) > AREA_MAX)
		return false;
	tables[0] = fadt(a, c, at, facs(a));
	tables[1] = madt(a, c);
	if (c->hpet)
		tables[count++] = hpet(a, c);
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "VIREO ", 6);
	rsdp[15] = 2;
	st_le32(rsdp + RSDP_RSDT, root(a, "RSDT", tables, count, 4));
	st_le32(rsdp + 20, ACPI_RSDP);
	st_le64(rsdp + RSDP_XSDT, root(a, "XSDT", tables, count, 8));
	return true;
}

int acpi_write(const struct acpi_config *c, struct err *err)
{
	struct area *a = calloc(1, sizeof(*a));
	uint8_t rsdp[ACPI_RSDP] = { 0 };
	bool ok;

	if (!a)
		return err_set(err, "out of memory");
	a->base = BOOT_ACPI;
	ok = build(a, c, rsdp);
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, sizeof(rsdp));
	ok = ok && mem_load_rom(c->mem, gpa(BOOT_ACPI), a->data, a->used) &&
	     mem_load_rom(c->mem, gpa(BOOT_RSDP), rsdp, sizeof(rsdp));
	free(a);
	return ok ? 0 : err_set(err, "the ACPI tables do not fit");
}

/* --- for firmware: QEMU's table loader --- */

#define NAME	  56
#define TABLES	  "etc/acpi/tables"
#define RSDP	  "etc/acpi/rsdp"
#define ZONE_HIGH 1
#define ZONE_FSEG 2

static uint8_t *command(struct acpi_files *f, uint32_t what)
{
	uint8_t *e = f->script + f->script_size;

	st_le32(e, what);
	f->script_size += ACPI_COMMAND;
	return e + 4;
}

static void allocate(struct acpi_files *f, const char *file, uint32_t align, uint8_t zone)
{
	uint8_t *e = command(f, 1);

	memcpy(e, file, strlen(file));
	st_le32(e + NAME, align);
	e[NAME + 4] = zone;
}

static void add_pointer(struct acpi_files *f, const char *in, uint32_t at, unsigned size)
{
	uint8_t *e = command(f, 2);

	memcpy(e, in, strlen(in));
	memcpy(e + NAME, TABLES, strlen(TABLES));
	st_le32(e + 2 * NAME, at);
	e[2 * NAME + 4] = (uint8_t)size;
}

static void add_checksum(struct acpi_files *f, const char *file, uint32_t at, uint32_t start, uint32_t len)
{
	uint8_t *e = command(f, 3);

	memcpy(e, file, strlen(file));
	st_le32(e + NAME, at);
	st_le32(e + NAME + 4, start);
	st_le32(e + NAME + 8, len);
}

int acpi_make_files(const struct acpi_config *c, struct acpi_files *f, struct err *err)
{
	struct area *a = calloc(1, sizeof(*a));

	if (!a)
		return err_set(err, "out of memory");
	memset(f, 0, sizeof(*f));
	a->elsewhere = true;
	a->used = 64; /* 0 is no table */
	if (!build(a, c, f->rsdp)) {
		free(a);
		return err_set(err, "the ACPI tables do not fit");
	}
	memcpy(f->tables, a->data, a->used);
	f->tables_size = a->used;
	allocate(f, RSDP, 16, ZONE_FSEG);
	allocate(f, TABLES, 64, ZONE_HIGH);
	for (unsigned n = 0; n < a->pointers; n++)
		add_pointer(f, TABLES, a->pointer[n].at, a->pointer[n].size);
	for (unsigned n = 0; n < a->tables; n++)
		add_checksum(f, TABLES, a->table[n].at + 9, a->table[n].at, a->table[n].size);
	add_pointer(f, RSDP, RSDP_RSDT, 4);
	add_pointer(f, RSDP, RSDP_XSDT, 8);
	add_checksum(f, RSDP, 8, 0, 20);
	add_checksum(f, RSDP, 32, 0, ACPI_RSDP);
	free(a);
	return 0;
}
