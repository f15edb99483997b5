/* SMBIOS 3.0 (DSP0134): what dmidecode and systemd look at. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/acpi.h"
#include "boot/boot.h"

#define ENTRY	   24
#define AREA	   2048
#define STRUCTURES (BOOT_SMBIOS + 32)

struct area {
	uint8_t data[AREA];
	size_t used;
	uint16_t handle;
};

/* A structure: the formatted part, then its strings. Room is more than the fixed set needs. */
static void put(struct area *a, uint8_t type, const uint8_t *body, uint8_t len, const char *const *strings)
{
	uint8_t *t = a->data + a->used;

	t[0] = type;
	t[1] = (uint8_t)(len + 4);
	st_le16(t + 2, a->handle++);
	memcpy(t + 4, body, len);
	a->used += len + 4u;
	for (const char *const *s = strings; s && *s; s++) {
		memcpy(a->data + a->used, *s, strlen(*s) + 1);
		a->used += strlen(*s) + 1;
	}
	a->used += strings && *strings ? 1 : 2;
}

static void firmware_and_system(struct area *a, const struct smbios_config *c)
{
	static const char *const bios[] = { "Vireo", VIREO_VERSION, "01/01/2026", NULL };
	static const char *const system[] = { "Vireo", "Standard PC", "pc-1.0", NULL };
	static const char *const chassis[] = { "Vireo", NULL };
	uint8_t b[32] = { 1, 2, 0, 0xe0, 3, 0 };

	st_le64(b + 6, 8); /* characteristics are not supported */
	b[15] = 0x1c;	   /* a virtual machine */
	put(a, 0, b, 20, bios);
	memset(b, 0, sizeof(b));
	b[0] = 1;
	b[1] = 2;
	b[2] = 3;
	memcpy(b + 4, c->uuid, 16);
	b[20] = 6; /* power switch */
	put(a, 1, b, 23, system);
	memset(b, 0, sizeof(b));
	b[0] = 1;
	b[1] = 1;
	b[5] = b[6] = b[7] = 3;
	put(a, 3, b, 17, chassis);
}

static void memory(struct area *a, const struct smbios_config *c)
{
	static const char *const dimm[] = { "DIMM 0", NULL };
	uint16_t array = a->handle;
	uint64_t mib = c->ram >> 20;
	uint8_t b[40] = { 1, 3, 6 };

	st_le32(b + 3, 0x80000000);
	st_le16(b + 9, 1);
	st_le64(b + 11, c->ram);
	put(a, 16, b, 19, NULL);
	memset(b, 0, sizeof(b));
	st_le16(b, array);
	st_le16(b + 2, 0xfffe);
	st_le16(b + 4, 64);
	st_le16(b + 6, 64);
	st_le16(b + 8, mib < 0x7fff ? (uint16_t)mib : 0x7fff);
	b[10] = 9;
	b[12] = 1;
	b[14] = 7;
	st_le32(b + 24, (uint32_t)mib);
	put(a, 17, b, 36, dimm);
}

static void processor(struct area *a, const struct smbios_config *c)
{
	static const char *const cpu[] = { "CPU 0", "Vireo", NULL };
	uint8_t b[44] = { 1, 3, 1, 2 };
	uint8_t cores = c->cpus < 255 ? (uint8_t)c->cpus : 255;

	b[20] = 0x41;
	b[31] = b[32] = b[33] = cores;
	st_le16(b + 34, 4); /* 64-bit */
	put(a, 4, b, 44, cpu);
}

int smbios_write(const struct smbios_config *c, struct err *err)
{
	struct area a = { .used = 0 };
	uint8_t entry[ENTRY] = "_SM3_", sum = 0;

	firmware_and_system(&a, c);
	processor(&a, c);
	memory(&a, c);
	put(&a, 127, (const uint8_t *)"", 0, NULL);
	entry[6] = ENTRY;
	entry[7] = 3;
	entry[10] = 1;
	st_le32(entry + 12, (uint32_t)a.used);
	st_le64(entry + 16, STRUCTURES);
	for (unsigned n = 0; n < ENTRY; n++)
		sum = (uint8_t)(sum + entry[n]);
	entry[5] = (uint8_t)-sum;
	if (!mem_load_rom(c->mem, gpa(BOOT_SMBIOS), entry, ENTRY) ||
	    !mem_load_rom(c->mem, gpa(STRUCTURES), a.data, a.used))
		return err_set(err, "the SMBIOS tables do not fit");
	return 0;
}
