/* What a CD-ROM drive says about itself and its medium (SPC-3, MMC-5). Everything is big-endian. */
#include "dev/ide_impl.h"

#define CD_MAX	   405000u /* sectors of 90 minutes: what is larger is a DVD */
#define LEAD_OUT   0xaa
#define DATA_TRACK 0x14 /* ADR 1, control 4: data that may not be copied */

static uint32_t sectors(const struct ide_drive *d)
{
	return (uint32_t)(ide_sectors(d) / 4);
}

static bool present(const struct ide_drive *d)
{
	return d->node && !d->tray_open;
}

static bool is_dvd(const struct ide_drive *d)
{
	return present(d) && sectors(d) > CD_MAX;
}

uint32_t ide_mmc_inquiry(struct ide_drive *d, const uint8_t *cdb, uint8_t *b)
{
	if (cdb[1] & 1 || cdb[2]) /* vital product data */
		return 0;
	b[0] = 5;    /* CD-ROM drive */
	b[1] = 0x80; /* removable */
	b[3] = 0x21; /* ATAPI */
	b[4] = 31;
	memcpy(b + 8, "VIREO   VIREO DVD-ROM   1.0 ", 28);
	return 36;
}

/* --- the table of contents: one track --- */

static void put_address(uint8_t *b, bool msf, uint32_t lba)
{
	if (!msf) {
		st_be32(b, lba);
		return;
	}
	lba += 150;
	b[1] = (uint8_t)(lba / (75 * 60));
	b[2] = (uint8_t)(lba / 75 % 60);
	b[3] = (uint8_t)(lba % 75);
}

static uint32_t toc_tracks(const struct ide_drive *d, const uint8_t *cdb, uint8_t *b)
{
	bool msf = cdb[1] & 2;
	uint32_t len = 4;

	if (cdb[6] > 1 && cdb[6] != LEAD_OUT)
		return 0;
	b[2] = b[3] = 1;
	if (cdb[6] <= 1) {
		b[len + 1] = DATA_TRACK;
		b[len + 2] = 1;
		put_address(b + len + 4, msf, 0);
		len += 8;
	}
	b[len + 1] = 0x16;
	b[len + 2] = LEAD_OUT;
	put_address(b + len + 4, msf, sectors(d));
	len += 8;
	st_be16(b, (uint16_t)(len - 2));
	return len;
}

/* A descriptor of the raw form: 11 bytes, the address in minutes, seconds and frames. */
static uint32_t toc_raw_entry(uint8_t *b, uint8_t point, uint32_t lba)
{
	uint8_t at[4];

	put_address(at, true, lba);
	b[0] = 1;
	b[1] = DATA_TRACK;
	b[3] = point;
	memcpy(b + 8, at + 1, 3);
	return 11;
}

static uint32_t toc_raw(const struct ide_drive *d, uint8_t *b)
{
	uint32_t len = 4;

	b[2] = b[3] = 1;
	len += toc_raw_entry(b + len, 0xa0, 0);
	memcpy(b + len - 3, "\1\0\0", 3); /* the first track, the disc's type */
	len += toc_raw_entry(b + len, 0xa1, 0);
	memcpy(b + len - 3, "\1\0\0", 3); /* the last track */
	len += toc_raw_entry(b + len, 0xa2, sectors(d));
	len += toc_raw_entry(b + len, 1, 0);
	st_be16(b, (uint16_t)(len - 2));
	return len;
}

uint32_t ide_mmc_toc(struct ide_drive *d, const uint8_t *cdb, uint8_t *b)
{
	switch (cdb[2] & 15 ? cdb[2] & 15 : cdb[9] >> 6) {
	case 0:
		return toc_tracks(d, cdb, b);
	case 1: /* sessions */
		b[1] = 10;
		b[2] = b[3] = 1;
		b[5] = DATA_TRACK;
		b[6] = 1;
		put_address(b + 8, cdb[1] & 2, 0);
		return 12;
	case 2:
		return toc_raw(d, b);
	default:
		return 0;
	}
}

/* --- GET CONFIGURATION --- */

#define PROFILE_CD  8
#define PROFILE_DVD 16

struct feature {
	uint16_t code;
	uint8_t version, len;
	bool persistent;
	uint8_t profile; /* current with this medium; 0: always, 1: with any */
	uint8_t data[12];
};

static const struct feature features[] = {
	{ 0x00, 0, 8, true, 0, { 0, PROFILE_DVD, 0, 0, 0, PROFILE_CD, 0, 0 } },
	{ 0x01, 2, 8, true, 0, { 0, 0, 0, 2, 1 } },	/* core: ATAPI */
	{ 0x02, 1, 4, true, 0, { 2 } },			/* events of operational changes are polled for */
	{ 0x03, 1, 4, true, 0, { 0x29 } },		/* a tray that ejects, loads and locks */
	{ 0x10, 0, 8, false, 1, { 0, 0, 8, 0, 0, 1 } }, /* read any sector of 2048 bytes */
	{ 0x1e, 2, 4, false, PROFILE_CD, { 0 } },
	{ 0x1f, 0, 4, false, PROFILE_DVD, { 0 } },
	{ 0x100, 0, 0, true, 0, { 0 } }, /* power management */
	{ 0x105, 0, 0, true, 0, { 0 } }, /* timeouts */
};

uint32_t ide_mmc_configuration(struct ide_drive *d, const uint8_t *cdb, uint8_t *b)
{
	unsigned which = cdb[1] & 3, from = ld_be16(cdb + 2);
	uint8_t profile = !present(d) ? 0 : is_dvd(d) ? PROFILE_DVD : PROFILE_CD;
	uint32_t len = 8;

	if (which == 3)
		return 0;
	b[7] = profile;
	for (size_t n = 0; n < ARRAY_LEN(features); n++) {
		const struct feature *f = &features[n];
		bool current = !f->profile || (f->profile == 1 ? present(d) : f->profile == profile);
		uint8_t *at = b + len;

		if (which == 2 ? f->code != from : f->code < from || (which == 1 && !current))
			continue;
		st_be16(at, f->code);
		at[2] = (uint8_t)(f->version << 2 | f->persistent << 1 | current);
		at[3] = f->len;
		memcpy(at + 4, f->data, f->len);
		/* In the list of profiles, which one is the medium's. */
		if (f->code == 0) {
			at[6] = profile == PROFILE_DVD;
			at[10] = profile == PROFILE_CD;
		}
		len += 4u + f->len;
	}
	st_be32(b, len - 4);
	return len;
}

/* Events of the medium's class; that of no class says which there are. */
uint32_t ide_mmc_event(struct ide_drive *d, const uint8_t *cdb, uint8_t *b)
{
	if (!(cdb[1] & 1)) /* to be told later cannot be had */
		return 0;
	b[3] = 0x10;
	if (!(cdb[4] & 0x10)) {
		b[1] = 2;
		b[2] = 0x80;
		return 4;
	}
	b[1] = 6;
	b[2] = 4;
	b[4] = d->event;
	b[5] = (uint8_t)(d->tray_open | (d->node && !d->tray_open) << 1);
	d->event = 0;
	return 8;
}

/* --- MODE SENSE --- */

static const struct {
	uint8_t code, len;
	uint8_t data[20];
} pages[] = {
	{ 0x01, 6, { 0, 5 } }, /* retries */
	{ 0x0d, 6, { 0, 1, 0, 60, 0, 75 } },
	{ 0x0e, 14, { 4, 0, 0, 0, 0, 75, 1, 0xff, 2, 0xff } }, /* volumes */
	{ 0x1a, 10, { 0 } },
	{ 0x2a, 20, { 0x3b, 0, 0, 0x60, 0x29, 0, 0x02, 0xc2, 0, 2, 2, 0, 0x02, 0xc2 } }, /* capabilities */
};

uint32_t ide_mmc_mode(struct ide_drive *d, const uint8_t *cdb, uint8_t *b)
{
	unsigned wanted = cdb[2] & 0x3f, control = cdb[2] >> 6;
	uint32_t len = 8;

	if (control == 3)
		return 0;
	b[2] = !d->node ? 0x70 : d->tray_open ? 0x71 : 1;
	for (size_t n = 0; n < ARRAY_LEN(pages); n++) {
		if (wanted != 0x3f && wanted != pages[n].code)
			continue;
		b[len] = pages[n].code;
		b[len + 1] = pages[n].len;
		if (control != 1) /* nothing can be changed */
			memcpy(b + len + 2, pages[n].data, pages[n].len);
		if (pages[n].code == 0x2a && control == 0 && d->locked)
			b[len + 6] |= 2;
		len += 2u + pages[n].len;
	}
	st_be16(b, (uint16_t)(len - 2));
	return len > 8 ? len : 0;
}

/* --- the disc and its track --- */

uint32_t ide_mmc_disc(struct ide_drive *d, const uint8_t *cdb, uint8_t *b)
{
	st_be16(b, 32);
	b[2] = 0x0e; /* complete */
	b[3] = b[4] = b[5] = b[6] = 1;
	b[7] = 0x20;
	memset(b + 16, 0xff, 8);
	return 34;
}

uint32_t ide_mmc_track(struct ide_drive *d, const uint8_t *cdb, uint8_t *b)
{
	uint32_t what = ld_be32(cdb + 2);

	if ((cdb[1] & 3) > 1 || ((cdb[1] & 3) == 0 ? what >= sectors(d) : what != 1))
		return 0;
	st_be16(b, 34);
	b[2] = b[3] = 1;
	b[5] = 4;
	b[6] = 1;
	st_be32(b + 24, sectors(d));
	return 36;
}

/* READ DVD STRUCTURE: the physical format, the (absent) copyright protection, what the manufacturer left empty. */
uint32_t ide_mmc_dvd(struct ide_drive *d, const uint8_t *cdb, uint8_t *b)
{
	if (!is_dvd(d) || cdb[6])
		return 0;
	switch (cdb[7]) {
	case 0:
		st_be16(b, 2050);
		b[4] = 0x01; /* DVD-ROM, version 1 */
		b[5] = 0x0f; /* 120 mm, any rate */
		b[6] = 0x01; /* one layer, read-only */
		b[9] = 0x03; /* where data begins, and its last sector */
		st_be32(b + 12, 0x30000 + sectors(d) - 1);
		return 2052;
	case 1:
		st_be16(b, 6);
		return 8;
	case 4:
		st_be16(b, 2050);
		return 2052;
	default:
		return 0;
	}
}
