/* A client of a running machine's control socket (QMP). Main thread; blocking. */
#ifndef VIREO_CLI_CLIENT_H
#define VIREO_CLI_CLIENT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

struct client;

struct client *client_open(const char *name, struct err *err);
/* The command's result (the caller's), or NULL with the machine's error. Takes `args`, which may be NULL. */
json_t *client_execute(struct client *c, const char *command, json_t *args, struct err *err);
/* Wait until the machine closes the connection: false after `seconds`. */
bool client_wait_end(struct client *c, int seconds);
void client_close(struct client *c);

#endif
