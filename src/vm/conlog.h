/*
 * The console log of a VM: what the guest printed, bounded. When the file is full it becomes PATH.old and a new one
 * begins, so that a guest cannot fill the host's run directory. One thread at a time.
 */
#ifndef VIREO_VM_CONLOG_H
#define VIREO_VM_CONLOG_H

#include <stddef.h>

#include "base/err.h"

#define CONLOG_MAX (1u << 20) /* bytes of each of the two files */

struct conlog;

/* Starts empty. */
struct conlog *conlog_new(const char *path, struct err *err);
/* What the file system does not take is lost. */
void conlog_write(struct conlog *l, const void *buf, size_t len);
void conlog_free(struct conlog *l);

#endif
