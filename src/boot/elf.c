/* ELF kernels: vmlinux by the PVH entry (Xen's docs/misc/pvh.pandoc) or at its 64-bit entry. */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"

#define PVH_MAGIC	      0x336ec578u
#define XEN_NOTE_PHYS32_ENTRY 18
#define SEGMENTS_MAX	      128
#define NOTES_MAX	      65536u

static bool is32(const struct boot_image *i)
{
	return i->head[EI_CLASS] == ELFCLASS32;
}

bool boot_is_elf(const struct boot_image *i)
{
	/* e_type and e_machine lie at the same place in both classes. */
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)i->head;

	return !memcmp(h->e_ident, ELFMAG, SELFMAG) && h->e_ident[EI_DATA] == ELFDATA2LSB && h->e_type == ET_EXEC &&
	       (h->e_ident[EI_CLASS] == ELFCLASS64 ? h->e_machine == EM_X86_64
						   : h->e_ident[EI_CLASS] == ELFCLASS32 && h->e_machine == EM_386);
}

/* All program headers, in 64-bit form. */
struct segments {
	Elf64_Phdr p[SEGMENTS_MAX];
	unsigned count;
};

static Elf64_Phdr widen(const Elf32_Phdr *p)
{
	return (Elf64_Phdr){ .p_type = p->p_type,
			     .p_offset = p->p_offset,
			     .p_paddr = p->p_paddr,
			     .p_filesz = p->p_filesz,
			     .p_memsz = p->p_memsz,
			     .p_align = p->p_align };
}

static int read_segments(const struct boot_image *i, struct segments *s, struct err *err)
{
	const Elf64_Ehdr *h64 = (const Elf64_Ehdr *)i->head;
	const Elf32_Ehdr *h32 = (const Elf32_Ehdr *)i->head;
	uint64_t at = is32(i) ? h32->e_phoff : h64->e_phoff;
	size_t each = is32(i) ? sizeof(Elf32_Phdr) : sizeof(Elf64_Phdr);

	s->count = is32(i) ? h32->e_phnum : h64->e_phnum;
	if (s->count > SEGMENTS_MAX || (is32(i) ? h32->e_phentsize : h64->e_phentsize) != each)
		return err_set(err, "kernel: %s: the ELF program headers make no sense", i->path);
	if (!range_within(at, s->count * each, i->size))
		return err_set(err, "kernel: %s is truncated: its ELF program headers are missing", i->path);
	if (!is32(i))
		return boot_image_read(i, at, s->p, s->count * each, err);
	for (unsigned n = 0; n < s->count; n++) {
		Elf32_Phdr p;

		if (boot_image_read(i, at + n * each, &p, sizeof(p), err))
			return -1;
		s->p[n] = widen(&p);
	}
	return 0;
}

static bool is_loaded(const Elf64_Phdr *p)
{
	return p->p_type == PT_LOAD && p->p_memsz;
}

static int check_segment(const struct boot_config *c, const struct boot_image *i, const struct segments *s, unsigned n,
			 struct err *err)
{
	const Elf64_Phdr *p = &s->p[n];

	if (p->p_filesz > p->p_memsz)
		return err_set(err, "kernel: %s: segment %u is larger in the file than in memory", i->path, n);
	if (!range_within(p->p_offset, p->p_filesz, i->size))
		return err_set(err, "kernel: %s is truncated: segment %u is not all there", i->path, n);
	/* A 32-bit kernel is entered without paging: where the page tables would be is free for it. */
	if (p->p_paddr < BOOT_HIGH &&
	    !(is32(i) && p->p_paddr >= BOOT_LOW && range_within(p->p_paddr, p->p_memsz, BOOT_CMDLINE)))
		return err_set(err, "kernel: %s: segment %u at %#llx lies below 1 MiB", i->path, n,
			       (unsigned long long)p->p_paddr);
	if (!range_within(p->p_paddr, p->p_memsz, c->ram_low))
		return err_set(err,
			       "kernel: %s: segment %u (%#llx+%#llx) lies outside of the guest's memory: give it more "
			       "with --memory",
			       i->path, n, (unsigned long long)p->p_paddr, (unsigned long long)p->p_memsz);
	for (unsigned k = 0; k < n; k++) {
		const Elf64_Phdr *q = &s->p[k];

		if (is_loaded(q) && p->p_paddr < q->p_paddr + q->p_memsz && q->p_paddr < p->p_paddr + p->p_memsz)
			return err_set(err, "kernel: %s: segments %u and %u overlap", i->path, k, n);
	}
	return 0;
}

/* The value of the PVH note among the notes of one segment. */
static bool find_pvh(const uint8_t *notes, uint64_t len, uint64_t align, uint32_t *entry)
{
	for (uint64_t at = 0; range_within(at, 12, len);) {
		const uint8_t *n = notes + at;
		uint64_t name = align_up(ld_le32(n), align), desc = align_up(ld_le32(n + 4), align);

		if (!range_within(at + 12, name + desc, len))
			break;
		if (ld_le32(n + 8) == XEN_NOTE_PHYS32_ENTRY && ld_le32(n) == 4 && !memcmp(n + 12, "Xen", 4) &&
		    ld_le32(n + 4) >= 4) {
			*entry = ld_le32(n + 12 + name);
			return true;
		}
		at += 12 + name + desc;
	}
	return false;
}

static int read_notes(const struct boot_image *i, const Elf64_Phdr *p, struct elf_info *info, struct err *err)
{
	uint8_t *notes;
	int rc;

	if (p->p_type != PT_NOTE || info->has_pvh || !p->p_filesz || p->p_filesz > NOTES_MAX)
		return 0;
	notes = malloc(p->p_filesz);
	if (!notes)
		return err_set(err, "out of memory");
	rc = boot_image_read(i, p->p_offset, notes, p->p_filesz, err);
	if (!rc)
		info->has_pvh = find_pvh(notes, p->p_filesz, p->p_align == 8 ? 8 : 4, &info->pvh);
	free(notes);
	return rc;
}

static bool holds(const struct segments *s, uint64_t addr)
{
	for (unsigned n = 0; n < s->count; n++)
		if (is_loaded(&s->p[n]) && addr - s->p[n].p_paddr < s->p[n].p_memsz)
			return true;
	return false;
}

int elf_load(const struct boot_config *c, const struct boot_image *i, struct elf_info *info, struct err *err)
{
	struct segments s;

	*info = (struct elf_info){ .is32 = is32(i) };
	info->entry = info->is32 ? ((const Elf32_Ehdr *)i->head)->e_entry : ((const Elf64_Ehdr *)i->head)->e_entry;
	if (read_segments(i, &s, err))
		return -1;
	for (unsigned n = 0; n < s.count; n++) {
		const Elf64_Phdr *p = &s.p[n];

		if (read_notes(i, p, info, err))
			return -1;
		if (!is_loaded(p))
			continue;
		if (check_segment(c, i, &s, n, err) ||
		    boot_image_load(c, i, (struct boot_piece){ p->p_offset, p->p_filesz, p->p_paddr }, err))
			return -1;
		/* At a reset memory is not clean. */
		mem_fill(c->mem, gpa(p->p_paddr + p->p_filesz), 0, p->p_memsz - p->p_filesz);
		if (p->p_paddr + p->p_memsz > info->end)
			info->end = p->p_paddr + p->p_memsz;
	}
	if (!info->end)
		return err_set(err, "kernel: %s has nothing to load", i->path);
	info->has_entry = holds(&s, info->entry);
	info->has_pvh = info->has_pvh && holds(&s, info->pvh);
	return 0;
}

/* struct hvm_start_info, one module for the initrd, and the memory map. */
static int put_start_info(const struct boot_config *c, const struct boot_blob *initrd, struct err *err)
{
	enum { MODULES = 0x100, MAP = 0x200 };
	struct boot_range r[BOOT_RANGES_MAX];
	unsigned n = boot_memory_map(c, r);
	uint8_t b[0x400] = { 0 };

	st_le32(b, PVH_MAGIC);
	st_le32(b + 4, 1);
	st_le32(b + 12, initrd->size ? 1 : 0);
	st_le64(b + 16, initrd->size ? BOOT_ZERO_PAGE + MODULES : 0);
	st_le64(b + 24, BOOT_CMDLINE);
	st_le64(b + 32, BOOT_RSDP);
	st_le64(b + 40, BOOT_ZERO_PAGE + MAP);
	st_le32(b + 48, n);
	st_le64(b + MODULES, initrd->at);
	st_le64(b + MODULES + 8, initrd->size);
	for (unsigned k = 0; k < n; k++) {
		st_le64(b + MAP + 24 * k, r[k].base);
		st_le64(b + MAP + 8 + 24 * k, r[k].size);
		st_le32(b + MAP + 16 + 24 * k, r[k].type);
	}
	return boot_copy(c, BOOT_ZERO_PAGE, b, sizeof(b), "the start information", err);
}

int boot_load_elf(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err)
{
	struct linux_setup none = { 0 };
	struct boot_blob initrd;
	struct elf_info info;

	if (elf_load(c, i, &info, err))
		return -1;
	if (!info.has_pvh && info.is32)
		return err_set(err, "kernel: %s is a 32-bit ELF without a PVH or multiboot entry", i->path);
	if (!info.has_pvh && !info.has_entry)
		return err_set(err, "kernel: %s: the entry point %#llx is not in a loaded segment", i->path,
			       (unsigned long long)info.entry);
	if (boot_put_cmdline(c, NULL, err) || boot_load_initrd(c, info.end, c->ram_low, &initrd, err))
		return -1;
	e->unsure = initrd.unsure;
	if (info.has_pvh) {
		e->kind = BOOT_FLAT32;
		e->rip = info.pvh;
		e->ebx = BOOT_ZERO_PAGE;
		return put_start_info(c, &initrd, err);
	}
	e->kind = BOOT_LONG64;
	e->rip = info.entry;
	e->esi = BOOT_ZERO_PAGE;
	return boot_zero_page(c, &none, &initrd, err);
}
