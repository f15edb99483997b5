/* ELF kernels: vmlinux by the PVH entry (Xen's docs/misc/pvh.pandoc) or at its 64-bit entry. */
#include <elf.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"

#define PVH_MAGIC	      0x336ec578u
#define XEN_NOTE_PHYS32_ENTRY 18

static bool is32(const struct boot_image *i)
{
	return i->data[EI_CLASS] == ELFCLASS32;
}

bool boot_is_elf(const struct boot_image *i)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)i->data;

	return i->size >= sizeof(Elf64_Ehdr) && !memcmp(h->e_ident, ELFMAG, SELFMAG) &&
	       h->e_ident[EI_DATA] == ELFDATA2LSB &&
	       (h->e_ident[EI_CLASS] == ELFCLASS64 ? h->e_machine == EM_X86_64
						   : h->e_ident[EI_CLASS] == ELFCLASS32 && h->e_machine == EM_386);
}

/* The k-th program header in 64-bit form; false past the end or outside of the file. */
static bool segment(const struct boot_image *i, unsigned k, Elf64_Phdr *out)
{
	if (is32(i)) {
		Elf32_Ehdr h;
		Elf32_Phdr p;

		memcpy(&h, i->data, sizeof(h));
		if (k >= h.e_phnum || h.e_phentsize < sizeof(p) ||
		    !range_within((uint64_t)h.e_phoff + (uint64_t)k * h.e_phentsize, sizeof(p), i->size))
			return false;
		memcpy(&p, i->data + h.e_phoff + (size_t)k * h.e_phentsize, sizeof(p));
		*out = (Elf64_Phdr){ .p_type = p.p_type,
				     .p_offset = p.p_offset,
				     .p_paddr = p.p_paddr,
				     .p_filesz = p.p_filesz,
				     .p_memsz = p.p_memsz,
				     .p_align = p.p_align };
	} else {
		Elf64_Ehdr h;

		memcpy(&h, i->data, sizeof(h));
		if (k >= h.e_phnum || h.e_phentsize < sizeof(*out) || h.e_phoff > i->size ||
		    !range_within(h.e_phoff + (uint64_t)k * h.e_phentsize, sizeof(*out), i->size))
			return false;
		memcpy(out, i->data + h.e_phoff + (size_t)k * h.e_phentsize, sizeof(*out));
	}
	return true;
}

uint64_t elf_entry(const struct boot_image *i)
{
	return is32(i) ? ((const Elf32_Ehdr *)i->data)->e_entry : ((const Elf64_Ehdr *)i->data)->e_entry;
}

int elf_load_segments(const struct boot_config *c, const struct boot_image *i, uint64_t *end, struct err *err)
{
	Elf64_Phdr p;
	bool any = false;

	*end = 0;
	for (unsigned k = 0; segment(i, k, &p); k++) {
		if (p.p_type != PT_LOAD || !p.p_memsz)
			continue;
		if (!range_within(p.p_offset, p.p_filesz, i->size) || p.p_filesz > p.p_memsz)
			return err_set(err, "kernel: %s: segment %u lies outside of the file", c->kernel, k);
		if (p.p_paddr < BOOT_HIGH || !range_within(p.p_paddr, p.p_memsz, c->ram_low))
			return err_set(err, "kernel: %s: segment %u (%#llx+%#llx) lies outside of the guest's memory",
				       c->kernel, k, (unsigned long long)p.p_paddr, (unsigned long long)p.p_memsz);
		if (p.p_filesz && boot_copy(c, p.p_paddr, i->data + p.p_offset, p.p_filesz, "a segment", err))
			return -1;
		if (p.p_paddr + p.p_memsz > *end)
			*end = p.p_paddr + p.p_memsz;
		any = true;
	}
	return any ? 0 : err_set(err, "kernel: %s has nothing to load", c->kernel);
}

bool elf_pvh_entry(const struct boot_image *i, uint32_t *entry)
{
	Elf64_Phdr p;

	for (unsigned k = 0; segment(i, k, &p); k++) {
		uint64_t at = 0, align = p.p_align == 8 ? 8 : 4;

		if (p.p_type != PT_NOTE || !range_within(p.p_offset, p.p_filesz, i->size))
			continue;
		while (range_within(at, 12, p.p_filesz)) {
			const uint8_t *n = i->data + p.p_offset + at;
			uint64_t name = align_up(ld_le32(n), align), desc = align_up(ld_le32(n + 4), align);

			if (!range_within(at + 12, name + desc, p.p_filesz))
				break;
			if (ld_le32(n + 8) == XEN_NOTE_PHYS32_ENTRY && ld_le32(n) == 4 && !memcmp(n + 12, "Xen", 4) &&
			    ld_le32(n + 4) >= 4) {
				*entry = ld_le32(n + 12 + name);
				return true;
			}
			at += 12 + name + desc;
		}
	}
	return false;
}

/* struct hvm_start_info, one module for the initrd, and the memory map. */
static int put_start_info(const struct boot_config *c, uint64_t initrd, uint64_t initrd_size, struct err *err)
{
	struct boot_range r[BOOT_RANGES_MAX];
	unsigned n = boot_memory_map(c, r);
	uint8_t b[0x400] = { 0 };

	st_le32(b, PVH_MAGIC);
	st_le32(b + 4, 1);
	st_le32(b + 12, initrd_size ? 1 : 0);
	st_le64(b + 16, BOOT_ZERO_PAGE + 0x100);
	st_le64(b + 24, BOOT_CMDLINE);
	st_le64(b + 32, BOOT_RSDP);
	st_le64(b + 40, BOOT_ZERO_PAGE + 0x200);
	st_le32(b + 48, n);
	st_le64(b + 0x100, initrd);
	st_le64(b + 0x108, initrd_size);
	for (unsigned k = 0; k < n; k++) {
		st_le64(b + 0x200 + 24 * k, r[k].base);
		st_le64(b + 0x208 + 24 * k, r[k].size);
		st_le32(b + 0x210 + 24 * k, r[k].type);
	}
	return boot_copy(c, BOOT_ZERO_PAGE, b, sizeof(b), "the start information", err);
}

int boot_load_elf(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err)
{
	uint64_t end, initrd, size;
	uint32_t pvh;

	if (elf_load_segments(c, i, &end, err) || boot_load_initrd(c, end, c->ram_low, &initrd, &size, err))
		return -1;
	if (elf_pvh_entry(i, &pvh)) {
		*e = (struct boot_entry){ .kind = BOOT_FLAT32, .rip = pvh, .info = BOOT_ZERO_PAGE };
		return put_start_info(c, initrd, size, err);
	}
	if (is32(i))
		return err_set(err, "kernel: %s is a 32-bit ELF without a PVH or multiboot entry", c->kernel);
	*e = (struct boot_entry){ .kind = BOOT_LONG64, .rip = elf_entry(i), .info = BOOT_ZERO_PAGE };
	return boot_zero_page(c, NULL, 0, initrd, size, err);
}
