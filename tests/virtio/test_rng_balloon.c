/* virtio-rng and virtio-balloon through their rings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "rig.h"
#include "virtio/devices.h"
#include "virtio/transport.h"

static struct rig rig;

/* --- rng --- */

static void random_bytes(bool packed)
{
	uint8_t a[256], b[256];
	struct rig_seg s[2];
	struct err err;

	rig_init(&rig, packed);
	rig_attach(&rig, virtio_rng_new(rig.mem, rig.loop, &err));
	rig_start(&rig, 0);
	s[0] = (struct rig_seg){ rig_alloc(&rig, NULL, 256), 256, true };
	s[1] = (struct rig_seg){ rig_alloc(&rig, NULL, 256), 256, true };
	rig_add(&rig, 0, s, 2);
	rig_kick(&rig, 0);
	assert_int_equal(rig_wait(&rig, 0), 512);
	rig_get(&rig, s[0].addr, a, 256);
	rig_get(&rig, s[1].addr, b, 256);
	assert_memory_not_equal(a, b, 256);
	s[0].write = false; /* no place for an answer */
	rig_add(&rig, 0, s, 1);
	rig_kick(&rig, 0);
	assert_int_equal(rig_wait(&rig, 0), 0);
	assert_false(rig_needs_reset(&rig));
	rig_fini(&rig);
}

static void test_rng_split(void **state)
{
	random_bytes(false);
}

static void test_rng_packed(void **state)
{
	random_bytes(true);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* 64 requests of 4 KiB are four budgets, so at least three periods of 20 ms pass. */
static void test_rng_rate(void **state)
{
	struct rig_seg s = { 0 };
	struct err err;
	int64_t start;

	rig_init(&rig, false);
	rig_attach(&rig, virtio_rng_new(rig.mem, rig.loop, &err));
	rig_start(&rig, 0);
	s = (struct rig_seg){ rig_alloc(&rig, NULL, 4096), 4096, true };
	start = now_ms();
	for (int n = 0; n < 64; n++)
		rig_add(&rig, 0, &s, 1);
	rig_kick(&rig, 0);
	for (int n = 0; n < 64; n++)
		assert_int_equal(rig_wait(&rig, 0), 4096);
	assert_true(now_ms() - start >= 60);
	rig_fini(&rig);
}

/* --- balloon --- */

enum { INFLATE, DEFLATE, STATS, REPORTING };
#define F_STATS	    (1u << 1)
#define F_POISON    (1u << 4)
#define F_REPORTING (1u << 5)
#define PAGE	    0x800000u

static void begin(bool packed, uint64_t features)
{
	struct err err;

	rig_init(&rig, packed);
	rig_attach(&rig, virtio_balloon_new(rig.mem, rig.loop, &err));
	rig_start(&rig, features);
}

static void features_can_be_left_away(void **state)
{
	struct err err;
	struct virtio_dev *d;

	rig_init(&rig, false);
	d = virtio_balloon_new(rig.mem, rig.loop, &err);
	assert_int_equal(virtio_offered(d) & 0x24, 0x24);
	virtio_balloon_without(d, false, true);
	assert_int_equal(virtio_offered(d) & 0x24, 4);
	virtio_balloon_without(d, true, false);
	assert_int_equal(virtio_offered(d) & 0x24, 0);
	rig_attach(&rig, d);
	rig_fini(&rig);
}

static void send_pfns(unsigned q, const uint32_t *pfns, unsigned n)
{
	struct rig_seg s = { rig_alloc(&rig, NULL, 4 * n), 4 * n, false };

	for (unsigned k = 0; k < n; k++) {
		uint8_t b[4];

		st_le32(b, pfns[k]);
		assert_true(mem_write(rig.mem, gpa(s.addr + 4 * k), b, 4));
	}
	rig_add(&rig, q, &s, 1);
	rig_kick(&rig, q);
	rig_wait(&rig, q);
}

static uint8_t byte_at(uint64_t addr)
{
	uint8_t b;

	rig_get(&rig, addr, &b, 1);
	return b;
}

static void test_inflate(void **state)
{
	const uint32_t p = PAGE >> 12, list[] = { p,	 p + 1,	     p + 2,	  p + 9,	 p + 8,
						  p + 7, UINT32_MAX, 0xfffff000u, RIG_RAM >> 12, p + 20 };

	for (int packed = 0; packed < 2; packed++) {
		begin(packed, 0);
		assert_true(mem_fill(rig.mem, gpa(PAGE), 0xaa, 32 * 4096));
		send_pfns(INFLATE, list, 10);
		for (unsigned k = 0; k < 32; k++) {
			bool gone = k <= 2 || (k >= 7 && k <= 9) || k == 20;

			assert_int_equal(byte_at(PAGE + k * 4096), gone ? 0 : 0xaa);
			assert_int_equal(byte_at(PAGE + k * 4096 + 4095), gone ? 0 : 0xaa);
		}
		send_pfns(DEFLATE, list, 3);
		assert_int_equal(byte_at(PAGE + 3 * 4096), 0xaa);
		assert_false(rig_needs_reset(&rig));
		rig_fini(&rig);
	}
}

/* A "list" of the whole memory is cut off instead of keeping the loop busy. */
static void test_inflate_huge(void **state)
{
	struct rig_seg s[32];
	int64_t start;

	begin(false, 0);
	for (int n = 0; n < 32; n++)
		s[n] = (struct rig_seg){ 0x100000, 8u << 20, false };
	start = now_ms();
	rig_add(&rig, INFLATE, s, 32);
	rig_kick(&rig, INFLATE);
	rig_wait(&rig, INFLATE);
	assert_true(now_ms() - start < 5000);
	rig_fini(&rig);
}

static void reporting(uint64_t features, unsigned q)
{
	struct rig_seg s[3] = { { PAGE, 8192, true },
				{ PAGE + 5 * 4096 + 100, 8192, true },
				{ PAGE + 16384, 100, true } };

	begin(false, features);
	assert_true(mem_fill(rig.mem, gpa(PAGE), 0xaa, 16 * 4096));
	rig_add(&rig, q, s, 3);
	rig_kick(&rig, q);
	rig_wait(&rig, q);
	assert_int_equal(byte_at(PAGE), 0);
	assert_int_equal(byte_at(PAGE + 8191), 0);
	assert_int_equal(byte_at(PAGE + 8192), 0xaa);
	assert_int_equal(byte_at(PAGE + 4 * 4096), 0xaa); /* only whole pages go */
	assert_int_equal(byte_at(PAGE + 5 * 4096), 0xaa);
	assert_int_equal(byte_at(PAGE + 6 * 4096), 0);
	assert_int_equal(byte_at(PAGE + 7 * 4096), 0xaa);
	rig_fini(&rig);
}

static void test_reporting(void **state)
{
	reporting(F_REPORTING, 2);
	reporting(F_REPORTING | F_STATS, 3);
}

/* A driver that numbers queues by the letter has reporting on queue 4. */
static void test_reporting_on_queue_four(void **state)
{
	reporting(F_REPORTING | F_STATS, 4);
}

static void set_poison(uint32_t pattern)
{
	uint8_t b[4];

	st_le32(b, pattern);
	pthread_mutex_lock(&rig.d->lock);
	virtio_config_write(rig.d, 12, b, 4);
	pthread_mutex_unlock(&rig.d->lock);
}

/* Pages that must keep a pattern are left alone; with a pattern of zero they may go. */
static void test_poisoned_pages_stay(void **state)
{
	struct rig_seg s = { PAGE, 8192, true };

	begin(false, F_REPORTING | F_STATS | F_POISON);
	assert_true(mem_fill(rig.mem, gpa(PAGE), 0xaa, 8192));
	set_poison(0xaaaaaaaa);
	rig_add(&rig, 3, &s, 1);
	rig_kick(&rig, 3);
	rig_wait(&rig, 3);
	assert_int_equal(byte_at(PAGE), 0xaa);
	set_poison(0);
	rig_add(&rig, 3, &s, 1);
	rig_kick(&rig, 3);
	rig_wait(&rig, 3);
	assert_int_equal(byte_at(PAGE), 0);
	rig_fini(&rig);
}

/* KiB of this process that are in memory. */
static long resident(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* What is reported or inflated really leaves the host's memory. */
static void test_memory_goes_back(void **state)
{
	const uint32_t size = 7u << 20;

	for (int reported = 0; reported < 2; reported++) {
		struct rig_seg s = { PAGE, size, true };
		static uint32_t pfns[(7u << 20) >> 12];
		long full;

		begin(false, F_REPORTING | F_STATS);
		assert_true(mem_fill(rig.mem, gpa(PAGE), 0x55, size));
		full = resident();
		if (reported) {
			rig_add(&rig, 3, &s, 1);
			rig_kick(&rig, 3);
			rig_wait(&rig, 3);
		} else {
			for (uint32_t n = 0; n < size >> 12; n++)
				pfns[n] = (PAGE >> 12) + n;
			send_pfns(INFLATE, pfns, size >> 12);
		}
		assert_true(resident() <= full - (long)(size / 1024) + 512);
		rig_fini(&rig);
	}
}

static void offer_stats(uint16_t tag, uint64_t value)
{
	uint8_t b[25] = { 0 };
	struct rig_seg s;

	st_le16(b, tag);
	st_le64(b + 2, value);
	st_le16(b + 10, 999); /* a tag that nobody knows, and half an entry */
	s = (struct rig_seg){ rig_alloc(&rig, b, sizeof(b)), sizeof(b), false };
	rig_add(&rig, STATS, &s, 1);
	rig_kick(&rig, STATS);
	for (int n = 0; n < 3; n++)
		rig_run(&rig);
}

static void test_stats(void **state)
{
	uint64_t v[VIRTIO_BALLOON_STATS];
	uint16_t id;
	uint32_t len;

	begin(false, F_STATS);
	assert_false(virtio_balloon_ask(rig.d));
	assert_false(virtio_balloon_stats(rig.d, v));
	offer_stats(4, 12345);
	assert_false(rig_poll(&rig, STATS, &id, &len)); /* ours until we ask */
	assert_true(virtio_balloon_stats(rig.d, v));
	assert_int_equal(v[4], 12345);
	assert_true(v[5] == UINT64_MAX);
	assert_true(virtio_balloon_ask(rig.d));
	rig_wait(&rig, STATS);
	assert_false(virtio_balloon_ask(rig.d));
	assert_false(virtio_balloon_stats(rig.d, v));
	offer_stats(4, 999);
	assert_true(virtio_balloon_stats(rig.d, v));
	assert_int_equal(v[4], 999);
	/* Nothing is out while drained; the buffer is ours again afterwards. */
	virtio_drain(rig.d);
	assert_int_equal(vring_in_flight(rig.d->queues[STATS].ring), 0);
	assert_false(virtio_balloon_ask(rig.d));
	virtio_resume(rig.d);
	for (int n = 0; n < 3; n++)
		rig_run(&rig);
	assert_true(virtio_balloon_ask(rig.d));
	rig_wait(&rig, STATS);
	offer_stats(4, 1);
	rig_fini(&rig);
}

static void test_target(void **state)
{
	uint8_t b[16], actual[4];

	begin(false, 0);
	virtio_balloon_set(rig.d, 5u << 20);
	assert_int_equal(rig.config_irqs, 1);
	pthread_mutex_lock(&rig.d->lock);
	virtio_config_read(rig.d, 0, b, 16);
	st_le32(actual, 77);
	virtio_config_write(rig.d, 4, actual, 4);
	virtio_config_write(rig.d, 0, actual, 4);  /* the target is ours */
	virtio_config_write(rig.d, 12, actual, 4); /* the poison was not negotiated */
	virtio_config_write(rig.d, UINT32_MAX, actual, 4);
	pthread_mutex_unlock(&rig.d->lock);
	assert_int_equal(ld_le32(b), 5u << 8);
	assert_int_equal(virtio_balloon_actual(rig.d), 77u << 12);
	pthread_mutex_lock(&rig.d->lock);
	virtio_config_read(rig.d, 0, b, 16);
	pthread_mutex_unlock(&rig.d->lock);
	assert_int_equal(ld_le32(b), 5u << 8);
	assert_int_equal(ld_le32(b + 12), 0);
	rig_fini(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(features_can_be_left_away),
		cmocka_unit_test(test_rng_split),
		cmocka_unit_test(test_rng_packed),
		cmocka_unit_test(test_rng_rate),
		cmocka_unit_test(test_inflate),
		cmocka_unit_test(test_reporting),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_inflate_huge),
		cmocka_unit_test(test_target),
		cmocka_unit_test(test_reporting_on_queue_four),
		cmocka_unit_test(test_poisoned_pages_stay),
		cmocka_unit_test(test_memory_goes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
