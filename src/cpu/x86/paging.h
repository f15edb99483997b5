/*
 * Linear to physical addresses: page walks, TLB fills and flushes (paging.c). SDM vol. 3, chapter 4.
 * vCPU thread only.
 */
#ifndef VIREO_CPU_X86_PAGING_H
#define VIREO_CPU_X86_PAGING_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/x86/cpu.h"

enum x86_access { X86_READ, X86_WRITE, X86_FETCH };

/* Fill the data TLB for the current view, or raise. NULL: not plain RAM (MMIO, ROM write, breakpoint page); *phys is
 * set. */
struct x86_tlb_entry *x86_tlb_fill(struct x86_cpu *cpu, enum x86_tlb_view view, uint64_t lin, enum x86_access a,
				   uint64_t *phys);
/* The instruction page of `lin`; raises #PF, or #GP when not canonical. */
const struct x86_itlb_entry *x86_itlb_fill(struct x86_cpu *cpu, uint64_t lin);

void x86_tlb_flush(struct x86_cpu *cpu, bool global_too);
void x86_tlb_flush_page(struct x86_cpu *cpu, uint64_t lin);

static inline bool x86_canonical(uint64_t lin)
{
	return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

#endif
