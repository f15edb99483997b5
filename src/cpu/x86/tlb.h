/*
 * How an entry of the data TLB is filled without a walk, from what is remembered of the page's region. Inline, for the
 * translator calls it where nothing else may be called (cpu/jit/quick.c). Private to the TLB and the translator; vCPU
 * thread only.
 */
#ifndef VIREO_CPU_X86_TLB_H
#define VIREO_CPU_X86_TLB_H

#include "base/bytes.h"
#include "cpu/x86/access.h"

/* Entries of page tables. */
#define PTE_P	 1ull
#define PTE_W	 2ull
#define PTE_U	 4ull
#define PTE_A	 0x20ull
#define PTE_D	 0x40ull
#define PTE_PS	 0x80ull
#define PTE_G	 0x100ull
#define PTE_NX	 (1ull << 63)
#define PTE_KEY	 59 /* bits 62:59 */
#define PTE_ADDR 0x000ffffffffff000ull

/* paging.c: bits that are reserved in an entry of 8 bytes for a page of 4 KiB, with four levels of tables. */
uint64_t x86_pte_reserved(const struct x86_cpu *cpu);

/* x86_cpu.tlb_notes[] */
#define X86_TLB_IN_LOCAL  1u /* the list, */
#define X86_TLB_IN_GLOBAL 2u
#define X86_TLB_IN_KEYED  4u
#define X86_TLB_IN_LISTS  (X86_TLB_IN_LOCAL | X86_TLB_IN_GLOBAL | X86_TLB_IN_KEYED)
#define X86_TLB_IS_LOCAL  8u /* the entry */

static inline void x86_tlb_note(struct x86_cpu *cpu, unsigned slot, bool global)
{
	struct x86_slots *l = global ? &cpu->tlb_global : &cpu->tlb_local;
	uint8_t *n = &cpu->tlb_notes[slot], in = global ? X86_TLB_IN_GLOBAL : X86_TLB_IN_LOCAL;

	if (!(*n & in))
		l->slot[l->count++] = (uint16_t)slot;
	*n = (*n & X86_TLB_IN_LISTS) | in | (global ? 0 : X86_TLB_IS_LOCAL);
}

/* `e` is the entry for `lin`, in RAM at `phys`, which is at `host` and has its byte of flags at `flags`. */
static inline void x86_tlb_put(struct x86_cpu *cpu, struct x86_tlb_entry *e, uint64_t lin, bool writable,
			       const struct x86_ram *page)
{
	*e = (struct x86_tlb_entry){
		.rtag = lin & ~X86_PAGE_MASK,
		.wtag = writable ? lin & ~X86_PAGE_MASK : x86_tlb_none(lin >> 12 & (X86_TLB_SIZE - 1)),
		.host = page->host,
		.flags = page->flags,
	};
	cpu->tlb_phys[e - &cpu->tlbs[0][0]] = page->base;
}

/* What is in a slot is of one view: no region is in the same one in two of them. */
static inline struct x86_region *x86_region_slot(struct x86_cpu *cpu, enum x86_tlb_view view, uint64_t lin)
{
	return &cpu->regions[(lin >> X86_REGION_SHIFT ^ lin >> 30 ^ (uint64_t)view << 8) & (X86_REGIONS - 1)];
}

/* The page of `lin` in a region with a page table, as its entry is now. False: a walk has to say what is to be done. */
static inline bool x86_region_page(struct x86_cpu *cpu, const struct x86_region *r, uint64_t lin, bool write,
				   struct x86_ram *page, uint64_t *entry)
{
	uint64_t e = le64toh(X86_HOST_LOAD(64, &r->table[(lin & X86_REGION_MASK) >> 12])), phys = e & PTE_ADDR, at;
	const struct x86_ram *ram = &cpu->ram[phys >> 32 != 0];

	*entry = e;
	at = phys - ram->base;
	if ((e ^ r->value) & (r->mask | (write ? PTE_W | PTE_D : 0)) || at >= ram->size)
		return false;
	*page = (struct x86_ram){ .base = phys, .host = ram->host + at, .flags = ram->flags + (at >> 12) };
	return true;
}

/* NULL: this takes a walk, x86_tlb_fill(). */
static inline struct x86_tlb_entry *x86_tlb_refill(struct x86_cpu *cpu, enum x86_tlb_view view, uint64_t lin,
						   bool write)
{
	const struct x86_region *r = x86_region_slot(cpu, view, lin);
	struct x86_tlb_entry *entry = x86_tlb_slot(cpu->tlbs[view], lin);
	bool writable = r->writable, global = r->global;
	struct x86_ram page;
	uint64_t e;

	if (r->tag != (lin & ~X86_REGION_MASK) || r->epoch != cpu->space->epoch || (write && !writable))
		return NULL;
	if (r->table) {
		if (!x86_region_page(cpu, r, lin, write, &page, &e))
			return NULL;
		writable &= (e & (PTE_W | PTE_D)) == (PTE_W | PTE_D);
		global &= (e & PTE_G) != 0;
	} else {
		uint64_t at = lin & X86_REGION_MASK & ~X86_PAGE_MASK;

		page = (struct x86_ram){ .base = r->phys + at, .host = r->host + at, .flags = r->flags + (at >> 12) };
	}
	stat_add(&cpu->refills, 1);
	x86_tlb_note(cpu, (unsigned)(entry - &cpu->tlbs[0][0]), global);
	x86_tlb_put(cpu, entry, lin, writable, &page);
	return entry;
}

#endif
