/*
 * What KVM gives back because its emulator does not know it: an instruction on device memory or, where KVM emulates all
 * of kernel mode, any that is rare enough. The interpreter executes this one (cpu/x86/step.h), from KVM's registers
 * and back to them. It costs some dozens of calls of KVM, however often a guest brings it about; so a vCPU looks at its
 * events in between as after any exit.
 */
#include <string.h>

#include "cpu/kvm/vcpu.h"
#include "cpu/x86/step.h"

static struct x86_stepper *stepper(struct kvm_vm *vm, struct err *err)
{
	struct x86_stepper *x;

	pthread_mutex_lock(&vm->stepper_lock);
	if (!vm->stepper)
		vm->stepper = x86_stepper_new(&vm->cfg, vm->features, err);
	x = vm->stepper;
	pthread_mutex_unlock(&vm->stepper_lock);
	return x;
}

/* A piece of a point has a register of its own. */
static void watched(const struct kvm_cpu *cpu, struct cpu_debug *d)
{
	d->count = 0;
	for (unsigned n = 0; n < cpu->stop_count; n++)
		if (cpu->stops[n].kind != DEBUG_EXEC)
			d->points[d->count++] = cpu->stops[n];
}

static enum cpu_exit step(struct kvm_cpu *cpu, struct x86_step *s)
{
	struct x86_stepper *x = stepper(cpu->vm, &s->error);
	struct x86_state before;
	enum cpu_exit why;

	if (!x || kvm_state_peek(cpu, s->state)) {
		if (x)
			err_set(&s->error, "its registers cannot be read");
		return CPU_EXIT_FAILED;
	}
	before = *s->state;
	/* An INIT that came with the registers: the instruction is not its next one any more. */
	if (before.run == X86_WAIT_SIPI) {
		s->stop.step = true;
		return CPU_EXIT_DEBUG;
	}
	watched(cpu, &s->debug);
	why = x86_step(x, cpu->vcpu.index, s);
	if (why != CPU_EXIT_FAILED && kvm_state_change(cpu, &before, s->state, &s->error))
		return CPU_EXIT_FAILED;
	return why;
}

bool kvm_emulate(struct kvm_cpu *cpu, enum cpu_exit *out)
{
	struct x86_state now;
	struct x86_step s = { .state = &now };

	stat_add(&cpu->emulated, 1);
	*out = step(cpu, &s);
	if (*out != CPU_EXIT_DEBUG) {
		cpu->vcpu.error = s.error;
		return false;
	}
	if (kvm_debug_stepped(cpu) && s.stop.step)
		return false;
	if (!s.stop.step)
		cpu->vcpu.stop = s.stop;
	return s.stop.step;
}
