/*
 * The interpreter against the host processor: every form of the tables by itself, then random blocks, with all
 * registers, defined flags, floating-point state, memory and faults compared. docs/cpu.md tells how it works.
 *
 * VIREO_DIFF_COUNT    instructions in all (default 10 million)
 * VIREO_DIFF_SEED     where the random numbers begin; else always the same
 * VIREO_DIFF_SECONDS  a long run: go on with blocks from a new seed for so long
 * VIREO_DIFF_FORM     only the forms whose text begins so, one by one
 * VIREO_DIFF_SWEEP    cases of special operands for each form of floating point (default 1000)
 * VIREO_DIFF_CASE     mode,form,seed[,sweep] as printed with a mismatch: only that batch
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)

#include "base/bytes.h"
#include "cpu/x86/interp.h"
#include "diff_check.h"
#include "diff_cover.h"
#include "diff_run.h"
#include "diff_sweep.h"

#define BLOCKS	     DIFF_BLOCKS /* in a batch, each with this many states */
#define STATES	     (DIFF_SLOTS / BLOCKS)
#define LENGTH	     16 /* instructions of a block */
#define ROUNDS_MOST  100
#define REPORTED     10 /* mismatches that are told in full */
#define TOLD_SECONDS 60 /* between two lines that say how far it is */
#define HANG_SECONDS 20 /* of processor time: a long run has the lowest priority */

struct test {
	struct diff_host host;
	struct diff_guest *guest;
	struct diff_form *forms;
	size_t form_count;
	struct diff_choice choice[DIFF_MODES];
	uint8_t pool[DIFF_POOL];
	struct diff_block block[BLOCKS];
	struct diff_result guest_result[DIFF_SLOTS];
	uint64_t mismatches, passing, counted, left_out[DIFF_WHYS];
	time_t told;
	uint64_t cases[DIFF_MODES], faults[DIFF_MODES], executed[DIFF_MODES], translated[DIFF_MODES], swept;
};

/* A batch is named by its mode, form (or -1: blocks) and seed; of a sweep, also by where in the walk it begins. */
struct batch {
	enum diff_mode mode;
	int form;
	uint64_t seed;
	int64_t sweep; /* or -1 */
};

/* What VIREO_DIFF_CASE takes. */
static const char *name_of(const struct batch *x)
{
	static char name[80];

	snprintf(name, sizeof(name), x->sweep < 0 ? "%d,%d,0x%" PRIx64 : "%d,%d,0x%" PRIx64 ",%" PRId64, x->mode,
		 x->form, x->seed, x->sweep);
	return name;
}

static void put_code(struct test *t, const struct diff_block *b)
{
	memcpy(t->host.code + b->at, b->bytes, DIFF_BYTES);
	diff_guest_code(t->guest, b->at, b->bytes, DIFF_BYTES);
}

/* Nothing may be left of other batches: whoever repeats this one alone has nothing of them, either. */
static void clear_code(struct test *t, uint32_t at, uint32_t len)
{
	memset(t->host.code + at, 0xcc, len);
	diff_guest_code(t->guest, at, t->host.code + at, len);
}

/* Fill the shared record from the batch's seed; false when the form does not exist in the mode. */
static bool fill(struct test *t, const struct batch *x)
{
	struct rng r = { x->seed };
	/* Pages are crossed at other places each time. */
	uint32_t at = 64 + rng_below(&r, 4096);

	for (unsigned n = 0; n < BLOCKS; n++)
		clear_code(t, t->block[n].at, DIFF_BYTES);
	t->host.shared->mode = x->mode;
	t->host.shared->count = DIFF_SLOTS;
	for (unsigned n = 0; n < BLOCKS; n++, at += DIFF_BYTES + rng_below(&r, 64)) {
		struct diff_block *b = &t->block[n];

		b->mode = x->mode;
		b->at = at;
		b->exit = n;
		if (x->form < 0) {
			diff_gen_block(b, &r, &t->choice[x->mode], LENGTH);
		} else {
			unsigned tries = 0;

			while (!diff_gen_single(b, &r, &t->forms[x->form]) ||
			       (x->sweep >= 0 && !diff_sweep_fits(b, &t->host.shared->slot[n * STATES])))
				if (++tries == 50)
					return false;
		}
		put_code(t, b);
		for (unsigned k = 0; k < STATES; k++) {
			struct diff_slot *s = &t->host.shared->slot[n * STATES + k];

			diff_gen_state(b, &r, t->pool, s);
			if (x->sweep >= 0)
				diff_sweep_state(b,
						 diff_sweep_walk((uint64_t)x->sweep + n * STATES + k,
								 diff_sweep_cases(&t->forms[x->form])),
						 s);
		}
	}
	return true;
}

static void tally(struct test *t, const struct batch *x, unsigned block)
{
	const struct diff_block *b = &t->block[block];

	if (x->form >= 0)
		t->forms[x->form].cases += STATES;
	else
		for (unsigned n = 0; n < b->insns; n++)
			b->insn[n].form->in_blocks += STATES;
}

static bool agree(const struct test *t, const struct diff_block *b, unsigned slot)
{
	const struct diff_slot *s = &t->host.shared->slot[slot];

	return diff_left_out(t->host.shared, b, s, &t->guest_result[slot]) != DIFF_COMPARED ||
	       diff_check(b, s, &t->guest_result[slot], NULL);
}

static void wait_for_host(struct test *t, const struct batch *x)
{
	if (diff_host_wait(&t->host))
		return;
	fprintf(stderr, "the host process died or hangs: VIREO_DIFF_CASE=%s\n", name_of(x));
	diff_print_block(&t->block[t->host.shared->running / STATES], stderr);
	abort();
}

/* Tell which instructions of the block are enough for the mismatch, and what differs. */
static void tell(struct test *t, const struct batch *x, unsigned slot)
{
	const struct diff_block *whole = &t->block[slot / STATES];
	struct diff_slot *s = &t->host.shared->slot[slot];
	struct diff_block b;
	unsigned n = 0;

	do {
		diff_gen_prefix(whole, ++n, &b);
		if (whole->insns == 1)
			b = *whole;
		put_code(t, &b);
		diff_host_submit(&t->host);
		wait_for_host(t, x);
		diff_guest_run(t->guest, x->mode, s, &t->guest_result[slot]);
	} while (n < whole->insns && agree(t, &b, slot));
	diff_print_block(&b, stderr);
	diff_check(&b, s, &t->guest_result[slot], stderr);
	put_code(t, whole);
}

static void report(struct test *t, const struct batch *x, unsigned slot)
{
	t->mismatches++;
	if (x->form >= 0)
		t->forms[x->form].mismatches++;
	if (t->mismatches > REPORTED && !getenv("VIREO_DIFF_CASE") && !getenv("VIREO_DIFF_FORM"))
		return;
	fprintf(stderr, "mismatch: VIREO_DIFF_CASE=%s, block %u, state %u; ", name_of(x), slot / STATES, slot % STATES);
	tell(t, x, slot);
}

/* For the report of one that never ends. */
static struct batch now;
static const struct diff_block *now_block;
static void hangs(int sig)
{
	fprintf(stderr, "the guest hangs: VIREO_DIFF_CASE=%s; ", name_of(&now));
	diff_print_block(now_block, stderr);
	_exit(1);
}

static void watch(time_t seconds)
{
	setitimer(ITIMER_PROF, &(struct itimerval){ .it_value.tv_sec = seconds }, NULL);
}

/*
 * A mismatch counts if it is there each time. Between two instructions the host's kernel may switch to another
 * process, and AMD's processors forget the last x87 instruction then (XSAVE without a pending exception).
 */
static void check(struct test *t, const struct batch *x)
{
	bool bad[DIFF_SLOTS], any = false;

	for (unsigned n = 0; n < DIFF_SLOTS; n++)
		any |= bad[n] = !agree(t, &t->block[n / STATES], n);
	for (unsigned again = 0; again < 2 && any; again++) {
		diff_host_submit(&t->host);
		wait_for_host(t, x);
		any = false;
		for (unsigned n = 0; n < DIFF_SLOTS; n++) {
			if (bad[n] && agree(t, &t->block[n / STATES], n)) {
				bad[n] = false;
				t->passing++;
			}
			any |= bad[n];
		}
	}
	for (unsigned n = 0; n < DIFF_SLOTS && any; n++)
		if (bad[n])
			report(t, x, n);
}

/* Run both sides, the guest while the host works. */
static void run(struct test *t, const struct batch *x)
{
	struct diff_shared *s = t->host.shared;

	now = *x;
	watch(HANG_SECONDS);
	diff_host_submit(&t->host);
	for (unsigned n = 0; n < DIFF_SLOTS; n++) {
		uint64_t before = diff_guest_retired(t->guest), translated = diff_guest_translated(t->guest);

		now_block = &t->block[n / STATES];
		diff_guest_run(t->guest, x->mode, &s->slot[n], &t->guest_result[n]);
		/* The HLT does not count, nor the jumps out of the block and the INT3 there. */
		unsigned others = t->guest_result[n].vector == DIFF_DONE ? 4 : 1;
		uint64_t retired = diff_guest_retired(t->guest) - before;
		if (retired < others && t->guest_result[n].vector != ~0u) {
			fprintf(stderr, "the engine does not count what it executes\n");
			abort();
		}
		t->counted += retired < others ? 0 : retired - others;
		t->executed[x->mode] += retired;
		t->translated[x->mode] += diff_guest_translated(t->guest) - translated;
	}
	watch(0);
	wait_for_host(t, x);
	for (unsigned n = 0; n < DIFF_SLOTS; n++) {
		t->left_out[diff_left_out(s, &t->block[n / STATES], &s->slot[n], &t->guest_result[n])]++;
		t->cases[x->mode]++;
		t->faults[x->mode] += s->slot[n].host.vector != DIFF_DONE;
	}
	check(t, x);
	for (unsigned n = 0; n < BLOCKS; n++) {
		tally(t, x, n);
		if (x->form >= 0)
			diff_cover(&t->block[n]);
	}
}

static void print_sums(const struct test *t)
{
	printf("%" PRIu64 " instructions, %" PRIu64 " mismatches (and %" PRIu64 " that did not come again)\n",
	       t->counted, t->mismatches, t->passing);
}

/* Whoever stops a long run wants to know how far it came. */
static void tell_progress(struct test *t)
{
	time_t clock = time(NULL);

	if (clock - t->told < TOLD_SECONDS)
		return;
	t->told = clock;
	print_sums(t);
	fflush(stdout);
}

static void run_batch(struct test *t, enum diff_mode mode, int form, uint64_t seed, int64_t sweep)
{
	struct batch x = { mode, form, seed, sweep };

	if (fill(t, &x))
		run(t, &x);
	tell_progress(t);
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *v = getenv(name);

	return v ? strtoull(v, NULL, 0) : otherwise;
}

static bool mode_possible(struct test *t, unsigned m)
{
	return m == DIFF_64 || !t->host.shared->no_ldt;
}

static int setup(void **state)
{
	struct test *t = calloc(1, sizeof(*t));
	const char *name = getenv("VIREO_TEST_ENGINE");
	const struct engine *engine = name ? engine_find(name) : &engine_interp;
	struct rng pool = { 1 };

	if (!t || !engine)
		return -1;
	*state = t;
	signal(SIGPROF, hangs);
	x86_decode_init();
	diff_check_init();
	diff_host_start(&t->host);
	rng_memory(&pool, t->pool, DIFF_POOL);
	memcpy(t->host.ro, t->pool, DIFF_RO);
	t->guest = diff_guest_new(engine, t->pool);
	clear_code(t, 0, DIFF_CODE_SIZE);
	t->forms = diff_forms(&t->form_count);
	for (unsigned m = 0; m < DIFF_MODES; m++)
		t->choice[m] = diff_choice_new(m, t->forms, t->form_count);
	if (t->host.shared->no_ldt)
		puts("SKIPPED: 16-bit and 32-bit modes: modify_ldt() is refused here");
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;

	for (unsigned m = 0; m < DIFF_MODES; m++)
		free(t->choice[m].forms);
	diff_guest_free(t->guest);
	diff_host_stop(&t->host);
	free(t);
	return 0;
}

static void print_table(const struct test *t)
{
	printf("%-28s %10s %10s %10s\n", "form", "cases", "in blocks", "mismatches");
	for (size_t n = 0; n < t->form_count; n++)
		printf("%-28s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 "\n", t->forms[n].row->text, t->forms[n].cases,
		       t->forms[n].in_blocks, t->forms[n].mismatches);
	for (unsigned m = 0; m < DIFF_MODES; m++)
		printf("%s: %" PRIu64 " runs, %" PRIu64 " ended by an exception, %" PRIu64 " of %" PRIu64
		       " instructions translated\n",
		       diff_modes[m].name, t->cases[m], t->faults[m], t->translated[m], t->executed[m]);
	printf("special operands of floating point: %" PRIu64 " runs\n", t->swept);
	printf("runs of which nothing was compared: MXCSR %" PRIu64 ", into other code %" PRIu64
	       ", the host's own memory %" PRIu64 ", ends of short addresses %" PRIu64 "\n",
	       t->left_out[DIFF_MXCSR], t->left_out[DIFF_ASTRAY], t->left_out[DIFF_OWN], t->left_out[DIFF_SHORT]);
	print_sums(t);
}

/* Special operands, so many cases of each form or all that there are, the same ones each time. */
static void sweep(struct test *t, const char *some, uint64_t most)
{
	for (size_t f = 0; f < t->form_count; f++) {
		uint64_t cases = diff_sweep_cases(&t->forms[f]);

		if (strncmp(t->forms[f].row->text, some, strlen(some)) != 0)
			continue;
		cases = cases < most ? cases : most;
		for (uint64_t n = 0; n < cases; n += DIFF_SLOTS)
			run_batch(t, DIFF_64, (int)f, n, (int64_t)n);
		t->swept += cases;
	}
}

static void the_interpreter_agrees_with_the_host(void **state)
{
	struct test *t = *state;
	uint64_t count = number("VIREO_DIFF_COUNT", 10000000), seconds = number("VIREO_DIFF_SECONDS", 0), seed = 1;
	const char *only = getenv("VIREO_DIFF_CASE"), *some = getenv("VIREO_DIFF_FORM");
	struct rng r;

	if (seconds && getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		abort();
	seed = number("VIREO_DIFF_SEED", seed);
	if (only) {
		unsigned mode;
		int form;
		int64_t sweep = -1;

		assert_true(sscanf(only, "%u,%d,%" SCNx64 ",%" SCNd64, &mode, &form, &seed, &sweep) >= 3);
		assert_true(mode < DIFF_MODES && form < (int)t->form_count);
		run_batch(t, mode, form, seed, sweep);
		assert_int_equal(t->mismatches, 0);
		return;
	}
	some = some ? some : "";
	printf("engine %s, seed 0x%" PRIx64 "\n", diff_guest_engine(t->guest), seed);
	fflush(stdout);
	t->told = time(NULL);
	r.s = seed;
	/* A third of the instructions one by one, until each form had thousands of states: a block costs little more.
	 */
	unsigned rounds = 1 + (unsigned)(count / 3 / (t->form_count * DIFF_MODES * DIFF_SLOTS));
	rounds = rounds < ROUNDS_MOST ? rounds : ROUNDS_MOST;
	for (size_t f = 0; f < t->form_count; f++)
		for (unsigned n = 0; n < rounds && !strncmp(t->forms[f].row->text, some, strlen(some)); n++)
			for (unsigned m = 0; m < DIFF_MODES; m++)
				if (mode_possible(t, m))
					run_batch(t, m, (int)f, rng_next(&r), -1);
	sweep(t, some, number("VIREO_DIFF_SWEEP", 1000));
	time_t end = time(NULL) + (time_t)seconds;
	for (unsigned n = 0; !*some && (t->counted < count || time(NULL) < end); n++) {
		unsigned m = n & 7; /* half of them in 64-bit mode */

		run_batch(t, m < DIFF_MODES && mode_possible(t, m) ? m : DIFF_64, -1, rng_next(&r), -1);
	}
	print_table(t);
	assert_int_equal(t->mismatches, 0);
	/* Whoever translates 64-bit code does so with flat 32-bit code. */
	if (!*some && t->translated[DIFF_64] && mode_possible(t, DIFF_32))
		assert_true(t->translated[DIFF_32] > t->executed[DIFF_32] / 4);
	/* Every instruction is there, unless only some were asked for. */
	if (!*some && !t->host.shared->no_ldt)
		assert_int_equal(diff_cover_gaps(), 0);
}

#else

static int setup(void **state)
{
	return 0;
}
static int teardown(void **state)
{
	return 0;
}

static void the_interpreter_agrees_with_the_host(void **state)
{
	puts("skipped: the host is not an x86-64 processor");
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_interpreter_agrees_with_the_host, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
