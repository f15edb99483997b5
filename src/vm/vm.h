/*
 * A virtual machine: assembly from the configuration tree, its life cycle, and the way in for the
 * command line. One VM per process.
 *
 * The thread that calls vm_new() owns the VM and runs its main loop in vm_run().
 */
#ifndef VIREO_VM_VM_H
#define VIREO_VM_VM_H

#include "base/config.h"
#include "base/err.h"
#include "cpu/engine.h"

struct vm;

/* The QEMU whose QMP, monitor and command line these are: clients compare it to know what there is. */
#define VM_QEMU_VERSION "7.2.0"

/* Everything that the configuration asks for, ready to run. Reports keys that nothing reads. */
struct vm *vm_new(struct config *c, struct err *err);
/* As above, then load the saved state at `path`, whose configuration `c` overrides. */
struct vm *vm_restore(struct config *c, const char *path, struct err *err);
/* Threads, files and the terminal: what vm_run() does first unless it was done. */
int vm_start(struct vm *vm, struct err *err);
/* Until the guest or the user ends it; the exit status of the process. -1 if it could not be started. */
int vm_run(struct vm *vm, struct err *err);
void vm_free(struct vm *vm);

/* The keys of a network below `prefix` are right, though no card has it. */
int vm_check_network(struct config *c, const char *prefix, struct err *err);

/* What ended it, after vm_run(). */
struct vm_ending {
	int signal, from; /* from process `from`; 0: no signal */
	bool fault;	  /* the guest: a fatal fault, a panic or a hang */
};
struct vm_ending vm_ending(const struct vm *vm);

/*
 * After vm_run(): the guest code that executed most, as engine.hottest tells it, and how many instructions all CPUs
 * have executed. The pointers live as long as the VM.
 */
size_t vm_hottest(struct vm *vm, struct engine_block *out, size_t most, uint64_t *instructions);

#endif
