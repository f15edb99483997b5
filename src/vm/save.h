/* Saving a VM to a file and loading it again, by the state tables. Loop thread; the VM is paused by them. */
#ifndef VIREO_VM_SAVE_H
#define VIREO_VM_SAVE_H

#include "base/config.h"
#include "base/err.h"

struct vm;

/* Pauses, writes everything to `path` (by a temporary file next to it), and leaves the VM paused. */
int vm_save(struct vm *vm, const char *path, struct err *err);

/* The configuration that a saved state was made with; keys that `c` has already win. */
int vm_saved_config(const char *path, struct config *c, struct err *err);
/* Into a VM that was assembled from that configuration and has not run. */
int vm_load(struct vm *vm, const char *path, struct err *err);

#endif
