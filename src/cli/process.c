/* See process.h. */
#include "cli/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/identity.h"
#include "base/log.h"

/* Ports that would be the terminal's. */
static int refuse_stdio(struct config *c, struct err *err)
{
	static const char *const ports[] = { "serial0",	 "serial1",  "console0", "agent",
					     "debugcon", "postcard", "monitor0", "qmp0" };
	bool console = false;

	for (size_t n = 0; n < sizeof(ports) / sizeof(ports[0]); n++) {
		const char *where = config_peek(c, ports[n]);

		if (where && !strcmp(where, "stdio"))
			return err_set(err, "daemonize: %s is stdio, which a process in the background does not have",
				       ports[n]);
		console |= where && n == 2;
	}
	/* Without a console the first port is the terminal by itself: here it is the socket of the run directory. */
	if (config_peek(c, "serial0") || console)
		return 0;
	return config_set(c, "serial0", "socket", err);
}

/* What the other process has to say until it is ready or gone. */
static void pass_on(int fd)
{
	char text[1024];
	ssize_t n = read(fd, text, sizeof(text));

	if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
		return;
}

/* In the process that was started: does not return. */
static void wait_for(pid_t child, int ready, int text)
{
	struct pollfd fds[] = { { .fd = text, .events = POLLIN }, { .fd = ready, .events = POLLIN } };
	char status = 1;

	while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
		if (fds[0].revents & POLLIN)
			pass_on(text);
		else if (fds[1].revents)
			break;
	}
	if (read(ready, &status, 1) < 1)
		status = 1;
	waitpid(child, NULL, 0);
	_exit(status);
}

/* The standard files of a process in the background; `err_fd` is where errors go, -1: nowhere. */
static int let_go(int err_fd, struct err *err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(err_fd < 0 ? null : err_fd, 2) < 0)
		return err_errno(err, errno, "daemonize: /dev/null");
	close(null);
	return 0;
}

/*
 * Twice, so that it is the child of nobody that has a terminal. Errors go through a pipe: what the machine has started
 * for itself would hold the user's own stderr open.
 */
static int go_to_background(struct process *p, struct err *err)
{
	int ready[2], text[2];
	pid_t child;

	fflush(NULL);
	if (pipe2(ready, O_CLOEXEC) || pipe2(text, O_CLOEXEC) || (child = fork()) < 0)
		return err_errno(err, errno, "daemonize");
	if (child) {
		close(ready[1]);
		close(text[1]);
		wait_for(child, ready[0], text[0]);
	}
	close(ready[0]);
	close(text[0]);
	setsid();
	child = fork();
	if (child > 0)
		_exit(0);
	if (child < 0 || let_go(text[1], err))
		return child < 0 ? err_errno(err, errno, "daemonize") : -1;
	close(text[1]);
	umask(027);
	p->ready_fd = ready[1];
	return 0;
}

static int write_pid(struct process *p, const char *path, struct err *err)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	/* A restore has another configuration from then on. */
	p->pidfile = strdup(path);
	if (!p->pidfile)
		return err_set(err, "out of memory");
	p->pid_fd = open(p->pidfile, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (p->pid_fd < 0)
		return err_errno(err, errno, "pidfile: cannot create PID file: %s", p->pidfile);
	if (flock(p->pid_fd, LOCK_EX | LOCK_NB)) {
		close(p->pid_fd);
		p->pid_fd = -1;
		return err_set(err, "pidfile: cannot create PID file: %s is another machine's, which lives",
			       p->pidfile);
	}
	if (ftruncate(p->pid_fd, 0) || write(p->pid_fd, text, (size_t)n) != n)
		return err_errno(err, errno, "pidfile: %s", p->pidfile);
	return 0;
}

static int open_log(const char *path, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		return err_errno(err, errno, "log: %s", path);
	log_set_fd(fd);
	return 0;
}

int process_begin(struct process *p, struct config *c, struct err *err)
{
	bool background;
	const char *pidfile, *log, *user;

	*p = (struct process){ .ready_fd = -1, .pid_fd = -1 };
	if (config_bool(c, "daemonize", false, &background, err) || config_str(c, "pidfile", NULL, &pidfile, err) ||
	    config_str(c, "log", NULL, &log, err) || config_str(c, "runas", NULL, &user, err) ||
	    sandbox_read(&p->sandbox, c, err))
		return -1;
	if (user && identity_wish(user, err))
		return err_prefix(err, "runas");
	if (sandbox_begin(&p->sandbox, err))
		return -1;
	if (background && (refuse_stdio(c, err) || go_to_background(p, err)))
		return -1;
	if (log && open_log(log, err))
		return -1;
	return pidfile ? write_pid(p, pidfile, err) : 0;
}

int process_ready(struct process *p, struct err *err)
{
	static const char ok;

	if (identity_take(err))
		return err_prefix(err, "runas");
	if (sandbox_finish(&p->sandbox, err))
		return -1;
	if (p->ready_fd < 0)
		return 0;
	if (let_go(-1, err))
		return -1;
	/* It may have been killed meanwhile; that is no reason to end. */
	if (write(p->ready_fd, &ok, 1) < 0)
		log_line(LOG_INFO, "cli", "nobody waits for this process");
	close(p->ready_fd);
	p->ready_fd = -1;
	return 0;
}

void process_end(struct process *p)
{
	struct stat ours, there;

	if (p->pid_fd < 0)
		goto out;
	/* Not what somebody has put there since, nor a link as /dev/stdout. */
	if (!fstat(p->pid_fd, &ours) && !lstat(p->pidfile, &there) && S_ISREG(there.st_mode) &&
	    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
		unlink(p->pidfile);
	close(p->pid_fd);
	p->pid_fd = -1;
out:
	free(p->pidfile);
	p->pidfile = NULL;
}
