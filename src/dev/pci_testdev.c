/*
 * pci-testdev: see testdevs.h. Each BAR has three tests: writes that reach the device, and writes to a doorbell that
 * takes any value or one value only.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dev/testdevs.h"

#define MEM_SIZE     4096
#define IO_SIZE	     256
#define BAR_MEM	     0
#define BAR_IO	     1
#define TARGETS(bar) ((bar) == BAR_MEM ? 2048u : 128u) /* the first test's target; the others follow */
#define TESTS	     3
#define NO_TEST	     TESTS
#define SIGNATURE    0xfa

/* The header as the guest reads it. */
#define H_WIDTH	 1
#define H_OFFSET 4
#define H_DATA	 8
#define H_COUNT	 12
#define H_NAME	 16
#define H_SIZE	 48

struct test {
	uint8_t header[H_SIZE];
	_Atomic uint32_t count;
	struct bus_handle *bell;
};

struct side {
	unsigned bar;
	uint64_t bells_at; /* the address that the doorbells were made for; 0: none */
	uint8_t current;   /* selected test, or NO_TEST */
	struct test test[TESTS];
};

struct pci_testdev {
	struct device dev;
	pthread_mutex_t lock;
	struct pci_dev pci;
	struct bus *bus;
	struct side side[2];
};

static uint64_t side_read(void *opaque, uint64_t off, unsigned size)
{
	struct side *s = opaque;
	uint8_t b[H_SIZE + 8] = { 0 };

	if (s->current == NO_TEST || off >= H_SIZE)
		return 0;
	memcpy(b, s->test[s->current].header, H_SIZE);
	st_le32(b + H_COUNT, atomic_load(&s->test[s->current].count));
	return ld_le64(b + off) & size_mask(size);
}

static void side_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct side *s = opaque;

	if (off == 0) {
		s->current = val < TESTS ? (uint8_t)val : NO_TEST;
		if (s->current != NO_TEST)
			atomic_store(&s->test[s->current].count, 0);
	} else if (s->current != NO_TEST && off == ld_le32(s->test[s->current].header + H_OFFSET)) {
		/* With a doorbell this is a value that the doorbell did not take. */
		if (s->current == 0)
			atomic_fetch_add(&s->test[0].count, 1);
	}
}

static void on_bell(void *opaque)
{
	struct test *t = opaque;

	atomic_fetch_add(&t->count, 1);
}

/* Doorbells lie where the BARs are now. Lock not held by the bus here: configuration writes hold the bridge's. */
static void sync_bells(struct pci_testdev *t)
{
	struct err err;

	for (unsigned bar = 0; bar < 2; bar++) {
		struct side *s = &t->side[bar];
		uint64_t at = pci_bar_mapped(&t->pci, bar);

		for (unsigned n = 1; at != s->bells_at && n < TESTS; n++) {
			const struct bus_doorbell bell = {
				.at.port = bar == BAR_IO,
				.at.addr = at + TARGETS(bar) + n,
				.at.size = 1,
				.at.any = n == 1,
				.at.value = SIGNATURE,
				.fn = on_bell,
				.opaque = &s->test[n],
			};

			if (s->test[n].bell)
				bus_del(t->bus, s->test[n].bell);
			s->test[n].bell = at ? bus_add_doorbell(t->bus, &bell, &err) : NULL;
		}
		s->bells_at = at;
	}
}

static void config_written(struct pci_dev *d, uint8_t off, uint8_t len)
{
	sync_bells(container_of(d, struct pci_testdev, pci));
}

static const struct bus_ops side_ops = { side_read, side_write, { 1, 4 }, { 1, 4 } };

static void reset(void *self)
{
	struct pci_testdev *t = self;

	for (unsigned bar = 0; bar < 2; bar++) {
		t->side[bar].current = NO_TEST;
		for (unsigned n = 0; n < TESTS; n++)
			atomic_store(&t->side[bar].test[n].count, 0);
	}
}

static void resume(void *self)
{
	sync_bells(self);
}

static void destroy(void *self)
{
	struct pci_testdev *t = self;

	for (unsigned bar = 0; bar < 2; bar++)
		for (unsigned n = 0; n < TESTS; n++)
			if (t->side[bar].test[n].bell)
				bus_del(t->bus, t->side[bar].test[n].bell);
	pci_unregister(&t->pci);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static const struct state_field test_fields[] = {
	STATE_U32F(struct test, count),
	STATE_FIELD_END,
};
static const struct state_desc test_state = {
	.name = "pci-testdev-test", .version = 1, .min_version = 1, .fields = test_fields
};

static int side_loaded(void *obj, struct err *err)
{
	const struct side *s = obj;

	return s->current > NO_TEST ? err_set(err, "there is no test %u", s->current) : 0;
}

static const struct state_field side_fields[] = {
	STATE_U8F(struct side, current),
	STATE_SUBA(struct side, test, &test_state),
	STATE_FIELD_END,
};
static const struct state_desc side_state = {
	.name = "pci-testdev-side", .version = 1, .min_version = 1, .fields = side_fields, .post_load = side_loaded
};

static const struct state_field fields[] = {
	STATE_SUB(struct pci_testdev, pci, &pci_dev_state),
	STATE_SUBA(struct pci_testdev, side, &side_state),
	STATE_FIELD_END,
};
static const struct state_desc state = { .name = "pci-testdev", .version = 1, .min_version = 1, .fields = fields };

static void fill_headers(struct side *s)
{
	static const char *const kinds[TESTS] = { "no-eventfd", "wildcard-eventfd", "datamatch-eventfd" };

	for (unsigned n = 0; n < TESTS; n++) {
		struct test *t = &s->test[n];

		t->header[H_WIDTH] = 1;
		st_le32(t->header + H_OFFSET, TARGETS(s->bar) + n);
		st_le32(t->header + H_DATA, SIGNATURE);
		snprintf((char *)t->header + H_NAME, H_SIZE - H_NAME, "%s-%s", s->bar == BAR_MEM ? "mmio" : "portio",
			 kinds[n]);
	}
}

struct device *pci_testdev_new(struct bus *bus, struct pci_bus *pci, uint8_t devfn, struct err *err)
{
	struct pci_testdev *t = calloc(1, sizeof(*t));

	if (!t) {
		err_set(err, "out of memory");
		return NULL;
	}
	t->bus = bus;
	pthread_mutex_init(&t->lock, NULL);
	t->dev = (struct device){
		.name = "pci-testdev",
		.self = t,
		.state = &state,
		.lock = &t->lock,
		.reset = reset,
		.resume = resume,
		.destroy = destroy,
	};
	snprintf(t->dev.instance, sizeof(t->dev.instance), "00:%02x.0", devfn >> 3);
	pci_dev_init(&t->pci, "pci-testdev", &(struct pci_id){ 0x1b36, 5, 0x00ff0000, 0x1af4, 0x1100 }, &t->lock);
	t->pci.config_written = config_written;
	for (unsigned bar = 0; bar < 2; bar++) {
		struct bus_range range = { "pci-testdev", &side_ops, &t->side[bar], &t->lock };

		t->side[bar].bar = bar;
		fill_headers(&t->side[bar]);
		pci_set_bar(&t->pci, bar, bar == BAR_MEM ? PCI_BAR_MEM32 : PCI_BAR_IO, false,
			    bar == BAR_MEM ? MEM_SIZE : IO_SIZE, &range);
	}
	reset(t);
	if (pci_register(pci, &t->pci, devfn, err)) {
		pthread_mutex_destroy(&t->lock);
		free(t);
		return NULL;
	}
	return &t->dev;
}
