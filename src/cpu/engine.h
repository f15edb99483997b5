/*
 * The contract that every engine fulfils. It names no ISA and no device.
 *
 * An engine runs the vCPUs of one VM. It reaches the world through mem/ (RAM), the four calls of
 * struct cpu_world (MMIO and ports), and the interrupt controller interface. It never sleeps for a
 * halted guest: run() returns CPU_EXIT_HALTED, and the machine waits with vcpu_wait()
 * or moves a counting clock on.
 *
 * Threads: vm_* from the thread that owns the machine, with the vCPUs stopped. run, get_state and
 * set_state from the vCPU's own thread (or while it is stopped). vcpu_signal() and vcpu_kick() from
 * any thread.
 */
#ifndef VIREO_CPU_ENGINE_H
#define VIREO_CPU_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/state.h"
#include "base/stats.h"
#include "clock/clock.h"
#include "irq/intc.h"
#include "mem/mem.h"

/* Guest accesses that are not RAM. `addr` is guest-physical. Values are zero-extended. */
struct cpu_world {
	uint64_t (*mmio_read)(void *opaque, uint64_t addr, unsigned size);
	void (*mmio_write)(void *opaque, uint64_t addr, unsigned size, uint64_t val);
	uint32_t (*pio_read)(void *opaque, uint16_t port, unsigned size);
	void (*pio_write)(void *opaque, uint16_t port, unsigned size, uint32_t val);
	void *opaque;
};

enum cpu_exit {
	CPU_EXIT_KICKED,   /* vcpu_kick(): look at the machine's run state */
	CPU_EXIT_HALTED,   /* HLT (or waiting for SIPI) and nothing pending: vcpu_wait(), then run again */
	CPU_EXIT_SHUTDOWN, /* triple fault or the like, as vcpu->error says: the machine resets or stops */
	CPU_EXIT_DEBUG,	   /* a breakpoint of the debugger */
	CPU_EXIT_FAILED	   /* the engine cannot go on; vcpu->error says why */
};

/* Bits of vcpu.events: news that the vCPU's thread has not looked at yet. */
enum {
	VCPU_EV_INTR = 1u << CPU_SIGNAL_INTR,
	VCPU_EV_NMI = 1u << CPU_SIGNAL_NMI,
	VCPU_EV_SMI = 1u << CPU_SIGNAL_SMI,
	VCPU_EV_INIT = 1u << CPU_SIGNAL_INIT,
	VCPU_EV_SIPI = 1u << CPU_SIGNAL_SIPI,
	VCPU_EV_WAKE = 1u << CPU_SIGNAL_WAKE,
	VCPU_EV_KICK = 1u << 8,	     /* run() clears it and returns CPU_EXIT_KICKED */
	VCPU_EV_PRIVATE = 1u << 9,   /* for the engine's own use (exclusive sections, flush requests) */
	VCPU_EV_NMI_TWICE = 1u << 10 /* an NMI came while VCPU_EV_NMI was set: one is served, one waits */
};

struct engine;
struct engine_vm; /* each engine's own */

/* Embedded first in each engine's vCPU. */
struct vcpu {
	const struct engine *engine;
	struct engine_vm *vm;
	unsigned index;
	_Atomic uint32_t events;
	_Atomic uint32_t sleeping; /* futex word of vcpu_wait() */
	_Atomic uint8_t sipi_vector;
	struct err error;
	stat_t instructions; /* retired, where the engine can count */
	stat_t halts;
};

struct engine_config {
	struct mem_space *mem;
	struct cpu_world world;
	struct intc intc;
	struct vclock *clock;
	struct stats *stats;
	struct config *config; /* "cpu.model" and the engine's own keys */
	unsigned cpus;
};

/* What probing found; `why` is always filled: the reason for absence, or what was measured. */
struct engine_probe {
	bool available;
	char why[160];
};

struct engine {
	const char *name; /* "interp", "jit", "kvm" */
	const char *isa;  /* "x86_64" */
	const char *summary;
	/* The table of the architectural state, shared by all engines of an ISA, and the size of its object. */
	const struct state_desc *arch_state;
	size_t arch_state_size;

	/* The processor model, which all vCPUs share: its table, and its object. Loading another one is refused by
	 * name. */
	const struct state_desc *model_state;
	void *(*model)(struct engine_vm *vm);

	void (*probe)(struct engine_probe *p);

	struct engine_vm *(*vm_create)(const struct engine_config *c, struct err *err);
	void (*vm_destroy)(struct engine_vm *vm);
	/* RAM slots were added: rebuild what the engine derived from them. vCPUs stopped. May be NULL. */
	void (*ram_changed)(struct engine_vm *vm);

	/* A new vCPU is in its power-on state: the boot processor runnable, others waiting for SIPI. */
	struct vcpu *(*vcpu_create)(struct engine_vm *vm, unsigned index, struct err *err);
	void (*vcpu_destroy)(struct vcpu *v);
	void (*vcpu_reset)(struct vcpu *v);
	enum cpu_exit (*run)(struct vcpu *v);
	/* Make run() notice vcpu.events soon. Called after the bits were set; any thread. May be NULL. */
	void (*poke)(struct vcpu *v);

	/* Copy the whole architectural state to or from an object of arch_state. */
	void (*get_state)(struct vcpu *v, void *state);
	int (*set_state)(struct vcpu *v, const void *state, struct err *err);
};

/* All engines in the order of preference, NULL-terminated. */
extern const struct engine *const engines[];
const struct engine *engine_find(const char *name);

/* --- for all engines, in engine.c --- */
/* Post an event; `sipi_vector` only with CPU_SIGNAL_SIPI. Wakes vcpu_wait(). Any thread. */
void vcpu_signal(struct vcpu *v, enum cpu_signal what, uint8_t sipi_vector);
void vcpu_kick(struct vcpu *v);
/* Sleep until any event bit is set, or for `ns` nanoseconds (negative: no limit). The vCPU's own thread. */
void vcpu_wait(struct vcpu *v, int64_t ns);

#endif
