/*
 * A process that has just been forked: what it is not to have of the one that it comes from. In the new process, which
 * has one thread, before it does anything else.
 */
#ifndef VIREO_BASE_CHILD_H
#define VIREO_BASE_CHILD_H

#include <sys/types.h>

/* No handlers, nothing ignored and nothing blocked: those are about the other process. */
void child_signals(void);
/*
 * A part of the program in a process of its own. It ends with `parent`, and not by what is said to all of a terminal or
 * a service; of descriptors it has the first three, for the log, and `fd` as 3; and no program gives it rights.
 */
void child_begin(const char *title, int fd, pid_t parent);

#endif
