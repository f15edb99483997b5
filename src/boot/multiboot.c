/* Multiboot 1 (specification 0.6.96): ELF and a.out-kludge kernels, modules, the memory map. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"

#define HEADER_MAGIC  0x1badb002u
#define LOADER_MAGIC  0x2badb002u
#define FLAG_ALIGN    1u
#define FLAG_MEMORY   2u
#define FLAG_REQUIRED 0xffffu
#define FLAG_ADDRESS  (1u << 16)
#define INFO_MEMORY   1u
#define INFO_CMDLINE  4u
#define INFO_MODS     8u
#define INFO_MMAP     0x40u
#define INFO_LOADER   0x200u
#define AT_NAME	      0x80
#define AT_MMAP	      0x100
#define MODULES_MAX   64
#define STRINGS_MAX   0x10000

/* The offset of the header in the first 8 KiB, or -1. */
static int header_at(const struct boot_image *i)
{
	for (int off = 0; off + 12 <= BOOT_HEAD; off += 4) {
		const uint8_t *h = i->head + off;

		if (ld_le32(h) == HEADER_MAGIC && ld_le32(h) + ld_le32(h + 4) + ld_le32(h + 8) == 0)
			return off;
	}
	return -1;
}

bool boot_is_multiboot(const struct boot_image *i)
{
	return header_at(i) >= 0;
}

/* The a.out kludge: load addresses in the header, which itself lies at `off`. */
static int load_flat(const struct boot_config *c, const struct boot_image *i, uint32_t off, struct elf_info *info,
		     struct err *err)
{
	const uint8_t *h = i->head + off;
	uint32_t header, load, load_end, bss_end, entry;
	uint64_t skip, len;

	if (off + 32 > BOOT_HEAD || off + 32 > i->size)
		return err_set(err, "kernel: %s is truncated in its multiboot header", i->path);
	header = ld_le32(h + 12);
	load = ld_le32(h + 16);
	load_end = ld_le32(h + 20);
	bss_end = ld_le32(h + 24);
	entry = ld_le32(h + 28);
	if (load > header || header - load > off || (load_end && load_end <= load) || load < BOOT_HIGH)
		return err_set(err, "kernel: %s: the multiboot addresses make no sense", i->path);
	skip = off - (header - load);
	len = load_end ? load_end - load : i->size - skip;
	if (!range_within(skip, len, i->size))
		return err_set(err, "kernel: %s is truncated: %llu bytes instead of %llu", i->path,
			       (unsigned long long)i->size, (unsigned long long)(skip + len));
	info->entry = entry;
	info->end = bss_end > load + len ? bss_end : load + len;
	info->has_entry = entry >= load && entry < info->end;
	if (boot_image_load(c, i, (struct boot_piece){ skip, len, load }, err))
		return -1;
	if (!mem_fill(c->mem, gpa(load + len), 0, info->end - (load + len)))
		return err_set(err, "kernel: %s needs %llu MiB: give the guest more with --memory", i->path,
			       (unsigned long long)((info->end + 0xfffff) >> 20));
	return 0;
}

/* --- modules: "FILE ARGUMENTS,FILE ARGUMENTS"; a comma in them is written ",," --- */

struct modules {
	unsigned count;
	uint8_t list[MODULES_MAX * 16];
	char strings[STRINGS_MAX];
	size_t used;
};

/* The next item of *at, copied to m->strings with a NUL. NULL: there is no room. */
static char *next_item(struct modules *m, const char **at)
{
	char *start = m->strings + m->used;

	while (**at) {
		if (**at == ',' && *++*at != ',')
			break;
		if (m->used + 1 >= STRINGS_MAX)
			return NULL;
		m->strings[m->used++] = *(*at)++;
	}
	m->strings[m->used++] = 0;
	return start;
}

static int load_module(const struct boot_config *c, struct modules *m, const char *text, uint64_t floor,
		       uint64_t *limit, struct err *err)
{
	uint8_t *entry = m->list + 16 * m->count++;
	char *path = strndup(text, strcspn(text, " "));
	struct boot_image i;
	struct boot_blob b;
	int rc = -1;

	if (!path)
		return err_set(err, "out of memory");
	if (!boot_image_open(&i, "initrd", path, err)) {
		rc = boot_load_blob(c, &i, floor, *limit, &b, err);
		boot_image_close(&i);
	}
	free(path);
	if (rc)
		return -1;
	*limit = b.at;
	st_le32(entry, (uint32_t)b.at);
	st_le32(entry + 4, (uint32_t)(b.at + b.size));
	st_le32(entry + 8, (uint32_t)(BOOT_MODULES + sizeof(m->list) + (size_t)(text - m->strings)));
	return 0;
}

static int load_modules(const struct boot_config *c, uint64_t floor, unsigned *count, struct err *err)
{
	struct modules *m = calloc(1, sizeof(*m));
	uint64_t limit = c->ram_low;
	int rc = -1;

	if (!m)
		return err_set(err, "out of memory");
	for (const char *at = c->initrd; at && *at;) {
		const char *text = next_item(m, &at);

		if (!text || m->count == MODULES_MAX) {
			err_set(err, "initrd: more than %d multiboot modules or %d bytes of names", MODULES_MAX,
				STRINGS_MAX);
			goto out;
		}
		if (load_module(c, m, text, floor, &limit, err))
			goto out;
	}
	*count = m->count;
	rc = boot_copy(c, BOOT_MODULES, m->list, sizeof(m->list), "the module list", err) ||
			     boot_copy(c, BOOT_MODULES + sizeof(m->list), m->strings, m->used, "the module names", err)
		     ? -1
		     : 0;
out:
	free(m);
	return rc;
}

static int put_info(const struct boot_config *c, unsigned modules, struct err *err)
{
	struct boot_range r[BOOT_RANGES_MAX];
	unsigned n = boot_memory_map(c, r);
	uint8_t b[0x400] = { 0 };

	st_le32(b, INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_LOADER | INFO_MODS);
	st_le32(b + 4, BOOT_EBDA >> 10);
	st_le32(b + 8, (uint32_t)((c->ram_low - BOOT_HIGH) >> 10));
	st_le32(b + 16, BOOT_CMDLINE);
	st_le32(b + 20, modules);
	st_le32(b + 24, BOOT_MODULES);
	st_le32(b + 44, 24 * n);
	st_le32(b + 48, BOOT_ZERO_PAGE + AT_MMAP);
	st_le32(b + 64, BOOT_ZERO_PAGE + AT_NAME);
	memcpy(b + AT_NAME, "vireo", 6);
	for (unsigned k = 0; k < n; k++) {
		uint8_t *e = b + AT_MMAP + 24 * k;

		st_le32(e, 20);
		st_le64(e + 4, r[k].base);
		st_le64(e + 12, r[k].size);
		st_le32(e + 20, r[k].type);
	}
	return boot_copy(c, BOOT_ZERO_PAGE, b, sizeof(b), "the multiboot information", err);
}

int boot_load_multiboot(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err)
{
	uint32_t off = (uint32_t)header_at(i), flags = ld_le32(i->head + off + 4);
	uint32_t unknown = flags & FLAG_REQUIRED & ~(FLAG_ALIGN | FLAG_MEMORY);
	struct elf_info info;
	unsigned modules;

	if (unknown)
		return err_set(err, "kernel: %s wants multiboot features %#x that are not offered", i->path, unknown);
	if (!(flags & FLAG_ADDRESS) && !boot_is_elf(i))
		return err_set(err, "kernel: %s: multiboot without addresses must be an x86 ELF executable", i->path);
	if (flags & FLAG_ADDRESS ? load_flat(c, i, off, &info, err) : elf_load(c, i, &info, err))
		return -1;
	if (!info.has_entry)
		return err_set(err, "kernel: %s: the entry point %#llx is not in the loaded image", i->path,
			       (unsigned long long)info.entry);
	/* The first word is the kernel's name, as from other boot loaders. */
	if (boot_put_cmdline(c, c->kernel, err) || load_modules(c, info.end, &modules, err) ||
	    put_info(c, modules, err) || boot_put_ivt(c, err))
		return -1;
	e->kind = BOOT_FLAT32;
	e->bios = true;
	e->rip = info.entry;
	e->eax = LOADER_MAGIC;
	e->ebx = BOOT_ZERO_PAGE;
	return 0;
}
