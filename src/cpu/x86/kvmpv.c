/*
 * KVM's paravirtual interface, as Linux guests use it: kvmclock and hypercalls.
 * Documentation/virt/kvm/x86/{msr,hypercalls,cpuid}.rst of Linux.
 */
#include "base/bytes.h"
#include "cpu/x86/template.h"

#define ENABLED	      1ull
#define TSC_STABLE    1
#define HC_KICK_CPU   5
#define HC_SEND_IPI   10
#define ENOSYS_RESULT (-(int64_t)1000)
#define EINVAL_RESULT (-(int64_t)22)
#define EPERM_RESULT  (-(int64_t)1)

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

/* struct pvclock_vcpu_time_info: guest ns = system_time + (tsc - tsc_timestamp) scaled. */
void x86_kvmclock_update(struct x86_cpu *cpu)
{
	gpa_t at = gpa(cpu->s.kvm_system_time & ~3ull);
	uint64_t tsc = clock_tsc(x86_clock(cpu)), hz = clock_tsc_hz(cpu->vm->cfg.clock);
	uint64_t ns = (uint64_t)clock_tsc_to_ns(cpu->vm->cfg.clock, tsc);
	uint32_t version;
	uint8_t b[32] = { 0 };

	if (!(cpu->s.kvm_system_time & ENABLED) || !mem_read(cpu->mem, at, &version, 4))
		return;
	version |= 1;
	st_le32(b, version);
	mem_write(cpu->mem, at, b, 4);
	st_le64(b + 8, tsc + cpu->s.tsc_offset);
	st_le64(b + 16, ns);
	/* ns = ticks * multiplier >> 32, ticks first shifted left by 1: 2^31 for 1 GHz. */
	st_le32(b + 24, (uint32_t)(1000000000ull * (1ull << 31) / hz));
	b[28] = 1;
	b[29] = TSC_STABLE;
	mem_write(cpu->mem, gpa(at.v + 4), b + 4, sizeof(b) - 4);
	st_le32(b, version + 1);
	mem_write(cpu->mem, at, b, 4);
}

/* Arguments in RBX, RCX, RDX and RSI; the result goes to RAX. */
struct call {
	uint64_t a[4];
};

/* Wake the vCPU with the APIC ID a[1]: it finds it in its events, and its next HLT does not sleep. */
static int64_t kick_cpu(struct x86_cpu *cpu, const struct call *c)
{
	struct x86_cpu *other = c->a[1] < cpu->vm->cfg.cpus ? cpu->vm->cpus[c->a[1]] : NULL;

	if (!other)
		return EINVAL_RESULT;
	vcpu_signal(&other->vcpu, CPU_SIGNAL_WAKE, 0);
	return 0;
}

/*
 * The command a[3] to the APIC IDs a[2] + n whose bits are set in a[0] (the low half; 32 bits each outside long mode)
 * and a[1]. The number of processors that exist among them.
 */
static int64_t send_ipi(struct x86_cpu *cpu, const struct call *c)
{
	const struct intc *intc = &cpu->vm->cfg.intc;
	unsigned width = cpu->code_bits == 64 ? 64 : 32, sent = 0;
	uint64_t first = c->a[2] & 0xffffffff;

	/* Neither a destination nor a shorthand may be in the command. */
	if (c->a[3] & 0xffffffff000c0000 || !intc->ops)
		return EINVAL_RESULT;
	for (unsigned n = 0; n < 2 * width; n++) {
		uint64_t id = first + n;

		if (!(c->a[n / width] >> n % width & 1) || id >= cpu->vm->cfg.cpus)
			continue;
		intc->ops->ipi(intc->opaque, cpu->vcpu.index, (uint32_t)c->a[3], (uint32_t)id);
		sent++;
	}
	return sent;
}

static const struct {
	uint8_t number;
	enum x86_feature feature;
	int64_t (*fn)(struct x86_cpu *cpu, const struct call *c);
} calls[] = {
	{ HC_KICK_CPU, X86_F_KVM_PV_UNHALT, kick_cpu },
	{ HC_SEND_IPI, X86_F_KVM_SEND_IPI, send_ipi },
};

static const struct x86_insn *hypercall(struct x86_cpu *cpu, const struct x86_insn *i)
{
	static const uint8_t regs[4] = { X86_RBX, X86_RCX, X86_RDX, X86_RSI };
	uint64_t mask = cpu->code_bits == 64 ? ~0ull : 0xffffffff, nr = cpu->s.gpr[X86_RAX] & mask;
	int64_t result = cpu->cpl ? EPERM_RESULT : ENOSYS_RESULT;
	struct call c;

	if (x86_hyperv_hypercall(cpu))
		return x86_next_end(cpu, i);
	for (unsigned n = 0; n < 4; n++)
		c.a[n] = cpu->s.gpr[regs[n]] & mask;
	for (size_t n = 0; !cpu->cpl && n < ARRAY_LEN(calls); n++)
		if (calls[n].number == nr && x86_has(cpu, calls[n].feature))
			result = calls[n].fn(cpu, &c);
	cpu->s.gpr[X86_RAX] = (uint64_t)result & mask;
	cpu->attention = true;
	return x86_next_end(cpu, i);
}

static const struct x86_opdef rows[] = {
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_REG, 1 + 0, 1 + 1, 0, X86_D_END, X86_ALL(hypercall), {}, "vmcall" },
	{ X86_MAP_0F, 0x01, 1, 0, X86_MOD_REG, 1 + 3, 1 + 1, 0, X86_D_END, X86_ALL(hypercall), {}, "vmmcall" },
};
X86_DEFS(x86_defs_hypercall, rows);
