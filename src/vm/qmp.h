/*
 * The control socket: QMP (QEMU's docs/interop/qmp-spec), the commands that a machine without a
 * device tree of QEMU's can answer. Loop thread.
 */
#ifndef VIREO_VM_QMP_H
#define VIREO_VM_QMP_H

#include "base/err.h"

struct vm;
struct qmp;

struct qmp *qmp_new(struct vm *vm, struct err *err);
void qmp_free(struct qmp *q);
/* To all clients; `reason` goes into the data of SHUTDOWN. `q` may be NULL. */
void qmp_event(struct qmp *q, const char *name, const char *reason);

#endif
