/*
 * Errors for people: one line that names the thing, what was wrong and what would be right.
 *
 * A function that can fail for a reason its caller must tell the user takes a `struct err *`
 * as its last parameter and returns -1 or NULL after filling it. `e` is never NULL.
 * Any thread; an err belongs to its caller.
 */
#ifndef VIREO_BASE_ERR_H
#define VIREO_BASE_ERR_H

struct err {
	/* No trailing newline; cut with "..." when too long. Room for the names of all features of a CPU, twice. */
	char msg[2048];
};

/* Fill `e`. Always returns -1, so that `return err_set(e, ...)` reads well. */
int err_set(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* As err_set, followed by ": " and the text of `errnum`. Always returns -1. */
int err_errno(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "PREFIX: " before what `e` says already. Always returns -1. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
