/*
 * The kernel and initrd loaders. The first byte picks a well-formed file of each kind, the rest spoils it: records of
 * an offset, a length and bytes to put there, and the last two bytes say where the file ends. So every input starts
 * deep inside of a loader, and no seeds are needed. Kind 0 takes the bytes as they are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "boot/boot.h"
#include "boot/initrd.h"
#include "boot/pass.h"
#include "images.h"

#define RAM (32u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void image_elf64_pvh(struct image *k)
{
	image_elf64(k);
	image_elf64_note(k, (16 << 20) + 0x40);
}

static void image_cpio(struct image *k)
{
	static const char member[] = "070701000000010000000000000000000000000000000000000000000000080000000000000000"
				     "00000000000000000000000b00000000";

	memset(k, 0, sizeof(*k));
	for (unsigned n = 0; n < 3; n++) {
		memcpy(k->b + k->len, member, 110);
		memcpy(k->b + k->len + 110, n < 2 ? "abcdefghij" : "TRAILER!!!", 11);
		k->len += 124 + 8;
	}
}

static void image_zstd(struct image *k)
{
	/* Two blocks, the second of them the last and run-length coded, and a checksum. */
	static const uint8_t frame[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x20, 0, 0, 1, 2,
					 3,    4,    0x03, 0x01, 0,    9,    7,	   7, 7, 7 };

	memset(k, 0, sizeof(*k));
	memcpy(k->b, frame, sizeof(frame));
	k->len = sizeof(frame);
}

static void image_gzip(struct image *k)
{
	/* "a" stored, with its check sum and length. */
	static const uint8_t member[] = { 0x1f, 0x8b, 8,    0,	  0,	0,    0, 0, 0, 3, 0x4b,
					  4,	0,    0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0 };

	memset(k, 0, sizeof(*k));
	memcpy(k->b, member, sizeof(member));
	k->len = sizeof(member);
}

static void (*const kinds[])(struct image *k) = {
	NULL,	    image_bzimage, image_elf64, image_elf64_pvh, image_elf32, image_multiboot, image_multiboot_elf,
	image_cpio, image_zstd,	   image_gzip,
};

static void make(struct image *k, const uint8_t *data, size_t size)
{
	void (*kind)(struct image *) = kinds[data[0] % ARRAY_LEN(kinds)];
	size_t at = 1;

	if (!kind) {
		k->len = size - 1 < sizeof(k->b) ? size - 1 : sizeof(k->b);
		memcpy(k->b, data + 1, k->len);
		return;
	}
	kind(k);
	while (at + 4 <= size) {
		size_t off = ld_le16(data + at) % IMAGE_MAX, len = data[at + 2] % 9u;

		at += 3;
		if (len > size - at)
			len = size - at;
		if (len > IMAGE_MAX - off)
			len = IMAGE_MAX - off;
		memcpy(k->b + off, data + at, len);
		at += len;
	}
	/* Mostly the whole file. */
	if (size - at >= 2 && data[at] & 1)
		k->len = ld_le16(data + at) % (k->len + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const atomic_bool never;
	static struct mem_space *mem;
	static struct image k;
	static int fd;
	static char path[32];
	struct mem_slot_config ram = { .name = "ram", .size = RAM, .fd = -1 };
	struct boot_config c = { .ram_low = RAM, .kernel = path, .append = "console=ttyS0" };
	struct boot_entry e;
	struct boot_pass *pass;
	struct err err;

	if (!mem) {
		log_set_level(LOG_ERROR);
		mem = mem_space_new();
		fd = memfd_create("kernel", 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (mem_add_slot(mem, &ram, &err))
			abort();
	}
	if (size < 1)
		return 0;
	make(&k, data, size);
	if (ftruncate(fd, 0) || pwrite(fd, k.b, k.len, 0) != (ssize_t)k.len)
		abort();
	c.mem = mem;
	/* The same file as the initrd: any content may be one. */
	c.initrd = data[0] & 0x80 ? path : NULL;
	if (!boot_load(&c, &e, &err) && e.unsure)
		initrd_check_rest(e.unsure, &never, &err);
	if (e.unsure)
		initrd_check_free(e.unsure);
	boot_pass_new(&c, &pass, &err);
	boot_pass_free(pass);
	if (k.len) {
		struct initrd_check *rest;

		if (!initrd_check(fd, k.len, path, &rest, &err) && rest)
			initrd_check_rest(rest, &never, &err);
		initrd_check_free(rest);
	}
	return 0;
}
