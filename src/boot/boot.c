/* Which loader a kernel file needs, and what the loaders share. */
#include "boot/boot.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/initrd.h"

int boot_copy(const struct boot_config *c, uint64_t at, const void *data, size_t len, const char *what, struct err *err)
{
	if (!mem_write(c->mem, gpa(at), data, len))
		return err_set(
			err, "%s: %s does not fit into the guest's memory at %#llx: give the guest more with --memory",
			c->kernel, what, (unsigned long long)at);
	return 0;
}

int boot_place_blob(const struct boot_image *i, uint64_t floor, uint64_t limit, uint32_t *at, struct err *err)
{
	if (i->size > limit || align_down(limit - i->size, MEM_PAGE_SIZE) < align_up(floor, MEM_PAGE_SIZE))
		return err_set(err,
			       "%s: %s (%llu MiB) does not fit beside the kernel: give the guest more with --memory",
			       i->what, i->path, (unsigned long long)((i->size + 0xfffff) >> 20));
	*at = (uint32_t)align_down(limit - i->size, MEM_PAGE_SIZE);
	return 0;
}

int boot_load_blob(const struct boot_config *c, const struct boot_image *i, uint64_t floor, uint64_t limit,
		   struct boot_blob *b, struct err *err)
{
	uint32_t at;

	if (boot_place_blob(i, floor, limit < c->ram_low ? limit : c->ram_low, &at, err))
		return -1;
	*b = (struct boot_blob){ .at = at, .size = i->size };
	return boot_image_load(c, i, (struct boot_piece){ 0, i->size, b->at }, err);
}

int boot_load_initrd(const struct boot_config *c, uint64_t floor, uint64_t limit, struct boot_blob *b, struct err *err)
{
	struct boot_image i;
	int rc;

	*b = (struct boot_blob){ 0 };
	if (!c->initrd)
		return 0;
	if (boot_image_open(&i, "initrd", c->initrd, err))
		return -1;
	rc = boot_load_blob(c, &i, floor, limit, b, err) || initrd_check(i.fd, i.size, i.path, &b->unsure, err);
	boot_image_close(&i);
	return rc ? -1 : 0;
}

int boot_put_cmdline(const struct boot_config *c, const char *first, struct err *err)
{
	const char *text = c->append ? c->append : "";
	char line[BOOT_CMDLINE_MAX];
	int n = snprintf(line, sizeof(line), "%s%s%s", first ? first : "", first && *text ? " " : "", text);

	if (n >= (int)sizeof(line))
		return err_set(err, "append: the command line is longer than %d bytes", BOOT_CMDLINE_MAX - 1);
	return boot_copy(c, BOOT_CMDLINE, line, (size_t)n + 1, "the command line", err);
}

unsigned boot_memory_map(const struct boot_config *c, struct boot_range *r)
{
	unsigned n = 0;

	r[n++] = (struct boot_range){ 0, BOOT_EBDA, 1 };
	r[n++] = (struct boot_range){ BOOT_EBDA, BOOT_HIGH - BOOT_EBDA, 2 };
	r[n++] = (struct boot_range){ BOOT_HIGH, c->ram_low - BOOT_HIGH, 1 };
	if (c->ram_high)
		r[n++] = (struct boot_range){ 1ull << 32, c->ram_high, 1 };
	return n;
}

/* The GDT, whose code segment is of the entry's kind, and the page tables of the 64-bit entry. */
static int put_tables(const struct boot_config *c, enum boot_kind kind, struct err *err)
{
	uint64_t gdt[] = { 0, 0, htole64(kind == BOOT_LONG64 ? 0x00af9b000000ffff : 0x00cf9b000000ffff),
			   htole64(0x00cf93000000ffff) };
	uint64_t table[512] = { [0] = htole64((BOOT_PAGE_TABLES + 0x1000) | 3) };

	if (boot_copy(c, BOOT_GDT, gdt, sizeof(gdt), "the GDT", err))
		return -1;
	if (kind != BOOT_LONG64)
		return 0;
	if (boot_copy(c, BOOT_PAGE_TABLES, table, sizeof(table), "the page tables", err))
		return -1;
	memset(table, 0, sizeof(table));
	for (unsigned k = 0; k < 4; k++)
		table[k] = htole64((BOOT_PAGE_TABLES + 0x2000 + 0x1000 * k) | 3);
	if (boot_copy(c, BOOT_PAGE_TABLES + 0x1000, table, sizeof(table), "the page tables", err))
		return -1;
	for (unsigned k = 0; k < 4; k++) {
		for (unsigned n = 0; n < 512; n++)
			table[n] = htole64((uint64_t)(k * 512 + n) << 21 | 0x83);
		if (boot_copy(c, BOOT_PAGE_TABLES + 0x2000 + 0x1000 * k, table, sizeof(table), "the page tables", err))
			return -1;
	}
	return 0;
}

/* What people mistake for a kernel, and what to do about it. */
static int not_a_kernel(const struct boot_image *i, struct err *err)
{
	static const struct {
		uint16_t at;
		uint8_t len;
		const char *magic, *says;
	} known[] = {
		{ 0, 2, "\x1f\x8b", "is compressed with gzip: decompress it first (gzip -dc)" },
		{ 0, 4, "\x28\xb5\x2f\xfd", "is compressed with zstd: decompress it first (zstd -dc)" },
		{ 0, 6, "\xfd\x37zXZ", "is compressed with xz: decompress it first (xz -dc)" },
		{ 0, 3, "BZh", "is compressed with bzip2: decompress it first (bzip2 -dc)" },
		{ 0, 4, "\x04\x22\x4d\x18", "is compressed with lz4: decompress it first (lz4 -dc)" },
		{ 0, 5, "07070", "is a cpio archive: is it the initrd?" },
		{ 0, 4, "QFI\xfb", "is a qcow2 disk image: give it with --disk" },
		{ 0x38, 4, "ARM\x64", "is a kernel for arm64" },
		{ 0, 2, "MZ", "is an EFI program without a Linux boot header" },
		{ 0, 4,
		  "\x7f"
		  "ELF",
		  "is an ELF file, but not an x86 executable" },
	};

	for (unsigned n = 0; n < ARRAY_LEN(known); n++)
		if (!memcmp(i->head + known[n].at, known[n].magic, known[n].len))
			return err_set(err, "kernel: %s is not a kernel: it %s", i->path, known[n].says);
	return err_set(err, "kernel: %s is not a kernel (bzImage, x86 ELF or multiboot)", i->path);
}

static int load(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err)
{
	static const struct {
		bool (*is)(const struct boot_image *i);
		int (*load)(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e,
			    struct err *err);
	} loaders[] = {
		{ boot_is_bzimage, boot_load_bzimage },
		{ boot_is_multiboot, boot_load_multiboot },
		{ boot_is_elf, boot_load_elf },
	};

	for (unsigned n = 0; n < ARRAY_LEN(loaders); n++)
		if (loaders[n].is(i))
			return loaders[n].load(c, i, e, err) || put_tables(c, e->kind, err) ? -1 : 0;
	return not_a_kernel(i, err);
}

int boot_load(const struct boot_config *c, struct boot_entry *e, struct err *err)
{
	struct boot_image i;
	int rc;

	*e = (struct boot_entry){ 0 };
	if (c->ram_low < 8 << 20)
		return err_set(err, "memory: a kernel needs at least 8 MiB");
	if (boot_image_open(&i, "kernel", c->kernel, err))
		return -1;
	rc = load(c, &i, e, err);
	boot_image_close(&i);
	if (rc) {
		initrd_check_free(e->unsure);
		e->unsure = NULL;
	}
	return rc;
}
