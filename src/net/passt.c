/*
 * passt (https://passt.top): the host's own network for a guest, in a program that has no rights. Frames go over a
 * stream socket as stream.c has them: to a program that is started here, and again when it has ended, or to one that
 * runs and listens (`socket=PATH`).
 *
 * It says nothing when it has begun, but what is wrong with its options, and ports that are taken, end it before it
 * reads its first frame. So one is sent that means nothing, and the start waits until it has been read.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/child.h"
#include "base/now.h"
#include "base/sock.h"
#include "net/backend.h"

#define ARGS	  72
#define WORDS	  4096 /* bytes of what it says that are kept */
#define BEGINS_MS 10000

struct passt {
	char name[32], program[256];
	const char *argv[ARGS + 1];
	unsigned argc;
	char args[4096]; /* of which those that are made here are */
	size_t args_len;
	int words;     /* a file in memory that does not grow: what the one that runs has said */
	char end[512]; /* see stop() */
	pid_t pid;     /* 0: it does not run */
};

/* --- one that runs --- */

static _Noreturn void run(const struct passt *p, int fd, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	child_signals();
	if (dup2(p->words, 1) < 0 || dup2(p->words, 2) < 0 || (fd == 3 ? fcntl(fd, F_SETFD, 0) : dup2(fd, 3) < 0))
		_exit(126);
	close_range(4, ~0u, 0);
	execvp(p->program, (char *const *)p->argv);
	dprintf(2, "%s", strerror(errno));
	_exit(127);
}

static void forget_words(const struct passt *p)
{
	static const char nothing[WORDS];

	if (pwrite(p->words, nothing, WORDS, 0) == WORDS)
		lseek(p->words, 0, SEEK_SET);
}

static int start(void *opaque, struct err *err)
{
	struct passt *p = opaque;
	pid_t parent = getpid();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_errno(err, errno, "%s: socketpair", p->name);
	forget_words(p);
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

/* The last line it has said: ": LINE", or nothing. Where there is no system log, it complains of each. */
static void last_words(const struct passt *p, char text[static 204])
{
	char all[WORDS + 1], *at;
	ssize_t len = pread(p->words, all, WORDS, 0);

	all[len > 0 ? len : 0] = 0;
	*text = 0;
	for (char *line = strtok_r(all, "\n", &at); line; line = strtok_r(NULL, "\n", &at))
		if (strncmp(line, "Failed to send ", 15) != 0)
			snprintf(text, 204, ": %.200s", line);
}

/* Ends it. How it has ended, if that was by itself; else NULL. */
static const char *stop(void *opaque)
{
	struct passt *p = opaque;
	int status = SIGKILL;
	char words[204];

	if (!p->pid)
		return NULL;
	kill(p->pid, SIGKILL); /* which is nothing to one that is about to end */
	waitpid(p->pid, &status, 0);
	p->pid = 0;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return NULL;
	last_words(p, words);
	snprintf(p->end, sizeof(p->end), "%s has ended with %s %d%s", p->program,
		 WIFSIGNALED(status) ? "signal" : "status",
		 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), words);
	return p->end;
}

/* The first one: with an error if it does not begin. */
static int start_and_wait(struct passt *p, struct err *err)
{
	/* Experimental by its type, from a guest whose address it does not know yet. */
	static const uint8_t nothing[64] = "\0\0\0\74\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x88\xb5";
	int64_t until = now_ms() + BEGINS_MS;
	int fd = start(p, err), unread = 0;
	struct pollfd end = { .fd = fd };
	const char *how;

	if (fd < 0)
		return -1;
	send(fd, nothing, sizeof(nothing), MSG_DONTWAIT | MSG_NOSIGNAL);
	do /* In this order: what ends forgets what it has not read after it has hung up. */
		if (!ioctl(fd, SIOCOUTQ, &unread) && !poll(&end, 1, unread ? 1 : 0) && !unread)
			return fd;
	while (!(end.revents & POLLHUP) && now_ms() < until);
	how = stop(p);
	close(fd);
	return err_set(err, "%s.backend: %s%s", p->name, how ? how : p->program, how ? "" : " takes no frames");
}

/* --- its options --- */

__attribute__((format(printf, 4, 5))) static int add_arg(struct passt *p, const char *key, struct err *err,
							 const char *fmt, ...)
{
	size_t room = sizeof(p->args) - p->args_len;
	char *arg = p->args + p->args_len;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(arg, room, fmt, ap);
	va_end(ap);
	if (len >= (int)room || p->argc == ARGS)
		return err_set(err, "%s: too many ports", key);
	p->args_len += (size_t)len + 1;
	p->argv[p->argc++] = arg;
	return 0;
}

/*
 * "[ADDRESS/]PORTS[,PORTS]...": of this host only, where there is no address. Each of the list by itself, as of one
 * option it is enough for passt (2023-03-09) that one port can be had; but where some are excluded they go together.
 */
static int add_ports(struct passt *p, const char *key, const char *option, const char *spec, struct err *err)
{
	const char *slash = strchr(spec, '/'), *address = slash ? spec : "127.0.0.1";
	int len = slash ? (int)(slash - spec) : (int)strlen(address);
	const char *list = slash ? slash + 1 : spec;
	size_t each;

	if (!*spec || !strcmp(spec, "none"))
		return 0;
	if (!strcmp(spec, "all"))
		return add_arg(p, key, err, "%s=all", option);
	for (;; list += each + 1) {
		each = strchr(list, '~') ? strlen(list) : strcspn(list, ",");
		if (add_arg(p, key, err, "%s=%.*s/%.*s", option, len, address, (int)each, list))
			return -1;
		if (!list[each])
			return 0;
	}
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

static int read_ports(struct passt *p, struct config *c, const char *word, struct err *err)
{
	char key[64], option[16], one[256];
	const char *specs;
	size_t len;

	snprintf(key, sizeof(key), "%s.%s", p->name, word);
	snprintf(option, sizeof(option), "--%s", word);
	if (config_str(c, key, "", &specs, err))
		return -1;
	for (;; specs += len + 1) { /* "A+B", as the command line joins a key that comes twice */
		len = strcspn(specs, "+");
		if (len >= sizeof(one))
			return err_set(err, "%s: longer than 255 characters", key);
		memcpy(one, specs, len);
		one[len] = 0;
		if (add_ports(p, key, option, one, err))
			return -1;
		if (!specs[len])
			return 0;
	}
}

static int read_keys(struct passt *p, struct config *c, struct err *err)
{
	static const char *const always[] = { "--foreground", "--quiet", "--fd", "3" };
	const char *program;
	char key[64];

	snprintf(key, sizeof(key), "%s.program", p->name);
	if (config_str(c, key, "passt", &program, err))
		return -1;
	if (snprintf(p->program, sizeof(p->program), "%s", program) >= (int)sizeof(p->program))
		return err_set(err, "%s: longer than 255 characters", key);
	p->argv[p->argc++] = p->program;
	for (size_t n = 0; n < ARRAY_LEN(always); n++)
		p->argv[p->argc++] = always[n];
	if (read_ports(p, c, "tcp-ports", err) || read_ports(p, c, "udp-ports", err))
		return -1;
	return exists(program) ? 0 : err_set(err, "%s: no program %s is installed (package passt)", key, program);
}

/* --- life --- */

static void release(void *opaque)
{
	struct passt *p = opaque;

	stop(p);
	if (p->words >= 0)
		close(p->words);
	free(p);
}

static int make_words(struct passt *p, struct err *err)
{
	p->words = memfd_create("passt", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return p->words < 0 || ftruncate(p->words, WORDS) || fcntl(p->words, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK)
		       ? err_errno(err, errno, "%s: memfd", p->name)
		       : 0;
}

static struct net_peer *start_program(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	struct net_stream_config s = { .listen_fd = -1, .reconnect_s = 1, .open = start, .close = stop };
	struct passt *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	p->words = -1;
	snprintf(p->name, sizeof(p->name), "%s", prefix);
	snprintf(s.name, sizeof(s.name), "%s", prefix);
	s.fd = read_keys(p, c, err) || make_words(p, err) ? -1 : start_and_wait(p, err);
	if (s.fd < 0) {
		release(p);
		return NULL;
	}
	s.release = release;
	s.opaque = p;
	return net_stream_make(loop, &s, err);
}

/* One that runs. */
static struct net_peer *connect_to(struct loop *loop, const char *path, const char *prefix, struct err *err)
{
	struct net_stream_config s = { .listen_fd = -1, .reconnect_s = 1 };
	char where[256], key[64];

	snprintf(s.name, sizeof(s.name), "%s", prefix);
	snprintf(where, sizeof(where), "unix:%s", path);
	snprintf(key, sizeof(key), "%s.socket", prefix);
	if (sock_address(key, where, &s.to, &s.to_len, err))
		return NULL;
	s.fd = sock_connect(key, where, err);
	return s.fd < 0 ? NULL : net_stream_make(loop, &s, err);
}

struct net_peer *net_passt_new(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	const char *path;
	char key[64];

	snprintf(key, sizeof(key), "%s.socket", prefix);
	if (config_str(c, key, NULL, &path, err))
		return NULL;
	return path ? connect_to(loop, path, prefix, err) : start_program(loop, c, prefix, err);
}
