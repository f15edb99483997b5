/*
 * Linear to physical addresses: page walks (paging.c), and what is remembered of them (tlb.c). SDM vol. 3, chapter 4.
 * vCPU thread only.
 */
#ifndef VIREO_CPU_X86_PAGING_H
#define VIREO_CPU_X86_PAGING_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/x86/cpu.h"

enum x86_access { X86_READ, X86_WRITE, X86_FETCH };

struct x86_translation {
	uint64_t phys;
	uint64_t page_mask; /* offsets in the page */
	bool writable;	    /* for this privilege, with D set: a write tag may be filled */
	bool global;
	bool keyed;	   /* the page has a protection key other than 0, which matters */
	uint64_t entry_at; /* the physical address of the last entry */
	uint64_t upper;	   /* of the bits W and U those that all entries before it have */
};
/*
 * Walk for an access at privilege `user` (SMAP: `ac` exempts supervisor data accesses). Sets A and, for writes, D.
 * Raises #PF (CR2 set). Implicit supervisor accesses (descriptor tables, TSS, delivery) pass user = false, ac = false.
 */
void x86_translate(struct x86_cpu *cpu, uint64_t lin, enum x86_access a, bool user, bool ac, struct x86_translation *t);

/* Fill the data TLB for the current view, or raise. NULL: not plain RAM (MMIO, ROM write, breakpoint page); *phys is
 * set. */
struct x86_tlb_entry *x86_tlb_fill(struct x86_cpu *cpu, enum x86_tlb_view view, uint64_t lin, enum x86_access a,
				   uint64_t *phys);
/* The instruction page of `lin`; raises #PF, or #GP when not canonical. */
const struct x86_itlb_entry *x86_itlb_fill(struct x86_cpu *cpu, uint64_t lin);

/* Where RAM is has changed, as this vCPU sees it: forget everything. */
void x86_tlb_forget_ram(struct x86_cpu *cpu);
/* engine.h */
void x86_remapped(struct engine_vm *vm, struct vcpu *self);
/* Nothing is known yet. */
void x86_tlb_init(struct x86_cpu *cpu);
/* Forget everything. */
void x86_tlb_flush(struct x86_cpu *cpu);
/* These bits of PKRU have changed, which says what data accesses a page's protection key permits. */
void x86_tlb_keys_changed(struct x86_cpu *cpu, uint32_t changed);
/* INVLPG: what is remembered of this page in the current address space, and if it is global. */
void x86_tlb_flush_page(struct x86_cpu *cpu, uint64_t lin);
/* What is remembered of an address space, but for global pages. 0 where there are no PCIDs. */
void x86_tlb_flush_space(struct x86_cpu *cpu, unsigned pcid);
/*
 * CR3 changes to address space `to`. `keep`: what is remembered of it may still hold. Entries of the one that is left
 * are kept until x86_tlb_flush_space().
 */
void x86_tlb_switch(struct x86_cpu *cpu, unsigned to, bool keep);

/* The current address space. */
static inline unsigned x86_pcid(const struct x86_cpu *cpu)
{
	return cpu->s.cr4 & X86_CR4_PCIDE ? cpu->s.cr3 & 0xfff : 0;
}

static inline bool x86_canonical(uint64_t lin)
{
	return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

#endif
