/*
 * How often each block was executed ("jit.count=blocks"): each vCPU has a counter for each block, and what was counted
 * outlives the cache. jit_profile_block() under the cache's lock; the others while no vCPU runs.
 */
#ifndef VIREO_CPU_JIT_PROFILE_H
#define VIREO_CPU_JIT_PROFILE_H

#include "cpu/jit/jit.h"

struct jit_profile;
struct jit_tr;

struct jit_profile *jit_profile_new(size_t cache_bytes);
void jit_profile_free(struct jit_profile *p);
/* The counters of a vCPU, by the number of the block; NULL: no memory. */
uint64_t *jit_profile_counters(const struct jit_profile *p);
void jit_profile_counters_free(const struct jit_profile *p, uint64_t *counters);

/* The number of the block that is being written. */
unsigned jit_profile_next(const struct jit_profile *p);
/* It is written. */
void jit_profile_block(struct jit_tr *t);

/* The cache is about to be forgotten. */
void jit_profile_keep(struct jit_vm *vm);
/* engine.hottest */
size_t jit_hottest(struct engine_vm *vm, struct engine_block *out, size_t most);

#endif
