/* The virtio core without a transport: what it refuses to be made of, pausing, deferred kicks, loaded states. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "rig.h"
#include "toy.h"
#include "virtio/transport.h"

static struct rig rig;
static struct toy *toy;

static int begin(void **state)
{
	rig_init(&rig, false);
	toy = toy_new(rig.mem, NULL);
	rig_attach(&rig, &toy->d);
	return 0;
}

static int end(void **state)
{
	rig_fini(&rig);
	return 0;
}

static void nothing(struct virtio_dev *d, unsigned q)
{
}

static void refused(struct virtio_dev d, const char *says)
{
	struct err err;

	assert_int_equal(virtio_init(&d, &err), -1);
	if (!strstr(err.msg, says))
		fail_msg("'%s' does not say '%s'", err.msg, says);
}

static void test_impossible_devices(void **state)
{
	static const struct virtio_ops both = { .kick = nothing, .process = nothing }, neither,
				       loop_needed = { .process = nothing }, fine = { .kick = nothing };
	struct virtio_dev d = { .name = "x", .ops = &fine, .mem = rig.mem, .n_queues = 1 };

	d.queues[0].max_size = 8;
	d.n_queues = 0;
	refused(d, "queues");
	d.n_queues = VIRTIO_MAX_QUEUES + 1;
	refused(d, "queues");
	d.n_queues = 2; /* the second has no size */
	refused(d, "power of two");
	d.queues[1].max_size = 24;
	refused(d, "power of two");
	d.queues[1].max_size = 2 * VRING_MAX_SIZE;
	refused(d, "power of two");
	d.n_queues = 1;
	d.ops = &both;
	refused(d, "kick");
	d.ops = &neither;
	refused(d, "kick");
	d.ops = &loop_needed;
	refused(d, "loop");
}

static void one(void)
{
	struct rig_seg s = { rig_alloc(&rig, NULL, 16), 16, true };

	rig_add(&rig, 0, &s, 1);
	rig_kick(&rig, 0);
}

static bool used(void)
{
	uint16_t id;
	uint32_t len;

	return rig_poll(&rig, 0, &id, &len);
}

static void test_drain_and_resume(void **state)
{
	rig_start(&rig, 0);
	one();
	assert_true(used());
	virtio_drain(rig.d);
	assert_false(virtio_running(rig.d));
	one();
	assert_false(used());
	assert_int_equal(toy->drains, 1);
	virtio_resume(rig.d);
	assert_int_equal(toy->resumes, 1);
	assert_true(used());
	assert_int_equal(toy->activations, 1); /* it was active all the time */
	/* A driver may reset and start while the machine is drained: nothing moves before it goes on. */
	virtio_drain(rig.d);
	rig_reset(&rig);
	virtio_resume(rig.d);
	assert_false(virtio_running(rig.d));
	rig_start(&rig, 0);
	one();
	assert_true(used());
}

static void test_failure(void **state)
{
	virtio_fail(rig.d, "nobody listens yet");
	assert_int_equal(rig.config_irqs, 0);
	rig_reset(&rig);
	rig_start(&rig, 0);
	virtio_fail(rig.d, "a test");
	virtio_fail(rig.d, "a test again");
	assert_int_equal(rig.config_irqs, 1); /* told once */
	assert_true(rig_needs_reset(&rig));
	one();
	assert_false(used());
	rig_reset(&rig);
	rig_start(&rig, 0);
	one();
	assert_true(used());
}

static void test_config_interrupt_needs_a_driver(void **state)
{
	pthread_mutex_lock(&rig.d->lock);
	virtio_config_changed(rig.d);
	pthread_mutex_unlock(&rig.d->lock);
	assert_int_equal(rig.config_irqs, 0);
	assert_int_equal(rig.d->config_generation, 1);
	rig_start(&rig, 0);
	pthread_mutex_lock(&rig.d->lock);
	virtio_config_changed(rig.d);
	pthread_mutex_unlock(&rig.d->lock);
	assert_int_equal(rig.config_irqs, 1);
}

/* --- process in the loop thread --- */

static unsigned processed[2];

static void process(struct virtio_dev *d, unsigned q)
{
	processed[q]++;
}

static void destroy(struct virtio_dev *d)
{
	virtio_fini(d);
}

static void test_deferred_kicks(void **state)
{
	static const struct virtio_ops ops = { .process = process, .destroy = destroy };
	static struct virtio_dev d;
	struct rig r;
	struct err err;

	rig_init(&r, false);
	d = (struct virtio_dev){ .name = "x", .ops = &ops, .mem = r.mem, .loop = r.loop, .n_queues = 2 };
	d.queues[0].max_size = d.queues[1].max_size = 8;
	assert_int_equal(virtio_init(&d, &err), 0);
	rig_attach(&r, &d);
	rig_kick(&r, 0);
	rig_run(&r);
	assert_int_equal(processed[0], 0); /* no driver */
	rig_start(&r, 0);
	for (int n = 0; n < 100; n++) {
		rig_kick(&r, 0);
		rig_kick(&r, 1);
		rig_kick(&r, 2); /* not there */
	}
	for (int n = 0; n < 3; n++)
		rig_run(&r);
	assert_true(processed[0] == 1 && processed[1] == 1);
	rig_kick(&r, 1);
	rig_reset(&r); /* before the loop gets to it */
	rig_run(&r);
	assert_int_equal(processed[1], 1);
	rig_fini(&r);
}

/* --- loaded states: virtio_loaded() checks all of it --- */

static void load_refused(const char *says)
{
	struct err err;

	assert_int_equal(virtio_loaded(rig.d, &err), -1);
	if (!strstr(err.msg, says))
		fail_msg("'%s' does not say '%s'", err.msg, says);
}

static void test_impossible_states(void **state)
{
	struct virtio_dev *d = rig.d;
	const uint8_t running = VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK;
	const uint8_t ring[4] = { 0, 0, 3, 0 }; /* the available index is 3 */
	struct err err;

	d->status = 0x30;
	load_refused("unknown bits");
	d->status = VIRTIO_S_FEATURES_OK;
	d->features = 1ull << VIRTIO_F_VERSION_1 | 1u << 4;
	load_refused("features");
	d->features = 1ull << VIRTIO_F_VERSION_1;
	d->status = VIRTIO_S_DRIVER_OK;
	load_refused("without agreed features");
	d->status = running;
	d->features = 0;
	load_refused("without agreed features");
	d->features = 1ull << VIRTIO_F_VERSION_1;
	d->queues[1].size = 24;
	load_refused("queue 1 cannot have size 24");
	d->queues[1].size = 2 * TOY_QUEUE_SIZE;
	load_refused("size");
	d->queues[1].size = 0;
	load_refused("size");
	d->queues[1].size = 8;
	d->queues[1].saved_running = true;
	load_refused("not enabled");
	d->queues[1].enabled = true;
	d->queues[1].desc = 1;
	load_refused("descriptor area");
	d->queues[1].desc = 0;
	d->queues[1].saved.next_avail = 3;
	load_refused("missing");
	d->queues[1].saved.next_used = 3;
	d->queues[TOY_QUEUES].enabled = true;
	load_refused("does not exist here");
	d->queues[TOY_QUEUES].enabled = false;
	assert_true(mem_write(rig.mem, gpa(0), ring, sizeof(ring)));
	assert_int_equal(virtio_loaded(d, &err), 0);
	assert_false(virtio_running(d));
	virtio_resume(d);
	assert_true(virtio_running(d));
	assert_int_equal(toy->activations, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_impossible_devices), TEST(test_drain_and_resume),  TEST(test_failure),
		TEST(test_deferred_kicks),     TEST(test_impossible_states), TEST(test_config_interrupt_needs_a_driver),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
