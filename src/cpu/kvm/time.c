/*
 * Guest time under KVM. The machine's clock owns it: while that stands still the processor's counter goes on, so the
 * offsets between the two are made anew when vCPUs run again, and kvmclock is set to the machine's.
 *
 * KVM adds an offset of each vCPU to the host's counter. vCPUs whose state has the same tsc_offset have the same one,
 * to the tick: all are made from one reading of the machine's clock, `base`.
 */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "base/log.h"
#include "cpu/kvm/kvm.h"

#define MSR_TSC 0x10u
/* Counters closer than 1 / 4000 count as one rate, as KVM has it. */
#define SAME_RATE 4000

static int offset_attr(struct kvm_cpu *cpu, unsigned long request, uint64_t *offset)
{
	struct kvm_device_attr a = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};

	return ioctl(cpu->fd, request, &a);
}

static uint64_t guest_tsc(struct kvm_cpu *cpu)
{
	uint64_t tsc = 0;

	kvm_msr_transfer(cpu, KVM_GET_MSRS, MSR_TSC, &tsc);
	return tsc;
}

/* A thousandth of a second: what is less may be the time between two readings. */
static int64_t tolerance(struct kvm_cpu *cpu)
{
	return (int64_t)(clock_tsc_hz(cpu->vm->cfg.clock) / 1000);
}

/*
 * KVM's offset. Before Linux 5.16 it does not tell, and where the host's counter is not stable it moves the offset a
 * little by itself: what was set last counts unless the guest has moved it farther.
 */
static uint64_t offset_get(struct kvm_cpu *cpu)
{
	uint64_t offset;

	if (offset_attr(cpu, KVM_GET_DEVICE_ATTR, &offset))
		offset = guest_tsc(cpu) - __rdtsc();
	return llabs((int64_t)(offset - cpu->tsc_set)) < tolerance(cpu) ? cpu->tsc_set : offset;
}

/* Some KVMs have nothing that adds an offset, and take one without a word. */
static void check_offset(struct kvm_cpu *cpu)
{
	if (offset_get(cpu) == cpu->tsc_set || atomic_exchange(&cpu->vm->tsc_fixed, true))
		return;
	log_line(LOG_INFO, "kvm", "this KVM does not move the guest's TSC: it is the host's");
}

static void offset_set(struct kvm_cpu *cpu, uint64_t offset)
{
	uint64_t tsc;

	cpu->tsc_set = offset;
	if (!offset_attr(cpu, KVM_SET_DEVICE_ATTR, &offset)) {
		check_offset(cpu);
		return;
	}
	tsc = __rdtsc() + offset;
	kvm_msr_transfer(cpu, KVM_SET_MSRS, MSR_TSC, &tsc);
}

/* The offset of a vCPU whose state has none, since the machine's clock was started last. */
static uint64_t base_now(struct kvm_cpu *cpu)
{
	struct kvm_vm *vm = cpu->vm;
	unsigned starts = clock_starts(vm->cfg.clock);
	struct kvm_clock_data k = { 0 };
	uint64_t base;

	pthread_mutex_lock(&vm->time_lock);
	if (!vm->time_set || vm->time_starts != starts) {
		vm->time_set = true;
		vm->time_starts = starts;
		vm->time_base = clock_tsc(vm->cfg.clock) - (guest_tsc(cpu) - offset_get(cpu));
		k.clock = (uint64_t)clock_now_ns(vm->cfg.clock);
		kvm_ioctl(vm->fd, KVM_SET_CLOCK, &k);
	}
	base = vm->time_base;
	pthread_mutex_unlock(&vm->time_lock);
	return base;
}

void kvm_tsc_new(struct kvm_vm *vm)
{
	int khz = kvm_ioctl(vm->fd, KVM_GET_TSC_KHZ, NULL);

	if (khz <= 0)
		return;
	vm->tsc_khz = (unsigned)khz;
	if (!vm->cfg.config || !config_peek(vm->cfg.config, "clock.tsc-hz"))
		clock_set_tsc_hz(vm->cfg.clock, (uint64_t)khz * 1000);
}

int kvm_tsc_set_rate(struct kvm_cpu *cpu, struct err *err)
{
	struct kvm_vm *vm = cpu->vm;
	uint64_t khz = clock_tsc_hz(vm->cfg.clock) / 1000, host = vm->tsc_khz;
	bool same = !host || (khz > host ? khz - host : host - khz) * SAME_RATE < host;

	if (same && !cpu->tsc_scaled)
		return 0;
	if (kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_TSC_CONTROL) <= 0 ||
	    kvm_ioctl(cpu->fd, KVM_SET_TSC_KHZ, (void *)(unsigned long)khz))
		return err_set(err,
			       "engine: the machine's TSC counts %llu times a ms, this host's %llu, and KVM cannot "
			       "scale it here; one that is made with clock.tsc-hz=%llu fits",
			       (unsigned long long)khz, (unsigned long long)host, (unsigned long long)host * 1000);
	cpu->tsc_scaled = true;
	return 0;
}

uint64_t kvm_tsc_offset(struct kvm_cpu *cpu)
{
	if (cpu->vm->tsc_fixed)
		return guest_tsc(cpu) - clock_tsc(cpu->vm->cfg.clock);
	return offset_get(cpu) - cpu->tsc_base + atomic_load(&cpu->vm->time_ahead) - cpu->tsc_ahead;
}

void kvm_tsc_set_offset(struct kvm_cpu *cpu, uint64_t offset)
{
	cpu->tsc_starts = clock_starts(cpu->vm->cfg.clock);
	cpu->tsc_base = base_now(cpu);
	cpu->tsc_ahead = atomic_load(&cpu->vm->time_ahead);
	offset_set(cpu, cpu->tsc_base + offset);
}

void kvm_time_resume(struct kvm_cpu *cpu)
{
	if (cpu->tsc_starts == clock_starts(cpu->vm->cfg.clock))
		return;
	cpu->tsc_starts = clock_starts(cpu->vm->cfg.clock);
	if (cpu->vm->tsc_fixed)
		return;
	kvm_tsc_set_offset(cpu, kvm_tsc_offset(cpu));
	/* The guest's watchdogs are to know that it stood still; refused unless it uses kvmclock. */
	ioctl(cpu->fd, KVM_KVMCLOCK_CTRL, 0);
}

/*
 * The host's counter and its clock, which is disciplined, run apart. What the counter is ahead becomes part of every
 * vCPU's offset, so that a guest's counter never runs backwards at the next start.
 */
void kvm_time_leave(struct kvm_cpu *cpu)
{
	struct vclock *c = cpu->vm->cfg.clock;
	int64_t ahead = (int64_t)(guest_tsc(cpu) - clock_tsc(c) - (offset_get(cpu) - cpu->tsc_base) + cpu->tsc_ahead);
	int64_t most = atomic_load(&cpu->vm->time_ahead);

	if (ahead - most > tolerance(cpu))
		atomic_store(&cpu->vm->time_ahead, ahead);
}
