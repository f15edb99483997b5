/*
 * micro NAME [DIVISOR [COPIES]]: do the work of a case, or one part in DIVISOR of it, when a line comes; then its
 * checksum. Copies are processes that do the same beside each other. micro --list: the names.
 */
#include "micro.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct micro *const files[] = { integer_cases, memory_cases, float_cases, system_cases };

_Noreturn void give_up(const char *what)
{
	perror(what);
	_exit(1);
}

/* In one write, and without a buffer that a fork would copy. */
static void say(const char *text)
{
	size_t len = strlen(text);

	if (write(STDOUT_FILENO, text, len) != (ssize_t)len)
		give_up("write");
}

/* Time is taken outside, by somebody who may be late. */
static void wait_for_line(void)
{
	char c = 0;

	while (c != '\n')
		if (read(STDIN_FILENO, &c, 1) != 1)
			give_up("standard input");
}

/* What all of them computed, if it is the same. */
static uint64_t work_beside(const struct micro *m, uint64_t rounds, unsigned copies)
{
	uint64_t *sums = mmap(NULL, copies * sizeof(*sums), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0;

	if (sums == MAP_FAILED)
		give_up("mmap");
	for (unsigned n = 0; n < copies; n++) {
		pid_t child = fork();

		if (child < 0)
			give_up("fork");
		if (!child) {
			sums[n] = m->work(rounds);
			_exit(0);
		}
	}
	for (unsigned n = 0; n < copies; n++)
		if (wait(&status) < 0 || status)
			give_up("a copy has failed");
	for (unsigned n = 1; n < copies; n++)
		if (sums[n] != sums[0])
			give_up("copies have computed different sums");
	return sums[0];
}

static void run(const struct micro *m, uint64_t divisor, unsigned copies)
{
	uint64_t rounds = m->rounds > divisor ? m->rounds / divisor : 1, sum;
	char text[64];

	if (m->prepare)
		m->prepare();
	say("bench:begin\n");
	wait_for_line();
	sum = copies > 1 ? work_beside(m, rounds, copies) : m->work(rounds);
	say("bench:end\n");
	snprintf(text, sizeof(text), "bench:sum:%016llx:\n", (unsigned long long)sum);
	say(text);
}

int main(int argc, char **argv)
{
	/* What `fork` starts. */
	if (argc == 2 && !strcmp(argv[1], "--nothing"))
		return 0;
	for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
		for (const struct micro *m = files[f]; m->name; m++) {
			if (argc > 1 && !strcmp(argv[1], "--list")) {
				puts(m->name);
			} else if (argc > 1 && !strcmp(argv[1], m->name)) {
				run(m, argc > 2 ? strtoull(argv[2], NULL, 10) : 1,
				    argc > 3 ? (unsigned)atoi(argv[3]) : 1);
				return 0;
			}
		}
	}
	return argc == 2 && !strcmp(argv[1], "--list") ? 0 : 2;
}
