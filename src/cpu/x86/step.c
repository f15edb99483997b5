/* See step.h. An interpreter's VM beside the engine's own, over the same memory and devices. */
#include "cpu/x86/step.h"

#include <stdlib.h>

#include "cpu/x86/interp.h"

struct x86_stepper {
	struct interp_vm vm; /* first: x86_cpu_create() */
};

static int make(struct x86_stepper *x, struct err *err)
{
	x->vm.exclusive = x86_exclusive_new();
	if (!x->vm.exclusive)
		return err_set(err, "out of memory");
	/* All, since who stops the world goes through them without a lock. */
	for (unsigned n = 0; n < x->vm.cfg.cpus; n++)
		if (!x86_cpu_create((struct engine_vm *)&x->vm, n, &engine_interp, sizeof(struct x86_cpu), err))
			return -1;
	return 0;
}

struct x86_stepper *x86_stepper_new(const struct engine_config *c, const struct x86_features *features, struct err *err)
{
	struct x86_stepper *x = calloc(1, sizeof(*x));

	if (!x) {
		err_set(err, "out of memory");
		return NULL;
	}
	x->vm.cfg = *c;
	x->vm.cfg.stats = NULL;
	/* What this has of local APICs is not the guest's. */
	if (c->intc_place != ENGINE_INTC_USER)
		x->vm.cfg.intc = (struct intc){ 0 };
	x->vm.features = features;
	x->vm.model.features = (struct x86_features *)features;
	x->vm.unseen = true;
	if (make(x, err)) {
		x86_stepper_free(x);
		return NULL;
	}
	return x;
}

void x86_stepper_free(struct x86_stepper *x)
{
	for (unsigned n = 0; x && n < x->vm.cfg.cpus; n++)
		if (x->vm.cpus[n])
			x86_cpu_destroy(x->vm.cpus[n], sizeof(struct x86_cpu));
	if (x)
		x86_exclusive_free(x->vm.exclusive);
	free(x);
}

enum cpu_exit x86_step(struct x86_stepper *x, unsigned index, struct x86_step *s)
{
	struct x86_cpu *cpu = x->vm.cpus[index];
	const struct x86_features *f = x->vm.features;
	/* The other engine's affair: an SMI, as interrupts are, and bits that it lets a guest set without the feature.
	 */
	bool smi = s->state->smi_pending;
	uint64_t cr4 = s->state->cr4 & ~f->cr4, efer = s->state->efer & ~(f->efer | X86_EFER_LMA);
	uint64_t xcr0 = s->state->xcr0 & ~(f->xcr0 | 1);
	enum cpu_exit why;

	s->debug.step = true;
	s->state->smi_pending = false;
	s->state->cr4 &= ~cr4;
	s->state->efer &= ~efer;
	s->state->xcr0 &= ~xcr0;
	if (x86_stops_set(&cpu->vcpu, &s->debug, &s->error) || x86_cpu_set_state(&cpu->vcpu, s->state, &s->error))
		return CPU_EXIT_FAILED;
	why = x86_cpu_run(&cpu->vcpu);
	x86_cpu_get_state(&cpu->vcpu, s->state);
	s->state->smi_pending = smi;
	s->state->cr4 |= cr4;
	s->state->efer |= efer;
	s->state->xcr0 |= xcr0;
	s->stop = cpu->vcpu.stop;
	if (why == CPU_EXIT_SHUTDOWN)
		s->error = cpu->vcpu.error;
	return why;
}
