/*
 * Where a debugger stops a vCPU under KVM: by the processor's four debug registers, which KVM keeps apart from the
 * guest's own (SDM vol. 3, 18.2). What does not fit into four is refused.
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
	return err_set(err, "KVM stops at %u places at most, each of up to 8 aligned bytes", KVM_STOPS);
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

int kvm_debug_set(struct vcpu *v, const struct cpu_debug *d, struct err *err)
{
	struct kvm_cpu *cpu = kvm_cpu_of(v);
	struct kvm_guest_debug g = { .arch.debugreg[7] = DR7_FIXED };

	cpu->stop_count = 0;
	for (unsigned n = 0; n < d->count; n++) {
		if (add_point(cpu, &g, &d->points[n], err)) {
			cpu->stop_count = 0;
			return -1;
		}
	}
	cpu->stepping = d->step;
	cpu->passing = false;
	if (d->step)
		g.control |=
			KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | (flags_of(cpu->vm) & KVM_GUESTDBG_BLOCKIRQ);
	if (d->count)
		g.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	cpu->debug = g;
	if (kvm_ioctl(cpu->fd, KVM_SET_GUEST_DEBUG, &g))
		return err_errno(err, errno, "KVM_SET_GUEST_DEBUG");
	return 0;
}

/*
 * A point that has stopped the vCPU does not stop it again before an instruction was executed: that is a single step
 * without the point, of which nobody hears. RFLAGS.RF would do, but not every KVM keeps it.
 */
void kvm_debug_resume(struct kvm_cpu *cpu)
{
	struct kvm_guest_debug g = cpu->debug;
	struct kvm_regs r;

	if (!cpu->stop_passed)
		return;
	cpu->stop_passed = false;
	if (!cpu->stop_count || kvm_ioctl(cpu->fd, KVM_GET_REGS, &r) || r.rip != cpu->stop_rip)
		return;
	for (unsigned n = 0; n < cpu->stop_count; n++)
		if (cpu->stops[n].kind == DEBUG_EXEC && cpu->stops[n].addr == cpu->stop_at)
			g.arch.debugreg[7] &= ~(3ull << 2 * n);
	g.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | (flags_of(cpu->vm) & KVM_GUESTDBG_BLOCKIRQ);
	cpu->passing = !kvm_ioctl(cpu->fd, KVM_SET_GUEST_DEBUG, &g);
}

/* The guest's own: single step, or INT1. */
static void give_back(struct kvm_cpu *cpu)
{
	struct kvm_guest_debug g = cpu->debug;

	g.control |= KVM_GUESTDBG_INJECT_DB;
	kvm_ioctl(cpu->fd, KVM_SET_GUEST_DEBUG, &g);
}

bool kvm_debug_exit(struct kvm_cpu *cpu)
{
	const struct kvm_debug_exit_arch *a = &cpu->run->debug.arch;
	bool passed = cpu->passing && a->dr6 & DR6_STEP;
	struct kvm_regs r;

	if (passed) {
		cpu->passing = false;
		kvm_ioctl(cpu->fd, KVM_SET_GUEST_DEBUG, &cpu->debug);
	}
	for (unsigned n = 0; n < cpu->stop_count; n++) {
		if (!(a->dr6 & DR6_HITS & 1u << n))
			continue;
		cpu->vcpu.stop = (struct debug_stop){ .point = cpu->stops[n] };
		cpu->stop_passed = cpu->stops[n].kind == DEBUG_EXEC && !kvm_ioctl(cpu->fd, KVM_GET_REGS, &r);
		cpu->stop_rip = cpu->stop_passed ? r.rip : 0;
		cpu->stop_at = cpu->stops[n].addr;
		return true;
	}
	if (cpu->stepping && a->dr6 & DR6_STEP) {
		cpu->vcpu.stop = (struct debug_stop){ .step = true };
		return true;
	}
	if (!passed)
		give_back(cpu);
	return false;
}
