/*
 * KVM's paravirtual interface, as Linux guests use it: kvmclock and hypercalls.
 * Documentation/virt/kvm/x86/{msr,hypercalls,cpuid}.rst of Linux.
 */
#include "base/bytes.h"
#include "cpu/x86/template.h"

#define ENABLED	      1ull
#define TSC_STABLE    1
#define HC_KICK_CPU   5
#define ENOSYS_RESULT (-(int64_t)1000)

/* The wall clock at guest time 0: version (odd while written), seconds, nanoseconds. */
void x86_kvm_wall_clock_write(struct x86_cpu *cpu)
{
	gpa_t at = gpa(cpu->s.kvm_wall_clock & ~3ull);
	int64_t base = clock_wall_ns(x86_clock(cpu)) - clock_now_ns(cpu->vm->cfg.clock);
	uint32_t version;
	uint8_t b[12];

	if (!mem_read(cpu->mem, at, &version, 4))
		return;
	version = (version | 1) + 1;
	st_le32(b, version);
	st_le32(b + 4, (uint32_t)(base / 1000000000));
	st_le32(b + 8, (uint32_t)(base % 1000000000));
	mem_write(cpu->mem, at, b, sizeof(b));
}

/* struct pvclock_vcpu_time_info: guest ns = system_time + (tsc - tsc_timestamp), because a tick is a ns. */
void x86_kvmclock_update(struct x86_cpu *cpu)
{
	gpa_t at = gpa(cpu->s.kvm_system_time & ~3ull);
	uint64_t ns = clock_now_ns(x86_clock(cpu)), hz = clock_tsc_hz(cpu->vm->cfg.clock);
	uint32_t version;
	uint8_t b[32] = { 0 };

	if (!(cpu->s.kvm_system_time & ENABLED) || !mem_read(cpu->mem, at, &version, 4))
		return;
	version |= 1;
	st_le32(b, version);
	mem_write(cpu->mem, at, b, 4);
	st_le64(b + 8, ns + cpu->s.tsc_offset);
	st_le64(b + 16, ns);
	/* ns = ticks * multiplier >> 32, ticks first shifted left by 1: 2^31 for 1 GHz. */
	st_le32(b + 24, (uint32_t)(1000000000ull * (1ull << 31) / hz));
	b[28] = 1;
	b[29] = TSC_STABLE;
	mem_write(cpu->mem, gpa(at.v + 4), b + 4, sizeof(b) - 4);
	st_le32(b, version + 1);
	mem_write(cpu->mem, at, b, 4);
}

static const struct x86_insn *hypercall(struct x86_cpu *cpu, const struct x86_insn *i)
{
	uint64_t nr = cpu->s.gpr[X86_RAX], target = cpu->s.gpr[X86_RCX];

	if (cpu->cpl) {
		cpu->s.gpr[X86_RAX] = (uint64_t)-1; /* EPERM */
		return x86_next_end(cpu, i);
	}
	if (nr == HC_KICK_CPU && target < cpu->vm->cfg.cpus && cpu->vm->cpus[target]) {
		struct x86_cpu *other = cpu->vm->cpus[target];

		/* The halted vCPU finds it in its events, and its next HLT does not sleep. */
		__atomic_store_n(&other->s.pv_unhalt, true, __ATOMIC_SEQ_CST);
		vcpu_signal(&other->vcpu, CPU_SIGNAL_INTR, 0);
		cpu->s.gpr[X86_RAX] = 0;
	} else {
		cpu->s.gpr[X86_RAX] = (uint64_t)ENOSYS_RESULT;
	}
	return x86_next_end(cpu, i);
}

static const struct x86_opdef rows[] = {
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_REG, 1 + 0, 1 + 1, 0, X86_D_END, X86_ALL(hypercall), {}, "vmcall" },
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_REG, 1 + 3, 1 + 1, 0, X86_D_END, X86_ALL(hypercall), {}, "vmmcall" },
};
X86_DEFS(x86_defs_hypercall, rows);
