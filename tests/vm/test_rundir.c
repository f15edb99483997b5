/* vm/rundir.c: whose a run directory is, and what the dead leave behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"
#include "vm/rundir.h"

static struct rundir *take(const char *name, struct err *err)
{
	/* The name lives in the directory's object, not in the configuration. */
	struct config *c = config_new();
	struct rundir *r;
	const char *given;

	if (name)
		config_set(c, "name", name, err);
	r = rundir_new(c, &given, err);
	config_free(c);
	if (r && name)
		assert_string_equal(given, name);
	return r;
}

/* A process that has the directory NAME until it is killed. */
static pid_t live(const char *name)
{
	int p[2];
	pid_t pid;
	char b;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (!pid) {
		struct err err;
		struct rundir *r = take(name, &err);

		if (!r || rundir_listen(r, "qmp.sock", &err) < 0)
			_exit(1);
		(void)!write(p[1], "x", 1);
		for (;;)
			pause();
	}
	close(p[1]);
	assert_int_equal(read(p[0], &b, 1), 1);
	close(p[0]);
	return pid;
}

static void kill_hard(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static bool there(const char *path)
{
	return !access(machines_path(path), F_OK);
}

struct seen {
	char names[200];
	pid_t pid;
};

static void note(void *opaque, const char *name, pid_t pid)
{
	struct seen *s = opaque;

	strcat(s->names, name);
	strcat(s->names, " ");
	s->pid = pid;
}

static struct seen look(void)
{
	struct seen s = { "", 0 };
	struct err err;

	assert_int_equal(rundir_each(note, &s, &err), 0);
	return s;
}

static void it_is_private_and_goes_with_its_machine(void **state)
{
	struct err err;
	struct rundir *r = take("one", &err);
	struct stat st;

	assert_non_null(r);
	assert_int_equal(stat(machines_path("vireo"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat(machines_path("vireo/one"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_true(there("vireo/one/pid"));
	rundir_free(r);
	assert_false(there("vireo/one"));
	/* One that others could write to is closed to them. */
	chmod(machines_path("vireo"), 0777);
	r = take("one", &err);
	assert_non_null(r);
	assert_int_equal(stat(machines_path("vireo"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	rundir_free(r);
}

static void a_name_that_is_taken_is_refused(void **state)
{
	pid_t pid = live("busy");
	struct err err;
	struct seen s = look();
	int fd = rundir_connect("busy", "qmp.sock", &err);

	assert_null(take("busy", &err));
	assert_string_equal(err.msg, "name: a machine named 'busy' is running");
	assert_true(there("vireo/busy/qmp.sock"));
	assert_string_equal(s.names, "busy ");
	assert_int_equal(s.pid, pid);
	assert_true(fd >= 0);
	close(fd);
	kill_hard(pid);
}

static void what_a_killed_machine_leaves_is_swept(void **state)
{
	pid_t pid = live("dead"), other = live("alive");
	struct err err;
	struct rundir *r;

	kill_hard(pid);
	assert_true(there("vireo/dead/qmp.sock"));
	assert_int_equal(rundir_connect("dead", "qmp.sock", &err), -1);
	assert_string_equal(err.msg, "no machine named 'dead' is running (see `vireo ps`)");
	assert_false(there("vireo/dead"));
	assert_true(there("vireo/alive/qmp.sock"));
	kill_hard(other);
	assert_string_equal(look().names, "");
	assert_false(there("vireo/alive"));
	/* Its name may be used at once, without what was in it. */
	kill_hard(live("dead"));
	fclose(fopen(machines_path("vireo/dead/console.log"), "w"));
	r = take("dead", &err);
	assert_non_null(r);
	rundir_free(r);
	assert_false(there("vireo/dead"));
	/* An empty one too. */
	assert_int_equal(mkdir(machines_path("vireo/empty"), 0700), 0);
	look();
	assert_false(there("vireo/empty"));
}

/* Sweepers and machines of the same name, all at once: exactly one has it, and it is never swept away. */
static void sweeping_never_takes_a_living_one(void **state)
{
	pid_t pids[4];

	for (int n = 0; n < 4; n++) {
		pids[n] = fork();
		if (pids[n])
			continue;
		for (int k = 0; k < 300; k++) {
			struct err err;
			struct rundir *r;

			if (n < 2) {
				look();
				continue;
			}
			r = take("race", &err);
			if (r && rundir_listen(r, "qmp.sock", &err) < 0)
				_exit(1);
			if (r)
				rundir_free(r);
			else if (strcmp(err.msg, "name: a machine named 'race' is running"))
				_exit(2);
		}
		_exit(0);
	}
	for (int n = 0; n < 4; n++) {
		int status;

		waitpid(pids[n], &status, 0);
		assert_int_equal(status, 0);
	}
}

static void names_are_checked(void **state)
{
	static const char *const bad[] = { "../up",	 ".",		"a/b",
					   "with space", "caf\xc3\xa9", "12345678901234567890123456789012345678901" };
	struct err err;

	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		assert_null(take(bad[n], &err));
		assert_non_null(strstr(err.msg, "name: '"));
		assert_int_equal(rundir_connect(bad[n], "qmp.sock", &err), -1);
	}
	struct rundir *r = take(NULL, &err);
	assert_non_null(r);
	assert_non_null(strstr(rundir_dir(r), "/vireo/vm-"));
	rundir_free(r);
}

static void without_the_variable_it_is_still_private(void **state)
{
	char kept[128], expected[64];
	struct err err;
	struct rundir *r;

	strcpy(kept, getenv("XDG_RUNTIME_DIR"));
	unsetenv("XDG_RUNTIME_DIR");
	r = take("vireo-test", &err);
	assert_non_null(r);
	snprintf(expected, sizeof(expected), "/run/user/%u/vireo/vireo-test", geteuid());
	if (strcmp(rundir_dir(r), expected)) {
		snprintf(expected, sizeof(expected), "/tmp/vireo-%u/vireo-test", geteuid());
		assert_string_equal(rundir_dir(r), expected);
	}
	rundir_free(r);
	setenv("XDG_RUNTIME_DIR",
	       "/a/very/long/path/that/leaves/no/room/for/the/name/of/a/socket/because/it/is/too/long", 1);
	assert_null(take("x", &err));
	assert_non_null(strstr(err.msg, "XDG_RUNTIME_DIR"));
	setenv("XDG_RUNTIME_DIR", "/proc", 1);
	assert_null(take("x", &err));
	assert_non_null(strstr(err.msg, "/proc/vireo"));
	setenv("XDG_RUNTIME_DIR", kept, 1);
}

static void somebody_elses_directory_is_not_used(void **state)
{
	char kept[128];
	struct err err;

	strcpy(kept, getenv("XDG_RUNTIME_DIR"));
	mkdir(machines_path("other"), 0700);
	assert_int_equal(symlink("/tmp", machines_path("other/vireo")), 0);
	setenv("XDG_RUNTIME_DIR", machines_path("other"), 1);
	assert_null(take("x", &err));
	assert_non_null(strstr(err.msg, "is not a directory of this user"));
	setenv("XDG_RUNTIME_DIR", kept, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_private_and_goes_with_its_machine),
		cmocka_unit_test(a_name_that_is_taken_is_refused),
		cmocka_unit_test(what_a_killed_machine_leaves_is_swept),
		cmocka_unit_test(sweeping_never_takes_a_living_one),
		cmocka_unit_test(names_are_checked),
		cmocka_unit_test(without_the_variable_it_is_still_private),
		cmocka_unit_test(somebody_elses_directory_is_not_used),
	};

	return cmocka_run_group_tests(tests, machines_begin, machines_end);
}
