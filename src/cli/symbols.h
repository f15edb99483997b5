/* Names of a guest kernel's functions, from its System.map (what `nm` prints). Any thread; nothing is shared. */
#ifndef VIREO_CLI_SYMBOLS_H
#define VIREO_CLI_SYMBOLS_H

#include <stdint.h>

#include "base/err.h"

struct symbols;

struct symbols *symbols_read(const char *path, struct err *err);
void symbols_free(struct symbols *s);
/* The function that `address` lies in, and how far; NULL: before the first. */
const char *symbols_find(const struct symbols *s, uint64_t address, uint64_t *offset);

#endif
