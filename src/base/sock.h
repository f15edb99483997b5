/*
 * Stream sockets by the words of the configuration: "[HOST:]PORT", "tcp:[HOST:]PORT" or "unix:PATH". Without a HOST it
 * is this machine only. Any thread; a name of a host may take a while to look up.
 */
#ifndef VIREO_BASE_SOCK_H
#define VIREO_BASE_SOCK_H

#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

/* The path in "unix:PATH", which whoever listens there removes at the end; else NULL. */
const char *sock_path(const char *where);
/*
 * -1 with an error that begins with `key`; so are places that do not answer after 5 s, which all addresses of a name
 * share. Both are closed on exec.
 */
int sock_listen(const char *key, const char *where, struct err *err);
int sock_connect(const char *key, const char *where, struct err *err);
/* Remove what a program that was killed has left of its socket of this type (SOCK_STREAM, SOCK_DGRAM): it refuses. */
void sock_remove_stale(const struct sockaddr_un *a, int type);
/* The address that these words mean (the first of a host that has several). */
int sock_address(const char *key, const char *where, struct sockaddr_storage *addr, socklen_t *len, struct err *err);

#endif
