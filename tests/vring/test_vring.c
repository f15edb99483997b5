/* Virtqueues between a driver and a device that both keep the rules: data, order, wraps, notifications. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"

static struct drv d;

/* Every combination of layout, event index and indirection, in sizes that wrap at different places. */
static const struct vring_setup modes[] = {
	{ .size = 8 },
	{ .size = 4, .event_idx = true },
	{ .size = 16, .indirect = true },
	{ .size = 8, .event_idx = true, .indirect = true },
	{ .size = 8, .packed = true },
	{ .size = 7, .packed = true, .event_idx = true },
	{ .size = 13, .packed = true, .indirect = true },
	{ .size = 16, .packed = true, .event_idx = true, .indirect = true },
};
#define MODES (sizeof(modes) / sizeof(modes[0]))

static struct vring_chain *pop(void)
{
	struct vring_chain *c;
	const char *why = "";
	enum vring_pop r = vring_pop(d.vr, &c, &why);

	if (r == VRING_LIED)
		fail_msg("the device side says: %s", why);
	return r == VRING_CHAIN ? c : NULL;
}

static const struct seg transfer[4] = { { DRV_DATA, 100, false },
					{ DRV_DATA + 0x1003, 5, false },
					{ DRV_DATA + 0x2001, 7, true },
					{ DRV_DATA + 0x3000, 50, true } };

/* The bytes go where the descriptors say, and everything that was written is reported. */
static void test_data(void **state)
{
	for (unsigned m = 0; m < MODES; m++) {
		char in[105], text[64];
		struct vring_chain *c;
		uint16_t id, got;
		uint32_t len;

		drv_start(&d, modes[m]);
		for (int i = 0; i < 100; i++)
			drv_mem[DRV_DATA + i] = i;
		memcpy(drv_mem + DRV_DATA + 0x1003, "tail!", 5);
		id = drv_add(&d, transfer, 4, d.s.indirect);
		drv_watch(&d);
		c = pop();
		assert_non_null(c);
		assert_int_equal(c->readable, 105);
		assert_int_equal(c->writable, 57);
		assert_int_equal(vring_read(c, in, 98), 98);
		assert_int_equal(vring_read_left(c), 7);
		assert_int_equal(vring_read(c, in + 98, 1000), 7);
		assert_int_equal(vring_read(c, in, 1), 0);
		assert_int_equal(in[99], 99);
		assert_memory_equal(in + 100, "tail!", 5);
		memset(text, 'w', sizeof(text));
		assert_int_equal(vring_write(c, text, 20), 20);
		assert_int_equal(vring_write_left(c), 37);
		assert_int_equal(vring_write_at(c, 56, "Z", 1), 1);
		assert_int_equal(vring_write_at(c, 57, "Z", 1), 0);
		assert_int_equal(vring_write_at(c, 6, "ab", 2), 2); /* over the border of two buffers */
		assert_int_equal(vring_read_at(c, 99, in, 3), 3);
		assert_memory_equal(in + 1, "ta", 2);
		vring_complete(c, 20);
		assert_true(drv_poll(&d, &got, &len));
		assert_int_equal(got, id);
		assert_int_equal(len, 20);
		assert_false(drv_poll(&d, &got, &len));
		assert_memory_equal(drv_mem + DRV_DATA + 0x2001, "wwwwwwa", 7);
		assert_memory_equal(drv_mem + DRV_DATA + 0x3000, "bwwwwwwwwwwww\0", 14);
		assert_int_equal(drv_mem[DRV_DATA + 0x3000 + 49], 'Z');
		drv_check_watched(&d);
		drv_stop(&d);
	}
}

static void test_iov(void **state)
{
	const struct seg joined[4] = { { DRV_DATA, 100, false },
				       { DRV_DATA + 100, 28, false },
				       { DRV_DATA + 0x1000, 10, true },
				       { DRV_DATA + 0x2000, 10, true } };
	struct vring_chain *c;
	struct iovec iov[4];
	size_t bytes;
	uint64_t addr;
	uint32_t len;

	drv_start(&d, modes[0]);
	drv_add(&d, joined, 4, false);
	drv_watch(&d);
	c = pop();
	assert_int_equal(vring_read_iov(c, SIZE_MAX, iov, 4, &bytes), 1); /* neighbours are one piece */
	assert_int_equal(bytes, 128);
	assert_int_equal(iov[0].iov_len, 128);
	assert_ptr_equal(iov[0].iov_base, drv_mem + DRV_DATA);
	assert_int_equal(vring_read_skip(c, 27), 27);
	assert_int_equal(vring_read_iov(c, 50, iov, 4, &bytes), 1);
	assert_int_equal(bytes, 50);
	assert_ptr_equal(iov[0].iov_base, drv_mem + DRV_DATA + 27);
	assert_int_equal(vring_read_skip(c, 1000), 101);
	assert_int_equal(vring_read_iov(c, 50, iov, 4, &bytes), 0);
	assert_int_equal(vring_write_iov(c, SIZE_MAX, iov, 1, &bytes), 1);
	assert_int_equal(bytes, 10);
	assert_int_equal(vring_write_iov(c, 15, iov, 4, &bytes), 2);
	assert_int_equal(bytes, 15);
	memset(iov[0].iov_base, 1, iov[0].iov_len);
	memset(iov[1].iov_base, 1, iov[1].iov_len);
	assert_int_equal(vring_write_skip(c, 4), 4);
	assert_true(vring_write_piece(c, &addr, &len));
	assert_true(addr == DRV_DATA + 0x1004 && len == 6);
	assert_true(vring_write_piece(c, &addr, &len));
	assert_true(addr == DRV_DATA + 0x2000 && len == 10);
	assert_false(vring_write_piece(c, &addr, &len));
	vring_complete(c, 0); /* the memory was lent for writing: it counts as written all the same */
	drv_check_watched(&d);
	drv_stop(&d);
}

/* Indices wrap more than once, chains complete out of order, and a full ring is full. */
static void test_wraps(void **state)
{
	for (unsigned m = 0; m < MODES; m++) {
		unsigned per_chain = modes[m].indirect ? 1 : 2, room = modes[m].size / per_chain, added = 0;
		uint16_t ids[16];

		drv_start(&d, modes[m]);
		while (added < 70000) {
			struct vring_chain *c[16];
			uint16_t id;
			uint32_t len;
			unsigned n = 1 + added % room;

			for (unsigned i = 0; i < n; i++)
				ids[i] = drv_add(&d, &transfer[1], 2, d.s.indirect);
			for (unsigned i = 0; i < n; i++) {
				c[i] = pop();
				assert_non_null(c[i]);
				assert_int_equal(c[i]->head, ids[i]);
			}
			assert_null(pop());
			assert_int_equal(vring_in_flight(d.vr), n);
			/* The split ring's driver frees descriptors in order here, so only ids are out of order. */
			for (unsigned i = n; i-- > 0;)
				vring_complete(c[i], i);
			for (unsigned i = n; i-- > 0;) {
				assert_true(drv_poll(&d, &id, &len));
				assert_int_equal(id, ids[i]);
				assert_int_equal(len, i < 7 ? i : 7); /* never more than there is room for */
			}
			assert_false(drv_poll(&d, &id, &len));
			added += n;
		}
		drv_stop(&d);
	}
}

/* Pushed chains become visible together; unpopped ones come again. */
static void test_batches(void **state)
{
	for (unsigned m = 0; m < MODES; m++) {
		struct vring_chain *a, *b;
		uint16_t ia, ib, id;
		uint32_t len;

		drv_start(&d, modes[m]);
		for (int lap = 0; lap < 40; lap++) {
			ia = drv_add(&d, &transfer[2], 1, d.s.indirect);
			ib = drv_add(&d, &transfer[3], 1, d.s.indirect);
			a = pop();
			b = pop();
			assert_null(pop());
			vring_unpop(b);
			vring_unpop(a);
			assert_int_equal(vring_in_flight(d.vr), 0);
			a = pop();
			b = pop();
			assert_int_equal(a->head, ia);
			assert_int_equal(b->head, ib);
			assert_int_equal(vring_write(b, "x", 1), 1);
			vring_push(a, 0);
			assert_false(drv_poll(&d, &id, &len));
			vring_push(b, 1);
			assert_false(drv_poll(&d, &id, &len));
			vring_publish(d.vr);
			assert_true(drv_poll(&d, &id, &len));
			assert_int_equal(id, ia);
			assert_true(drv_poll(&d, &id, &len));
			assert_int_equal(id, ib);
			assert_int_equal(len, 1);
			vring_publish(d.vr); /* nothing new */
			assert_false(drv_poll(&d, &id, &len));
		}
		drv_stop(&d);
	}
}

/* --- notifications --- */

static void one(bool complete)
{
	struct vring_chain *c;

	drv_add(&d, &transfer[2], 1, false);
	if (!complete)
		return;
	c = pop();
	assert_non_null(c);
	vring_complete(c, 0);
}

static void test_kicks_are_suppressed(void **state)
{
	for (unsigned m = 0; m < MODES; m++) {
		struct vring_chain *c;
		uint16_t id;
		uint32_t len;

		drv_start(&d, modes[m]);
		for (int lap = 0; lap < 50; lap++) {
			assert_null(pop()); /* the device goes to sleep: it wants to be woken */
			one(false);
			assert_true(drv_kick_needed(&d));
			c = pop(); /* and is awake now */
			assert_non_null(c);
			one(false);
			assert_false(drv_kick_needed(&d));
			vring_complete(c, 0);
			c = pop();
			vring_complete(c, 0);
			assert_true(drv_poll(&d, &id, &len));
			assert_true(drv_poll(&d, &id, &len));
		}
		drv_stop(&d);
	}
}

static void test_interrupts_are_suppressed(void **state)
{
	for (unsigned m = 0; m < MODES; m++) {
		uint16_t id;
		uint32_t len;

		drv_start(&d, modes[m]);
		assert_false(vring_should_interrupt(d.vr)); /* nothing happened */
		for (int lap = 0; lap < 50; lap++) {
			drv_want_interrupt(&d, true);
			one(true);
			assert_true(vring_should_interrupt(d.vr));
			assert_false(vring_should_interrupt(d.vr)); /* once is enough */
			drv_want_interrupt(&d, false);
			one(true);
			assert_false(vring_should_interrupt(d.vr));
			assert_true(drv_poll(&d, &id, &len));
			assert_true(drv_poll(&d, &id, &len));
		}
		drv_stop(&d);
	}
}

/* An event index that lies ahead: the interrupt comes with that entry and not before. */
static void test_interrupt_comes_at_the_event(void **state)
{
	for (int packed = 0; packed < 2; packed++) {
		struct vring_setup mode = { .size = 8, .packed = packed, .event_idx = true };
		uint16_t id;
		uint32_t len;

		drv_start(&d, mode);
		for (int lap = 0; lap < 20; lap++) {
			uint16_t at = d.used + 2; /* the third one from here */
			bool wrap = d.used_wrap;

			one(true);
			vring_should_interrupt(d.vr); /* the first after a start may come in any case */
			drv_poll(&d, &id, &len);
			at = d.used + 2;
			wrap = d.used_wrap;
			if (packed && at >= 8) {
				at -= 8;
				wrap = !wrap;
			}
			drv_want_interrupt(&d, true);
			drv_put16(packed ? DRV_DRIVER : DRV_DRIVER + 4 + 2 * 8, packed ? at | wrap << 15 : at);
			one(true);
			assert_false(vring_should_interrupt(d.vr));
			one(true);
			assert_false(vring_should_interrupt(d.vr));
			one(true);
			assert_true(vring_should_interrupt(d.vr));
			one(true);
			assert_false(vring_should_interrupt(d.vr));
			while (drv_poll(&d, &id, &len))
				;
		}
		drv_stop(&d);
	}
}

/*
 * Two threads that sleep until they are told to look: with a lost kick or interrupt both sleep for ever. The driver
 * keeps the ring as full as chance has it.
 */
#define STORM 30000

static sem_t kick, interrupt;

static void wait_for(sem_t *s)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 20;
	if (sem_timedwait(s, &t))
		fail_msg("a notification was lost");
}

static void *device(void *opaque)
{
	for (unsigned done = 0; done < STORM;) {
		struct vring_chain *c;
		unsigned n = 0;

		wait_for(&kick);
		while ((c = pop()) != NULL) {
			n++;
			vring_complete(c, 3);
			if (vring_should_interrupt(d.vr))
				sem_post(&interrupt);
		}
		done += n;
	}
	return NULL;
}

static void storm(const struct vring_setup *mode)
{
	unsigned added = 0, done = 0, seed = 7;
	pthread_t thread;
	uint16_t id;
	uint32_t len;

	drv_start(&d, *mode);
	sem_init(&kick, 0, 0);
	sem_init(&interrupt, 0, 0);
	drv_want_interrupt(&d, true);
	assert_int_equal(pthread_create(&thread, NULL, device, NULL), 0);
	while (done < STORM) {
		unsigned burst = 1 + rand_r(&seed) % mode->size;

		while (burst-- && added - done < mode->size && added < STORM) {
			drv_add(&d, &transfer[2], 1, false);
			added++;
		}
		if (drv_kick_needed(&d))
			sem_post(&kick);
		drv_want_interrupt(&d, false);
		for (unsigned had = done; had == done;) {
			while (drv_poll(&d, &id, &len))
				done++;
			if (had != done || done == added)
				break;
			/* Ask for an interrupt, look once more, sleep. */
			drv_want_interrupt(&d, true);
			if (drv_poll(&d, &id, &len))
				done++;
			else
				wait_for(&interrupt);
		}
	}
	pthread_join(thread, NULL);
	assert_int_equal(vring_in_flight(d.vr), 0);
	sem_destroy(&kick);
	sem_destroy(&interrupt);
	drv_stop(&d);
}

static void test_no_notification_is_lost(void **state)
{
	for (unsigned m = 0; m < MODES; m++)
		storm(&modes[m]);
}

/* --- stop, save, start --- */

static void test_save_and_continue(void **state)
{
	for (unsigned m = 0; m < MODES; m++) {
		struct vring_setup s;
		uint16_t id;
		uint32_t len;

		drv_start(&d, modes[m]);
		for (int lap = 0; lap < 50; lap++) {
			struct vring_chain *c;

			one(true);
			assert_true(drv_poll(&d, &id, &len));
			one(false);
			assert_true(vring_save(d.vr, &s));
			vring_stop(d.vr);
			assert_false(vring_save(d.vr, &s));
			assert_null(pop());
			assert_null(vring_start(d.vr, &s));
			assert_non_null(vring_start(d.vr, &s)); /* it runs already */
			c = pop();
			assert_non_null(c);
			vring_complete(c, 0);
			assert_true(drv_poll(&d, &id, &len));
		}
		drv_stop(&d);
	}
}

/* A chain that is out when the ring stops belongs to a time that is over. */
static void test_stop_with_chains_out(void **state)
{
	for (unsigned m = 0; m < MODES; m++) {
		struct vring_chain *old, *pushed, *c;
		uint16_t id;
		uint32_t len;

		drv_start(&d, modes[m]);
		drv_add(&d, &transfer[2], 1, false);
		drv_add(&d, &transfer[3], 1, false);
		old = pop();
		pushed = pop();
		vring_push(pushed, 0);
		vring_stop(d.vr);
		assert_int_equal(vring_in_flight(d.vr), 0);
		vring_publish(d.vr);
		assert_false(vring_should_interrupt(d.vr));

		/* The driver starts again in cleared memory. */
		memset(drv_mem, 0, DRV_TABLE);
		d.avail = d.used = d.next_free = 0;
		d.avail_wrap = d.used_wrap = true;
		assert_null(vring_start(d.vr, &d.s));
		drv_add(&d, &transfer[2], 1, false);
		c = pop();
		assert_non_null(c);
		assert_int_equal(vring_write(old, "x", 1), 1); /* its memory is still there */
		vring_complete(old, 7);
		assert_false(drv_poll(&d, &id, &len));
		assert_int_equal(vring_in_flight(d.vr), 1);
		vring_complete(c, 7);
		assert_true(drv_poll(&d, &id, &len));
		assert_false(drv_poll(&d, &id, &len));
		drv_stop(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data),
		cmocka_unit_test(test_iov),
		cmocka_unit_test(test_wraps),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_kicks_are_suppressed),
		cmocka_unit_test(test_interrupts_are_suppressed),
		cmocka_unit_test(test_interrupt_comes_at_the_event),
		cmocka_unit_test(test_no_notification_is_lost),
		cmocka_unit_test(test_save_and_continue),
		cmocka_unit_test(test_stop_with_chains_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
