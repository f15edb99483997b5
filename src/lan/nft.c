/* The program nft as a process: see nft.h. */
#include "lan/nft.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"

#define OUTPUT_MOST (64u << 20)
#define ERROR_MOST  1024u

extern char **environ;

/* Where distributions put it, whatever PATH says. */
static const char *program(void)
{
	static const char *const places[] = { "/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft" };

	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (!access(places[i], X_OK))
			return places[i];
	return NULL;
}

struct output {
	char *text;
	size_t len;
};

static bool take(struct output *o, int fd, size_t most)
{
	char buf[16384], *text;
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	if (o->len + (size_t)n > most)
		return true; /* read, and lost */
	text = realloc(o->text, o->len + (size_t)n + 1);
	if (!text)
		return false;
	memcpy(text + o->len, buf, (size_t)n);
	o->text = text;
	o->len += (size_t)n;
	text[o->len] = '\0';
	return true;
}

/* Give `in` to it, and take what it says, both at once: neither side may wait for the other. */
static void talk(int to, int from, int errors, const char *in, struct output out[2])
{
	struct pollfd p[3] = { { .fd = to, .events = POLLOUT },
			       { .fd = from, .events = POLLIN },
			       { .fd = errors, .events = POLLIN } };
	size_t left = strlen(in);

	while (p[1].fd >= 0 || p[2].fd >= 0) {
		if (p[0].fd >= 0 && !left) {
			close(to);
			p[0].fd = -1;
		}
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			break;
		if (p[0].fd >= 0 && p[0].revents) {
			ssize_t n = write(to, in, left);

			if (n > 0)
				in += n, left -= (size_t)n;
			else if (n < 0 && errno != EINTR && errno != EAGAIN)
				left = 0; /* it has ended */
		}
		for (int i = 1; i < 3; i++)
			if (p[i].fd >= 0 && p[i].revents &&
			    !take(&out[i - 1], p[i].fd, i == 1 ? OUTPUT_MOST : ERROR_MOST))
				p[i].fd = -1;
	}
	if (p[0].fd >= 0)
		close(to);
}

static int held = -1;

void nft_hold(int fd)
{
	held = fd;
}

static int start(const char *path, const char *const *argv, int fds[6], pid_t *pid, struct err *err)
{
	posix_spawn_file_actions_t a;
	posix_spawnattr_t attr;
	sigset_t none;
	int rc;

	posix_spawn_file_actions_init(&a);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_adddup2(&a, fds[0], 0);
	posix_spawn_file_actions_adddup2(&a, fds[3], 1);
	posix_spawn_file_actions_adddup2(&a, fds[5], 2);
	if (held >= 0)
		posix_spawn_file_actions_adddup2(&a, held, held); /* open there, too */
	rc = posix_spawn(pid, path, &a, &attr, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&a);
	posix_spawnattr_destroy(&attr);
	return rc ? err_errno(err, rc, "%s", path) : 0;
}

/* Its first line without what only says where in our text it is. */
static int complain(const struct output *o, struct err *err)
{
	const char *text = o->text ? o->text : "nft failed", *error = strstr(text, "Error: ");

	if (error)
		text = error + 7;
	return err_set(err, "nft: %.*s", (int)strcspn(text, "\n"), text);
}

static int run(const char *const *argv, const char *in, struct output *out, struct err *err)
{
	struct output o[2] = { { 0 } };
	const char *path = program();
	int fds[6] = { -1, -1, -1, -1, -1, -1 }, status, rc = -1;
	pid_t pid;

	if (!path)
		return err_set(err, "nft is not installed (Debian: package nftables)");
	if (pipe2(fds, O_CLOEXEC) || pipe2(fds + 2, O_CLOEXEC) || pipe2(fds + 4, O_CLOEXEC))
		err_errno(err, errno, "nft");
	else
		rc = start(path, argv, fds, &pid, err);
	for (int i = 0; i < 6; i++)
		if (fds[i] >= 0 && (i == 0 || i == 3 || i == 5 || rc))
			close(fds[i]);
	if (rc)
		return -1;
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	talk(fds[1], fds[2], fds[4], in, o);
	close(fds[2]);
	close(fds[4]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		complain(&o[1], err);
	free(o[1].text);
	if (status || !out)
		free(o[0].text);
	else
		*out = o[0];
	return status ? -1 : 0;
}

int nft_run(const char *text, bool check, struct err *err)
{
	const char *const argv[] = { "nft", "-f", "-", check ? "-c" : NULL, NULL };

	return run(argv, text, NULL, err);
}

json_t *nft_json(const char *const *argv, struct err *err)
{
	const char *full[12] = { "nft", "-j" };
	struct output o = { 0 };
	json_error_t e;
	json_t *j;

	for (size_t i = 0; argv[i] && i + 3 < ARRAY_LEN(full); i++)
		full[i + 2] = argv[i];
	if (run(full, "", &o, err))
		return NULL;
	j = o.len ? json_loadb(o.text, o.len, 0, &e) : json_object();
	if (!j)
		err_set(err, "nft: %s", e.text);
	free(o.text);
	return j;
}
