/*
 * The host's /etc/resolv.conf for a process that cannot see it: another one, which hears nothing of anybody, sends each
 * new version of it. One thread.
 */
#ifndef VIREO_LAN_SERVE_RESOLV_H
#define VIREO_LAN_SERVE_RESOLV_H

#include "lan/serve/serve.h"

#define RESOLV_MAX  16384 /* bytes of it that are read */
#define RESOLV_NAME "vireo-resolv"

/*
 * Start that process, which ends once nobody has the other end of the socket that is returned; -1 with an error. A
 * message of the socket is the file as it is now; the first is there at once if there is a file.
 */
int resolv_watch(const struct lan_serve *s, struct err *err);

#endif
