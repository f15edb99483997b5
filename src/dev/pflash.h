/*
 * Flash for firmware: code that cannot be changed and variables that can. Threads as in isa.h.
 */
#ifndef VIREO_DEV_PFLASH_H
#define VIREO_DEV_PFLASH_H

#include "bus/bus.h"
#include "bus/device.h"
#include "mem/mem.h"

struct pflash_config {
	struct mem_space *mem, *smm; /* with the array, in a slot that cannot be written; a look over it */
	unsigned overlay;	     /* over exactly the array */
	uint64_t base;
	uint32_t size; /* bytes, a multiple of 4 KiB */
	bool readonly;
	void (*changed)(void *opaque); /* after the overlay was set, as i440fx_memory.changed */
	/* The array has changed there, and for a while will not again; with the lock, from a vCPU's thread or the
	 * loop's. */
	void (*stored)(void *opaque, uint32_t off, uint32_t len);
	void *opaque;
};
struct device *pflash_new(struct bus *bus, const struct pflash_config *c, struct err *err);

#endif
