/* The virtio-mmio transport at its registers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "toy.h"
#include "virtio/transport.h"

#define RAM  (1u << 20)
#define BASE 0xfeb00000u

/* virtio 1.2, 4.2.2 */
enum {
	MAGIC = 0x000,
	VERSION = 0x004,
	DEVICE_ID = 0x008,
	VENDOR_ID = 0x00c,
	DF = 0x010,
	DF_SELECT = 0x014,
	GF = 0x020,
	GF_SELECT = 0x024,
	Q_SELECT = 0x030,
	Q_NUM_MAX = 0x034,
	Q_NUM = 0x038,
	Q_READY = 0x044,
	Q_NOTIFY = 0x050,
	ISR = 0x060,
	ACK = 0x064,
	STATUS = 0x070,
	Q_DESC = 0x080,
	Q_DRIVER = 0x090,
	Q_DEVICE = 0x0a0,
	SHM_SELECT = 0x0ac,
	SHM_LEN = 0x0b0,
	SHM_BASE = 0x0b8,
	GENERATION = 0x0fc,
	CONFIG = 0x100
};
enum { S_ACK = 1, S_DRIVER = 2, S_DRIVER_OK = 4, S_FEATURES_OK = 8, S_NEEDS_RESET = 64 };
#define V1 (1ull << VIRTIO_F_VERSION_1)

static struct bus *bus;
static struct mem_space *mem;
static struct toy *toy;
static struct device *dev;
static bool toy_gone, line;

static void on_irq(void *opaque, unsigned n, bool level)
{
	line = level;
}

static struct device *make(void)
{
	const struct virtio_mmio_config c = { bus, BASE, { on_irq, NULL, 0 }, 3 };
	struct err err;

	toy = toy_new(mem, &toy_gone);
	return virtio_mmio_new(&toy->d, &c, &err);
}

static int begin(void **state)
{
	const struct mem_slot_config ram = { .name = "ram", .base = gpa(0), .size = RAM };
	struct err err;

	mem = mem_space_new();
	assert_int_equal(mem_add_slot(mem, &ram, &err), 0);
	bus = bus_new();
	toy_gone = line = false;
	dev = make();
	assert_non_null(dev);
	return 0;
}

static int end(void **state)
{
	uint64_t v;

	dev->destroy(dev->self);
	assert_true(toy_gone);
	assert_false(line);
	assert_false(bus_read(bus, BUS_MMIO, BASE, 4, &v));
	bus_free(bus);
	mem_space_free(mem);
	return 0;
}

static uint64_t get(unsigned off, unsigned size)
{
	uint64_t v = 0;

	assert_true(bus_read(bus, BUS_MMIO, BASE + off, size, &v));
	return v;
}

static void set(unsigned off, unsigned size, uint64_t v)
{
	assert_true(bus_write(bus, BUS_MMIO, BASE + off, size, v));
}

#define GET(off)    get(off, 4)
#define PUT(off, v) set(off, 4, v)

static void agree(uint64_t features)
{
	PUT(STATUS, 0);
	PUT(STATUS, S_ACK);
	PUT(STATUS, S_ACK | S_DRIVER);
	PUT(GF_SELECT, 0);
	PUT(GF, (uint32_t)features);
	PUT(GF_SELECT, 1);
	PUT(GF, features >> 32);
	PUT(STATUS, S_ACK | S_DRIVER | S_FEATURES_OK);
}

static void setup_queue(unsigned q)
{
	PUT(Q_SELECT, q);
	PUT(Q_NUM, 16);
	PUT(Q_DESC, 0x1000 + 0x1000 * q);
	PUT(Q_DESC + 4, 0);
	PUT(Q_DRIVER, 0x1800 + 0x1000 * q);
	PUT(Q_DRIVER + 4, 0);
	PUT(Q_DEVICE, 0x1a00 + 0x1000 * q);
	PUT(Q_DEVICE + 4, 0);
	PUT(Q_READY, 1);
}

static void start(void)
{
	assert_true(mem_fill(mem, gpa(0), 0, RAM));
	agree(V1);
	for (unsigned q = 0; q < TOY_QUEUES; q++)
		setup_queue(q);
	PUT(STATUS, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	assert_int_equal(GET(STATUS), S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
}

static void put16(uint64_t at, uint16_t v)
{
	uint8_t b[2];

	st_le16(b, v);
	assert_true(mem_write(mem, gpa(at), b, 2));
}

/* The n-th buffer of queue q since the start. */
static void offer(unsigned q, uint16_t n)
{
	uint64_t base = 0x1000 + 0x1000 * q;
	uint8_t desc[16] = { 0 };

	st_le64(desc, 0x8000);
	st_le32(desc + 8, 16);
	assert_true(mem_write(mem, gpa(base), desc, 16));
	put16(base + 0x802, n);
}

static void change_config(void)
{
	pthread_mutex_lock(&toy->d.lock);
	virtio_config_changed(&toy->d);
	pthread_mutex_unlock(&toy->d.lock);
}

static void test_identity(void **state)
{
	assert_int_equal(GET(MAGIC), 0x74726976);
	assert_int_equal(GET(VERSION), 2);
	assert_int_equal(GET(DEVICE_ID), 42);
	assert_true(GET(VENDOR_ID) != 0);
	/* No shared memory: a length of -1. */
	PUT(SHM_SELECT, 0);
	assert_int_equal(GET(SHM_LEN), UINT32_MAX);
	assert_int_equal(GET(SHM_LEN + 4), UINT32_MAX);
	assert_int_equal(GET(SHM_BASE), UINT32_MAX);
	assert_int_equal(GET(SHM_BASE + 4), UINT32_MAX);
	/* Registers are 32 bits wide. */
	assert_true(get(MAGIC, 2) == 0 && get(MAGIC, 1) == 0 && get(MAGIC, 8) == 0);
	set(STATUS, 1, S_ACK);
	assert_int_equal(GET(STATUS), 0);
	/* Registers that are only written read as nothing, and those that are only read stay. */
	assert_true(GET(Q_NUM) == 0 && GET(ACK) == 0 && GET(GF) == 0 && GET(Q_DESC) == 0 && GET(Q_NOTIFY) == 0);
	PUT(MAGIC, 0);
	PUT(VERSION, 1);
	PUT(DEVICE_ID, 1);
	assert_true(GET(MAGIC) == 0x74726976 && GET(VERSION) == 2 && GET(DEVICE_ID) == 42);
}

static void test_features(void **state)
{
	uint64_t all;

	PUT(DF_SELECT, 1);
	all = GET(DF) << 32;
	PUT(DF_SELECT, 0);
	all |= GET(DF);
	assert_true(all & V1 && all & 1u << TOY_FEATURE && !(all & 1u << 4));
	PUT(DF_SELECT, 2);
	assert_int_equal(GET(DF), 0);
	agree(all);
	assert_true(GET(STATUS) & S_FEATURES_OK);
	agree(V1 | 1u << 4);
	assert_false(GET(STATUS) & S_FEATURES_OK);
	agree(1u << TOY_FEATURE);
	assert_false(GET(STATUS) & S_FEATURES_OK);
	PUT(STATUS, GET(STATUS) | S_DRIVER_OK);
	assert_false(GET(STATUS) & S_DRIVER_OK);
	agree(V1);
	PUT(GF_SELECT, 0);
	PUT(GF, 1u << TOY_FEATURE);
	assert_int_equal(toy->d.features, V1);
}

static void test_queues(void **state)
{
	agree(V1);
	PUT(Q_SELECT, 1);
	assert_int_equal(GET(Q_NUM_MAX), TOY_QUEUE_SIZE);
	PUT(Q_NUM, 48);
	assert_int_equal(toy->d.queues[1].size, TOY_QUEUE_SIZE);
	PUT(Q_NUM, 32);
	assert_int_equal(toy->d.queues[1].size, 32);
	PUT(Q_DESC, 0x89abcdef);
	PUT(Q_DESC + 4, 0x01234567);
	assert_true(toy->d.queues[1].desc == 0x0123456789abcdefull);
	PUT(Q_READY, 1);
	assert_int_equal(GET(Q_READY), 1);
	PUT(Q_READY, 0); /* before DRIVER_OK it can be taken back */
	assert_int_equal(GET(Q_READY), 0);
	for (unsigned q = TOY_QUEUES; q; q <<= 4) {
		PUT(Q_SELECT, q);
		assert_int_equal(GET(Q_NUM_MAX), 0);
		PUT(Q_READY, 1);
		assert_int_equal(GET(Q_READY), 0);
		PUT(Q_DESC, 1);
	}
	start();
	PUT(Q_SELECT, 1);
	PUT(Q_READY, 0);
	PUT(Q_NUM, 8);
	PUT(Q_DESC, 0x7000);
	PUT(Q_DRIVER, 0x7000);
	PUT(Q_DEVICE, 0x7000);
	assert_int_equal(GET(Q_READY), 1);
	assert_true(toy->d.queues[1].size == 16 && toy->d.queues[1].desc == 0x2000 &&
		    toy->d.queues[1].driver == 0x2800 && toy->d.queues[1].device == 0x2a00);
	PUT(STATUS, 0);
	assert_int_equal(GET(STATUS), 0);
	PUT(Q_SELECT, 1);
	assert_int_equal(GET(Q_READY), 0);
	assert_true(toy->d.queues[1].desc == 0);
}

static void test_notifications_and_interrupts(void **state)
{
	PUT(Q_NOTIFY, 0);
	assert_int_equal(toy->kicks[0], 0);
	start();
	PUT(Q_NOTIFY, TOY_QUEUES);
	PUT(Q_NOTIFY, UINT32_MAX);
	set(Q_NOTIFY, 2, 1); /* registers are 32 bits wide */
	assert_true(!toy->kicks[0] && !toy->kicks[1] && !toy->kicks[2]);
	assert_false(line);
	offer(2, 1);
	PUT(Q_NOTIFY, 2);
	assert_int_equal(toy->kicks[2], 1);
	assert_true(line);
	assert_int_equal(GET(ISR), 1);
	assert_int_equal(GET(ISR), 1); /* reading does not acknowledge */
	change_config();
	assert_int_equal(GET(ISR), 3);
	PUT(ACK, 1);
	assert_true(line && GET(ISR) == 2);
	PUT(ACK, 4);
	assert_true(line);
	PUT(ACK, 2);
	assert_true(!line && GET(ISR) == 0);
	change_config();
	assert_true(line);
	PUT(STATUS, 0);
	assert_true(!line && GET(ISR) == 0);
}

static void test_lies(void **state)
{
	start();
	put16(0x1000 + 0x802, 999);
	PUT(Q_NOTIFY, 0);
	assert_true(GET(STATUS) & S_NEEDS_RESET);
	assert_int_equal(GET(ISR), 2);
	agree(V1);
	setup_queue(0);
	PUT(Q_DESC, 0x1008); /* not aligned */
	PUT(STATUS, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	assert_true(GET(STATUS) & S_NEEDS_RESET);
	start();
	offer(0, 1);
	PUT(Q_NOTIFY, 0);
	assert_int_equal(GET(ISR), 1);
}

static void test_config_space(void **state)
{
	uint32_t before = GET(GENERATION);

	for (unsigned size = 1; size <= 8; size *= 2) {
		for (unsigned off = 0; off < TOY_CONFIG + 8; off++) {
			uint64_t v = get(CONFIG + off, size);

			for (unsigned k = 0; k < size; k++)
				assert_int_equal(v >> 8 * k & 0xff, off + k < TOY_CONFIG ? 0xc0 + off + k : 0);
		}
	}
	assert_int_equal(GET(GENERATION), before);
	change_config();
	assert_int_not_equal(GET(GENERATION), before);
	set(CONFIG + 6, 2, 0x0201);
	assert_true(toy->written_at == 6 && toy->written_len == 2 && toy->written[0] == 1);
	toy->written_len = 0;
	set(CONFIG + TOY_CONFIG - 4, 8, 0);
	set(CONFIG + 0xff, 1, 0);
	assert_int_equal(toy->written_len, 0);
}

static void test_save(void **state)
{
	char *image;
	size_t len;
	struct err err;
	FILE *f = open_memstream(&image, &len);

	start();
	offer(1, 1);
	PUT(Q_NOTIFY, 1);
	dev->drain(dev->self);
	assert_int_equal(state_save(f, dev->state, "3", dev->self, &err), 0);
	fclose(f);
	dev->destroy(dev->self);
	line = false;
	dev = make();
	f = fmemopen(image, len, "r");
	assert_int_equal(state_load(f, dev->state, "3", dev->self, &err), 0);
	fclose(f);
	dev->resume(dev->self);
	assert_true(line); /* as it was */
	PUT(ACK, 3);
	offer(1, 2);
	PUT(Q_NOTIFY, 1);
	assert_int_equal(GET(ISR), 1);
	for (size_t at = 0; at < len; at += 1 + at / 64) {
		dev->drain(dev->self);
		image[at] ^= 0x41;
		f = fmemopen(image, len, "r");
		if (!state_load(f, dev->state, "3", dev->self, &err))
			dev->resume(dev->self);
		fclose(f);
		image[at] ^= 0x41;
	}
	free(image);
}

static void test_random_accesses(void **state)
{
	unsigned seed = 5;

	for (unsigned n = 0; n < 300000; n++) {
		unsigned size = 1u << rand_r(&seed) % 4, off = rand_r(&seed) % 0x140;
		uint64_t v = (uint64_t)rand_r(&seed) << 32 ^ rand_r(&seed);

		if (rand_r(&seed) % 2)
			v &= 0xff;
		if (rand_r(&seed) % 4)
			off &= ~3u;
		switch (rand_r(&seed) % 8) {
		case 0:
			bus_read(bus, BUS_MMIO, BASE + off, size, &v);
			break;
		case 1:
			put16(0x1000 + rand_r(&seed) % 0x3000, v);
			break;
		case 2:
			PUT(Q_NOTIFY, v & 3);
			break;
		case 3:
			if (n % 16 == 0)
				start();
			break;
		default:
			bus_write(bus, BUS_MMIO, BASE + off, size, v);
		}
	}
	start();
	offer(0, 1);
	PUT(Q_NOTIFY, 0);
	assert_int_equal(GET(ISR), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity), TEST(test_features),
		TEST(test_queues),   TEST(test_notifications_and_interrupts),
		TEST(test_lies),     TEST(test_config_space),
		TEST(test_save),     TEST(test_random_accesses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
