/* jsonstream.c's other half: the text of one value, which has no stray bytes and no unfinished tokens. Pure. */
#ifndef VIREO_BASE_JSONPARSE_H
#define VIREO_BASE_JSONPARSE_H

#include <jansson.h>
#include <stddef.h>

#define JSONPARSE_ERROR 160

/* NULL and what is wrong, in QEMU's words. */
json_t *jsonparse(const char *text, size_t len, char error[JSONPARSE_ERROR]);

#endif
