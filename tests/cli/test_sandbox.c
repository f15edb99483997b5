/* cli/sandbox.c: each group of system calls fails where it is denied, in all threads, and nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/sandbox.h"

static struct err err;

static int read_keys(const char *keys, struct sandbox *s)
{
	struct config *c = config_new();
	char text[256], *rest = text, *word;
	int rc;

	snprintf(text, sizeof(text), "%s", keys);
	while ((word = strsep(&rest, " "))) {
		char *eq = strchr(word, '=');

		*eq = 0;
		config_set(c, word, eq + 1, &err);
	}
	rc = sandbox_read(s, c, &err);
	config_free(c);
	return rc;
}

/* Which of the groups fail: "ops." and the like. An unchanged setting is asked for: nothing really happens. */
static void try_all(char out[5])
{
	pid_t child;

	strcpy(out, "....");
	if (syscall(SYS_swapoff, "/nonexistent") && errno == EPERM)
		out[0] = 'o';
	if (syscall(SYS_setuid, getuid()))
		out[1] = 'p';
	child = fork();
	if (!child)
		_exit(0);
	if (child < 0)
		out[2] = 's';
	else
		waitpid(child, NULL, 0);
	if (syscall(SYS_setpriority, PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0)))
		out[3] = 'r';
}

static int pipes[2];

static void *try_later(void *out)
{
	char go;

	if (read(pipes[0], &go, 1) == 1)
		try_all(out);
	return NULL;
}

static void *nothing(void *opaque)
{
	return NULL;
}

/* In a child: the exit status says whether all was as wanted, in a thread that was there before, too. */
static int check(const char *keys, const char *early, const char *late)
{
	char mine[5], others[5];
	struct sandbox s;
	pthread_t old, new;

	if (pipe(pipes) || read_keys(keys, &s) || sandbox_begin(&s, &err))
		return 1;
	try_all(mine);
	if (strcmp(mine, early))
		return 2;
	if (pthread_create(&old, NULL, try_later, others) || sandbox_finish(&s, &err))
		return 3;
	if (write(pipes[1], "", 1) != 1 || pthread_join(old, NULL))
		return 4;
	try_all(mine);
	if (strcmp(mine, late) || strcmp(others, late))
		return 5;
	/* Threads are no processes. */
	return pthread_create(&new, NULL, nothing, NULL) || pthread_join(new, NULL) ? 6 : 0;
}

static void what_is_denied_fails(void **state)
{
	static const struct {
		const char *keys, *early, *late;
	} cases[] = {
		{ "sandbox=off", "....", "...." },
		{ "sandbox=on", "o...", "o..." },
		{ "sandbox=on sandbox.obsolete=allow", "....", "...." },
		{ "sandbox=on sandbox.elevateprivileges=deny", "o...", "op.." },
		{ "sandbox=on sandbox.elevateprivileges=children", "o...", "op.." },
		{ "sandbox=on sandbox.spawn=deny", "o...", "o.s." },
		{ "sandbox=on sandbox.resourcecontrol=deny sandbox.obsolete=allow", "....", "...r" },
		{ "sandbox=on sandbox.resourcecontrol=deny sandbox.spawn=deny sandbox.elevateprivileges=deny", "o...",
		  "opsr" },
	};
	int status;

	if (prctl(PR_GET_SECCOMP) < 0) {
		print_message("skipped: system calls cannot be filtered here\n");
		skip();
	}
	/* Who may not swap anyhow fails with the same error. */
	if (geteuid()) {
		print_message("skipped: only root can tell\n");
		skip();
	}
	for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		pid_t child = fork();

		if (!child)
			_exit(check(cases[n].keys, cases[n].early, cases[n].late));
		assert_int_equal(waitpid(child, &status, 0), child);
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			fail_msg("%s: status %x", cases[n].keys, status);
	}
}

static void bad_words_are_refused(void **state)
{
	static const struct {
		const char *keys, *said;
	} bad[] = {
		{ "sandbox=maybe", "sandbox" },
		{ "sandbox=on sandbox.spawn=children", "sandbox.spawn: 'children' is not one of allow, deny" },
		{ "sandbox=on sandbox.obsolete=x", "sandbox.obsolete" },
		{ "sandbox.spawn=deny", "sandbox.spawn: there is no sandbox without sandbox=on" },
	};
	struct sandbox s;

	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		assert_int_equal(read_keys(bad[n].keys, &s), -1);
		assert_non_null(strstr(err.msg, bad[n].said));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_denied_fails),
		cmocka_unit_test(bad_words_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
