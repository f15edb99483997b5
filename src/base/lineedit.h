/*
 * One line of input with the keys that people know: arrows, Home and End, Delete, Tab, a history, Ctrl-A B C D E F K L
 * N P U W. A machine of its own, so that any stream of bytes can be edited on: it is given bytes and gives what to
 * show.
 *
 * No thread of its own; functions are called from within lineedit_byte().
 */
#ifndef VIREO_BASE_LINEEDIT_H
#define VIREO_BASE_LINEEDIT_H

#include <stddef.h>

struct lineedit;

#define LINEEDIT_MAX 4095u /* bytes of a line; what comes beyond is not taken */

struct lineedit_ops {
	void (*show)(void *opaque, const char *bytes, size_t len);
	/* Enter: the line, which is gone after the call. Show a prompt after it if there is to be another one. */
	void (*line)(void *opaque, const char *line);
	/* The i-th word that could end a line which begins with `text`, from the beginning of its last word; NULL:
	 * no more. The string need not outlive the next call. May be NULL. */
	const char *(*word)(void *opaque, const char *text, unsigned i);
	/* Ctrl-D on an empty line. May be NULL. */
	void (*end)(void *opaque);
};

/* NULL: no memory. `prompt` is constant. */
struct lineedit *lineedit_new(const char *prompt, const struct lineedit_ops *ops, void *opaque);
void lineedit_free(struct lineedit *e);
/* Begin a line, with its prompt. */
void lineedit_prompt(struct lineedit *e);
void lineedit_byte(struct lineedit *e, char b);
/* The i-th line of the history, 0 the oldest; NULL: no more. */
const char *lineedit_history(const struct lineedit *e, unsigned i);

#endif
