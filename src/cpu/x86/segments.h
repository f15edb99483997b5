/* Descriptors, for the files that load segments: segments.c, far.c, task.c, deliver.c, sysseg.c. vCPU thread only. */
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

/* As x86_load_seg() in protected mode, with `vector` for bad selectors and `ext` in bit 0 of error codes. */
void x86_load_seg_as(struct x86_cpu *cpu, enum x86_seg seg, uint16_t sel, uint8_t vector, uint32_t ext);
void x86_load_ldtr(struct x86_cpu *cpu, uint16_t sel, uint8_t vector, uint32_t ext);

/* Offsets from `lo` to `hi` lie within an expand-up or expand-down limit. SDM vol. 3, 5.3. */
static inline bool x86_within_limit(const struct x86_segment *s, uint64_t lo, uint64_t hi)
{
	bool code = s->attr & 8, down = !code && s->attr & 4;
	uint64_t top = s->attr & X86_SEG_DB ? 0xffffffff : 0xffff;

	return down ? lo > s->limit && hi <= top : hi <= s->limit;
}

static inline unsigned x86_dpl(const struct x86_descriptor *d)
{
	return d->attr >> X86_SEG_DPL_SHIFT & 3;
}

#endif
