/* Multiboot 1 (specification 0.6.96): ELF and a.out-kludge kernels, one module, the memory map. */
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"

#define HEADER_MAGIC  0x1badb002u
#define LOADER_MAGIC  0x2badb002u
#define SEARCH	      8192
#define FLAG_ADDRESS  (1u << 16)
#define FLAG_REQUIRED 0xffffu
#define INFO_MEMORY   1u
#define INFO_CMDLINE  4u
#define INFO_MODS     8u
#define INFO_MMAP     0x40u
#define INFO_LOADER   0x200u
#define AT_NAME	      0x80
#define AT_MMAP	      0x100

static const uint8_t *header(const struct boot_image *i)
{
	size_t end = i->size < SEARCH ? i->size : SEARCH;

	for (size_t off = 0; off + 12 <= end; off += 4) {
		const uint8_t *h = i->data + off;

		if (ld_le32(h) == HEADER_MAGIC && ld_le32(h) + ld_le32(h + 4) + ld_le32(h + 8) == 0)
			return h;
	}
	return NULL;
}

bool boot_is_multiboot(const struct boot_image *i)
{
	return header(i) != NULL;
}

/* The a.out kludge: load addresses in the header. */
static int load_flat(const struct boot_config *c, const struct boot_image *i, const uint8_t *h, uint64_t *end,
		     struct err *err)
{
	size_t off = (size_t)(h - i->data);
	uint32_t header_at, load, load_end, bss_end;
	uint64_t skip, len;

	if (i->size - off < 32)
		return err_set(err, "kernel: %s: the multiboot header is truncated", c->kernel);
	header_at = ld_le32(h + 12);
	load = ld_le32(h + 16);
	load_end = ld_le32(h + 20);
	bss_end = ld_le32(h + 24);
	skip = (uint64_t)header_at - load;
	if (load > header_at || skip > off || (load_end && load_end < load))
		return err_set(err, "kernel: %s: the multiboot addresses make no sense", c->kernel);
	skip = off - skip;
	len = load_end ? load_end - load : i->size - skip;
	if (!range_within(skip, len, i->size) || load < BOOT_HIGH)
		return err_set(err, "kernel: %s: the multiboot addresses lie outside of the file or below 1 MiB",
			       c->kernel);
	*end = bss_end > load + len ? bss_end : load + len;
	return boot_copy(c, load, i->data + skip, len, "the kernel", err);
}

static int put_info(const struct boot_config *c, uint64_t mod, uint64_t mod_size, struct err *err)
{
	struct boot_range r[BOOT_RANGES_MAX];
	unsigned n = boot_memory_map(c, r);
	uint8_t b[0x400] = { 0 }, m[16] = { 0 };

	st_le32(b, INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_LOADER | (mod_size ? INFO_MODS : 0));
	st_le32(b + 4, BOOT_EBDA >> 10);
	st_le32(b + 8, (uint32_t)((c->ram_low - BOOT_HIGH) >> 10));
	st_le32(b + 16, BOOT_CMDLINE);
	st_le32(b + 20, mod_size ? 1 : 0);
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
	st_le32(m, (uint32_t)mod);
	st_le32(m + 4, (uint32_t)(mod + mod_size));
	return boot_copy(c, BOOT_ZERO_PAGE, b, sizeof(b), "the multiboot information", err) ||
	       boot_copy(c, BOOT_MODULES, m, sizeof(m), "the module list", err);
}

int boot_load_multiboot(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err)
{
	const uint8_t *h = header(i);
	uint32_t flags = ld_le32(h + 4);
	uint64_t end, mod, mod_size, entry;

	if (flags & FLAG_REQUIRED & ~3u)
		return err_set(err, "kernel: %s wants multiboot features %#x that are not offered", c->kernel,
			       flags & FLAG_REQUIRED & ~3u);
	if (flags & FLAG_ADDRESS) {
		if (load_flat(c, i, h, &end, err))
			return -1;
		entry = ld_le32(h + 28);
	} else {
		if (!boot_is_elf(i))
			return err_set(err, "kernel: %s: multiboot without addresses must be an ELF file", c->kernel);
		if (elf_load_segments(c, i, &end, err))
			return -1;
		entry = elf_entry(i);
	}
	if (boot_load_initrd(c, end, c->ram_low, &mod, &mod_size, err) || put_info(c, mod, mod_size, err))
		return -1;
	*e = (struct boot_entry){ .kind = BOOT_FLAT32, .rip = entry, .info = BOOT_ZERO_PAGE, .magic = LOADER_MAGIC };
	return 0;
}
