/* virtio-rng (virtio 1.2 section 5.4). */
#include <stdlib.h>
#include <sys/random.h>

#include "virtio/devices.h"

#define AT_ONCE 4096u /* bytes a request gets: enough for a pool, and never long */

static void process(struct virtio_dev *d, unsigned q)
{
	struct vring_chain *c;
	uint8_t b[AT_ONCE];

	while ((c = virtio_pop(d, q))) {
		size_t want = vring_write_left(c);
		ssize_t n = getrandom(b, want < AT_ONCE ? want : AT_ONCE, 0);

		virtio_done(d, q, c, n > 0 ? (uint32_t)vring_write(c, b, (size_t)n) : 0);
	}
}

static void destroy(struct virtio_dev *d)
{
	virtio_fini(d);
	free(d);
}

static const struct virtio_ops ops = { .process = process, .destroy = destroy };
static const struct state_field none[] = { STATE_FIELD_END };
static const struct state_desc state = { .name = "rng", .version = 1, .min_version = 1, .fields = none };

struct virtio_dev *virtio_rng_new(struct mem_space *mem, struct loop *loop, struct err *err)
{
	struct virtio_dev *d = calloc(1, sizeof(*d));

	if (!d) {
		err_set(err, "out of memory");
		return NULL;
	}
	d->name = "virtio-rng";
	d->id = VIRTIO_ID_RNG;
	d->ops = &ops;
	d->self = d;
	d->state = &state;
	d->mem = mem;
	d->loop = loop;
	d->n_queues = 1;
	d->queues[0].max_size = 64;
	if (!virtio_init(d, err))
		return d;
	free(d);
	return NULL;
}
