/* Moving data between a node, the data port and the bus master. See ide_impl.h. */
#include <errno.h>

#include "dev/ide_impl.h"

/* No piece of a sector is shorter than two bytes, so this many places hold one. */
#define SECTOR_PIECES (IDE_SECTOR / 2)

static bool is_packet(const struct ide_channel *ch)
{
	return ide_active((struct ide_channel *)ch)->cdrom;
}

static void set_status(struct ide_channel *ch, uint8_t status)
{
	ide_active(ch)->r.status = status;
}

static void failed(struct ide_channel *ch, int ret)
{
	if (is_packet(ch)) {
		ide_atapi_check(ch, ret == -EFAULT ? 0x0b : 0x03, ret == -EFAULT ? 0x4b : 0x11);
		return;
	}
	ide_ata_failed(ide_active(ch), ret);
	ide_end(ch, ide_active(ch)->r.error);
}

static void with_node(struct ide_channel *ch)
{
	ch->state = IDE_IO;
	set_status(ch, ST_BSY | ST_DRDY | ST_DSC);
	ide_kick(ch);
}

/* All data has been moved. */
static void finish(struct ide_channel *ch)
{
	struct ide_xfer *x = &ch->xfer;

	if (x->dma && ch->prd_end && !ch->prd_left)
		ch->bm_status &= (uint8_t)~BM_ACTIVE;
	if (x->what == IDE_WRITE && x->flush) {
		x->what = IDE_FLUSH;
		with_node(ch);
	} else if (is_packet(ch)) {
		ide_atapi_end(ch);
	} else if ((x->what == IDE_READ || x->what == IDE_GIVE) && !x->dma) {
		/* The last block told that there is nothing more. */
		ch->state = IDE_IDLE;
		set_status(ch, ST_DRDY | ST_DSC);
	} else {
		ide_end(ch, 0);
	}
}

/* --- the data port --- */

static void begin_block(struct ide_channel *ch, enum ide_state state)
{
	struct ide_xfer *x = &ch->xfer;
	struct ide_drive *d = ide_active(ch);
	uint32_t n = x->end - x->at < x->block ? x->end - x->at : x->block;

	x->stop = x->at + n;
	ch->state = (uint8_t)state;
	set_status(ch, ST_DRDY | ST_DSC | ST_DRQ);
	if (is_packet(ch)) {
		d->r.count = x->what == IDE_TAKE_PACKET ? REASON_CD : state == IDE_PIO_IN ? REASON_IO : 0;
		if (x->what != IDE_TAKE_PACKET) {
			d->r.lba[1] = (uint8_t)n;
			d->r.lba[2] = (uint8_t)(n >> 8);
		}
	}
	if (!x->quiet)
		ide_interrupt(ch, true);
	x->quiet = false;
}

static void collect(struct ide_channel *ch)
{
	struct ide_xfer *x = &ch->xfer;

	x->at = 0;
	x->end = x->left < IDE_BUFFER ? x->left : IDE_BUFFER;
	begin_block(ch, IDE_PIO_OUT);
}

/* The buffer holds what the guest had to give. */
static void taken(struct ide_channel *ch)
{
	struct ide_xfer *x = &ch->xfer;

	switch (x->what) {
	case IDE_TAKE_PACKET:
		ide_packet(ch);
		break;
	case IDE_TAKE_TRIM:
		x->what = IDE_TRIM;
		x->at = 0;
		with_node(ch);
		break;
	default:
		finish(ch);
	}
}

void ide_block_done(struct ide_channel *ch)
{
	struct ide_xfer *x = &ch->xfer;

	if (x->at < x->end)
		begin_block(ch, (enum ide_state)ch->state);
	else if (ch->state == IDE_PIO_OUT && x->what != IDE_WRITE)
		taken(ch);
	else if (x->what == IDE_WRITE || (x->what == IDE_READ && x->left))
		with_node(ch);
	else
		finish(ch);
}

/* --- the bus master --- */

/*
 * The next piece of guest memory, of at most `want` bytes, at *addr. 0: the table has ended; -1: there is no such
 * memory, or the function may not master the bus.
 */
static int piece(struct ide_channel *ch, uint32_t want, uint32_t *addr)
{
	uint32_t n;

	if (!ch->prd_left) {
		uint8_t prd[8];

		if (ch->prd_end)
			return 0;
		if (ch->prd_count == IDE_PRD_MAX || !pci_bus_master(&ch->ide->pci) ||
		    !mem_read(ch->ide->mem, gpa(ch->prd_next), prd, sizeof(prd)))
			return -1;
		ch->prd_count++;
		ch->prd_next = (ch->prd_next & 0xffff0000) | ((ch->prd_next + 8) & 0xffff);
		ch->prd_addr = ld_le32(prd) & ~1u;
		ch->prd_left = ld_le16(prd + 4) & ~1u;
		if (!ch->prd_left)
			ch->prd_left = 0x10000;
		ch->prd_end = prd[7] >> 7;
	}
	n = want < ch->prd_left ? want : ch->prd_left;
	*addr = ch->prd_addr;
	ch->prd_addr += n;
	ch->prd_left -= n;
	return (int)n;
}

static void dma_fault(struct ide_channel *ch)
{
	ch->bm_status = (uint8_t)((ch->bm_status & ~BM_ACTIVE) | BM_ERROR);
	failed(ch, -EFAULT);
}

/* The table has ended before the drive had all: it goes on waiting, and only a reset or another start help. */
static void starve(struct ide_channel *ch)
{
	ch->state = IDE_DMA;
	set_status(ch, ST_DRDY | ST_DSC | ST_DRQ);
	ch->bm_status &= (uint8_t)~BM_ACTIVE;
}

static bool to_memory(const struct ide_xfer *x)
{
	return x->what == IDE_READ || x->what == IDE_GIVE;
}

/* What a buffer holds goes at once. */
static void copy(struct ide_channel *ch)
{
	struct ide_xfer *x = &ch->xfer;
	uint32_t addr;

	while (x->at < x->end) {
		int n = piece(ch, x->end - x->at, &addr);

		if (!n) {
			starve(ch);
			return;
		}
		if (n < 0 || !(to_memory(x) ? mem_write(ch->ide->mem, gpa(addr), ch->buffer + x->at, (size_t)n)
					    : mem_read(ch->ide->mem, gpa(addr), ch->buffer + x->at, (size_t)n))) {
			dma_fault(ch);
			return;
		}
		x->at += (uint32_t)n;
	}
	if (ch->prd_end && !ch->prd_left)
		ch->bm_status &= (uint8_t)~BM_ACTIVE;
	if (to_memory(x))
		finish(ch);
	else
		taken(ch);
}

static bool mastering(const struct ide_channel *ch)
{
	return ch->bm_command & BM_START && ch->bm_status & BM_ACTIVE &&
	       !(ch->bm_command & BM_TO_MEMORY) == !to_memory(&ch->xfer);
}

/* State IDE_DMA: go on if the bus master was started for this direction. */
static void dma_go(struct ide_channel *ch)
{
	if (!mastering(ch))
		return;
	if (ch->xfer.what == IDE_READ || ch->xfer.what == IDE_WRITE) {
		ch->state = IDE_IO;
		ide_kick(ch);
	} else {
		copy(ch);
	}
}

void ide_dma_start(struct ide_channel *ch)
{
	ch->bm_status |= BM_ACTIVE;
	ch->prd_next = ch->bm_table;
	ch->prd_count = ch->prd_left = 0;
	ch->prd_end = false;
	if (ch->state == IDE_DMA)
		dma_go(ch);
}

/* What the guest's memory is used for next must not be overwritten by a read that is late. Reads never wait for space.
 */
void ide_dma_stop(struct ide_channel *ch)
{
	ch->bm_status &= (uint8_t)~BM_ACTIVE;
	while (ch->in_flight && ch->xfer.dma && ch->xfer.what == IDE_READ)
		pthread_cond_wait(&ch->landed, &ch->ide->lock);
}

static void release(struct ide_channel *ch, bool written)
{
	while (ch->n_maps) {
		struct mem_map *m = &ch->map[--ch->n_maps];

		mem_dma_unmap(m, written ? m->len : 0);
	}
}

/* Whole sectors of guest memory into `iov`: their bytes, 0 when the table ends too early, or -1. */
static int64_t gather(struct ide_channel *ch)
{
	bool in = ch->xfer.what == IDE_READ;
	uint32_t total = 0, addr, over;

	while (total < ch->xfer.left) {
		uint32_t part = total % IDE_SECTOR, want = ch->xfer.left - total;
		int n;

		/* Nearly full: to the end of this sector, and the rest is another request. */
		if (ch->n_maps + SECTOR_PIECES >= BLOCK_MAX_IOV) {
			if (!part)
				return total;
			want = IDE_SECTOR - part;
		}
		n = piece(ch, want, &addr);
		if (!n)
			break;
		if (n < 0 || !mem_dma_map(ch->ide->mem, gpa(addr), (size_t)n, in ? MEM_FROM_DEVICE : MEM_TO_DEVICE,
					  &ch->map[ch->n_maps])) {
			release(ch, false);
			return -1;
		}
		ch->iov[ch->n_maps] = (struct iovec){ ch->map[ch->n_maps].host, (size_t)n };
		ch->n_maps++;
		total += (uint32_t)n;
	}
	for (over = total % IDE_SECTOR; over;) {
		struct iovec *last = &ch->iov[ch->n_maps - 1];
		uint32_t n = over < last->iov_len ? over : (uint32_t)last->iov_len;

		last->iov_len -= n;
		ch->map[ch->n_maps - 1].len -= n;
		over -= n;
		total -= n;
		if (!last->iov_len)
			mem_dma_unmap(&ch->map[--ch->n_maps], 0);
	}
	return total;
}

/* --- the node --- */

/* The next range that is not empty. */
static bool next_range(struct ide_channel *ch)
{
	struct ide_xfer *x = &ch->xfer;

	for (; x->at < x->end; x->at += 8) {
		uint64_t range = ld_le64(ch->buffer + x->at), sectors = range >> 48;

		if (!sectors)
			continue;
		ch->req.op = BLOCK_DISCARD;
		ch->req.offset = (range & 0xffffffffffffull) * IDE_SECTOR;
		ch->req.bytes = sectors * IDE_SECTOR;
		x->at += 8;
		return true;
	}
	return false;
}

/* Fill ch->req with what is next. False: there is nothing to submit. */
static bool prepare(struct ide_channel *ch)
{
	struct ide_xfer *x = &ch->xfer;
	int64_t bytes;

	ch->req.offset = x->pos;
	ch->req.iov = ch->iov;
	ch->req.niov = 0;
	ch->req.bytes = 0;
	ch->moving = 0;
	switch (x->what) {
	case IDE_FLUSH:
		ch->req.op = BLOCK_FLUSH;
		return true;
	case IDE_TRIM:
		if (next_range(ch))
			return true;
		finish(ch);
		return false;
	}
	ch->req.op = x->what == IDE_READ ? BLOCK_READ : BLOCK_WRITE;
	if (!x->dma) {
		bytes = x->what == IDE_WRITE ? x->end : x->left < IDE_BUFFER ? x->left : IDE_BUFFER;
		ch->iov[0] = (struct iovec){ ch->buffer, (size_t)bytes };
		ch->req.niov = 1;
	} else {
		bytes = mastering(ch) ? gather(ch) : 0;
		if (bytes < 0)
			dma_fault(ch);
		else if (!bytes && mastering(ch))
			starve(ch);
		else if (!bytes)
			ch->state = IDE_DMA;
		if (bytes <= 0)
			return false;
		ch->req.niov = ch->n_maps;
	}
	ch->moving = (uint32_t)bytes;
	ch->req.bytes = (uint64_t)bytes;
	return true;
}

static void moved(struct ide_channel *ch)
{
	struct ide_xfer *x = &ch->xfer;

	x->pos += ch->moving;
	x->left -= ch->moving;
	if (x->what == IDE_TRIM) {
		with_node(ch);
	} else if (x->dma && x->left) {
		if (ch->prd_end && !ch->prd_left && mastering(ch)) {
			starve(ch);
		} else {
			ch->state = IDE_DMA;
			dma_go(ch);
		}
	} else if (x->what == IDE_READ && !x->dma) {
		x->at = 0;
		x->end = ch->moving;
		begin_block(ch, IDE_PIO_IN);
	} else if (x->what == IDE_WRITE && x->left) {
		collect(ch);
	} else {
		finish(ch);
	}
}

/* In the node's thread. */
static void done(struct block_req *r, int ret)
{
	struct ide_channel *ch = r->opaque;

	pthread_mutex_lock(&ch->ide->lock);
	release(ch, r->op == BLOCK_READ);
	ch->in_flight = false;
	pthread_cond_broadcast(&ch->landed);
	if (ch->aborted)
		ide_settle(ch);
	else if (ret)
		failed(ch, ret);
	else
		moved(ch);
	pthread_mutex_unlock(&ch->ide->lock);
}

static void run(void *opaque)
{
	struct ide_drive *d = opaque;
	struct ide_channel *ch = d->ch;
	struct block_node *node = NULL;

	pthread_mutex_lock(&ch->ide->lock);
	d->posted = false;
	if (ch->state == IDE_IO && ide_active(ch) == d && d->node && !ch->in_flight && !ch->ide->held && prepare(ch)) {
		node = d->node;
		ch->in_flight = true;
		ch->req.done = done;
		ch->req.opaque = ch;
	}
	pthread_mutex_unlock(&ch->ide->lock);
	if (node)
		block_submit(node, &ch->req);
}

/* However often it is asked, one message waits for the thread. */
void ide_kick(struct ide_channel *ch)
{
	struct ide_drive *d = ide_active(ch);

	if (ch->state != IDE_IO || ch->in_flight || ch->ide->held || d->posted)
		return;
	d->posted = true;
	loop_post(block_loop(d->node), run, d);
}

void ide_begin(struct ide_channel *ch)
{
	struct ide_xfer *x = &ch->xfer;

	x->at = 0;
	x->end = x->what == IDE_READ || x->what == IDE_WRITE ? 0 : x->left;
	set_status(ch, ST_DRDY | ST_DSC | ST_DRQ);
	if (x->what == IDE_FLUSH || x->what == IDE_TRIM || (x->what == IDE_READ && !x->dma)) {
		with_node(ch);
	} else if (x->dma) {
		ch->state = IDE_DMA;
		dma_go(ch);
	} else if (x->what == IDE_GIVE) {
		begin_block(ch, IDE_PIO_IN);
	} else {
		collect(ch);
	}
}
