/* The translator as an engine: the interpreter's, with a code cache. See cpu/engine.h. */
#include <asm/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu/jit/jit.h"

#define CACHE_BYTES (64u << 20)
/* Translation costs about what interpreting a trace some ten times does. */
#define HEAT 16

static void probe(struct engine_probe *p)
{
	p->available = x86_host_has(X86_F_AVX2) && x86_host_has(X86_F_BMI1) && x86_host_has(X86_F_BMI2) &&
		       x86_host_has(X86_F_ABM) && x86_host_has(X86_F_MOVBE);
	p->fast = p->available;
	snprintf(p->why, sizeof(p->why), "%s",
		 p->available ? "translates to this host's code" : "this host's CPU lacks AVX2, BMI, LZCNT or MOVBE");
}

static void vm_destroy(struct engine_vm *vm)
{
	struct jit_cache *cache = ((struct jit_vm *)vm)->cache;

	x86_vm_destroy(vm);
	jit_cache_free(cache);
}

static struct engine_vm *vm_create(const struct engine_config *c, struct err *err)
{
	struct engine_vm *vm = x86_vm_create(c, sizeof(struct jit_vm), err);
	struct jit_vm *j = (struct jit_vm *)vm;
	uint64_t heat = HEAT;

	if (!vm)
		return NULL;
	if (c->config &&
	    (config_uint(c->config, "jit.heat", HEAT, (struct config_range){ 0, UINT32_MAX }, &heat, err) ||
	     config_bool(c->config, "jit.strict", false, &j->strict, err))) {
		x86_vm_destroy(vm);
		return NULL;
	}
	j->vm.heat = (uint32_t)heat;
	j->cache = jit_cache_new(CACHE_BYTES, err);
	if (!j->cache) {
		x86_vm_destroy(vm);
		return NULL;
	}
	/* Under the counting clock each instruction is counted where it is interpreted. */
	if (!c->clock || !clock_is_icount(c->clock))
		j->vm.translator = &jit_translator;
	return vm;
}

static struct vcpu *vcpu_create(struct engine_vm *vm, unsigned index, struct err *err)
{
	struct x86_cpu *cpu = x86_cpu_create(vm, index, &engine_jit, sizeof(struct jit_cpu), err);
	const struct jit_vm *j = (const struct jit_vm *)vm;
	struct jit_cpu *c = jit_of(cpu);

	if (!cpu)
		return NULL;
	c->self = c;
	c->mxcsr_host = 0x1f80;
	jit_translator.forget_jumps(cpu);
	if (j->vm.cfg.stats) {
		char name[48];

		snprintf(name, sizeof(name), "cpu%u.translations", index);
		stats_register(j->vm.cfg.stats, name, "traces that were translated", &c->translated);
	}
	return &cpu->vcpu;
}

static void vcpu_destroy(struct vcpu *v)
{
	x86_cpu_destroy(x86_cpu_of(v), sizeof(struct jit_cpu));
}

/* Nothing else in this process has a use for GS. */
static enum cpu_exit run(struct vcpu *v)
{
	syscall(SYS_arch_prctl, ARCH_SET_GS, v);
	return x86_cpu_run(v);
}

const struct engine engine_jit = {
	.name = "jit",
	X86_SOFTWARE_ENGINE,
	.summary = "translator to host code",
	.probe = probe,
	.vm_create = vm_create,
	.vm_destroy = vm_destroy,
	.vcpu_create = vcpu_create,
	.vcpu_destroy = vcpu_destroy,
	.run = run,
};
