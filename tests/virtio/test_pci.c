/* The virtio-pci transport at its registers, as a driver finds them through the capabilities. */
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

#define RAM   (1u << 20)
#define DEVFN (5 << 3)
#define HOLE  0xc0000000u

/* struct virtio_pci_common_cfg */
enum {
	DF_SELECT = 0,
	DF = 4,
	GF_SELECT = 8,
	GF = 12,
	CONFIG_VECTOR = 16,
	NUM_QUEUES = 18,
	STATUS = 20,
	GENERATION = 21,
	Q_SELECT = 22,
	Q_SIZE = 24,
	Q_VECTOR = 26,
	Q_ENABLE = 28,
	Q_NOTIFY_OFF = 30,
	Q_DESC = 32,
	Q_DRIVER = 40,
	Q_DEVICE = 48
};
enum { S_ACK = 1, S_DRIVER = 2, S_DRIVER_OK = 4, S_FEATURES_OK = 8, S_NEEDS_RESET = 64, S_FAILED = 128 };
enum { CMD_MEM = 2, CMD_MASTER = 4, CMD_INTX_OFF = 0x400 };

static struct loop *loop;
static struct bus *bus;
static struct pci_bus *pci;
static struct mem_space *mem;
static struct toy *toy;
static struct device *dev;
static bool toy_gone;
static bool intx[4];
static unsigned messages;
static uint32_t last_message;
/* Found through the capabilities, by cfg_type: address and configuration offset */
static uint64_t place[6];
static uint8_t cap_at[6];
static uint32_t stride;

static void on_intx(void *opaque, unsigned n, bool level)
{
	intx[n] = level;
}

static void on_msi(void *opaque, uint64_t addr, uint32_t data)
{
	messages++;
	last_message = data;
}

/* --- an engine that rings doorbells by itself, if it is told to --- */

static bool takes;
static struct {
	uint64_t addr;
	const struct event *event;
} taken[TOY_QUEUES];
static unsigned taken_count;

static bool take_bell(void *opaque, const struct doorbell *d, bool on)
{
	unsigned n = 0;

	assert_true(!d->port && d->any && d->event->open);
	while (n < taken_count && taken[n].addr != d->addr)
		n++;
	if (on && takes) {
		/* Never twice, nor more than there are. */
		assert_true(n == taken_count && n < TOY_QUEUES);
		taken[n].addr = d->addr;
		taken[n].event = d->event;
		taken_count++;
	} else if (!on) {
		assert_true(n < taken_count && taken[n].event == d->event);
		taken[n] = taken[--taken_count];
	}
	return takes;
}

/* A guest's write: the device must not see it before its loop runs. */
static bool ring_by_eventfd(uint64_t addr)
{
	for (unsigned n = 0; n < taken_count; n++)
		if (taken[n].addr == addr)
			return event_add(taken[n].event), true;
	return false;
}

static void stop_loop(void *opaque)
{
	loop_quit(loop);
}

static void run_loop(void)
{
	loop_post(loop, stop_loop, NULL);
	loop_run(loop);
}

/* --- access --- */

static uint32_t cfg(uint8_t off, unsigned size)
{
	return pci_config_read(pci, DEVFN, off, size);
}

static void set_cfg(uint8_t off, unsigned size, uint32_t v)
{
	pci_config_write(pci, DEVFN, off, size, v);
}

static uint64_t get(unsigned type, unsigned off, unsigned size)
{
	uint64_t v = 0;

	assert_true(bus_read(bus, BUS_MMIO, place[type] + off, size, &v));
	return v;
}

static void set(unsigned type, unsigned off, unsigned size, uint64_t v)
{
	assert_true(bus_write(bus, BUS_MMIO, place[type] + off, size, v));
}

#define COMMON(off, size)    get(1, off, size)
#define PUT(off, size, v)    set(1, off, size, v)
#define NOTIFY(q, size, val) set(2, (q)*stride, size, val)

static void look_at_caps(void)
{
	uint8_t at = cfg(0x34, 1);

	assert_true(cfg(6, 2) & 0x10);
	memset(place, 0, sizeof(place));
	for (; at; at = cfg(at + 1, 1)) {
		uint8_t type = cfg(at + 3, 1), bar = cfg(at + 4, 1);

		if (cfg(at, 1) != 9)
			continue;
		assert_true(type >= 1 && type <= 5);
		assert_int_equal(cap_at[type], 0); /* one of each */
		cap_at[type] = at;
		if (type == 5) {
			assert_int_equal(cfg(at + 2, 1), 20);
			continue;
		}
		place[type] = (cfg(0x10 + 4 * bar, 4) & ~15u) + cfg(at + 8, 4);
		if (type == 2)
			stride = cfg(at + 16, 4);
		assert_int_equal(cfg(at + 2, 1), type == 2 ? 20 : 16);
	}
}

static int begin(void **state)
{
	const struct mem_slot_config ram = { .name = "ram", .base = gpa(0), .size = RAM };
	const struct msi_sink sink = { on_msi, NULL };
	struct irq_line lines[4];
	struct virtio_pci_config c;
	struct err err;

	mem = mem_space_new();
	assert_int_equal(mem_add_slot(mem, &ram, &err), 0);
	for (unsigned n = 0; n < 4; n++)
		lines[n] = (struct irq_line){ on_intx, NULL, n };
	loop = loop_new(&err);
	bus = bus_new();
	takes = false;
	bus_offer_doorbells(bus, take_bell, NULL);
	pci = pci_bus_new(bus, lines, &sink);
	messages = 0;
	toy_gone = false;
	memset(cap_at, 0, sizeof(cap_at));
	toy = toy_new(mem, &toy_gone);
	toy->d.loop = loop;
	c = (struct virtio_pci_config){ bus, pci, DEVFN };
	dev = virtio_pci_new(&toy->d, &c, &err);
	assert_non_null(dev);
	assert_int_equal(pci_assign_resources(pci, 0xc000, HOLE, 0xfe000000, 1ull << 40, &err), 0);
	look_at_caps();
	assert_true(toy->d.no_memory);
	set_cfg(4, 2, cfg(4, 2) | CMD_MASTER);
	assert_false(toy->d.no_memory);
	return 0;
}

static int end(void **state)
{
	dev->destroy(dev->self);
	assert_true(toy_gone);
	assert_int_equal(taken_count, 0);
	loop_free(loop);
	pci_bus_free(pci);
	bus_free(bus);
	mem_space_free(mem);
	for (unsigned n = 0; n < 4; n++)
		assert_false(intx[n]);
	return 0;
}

/* Up to FEATURES_OK, or as far as the device lets it. */
static void agree(uint64_t features)
{
	PUT(STATUS, 1, 0);
	PUT(STATUS, 1, S_ACK);
	PUT(STATUS, 1, S_ACK | S_DRIVER);
	PUT(GF_SELECT, 4, 0);
	PUT(GF, 4, (uint32_t)features);
	PUT(GF_SELECT, 4, 1);
	PUT(GF, 4, features >> 32);
	PUT(STATUS, 1, S_ACK | S_DRIVER | S_FEATURES_OK);
}

static void setup_queue(unsigned q)
{
	PUT(Q_SELECT, 2, q);
	PUT(Q_SIZE, 2, 16);
	PUT(Q_DESC, 8, 0x1000 + 0x1000 * q);
	PUT(Q_DRIVER, 4, 0x1800 + 0x1000 * q);
	PUT(Q_DRIVER + 4, 4, 0);
	PUT(Q_DEVICE, 4, 0x1a00 + 0x1000 * q);
	PUT(Q_DEVICE + 4, 4, 0);
	PUT(Q_ENABLE, 2, 1);
}

#define V1 (1ull << VIRTIO_F_VERSION_1)

static void start(void)
{
	assert_true(mem_fill(mem, gpa(0), 0, RAM));
	agree(V1);
	assert_int_equal(COMMON(STATUS, 1), S_ACK | S_DRIVER | S_FEATURES_OK);
	for (unsigned q = 0; q < TOY_QUEUES; q++)
		setup_queue(q);
	PUT(STATUS, 1, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	assert_int_equal(COMMON(STATUS, 1), S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
}

static void put16(uint64_t at, uint16_t v)
{
	uint8_t b[2];

	st_le16(b, v);
	assert_true(mem_write(mem, gpa(at), b, 2));
}

/* One buffer in queue q, the n-th since the start. */
static void offer(unsigned q, uint16_t n)
{
	uint64_t base = 0x1000 + 0x1000 * q;
	uint8_t desc[16] = { 0 };

	st_le64(desc, 0x8000);
	st_le32(desc + 8, 16);
	assert_true(mem_write(mem, gpa(base), desc, 16));
	put16(base + 0x802, n);
}

/* --- identity --- */

static void test_identity(void **state)
{
	assert_int_equal(cfg(0, 2), 0x1af4);
	assert_int_equal(cfg(2, 2), 0x1040 + 42); /* modern; 0x1000 to 0x103f would be transitional */
	assert_true(cfg(8, 1) >= 1);
	assert_true(cfg(0x2e, 2) >= 0x40);
	assert_int_equal(cfg(0x3d, 1), 1);
	for (unsigned type = 1; type <= 5; type++)
		assert_true(cap_at[type]);
	assert_int_equal(place[1] & 3, 0);
	assert_int_equal(place[2] & 1, 0);
	assert_int_equal(place[4] & 3, 0);
	assert_true(stride >= 2 && !(stride & (stride - 1)));
	assert_true(cfg(cap_at[1] + 12, 4) >= 56);
	assert_true(cfg(cap_at[2] + 12, 4) >= stride * (TOY_QUEUES - 1) + 2);
	assert_true(cfg(cap_at[3] + 12, 4) >= 1);
	assert_true(cfg(cap_at[4] + 12, 4) >= TOY_CONFIG);
	assert_int_equal(COMMON(NUM_QUEUES, 2), TOY_QUEUES);
	/* What the capabilities say cannot be changed, but for the window. */
	for (unsigned type = 1; type <= 4; type++) {
		uint32_t bar = cfg(cap_at[type] + 4, 1), off = cfg(cap_at[type] + 8, 4);

		set_cfg(cap_at[type] + 4, 1, 0x55);
		set_cfg(cap_at[type] + 8, 4, 0x55555555);
		assert_int_equal(cfg(cap_at[type] + 4, 1), bar);
		assert_int_equal(cfg(cap_at[type] + 8, 4), off);
	}
}

/* --- features and status --- */

static uint64_t offered(void)
{
	uint64_t v;

	PUT(DF_SELECT, 4, 1);
	v = COMMON(DF, 4) << 32;
	PUT(DF_SELECT, 4, 0);
	return v | COMMON(DF, 4);
}

static void test_features(void **state)
{
	uint64_t all = offered();

	assert_true(all & V1);
	assert_true(all & 1u << TOY_FEATURE);
	assert_false(all & 1u << 4);
	PUT(DF_SELECT, 4, 2);
	assert_int_equal(COMMON(DF, 4), 0);
	PUT(DF_SELECT, 4, UINT32_MAX);
	assert_int_equal(COMMON(DF, 4), 0);

	agree(all);
	assert_true(COMMON(STATUS, 1) & S_FEATURES_OK);
	agree(V1 | 1u << 4); /* not offered */
	assert_false(COMMON(STATUS, 1) & S_FEATURES_OK);
	agree(1u << TOY_FEATURE); /* a legacy driver */
	assert_false(COMMON(STATUS, 1) & S_FEATURES_OK);
	agree(V1 | 1u << TOY_DEPENDENT); /* without what it needs */
	assert_false(COMMON(STATUS, 1) & S_FEATURES_OK);
	/* The driver may try again with fewer. */
	PUT(GF_SELECT, 4, 0);
	PUT(GF, 4, 0);
	PUT(STATUS, 1, S_ACK | S_DRIVER | S_FEATURES_OK);
	assert_true(COMMON(STATUS, 1) & S_FEATURES_OK);
	/* Agreed is agreed. */
	PUT(GF, 4, 1u << TOY_FEATURE);
	assert_int_equal(COMMON(GF, 4), 0);
	assert_int_equal(toy->d.features, V1);
	PUT(GF_SELECT, 4, 1);
	assert_int_equal(COMMON(GF, 4), 1);
	PUT(GF_SELECT, 4, 2);
	assert_int_equal(COMMON(GF, 4), 0);
}

static void test_status(void **state)
{
	agree(1u << 4);
	PUT(STATUS, 1, S_ACK | S_DRIVER | S_DRIVER_OK); /* no features agreed */
	assert_int_equal(COMMON(STATUS, 1), S_ACK | S_DRIVER);
	assert_int_equal(toy->activations, 0);
	agree(V1);
	PUT(STATUS, 1, S_DRIVER_OK); /* a bit at a time will do */
	assert_int_equal(COMMON(STATUS, 1), S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	assert_int_equal(toy->activations, 1);
	PUT(STATUS, 1, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	assert_int_equal(toy->activations, 1);
	PUT(STATUS, 1, S_ACK); /* bits only go with a reset */
	assert_int_equal(COMMON(STATUS, 1), S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	PUT(STATUS, 1, 0xff); /* the driver cannot say that the device needs a reset */
	assert_int_equal(COMMON(STATUS, 1), S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK | S_FAILED);
}

static void test_reset_restores_everything(void **state)
{
	unsigned resets;

	start();
	PUT(CONFIG_VECTOR, 2, 1);
	PUT(Q_SELECT, 2, 1);
	PUT(Q_VECTOR, 2, 1);
	PUT(DF_SELECT, 4, 1);
	resets = toy->resets;
	PUT(STATUS, 1, 0);
	assert_int_equal(toy->resets, resets + 1);
	assert_int_equal(COMMON(STATUS, 1), 0);
	assert_int_equal(COMMON(Q_SELECT, 2), 0);
	assert_int_equal(COMMON(DF_SELECT, 4), 0);
	assert_int_equal(COMMON(GF_SELECT, 4), 0);
	assert_int_equal(COMMON(CONFIG_VECTOR, 2), 0xffff);
	for (unsigned q = 0; q < TOY_QUEUES; q++) {
		PUT(Q_SELECT, 2, q);
		assert_int_equal(COMMON(Q_SIZE, 2), TOY_QUEUE_SIZE);
		assert_int_equal(COMMON(Q_VECTOR, 2), 0xffff);
		assert_int_equal(COMMON(Q_ENABLE, 2), 0);
		assert_true(COMMON(Q_DESC, 8) == 0 && COMMON(Q_DRIVER, 8) == 0 && COMMON(Q_DEVICE, 8) == 0);
	}
	NOTIFY(0, 2, 0);
	assert_int_equal(toy->kicks[0], 0);
}

/* --- queues --- */

static void test_queue_registers(void **state)
{
	agree(V1);
	PUT(Q_SELECT, 2, 1);
	assert_int_equal(COMMON(Q_SIZE, 2), TOY_QUEUE_SIZE);
	assert_int_equal(COMMON(Q_NOTIFY_OFF, 2), 1);
	PUT(Q_SIZE, 2, 32);
	assert_int_equal(COMMON(Q_SIZE, 2), 32);
	PUT(Q_SIZE, 2, 24);
	PUT(Q_SIZE, 2, 0);
	PUT(Q_SIZE, 2, 128);
	PUT(Q_SIZE, 2, 0xffff);
	assert_int_equal(COMMON(Q_SIZE, 2), 32);
	PUT(Q_DESC, 4, 0x11111111);
	PUT(Q_DESC + 4, 4, 0x22222222);
	assert_true(COMMON(Q_DESC, 8) == 0x2222222211111111ull);
	PUT(Q_DEVICE, 8, 0x0123456789abcdefull);
	assert_int_equal(COMMON(Q_DEVICE, 4), 0x89abcdef);
	assert_int_equal(COMMON(Q_DEVICE + 4, 4), 0x01234567);
	PUT(Q_SELECT, 2, 0);
	assert_true(COMMON(Q_DESC, 8) == 0); /* the other queue's */
	PUT(Q_ENABLE, 2, 0);
	assert_int_equal(COMMON(Q_ENABLE, 2), 0);
	PUT(Q_ENABLE, 2, 7);
	assert_int_equal(COMMON(Q_ENABLE, 2), 0);
	PUT(Q_ENABLE, 2, 1);
	PUT(Q_ENABLE, 2, 0);
	assert_int_equal(COMMON(Q_ENABLE, 2), 1);
	/* A queue that is not there. */
	for (unsigned q = TOY_QUEUES; q < 0x10000; q = q * 2 + 1) {
		PUT(Q_SELECT, 2, q);
		assert_int_equal(COMMON(Q_SELECT, 2), q);
		PUT(Q_SIZE, 2, 16);
		PUT(Q_ENABLE, 2, 1);
		PUT(Q_VECTOR, 2, 0);
		PUT(Q_DESC, 8, 0x1000);
		assert_int_equal(COMMON(Q_SIZE, 2), 0);
		assert_int_equal(COMMON(Q_ENABLE, 2), 0);
		assert_true(COMMON(Q_DESC, 8) == 0);
	}
}

/* A packed ring may have any size. */
static void test_packed_queue_size(void **state)
{
	agree(V1 | 1ull << VIRTIO_F_RING_PACKED);
	PUT(Q_SIZE, 2, 24);
	assert_int_equal(COMMON(Q_SIZE, 2), 24);
	PUT(Q_SIZE, 2, TOY_QUEUE_SIZE + 1);
	assert_int_equal(COMMON(Q_SIZE, 2), 24);
}

static void test_frozen_while_running(void **state)
{
	start();
	PUT(Q_SELECT, 2, 1);
	PUT(Q_SIZE, 2, 64);
	assert_int_equal(COMMON(Q_SIZE, 2), 16);
	PUT(Q_DESC, 8, 0x5000);
	assert_int_equal(COMMON(Q_DESC, 8), 0x2000);
	PUT(Q_DRIVER, 4, 0x5000);
	assert_int_equal(COMMON(Q_DRIVER, 8), 0x2800);
	PUT(Q_DEVICE + 4, 4, 0x5000);
	assert_int_equal(COMMON(Q_DEVICE, 8), 0x2a00);
	PUT(Q_VECTOR, 2, 2); /* where interrupts go may change */
	assert_int_equal(COMMON(Q_VECTOR, 2), 2);
	PUT(GF_SELECT, 4, 0);
	PUT(GF, 4, 1u << TOY_FEATURE);
	assert_false(virtio_has_feature(&toy->d, TOY_FEATURE));
}

/* A ring that cannot be: the device says so, and lives. */
static void test_impossible_ring(void **state)
{
	agree(V1);
	setup_queue(0);
	PUT(Q_DESC, 8, RAM - 16); /* beyond memory */
	PUT(CONFIG_VECTOR, 2, 0);
	PUT(STATUS, 1, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	assert_true(COMMON(STATUS, 1) & S_NEEDS_RESET);
	assert_true(get(3, 0, 1) & 2);
	NOTIFY(0, 2, 0);
	assert_int_equal(toy->kicks[0], 0);
	start();
	offer(0, 1);
	NOTIFY(0, 2, 0);
	assert_int_equal(toy->kicks[0], 1);
}

/* A chain that cannot be, in a running device. */
static void test_lie(void **state)
{
	start();
	put16(0x1000 + 0x802, 999);
	NOTIFY(0, 2, 0);
	assert_true(COMMON(STATUS, 1) & S_NEEDS_RESET);
	assert_int_equal(get(3, 0, 1) & 2, 2);
	offer(1, 1);
	NOTIFY(1, 2, 1);
	assert_int_equal(toy->kicks[1], 0); /* all of it stands still */
	start();
	offer(1, 1);
	NOTIFY(1, 2, 1);
	assert_int_equal(toy->kicks[1], 1);
}

/* --- notifications --- */

static void test_notifications(void **state)
{
	uint64_t v;

	NOTIFY(0, 2, 0);
	assert_int_equal(toy->kicks[0], 0); /* nothing runs */
	start();
	NOTIFY(0, 2, 0);
	NOTIFY(2, 2, 2);
	assert_true(toy->kicks[0] == 1 && toy->kicks[1] == 0 && toy->kicks[2] == 1);
	/* Any size and value: the place says which. */
	NOTIFY(1, 4, 1);
	NOTIFY(1, 1, 1);
	NOTIFY(1, 2, 0xffff);
	assert_int_equal(toy->kicks[1], 3);
	NOTIFY(TOY_QUEUES, 2, TOY_QUEUES);
	NOTIFY(900, 2, 900);
	assert_int_equal(get(2, 0, 2), 0);

	/* The doorbells move with their BAR, and end with memory decoding. */
	uint32_t bar = 0x10 + 4 * cfg(cap_at[2] + 4, 1);
	set_cfg(bar, 4, 0xd0000000);
	assert_false(bus_write(bus, BUS_MMIO, place[2], 2, 0));
	place[2] = 0xd0000000;
	NOTIFY(0, 2, 0);
	assert_int_equal(toy->kicks[0], 2);
	set_cfg(4, 2, CMD_MASTER);
	assert_false(bus_write(bus, BUS_MMIO, place[2], 2, 0));
	assert_false(bus_read(bus, BUS_MMIO, place[1], 4, &v));
	assert_int_equal(toy->kicks[0], 2);
	set_cfg(4, 2, CMD_MASTER | CMD_MEM);
	assert_int_equal(toy->kicks[0], 2);
	NOTIFY(0, 2, 0);
	assert_int_equal(toy->kicks[0], 3);
}

static void move_bells(uint64_t at)
{
	set_cfg(0x10 + 4 * cfg(cap_at[2] + 4, 1), 4, at);
	place[2] = at;
}

/* Kicks that an eventfd counts, which a loop looks at. */
static void test_bells_by_eventfd(void **state)
{
	takes = true;
	assert_false(ring_by_eventfd(place[2]));
	start();
	assert_int_equal(taken_count, TOY_QUEUES);
	offer(1, 1);
	assert_true(ring_by_eventfd(place[2] + stride));
	assert_true(ring_by_eventfd(place[2] + stride));
	assert_int_equal(toy->kicks[1], 0);
	run_loop();
	assert_int_equal(toy->kicks[1], 1);
	run_loop();
	assert_true(toy->kicks[0] == 0 && toy->kicks[1] == 1);
	/* They move with their BAR. */
	move_bells(0xd0000000);
	assert_int_equal(taken_count, TOY_QUEUES);
	assert_true(ring_by_eventfd(0xd0000000));
	run_loop();
	assert_int_equal(toy->kicks[0], 1);
	/* What was rung before a reset, a pause or the end of memory decoding is heard by nobody. */
	assert_true(ring_by_eventfd(place[2]));
	PUT(STATUS, 1, 0);
	assert_int_equal(taken_count, 0);
	run_loop();
	start();
	assert_true(ring_by_eventfd(place[2]));
	dev->drain(dev->self);
	run_loop();
	assert_int_equal(toy->kicks[0], 1);
	dev->resume(dev->self); /* which looks at all queues */
	assert_int_equal(toy->kicks[0], 2);
	assert_true(ring_by_eventfd(place[2]));
	set_cfg(4, 2, CMD_MASTER);
	assert_int_equal(taken_count, 0);
}

static void test_bells_move_for_ever(void **state)
{
	takes = true;
	start();
	for (unsigned n = 0; n < 5000; n++) {
		move_bells(0xd0000000 + 0x1000 * (n % 5));
		if (n % 7 == 0)
			set_cfg(4, 2, CMD_MASTER | (n & 1 ? CMD_MEM : 0));
		if (n % 11 == 0)
			set_cfg(4, 2, CMD_MASTER | CMD_MEM);
		if (n % 13 == 0)
			ring_by_eventfd(place[2] + stride);
		if (n % 101 == 0)
			run_loop();
	}
	set_cfg(4, 2, CMD_MASTER | CMD_MEM);
	run_loop();
	toy->kicks[2] = 0;
	assert_int_equal(taken_count, TOY_QUEUES);
	assert_true(ring_by_eventfd(place[2] + 2 * stride));
	run_loop();
	assert_int_equal(toy->kicks[2], 1);
}

/* Without the right to use memory the device does not. */
static void test_bus_master(void **state)
{
	uint8_t used[4];

	start();
	set_cfg(4, 2, CMD_MEM);
	assert_true(toy->drains == 1 && toy->resumes == 1); /* what was going on has ended */
	offer(0, 1);
	NOTIFY(0, 2, 0);
	assert_int_equal(toy->kicks[0], 0);
	assert_true(mem_read(mem, gpa(0x1a00), used, 4));
	assert_int_equal(ld_le16(used + 2), 0);
	set_cfg(4, 2, CMD_MEM | CMD_MASTER); /* and looks again when it may */
	assert_int_equal(toy->kicks[0], 1);
	assert_true(mem_read(mem, gpa(0x1a00), used, 4));
	assert_int_equal(ld_le16(used + 2), 1);
}

/* --- interrupts --- */

static void enable_msix(bool on, bool masked)
{
	uint8_t at = cfg(0x34, 1);

	while (cfg(at, 1) != 0x11)
		at = cfg(at + 1, 1);
	set_cfg(at + 2, 2, (on ? 0x8000 : 0) | (masked ? 0x4000 : 0));
}

static void route(unsigned vector, uint32_t data)
{
	uint8_t at = cfg(0x34, 1);
	uint64_t table;

	while (cfg(at, 1) != 0x11)
		at = cfg(at + 1, 1);
	table = (cfg(0x10 + 4 * (cfg(at + 4, 4) & 7), 4) & ~15u) + (cfg(at + 4, 4) & ~7u);
	assert_true(bus_write(bus, BUS_MMIO, table + 16 * vector, 4, 0xfee00000));
	assert_true(bus_write(bus, BUS_MMIO, table + 16 * vector + 4, 4, 0));
	assert_true(bus_write(bus, BUS_MMIO, table + 16 * vector + 8, 4, data));
	assert_true(bus_write(bus, BUS_MMIO, table + 16 * vector + 12, 4, 0));
}

static void use_queue(unsigned q, uint16_t n)
{
	offer(q, n);
	NOTIFY(q, 2, q);
}

static void change_config(void)
{
	pthread_mutex_lock(&toy->d.lock);
	virtio_config_changed(&toy->d);
	pthread_mutex_unlock(&toy->d.lock);
}

static bool pin(void)
{
	return intx[(DEVFN >> 3) & 3];
}

static void test_intx(void **state)
{
	start();
	assert_false(pin());
	use_queue(0, 1);
	assert_true(pin());
	assert_true(cfg(6, 2) & 8);
	change_config();
	assert_int_equal(get(3, 0, 1), 3); /* reading acknowledges */
	assert_false(pin());
	assert_false(cfg(6, 2) & 8);
	assert_int_equal(get(3, 0, 1), 0);
	set_cfg(4, 2, cfg(4, 2) | CMD_INTX_OFF);
	use_queue(0, 2);
	assert_false(pin());
	assert_true(cfg(6, 2) & 8);
	set_cfg(4, 2, cfg(4, 2) & ~CMD_INTX_OFF);
	assert_true(pin());
	PUT(STATUS, 1, 0);
	assert_false(pin());
	assert_int_equal(get(3, 0, 1), 0);
	assert_int_equal(messages, 0);
}

static void test_msix(void **state)
{
	enable_msix(true, false);
	for (unsigned n = 0; n <= TOY_QUEUES; n++)
		route(n, 100 + n);
	start();
	/* A vector that does not exist is none. */
	PUT(Q_SELECT, 2, 0);
	PUT(Q_VECTOR, 2, TOY_QUEUES + 1);
	assert_int_equal(COMMON(Q_VECTOR, 2), 0xffff);
	PUT(CONFIG_VECTOR, 2, 0x1234);
	assert_int_equal(COMMON(CONFIG_VECTOR, 2), 0xffff);
	use_queue(0, 1);
	change_config();
	assert_int_equal(messages, 0);

	PUT(Q_VECTOR, 2, 2);
	PUT(CONFIG_VECTOR, 2, TOY_QUEUES);
	use_queue(0, 2);
	assert_true(messages == 1 && last_message == 102);
	change_config();
	assert_true(messages == 2 && last_message == 100 + TOY_QUEUES);
	assert_int_equal(get(3, 0, 1), 2); /* told here as well, but not for queues */
	PUT(Q_SELECT, 2, 1);
	PUT(Q_VECTOR, 2, 2); /* two queues may share */
	use_queue(1, 1);
	assert_true(messages == 3 && last_message == 102);
	assert_false(pin());

	/* Masked, it waits. */
	enable_msix(true, true);
	use_queue(1, 2);
	use_queue(1, 3);
	assert_int_equal(messages, 3);
	enable_msix(true, false);
	assert_int_equal(messages, 4);

	/* The pin takes no part while MSI-X is on, and all of it when it is off. */
	change_config();
	assert_false(pin());
	enable_msix(false, false);
	assert_true(pin());
	enable_msix(true, false);
	assert_false(pin());
	enable_msix(false, false);
	use_queue(2, 1);
	assert_int_equal(get(3, 0, 1), 3);
	assert_int_equal(messages, 5);
}

/* --- the device's configuration --- */

static void test_device_config(void **state)
{
	uint8_t before = COMMON(GENERATION, 1);

	for (unsigned size = 1; size <= 8; size *= 2) {
		for (unsigned off = 0; off < TOY_CONFIG + 8; off++) {
			uint64_t v = get(4, off, size);

			for (unsigned k = 0; k < size; k++)
				assert_int_equal(v >> 8 * k & 0xff, off + k < TOY_CONFIG ? 0xc0 + off + k : 0);
		}
	}
	assert_true(toy->config_reads > 0);
	assert_int_equal(COMMON(GENERATION, 1), before);
	change_config();
	assert_int_not_equal(COMMON(GENERATION, 1), before);
	assert_false(pin()); /* no driver yet */
	set(4, 4, 4, 0x04030201);
	assert_true(toy->written_at == 4 && toy->written_len == 4);
	assert_memory_equal(toy->written, "\1\2\3\4", 4);
	toy->written_len = 0;
	set(4, TOY_CONFIG - 4, 8, 0);
	set(4, TOY_CONFIG, 1, 0);
	set(4, 0xfff, 1, 0);
	assert_int_equal(toy->written_len, 0);
}

/* --- the window in the configuration space --- */

static void window(uint8_t bar, uint32_t off, uint32_t len)
{
	set_cfg(cap_at[5] + 4, 1, bar);
	set_cfg(cap_at[5] + 8, 4, off);
	set_cfg(cap_at[5] + 12, 4, len);
}

static void test_window(void **state)
{
	uint8_t bar = cfg(cap_at[1] + 4, 1), data = cap_at[5] + 16;
	uint32_t common = cfg(cap_at[1] + 8, 4), isr = cfg(cap_at[3] + 8, 4), device = cfg(cap_at[4] + 8, 4);

	set_cfg(4, 2, CMD_MASTER); /* the BARs themselves are out of reach */
	window(bar, common + NUM_QUEUES, 2);
	assert_int_equal(cfg(data, 2), TOY_QUEUES);
	assert_int_equal(cfg(cap_at[5] + 8, 4), common + NUM_QUEUES);
	window(bar, common + STATUS, 1);
	set_cfg(data, 1, S_ACK);
	set_cfg(data, 1, S_ACK | S_DRIVER);
	assert_int_equal(cfg(data, 1), S_ACK | S_DRIVER);
	assert_int_equal(toy->d.status, S_ACK | S_DRIVER);
	window(bar, device + 4, 4);
	assert_int_equal(cfg(data, 4), 0xc7c6c5c4);
	assert_int_equal(cfg(data + 2, 1), 0xc6);
	set_cfg(data, 4, 0x11223344);
	assert_memory_equal(toy->written, "\x44\x33\x22\x11", 4);
	assert_int_equal(toy->written_at, 4);

	/* What makes no sense does nothing. */
	const struct {
		uint8_t bar;
		uint32_t off, len;
	} bad[] = {
		{ bar, device + 4, 0 }, { bar, device + 4, 3 }, { bar, device + 4, 8 }, { bar, device + 4, UINT32_MAX },
		{ bar, device + 2, 4 }, { 3, device + 4, 4 },	{ 6, device + 4, 4 },	{ 255, device + 4, 4 },
		{ bar, 0xfffffffc, 4 }, { bar, 0x80000000, 4 }, { bar, UINT32_MAX, 1 }, { 1, 0, 1 },
	};
	toy->written_len = 0;
	for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
		window(bad[k].bar, bad[k].off, bad[k].len);
		set_cfg(data, 4, 0x5a5a5a5a);
		assert_int_equal(cfg(data, 4), 0x5a5a5a5a);
	}
	assert_int_equal(toy->written_len, 0);

	set_cfg(4, 2, CMD_MASTER | CMD_MEM);
	start();
	use_queue(0, 1);
	window(bar, isr, 1);
	assert_int_equal(cfg(data, 1), 1);
	assert_false(pin());
	window(cfg(cap_at[2] + 4, 1), cfg(cap_at[2] + 8, 4) + stride, 2);
	set_cfg(data, 2, 1);
	assert_int_equal(toy->kicks[1], 1);
}

/* --- saved state --- */

static void test_save(void **state)
{
	char *image;
	size_t len;
	struct err err;
	FILE *f = open_memstream(&image, &len);

	enable_msix(true, false);
	route(1, 101);
	start();
	PUT(Q_SELECT, 2, 1);
	PUT(Q_VECTOR, 2, 1);
	use_queue(1, 1);
	assert_int_equal(messages, 1);
	dev->drain(dev->self);
	assert_int_equal(state_save(f, dev->state, "x", dev->self, &err), 0);
	fclose(f);
	dev->destroy(dev->self);

	/* Into a device that has just been made. */
	struct virtio_pci_config c = { bus, pci, DEVFN };
	toy = toy_new(mem, &toy_gone);
	dev = virtio_pci_new(&toy->d, &c, &err);
	assert_non_null(dev);
	f = fmemopen(image, len, "r");
	assert_int_equal(state_load(f, dev->state, "x", dev->self, &err), 0);
	fclose(f);
	offer(1, 2);
	assert_int_equal(messages, 1);
	dev->resume(dev->self);
	assert_int_equal(toy->activations, 1);
	assert_int_equal(messages, 2); /* what came meanwhile is seen */
	assert_int_equal(last_message, 101);
	use_queue(1, 3);
	assert_int_equal(messages, 3);
	assert_int_equal(COMMON(Q_SELECT, 2), 1);

	/* Each byte of it changed: refused, or a device that can be run. */
	for (size_t at = 0; at < len; at += 1 + at / 64) {
		dev->drain(dev->self);
		image[at] ^= 0x41;
		f = fmemopen(image, len, "r");
		if (!state_load(f, dev->state, "x", dev->self, &err))
			dev->resume(dev->self);
		fclose(f);
		image[at] ^= 0x41;
		for (unsigned q = 0; q < TOY_QUEUES; q++)
			virtio_kick(&toy->d, q);
	}
	free(image);
}

/* --- nonsense --- */

/* Any access to anything in any order: the device stays in one piece and can be started afterwards. */
static void test_random_accesses(void **state)
{
	unsigned seed = 11, before;

	for (unsigned n = 0; n < 300000; n++) {
		unsigned size = 1u << rand_r(&seed) % 4, kind = rand_r(&seed) % 16;
		uint64_t v = (uint64_t)rand_r(&seed) << 32 ^ (uint64_t)rand_r(&seed) << 8 ^ rand_r(&seed);
		unsigned off = rand_r(&seed);

		if (rand_r(&seed) % 2)
			v &= 0xff;
		if (kind == 0)
			set_cfg(off, size > 4 ? 4 : size, v);
		else if (kind == 1)
			cfg(off, size > 4 ? 4 : size);
		else if (kind < 9)
			bus_write(bus, BUS_MMIO, place[1] + off % 64, size, v);
		else if (kind == 9)
			bus_write(bus, BUS_MMIO, HOLE + off % 0x8000, size, v);
		else if (kind == 10)
			bus_read(bus, BUS_MMIO, HOLE + off % 0x8000, size, &v);
		else if (kind == 11)
			bus_write(bus, BUS_MMIO, place[2] + off % 16, size, v);
		else if (kind == 12)
			put16(0x1000 + off % 0x3000, v);
		else if (kind == 13)
			change_config();
		if (n % 64 == 0) {
			set_cfg(4, 2, CMD_MEM | CMD_MASTER);
			for (unsigned b = 0; b < 3; b++)
				set_cfg(0x10 + 4 * b, 4, (HOLE & ~0xffffu) + 0x10000 * b);
			place[1] = (cfg(0x10 + 4 * cfg(cap_at[1] + 4, 1), 4) & ~15u) + cfg(cap_at[1] + 8, 4);
			place[2] = (cfg(0x10 + 4 * cfg(cap_at[2] + 4, 1), 4) & ~15u) + cfg(cap_at[2] + 8, 4);
			if (n % 256 == 0)
				start();
		}
	}
	set_cfg(4, 2, CMD_MEM | CMD_MASTER);
	for (unsigned b = 0; b < 3; b++)
		set_cfg(0x10 + 4 * b, 4, (HOLE & ~0xffffu) + 0x10000 * b);
	memset(cap_at, 0, sizeof(cap_at));
	look_at_caps();
	enable_msix(false, false);
	start();
	before = toy->kicks[1];
	use_queue(1, 1);
	assert_int_equal(toy->kicks[1], before + 1);
	assert_true(pin());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_features),
		TEST(test_status),
		TEST(test_reset_restores_everything),
		TEST(test_queue_registers),
		TEST(test_packed_queue_size),
		TEST(test_frozen_while_running),
		TEST(test_impossible_ring),
		TEST(test_lie),
		TEST(test_notifications),
		TEST(test_bells_by_eventfd),
		TEST(test_bells_move_for_ever),
		TEST(test_bus_master),
		TEST(test_intx),
		TEST(test_msix),
		TEST(test_device_config),
		TEST(test_window),
		TEST(test_save),
		TEST(test_random_accesses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
