/*
 * The monitor's commands, for people (QEMU's "human monitor"): by one table of names, arguments and functions for each
 * topic, hmp_*.c. Output has the form of QEMU 7.2's where tools read it. Loop thread; a command looks at processors
 * while they stand still, which is short.
 *
 * What a command writes is bounded: where a guest or a number of the user decides how much there is, hmp_full() says
 * when to stop.
 */
#ifndef VIREO_VM_HMP_H
#define VIREO_VM_HMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct vm;
struct lineedit;

#define HMP_ARGS   5
#define HMP_OUTPUT (4u << 20)

struct hmp {
	struct vm *vm;
	FILE *out;
	unsigned cpu;			/* the one that is meant when none is named */
	const struct lineedit *history; /* or NULL */
	bool quit;			/* the connection ends */
	/* of the command that runs */
	void *state;
	unsigned state_cpu;
	bool told_full;
};

/* /COUNT FORMAT SIZE of x, xp, i, o and print */
struct hmp_format {
	int count, size;
	char format;
};

struct hmp_arg {
	bool given;
	const char *s;
	int64_t n;
};

struct hmp_args {
	const struct hmp_command *command;
	struct hmp_format fmt;
	struct hmp_arg arg[HMP_ARGS]; /* in the order of the table */
};

struct hmp_command {
	const char *name; /* "cont|c" */
	/*
	 * Arguments, "name:type name:type?", each with a letter: s a word; S the rest of the line; n a number or an
	 * expression; b on or off; / a format with its defaults, "/xw"; -x a flag. '?' after it: may be missing.
	 */
	const char *args;
	const char *params, *help; /* for `help` */
	void (*run)(struct hmp *h, const struct hmp_args *a);
};
/* Of each topic, to an empty name. */
extern const struct hmp_command hmp_machine_commands[], hmp_memory_commands[], hmp_block_commands[], hmp_net_commands[];
/* The same behind `info`. */
extern const struct hmp_command hmp_info_commands[], hmp_info_cpu_commands[], hmp_info_block_commands[];

/* Carry out one line; its output goes to h->out, errors too. */
void hmp_execute(struct hmp *h, const char *line);
/* As lineedit_ops.word. */
const char *hmp_word(const char *text, unsigned i);

/* --- for commands --- */
/* True, once with a line that says so: no more output is taken. */
bool hmp_full(struct hmp *h);
/* The state of CPU `n`, or of the chosen one; until the command ends. NULL: no memory, which is said. */
const void *hmp_state_of(struct hmp *h, unsigned n);
const void *hmp_state(struct hmp *h);
void hmp_error(struct hmp *h, const struct err *err);
/* The QMP command, whose error is said; its result for the caller, or NULL. Takes `args`. */
struct json_t *hmp_qmp(struct hmp *h, const char *command, struct json_t *args);
/* The same where the result says nothing. */
void hmp_do(struct hmp *h, const char *command, struct json_t *args);

/* --- hmp_args.c, hmp_expr.c --- */
/* Reads the arguments of a->command from `text`. -1 with an error. */
int hmp_read_args(struct hmp *h, const char *text, struct hmp_args *a, char *words, struct err *err);
/* An expression at `*at`, which moves behind it. */
int hmp_expression(struct hmp *h, const char **at, uint64_t *value, struct err *err);

#endif
