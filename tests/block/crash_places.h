/*
 * The places in the code of qcow2 that flush, write tables back or put them in order, one of which can be left out: the
 * linker has calls from one file to another go through here (--wrap).
 */
#ifndef VIREO_TESTS_BLOCK_CRASH_PLACES_H
#define VIREO_TESTS_BLOCK_CRASH_PLACES_H

#include <stdbool.h>
#include <stddef.h>

/* Only while this is true anything is left out, and places are noticed. */
extern bool places_on;

/* How many there have been so far; calls from different places are different ones. */
unsigned places_n(void);
void place_leave_out(unsigned i);
/* File and line, or an address. */
void place_name(unsigned i, char *out, size_t room);

#endif
