/* Saved state of the virtio core: status, features and rings. */
#include <stddef.h>

#include "base/bytes.h"
#include "virtio/transport.h"

static const struct state_field queue_fields[] = {
	STATE_U16F(struct virtio_queue, size),
	STATE_BOOLF(struct virtio_queue, enabled),
	STATE_U16F(struct virtio_queue, vector),
	STATE_U64F(struct virtio_queue, desc),
	STATE_U64F(struct virtio_queue, driver),
	STATE_U64F(struct virtio_queue, device),
	STATE_BOOLF(struct virtio_queue, saved_running),
	STATE_U16F(struct virtio_queue, saved.next_avail),
	STATE_U16F(struct virtio_queue, saved.next_used),
	STATE_BOOLF(struct virtio_queue, saved.avail_wrap),
	STATE_BOOLF(struct virtio_queue, saved.used_wrap),
	STATE_FIELD_END,
};

static void queue_pre_save(void *obj)
{
	struct virtio_queue *vq = obj;

	vring_setup_reset(&vq->saved);
	vq->saved_running = vq->ring && vring_save(vq->ring, &vq->saved);
}

/* All values are checked in virtio_loaded(), which knows the features. */
static const struct state_desc queue_state = {
	.name = "virtqueue",
	.version = 1,
	.min_version = 1,
	.fields = queue_fields,
	.pre_save = queue_pre_save,
};

static const struct state_field core_fields[] = {
	STATE_U64F(struct virtio_dev, features),
	STATE_U8F(struct virtio_dev, status),
	STATE_U32F(struct virtio_dev, config_generation),
	STATE_SUBA(struct virtio_dev, queues, &queue_state),
	STATE_FIELD_END,
};

const struct state_desc virtio_core_state = {
	.name = "virtio",
	.version = 1,
	.min_version = 1,
	.fields = core_fields,
};

static int load_queue(struct virtio_dev *d, unsigned q, struct err *err)
{
	struct virtio_queue *vq = &d->queues[q];
	bool packed = virtio_has_feature(d, VIRTIO_F_RING_PACKED);
	struct vring_setup s;
	const char *why;

	if (!vq->size || vq->size > vq->max_size || (!packed && !is_pow2(vq->size)))
		return err_set(err, "queue %u cannot have size %u", q, vq->size);
	if (!vq->saved_running)
		return 0;
	if (!vq->enabled || !(d->status & VIRTIO_S_DRIVER_OK))
		return err_set(err, "queue %u runs but was not enabled", q);
	s = vq->saved;
	s.size = vq->size;
	s.desc = vq->desc;
	s.driver = vq->driver;
	s.device = vq->device;
	s.event_idx = virtio_has_feature(d, VIRTIO_F_EVENT_IDX);
	s.indirect = virtio_has_feature(d, VIRTIO_F_INDIRECT_DESC);
	s.packed = packed;
	why = vring_start(vq->ring, &s);
	return why ? err_set(err, "queue %u: %s", q, why) : 0;
}

int virtio_loaded(struct virtio_dev *d, struct err *err)
{
	const uint8_t known = VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_DRIVER_OK | VIRTIO_S_FEATURES_OK |
			      VIRTIO_S_NEEDS_RESET | VIRTIO_S_FAILED;

	if (d->status & ~known)
		return err_set(err, "status %#x has unknown bits", d->status);
	if (d->status & VIRTIO_S_FEATURES_OK && d->features & ~virtio_offered(d))
		return err_set(err, "the driver uses features %#llx, but only %#llx are offered here",
			       (unsigned long long)d->features, (unsigned long long)virtio_offered(d));
	if (d->status & VIRTIO_S_DRIVER_OK &&
	    (!(d->status & VIRTIO_S_FEATURES_OK) || !virtio_has_feature(d, VIRTIO_F_VERSION_1)))
		return err_set(err, "the driver runs without agreed features");
	for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++) {
		if (q >= d->n_queues) {
			if (d->queues[q].enabled || d->queues[q].saved_running)
				return err_set(err, "queue %u does not exist here", q);
			continue;
		}
		vring_stop(d->queues[q].ring);
		if (load_queue(d, q, err))
			return -1;
	}
	/* Active again, with activate(), at resume. */
	atomic_store(&d->active, false);
	atomic_store(&d->paused, true);
	return 0;
}
