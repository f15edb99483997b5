/* CPUID under KVM: the model of the configuration, less what this KVM or its processor cannot give. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/kvm/kvm.h"
#include "cpu/x86/xsave.h"

#define ENTRIES_MAX 256

static struct kvm_cpuid2 *table_new(void)
{
	struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + ENTRIES_MAX * sizeof(t->entries[0]));

	if (t)
		t->nent = ENTRIES_MAX;
	return t;
}

/*
 * What KVM leaves to user space, whatever its table says. With the local APIC in user space its x2APIC mode, deadline
 * timer and paravirtual EOI, wake-up and IPIs cannot work; nor can the last two where no hypercall comes to KVM.
 */
enum who { ALWAYS, KERNEL_APIC, HYPERCALLS };
static const struct {
	uint32_t leaf;
	enum x86_cpuid_reg reg;
	uint8_t bit;
	enum who who;
} ours[] = {
	{ 1, X86_CPUID_ECX, 21, KERNEL_APIC },		/* x2APIC */
	{ 1, X86_CPUID_ECX, 24, KERNEL_APIC },		/* TSC deadline timer */
	{ 0x40000001, X86_CPUID_EAX, 6, KERNEL_APIC },	/* PV EOI */
	{ 0x40000001, X86_CPUID_EAX, 7, HYPERCALLS },	/* PV unhalt */
	{ 0x40000001, X86_CPUID_EAX, 11, HYPERCALLS },	/* PV IPIs */
	{ 0x40000001, X86_CPUID_EAX, 12, KERNEL_APIC }, /* poll control */
	{ 6, X86_CPUID_EAX, 2, ALWAYS },		/* ARAT: the APIC timer never stops */
	{ 0x80000007, X86_CPUID_EDX, 8, ALWAYS },	/* invariant TSC */
};
/* Hyper-V's, as KVM has them in a table of its own: hv-vapic is about the local APIC. */
#define HYPERV_FEATURES 0x40000003u
#define HYPERV_ADVICE	0x40000004u
#define HYPERV_VAPIC	3

struct limits {
	const struct kvm_cpuid2 *supported, *hyperv;
	bool split, hypercalls;
};

static bool has(void *opaque, uint32_t leaf, uint32_t subleaf, enum x86_cpuid_reg reg, unsigned bit)
{
	const struct limits *l = opaque;
	const struct kvm_cpuid2 *table = l->supported;

	for (size_t n = 0; n < sizeof(ours) / sizeof(ours[0]); n++)
		if (ours[n].leaf == leaf && ours[n].reg == reg && ours[n].bit == bit)
			return ours[n].who == ALWAYS || (l->split && (ours[n].who == KERNEL_APIC || l->hypercalls));
	if (leaf == HYPERV_ADVICE && bit == HYPERV_VAPIC && !l->split)
		return false;
	if (leaf == HYPERV_FEATURES || leaf == HYPERV_ADVICE)
		table = l->hyperv;
	for (uint32_t n = 0; n < table->nent; n++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[n];
		const uint32_t out[4] = { e->eax, e->ebx, e->ecx, e->edx };

		if (e->function == leaf && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf))
			return out[reg] >> bit & 1;
	}
	return false;
}

/* Where the host's processor keeps PKRU in an XSAVE area, which is the guest's as well; 0: nowhere. */
static unsigned pkru_at(const struct kvm_cpuid2 *supported)
{
	for (uint32_t n = 0; n < supported->nent; n++) {
		const struct kvm_cpuid_entry2 *e = &supported->entries[n];

		if (e->function == 0xd && e->index == X86_XSAVE_PKRU && e->eax && x86_xsave_pkru_fits(e->ebx))
			return e->ebx;
	}
	return 0;
}

/* How wide the physical addresses of guests may be; 0: it does not say. */
static unsigned phys_bits(const struct kvm_cpuid2 *supported)
{
	for (uint32_t n = 0; n < supported->nent; n++)
		if (supported->entries[n].function == 0x80000008)
			return supported->entries[n].eax & 0xff;
	return 0;
}

static void add_leaf(struct kvm_vm *vm, uint32_t leaf)
{
	struct x86_cpuid_query q = {
		.features = vm->features,
		.cpus = vm->cfg.cpus,
		.tsc_hz = clock_tsc_hz(vm->cfg.clock),
		.xcr0 = 1,
		.apic = true,
		.leaf = leaf,
	};
	unsigned last = x86_cpuid_subleaves(leaf);

	for (q.subleaf = 0; q.subleaf <= last && vm->cpuid->nent < ENTRIES_MAX; q.subleaf++) {
		struct kvm_cpuid_entry2 *e = &vm->cpuid->entries[vm->cpuid->nent++];
		uint32_t out[4];

		x86_cpuid_read(&q, out);
		*e = (struct kvm_cpuid_entry2){ .function = leaf, .index = q.subleaf };
		e->flags = last ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
		e->eax = out[X86_CPUID_EAX];
		e->ebx = out[X86_CPUID_EBX];
		e->ecx = out[X86_CPUID_ECX];
		e->edx = out[X86_CPUID_EDX];
	}
}

static void make_table(struct kvm_vm *vm)
{
	uint32_t kvm = 0x40000000;

	vm->cpuid->nent = 0;
	for (uint32_t leaf = 0; leaf <= X86_CPUID_BASIC; leaf++)
		add_leaf(vm, leaf);
	if (x86_hyperv_offered(vm->features)) {
		for (uint32_t leaf = 0x40000000; leaf <= X86_CPUID_HYPERV; leaf++)
			add_leaf(vm, leaf);
		kvm = X86_CPUID_MOVED;
	}
	for (uint32_t leaf = 0; leaf <= (X86_CPUID_HYPERVISOR & 0xff); leaf++)
		add_leaf(vm, kvm + leaf);
	for (uint32_t leaf = 0x80000000; leaf <= X86_CPUID_EXTENDED; leaf++)
		add_leaf(vm, leaf);
}

int kvm_features_new(struct kvm_vm *vm, struct err *err)
{
	struct kvm_cpuid2 *supported = table_new(), *hyperv = table_new();
	struct limits l = { supported, hyperv, vm->split, vm->hypercalls };
	struct x86_feature_limit limit = { has, &l, .engine = "engine kvm" };
	int rc = -1;

	vm->cpuid = table_new();
	if (!supported || !hyperv || !vm->cpuid) {
		err_set(err, "out of memory");
		goto out;
	}
	if (kvm_ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, supported)) {
		err_errno(err, errno, "engine: KVM_GET_SUPPORTED_CPUID");
		goto out;
	}
	/* Before Linux 5.11, or built without. */
	if (kvm_ioctl(vm->kvm, KVM_GET_SUPPORTED_HV_CPUID, hyperv))
		hyperv->nent = 0;
	limit.pkru_at = pkru_at(supported);
	limit.phys_bits = phys_bits(supported);
	vm->features = (vm->cfg.restored ? x86_features_for_saved : x86_features_new)(vm->cfg.config, &limit, err);
	if (!vm->features)
		goto out;
	vm->model.features = (struct x86_features *)vm->features;
	rc = x86_features_reach(vm->model.features, vm->cfg.mem, err);
out:
	free(supported);
	free(hyperv);
	return rc;
}

void kvm_features_free(struct kvm_vm *vm)
{
	if (vm->features)
		x86_features_free(vm->features);
	free(vm->cpuid);
}

int kvm_features_apply(struct kvm_cpu *cpu, struct err *err)
{
	struct kvm_cpuid2 *t = cpu->vm->cpuid;
	unsigned index = cpu->vcpu.index;

	/* A restore brings a model and a rate of its own; KVM takes them before the vCPU has run. */
	if (!memcmp(&cpu->applied, cpu->vm->features, sizeof(cpu->applied)) &&
	    cpu->applied_hz == clock_tsc_hz(cpu->vm->cfg.clock))
		return 0;
	make_table(cpu->vm);
	cpu->applied = *cpu->vm->features;
	cpu->applied_hz = clock_tsc_hz(cpu->vm->cfg.clock);

	/* The vCPU's number is in leaf 1 and leaf 0Bh. */
	for (uint32_t n = 0; n < t->nent; n++) {
		if (t->entries[n].function == 1)
			t->entries[n].ebx = (t->entries[n].ebx & 0xffffff) | index << 24;
		else if (t->entries[n].function == 0xb)
			t->entries[n].edx = index;
	}
	if (kvm_ioctl(cpu->fd, KVM_SET_CPUID2, t))
		return err_errno(err, errno, "engine: KVM_SET_CPUID2");
	return 0;
}
