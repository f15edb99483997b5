/*
 * virtio-blk: turns chains into requests of a block node. Everything between a kick and the completion
 * runs in the node's I/O thread; registers and reset come from vCPU threads with the device's lock,
 * which the I/O thread never takes.
 */
#include "virtio/blk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"

/* Feature bits, 5.2.3 */
enum {
	F_SEG_MAX = 2,
	F_RO = 5,
	F_BLK_SIZE = 6,
	F_FLUSH = 9,
	F_TOPOLOGY = 10,
	F_CONFIG_WCE = 11,
	F_MQ = 12,
	F_DISCARD = 13,
	F_WRITE_ZEROES = 14
};

/* The configuration space, 5.2.4 */
enum {
	CFG_CAPACITY = 0,
	CFG_SEG_MAX = 12,
	CFG_BLK_SIZE = 20,
	CFG_PHYSICAL_EXP = 24,
	CFG_MIN_IO = 26,
	CFG_WRITEBACK = 32,
	CFG_NUM_QUEUES = 34,
	CFG_MAX_DISCARD_SECTORS = 36,
	CFG_MAX_DISCARD_SEG = 40,
	CFG_DISCARD_ALIGN = 44,
	CFG_MAX_ZEROES_SECTORS = 48,
	CFG_MAX_ZEROES_SEG = 52,
	CFG_ZEROES_MAY_UNMAP = 56,
	CFG_SIZE = 60
};

/* Requests, 5.2.6 */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
#define HEADER_LEN  16u
#define SEGMENT_LEN 16u
#define SEG_UNMAP   1u

#define DEFAULT_QUEUE_SIZE  256u
#define PHYSICAL_EXP	    3u /* 4 KiB */
#define MAX_RANGES	    16u
#define MAX_DISCARD_SECTORS (1u << 21) /* 1 GiB */
#define MAX_ZEROES_SECTORS  (1u << 16) /* 32 MiB: they may have to be written */
#define TURN		    128	       /* requests before the I/O thread does something else */
#define PCI_CLASS_SCSI	    0x01000000u

_Static_assert(VRING_MAX_SIZE >= BLOCK_MAX_IOV, "chains may be longer than what one transfer takes");

struct vblk {
	struct virtio_dev d;
	struct block_node *node;
	char id[VIRTIO_BLK_ID_LEN];
	uint8_t config[CFG_SIZE];
	/* kicks for the I/O thread */
	int kick_fd;
	struct loop_fd *watch;
	_Atomic uint32_t kicked; /* a bit a queue */
	bool write_through;	 /* what a reset leads to */
	_Atomic bool writeback;
	/* saved state */
	bool saved_writeback;
	uint64_t capacity; /* sectors */
	uint64_t modified; /* block_modified() when it was saved */
	bool accept_changed;
};

struct range {
	uint64_t offset, bytes;
	uint32_t flags;
};

struct request {
	struct block_req block;
	struct vblk *b;
	struct vring_chain *chain;
	unsigned queue;
	unsigned n_ranges, next_range; /* discard and write-zeroes: done one after the other */
				       /* Behind it: the buffers of a transfer, or the ranges. */
};

static struct range *ranges_of(struct request *r)
{
	return (struct range *)(r + 1);
}

/* --- completing --- */

/* The status is the last byte of the writable part, which the caller has made sure of. */
static void answer(struct vblk *b, unsigned q, struct vring_chain *c, uint8_t status)
{
	vring_write_at(c, c->writable - 1, &status, 1);
	virtio_done(&b->d, q, c, c->writable);
}

static void finish(struct request *r, uint8_t status)
{
	answer(r->b, r->queue, r->chain, status);
	free(r);
}

static uint8_t status_of(int ret)
{
	return !ret ? S_OK : ret == -EOPNOTSUPP ? S_UNSUPP : S_IOERR;
}

static void on_done(struct block_req *block, int ret);

static void submit_flush(struct request *r)
{
	r->block.op = BLOCK_FLUSH;
	block_submit(r->b->node, &r->block);
}

static void submit_range(struct request *r)
{
	const struct range *range = &ranges_of(r)[r->next_range++];

	r->block.offset = range->offset;
	r->block.bytes = range->bytes;
	r->block.flags = range->flags;
	block_submit(r->b->node, &r->block);
}

static bool writes_through(struct vblk *b, enum block_op op)
{
	return op != BLOCK_READ && op != BLOCK_FLUSH &&
	       (!virtio_has_feature(&b->d, F_FLUSH) || !atomic_load(&b->writeback));
}

/* May be called from within block_submit(); the recursion is bounded by MAX_RANGES. */
static void on_done(struct block_req *block, int ret)
{
	struct request *r = container_of(block, struct request, block);

	if (ret) {
		finish(r, status_of(ret));
		return;
	}
	if (r->next_range < r->n_ranges)
		submit_range(r);
	else if (writes_through(r->b, block->op))
		submit_flush(r);
	else
		finish(r, S_OK);
}

/* With `room` bytes behind it. */
static struct request *request_new(struct vblk *b, unsigned q, struct vring_chain *c, enum block_op op, size_t room)
{
	struct request *r = malloc(sizeof(*r) + room);

	if (r)
		*r = (struct request){ .block = { .op = op, .done = on_done }, .b = b, .chain = c, .queue = q };
	return r;
}

/* --- the kinds of requests: S_OK when one was started, else the status to answer --- */

struct header {
	uint32_t type;
	uint64_t sector;
};

static uint8_t start_transfer(struct vblk *b, unsigned q, struct vring_chain *c, const struct header *h)
{
	bool read = h->type == T_IN;
	size_t bytes = read ? c->writable - 1 : c->readable - HEADER_LEN, got;
	unsigned room = vring_pieces(c) < BLOCK_MAX_IOV ? vring_pieces(c) : BLOCK_MAX_IOV;
	struct request *r;
	struct iovec *iov;

	if (bytes % BLOCK_SECTOR || h->sector > UINT64_MAX / BLOCK_SECTOR || (!read && block_readonly(b->node)))
		return S_IOERR;
	r = request_new(b, q, c, read ? BLOCK_READ : BLOCK_WRITE, room * sizeof(struct iovec));
	if (!r)
		return S_IOERR;
	iov = (struct iovec *)(r + 1);
	r->block.niov = read ? vring_write_iov(c, bytes, iov, room, &got) : vring_read_iov(c, bytes, iov, room, &got);
	if (got != bytes) {
		free(r);
		return S_IOERR;
	}
	r->block.iov = iov;
	r->block.offset = h->sector * BLOCK_SECTOR;
	r->block.bytes = bytes;
	block_submit(b->node, &r->block);
	return S_OK;
}

static uint8_t start_flush(struct vblk *b, unsigned q, struct vring_chain *c, const struct header *h)
{
	struct request *r = request_new(b, q, c, BLOCK_FLUSH, 0);

	if (!r)
		return S_IOERR;
	submit_flush(r);
	return S_OK;
}

/* struct virtio_blk_discard_write_zeroes, as many as were sent. */
static uint8_t read_ranges(struct request *r, uint32_t max_sectors)
{
	uint64_t size = block_size(r->b->node) / BLOCK_SECTOR;
	uint8_t seg[SEGMENT_LEN];

	while (vring_read(r->chain, seg, sizeof(seg)) == sizeof(seg)) {
		uint64_t sector = ld_le64(seg);
		uint32_t count = ld_le32(seg + 8), flags = ld_le32(seg + 12);

		/* A discard does not know the unmap flag (5.2.6.2). */
		if (flags & ~SEG_UNMAP || (flags && r->block.op == BLOCK_DISCARD))
			return S_UNSUPP;
		if (r->n_ranges == MAX_RANGES || count > max_sectors || !range_within(sector, count, size))
			return S_IOERR;
		ranges_of(r)[r->n_ranges++] = (struct range){
			.offset = sector * BLOCK_SECTOR,
			.bytes = (uint64_t)count * BLOCK_SECTOR,
			.flags = flags & SEG_UNMAP ? BLOCK_REQ_UNMAP : 0,
		};
	}
	return S_OK;
}

static uint8_t start_ranges(struct vblk *b, unsigned q, struct vring_chain *c, const struct header *h)
{
	bool discard = h->type == T_DISCARD;
	size_t bytes = c->readable - HEADER_LEN;
	struct request *r;
	uint8_t status;

	if (!virtio_has_feature(&b->d, discard ? F_DISCARD : F_WRITE_ZEROES))
		return S_UNSUPP;
	if (!bytes || bytes % SEGMENT_LEN)
		return S_IOERR;
	r = request_new(b, q, c, discard ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES, MAX_RANGES * sizeof(struct range));
	if (!r)
		return S_IOERR;
	status = read_ranges(r, discard ? MAX_DISCARD_SECTORS : MAX_ZEROES_SECTORS);
	if (status)
		free(r);
	else
		submit_range(r);
	return status;
}

static uint8_t answer_id(struct vblk *b, unsigned q, struct vring_chain *c, const struct header *h)
{
	size_t room = c->writable - 1;

	vring_write(c, b->id, room < sizeof(b->id) ? room : sizeof(b->id));
	answer(b, q, c, S_OK);
	return S_OK;
}

static const struct {
	uint32_t type;
	uint8_t (*start)(struct vblk *b, unsigned q, struct vring_chain *c, const struct header *h);
} kinds[] = {
	{ T_IN, start_transfer }, { T_OUT, start_transfer },   { T_FLUSH, start_flush },
	{ T_GET_ID, answer_id },  { T_DISCARD, start_ranges }, { T_WRITE_ZEROES, start_ranges },
};

static void handle(struct vblk *b, unsigned q, struct vring_chain *c)
{
	uint8_t raw[HEADER_LEN], status = S_UNSUPP;
	struct header h;

	if (!c->writable) {
		vring_complete(c, 0);
		virtio_fail(&b->d, "a block request without room for its status");
		return;
	}
	if (vring_read(c, raw, sizeof(raw)) != sizeof(raw)) {
		answer(b, q, c, S_IOERR);
		return;
	}
	h.type = ld_le32(raw);
	h.sector = ld_le64(raw + 8);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (kinds[i].type == h.type) {
			status = kinds[i].start(b, q, c, &h);
			if (!status)
				return;
			break;
		}
	}
	answer(b, q, c, status);
}

/* --- kicks --- */

static void wake(struct vblk *b, unsigned q)
{
	/* Only the first kick since the thread looked needs to wake it. */
	if (!atomic_fetch_or(&b->kicked, 1u << q))
		eventfd_write(b->kick_fd, 1);
}

static void blk_kick(struct virtio_dev *d, unsigned q)
{
	wake(d->self, q);
}

static void on_kick(void *opaque, int fd, uint32_t events)
{
	struct vblk *b = opaque;
	struct vring_chain *c;
	eventfd_t count;
	uint32_t queues;

	eventfd_read(fd, &count);
	queues = atomic_exchange(&b->kicked, 0);
	for (unsigned q = 0; q < b->d.n_queues; q++) {
		int n = 0;

		if (!(queues >> q & 1))
			continue;
		while (n < TURN && (c = virtio_pop(&b->d, q)) != NULL) {
			handle(b, q, c);
			n++;
		}
		if (n == TURN)
			wake(b, q);
	}
}

/* --- life --- */

static void cancel(void *opaque)
{
	block_cancel_stalled(opaque);
}

static void blk_reset(struct virtio_dev *d)
{
	struct vblk *b = d->self;

	/* Pops give nothing any more, so after this nothing is out but what is stalled. */
	block_drain(b->node);
	block_call(b->node, cancel, b->node);
	block_resume(b->node);
	b->writeback = !b->write_through;
	b->config[CFG_WRITEBACK] = !b->write_through;
}

static void blk_drain(struct virtio_dev *d)
{
	block_drain(((struct vblk *)d->self)->node);
}

static void blk_resume(struct virtio_dev *d)
{
	block_resume(((struct vblk *)d->self)->node);
}

static void blk_config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	struct vblk *b = d->self;

	if (off != CFG_WRITEBACK || len != 1 || !virtio_has_feature(d, F_CONFIG_WCE))
		return;
	b->config[CFG_WRITEBACK] = *(const uint8_t *)buf & 1;
	b->writeback = b->config[CFG_WRITEBACK];
}

static void unwatch(void *opaque)
{
	struct vblk *b = opaque;

	loop_fd_del(b->watch);
	virtio_unwatch_bells(&b->d);
}

/* What the constructor has made so far, without the virtio part. */
static void blk_free(struct vblk *b)
{
	if (b->watch)
		block_call(b->node, unwatch, b);
	block_close(b->node);
	if (b->kick_fd >= 0)
		close(b->kick_fd);
	free(b);
}

static void blk_destroy(struct virtio_dev *d)
{
	struct vblk *b = d->self;

	/* A kick that is on its way must not find the rings gone. */
	block_call(b->node, unwatch, b);
	b->watch = NULL;
	virtio_fini(d);
	blk_free(b);
}

static const struct virtio_ops ops = {
	.kick = blk_kick,
	.reset = blk_reset,
	.drain = blk_drain,
	.resume = blk_resume,
	.config_write = blk_config_write,
	.destroy = blk_destroy,
};

/* --- saved state --- */

static void pre_save(void *obj)
{
	struct vblk *b = obj;

	b->saved_writeback = b->writeback;
	b->capacity = block_size(b->node) / BLOCK_SECTOR;
	b->modified = block_modified(b->node);
}

static int post_load(void *obj, struct err *err)
{
	struct vblk *b = obj;
	uint64_t size = block_size(b->node) / BLOCK_SECTOR;

	if (b->capacity != size)
		return err_set(err, "%s has %llu sectors, but had %llu when the state was saved", block_path(b->node),
			       (unsigned long long)size, (unsigned long long)b->capacity);
	/* The guest would go on with what it remembers of another content, and damage its file system. */
	if (b->modified && block_modified(b->node) && b->modified != block_modified(b->node) && !b->accept_changed)
		return err_set(err,
			       "%s was written after the state was saved, or is a copy with another time; with "
			       "%s.changed=accept it is taken as it is",
			       block_path(b->node), block_name(b->node));
	b->writeback = b->saved_writeback;
	b->config[CFG_WRITEBACK] = b->saved_writeback;
	return 0;
}

static const struct state_field fields[] = {
	STATE_BOOLF(struct vblk, saved_writeback),
	STATE_U64F(struct vblk, capacity),
	STATE_U64F(struct vblk, modified),
	STATE_FIELD_END,
};

static const struct state_desc state = {
	.name = "virtio-blk",
	.version = 1,
	.min_version = 1,
	.fields = fields,
	.pre_save = pre_save,
	.post_load = post_load,
};

/* --- making --- */

static void fill_config(struct vblk *b, unsigned queue_size)
{
	uint8_t *c = b->config;
	unsigned seg_max = queue_size > 4 ? queue_size - 2 : 1; /* header and status have a descriptor each */

	st_le64(c + CFG_CAPACITY, block_size(b->node) / BLOCK_SECTOR);
	st_le32(c + CFG_SEG_MAX, seg_max < BLOCK_MAX_IOV ? seg_max : BLOCK_MAX_IOV);
	st_le32(c + CFG_BLK_SIZE, BLOCK_SECTOR);
	c[CFG_PHYSICAL_EXP] = PHYSICAL_EXP;
	st_le16(c + CFG_MIN_IO, 1u << PHYSICAL_EXP);
	c[CFG_WRITEBACK] = b->writeback;
	st_le16(c + CFG_NUM_QUEUES, b->d.n_queues);
	st_le32(c + CFG_MAX_DISCARD_SECTORS, MAX_DISCARD_SECTORS);
	st_le32(c + CFG_MAX_DISCARD_SEG, MAX_RANGES);
	st_le32(c + CFG_DISCARD_ALIGN, 1u << PHYSICAL_EXP);
	st_le32(c + CFG_MAX_ZEROES_SECTORS, MAX_ZEROES_SECTORS);
	st_le32(c + CFG_MAX_ZEROES_SEG, MAX_RANGES);
	c[CFG_ZEROES_MAY_UNMAP] = block_can_discard(b->node);
}

void virtio_blk_resized(struct virtio_dev *d)
{
	struct vblk *b = d->self;

	pthread_mutex_lock(&d->lock);
	st_le64(b->config + CFG_CAPACITY, block_size(b->node) / BLOCK_SECTOR);
	virtio_config_changed(d);
	pthread_mutex_unlock(&d->lock);
}

static uint64_t offered(const struct block_node *n, unsigned queues)
{
	uint64_t f = 1u << F_SEG_MAX | 1u << F_BLK_SIZE | 1u << F_FLUSH | 1u << F_TOPOLOGY | 1u << F_CONFIG_WCE;

	if (queues > 1)
		f |= 1u << F_MQ;
	if (block_readonly(n))
		return f | 1u << F_RO;
	if (block_can_discard(n))
		f |= 1u << F_DISCARD;
	return f | 1u << F_WRITE_ZEROES;
}

static int check(const struct virtio_blk_config *c, struct err *err)
{
	if (c->queues > VIRTIO_BLK_MAX_QUEUES)
		return err_set(err, "%s: %u queues; 1 to %d are possible", block_path(c->node), c->queues,
			       VIRTIO_BLK_MAX_QUEUES);
	if (c->serial && strlen(c->serial) > VIRTIO_BLK_ID_LEN)
		return err_set(err, "%s: serial '%s' is longer than %d characters", block_path(c->node), c->serial,
			       VIRTIO_BLK_ID_LEN);
	return 0;
}

static void watch(void *opaque)
{
	struct vblk *b = opaque;
	struct err err;

	b->watch = loop_fd_add(block_loop(b->node), b->kick_fd, EPOLLIN, on_kick, b, &err);
}

struct virtio_dev *virtio_blk_new(const struct virtio_blk_config *c, struct err *err)
{
	unsigned queues = c->queues ? c->queues : 1, size = c->queue_size ? c->queue_size : DEFAULT_QUEUE_SIZE;
	struct vblk *b;

	if (check(c, err)) {
		block_close(c->node);
		return NULL;
	}
	b = calloc(1, sizeof(*b));
	if (!b) {
		block_close(c->node);
		err_set(err, "out of memory");
		return NULL;
	}
	b->node = c->node;
	b->accept_changed = c->accept_changed;
	b->write_through = c->write_through;
	b->writeback = !c->write_through;
	if (c->serial)
		memcpy(b->id, c->serial, strlen(c->serial));
	b->d = (struct virtio_dev){
		.name = "virtio-blk",
		.id = VIRTIO_ID_BLOCK,
		.ops = &ops,
		.self = b,
		.state = &state,
		.mem = c->mem,
		.loop = block_loop(c->node),
		.offered = offered(c->node, queues),
		.config = b->config,
		.config_size = CFG_SIZE,
		.n_queues = queues,
		.pci_class = PCI_CLASS_SCSI,
	};
	for (unsigned q = 0; q < queues; q++)
		b->d.queues[q].max_size = size;
	fill_config(b, size);
	b->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->kick_fd < 0) {
		err_errno(err, errno, "%s: eventfd", block_path(b->node));
		goto fail;
	}
	block_call(b->node, watch, b);
	if (!b->watch) {
		err_set(err, "%s: out of memory", block_path(b->node));
		goto fail;
	}
	if (virtio_init(&b->d, err))
		goto fail;
	return &b->d;
fail:
	blk_free(b);
	return NULL;
}
