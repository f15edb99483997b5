/* See child.h. */
#include "base/child.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/bytes.h"

void child_signals(void)
{
	sigset_t none;

	for (int n = 1; n < NSIG; n++)
		signal(n, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void child_begin(const char *title, int fd, pid_t parent)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGQUIT, SIGTSTP, SIGHUP, SIGPIPE, SIGWINCH };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	child_signals();
	for (size_t n = 0; n < ARRAY_LEN(ignored); n++)
		signal(ignored[n], SIG_IGN);
	if (fd != 3 && dup2(fd, 3) < 0)
		_exit(1);
	close_range(4, ~0u, 0);
	prctl(PR_SET_NAME, title);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}
