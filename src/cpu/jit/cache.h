/*
 * Translated blocks of a VM: where their code lives, and how they are found, linked and given up.
 *
 * A block's code begins, behind a pointer to its record, with one instruction of at least eight bytes, aligned: when
 * the block is given up these become a call of the way out, which other processors see whole or not at all. So links
 * and caches that lead to a block need not be found. Memory is used until it is full; then everything is forgotten
 * while all vCPUs stand still.
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

/*
 * Where a linear page of code is, for jumps that lead there from other pages: its number, which is how far behind
 * jit_cache_guards() it lies, is what such a jump compares with jit_cpu.guards[]. It is dead when code in the page has
 * changed: then the blocks that jumps with this number lead to have been given up.
 */
struct jit_guard {
	struct jit_guard *next;
	uint64_t lin, page; /* x86_code_page() */
	_Atomic bool dead;
};

struct jit_cache_counts {
	stat_t forgotten; /* times */
	stat_t pages;	  /* that changed while there were blocks of theirs */
	stat_t given_up;  /* blocks */
	stat_t links;
	stat_t code, data; /* bytes that blocks took */
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
	uint64_t place, rip;		/* of the first instruction: x86_code_page() | offset */
	uint64_t phys;			/* where that was */
	uint64_t second;		/* the page that its only instruction runs into, or JIT_ONE_PAGE */
	uint32_t mode;			/* enum x86_fetch; and without shared looks into the TLB: */
#define JIT_ALONE (1u << 31)
	_Atomic bool stale;
	/* Where to begin: with the flags in the host's, or, so far before that, in jit_cpu.flags. */
	uint8_t memory;
	uintptr_t native;
	struct jit_of_page pages[]; /* one or two */
};

/*
 * Where blocks are found, by their first instruction; any thread. A bucket is the address of its first block, with 15
 * more bits of that one's hash above, so that what is not there seldom costs a look at a record; the uppermost bit
 * tells that there is another one behind it.
 */
#define JIT_HASH_BITS  18
#define JIT_HASH_MORE  (1ull << 63)
#define JIT_HASH_SHIFT 48
struct jit_table {
	_Atomic uint64_t bucket[1u << JIT_HASH_BITS];
};
/* One bucket for four bytes of code, and those of a page together: cold code looks in every place of its pages. */
static inline uint64_t jit_hash_bucket(uint64_t place, uint64_t rip)
{
	uint64_t page = ((place & ~0xfffull) ^ rip >> 12) * 0x9e3779b97f4a7c15 >> (64 - JIT_HASH_BITS);

	return page ^ (place & 0xfff) >> 2;
}
/* The bits that are with the address. */
static inline uint64_t jit_hash_tag(uint64_t place, uint64_t rip)
{
	return (place ^ rip >> 12) * 0x9e3779b97f4a7c15 >> 1 >> JIT_HASH_SHIFT << JIT_HASH_SHIFT;
}
static inline struct jit_block *jit_hash_block(uint64_t head)
{
	return (struct jit_block *)(uintptr_t)(head & ((1ull << JIT_HASH_SHIFT) - 1));
}
/* The block for `want`, of which `second` is where the next page is, if that is known. NULL: none that is current. */
static inline struct jit_block *jit_table_find(const struct jit_table *t, const struct jit_block *want)
{
	uint64_t head = atomic_load_explicit(&t->bucket[jit_hash_bucket(want->place, want->rip)], memory_order_acquire);
	uint64_t other = (head ^ jit_hash_tag(want->place, want->rip)) >> JIT_HASH_SHIFT << JIT_HASH_SHIFT;

	/* The first one's tag is another, and there is no second one. */
	if (other & ~JIT_HASH_MORE && !(head & JIT_HASH_MORE))
		return NULL;
	for (struct jit_block *b = jit_hash_block(head); b; b = atomic_load_explicit(&b->next, memory_order_acquire))
		if (b->place == want->place && b->rip == want->rip && b->mode == want->mode &&
		    (b->second == JIT_ONE_PAGE || b->second == want->second) && !atomic_load(&b->stale))
			return b;
	return NULL;
}
static inline uintptr_t jit_block_memory(const struct jit_block *b)
{
	return b->native - b->memory;
}

/* What stands behind the call of a thunk, instead of code that would tell it the same. */
struct jit_note {
	uint16_t block;			/* from the pointer to the block's record to here */
	int16_t rip;			/* what RIP has to be, less the block's; or: */
#define JIT_NOTE_FAR	INT16_MIN	/* it follows, 8 bytes */
#define JIT_NOTE_PUSHED (INT16_MIN + 1) /* it is in jit_cpu.pushed */
	uint16_t back;			/* from where the code goes on to here; of a link: from the end of its jump */
	uint16_t what; /* of an access: JIT_MISS_WRITE and so on; of a link: JIT_LINK_FLAGS and so on */
} __attribute__((packed));

/* The flags are in the host's. */
#define JIT_LINK_FLAGS 1u
/* The jump is to another page, behind a look at its guard; from that, or from the guard's number in it, to its end: */
#define JIT_LINK_FAR	     2u
#define JIT_FAR_SIZE(what)   ((what)&JIT_LINK_FLAGS ? 27 : 20)
#define JIT_FAR_NUMBER(what) ((what)&JIT_LINK_FLAGS ? 16 : 12)
#define JIT_NO_GUARD	     UINT32_MAX
/* The guard's number in such a jump: with flags in the host's it is added, so its negative is there. */
static inline uint32_t jit_far_number(uintptr_t end, unsigned what)
{
	const _Atomic uint32_t *at = (const _Atomic uint32_t *)(end - JIT_FAR_NUMBER(what));
	uint32_t v = atomic_load_explicit(at, memory_order_acquire);

	return what & JIT_LINK_FLAGS ? -v : v;
}

/* `anonymous`: the code has no name in the list of mappings. */
struct jit_cache *jit_cache_new(size_t bytes, bool anonymous, struct err *err);
void jit_cache_free(struct jit_cache *c);
const struct jit_thunks *jit_cache_thunks(const struct jit_cache *c);
/* Where their code is. */
uintptr_t jit_cache_thunks_at(const struct jit_cache *c, size_t *len);

const struct jit_cache_counts *jit_cache_counts(const struct jit_cache *c);

/* From where code is written to where it is executed. */
intptr_t jit_cache_rx_offset(const struct jit_cache *c);
/* Numbers of guards are from here on. */
const uint8_t *jit_cache_guards(const struct jit_cache *c);
/* Its blocks. */
const struct jit_table *jit_cache_table(const struct jit_cache *c);

/* Is there no room for another block? */
bool jit_cache_is_full(struct jit_cache *c);
/* Begin to write a block: takes the lock. False: full, and the lock is not taken. */
bool jit_cache_begin(struct jit_cache *c, struct emit *e);
/* Memory that lives as long as blocks do; NULL: full. Between begin and end. */
void *jit_cache_alloc(struct jit_cache *c, size_t bytes);
/* The block is complete (or b is NULL: was given up) and can be found. Gives the lock back. */
void jit_cache_end(struct jit_cache *c, const struct emit *e, struct jit_block *b);

/*
 * From now on the jump whose way out has this note leads to this block; if that depends on a second page, to a look at
 * jit_cpu.jumps. The displacements of both, of the jump and of the call before the note, are aligned. A jump to another
 * page, whose guard's number is aligned too, always leads to the same one of memory: else it might do so with the old
 * guard's number, for a processor that has seen one change and not the other.
 */
void jit_cache_link(struct jit_cache *c, const struct jit_note *l, const struct jit_block *to);
/* Give up all blocks of a page. Any thread. */
void jit_cache_drop_page(struct jit_cache *c, uint64_t page_index);
/* Forget everything; no vCPU runs or holds on to a block. */
void jit_cache_flush(struct jit_cache *c);
/* Moves when blocks of a page were given up. */
unsigned jit_cache_changes(const struct jit_cache *c);
/* Moves when everything was forgotten: who held on to a block across a wait looks. */
unsigned jit_cache_flushes(const struct jit_cache *c);

#endif
