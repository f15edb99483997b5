/*
 * Telling Linux's perf what translated code is ("jit.perf"): a map, or a dump that has the code itself and when it was
 * made. Under the cache's lock, but for new and free.
 */
#ifndef VIREO_CPU_JIT_PERF_H
#define VIREO_CPU_JIT_PERF_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum jit_perf_kind {
	JIT_PERF_OFF,
	JIT_PERF_MAP, /* /tmp/perf-PID.map */
	JIT_PERF_DUMP /* jit-PID.dump in the current directory */
};

struct jit_perf;

struct jit_perf *jit_perf_new(enum jit_perf_kind kind, struct err *err);
void jit_perf_free(struct jit_perf *p);
/* `len` bytes at `code` belong to the guest code at `rip`. */
void jit_perf_block(struct jit_perf *p, uintptr_t code, size_t len, uint64_t rip);
/* The same for code that all blocks share. */
void jit_perf_named(struct jit_perf *p, uintptr_t code, size_t len, const char *name);

#endif
