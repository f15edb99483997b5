/* The start of serve.h: the process, its name space, its interface. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/log.h"
#include "lan/serve/dns.h"
#include "lan/serve/iface.h"
#include "lan/serve/impl.h"

#define PATIENCE_MS 10000

/* What the process says while it starts: a 1 and its pid as text, once it has its name space; then as `ready` of
 * lan_serve_run(). */
static _Noreturn void fail(int fd, const struct err *err)
{
	if (write(fd, err->msg, strlen(err->msg)) < 0)
		_exit(2);
	_exit(1);
}

static void keep_only(int fd)
{
	int null = open("/dev/null", O_RDWR);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	if (fd != 3)
		dup2(fd, 3);
	close_range(4, ~0u, 0);
}

void server_title(const char *title)
{
	FILE *f = fopen("/proc/self/stat", "re");
	unsigned long begin = 0, end = 0;
	char text[2048], *p;
	size_t n;

	prctl(PR_SET_NAME, title);
	if (!f)
		return;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	/* Of the words behind the name, which may have spaces, the 46th and 47th (proc_pid_stat(5): arg_start,
	 * arg_end). */
	p = strrchr(text, ')');
	for (unsigned i = 0; p && i < 46; i++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, "%lu %lu", &begin, &end) != 2 || end <= begin)
		return;
	memset((char *)begin, 0, end - begin);
	snprintf((char *)begin, end - begin, "%s", title);
}

static _Noreturn void child(const struct lan_serve *s, int fd)
{
	struct forward *f = NULL;
	char title[16], hello[16], go;
	struct err err;
	int null;

	/* It is nobody's child: who made the network may be a machine, which does not wait for it. */
	setsid();
	if (fork())
		_exit(0);
	child_signals();
	keep_only(fd);
	if (chdir("/"))
		_exit(1);
	if (s->dns && s->forward && !(f = forward_new(s, &err)))
		fail(3, &err);
	snprintf(title, sizeof(title), "vireo:%.9s", s->name);
	server_title(title);
	snprintf(hello, sizeof(hello), "\1%d", getpid());
	if (unshare(CLONE_NEWNET)) {
		err_errno(&err, errno, "%s: a network name space", s->name);
		fail(3, &err);
	}
	if (write(3, hello, strlen(hello)) < 0 || read(3, &go, 1) != 1)
		_exit(1); /* who started it has ended, or could not do its part */
	if (iface_set(s, &err))
		fail(3, &err);
	null = *s->log_path ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
	if (null >= 0) {
		dup2(null, STDERR_FILENO);
		close(null);
	}
	_exit(serve(s, f, 3, -1, &err) ? 1 : 0);
}

/* One message of the child, of which `word` is the good one. */
static int expect(int fd, char word, const char *name, struct err *err)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int rc;
	ssize_t n;

	do
		rc = poll(&p, 1, PATIENCE_MS);
	while (rc < 0 && errno == EINTR);
	if (rc <= 0)
		return err_set(err, "%s: its servers do not start", name);
	n = recv(fd, err->msg, sizeof(err->msg) - 1, 0);
	if (n <= 0)
		return err_set(err, "%s: the process of its servers has ended", name);
	err->msg[n] = 0;
	return err->msg[0] == word ? 0 : -1;
}

pid_t lan_serve_start(const struct lan_serve *s, const struct lan_serve_attach *attach, struct err *err)
{
	struct pollfd p = { .events = POLLRDHUP };
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return err_errno(err, errno, "%s: socketpair", s->name);
	pid = fork();
	if (!pid)
		child(s, pair[1]);
	close(pair[1]);
	if (pid < 0) {
		err_errno(err, errno, "%s: fork", s->name);
		close(pair[0]);
		return -1;
	}
	waitpid(pid, NULL, 0);
	p.fd = pair[0];
	pid = -1;
	if (expect(pair[0], 1, s->name, err))
		goto fail;
	pid = (pid_t)strtol(err->msg + 1, NULL, 10);
	if (attach->fn(attach->opaque, pid, err))
		goto fail;
	if (send(pair[0], "g", 1, MSG_NOSIGNAL) != 1) {
		err_set(err, "%s: the process of its servers has ended", s->name);
		goto fail;
	}
	if (expect(pair[0], 0, s->name, err))
		goto fail;
	close(pair[0]);
	return pid;
fail:
	/* It has gone when its end of the pair has. */
	if (pid > 1)
		kill(pid, SIGKILL);
	shutdown(pair[0], SHUT_WR);
	poll(&p, 1, PATIENCE_MS);
	close(pair[0]);
	return -1;
}

int lan_serve_run(const struct lan_serve *s, int ready, int stop, struct err *err)
{
	struct forward *f = NULL;

	if (s->dns && s->forward && !(f = forward_new(s, err)))
		return -1;
	return serve(s, f, ready, stop, err);
}
