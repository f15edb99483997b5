/*
 * What a person sees of a processor, apart from any ISA: registers in words, the code it runs, its page tables. Pure
 * functions of a state that somebody has copied (engine.get_state).
 */
#ifndef VIREO_CPU_INSPECT_H
#define VIREO_CPU_INSPECT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "mem/mem.h"

/* A page that is mapped. */
struct inspect_page {
	uint64_t lin, phys;
	uint64_t size;
	uint64_t entry;		   /* as it is in the last table */
	bool user, writable, exec; /* by all tables on the way */
};

struct inspect_isa {
	/* By any name that people have for it; false: there is none. */
	bool (*reg)(const void *state, const char *name, uint64_t *value);
	/* The i-th of those names; NULL: no more. */
	const char *(*reg_name)(unsigned i);
	/* All registers, in the form that QEMU's monitor has. */
	void (*print)(const void *state, FILE *out);
	/* How the code at the program counter is decoded: 64, 32 or 16. */
	unsigned (*code_bits)(const void *state);
	/*
	 * All pages in order of their addresses, as long as `page` returns true; false: there are no page tables.
	 * Tables of a guest may lead anywhere, also into themselves: after a bounded number of them it ends.
	 */
	bool (*pages)(const void *state, struct mem_space *mem,
		      bool (*page)(void *opaque, const struct inspect_page *p), void *opaque);
	/* A line about a page, as QEMU's `info tlb` has it. */
	void (*print_page)(const struct inspect_page *p, FILE *out);
};

#endif
