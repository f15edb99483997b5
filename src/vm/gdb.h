/*
 * A debugger's way in: the GDB remote serial protocol (GDB manual, appendix E), all-stop, a thread per vCPU. It works
 * with whatever engine runs the VM. Loop thread.
 *
 * Key "gdb": PORT, [HOST]:PORT, tcp:[HOST]:PORT (of this machine only, where no HOST is given), unix:PATH. One client.
 */
#ifndef VIREO_VM_GDB_H
#define VIREO_VM_GDB_H

#include <stdbool.h>

#include "base/err.h"

struct vm;
struct gdb;

/* Listens if the configuration asks for it; `*out` is NULL if not. */
int gdb_new(struct vm *vm, struct gdb **out, struct err *err);
/* The same where `where` says. */
int gdb_listen(struct vm *vm, const char *where, struct gdb **out, struct err *err);
/* For a machine that goes on: the debugger is sent away, and holds nothing any more. Frees. NULL is fine. */
void gdb_leave(struct gdb *g);
void gdb_free(struct gdb *g); /* NULL is fine */
/* The debugger holds the machine: nobody else may let it run. `g` may be NULL. */
bool gdb_holds(const struct gdb *g);
/* A vCPU has stopped for it: posted by the vCPU's thread. `vm` is a struct vm. */
void gdb_vcpu_stopped(void *vm);
/* The machine ends with `status`. */
void gdb_ended(struct gdb *g, int status);

#endif
