/* The smallest VM that runs code: RAM, one vCPU, ports that record. For tests only. */
#ifndef VIREO_TESTS_CPU_TINY_VM_H
#define VIREO_TESTS_CPU_TINY_VM_H

#include "cpu/x86/interp.h"

#define TINY_RAM   (16u << 20)
#define TINY_CR3   0x1000u /* identity map of the first GiB by 2 MiB pages */
#define TINY_GDT   0x4000u /* null, 0, 10h code64, 18h data */
#define TINY_CODE  0x10000u
#define TINY_STACK 0x80000u

struct tiny_vm {
	struct loop *loop;
	struct vclock *clock;
	struct mem_space *mem;
	struct engine_vm *vm;
	struct vcpu *vcpu;
	uint32_t last_out; /* value of the last OUT */
	unsigned outs;
};

void tiny_vm_new(struct tiny_vm *t);
void tiny_vm_free(struct tiny_vm *t);
/* Put code at TINY_CODE and the vCPU at it, in 64-bit mode. */
void tiny_vm_load64(struct tiny_vm *t, const void *code, size_t len);
static inline struct x86_cpu *tiny_cpu(struct tiny_vm *t)
{
	return x86_cpu_of(t->vcpu);
}

#endif
