/*
 * The terminal's raw mode, undone on every way out of the process that can be caught: return from main, exit(),
 * a fatal signal. There is one terminal, so this is state of the process. Main thread.
 */
#ifndef VIREO_BASE_TTY_H
#define VIREO_BASE_TTY_H

#include <stdbool.h>

/*
 * Put the terminal on standard input into raw mode; output keeps "\n" as the guest writes it. `signals`: keys that send
 * signals still do. False when standard input is no terminal, or one that belongs to another job now. May be called
 * again, after a stop of the process too.
 */
bool tty_raw(bool signals);
/* As it was before tty_raw(). Idempotent; async-signal-safe. */
void tty_restore(void);

/* For programs that leave signals as they are: undo it too when one ends or stops the process. */
void tty_restore_on_signals(void);

/* Open /dev/null for each of the descriptors 0 to 2 that is closed, so that no other file gets its number. */
void tty_fill_standard_fds(void);

#endif
