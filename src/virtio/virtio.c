/* The virtio core: life cycle, features, queues, kicks and the configuration space. */
#include "virtio/virtio.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "virtio/transport.h"

#define CORE_FEATURES                                                                                                  \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_INDIRECT_DESC | 1ull << VIRTIO_F_EVENT_IDX |                    \
	 1ull << VIRTIO_F_RING_PACKED)
#define STATUS_BITS                                                                                                    \
	(VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_DRIVER_OK | VIRTIO_S_FEATURES_OK | VIRTIO_S_FAILED)

/* --- memory for the rings --- */

static bool ring_map(void *opaque, uint64_t addr, uint32_t len, bool device_writes, struct vring_map *m)
{
	struct mem_map dma;

	if (!mem_dma_map(opaque, gpa(addr), len, device_writes ? MEM_FROM_DEVICE : MEM_TO_DEVICE, &dma))
		return false;
	*m = (struct vring_map){ dma.host, addr, len, device_writes };
	return true;
}

static void ring_unmap(void *opaque, struct vring_map *m, uint32_t written)
{
	struct mem_map dma = { m->host, m->len, opaque, gpa(m->addr),
			       m->device_writes ? MEM_FROM_DEVICE : MEM_TO_DEVICE };

	mem_dma_unmap(&dma, written);
}

static void ring_touched(void *opaque, struct vring_map *m, uint32_t off, uint32_t len)
{
	mem_written(opaque, gpa(m->addr + off), len);
}

/* --- making and freeing --- */

static void process_kicked(struct virtio_dev *d)
{
	uint64_t queues = atomic_exchange(&d->kicked, 0);

	pthread_mutex_lock(&d->lock);
	for (unsigned q = 0; q < d->n_queues; q++)
		if (queues >> q & 1 && virtio_running(d))
			d->ops->process(d, q);
	pthread_mutex_unlock(&d->lock);
}

static void on_kicked(void *opaque, int fd, uint32_t events)
{
	eventfd_t count;

	if (!eventfd_read(fd, &count))
		process_kicked(opaque);
}

static int check(const struct virtio_dev *d, struct err *err)
{
	if (!d->n_queues || d->n_queues > VIRTIO_MAX_QUEUES)
		return err_set(err, "%s: %u queues, 1 to %d are possible", d->name, d->n_queues, VIRTIO_MAX_QUEUES);
	for (unsigned q = 0; q < d->n_queues; q++)
		if (!is_pow2(d->queues[q].max_size) || d->queues[q].max_size > VRING_MAX_SIZE)
			return err_set(err, "%s: queue size %u is not a power of two up to %d", d->name,
				       d->queues[q].max_size, VRING_MAX_SIZE);
	if (!!d->ops->kick == !!d->ops->process || (d->ops->process && !d->loop))
		return err_set(err, "%s: needs a kick function, or a process function and a loop", d->name);
	return 0;
}

static void clear_queue(struct virtio_queue *vq)
{
	vq->size = vq->max_size;
	vq->enabled = false;
	vq->vector = VIRTIO_NO_VECTOR;
	vq->desc = vq->driver = vq->device = 0;
}

/* Everything that the driver has set up. */
static void clear(struct virtio_dev *d)
{
	d->features = 0;
	d->status = 0;
	for (unsigned q = 0; q < d->n_queues; q++)
		clear_queue(&d->queues[q]);
}

int virtio_init(struct virtio_dev *d, struct err *err)
{
	const struct vring_mem mem = { ring_map, ring_unmap, ring_touched, d->mem };

	if (check(d, err))
		return -1;
	pthread_mutex_init(&d->lock, NULL);
	d->kick_fd = -1;
	clear(d);
	for (unsigned q = 0; q < d->n_queues; q++) {
		d->queues[q].d = d;
		d->queues[q].ring = vring_new(&mem);
		if (!d->queues[q].ring) {
			err_set(err, "%s: out of memory", d->name);
			goto fail;
		}
	}
	if (d->ops->process) {
		d->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (d->kick_fd < 0) {
			err_errno(err, errno, "%s: eventfd", d->name);
			goto fail;
		}
		d->kick_watch = loop_fd_add(d->loop, d->kick_fd, EPOLLIN, on_kicked, d, err);
		if (!d->kick_watch)
			goto fail;
	}
	return 0;
fail:
	virtio_fini(d);
	return -1;
}

void virtio_fini(struct virtio_dev *d)
{
	virtio_unwatch_bells(d);
	if (d->kick_watch)
		loop_fd_del(d->kick_watch);
	if (d->kick_fd >= 0)
		close(d->kick_fd);
	d->kick_watch = NULL;
	d->kick_fd = -1;
	for (unsigned q = 0; q < d->n_queues; q++) {
		vring_free(d->queues[q].ring);
		d->queues[q].ring = NULL;
	}
	pthread_mutex_destroy(&d->lock);
}

/* --- device side --- */

bool virtio_running(const struct virtio_dev *d)
{
	return atomic_load(&d->active) && !atomic_load(&d->paused) && !atomic_load(&d->no_memory) &&
	       !(d->status & VIRTIO_S_NEEDS_RESET);
}

struct vring_chain *virtio_pop(struct virtio_dev *d, unsigned q)
{
	struct vring_chain *c;
	const char *why;

	if (!virtio_running(d))
		return NULL;
	switch (vring_pop(d->queues[q].ring, &c, &why)) {
	case VRING_CHAIN:
		return c;
	case VRING_LIED:
		virtio_fail(d, why);
		break;
	case VRING_EMPTY:
		break;
	}
	return NULL;
}

static void interrupt_if_wanted(struct virtio_dev *d, unsigned q)
{
	if (vring_should_interrupt(d->queues[q].ring))
		d->transport_ops->queue_interrupt(d->transport, q);
}

void virtio_done(struct virtio_dev *d, unsigned q, struct vring_chain *c, uint32_t written)
{
	vring_complete(c, written);
	interrupt_if_wanted(d, q);
}

void virtio_publish(struct virtio_dev *d, unsigned q)
{
	vring_publish(d->queues[q].ring);
	interrupt_if_wanted(d, q);
}

void virtio_config_changed(struct virtio_dev *d)
{
	d->config_generation++;
	if (d->status & VIRTIO_S_DRIVER_OK)
		d->transport_ops->config_interrupt(d->transport);
}

void virtio_fail(struct virtio_dev *d, const char *why)
{
	uint8_t before = atomic_fetch_or(&d->status, VIRTIO_S_NEEDS_RESET);

	if (before & VIRTIO_S_NEEDS_RESET)
		return;
	log_guest("virtio", "%s: %s; the device needs a reset", d->name, why);
	if (before & VIRTIO_S_DRIVER_OK)
		d->transport_ops->config_interrupt(d->transport);
}

void virtio_defer(struct virtio_dev *d, unsigned q)
{
	const uint64_t one = 1;

	/* Only the first kick since the loop looked needs to wake it. */
	if (atomic_fetch_or(&d->kicked, 1ull << q) == 0 && write(d->kick_fd, &one, sizeof(one)) < 0)
		return; /* a full counter is awake already */
}

/* --- transport side --- */

uint64_t virtio_offered(const struct virtio_dev *d)
{
	uint64_t bits = d->offered | CORE_FEATURES | (d->ops->reset_queue ? 1ull << VIRTIO_F_RING_RESET : 0);

	return bits & ~(d->withheld & ~(1ull << VIRTIO_F_VERSION_1));
}

void virtio_set_features(struct virtio_dev *d, unsigned word, uint32_t bits)
{
	if (word > 1 || d->status & VIRTIO_S_FEATURES_OK)
		return;
	d->features = word ? (uint32_t)d->features | (uint64_t)bits << 32 : (d->features >> 32 << 32) | bits;
}

struct virtio_queue *virtio_queue(struct virtio_dev *d, uint32_t q)
{
	return q < d->n_queues ? &d->queues[q] : NULL;
}

bool virtio_may_configure(struct virtio_dev *d, const struct virtio_queue *vq, const char *what)
{
	if (!(d->status & VIRTIO_S_DRIVER_OK) || (virtio_has_feature(d, VIRTIO_F_RING_RESET) && !vq->enabled))
		return true;
	log_guest("virtio", "%s: the driver changes the %s of a running device; ignored", d->name, what);
	return false;
}

void virtio_queue_set_size(struct virtio_dev *d, unsigned q, uint32_t size)
{
	struct virtio_queue *vq = virtio_queue(d, q);

	if (!vq || !virtio_may_configure(d, vq, "queue size"))
		return;
	/* A packed ring may have any size (2.8.10.1); features are agreed before queues are set up. */
	if (size && size <= vq->max_size && (is_pow2(size) || virtio_has_feature(d, VIRTIO_F_RING_PACKED)))
		vq->size = size;
	else
		log_guest("virtio", "%s: queue %u cannot have size %" PRIu32, d->name, q, size);
}

void virtio_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	memset(buf, 0, len);
	if (off >= d->config_size)
		return;
	if (d->ops->config_read)
		d->ops->config_read(d);
	memcpy(buf, d->config + off, len < d->config_size - off ? len : d->config_size - off);
}

void virtio_config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	if (range_within(off, len, d->config_size) && d->ops->config_write)
		d->ops->config_write(d, off, buf, len);
}

static struct vring_setup setup_of(const struct virtio_dev *d, const struct virtio_queue *vq)
{
	struct vring_setup s = {
		.size = vq->size,
		.event_idx = virtio_has_feature(d, VIRTIO_F_EVENT_IDX),
		.indirect = virtio_has_feature(d, VIRTIO_F_INDIRECT_DESC),
		.packed = virtio_has_feature(d, VIRTIO_F_RING_PACKED),
		.desc = vq->desc,
		.driver = vq->driver,
		.device = vq->device,
	};

	vring_setup_reset(&s);
	return s;
}

static void start_queue(struct virtio_dev *d, struct virtio_queue *vq)
{
	struct vring_setup s = setup_of(d, vq);
	const char *why = vring_start(vq->ring, &s);

	if (why)
		virtio_fail(d, why);
}

void virtio_queue_enable(struct virtio_dev *d, unsigned q)
{
	struct virtio_queue *vq = virtio_queue(d, q);

	if (!vq || vq->enabled)
		return;
	vq->enabled = true;
	if (d->status & VIRTIO_S_DRIVER_OK) /* again, after a reset of its own */
		start_queue(d, vq);
}

void virtio_queue_reset(struct virtio_dev *d, unsigned q)
{
	struct virtio_queue *vq = virtio_queue(d, q);

	if (!vq || !virtio_has_feature(d, VIRTIO_F_RING_RESET) || !(d->status & VIRTIO_S_DRIVER_OK))
		return;
	vring_stop(vq->ring);
	d->ops->reset_queue(d, q);
	clear_queue(vq);
}

static void start(struct virtio_dev *d)
{
	for (unsigned q = 0; q < d->n_queues; q++)
		if (d->queues[q].enabled)
			start_queue(d, &d->queues[q]);
	if (d->ops->activate)
		d->ops->activate(d);
	atomic_store(&d->active, true);
}

static bool acceptable(const struct virtio_dev *d)
{
	for (const struct virtio_need *n = d->needs; n && (n->bit || n->needs); n++)
		if (virtio_has_feature(d, n->bit) && !virtio_has_feature(d, n->needs))
			return false;
	return !(d->features & ~virtio_offered(d)) && virtio_has_feature(d, VIRTIO_F_VERSION_1);
}

void virtio_set_status(struct virtio_dev *d, uint8_t status)
{
	uint8_t old = d->status, added;

	if (!status) {
		virtio_reset(d);
		return;
	}
	status &= STATUS_BITS;
	added = status & ~old;
	/* Bits are only ever added (3.1.1); a driver that drops some means a reset and does not say it. */
	status |= old;
	if (added & VIRTIO_S_FEATURES_OK && !acceptable(d)) {
		log_guest("virtio", "%s: the driver accepts features %#" PRIx64 ", which are not possible", d->name,
			  d->features);
		status &= ~VIRTIO_S_FEATURES_OK;
		added &= ~VIRTIO_S_FEATURES_OK;
	}
	if (added & VIRTIO_S_DRIVER_OK && !(status & VIRTIO_S_FEATURES_OK)) {
		log_guest("virtio", "%s: DRIVER_OK without FEATURES_OK", d->name);
		status &= ~VIRTIO_S_DRIVER_OK;
		added &= ~VIRTIO_S_DRIVER_OK;
	}
	atomic_fetch_or(&d->status, status);
	if (added & VIRTIO_S_DRIVER_OK)
		start(d);
}

void virtio_reset(struct virtio_dev *d)
{
	atomic_store(&d->active, false);
	for (unsigned q = 0; q < d->n_queues; q++)
		vring_stop(d->queues[q].ring);
	if (d->ops->reset)
		d->ops->reset(d);
	clear(d);
}

void virtio_kick(struct virtio_dev *d, uint32_t q)
{
	if (q >= d->n_queues || !virtio_running(d))
		return;
	if (d->ops->kick)
		d->ops->kick(d, q);
	else
		virtio_defer(d, q);
}

/* --- doorbells --- */

static unsigned index_of(const struct virtio_queue *vq)
{
	return (unsigned)(vq - vq->d->queues);
}

static void on_bell(void *opaque)
{
	const struct virtio_queue *vq = opaque;

	virtio_kick(vq->d, index_of(vq));
}

/* The same by eventfd: this is the loop's thread already. */
static void on_bell_counted(void *opaque, int fd, uint32_t events)
{
	const struct virtio_queue *vq = opaque;
	struct virtio_dev *d = vq->d;

	if (!event_take(&vq->bell))
		return;
	if (d->ops->kick) {
		virtio_kick(d, index_of(vq));
	} else {
		atomic_fetch_or(&d->kicked, 1ull << index_of(vq));
		process_kicked(d);
	}
}

struct bus_doorbell virtio_bell(struct virtio_dev *d, unsigned q)
{
	struct virtio_queue *vq = &d->queues[q];

	return (struct bus_doorbell){ .at.event = vq->bell.open ? &vq->bell : NULL, .fn = on_bell, .opaque = vq };
}

void virtio_watch_bells(struct virtio_dev *d)
{
	struct err err;

	for (unsigned q = 0; d->loop && q < d->n_queues; q++) {
		struct virtio_queue *vq = &d->queues[q];

		if (!event_open(&vq->bell))
			return;
		vq->bell_watch = loop_fd_add(d->loop, vq->bell.fd, EPOLLIN, on_bell_counted, vq, &err);
		if (!vq->bell_watch)
			event_close(&vq->bell);
	}
}

void virtio_unwatch_bells(struct virtio_dev *d)
{
	for (unsigned q = 0; q < d->n_queues; q++) {
		struct virtio_queue *vq = &d->queues[q];

		loop_fd_del(vq->bell_watch);
		vq->bell_watch = NULL;
		event_close(&vq->bell);
	}
}

/* virtio_running() is false: end what is going on. */
static void end_requests(struct virtio_dev *d)
{
	/* A process function that is running ends first. */
	pthread_mutex_lock(&d->lock);
	pthread_mutex_unlock(&d->lock);
	if (d->ops->drain)
		d->ops->drain(d);
}

void virtio_set_bus_master(struct virtio_dev *d, bool on)
{
	if (atomic_exchange(&d->no_memory, !on) == !on)
		return;
	if (!on && atomic_load(&d->active)) {
		end_requests(d);
		if (d->ops->resume)
			d->ops->resume(d);
	}
	for (unsigned q = 0; on && q < d->n_queues; q++)
		virtio_kick(d, q);
}

void virtio_drain(struct virtio_dev *d)
{
	atomic_store(&d->paused, true);
	end_requests(d);
}

void virtio_resume(struct virtio_dev *d)
{
	pthread_mutex_lock(&d->lock);
	if (d->status & VIRTIO_S_DRIVER_OK && !atomic_load(&d->active)) { /* loaded */
		if (d->ops->activate)
			d->ops->activate(d);
		atomic_store(&d->active, true);
	}
	atomic_store(&d->paused, false);
	pthread_mutex_unlock(&d->lock);
	if (d->ops->resume)
		d->ops->resume(d);
	for (unsigned q = 0; q < d->n_queues; q++)
		virtio_kick(d, q);
}
