/* See faults.h. */
#include "faults.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
static struct {
	unsigned skip, times, begun, waiting;
	int errnum;
	bool held;
} calls[FAULT_CALLS];
static size_t longest;

void fault_none(void)
{
	pthread_mutex_lock(&lock);
	memset(calls, 0, sizeof(calls));
	longest = 0;
	pthread_cond_broadcast(&change);
	pthread_mutex_unlock(&lock);
}

void fault_fail(enum fault_call c, unsigned skip, unsigned times, int errnum)
{
	pthread_mutex_lock(&lock);
	calls[c].skip = skip;
	calls[c].times = times;
	calls[c].errnum = errnum;
	pthread_mutex_unlock(&lock);
}

void fault_shorten(size_t bytes)
{
	pthread_mutex_lock(&lock);
	longest = bytes;
	pthread_mutex_unlock(&lock);
}

void fault_hold(enum fault_call c)
{
	pthread_mutex_lock(&lock);
	calls[c].held = true;
	pthread_mutex_unlock(&lock);
}

void fault_let_go(enum fault_call c)
{
	pthread_mutex_lock(&lock);
	calls[c].held = false;
	pthread_cond_broadcast(&change);
	pthread_mutex_unlock(&lock);
}

unsigned fault_begun(enum fault_call c)
{
	unsigned n;

	pthread_mutex_lock(&lock);
	n = calls[c].begun;
	pthread_mutex_unlock(&lock);
	return n;
}

unsigned fault_waiting(enum fault_call c)
{
	unsigned n;

	pthread_mutex_lock(&lock);
	n = calls[c].waiting;
	pthread_mutex_unlock(&lock);
	return n;
}

void fault_expect_waiting(enum fault_call c, unsigned n)
{
	for (int ms = 0; fault_waiting(c) != n; ms++) {
		if (ms == 10000)
			fail_msg("%u calls wait, not %u", fault_waiting(c), n);
		usleep(1000);
	}
}

/* What the call is to fail with, or 0. */
static int enter(enum fault_call c)
{
	int errnum = 0;

	pthread_mutex_lock(&lock);
	calls[c].begun++;
	calls[c].waiting++;
	while (calls[c].held)
		pthread_cond_wait(&change, &lock);
	calls[c].waiting--;
	if (calls[c].skip) {
		calls[c].skip--;
	} else if (calls[c].times) {
		calls[c].times--;
		errnum = calls[c].errnum;
	}
	pthread_mutex_unlock(&lock);
	return errnum;
}

static ssize_t transfer(enum fault_call c, long number, int fd, const struct iovec *iov, int n, off_t at)
{
	struct iovec cut[1024];
	size_t left = longest;
	int errnum = enter(c), k = 0;

	if (errnum) {
		errno = errnum;
		return -1;
	}
	if (!left)
		return syscall(number, fd, iov, n, at, 0);
	for (; k < n && left; k++) {
		cut[k] = iov[k];
		if (cut[k].iov_len > left)
			cut[k].iov_len = left;
		left -= cut[k].iov_len;
	}
	return syscall(number, fd, cut, k, at, 0);
}

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at)
{
	return transfer(FAULT_READ, SYS_preadv, fd, iov, n, at);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
	return transfer(FAULT_WRITE, SYS_pwritev, fd, iov, n, at);
}

int fdatasync(int fd)
{
	int errnum = enter(FAULT_SYNC);

	if (errnum) {
		errno = errnum;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int fallocate(int fd, int mode, off_t at, off_t len)
{
	int errnum = enter(FAULT_ALLOCATE);

	if (errnum) {
		errno = errnum;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, at, len);
}
