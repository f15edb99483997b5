/* See tty.h. */
#include "base/tty.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

/* Those that come from a fault, then those that somebody sends. */
static const int fatal[] = {
	SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGINT, SIGTERM, SIGHUP, SIGQUIT
};
#define FAULTS 7
#define FATALS (sizeof(fatal) / sizeof(fatal[0]))

static struct termios saved, raw;
static struct sigaction old[FATALS];
static volatile sig_atomic_t must_restore;

/* A job in the background would be stopped for touching the terminal. */
static bool is_ours(void)
{
	return tcgetpgrp(0) == getpgrp();
}

void tty_restore(void)
{
	if (must_restore && is_ours())
		tcsetattr(0, TCSANOW, &saved);
	must_restore = 0;
}

/* Then what would have happened without us: the instruction faults again, or the signal is sent again. */
static void crashed(int sig, siginfo_t *info, void *context)
{
	bool sent = info->si_code <= 0;

	tty_restore();
	for (unsigned n = 0; n < FATALS; n++) {
		if (fatal[n] != sig)
			continue;
		sigaction(sig, &old[n], NULL);
		sent |= n >= FAULTS; /* a key is the kernel's */
	}
	if (sent)
		raise(sig);
}

static void watch(unsigned first, unsigned end)
{
	struct sigaction sa = { .sa_sigaction = crashed, .sa_flags = SA_SIGINFO };

	for (unsigned n = first; n < end; n++)
		if (!sigaction(fatal[n], NULL, &old[n]) && old[n].sa_handler != SIG_IGN)
			sigaction(fatal[n], &sa, NULL);
}

static void stopped(int sig)
{
	bool was_raw = must_restore;

	tty_restore();
	raise(SIGSTOP);
	if (was_raw)
		tty_raw(raw.c_lflag & ISIG);
}

void tty_restore_on_signals(void)
{
	watch(FAULTS, FATALS);
	sigaction(SIGTSTP, &(struct sigaction){ .sa_handler = stopped, .sa_flags = SA_RESTART }, NULL);
}

bool tty_raw(bool signals)
{
	static bool watching;

	if (!isatty(0) || !is_ours() || (!must_restore && tcgetattr(0, &saved)))
		return false;
	if (!watching) {
		watching = true;
		atexit(tty_restore);
		watch(0, FAULTS);
	}
	raw = saved;
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST;
	raw.c_oflag &= ~(tcflag_t)ONLCR;
	if (signals)
		raw.c_lflag |= ISIG;
	must_restore = 1;
	tcsetattr(0, TCSADRAIN, &raw);
	return true;
}

void tty_fill_standard_fds(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", fd ? O_WRONLY : O_RDONLY);
}
