/* What the process of the servers gives up before it reads its first frame. Main thread, before there are others. */
#ifndef VIREO_LAN_JAIL_H
#define VIREO_LAN_JAIL_H

#include "lan/serve.h"

#define JAIL_MEMORY (64u << 20) /* bytes that it may allocate */
#define JAIL_FILES  512u

/* Become that user (if one is named) for good, without groups and capabilities; limits of memory and descriptors. */
int jail_rights(const struct lan_serve *s, struct err *err);
/* From now on only what an open server does: no new socket, no program, no process, no executable memory. */
int jail_calls(struct err *err);

#endif
