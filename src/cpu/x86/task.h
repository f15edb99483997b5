/*
 * The task-state segment: stacks of inner privilege levels, and hardware task switches. SDM vol. 3, chapter 7.
 * vCPU thread only.
 */
#ifndef VIREO_CPU_X86_TASK_H
#define VIREO_CPU_X86_TASK_H

#include "cpu/x86/segments.h"

/* Types of system descriptors (S = 0). */
enum {
	X86_SYS_TSS16 = 1,
	X86_SYS_LDT = 2,
	X86_SYS_TSS16_BUSY = 3,
	X86_SYS_CALL16 = 4,
	X86_SYS_TASK = 5,
	X86_SYS_TSS32 = 9,
	X86_SYS_TSS32_BUSY = 11,
	X86_SYS_CALL32 = 12
};

/* The stack of privilege level `cpl` in a 16- or 32-bit TSS; #TS and the like, with `ext` in bit 0 of error codes. */
struct x86_segment x86_inner_stack(struct x86_cpu *cpu, unsigned cpl, uint32_t ext, uint64_t *sp);
/* The stack pointer at `offset` in a 64-bit TSS. */
uint64_t x86_inner_rsp(struct x86_cpu *cpu, unsigned offset, uint32_t ext);

/*
 * Push `count` values of `size` bytes, the first one highest, to the stack ss:sp without moving any register; #SS with
 * `error` when they do not fit. Supervisor accesses: for stacks of an inner level.
 */
struct x86_frame {
	const uint32_t *values;
	unsigned count, size;
	uint32_t error;
};
void x86_push_frame(struct x86_cpu *cpu, const struct x86_segment *ss, uint64_t sp, const struct x86_frame *f);

enum x86_task_kind { X86_TASK_JUMP, X86_TASK_CALL, X86_TASK_IRET };
struct x86_task {
	uint16_t sel;
	struct x86_descriptor desc; /* its, read and found to be a present TSS of the right kind */
	enum x86_task_kind kind;    /* interrupts are calls */
	uint64_t next_rip;	    /* of the task that is left */
	uint32_t ext;
};
/*
 * Change to another task. Faults up to the point of no return are the old task's, later ones the new one's. Not in
 * long mode.
 */
void x86_task_switch(struct x86_cpu *cpu, const struct x86_task *t);
/* The TSS that a task gate, or the back link of an IRET, names; raises `vector` unless it is one that can be used. */
void x86_read_task(struct x86_cpu *cpu, uint16_t sel, uint8_t vector, struct x86_task *t);

#endif
