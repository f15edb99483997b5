/* virtio-balloon (virtio 1.2 section 5.5): what the guest gives back is discarded from the host's memory. */
#include <stdlib.h>

#include "base/bytes.h"
#include "virtio/devices.h"

#define F_DEFLATE_ON_OOM 2
#define F_REPORTING	 5
#define PAGE_SHIFT	 12

/* With only these features offered, the reporting queue is number 2. */
enum { Q_INFLATE, Q_DEFLATE, Q_REPORTING, QUEUES };

struct balloon {
	struct virtio_dev d;
	uint8_t config[16]; /* num_pages, actual, free_page_hint_cmd_id, poison_val */
};

static void inflate(struct balloon *b, struct vring_chain *c)
{
	uint8_t pfns[1024];
	size_t n;

	while ((n = vring_read(c, pfns, sizeof(pfns)))) {
		for (size_t k = 0; k + 4 <= n; k += 4)
			mem_discard(b->d.mem, gpa((uint64_t)ld_le32(pfns + k) << PAGE_SHIFT), MEM_PAGE_SIZE);
	}
}

static void report(struct balloon *b, struct vring_chain *c)
{
	uint64_t addr;
	uint32_t len;

	while (vring_write_piece(c, &addr, &len))
		mem_discard(b->d.mem, gpa(addr), len);
}

static void process(struct virtio_dev *d, unsigned q)
{
	struct balloon *b = d->self;
	struct vring_chain *c;

	while ((c = virtio_pop(d, q))) {
		if (q == Q_INFLATE)
			inflate(b, c);
		else if (q == Q_REPORTING)
			report(b, c);
		/* Deflated pages come back by being touched. */
		virtio_done(d, q, c, 0);
	}
}

/* `actual` is the driver's. */
static void config_written(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	struct balloon *b = d->self;

	if (off >= 4 && off + len <= 8)
		memcpy(b->config + off, buf, len);
}

static void reset(struct virtio_dev *d)
{
	st_le32(((struct balloon *)d->self)->config + 4, 0);
}

static void destroy(struct virtio_dev *d)
{
	virtio_fini(d);
	free(d->self);
}

void virtio_balloon_set(struct virtio_dev *d, uint64_t bytes)
{
	struct balloon *b = d->self;

	pthread_mutex_lock(&d->lock);
	st_le32(b->config, (uint32_t)(bytes >> PAGE_SHIFT));
	virtio_config_changed(d);
	pthread_mutex_unlock(&d->lock);
}

uint64_t virtio_balloon_actual(struct virtio_dev *d)
{
	return (uint64_t)ld_le32(((struct balloon *)d->self)->config + 4) << PAGE_SHIFT;
}

static const struct virtio_ops ops = {
	.process = process, .config_write = config_written, .reset = reset, .destroy = destroy
};
static const struct state_field fields[] = { STATE_U8A(struct balloon, config), STATE_FIELD_END };
static const struct state_desc state = { .name = "balloon", .version = 1, .min_version = 1, .fields = fields };

struct virtio_dev *virtio_balloon_new(struct mem_space *mem, struct loop *loop, struct err *err)
{
	struct balloon *b = calloc(1, sizeof(*b));

	if (!b) {
		err_set(err, "out of memory");
		return NULL;
	}
	b->d.name = "virtio-balloon";
	b->d.id = VIRTIO_ID_BALLOON;
	b->d.ops = &ops;
	b->d.self = b;
	b->d.state = &state;
	b->d.mem = mem;
	b->d.loop = loop;
	b->d.offered = 1u << F_DEFLATE_ON_OOM | 1u << F_REPORTING;
	b->d.config = b->config;
	b->d.config_size = sizeof(b->config);
	b->d.n_queues = QUEUES;
	for (unsigned q = 0; q < QUEUES; q++)
		b->d.queues[q].max_size = 128;
	if (!virtio_init(&b->d, err))
		return &b->d;
	free(b);
	return NULL;
}
