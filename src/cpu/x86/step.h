/*
 * One instruction of a guest that another engine of this ISA runs: what a KVM cannot emulate, the interpreter
 * executes. For the engines of x86.
 *
 * The guest's other vCPUs go on meanwhile, in hardware. What is atomic there is so here, by the host's own
 * instructions, except for a locked access that crosses a cache line or goes to device memory: that is atomic towards
 * other steps alone.
 */
#ifndef VIREO_CPU_X86_STEP_H
#define VIREO_CPU_X86_STEP_H

#include "cpu/engine.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"

struct x86_stepper;

/*
 * For all vCPUs of the VM that `c` describes. `features` are that VM's, which may change while its vCPUs stand still;
 * it is freed before them. Any thread.
 */
struct x86_stepper *x86_stepper_new(const struct engine_config *c, const struct x86_features *features,
				    struct err *err);
void x86_stepper_free(struct x86_stepper *x);

struct x86_step {
	struct x86_state *state; /* before, and afterwards */
	struct cpu_debug debug;	 /* the data that a debugger watches */
	struct debug_stop stop;	 /* of CPU_EXIT_DEBUG, as of run() */
	struct err error;	 /* of the other exits */
};
/*
 * Execute the instruction at RIP of vCPU `index`, or deliver what it raises; interrupts and NMIs go on waiting.
 * CPU_EXIT_DEBUG when that is done; CPU_EXIT_SHUTDOWN; CPU_EXIT_FAILED: not a state that can be executed in, and
 * nothing is done. The vCPU's own thread.
 */
enum cpu_exit x86_step(struct x86_stepper *x, unsigned index, struct x86_step *s);

#endif
