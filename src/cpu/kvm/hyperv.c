/*
 * Hyper-V's interface under KVM, which implements it (virt/kvm/x86 of Linux, hyperv.c): its MSRs to and from the saved
 * state, of which the partition's are with the processor model. They are touched only where the model has any of it.
 */
#include <string.h>

#include "base/bytes.h"
#include "cpu/kvm/kvm.h"

#define VP_ASSIST 0x40000073u

/* In this order, and backwards where there is no name: without the guest's name KVM takes no hypercall page. */
static const struct {
	uint32_t msr;
	size_t offset;
} partition[] = {
	{ 0x40000000, offsetof(struct x86_partition, guest_os_id) },
	{ 0x40000001, offsetof(struct x86_partition, hypercall) },
	{ 0x40000021, offsetof(struct x86_partition, reference_tsc) },
};

static uint64_t *value(struct kvm_vm *vm, size_t n)
{
	return (uint64_t *)((char *)&vm->model.partition + partition[n].offset);
}

void kvm_hyperv_fetch(struct kvm_vm *vm)
{
	if (!x86_hyperv_offered(vm->features) || !vm->cpus[0])
		return;
	for (size_t n = 0; n < ARRAY_LEN(partition); n++)
		kvm_msr_transfer(vm->cpus[0], KVM_GET_MSRS, partition[n].msr, value(vm, n));
	vm->partition_known = vm->model.partition;
}

/* A vCPU's state may be set while the partition's in vm->model is an old one: only what was loaded since goes to KVM.
 */
static uint32_t partition_set(struct kvm_cpu *cpu)
{
	struct kvm_vm *vm = cpu->vm;

	if (!memcmp(&vm->partition_known, &vm->model.partition, sizeof(vm->partition_known)))
		return 0;
	for (size_t k = 0; k < ARRAY_LEN(partition); k++) {
		size_t n = vm->model.partition.guest_os_id ? k : ARRAY_LEN(partition) - 1 - k;

		if (!kvm_msr_transfer(cpu, KVM_SET_MSRS, partition[n].msr, value(vm, n)))
			return partition[n].msr;
	}
	vm->partition_known = vm->model.partition;
	return 0;
}

void kvm_hyperv_get(struct kvm_cpu *cpu, struct x86_state *s)
{
	if (x86_hyperv_offered(cpu->vm->features))
		kvm_msr_transfer(cpu, KVM_GET_MSRS, VP_ASSIST, &s->hv_vp_assist);
}

uint32_t kvm_hyperv_set(struct kvm_cpu *cpu, const struct x86_state *s)
{
	uint64_t v = s->hv_vp_assist;
	uint32_t refused;

	if (!x86_hyperv_offered(cpu->vm->features))
		return 0;
	refused = cpu->vcpu.index ? 0 : partition_set(cpu);
	return refused || kvm_msr_transfer(cpu, KVM_SET_MSRS, VP_ASSIST, &v) ? refused : VP_ASSIST;
}
