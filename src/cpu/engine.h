/*
 * The contract that every engine fulfils. It names no ISA and no device.
 *
 * An engine runs the vCPUs of one VM. It reaches the world through mem/ (RAM), the four calls of
 * struct cpu_world (MMIO and ports), doorbells, and the interrupt controller interface. It never sleeps for a
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
#include "base/doorbell.h"
#include "base/err.h"
#include "base/state.h"
#include "base/stats.h"
#include "clock/clock.h"
#include "cpu/debug.h"
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
	CPU_EXIT_DEBUG,	   /* the debugger's: vcpu->stop says why */
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
	struct debug_stop stop;
	stat_t instructions; /* retired, where the engine can count */
	stat_t halts;
};

/* Where the local interrupt controllers of the vCPUs are. */
enum engine_intc {
	ENGINE_INTC_USER, /* in engine_config.intc, with the rest: the engine asks it before each instruction */
	ENGINE_INTC_SPLIT /* in the engine, as with KVM's split controller; engine_config.intc has the rest */
};

struct engine_config {
	struct mem_space *mem;
	struct mem_space *smm_mem; /* what x86 processors see in system management mode; NULL: the same */
	struct cpu_world world;
	struct intc intc;
	enum engine_intc intc_place; /* one that the engine has */
	struct vclock *clock;
	struct stats *stats;
	struct config *config; /* "cpu.model" and the engine's own keys */
	unsigned cpus;
	bool restored; /* its model and state come from a saved machine, before vCPUs run */
};

/* Bytes in code that are no instructions. */
struct code_data {
	uint16_t at, len;
};

#define ENGINE_HOST_FIRST 8u
/* A run of guest code that was executed as one, and what it was translated to. The pointers live as long as the VM. */
struct engine_block {
	uint64_t address, phys; /* of the guest code: linear, and where that was */
	unsigned bits;		/* 64, 32 or 16: how it is decoded */
	unsigned instructions;
	uint64_t runs; /* how often it was begun */
	const uint8_t *guest, *host;
	size_t guest_len, host_len;
	uint64_t host_address;
	/* Of `host` as it was: that of a block which was given up begins with a jump out. */
	uint8_t host_first[ENGINE_HOST_FIRST];
	const struct code_data *host_data; /* in order */
	size_t host_data_count;
};

/* What probing found; `why` is always filled: the reason for absence, or what was measured. */
struct engine_probe {
	bool available;
	bool fast; /* worth taking by itself (engine=auto) before the engines after it */
	char why[160];
};

struct engine {
	const char *name; /* "interp", "jit", "kvm" */
	const char *isa;  /* "x86_64" */
	const char *summary;
	bool smm;    /* x86: its vCPUs have system management mode */
	bool counts; /* its vCPUs move a clock on by the instructions that they retire: CLOCK_SOURCE_ICOUNT */
	/* The table of the architectural state, shared by all engines of an ISA, and the size of its object. */
	const struct state_desc *arch_state;
	size_t arch_state_size;

	/* The processor model, which all vCPUs share: its table, and its object. Loading another one is refused by
	 * name. */
	const struct state_desc *model_state;
	void *(*model)(struct engine_vm *vm);

	void (*probe)(struct engine_probe *p);

	/* Read the engine's own keys, "NAME.*", and say what is wrong with one; also for an engine that does not run.
	 * NULL: it has none. */
	int (*check_config)(struct config *c, struct err *err);
	struct engine_vm *(*vm_create)(const struct engine_config *c, struct err *err);
	void (*vm_destroy)(struct engine_vm *vm);
	/* The places that local interrupt controllers can be in: bits 1 << enum engine_intc. Not 0. */
	unsigned intc_places;
	/* RAM slots were added: rebuild what the engine derived from them. vCPUs stopped. May be NULL. */
	void (*ram_changed)(struct engine_vm *vm);
	/*
	 * After mem_overlay_set(): forget what was derived from what was there. `self`: the vCPU whose access did it,
	 * in whose thread this is, and which sees it at once, others soon; NULL: none runs.
	 */
	void (*remapped)(struct engine_vm *vm, struct vcpu *self);
	/*
	 * The dirty log is mem's, which sees every store of an engine that goes by the flags of pages: both are NULL
	 * then. Where guests store past it (hardware), dirty_log() begins and ends a log of the engine's own, beside
	 * mem_dirty_start() and mem_dirty_stop(), and dirty_sync() passes what that has on with mem_written(), before
	 * mem_dirty_fetch(). Any thread; vCPUs may run.
	 */
	int (*dirty_log)(struct engine_vm *vm, bool on, struct err *err);
	void (*dirty_sync)(struct engine_vm *vm);
	/*
	 * From now on, or no longer, a guest's write that matches adds 1 to d->event and does not reach the world.
	 * NULL, or false: this engine cannot; the write goes to the world as any other, where the bus finds the
	 * doorbell. Any thread, also a vCPU's in the middle of an access.
	 */
	bool (*doorbell)(struct engine_vm *vm, const struct doorbell *d, bool on);
	/*
	 * Writes there do nothing but choose what later accesses see. From now on they may come to the world late, but
	 * in their order, before whatever else vCPUs read and write there, before run() returns, and within a second.
	 * NULL, or false: they come at once. vCPUs stopped.
	 */
	bool (*latch)(struct engine_vm *vm, bool port, uint64_t addr, unsigned size);

	/*
	 * The blocks that executed most instructions, with "jit.count=blocks" or the like: how many of `most` were
	 * filled. vCPUs stopped. NULL: this engine has no such blocks.
	 */
	size_t (*hottest)(struct engine_vm *vm, struct engine_block *out, size_t most);

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
	/*
	 * Whether what get_state() gave could be set again, which is asked before it is saved: a guest may have brought
	 * its processor where no model of ours follows. NULL: it can always.
	 */
	int (*check_state)(struct engine_vm *vm, const void *state, struct err *err);

	const struct debug_isa *debug_isa; /* shared by all engines of an ISA */
	/*
	 * From now on stop as `d` (copied) asks, all vCPUs stopped. A point that has just stopped the vCPU does not
	 * stop it again before an instruction was executed.
	 */
	int (*set_debug)(struct vcpu *v, const struct cpu_debug *d, struct err *err);
};

/* All engines in the order of preference, NULL-terminated. */
extern const struct engine *const engines[];
const struct engine *engine_find(const char *name);
/*
 * What engine=auto means here: the first that is available and fast, with what its probe found; `counting`: of those
 * that count instructions. `passed` (or NULL) is told of each one before it.
 */
typedef void engine_passed(const struct engine *e, const struct engine_probe *p);
const struct engine *engine_auto(bool counting, struct engine_probe *p, engine_passed *passed);

/* --- for all engines, in engine.c --- */
/* Post an event; `sipi_vector` only with CPU_SIGNAL_SIPI. Wakes vcpu_wait(). Any thread. */
void vcpu_signal(struct vcpu *v, enum cpu_signal what, uint8_t sipi_vector);
void vcpu_kick(struct vcpu *v);
/* Sleep until any event bit is set, or for `ns` nanoseconds (negative: no limit). The vCPU's own thread. */
void vcpu_wait(struct vcpu *v, int64_t ns);

#endif
