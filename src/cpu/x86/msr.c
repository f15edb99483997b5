/* Model-specific registers. SDM vol. 4; KVM's are in Documentation/virt/kvm/x86/msr.rst of Linux. */
#include "base/bytes.h"
#include "cpu/x86/interp.h"

/* MSRs that are plain 64-bit values of the state; `check` refuses a write. */
enum check { ANY, CANONICAL, LOW32, NONE_SET, PAT };
static const struct plain {
	uint32_t msr;
	uint16_t offset;
	uint8_t check;
} plain[] = {
	{ 0x174, offsetof(struct x86_state, sysenter_cs), ANY },
	{ 0x175, offsetof(struct x86_state, sysenter_esp), CANONICAL },
	{ 0x176, offsetof(struct x86_state, sysenter_eip), CANONICAL },
	{ 0x17a, offsetof(struct x86_state, mcg_status), ANY },
	{ 0x1a0, offsetof(struct x86_state, misc_enable), ANY },
	{ 0x1d9, offsetof(struct x86_state, debugctl), NONE_SET },
	{ 0x277, offsetof(struct x86_state, pat), PAT },
	{ 0x2ff, offsetof(struct x86_state, mtrr_def), ANY },
	{ 0xc0000081, offsetof(struct x86_state, star), ANY },
	{ 0xc0000082, offsetof(struct x86_state, lstar), CANONICAL },
	{ 0xc0000083, offsetof(struct x86_state, cstar), CANONICAL },
	{ 0xc0000084, offsetof(struct x86_state, fmask), LOW32 },
	{ 0xc0000102, offsetof(struct x86_state, kernel_gs_base), CANONICAL },
	{ 0xc0000103, offsetof(struct x86_state, tsc_aux), LOW32 },
	{ 0x4b564d05, offsetof(struct x86_state, kvm_poll_control), ANY },
};

/* MSRs that read as a constant and ignore writes: what kernels probe on every processor. */
static const struct {
	uint32_t msr;
	uint64_t value;
} fixed[] = {
	{ 0x8b, 0x0a20120a00000000 }, /* microcode revision */
	{ 0xfe, 0x508 },	      /* MTRR_CAP: 8 variable ranges, fixed ranges, write combining */
	{ 0x179, 0 },		      /* MCG_CAP: no banks */
	{ 0xc0010015, 1 << 24 },      /* HWCR: the TSC counts at the nominal rate */
	{ 0xc001001f, 0 },	      /* NB_CFG */
	{ 0xc0010010, 0 },	      /* SYSCFG */
	{ 0xc0011029, 2 },	      /* DE_CFG: LFENCE is serializing */
};

static bool pat_valid(uint64_t v)
{
	for (unsigned n = 0; n < 8; n++) {
		unsigned type = v >> (8 * n) & 0xff;

		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	return true;
}

static bool valid(enum check c, uint64_t v)
{
	switch (c) {
	case CANONICAL:
		return x86_canonical(v);
	case LOW32:
		return !(v >> 32);
	case NONE_SET:
		return !(v & ~3ull); /* LBR and BTF may be asked for, but nothing is recorded */
	case PAT:
		return pat_valid(v);
	default:
		return true;
	}
}

/* Fixed-range MTRRs are at 250h, 258h, 259h and 268h to 26Fh. */
static uint64_t *mtrr(struct x86_cpu *cpu, uint32_t msr)
{
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

static bool of_intc(uint32_t msr)
{
	return msr == 0x1b || msr == 0x6e0 || (msr >= 0x800 && msr <= 0x8ff) || msr == 0x4b564d04;
}

/* The controller counts in the clock's TSC, the guest in its own. 0 disarms in both. */
static void shift_deadline(uint32_t msr, uint64_t *val, uint64_t by)
{
	if (msr == 0x6e0 && *val)
		*val += by;
}

static uint64_t tsc(struct x86_cpu *cpu)
{
	return clock_tsc(cpu->vm->cfg.clock) + cpu->s.tsc_offset;
}

bool x86_rdmsr(struct x86_cpu *cpu, uint32_t msr, uint64_t *val)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	const uint64_t *range = mtrr(cpu, msr);

	if (of_intc(msr))
		return intc->ops && intc->ops->rdmsr(intc->opaque, cpu->vcpu.index, msr, val) &&
		       (shift_deadline(msr, val, cpu->s.tsc_offset), true);
	for (size_t n = 0; n < ARRAY_LEN(plain); n++) {
		if (plain[n].msr == msr) {
			*val = *(uint64_t *)((char *)&cpu->s + plain[n].offset);
			return true;
		}
	}
	for (size_t n = 0; n < ARRAY_LEN(fixed); n++) {
		if (fixed[n].msr == msr) {
			*val = fixed[n].value;
			return true;
		}
	}
	if (range) {
		*val = *range;
		return true;
	}
	switch (msr) {
	case 0x10:
		*val = tsc(cpu);
		return true;
	case 0x3b:
		*val = cpu->s.tsc_adjust;
		return true;
	case 0xc0000080:
		*val = cpu->s.efer;
		return true;
	case 0xc0000100:
		*val = cpu->s.seg[X86_FS].base;
		return true;
	case 0xc0000101:
		*val = cpu->s.seg[X86_GS].base;
		return true;
	case 0x11:
	case 0x4b564d00:
		*val = cpu->s.kvm_wall_clock;
		return true;
	case 0x12:
	case 0x4b564d01:
		*val = cpu->s.kvm_system_time;
		return true;
	}
	return false;
}

static bool write_efer(struct x86_cpu *cpu, uint64_t v)
{
	if (v & ~(x86_efer_allowed(cpu->vm->features) | X86_EFER_LMA))
		return false;
	if (cpu->s.cr0 & X86_CR0_PG && (v ^ cpu->s.efer) & X86_EFER_LME)
		return false;
	if ((v ^ cpu->s.efer) & X86_EFER_NXE)
		x86_tlb_flush(cpu, true);
	cpu->s.efer = (v & ~(uint64_t)X86_EFER_LMA) | (cpu->s.efer & X86_EFER_LMA);
	return true;
}

static bool write_base(struct x86_cpu *cpu, enum x86_seg seg, uint64_t v)
{
	if (!x86_canonical(v))
		return false;
	cpu->s.seg[seg].base = cpu->seg_base[seg] = v;
	return true;
}

bool x86_wrmsr(struct x86_cpu *cpu, uint32_t msr, uint64_t val)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	uint64_t *range = mtrr(cpu, msr);

	if (of_intc(msr))
		return shift_deadline(msr, &val, -cpu->s.tsc_offset),
		       intc->ops && intc->ops->wrmsr(intc->opaque, cpu->vcpu.index, msr, val);
	for (size_t n = 0; n < ARRAY_LEN(plain); n++) {
		if (plain[n].msr == msr) {
			if (!valid(plain[n].check, val))
				return false;
			*(uint64_t *)((char *)&cpu->s + plain[n].offset) = val;
			return true;
		}
	}
	for (size_t n = 0; n < ARRAY_LEN(fixed); n++)
		if (fixed[n].msr == msr)
			return msr != 0xfe && msr != 0x179;
	if (range) {
		*range = val;
		return true;
	}
	switch (msr) {
	case 0x10:
		cpu->s.tsc_adjust += val - tsc(cpu);
		cpu->s.tsc_offset += val - tsc(cpu);
		return true;
	case 0x3b:
		cpu->s.tsc_offset += val - cpu->s.tsc_adjust;
		cpu->s.tsc_adjust = val;
		return true;
	case 0xc0000080:
		return write_efer(cpu, val);
	case 0xc0000100:
		return write_base(cpu, X86_FS, val);
	case 0xc0000101:
		return write_base(cpu, X86_GS, val);
	case 0x11:
	case 0x4b564d00:
		cpu->s.kvm_wall_clock = val;
		x86_kvm_wall_clock_write(cpu);
		return true;
	case 0x12:
	case 0x4b564d01:
		cpu->s.kvm_system_time = val;
		x86_kvmclock_update(cpu);
		return true;
	}
	return false;
}
