/*
 * The two sides that execute the same cases: the host processor in a process of its own (diff_host.c) and an
 * engine in a small VM with the same memory map. One thread.
 */
#ifndef VIREO_TESTS_CPU_DIFF_RUN_H
#define VIREO_TESTS_CPU_DIFF_RUN_H

#include <stdbool.h>

#include "cpu/engine.h"
#include "diff.h"

/* --- the host process, diff_client.c --- */
struct diff_host {
	int pid, to, from;
	struct diff_shared *shared;
	uint8_t *code, *ro; /* DIFF_CODE, and the read-only page behind the data */
};
/* Aborts the test when it cannot be started. */
void diff_host_start(struct diff_host *h);
void diff_host_stop(struct diff_host *h);
void diff_host_submit(struct diff_host *h);
/* False: the process died or hangs, with shared->running telling where. */
bool diff_host_wait(struct diff_host *h);

/* --- the VM, diff_guest.c --- */
struct diff_guest;
struct diff_guest *diff_guest_new(const struct engine *e, const uint8_t *ro);
void diff_guest_free(struct diff_guest *g);
/* Code at DIFF_CODE + `at`. */
void diff_guest_code(struct diff_guest *g, uint32_t at, const uint8_t *code, uint32_t len);
void diff_guest_run(struct diff_guest *g, enum diff_mode mode, const struct diff_slot *slot, struct diff_result *out);
const char *diff_guest_engine(const struct diff_guest *g);
/* Instructions retired so far. */
uint64_t diff_guest_retired(const struct diff_guest *g);
/* Those that a translator did not leave to the interpreter; of another engine none. */
uint64_t diff_guest_translated(const struct diff_guest *g);

#endif
