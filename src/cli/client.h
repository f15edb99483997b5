/* A client of a running machine's control socket (QMP). Main thread; blocking, but never for ever. */
#ifndef VIREO_CLI_CLIENT_H
#define VIREO_CLI_CLIENT_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>

#include "base/err.h"

struct client;

#define CLIENT_PATIENCE_MS 30000 /* for a command that answers when it is done */

struct client *client_open(const char *name, int patience_ms, struct err *err);
/* The command's result (the caller's), or NULL with the machine's error. Takes `args`, which may be NULL. */
json_t *client_execute(struct client *c, const char *command, json_t *args, struct err *err);
/* The same for a command without arguments whose result says nothing. */
int client_do(struct client *c, const char *command, struct err *err);
/* Of query-status: a word such as "running". */
int client_status(struct client *c, char *word, size_t size, struct err *err);
/*
 * Wait until the machine closes the connection: false after `ms`. What it holds (its name, its memory, its disks) is
 * free when its process has ended, which has ten seconds more: false after these, too.
 */
bool client_wait_end(struct client *c, int ms);
void client_close(struct client *c);
/* The absolute name of a file of the user's: the machine's process may stand in another directory. */
int client_path(const char *file, char path[PATH_MAX], struct err *err);

#endif
