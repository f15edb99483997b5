/* The translator as an engine: the interpreter's, with a code cache. See cpu/engine.h. */
#include <asm/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/huge.h"
#include "cpu/jit/perf.h"
#include "cpu/jit/profile.h"

#define MIB	    (1ull << 20)
#define CACHE_BYTES (64 * MIB)
#define CACHE_LEAST MIB
#define CACHE_MOST  (1024 * MIB) /* direct jumps reach everywhere */
#define HEAT_BYTES  (X86_HEATS * sizeof(uint16_t))
/*
 * Translation costs about what interpreting a trace some ten times does, on the way from translated code and back. And
 * most of what is interpreted six times will be twelve times.
 */
#define HEAT 6

static void probe(struct engine_probe *p)
{
	p->available = x86_host_has(X86_F_AVX2) && x86_host_has(X86_F_BMI1) && x86_host_has(X86_F_BMI2) &&
		       x86_host_has(X86_F_ABM) && x86_host_has(X86_F_MOVBE);
	p->fast = p->available;
	snprintf(p->why, sizeof(p->why), "%s",
		 p->available ? "translates to this host's code" : "this host's CPU lacks AVX2, BMI, LZCNT or MOVBE");
}

struct settings {
	uint64_t heat, cache;
	bool strict, sharing, extending;
	int linking, counting, perf;
};

static int read_settings(struct config *c, struct settings *s, struct err *err)
{
	static const char *const linking[] = { "off", "near", "on", NULL };
	static const char *const counting[] = { "off", "sums", "blocks", NULL };
	static const char *const perf[] = { "off", "map", "dump", NULL };
	const char *debugger;
	bool stats;

	*s = (struct settings){
		.heat = HEAT, .cache = CACHE_BYTES, .sharing = true, .extending = true, .linking = JIT_LINK_ALL
	};
	if (!c)
		return 0;
	if (config_bool(c, "stats", false, &stats, err) ||
	    config_choice(c, "jit.count", stats ? JIT_COUNT_SUMS : JIT_COUNT_NOTHING, counting, &s->counting, err) ||
	    config_choice(c, "jit.link", JIT_LINK_ALL, linking, &s->linking, err) ||
	    config_choice(c, "jit.perf", JIT_PERF_OFF, perf, &s->perf, err))
		return -1;
	if (config_uint(c, "jit.heat", HEAT, (struct config_range){ 0, UINT16_MAX }, &s->heat, err) ||
	    config_str(c, "gdb", "none", &debugger, err) ||
	    /* Who looks at registers sees flags, too. */
	    config_bool(c, "jit.strict", strcmp(debugger, "none"), &s->strict, err) ||
	    config_bool(c, "jit.share", true, &s->sharing, err) ||
	    config_bool(c, "jit.extend", true, &s->extending, err) ||
	    config_size(c, "jit.cache", CACHE_BYTES, MIB, &s->cache, err))
		return -1;
	if (s->cache < CACHE_LEAST || s->cache > CACHE_MOST)
		return err_set(err, "jit.cache: '%s' is not between 1M and 1G", config_peek(c, "jit.cache"));
	return 0;
}

static int check_config(struct config *c, struct err *err)
{
	struct settings s;

	return read_settings(c, &s, err);
}

static void vm_destroy(struct engine_vm *vm)
{
	struct jit_vm *j = (struct jit_vm *)vm;
	struct jit_cache *cache = j->cache;
	struct jit_row *rows = j->rows;
	_Atomic uint16_t *heats = j->vm.heats;

	jit_perf_free(j->perf);
	jit_profile_free(j->profile);
	x86_vm_destroy(vm);
	jit_cache_free(cache);
	free(rows);
	huge_free(heats, HEAT_BYTES);
}

static int tell_perf(struct jit_vm *j, enum jit_perf_kind kind, struct err *err)
{
	uintptr_t thunks;
	size_t len;

	if (kind == JIT_PERF_OFF)
		return 0;
	j->perf = jit_perf_new(kind, err);
	if (!j->perf)
		return -1;
	thunks = jit_cache_thunks_at(j->cache, &len);
	jit_perf_named(j->perf, thunks, len, "jit_thunks");
	return 0;
}

static struct engine_vm *vm_create(const struct engine_config *c, struct err *err)
{
	struct settings s;
	struct engine_vm *vm = read_settings(c->config, &s, err) ? NULL : x86_vm_create(c, sizeof(struct jit_vm), err);
	struct jit_vm *j = (struct jit_vm *)vm;

	if (!vm)
		return NULL;
	j->vm.heat = (uint32_t)s.heat;
	j->strict = s.strict;
	j->sharing = s.sharing;
	j->extending = s.extending;
	j->linking = (enum jit_linking)s.linking;
	j->counting = (enum jit_counting)s.counting;
	j->vm.heats = huge_alloc(HEAT_BYTES);
	j->cache = j->vm.heats ? jit_cache_new(s.cache, s.perf == JIT_PERF_MAP, err) : NULL;
	if (!j->cache) {
		if (!j->vm.heats)
			err_set(err, "out of memory");
		vm_destroy(vm);
		return NULL;
	}
	huge_advise(j->vm.heats, HEAT_BYTES);
	if (j->counting == JIT_COUNT_BLOCKS)
		j->profile = jit_profile_new(s.cache);
	if ((j->counting == JIT_COUNT_BLOCKS && !j->profile) || (c->stats && !jit_stats_register(j))) {
		err_set(err, "out of memory");
		vm_destroy(vm);
		return NULL;
	}
	if (tell_perf(j, (enum jit_perf_kind)s.perf, err)) {
		vm_destroy(vm);
		return NULL;
	}
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
	x86_cpu_on_huge_pages(cpu, sizeof(*c));
	if (j->profile)
		c->runs = jit_profile_counters(j->profile);
	if (j->profile && !c->runs) {
		err_set(err, "out of memory");
		x86_cpu_destroy(cpu, sizeof(struct jit_cpu));
		return NULL;
	}
	c->self = c;
	c->table = jit_cache_table(j->cache);
	c->numbered = jit_cache_guards(j->cache);
	c->rx_offset = jit_cache_rx_offset(j->cache);
	c->mxcsr_host = 0x1f80;
	c->bounce_flags = 1;
	c->bounce_entry.flags = &c->bounce_flags;
	jit_translator.forget_jumps(cpu);
	return &cpu->vcpu;
}

static void vcpu_destroy(struct vcpu *v)
{
	const struct jit_vm *j = (const struct jit_vm *)v->vm;
	struct jit_cpu *c = jit_of(x86_cpu_of(v));

	if (j->profile)
		jit_profile_counters_free(j->profile, c->runs);
	x86_cpu_destroy(&c->cpu, sizeof(struct jit_cpu));
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
	.check_config = check_config,
	.vm_create = vm_create,
	.vm_destroy = vm_destroy,
	.vcpu_create = vcpu_create,
	.vcpu_destroy = vcpu_destroy,
	.run = run,
	.hottest = jit_hottest,
};
