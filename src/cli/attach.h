/* This terminal on a socket of a running machine: `vireo console` and `vireo monitor`. Main thread. */
#ifndef VIREO_CLI_ATTACH_H
#define VIREO_CLI_ATTACH_H

#include <stdbool.h>
#include <stddef.h>

/* Until the other side closes it, or the user detaches (Ctrl-A x). `end_with_input`: the end of what is no terminal is
 * told. Takes `fd`; `name` is the machine's. */
void cli_attach(int fd, const char *name, bool end_with_input);
/* To standard output. */
bool cli_write_all(const char *b, size_t len);

#endif
