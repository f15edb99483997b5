/*
 * Where a debugger stops vCPUs when all debug registers are taken: an INT3 in the guest's memory
 * (KVM_GUESTDBG_USE_SW_BP). It is there only while a vCPU with this point is in run(), so whoever looks at the memory
 * of a machine that stands still, a debugger or a save, sees the guest's own byte. A point is of a linear address, its
 * patch of a physical one.
 */
#include <stdlib.h>

#include "cpu/kvm/vcpu.h"

#define INT3 0xcc

/* int3_lock held. */
static void settle(struct kvm_vm *vm, struct kvm_patch *p)
{
	const uint8_t int3 = INT3;
	bool want = p->users && !p->held;
	uint8_t now;

	if (want == p->in || !mem_read(vm->cfg.mem, gpa(p->phys), &now, 1))
		return;
	if (want)
		p->byte = now;
	/* What the guest has written there meanwhile stays. */
	if (want || now == INT3)
		mem_write(vm->cfg.mem, gpa(p->phys), want ? &int3 : &p->byte, 1);
	p->in = want;
}

static bool translate(const struct kvm_cpu *cpu, uint64_t lin, uint64_t *phys)
{
	struct kvm_translation t = { .linear_address = lin };

	if (kvm_ioctl(cpu->fd, KVM_TRANSLATE, &t) || !t.valid)
		return false;
	*phys = t.physical_address;
	return true;
}

/* By the address space of `cpu`; in user mode that may lack the kernel, which another vCPU is in. All are stopped. */
static bool translate_somewhere(const struct kvm_cpu *cpu, uint64_t lin, uint64_t *phys)
{
	const struct kvm_vm *vm = cpu->vm;
	bool found = translate(cpu, lin, phys);

	for (unsigned n = 0; n < vm->cfg.cpus && !found; n++)
		found = vm->cpus[n] && translate(vm->cpus[n], lin, phys);
	return found;
}

static struct kvm_patch *find(struct kvm_vm *vm, uint64_t phys)
{
	struct kvm_patch *p = vm->patches;

	while (p && p->phys != phys)
		p = p->next;
	return p;
}

static struct kvm_patch *get_patch(struct kvm_vm *vm, uint64_t phys)
{
	struct kvm_patch *p = find(vm, phys);

	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return NULL;
		p->phys = phys;
		p->next = vm->patches;
		vm->patches = p;
	}
	p->points++;
	return p;
}

static void put_patch(struct kvm_vm *vm, struct kvm_patch *p)
{
	struct kvm_patch **at = &vm->patches;

	if (--p->points)
		return;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	free(p);
}

/* Where the guest has memory that can be written to. */
static bool place(const struct kvm_cpu *cpu, uint64_t lin, uint64_t *phys)
{
	struct mem_space *mem = cpu->vm->cfg.mem;
	uint8_t byte;

	return translate_somewhere(cpu, lin, phys) && mem_read(mem, gpa(*phys), &byte, 1) &&
	       mem_write(mem, gpa(*phys), &byte, 1);
}

int kvm_int3_add(struct kvm_cpu *cpu, const struct debug_point *point, struct err *err)
{
	struct kvm_patch *p;
	uint64_t phys;

	if (!kvm_debug_by(cpu->vm, KVM_STOP_INT3))
		return err_set(err, "KVM stops at %u places at most here: an INT3 is the guest's",
			       kvm_debug_by(cpu->vm, KVM_STOP_INSN) ? KVM_STOPS : 0);
	if (!place(cpu, point->addr, &phys))
		return err_set(err, "KVM stops at %u places and by INT3s, for which there is no memory at %#llx",
			       KVM_STOPS, (unsigned long long)point->addr);
	if (!cpu->soft)
		cpu->soft = calloc(DEBUG_POINTS, sizeof(*cpu->soft));
	p = cpu->soft ? get_patch(cpu->vm, phys) : NULL;
	if (!p)
		return err_set(err, "out of memory");
	cpu->soft[cpu->soft_count++] = (struct kvm_soft_point){ *point, p };
	return 0;
}

void kvm_int3_clear(struct kvm_cpu *cpu)
{
	kvm_int3_release(cpu);
	while (cpu->soft_count)
		put_patch(cpu->vm, cpu->soft[--cpu->soft_count].patch);
}

const struct kvm_soft_point *kvm_int3_at(const struct kvm_cpu *cpu, uint64_t lin)
{
	for (unsigned n = 0; n < cpu->soft_count; n++)
		if (cpu->soft[n].point.addr == lin)
			return &cpu->soft[n];
	return NULL;
}

struct kvm_patch *kvm_int3_below(const struct kvm_cpu *cpu, uint64_t lin)
{
	uint64_t phys;

	return translate(cpu, lin, &phys) ? find(cpu->vm, phys) : NULL;
}

static void use(struct kvm_cpu *cpu, int by)
{
	pthread_mutex_lock(&cpu->vm->int3_lock);
	for (unsigned n = 0; n < cpu->soft_count; n++) {
		cpu->soft[n].patch->users += by;
		settle(cpu->vm, cpu->soft[n].patch);
	}
	pthread_mutex_unlock(&cpu->vm->int3_lock);
}

void kvm_int3_enter(struct kvm_cpu *cpu)
{
	if (cpu->soft_count)
		use(cpu, 1);
}

void kvm_int3_leave(struct kvm_cpu *cpu)
{
	if (cpu->soft_count)
		use(cpu, -1);
}

void kvm_int3_release(struct kvm_cpu *cpu)
{
	if (!cpu->held)
		return;
	pthread_mutex_lock(&cpu->vm->int3_lock);
	cpu->held->held--;
	settle(cpu->vm, cpu->held);
	cpu->held = NULL;
	pthread_mutex_unlock(&cpu->vm->int3_lock);
}

void kvm_int3_hold(struct kvm_cpu *cpu, struct kvm_patch *p)
{
	kvm_int3_release(cpu);
	pthread_mutex_lock(&cpu->vm->int3_lock);
	cpu->held = p;
	p->held++;
	settle(cpu->vm, p);
	pthread_mutex_unlock(&cpu->vm->int3_lock);
}
