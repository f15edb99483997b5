/* Model-specific registers. SDM vol. 4; KVM's are in Documentation/virt/kvm/x86/msr.rst of Linux. */
#include "base/bytes.h"
#include "cpu/x86/interp.h"

/* MSRs that are plain 64-bit values of the state; `check` refuses a write, `feature` is what brings them. */
enum check { ANY, ZERO, BIT0, CANONICAL, LOW32, SYSENTER, ALL_OR_NONE, PAT, MTRR_DEF };
#define FIELD(name_) offsetof(struct x86_state, name_)
static const struct plain {
	uint32_t msr;
	uint16_t offset;
	uint8_t check;
	enum x86_feature feature;
} plain[] = {
	{ 0x174, FIELD(sysenter_cs), ANY, X86_F_SEP },
	{ 0x175, FIELD(sysenter_esp), SYSENTER, X86_F_SEP },
	{ 0x176, FIELD(sysenter_eip), SYSENTER, X86_F_SEP },
	{ 0x17a, FIELD(mcg_status), ANY, X86_F_MCA },
	{ 0x17b, FIELD(mcg_ctl), ALL_OR_NONE, X86_F_MCA },
	{ 0x1a0, FIELD(misc_enable), ANY, X86_F_ALWAYS },
	{ 0x277, FIELD(pat), PAT, X86_F_PAT },
	{ 0x2ff, FIELD(mtrr_def), MTRR_DEF, X86_F_MTRR },
	{ 0xda0, FIELD(xss), ZERO, X86_F_XSAVES }, /* there is no supervisor component: xsave.c */
	{ 0xc0000081, FIELD(star), ANY, X86_F_SYSCALL },
	{ 0xc0000082, FIELD(lstar), CANONICAL, X86_F_LM },
	{ 0xc0000083, FIELD(cstar), CANONICAL, X86_F_LM },
	{ 0xc0000084, FIELD(fmask), LOW32, X86_F_LM },
	{ 0xc0000102, FIELD(kernel_gs_base), CANONICAL, X86_F_LM },
	{ 0xc0000103, FIELD(tsc_aux), LOW32, X86_F_RDTSCP },
	{ 0x4b564d05, FIELD(kvm_poll_control), BIT0, X86_F_KVM_POLL }, /* the others are reserved */
};

/*
 * MSRs that read as a constant: what kernels probe, or write to work around errors of processors. `vendors` is a set; a
 * write may differ from the constant in `may` alone, and is forgotten. What belongs to a feature that is not offered
 * (VMX's 3Ah, the performance monitor's 345h, thermal 19Ah to 19Ch, OSVW's C0010140h) is not here.
 */
#define MCG_CAP (1u << 8 | X86_MC_BANKS) /* with MCG_CTL */
#define AMD	(1u << X86_AMD)
#define INTEL	(1u << X86_INTEL)
#define ALL	(~0ull)
static const struct fixed {
	uint32_t msr;
	uint8_t count, vendors;
	bool read_only;
	uint64_t value, may;
} fixed[] = {
	{ 0x17, 1, INTEL, true, 0, 0 },			 /* PLATFORM_ID */
	{ 0x2a, 1, INTEL, true, 0, 0 },			 /* EBL_CR_POWERON */
	{ 0x34, 1, INTEL, true, 0, 0 },			 /* SMI_COUNT */
	{ 0x79, 1, INTEL, false, 0, ALL },		 /* BIOS_UPDT_TRIG */
	{ 0x8b, 1, INTEL, false, 1ull << 32, ALL },	 /* microcode revision, in KVM's numbers */
	{ 0x8b, 1, AMD, false, 0x01000065, ALL },	 /* patch level */
	{ 0xcd, 1, INTEL, true, 3, 0 },			 /* FSB_FREQ */
	{ 0xce, 1, INTEL, true, 0, 0 },			 /* PLATFORM_INFO: no faulting CPUID */
	{ 0x11e, 1, INTEL, true, 0xbe702111, 0 },	 /* BBL_CR_CTL3 */
	{ 0x140, 1, INTEL, false, 0, 0 },		 /* MISC_FEATURES_ENABLES */
	{ 0x198, 1, INTEL, true, 1000 | 4ull << 40, 0 }, /* PERF_STATUS */
	{ 0x199, 1, INTEL, false, 0, ALL },		 /* PERF_CTL */
	{ 0x1db, 4, AMD | INTEL, true, 0, 0 },		 /* the last branch and exception: none */
	{ 0x606, 1, INTEL, true, 0, 0 },		 /* RAPL: units, then energy of what is not measured */
	{ 0x611, 1, INTEL, true, 0, 0 },
	{ 0x619, 1, INTEL, true, 0, 0 },
	{ 0x639, 1, INTEL, true, 0, 0 },
	{ 0x641, 1, INTEL, true, 0, 0 },
	{ 0xc0010000, 8, AMD, false, 0, ALL },		   /* PERFEVTSEL0-3 and PERFCTR0-3 count nothing */
	{ 0xc0010010, 1, AMD, false, 0, ALL },		   /* SYSCFG */
	{ 0xc0010015, 1, AMD, false, 1 << 24, 0x3040159 }, /* HWCR: the TSC counts at the nominal rate */
	{ 0xc001001f, 2, AMD, false, 0, ALL },		   /* NB_CFG, PATCH_LOADER */
	{ 0xc0010055, 1, AMD, true, 0, 0 },		   /* INT_PENDING: no C1E */
	{ 0xc0010058, 1, AMD, false, 0, 0 },		   /* MMIO_CONF_BASE: no such window */
	{ 0xc0010061, 1, AMD, true, 0, 0 },		   /* P-states: limit, control, status, definitions of none */
	{ 0xc0010062, 1, AMD, false, 0, 7 },
	{ 0xc0010063, 9, AMD, true, 0, 0 },
	{ 0xc0010112, 2, AMD, true, 0, 0 },    /* TSEG: none */
	{ 0xc0010114, 1, AMD, false, 0, 0 },   /* VM_CR */
	{ 0xc0010117, 1, AMD, false, 0, ALL }, /* VM_HSAVE_PA */
	{ 0xc0011020, 4, AMD, false, 0, ALL }, /* LS_CFG, IC_CFG, DC_CFG, TW_CFG */
	{ 0xc0011029, 1, AMD, false, 2, ALL }, /* DE_CFG: LFENCE is serializing */
	{ 0xc001102a, 1, AMD, false, 0, ALL }, /* BU_CFG2 */
	{ 0xc001102c, 1, AMD, false, 0, ALL }, /* EX_CFG */
};
/* The same, of a feature. */
static const struct {
	struct fixed msr;
	enum x86_feature feature;
} capabilities[] = {
	{ { 0xfe, 1, AMD | INTEL, true, 0x508, 0 }, X86_F_MTRR },   /* MTRR_CAP: 8 variable ranges, fixed ranges, WC */
	{ { 0x179, 1, AMD | INTEL, true, MCG_CAP, 0 }, X86_F_MCA }, /* machine check banks */
};

/* Memory types: UC, WC, WT, WP, WB; PAT has UC- too. */
static bool types_valid(uint64_t v, bool pat)
{
	for (unsigned n = 0; n < 8; n++) {
		unsigned type = v >> (8 * n) & 0xff;

		if (type > (pat ? 7 : 6) || type == 2 || type == 3)
			return false;
	}
	return true;
}

/* May `v` be written? What a processor does not keep is cleared from it. */
static bool valid(const struct x86_cpu *cpu, enum check c, uint64_t *v)
{
	switch (c) {
	case ZERO:
		return !*v;
	case BIT0:
		return !(*v >> 1);
	case CANONICAL:
		return x86_canonical(*v);
	case LOW32:
		return !(*v >> 32);
	case SYSENTER:
		if (x86_intel(cpu))
			return x86_canonical(*v);
		*v = (uint32_t)*v; /* AMD's are for 32-bit kernels only */
		return true;
	case ALL_OR_NONE:
		return !*v || !~*v;
	case PAT:
		return types_valid(*v, true);
	case MTRR_DEF:
		return !(*v & ~0xcffull) && types_valid(*v & 0xff, false);
	default:
		return true;
	}
}

/* Fixed-range MTRRs are at 250h, 258h, 259h and 268h to 26Fh. */
static uint64_t *mtrr(struct x86_cpu *cpu, uint32_t msr)
{
	if (!x86_has(cpu, X86_F_MTRR))
		return NULL;
	if (msr >= 0x200 && msr < 0x210)
		return &cpu->s.mtrr_var[msr - 0x200];
	if (msr == 0x250)
		return &cpu->s.mtrr_fixed[0];
	if (msr == 0x258 || msr == 0x259)
		return &cpu->s.mtrr_fixed[1 + msr - 0x258];
	if (msr >= 0x268 && msr <= 0x26f)
		return &cpu->s.mtrr_fixed[3 + msr - 0x268];
	return NULL;
}

static bool mtrr_valid(const struct x86_cpu *cpu, uint32_t msr, uint64_t v)
{
	uint64_t beyond = ~0ull << cpu->vm->features->phys_bits;

	if (msr >= 0x210)
		return types_valid(v, false);
	return !(v & beyond) && (msr & 1 ? !(v & 0x7ff) : !(v & 0xf00) && types_valid(v & 0xff, false));
}

/* Machine check banks: CTL, STATUS, ADDR and MISC of each from 400h. No machine check happens by itself. */
static uint64_t *bank(struct x86_cpu *cpu, uint32_t msr)
{
	return x86_has(cpu, X86_F_MCA) && msr >= 0x400 && msr < 0x400 + 4 * X86_MC_BANKS ? &cpu->s.mc_bank[msr - 0x400]
											 : NULL;
}

static bool bank_valid(uint32_t msr, uint64_t v)
{
	/* Linux clears bit 10 of bank 4 and bit 0 of bank 0 for old processors. */
	if ((msr & 3) == 0)
		return !v || !~(v | 0x401);
	return (msr & 3) != 1 || !v; /* a status can be cleared only */
}

#define APIC_BASE_X2APIC (1ull << 10)
#define TSC_DEADLINE	 0x6e0u
#define KVM_PV_EOI	 0x4b564d04u

static bool of_intc(uint32_t msr)
{
	return msr == X86_MSR_APIC_BASE || msr == TSC_DEADLINE || (msr >= 0x800 && msr <= 0x8ff) || msr == KVM_PV_EOI;
}

/* The controller has everything; the processor's model says what of it there is. */
static bool intc_offered(const struct x86_cpu *cpu, uint32_t msr)
{
	return x86_has(cpu, msr == X86_MSR_APIC_BASE ? X86_F_APIC
			    : msr == TSC_DEADLINE    ? X86_F_TSC_DEADLINE
			    : msr == KVM_PV_EOI	     ? X86_F_KVM_PV_EOI
						     : X86_F_X2APIC);
}

/* The controller counts in the clock's TSC, the guest in its own. 0 disarms in both. */
static void shift_deadline(uint32_t msr, uint64_t *val, uint64_t by)
{
	if (msr == TSC_DEADLINE && *val)
		*val += by;
}

static uint64_t tsc(struct x86_cpu *cpu)
{
	return clock_tsc(x86_clock(cpu)) + cpu->s.tsc_offset;
}

static const struct plain *find_plain(const struct x86_cpu *cpu, uint32_t msr)
{
	for (size_t n = 0; n < ARRAY_LEN(plain); n++)
		if (plain[n].msr == msr)
			return plain[n].feature == X86_F_ALWAYS || x86_has(cpu, plain[n].feature) ? &plain[n] : NULL;
	return NULL;
}

static const struct fixed *find_fixed(const struct x86_cpu *cpu, uint32_t msr)
{
	for (size_t n = 0; n < ARRAY_LEN(fixed); n++)
		if (msr - fixed[n].msr < fixed[n].count && fixed[n].vendors >> cpu->vm->features->vendor & 1)
			return &fixed[n];
	for (size_t n = 0; n < ARRAY_LEN(capabilities); n++)
		if (capabilities[n].msr.msr == msr)
			return x86_has(cpu, capabilities[n].feature) ? &capabilities[n].msr : NULL;
	return NULL;
}

/* What others derive from the TSC stays right: kvmclock and Hyper-V's page are told. */
static bool write_tsc_adjust(struct x86_cpu *cpu, uint64_t v)
{
	cpu->s.tsc_offset += v - cpu->s.tsc_adjust;
	cpu->s.tsc_adjust = v;
	x86_kvmclock_update(cpu);
	x86_hyperv_time_update(cpu);
	return true;
}

static bool write_tsc(struct x86_cpu *cpu, uint64_t v)
{
	return write_tsc_adjust(cpu, cpu->s.tsc_adjust + v - tsc(cpu));
}

static bool write_efer(struct x86_cpu *cpu, uint64_t v)
{
	if (v & ~(cpu->vm->features->efer | X86_EFER_LMA))
		return false;
	if (cpu->s.cr0 & X86_CR0_PG && (v ^ cpu->s.efer) & X86_EFER_LME)
		return false;
	if ((v ^ cpu->s.efer) & X86_EFER_NXE)
		x86_tlb_flush(cpu);
	cpu->s.efer = (v & ~(uint64_t)X86_EFER_LMA) | (cpu->s.efer & X86_EFER_LMA);
	return true;
}

/* Last-branch records are not kept: the bit that asks for them does not stick. */
static bool write_debugctl(struct x86_cpu *cpu, uint64_t v)
{
	if (v & ~(uint64_t)(X86_DEBUGCTL_LBR | X86_DEBUGCTL_BTF))
		return false;
	cpu->s.debugctl = v & X86_DEBUGCTL_BTF;
	return true;
}

static bool write_base(struct x86_cpu *cpu, enum x86_seg seg, uint64_t v)
{
	if (!x86_canonical(v))
		return false;
	cpu->s.seg[seg].base = cpu->seg_base[seg] = v;
	return true;
}

static bool write_fs_base(struct x86_cpu *cpu, uint64_t v)
{
	return write_base(cpu, X86_FS, v);
}

static bool write_gs_base(struct x86_cpu *cpu, uint64_t v)
{
	return write_base(cpu, X86_GS, v);
}

static bool write_wall_clock(struct x86_cpu *cpu, uint64_t v)
{
	cpu->s.kvm_wall_clock = v;
	x86_kvm_wall_clock_write(cpu);
	return true;
}

static bool write_system_time(struct x86_cpu *cpu, uint64_t v)
{
	cpu->s.kvm_system_time = v;
	x86_kvmclock_update(cpu);
	return true;
}

/* MSRs whose write does something; they read as a field of the state. */
static const struct active {
	uint32_t msr;
	uint16_t offset;
	enum x86_feature feature;
	bool (*write)(struct x86_cpu *cpu, uint64_t v);
} active[] = {
	{ 0x3b, FIELD(tsc_adjust), X86_F_TSC_ADJUST, write_tsc_adjust },
	{ 0x1d9, FIELD(debugctl), X86_F_ALWAYS, write_debugctl },
	{ 0xc0000080, FIELD(efer), X86_F_ALWAYS, write_efer },
	{ 0xc0000100, FIELD(seg[X86_FS].base), X86_F_LM, write_fs_base },
	{ 0xc0000101, FIELD(seg[X86_GS].base), X86_F_LM, write_gs_base },
	{ 0x11, FIELD(kvm_wall_clock), X86_F_KVMCLOCK, write_wall_clock },
	{ 0x12, FIELD(kvm_system_time), X86_F_KVMCLOCK, write_system_time },
	{ 0x4b564d00, FIELD(kvm_wall_clock), X86_F_KVMCLOCK, write_wall_clock },
	{ 0x4b564d01, FIELD(kvm_system_time), X86_F_KVMCLOCK, write_system_time },
};

static const struct active *find_active(const struct x86_cpu *cpu, uint32_t msr)
{
	for (size_t n = 0; n < ARRAY_LEN(active); n++)
		if (active[n].msr == msr)
			return active[n].feature == X86_F_ALWAYS || x86_has(cpu, active[n].feature) ? &active[n] : NULL;
	return NULL;
}

static uint64_t *field(struct x86_cpu *cpu, uint16_t offset)
{
	return (uint64_t *)((char *)&cpu->s + offset);
}

bool x86_rdmsr(struct x86_cpu *cpu, uint32_t msr, uint64_t *val)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	const struct plain *p = find_plain(cpu, msr);
	const struct active *a = find_active(cpu, msr);
	const uint64_t *range = mtrr(cpu, msr), *mc = bank(cpu, msr);
	const struct fixed *c = find_fixed(cpu, msr);

	if (msr >> 8 == X86_MSR_HYPERV)
		return x86_hyperv_rdmsr(cpu, msr, val);
	if (of_intc(msr))
		return intc->ops && intc_offered(cpu, msr) && x86_clock(cpu) &&
		       intc->ops->rdmsr(intc->opaque, cpu->vcpu.index, msr, val) &&
		       (shift_deadline(msr, val, cpu->s.tsc_offset), true);
	if (msr == 0x10)
		*val = tsc(cpu);
	else if (p || a)
		*val = *field(cpu, p ? p->offset : a->offset);
	else if (range || mc)
		*val = range ? *range : *mc;
	else if (c)
		*val = c->value;
	else
		return false;
	return true;
}

bool x86_wrmsr(struct x86_cpu *cpu, uint32_t msr, uint64_t val)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	const struct plain *p = find_plain(cpu, msr);
	const struct active *a = find_active(cpu, msr);
	uint64_t *range = mtrr(cpu, msr), *mc = bank(cpu, msr);
	const struct fixed *c = find_fixed(cpu, msr);

	if (msr >> 8 == X86_MSR_HYPERV)
		return x86_hyperv_wrmsr(cpu, msr, val);
	if (of_intc(msr)) {
		if (!intc->ops || !intc_offered(cpu, msr) ||
		    (msr == X86_MSR_APIC_BASE && val & APIC_BASE_X2APIC && !x86_has(cpu, X86_F_X2APIC)))
			return false;
		x86_clock(cpu);
		shift_deadline(msr, &val, -cpu->s.tsc_offset);
		if (!intc->ops->wrmsr(intc->opaque, cpu->vcpu.index, msr, val))
			return false;
		if (msr == X86_MSR_APIC_BASE)
			x86_tlb_forget_ram(cpu);
		return true;
	}
	if (msr == 0x10)
		return write_tsc(cpu, val);
	if (a)
		return a->write(cpu, val);
	if (c)
		return !c->read_only && !((val ^ c->value) & ~c->may);
	if (p ? !valid(cpu, p->check, &val) : range ? !mtrr_valid(cpu, msr, val) : !mc || !bank_valid(msr, val))
		return false;
	*(p ? field(cpu, p->offset) : range ? range : mc) = val;
	return true;
}
