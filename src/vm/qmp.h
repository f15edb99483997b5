/*
 * The control socket's protocol: QMP (QEMU's docs/interop/qmp-spec), with the commands and events that the tables below
 * name; docs/control.md. Loop thread.
 *
 * One table says of each command its name, its arguments and what it returns, by the types of qmp_types.c: requests are
 * checked against it, and query-commands and query-qmp-schema are made from it. A command is a function and a row in
 * the file of its topic, qmp_*.c.
 */
#ifndef VIREO_VM_QMP_H
#define VIREO_VM_QMP_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

struct vm;
struct qmp;
struct link;

struct qmp *qmp_new(struct vm *vm, struct err *err);
void qmp_free(struct qmp *q);
/* To all clients; `reason`, a ShutdownCause, goes into the data of SHUTDOWN and RESET. `q` may be NULL. */
void qmp_event(struct qmp *q, const char *name, const char *reason);
/* The same with what is done about it (GUEST_PANICKED, WATCHDOG). */
void qmp_event_action(struct qmp *q, const char *name, const char *action);
/* The same with any data, which is taken and may be NULL. The name is one of qmp_events. */
void qmp_event_data(struct qmp *q, const char *name, json_t *data);

/* --- commands --- */

struct qmp_command {
	const char *name;
	const char *args; /* as a type's members; "": none */
	const char *ret;  /* a type; "": an empty object */
	/* The value of "return", or NULL with a line in `err`. Arguments are of their types. */
	json_t *(*run)(struct vm *vm, const json_t *args, struct err *err);
};
/* Of each topic, to an empty name. */
extern const struct qmp_command qmp_block_commands[], qmp_fd_commands[], qmp_info_commands[], qmp_input_commands[],
	qmp_machine_commands[], qmp_memory_commands[], qmp_migrate_commands[], qmp_node_commands[], qmp_pci_commands[],
	qmp_run_commands[], qmp_schema_commands[], qmp_screen_commands[];
/* All of them, in order of topics; NULL after the last. */
const struct qmp_command *qmp_command_at(size_t n);
/* NULL if there is none. */
const struct qmp_command *qmp_find_command(const char *name);

/* For a command: an error of another class than GenericError. Returns NULL, as the command does. */
json_t *qmp_fail(struct vm *vm, const char *class, struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* For a command: the connection that it has come on; NULL in tests of commands alone. */
struct link *qmp_link(const struct vm *vm);
json_t *qmp_version(void);
/* A JSON string of any bytes. */
json_t *qmp_text(const char *text);

/* --- types, qmp_types.c --- */

/*
 * Members are "name:type ?optional:type"; a type is a name, or a name in brackets: a list of it. Built in: str, int,
 * size, bool, number, any. An enumeration is "=word word"; a union begins with "|tag:enum word:type ..." after its own
 * members: the word that the tag has adds the members of the type.
 */
struct qmp_type {
	const char *name, *members;
};
extern const struct qmp_type qmp_types[]; /* to an empty name */
extern const struct qmp_type qmp_events[];
/* The value is of that type; an error calls it by its path. `type` may be members: "?device:str". */
int qmp_check(const char *type, const json_t *value, struct err *err);
int qmp_check_members(const char *members, const json_t *object, struct err *err);

#endif
