/*
 * Guest-physical memory: a list of RAM slots, and the only code that turns a guest-physical
 * address into a host pointer.
 *
 * gpa_t is a struct so that it cannot be mixed up with an integer or a pointer. Every access says
 * its length and is checked with overflow-safe arithmetic. Accesses from C are relaxed atomics of
 * their natural size where aligned, so that a guest's aligned 1-8 byte value is never torn.
 *
 * Slots are added before vCPUs run (or with the world stopped). Accessors: any thread, lock-free.
 */
#ifndef VIREO_MEM_MEM_H
#define VIREO_MEM_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct {
	uint64_t v;
} gpa_t;

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){ v };
}

#define MEM_PAGE_SHIFT 12
#define MEM_PAGE_SIZE  4096u

/*
 * One byte of flags per RAM page. A store to a page whose flags are not 0 must be followed by
 * mem_written(); engines read the byte in their store path (struct mem_window.flags).
 */
#define MEM_PAGE_CODE  1u /* decoded or translated instructions came from this page */
#define MEM_PAGE_CLEAN 2u /* dirty logging is on and the page is still clean */

struct mem_space;
struct mem_window;

enum mem_backing {
	MEM_ANON,  /* anonymous, transparent huge pages; the default */
	MEM_MEMFD, /* shareable with another process */
	MEM_FILE   /* mapping of a file: instant restore, or for others to see */
};

struct mem_slot_config {
	const char *name; /* "ram-low", "bios" */
	gpa_t base;	  /* page aligned */
	uint64_t size;	  /* bytes, page aligned, not 0 */
	enum mem_backing backing;
	int fd;		    /* MEM_FILE: borrowed */
	uint64_t fd_offset; /* MEM_FILE: page aligned */
	bool readonly;	    /* ROM: guest and DMA writes are dropped */
	bool shared;	    /* MEM_FILE: what is written is in the file; else it is private */
	bool prealloc;	    /* have the host give all of it now */
	bool hugetlb;	    /* MEM_FILE, of huge pages: have all of them reserved now, and keep them */
};

struct mem_space *mem_space_new(void);
/*
 * Another look at the same memory, as SMM has it: all slots of `below`, which is no such look itself, but where slots
 * of its own lie. Page indexes, the code hook and the dirty log are those of `below`, which is freed after it.
 */
struct mem_space *mem_space_over(struct mem_space *below);
void mem_space_free(struct mem_space *s);

/* Overlap with an existing slot is an error. RAM is zeroed unless MEM_FILE. */
int mem_add_slot(struct mem_space *s, const struct mem_slot_config *c, struct err *err);
unsigned mem_slot_count(const struct mem_space *s);
/* RAM bytes without ROM. */
uint64_t mem_ram_size(const struct mem_space *s);

/*
 * --- overlays: what a chipset can put over a part of a slot while the machine runs ---
 * Made before vCPUs run, each within one slot. In a look over the space (mem_space_over()) an overlay has a mode of its
 * own; both begin as MEM_OVERLAY_NONE. Setting it: any thread; engines have to hear of it (engine.remapped).
 */
enum mem_overlay_mode {
	MEM_OVERLAY_NONE,     /* as if it were not there */
	MEM_OVERLAY_READONLY, /* what lies below cannot be written */
	MEM_OVERLAY_ROM,      /* the ROM is there; without one: a hole */
	MEM_OVERLAY_HOLE      /* nothing is there: accesses go to the bus */
};
struct mem_overlay_config {
	const char *name;
	gpa_t base; /* whole pages */
	uint64_t size;
	bool has_rom;
	gpa_t rom; /* what the ROM shows: `size` bytes from there, in one slot */
};
/* Its number, or -1. */
int mem_add_overlay(struct mem_space *s, const struct mem_overlay_config *c, struct err *err);
void mem_overlay_set(struct mem_space *s, unsigned n, enum mem_overlay_mode mode);
/* Read and write what lies below one overlay, whatever its mode is. */
bool mem_overlay_read(struct mem_space *s, gpa_t at, void *buf, size_t len);
bool mem_overlay_write(struct mem_space *s, gpa_t at, const void *buf, size_t len);

/*
 * --- memory that moves: what a BAR of a PCI function shows ---
 * A slot that lies nowhere until it is moved: `c->base` is not looked at, the size is a power of two. Before vCPUs run;
 * its number, or -1. Where a slot that does not move lies, that one is seen.
 */
#define MEM_MOVABLE_MIN (1ull << 16)
#define MEM_MOVABLE_END (1ull << 32) /* it can be moved to multiples of its size below this */
int mem_add_movable(struct mem_space *s, const struct mem_slot_config *c, struct err *err);
/* 0: nowhere. False: it is nowhere now. One thread at a time; engines have to hear of it (engine.remapped). */
bool mem_move(struct mem_space *s, unsigned n, uint64_t base);
uint8_t *mem_movable_host(struct mem_space *s, unsigned n);
/* After a store through that pointer. */
void mem_movable_written(struct mem_space *s, unsigned n, uint64_t offset, uint64_t len);
/*
 * The pages that were written to since the last call, a bit each: all of them at first. False: none. Beside the dirty
 * log, and like that one blind for engines that store past the flags of pages (engine.dirty_log). One thread at a time.
 */
bool mem_movable_fetch(struct mem_space *s, unsigned n, uint64_t *bitmap);

/*
 * Piece `n` of the space: slots as overlays cut them, whose extent never changes, and then those that move. False:
 * there is nothing now.
 */
unsigned mem_piece_count(const struct mem_space *s);
bool mem_piece_window(struct mem_space *s, unsigned n, struct mem_window *w);

/* --- copies: the whole range must be RAM (or ROM, for reads), else nothing is copied and false --- */
bool mem_read(struct mem_space *s, gpa_t at, void *buf, size_t len);
bool mem_write(struct mem_space *s, gpa_t at, const void *buf, size_t len);
bool mem_fill(struct mem_space *s, gpa_t at, uint8_t byte, uint64_t len);
/* Give pages that lie wholly in the range back to the host: they read as zero, or as before, from now on. */
void mem_discard(struct mem_space *s, gpa_t at, uint64_t len);
/* Loaders only: writes ROM too. */
bool mem_load_rom(struct mem_space *s, gpa_t at, const void *buf, size_t len);

/* --- DMA: map, use, unmap --- */
enum mem_dir { MEM_TO_DEVICE, MEM_FROM_DEVICE };
struct mem_map {
	void *host;
	size_t len;
	/* private */
	struct mem_space *space;
	gpa_t at;
	enum mem_dir dir;
};
/* False if the range is not all within one RAM slot. MMIO and ROM targets are refused. */
bool mem_dma_map(struct mem_space *s, gpa_t at, size_t len, enum mem_dir dir, struct mem_map *m);
/* `written`: bytes from the start that the device wrote. Marks dirty and invalidates code. */
void mem_dma_unmap(struct mem_map *m, size_t written);

/* --- for engines --- */
struct mem_window {
	uint8_t *host; /* of `base` */
	gpa_t base;    /* page aligned */
	uint64_t size; /* bytes to the end of the slot */
	bool readonly;
	_Atomic uint8_t *flags;	       /* of the page at `base`; one byte per page */
	uint64_t page_index;	       /* of `base`: dense, unique over all slots, below mem_page_count() */
	const struct mem_space *space; /* that has the slot: another one than was asked where one lies over it */
};
/* The window that starts at the page of `at` and reaches to the end of its slot. False: no RAM there. */
bool mem_window(struct mem_space *s, gpa_t at, struct mem_window *w);
/* The i-th slot, for saving RAM; one that moves has the base 0. */
bool mem_slot_window(struct mem_space *s, unsigned i, struct mem_window *w, const char **name);
uint64_t mem_page_count(const struct mem_space *s);
/* The way back from a host address that a window of this very space gave. */
bool mem_address_of(const struct mem_space *s, const void *host, gpa_t *at);

/* After a store to a page whose flags byte was not 0. Cheap when nothing is to do. */
void mem_written(struct mem_space *s, gpa_t at, uint64_t len);

/*
 * The engine's code tracker: called by mem_written() (so also for DMA and device copies) for each
 * page with MEM_PAGE_CODE. `offset`, `len` lie within the page. The callee may clear the flag with
 * mem_code_clear(). Any thread.
 */
typedef void mem_code_fn(void *opaque, uint64_t page_index, uint32_t offset, uint32_t len);
void mem_set_code_hook(struct mem_space *s, mem_code_fn *fn, void *opaque);
void mem_code_set(struct mem_space *s, uint64_t page_index);
void mem_code_clear(struct mem_space *s, uint64_t page_index);

/*
 * A full memory fence in every thread of this process: after it, a store made before any thread's read
 * of a page's flags is visible here. For trackers that have just set a flag.
 */
void mem_fence_init(void);
void mem_fence_all(void);

/* --- dirty log: one bit per page index; pages of slots that are added meanwhile are dirty --- */
void mem_dirty_start(struct mem_space *s); /* all pages become clean */
void mem_dirty_stop(struct mem_space *s);
/* Moves the bits of [first, first + count) to `bitmap` (count / 64 rounded up words) and makes them clean. */
void mem_dirty_fetch(struct mem_space *s, uint64_t first, uint64_t count, uint64_t *bitmap);

#endif
