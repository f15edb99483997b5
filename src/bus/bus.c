/*
 * Address decoding for ports and MMIO. Lookups use a sorted snapshot of the ranges; changes make a new
 * one. A change may come from inside an access (a guest moves a BAR), so it cannot wait for readers:
 * old snapshots are freed by later changes, once both reader counters were seen at zero since.
 */
#include "bus/bus.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

struct bus_handle {
	enum bus_kind kind;
	bool is_doorbell;
	bool taken; /* its owner's, who adds and deletes it */
	uint64_t base, size;
	struct bus_range range;
	struct bus_doorbell bell;
};

/* The ranges of one kind and the doorbells, each in order of address. Immutable. */
struct topology {
	struct topology *next; /* among retired ones */
	unsigned ranges[2], bells;
	struct bus_handle **range[2];
	struct bus_handle **bell;
	struct bus_handle *removed; /* freed with this snapshot, the last that shows it */
	struct bus_handle *slots[];
};

struct bus {
	pthread_mutex_t lock; /* of changes */
	_Atomic(struct topology *) now;
	_Atomic unsigned epoch;
	_Atomic unsigned readers[2];
	struct topology *retired, *retired_before; /* since the last step of the epoch, and before it */
	bus_take_fn *take;
	void *taker;
};

/* --- readers --- */

static struct topology *enter(struct bus *b, unsigned *side)
{
	*side = atomic_load(&b->epoch) & 1;
	atomic_fetch_add(&b->readers[*side], 1);
	return atomic_load(&b->now);
}

static void leave(struct bus *b, unsigned side)
{
	atomic_fetch_sub(&b->readers[side], 1);
}

static void free_list(struct topology *t)
{
	while (t) {
		struct topology *next = t->next;

		free(t->removed);
		free(t);
		t = next;
	}
}

/* Lock held. */
static void reclaim(struct bus *b)
{
	unsigned epoch = atomic_load(&b->epoch);

	if (atomic_load(&b->readers[(epoch + 1) & 1]))
		return;
	free_list(b->retired_before);
	b->retired_before = b->retired;
	b->retired = NULL;
	atomic_store(&b->epoch, epoch + 1);
}

/* --- changes --- */

static struct topology *build(const struct topology *old, struct bus_handle *add, const struct bus_handle *del)
{
	size_t n = old->ranges[0] + old->ranges[1] + old->bells + 1;
	struct topology *t = calloc(1, sizeof(*t) + n * sizeof(t->slots[0]));
	struct bus_handle **at;

	if (!t)
		return NULL;
	at = t->slots;
	for (unsigned list = 0; list < 3; list++) {
		struct bus_handle *const *from = list < 2 ? old->range[list] : old->bell;
		unsigned count = list < 2 ? old->ranges[list] : old->bells;
		bool here = add && (add->is_doorbell ? list == 2 : list == (unsigned)add->kind);
		struct bus_handle **first = at;

		for (unsigned k = 0; k < count; k++) {
			if (here && add->base < from[k]->base) {
				*at++ = add;
				here = false;
			}
			if (from[k] != del)
				*at++ = from[k];
		}
		if (here)
			*at++ = add;
		if (list < 2) {
			t->range[list] = first;
			t->ranges[list] = (unsigned)(at - first);
		} else {
			t->bell = first;
			t->bells = (unsigned)(at - first);
		}
	}
	return t;
}

static int change(struct bus *b, struct bus_handle *add, struct bus_handle *del)
{
	struct topology *old = atomic_load(&b->now), *t = build(old, add, del);

	if (!t)
		return -1;
	atomic_store(&b->now, t);
	old->removed = del;
	old->next = b->retired;
	b->retired = old;
	reclaim(b);
	return 0;
}

struct bus *bus_new(void)
{
	struct bus *b = calloc(1, sizeof(*b));
	struct topology *t = calloc(1, sizeof(*t));

	if (!b || !t) {
		free(b);
		free(t);
		return NULL;
	}
	pthread_mutex_init(&b->lock, NULL);
	atomic_store(&b->now, t);
	return b;
}

void bus_free(struct bus *b)
{
	struct topology *t;

	if (!b)
		return;
	t = atomic_load(&b->now);
	for (unsigned k = 0; k < t->ranges[0] + t->ranges[1] + t->bells; k++)
		free(t->slots[k]);
	free(t);
	free_list(b->retired);
	free_list(b->retired_before);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static const struct bus_handle *overlapping(const struct topology *t, enum bus_kind kind, uint64_t base, uint64_t size)
{
	for (unsigned k = 0; k < t->ranges[kind]; k++) {
		const struct bus_handle *h = t->range[kind][k];

		if (base < h->base + h->size && h->base < base + size)
			return h;
	}
	return NULL;
}

struct bus_handle *bus_add(struct bus *b, enum bus_kind kind, uint64_t base, uint64_t size, const struct bus_range *r,
			   struct err *err)
{
	const struct bus_handle *other;
	struct bus_handle *h;

	if (!size || !range_within(base, size, kind == BUS_PORT ? 0x10000 : 1ull << 52)) {
		err_set(err, "%s: the range %#llx+%#llx lies outside the bus", r->name, (unsigned long long)base,
			(unsigned long long)size);
		return NULL;
	}
	h = calloc(1, sizeof(*h));
	if (!h) {
		err_set(err, "out of memory");
		return NULL;
	}
	*h = (struct bus_handle){ .kind = kind, .base = base, .size = size, .range = *r };
	pthread_mutex_lock(&b->lock);
	other = overlapping(atomic_load(&b->now), kind, base, size);
	if (other)
		err_set(err, "%s: the range %#llx+%#llx overlaps %s", r->name, (unsigned long long)base,
			(unsigned long long)size, other->range.name);
	else if (change(b, h, NULL))
		err_set(err, "out of memory");
	else
		goto out;
	free(h);
	h = NULL;
out:
	pthread_mutex_unlock(&b->lock);
	return h;
}

struct bus_handle *bus_add_doorbell(struct bus *b, const struct bus_doorbell *d, struct err *err)
{
	struct bus_handle *h = calloc(1, sizeof(*h));

	if (!h) {
		err_set(err, "out of memory");
		return NULL;
	}
	*h = (struct bus_handle){
		.kind = d->at.port ? BUS_PORT : BUS_MMIO, .is_doorbell = true, .base = d->at.addr, .bell = *d
	};
	pthread_mutex_lock(&b->lock);
	if (change(b, h, NULL)) {
		free(h);
		h = NULL;
		err_set(err, "out of memory");
	}
	pthread_mutex_unlock(&b->lock);
	/* Without the lock: what takes it may have to wait for other vCPUs. */
	if (h && b->take && d->at.event)
		h->taken = b->take(b->taker, &d->at, true);
	return h;
}

void bus_offer_doorbells(struct bus *b, bus_take_fn *take, void *opaque)
{
	b->take = take;
	b->taker = opaque;
}

bool bus_doorbells_wanted(const struct bus *b)
{
	return b->take != NULL;
}

/* Without memory for a snapshot the range stays, harmless: its device lives as long as the bus. */
void bus_del(struct bus *b, struct bus_handle *h)
{
	if (!h)
		return;
	if (h->taken)
		b->take(b->taker, &h->bell.at, false);
	pthread_mutex_lock(&b->lock);
	change(b, NULL, h);
	pthread_mutex_unlock(&b->lock);
}

/* --- accesses --- */

static const struct bus_handle *find(const struct topology *t, enum bus_kind kind, uint64_t addr)
{
	unsigned lo = 0, hi = t->ranges[kind];

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		const struct bus_handle *h = t->range[kind][mid];

		if (addr < h->base)
			hi = mid;
		else if (addr - h->base >= h->size)
			lo = mid + 1;
		else
			return h;
	}
	return NULL;
}

static unsigned or_default(unsigned v, unsigned dflt)
{
	return v ? v : dflt;
}

/* The widest naturally aligned piece at `off` that `left` and `max` allow. */
static unsigned piece(uint64_t off, unsigned left, unsigned max)
{
	unsigned n = max;

	while (n > left || off & (n - 1))
		n /= 2;
	return n;
}

/*
 * Read or write one range with the sizes that it implements: an access that is too wide or not aligned comes
 * in pieces, in order of address; a piece that is too narrow comes as the aligned unit that holds it, with
 * zeroes around what is written. `*val` is exchanged.
 */
static void access_range(const struct bus_handle *h, uint64_t off, unsigned size, bool write, uint64_t *val)
{
	const struct bus_ops *ops = h->range.ops;
	unsigned max = or_default(ops->impl.max, h->kind == BUS_PORT ? 4 : 8), min = or_default(ops->impl.min, 1), n;
	uint64_t out = 0;

	if (h->range.lock)
		pthread_mutex_lock(h->range.lock);
	for (unsigned done = 0; done < size; done += n) {
		n = piece(off + done, size - done, max);

		unsigned unit = n < min ? min : n;
		uint64_t at = align_down(off + done, unit);
		unsigned shift = (unsigned)(off + done - at) * 8;

		if (write)
			ops->write(h->range.opaque, at, unit, (*val >> done * 8 & size_mask(n)) << shift);
		else
			out |= (ops->read(h->range.opaque, at, unit) >> shift & size_mask(n)) << done * 8;
	}
	if (h->range.lock)
		pthread_mutex_unlock(h->range.lock);
	if (!write)
		*val = out;
}

static bool size_valid(const struct bus_handle *h, unsigned size)
{
	const struct bus_ops *ops = h->range.ops;

	return size >= or_default(ops->valid.min, 1) && size <= or_default(ops->valid.max, h->kind == BUS_PORT ? 4 : 8);
}

static bool ring(const struct topology *t, enum bus_kind kind, uint64_t addr, unsigned size, uint64_t val)
{
	unsigned lo = 0, hi = t->bells;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (t->bell[mid]->base < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < t->bells && t->bell[lo]->base == addr; lo++) {
		const struct bus_doorbell *bell = &t->bell[lo]->bell;
		const struct doorbell *d = &bell->at;

		if (d->port == (kind == BUS_PORT) && (d->any || (d->size == size && d->value == val))) {
			bell->fn(bell->opaque);
			return true;
		}
	}
	return false;
}

/* Ports: what is too wide for a device, or crosses two, arrives as bytes, as on an ISA bus. */
static bool access_bytes(const struct topology *t, uint64_t addr, unsigned size, bool write, uint64_t *val)
{
	uint64_t out = 0;
	bool any = false;

	for (unsigned k = 0; k < size; k++) {
		const struct bus_handle *h = find(t, BUS_PORT, addr + k);
		uint64_t b = write ? *val >> k * 8 & 0xff : 0xff;

		if (h && size_valid(h, 1)) {
			access_range(h, addr + k - h->base, 1, write, &b);
			any = true;
		}
		out |= b << k * 8;
	}
	*val = out;
	return any;
}

static bool bus_access(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned size, bool write, uint64_t *val)
{
	unsigned side;
	const struct topology *t = enter(b, &side);
	const struct bus_handle *h;
	bool hit = true;

	if (write && t->bells && ring(t, kind, addr, size, *val))
		goto out;
	h = find(t, kind, addr);
	if (h && range_within(addr - h->base, size, h->size) && size_valid(h, size)) {
		access_range(h, addr - h->base, size, write, val);
	} else if (kind == BUS_PORT && size > 1) {
		hit = access_bytes(t, addr, size, write, val);
	} else {
		*val = size_mask(size);
		hit = false;
	}
out:
	leave(b, side);
	return hit;
}

bool bus_read(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned size, uint64_t *val)
{
	return bus_access(b, kind, addr, size, false, val);
}

bool bus_write(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned size, uint64_t val)
{
	return bus_access(b, kind, addr, size, true, &val);
}

void bus_each(struct bus *b, enum bus_kind kind,
	      void (*fn)(void *opaque, uint64_t base, uint64_t size, const char *name), void *opaque)
{
	unsigned side;
	const struct topology *t = enter(b, &side);

	for (unsigned k = 0; k < t->ranges[kind]; k++)
		fn(opaque, t->range[kind][k]->base, t->range[kind][k]->size, t->range[kind][k]->range.name);
	leave(b, side);
}
