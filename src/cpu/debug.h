/*
 * What a debugger sees of a processor and asks of it, apart from any ISA. Plain data and pure functions; the vCPU
 * concerned is stopped.
 */
#ifndef VIREO_CPU_DEBUG_H
#define VIREO_CPU_DEBUG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mem/mem.h"

#define DEBUG_POINTS 256

/* Where to stop: before an instruction is executed, or after one that has accessed any of `len` bytes. */
enum debug_kind { DEBUG_EXEC, DEBUG_WRITE, DEBUG_READ, DEBUG_ACCESS };
struct debug_point {
	uint64_t addr; /* linear */
	uint32_t len;  /* bytes, 1 to 4096; DEBUG_EXEC: unused */
	enum debug_kind kind;
};

struct cpu_debug {
	bool step; /* stop after one instruction, before which no interrupt is taken */
	unsigned count;
	struct debug_point points[DEBUG_POINTS];
};

/* Why run() returned CPU_EXIT_DEBUG. */
struct debug_stop {
	bool step;
	struct debug_point point; /* unless it was a step */
};

/* The largest register. */
#define DEBUG_REG_BYTES 16

struct inspect_isa;

/* An ISA's registers in the order and form of the GDB remote protocol. `state` is an object of engine.arch_state. */
struct debug_isa {
	/* Writes "target.xml" (GDB manual, appendix G) with its end; the length, even where `size` is less. */
	size_t (*describe)(char *text, size_t size);
	unsigned regs;
	unsigned pc;			/* the number of the program counter, of up to 64 bits */
	size_t (*reg_size)(unsigned n); /* bytes, at most DEBUG_REG_BYTES */
	void (*get)(const void *state, unsigned n, uint8_t *bytes);
	/* False if this register cannot be set now. */
	bool (*set)(void *state, unsigned n, const uint8_t *bytes);
	/* Where a linear address leads, without any rights and without marking pages as used. False: nowhere. */
	bool (*translate)(const void *state, struct mem_space *mem, uint64_t lin, uint64_t *phys);
	const struct inspect_isa *inspect; /* for people */
};

#endif
