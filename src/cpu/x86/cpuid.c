/* What CPUID answers. */
#include "cpu/x86/cpuid.h"

#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/interp.h"
#include "cpu/x86/xsave.h"

#define EAX X86_CPUID_EAX
#define EBX X86_CPUID_EBX
#define ECX X86_CPUID_ECX
#define EDX X86_CPUID_EDX

#define KVM_FEATURES 0x40000001u
#define HYPERV_MOVES (X86_CPUID_MOVED - 0x40000000u)

#define ROW(id, name_, leaf_, subleaf_, reg_, bit_, cr4_, efer_) { leaf_, subleaf_, reg_, bit_ },
static const struct {
	uint32_t leaf, subleaf;
	uint8_t reg, bit;
} features[X86_FEATURE_COUNT] = { X86_FEATURES(ROW) };
#undef ROW

static void put_text(uint32_t out[4], const enum x86_cpuid_reg *order, const char *text, unsigned words)
{
	for (unsigned n = 0; n < words; n++)
		out[order[n]] = ld_le32(text + 4 * n);
}

/* One package, a core for each vCPU: the width of a core's number. */
static unsigned core_bits(uint32_t cpus)
{
	unsigned bits = 0;

	while (1u << bits < cpus)
		bits++;
	return bits;
}

/* Leaf 0Bh: threads, then cores. */
static void topology(const struct x86_cpuid_query *q, uint32_t out[4])
{
	out[ECX] = q->subleaf & 0xff;
	out[EDX] = q->index;
	if (q->subleaf < 2) {
		out[EAX] = q->subleaf ? core_bits(q->cpus) : 0;
		out[EBX] = q->subleaf ? q->cpus : 1;
		out[ECX] |= (q->subleaf + 1) << 8;
	}
}

/* The APIC's feature bit goes out with its global enable. */
static bool apic_enabled(struct x86_cpu *cpu)
{
	uint64_t base;

	return !cpu->vm->cfg.intc.ops || (x86_rdmsr(cpu, 0x1b, &base) && base >> 11 & 1);
}

/* What is not a feature bit. */
static void identity(const struct x86_cpuid_query *q, uint32_t out[4])
{
	static const enum x86_cpuid_reg vendor[] = { EBX, EDX, ECX }, brand[] = { EAX, EBX, ECX, EDX },
					hypervisor[] = { EBX, ECX, EDX };
	const struct x86_features *f = q->features;
	uint32_t cpus = q->cpus, leaf = q->leaf;

	switch (leaf) {
	case 0:
	case 0x80000000:
		out[EAX] = leaf ? X86_CPUID_EXTENDED : X86_CPUID_BASIC;
		put_text(out, vendor, x86_vendors[f->vendor], 3);
		break;
	case 1:
		out[EAX] = f->signature;
		out[EBX] = q->index << 24 | (cpus < 256 ? cpus : 255) << 16 | 8 << 8;
		out[ECX] |= 1u << 31; /* a hypervisor is present */
		out[ECX] |= q->cr4 & X86_CR4_OSXSAVE ? 1u << 27 : 0;
		out[EDX] |= cpus > 1 ? 1u << 28 : 0;
		if (!q->apic)
			out[EDX] &= ~(1u << 9);
		break;
	case 0xb:
		topology(q, out);
		break;
	case 7:
		out[ECX] |= !q->subleaf && q->cr4 & X86_CR4_PKE ? 1u << 4 : 0; /* OSPKE */
		break;
	case 0xd:
		x86_xsave_cpuid(q, out);
		break;
	case 0x15:
		out[EAX] = out[EBX] = 1;
		out[ECX] = (uint32_t)q->tsc_hz;
		break;
	case 0x16:
		out[EAX] = out[EBX] = (uint32_t)(q->tsc_hz / 1000000);
		break;
	case 0x40000000:
		out[EAX] = X86_CPUID_HYPERVISOR + (x86_hyperv_offered(f) ? HYPERV_MOVES : 0);
		put_text(out, hypervisor, "KVMKVMKVM\0\0\0", 3);
		break;
	case 0x80000001:
		out[EAX] = f->vendor == X86_AMD ? f->signature : 0;
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
		put_text(out, brand, f->brand + 16 * (leaf - 0x80000002), 4);
		break;
	case 0x80000008:
		out[EAX] = 48 << 8 | f->phys_bits;
		out[ECX] = cpus - 1;
		break;
	}
}

/* The other leaves take no notice of ECX. */
unsigned x86_cpuid_subleaves(uint32_t leaf)
{
	switch (leaf) {
	case 4:
	case 7:
		return 1;
	case 0xb:
		return 3;
	case 0xd:
		return X86_XSAVE_COMPONENTS;
	default:
		return 0;
	}
}

void x86_cpuid_read(const struct x86_cpuid_query *asked, uint32_t out[4])
{
	struct x86_cpuid_query q = *asked;

	if (!x86_cpuid_subleaves(q.leaf))
		q.subleaf = 0;
	memset(out, 0, 4 * sizeof(out[0]));
	if (q.leaf >> 8 == KVM_FEATURES >> 8 && x86_hyperv_offered(q.features)) {
		x86_hyperv_cpuid(&q, out);
		return;
	}
	if (q.leaf >> 8 == (KVM_FEATURES + HYPERV_MOVES) >> 8 && x86_hyperv_offered(q.features))
		q.leaf -= HYPERV_MOVES;
	for (size_t n = 0; n < X86_FEATURE_COUNT; n++)
		if (q.features->on[n] && features[n].leaf == q.leaf && features[n].subleaf == q.subleaf)
			out[features[n].reg] |= 1u << features[n].bit;
	identity(&q, out);
}

void x86_cpuid(struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	const struct x86_cpuid_query q = {
		.features = cpu->vm->features,
		.cpus = cpu->vm->cfg.cpus,
		.index = cpu->vcpu.index,
		.tsc_hz = clock_tsc_hz(cpu->vm->cfg.clock),
		.cr4 = cpu->s.cr4,
		.xcr0 = cpu->s.xcr0,
		.apic = apic_enabled(cpu),
		.leaf = leaf,
		.subleaf = subleaf,
	};

	x86_cpuid_read(&q, out);
}
