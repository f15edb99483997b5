/* What mem.c and track.c share: the slots of an address space. Private to mem/. */
#ifndef VIREO_MEM_SLOTS_H
#define VIREO_MEM_SLOTS_H

#include "mem/mem.h"

#define MEM_SLOTS_MAX 32

struct mem_slot {
	uint64_t base, size;
	uint8_t *host;
	bool readonly;
	int memfd; /* -1: none */
	char *name;
	uint64_t first_page;	 /* page index of the first page */
	_Atomic uint8_t *flags;	 /* one a page */
	_Atomic uint64_t *dirty; /* one bit a page */
	void *mapping;		 /* what to unmap: `host` may start later, on a huge page */
	uint64_t mapping_size;
	const struct mem_space *space; /* whose it is: this one, or one over it */
};

struct mem_space {
	struct mem_space *below; /* which has all of what follows; NULL: this one has it itself */
	struct mem_slot slots[MEM_SLOTS_MAX];
	unsigned count;
	uint64_t pages;
	_Atomic bool logging;
	mem_code_fn *code_fn;
	void *code_opaque;
};

static inline struct mem_space *mem_root(struct mem_space *s)
{
	return s->below ? s->below : s;
}

static inline size_t mem_dirty_bytes(const struct mem_slot *slot)
{
	return ((slot->size >> MEM_PAGE_SHIFT) + 63) / 64 * sizeof(uint64_t);
}

/* The slot that holds `at`, or NULL. */
struct mem_slot *mem_slot_at(struct mem_space *s, uint64_t at);

#endif
