/*
 * Hyper-V's interface for guests, as far as Windows profits from it: CPUID, MSRs and hypercall page of the partition,
 * the index of a processor, time without exits, and MSRs for the local APIC. Microsoft's Hypervisor Top Level
 * Functional Specification, 6.0b. There are no synthetic interrupts, timers or hypercalls that do anything.
 *
 * What belongs to the partition (the VM) is kept with the processor model, and any vCPU's thread may touch it.
 */
#include "base/bytes.h"
#include "cpu/x86/template.h"

#define GUEST_OS_ID   0x40000000u
#define HYPERCALL     0x40000001u
#define VP_INDEX      0x40000002u
#define TIME_REF      0x40000020u
#define REFERENCE_TSC 0x40000021u
#define EOI	      0x40000070u
#define ICR	      0x40000071u
#define TPR	      0x40000072u
#define VP_ASSIST     0x40000073u

#define ENABLED	       1ull
#define LOCKED	       2ull
#define PAGE_ADDR      (~0xfffull)
#define INVALID_CALL   2	 /* HV_STATUS_INVALID_HYPERCALL_CODE */
#define TICKS_A_SECOND 10000000u /* the reference counter's unit is 100 ns */

static const enum x86_feature all[] = { X86_F_HV_RELAXED, X86_F_HV_VAPIC, X86_F_HV_VPINDEX, X86_F_HV_TIME };

bool x86_hyperv_offered(const struct x86_features *f)
{
	for (size_t n = 0; n < ARRAY_LEN(all); n++)
		if (f->on[all[n]])
			return true;
	return false;
}

/* --- CPUID, TLFS 2.4 --- */

void x86_hyperv_cpuid(const struct x86_cpuid_query *q, uint32_t out[4])
{
	const bool *on = q->features->on;

	switch (q->leaf) {
	case 0x40000000:
		out[X86_CPUID_EAX] = X86_CPUID_HYPERV;
		out[X86_CPUID_EBX] = ld_le32("Micr");
		out[X86_CPUID_ECX] = ld_le32("osof");
		out[X86_CPUID_EDX] = ld_le32("t Hv");
		break;
	case 0x40000001:
		out[X86_CPUID_EAX] = ld_le32("Hv#1");
		break;
	case 0x40000002: /* a version that guests know: Windows Server 2016 */
		out[X86_CPUID_EAX] = 14393;
		out[X86_CPUID_EBX] = 10 << 16;
		break;
	case 0x40000003: /* what the partition may do: the hypercall MSRs are always among it */
		out[X86_CPUID_EAX] = 1u << 5 | (on[X86_F_HV_TIME] ? 1u << 1 | 1u << 9 : 0) |
				     (on[X86_F_HV_VAPIC] ? 1u << 4 : 0) | (on[X86_F_HV_VPINDEX] ? 1u << 6 : 0);
		break;
	case 0x40000004: /* what it had better do; spinning is never told */
		out[X86_CPUID_EAX] = (on[X86_F_HV_VAPIC] ? 1u << 3 : 0) | (on[X86_F_HV_RELAXED] ? 1u << 5 : 0);
		out[X86_CPUID_EBX] = ~0u;
		break;
	case 0x40000005: /* processors at most */
		out[X86_CPUID_EAX] = out[X86_CPUID_EBX] = ARRAY_LEN(((struct interp_vm *)0)->cpus);
		break;
	}
}

/* --- the partition's MSRs, TLFS 3.13 and 12.7 --- */

static uint64_t get(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void set(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static bool store(struct x86_cpu *cpu, uint64_t at, const void *bytes, size_t len)
{
	bool done = mem_write(cpu->mem, gpa(at), bytes, len);

	x86_trace_stored(cpu);
	return done;
}

static bool write_guest_os_id(struct x86_cpu *cpu, uint64_t v)
{
	struct x86_partition *p = &cpu->vm->model.partition;

	set(&p->guest_os_id, v);
	if (!v)
		set(&p->hypercall, get(&p->hypercall) & ~ENABLED);
	return true;
}

/* The page gets the processor's instruction for hypercalls. Before the guest has told who it is, there is none. */
static bool write_hypercall(struct x86_cpu *cpu, uint64_t v)
{
	struct x86_partition *p = &cpu->vm->model.partition;
	const char *code = x86_intel(cpu) ? "\x0f\x01\xc1\xc3" : "\x0f\x01\xd9\xc3";

	if (get(&p->hypercall) & LOCKED)
		return true;
	if (!get(&p->guest_os_id))
		v &= ~ENABLED;
	if (v & ENABLED && !store(cpu, v & PAGE_ADDR, code, 4))
		return false;
	set(&p->hypercall, v);
	return true;
}

/* Units of 100 ns in a tick of the TSC, by 2^64. */
static uint64_t time_scale(struct x86_cpu *cpu)
{
	return (uint64_t)(((unsigned __int128)TICKS_A_SECOND << 64) / clock_tsc_hz(cpu->vm->cfg.clock));
}

static uint64_t reference_time(struct x86_cpu *cpu)
{
	return (uint64_t)((unsigned __int128)clock_tsc(x86_clock(cpu)) * time_scale(cpu) >> 64);
}

/*
 * The page: sequence, scale, offset. time = (TSC * scale >> 64) + offset; sequence 0 means that it is not valid now.
 * Where the guest's TSC is not the clock's, the page may be a unit behind the counter, never before it.
 */
void x86_hyperv_time_update(struct x86_cpu *cpu)
{
	uint64_t msr = get(&cpu->vm->model.partition.reference_tsc), scale = time_scale(cpu);
	__int128 moved = (__int128)(int64_t)cpu->s.tsc_offset * scale;
	uint32_t sequence;
	uint8_t b[24] = { 0 };

	if (!(msr & ENABLED) || !mem_read(cpu->mem, gpa(msr & PAGE_ADDR), &sequence, 4))
		return;
	store(cpu, msr & PAGE_ADDR, b, 4);
	st_le64(b + 8, scale);
	st_le64(b + 16, (uint64_t)(-moved >> 64));
	store(cpu, (msr & PAGE_ADDR) + 8, b + 8, 16);
	do
		sequence++;
	while (!sequence || !~sequence);
	st_le32(b, sequence);
	store(cpu, msr & PAGE_ADDR, b, 4);
}

static bool write_reference_tsc(struct x86_cpu *cpu, uint64_t v)
{
	set(&cpu->vm->model.partition.reference_tsc, v);
	x86_hyperv_time_update(cpu);
	return true;
}

/* --- the local APIC by MSRs, TLFS 10.2 --- */

#define APIC_BASE_X2APIC (1ull << 10)
#define APIC_BASE_ENABLE (1ull << 11)
#define X2APIC		 0x800u
#define REG_TPR		 0x80u
#define REG_EOI		 0xb0u
#define REG_ICR		 0x300u
#define REG_ICR_HIGH	 0x310u

static bool apic(struct x86_cpu *cpu, bool *x2apic)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	uint64_t base;

	if (!intc->ops || !intc->ops->rdmsr(intc->opaque, cpu->vcpu.index, X86_MSR_APIC_BASE, &base) ||
	    !(base & APIC_BASE_ENABLE))
		return false;
	*x2apic = base & APIC_BASE_X2APIC;
	return true;
}

static bool apic_write(struct x86_cpu *cpu, uint32_t reg, uint64_t v)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	bool x2apic;

	if (!apic(cpu, &x2apic))
		return false;
	x86_clock(cpu);
	cpu->attention = true;
	if (x2apic)
		return intc->ops->wrmsr(intc->opaque, cpu->vcpu.index, X2APIC + (reg >> 4), v);
	if (reg == REG_ICR)
		intc->ops->mmio_write(intc->opaque, cpu->vcpu.index, REG_ICR_HIGH, (uint32_t)(v >> 32));
	intc->ops->mmio_write(intc->opaque, cpu->vcpu.index, reg, (uint32_t)v);
	return true;
}

static bool apic_read(struct x86_cpu *cpu, uint32_t reg, uint64_t *v)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	bool x2apic;

	if (!apic(cpu, &x2apic))
		return false;
	x86_clock(cpu);
	if (x2apic)
		return intc->ops->rdmsr(intc->opaque, cpu->vcpu.index, X2APIC + (reg >> 4), v);
	*v = intc->ops->mmio_read(intc->opaque, cpu->vcpu.index, reg);
	if (reg == REG_ICR)
		*v |= (uint64_t)intc->ops->mmio_read(intc->opaque, cpu->vcpu.index, REG_ICR_HIGH) << 32;
	return true;
}

static bool write_eoi(struct x86_cpu *cpu, uint64_t v)
{
	return !(v >> 32) && apic_write(cpu, REG_EOI, 0);
}

static bool write_icr(struct x86_cpu *cpu, uint64_t v)
{
	return apic_write(cpu, REG_ICR, v);
}

static bool write_tpr(struct x86_cpu *cpu, uint64_t v)
{
	return !(v >> 8) && apic_write(cpu, REG_TPR, v);
}

/* Its field says that an EOI is not needed, which is never promised here. */
static bool write_vp_assist(struct x86_cpu *cpu, uint64_t v)
{
	const uint32_t no = 0;

	if (v & ENABLED && !store(cpu, v & PAGE_ADDR, &no, 4))
		return false;
	cpu->s.hv_vp_assist = v;
	return true;
}

/* --- all of them --- */

static bool read_guest_os_id(struct x86_cpu *cpu, uint64_t *v)
{
	*v = get(&cpu->vm->model.partition.guest_os_id);
	return true;
}

static bool read_hypercall(struct x86_cpu *cpu, uint64_t *v)
{
	*v = get(&cpu->vm->model.partition.hypercall);
	return true;
}

static bool read_vp_index(struct x86_cpu *cpu, uint64_t *v)
{
	*v = cpu->vcpu.index;
	return true;
}

static bool read_time_ref(struct x86_cpu *cpu, uint64_t *v)
{
	*v = reference_time(cpu);
	return true;
}

static bool read_reference_tsc(struct x86_cpu *cpu, uint64_t *v)
{
	*v = get(&cpu->vm->model.partition.reference_tsc);
	return true;
}

static bool read_icr(struct x86_cpu *cpu, uint64_t *v)
{
	return apic_read(cpu, REG_ICR, v);
}

static bool read_tpr(struct x86_cpu *cpu, uint64_t *v)
{
	return apic_read(cpu, REG_TPR, v);
}

static bool read_vp_assist(struct x86_cpu *cpu, uint64_t *v)
{
	*v = cpu->s.hv_vp_assist;
	return true;
}

static const struct hv_msr {
	uint32_t msr;
	enum x86_feature feature; /* ALWAYS: any of them */
	bool (*read)(struct x86_cpu *cpu, uint64_t *v);
	bool (*write)(struct x86_cpu *cpu, uint64_t v);
} msrs[] = {
	{ GUEST_OS_ID, X86_F_ALWAYS, read_guest_os_id, write_guest_os_id },
	{ HYPERCALL, X86_F_ALWAYS, read_hypercall, write_hypercall },
	{ VP_INDEX, X86_F_HV_VPINDEX, read_vp_index, NULL },
	{ TIME_REF, X86_F_HV_TIME, read_time_ref, NULL },
	{ REFERENCE_TSC, X86_F_HV_TIME, read_reference_tsc, write_reference_tsc },
	{ EOI, X86_F_HV_VAPIC, NULL, write_eoi },
	{ ICR, X86_F_HV_VAPIC, read_icr, write_icr },
	{ TPR, X86_F_HV_VAPIC, read_tpr, write_tpr },
	{ VP_ASSIST, X86_F_HV_VAPIC, read_vp_assist, write_vp_assist },
};

static const struct hv_msr *find(const struct x86_cpu *cpu, uint32_t msr)
{
	for (size_t n = 0; n < ARRAY_LEN(msrs); n++)
		if (msrs[n].msr == msr && (msrs[n].feature == X86_F_ALWAYS ? x86_hyperv_offered(cpu->vm->features)
									   : x86_has(cpu, msrs[n].feature)))
			return &msrs[n];
	return NULL;
}

bool x86_hyperv_rdmsr(struct x86_cpu *cpu, uint32_t msr, uint64_t *v)
{
	const struct hv_msr *m = find(cpu, msr);

	return m && m->read && m->read(cpu, v);
}

bool x86_hyperv_wrmsr(struct x86_cpu *cpu, uint32_t msr, uint64_t v)
{
	const struct hv_msr *m = find(cpu, msr);

	return m && m->write && m->write(cpu, v);
}

/* --- hypercalls, TLFS 3 --- */

bool x86_hyperv_hypercall(struct x86_cpu *cpu)
{
	const struct x86_partition *p = &cpu->vm->model.partition;

	if (!get(&p->guest_os_id) || !(get(&p->hypercall) & ENABLED))
		return false;
	if (cpu->cpl || !cpu->protected_mode)
		x86_ud(cpu);
	/* The status is all that there is of the result. */
	if (cpu->code_bits == 64) {
		cpu->s.gpr[X86_RAX] = INVALID_CALL;
	} else {
		x86_set32(cpu, X86_RAX, INVALID_CALL);
		x86_set32(cpu, X86_RDX, 0);
	}
	return true;
}
