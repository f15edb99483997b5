/* What the loader tests share: a guest's memory, and files made of bytes. */
#ifndef TESTS_BOOT_RIG_H
#define TESTS_BOOT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"
#include "boot/initrd.h"

#define MIB 1048576ull

struct boot_rig {
	struct boot_config c;
	struct boot_entry e;
	struct err err;
	int kernel_fd, initrd_fd;
	char kernel_path[32], initrd_path[32];
};

void boot_rig_init(struct boot_rig *r, uint64_t ram);
void boot_rig_free(struct boot_rig *r);
/* The kernel, or the initrd, is a file with these bytes from now on. */
void boot_rig_kernel(struct boot_rig *r, const void *data, size_t len);
void boot_rig_initrd(struct boot_rig *r, const void *data, size_t len);

/* boot_load(), which must work. */
void boot_rig_load(struct boot_rig *r);
/* boot_load(), which must fail with an error of one line that names the kernel's file and contains `says`. */
void boot_rig_refuse(struct boot_rig *r, const char *says);

/* Guest memory at `at`, to be read only. */
const uint8_t *boot_rig_at(struct boot_rig *r, uint64_t at, size_t len);

/* The test that `lengths` first bytes of a kernel, for each of them, are refused with one clear line. */
void boot_rig_truncations(struct boot_rig *r, const void *data, size_t lengths);

#endif
