/* Descriptors, for the files that load segments: segments.c, far.c, deliver.c, sysseg.c. vCPU thread only. */
#ifndef VIREO_CPU_X86_SEGMENTS_H
#define VIREO_CPU_X86_SEGMENTS_H

#include "cpu/x86/cpu.h"

struct x86_descriptor {
	uint64_t raw; /* the 8 bytes */
	uint64_t at;  /* linear address */
	uint64_t base;
	uint32_t limit; /* in bytes */
	uint16_t attr;	/* as struct x86_segment */
};

/* False when `sel` lies outside its table. May raise #PF. */
bool x86_read_descriptor(struct x86_cpu *cpu, uint16_t sel, struct x86_descriptor *d);
struct x86_segment x86_descriptor_segment(const struct x86_descriptor *d, uint16_t sel);
/* Set the accessed bit in memory. */
void x86_mark_accessed(struct x86_cpu *cpu, const struct x86_descriptor *d);

static inline unsigned x86_dpl(const struct x86_descriptor *d)
{
	return d->attr >> X86_SEG_DPL_SHIFT & 3;
}

#endif
