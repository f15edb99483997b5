/* base/identity.c: another user, in all threads and for good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/identity.h"

static struct err err;

static void what_is_no_user_is_refused(void **state)
{
	static const char *const bad[] = {
		"", "no such user", "1:", ":1", "1:2:3", "1:x", "-1:1", "4294967295:1", "1:4294967295", "1 :1",
	};

	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		if (!identity_wish(bad[n], &err))
			fail_msg("'%s' is a user", bad[n]);
		assert_non_null(strstr(err.msg, "doesn't exist (and is not <uid>:<gid>)"));
	}
	/* It is none's wish then. */
	assert_int_equal(identity_take(&err), 0);
}

static void *look(void *opaque)
{
	int *pipes = opaque;
	char go;

	if (read(pipes[0], &go, 1) != 1)
		return (void *)1;
	return (void *)(uintptr_t)(syscall(SYS_getuid) != 12345 || syscall(SYS_geteuid) != 12345);
}

/* In a child; its exit status says what was wrong. */
static int become(const char *text)
{
	pthread_t other;
	void *wrong;
	int pipes[2];
	gid_t groups[8];

	if (pipe(pipes) || pthread_create(&other, NULL, look, pipes))
		return 1;
	if (identity_wish(text, &err) || identity_take(&err))
		return 2;
	if (write(pipes[1], "", 1) != 1 || pthread_join(other, &wrong) || wrong)
		return 3;
	if (getuid() != 12345 || getgid() != 23456 || getegid() != 23456)
		return 4;
	if (getgroups(8, groups) != 1 || groups[0] != 23456)
		return 5;
	if (!setuid(0) || !setgid(0))
		return 6;
	/* As it is already. */
	return identity_take(&err) ? 7 : 0;
}

static void all_threads_are_another_user_for_good(void **state)
{
	int status;
	pid_t child;

	if (geteuid()) {
		print_message("skipped: only root can become somebody else\n");
		skip();
	}
	child = fork();
	if (!child) {
		if (setgroups(2, (gid_t[]){ 0, 4 }))
			_exit(9);
		_exit(become("12345:23456"));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void who_may_not_is_told_so(void **state)
{
	int status;
	pid_t child = fork();

	if (!child) {
		if (!geteuid() && setresuid(12345, 12345, 12345))
			_exit(2);
		_exit(identity_wish("0:0", &err) || !identity_take(&err));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_user_is_refused),
		cmocka_unit_test(all_threads_are_another_user_for_good),
		cmocka_unit_test(who_may_not_is_told_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
