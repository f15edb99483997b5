/* bus/bus.c: who is reached by which access, and changes while others access. */
#include "../dev/board.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* A range of bytes that notes each access it gets. */
struct memory {
	uint8_t byte[64];
	struct {
		uint64_t off;
		unsigned size;
		bool write;
		uint64_t val;
	} seen[16];
	unsigned n;
};

static uint64_t memory_read(void *opaque, uint64_t off, unsigned size)
{
	struct memory *m = opaque;
	uint64_t v = 0;

	if (m->n < 16) {
		m->seen[m->n].off = off;
		m->seen[m->n].size = size;
	}
	m->n++;
	memcpy(&v, m->byte + off, size);
	/* What lies above the size must not reach the guest. */
	return v | (size < 8 ? ~0ull << size * 8 : 0);
}

static void memory_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct memory *m = opaque;

	if (m->n < 16) {
		m->seen[m->n].off = off;
		m->seen[m->n].size = size;
		m->seen[m->n].write = true;
		m->seen[m->n].val = val;
	}
	m->n++;
	memcpy(m->byte + off, &val, size);
}

static const struct bus_ops any_ops = { memory_read, memory_write, { 0, 0 }, { 0, 0 } };
static const struct bus_ops byte_ops = { memory_read, memory_write, { 1, 8 }, { 1, 1 } };
static const struct bus_ops dword_ops = { memory_read, memory_write, { 1, 8 }, { 4, 4 } };
static const struct bus_ops only_dword_ops = { memory_read, memory_write, { 4, 4 }, { 4, 4 } };

static struct memory *fill(struct memory *m)
{
	memset(m, 0, sizeof(*m));
	for (unsigned k = 0; k < sizeof(m->byte); k++)
		m->byte[k] = (uint8_t)(0x10 + k);
	return m;
}

static struct bus_handle *put(struct bus *b, enum bus_kind kind, uint64_t base, uint64_t size,
			      const struct bus_ops *ops, struct memory *m)
{
	const struct bus_range r = { "memory", ops, fill(m), NULL };
	struct err err;

	return bus_add(b, kind, base, size, &r, &err);
}

static void nothing_there_reads_all_ones(void **state)
{
	struct bus *b = bus_new();
	uint64_t v;

	for (unsigned size = 1; size <= 8; size *= 2) {
		v = 0;
		assert_false(bus_read(b, BUS_MMIO, 0xd0000000, size, &v));
		assert_true(v == (size == 8 ? ~0ull : (1ull << size * 8) - 1));
		assert_false(bus_write(b, BUS_MMIO, 0xd0000000, size, 1));
	}
	for (unsigned size = 1; size <= 4; size *= 2) {
		v = 0;
		assert_false(bus_read(b, BUS_PORT, 0xffff, size, &v));
		assert_true(v == (1ull << size * 8) - 1);
		assert_false(bus_write(b, BUS_PORT, 0xffff, size, 1));
	}
	bus_free(b);
}

static void only_the_range_is_hit(void **state)
{
	struct bus *b = bus_new();
	struct memory low, high, port;
	uint64_t v;

	assert_non_null(put(b, BUS_MMIO, 0x1000, 0x20, &any_ops, &low));
	assert_non_null(put(b, BUS_MMIO, 0x1020, 0x10, &any_ops, &high));
	assert_non_null(put(b, BUS_PORT, 0x1000, 0x10, &any_ops, &port));
	assert_false(bus_read(b, BUS_MMIO, 0xfff, 1, &v));
	assert_true(bus_read(b, BUS_MMIO, 0x1000, 1, &v));
	assert_int_equal(v, 0x10);
	assert_true(bus_read(b, BUS_MMIO, 0x101f, 1, &v));
	assert_int_equal(v, 0x2f);
	assert_true(bus_read(b, BUS_MMIO, 0x1020, 1, &v));
	assert_int_equal(v, 0x10);
	assert_true(bus_read(b, BUS_MMIO, 0x102f, 1, &v));
	assert_false(bus_read(b, BUS_MMIO, 0x1030, 1, &v));
	assert_int_equal(port.n, 0);
	/* What crosses the end of an MMIO range is nobody's. */
	assert_false(bus_read(b, BUS_MMIO, 0x101c, 8, &v));
	assert_true(v == ~0ull);
	bus_free(b);
}

static void overlaps_are_refused_by_name(void **state)
{
	static const struct {
		uint64_t base, size;
		bool ok;
	} tries[] = {
		{ 0x1000, 0x100, false }, { 0x0f00, 0x101, false }, { 0x10ff, 1, false }, { 0x1040, 1, false },
		{ 0x0f00, 0x400, false }, { 0x0f00, 0x100, true },  { 0x1100, 1, true },
	};
	struct bus *b = bus_new();
	struct memory m;
	struct err err;

	assert_non_null(put(b, BUS_PORT, 0x1000, 0x100, &any_ops, &m));
	for (unsigned k = 0; k < sizeof(tries) / sizeof(tries[0]); k++) {
		const struct bus_range r = { "second", &any_ops, &m, NULL };
		struct bus_handle *h = bus_add(b, BUS_PORT, tries[k].base, tries[k].size, &r, &err);

		assert_int_equal(h != NULL, tries[k].ok);
		if (!h)
			assert_non_null(strstr(err.msg, "overlaps memory"));
	}
	/* Ports and MMIO are apart. */
	assert_non_null(put(b, BUS_MMIO, 0x1000, 0x100, &any_ops, &m));
	bus_free(b);
}

static void ranges_past_the_end_are_refused(void **state)
{
	struct bus *b = bus_new();
	struct memory m;

	assert_null(put(b, BUS_PORT, 0xfff0, 0x11, &any_ops, &m));
	assert_null(put(b, BUS_PORT, 0x10000, 1, &any_ops, &m));
	assert_null(put(b, BUS_PORT, 0x100, 0, &any_ops, &m));
	assert_null(put(b, BUS_MMIO, ~0ull - 4, 64, &any_ops, &m));
	assert_null(put(b, BUS_MMIO, 1ull << 52, 1, &any_ops, &m));
	assert_non_null(put(b, BUS_PORT, 0xfff0, 0x10, &any_ops, &m));
	bus_free(b);
}

static void wide_accesses_are_split(void **state)
{
	struct bus *b = bus_new();
	struct memory m;
	uint64_t v;

	put(b, BUS_MMIO, 0x1000, 64, &byte_ops, &m);
	assert_true(bus_read(b, BUS_MMIO, 0x1003, 4, &v));
	assert_int_equal(v, 0x16151413);
	assert_int_equal(m.n, 4);
	for (unsigned k = 0; k < 4; k++) {
		assert_int_equal(m.seen[k].off, 3 + k);
		assert_int_equal(m.seen[k].size, 1);
	}
	fill(&m);
	assert_true(bus_write(b, BUS_MMIO, 0x1008, 8, 0x8877665544332211));
	assert_int_equal(m.n, 8);
	assert_int_equal(m.seen[7].val, 0x88);
	assert_true(bus_read(b, BUS_MMIO, 0x1008, 8, &v));
	assert_true(v == 0x8877665544332211);
	bus_free(b);
}

static void narrow_accesses_become_units(void **state)
{
	struct bus *b = bus_new();
	struct memory m;
	uint64_t v;

	put(b, BUS_MMIO, 0x1000, 64, &dword_ops, &m);
	assert_true(bus_read(b, BUS_MMIO, 0x1006, 1, &v));
	assert_int_equal(v, 0x16);
	assert_int_equal(m.seen[0].off, 4);
	assert_int_equal(m.seen[0].size, 4);
	assert_true(bus_write(b, BUS_MMIO, 0x1006, 2, 0xabcd));
	assert_int_equal(m.seen[1].off, 4);
	assert_int_equal(m.seen[1].size, 4);
	assert_int_equal(m.seen[1].val, 0xabcd0000);
	assert_true(bus_read(b, BUS_MMIO, 0x1008, 8, &v));
	assert_true(v == 0x1f1e1d1c1b1a1918);
	assert_int_equal(m.n, 4);
	bus_free(b);
}

static void unaligned_accesses_lose_nothing(void **state)
{
	const struct bus_ops *ops[] = { &any_ops, &byte_ops, &dword_ops };

	for (unsigned kind = 0; kind < 3; kind++) {
		struct bus *b = bus_new();
		struct memory m;

		put(b, BUS_MMIO, 0x1000, 64, ops[kind], &m);
		for (unsigned size = 1; size <= 8; size *= 2) {
			for (unsigned off = 0; off < 16; off++) {
				uint64_t v, want = 0;

				memcpy(&want, m.byte + off, size);
				m.n = 0;
				assert_true(bus_read(b, BUS_MMIO, 0x1000 + off, size, &v));
				assert_true(v == want);
				for (unsigned k = 0; k < m.n; k++)
					assert_int_equal(m.seen[k].off % m.seen[k].size, 0);
			}
		}
		bus_free(b);
	}
}

static void sizes_that_are_not_valid_reach_nothing(void **state)
{
	struct bus *b = bus_new();
	struct memory m, p;
	uint64_t v;

	put(b, BUS_MMIO, 0x1000, 64, &only_dword_ops, &m);
	put(b, BUS_PORT, 0x1000, 64, &only_dword_ops, &p);
	for (unsigned size = 1; size <= 8; size *= 2) {
		if (size == 4)
			continue;
		assert_false(bus_read(b, BUS_MMIO, 0x1000, size, &v));
		assert_true(v == (size == 8 ? ~0ull : (1ull << size * 8) - 1));
		assert_false(bus_write(b, BUS_MMIO, 0x1000, size, 0));
		if (size > 4)
			continue;
		assert_false(bus_read(b, BUS_PORT, 0x1000, size, &v));
		assert_false(bus_write(b, BUS_PORT, 0x1000, size, 0));
	}
	assert_int_equal(m.n + p.n, 0);
	assert_true(bus_read(b, BUS_PORT, 0x1000, 4, &v));
	assert_int_equal(v, 0x13121110);
	bus_free(b);
}

static void port_accesses_cross_ranges_as_bytes(void **state)
{
	struct bus *b = bus_new();
	struct memory one, two;
	uint64_t v;

	put(b, BUS_PORT, 0x70, 2, &any_ops, &one);
	put(b, BUS_PORT, 0x73, 1, &any_ops, &two);
	assert_true(bus_read(b, BUS_PORT, 0x70, 4, &v));
	assert_int_equal(v, 0x10ff1110);
	assert_true(bus_write(b, BUS_PORT, 0x70, 4, 0x44332211));
	assert_int_equal(one.byte[0], 0x11);
	assert_int_equal(one.byte[1], 0x22);
	assert_int_equal(two.byte[0], 0x44);
	/* Past the last port there is nothing, and it does not come round to port 0. */
	put(b, BUS_PORT, 0xffff, 1, &any_ops, &one);
	put(b, BUS_PORT, 0, 1, &any_ops, &two);
	assert_true(bus_read(b, BUS_PORT, 0xffff, 4, &v));
	assert_int_equal(v, 0xffffff10);
	assert_int_equal(two.n, 0);
	bus_free(b);
}

struct guarded {
	pthread_mutex_t lock;
	unsigned held, calls;
};

static uint64_t guarded_read(void *opaque, uint64_t off, unsigned size)
{
	struct guarded *g = opaque;

	g->calls++;
	g->held += pthread_mutex_trylock(&g->lock) != 0;
	return 0;
}

static void guarded_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	guarded_read(opaque, off, size);
}

static void the_lock_is_held_around_a_call(void **state)
{
	static const struct bus_ops ops = { guarded_read, guarded_write, { 1, 4 }, { 1, 1 } };
	struct bus *b = bus_new();
	struct guarded g = { .lock = PTHREAD_MUTEX_INITIALIZER };
	const struct bus_range r = { "guarded", &ops, &g, &g.lock };
	struct err err;
	uint64_t v;

	assert_non_null(bus_add(b, BUS_PORT, 0x80, 4, &r, &err));
	assert_true(bus_read(b, BUS_PORT, 0x80, 4, &v));
	assert_true(bus_write(b, BUS_PORT, 0x80, 1, 0));
	assert_int_equal(g.calls, 5);
	assert_int_equal(g.held, 5);
	assert_int_equal(pthread_mutex_trylock(&g.lock), 0);
	bus_free(b);
}

static void ding(void *opaque)
{
	++*(unsigned *)opaque;
}

static void doorbells_take_exact_writes_only(void **state)
{
	struct bus *b = bus_new();
	unsigned exact = 0, any = 0;
	struct bus_doorbell d = { .at = { .addr = 0x1004, .size = 2, .value = 7 }, .fn = ding, .opaque = &exact };
	struct memory m;
	struct bus_handle *h;
	struct err err;

	put(b, BUS_MMIO, 0x1000, 64, &any_ops, &m);
	h = bus_add_doorbell(b, &d, &err);
	assert_non_null(h);
	d = (struct bus_doorbell){ .at = { .addr = 0x1008, .any = true }, .fn = ding, .opaque = &any };
	assert_non_null(bus_add_doorbell(b, &d, &err));

	assert_true(bus_write(b, BUS_MMIO, 0x1004, 2, 7));
	assert_int_equal(exact, 1);
	assert_int_equal(m.n, 0);
	bus_write(b, BUS_MMIO, 0x1004, 2, 8);
	bus_write(b, BUS_MMIO, 0x1004, 4, 7);
	bus_write(b, BUS_MMIO, 0x1005, 2, 7);
	bus_write(b, BUS_PORT, 0x1004, 2, 7);
	assert_int_equal(exact, 1);
	assert_true(m.n >= 3);
	bus_write(b, BUS_MMIO, 0x1008, 1, 9);
	bus_write(b, BUS_MMIO, 0x1008, 8, 9);
	assert_int_equal(any, 2);
	bus_del(b, h);
	bus_write(b, BUS_MMIO, 0x1004, 2, 7);
	assert_int_equal(exact, 1);
	bus_free(b);
}

static void count_range(void *opaque, uint64_t base, uint64_t size, const char *name)
{
	uint64_t *last = opaque;

	assert_true(base >= *last);
	*last = base + size;
}

struct taker {
	unsigned offered, gone;
	bool takes;
};

static bool take(void *opaque, const struct doorbell *d, bool on)
{
	struct taker *t = opaque;

	assert_true(d->event->fd == 7 && d->addr == 0x1004);
	++*(on ? &t->offered : &t->gone);
	return t->takes;
}

static void doorbells_with_an_event_are_offered(void **state)
{
	struct bus *b = bus_new();
	struct taker t = { 0 };
	unsigned rung = 0;
	struct bus_doorbell d = { .at = { .addr = 0x1004, .size = 2 }, .fn = ding, .opaque = &rung };
	const struct event event = { true, 7 };
	struct bus_handle *h;
	struct err err;

	assert_false(bus_doorbells_wanted(b));
	bus_offer_doorbells(b, take, &t);
	assert_true(bus_doorbells_wanted(b));
	bus_del(b, bus_add_doorbell(b, &d, &err));
	assert_int_equal(t.offered + t.gone, 0);
	/* Taken or not, a write that arrives all the same rings. */
	d.at.event = &event;
	for (unsigned n = 1; n <= 2; n++) {
		t.takes = n == 2;
		h = bus_add_doorbell(b, &d, &err);
		assert_int_equal(t.offered, n);
		assert_true(bus_write(b, BUS_MMIO, 0x1004, 2, 0));
		assert_int_equal(rung, n);
		bus_del(b, h);
		assert_int_equal(t.gone, n - 1);
	}
	bus_free(b);
}

static void ranges_are_listed_in_order(void **state)
{
	struct bus *b = bus_new();
	struct memory m;
	uint64_t last = 0;

	for (unsigned k = 0; k < 64; k++)
		assert_non_null(put(b, BUS_PORT, k * 37 % 64 * 16, 8, &any_ops, &m));
	bus_each(b, BUS_PORT, count_range, &last);
	assert_int_equal(last, 63 * 16 + 8);
	bus_free(b);
}

/* --- changes while others look --- */

struct storm {
	struct bus *bus;
	atomic_bool stop;
	_Atomic unsigned bad, reads;
};

/* The change comes while an access is under way: what that still looks at must live (ASan sees it if not). */
static uint64_t tag_read(void *opaque, uint64_t off, unsigned size)
{
	sched_yield();
	return (uintptr_t)opaque;
}
static const struct bus_ops tag_ops = { tag_read, memory_write, { 1, 8 }, { 1, 8 } };

/* Readers must find the fixed range always, and in the moving places its tag or nothing. */
static void *look(void *opaque)
{
	struct storm *s = opaque;
	uint64_t v;

	while (!atomic_load(&s->stop)) {
		if (!bus_read(s->bus, BUS_MMIO, 0x100000, 4, &v) || v != 1)
			atomic_fetch_add(&s->bad, 1);
		if (bus_read(s->bus, BUS_MMIO, 0x2000, 4, &v) ? v != 2 : v != 0xffffffff)
			atomic_fetch_add(&s->bad, 1);
		if (bus_read(s->bus, BUS_MMIO, 0x200000, 4, &v) ? v != 2 : v != 0xffffffff)
			atomic_fetch_add(&s->bad, 1);
		atomic_fetch_add(&s->reads, 1);
	}
	return NULL;
}

static void a_range_moves_while_others_look(void **state)
{
	struct storm s = { .bus = bus_new() };
	const struct bus_range fixed = { "fixed", &tag_ops, (void *)1, NULL },
			       moving = { "moving", &tag_ops, (void *)2, NULL };
	pthread_t threads[3];
	struct err err;

	assert_non_null(bus_add(s.bus, BUS_MMIO, 0x100000, 16, &fixed, &err));
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(pthread_create(&threads[k], NULL, look, &s), 0);
	for (unsigned k = 0; k < 20000 || atomic_load(&s.reads) < 1000; k++) {
		struct bus_handle *h = bus_add(s.bus, BUS_MMIO, k & 1 ? 0x2000 : 0x200000, 64, &moving, &err);

		assert_non_null(h);
		bus_del(s.bus, h);
	}
	atomic_store(&s.stop, true);
	for (unsigned k = 0; k < 3; k++)
		pthread_join(threads[k], NULL);
	assert_int_equal(s.bad, 0);
	bus_free(s.bus);
}

/* A guest moves a BAR from within an access. */
struct mover {
	struct bus *bus;
	struct bus_handle *h;
	struct memory m;
	unsigned at;
};

static void mover_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
	struct mover *m = opaque;

	bus_del(m->bus, m->h);
	m->at = (unsigned)val;
	m->h = put(m->bus, BUS_PORT, m->at, 4, &any_ops, &m->m);
}
static const struct bus_ops mover_ops = { memory_read, mover_write, { 1, 4 }, { 1, 4 } };

static void a_range_may_be_moved_from_within_an_access(void **state)
{
	struct mover m = { .bus = bus_new() };
	const struct bus_range r = { "mover", &mover_ops, &m, NULL };
	struct err err;
	uint64_t v;

	assert_non_null(bus_add(m.bus, BUS_PORT, 0xcf8, 4, &r, &err));
	for (unsigned k = 0; k < 1000; k++) {
		unsigned at = 0x1000 + k % 7 * 16;

		assert_true(bus_write(m.bus, BUS_PORT, 0xcf8, 4, at));
		assert_non_null(m.h);
		assert_true(bus_read(m.bus, BUS_PORT, (uint16_t)at, 1, &v));
		assert_int_equal(v, 0x10);
	}
	bus_free(m.bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_there_reads_all_ones),
		cmocka_unit_test(only_the_range_is_hit),
		cmocka_unit_test(overlaps_are_refused_by_name),
		cmocka_unit_test(ranges_past_the_end_are_refused),
		cmocka_unit_test(wide_accesses_are_split),
		cmocka_unit_test(narrow_accesses_become_units),
		cmocka_unit_test(unaligned_accesses_lose_nothing),
		cmocka_unit_test(sizes_that_are_not_valid_reach_nothing),
		cmocka_unit_test(port_accesses_cross_ranges_as_bytes),
		cmocka_unit_test(the_lock_is_held_around_a_call),
		cmocka_unit_test(doorbells_take_exact_writes_only),
		cmocka_unit_test(doorbells_with_an_event_are_offered),
		cmocka_unit_test(ranges_are_listed_in_order),
		cmocka_unit_test(a_range_moves_while_others_look),
		cmocka_unit_test(a_range_may_be_moved_from_within_an_access),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
