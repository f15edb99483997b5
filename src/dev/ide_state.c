/* What is saved of the channels and drives of the IDE function, and how much of it is believed. */
#include "dev/ide_impl.h"

static const struct state_field regs_fields[] = {
	STATE_U8F(struct ide_regs, feature),
	STATE_U8F(struct ide_regs, count),
	STATE_U8A(struct ide_regs, lba),
	STATE_U8F(struct ide_regs, hob_feature),
	STATE_U8F(struct ide_regs, hob_count),
	STATE_U8A(struct ide_regs, hob_lba),
	STATE_U8F(struct ide_regs, error),
	STATE_U8F(struct ide_regs, status),
	STATE_FIELD_END,
};
static const struct state_desc regs_state = {
	.name = "ide-registers", .version = 1, .min_version = 1, .fields = regs_fields
};

#define D struct ide_drive
static const struct state_field drive_fields[] = {
	STATE_SUB(D, r, &regs_state),
	STATE_U64F(D, capacity),
	STATE_U64F(D, modified),
	STATE_U32F(D, heads),
	STATE_U32F(D, sectors),
	STATE_U8F(D, multiple),
	STATE_U8F(D, mode),
	STATE_BOOLF(D, write_cache),
	STATE_BOOLF(D, look_ahead),
	STATE_BOOLF(D, smart),
	STATE_U8F(D, power),
	STATE_U8F(D, sense),
	STATE_U8F(D, asc),
	STATE_U8F(D, ascq),
	STATE_U8F(D, attention),
	STATE_U8F(D, event),
	STATE_BOOLF(D, tray_open),
	STATE_BOOLF(D, locked),
	STATE_FIELD_END,
};
#undef D

static void drive_pre_save(void *obj)
{
	struct ide_drive *d = obj;

	d->capacity = ide_sectors(d);
	d->modified = d->node ? block_modified(d->node) : 0;
}

static int drive_post_load(void *obj, struct err *err)
{
	const struct ide_drive *d = obj;

	if (d->heads < 1 || d->heads > 16 || d->sectors < 1 || d->sectors > 255 || d->multiple > IDE_MULTIPLE ||
	    (d->multiple && !is_pow2(d->multiple)))
		return err_set(err, "ide%u: the drive is out of range", d->unit);
	if (d->capacity != ide_sectors(d))
		return err_set(err, "%s has %llu sectors, but ide%u had %llu when the state was saved",
			       d->node ? block_path(d->node) : "nothing", (unsigned long long)ide_sectors(d), d->unit,
			       (unsigned long long)d->capacity);
	/* The guest would go on with what it remembers of another content, and damage its file system. */
	if (d->node && d->modified && block_modified(d->node) && d->modified != block_modified(d->node) &&
	    !d->accept_changed)
		return err_set(err,
			       "%s was written after the state was saved, or is a copy with another time; with "
			       "%s.changed=accept it is taken as it is",
			       block_path(d->node), block_name(d->node));
	return 0;
}

static const struct state_desc drive_state = {
	.name = "ide-drive",
	.version = 1,
	.min_version = 1,
	.fields = drive_fields,
	.pre_save = drive_pre_save,
	.post_load = drive_post_load,
};

#define X struct ide_xfer
static const struct state_field xfer_fields[] = {
	STATE_U8F(X, what), STATE_BOOLF(X, dma), STATE_BOOLF(X, flush), STATE_BOOLF(X, quiet),
	STATE_U64F(X, pos), STATE_U32F(X, left), STATE_U32F(X, block),	STATE_U32F(X, at),
	STATE_U32F(X, end), STATE_U32F(X, stop), STATE_FIELD_END,
};
#undef X
static const struct state_desc xfer_state = {
	.name = "ide-transfer", .version = 1, .min_version = 1, .fields = xfer_fields
};

/* The buffers, only while they hold something. */
#define BUFFER(n)                                                                                                      \
	static const struct state_field buffer##n##_fields[] = {                                                       \
		STATE_U8A(struct ide, channel[n].buffer),                                                              \
		STATE_FIELD_END,                                                                                       \
	};                                                                                                             \
	static bool buffer##n##_needed(void *obj)                                                                      \
	{                                                                                                              \
		return ((struct ide *)obj)->channel[n].state != IDE_IDLE;                                              \
	}                                                                                                              \
	static const struct state_desc buffer##n##_state = {                                                           \
		.name = "ide-buffer" #n,                                                                               \
		.version = 1,                                                                                          \
		.min_version = 1,                                                                                      \
		.fields = buffer##n##_fields,                                                                          \
		.needed = buffer##n##_needed,                                                                          \
	}
BUFFER(0);
BUFFER(1);
const struct state_desc *const ide_buffer_states[] = { &buffer0_state, &buffer1_state, NULL };

#define C struct ide_channel
static const struct state_field fields[] = {
	STATE_SUBA(C, drive, &drive_state),
	STATE_U8F(C, select),
	STATE_U8F(C, control),
	STATE_BOOLF(C, intrq),
	STATE_U8F(C, state),
	STATE_U8F(C, active),
	STATE_U8F(C, command),
	STATE_SUB(C, xfer, &xfer_state),
	STATE_U8F(C, bm_command),
	STATE_U8F(C, bm_status),
	STATE_U32F(C, bm_table),
	STATE_U32F(C, prd_next),
	STATE_U32F(C, prd_count),
	STATE_U32F(C, prd_addr),
	STATE_U32F(C, prd_left),
	STATE_BOOLF(C, prd_end),
	STATE_FIELD_END,
};
#undef C

#define BIT(what) (1u << (what))
#define OF_BUFFER (BIT(IDE_GIVE) | BIT(IDE_TAKE_TRIM) | BIT(IDE_TAKE_DROP))
/* What can be under way in each state, and what needs a disk. */
static const uint16_t fitting[] = {
	[IDE_PIO_IN] = BIT(IDE_READ) | BIT(IDE_GIVE),
	[IDE_PIO_OUT] = BIT(IDE_WRITE) | BIT(IDE_TAKE_TRIM) | BIT(IDE_TAKE_DROP) | BIT(IDE_TAKE_PACKET),
	[IDE_DMA] = BIT(IDE_READ) | BIT(IDE_WRITE) | OF_BUFFER,
	[IDE_IO] = BIT(IDE_READ) | BIT(IDE_WRITE) | BIT(IDE_FLUSH) | BIT(IDE_TRIM),
};
#define OF_DISK (BIT(IDE_WRITE) | BIT(IDE_FLUSH) | BIT(IDE_TRIM) | BIT(IDE_TAKE_TRIM))
#define OF_NODE (BIT(IDE_READ) | BIT(IDE_WRITE) | BIT(IDE_FLUSH) | BIT(IDE_TRIM) | BIT(IDE_TAKE_TRIM))

static bool node_transfer_fits(const struct ide_channel *ch, uint64_t size)
{
	const struct ide_xfer *x = &ch->xfer;
	bool more = ch->state != IDE_PIO_IN;

	if ((x->pos | x->left | (x->dma ? 0 : x->end)) % IDE_SECTOR || !range_within(x->pos, x->left, size) ||
	    x->left > BLOCK_MAX_BYTES || (more && !x->left))
		return false;
	if (x->dma)
		return ch->state == IDE_DMA || ch->state == IDE_IO;
	return x->what != IDE_WRITE || (x->end && x->end <= x->left);
}

static bool transfer_fits(const struct ide_channel *ch)
{
	const struct ide_drive *d = &ch->drive[ch->active];
	const struct ide_xfer *x = &ch->xfer;
	unsigned what = BIT(x->what);

	if (!(fitting[ch->state] & what) || !d->present || (what & OF_DISK && d->cdrom) ||
	    (what & OF_NODE && !d->node) || (what == BIT(IDE_TAKE_PACKET) && !d->cdrom))
		return false;
	if (x->at > x->end || x->end > IDE_BUFFER || (ch->state == IDE_DMA && !x->dma))
		return false;
	if ((ch->state == IDE_PIO_IN || ch->state == IDE_PIO_OUT) &&
	    (x->dma || !x->block || x->at >= x->stop || x->stop > x->end))
		return false;
	if (what == BIT(IDE_TRIM))
		return !(x->at % 8) && !(x->end % 8);
	return !(what & (BIT(IDE_READ) | BIT(IDE_WRITE))) || node_transfer_fits(ch, block_size(d->node));
}

static int post_load(void *obj, struct err *err)
{
	struct ide_channel *ch = obj;

	if (ch->select & ~0x5f || ch->control & ~(CTL_NIEN | CTL_SRST | CTL_HOB) ||
	    ch->bm_command & ~(BM_START | BM_TO_MEMORY) ||
	    ch->bm_status & ~(BM_ACTIVE | BM_ERROR | BM_IRQ | BM_CAPABLE) || ch->bm_table & 3 ||
	    ch->prd_count > IDE_PRD_MAX || ch->prd_left > 0x10000)
		return err_set(err, "ide channel %u: a register is out of range", ch->n);
	if (ch->state > IDE_LAST_STATE || ch->active > 1 || ch->xfer.what > IDE_LAST_WHAT ||
	    (ch->state != IDE_IDLE && !transfer_fits(ch)))
		return err_set(err, "ide channel %u: its transfer is out of range", ch->n);
	ch->aborted = false;
	return 0;
}

const struct state_desc ide_channel_state = {
	.name = "ide-channel",
	.version = 1,
	.min_version = 1,
	.fields = fields,
	.post_load = post_load,
};
