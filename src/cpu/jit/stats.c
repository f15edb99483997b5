/* What `--stats` prints of the translator: one table, sums over the vCPUs. */
#include <stdlib.h>

#include "base/bytes.h"
#include "cpu/jit/jit.h"

struct row {
	const char *name, *help;
	size_t counter; /* its offset in struct jit_cpu, or in struct jit_cache_counts if `cache`; or: */
	uint64_t (*value)(const struct jit_vm *vm);
	bool cache;
	bool costs; /* is there only if asked for: jit_vm.counting */
};

/* What stats_register_value() is given. */
struct jit_row {
	const struct jit_vm *vm;
	const struct row *row;
};

static uint64_t load(const void *base, size_t offset)
{
	return atomic_load_explicit((const stat_t *)(const void *)((const char *)base + offset), memory_order_relaxed);
}

static uint64_t sum(const struct jit_vm *vm, size_t offset)
{
	uint64_t v = 0;

	for (unsigned n = 0; n < vm->vm.cfg.cpus; n++)
		if (vm->vm.cpus[n])
			v += load(vm->vm.cpus[n], offset);
	return v;
}

#define CPU(name)     offsetof(struct jit_cpu, cpu.name)
#define COUNTER(name) offsetof(struct jit_cpu, counts.name)
#define CACHE(name)   offsetof(struct jit_cache_counts, name)

/* Each vCPU changes its own at any time, so a difference may be off by what has just happened; never below 0. */
static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* Under the counting clock all instructions are charged in the same way. */
static uint64_t by_traces(const struct jit_vm *vm)
{
	return less(sum(vm, CPU(interpreted)), sum(vm, COUNTER(charged)));
}

static uint64_t cold(const struct jit_vm *vm)
{
	return less(by_traces(vm), sum(vm, CPU(alone)));
}

static uint64_t interpreted(const struct jit_vm *vm)
{
	return by_traces(vm) + sum(vm, COUNTER(handled));
}

static uint64_t translated(const struct jit_vm *vm)
{
	return less(sum(vm, CPU(vcpu.instructions)), interpreted(vm));
}

static uint64_t share(const struct jit_vm *vm)
{
	uint64_t all = sum(vm, CPU(vcpu.instructions));

	return all ? (uint64_t)((unsigned __int128)interpreted(vm) * 1000000 / all) : 0;
}

static uint64_t hits(const struct jit_vm *vm)
{
	return less(sum(vm, COUNTER(accesses)), sum(vm, COUNTER(misses)) + sum(vm, COUNTER(refills)));
}

static const struct row rows[] = {
	{ "translated", "instructions executed in translated code", .value = translated, .costs = true },
	{ "handled", "instructions that translated code left to the interpreter's handlers", COUNTER(handled) },
	{ "alone", "instructions that were interpreted because translated code does not have them", CPU(alone) },
	{ "cold", "instructions that were interpreted because they were cold, or in a mode that is not translated",
	  .value = cold },
	{ "interpreted_ppm", "of a million instructions, those that were interpreted for any reason", .value = share,
	  .costs = true },
	{ "translations", "blocks that were translated", COUNTER(translations) },
	{ "translated_instructions", "instructions in them", COUNTER(translated) },
	{ "code_bytes", "bytes of the code that these became", CACHE(code), .cache = true },
	{ "data_bytes", "bytes of what belongs to that code", CACHE(data), .cache = true },
	{ "links", "jumps that were made to lead from block to block", CACHE(links), .cache = true },
	{ "pages_changed", "pages that were written to while there were blocks of theirs", CACHE(pages),
	  .cache = true },
	{ "given_up", "blocks that were given up because their code changed", CACHE(given_up), .cache = true },
	{ "forgotten", "times that the cache was full and everything was forgotten", CACHE(forgotten), .cache = true },
	{ "forgetting_ns", "nanoseconds for which all other CPUs waited for that", COUNTER(forgetting_ns) },
	{ "tlb_hits", "memory accesses of translated code that the soft TLB knew", .value = hits, .costs = true },
	{ "tlb_refills", "those that its second level knew, or both pages of which it had", COUNTER(refills) },
	{ "tlb_misses", "those that went on in C", COUNTER(misses) },
	{ "tlb_crossing", "of these, those that crossed a page", COUNTER(crossing) },
	{ "tlb_device", "of these, those that were not to plain RAM", COUNTER(devices) },
	{ "targets_found", "targets that had to be looked up, without an exit", COUNTER(found) },
	{ "exit_lookup", "exits of translated code: a target that was not found so", COUNTER(exits[JIT_LOOK_UP]) },
	{ "exit_link", "exits of translated code: a jump that had not been linked", COUNTER(exits[JIT_LINK]) },
	{ "exit_news", "exits of translated code: an event for the CPU, or a block that was given up",
	  COUNTER(exits[JIT_OUT]) },
	{ "exit_changed", "exits of translated code: what the block was made for had changed",
	  COUNTER(exits[JIT_BROKEN]) },
	{ "exit_split", "exits of translated code: accesses that were to share a page had to go one by one",
	  COUNTER(exits[JIT_SPLIT]) },
	{ "exit_instruction", "exits of translated code: an instruction that it does not have",
	  COUNTER(exits[JIT_INTERPRET]) },
	{ "exit_access", "exits of translated code: an access to memory that it does not have",
	  COUNTER(exits[JIT_ACCESS]) },
	{ "exit_float", "exits of translated code: floating point with exceptions that are not masked",
	  COUNTER(exits[JIT_OPEN]) },
};

static uint64_t value(void *opaque)
{
	const struct jit_row *r = opaque;

	if (r->row->value)
		return r->row->value(r->vm);
	return r->row->cache ? load(jit_cache_counts(r->vm->cache), r->row->counter) : sum(r->vm, r->row->counter);
}

bool jit_stats_register(struct jit_vm *vm)
{
	char name[48];

	vm->rows = calloc(ARRAY_LEN(rows), sizeof(*vm->rows));
	if (!vm->rows)
		return false;
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		if (rows[n].costs && !vm->counting)
			continue;
		vm->rows[n] = (struct jit_row){ vm, &rows[n] };
		snprintf(name, sizeof(name), "jit.%s", rows[n].name);
		stats_register_value(vm->vm.cfg.stats, name, rows[n].help, value, &vm->rows[n]);
	}
	return true;
}
