/*
 * Port and MMIO ranges of a machine.
 *
 * A range names the sizes that the guest may use (`valid`) and those that the code implements
 * (`impl`); the bus splits and merges, and ranges see naturally aligned accesses only. What hits
 * nothing, or has a size that is not valid, reads all ones and is dropped on write; on the port bus it
 * first comes again as bytes, so that it may cross ranges. The bus takes the range's lock around the
 * call. Ranges may not overlap; of nested ones (a subtractive range under a device's) none exist.
 *
 * bus_read/bus_write: any vCPU thread. Lookups read a snapshot of the topology without a lock; add and
 * del replace the snapshot (a PCI BAR moves while other vCPUs run) and do not wait: an access that began
 * before a del may still reach the range after it. So what a range calls lives as long as the bus.
 */
#ifndef VIREO_BUS_BUS_H
#define VIREO_BUS_BUS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/doorbell.h"
#include "base/err.h"

enum bus_kind { BUS_PORT, BUS_MMIO };

struct bus_ops {
	/* `off` is relative to the range; `size` is one of impl's. */
	uint64_t (*read)(void *opaque, uint64_t off, unsigned size);
	void (*write)(void *opaque, uint64_t off, unsigned size, uint64_t val);
	struct {
		uint8_t min, max; /* bytes, powers of two; 0 means 1 and 8 (ports: 1 and 4) */
	} valid, impl;
};

struct bus_range {
	const char *name; /* for `info mtree` */
	const struct bus_ops *ops;
	void *opaque;
	pthread_mutex_t *lock; /* may be NULL */
};

struct bus;
struct bus_handle;

struct bus *bus_new(void);
void bus_free(struct bus *b);

/* NULL with the name of the other range in `err` on overlap or a range past the end (64 KiB for ports). */
struct bus_handle *bus_add(struct bus *b, enum bus_kind kind, uint64_t base, uint64_t size, const struct bus_range *r,
			   struct err *err);
void bus_del(struct bus *b, struct bus_handle *h);

/* Value zero-extended; accesses of 1, 2, 4 or 8 bytes. False: nothing there (value all ones). */
bool bus_read(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned size, uint64_t *val);
bool bus_write(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned size, uint64_t val);

/* A write that matches calls fn instead of the range's write, without the device's lock. */
struct bus_doorbell {
	struct doorbell at;
	void (*fn)(void *opaque);
	void *opaque;
};
struct bus_handle *bus_add_doorbell(struct bus *b, const struct bus_doorbell *d, struct err *err);

/*
 * Offer the doorbells with an event to somebody who sees the guest's writes before the bus does (ioeventfd):
 * `take` is told of each that comes (`on`) and, if it said true, that it goes. Before the first doorbell. `take` may
 * come from any thread, also in the middle of an access; never for the same doorbell twice at a time.
 */
typedef bool bus_take_fn(void *opaque, const struct doorbell *d, bool on);
void bus_offer_doorbells(struct bus *b, bus_take_fn *take, void *opaque);
/* Whether anybody may take them, so that an event is worth having. */
bool bus_doorbells_wanted(const struct bus *b);

/* Every range in order, for `info mtree`. */
void bus_each(struct bus *b, enum bus_kind kind,
	      void (*fn)(void *opaque, uint64_t base, uint64_t size, const char *name), void *opaque);

#endif
