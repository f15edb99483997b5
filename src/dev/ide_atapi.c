/*
 * The packet commands of CD-ROM drives: SPC-3 and MMC-5, in the form of ATA/ATAPI-7, 6.50. What a drive tells of itself
 * is in ide_mmc.c.
 */
#include "dev/ide_impl.h"

enum { KEY_NOT_READY = 2, KEY_ILLEGAL = 5, KEY_ATTENTION = 6 };
enum {
	ASC_INVALID_COMMAND = 0x20,
	ASC_OUT_OF_RANGE = 0x21,
	ASC_INVALID_FIELD = 0x24,
	ASC_RESET = 0x29,
	ASC_NO_SAVED_PAGES = 0x39,
	ASC_NO_MEDIUM = 0x3a,
	ASC_REMOVAL_PREVENTED = 0x53
};

void ide_atapi_reset(struct ide_drive *d)
{
	d->sense = d->asc = d->ascq = 0;
	d->attention = ASC_RESET;
	d->event = 0;
	d->locked = false;
}

void ide_atapi_end(struct ide_channel *ch)
{
	struct ide_drive *d = ide_active(ch);

	d->sense = d->asc = d->ascq = 0;
	d->r.count = REASON_CD | REASON_IO;
	ide_end(ch, 0);
}

void ide_atapi_check(struct ide_channel *ch, uint8_t key, uint8_t asc)
{
	struct ide_drive *d = ide_active(ch);

	d->sense = key;
	d->asc = asc;
	d->ascq = asc == ASC_REMOVAL_PREVENTED ? 2 : asc == ASC_NO_MEDIUM ? (d->tray_open ? 2 : 1) : 0;
	d->r.count = REASON_CD | REASON_IO;
	ide_end(ch, (uint8_t)(key << 4 | ER_ABRT));
}

static bool loaded(const struct ide_drive *d)
{
	return d->node && !d->tray_open;
}

/* Bytes from one interrupt to the next: what the guest has written to the cylinder registers. */
static uint32_t byte_limit(const struct ide_drive *d)
{
	uint32_t n = (d->r.lba[1] | (uint32_t)d->r.lba[2] << 8) & 0xfffe;

	return n ? n : 0xfffe;
}

void ide_packet_begin(struct ide_channel *ch)
{
	struct ide_drive *d = ide_active(ch);

	if (d->r.feature & 2) { /* overlapped */
		ide_end(ch, ER_ABRT);
		return;
	}
	ch->xfer = (struct ide_xfer){
		.what = IDE_TAKE_PACKET, .quiet = true, .left = IDE_PACKET_LEN, .block = IDE_PACKET_LEN
	};
	ide_begin(ch);
}

/* The first `len` bytes of the buffer, but no more than the guest has room for. */
static void reply(struct ide_channel *ch, uint32_t len, uint32_t room)
{
	struct ide_drive *d = ide_active(ch);

	len = len < room ? len : room;
	if (!len) {
		ide_atapi_end(ch);
		return;
	}
	ch->xfer = (struct ide_xfer){ .what = IDE_GIVE, .dma = d->r.feature & 1, .left = len, .block = byte_limit(d) };
	ide_begin(ch);
}

/* --- commands: `cdb` is a copy --- */

static void test_ready(struct ide_channel *ch, const uint8_t *cdb)
{
	ide_atapi_end(ch);
}

static void request_sense(struct ide_channel *ch, const uint8_t *cdb)
{
	struct ide_drive *d = ide_active(ch);
	uint8_t *b = ch->buffer;

	memset(b, 0, 18);
	if (!d->sense && d->attention) {
		d->sense = KEY_ATTENTION;
		d->asc = d->attention;
		d->attention = 0;
	}
	b[0] = 0x70;
	b[2] = d->sense;
	b[7] = 10;
	b[12] = d->asc;
	b[13] = d->ascq;
	reply(ch, 18, cdb[4]);
}

static void start_stop(struct ide_channel *ch, const uint8_t *cdb)
{
	struct ide_drive *d = ide_active(ch);
	bool start = cdb[4] & 1, move = cdb[4] & 2 && !(cdb[4] >> 4);

	if (move && !start && d->locked) {
		ide_atapi_check(ch, loaded(d) ? KEY_ILLEGAL : KEY_NOT_READY, ASC_REMOVAL_PREVENTED);
		return;
	}
	if (move && start == d->tray_open) {
		ide_set_tray(d, !start);
		/* New medium, or removal. Who has asked for it knows, and needs no unit attention. */
		d->event = loaded(d) ? 2 : 3;
	}
	ide_atapi_end(ch);
}

static void prevent_removal(struct ide_channel *ch, const uint8_t *cdb)
{
	ide_active(ch)->locked = cdb[4] & 1;
	ide_atapi_end(ch);
}

static void read_capacity(struct ide_channel *ch, const uint8_t *cdb)
{
	st_be32(ch->buffer, (uint32_t)(ide_sectors(ide_active(ch)) / 4) - 1);
	st_be32(ch->buffer + 4, IDE_CD_SECTOR);
	reply(ch, 8, 8);
}

static bool medium_has(struct ide_channel *ch, uint64_t sector, uint64_t n)
{
	if (range_within(sector, n, ide_sectors(ide_active(ch)) / 4))
		return true;
	ide_atapi_check(ch, KEY_ILLEGAL, ASC_OUT_OF_RANGE);
	return false;
}

static void read_sectors(struct ide_channel *ch, uint32_t sector, uint32_t n)
{
	struct ide_drive *d = ide_active(ch);

	if (!medium_has(ch, sector, n))
		return;
	if (n > BLOCK_MAX_BYTES / IDE_CD_SECTOR) {
		ide_atapi_check(ch, KEY_ILLEGAL, ASC_INVALID_FIELD);
	} else if (!n) {
		ide_atapi_end(ch);
	} else {
		ch->xfer = (struct ide_xfer){
			.what = IDE_READ,
			.dma = d->r.feature & 1,
			.pos = (uint64_t)sector * IDE_CD_SECTOR,
			.left = n * IDE_CD_SECTOR,
			.block = byte_limit(d),
		};
		ide_begin(ch);
	}
}

static void read_10(struct ide_channel *ch, const uint8_t *cdb)
{
	read_sectors(ch, ld_be32(cdb + 2), ld_be16(cdb + 7));
}

static void read_12(struct ide_channel *ch, const uint8_t *cdb)
{
	read_sectors(ch, ld_be32(cdb + 2), ld_be32(cdb + 6));
}

/* The 2048 bytes of user data of a sector; its raw form does not exist here. */
static void read_cd(struct ide_channel *ch, const uint8_t *cdb)
{
	unsigned type = cdb[1] >> 2 & 7, parts = cdb[9] & 0xf8;

	if (cdb[10] & 7 || type == 1 || (parts && parts != 0x10))
		ide_atapi_check(ch, KEY_ILLEGAL, ASC_INVALID_FIELD);
	else
		read_sectors(ch, ld_be32(cdb + 2), parts ? ld_be32(cdb + 5) & 0xffffff : 0);
}

static void seek(struct ide_channel *ch, const uint8_t *cdb)
{
	if (medium_has(ch, ld_be32(cdb + 2), 0))
		ide_atapi_end(ch);
}

static void mechanism_status(struct ide_channel *ch, const uint8_t *cdb)
{
	memset(ch->buffer, 0, 8);
	ch->buffer[1] = ide_active(ch)->tray_open ? 0x10 : 0;
	reply(ch, 8, ld_be16(cdb + 8));
}

/* What only has an answer, which is made in the buffer. Length 0: a field of the command is not known. */
struct packet {
	uint8_t code;
	bool medium;	/* needs one */
	bool attention; /* is done also while a unit attention waits */
	void (*run)(struct ide_channel *ch, const uint8_t *cdb);
	uint32_t (*answer)(struct ide_drive *d, const uint8_t *cdb, uint8_t *b);
	uint8_t room; /* where the command says how much it has room for: 2 bytes, but for INQUIRY */
};

static const struct packet packets[] = {
	{ 0x00, true, false, test_ready, NULL, 0 },	   { 0x03, false, true, request_sense, NULL, 0 },
	{ 0x12, false, true, NULL, ide_mmc_inquiry, 3 },   { 0x1b, false, false, start_stop, NULL, 0 },
	{ 0x1e, false, false, prevent_removal, NULL, 0 },  { 0x25, true, false, read_capacity, NULL, 0 },
	{ 0x28, true, false, read_10, NULL, 0 },	   { 0x2b, true, false, seek, NULL, 0 },
	{ 0x43, true, false, NULL, ide_mmc_toc, 7 },	   { 0x46, false, true, NULL, ide_mmc_configuration, 7 },
	{ 0x4a, false, true, NULL, ide_mmc_event, 7 },	   { 0x51, true, false, NULL, ide_mmc_disc, 7 },
	{ 0x52, true, false, NULL, ide_mmc_track, 7 },	   { 0x5a, false, false, NULL, ide_mmc_mode, 7 },
	{ 0xa8, true, false, read_12, NULL, 0 },	   { 0xad, true, false, NULL, ide_mmc_dvd, 8 },
	{ 0xbb, false, false, test_ready, NULL, 0 }, /* SET CD SPEED: any will do */
	{ 0xbd, false, false, mechanism_status, NULL, 0 }, { 0xbe, true, false, read_cd, NULL, 0 },
};

static void answer(struct ide_channel *ch, const struct packet *p, const uint8_t *cdb)
{
	uint32_t len;

	memset(ch->buffer, 0, IDE_BUFFER);
	len = p->answer(ide_active(ch), cdb, ch->buffer);
	if (!len)
		ide_atapi_check(ch, KEY_ILLEGAL,
				p->answer == ide_mmc_mode && cdb[2] >> 6 == 3 ? ASC_NO_SAVED_PAGES : ASC_INVALID_FIELD);
	else
		reply(ch, len, ld_be16(cdb + p->room));
}

void ide_packet(struct ide_channel *ch)
{
	struct ide_drive *d = ide_active(ch);
	uint8_t cdb[IDE_PACKET_LEN];

	memcpy(cdb, ch->buffer, sizeof(cdb));
	for (size_t n = 0; n < ARRAY_LEN(packets); n++) {
		const struct packet *p = &packets[n];

		if (p->code != cdb[0])
			continue;
		if (d->attention && !p->attention) {
			uint8_t asc = d->attention;

			d->attention = 0;
			ide_atapi_check(ch, KEY_ATTENTION, asc);
		} else if (p->medium && !loaded(d)) {
			ide_atapi_check(ch, KEY_NOT_READY, ASC_NO_MEDIUM);
		} else if (p->run) {
			p->run(ch, cdb);
		} else {
			answer(ch, p, cdb);
		}
		return;
	}
	ide_atapi_check(ch, KEY_ILLEGAL, ASC_INVALID_COMMAND);
}
