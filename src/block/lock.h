/*
 * Image locks: two programs that would disturb each other cannot have the same image open. Byte
 * ranges and meaning agree with those of QEMU, so each refuses what the other has open.
 * Private to block/; any thread.
 */
#ifndef VIREO_BLOCK_LOCK_H
#define VIREO_BLOCK_LOCK_H

#include <stdbool.h>

#include "base/err.h"

/*
 * Writers exclude everybody; readers share with readers. Kept until image_unlock() or the close of
 * `fd`. A file system without locks gets a warning and no protection.
 */
int image_lock(int fd, const char *path, bool readonly, struct err *err);
void image_unlock(int fd);

#endif
