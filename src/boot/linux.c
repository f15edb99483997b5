/* Linux on x86: bzImage and boot_params. Documentation/arch/x86/boot.rst, zero-page.rst. */
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"

#define SETUP_HEADER	 0x1f1
#define HDR_SETUP_SECTS	 0x1f1
#define HDR_MAGIC	 0x202
#define HDR_VERSION	 0x206
#define HDR_LOADER	 0x210
#define HDR_LOADFLAGS	 0x211
#define HDR_INITRD	 0x218
#define HDR_INITRD_SIZE	 0x21c
#define HDR_CMDLINE	 0x228
#define HDR_INITRD_MAX	 0x22c
#define HDR_ALIGNMENT	 0x230
#define HDR_XLOADFLAGS	 0x236
#define HDR_CMDLINE_SIZE 0x238
#define HDR_PREF_ADDRESS 0x258
#define HDR_INIT_SIZE	 0x260
#define HDR_END		 0x290
#define XLF_KERNEL_64	 1
#define ZP_RSDP		 0x070
#define ZP_E820_COUNT	 0x1e8
#define ZP_E820		 0x2d0
#define ENTRY_64	 0x200

bool boot_is_bzimage(const struct boot_image *i)
{
	return i->size >= HDR_END && ld_le16(i->data + 0x1fe) == 0xaa55 && !memcmp(i->data + HDR_MAGIC, "HdrS", 4);
}

int boot_zero_page(const struct boot_config *c, const uint8_t *setup, size_t setup_len, uint64_t initrd,
		   uint64_t initrd_size, struct err *err)
{
	struct boot_range r[BOOT_RANGES_MAX];
	unsigned n = boot_memory_map(c, r);
	uint8_t zp[4096] = { 0 };

	if (setup)
		memcpy(zp + SETUP_HEADER, setup, setup_len);
	zp[HDR_LOADER] = 0xff; /* unregistered */
	zp[HDR_LOADFLAGS] |= 1;
	st_le32(zp + HDR_CMDLINE, BOOT_CMDLINE);
	st_le32(zp + HDR_INITRD, (uint32_t)initrd);
	st_le32(zp + HDR_INITRD_SIZE, (uint32_t)initrd_size);
	st_le64(zp + ZP_RSDP, BOOT_RSDP);
	zp[ZP_E820_COUNT] = (uint8_t)n;
	for (unsigned k = 0; k < n; k++) {
		uint8_t *e = zp + ZP_E820 + 20 * k;

		st_le64(e, r[k].base);
		st_le64(e + 8, r[k].size);
		st_le32(e + 16, r[k].type);
	}
	return boot_copy(c, BOOT_ZERO_PAGE, zp, sizeof(zp), "boot_params", err);
}

int boot_load_bzimage(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err)
{
	unsigned sectors = i->data[HDR_SETUP_SECTS] ? i->data[HDR_SETUP_SECTS] : 4;
	size_t setup_size = (sectors + 1) * 512u, header_len = HDR_END - SETUP_HEADER;
	uint64_t at = ld_le64(i->data + HDR_PREF_ADDRESS), need = ld_le32(i->data + HDR_INIT_SIZE), initrd, initrd_size;
	uint32_t align = ld_le32(i->data + HDR_ALIGNMENT);

	if (setup_size >= i->size)
		return err_set(err, "kernel: %s is truncated", c->kernel);
	if (ld_le16(i->data + HDR_VERSION) < 0x20c || !(ld_le16(i->data + HDR_XLOADFLAGS) & XLF_KERNEL_64))
		return err_set(err, "kernel: %s has no 64-bit entry (boot protocol 2.12 or later is needed)",
			       c->kernel);
	if (c->append && strlen(c->append) > ld_le32(i->data + HDR_CMDLINE_SIZE))
		return err_set(err, "append: %s takes at most %u bytes of command line", c->kernel,
			       ld_le32(i->data + HDR_CMDLINE_SIZE));
	if (need < i->size - setup_size)
		need = i->size - setup_size;
	/* Where it wants to be; with less memory, as low as its alignment allows. */
	if (!range_within(at, need, c->ram_low) || at < BOOT_HIGH)
		at = align_up(BOOT_HIGH, is_pow2(align) && align >= 0x1000 ? align : 0x200000);
	if (!range_within(at, need, c->ram_low))
		return err_set(err, "kernel: %s needs %llu MiB: give the guest more with --memory", c->kernel,
			       (unsigned long long)((at + need + 0xfffff) >> 20));
	if (boot_copy(c, at, i->data + setup_size, i->size - setup_size, "the kernel", err) ||
	    boot_load_initrd(c, at + need, ld_le32(i->data + HDR_INITRD_MAX) + 1ull, &initrd, &initrd_size, err) ||
	    boot_zero_page(c, i->data + SETUP_HEADER, header_len, initrd, initrd_size, err))
		return -1;
	*e = (struct boot_entry){ .kind = BOOT_LONG64, .rip = at + ENTRY_64, .info = BOOT_ZERO_PAGE };
	return 0;
}
