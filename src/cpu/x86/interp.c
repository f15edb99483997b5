/* The interpreter as an engine: see cpu/engine.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/huge.h"
#include "cpu/x86/interp.h"

static void probe(struct engine_probe *p)
{
	p->available = p->fast = true;
	snprintf(p->why, sizeof(p->why), "portable C, runs everywhere");
}

void x86_vm_destroy(struct engine_vm *vm)
{
	struct interp_vm *x = (struct interp_vm *)vm;

	x86_exclusive_free(x->exclusive);
	x86_features_free(x->features);
	x86_code_free(x->code);
	free(x);
}

struct engine_vm *x86_vm_create(const struct engine_config *c, size_t size, struct err *err)
{
	struct interp_vm *x = calloc(1, size);

	if (!x) {
		err_set(err, "out of memory");
		return NULL;
	}
	x->cfg = *c;
	x->features = (c->restored ? x86_features_for_saved : x86_features_new)(c->config, NULL, err);
	x->model.features = (struct x86_features *)x->features;
	/* Counted time is the same in each run, and random numbers would not be. */
	if (x->features && c->clock && clock_is_icount(c->clock))
		x->model.features->on[X86_F_RDRAND] = x->model.features->on[X86_F_RDSEED] = false;
	x->code = x->features && !x86_features_reach(x->model.features, c->mem, err) ? x86_code_new(x, err) : NULL;
	x->exclusive = x86_exclusive_new();
	if (!x->code || !x->exclusive) {
		if (x->code)
			err_set(err, "out of memory");
		x86_vm_destroy((struct engine_vm *)x);
		return NULL;
	}
	return (struct engine_vm *)x;
}

static struct engine_vm *vm_create(const struct engine_config *c, struct err *err)
{
	return x86_vm_create(c, sizeof(struct interp_vm), err);
}

/* Rebuild everything that is derived from `s`. */
static void derive(struct x86_cpu *cpu)
{
	x86_lazy_set(&cpu->lazy, (uint32_t)cpu->s.rflags);
	cpu->s.rflags &= ~(uint64_t)X86_ARITH;
	x86_smm_view(cpu);
	x86_update_mode(cpu);
	cpu->in_delivery = false;
	cpu->trace = NULL;
	cpu->attention = true;
	cpu->stop_hit = NULL;
	cpu->stop_passed = X86_NO_STOP;
}

void x86_cpu_reset(struct vcpu *v)
{
	struct x86_cpu *cpu = x86_cpu_of(v);

	if (!v->index)
		cpu->vm->model.partition = (struct x86_partition){ 0 };
	x86_state_reset(&cpu->s, v->index == 0, false);
	cpu->s.gpr[X86_RDX] = cpu->vm->features->signature;
	atomic_store(&v->events, 0);
	derive(cpu);
}

static void add_counters(struct x86_cpu *cpu, unsigned index)
{
	const struct {
		const char *name, *help;
		stat_t *counter;
	} list[] = {
		{ "page_walks", "looks into page tables for data", &cpu->data_walks },
		{ "code_page_walks", "looks into page tables for code", &cpu->code_walks },
		{ "tlb_refills", "accesses whose page table, or large page, was known without", &cpu->refills },
		{ "page_faults", "page faults of the guest", &cpu->page_faults },
		{ "tlb_flushes", "times all translations of addresses were forgotten", &cpu->flushes },
		{ "space_switches", "times CR3 was loaded", &cpu->switches },
	};
	char name[48];

	for (size_t n = 0; n < ARRAY_LEN(list); n++) {
		snprintf(name, sizeof(name), "cpu%u.%s", index, list[n].name);
		stats_register(cpu->vm->cfg.stats, name, list[n].help, list[n].counter);
	}
}

struct x86_cpu *x86_cpu_create(struct engine_vm *vm, unsigned index, const struct engine *engine, size_t size,
			       struct err *err)
{
	struct interp_vm *x = (struct interp_vm *)vm;
	struct x86_cpu *cpu = huge_alloc(size);

	if (!cpu) {
		err_set(err, "out of memory");
		return NULL;
	}
	cpu->vcpu.engine = engine;
	cpu->vcpu.vm = vm;
	cpu->vcpu.index = index;
	cpu->vm = x;
	cpu->mem = x->cfg.mem;
	cpu->icount = clock_is_icount(x->cfg.clock);
	cpu->traces = x86_traces_new(err);
	if (!cpu->traces) {
		huge_free(cpu, size);
		return NULL;
	}
	x86_tlb_init(cpu);
	if (x->cfg.stats)
		add_counters(cpu, index);
	x->cpus[index] = cpu;
	x86_cpu_reset(&cpu->vcpu);
	return cpu;
}

void x86_cpu_on_huge_pages(struct x86_cpu *cpu, size_t size)
{
	huge_advise(cpu, size);
	x86_traces_on_huge_pages(cpu->traces);
}

static struct vcpu *vcpu_create(struct engine_vm *vm, unsigned index, struct err *err)
{
	struct x86_cpu *cpu = x86_cpu_create(vm, index, &engine_interp, sizeof(*cpu), err);

	if (!cpu)
		return NULL;
	x86_cpu_on_huge_pages(cpu, sizeof(*cpu));
	return &cpu->vcpu;
}

void x86_cpu_destroy(struct x86_cpu *cpu, size_t size)
{
	cpu->vm->cpus[cpu->vcpu.index] = NULL;
	x86_traces_free(cpu->traces);
	free(cpu->stops);
	huge_free(cpu, size);
}

static void vcpu_destroy(struct vcpu *v)
{
	x86_cpu_destroy(x86_cpu_of(v), sizeof(struct x86_cpu));
}

enum cpu_exit x86_cpu_run(struct vcpu *v)
{
	struct x86_cpu *cpu = x86_cpu_of(v);
	sigjmp_buf env;

	x86_exclusive_enter(cpu);
	x86_stops_begin(cpu);
	cpu->unwind = &env;
	switch (sigsetjmp(env, 0)) {
	case X86_UNWIND_LEAVE:
		cpu->unwind = NULL;
		x86_exclusive_exit(cpu);
		return cpu->leave_reason;
	default:
		cpu->in_block = false;
		/* A fault during the delivery comes back to the same place, combined with the first. */
		if (cpu->s.event.valid)
			x86_deliver(cpu, cpu->s.event.vector,
				    x86_event_is_exception(&cpu->s) ? X86_EV_FAULT : X86_EV_EXTERNAL,
				    cpu->s.event.error, cpu->s.gpr[X86_RIP]);
		x86_execute(cpu);
	}
}

void *x86_vm_model(struct engine_vm *vm)
{
	return &((struct interp_vm *)vm)->model;
}

void x86_cpu_get_state(struct vcpu *v, void *state)
{
	struct x86_cpu *cpu = x86_cpu_of(v);
	struct x86_state *s = state;
	uint32_t news;

	*s = cpu->s;
	s->rflags = (cpu->s.rflags & ~(uint64_t)X86_ARITH) | x86_lazy_get(&cpu->lazy) | X86_FLAGS_FIXED;
	/* What others have sent since it stopped. */
	news = atomic_load(&v->events);
	x86_add_nmis(s, news);
	s->pv_unhalt |= !!(news & VCPU_EV_WAKE);
	s->init_pending |= !!(news & VCPU_EV_INIT);
	s->smi_pending |= !!(news & VCPU_EV_SMI);
	s->sipi_pending |= !!(news & VCPU_EV_SIPI);
	s->sipi_vector = atomic_load(&v->sipi_vector);
}

int x86_cpu_set_state(struct vcpu *v, const void *state, struct err *err)
{
	struct x86_cpu *cpu = x86_cpu_of(v);
	const struct x86_state *s = state;

	if (x86_state_check(s, err) || x86_model_check(cpu->vm->features, s, err))
		return -1;
	memcpy(&cpu->s, state, sizeof(cpu->s));
	atomic_store(&v->sipi_vector, cpu->s.sipi_vector);
	atomic_store(&v->events, (cpu->s.init_pending ? VCPU_EV_INIT : 0u) | (cpu->s.sipi_pending ? VCPU_EV_SIPI : 0u));
	cpu->s.init_pending = cpu->s.sipi_pending = false;
	derive(cpu);
	return 0;
}

const struct engine engine_interp = {
	.name = "interp",
	X86_SOFTWARE_ENGINE,
	.summary = "portable interpreter",
	.probe = probe,
	.vm_create = vm_create,
	.vm_destroy = x86_vm_destroy,
	.vcpu_create = vcpu_create,
	.vcpu_destroy = vcpu_destroy,
	.run = x86_cpu_run,
};
