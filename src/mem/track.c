/*
 * Who wrote to a page: the dirty log, and the hook for pages that hold decoded code.
 *
 * A writer stores and then reads the page's flags; a tracker sets a flag and then reads the page.
 * Each must see the other's store, which needs a full fence on both sides. Writers are hot, trackers
 * rare: the tracker pays for both with membarrier(2) (mem_fence_all()).
 */
#include <linux/membarrier.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mem/slots.h"

void mem_fence_init(void)
{
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

void mem_fence_all(void)
{
	/* Kernels without it (or sandboxes that refuse it) have the slow, global form or nothing. */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	atomic_thread_fence(memory_order_seq_cst);
}

static struct mem_slot *slot_of_page(struct mem_space *s, uint64_t page, uint64_t *in_slot)
{
	s = mem_root(s);
	for (unsigned i = 0; i < s->count; i++) {
		*in_slot = page - s->slots[i].first_page;
		if (*in_slot < s->slots[i].size >> MEM_PAGE_SHIFT)
			return &s->slots[i];
	}
	return NULL;
}

/*
 * A page that is not clean has its bit set, or somebody who made it so is about to set it: hence the bit is cleared
 * before the page becomes clean (mem_dirty_fetch()), and set after it has ceased to be. A page that is clean with its
 * bit set is reported once more than needed.
 */
static void page_written(struct mem_space *s, const struct mem_slot *slot, uint64_t page, uint32_t offset, uint32_t len)
{
	uint8_t flags = slot->flags[page];

	if (flags & MEM_PAGE_CLEAN) {
		atomic_fetch_and(&slot->flags[page], (uint8_t)~MEM_PAGE_CLEAN);
		atomic_fetch_or(&slot->dirty[page / 64], 1ull << (page % 64));
		if (slot->watched)
			atomic_fetch_or(&slot->watched[page / 64], 1ull << (page % 64));
	}
	if (flags & MEM_PAGE_CODE && s->code_fn)
		s->code_fn(s->code_opaque, slot->first_page + page, offset, len);
}

void mem_slot_written(struct mem_space *root, const struct mem_slot *slot, uint64_t offset, uint64_t len)
{
	for (uint32_t n; len; offset += n, len -= n) {
		uint32_t left = MEM_PAGE_SIZE - (offset & (MEM_PAGE_SIZE - 1));

		n = len < left ? (uint32_t)len : left;
		page_written(root, slot, offset >> MEM_PAGE_SHIFT, offset & (MEM_PAGE_SIZE - 1), n);
	}
}

void mem_written(struct mem_space *s, gpa_t at, uint64_t len)
{
	while (len) {
		struct mem_slot *slot = mem_slot_at(s, at.v);
		uint32_t left = MEM_PAGE_SIZE - (at.v & (MEM_PAGE_SIZE - 1)), n = len < left ? (uint32_t)len : left;

		if (!slot)
			return;
		mem_slot_written(mem_root(s), slot->of ? slot->of : slot,
				 at.v - slot->base + (slot->of_page << MEM_PAGE_SHIFT), n);
		at.v += n;
		len -= n;
	}
}

void mem_set_code_hook(struct mem_space *s, mem_code_fn *fn, void *opaque)
{
	s = mem_root(s);
	s->code_opaque = opaque;
	s->code_fn = fn;
}

void mem_code_set(struct mem_space *s, uint64_t page_index)
{
	uint64_t page;
	struct mem_slot *slot = slot_of_page(s, page_index, &page);

	if (slot)
		atomic_fetch_or(&slot->flags[page], MEM_PAGE_CODE);
}

void mem_code_clear(struct mem_space *s, uint64_t page_index)
{
	uint64_t page;
	struct mem_slot *slot = slot_of_page(s, page_index, &page);

	if (slot)
		atomic_fetch_and(&slot->flags[page], (uint8_t)~MEM_PAGE_CODE);
}

/* --- dirty log --- */

static void all_pages(struct mem_space *s, bool clean)
{
	s = mem_root(s);
	for (unsigned i = 0; i < s->count; i++) {
		struct mem_slot *slot = &s->slots[i];

		for (size_t w = 0; w < mem_dirty_bytes(slot) / 8; w++)
			slot->dirty[w] = 0;
		for (uint64_t p = 0; p < slot->size >> MEM_PAGE_SHIFT; p++) {
			if (clean)
				atomic_fetch_or(&slot->flags[p], MEM_PAGE_CLEAN);
			else
				atomic_fetch_and(&slot->flags[p], (uint8_t)~MEM_PAGE_CLEAN);
		}
		/* Nobody tells of writes to these any more, so they are written to. */
		for (size_t w = 0; w < mem_dirty_bytes(slot) / 8 && slot->watched && !clean; w++)
			slot->watched[w] = ~0ull;
	}
}

void mem_dirty_start(struct mem_space *s)
{
	mem_root(s)->logging = true;
	all_pages(s, true);
	mem_fence_all();
}

void mem_dirty_stop(struct mem_space *s)
{
	mem_root(s)->logging = false;
	all_pages(s, false);
}

void mem_dirty_fetch(struct mem_space *s, uint64_t first, uint64_t count, uint64_t *bitmap)
{
	for (uint64_t i = 0; i < (count + 63) / 64; i++)
		bitmap[i] = 0;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t page;
		struct mem_slot *slot = slot_of_page(s, first + i, &page);
		uint64_t bit = 1ull << (page % 64);

		if (!slot || !(slot->dirty[page / 64] & bit))
			continue;
		atomic_fetch_and(&slot->dirty[page / 64], ~bit);
		atomic_fetch_or(&slot->flags[page], MEM_PAGE_CLEAN);
		bitmap[i / 64] |= 1ull << (i % 64);
	}
	/* Stores that saw the page as dirty are in memory before the caller copies it. */
	mem_fence_all();
}
