/*
 * What this process gives up for good before it deals with strangers: system calls (seccomp(2)) and capabilities.
 * Limits are in limit.h. Main thread; children inherit it.
 */
#ifndef VIREO_BASE_CONFINE_H
#define VIREO_BASE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum call_answer {
	CALL_ALLOWED,
	CALL_REFUSED, /* EPERM */
	CALL_UNKNOWN, /* ENOSYS, for what the C library does without */
	CALL_ENDS     /* the process is killed by SIGSYS */
};

/* The first rule that fits a call is its answer. */
struct call_rule {
	int nr;
	enum call_answer answer;
	enum call_when {
		CALL_ALWAYS,
		CALL_WITHOUT, /* the argument has none of the bits of `value` */
		CALL_EQUAL    /* the argument is `value` */
	} when;
	unsigned arg;
	uint32_t value; /* compared with the argument's low half: for what the kernel takes an int of */
};

#define CONFINE_RULES 128 /* at most */

/*
 * From now on calls are answered by the rules, others by `otherwise`. Those of other architectures end the process, and
 * there is no way to more rights by exec. `flags` as seccomp(2) has them.
 */
int confine_calls(const struct call_rule *rules, size_t count, enum call_answer otherwise, unsigned flags,
		  struct err *err);

/*
 * From now on this is a process that serves: it may do what each of them does with open descriptors, its memory, clocks
 * and itself, then what these rules say. All else is refused: nothing more can be opened, and no memory be executed.
 */
int confine_to(const struct call_rule *more, size_t count, struct err *err);

/* Whether the kernel filters system calls: one that is emulated for a program of another architecture does not. */
bool confine_has_filters(void);

/* Only those whose bits `keep` has stay, and none can be had by exec. */
int confine_capabilities(uint64_t keep, struct err *err);

#endif
