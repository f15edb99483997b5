/*
 * Where a debugger stops a vCPU under KVM: by the processor's four debug registers, which KVM keeps apart from the
 * guest's own (SDM vol. 3, 18.2). Data has them first, and what does not fit is refused; instructions have those that
 * are left, and an INT3 each beyond (int3.c).
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/kvm/vcpu.h"

#define RW_EXEC	  0u
#define RW_WRITE  1u
#define RW_ACCESS 3u
#define DR7_FIXED 0x400u
#define DR6_STEP  0x4000u
#define DR6_HITS  15u
#define VECTOR_BP 3u

/* Bytes that one register can watch from `addr` on: a power of two, aligned. */
static uint32_t piece(uint64_t addr, uint32_t len)
{
	uint32_t n = 8;

	while (n > len || addr % n)
		n /= 2;
	return n;
}

static int no_room(struct err *err)
{
	return err_set(err, "KVM watches %u places at most, each of up to 8 aligned bytes", KVM_STOPS);
}

static int add_point(struct kvm_cpu *cpu, struct kvm_guest_debug *g, const struct debug_point *p, struct err *err)
{
	static const uint8_t rw[] = { [DEBUG_EXEC] = RW_EXEC, [DEBUG_WRITE] = RW_WRITE, [DEBUG_ACCESS] = RW_ACCESS };
	static const uint8_t len_code[] = { [1] = 0, [2] = 1, [4] = 3, [8] = 2 };
	uint32_t left = p->kind == DEBUG_EXEC ? 1 : p->len;

	if (p->kind == DEBUG_READ)
		return err_set(err, "the processor cannot watch for reads alone");
	for (uint64_t at = p->addr; left;) {
		uint32_t n = piece(at, left);
		unsigned slot = cpu->stop_count;

		if (slot == KVM_STOPS)
			return no_room(err);
		g->arch.debugreg[slot] = at;
		g->arch.debugreg[7] |= 2u << 2 * slot | (uint64_t)(rw[p->kind] | len_code[n] << 2) << (16 + 4 * slot);
		cpu->stops[cpu->stop_count++] = *p;
		at += n;
		left -= n;
	}
	return 0;
}

/* What is supported of KVM_SET_GUEST_DEBUG's flags; before Linux 5.13 KVM does not say. */
static uint32_t flags_of(const struct kvm_vm *vm)
{
	int all = kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_SET_GUEST_DEBUG2);

	return all > 0 ? (uint32_t)all : 0;
}

bool kvm_debug_by(struct kvm_vm *vm, enum kvm_stop_way way)
{
	if (!vm->stops_by[way].tried)
		vm->stops_by[way].works = kvm_stops_by(vm->kvm, way);
	vm->stops_by[way].tried = true;
	return vm->stops_by[way].works;
}

static int add_data(struct kvm_cpu *cpu, struct kvm_guest_debug *g, const struct debug_point *p, struct err *err)
{
	if (!kvm_debug_by(cpu->vm, KVM_STOP_DATA))
		return err_set(err, "this KVM watches no data: a software engine does");
	return add_point(cpu, g, p, err);
}

static int add_insn(struct kvm_cpu *cpu, struct kvm_guest_debug *g, const struct debug_point *p, struct err *err)
{
	if (cpu->stop_count < KVM_STOPS && kvm_debug_by(cpu->vm, KVM_STOP_INSN))
		return add_point(cpu, g, p, err);
	return kvm_int3_add(cpu, p, err);
}

/* Data first, as it has nothing but registers. */
static int add_points(struct kvm_cpu *cpu, struct kvm_guest_debug *g, const struct cpu_debug *d, struct err *err)
{
	for (unsigned n = 0; n < d->count; n++)
		if (d->points[n].kind != DEBUG_EXEC && add_data(cpu, g, &d->points[n], err))
			return -1;
	for (unsigned n = 0; n < d->count; n++)
		if (d->points[n].kind == DEBUG_EXEC && add_insn(cpu, g, &d->points[n], err))
			return -1;
	return 0;
}

static void forget_points(struct kvm_cpu *cpu)
{
	kvm_int3_clear(cpu);
	cpu->stop_count = 0;
	cpu->passing = false;
}

static uint32_t step_flags(const struct kvm_cpu *cpu)
{
	return KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | (flags_of(cpu->vm) & KVM_GUESTDBG_BLOCKIRQ);
}

int kvm_debug_set(struct vcpu *v, const struct cpu_debug *d, struct err *err)
{
	struct kvm_cpu *cpu = kvm_cpu_of(v);
	struct kvm_guest_debug g = { .arch.debugreg[7] = DR7_FIXED };

	forget_points(cpu);
	if (add_points(cpu, &g, d, err)) {
		forget_points(cpu);
		return -1;
	}
	cpu->stepping = d->step;
	if (d->step)
		g.control |= step_flags(cpu);
	if (cpu->stop_count)
		g.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	if (cpu->soft_count)
		g.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	cpu->debug = g;
	if (kvm_ioctl(cpu->fd, KVM_SET_GUEST_DEBUG, &g))
		return err_errno(err, errno, "KVM_SET_GUEST_DEBUG");
	return 0;
}

void kvm_debug_reset(struct kvm_cpu *cpu)
{
	if (!cpu->soft_count)
		return;
	kvm_int3_clear(cpu);
	cpu->passing = false;
	cpu->debug.control &= ~KVM_GUESTDBG_USE_SW_BP;
	kvm_ioctl(cpu->fd, KVM_SET_GUEST_DEBUG, &cpu->debug);
}

/*
 * One instruction at `lin` is executed without the points there, of which nobody hears. RFLAGS.RF would do for
 * registers, but not every KVM keeps it. While an INT3 is out, another vCPU may pass it, too.
 */
static void pass(struct kvm_cpu *cpu, uint64_t lin, struct kvm_patch *patch)
{
	struct kvm_guest_debug g = cpu->debug;

	for (unsigned n = 0; n < cpu->stop_count; n++)
		if (cpu->stops[n].kind == DEBUG_EXEC && cpu->stops[n].addr == lin)
			g.arch.debugreg[7] &= ~(3ull << 2 * n);
	g.control |= step_flags(cpu);
	if (kvm_ioctl(cpu->fd, KVM_SET_GUEST_DEBUG, &g))
		return;
	cpu->passing = true;
	if (patch)
		kvm_int3_hold(cpu, patch);
}

static void end_pass(struct kvm_cpu *cpu)
{
	cpu->passing = false;
	kvm_int3_release(cpu);
	kvm_ioctl(cpu->fd, KVM_SET_GUEST_DEBUG, &cpu->debug);
}

static uint64_t rip_of(const struct kvm_cpu *cpu)
{
	struct kvm_regs r = { 0 };

	kvm_ioctl(cpu->fd, KVM_GET_REGS, &r);
	return r.rip;
}

/* A point that has stopped the vCPU does not stop it again before an instruction was executed. */
void kvm_debug_resume(struct kvm_cpu *cpu)
{
	bool again = cpu->stop_passed && rip_of(cpu) == cpu->stop_rip;
	const struct kvm_soft_point *soft = again ? kvm_int3_at(cpu, cpu->stop_at) : NULL;

	cpu->stop_passed = false;
	if (again && (cpu->stop_count || soft))
		pass(cpu, cpu->stop_at, soft ? soft->patch : NULL);
	kvm_int3_enter(cpu);
}

void kvm_debug_leave(struct kvm_cpu *cpu)
{
	kvm_int3_leave(cpu);
	/* A HLT ends without a trap. */
	if (cpu->held && rip_of(cpu) != cpu->stop_rip)
		end_pass(cpu);
}

/* The guest's own: a single step, INT1 or INT3. */
static void give_back(struct kvm_cpu *cpu, uint32_t how)
{
	struct kvm_guest_debug g = cpu->debug;

	g.control |= how;
	kvm_ioctl(cpu->fd, KVM_SET_GUEST_DEBUG, &g);
}

static void stop_at(struct kvm_cpu *cpu, const struct debug_point *p)
{
	cpu->vcpu.stop = (struct debug_stop){ .point = *p };
	cpu->stop_passed = p->kind == DEBUG_EXEC;
	cpu->stop_rip = rip_of(cpu);
	cpu->stop_at = p->addr;
}

static bool int3_exit(struct kvm_cpu *cpu, uint64_t lin)
{
	const struct kvm_soft_point *p = kvm_int3_at(cpu, lin);
	struct kvm_patch *patch = p ? p->patch : kvm_int3_below(cpu, lin);
	bool own = !patch || patch == cpu->held;

	if (cpu->passing)
		end_pass(cpu);
	if (own) {
		give_back(cpu, KVM_GUESTDBG_INJECT_BP);
		return false;
	}
	if (!p) {
		/* The memory has another address as well, which is not stopped at. */
		cpu->stop_rip = rip_of(cpu);
		pass(cpu, lin, patch);
		return false;
	}
	stop_at(cpu, &p->point);
	return true;
}

bool kvm_debug_stepped(struct kvm_cpu *cpu)
{
	if (cpu->passing)
		end_pass(cpu);
	/* KVM steps from where it was told to. */
	else if (cpu->stepping)
		kvm_ioctl(cpu->fd, KVM_SET_GUEST_DEBUG, &cpu->debug);
	cpu->vcpu.stop = (struct debug_stop){ .step = true };
	return cpu->stepping;
}

bool kvm_debug_exit(struct kvm_cpu *cpu)
{
	const struct kvm_debug_exit_arch *a = &cpu->run->debug.arch;
	bool passed = cpu->passing && a->dr6 & DR6_STEP;

	if (a->exception == VECTOR_BP)
		return int3_exit(cpu, a->pc);
	if (passed)
		end_pass(cpu);
	for (unsigned n = 0; n < cpu->stop_count; n++) {
		if (!(a->dr6 & DR6_HITS & 1u << n))
			continue;
		stop_at(cpu, &cpu->stops[n]);
		return true;
	}
	if (cpu->stepping && a->dr6 & DR6_STEP) {
		cpu->vcpu.stop = (struct debug_stop){ .step = true };
		return true;
	}
	if (!passed)
		give_back(cpu, KVM_GUESTDBG_INJECT_DB);
	return false;
}
