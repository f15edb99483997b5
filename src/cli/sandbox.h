/*
 * What this process and those that it starts shall not ask the kernel for: QEMU's -sandbox, by a seccomp filter of
 * system calls that fail with EPERM. Main thread.
 */
#ifndef VIREO_CLI_SANDBOX_H
#define VIREO_CLI_SANDBOX_H

#include <stdbool.h>

#include "base/config.h"
#include "base/err.h"

struct sandbox {
	unsigned denied; /* groups, a bit each */
	bool on;
};

/* The keys "sandbox", "sandbox.obsolete" and so on. */
int sandbox_read(struct sandbox *s, struct config *c, struct err *err);
/* Before anything is made: what nobody needs. */
int sandbox_begin(const struct sandbox *s, struct err *err);
/* When all is made, in all threads: the rest. */
int sandbox_finish(const struct sandbox *s, struct err *err);

#endif
