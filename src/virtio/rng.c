/*
 * virtio-rng (virtio 1.2 section 5.4): bytes of the host's getrandom(2). A guest that asks without end gets
 * BUDGET bytes a PERIOD, so that it cannot keep the main loop busy.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "virtio/devices.h"

#define AT_ONCE	  4096u /* bytes a request gets: enough for a pool, and never long */
#define BUDGET	  65536 /* bytes */
#define COST	  64	/* bytes that a request counts on top of what it gets */
#define PERIOD_NS 20000000l

struct rng {
	struct virtio_dev d;
	int timer;
	struct loop_fd *watch;
	int left; /* of the budget */
	bool armed;
};

/* Start a period; its end brings a new budget. */
static void arm(struct rng *r)
{
	const struct itimerspec t = { .it_value.tv_nsec = PERIOD_NS };

	if (!r->armed && !timerfd_settime(r->timer, 0, &t, NULL))
		r->armed = true;
}

static void process(struct virtio_dev *d, unsigned q)
{
	struct rng *r = d->self;
	struct vring_chain *c;
	uint8_t b[AT_ONCE];

	while (r->left > 0 && (c = virtio_pop(d, q))) {
		size_t want = vring_write_left(c);
		ssize_t n = getrandom(b, want < AT_ONCE ? want : AT_ONCE, 0);

		arm(r);
		r->left -= COST + (n > 0 ? (int)n : 0);
		virtio_done(d, q, c, n > 0 ? (uint32_t)vring_write(c, b, (size_t)n) : 0);
	}
}

static void on_timer(void *opaque, int fd, uint32_t events)
{
	struct rng *r = opaque;
	uint64_t expired;

	if (read(fd, &expired, sizeof(expired)) < 0)
		return;
	pthread_mutex_lock(&r->d.lock);
	r->armed = false;
	r->left = BUDGET;
	pthread_mutex_unlock(&r->d.lock);
	virtio_defer(&r->d, 0);
}

/* Without the virtio part. */
static void rng_free(struct rng *r)
{
	if (r->watch)
		loop_fd_del(r->watch);
	if (r->timer >= 0)
		close(r->timer);
	free(r);
}

static void destroy(struct virtio_dev *d)
{
	virtio_fini(d);
	rng_free(d->self);
}

static const struct virtio_ops ops = { .process = process, .destroy = destroy };
static const struct state_field none[] = { STATE_FIELD_END };
static const struct state_desc state = { .name = "rng", .version = 1, .min_version = 1, .fields = none };

struct virtio_dev *virtio_rng_new(struct mem_space *mem, struct loop *loop, struct err *err)
{
	struct rng *r = calloc(1, sizeof(*r));

	if (!r) {
		err_set(err, "out of memory");
		return NULL;
	}
	r->left = BUDGET;
	r->d.name = "virtio-rng";
	r->d.id = VIRTIO_ID_RNG;
	r->d.ops = &ops;
	r->d.self = r;
	r->d.state = &state;
	r->d.mem = mem;
	r->d.loop = loop;
	r->d.n_queues = 1;
	r->d.queues[0].max_size = 64;
	r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (r->timer < 0) {
		err_errno(err, errno, "virtio-rng: timerfd");
		goto fail;
	}
	r->watch = loop_fd_add(loop, r->timer, EPOLLIN, on_timer, r, err);
	if (r->watch && !virtio_init(&r->d, err))
		return &r->d;
fail:
	rng_free(r);
	return NULL;
}
