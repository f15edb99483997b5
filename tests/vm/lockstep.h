/*
 * Two engines beside each other through the same guest, by the counting clock: each runs in a process of its own,
 * stops at the same instructions and says what its processor and its memory are there (lockstep_side.c). The parent
 * compares (lockstep.c). Both share one struct lockstep.
 */
#ifndef VIREO_TESTS_VM_LOCKSTEP_H
#define VIREO_TESTS_VM_LOCKSTEP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/x86/state.h"

/* What a side says at one place. */
struct lockstep_place {
	int64_t ns; /* guest time */
	uint64_t instructions, rip;
	uint64_t cpu, ram; /* hashes; ram: 0 if it was not looked at */
};

/* The first bytes of an instruction that was executed. */
struct lockstep_insn {
	uint64_t rip;
	uint8_t bytes[15];
};

#define LOCKSTEP_RING  4096u
#define LOCKSTEP_PATH  40u
#define LOCKSTEP_PAGES (1u << 16)
#define LOCKSTEP_SETS  8u
struct lockstep_side {
	const char *engine;
	char console[64]; /* what it writes goes to this file */
	int pid;
	_Atomic uint64_t said, heard;
	_Atomic bool ended;
	int status; /* of vm_run() */
	struct lockstep_place ring[LOCKSTEP_RING];
	/* At `until`: */
	struct x86_state state;
	uint64_t page[LOCKSTEP_PAGES];
	unsigned path_len;
	struct lockstep_insn path[LOCKSTEP_PATH]; /* the last ones before, if `walk` */
};

struct lockstep {
	const char *kernel, *initrd, *append, *memory;
	const char *set[LOCKSTEP_SETS]; /* KEY=VALUE */
	unsigned sets;
	uint64_t seed;
	uint64_t every;	    /* nanoseconds from place to place, on average */
	uint64_t ram_every; /* from one at which memory is looked at to the next */
	uint64_t most;	    /* where to end; or until the guest ends */
	/*
	 * Flags that nobody looks at any more may be any, as they are without jit.strict: neither they nor memory,
	 * where interrupts put them, are compared.
	 */
	uint64_t lax;
	/* If not 0: after the place at `from` there is one more, `until`; all is told of it, and that is the end. */
	int64_t from, until;
	bool walk; /* one instruction after the other as far as `path` has room */
	struct lockstep_side side[2];
};

/* In a child: does not return. */
_Noreturn void lockstep_run(struct lockstep *l, struct lockstep_side *s);

#endif
