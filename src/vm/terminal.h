/*
 * The user's terminal: raw while the VM runs, restored however it ends; escape keys after Ctrl-A; signals.
 * Loop thread.
 */
#ifndef VIREO_VM_TERMINAL_H
#define VIREO_VM_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct vm;
struct terminal;
struct chan;

/* From now on signals are the main loop's. Before any other thread is made. */
struct terminal *terminal_new(struct vm *vm, struct err *err);
/* Standard input leads to the port that is named `key`, which outlives it; once only. `c` is NULL if others read it. */
int terminal_claim(struct terminal *t, const char *key, struct chan *c, struct err *err);
/* Told of the window's size at the start and when it changes. */
void terminal_on_resize(struct terminal *t, void (*fn)(void *opaque, uint16_t columns, uint16_t rows), void *opaque);
int terminal_start(struct terminal *t, struct err *err); /* raw mode, if there is a terminal */
void terminal_stop(struct terminal *t);			 /* idempotent */
/* After the loop has ended: a signal asks this process to end. */
bool terminal_signalled(struct terminal *t);
void terminal_free(struct terminal *t);

#endif
