/*
 * lockstep --kernel FILE --initrd FILE [--append TEXT] [--memory SIZE] [--one ENGINE] [--other ENGINE] [--every NS]
 *          [--ram-every NS] [--most NS] [--seed N] [--lax 1] [--set KEY=VALUE]...
 *
 * Boots the guest on two engines with the counting clock and compares processor and memory at the same instructions,
 * some thousands apart, until the guest ends. At the first difference it looks for the instruction after which it is
 * there: a run up to that place each time, with the same places before. What it prints then is the path to it, and what
 * differs. Exit status 0: none did.
 */
#include "lockstep.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"

static struct lockstep *l;
static char dir[] = "/tmp/vireo-lockstep-XXXXXX";

static void clean_up(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command))
		fprintf(stderr, "%s is left over\n", dir);
}

static _Noreturn void fail(const char *what)
{
	perror(what);
	exit(2);
}

/* --- two children --- */

static void start(struct lockstep_side *s)
{
	int pid;

	atomic_store(&s->said, 0);
	atomic_store(&s->heard, 0);
	atomic_store(&s->ended, false);
	s->status = -1;
	s->path_len = 0;
	snprintf(s->console, sizeof(s->console), "file:%s/%s", dir, s->engine);
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		lockstep_run(l, s);
	}
	s->pid = pid;
}

static void start_both(void)
{
	start(&l->side[0]);
	start(&l->side[1]);
}

static void stop_both(void)
{
	for (unsigned n = 0; n < 2; n++) {
		kill(l->side[n].pid, SIGKILL);
		waitpid(l->side[n].pid, NULL, 0);
	}
}

/* Has it ended, well or not? */
static bool is_over(struct lockstep_side *s)
{
	if (atomic_load(&s->ended))
		return true;
	if (waitpid(s->pid, NULL, WNOHANG) != s->pid)
		return false;
	/* What it said last was said before. */
	return true;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
}

/* --- comparing --- */

struct result {
	bool same;
	uint64_t places, rams;
	struct lockstep_place before, at[2]; /* the last that was the same, and the next ones */
};

static bool same(const struct lockstep_place *a, const struct lockstep_place *b)
{
	return a->ns == b->ns && a->instructions == b->instructions && a->rip == b->rip && a->cpu == b->cpu &&
	       a->ram == b->ram;
}

/* The next place of a side; false: there is none any more. */
static bool next(struct lockstep_side *s, struct lockstep_place *p)
{
	uint64_t heard = atomic_load(&s->heard);

	while (atomic_load(&s->said) == heard) {
		if (is_over(s) && atomic_load(&s->said) == heard)
			return false;
		nap();
	}
	*p = s->ring[heard % LOCKSTEP_RING];
	return true;
}

/* What the guests wrote. */
static bool same_output(void)
{
	char command[200];

	snprintf(command, sizeof(command), "cmp %s %s", l->side[0].console + strlen("file:"),
		 l->side[1].console + strlen("file:"));
	return !system(command);
}

static struct result compare(void)
{
	struct result r = { .same = true };
	bool there[2];

	start_both();
	for (;;) {
		for (unsigned n = 0; n < 2; n++)
			there[n] = next(&l->side[n], &r.at[n]);
		r.same = there[0] == there[1] && (!there[0] || same(&r.at[0], &r.at[1]));
		if (!r.same || !there[0])
			break;
		r.before = r.at[0];
		r.places++;
		r.rams += r.at[0].ram != 0;
		for (unsigned n = 0; n < 2; n++)
			atomic_fetch_add(&l->side[n].heard, 1);
	}
	if (r.same)
		r.same = l->side[0].status == l->side[1].status && l->side[0].status >= 0 && same_output();
	stop_both();
	return r;
}

/* --- narrowing down --- */

/* Is there a difference at `until`? */
static bool differs_at(int64_t from, int64_t until)
{
	l->from = from;
	l->until = until;
	start_both();
	while (!is_over(&l->side[0]) || !is_over(&l->side[1]))
		nap();
	stop_both();
	return memcmp(l->side[0].page, l->side[1].page, sizeof(l->side[0].page)) ||
	       memcmp(&l->side[0].state, &l->side[1].state, sizeof(l->side[0].state));
}

static void print_path(const struct lockstep_side *s)
{
	unsigned n = s->path_len > LOCKSTEP_PATH ? s->path_len - LOCKSTEP_PATH : 0;

	printf("the last instructions on %s:\n", s->engine);
	for (; n < s->path_len; n++) {
		const struct lockstep_insn *i = &s->path[n % LOCKSTEP_PATH];

		printf("  %016" PRIx64 " ", i->rip);
		for (unsigned k = 0; k < sizeof(i->bytes); k++)
			printf(" %02x", i->bytes[k]);
		printf("\n");
	}
}

static char *text_of(struct lockstep_side *s)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		fail("memory");
	state_print(f, &x86_state_desc, "0", &s->state);
	fclose(f);
	return text;
}

static void print_difference(void)
{
	char *a = text_of(&l->side[0]), *b = text_of(&l->side[1]), *at[2] = { a, b }, *line[2];
	unsigned pages = 0;

	while ((line[0] = strsep(&at[0], "\n")) && (line[1] = strsep(&at[1], "\n")))
		if (strcmp(line[0], line[1]))
			printf("  %s: %s\n  %s: %s\n", l->side[0].engine, line[0], l->side[1].engine, line[1]);
	free(a);
	free(b);
	for (unsigned n = 0; n < LOCKSTEP_PAGES; n++)
		if (l->side[0].page[n] != l->side[1].page[n] && pages++ < 16)
			printf("  page %#x of memory\n", n);
}

static void find_instruction(const struct result *r)
{
	int64_t good = r->before.ns, bad = r->at[0].ns > good ? r->at[0].ns : good + 1, from = r->before.ns;

	if (!differs_at(from, bad)) {
		printf("it does not come again\n");
		return;
	}
	while (bad - good > 1) {
		int64_t mid = good + (bad - good) / 2;

		if (differs_at(from, mid))
			bad = mid;
		else
			good = mid;
	}
	/* The interpreter's path, an instruction at a time; then what differs where that was not done. */
	l->walk = true;
	differs_at(from, bad);
	l->walk = false;
	print_path(&l->side[0]);
	differs_at(from, bad);
	printf("after them, at %" PRId64 " ns:\n", bad);
	print_difference();
}

static void add_setting(const char *v)
{
	if (l->sets < LOCKSTEP_SETS)
		l->set[l->sets++] = v;
}

static void read_options(int argc, char **argv)
{
	const struct {
		const char *name;
		const char **text;
		uint64_t *number;
	} options[] = {
		{ "--kernel", &l->kernel, NULL },
		{ "--initrd", &l->initrd, NULL },
		{ "--append", &l->append, NULL },
		{ "--memory", &l->memory, NULL },
		{ "--every", NULL, &l->every },
		{ "--ram-every", NULL, &l->ram_every },
		{ "--most", NULL, &l->most },
		{ "--seed", NULL, &l->seed },
		{ "--lax", NULL, &l->lax },
		{ "--one", &l->side[0].engine, NULL },
		{ "--other", &l->side[1].engine, NULL },
	};
	size_t k;

	for (int n = 1; n + 1 < argc; n += 2) {
		for (k = 0; k < ARRAY_LEN(options) && strcmp(options[k].name, argv[n]); k++)
			;
		if (k < ARRAY_LEN(options) && options[k].text)
			*options[k].text = argv[n + 1];
		else if (k < ARRAY_LEN(options))
			*options[k].number = strtoull(argv[n + 1], NULL, 0);
		else if (!strcmp(argv[n], "--set"))
			add_setting(argv[n + 1]);
		else
			argc = 0;
	}
	if (!(argc & 1) || !l->kernel || !l->initrd || !l->every) {
		fprintf(stderr, "lockstep: --kernel FILE --initrd FILE, and what the head of lockstep.c says\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct result r;

	l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (l == MAP_FAILED)
		fail("memory");
	l->append = "console=ttyS0";
	l->memory = "128";
	l->every = 5000;
	l->ram_every = 20000000;
	l->seed = 1;
	l->side[0].engine = "interp";
	l->side[1].engine = "jit";
	read_options(argc, argv);
	if (!mkdtemp(dir) || setenv("XDG_RUNTIME_DIR", dir, 1))
		fail(dir);
	atexit(clean_up);
	r = compare();
	printf("%" PRIu64 " places compared, memory at %" PRIu64 " of them, %" PRIu64 " instructions\n", r.places,
	       r.rams, r.before.instructions);
	if (r.same)
		return 0;
	if (r.at[0].ns == r.before.ns) {
		printf("different at the end: status %d and %d\n", l->side[0].status, l->side[1].status);
		return 1;
	}
	printf("different at %" PRId64 " and %" PRId64 " ns, RIP %" PRIx64 " and %" PRIx64 "%s\n", r.at[0].ns,
	       r.at[1].ns, r.at[0].rip, r.at[1].rip, r.at[0].cpu == r.at[1].cpu ? ": memory" : "");
	fflush(stdout);
	find_instruction(&r);
	return 1;
}
