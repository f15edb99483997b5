/* The driver side of virtqueues, for tests. See rig.h. */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "virtio/transport.h"

#define F_NEXT	1u
#define F_WRITE 2u
#define P_AVAIL (1u << 7)
#define P_USED	(1u << 15)
#define WAIT_MS 10000

static void queue_interrupt(void *transport, unsigned q)
{
	((struct rig *)transport)->queue_irqs[q]++;
}

static void config_interrupt(void *transport)
{
	((struct rig *)transport)->config_irqs++;
}

static const struct virtio_transport_ops transport_ops = { queue_interrupt, config_interrupt };

void rig_init(struct rig *r, bool packed)
{
	const struct mem_slot_config ram = { .name = "ram", .base = gpa(0), .size = RIG_RAM };
	struct err err;

	memset(r, 0, sizeof(*r));
	r->packed = packed;
	r->mem = mem_space_new();
	assert_int_equal(mem_add_slot(r->mem, &ram, &err), 0);
	r->loop = loop_new(&err);
	assert_non_null(r->loop);
	r->next = 0x1000;
}

void rig_attach(struct rig *r, struct virtio_dev *d)
{
	assert_non_null(d);
	assert_true(d->n_queues <= RIG_QUEUES);
	r->d = d;
	d->transport_ops = &transport_ops;
	d->transport = r;
}

uint64_t rig_alloc(struct rig *r, const void *data, uint32_t len)
{
	uint64_t at = align_up(r->next, 64);

	r->next = at + len;
	assert_true(r->next <= RIG_RAM);
	assert_true(mem_fill(r->mem, gpa(at), 0, len));
	if (data)
		assert_true(mem_write(r->mem, gpa(at), data, len));
	return at;
}

void rig_get(struct rig *r, uint64_t addr, void *buf, uint32_t len)
{
	assert_true(mem_read(r->mem, gpa(addr), buf, len));
}

static uint16_t get16(struct rig *r, uint64_t at)
{
	uint8_t b[2];

	rig_get(r, at, b, 2);
	return ld_le16(b);
}

static uint32_t get32(struct rig *r, uint64_t at)
{
	uint8_t b[4];

	rig_get(r, at, b, 4);
	return ld_le32(b);
}

static void put16(struct rig *r, uint64_t at, uint16_t v)
{
	uint8_t b[2];

	st_le16(b, v);
	assert_true(mem_write(r->mem, gpa(at), b, 2));
}

/* Rings for a queue, which is enabled. */
static void setup_queue(struct rig *r, unsigned q)
{
	struct virtio_dev *d = r->d;
	struct rig_queue *rq = &r->q[q];

	*rq = (struct rig_queue){ .avail_wrap = true, .used_wrap = true };
	rq->size = d->queues[q].max_size < RIG_RING_MAX ? d->queues[q].max_size : RIG_RING_MAX;
	rq->desc = rig_alloc(r, NULL, 16 * rq->size);
	rq->driver = rig_alloc(r, NULL, 6 + 2 * rq->size);
	rq->device = rig_alloc(r, NULL, 6 + 8 * rq->size);
	virtio_queue_set_size(d, q, rq->size);
	d->queues[q].desc = rq->desc;
	d->queues[q].driver = rq->driver;
	d->queues[q].device = rq->device;
	virtio_queue_enable(d, q);
}

void rig_restart_queue(struct rig *r, unsigned q)
{
	pthread_mutex_lock(&r->d->lock);
	setup_queue(r, q);
	pthread_mutex_unlock(&r->d->lock);
}

void rig_start(struct rig *r, uint64_t features)
{
	struct virtio_dev *d = r->d;

	features |= 1ull << VIRTIO_F_VERSION_1 | (r->packed ? 1ull << VIRTIO_F_RING_PACKED : 0);
	pthread_mutex_lock(&d->lock);
	virtio_set_status(d, VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER);
	virtio_set_features(d, 0, (uint32_t)features);
	virtio_set_features(d, 1, features >> 32);
	virtio_set_status(d, d->status | VIRTIO_S_FEATURES_OK);
	assert_true(d->status & VIRTIO_S_FEATURES_OK);
	for (unsigned q = 0; q < d->n_queues; q++)
		setup_queue(r, q);
	virtio_set_status(d, d->status | VIRTIO_S_DRIVER_OK);
	pthread_mutex_unlock(&d->lock);
	assert_true(virtio_running(d));
}

void rig_reset(struct rig *r)
{
	pthread_mutex_lock(&r->d->lock);
	virtio_set_status(r->d, 0);
	pthread_mutex_unlock(&r->d->lock);
	assert_int_equal(r->d->status, 0);
}

void rig_fini(struct rig *r)
{
	if (r->d) {
		rig_reset(r);
		r->d->ops->destroy(r->d);
	}
	loop_free(r->loop);
	mem_space_free(r->mem);
}

/* --- rings --- */

static void put_desc(struct rig *r, uint64_t at, const struct rig_seg *s, uint16_t third, uint16_t fourth)
{
	uint8_t b[16];

	st_le64(b, s->addr);
	st_le32(b + 8, s->len);
	st_le16(b + 12, third);
	st_le16(b + 14, fourth);
	assert_true(mem_write(r->mem, gpa(at), b, 14));
	atomic_thread_fence(memory_order_release);
	put16(r, at + 14, fourth);
}

static uint16_t add_split(struct rig *r, struct rig_queue *rq, const struct rig_seg *segs, unsigned n)
{
	uint16_t head = rq->free_id;

	for (unsigned i = 0; i < n; i++) {
		uint16_t at = rq->free_id, next = (at + 1) % rq->size;
		uint16_t flags = (segs[i].write ? F_WRITE : 0) | (i + 1 < n ? F_NEXT : 0);

		put_desc(r, rq->desc + 16 * at, &segs[i], flags, next);
		rq->free_id = next;
	}
	put16(r, rq->driver + 4 + 2 * (rq->avail % rq->size), head);
	atomic_thread_fence(memory_order_release);
	put16(r, rq->driver + 2, ++rq->avail);
	return head;
}

/* The first descriptor's flags make the chain available, so it is written last. */
static uint16_t add_packed(struct rig *r, struct rig_queue *rq, const struct rig_seg *segs, unsigned n)
{
	uint16_t id = rq->free_id++ % rq->size, first = rq->avail;
	bool first_wrap = rq->avail_wrap, wrap = rq->avail_wrap;
	uint16_t slots[RIG_RING_MAX];
	bool wraps[RIG_RING_MAX];

	for (unsigned i = 0; i < n; i++) {
		slots[i] = rq->avail;
		wraps[i] = wrap;
		if (++rq->avail == rq->size) {
			rq->avail = 0;
			wrap = !wrap;
		}
	}
	rq->avail_wrap = wrap;
	rq->slots[id] = n;
	for (unsigned i = n; i-- > 0;) {
		uint16_t flags = (segs[i].write ? F_WRITE : 0) | (i + 1 < n ? F_NEXT : 0);

		flags |= wraps[i] ? P_AVAIL : P_USED;
		put_desc(r, rq->desc + 16 * slots[i], &segs[i], id, flags);
	}
	assert_true(slots[0] == first && wraps[0] == first_wrap);
	return id;
}

uint16_t rig_add(struct rig *r, unsigned q, const struct rig_seg *segs, unsigned n)
{
	return r->packed ? add_packed(r, &r->q[q], segs, n) : add_split(r, &r->q[q], segs, n);
}

void rig_kick(struct rig *r, unsigned q)
{
	virtio_kick(r->d, q);
}

static bool poll_packed(struct rig *r, struct rig_queue *rq, uint16_t *id, uint32_t *len)
{
	uint64_t at = rq->desc + 16 * rq->used;
	uint16_t flags = get16(r, at + 14);

	if (!!(flags & P_AVAIL) != rq->used_wrap || !!(flags & P_USED) != rq->used_wrap)
		return false;
	atomic_thread_fence(memory_order_acquire);
	*len = get32(r, at + 8);
	*id = get16(r, at + 12);
	assert_true(*id < rq->size);
	rq->used += rq->slots[*id];
	if (rq->used >= rq->size) {
		rq->used -= rq->size;
		rq->used_wrap = !rq->used_wrap;
	}
	return true;
}

static bool poll_split(struct rig *r, struct rig_queue *rq, uint16_t *id, uint32_t *len)
{
	uint64_t at = rq->device + 4 + 8 * (rq->used % rq->size);

	if (get16(r, rq->device + 2) == rq->used)
		return false;
	atomic_thread_fence(memory_order_acquire);
	*id = get32(r, at);
	*len = get32(r, at + 4);
	rq->used++;
	return true;
}

bool rig_poll(struct rig *r, unsigned q, uint16_t *id, uint32_t *len)
{
	return r->packed ? poll_packed(r, &r->q[q], id, len) : poll_split(r, &r->q[q], id, len);
}

/* --- time --- */

static void quit(void *opaque)
{
	loop_quit(opaque);
}

void rig_run(struct rig *r)
{
	loop_post(r->loop, quit, r->loop);
	loop_run(r->loop);
}

void rig_settle(struct rig *r)
{
	for (int n = 0; n < 4; n++)
		rig_run(r);
}

void rig_until(struct rig *r, bool (*fn)(void *opaque), void *opaque)
{
	for (int ms = 0; ms < WAIT_MS; ms++) {
		rig_run(r);
		if (fn(opaque))
			return;
		usleep(1000);
	}
	fail_msg("nothing happened in %d ms", WAIT_MS);
}

uint32_t rig_wait(struct rig *r, unsigned q)
{
	uint16_t id;
	uint32_t len;

	for (int ms = 0; ms < WAIT_MS; ms++) {
		if (rig_poll(r, q, &id, &len))
			return len;
		rig_run(r);
		if (rig_poll(r, q, &id, &len))
			return len;
		usleep(1000);
	}
	fail_msg("no completion on queue %u in %d ms", q, WAIT_MS);
	return 0;
}

bool rig_needs_reset(struct rig *r)
{
	return r->d->status & VIRTIO_S_NEEDS_RESET;
}
