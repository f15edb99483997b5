/* See toy.h. */
#include "toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static void kick(struct virtio_dev *d, unsigned q)
{
	struct toy *t = d->self;
	struct vring_chain *c;

	t->kicks[q]++;
	while ((c = virtio_pop(d, q)))
		virtio_done(d, q, c, 0);
}

static void activate(struct virtio_dev *d)
{
	((struct toy *)d->self)->activations++;
}

static void reset(struct virtio_dev *d)
{
	((struct toy *)d->self)->resets++;
}

static void drain(struct virtio_dev *d)
{
	((struct toy *)d->self)->drains++;
}

static void resume(struct virtio_dev *d)
{
	((struct toy *)d->self)->resumes++;
}

static void config_read(struct virtio_dev *d)
{
	((struct toy *)d->self)->config_reads++;
}

static void config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	struct toy *t = d->self;

	assert_true(len <= 8 && off + len <= TOY_CONFIG);
	t->written_at = off;
	t->written_len = len;
	memcpy(t->written, buf, len);
}

static void destroy(struct virtio_dev *d)
{
	struct toy *t = d->self;

	if (t->gone)
		*t->gone = true;
	virtio_fini(d);
	free(t);
}

static const struct virtio_ops ops = {
	.activate = activate,
	.kick = kick,
	.reset = reset,
	.drain = drain,
	.resume = resume,
	.config_read = config_read,
	.config_write = config_write,
	.destroy = destroy,
};
static const struct virtio_need needs[] = { { TOY_DEPENDENT, TOY_FEATURE }, { 0, 0 } };
static const struct state_field none[] = { STATE_FIELD_END };
static const struct state_desc state = { .name = "toy", .version = 1, .min_version = 1, .fields = none };

struct toy *toy_new(struct mem_space *mem, bool *gone)
{
	struct toy *t = calloc(1, sizeof(*t));
	struct err err;

	t->gone = gone;
	for (unsigned i = 0; i < TOY_CONFIG; i++)
		t->config[i] = 0xc0 + i;
	t->d.name = "toy";
	t->d.id = 42;
	t->d.ops = &ops;
	t->d.self = t;
	t->d.state = &state;
	t->d.mem = mem;
	t->d.offered = 1u << TOY_FEATURE | 1u << TOY_DEPENDENT;
	t->d.needs = needs;
	t->d.config = t->config;
	t->d.config_size = TOY_CONFIG;
	t->d.n_queues = TOY_QUEUES;
	for (unsigned q = 0; q < TOY_QUEUES; q++)
		t->d.queues[q].max_size = TOY_QUEUE_SIZE;
	assert_int_equal(virtio_init(&t->d, &err), 0);
	return t;
}
