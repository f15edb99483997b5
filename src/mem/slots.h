/* What mem.c and track.c share: the slots of an address space. Private to mem/. */
#ifndef VIREO_MEM_SLOTS_H
#define VIREO_MEM_SLOTS_H

#include "mem/mem.h"

#define MEM_SLOTS_MAX	 32
#define MEM_OVERLAYS_MAX 20
#define MEM_MOVABLES_MAX 2

struct mem_slot {
	uint64_t base, size;
	uint8_t *host;
	bool readonly;
	int memfd; /* that is shared; -1: none */
	uint64_t memfd_offset;
	bool hugetlb; /* pages that are reserved, and are not given back */
	char *name;
	uint64_t first_page;	       /* page index of the first page */
	_Atomic uint8_t *flags;	       /* one a page */
	_Atomic uint64_t *dirty;       /* one bit a page */
	const struct mem_space *space; /* whose it is: this one, or one over it */
	/* Overlays lie over [cut, cut_end): elsewhere nobody looks for any. Of a slot that is shown by one: which. */
	uint64_t cut, cut_end;
	const struct mem_slot *of;
	uint64_t of_page; /* where in that it begins */
	/* Of one that moves: it lies nowhere itself, and a bit a page for mem_movable_fetch(). */
	bool parked;
	_Atomic uint64_t *watched;
};

struct mem_movable {
	struct mem_slot *slot;
	struct mem_slot **at; /* by the place, made when first needed */
	struct mem_slot *_Atomic shown;
};

/* The two pseudo-slots share the pages of the slots that they show. */
struct mem_overlay {
	uint64_t base, size;
	struct mem_slot *below;
	struct mem_slot readonly, rom; /* rom: its size is 0 where there is none */
	_Atomic uint8_t mode[2];       /* enum mem_overlay_mode; [1]: for looks over this one */
};

struct mem_space {
	struct mem_space *below; /* which has all of what follows; NULL: this one has it itself */
	struct mem_slot slots[MEM_SLOTS_MAX];
	unsigned count;
	struct mem_overlay overlays[MEM_OVERLAYS_MAX];
	unsigned overlay_count;
	struct mem_movable movables[MEM_MOVABLES_MAX];
	unsigned movable_count;
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
/* Store to the slot itself and say so; the range lies within it. */
void mem_slot_store(struct mem_space *root, struct mem_slot *slot, uint64_t at, const void *buf, size_t len);
void mem_slot_written(struct mem_space *root, const struct mem_slot *slot, uint64_t offset, uint64_t len);
/* What an overlay makes of `at` in `slot`, which is of the root: that one, what it shows there, or NULL. */
struct mem_slot *mem_slot_shown(struct mem_space *s, struct mem_slot *slot, uint64_t at);
/* What moves and is at `at` now, or NULL. */
struct mem_slot *mem_movable_at(struct mem_space *root, uint64_t at);
uint64_t mem_movable_base(const struct mem_space *s, const struct mem_slot *slot);
void mem_movables_free(struct mem_space *s);
/* Where the first overlay behind `at` begins, or the one that it is in ends; at most `end`. */
uint64_t mem_overlay_edge(const struct mem_space *root, uint64_t at, uint64_t end);

#endif
