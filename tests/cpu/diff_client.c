/* Starts the process that runs cases on the host, and hands batches to it. See diff_host.c. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "diff_run.h"

#define LOOK_MS	     1000
#define HANG_SECONDS 20	 /* of the process's own time, however little of it the host gives */
#define HANG_LOOKS   600 /* or it sleeps */

static _Noreturn void fail(const char *what)
{
	perror(what);
	abort();
}

/* It is built beside this program. */
static void program(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);
	char *slash;

	if (n < 0)
		fail("/proc/self/exe");
	path[n] = '\0';
	slash = strrchr(path, '/');
	snprintf(slash, size - (size_t)(slash - path), "/cpu/diff_host");
}

static void child(const char *path, pid_t parent, int fd, int in, int out)
{
	/* It must not outlive the test, however that ends. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(2);
	/* Out of the way of 0, 1 and 3 first. */
	int a = dup(in), b = dup(out), c = dup(fd);

	if (a < 4 || b < 4 || c < 4 || dup2(a, 0) < 0 || dup2(b, 1) < 0 || dup2(c, 3) < 0)
		_exit(3);
	execl(path, path, (char *)NULL);
	_exit(4);
}

static void *map(int fd, size_t len, off_t at)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);

	if (p == MAP_FAILED)
		fail("mmap");
	return p;
}

void diff_host_start(struct diff_host *h)
{
	int fd = memfd_create("diff", MFD_CLOEXEC), in[2], out[2];
	char path[4096];

	if (fd < 0 || ftruncate(fd, DIFF_FILE_SIZE) || pipe(in) || pipe(out))
		fail("diff");
	h->shared = map(fd, DIFF_FILE_CODE, DIFF_FILE_SHARED);
	h->code = map(fd, DIFF_CODE_SIZE, (off_t)DIFF_FILE_CODE);
	h->ro = map(fd, DIFF_RO, (off_t)DIFF_FILE_DATA + DIFF_RW);
	program(path, sizeof(path));
	pid_t parent = getpid();

	h->pid = fork();
	if (h->pid < 0)
		fail("fork");
	if (!h->pid)
		child(path, parent, fd, in[0], out[1]);
	close(fd);
	close(in[0]);
	close(out[1]);
	h->to = in[1];
	h->from = out[0];
	/* An empty batch: it is there, and its LDT is set. */
	diff_host_submit(h);
	if (!diff_host_wait(h)) {
		fprintf(stderr, "%s does not run\n", path);
		abort();
	}
}

void diff_host_stop(struct diff_host *h)
{
	/* It may not have come to be: 0 would be all of us. */
	if (h->pid <= 0)
		return;
	close(h->to);
	close(h->from);
	kill(h->pid, SIGKILL);
	waitpid(h->pid, NULL, 0);
	munmap(h->shared, DIFF_FILE_CODE);
	munmap(h->code, DIFF_CODE_SIZE);
	munmap(h->ro, DIFF_RO);
}

void diff_host_submit(struct diff_host *h)
{
	if (write(h->to, "", 1) != 1)
		fail("diff_host");
}

static time_t processor_seconds(const struct diff_host *h)
{
	struct timespec t = { 0 };
	clockid_t clock;

	if (!clock_getcpuclockid(h->pid, &clock))
		clock_gettime(clock, &t);
	return t.tv_sec;
}

bool diff_host_wait(struct diff_host *h)
{
	struct pollfd p = { .fd = h->from, .events = POLLIN };
	time_t began = -1;
	unsigned looks = 0;
	char c;
	int n;

	do {
		n = poll(&p, 1, LOOK_MS);
		if (n == 0 && began < 0)
			began = processor_seconds(h);
	} while ((n < 0 && errno == EINTR) ||
		 (n == 0 && ++looks < HANG_LOOKS && processor_seconds(h) - began < HANG_SECONDS));
	return n == 1 && read(h->from, &c, 1) == 1;
}
