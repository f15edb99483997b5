/* The IDE function: its ports and registers, reset, life and saved state. See ide.h. */
#include "dev/ide.h"

#include <stdio.h>
#include <stdlib.h>

#include "dev/ide_impl.h"

/* The registers by port, from 1F0h. */
enum { R_DATA, R_ERROR, R_COUNT, R_LBA0, R_LBA1, R_LBA2, R_DEVICE, R_STATUS };

static const uint16_t command_port[2] = { 0x1f0, 0x170 }, control_port[2] = { 0x3f6, 0x376 };

static struct ide_drive *selected(struct ide_channel *ch)
{
	return &ch->drive[ch->select & DEV_SLAVE ? 1 : 0];
}

static bool resetting(const struct ide_channel *ch)
{
	return ch->control & CTL_SRST || ch->aborted;
}

/* --- interrupts --- */

static void drive_line(struct ide_channel *ch)
{
	irq_set(&ch->irq, ch->intrq && !(ch->control & CTL_NIEN));
}

void ide_interrupt(struct ide_channel *ch, bool level)
{
	if (level && !ch->intrq)
		ch->bm_status |= BM_IRQ;
	ch->intrq = level;
	drive_line(ch);
}

void ide_end(struct ide_channel *ch, uint8_t error)
{
	struct ide_regs *r = &ide_active(ch)->r;

	ch->state = IDE_IDLE;
	ch->xfer.what = IDE_NOTHING;
	r->error = error;
	r->status = ST_DRDY | ST_DSC | (error ? ST_ERR : 0);
	ide_interrupt(ch, true);
}

/* --- reset --- */

void ide_signature(struct ide_drive *d)
{
	d->r.count = d->r.lba[0] = 1;
	d->r.lba[1] = d->cdrom ? 0x14 : 0;
	d->r.lba[2] = d->cdrom ? 0xeb : 0;
	d->r.error = d->present ? 1 : 0; /* passed */
	d->r.status = d->cdrom ? 0 : d->present ? ST_DRDY | ST_DSC : 0;
}

void ide_settle(struct ide_channel *ch)
{
	if (ch->in_flight)
		return;
	ch->aborted = false;
	if (ch->control & CTL_SRST)
		return;
	for (unsigned n = 0; n < 2; n++)
		ide_signature(&ch->drive[n]);
	ch->select = 0;
}

/* What is in flight lands, and until then the drives stay busy. */
static void abort_all(struct ide_channel *ch)
{
	ch->aborted = ch->in_flight;
	ch->state = IDE_IDLE;
	ch->xfer.what = IDE_NOTHING;
	ide_interrupt(ch, false);
	for (unsigned n = 0; n < 2; n++)
		if (ch->drive[n].cdrom)
			ide_atapi_reset(&ch->drive[n]);
}

static void write_control(struct ide_channel *ch, uint8_t v)
{
	uint8_t changed = ch->control ^ v;

	ch->control = v & (CTL_NIEN | CTL_SRST | CTL_HOB);
	if (changed & CTL_SRST) {
		if (v & CTL_SRST)
			abort_all(ch);
		else
			ide_settle(ch);
	}
	drive_line(ch);
}

/* --- the command block --- */

static bool enabled(const struct ide_channel *ch)
{
	return ch->ide->pci.config[IDE_TIMING + 2 * ch->n + 1] & 0x80 && ch->ide->pci.config[4] & 1;
}

static bool empty(const struct ide_channel *ch)
{
	return !ch->drive[0].present && !ch->drive[1].present;
}

static uint8_t status(struct ide_channel *ch)
{
	if (empty(ch))
		return 0x7f; /* DD7 is pulled down */
	if (!selected(ch)->present)
		return 0;
	return resetting(ch) ? ST_BSY : selected(ch)->r.status;
}

/* The current one of two values of a register that was written twice. */
static uint8_t pick(const struct ide_channel *ch, uint8_t now, uint8_t before)
{
	return ch->control & CTL_HOB ? before : now;
}

static uint8_t read_register(struct ide_channel *ch, unsigned reg)
{
	const struct ide_regs *r = &selected(ch)->r;

	if (empty(ch) && reg != R_STATUS)
		return 0xff;
	switch (reg) {
	case R_ERROR:
		return pick(ch, r->error, r->hob_feature);
	case R_COUNT:
		return pick(ch, r->count, r->hob_count);
	case R_LBA0 ... R_LBA2:
		return pick(ch, r->lba[reg - R_LBA0], r->hob_lba[reg - R_LBA0]);
	case R_DEVICE:
		return ch->select | 0xa0;
	default:
		ide_interrupt(ch, false);
		return status(ch);
	}
}

static void write_both(struct ide_channel *ch, unsigned reg, uint8_t v)
{
	for (unsigned n = 0; n < 2; n++) {
		struct ide_regs *r = &ch->drive[n].r;
		uint8_t *now = reg == R_ERROR ? &r->feature : reg == R_COUNT ? &r->count : &r->lba[reg - R_LBA0];
		uint8_t *before = reg == R_ERROR   ? &r->hob_feature
				  : reg == R_COUNT ? &r->hob_count
						   : &r->hob_lba[reg - R_LBA0];

		*before = *now;
		*now = v;
	}
}

static void write_register(struct ide_channel *ch, unsigned reg, uint8_t v)
{
	/* A write leaves the view of what was written before. */
	ch->control &= (uint8_t)~CTL_HOB;
	if (empty(ch) || resetting(ch))
		return;
	/* DEVICE RESET is the one command that a busy drive takes. */
	if (reg == R_STATUS && v == 0x08 && selected(ch)->cdrom) {
		abort_all(ch);
		ide_settle(ch);
		return;
	}
	if (ch->state != IDE_IDLE)
		return;
	if (reg == R_DEVICE) {
		ch->select = v & 0x5f;
	} else if (reg != R_STATUS) {
		write_both(ch, reg, v);
	} else if (selected(ch)->present) {
		ide_interrupt(ch, false);
		ch->active = selected(ch)->unit & 1;
		ch->command = v;
		ide_command(ch, v);
	}
}

static uint64_t read_data(struct ide_channel *ch, unsigned size)
{
	struct ide_xfer *x = &ch->xfer;
	uint64_t v = 0;
	uint32_t n = size < 2 ? 2 : size;

	if (ch->state != IDE_PIO_IN || resetting(ch) || selected(ch) != ide_active(ch))
		return size_mask(size);
	if (n > x->stop - x->at)
		n = x->stop - x->at;
	memcpy(&v, ch->buffer + x->at, n);
	x->at += n;
	if (x->at == x->stop)
		ide_block_done(ch);
	return le64toh(v) & size_mask(size);
}

static void write_data(struct ide_channel *ch, unsigned size, uint64_t val)
{
	struct ide_xfer *x = &ch->xfer;
	uint64_t v = htole64(val);
	uint32_t n = size < 2 ? 2 : size;

	if (ch->state != IDE_PIO_OUT || resetting(ch) || selected(ch) != ide_active(ch))
		return;
	if (n > x->stop - x->at)
		n = x->stop - x->at;
	memcpy(ch->buffer + x->at, &v, n);
	x->at += n;
	if (x->at == x->stop)
		ide_block_done(ch);
}

static uint64_t command_read(void *opaque, uint64_t off, unsigned size)
{
	struct ide_channel *ch = opaque;
	uint64_t v = 0;

	if (!enabled(ch))
		return size_mask(size);
	if (off == R_DATA)
		return read_data(ch, size);
	for (unsigned n = 0; n < size; n++)
		v |= (uint64_t)read_register(ch, (unsigned)off + n) << 8 * n;
	return v;
}

static void command_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct ide_channel *ch = opaque;

	if (!enabled(ch))
		return;
	if (off == R_DATA) {
		write_data(ch, size, val);
		return;
	}
	for (unsigned n = 0; n < size; n++)
		write_register(ch, (unsigned)off + n, (uint8_t)(val >> 8 * n));
}

static uint64_t control_read(void *opaque, uint64_t off, unsigned size)
{
	struct ide_channel *ch = opaque;

	return enabled(ch) ? status(ch) : 0xff;
}

static void control_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct ide_channel *ch = opaque;

	if (enabled(ch) && !empty(ch))
		write_control(ch, (uint8_t)val);
}

static const struct bus_ops command_ops = { command_read, command_write, { 1, 4 }, { 1, 4 } };
static const struct bus_ops control_ops = { control_read, control_write, { 1, 1 }, { 1, 1 } };

/* --- the bus master's registers: 8 ports for each channel --- */

static uint64_t bm_read(void *opaque, uint64_t off, unsigned size)
{
	const struct ide_channel *ch = &((struct ide *)opaque)->channel[off >> 3];

	switch (off & 7) {
	case 0:
		return ch->bm_command;
	case 2:
		return ch->bm_status;
	case 4 ... 7:
		return ch->bm_table >> 8 * (off & 3) & 0xff;
	default:
		return 0xff;
	}
}

static void bm_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct ide_channel *ch = &((struct ide *)opaque)->channel[off >> 3];
	uint8_t v = (uint8_t)val, was = ch->bm_command;
	unsigned shift = 8 * (off & 3);

	switch (off & 7) {
	case 0:
		ch->bm_command = v & (BM_START | BM_TO_MEMORY);
		if (v & BM_START && !(was & BM_START))
			ide_dma_start(ch);
		else if (!(v & BM_START) && was & BM_START)
			ide_dma_stop(ch);
		break;
	case 2:
		ch->bm_status =
			(uint8_t)((ch->bm_status & ~(v & (BM_ERROR | BM_IRQ)) & ~BM_CAPABLE) | (v & BM_CAPABLE));
		break;
	case 4 ... 7:
		ch->bm_table = (ch->bm_table & ~(0xffu << shift)) | (uint32_t)v << shift;
		ch->bm_table &= ~3u;
		break;
	}
}

static const struct bus_ops bm_ops = { bm_read, bm_write, { 1, 4 }, { 1, 1 } };

/* --- life --- */

static void power_on(struct ide_drive *d)
{
	uint32_t cylinders;

	d->r = (struct ide_regs){ 0 };
	ide_geometry(d, &cylinders, &d->heads, &d->sectors);
	d->multiple = 0;
	d->mode = 0x22; /* multiword DMA 2 */
	d->look_ahead = d->smart = true;
	d->write_cache = !d->write_through;
	d->power = 0xff;
	ide_set_tray(d, false);
	d->locked = false;
	ide_atapi_reset(d);
	ide_signature(d);
}

static void cancel(void *opaque)
{
	block_cancel_stalled(opaque);
}

/* Nothing but writes that found no space is out after this, and then nothing. */
static void land(struct ide_drive *d)
{
	if (!d->node)
		return;
	block_drain(d->node);
	block_call(d->node, cancel, d->node);
	block_resume(d->node);
}

static void reset(void *self)
{
	struct ide *ide = self;

	pthread_mutex_lock(&ide->lock);
	for (unsigned n = 0; n < 2; n++)
		abort_all(&ide->channel[n]);
	pthread_mutex_unlock(&ide->lock);
	for (unsigned n = 0; n < IDE_DRIVES; n++)
		land(&ide->channel[n / 2].drive[n % 2]);
	pthread_mutex_lock(&ide->lock);
	for (unsigned n = 0; n < 2; n++) {
		struct ide_channel *ch = &ide->channel[n];

		ch->select = ch->control = ch->active = ch->command = 0;
		ch->aborted = false;
		ch->xfer = (struct ide_xfer){ 0 };
		memset(ch->buffer, 0, sizeof(ch->buffer));
		ch->bm_command = ch->bm_status = 0;
		ch->bm_table = 0;
		ch->prd_next = ch->prd_count = ch->prd_addr = ch->prd_left = 0;
		ch->prd_end = false;
		for (unsigned k = 0; k < 2; k++)
			power_on(&ch->drive[k]);
		drive_line(ch);
	}
	pthread_mutex_unlock(&ide->lock);
}

static void drain(void *self)
{
	struct ide *ide = self;

	pthread_mutex_lock(&ide->lock);
	ide->held = true;
	pthread_mutex_unlock(&ide->lock);
	for (unsigned n = 0; n < IDE_DRIVES; n++)
		if (ide->channel[n / 2].drive[n % 2].node)
			block_drain(ide->channel[n / 2].drive[n % 2].node);
}

static void resume(void *self)
{
	struct ide *ide = self;

	for (unsigned n = 0; n < IDE_DRIVES; n++)
		if (ide->channel[n / 2].drive[n % 2].node)
			block_resume(ide->channel[n / 2].drive[n % 2].node);
	pthread_mutex_lock(&ide->lock);
	ide->held = false;
	for (unsigned n = 0; n < 2; n++)
		ide_kick(&ide->channel[n]);
	pthread_mutex_unlock(&ide->lock);
}

static void release(struct ide *ide)
{
	for (unsigned n = 0; n < ARRAY_LEN(ide->ports); n++)
		if (ide->ports[n])
			bus_del(ide->bus, ide->ports[n]);
	for (unsigned n = 0; n < IDE_DRIVES; n++)
		if (ide->channel[n / 2].drive[n % 2].node)
			block_close(ide->channel[n / 2].drive[n % 2].node);
	for (unsigned n = 0; n < 2; n++)
		pthread_cond_destroy(&ide->channel[n].landed);
	pthread_mutex_destroy(&ide->lock);
	free(ide);
}

static void destroy(void *self)
{
	struct ide *ide = self;

	pthread_mutex_lock(&ide->lock);
	ide->held = true;
	for (unsigned n = 0; n < 2; n++)
		abort_all(&ide->channel[n]);
	pthread_mutex_unlock(&ide->lock);
	pci_unregister(&ide->pci);
	release(ide);
}

/* --- media --- */

void ide_change_medium(struct device *dev, unsigned unit, struct block_node *node)
{
	struct ide *ide = dev->self;
	struct ide_channel *ch = &ide->channel[unit / 2];
	struct ide_drive *d = &ch->drive[unit % 2];
	struct block_node *old;

	pthread_mutex_lock(&ide->lock);
	while (ch->in_flight && ide_active(ch) == d)
		pthread_cond_wait(&ch->landed, &ide->lock);
	old = d->node;
	d->node = NULL;
	if (ide_active(ch) == d && ch->state != IDE_IDLE && ch->xfer.what == IDE_READ)
		ide_atapi_check(ch, 0x02, 0x3a);
	pthread_mutex_unlock(&ide->lock);
	/* What was posted to its thread is run, and finds nothing, before another one can be asked. */
	if (old)
		block_close(old);
	pthread_mutex_lock(&ide->lock);
	d->node = node;
	ide_set_tray(d, false);
	d->attention = node ? 0x28 : 0;
	d->event = node ? 2 : 3; /* new medium, removal */
	if (ide->held && node)
		block_drain(node);
	pthread_mutex_unlock(&ide->lock);
}

void ide_press_eject(struct device *dev, unsigned unit)
{
	struct ide *ide = dev->self;
	struct ide_drive *d = &ide->channel[unit / 2].drive[unit % 2];

	pthread_mutex_lock(&ide->lock);
	if (d->locked) {
		d->event = 1;
	} else if (!d->tray_open) {
		ide_set_tray(d, true);
		d->event = 3;
	}
	pthread_mutex_unlock(&ide->lock);
}

struct ide_tray ide_get_tray(struct device *dev, unsigned unit)
{
	struct ide *ide = dev->self;
	const struct ide_drive *d = &ide->channel[unit / 2].drive[unit % 2];
	struct ide_tray t;

	pthread_mutex_lock(&ide->lock);
	t = (struct ide_tray){ d->tray_open, d->locked };
	pthread_mutex_unlock(&ide->lock);
	return t;
}

void ide_move_tray(struct device *dev, unsigned unit, bool open)
{
	struct ide *ide = dev->self;
	struct ide_drive *d = &ide->channel[unit / 2].drive[unit % 2];

	pthread_mutex_lock(&ide->lock);
	if (d->tray_open != open) {
		ide_set_tray(d, open);
		/* New medium, or removal. */
		d->event = d->node && !open ? 2 : 3;
		d->attention = d->node && !open ? 0x28 : 0;
	}
	pthread_mutex_unlock(&ide->lock);
}

/* --- saved state: the channels' is in ide_state.c --- */

static int post_load(void *obj, struct err *err)
{
	struct ide *ide = obj;

	for (unsigned n = 0; n < 2; n++)
		drive_line(&ide->channel[n]);
	return 0;
}

static const struct state_field fields[] = {
	STATE_SUB(struct ide, pci, &pci_dev_state),
	STATE_SUBA(struct ide, channel, &ide_channel_state),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "piix3-ide",
	.version = 1,
	.min_version = 1,
	.fields = fields,
	.post_load = post_load,
	.subsections = ide_buffer_states,
};

/* --- making --- */

static void add_drive(struct ide *ide, unsigned unit, const struct ide_drive_config *c)
{
	struct ide_drive *d = &ide->channel[unit / 2].drive[unit % 2];

	d->ch = &ide->channel[unit / 2];
	d->unit = unit;
	d->present = c->present;
	d->cdrom = c->cdrom;
	d->node = c->node;
	d->accept_changed = c->accept_changed;
	d->write_through = c->write_through;
	if (c->serial)
		snprintf(d->serial, sizeof(d->serial), "%s", c->serial);
	else
		snprintf(d->serial, sizeof(d->serial), "VR%05u", unit + 1);
}

static int add_ports(struct ide *ide, struct err *err)
{
	const struct bus_range master = { "ide-dma", &bm_ops, ide, &ide->lock };

	for (unsigned n = 0; n < 2; n++) {
		const struct bus_range command = { n ? "ide1" : "ide0", &command_ops, &ide->channel[n], &ide->lock };
		const struct bus_range control = { command.name, &control_ops, &ide->channel[n], &ide->lock };

		ide->ports[2 * n] = bus_add(ide->bus, BUS_PORT, command_port[n], 8, &command, err);
		ide->ports[2 * n + 1] = bus_add(ide->bus, BUS_PORT, control_port[n], 1, &control, err);
		if (!ide->ports[2 * n] || !ide->ports[2 * n + 1])
			return -1;
	}
	pci_set_bar(&ide->pci, 4, PCI_BAR_IO, false, 16, &master);
	return 0;
}

static void add_function(struct ide *ide)
{
	struct pci_dev *p = &ide->pci;

	pci_dev_init(p, "piix3-ide", &(struct pci_id){ 0x8086, 0x7010, 0x01018000, 0x1af4, 0x1100 }, &ide->lock);
	/* Data sheet, 2.3.3 and 2.3.4: I/O and bus mastering can be enabled, and nothing else. */
	st_le16(p->wmask + 4, 5);
	st_le16(p->config + 6, 0x280);
	st_le16(p->w1cmask + 6, 0x3800);
	p->wmask[0x0c] = 0;
	p->wmask[0x0d] = 0xf0;
	p->wmask[0x3c] = 0;
	for (unsigned n = 0; n < 4; n++)
		p->wmask[IDE_TIMING + n] = n & 1 ? 0xf3 : 0xff;
	p->wmask[0x44] = 0xff; /* slave timing */
	/* A reset of the real one leaves bit 15 clear. OVMF, which knows this chip from QEMU only, never sets it. */
	for (unsigned n = 0; n < 2; n++)
		st_le16(p->config + IDE_TIMING + 2 * n, 0x8000);
}

struct device *ide_new(const struct ide_config *c, struct err *err)
{
	struct ide *ide = calloc(1, sizeof(*ide));

	if (!ide) {
		for (unsigned n = 0; n < IDE_DRIVES; n++)
			if (c->drive[n].node)
				block_close(c->drive[n].node);
		err_set(err, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&ide->lock, NULL);
	ide->mem = c->mem;
	ide->bus = c->bus;
	ide->tray_moved = c->tray_moved;
	ide->tray_opaque = c->opaque;
	/* Without `lock`: reset, drain and resume wait for threads that take it. */
	ide->dev = (struct device){ .name = "piix3-ide",
				    .instance = "00:01.1",
				    .self = ide,
				    .state = &state,
				    .reset = reset,
				    .drain = drain,
				    .resume = resume,
				    .destroy = destroy };
	for (unsigned n = 0; n < 2; n++) {
		ide->channel[n].ide = ide;
		ide->channel[n].n = n;
		ide->channel[n].irq = c->irq[n];
		pthread_cond_init(&ide->channel[n].landed, NULL);
	}
	for (unsigned n = 0; n < IDE_DRIVES; n++) {
		add_drive(ide, n, &c->drive[n]);
		power_on(&ide->channel[n / 2].drive[n % 2]);
	}
	add_function(ide);
	if (add_ports(ide, err) || pci_register(c->pci, &ide->pci, IDE_DEVFN, err)) {
		release(ide);
		return NULL;
	}
	return &ide->dev;
}
