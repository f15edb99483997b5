/*
 * Two processors that do the same: one of the interpreter, one of the engine that is tested. What they end with is
 * compared: registers, memory, what was pushed when something was delivered, and accesses to devices. One thread.
 *
 * Handlers have a stack of their own (IST1). There is a window of pages of all kinds, whose frames are not in order:
 * what runs from one page into the next does not find there what lies behind.
 */
#ifndef VIREO_TESTS_CPU_PAIR_H
#define VIREO_TESTS_CPU_PAIR_H

#include "diff_rng.h"
#include "rig.h"

#define PAIR_WINDOW 0x1000000u
#define PAIR_PT	    RIG_TABLES /* of the window */
#define PAIR_FRAMES 0x300000u
#define PAIR_DEVICE 0x2000000u	    /* is no RAM */
#define PAIR_END    0x7ffffffff000u /* the last page of the lower half is plain memory */

/* The pages of the window. Those with odd numbers are of a kind of their own, in between is plain memory. */
enum pair_page {
	PAIR_PLAIN,
	PAIR_ABSENT,
	PAIR_READ_ONLY = 3,
	PAIR_DEVICE_PAGE = 5,
	PAIR_SUPERVISOR = 7,
	PAIR_KEY_NONE = 9, /* a protection key that forbids all accesses; the next one: writes */
	PAIR_KEY_READ = 11,
	PAIR_CODE = 13,	 /* is that of RIG_CODE */
	PAIR_CLEAN = 15, /* was never accessed */
	PAIR_PAGES = 18
};

struct pair {
	struct rig r[2]; /* the interpreter's; the other one's */
	struct x86_state first;
	bool strict; /* flags in frames are compared too */
};

/* Ends the test where guests have no vector registers, which pairs use. */
static inline void pair_or_skip(void)
{
	if (x86_fp_host_ok())
		return;
	print_message("skipped: no vector registers here\n");
	skip();
}

/* `heat` is jit.heat; NULL: 0. After pair_or_skip(). */
void pair_new(struct pair *p, bool strict, const char *heat);
void pair_free(struct pair *p);
/* The window, and registers, as they are at first. What memory holds is random, and the same each time. */
void pair_reset(struct pair *p, unsigned cpl);
void pair_put(struct pair *p, uint64_t at, const void *bytes, size_t len);
void pair_write(struct pair *p, uint64_t at, uint64_t v, unsigned size);
/* Run both from the state of the first. False: they differ; standard error says where. */
bool pair_run(struct pair *p);

static inline struct x86_state *pair_state(struct pair *p)
{
	return &p->r[0].s;
}

#endif
