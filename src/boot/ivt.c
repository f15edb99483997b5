/*
 * What a BIOS leaves for real mode: interrupt vectors that lead somewhere, a count of timer ticks, and the data area
 * that says what there is. Multiboot kernels may go back to real mode. There are no services behind the vectors: an
 * INT returns as it came.
 */
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"

#define SEGMENT	     0xf000u
#define BDA	     0x400
#define BDA_EBDA     0x0e /* segment */
#define BDA_MEMORY   0x13 /* KiB below the EBDA */
#define BDA_TICKS    0x6c
#define STUB_SPACING 32

static const struct {
	uint8_t first, last; /* vectors that lead here */
	uint8_t code[STUB_SPACING];
} stubs[] = {
	/* iret */
	{ 0x00, 0xff, { 0xcf } },
	/* push ax; mov al, 20h; out 20h, al; pop ax; iret */
	{ 0x08, 0x0f, { 0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf } },
	/* push ax; mov al, 20h; out A0h, al; out 20h, al; pop ax; iret */
	{ 0x70, 0x77, { 0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf } },
	/* push ds; push ax; mov ax, 40h; mov ds, ax; inc dword [6Ch]; mov al, 20h; out 20h, al; pop ax; pop ds; iret */
	{ 0x08,
	  0x08,
	  { 0x1e, 0x50, 0xb8, 0x40, 0x00, 0x8e, 0xd8, 0x66, 0xff, 0x06, BDA_TICKS, 0x00, 0xb0, 0x20, 0xe6, 0x20, 0x58,
	    0x1f, 0xcf } },
};

int boot_put_ivt(const struct boot_config *c, struct err *err)
{
	uint8_t ivt[1024] = { 0 }, bda[256] = { 0 }, code[ARRAY_LEN(stubs) * STUB_SPACING];

	for (size_t n = 0; n < ARRAY_LEN(stubs); n++) {
		memcpy(code + n * STUB_SPACING, stubs[n].code, STUB_SPACING);
		for (unsigned v = stubs[n].first; v <= stubs[n].last; v++) {
			st_le16(ivt + 4 * v, (uint16_t)(BOOT_STUBS - (SEGMENT << 4) + n * STUB_SPACING));
			st_le16(ivt + 4 * v + 2, SEGMENT);
		}
	}
	st_le16(bda, 0x3f8);
	st_le16(bda + BDA_EBDA, BOOT_EBDA >> 4);
	st_le16(bda + BDA_MEMORY, BOOT_EBDA >> 10);
	return boot_copy(c, 0, ivt, sizeof(ivt), "the interrupt vectors", err) ||
			       boot_copy(c, BDA, bda, sizeof(bda), "the BIOS data", err) ||
			       boot_copy(c, BOOT_STUBS, code, sizeof(code), "the interrupt handlers", err)
		       ? -1
		       : 0;
}
