/*
 * The smallest VM that runs code: RAM, vCPUs (one unless asked for more), ports that record. For tests only.
 * Its engine is the interpreter unless VIREO_TEST_ENGINE names another one, which must be built on it; a translator
 * translates everything at once.
 */
#ifndef VIREO_TESTS_CPU_TINY_VM_H
#define VIREO_TESTS_CPU_TINY_VM_H

#include "cpu/x86/interp.h"
#include "irq/x86/irqchip.h"

#define TINY_CPUS  4
#define TINY_RAM   (16u << 20)
#define TINY_SMRAM 0xa0000u /* 128 KiB */
#define TINY_CR3   0x1000u  /* identity map of the first GiB by 2 MiB pages */
#define TINY_GDT   0x4000u  /* null, 0, 10h code64, 18h data */
#define TINY_CODE  0x10000u
#define TINY_STACK 0x80000u

struct tiny_vm {
	const struct engine *engine;
	struct loop *loop;
	struct config *config; /* NULL: defaults */
	struct vclock *clock;
	struct mem_space *mem;
	struct mem_space *smm_mem; /* the same with SMRAM over it */
	struct irqchip *chip;	   /* with more than one vCPU, or a split one */
	struct engine_vm *vm;
	struct vcpu *vcpu; /* the first */
	struct vcpu *vcpus[TINY_CPUS];
	unsigned cpus;
	/* Outside of RAM; may be NULL. */
	uint64_t (*on_mmio_read)(struct tiny_vm *t, uint64_t addr);
	void (*on_mmio)(struct tiny_vm *t, uint64_t addr);
	/* Of all accesses there: how many, and a number that depends on what each was and on their order. */
	uint64_t mmio_count, mmio_digest;
	uint32_t last_out; /* value of the last OUT */
	unsigned outs;
	bool kick_on_out; /* leave run() at the next OUT */
	int irq;	  /* the vector of an interrupt that waits, or -1 */
	uint64_t apic_base;
};

void tiny_vm_new(struct tiny_vm *t);
void tiny_vm_new_with(struct tiny_vm *t, unsigned cpus, enum clock_source clock);
/* The engine of most tests: the interpreter, or what VIREO_TEST_ENGINE names. */
const struct engine *tiny_software(void);
/* One vCPU of a CPU model, as "cpu.model" takes it. */
void tiny_vm_new_model(struct tiny_vm *t, const char *model, enum clock_source clock);
/* One vCPU on another engine than the interpreter. */
void tiny_vm_new_on(struct tiny_vm *t, const struct engine *engine);
/* The same by the engine's keys in `config`, which is taken; NULL: none. */
void tiny_vm_new_configured(struct tiny_vm *t, const struct engine *engine, struct config *config);
/* The same with the engine's own local APIC; the other controllers are in `chip`. `config` may be NULL; it is taken. */
void tiny_vm_new_split(struct tiny_vm *t, const struct engine *engine, struct config *config);
/* Any number of vCPUs, with local APICs there. */
void tiny_vm_new_cpus(struct tiny_vm *t, const struct engine *engine, unsigned cpus, enum engine_intc place);
void tiny_vm_free(struct tiny_vm *t);
/* Put code at TINY_CODE and the vCPU at it, in 64-bit mode. */
void tiny_vm_load64(struct tiny_vm *t, const void *code, size_t len);
/* Put any vCPU at `rip` in 64-bit mode. */
void tiny_vm_enter64(struct tiny_vm *t, unsigned cpu, uint64_t rip, uint64_t rsp);
static inline struct x86_cpu *tiny_cpu_at(struct tiny_vm *t, unsigned cpu)
{
	return x86_cpu_of(t->vcpus[cpu]);
}
static inline struct x86_cpu *tiny_cpu(struct tiny_vm *t)
{
	return x86_cpu_of(t->vcpu);
}

#endif
