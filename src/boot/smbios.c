/* SMBIOS 3.0 (DSP0134): the structures that it requires, which dmidecode and systemd look at. */
#include <string.h>

#include "base/bytes.h"
#include "boot/acpi.h"
#include "boot/boot.h"

#define ENTRY_3	   24		 /* bytes of the 64-bit entry point */
#define ENTRY_2	   SMBIOS_ANCHOR /* and of the 32-bit one, which lies 32 bytes behind it */
#define AREA	   SMBIOS_TABLES
#define STRUCTURES (BOOT_SMBIOS + 64)

struct area {
	uint8_t data[AREA];
	size_t used, largest; /* bytes; of one structure */
	uint16_t handle;      /* of the next structure; also how many there are */
};

/*
 * A structure: the formatted part of `len` bytes, in which offsets are those of the specification and the first four
 * bytes are filled in here, then its strings. Room is more than the fixed set needs.
 */
static void put(struct area *a, uint8_t type, const uint8_t *body, uint8_t len, const char *const *strings)
{
	uint8_t *t = a->data + a->used;
	size_t start = a->used;

	memcpy(t, body, len);
	t[0] = type;
	t[1] = len;
	st_le16(t + 2, a->handle++);
	a->used += len;
	for (const char *const *s = strings; s && *s; s++) {
		memcpy(a->data + a->used, *s, strlen(*s) + 1);
		a->used += strlen(*s) + 1;
	}
	a->used += strings && *strings ? 1 : 2;
	if (a->used - start > a->largest)
		a->largest = a->used - start;
}

const char *const smbios_text_keys[SMBIOS_TEXTS] = {
	[SMBIOS_BIOS_VENDOR] = "smbios.type0.vendor",	   [SMBIOS_BIOS_VERSION] = "smbios.type0.version",
	[SMBIOS_BIOS_DATE] = "smbios.type0.date",	   [SMBIOS_MANUFACTURER] = "smbios.type1.manufacturer",
	[SMBIOS_PRODUCT] = "smbios.type1.product",	   [SMBIOS_VERSION] = "smbios.type1.version",
	[SMBIOS_SERIAL] = "smbios.type1.serial",	   [SMBIOS_SKU] = "smbios.type1.sku",
	[SMBIOS_FAMILY] = "smbios.type1.family",	   [SMBIOS_CHASSIS_MANUFACTURER] = "smbios.type3.manufacturer",
	[SMBIOS_CHASSIS_VERSION] = "smbios.type3.version", [SMBIOS_CHASSIS_SERIAL] = "smbios.type3.serial",
	[SMBIOS_CHASSIS_ASSET] = "smbios.type3.asset",
};

#define STRINGS_MAX 8

/* The strings of a structure in its order: what the user wants, or `dflt`. */
struct strings {
	const char *s[STRINGS_MAX];
	uint8_t count;
};

/* The number by which the structure names it; 0: there is none. */
static uint8_t string(struct strings *t, const struct smbios_config *c, enum smbios_text which, const char *dflt)
{
	const char *text = c->text[which] && *c->text[which] ? c->text[which] : dflt;

	if (!text)
		return 0;
	t->s[t->count++] = text;
	return t->count;
}

/* 7.1 */
static void firmware(struct area *a, const struct smbios_config *c)
{
	struct strings t = { .count = 0 };
	uint8_t b[0x18] = { [0x07] = 0xe0 };

	st_le64(b + 0x0a, 8); /* characteristics are not supported */
	b[0x13] = 0x10;	      /* a virtual machine */
	memset(b + 0x14, 0xff, 4);
	b[0x04] = string(&t, c, SMBIOS_BIOS_VENDOR, "Vireo");
	b[0x05] = string(&t, c, SMBIOS_BIOS_VERSION, VIREO_VERSION);
	b[0x08] = string(&t, c, SMBIOS_BIOS_DATE, "01/01/2026");
	put(a, 0, b, sizeof(b), t.s);
}

/* 7.2 */
static void system_and_chassis(struct area *a, const struct smbios_config *c)
{
	struct strings t = { .count = 0 }, chassis_strings = { .count = 0 };
	enum { OTHER = 1, UNKNOWN = 2, SAFE = 3, POWER_SWITCH = 6 };
	uint8_t b[0x1b] = { [0x18] = POWER_SWITCH };
	uint8_t chassis[0x15] = { [0x05] = OTHER, [0x09] = SAFE, [0x0a] = SAFE, [0x0b] = SAFE, [0x0c] = UNKNOWN };

	/* The first three fields of a UUID are little-endian here. */
	memcpy(b + 0x08, c->uuid, 16);
	st_le32(b + 0x08, ld_be32(c->uuid));
	st_le16(b + 0x0c, ld_be16(c->uuid + 4));
	st_le16(b + 0x0e, ld_be16(c->uuid + 6));
	b[0x04] = string(&t, c, SMBIOS_MANUFACTURER, "Vireo");
	b[0x05] = string(&t, c, SMBIOS_PRODUCT, "Standard PC");
	b[0x06] = string(&t, c, SMBIOS_VERSION, "pc-1.0");
	b[0x07] = string(&t, c, SMBIOS_SERIAL, NULL);
	b[0x19] = string(&t, c, SMBIOS_SKU, NULL);
	b[0x1a] = string(&t, c, SMBIOS_FAMILY, NULL);
	put(a, 1, b, sizeof(b), t.s);
	chassis[0x04] = string(&chassis_strings, c, SMBIOS_CHASSIS_MANUFACTURER, "Vireo");
	chassis[0x06] = string(&chassis_strings, c, SMBIOS_CHASSIS_VERSION, NULL);
	chassis[0x07] = string(&chassis_strings, c, SMBIOS_CHASSIS_SERIAL, NULL);
	chassis[0x08] = string(&chassis_strings, c, SMBIOS_CHASSIS_ASSET, NULL);
	put(a, 3, chassis, sizeof(chassis), chassis_strings.s);
}

/* 7.12: what the host tells the guest's programs, such as systemd's credentials. */
static void oem_strings(struct area *a, const struct smbios_config *c)
{
	const char *strings[SMBIOS_OEM_MAX + 1] = { NULL };
	uint8_t b[5] = { [0x04] = (uint8_t)c->oem_count };

	if (!c->oem_count)
		return;
	memcpy(strings, c->oem, c->oem_count * sizeof(*strings));
	put(a, 11, b, sizeof(b), strings);
}

/* 7.5: one package, with the other processors as its cores. */
static void processor(struct area *a, const struct smbios_config *c)
{
	static const char *const strings[] = { "CPU 0", "Vireo", NULL };
	enum { OTHER = 1, CENTRAL = 3, POPULATED_ENABLED = 0x41, IS_64_BIT = 4 };
	uint8_t b[0x30] = {
		[0x04] = 1, [0x05] = CENTRAL, [0x06] = OTHER, [0x07] = 2, [0x18] = POPULATED_ENABLED, [0x19] = OTHER
	};

	memset(b + 0x1a, 0xff, 6); /* no caches are described */
	memset(b + 0x23, c->cpus < 0xff ? (int)c->cpus : 0xff, 3);
	st_le16(b + 0x26, IS_64_BIT);
	for (unsigned n = 0; n < 3; n++)
		st_le16(b + 0x2a + 2 * n, (uint16_t)c->cpus);
	put(a, 4, b, sizeof(b), strings);
}

/* 7.20: where the array's memory is, in KiB or, if that is too much, in bytes. */
static void mapped(struct area *a, uint16_t array, uint64_t base, uint64_t size)
{
	uint8_t b[0x1f] = { [0x0e] = 1 };

	if (!size)
		return;
	if ((base + size) >> 10 < 0xffffffff) {
		st_le32(b + 0x04, (uint32_t)(base >> 10));
		st_le32(b + 0x08, (uint32_t)((base + size) >> 10) - 1);
	} else {
		memset(b + 0x04, 0xff, 8);
		st_le64(b + 0x0f, base);
		st_le64(b + 0x17, base + size - 1);
	}
	st_le16(b + 0x0c, array);
	put(a, 19, b, sizeof(b), NULL);
}

/* 7.17, 7.18 */
static void memory(struct area *a, const struct smbios_config *c)
{
	static const char *const strings[] = { "DIMM 0", NULL };
	enum { BOARD = 3, SYSTEM = 3, NO_ECC = 3, DIMM = 9, RAM = 7, DETAIL_UNKNOWN = 4, NO_HANDLE = 0xfffe };
	uint64_t size = c->ram_low + c->ram_high, mib = size >> 20;
	uint16_t array = a->handle;
	uint8_t b[0x17] = { [0x04] = BOARD, [0x05] = SYSTEM, [0x06] = NO_ECC, [0x0d] = 1 };
	uint8_t module[0x28] = {
		[0x08] = 64, [0x0a] = 64, [0x0e] = DIMM, [0x10] = 1, [0x12] = RAM, [0x13] = DETAIL_UNKNOWN
	};

	st_le32(b + 0x07, 0x80000000);
	st_le16(b + 0x0b, NO_HANDLE);
	st_le64(b + 0x0f, size);
	put(a, 16, b, sizeof(b), NULL);
	st_le16(module + 0x04, array);
	st_le16(module + 0x06, NO_HANDLE);
	st_le16(module + 0x0c, mib < 0x7fff ? (uint16_t)mib : 0x7fff);
	st_le32(module + 0x1c, (uint32_t)mib);
	put(a, 17, module, sizeof(module), strings);
	mapped(a, array, 0, c->ram_low);
	mapped(a, array, 1ull << 32, c->ram_high);
}

/* 7.33 and 7.45: the boot went well, and this is all. */
static void status_and_end(struct area *a)
{
	uint8_t status[0x0b] = { 0 }, end[4] = { 0 };

	put(a, 32, status, sizeof(status), NULL);
	put(a, 127, end, sizeof(end), NULL);
}

static uint8_t checksum(const uint8_t *b, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *b++);
	return (uint8_t)-sum;
}

/* That of 2.8. */
static void entry_point(const struct area *a, uint32_t structures, uint8_t *two)
{
	memcpy(two, "_SM_", 4);
	two[5] = ENTRY_2;
	two[6] = 2;
	two[7] = 8;
	st_le16(two + 8, (uint16_t)a->largest);
	memcpy(two + 16, "_DMI_", 5);
	st_le16(two + 22, (uint16_t)a->used);
	st_le32(two + 24, structures);
	st_le16(two + 28, a->handle);
	two[30] = 0x28;
	two[21] = checksum(two + 16, 15);
	two[4] = checksum(two, ENTRY_2);
}

static void entry_points(const struct area *a, uint8_t *three, uint8_t *two)
{
	memcpy(three, "_SM3_", 5);
	three[6] = ENTRY_3;
	three[7] = 3;
	three[10] = 1;
	st_le32(three + 12, (uint32_t)a->used);
	st_le64(three + 16, STRUCTURES);
	three[5] = checksum(three, ENTRY_3);
	entry_point(a, STRUCTURES, two);
}

static void structures(struct area *a, const struct smbios_config *c)
{
	firmware(a, c);
	system_and_chassis(a, c);
	processor(a, c);
	oem_strings(a, c);
	memory(a, c);
	status_and_end(a);
}

void smbios_make_files(const struct smbios_config *c, struct smbios_files *f)
{
	struct area a = { .used = 0 };

	structures(&a, c);
	memset(f, 0, sizeof(*f));
	memcpy(f->tables, a.data, a.used);
	f->tables_size = a.used;
	entry_point(&a, 0, f->anchor);
}

int smbios_write(const struct smbios_config *c, struct err *err)
{
	struct area a = { .used = 0 };
	uint8_t entries[STRUCTURES - BOOT_SMBIOS] = { 0 };

	structures(&a, c);
	entry_points(&a, entries, entries + 32);
	if (!mem_load_rom(c->mem, gpa(BOOT_SMBIOS), entries, sizeof(entries)) ||
	    !mem_load_rom(c->mem, gpa(STRUCTURES), a.data, a.used))
		return err_set(err, "the SMBIOS tables do not fit");
	return 0;
}
