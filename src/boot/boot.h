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
#define BOOT_LOW	 0x8000 /* free up to the command line, but for the page tables */
#define BOOT_PAGE_TABLES 0x9000 /* six pages: [0, 4 GiB) one to one */
#define BOOT_CMDLINE	 0x20000
#define BOOT_CMDLINE_MAX 0x10000
#define BOOT_MODULES	 0x30000 /* multiboot module list, then the modules' command lines */
#define BOOT_EBDA	 0x9fc00
#define BOOT_ACPI	 0xe0000 /* tables, to the end of the ROM area */
#define BOOT_RSDP	 0xf0000
#define BOOT_SMBIOS	 0xf0040 /* entry points; the structures follow */
#define BOOT_STUBS	 0xff000 /* handlers of real-mode interrupts */
#define BOOT_HIGH	 0x100000

struct boot_config {
	struct mem_space *mem;
	uint64_t ram_low;		      /* bytes from 0, at most to the PCI hole */
	uint64_t ram_high;		      /* bytes from 4 GiB */
	const char *kernel, *initrd, *append; /* initrd and append may be NULL */
};

enum boot_kind {
	BOOT_LONG64, /* 64-bit mode, paging by BOOT_PAGE_TABLES */
	BOOT_FLAT32  /* protected mode, no paging */
};

struct boot_entry {
	enum boot_kind kind;
	uint64_t rip;
	uint32_t eax, ebx, esi;	     /* all other general registers are 0 */
	bool bios;		     /* the kernel may expect interrupts as a BIOS leaves them: see boot_put_ivt() */
	struct initrd_check *unsure; /* NULL, or what is left to check of the initrd (boot/initrd.h): the caller's */
};

/*
 * What "firmware" means: `bios` is Debian's SeaBIOS, `uefi` its OVMF, anything else a file. `vars`: what the flash with
 * the variables, below the code, is first filled from; NULL: there is none. boot_firmware_slot() fills in the sizes.
 */
struct boot_firmware {
	const char *code, *vars;
	uint64_t code_size, vars_size;
};
int boot_firmware_find(const char *name, struct boot_firmware *f, struct err *err);
/* The ROM that it needs, for mem_add_slot(); the code's bytes; and the variables, from a file of their size. */
int boot_firmware_slot(struct boot_firmware *f, struct mem_slot_config *slot, struct err *err);
int boot_load_firmware(struct mem_space *mem, const struct boot_firmware *f, struct err *err);
int boot_load_vars(struct mem_space *mem, const struct boot_firmware *f, const char *path, struct err *err);

/* Find out what the kernel is and load it. One line on error, which names the file. */
int boot_load(const struct boot_config *c, struct boot_entry *e, struct err *err);

/*
 * A file that is being loaded. It is read by pread() straight to where it is needed: no copy of it is kept, and
 * nothing that others do to the file meanwhile can do more than fail the load.
 */
#define BOOT_HEAD 8192 /* enough for every header */
struct boot_image {
	const char *what, *path; /* "kernel", and the file's name */
	int fd;
	uint64_t size;
	uint8_t head[BOOT_HEAD]; /* its first bytes; zeros behind a shorter file */
};
int boot_image_open(struct boot_image *i, const char *what, const char *path, struct err *err);
void boot_image_close(struct boot_image *i);
/* Read [off, off + len); a shorter file is an error. */
int boot_image_read(const struct boot_image *i, uint64_t off, void *buf, size_t len, struct err *err);

/* A piece of a file and where in guest memory it goes. */
struct boot_piece {
	uint64_t off, len, at;
};
int boot_image_load(const struct boot_config *c, const struct boot_image *i, struct boot_piece p, struct err *err);

/* --- the loaders; `i` is the kernel --- */
/* The setup header of a bzImage, with what older protocols mean by silence. */
struct boot_bzimage {
	uint64_t code, code_size; /* the protected-mode kernel in the file; the setup is what comes before */
	uint64_t want, need;	  /* where it wants to be, how much room it takes there */
	uint32_t align, initrd_max, cmdline_max;
	bool relocatable, has_64;
};
int boot_read_bzimage(const struct boot_image *i, struct boot_bzimage *h, struct err *err);
bool boot_is_bzimage(const struct boot_image *i);
bool boot_is_multiboot(const struct boot_image *i);
bool boot_is_elf(const struct boot_image *i);
/* By the 64-bit boot protocol, or by the 32-bit one if the kernel has no 64-bit entry. */
int boot_load_bzimage(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err);
int boot_load_multiboot(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err);
/* vmlinux: by the PVH entry if it has one, else by the 64-bit protocol. */
int boot_load_elf(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err);

/* --- shared by the loaders --- */

/*
 * Load an ELF's PT_LOAD segments to their physical addresses and clear what lies behind their file contents.
 * An entry point counts only if it lies in one of them.
 */
struct elf_info {
	uint64_t end; /* the highest address used */
	uint64_t entry;
	uint32_t pvh; /* XEN_ELFNOTE_PHYS32_ENTRY */
	bool is32, has_entry, has_pvh;
};
int elf_load(const struct boot_config *c, const struct boot_image *i, struct elf_info *info, struct err *err);

/* Where an initrd or module went; nothing: size 0. */
struct boot_blob {
	uint64_t at, size;
	struct initrd_check *unsure; /* as in boot_entry */
};
/* Where a file goes that is to lie as high as possible below `limit`, at most 4 GiB, and above `floor`; */
int boot_place_blob(const struct boot_image *i, uint64_t floor, uint64_t limit, uint32_t *at, struct err *err);
/* and it is loaded there. */
int boot_load_blob(const struct boot_config *c, const struct boot_image *i, uint64_t floor, uint64_t limit,
		   struct boot_blob *b, struct err *err);
/* The same for the initrd, if there is one; it is checked for being whole. */
int boot_load_initrd(const struct boot_config *c, uint64_t floor, uint64_t limit, struct boot_blob *b, struct err *err);
/* Real mode's interrupt vectors, for 8259s at 08h and 70h and a timer that ticks, and the BIOS data area. */
int boot_put_ivt(const struct boot_config *c, struct err *err);
/* At BOOT_CMDLINE. `first`, if not NULL, goes before the user's words. */
int boot_put_cmdline(const struct boot_config *c, const char *first, struct err *err);
/* `what` goes into the error: "PATH: NAME does not fit". */
int boot_copy(const struct boot_config *c, uint64_t at, const void *data, size_t len, const char *what,
	      struct err *err);

struct boot_range {
	uint64_t base, size;
	uint32_t type; /* 1 RAM, 2 reserved */
};
#define BOOT_RANGES_MAX 4
unsigned boot_memory_map(const struct boot_config *c, struct boot_range *r);
/* boot_params with the memory map and the command line, for a kernel with the given setup header. */
struct linux_setup {
	const uint8_t *header; /* from 1f1h on; NULL: the kernel has none */
	size_t len;
	uint64_t at; /* where the kernel was loaded */
};
int boot_zero_page(const struct boot_config *c, const struct linux_setup *s, const struct boot_blob *initrd,
		   struct err *err);

#endif
