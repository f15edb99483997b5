/*
 * Translated blocks of a VM: where their code lives, and how they are found, linked and given up.
 *
 * A block's code begins with one instruction of at least eight bytes, aligned: when the block is given up these become
 * a jump to its way out, which other processors see whole or not at all. So links and caches that lead to a block need
 * not be found. Memory is used until it is full; then everything is forgotten while all vCPUs stand still.
 *
 * Finding takes no lock. Everything else does; the order is code.c's lock, then this one.
 */
#ifndef VIREO_CPU_JIT_CACHE_H
#define VIREO_CPU_JIT_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/stats.h"
#include "cpu/jit/emit.h"

struct jit_cache;
struct jit_thunks;

struct jit_cache_counts {
	stat_t forgotten; /* times */
	stat_t pages;	  /* that changed while there were blocks of theirs */
	stat_t given_up;  /* blocks */
	stat_t links;
};

/* A page that a block was made from. */
struct jit_of_page {
	struct jit_of_page *next;
	struct jit_block *block;
	uint64_t index; /* mem.h */
};

#define JIT_ONE_PAGE ~0ull
struct jit_block {
	struct jit_block *_Atomic next; /* of its hash chain */
	uint64_t phys, rip;		/* of the first instruction */
	/* The physical address of the page that its only instruction runs into, or JIT_ONE_PAGE. */
	uint64_t second;
	uint32_t mode; /* enum x86_fetch */
	_Atomic bool stale;
	/* Where to begin: with the flags in the host's, or in jit_cpu.flags. And what it does when given up. */
	uintptr_t native, memory, out;
	struct jit_of_page pages[2];
};

/* A direct jump at the end of a block. `rel32` is aligned. */
struct jit_link {
	uint8_t *rel32; /* where it is written */
	uintptr_t end;	/* where it is executed, after it */
	bool native;	/* flags are in the host's */
	uint8_t *out32; /* the same of the jump that it leads to at first: the way out */
	uintptr_t out_end;
};

/* `anonymous`: the code has no name in the list of mappings. */
struct jit_cache *jit_cache_new(size_t bytes, bool anonymous, struct err *err);
void jit_cache_free(struct jit_cache *c);
const struct jit_thunks *jit_cache_thunks(const struct jit_cache *c);
/* Where their code is. */
uintptr_t jit_cache_thunks_at(const struct jit_cache *c, size_t *len);

const struct jit_cache_counts *jit_cache_counts(const struct jit_cache *c);

/*
 * The block at `phys` for linear address `rip`; `second` is where the next page is, if that is known. NULL: none that
 * is current. Any thread.
 */
struct jit_block *jit_cache_find(struct jit_cache *c, uint64_t phys, uint64_t second, uint64_t rip, uint32_t mode);

/* Is there no room for another block? */
bool jit_cache_is_full(struct jit_cache *c);
/* Begin to write a block: takes the lock. False: full, and the lock is not taken. */
bool jit_cache_begin(struct jit_cache *c, struct emit *e);
/* Memory that lives as long as blocks do; NULL: full. Between begin and end. */
void *jit_cache_alloc(struct jit_cache *c, size_t bytes);
/* The block is complete (or b is NULL: was given up) and can be found. Gives the lock back. */
void jit_cache_end(struct jit_cache *c, const struct emit *e, struct jit_block *b);

/* From now on the jump leads to this block; if that depends on a second page, to a look at jit_cpu.jumps. */
void jit_cache_link(struct jit_cache *c, const struct jit_link *l, const struct jit_block *to);
/* Give up one block, or all of a page. Any thread. */
void jit_cache_drop(struct jit_cache *c, struct jit_block *b);
void jit_cache_drop_page(struct jit_cache *c, uint64_t page_index);
/* Forget everything; no vCPU runs or holds on to a block. */
void jit_cache_flush(struct jit_cache *c);
/* Moves when blocks of a page were given up. */
unsigned jit_cache_changes(const struct jit_cache *c);
/* Moves when everything was forgotten: who held on to a block across a wait looks. */
unsigned jit_cache_flushes(const struct jit_cache *c);

#endif
