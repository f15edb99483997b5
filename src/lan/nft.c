/* The program nft as a process: see nft.h. */
#include "lan/nft.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/now.h"

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

#define PATIENCE_MS 120000 /* thousands of rules are a second's work */

/* Take what it says until it has nothing more to say; false: it does not end. */
static bool listen_to(const int fds[2], struct output out[2])
{
	struct pollfd p[2] = { { .fd = fds[0], .events = POLLIN }, { .fd = fds[1], .events = POLLIN } };
	const uint64_t end = now_ms() + PATIENCE_MS;

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		const uint64_t now = now_ms();

		if (now >= end)
			return false;
		if (poll(p, 2, (int)(end - now)) < 0 && errno != EINTR)
			return true;
		for (int i = 0; i < 2; i++)
			if (p[i].fd >= 0 && p[i].revents && !take(&out[i], p[i].fd, i ? ERROR_MOST : OUTPUT_MOST))
				p[i].fd = -1;
	}
	return true;
}

/* A file without a name that holds `text`: who does not read it costs nobody a signal. -1 with errno. */
static int file_of(const char *text)
{
	const size_t len = strlen(text);
	int fd = memfd_create("nft", MFD_CLOEXEC);

	if (fd >= 0 && (write(fd, text, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET))) {
		close(fd);
		return -1;
	}
	return fd;
}

static int held = -1;

void nft_hold(int fd)
{
	held = fd;
}

/* `fds`: its input, output and errors. */
static int start(const char *path, const char *const *argv, const int fds[3], pid_t *pid, struct err *err)
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
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_adddup2(&a, fds[i], i);
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
	int out_fds[2] = { -1, -1 }, err_fds[2] = { -1, -1 }, input, status, rc = -1;
	bool ends;
	pid_t pid;

	if (!path)
		return err_set(err, "nft is not installed (Debian: package nftables)");
	input = file_of(in);
	if (input < 0 || pipe2(out_fds, O_CLOEXEC) || pipe2(err_fds, O_CLOEXEC))
		err_errno(err, errno, "nft");
	else
		rc = start(path, argv, (const int[]){ input, out_fds[1], err_fds[1] }, &pid, err);
	close(input);
	close(out_fds[1]);
	close(err_fds[1]);
	if (!rc) {
		ends = listen_to((const int[]){ out_fds[0], err_fds[0] }, o);
		if (!ends)
			kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		rc = !status && ends ? 0 : ends ? complain(&o[1], err) : err_set(err, "nft does not end");
	}
	close(out_fds[0]);
	close(err_fds[0]);
	free(o[1].text);
	if (rc || !out)
		free(o[0].text);
	else
		*out = o[0];
	return rc;
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
