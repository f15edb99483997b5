/* See attach.h. */
#include "cli/attach.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/tty.h"

#define ESCAPE 1

bool cli_write_all(const char *b, size_t len)
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

static const char help[] = "\r\nCtrl-A h       this help\r\nCtrl-A x       detach; the machine goes on\r\n"
			   "Ctrl-A Ctrl-A  send Ctrl-A\r\n";

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
		if (*escaped && (b[k] == 'h' || b[k] == '?'))
			fputs(help, stderr);
		if (*escaped == escape)
			b[kept++] = b[k];
		*escaped = escape && !*escaped;
	}
	return send(fd, b, (size_t)kept, MSG_NOSIGNAL) == kept ? GO_ON : DETACH;
}

/* True: detached; false: the machine has ended. */
static bool copy(int fd, bool tty, bool end_with_input)
{
	struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	bool escaped = false;
	char b[4096];

	for (;;) {
		if (poll(p, 2, -1) < 0) {
			if (errno != EINTR)
				return true;
			continue;
		}
		if (p[0].revents) {
			enum outcome o = keys(fd, tty, &escaped);

			if (o == DETACH)
				return true;
			if (o == NO_MORE_INPUT) {
				p[0].fd = -1;
				if (end_with_input)
					shutdown(fd, SHUT_WR);
			}
		}
		if (p[1].revents) {
			ssize_t n = read(fd, b, sizeof(b));

			if (n <= 0)
				return false;
			if (!cli_write_all(b, (size_t)n))
				return true;
		}
	}
}

void cli_attach(int fd, const char *name, bool end_with_input)
{
	bool tty, detached;

	tty_restore_on_signals();
	tty = tty_raw(false);
	if (tty)
		fprintf(stderr, "Attached to %s; Ctrl-A x detaches.\r\n", name);
	detached = copy(fd, tty, end_with_input);
	tty_restore();
	if (tty)
		fprintf(stderr, detached ? "\nDetached from %s.\n" : "\n%s has ended.\n", name);
	close(fd);
}
