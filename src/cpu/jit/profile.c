/*
 * See profile.h. Of what the cache forgets the blocks that did most are kept with copies of their code, so that no
 * guest makes this large.
 */
#include "cpu/jit/profile.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/jit/translate.h"

#define KEPT_MAX 4096u

/* In the cache's memory. */
struct record {
	const struct jit_block *block;
	unsigned number, instructions;
	size_t guest_len, host_len, notes;
	uint8_t first[ENGINE_HOST_FIRST]; /* of the host's code: give_up() writes over it */
	struct record *next;
	struct code_data data[]; /* and the guest's code */
};
static const uint8_t *guest_of(const struct record *r)
{
	return (const uint8_t *)&r->data[r->notes];
}

/* A block by what it is: several translations of the same code are one. */
struct entry {
	struct engine_block b;
	bool kept; /* what `host_data` points to is allocated, `guest` and `host` are behind it */
};

struct jit_profile {
	struct record *records;
	unsigned count, most; /* of records */
	struct entry *kept;
	size_t kept_count;
};

struct jit_profile *jit_profile_new(size_t cache_bytes)
{
	struct jit_profile *p = calloc(1, sizeof(*p));

	if (p)
		p->most = (unsigned)(cache_bytes / (sizeof(struct jit_block) + sizeof(struct record)));
	return p;
}

static void forget(struct entry *e, size_t from, size_t count)
{
	for (size_t n = from; n < count; n++)
		if (e[n].kept)
			free((void *)e[n].b.host_data);
}

void jit_profile_free(struct jit_profile *p)
{
	if (!p)
		return;
	forget(p->kept, 0, p->kept_count);
	free(p->kept);
	free(p);
}

/* Mapped: what no block uses costs nothing. */
uint64_t *jit_profile_counters(const struct jit_profile *p)
{
	void *m = mmap(NULL, p->most * sizeof(uint64_t), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return m == MAP_FAILED ? NULL : m;
}

void jit_profile_counters_free(const struct jit_profile *p, uint64_t *counters)
{
	if (counters)
		munmap(counters, p->most * sizeof(uint64_t));
}

unsigned jit_profile_next(const struct jit_profile *p)
{
	return p->count;
}

void jit_profile_block(struct jit_tr *t)
{
	struct jit_profile *p = t->profile;
	size_t len = t->end_rip - t->block_rip, notes = t->note_count * sizeof(t->notes[0]);
	struct record *r;

	if (!p || t->e.full)
		return;
	r = p->count < p->most ? jit_cache_alloc(t->cache, sizeof(*r) + notes + len) : NULL;
	if (!r) {
		t->e.full = true;
		return;
	}
	*r = (struct record){
		.block = t->block,
		.number = p->count++,
		.instructions = t->count,
		.guest_len = len,
		.host_len = emit_rx(&t->e) - t->block->native,
		.notes = t->note_count,
		.next = p->records,
	};
	memcpy(r->first, (const uint8_t *)t->block->native, sizeof(r->first));
	memcpy(r->data, t->notes, notes);
	memcpy((uint8_t *)r->data + notes, t->guest, len);
	p->records = r;
}

/* --- what was counted --- */

static uint64_t runs_of(const struct jit_vm *vm, unsigned number)
{
	uint64_t runs = 0;

	for (unsigned n = 0; n < vm->vm.cfg.cpus; n++)
		if (vm->vm.cpus[n])
			runs += jit_of(vm->vm.cpus[n])->runs[number];
	return runs;
}

static int by_code(const void *a, const void *b)
{
	const struct engine_block *x = &((const struct entry *)a)->b, *y = &((const struct entry *)b)->b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	if (x->phys != y->phys)
		return x->phys < y->phys ? -1 : 1;
	if (x->bits != y->bits)
		return x->bits < y->bits ? -1 : 1;
	if (x->guest_len != y->guest_len)
		return x->guest_len < y->guest_len ? -1 : 1;
	return memcmp(x->guest, y->guest, x->guest_len);
}

static uint64_t weight(const struct entry *e)
{
	return e->b.runs * e->b.instructions;
}

static int by_weight(const void *a, const void *b)
{
	uint64_t x = weight(a), y = weight(b);

	return x > y ? -1 : x < y ? 1 : by_code(a, b);
}

/* What was kept and what is in the cache, the most executed first. NULL: nothing, or no memory. */
static struct entry *collect(const struct jit_vm *vm, size_t *count)
{
	const struct jit_profile *p = vm->profile;
	struct entry *all = calloc(p->kept_count + p->count + 1, sizeof(*all));
	size_t n = p->kept_count, merged = 0;

	if (!all)
		return NULL;
	if (n)
		memcpy(all, p->kept, n * sizeof(*all));
	for (const struct record *r = p->records; r; r = r->next) {
		uint64_t runs = runs_of(vm, r->number);

		if (!runs)
			continue;
		all[n] = (struct entry){ .b = { .bits = r->block->mode & X86_FETCH_CODE32 ? 32 : 64,
						.address = r->block->rip,
						.phys = r->block->phys,
						.runs = runs,
						.instructions = r->instructions,
						.guest = guest_of(r),
						.guest_len = r->guest_len,
						.host = (const uint8_t *)r->block->native,
						.host_len = r->host_len,
						.host_address = r->block->native,
						.host_data = r->data,
						.host_data_count = r->notes } };
		memcpy(all[n++].b.host_first, r->first, sizeof(r->first));
	}
	qsort(all, n, sizeof(*all), by_code);
	for (size_t k = 0; k < n; k++) {
		struct entry *last = merged ? &all[merged - 1] : NULL;

		if (!last || by_code(last, &all[k])) {
			all[merged++] = all[k];
			continue;
		}
		last->b.runs += all[k].b.runs;
		/* One of the two is enough, and the kept one's memory must not be lost. */
		if (all[k].kept && !last->kept) {
			all[k].b.runs = last->b.runs;
			*last = all[k];
		}
	}
	qsort(all, merged, sizeof(*all), by_weight);
	*count = merged;
	return all;
}

/* Copy what the entry points to. */
static bool keep(struct entry *e)
{
	size_t data = e->b.host_data_count * sizeof(*e->b.host_data);
	uint8_t *copy;

	if (e->kept)
		return true;
	copy = malloc(data + e->b.guest_len + e->b.host_len);
	if (!copy)
		return false;
	memcpy(copy, e->b.host_data, data);
	e->b.host_data = (const struct code_data *)(const void *)copy;
	copy += data;
	e->b.guest = memcpy(copy, e->b.guest, e->b.guest_len);
	e->b.host = memcpy(copy + e->b.guest_len, e->b.host, e->b.host_len);
	e->kept = true;
	return true;
}

void jit_profile_keep(struct jit_vm *vm)
{
	struct jit_profile *p = vm->profile;
	struct entry *all;
	size_t count = 0, kept = 0;

	if (!p)
		return;
	all = collect(vm, &count);
	if (all) {
		while (kept < count && kept < KEPT_MAX && keep(&all[kept]))
			kept++;
		forget(all, kept, count);
		free(p->kept);
		p->kept = all;
		p->kept_count = kept;
	}
	for (unsigned n = 0; n < vm->vm.cfg.cpus; n++)
		if (vm->vm.cpus[n])
			memset(jit_of(vm->vm.cpus[n])->runs, 0, p->count * sizeof(uint64_t));
	p->records = NULL;
	p->count = 0;
}

size_t jit_hottest(struct engine_vm *v, struct engine_block *out, size_t most)
{
	struct jit_vm *vm = (struct jit_vm *)v;
	struct entry *all;
	size_t count = 0;

	if (!vm->profile)
		return 0;
	all = collect(vm, &count);
	if (!all)
		return 0;
	if (count > most)
		count = most;
	for (size_t n = 0; n < count; n++)
		out[n] = all[n].b;
	free(all);
	return count;
}
