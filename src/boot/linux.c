/* Linux on x86: bzImage and boot_params. Documentation/arch/x86/boot.rst, zero-page.rst. */
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"

/* Offsets in the file, which are those in boot_params as well. In brackets: since which protocol version. */
#define SETUP_HEADER	 0x1f1
#define HDR_SETUP_SECTS	 0x1f1
#define HDR_SYSSIZE	 0x1f4 /* in paragraphs [2.04: 32 bits] */
#define HDR_BOOT_FLAG	 0x1fe
#define HDR_JUMP	 0x201 /* its distance says where the header ends */
#define HDR_MAGIC	 0x202
#define HDR_VERSION	 0x206
#define HDR_LOADER	 0x210
#define HDR_LOADFLAGS	 0x211
#define HDR_CODE32	 0x214
#define HDR_INITRD	 0x218
#define HDR_INITRD_SIZE	 0x21c
#define HDR_CMDLINE	 0x228 /* [2.02] */
#define HDR_INITRD_MAX	 0x22c /* [2.03] */
#define HDR_ALIGNMENT	 0x230 /* [2.05] */
#define HDR_RELOCATABLE	 0x234 /* [2.05] */
#define HDR_XLOADFLAGS	 0x236 /* [2.12] */
#define HDR_CMDLINE_SIZE 0x238 /* [2.06] */
#define HDR_PREF_ADDRESS 0x258 /* [2.10] */
#define HDR_INIT_SIZE	 0x260 /* [2.10] */
#define HDR_END		 0x290
#define LOADED_HIGH	 1
#define XLF_KERNEL_64	 1
#define ZP_RSDP		 0x070 /* [2.14] */
#define ZP_E820_COUNT	 0x1e8
#define ZP_E820		 0x2d0
#define ENTRY_64	 0x200

bool boot_is_bzimage(const struct boot_image *i)
{
	return ld_le16(i->head + HDR_BOOT_FLAG) == 0xaa55 && !memcmp(i->head + HDR_MAGIC, "HdrS", 4);
}

/* For a kernel that was not loaded from a bzImage: it looks at these fields even so. */
static void put_own_header(uint8_t *zp)
{
	st_le16(zp + HDR_BOOT_FLAG, 0xaa55);
	memcpy(zp + HDR_MAGIC, "HdrS", 4);
	st_le16(zp + HDR_VERSION, 0x20f);
}

int boot_zero_page(const struct boot_config *c, const struct linux_setup *s, const struct boot_blob *initrd,
		   struct err *err)
{
	struct boot_range r[BOOT_RANGES_MAX];
	unsigned n = boot_memory_map(c, r);
	uint8_t zp[4096] = { 0 };

	if (s->header)
		memcpy(zp + SETUP_HEADER, s->header, s->len);
	else
		put_own_header(zp);
	zp[HDR_LOADER] = 0xff; /* unregistered */
	zp[HDR_LOADFLAGS] |= LOADED_HIGH;
	st_le32(zp + HDR_CODE32, (uint32_t)s->at);
	st_le32(zp + HDR_CMDLINE, BOOT_CMDLINE);
	st_le32(zp + HDR_INITRD, (uint32_t)initrd->at);
	st_le32(zp + HDR_INITRD_SIZE, (uint32_t)initrd->size);
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

int boot_read_bzimage(const struct boot_image *i, struct boot_bzimage *h, struct err *err)
{
	const uint8_t *b = i->head;
	uint16_t version = ld_le16(b + HDR_VERSION);
	uint64_t syssize = (uint64_t)ld_le32(b + HDR_SYSSIZE) << 4;

	*h = (struct boot_bzimage){ 0 };
	if (version < 0x202 || !(b[HDR_LOADFLAGS] & LOADED_HIGH))
		return err_set(err, "kernel: %s is older than Linux 2.4 (boot protocol %u.%02u) or a zImage", i->path,
			       version >> 8, version & 0xff);
	h->code = ((b[HDR_SETUP_SECTS] ? b[HDR_SETUP_SECTS] : 4) + 1u) * 512u;
	if (version < 0x204)
		syssize &= 0xffff0;
	/* In paragraphs, of which the last one may not be whole in the file: memtest86+. */
	if (h->code >= i->size || syssize > align_up(i->size - h->code, 16))
		return err_set(err, "kernel: %s is truncated: %llu bytes instead of %llu", i->path,
			       (unsigned long long)i->size, (unsigned long long)(h->code + syssize));
	h->code_size = i->size - h->code;
	h->initrd_max = version >= 0x203 ? ld_le32(b + HDR_INITRD_MAX) : 0x37ffffff;
	h->relocatable = version >= 0x205 && b[HDR_RELOCATABLE];
	h->align = version >= 0x205 ? ld_le32(b + HDR_ALIGNMENT) : 0;
	if (!is_pow2(h->align) || h->align < MEM_PAGE_SIZE)
		h->align = 0x200000;
	h->cmdline_max = version >= 0x206 ? ld_le32(b + HDR_CMDLINE_SIZE) : 255;
	h->want = version >= 0x20a ? ld_le64(b + HDR_PREF_ADDRESS) : BOOT_HIGH;
	h->need = version >= 0x20a ? ld_le32(b + HDR_INIT_SIZE) : 0;
	if (h->need < h->code_size)
		h->need = h->code_size;
	h->has_64 = version >= 0x20c && ld_le16(b + HDR_XLOADFLAGS) & XLF_KERNEL_64;
	return 0;
}

/*
 * Where it wants to be. It is no help to load one that can move lower than that: it unpacks itself to where it wants to
 * be all the same.
 */
static int choose_place(const struct boot_config *c, const struct boot_bzimage *h, uint64_t *at, struct err *err)
{
	*at = h->want;
	if (*at < BOOT_HIGH && h->relocatable)
		*at = align_up(BOOT_HIGH, h->align);
	if (*at < BOOT_HIGH || *at >= 1ull << 32)
		return err_set(err, "kernel: %s wants to be loaded at %#llx, where it cannot be", c->kernel,
			       (unsigned long long)*at);
	if (!range_within(*at, h->need, c->ram_low))
		return err_set(err, "kernel: %s needs %llu MiB: give the guest more with --memory", c->kernel,
			       (unsigned long long)((*at + h->need + 0xfffff) >> 20));
	return 0;
}

int boot_load_bzimage(const struct boot_config *c, const struct boot_image *i, struct boot_entry *e, struct err *err)
{
	size_t header_end = HDR_MAGIC + i->head[HDR_JUMP];
	struct linux_setup s = { .header = i->head + SETUP_HEADER };
	struct boot_blob initrd;
	struct boot_bzimage h;

	s.len = (header_end < HDR_END ? header_end : HDR_END) - SETUP_HEADER;
	if (boot_read_bzimage(i, &h, err) || choose_place(c, &h, &s.at, err))
		return -1;
	if (c->append && strlen(c->append) > h.cmdline_max)
		return err_set(err, "append: %s takes at most %u bytes of command line", c->kernel, h.cmdline_max);
	if (boot_image_load(c, i, (struct boot_piece){ h.code, h.code_size, s.at }, err) ||
	    boot_put_cmdline(c, NULL, err) || boot_load_initrd(c, s.at + h.need, h.initrd_max + 1ull, &initrd, err))
		return -1;
	e->unsure = initrd.unsure;
	e->esi = BOOT_ZERO_PAGE;
	e->kind = h.has_64 ? BOOT_LONG64 : BOOT_FLAT32;
	e->rip = s.at + (h.has_64 ? ENTRY_64 : 0);
	return boot_zero_page(c, &s, &initrd, err);
}
