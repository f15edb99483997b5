/* See board.h. */
#include "board.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/pc.h"

void board_init(struct board *b)
{
	const struct mem_slot_config ram = { .name = "ram", .base = gpa(0), .size = BOARD_RAM, .fd = -1 };
	struct err err;

	memset(b, 0, sizeof(*b));
	b->loop = loop_new(&err);
	assert_non_null(b->loop);
	b->clock = clock_new(b->loop, CLOCK_SOURCE_ICOUNT, &err);
	assert_non_null(b->clock);
	clock_set_wall_base(b->clock, BOARD_EPOCH * S);
	clock_start(b->clock);
	b->mem = mem_space_new();
	assert_int_equal(mem_add_slot(b->mem, &ram, &err), 0);
	b->bus = bus_new();
	assert_non_null(b->bus);
}

void board_fini(struct board *b)
{
	for (struct device *d = b->devices, *next; d; d = next) {
		next = d->next;
		if (d->destroy)
			d->destroy(d->self);
	}
	if (b->chip)
		irqchip_free(b->chip);
	pci_bus_free(b->pci);
	bus_free(b->bus);
	mem_space_free(b->mem);
	clock_free(b->clock);
	loop_free(b->loop);
}

struct device *board_add(struct board *b, struct device *d)
{
	struct device **at = &b->devices;

	assert_non_null(d);
	while (*at)
		at = &(*at)->next;
	*at = d;
	return d;
}

/* --- what is recorded --- */

static void set_line(void *opaque, unsigned n, bool level)
{
	struct board_line *l = &((struct board *)opaque)->line[n];

	if (level == l->level)
		return;
	l->level = level;
	if (level)
		l->rises++;
	else
		l->falls++;
}

struct irq_line board_line(struct board *b, unsigned n)
{
	return (struct irq_line){ set_line, b, n };
}

static void request(void *opaque, enum machine_request what, int status)
{
	struct board *b = opaque;

	b->requests++;
	b->request = what;
	b->status = status;
}

struct machine_control board_control(struct board *b)
{
	return (struct machine_control){ request, b };
}

static void send_msi(void *opaque, uint64_t addr, uint32_t data)
{
	struct board *b = opaque;

	if (b->msis < BOARD_MSIS) {
		b->msi[b->msis].addr = addr;
		b->msi[b->msis].data = data;
	}
	b->msis++;
}

void board_pci(struct board *b)
{
	const struct irq_line lines[4] = { board_line(b, 0), board_line(b, 1), board_line(b, 2), board_line(b, 3) };
	const struct msi_sink msi = { send_msi, b };

	b->pci = pci_bus_new(b->bus, lines, &msi);
	assert_non_null(b->pci);
}

static void signal_cpu(void *opaque, unsigned cpu, enum cpu_signal what, uint8_t vector)
{
	struct board_cpu *c = &((struct board *)opaque)->cpu[cpu];

	/* From any thread. */
	__atomic_fetch_add(&c->signals[what], 1, __ATOMIC_RELAXED);
	if (what == CPU_SIGNAL_SIPI)
		c->sipi_vector = vector;
}

void board_chip(struct board *b, unsigned cpus)
{
	const struct irqchip_config c = { .mem = b->mem, .clock = b->clock, .wiring = { signal_cpu, b }, .cpus = cpus };
	struct err err;
	int n;

	assert_true(cpus <= BOARD_CPUS);
	b->cpus = cpus;
	b->chip = irqchip_new(&c, &err);
	assert_non_null(b->chip);
	n = irqchip_devices(b->chip, b->bus, cpus, b->chip_devices, &err);
	assert_int_equal(n, 2 + cpus);
	for (int k = 0; k < n; k++)
		board_add(b, &b->chip_devices[k]);
}

/* --- time --- */

void board_step(struct board *b, int64_t ns)
{
	while (ns > 0) {
		int64_t next = clock_icount_next(b->clock), step = next < ns ? next : ns;

		clock_icount_advance(b->clock, step);
		ns -= step;
	}
	clock_icount_advance(b->clock, 0);
}

void board_reset(struct board *b)
{
	devices_reset(b->devices);
	if (b->pci)
		pci_bus_reset(b->pci);
	if (b->chip)
		irqchip_reset(b->chip);
}

/* --- accesses --- */

uint32_t board_in(struct board *b, uint16_t port, unsigned size)
{
	uint64_t v = 0;

	bus_read(b->bus, BUS_PORT, port, size, &v);
	return (uint32_t)v;
}

void board_out(struct board *b, uint16_t port, unsigned size, uint32_t val)
{
	bus_write(b->bus, BUS_PORT, port, size, val);
}

uint64_t board_read(struct board *b, uint64_t addr, unsigned size)
{
	uint64_t v = 0;

	bus_read(b->bus, BUS_MMIO, addr, size, &v);
	return v;
}

void board_write(struct board *b, uint64_t addr, unsigned size, uint64_t val)
{
	bus_write(b->bus, BUS_MMIO, addr, size, val);
}

/* --- saved state --- */

static char *save(const struct device *d, size_t *len)
{
	char *buf = NULL;
	FILE *f = open_memstream(&buf, len);
	struct err err;

	assert_non_null(f);
	assert_non_null(d->state);
	assert_int_equal(state_save(f, d->state, d->instance, d->self, &err), 0);
	fclose(f);
	return buf;
}

static int load(const struct device *d, char *buf, size_t len, struct err *err)
{
	FILE *f = fmemopen(buf, len, "r");
	int rc = state_load(f, d->state, d->instance, d->self, err);

	fclose(f);
	return rc;
}

static void same(const struct device *d, const char *a, size_t a_len, const char *b, size_t b_len)
{
	if (a_len == b_len && !memcmp(a, b, a_len))
		return;
	state_print(stderr, d->state, d->instance, d->self);
	fail_msg("%s %s does not save what it loaded", d->name, d->instance);
}

void board_migrate(struct board *from, struct board *to, void (*make)(struct board *b))
{
	struct device *t;

	board_init(to);
	clock_icount_advance(to->clock, clock_now_ns(from->clock));
	make(to);
	t = to->devices;
	for (struct device *d = from->devices; d; d = d->next, t = t->next) {
		size_t len, again_len;
		char *buf = save(d, &len), *again;
		struct err err;

		assert_non_null(t);
		if (load(t, buf, len, &err))
			fail_msg("%s: %s", d->name, err.msg);
		again = save(t, &again_len);
		same(t, buf, len, again, again_len);
		free(buf);
		free(again);
	}
	assert_null(t);
	for (t = to->devices; t; t = t->next)
		if (t->resume)
			t->resume(t->self);
}

#define CONTENT                                                                                                        \
	1024 /* bytes that are as many as this are the contents of a buffer, one of which is as good as another */
#define SAMPLE 61

/* Marks in `skip` the bytes of `text`, the state of `obj`, that need not be tried: most of what is in its buffers. */
static void skip_contents(const struct state_desc *desc, const uint8_t *obj, const char *text, size_t len, bool *skip)
{
	for (const struct state_field *f = desc->fields; f->type != STATE_END; f++) {
		const uint8_t *at = obj + f->offset;
		const char *found;

		for (uint32_t n = 0; f->type == STATE_STRUCT && !f->ref && n < f->count; n++)
			skip_contents(f->sub, at + (size_t)n * f->size, text, len, skip);
		if (f->type != STATE_U8 || f->count < CONTENT)
			continue;
		found = memmem(text, len, at, f->count);
		for (uint32_t n = 1; found && n + 1 < f->count; n++)
			skip[(size_t)(found - text) + n] = n % SAMPLE;
	}
	for (const struct state_desc *const *s = desc->subsections; s && *s; s++)
		skip_contents(*s, obj, text, len, skip);
}

void board_mutate(struct board *b, void (*use)(struct board *b))
{
	static const uint8_t change[] = { 0x01, 0x80, 0xff };

	for (struct device *d = b->devices; d; d = d->next) {
		size_t len, again_len;
		char *good = save(d, &len), *bad = malloc(len), *again;
		bool *skip = calloc(len, sizeof(*skip));
		struct err err;

		skip_contents(d->state, d->self, good, len, skip);
		for (size_t at = 0; at < len; at++) {
			for (size_t k = 0; k < sizeof(change) && !skip[at]; k++) {
				memcpy(bad, good, len);
				bad[at] ^= (char)change[k];
				if (!load(d, bad, len, &err) && use)
					use(b);
			}
		}
		for (size_t cut = 0; cut < len; cut += 7) {
			memcpy(bad, good, len);
			if (cut)
				assert_int_equal(load(d, bad, cut, &err), -1);
		}
		assert_int_equal(load(d, good, len, &err), 0);
		again = save(d, &again_len);
		same(d, good, len, again, again_len);
		free(good);
		free(bad);
		free(again);
		free(skip);
	}
}
