/* pc-testdev: see testdevs.h. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dev/testdevs.h"

#define PORT_ECHO	0xe0
#define PORT_FLUSH	0xe4
#define PORT_ECHO_BYTES 0xe8
#define PORT_LINES	0x2000
#define RAM_BASE	0xff000000u
#define RAM_SIZE	0x10000u

struct testdev {
	struct device dev;
	pthread_mutex_t lock;
	struct irq_line lines[PC_TESTDEV_LINES];
	uint8_t echo[4];
	uint32_t levels; /* a bit a line */
	uint8_t ram[RAM_SIZE];
};

/* Accesses are cut at the end of the range by the bus: `off` and `size` lie within it. */
static uint64_t load(const uint8_t *from, uint64_t off, unsigned size)
{
	uint8_t b[8] = { 0 };

	memcpy(b, from + off, size);
	return ld_le64(b);
}

static void store(uint8_t *to, uint64_t off, unsigned size, uint64_t val)
{
	uint8_t b[8];

	st_le64(b, val);
	memcpy(to + off, b, size);
}

static uint64_t echo_read(void *opaque, uint64_t off, unsigned size)
{
	struct testdev *t = opaque;

	return off + size <= sizeof(t->echo) ? load(t->echo, off, size) : size_mask(size);
}

static void echo_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct testdev *t = opaque;

	if (off + size <= sizeof(t->echo))
		store(t->echo, off, size, val);
}

/* For hypervisors that map guest pages into tables of their own; here nothing of a page outlives a change of it. */
static uint64_t flush_read(void *opaque, uint64_t off, unsigned size)
{
	return 0;
}

static void flush_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
}

static uint64_t lines_read(void *opaque, uint64_t off, unsigned size)
{
	return ((struct testdev *)opaque)->levels >> off & 1;
}

static void lines_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct testdev *t = opaque;
	uint32_t bit = 1u << off;

	t->levels = val ? t->levels | bit : t->levels & ~bit;
	irq_set(&t->lines[off], val != 0);
}

static uint64_t ram_read(void *opaque, uint64_t off, unsigned size)
{
	return off + size <= RAM_SIZE ? load(((struct testdev *)opaque)->ram, off, size) : size_mask(size);
}

static void ram_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	if (off + size <= RAM_SIZE)
		store(((struct testdev *)opaque)->ram, off, size, val);
}

static const struct bus_ops echo_ops = { echo_read, echo_write, { 1, 4 }, { 1, 4 } },
			    byte_ops = { echo_read, echo_write, { 1, 4 }, { 1, 1 } },
			    flush_ops = { flush_read, flush_write, { 4, 4 }, { 4, 4 } },
			    lines_ops = { lines_read, lines_write, { 1, 4 }, { 1, 1 } },
			    ram_ops = { ram_read, ram_write, { 1, 8 }, { 1, 8 } };

static const struct {
	enum bus_kind kind;
	uint32_t base, size;
	const struct bus_ops *ops;
} ranges[] = {
	{ BUS_PORT, PORT_ECHO, 4, &echo_ops },	     { BUS_PORT, PORT_FLUSH, 4, &flush_ops },
	{ BUS_PORT, PORT_ECHO_BYTES, 4, &byte_ops }, { BUS_PORT, PORT_LINES, PC_TESTDEV_LINES, &lines_ops },
	{ BUS_MMIO, RAM_BASE, RAM_SIZE, &ram_ops },
};

static void reset(void *self)
{
	struct testdev *t = self;

	for (unsigned n = 0; n < PC_TESTDEV_LINES; n++)
		if (t->levels >> n & 1)
			irq_set(&t->lines[n], false);
	t->levels = 0;
	memset(t->echo, 0, sizeof(t->echo));
	memset(t->ram, 0, sizeof(t->ram));
}

static void destroy(void *self)
{
	struct testdev *t = self;

	pthread_mutex_destroy(&t->lock);
	free(t);
}

static const struct state_field fields[] = {
	STATE_U8A(struct testdev, echo),
	STATE_U32F(struct testdev, levels),
	STATE_U8A(struct testdev, ram),
	STATE_FIELD_END,
};

static int post_load(void *obj, struct err *err)
{
	return ((struct testdev *)obj)->levels >> PC_TESTDEV_LINES
		       ? err_set(err, "there are only %d lines", PC_TESTDEV_LINES)
		       : 0;
}

static const struct state_desc state = {
	.name = "pc-testdev", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

struct device *pc_testdev_new(struct bus *bus, const struct irq_line lines[PC_TESTDEV_LINES], struct err *err)
{
	struct testdev *t = calloc(1, sizeof(*t));

	if (!t) {
		err_set(err, "out of memory");
		return NULL;
	}
	memcpy(t->lines, lines, sizeof(t->lines));
	pthread_mutex_init(&t->lock, NULL);
	t->dev = (struct device){
		.name = "pc-testdev",
		.instance = "0",
		.self = t,
		.state = &state,
		.lock = &t->lock,
		.reset = reset,
		.destroy = destroy,
	};
	for (size_t n = 0; n < ARRAY_LEN(ranges); n++) {
		struct bus_range range = { "pc-testdev", ranges[n].ops, t, &t->lock };

		if (!bus_add(bus, ranges[n].kind, ranges[n].base, ranges[n].size, &range, err)) {
			/* The machine is not going to be: the bus goes with it, and nobody runs yet. */
			destroy(t);
			return NULL;
		}
	}
	return &t->dev;
}
