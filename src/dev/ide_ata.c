/* The commands of ATA disks (ACS-2), and those of ATA that CD-ROM drives have. */
#include <errno.h>

#include "dev/ide_impl.h"

struct command {
	uint8_t first, last;
	bool disk, cdrom;
	bool ext; /* 48-bit addresses */
	uint8_t arg;
	void (*run)(struct ide_channel *ch, const struct command *c);
};

/* Of transfers: what `arg` says. */
enum { A_WRITE = 1, A_DMA = 2, A_MULTIPLE = 4, A_FUA = 8 };

static void done(struct ide_channel *ch)
{
	ide_end(ch, 0);
}

static void refuse(struct ide_channel *ch)
{
	ide_end(ch, ER_ABRT);
}

void ide_ata_failed(struct ide_drive *d, int ret)
{
	uint64_t lba = d->ch->xfer.pos / IDE_SECTOR;

	d->r.error = ret == -EFAULT ? ER_ICRC | ER_ABRT : d->ch->xfer.what == IDE_READ ? ER_UNC : ER_ABRT;
	for (unsigned n = 0; n < 3; n++) {
		d->r.lba[n] = (uint8_t)(lba >> 8 * n);
		d->r.hob_lba[n] = (uint8_t)(lba >> (24 + 8 * n));
	}
}

/* --- addresses --- */

static uint64_t address(const struct ide_drive *d, bool ext)
{
	const struct ide_regs *r = &d->r;
	uint32_t low = r->lba[0] | (uint32_t)r->lba[1] << 8 | (uint32_t)r->lba[2] << 16;
	uint32_t head = d->ch->select & 15;

	if (ext)
		return low | (uint64_t)r->hob_lba[0] << 24 | (uint64_t)r->hob_lba[1] << 32 |
		       (uint64_t)r->hob_lba[2] << 40;
	if (d->ch->select & DEV_LBA)
		return low | head << 24;
	/* Cylinder, head and sector, which counts from 1. */
	if (!r->lba[0] || r->lba[0] > d->sectors || head >= d->heads)
		return UINT64_MAX;
	return ((uint64_t)(low >> 8) * d->heads + head) * d->sectors + r->lba[0] - 1;
}

static uint32_t count(const struct ide_drive *d, bool ext)
{
	uint32_t n = ext ? d->r.count | (uint32_t)d->r.hob_count << 8 : d->r.count;

	return n ? n : ext ? 65536 : 256;
}

static bool in_range(struct ide_channel *ch, const struct command *c)
{
	const struct ide_drive *d = ide_active(ch);

	if (range_within(address(d, c->ext), count(d, c->ext), ide_sectors(d)))
		return true;
	ide_end(ch, ER_IDNF);
	return false;
}

/* --- transfers --- */

static void transfer(struct ide_channel *ch, const struct command *c)
{
	const struct ide_drive *d = ide_active(ch);
	bool write = c->arg & A_WRITE;

	if ((c->arg & A_MULTIPLE && !d->multiple) || (write && block_readonly(d->node))) {
		refuse(ch);
		return;
	}
	if (!in_range(ch, c))
		return;
	ch->xfer = (struct ide_xfer){
		.what = write ? IDE_WRITE : IDE_READ,
		.dma = c->arg & A_DMA,
		.flush = write && (!d->write_cache || c->arg & A_FUA),
		.quiet = write,
		.pos = address(d, c->ext) * IDE_SECTOR,
		.left = count(d, c->ext) * IDE_SECTOR,
		.block = c->arg & A_MULTIPLE ? d->multiple * IDE_SECTOR : IDE_SECTOR,
	};
	ide_begin(ch);
}

static void verify(struct ide_channel *ch, const struct command *c)
{
	if (in_range(ch, c))
		done(ch);
}

static void flush(struct ide_channel *ch, const struct command *c)
{
	ch->xfer = (struct ide_xfer){ .what = IDE_FLUSH };
	ide_begin(ch);
}

static void give(struct ide_channel *ch, bool dma)
{
	ch->xfer = (struct ide_xfer){ .what = IDE_GIVE, .dma = dma, .left = IDE_SECTOR, .block = IDE_SECTOR };
	ide_begin(ch);
}

/* DATA SET MANAGEMENT: ranges to forget, in as many sectors as the count says. */
static void data_set(struct ide_channel *ch, const struct command *c)
{
	const struct ide_drive *d = ide_active(ch);
	uint32_t blocks = count(d, true);

	if (d->r.feature != 1 || blocks > IDE_TRIM_MAX || !block_can_discard(d->node) || block_readonly(d->node)) {
		refuse(ch);
		return;
	}
	ch->xfer = (struct ide_xfer){ .what = IDE_TAKE_TRIM, .dma = true, .left = blocks * IDE_SECTOR };
	ide_begin(ch);
}

/* --- identity --- */

static void identify(struct ide_channel *ch, const struct command *c)
{
	struct ide_drive *d = ide_active(ch);

	/* A CD-ROM drive refuses the disks' command and shows its signature (ACS-2, 7.12). */
	if (d->cdrom && c->first == 0xec) {
		ide_signature(d);
		refuse(ch);
		return;
	}
	memset(ch->buffer, 0, IDE_SECTOR);
	if (d->cdrom)
		ide_identify_cdrom(d, ch->buffer);
	else
		ide_identify_disk(d, ch->buffer);
	give(ch, false);
}

static void packet(struct ide_channel *ch, const struct command *c)
{
	ide_packet_begin(ch);
}

static void diagnose(struct ide_channel *ch, const struct command *c)
{
	for (unsigned n = 0; n < 2; n++)
		ide_signature(&ch->drive[n]);
	ch->select = 0;
	ch->active = 0;
	/* The result is a code and no error; CD-ROM drives are not ready afterwards. */
	uint8_t status = ch->drive[0].r.status;

	ide_end(ch, 0);
	ch->drive[0].r.error = 1;
	ch->drive[0].r.status = status;
}

/* --- settings --- */

/* INITIALIZE DEVICE PARAMETERS: sectors of a track in the count register, the last head in the device register. */
static void set_geometry(struct ide_channel *ch, const struct command *c)
{
	struct ide_drive *d = ide_active(ch);

	if (!d->r.count) {
		refuse(ch);
		return;
	}
	d->sectors = d->r.count;
	d->heads = (ch->select & 15) + 1;
	done(ch);
}

static void set_multiple(struct ide_channel *ch, const struct command *c)
{
	struct ide_drive *d = ide_active(ch);

	if (d->r.count > IDE_MULTIPLE || (d->r.count && !is_pow2(d->r.count))) {
		refuse(ch);
		return;
	}
	d->multiple = d->r.count;
	done(ch);
}

/* The transfer mode: PIO 0 to 4 with and without flow control, multiword DMA 0 to 2, Ultra DMA 0 to 5. */
static bool mode_known(uint8_t mode)
{
	return mode <= 1 || (mode >= 8 && mode <= 12) || (mode >= 0x20 && mode <= 0x22) ||
	       (mode >= 0x40 && mode <= 0x45);
}

static void set_features(struct ide_channel *ch, const struct command *c)
{
	struct ide_drive *d = ide_active(ch);

	switch (d->r.feature) {
	case 0x02:
		d->write_cache = true;
		break;
	case 0x82: /* what was cached goes out now */
		d->write_cache = false;
		if (!d->cdrom) {
			flush(ch, c);
			return;
		}
		break;
	case 0x03:
		if (!mode_known(d->r.count)) {
			refuse(ch);
			return;
		}
		if (d->r.count >= 0x20)
			d->mode = d->r.count;
		break;
	case 0x55:
		d->look_ahead = false;
		break;
	case 0xaa:
		d->look_ahead = true;
		break;
	case 0x66: /* keep settings over a software reset: they are kept anyway */
	case 0xcc:
	case 0x05: /* power management levels and acoustics: nothing to set */
	case 0x85:
	case 0x42:
	case 0xc2:
		break;
	default:
		refuse(ch);
		return;
	}
	done(ch);
}

static void native_max(struct ide_channel *ch, const struct command *c)
{
	struct ide_drive *d = ide_active(ch);
	uint64_t last = ide_sectors(d) - 1;

	if (!c->ext && last > 0x0fffffff)
		last = 0x0fffffff;
	for (unsigned n = 0; n < 3; n++) {
		d->r.lba[n] = (uint8_t)(last >> 8 * n);
		if (c->ext)
			d->r.hob_lba[n] = (uint8_t)(last >> (24 + 8 * n));
	}
	if (!c->ext)
		ch->select = (uint8_t)((ch->select & 0xf0) | (last >> 24 & 15));
	done(ch);
}

/* --- power: nothing spins, but drivers ask --- */

static void power(struct ide_channel *ch, const struct command *c)
{
	ide_active(ch)->power = c->arg;
	done(ch);
}

static void check_power(struct ide_channel *ch, const struct command *c)
{
	ide_active(ch)->r.count = ide_active(ch)->power;
	done(ch);
}

static void nothing(struct ide_channel *ch, const struct command *c)
{
	done(ch);
}

/* --- SMART --- */

static void smart(struct ide_channel *ch, const struct command *c)
{
	struct ide_drive *d = ide_active(ch);
	uint8_t what = d->r.feature;

	if (d->r.lba[1] != 0x4f || d->r.lba[2] != 0xc2 || (!d->smart && what != 0xd8)) {
		refuse(ch);
		return;
	}
	switch (what) {
	case 0xd0: /* data, thresholds, a log */
	case 0xd1:
	case 0xd5:
		memset(ch->buffer, 0, IDE_SECTOR);
		if (ide_smart_page(what, d->r.lba[0], ch->buffer))
			give(ch, false);
		else
			refuse(ch);
		break;
	case 0xd2: /* autosave, a self test that is over at once */
	case 0xd4:
	case 0xda: /* healthy: the signature stays as it is */
		done(ch);
		break;
	case 0xd8:
	case 0xd9:
		d->smart = what == 0xd8;
		done(ch);
		break;
	default:
		refuse(ch);
	}
}

static const struct command commands[] = {
	{ 0x06, 0x06, true, false, true, 0, data_set },
	{ 0x10, 0x1f, true, false, false, 0, nothing }, /* RECALIBRATE */
	{ 0x20, 0x21, true, false, false, 0, transfer },
	{ 0x24, 0x24, true, false, true, 0, transfer },
	{ 0x25, 0x25, true, false, true, A_DMA, transfer },
	{ 0x27, 0x27, true, false, true, 0, native_max },
	{ 0x29, 0x29, true, false, true, A_MULTIPLE, transfer },
	{ 0x30, 0x31, true, false, false, A_WRITE, transfer },
	{ 0x34, 0x34, true, false, true, A_WRITE, transfer },
	{ 0x35, 0x35, true, false, true, A_WRITE | A_DMA, transfer },
	{ 0x39, 0x39, true, false, true, A_WRITE | A_MULTIPLE, transfer },
	{ 0x3d, 0x3d, true, false, true, A_WRITE | A_DMA | A_FUA, transfer },
	{ 0x40, 0x41, true, false, false, 0, verify },
	{ 0x42, 0x42, true, false, true, 0, verify },
	{ 0x70, 0x7f, true, false, false, 0, nothing }, /* SEEK */
	{ 0x90, 0x90, true, true, false, 0, diagnose },
	{ 0x91, 0x91, true, false, false, 0, set_geometry },
	{ 0x94, 0x94, true, true, false, 0x00, power },
	{ 0x95, 0x95, true, true, false, 0xff, power },
	{ 0x96, 0x96, true, true, false, 0x00, power },
	{ 0x97, 0x97, true, true, false, 0xff, power },
	{ 0x98, 0x98, true, true, false, 0, check_power },
	{ 0x99, 0x99, true, true, false, 0x00, power },
	{ 0xa0, 0xa0, false, true, false, 0, packet },
	{ 0xa1, 0xa1, false, true, false, 0, identify },
	{ 0xb0, 0xb0, true, false, false, 0, smart },
	{ 0xc4, 0xc4, true, false, false, A_MULTIPLE, transfer },
	{ 0xc5, 0xc5, true, false, false, A_WRITE | A_MULTIPLE, transfer },
	{ 0xc6, 0xc6, true, false, false, 0, set_multiple },
	{ 0xc8, 0xc9, true, false, false, A_DMA, transfer },
	{ 0xca, 0xcb, true, false, false, A_WRITE | A_DMA, transfer },
	{ 0xce, 0xce, true, false, true, A_WRITE | A_MULTIPLE | A_FUA, transfer },
	{ 0xe0, 0xe0, true, true, false, 0x00, power }, /* STANDBY IMMEDIATE, IDLE IMMEDIATE, STANDBY, IDLE */
	{ 0xe1, 0xe1, true, true, false, 0xff, power },
	{ 0xe2, 0xe2, true, true, false, 0x00, power },
	{ 0xe3, 0xe3, true, true, false, 0xff, power },
	{ 0xe5, 0xe5, true, true, false, 0, check_power },
	{ 0xe6, 0xe6, true, true, false, 0x00, power }, /* SLEEP: from which a reset is not needed here */
	{ 0xe7, 0xe7, true, false, false, 0, flush },
	{ 0xea, 0xea, true, false, true, 0, flush },
	{ 0xec, 0xec, true, true, false, 0, identify },
	{ 0xef, 0xef, true, true, false, 0, set_features },
	{ 0xf8, 0xf8, true, false, false, 0, native_max },
};

void ide_command(struct ide_channel *ch, uint8_t code)
{
	struct ide_drive *d = ide_active(ch);

	d->r.error = 0;
	for (size_t n = 0; n < ARRAY_LEN(commands); n++) {
		const struct command *c = &commands[n];

		if (code < c->first || code > c->last || !(d->cdrom ? c->cdrom : c->disk))
			continue;
		if (c->run == transfer)
			d->power = 0xff; /* wakes up */
		c->run(ch, c);
		return;
	}
	refuse(ch);
}
