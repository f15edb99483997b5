/* What the process of the servers gives up before it reads its first frame. Main thread, before there are others. */
#ifndef VIREO_LAN_SERVE_JAIL_H
#define VIREO_LAN_SERVE_JAIL_H

#include "lan/serve/serve.h"

#define JAIL_MEMORY (64u << 20) /* bytes that it may allocate */
#define JAIL_FILES  512u

#define JAIL_FILE   (16u << 20) /* bytes of each file that it writes */
#define JAIL_LEASES "/leases"

/*
 * Become that user (if one is named) for good, without groups and capabilities; limits of memory, files and
 * descriptors. With `leases` it has a root of its own, in which there is that directory as JAIL_LEASES and nothing
 * else;
 * "": not even that. NULL: the root stays.
 */
int jail_rights(const struct lan_serve *s, const char *leases, struct err *err);
/* From now on only what an open server does: no new socket, no program, no process, no executable memory. */
int jail_calls(struct err *err);

#endif
