/* See pass.h. Documentation/arch/x86/boot.rst of Linux; Plug and Play BIOS 1.0A, 3.2. */
#include "boot/pass.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/initrd.h"

#define HDR_LOADER	0x210
#define HDR_LOADFLAGS	0x211
#define HDR_INITRD	0x218
#define HDR_INITRD_SIZE 0x21c
#define HDR_HEAP_END	0x224
#define HDR_CMDLINE	0x228
#define CAN_USE_HEAP	0x80

#define SETUP	   0x10000 /* and its heap and stack, to the command line */
#define SETUP_END  (BOOT_CMDLINE - SETUP)
#define HIGH_ZONE  (1u << 20) /* what firmware keeps at the end of memory is less */
#define DESCRIPTOR 16	      /* of fw_cfg's DMA */
#define DMA_READ   2u
#define DMA_SELECT 8u

/* --- the expansion ROM --- */

#define ROM_PNP	  0x20
#define ROM_START 0x40
#define ROM_LIST  0xa0

/* Which takes the fw_cfg descriptors of its list to 7C00h, one after the other, and has them done. */
static const uint8_t head[] = {
	0x55, 0xaa, BOOT_ROM_SIZE / 512, 0xcb, /* retf: nothing to initialize */
};
static const uint8_t pnp[] = {
	'$',	   'P', 'n', 'P',  1, 2, 0, 0, 0, 0, /* here is its sum */
	0,	   0,	0,   0,	   0, 0, 0, 0,	     /* no identifier, manufacturer and product */
	0,	   0,	0,   0x0c, /* no kind of device; its data may be written to, it starts systems */
	0,	   0,	0,   0,	   /* no other vectors than */
	ROM_START, 0,	0,   0,	   0, 0
};
static const uint8_t code[] = {
	0xfa,		   /* cli */
	0xfc,		   /* cld */
	0x0e,		   /* push cs */
	0x1f,		   /* pop ds */
	0x31, 0xc0,	   /* xor ax, ax */
	0x8e, 0xc0,	   /* mov es, ax */
	0xbe, ROM_LIST, 0, /* mov si, list */
	/* next: */
	0x66, 0x83, 0x3c, 0,		    /* cmp dword [si], 0 */
	0x74, 0x30,			    /* je go */
	0xbf, 0x00, 0x7c,		    /* mov di, 7C00h */
	0xb9, DESCRIPTOR / 4, 0,	    /* mov cx, 4 */
	0xf3, 0x66, 0xa5,		    /* rep movsd */
	0x66, 0x31, 0xc0,		    /* xor eax, eax */
	0xba, 0x14, 0x05,		    /* mov dx, 514h */
	0x66, 0xef,			    /* out dx, eax */
	0x66, 0xb8, 0x00, 0x00, 0x7c, 0x00, /* mov eax, 7C00h, big-endian */
	0xba, 0x18, 0x05,		    /* mov dx, 518h */
	0x66, 0xef,			    /* out dx, eax */
	/* wait: */
	0x26, 0x66, 0xa1, 0x00, 0x7c,	    /* mov eax, es:[7C00h] */
	0x66, 0xa9, 0xff, 0xff, 0xff, 0xfe, /* test eax, all but the error bit */
	0x75, 0xf3,			    /* jnz wait */
	0x66, 0x85, 0xc0,		    /* test eax, eax */
	0x74, 0xcc,			    /* jz next */
	0xcd, 0x18,			    /* int 18h: it cannot be started */
	/* go: */
	0xb8, 0x00, SETUP >> 12,	    /* mov ax, the setup's segment */
	0x8e, 0xd8,			    /* mov ds, ax */
	0x8e, 0xc0,			    /* mov es, ax */
	0x8e, 0xe0,			    /* mov fs, ax */
	0x8e, 0xe8,			    /* mov gs, ax */
	0x8e, 0xd0,			    /* mov ss, ax */
	0xbc, 0xf0, 0xff,		    /* mov sp, FFF0h */
	0xea, 0x00, 0x00, 0x20, SETUP >> 12 /* jmp to 200h of the setup */
};
_Static_assert(ROM_PNP + sizeof(pnp) <= ROM_START && ROM_START + sizeof(code) <= ROM_LIST, "the ROM's parts overlap");
_Static_assert(ROM_LIST + DESCRIPTOR * BOOT_PASS_PARTS + 4 < BOOT_ROM_SIZE, "the ROM is too small");

/* Makes the sum of `len` bytes 0, by the one at `at`. */
static void add_up(uint8_t *b, size_t len, size_t at)
{
	uint8_t sum = 0;

	for (size_t n = 0; n < len; n++)
		sum += b[n];
	b[at] -= sum;
}

static void make_rom(struct boot_pass *p)
{
	uint8_t *list = p->rom + ROM_LIST;

	memcpy(p->rom, head, sizeof(head));
	p->rom[0x1a] = ROM_PNP;
	memcpy(p->rom + ROM_PNP, pnp, sizeof(pnp));
	add_up(p->rom + ROM_PNP, sizeof(pnp), 9);
	memcpy(p->rom + ROM_START, code, sizeof(code));
	for (unsigned n = 0; n < BOOT_PASS_PARTS; n++) {
		const struct boot_part *part = &p->parts[n];

		if (!part->len)
			continue;
		st_be32(list, (uint32_t)part->data_key << 16 | DMA_SELECT | DMA_READ);
		st_be32(list + 4, part->len);
		st_be64(list + 8, part->at);
		list += DESCRIPTOR;
	}
	add_up(p->rom, BOOT_ROM_SIZE, BOOT_ROM_SIZE - 1);
}

/* --- what goes where --- */

/* As a loader leaves it for the 16-bit entry. */
static int make_setup(struct boot_pass *p, const struct boot_bzimage *h, struct err *err)
{
	const struct boot_part *initrd = &p->parts[BOOT_PASS_INITRD];

	if (h->code > BOOT_PASS_SETUP)
		return err_set(err, "kernel: %s has a setup of %llu bytes, and there is room for %u", p->kernel.path,
			       (unsigned long long)h->code, BOOT_PASS_SETUP);
	if (boot_image_read(&p->kernel, 0, p->setup, h->code, err))
		return -1;
	p->setup[HDR_LOADER] = 0xff; /* unregistered */
	p->setup[HDR_LOADFLAGS] |= CAN_USE_HEAP;
	st_le16(p->setup + HDR_HEAP_END, SETUP_END - 0x200 - 0x200);
	st_le32(p->setup + HDR_CMDLINE, BOOT_CMDLINE);
	st_le32(p->setup + HDR_INITRD, initrd->at);
	st_le32(p->setup + HDR_INITRD_SIZE, initrd->len);
	p->parts[BOOT_PASS_SETUP_PART] = (struct boot_part){
		BOOT_SETUP_ADDR, BOOT_SETUP_SIZE, BOOT_SETUP_DATA, SETUP, (uint32_t)h->code, p->setup, -1, 0
	};
	return 0;
}

/* It begins to unpack itself at 1 MiB, to where it wants to be. */
static int place_kernel(const struct boot_config *c, struct boot_pass *p, const struct boot_bzimage *h, uint64_t *end,
			struct err *err)
{
	uint64_t unpacked = h->want + h->need;

	*end = BOOT_HIGH + h->code_size;
	if (*end < unpacked)
		*end = unpacked;
	if (h->want >= 1ull << 32 || *end > c->ram_low - HIGH_ZONE)
		return err_set(err, "kernel: %s needs %llu MiB: give the guest more with --memory", c->kernel,
			       (unsigned long long)((*end + HIGH_ZONE) >> 20) + 1);
	p->parts[BOOT_PASS_KERNEL] = (struct boot_part){ BOOT_KERNEL_ADDR,	 BOOT_KERNEL_SIZE,
							 BOOT_KERNEL_DATA,	 BOOT_HIGH,
							 (uint32_t)h->code_size, NULL,
							 p->kernel.fd,		 h->code };
	return 0;
}

static int place_initrd(const struct boot_config *c, struct boot_pass *p, uint64_t floor, uint64_t limit,
			struct err *err)
{
	struct boot_part *part = &p->parts[BOOT_PASS_INITRD];

	*part = (struct boot_part){ BOOT_INITRD_ADDR, BOOT_INITRD_SIZE, BOOT_INITRD_DATA, 0, 0, "", -1, 0 };
	if (!c->initrd)
		return 0;
	if (boot_image_open(&p->initrd, "initrd", c->initrd, err))
		return -1;
	if (limit > c->ram_low - HIGH_ZONE)
		limit = c->ram_low - HIGH_ZONE;
	if (boot_place_blob(&p->initrd, floor, limit, &part->at, err) ||
	    initrd_check(p->initrd.fd, p->initrd.size, p->initrd.path, &p->unsure, err))
		return -1;
	part->len = (uint32_t)p->initrd.size;
	part->data = NULL;
	part->fd = p->initrd.fd;
	return 0;
}

static int place_cmdline(const struct boot_config *c, struct boot_pass *p, const struct boot_bzimage *h,
			 struct err *err)
{
	const char *text = c->append ? c->append : "";
	size_t len = strlen(text);

	if (len > h->cmdline_max || len >= BOOT_CMDLINE_MAX)
		return err_set(err, "append: %s takes at most %u bytes of command line", c->kernel,
			       h->cmdline_max < BOOT_CMDLINE_MAX ? h->cmdline_max : BOOT_CMDLINE_MAX - 1);
	p->parts[BOOT_PASS_CMDLINE] = (struct boot_part){
		BOOT_CMDLINE_ADDR, BOOT_CMDLINE_SIZE, BOOT_CMDLINE_DATA, BOOT_CMDLINE, (uint32_t)len + 1, text, -1, 0
	};
	return 0;
}

int boot_pass_new(const struct boot_config *c, struct boot_pass **pass, struct err *err)
{
	struct boot_pass *p = *pass = calloc(1, sizeof(*p));
	struct boot_bzimage h;
	uint64_t end;

	if (!p)
		return err_set(err, "out of memory");
	p->kernel.fd = p->initrd.fd = -1;
	if (c->ram_low < 8 << 20)
		return err_set(err, "memory: a kernel needs at least 8 MiB");
	if (boot_image_open(&p->kernel, "kernel", c->kernel, err))
		return -1;
	if (!boot_is_bzimage(&p->kernel))
		return err_set(err, "kernel: %s is not a bzImage, and firmware starts no other: leave it away",
			       c->kernel);
	if (boot_read_bzimage(&p->kernel, &h, err) || place_kernel(c, p, &h, &end, err) ||
	    place_initrd(c, p, end, h.initrd_max + 1ull, err) || place_cmdline(c, p, &h, err) || make_setup(p, &h, err))
		return -1;
	make_rom(p);
	return 0;
}

void boot_pass_free(struct boot_pass *p)
{
	if (!p)
		return;
	if (p->kernel.fd >= 0)
		boot_image_close(&p->kernel);
	if (p->initrd.fd >= 0)
		boot_image_close(&p->initrd);
	initrd_check_free(p->unsure);
	free(p);
}
