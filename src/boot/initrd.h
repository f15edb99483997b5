/*
 * Is an initrd whole? A kernel that finds out on its own says so late and in its own words, or runs what there is.
 *
 * An initramfs is a sequence of cpio archives, each plain or compressed (Linux: Documentation/driver-api/
 * early-userspace/buffer-format.rst). Plain archives, zstd, xz and lz4 have a framing that can be walked without
 * decompressing, which takes no time. gzip has none: such a part is left to initrd_check_rest(), which inflates it
 * and is meant for a thread beside the starting machine. Other contents are not judged.
 */
#ifndef VIREO_BOOT_INITRD_H
#define VIREO_BOOT_INITRD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct initrd_check;

/*
 * Check the quick part. `fd` (borrowed) is the file, `path` its name for errors. If more is left to do, *rest gets
 * it, else NULL.
 */
int initrd_check(int fd, uint64_t size, const char *path, struct initrd_check **rest, struct err *err);
/* Check what is left; any thread. Returns 0 early once *cancel is true. */
int initrd_check_rest(struct initrd_check *k, const atomic_bool *cancel, struct err *err);
void initrd_check_free(struct initrd_check *k); /* NULL is fine */

#endif
