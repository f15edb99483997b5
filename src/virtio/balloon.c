/* virtio-balloon (virtio 1.2 section 5.5): what the guest gives back is discarded from the host's memory. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "virtio/devices.h"

#define F_STATS_VQ	 1
#define F_DEFLATE_ON_OOM 2
#define F_PAGE_POISON	 4
#define F_REPORTING	 5
#define PAGE_SHIFT	 12

/*
 * Reporting is queue 4 (5.5.2), but Linux numbers queues in order of what it has accepted: every other one from the
 * third on is taken for it.
 */
enum { Q_INFLATE, Q_DEFLATE, Q_STATS, QUEUES = 5 };
enum { CFG_NUM_PAGES = 0, CFG_ACTUAL = 4, CFG_HINT_ID = 8, CFG_POISON = 12, CFG_SIZE = 16 };

#define TURN	  16	/* requests before the loop does something else */
#define MAX_PAGES 16384 /* of one request; drivers send 256. Ignored pages just stay with the guest */
#define STAT_LEN  10	/* le16 tag, le64 value */

struct balloon {
	struct virtio_dev d;
	uint8_t config[CFG_SIZE];
	struct vring_chain *asked; /* the statistics buffer, ours until the next question */
	void (*changed)(void *opaque);
	void *opaque;
	bool fresh; /* stats are an answer to the last question */
	uint64_t stats[VIRTIO_BALLOON_STATS];
};

/* --- giving back --- */

/* Pages of a run of page frame numbers, up or down. */
struct run {
	uint64_t first, count;
};

static void discard_run(struct balloon *b, const struct run *r)
{
	if (r->count)
		mem_discard(b->d.mem, gpa(r->first << PAGE_SHIFT), r->count << PAGE_SHIFT);
}

static void inflate(struct balloon *b, struct vring_chain *c)
{
	struct run r = { 0 };
	uint8_t pfns[1024];
	size_t n, pages = 0;

	while (pages < MAX_PAGES && (n = vring_read(c, pfns, sizeof(pfns))) != 0) {
		for (size_t k = 0; k + 4 <= n; k += 4, pages++) {
			uint64_t pfn = ld_le32(pfns + k);

			if (r.count && pfn == r.first + r.count) {
				r.count++;
			} else if (r.count && pfn + 1 == r.first) {
				r.first--;
				r.count++;
			} else {
				discard_run(b, &r);
				r = (struct run){ pfn, 1 };
			}
		}
	}
	discard_run(b, &r);
}

/* Pages that must keep a pattern stay: given back they would read as zero (5.5.6.5.1). */
static void report(struct balloon *b, struct vring_chain *c)
{
	uint64_t addr;
	uint32_t len;

	if (virtio_has_feature(&b->d, F_PAGE_POISON) && ld_le32(b->config + CFG_POISON))
		return;
	while (vring_write_piece(c, &addr, &len))
		mem_discard(b->d.mem, gpa(addr), len);
}

/* --- statistics: the driver's buffer comes back to it as the question, and to us with the answer --- */

static void take_stats(struct balloon *b, struct vring_chain *c)
{
	uint8_t s[STAT_LEN];

	if (b->asked)
		virtio_done(&b->d, Q_STATS, b->asked, 0);
	b->asked = c;
	for (unsigned n = 0; n < 2 * VIRTIO_BALLOON_STATS && vring_read(c, s, STAT_LEN) == STAT_LEN; n++)
		if (ld_le16(s) < VIRTIO_BALLOON_STATS)
			b->stats[ld_le16(s)] = ld_le64(s + 2);
	b->fresh = true;
}

bool virtio_balloon_ask(struct virtio_dev *d)
{
	struct balloon *b = d->self;
	bool possible;

	pthread_mutex_lock(&d->lock);
	possible = virtio_running(d) && b->asked;
	if (possible) {
		struct vring_chain *c = b->asked;

		b->asked = NULL;
		b->fresh = false;
		virtio_done(d, Q_STATS, c, 0);
	}
	pthread_mutex_unlock(&d->lock);
	return possible;
}

bool virtio_balloon_stats(struct virtio_dev *d, uint64_t stats[VIRTIO_BALLOON_STATS])
{
	struct balloon *b = d->self;
	bool fresh;

	pthread_mutex_lock(&d->lock);
	fresh = b->fresh;
	memcpy(stats, b->stats, sizeof(b->stats));
	pthread_mutex_unlock(&d->lock);
	return fresh;
}

/* --- */

static void process(struct virtio_dev *d, unsigned q)
{
	struct balloon *b = d->self;
	bool has_stats = virtio_has_feature(d, F_STATS_VQ);
	struct vring_chain *c;
	int n = 0;

	while (n++ < TURN && (c = virtio_pop(d, q)) != NULL) {
		if (q == Q_STATS && has_stats) {
			take_stats(b, c);
			continue;
		}
		if (q == Q_INFLATE)
			inflate(b, c);
		else if (q != Q_DEFLATE && virtio_has_feature(d, F_REPORTING))
			report(b, c);
		/* Deflated pages come back by being touched. */
		virtio_done(d, q, c, 0);
	}
	if (n > TURN)
		virtio_defer(d, q);
}

/* `actual` and the poison are the driver's. */
static void config_written(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	struct balloon *b = d->self;
	uint32_t was = ld_le32(b->config + CFG_ACTUAL);

	if ((off >= CFG_ACTUAL && off + len <= CFG_HINT_ID) ||
	    (off >= CFG_POISON && off + len <= CFG_SIZE && virtio_has_feature(d, F_PAGE_POISON)))
		memcpy(b->config + off, buf, len);
	if (b->changed && ld_le32(b->config + CFG_ACTUAL) != was)
		b->changed(b->opaque);
}

static void reset(struct virtio_dev *d)
{
	struct balloon *b = d->self;

	st_le32(b->config + CFG_ACTUAL, 0);
	st_le32(b->config + CFG_POISON, 0);
	if (b->asked)
		virtio_done(d, Q_STATS, b->asked, 0);
	b->asked = NULL;
	b->fresh = false;
	memset(b->stats, 0xff, sizeof(b->stats));
}

/* The statistics buffer goes back to the ring and is taken again at resume. */
static void drain(struct virtio_dev *d)
{
	struct balloon *b = d->self;

	pthread_mutex_lock(&d->lock);
	if (b->asked)
		vring_unpop(b->asked);
	b->asked = NULL;
	pthread_mutex_unlock(&d->lock);
}

static void destroy(struct virtio_dev *d)
{
	virtio_fini(d);
	free(d->self);
}

void virtio_balloon_set(struct virtio_dev *d, uint64_t bytes)
{
	struct balloon *b = d->self;
	uint64_t pages = bytes >> PAGE_SHIFT;

	pthread_mutex_lock(&d->lock);
	st_le32(b->config + CFG_NUM_PAGES, pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX);
	virtio_config_changed(d);
	pthread_mutex_unlock(&d->lock);
}

void virtio_balloon_on_change(struct virtio_dev *d, void (*fn)(void *opaque), void *opaque)
{
	struct balloon *b = d->self;

	b->changed = fn;
	b->opaque = opaque;
}

uint64_t virtio_balloon_actual(struct virtio_dev *d)
{
	struct balloon *b = d->self;
	uint64_t pages;

	pthread_mutex_lock(&d->lock);
	pages = ld_le32(b->config + CFG_ACTUAL);
	pthread_mutex_unlock(&d->lock);
	return pages << PAGE_SHIFT;
}

static const struct virtio_ops ops = {
	.process = process, .config_write = config_written, .reset = reset, .drain = drain, .destroy = destroy
};
static const struct state_field fields[] = { STATE_U8A(struct balloon, config), STATE_FIELD_END };
static const struct state_desc state = { .name = "balloon", .version = 1, .min_version = 1, .fields = fields };

void virtio_balloon_without(struct virtio_dev *d, bool deflate_on_oom, bool reporting)
{
	d->offered &= ~((uint64_t)deflate_on_oom << F_DEFLATE_ON_OOM | (uint64_t)reporting << F_REPORTING);
}

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
	b->d.offered = 1u << F_STATS_VQ | 1u << F_DEFLATE_ON_OOM | 1u << F_PAGE_POISON | 1u << F_REPORTING;
	memset(b->stats, 0xff, sizeof(b->stats));
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
