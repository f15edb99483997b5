/*
 * Direct boot: load a kernel as a boot loader would, with what firmware would have left in memory.
 * Everything goes through mem/; the processor's registers are set by the caller from struct boot_entry.
 * The thread that owns the machine, before vCPUs run.
 */
#ifndef VIREO_BOOT_BOOT_H
#define VIREO_BOOT_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "mem/mem.h"

/* Where things lie in low memory. */
#define BOOT_GDT	 0x500	/* null, null, flat code at 10h, flat data at 18h */
#define BOOT_ZERO_PAGE	 0x7000 /* boot_params, or the PVH or multiboot information with its tables */
#define BOOT_PAGE_TABLES 0x9000 /* six pages: [0, 4 GiB) one to one */
#define BOOT_CMDLINE	 0x20000
#define BOOT_CMDLINE_MAX 0x10000
#define BOOT_MODULES	 0x30000 /* multiboot module list */
#define BOOT_EBDA	 0x9fc00
#define BOOT_ACPI	 0xe0000 /* tables, to the end of the ROM area */
#define BOOT_RSDP	 0xf0000
#define BOOT_SMBIOS	 0xf0040 /* entry point; the structures follow */
#define BOOT_HIGH	 0x100000

struct boot_config {
	struct mem_space *mem;
	uint64_t ram_low;		      /* bytes from 0, at most to the PCI hole */
	uint64_t ram_high;		      /* bytes from 4 GiB */
	const char *kernel, *initrd, *append; /* initrd and append may be NULL */
};

enum boot_kind {
	BOOT_LONG64, /* RSI = info, paging by BOOT_PAGE_TABLES */
	BOOT_FLAT32  /* EAX = magic, EBX = info */
};

struct boot_entry {
	enum boot_kind kind;
	uint64_t rip, info;
	uint32_t magic;
};

/* Find out what the kernel is and load it. One line on error, which names the file. */
int boot_load(const struct boot_config *c, struct boot_entry *e, struct err *err);

/* --- the same for each format; `image` is the whole file --- */
struct boot_image {
	const char *path;
	uint8_t *data;
	size_t size;
};
bool boot_is_bzimage(const struct boot_image *i);
bool boot_is_multiboot(const struct boot_image *i);
bool boot_is_elf(const struct boot_image *i);
int boot_load_bzimage(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err);
int boot_load_multiboot(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err);
/* vmlinux: by the PVH entry if it has one, else by the 64-bit protocol. */
int boot_load_elf(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err);

/* --- shared by the loaders --- */

/* Copy an ELF's PT_LOAD segments to their physical addresses. `end` gets the highest address used. */
int elf_load_segments(const struct boot_config *c, const struct boot_image *i, uint64_t *end, struct err *err);
uint64_t elf_entry(const struct boot_image *i);
/* The value of XEN_ELFNOTE_PHYS32_ENTRY; false if there is none. */
bool elf_pvh_entry(const struct boot_image *i, uint32_t *entry);

/* Load the initrd as high as possible below `limit` and above `floor`. No initrd: size 0. */
int boot_load_initrd(const struct boot_config *c, uint64_t floor, uint64_t limit, uint64_t *at, uint64_t *size,
		     struct err *err);
int boot_put_cmdline(const struct boot_config *c, struct err *err);
/* `what` goes into the error: "PATH: NAME does not fit". */
int boot_copy(const struct boot_config *c, uint64_t at, const void *data, size_t len, const char *what,
	      struct err *err);

struct boot_range {
	uint64_t base, size;
	uint32_t type; /* 1 RAM, 2 reserved */
};
#define BOOT_RANGES_MAX 4
unsigned boot_memory_map(const struct boot_config *c, struct boot_range *r);
/* boot_params with the memory map and the command line, for a kernel with the given setup header (may be NULL). */
int boot_zero_page(const struct boot_config *c, const uint8_t *setup, size_t setup_len, uint64_t initrd,
		   uint64_t initrd_size, struct err *err);

#endif
