/* `vireo console`: attach this terminal to a running machine's console. Ctrl-A x detaches. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/tty.h"
#include "cli/commands.h"
#include "vm/rundir.h"

#define ESCAPE 1

static const struct cli_option options[] = {
	{ "log", 'l', CLI_FLAG, "log", NULL, NULL, "print what the console has shown so far, and leave", NULL },
	{ 0 },
};

static bool write_all(const char *b, size_t len)
{
	while (len) {
		ssize_t n = write(1, b, len);

		if (n < 0 && errno == EAGAIN)
			poll(&(struct pollfd){ .fd = 1, .events = POLLOUT }, 1, -1);
		else if (n < 0 && errno != EINTR)
			return false;
		b += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

enum outcome { GO_ON, NO_MORE_INPUT, DETACH };

/* Keys to the machine. Only a terminal has escape keys. */
static enum outcome keys(int fd, bool tty, bool *escaped)
{
	char b[256];
	ssize_t n = read(0, b, sizeof(b)), kept = 0;

	if (n <= 0)
		return n < 0 && (errno == EINTR || errno == EAGAIN) ? GO_ON : tty ? DETACH : NO_MORE_INPUT;
	for (ssize_t k = 0; k < n; k++) {
		bool escape = tty && b[k] == ESCAPE;

		if (*escaped && b[k] == 'x')
			return DETACH;
		if (*escaped == escape)
			b[kept++] = b[k];
		*escaped = escape && !*escaped;
	}
	return send(fd, b, (size_t)kept, MSG_NOSIGNAL) == kept ? GO_ON : DETACH;
}

static void copy(int fd, bool tty)
{
	struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	bool escaped = false;
	char b[4096];

	for (;;) {
		if (poll(p, 2, -1) < 0) {
			if (errno != EINTR)
				return;
			continue;
		}
		if (p[0].revents) {
			enum outcome o = keys(fd, tty, &escaped);

			if (o == DETACH)
				return;
			if (o == NO_MORE_INPUT)
				p[0].fd = -1;
		}
		if (p[1].revents) {
			ssize_t n = read(fd, b, sizeof(b));

			if (n <= 0 || !write_all(b, (size_t)n))
				return;
		}
	}
}

/* The older half first. */
static int print_log(const char *name)
{
	static const char *const files[] = { "console.log.old", "console.log" };
	char path[128], b[65536];
	struct err err;

	for (int k = 0; k < 2; k++) {
		ssize_t n;
		int fd;

		if (rundir_find(name, files[k], path, sizeof(path), &err))
			return cli_fail(&err);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		while (fd >= 0 && (n = read(fd, b, sizeof(b))) > 0 && write_all(b, (size_t)n))
			;
		if (fd >= 0)
			close(fd);
	}
	return 0;
}

static int run(struct config *c, int argc, char **argv)
{
	struct err err;
	bool log, tty;
	int fd;

	if (config_bool(c, "log", false, &log, &err))
		return cli_fail(&err);
	if (log)
		return print_log(argv[0]);
	fd = rundir_connect(argv[0], "console.sock", &err);
	if (fd < 0)
		return cli_fail(&err);
	tty_restore_on_signals();
	tty = tty_raw();
	if (tty)
		fprintf(stderr, "Attached to %s; Ctrl-A x detaches.\r\n", argv[0]);
	copy(fd, tty);
	tty_restore();
	close(fd);
	return 0;
}

const struct cli_command cli_console_command = {
	.name = "console",
	.summary = "Attach this terminal to a machine's console",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.operand_words = { "@machine" },
	.options = options,
	.text = "Several terminals may be attached at a time; all show the output, and all may type. Input that is\n"
		"not a terminal is sent to its end; the output is shown until the machine ends.",
	.run = run,
};
