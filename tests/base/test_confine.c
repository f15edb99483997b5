/* base/confine.c: what a child that has given something up can still do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/confine.h"

static struct err err;

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define NO_FILTERS   100 /* under qemu-user there are none */

/* The wait status of a child that does it. */
static int in_child(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_FILTERS) {
		print_message("skipped: no filters of system calls here\n");
		skip();
	}
	return status;
}

static int refused(long rc)
{
	return rc == -1 ? errno : 0;
}

static int some_are_refused(void)
{
	static const struct call_rule rules[] = {
		{ SYS_getppid, CALL_REFUSED },
		{ SYS_getsid, CALL_UNKNOWN },
		{ SYS_socket, CALL_ALLOWED, CALL_EQUAL, 0, AF_UNIX },
		{ SYS_socket, CALL_REFUSED },
		{ SYS_umask, CALL_REFUSED, CALL_WITHOUT, 0, 6 },
		{ SYS_getpgid, CALL_ALLOWED },
		{ SYS_getpgid, CALL_ENDS },
	};

	if (confine_calls(rules, ARRAY_LEN(rules), CALL_ALLOWED, 0, &err))
		return NO_FILTERS;
	if (refused(syscall(SYS_getppid)) != EPERM || refused(syscall(SYS_getsid, 0)) != ENOSYS)
		return 1;
	if (refused(socket(AF_INET, SOCK_DGRAM, 0)) != EPERM || refused(socket(AF_UNIX, SOCK_DGRAM, 0)))
		return 2;
	if (refused(syscall(SYS_umask, 1)) != EPERM || refused(syscall(SYS_umask, 3)) || refused(syscall(SYS_umask, 6)))
		return 3;
	/* The first rule that fits; and what follows one that does not is still looked at. */
	if (refused(syscall(SYS_getpgid, 0)) || refused(syscall(SYS_getuid)))
		return 4;
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && prctl(PR_GET_SECCOMP) == 2 ? 0 : 5;
}

static int others_are_refused(void)
{
	static const struct call_rule rules[] = { { SYS_exit_group }, { SYS_getuid } };

	if (confine_calls(rules, ARRAY_LEN(rules), CALL_REFUSED, 0, &err))
		return NO_FILTERS;
	/* A sanitizer's _exit() does more than that. */
	return (int)syscall(SYS_exit_group, refused(syscall(SYS_getuid)) || refused(syscall(SYS_getpid)) != EPERM);
}

static int one_ends_it(void)
{
	static const struct call_rule rules[] = { { SYS_getppid, CALL_ENDS } };

	if (confine_calls(rules, 1, CALL_ALLOWED, 0, &err))
		return NO_FILTERS;
	syscall(SYS_getppid);
	return 0;
}

static int too_many(void)
{
	static struct call_rule rules[CONFINE_RULES + 1];

	return !confine_calls(rules, CONFINE_RULES + 1, CALL_ALLOWED, 0, &err) ||
	       !confine_to(rules, CONFINE_RULES, &err);
}

static volatile int signals;

static void on_signal(int number)
{
	signals++;
}

/* What a process that serves goes on with: what it has, and itself. */
static bool can_serve(const int pipe_fds[2], int epoll)
{
	struct timespec t = { .tv_nsec = 1000000 };
	struct epoll_event e = { .events = EPOLLIN };
	struct pollfd p = { .fd = pipe_fds[0], .events = POLLIN };
	void *m = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t b;

	if (write(pipe_fds[1], "x", 1) != 1 || epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_fds[0], &e) ||
	    epoll_wait(epoll, &e, 1, 1000) != 1 || poll(&p, 1, 1000) != 1 || read(pipe_fds[0], &b, 1) != 1)
		return false;
	if (m == MAP_FAILED || mprotect(m, 4096, PROT_READ | PROT_WRITE) || munmap(m, 1 << 20))
		return false;
	signal(SIGUSR1, on_signal);
	return !raise(SIGUSR1) && signals == 1 && !clock_gettime(CLOCK_REALTIME, &t) &&
	       !nanosleep(&(struct timespec){ .tv_nsec = 1000 }, NULL);
}

/* What it does not: other things of the host, code, and other processes, be it of the same user. */
static bool is_shut_in(void *page, pid_t parent)
{
	const char *const argv[] = { "true", NULL };

	if (refused(open("/", O_RDONLY)) != EPERM || refused(socket(AF_UNIX, SOCK_STREAM, 0)) != EPERM)
		return false;
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED ||
	    refused(mprotect(page, 4096, PROT_READ | PROT_EXEC)) != EPERM)
		return false;
	return refused(syscall(SYS_tgkill, parent, parent, 0)) == EPERM && refused(kill(parent, 0)) == EPERM &&
	       refused(syscall(SYS_getuid)) == EPERM && refused(execve("/bin/true", (char **)argv, NULL)) == EPERM &&
	       refused(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)) == EPERM;
}

static int servers_serve(void)
{
	static const struct call_rule more[] = { { SYS_getpgid }, { SYS_getuid, CALL_REFUSED } };
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fds[2], epoll = epoll_create1(0);
	pid_t parent = getppid();

	if (pipe(fds) || confine_to(more, ARRAY_LEN(more), &err))
		return NO_FILTERS;
	return (int)syscall(SYS_exit_group, !can_serve(fds, epoll)	? 1
					    : !is_shut_in(page, parent) ? 2
					    : refused(getpgid(0)) != 0	? 3
									: 0);
}

static void test_calls(void **state)
{
	int status;

	assert_int_equal(in_child(some_are_refused), 0);
	assert_int_equal(in_child(others_are_refused), 0);
	status = in_child(one_ends_it);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	assert_int_equal(in_child(too_many), 0);
	assert_int_equal(in_child(servers_serve), 0);
}

static unsigned long long of_status(const char *field)
{
	unsigned long long found = ~0ull;
	char line[200];
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			found = strtoull(line + strlen(field), NULL, 16);
	if (f)
		fclose(f);
	return found;
}

static int capabilities_go(void)
{
	const uint64_t raw = 1ull << CAP_NET_RAW;

	if (confine_capabilities(raw, &err))
		return 1;
	if (of_status("CapEff:") & ~raw || of_status("CapPrm:") & ~raw || of_status("CapInh:"))
		return 2;
	if (!geteuid() && (of_status("CapEff:") != raw || of_status("CapBnd:") & ~raw))
		return 3;
	/* What has gone does not come back. */
	if (confine_capabilities(0, &err) || of_status("CapPrm:") || confine_capabilities(~0ull, &err))
		return 4;
	return of_status("CapPrm:") != 0;
}

static void test_capabilities(void **state)
{
#ifndef __x86_64__
	print_message("skipped: qemu-user tells of the host's\n");
	skip();
#endif
	assert_int_equal(in_child(capabilities_go), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_capabilities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
