/* The ACPI and SMBIOS tables of a PC, for a kernel that is loaded directly or for firmware. */
#ifndef VIREO_BOOT_ACPI_H
#define VIREO_BOOT_ACPI_H

#include "base/err.h"
#include "mem/mem.h"

#define ACPI_MMIO_DEVICES 32
#define ACPI_MAX_CPUS	  512

struct acpi_config {
	struct mem_space *mem;
	unsigned cpus; /* at most ACPI_MAX_CPUS; the n-th has APIC id n */
	uint16_t pm_event, pm_control, pm_timer;
	uint8_t sci, s5; /* interrupt; value of SLP_TYP that switches off */
	uint64_t ioapic, lapic;
	uint8_t pci_gsi[4];		 /* of the four interrupt lines; (pin + device) % 4 picks */
	uint32_t pci_hole, pci_hole_end; /* 32-bit window; the end is exclusive */
	uint64_t pci_high, pci_high_end; /* 64-bit window; 0: none */
	bool com[2];			 /* the serial ports that are there: 3F8h and 2F8h */
	bool i8042;			 /* with a keyboard and a mouse */
	uint16_t pvpanic;		 /* the port; 0: none */
	uint32_t hpet, hpet_id;		 /* where it is and what its first register says; 0: none */
	struct {
		uint32_t base, size, gsi;
	} mmio[ACPI_MMIO_DEVICES]; /* virtio-mmio devices (LNRO0005) */
	unsigned mmio_count;
};

/* Write all tables into the ROM area; the RSDP goes to BOOT_RSDP. -1: more than fits there. */
int acpi_write(const struct acpi_config *c, struct err *err);

/*
 * The same for firmware that puts the tables where it likes: the files of fw_cfg with the tables and the RSDP, and the
 * script of commands that says how (QEMU's etc/table-loader). Any thread.
 */
#define ACPI_RSDP	  36
#define ACPI_COMMAND	  128
#define ACPI_COMMANDS_MAX 32
struct acpi_files {
	uint8_t tables[0x10000], rsdp[ACPI_RSDP], script[ACPI_COMMANDS_MAX * ACPI_COMMAND];
	size_t tables_size, script_size;
};
int acpi_make_files(const struct acpi_config *c, struct acpi_files *f, struct err *err);

/* Texts that a user may choose: by their structure's type and QEMU's names of them. */
enum smbios_text {
	SMBIOS_BIOS_VENDOR,
	SMBIOS_BIOS_VERSION,
	SMBIOS_BIOS_DATE,
	SMBIOS_MANUFACTURER,
	SMBIOS_PRODUCT,
	SMBIOS_VERSION,
	SMBIOS_SERIAL,
	SMBIOS_SKU,
	SMBIOS_FAMILY,
	SMBIOS_CHASSIS_MANUFACTURER,
	SMBIOS_CHASSIS_VERSION,
	SMBIOS_CHASSIS_SERIAL,
	SMBIOS_CHASSIS_ASSET,
	SMBIOS_TEXTS
};
/* Keys of the configuration. */
extern const char *const smbios_text_keys[SMBIOS_TEXTS];
#define SMBIOS_TEXT_MAX 64 /* bytes; for some programs, as of 2.8 */
#define SMBIOS_OEM_MAX	16 /* strings of type 11 */
#define SMBIOS_OEM_LEN	1024

struct smbios_config {
	const char *text[SMBIOS_TEXTS]; /* NULL: as always */
	const char *oem[SMBIOS_OEM_MAX];
	unsigned oem_count;
	struct mem_space *mem;
	uint64_t ram_low, ram_high; /* bytes from 0 and from 4 GiB */
	unsigned cpus;
	const uint8_t *uuid; /* 16 bytes in the order in which people write them */
};
/* SMBIOS 3.0 at BOOT_SMBIOS, with the entry point of 2.8 as well. */
int smbios_write(const struct smbios_config *c, struct err *err);

/* For firmware: etc/smbios/smbios-anchor (the entry point of 2.8, without addresses) and etc/smbios/smbios-tables. */
#define SMBIOS_ANCHOR 31
#define SMBIOS_TABLES 20480 /* room for all strings at their longest */
struct smbios_files {
	uint8_t anchor[SMBIOS_ANCHOR], tables[SMBIOS_TABLES];
	size_t tables_size;
};
void smbios_make_files(const struct smbios_config *c, struct smbios_files *f);

#endif
