/* Well-formed kernels and initrds of a few KiB, for the loaders' tests and their fuzzer to spoil. */
#ifndef TESTS_BOOT_IMAGES_H
#define TESTS_BOOT_IMAGES_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_MAX 0x4000

struct image {
	uint8_t b[IMAGE_MAX];
	size_t len;
};

/* Linux by protocol 2.15, relocatable, with a 64-bit entry; wants to be at 16 MiB and 8 MiB of room. */
#define BZ_SETUP (5 * 512)
#define BZ_CODE	 4096
void image_bzimage(struct image *k);

/* Text at 16 MiB, data at 18 MiB with a bss that ends at 20 MiB; the entry at 16 MiB + 10h. Offsets in the file: */
#define ELF_TEXT 0x1000
#define ELF_DATA 0x2000
#define ELF_NOTE 0x3000
void image_elf64(struct image *k);
/* Adds a PVH note. */
void image_elf64_note(struct image *k, uint32_t entry);
Elf64_Ehdr *image_elf64_header(struct image *k);
Elf64_Phdr *image_elf64_segment(struct image *k, unsigned n);
/* One segment at 2 MiB, and a PVH note whose entry is 8 bytes in. */
void image_elf32(struct image *k);

/* Multiboot with addresses: the file from 20h on goes to 1 MiB, and 64 KiB of bss follow. The header is at: */
#define MB_AT	0x40
#define MB_SIZE 0x2000
void image_multiboot(struct image *k);
void image_multiboot_flags(struct image *k, uint32_t flags);
/* A 32-bit ELF with a multiboot header, loaded at 4 MiB. */
void image_multiboot_elf(struct image *k);

#endif
