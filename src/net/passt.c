/*
 * passt (https://passt.top): the host's own network for a guest, in a program that has no rights. Frames go over a
 * stream socket as stream.c has them: to a program that is started here, and again when it has ended, or to one that
 * runs and listens (`socket=PATH`).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/sock.h"
#include "net/backend.h"

#define ARGS 16

struct passt {
	char name[32], program[256], tcp[256], udp[256];
	pid_t pid; /* 0: it does not run */
};

static _Noreturn void run(const struct passt *p, int fd, pid_t parent)
{
	const char *argv[ARGS] = { p->program, "--foreground", "--quiet", "--fd", "3" };
	unsigned n = 5;

	if (*p->tcp) {
		argv[n++] = "--tcp-ports";
		argv[n++] = p->tcp;
	}
	if (*p->udp) {
		argv[n++] = "--udp-ports";
		argv[n++] = p->udp;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	child_signals();
	if (fd == 3 ? fcntl(fd, F_SETFD, 0) : dup2(fd, 3) < 0)
		_exit(126);
	close_range(4, ~0u, 0);
	execvp(p->program, (char *const *)argv);
	dprintf(2, "%s: %s: %s\n", p->name, p->program, strerror(errno));
	_exit(127);
}

static int start(void *opaque, struct err *err)
{
	struct passt *p = opaque;
	pid_t parent = getpid();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_errno(err, errno, "%s: socketpair", p->name);
	p->pid = fork();
	if (p->pid == 0)
		run(p, pair[1], parent);
	close(pair[1]);
	if (p->pid > 0)
		return pair[0];
	p->pid = 0;
	close(pair[0]);
	return err_errno(err, errno, "%s: fork", p->name);
}

static void stop(void *opaque)
{
	struct passt *p = opaque;

	if (!p->pid)
		return;
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	p->pid = 0;
}

/* Is there such a program? execvp() finds out too late to tell. */
static bool exists(const char *program)
{
	const char *path = getenv("PATH");
	char at[1024];

	if (strchr(program, '/'))
		return !access(program, X_OK);
	for (path = path ? path : "/usr/bin:/bin"; *path; path += strspn(path, ":")) {
		size_t len = strcspn(path, ":");

		snprintf(at, sizeof(at), "%.*s/%s", (int)len, path, program);
		if (!access(at, X_OK))
			return true;
		path += len;
	}
	return false;
}

static int read_text(struct config *c, const char *key, const char *dflt, char to[static 256], struct err *err)
{
	const char *text;

	if (config_str(c, key, dflt, &text, err))
		return -1;
	return snprintf(to, 256, "%s", text) < 256 ? 0 : err_set(err, "%s: longer than 255 characters", key);
}

static int read_keys(struct passt *p, struct config *c, const char **path, struct err *err)
{
	char key[64];

#define KEY(word) (snprintf(key, sizeof(key), "%s." word, p->name), key)
	if (config_str(c, KEY("socket"), NULL, path, err))
		return -1;
	if (*path)
		return 0;
	if (read_text(c, KEY("program"), "passt", p->program, err) || read_text(c, KEY("tcp-ports"), "", p->tcp, err) ||
	    read_text(c, KEY("udp-ports"), "", p->udp, err))
		return -1;
	return exists(p->program)
		       ? 0
		       : err_set(err, "%s: no program %s is installed (package passt)", KEY("program"), p->program);
#undef KEY
}

struct net_peer *net_passt_new(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	struct net_stream_config s = { .fd = -1, .listen_fd = -1, .reconnect_s = 1 };
	struct passt *p = calloc(1, sizeof(*p));
	char where[256], key[64];
	const char *path;

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	snprintf(p->name, sizeof(p->name), "%s", prefix);
	snprintf(s.name, sizeof(s.name), "%s", prefix);
	if (read_keys(p, c, &path, err)) {
		free(p);
		return NULL;
	}
	if (!path) {
		s.open = start;
		s.close = stop;
		s.opaque = p;
		return net_stream_make(loop, &s, err);
	}
	free(p);
	snprintf(where, sizeof(where), "unix:%s", path);
	snprintf(key, sizeof(key), "%s.socket", prefix);
	if (sock_address(key, where, &s.to, &s.to_len, err))
		return NULL;
	s.fd = sock_connect(key, where, err);
	return s.fd < 0 ? NULL : net_stream_make(loop, &s, err);
}
