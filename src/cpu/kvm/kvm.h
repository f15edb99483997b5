/*
 * The hardware engine: what its files share. Linux's Documentation/virt/kvm/api.rst describes the interface.
 *
 * A vCPU's descriptor and everything in struct kvm_cpu belong to the vCPU's thread; `signalled` and kvm_run's
 * immediate_exit are written by others to call it out of the guest.
 */
#ifndef VIREO_CPU_KVM_KVM_H
#define VIREO_CPU_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>

#include "cpu/engine.h"
#include "cpu/x86/model.h"
#include "cpu/x86/state.h"

#define KVM_CPUS_MAX 255
#define KVM_PINS     24	  /* of the I/O APIC */
#define KVM_GSIS     1024 /* with the messages that KVM sends by itself */
#define KVM_STOPS    4u	  /* debug registers */
#define KVM_PIECES   96u  /* of memory: mem_piece_count() */

enum kvm_stop_way { KVM_STOP_INT3, KVM_STOP_INSN, KVM_STOP_DATA, KVM_STOP_WAYS };

struct kvm_cpu;
struct x86_stepper;

/* What the keys "kvm.*" say. */
struct kvm_settings {
	bool ioeventfd;	     /* doorbells ring without an exit */
	bool irqfd;	     /* messages go without a call */
	bool coalesced;	     /* writes to selectors wait in a ring */
	uint64_t dirty_ring; /* entries of each vCPU's ring of written pages; 0: a bitmap */
};

struct kvm_vm {
	struct engine_config cfg;
	struct kvm_settings settings;
	int kvm, fd;
	size_t run_size; /* of each vCPU's kvm_run */
	const struct x86_features *features;
	struct x86_model model;
	struct x86_partition partition_known; /* to KVM, of model's */
	struct kvm_cpuid2 *cpuid;	      /* the same on every vCPU but for its number */
	struct kvm_msr_list *msrs;
	struct kvm_cpu *cpus[KVM_CPUS_MAX];
	bool payloads;	    /* exceptions that are pending come with what they will write */
	bool triple_faults; /* those that are pending are told */
	bool smm;	    /* KVM knows system management mode */
	bool hypercalls;    /* by guests come to KVM */
	bool split;	    /* local APICs are in the kernel */
	unsigned slots;	    /* pieces of mem that KVM has been told of */
	struct kvm_piece {
		uint8_t *host; /* NULL: nothing is there */
		uint64_t base;
		bool readonly;
	} piece[KVM_PIECES];

	/* the log of written pages; its lock is for it */
	pthread_mutex_t dirty_lock;
	bool logging;
	unsigned rings;	  /* entries of each vCPU's ring; 0: bitmaps */
	uint64_t *bitmap; /* of one slot, or NULL */

	/* guest time, see time.c; `time_base` and what it was made from under the lock */
	pthread_mutex_t time_lock;
	bool time_set;
	unsigned time_starts;
	uint64_t time_base;
	_Atomic int64_t time_ahead;
	unsigned tsc_khz;	/* of the host's counter, 0 if KVM does not tell */
	_Atomic bool tsc_fixed; /* this KVM does not move the guest's counter */

	/* writes that wait, see latches.c; the lock is held while they come to the world */
	pthread_mutex_t latch_lock;
	struct clock_timer latch_timer;
	struct kvm_coalesced_mmio_ring *latched; /* on the first vCPU's page, or NULL */
	bool latches;
	int latch_page;

	pthread_mutex_t routes_lock;
	struct kvm_irq_routing *routes;	      /* by the number of the GSI, the I/O APIC's pins first */
	const struct event *waiter[KVM_GSIS]; /* that KVM sends the message of this GSI for */
	stat_t messages;
	/* For instructions that KVM cannot emulate, see emulate.c; made when the first one comes. */
	pthread_mutex_t stepper_lock;
	struct x86_stepper *stepper;
	/* INT3s for a debugger, see int3.c; the list changes while vCPUs stand still only */
	pthread_mutex_t int3_lock;
	struct kvm_patch *patches;
	struct {
		bool tried, works;
	} stops_by[KVM_STOP_WAYS]; /* for a debugger; vCPUs stopped */
	bool irqfd;		   /* messages go without a call */
};

/* A byte of guest memory that is an INT3 while vCPUs run. */
struct kvm_patch {
	struct kvm_patch *next;
	uint64_t phys;
	uint8_t byte; /* the guest's */
	bool in;
	unsigned points; /* of all vCPUs */
	unsigned users;	 /* vCPUs in run() with a point here */
	unsigned held;	 /* vCPUs that pass it just now */
};
struct kvm_soft_point {
	struct debug_point point;
	struct kvm_patch *patch;
};

struct kvm_cpu {
	struct vcpu vcpu; /* first: engine.h */
	struct kvm_vm *vm;
	int fd;
	struct kvm_run *run;
	stat_t exits;	 /* times that KVM_RUN came back */
	stat_t emulated; /* instructions that KVM could not emulate */
	/* What KVM does not hold: see state.c. The rest of it is stale while the guest runs. */
	struct x86_state s;
	bool broken; /* vcpu.error says why it cannot run */
	/* The last exit was an access that KVM finishes at the next KVM_RUN; until then its registers are not final. */
	bool unfinished;
	/* Guest time: the offset that KVM was given, and what that was made from. */
	uint64_t tsc_set, tsc_base, tsc_ahead;
	unsigned tsc_starts;
	bool tsc_scaled;
	/* The debugger's: a point for each debug register, and where one has stopped the vCPU. */
	struct kvm_guest_debug debug;
	struct debug_point stops[KVM_STOPS];
	unsigned stop_count;
	struct kvm_soft_point *soft; /* those without a register; NULL or room for DEBUG_POINTS */
	unsigned soft_count;
	struct kvm_patch *held; /* the INT3 that is being passed, or NULL */
	bool stepping, stop_passed, passing;
	uint64_t stop_rip, stop_at; /* and linear */
	/* The model and the rate of the TSC that this vCPU's CPUID has. */
	struct x86_features applied;
	uint64_t applied_hz;
	struct kvm_dirty_gfn *ring; /* or NULL */
	uint32_t ring_next;
	/* Of the thread in run(), for the signal that ends KVM_RUN. */
	_Atomic bool running;
	pthread_t thread;
};

static inline struct kvm_cpu *kvm_cpu_of(struct vcpu *v)
{
	return (struct kvm_cpu *)v;
}

/* ioctl() that takes no notice of signals; -1 with errno set. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

/* slots.c: give the RAM of cfg.mem, as far as it is new, to the VM. */
int kvm_slots_register(struct kvm_vm *vm, struct err *err);
/* After overlays of it changed. */
int kvm_slots_remap(struct kvm_vm *vm, struct err *err);
/* How the log is kept; before there are vCPUs. */
int kvm_dirty_new(struct kvm_vm *vm, struct err *err);
void kvm_dirty_free(struct kvm_vm *vm);
int kvm_dirty_add_cpu(struct kvm_cpu *cpu, struct err *err);
void kvm_dirty_del_cpu(struct kvm_cpu *cpu);
/* engine.h's. Any thread. */
int kvm_dirty_log(struct engine_vm *vm, bool on, struct err *err);
void kvm_dirty_sync(struct engine_vm *vm);

/* time.c: the rate of a new machine's TSC is the host's unless another one is asked for. */
void kvm_tsc_new(struct kvm_vm *vm);
/* The TSC offset of the state, and what is to be done before vCPUs run and after. vCPU thread or stopped. */
uint64_t kvm_tsc_offset(struct kvm_cpu *cpu);
void kvm_tsc_set_offset(struct kvm_cpu *cpu, uint64_t offset);
/* Let the guest's counter run at the clock's rate, which a restore may have brought. */
int kvm_tsc_set_rate(struct kvm_cpu *cpu, struct err *err);
void kvm_time_resume(struct kvm_cpu *cpu);
void kvm_time_leave(struct kvm_cpu *cpu);

/* debug.c: engine.h's set_debug(); before run() goes on and after; whether KVM_EXIT_DEBUG is the debugger's; and a new
 * beginning, whose memory is another one's. */
int kvm_debug_set(struct vcpu *v, const struct cpu_debug *d, struct err *err);
void kvm_debug_resume(struct kvm_cpu *cpu);
void kvm_debug_leave(struct kvm_cpu *cpu);
bool kvm_debug_exit(struct kvm_cpu *cpu);
/* An instruction was executed without KVM: whether that is a step of the debugger's, which ends run(). */
bool kvm_debug_stepped(struct kvm_cpu *cpu);
void kvm_debug_reset(struct kvm_cpu *cpu);
/* Whether this KVM stops vCPUs so; vCPUs stopped. */
bool kvm_debug_by(struct kvm_vm *vm, enum kvm_stop_way way);

/* int3.c: one point more for this vCPU, or none any more; vCPUs stopped. */
int kvm_int3_add(struct kvm_cpu *cpu, const struct debug_point *point, struct err *err);
void kvm_int3_clear(struct kvm_cpu *cpu);
/* In run(), or no longer. */
void kvm_int3_enter(struct kvm_cpu *cpu);
void kvm_int3_leave(struct kvm_cpu *cpu);
/* The point at a linear address, or NULL; and any vCPU's patch of the memory there. */
const struct kvm_soft_point *kvm_int3_at(const struct kvm_cpu *cpu, uint64_t lin);
struct kvm_patch *kvm_int3_below(const struct kvm_cpu *cpu, uint64_t lin);
/* This vCPU passes the guest's own instruction: for all, the INT3 is not there meanwhile. */
void kvm_int3_hold(struct kvm_cpu *cpu, struct kvm_patch *p);
void kvm_int3_release(struct kvm_cpu *cpu);

/* features.c: the model without what KVM cannot give here, and KVM_SET_CPUID2 if the vCPU does not have it yet. */
int kvm_features_new(struct kvm_vm *vm, struct err *err);
void kvm_features_free(struct kvm_vm *vm);
int kvm_features_apply(struct kvm_cpu *cpu, struct err *err);

/* state.c: the whole architectural state, both ways. */
int kvm_state_get(struct kvm_cpu *cpu, struct x86_state *s);
int kvm_state_set(struct kvm_cpu *cpu, const struct x86_state *s, struct err *err);
/* The same as far as one instruction can see it, with the TSC's offset as it is; and what one has changed. */
int kvm_state_peek(struct kvm_cpu *cpu, struct x86_state *s);
int kvm_state_change(struct kvm_cpu *cpu, const struct x86_state *from, const struct x86_state *to, struct err *err);
/* KVM_GET_MSRS or KVM_SET_MSRS of one; false if this KVM does not have it. */
bool kvm_msr_transfer(struct kvm_cpu *cpu, unsigned long request, uint32_t msr, uint64_t *value);

/*
 * hyperv.c, where the model has that: what is the partition's into vm->model, vCPUs stopped; the vCPU's own; and both
 * to KVM: the first MSR that it refuses, or 0.
 */
void kvm_hyperv_fetch(struct kvm_vm *vm);
void kvm_hyperv_get(struct kvm_cpu *cpu, struct x86_state *s);
uint32_t kvm_hyperv_set(struct kvm_cpu *cpu, const struct x86_state *s);

/* eventfd.c: what configuration and KVM allow; and engine.h's doorbell(), any thread. */
void kvm_eventfds_new(struct kvm_vm *vm);
bool kvm_doorbell(struct engine_vm *vm, const struct doorbell *d, bool on);

/* latches.c: what configuration and KVM allow; the ring on the page of the first vCPU, or NULL; the writes that wait,
 * any thread without locks; and engine.h's latch(). */
void kvm_latches_init(struct kvm_vm *vm);
void kvm_latches_new(struct kvm_vm *vm);
void kvm_latches_free(struct kvm_vm *vm);
void kvm_latches_share(struct kvm_vm *vm, struct kvm_run *run);
void kvm_latches_take(struct kvm_vm *vm);
bool kvm_latch(struct engine_vm *vm, bool port, uint64_t addr, unsigned size);

/* intc.h's, with a split interrupt controller; any thread. */
bool kvm_irqfd_bind(void *vm, const struct event *e, uint64_t addr, uint32_t data);
void kvm_irqfd_unbind(void *vm, const struct event *e);

/* irqchip.c: GSI `gsi` sends this from now on. 0 if KVM agrees, or nothing has changed. routes_lock held. */
int kvm_irqchip_route(struct kvm_vm *vm, unsigned gsi, uint64_t addr, uint32_t data);
/* The local APICs where cfg.intc_place wants them. Before vCPUs are made. */
int kvm_irqchip_new(struct kvm_vm *vm, struct err *err);

/* calibrate.c: how fast kernel-mode code runs here, by a throw-away guest. Fills `p`. `kvm` is an open /dev/kvm. */
void kvm_calibrate(struct engine_probe *p, int kvm);
/* By another such guest: whether one stops for a debugger by an INT3, before an instruction, after a write. */
bool kvm_stops_by(int kvm, enum kvm_stop_way way);
/* Whether guests can call KVM; if not, what they do it by is undefined to them. Before there are vCPUs. */
bool kvm_hypercalls(int vm);

extern const struct engine engine_kvm;

#endif
