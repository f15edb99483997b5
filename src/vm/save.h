/*
 * Saving a VM to a file and loading it again, by the state tables; docs/state.md describes the file.
 *
 * A save pauses the VM and writes in a thread of its own, to a temporary file that replaces FILE only when
 * everything is safely written. Loop thread; loading: before the loop runs.
 */
#ifndef VIREO_VM_SAVE_H
#define VIREO_VM_SAVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"

struct vm;

/* --- saving --- */

/*
 * Pause and begin; vm_save_status() tells how it goes on. On error nothing has changed and the VM is as before. A
 * save that fails or is cancelled later lets the VM go on; after one that succeeds it stays paused.
 */
int vm_save_start(struct vm *vm, const char *path, struct err *err);
/* Give up soon, if it is not too late. */
void vm_save_cancel(struct vm *vm);
/* Give up now, because the VM ends; returns when nothing is left of it. */
void vm_save_abandon(struct vm *vm);
void vm_save_free(struct vm *vm);

struct save_status {
	const char *word;     /* as MigrationStatus of QMP */
	const char *error;    /* of a failure, else NULL */
	uint64_t total, done; /* bytes of guest memory, and those dealt with */
	uint64_t written;     /* to the file */
	int64_t ms;	      /* since it began, or that it took */
};
/* Of the last save; false if there was none. */
bool vm_save_status(struct vm *vm, struct save_status *s);

/* --- loading --- */

struct saved;

struct saved *saved_open(const char *path, struct err *err);
/*
 * The configuration that the state was made with, added to `c`. Keys of `c` win where the guest does not see the
 * difference (paths, networks, the engine); where it would, they are refused.
 */
int saved_config(struct saved *s, struct config *c, struct err *err);
/* Into a VM that was assembled from that configuration and has not run. After an error it must not. */
int saved_load(struct saved *s, struct vm *vm, struct err *err);
void saved_close(struct saved *s);

#endif
