/*
 * The control socket: QMP (QEMU's docs/interop/qmp-spec), the commands that a machine without a device tree of
 * QEMU's can answer; docs/control.md lists them. Loop thread.
 *
 * Clients are bounded in number, in what they may send as one message, and in what they may leave unread.
 */
#ifndef VIREO_VM_QMP_H
#define VIREO_VM_QMP_H

#include <jansson.h>

#include "base/err.h"

struct vm;
struct qmp;

struct qmp *qmp_new(struct vm *vm, struct err *err);
void qmp_free(struct qmp *q);
/* To all clients; `reason`, a ShutdownCause, goes into the data of SHUTDOWN and RESET. `q` may be NULL. */
void qmp_event(struct qmp *q, const char *name, const char *reason);
/* The same with what is done about it (GUEST_PANICKED, WATCHDOG). */
void qmp_event_action(struct qmp *q, const char *name, const char *action);

/* --- between qmp.c and qmp_commands.c --- */

struct qmp_command {
	const char *name;
	/* Names with their types: 's' string, 'b' boolean, 'i' integer, 'a' array; '?' after the type: may be missing.
	 */
	const char *args[4][2];
	/* The value of "return", or NULL with a line in `err`. */
	json_t *(*run)(struct vm *vm, const json_t *args, struct err *err);
};
/* NULL if there is none. */
const struct qmp_command *qmp_find_command(const char *name);
/* --- qmp_screen.c --- */
json_t *qmp_screendump(struct vm *vm, const json_t *args, struct err *err);
json_t *qmp_screentext(struct vm *vm, const json_t *args, struct err *err);
json_t *qmp_version(void);
/* A JSON string of any bytes. */
json_t *qmp_text(const char *text);

#endif
