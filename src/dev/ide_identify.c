/* IDENTIFY DEVICE and IDENTIFY PACKET DEVICE (ACS-2, 7.12 and 7.13), and SMART's pages. Words are little-endian. */
#include <stdio.h>

#include "dev/ide_impl.h"

#define WORD(b, n) ((b) + 2 * (n))

static void put(uint8_t *b, unsigned word, unsigned v)
{
	st_le16(WORD(b, word), (uint16_t)v);
}

/* Text in words: padded with spaces, the first character in the high byte. */
static void put_text(uint8_t *b, unsigned word, unsigned len, const char *text)
{
	for (unsigned n = 0; n < len; n++) {
		b[2 * word + (n ^ 1)] = (uint8_t)(*text ? *text : ' ');
		text += *text != 0;
	}
}

static void put_sum(uint8_t *b)
{
	uint8_t sum = 0;

	for (unsigned n = 0; n < 511; n++)
		sum = (uint8_t)(sum + b[n]);
	b[511] = (uint8_t)-sum;
}

void ide_geometry(const struct ide_drive *d, uint32_t *cylinders, uint32_t *heads, uint32_t *sectors)
{
	uint64_t n = ide_sectors(d) / (16 * 63);

	*heads = 16;
	*sectors = 63;
	*cylinders = n > 16383 ? 16383 : n < 2 ? 2 : (uint32_t)n;
}

/* What disks and CD-ROM drives tell alike: names, and the transfer modes with the chosen one marked. */
static void common(const struct ide_drive *d, uint8_t *b, const char *model)
{
	put_text(b, 10, 20, d->serial);
	put_text(b, 23, 8, "1.0");
	put_text(b, 27, 40, model);
	put(b, 49, 0x0f00); /* DMA, LBA, IORDY */
	put(b, 53, 7);
	put(b, 63, 7 | (d->mode >= 0x20 && d->mode < 0x40 ? 0x100u << (d->mode & 7) : 0));
	put(b, 64, 3);
	for (unsigned n = 65; n < 69; n++)
		put(b, n, 120); /* nanoseconds of a cycle */
	put(b, 80, 0x1f0);	/* ATA-4 to ATA8 */
	put(b, 88, 0x3f | (d->mode >= 0x40 ? 0x100u << (d->mode & 7) : 0));
	/* The cable has 80 conductors; device 0 or 1 by jumper, passed. */
	put(b, 93, d->unit & 1 ? 0x6300 : 0x600b);
}

void ide_identify_disk(const struct ide_drive *d, uint8_t *b)
{
	uint64_t sectors = ide_sectors(d), low = sectors < 0x0fffffff ? sectors : 0x0fffffff, chs;
	uint32_t cylinders, heads, per_track;
	unsigned enabled82 = 0x4008 | (d->smart ? 1u : 0) | (d->write_cache ? 0x20u : 0) | (d->look_ahead ? 0x40u : 0);

	common(d, b, "VIREO HARDDISK");
	ide_geometry(d, &cylinders, &heads, &per_track);
	put(b, 0, 0x0040);
	put(b, 1, cylinders);
	put(b, 3, heads);
	put(b, 6, per_track);
	put(b, 47, 0x8000 | IDE_MULTIPLE);
	put(b, 48, 0x4000);
	put(b, 50, 0x4000);
	put(b, 51, 0x200);
	/* The current translation. */
	cylinders = (uint32_t)(low / (d->heads * d->sectors));
	cylinders = cylinders > 65535 ? 65535 : cylinders;
	chs = (uint64_t)cylinders * d->heads * d->sectors;
	put(b, 54, cylinders);
	put(b, 55, d->heads);
	put(b, 56, d->sectors);
	st_le32(WORD(b, 57), (uint32_t)chs);
	put(b, 59, d->multiple ? 0x100u | d->multiple : 0);
	st_le32(WORD(b, 60), (uint32_t)low);
	/* SMART, power management, write cache, look-ahead, NOP; 48 bits, FLUSH CACHE and EXT; FUA, a name, logs. */
	put(b, 82, 0x4069);
	put(b, 83, 0x7400);
	put(b, 84, 0x4143);
	put(b, 85, enabled82);
	put(b, 86, 0x3400);
	put(b, 87, 0x4143);
	st_le64(WORD(b, 100), sectors);
	put(b, 106, 0x6003); /* 8 sectors to a physical one */
	put(b, 108, 0x5000);
	put(b, 111, 1 + d->unit);
	if (block_can_discard(d->node) && !block_readonly(d->node)) {
		put(b, 105, IDE_TRIM_MAX);
		put(b, 169, 1);
	}
	put(b, 217, 1); /* nothing rotates */
	b[510] = 0xa5;
	put_sum(b);
}

void ide_identify_cdrom(const struct ide_drive *d, uint8_t *b)
{
	common(d, b, "VIREO DVD-ROM");
	put(b, 0, 0x85c0);  /* ATAPI, CD-ROM, removable, DRQ within 50 us, packets of 12 bytes */
	put(b, 82, 0x4218); /* NOP, DEVICE RESET, PACKET, power management */
	put(b, 83, 0x4000);
	put(b, 84, 0x4000);
	put(b, 85, 0x4218);
	put(b, 87, 0x4000);
	b[510] = 0xa5;
	put_sum(b);
}

/* Attributes: number, flags, value, worst; a raw value of 0. Thresholds. */
static const struct {
	uint8_t id, flags, value, threshold;
} attributes[] = {
	{ 1, 0x03, 100, 6 },   /* read errors */
	{ 5, 0x03, 100, 36 },  /* sectors that were replaced */
	{ 9, 0x03, 100, 0 },   /* hours */
	{ 12, 0x03, 100, 0 },  /* starts */
	{ 194, 0x22, 100, 0 }, /* temperature */
};

static void smart_data(uint8_t *b)
{
	for (size_t n = 0; n < ARRAY_LEN(attributes); n++) {
		uint8_t *a = b + 2 + 12 * n;

		a[0] = attributes[n].id;
		a[1] = attributes[n].flags;
		a[3] = a[4] = attributes[n].value;
	}
	b[362] = 2;    /* collected without an error */
	b[367] = 0x11; /* EXECUTE OFF-LINE IMMEDIATE, self tests */
	b[368] = 3;
	b[370] = 1; /* error log */
	b[372] = 1; /* minutes of a short and a long test */
	b[373] = 1;
}

bool ide_smart_page(uint8_t feature, uint8_t log, uint8_t *b)
{
	if (feature == 0xd5 && log != 0 && log != 1 && log != 6)
		return false;
	b[0] = 1; /* revision */
	if (feature == 0xd0) {
		b[0] = 0x10;
		smart_data(b);
	} else if (feature == 0xd1) {
		b[0] = 0x10;
		for (size_t n = 0; n < ARRAY_LEN(attributes); n++) {
			b[2 + 12 * n] = attributes[n].id;
			b[3 + 12 * n] = attributes[n].threshold;
		}
	} else if (log == 0) {
		b[2] = 1;  /* a sector of log 1 */
		b[12] = 1; /* and of log 6 */
		return true;
	}
	put_sum(b);
	return true;
}
