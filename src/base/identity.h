/*
 * The user that this process becomes once it has opened what it needs. Main thread; what is forked later inherits the
 * wish.
 */
#ifndef VIREO_BASE_IDENTITY_H
#define VIREO_BASE_IDENTITY_H

#include "base/err.h"

/* USER, or UID:GID in numbers. Nothing changes yet. */
int identity_wish(const char *text, struct err *err);
/* All threads become that user, for good. Without a wish, or when it is so, nothing happens. */
int identity_take(struct err *err);

#endif
