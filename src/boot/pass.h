/*
 * A kernel that firmware starts: the items of fw_cfg from which it reads kernel, initrd and command line, and an
 * expansion ROM that does so for a BIOS, which has no loader of its own. The thread that owns the machine, before vCPUs
 * run.
 */
#ifndef VIREO_BOOT_PASS_H
#define VIREO_BOOT_PASS_H

#include "boot/boot.h"

/* Where it is in fw_cfg's directory, and in the order of what a BIOS boots. */
#define BOOT_PASS_ROM	"genroms/linux.rom"
#define BOOT_PASS_ORDER "/rom@" BOOT_PASS_ROM "\n"
#define BOOT_ROM_SIZE	512
#define BOOT_PASS_SETUP 0xc000 /* of a setup, most bytes */

/* The keys are QEMU's: docs/specs/fw_cfg. */
enum boot_pass_key {
	BOOT_KERNEL_ADDR = 0x07,
	BOOT_KERNEL_SIZE = 0x08,
	BOOT_INITRD_ADDR = 0x0a,
	BOOT_INITRD_SIZE = 0x0b,
	BOOT_KERNEL_DATA = 0x11,
	BOOT_INITRD_DATA = 0x12,
	BOOT_CMDLINE_ADDR = 0x13,
	BOOT_CMDLINE_SIZE = 0x14,
	BOOT_CMDLINE_DATA = 0x15,
	BOOT_SETUP_ADDR = 0x16,
	BOOT_SETUP_SIZE = 0x17,
	BOOT_SETUP_DATA = 0x18
};

/* Something to load: bytes in memory, or `len` bytes of a file from `off` on. */
struct boot_part {
	uint16_t addr_key, size_key, data_key;
	uint32_t at, len;
	const void *data;
	int fd; /* if there is no `data` */
	uint64_t off;
};

enum { BOOT_PASS_KERNEL, BOOT_PASS_INITRD, BOOT_PASS_CMDLINE, BOOT_PASS_SETUP_PART, BOOT_PASS_PARTS };

struct boot_pass {
	struct boot_part parts[BOOT_PASS_PARTS]; /* without an initrd, its length is 0 */
	struct boot_image kernel, initrd;	 /* open; fd -1: there is none */
	uint8_t setup[BOOT_PASS_SETUP];
	uint8_t rom[BOOT_ROM_SIZE];
	struct initrd_check *unsure; /* as in boot_entry */
};

/* `p` goes to boot_pass_free() in any case. */
int boot_pass_new(const struct boot_config *c, struct boot_pass **p, struct err *err);
void boot_pass_free(struct boot_pass *p); /* NULL is fine */

#endif
