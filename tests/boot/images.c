/* See images.h. */
#include "images.h"

#include <string.h>

#include "base/bytes.h"

#define MIB 1048576ull

void image_bzimage(struct image *k)
{
	memset(k, 0, sizeof(*k));
	k->len = BZ_SETUP + BZ_CODE;
	k->b[0x1f1] = 4;
	st_le32(k->b + 0x1f4, BZ_CODE / 16);
	st_le16(k->b + 0x1fe, 0xaa55);
	k->b[0x201] = 0x6a;
	memcpy(k->b + 0x202, "HdrS", 4);
	st_le16(k->b + 0x206, 0x20f);
	k->b[0x211] = 1;
	st_le32(k->b + 0x22c, 0x7fffffff);
	st_le32(k->b + 0x230, 0x200000);
	k->b[0x234] = 1;
	st_le16(k->b + 0x236, 1);
	st_le32(k->b + 0x238, 2047);
	st_le64(k->b + 0x258, 16 * MIB);
	st_le32(k->b + 0x260, 8 * MIB);
	for (unsigned n = 0; n < BZ_CODE; n++)
		k->b[BZ_SETUP + n] = (uint8_t)(n * 7 + 1);
}

Elf64_Ehdr *image_elf64_header(struct image *k)
{
	return (Elf64_Ehdr *)k->b;
}

Elf64_Phdr *image_elf64_segment(struct image *k, unsigned n)
{
	return (Elf64_Phdr *)(k->b + sizeof(Elf64_Ehdr)) + n;
}

static void ident(uint8_t *e, uint8_t class)
{
	memcpy(e, ELFMAG, SELFMAG);
	e[EI_CLASS] = class;
	e[EI_DATA] = ELFDATA2LSB;
	e[EI_VERSION] = EV_CURRENT;
}

void image_elf64(struct image *k)
{
	memset(k, 0, sizeof(*k));
	k->len = ELF_NOTE;
	*image_elf64_header(k) = (Elf64_Ehdr){
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = 1,
		.e_entry = 16 * MIB + 0x10,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2,
	};
	ident(k->b, ELFCLASS64);
	*image_elf64_segment(k, 0) = (Elf64_Phdr){ .p_type = PT_LOAD,
						   .p_offset = ELF_TEXT,
						   .p_vaddr = 0xffffffff81000000,
						   .p_paddr = 16 * MIB,
						   .p_filesz = 0x1000,
						   .p_memsz = 0x1000 };
	*image_elf64_segment(k, 1) = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_offset = ELF_DATA, .p_paddr = 18 * MIB, .p_filesz = 0x800, .p_memsz = 2 * MIB
	};
	memset(k->b + ELF_TEXT, 0x90, 0x1000);
	memset(k->b + ELF_DATA, 0xda, 0x1000);
}

static uint8_t *note(uint8_t *n, uint32_t type, const void *desc, uint32_t len)
{
	st_le32(n, 4);
	st_le32(n + 4, len);
	st_le32(n + 8, type);
	memcpy(n + 12, "Xen", 4);
	memcpy(n + 16, desc, len);
	return n + 16 + align_up(len, 4);
}

void image_elf64_note(struct image *k, uint32_t entry)
{
	uint64_t desc = htole64(entry);
	uint8_t *n = k->b + ELF_NOTE;

	/* XEN_ELFNOTE_GUEST_OS comes first. */
	n = note(n, 6, "linux", 6);
	n = note(n, 18, &desc, 8);
	k->len = (size_t)(n - k->b);
	image_elf64_header(k)->e_phnum = 3;
	*image_elf64_segment(k, 2) =
		(Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = ELF_NOTE, .p_filesz = k->len - ELF_NOTE, .p_align = 4 };
}

static Elf32_Phdr *elf32(struct image *k, uint32_t at, uint32_t phoff, uint16_t segments)
{
	*(Elf32_Ehdr *)k->b = (Elf32_Ehdr){ .e_type = ET_EXEC,
					    .e_machine = EM_386,
					    .e_entry = at,
					    .e_phoff = phoff,
					    .e_phentsize = sizeof(Elf32_Phdr),
					    .e_phnum = segments };
	ident(k->b, ELFCLASS32);
	return (Elf32_Phdr *)(k->b + phoff);
}

void image_elf32(struct image *k)
{
	uint32_t desc = htole32(2 * MIB + 8);
	Elf32_Phdr *p;

	memset(k, 0, sizeof(*k));
	p = elf32(k, 2 * MIB, sizeof(Elf32_Ehdr), 2);
	p[0] = (Elf32_Phdr){
		.p_type = PT_LOAD, .p_offset = ELF_TEXT, .p_paddr = 2 * MIB, .p_filesz = 0x1000, .p_memsz = 0x1000
	};
	k->len = (size_t)(note(k->b + ELF_NOTE, 18, &desc, 4) - k->b);
	p[1] = (Elf32_Phdr){ .p_type = PT_NOTE, .p_offset = ELF_NOTE, .p_filesz = k->len - ELF_NOTE };
}

void image_multiboot_flags(struct image *k, uint32_t flags)
{
	st_le32(k->b + MB_AT, 0x1badb002);
	st_le32(k->b + MB_AT + 4, flags);
	st_le32(k->b + MB_AT + 8, -(0x1badb002u + flags));
}

void image_multiboot(struct image *k)
{
	memset(k, 0xcc, sizeof(*k));
	k->len = MB_SIZE;
	image_multiboot_flags(k, 1u << 16 | 3);
	st_le32(k->b + MB_AT + 12, MIB + MB_AT - 0x20);
	st_le32(k->b + MB_AT + 16, MIB);
	st_le32(k->b + MB_AT + 20, MIB + MB_SIZE - 0x20);
	st_le32(k->b + MB_AT + 24, MIB + 0x10000);
	st_le32(k->b + MB_AT + 28, MIB + 0x100);
}

void image_multiboot_elf(struct image *k)
{
	memset(k, 0, sizeof(*k));
	k->len = MB_SIZE;
	*elf32(k, 4 * MIB, 0x80, 1) =
		(Elf32_Phdr){ .p_type = PT_LOAD, .p_paddr = 4 * MIB, .p_filesz = 0x1000, .p_memsz = 0x3000 };
	image_multiboot_flags(k, 3);
}
