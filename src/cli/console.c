/* `vireo console`: attach this terminal to a running machine's console. Ctrl-A x detaches. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "cli/commands.h"
#include "vm/rundir.h"

#define ESCAPE 1

/* Keys to the machine; false when the user detaches or input ends. */
static bool keys(int fd, bool *escaped)
{
	char b[256], out[256];
	ssize_t n = read(0, b, sizeof(b)), m = 0;

	if (n <= 0)
		return n < 0 && errno == EINTR;
	for (ssize_t k = 0; k < n; k++) {
		if (*escaped) {
			*escaped = false;
			if (b[k] == 'x')
				return false;
			if (b[k] == ESCAPE)
				out[m++] = ESCAPE;
		} else if (b[k] == ESCAPE) {
			*escaped = true;
		} else {
			out[m++] = b[k];
		}
	}
	return send(fd, out, (size_t)m, MSG_NOSIGNAL) == m;
}

static void copy(int fd)
{
	struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	bool escaped = false;
	char b[4096];

	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return;
		if (p[0].revents && !keys(fd, &escaped))
			return;
		if (p[1].revents) {
			ssize_t n = read(fd, b, sizeof(b));

			if (n <= 0 || write(1, b, (size_t)n) < 0)
				return;
		}
	}
}

static int run(struct config *c, int argc, char **argv)
{
	struct err err;
	struct termios saved, raw;
	bool tty = isatty(0) && !tcgetattr(0, &saved);
	int fd = rundir_connect(argv[0], "console.sock", &err);

	if (fd < 0)
		return cli_fail(&err);
	if (tty) {
		fprintf(stderr, "Attached to %s; Ctrl-A x detaches.\n", argv[0]);
		raw = saved;
		cfmakeraw(&raw);
		tcsetattr(0, TCSADRAIN, &raw);
	}
	copy(fd);
	if (tty)
		tcsetattr(0, TCSADRAIN, &saved);
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
	.run = run,
};
