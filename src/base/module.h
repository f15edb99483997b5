/*
 * Modules: parts of the program that few need, with the libraries that only they use. They are files beside the
 * program, or below its library directory once it is installed. Any thread.
 */
#ifndef VIREO_BASE_MODULE_H
#define VIREO_BASE_MODULE_H

#include "base/err.h"

/* What the module NAME ("vireo-vnc") calls `symbol`; it stays loaded. NULL: it is not there, or lacks that. */
void *module_symbol(const char *name, const char *symbol, struct err *err);

#endif
