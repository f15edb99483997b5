/*
 * The run directory of a VM, `$XDG_RUNTIME_DIR/vireo/NAME/`: pid, sockets, console.log. Its lock
 * tells a VM that runs from what a killed one left behind, which goes away when anybody looks. Main thread.
 */
#ifndef VIREO_VM_RUNDIR_H
#define VIREO_VM_RUNDIR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/config.h"
#include "base/err.h"

struct rundir;

/* Take the directory for the VM named by the key "name" (default vm-PID); the name lives as long as it. */
struct rundir *rundir_new(struct config *c, const char **name, struct err *err);
void rundir_free(struct rundir *r);
const char *rundir_dir(const struct rundir *r);
/* The path of a file in it, in a buffer of the caller. */
int rundir_path(const struct rundir *r, const char *file, char *buf, size_t size, struct err *err);
/* A listening Unix socket in it. -1 on error. */
int rundir_listen(const struct rundir *r, const char *file, struct err *err);
/* Another name for a file in it. */
int rundir_link(const struct rundir *r, const char *file, const char *name, struct err *err);

/* --- for the other commands --- */
/* The path of a file of the running VM `name`. */
int rundir_find(const char *name, const char *file, char *buf, size_t size, struct err *err);
/* Connect to a socket of the running VM `name`. -1 on error; errno is ENOENT if there is no such socket. */
int rundir_connect(const char *name, const char *file, struct err *err);
/* Call fn for each running VM, in the order of their names; pid 0 if unknown. */
int rundir_each(void (*fn)(void *opaque, const char *name, pid_t pid), void *opaque, struct err *err);

#endif
