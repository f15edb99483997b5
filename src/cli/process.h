/*
 * What a machine's process is to its host: in the background, with a pid file, with a log file, as which user. Keys
 * "daemonize", "pidfile", "log" and "runas". Main thread, before any other starts, but for process_ready().
 */
#ifndef VIREO_CLI_PROCESS_H
#define VIREO_CLI_PROCESS_H

#include "base/config.h"
#include "base/err.h"
#include "cli/sandbox.h"

struct process {
	int ready_fd; /* to the parent that waits; -1: none does */
	int pid_fd;   /* the locked pid file; -1: none */
	struct sandbox sandbox;
	char *pidfile;
};

/*
 * Reads the keys. With "daemonize" this goes on in another process, and the one that was started waits for it: it exits
 * with 0 once that is ready, with 1 if that fails. What is wrong is told on stderr, which stays until then.
 */
int process_begin(struct process *p, struct config *c, struct err *err);
/* All is open: it becomes the user that it shall be, whoever waits may go, and one in the background lets go of the
 * terminal. */
int process_ready(struct process *p, struct err *err);
/* Removes the pid file. */
void process_end(struct process *p);

#endif
