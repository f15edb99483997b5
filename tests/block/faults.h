/*
 * Faults for the thread-pool back end: the test program's own preadv, pwritev, fdatasync and fallocate stand before
 * the C library's, and fail, move less than asked or wait as told. Any thread.
 */
#ifndef VIREO_TESTS_BLOCK_FAULTS_H
#define VIREO_TESTS_BLOCK_FAULTS_H

#include <stddef.h>

enum fault_call { FAULT_READ, FAULT_WRITE, FAULT_SYNC, FAULT_ALLOCATE, FAULT_CALLS };

/* No faults, no counts. */
void fault_none(void);
/* After `skip` more calls, `times` of them fail with `errnum`. */
void fault_fail(enum fault_call c, unsigned skip, unsigned times, int errnum);
/* Reads and writes move at most `bytes` a call; 0: as many as they like. */
void fault_shorten(size_t bytes);
/* Calls wait inside until they are let go. */
void fault_hold(enum fault_call c);
void fault_let_go(enum fault_call c);
/* Calls that have begun; of these, waiting. */
unsigned fault_begun(enum fault_call c);
unsigned fault_waiting(enum fault_call c);
/* Wait until that many wait; fails the test after some seconds. */
void fault_expect_waiting(enum fault_call c, unsigned n);

#endif
