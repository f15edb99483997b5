/* The log: one write(2) per line, so that lines of different threads do not mix. */
#include "base/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/now.h"

static _Atomic int max_level = LOG_WARN;
static _Atomic bool raw_terminal, guest_hidden;
static int log_fd = STDERR_FILENO;
static _Atomic int64_t start_ns;
static _Atomic uint32_t lost; /* lines */

#define LIMIT_WINDOW_NS (10 * 1000000000ll)
#define LIMIT_LINES	5

/* Times count from the start of the program, which may be a moment before anybody wants them. */
__attribute__((constructor)) static void begin(void)
{
	start_ns = now_ns();
}

void log_set_level(enum log_level level)
{
	max_level = level;
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

void log_set_fd(int fd)
{
	log_fd = fd;
}

void log_set_raw(bool raw)
{
	raw_terminal = raw;
}

/*
 * Nobody waits for whoever reads the log, or does not: a machine that stood still for that could not even be told to
 * end. A pipe that is ready takes a line as a whole.
 */
static void put(const char *line, size_t n)
{
	struct pollfd p = { .fd = log_fd, .events = POLLOUT };
	char more[80];
	uint32_t was;
	int len;

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) {
		lost++;
		return;
	}
	was = atomic_exchange(&lost, 0);
	len = was ? snprintf(more, sizeof(more), "vireo: warning: log: %u lines are lost that nobody read\n", was) : 0;
	/* Nobody is left to tell when stderr is gone. */
	if (write(log_fd, more, (size_t)len) < 0 || write(log_fd, line, n) < 0)
		return;
}

void log_line(enum log_level level, const char *room, const char *fmt, ...)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	char line[sizeof(struct err) + 128];
	size_t room_left = sizeof(line) - 3; /* "\r\n" */
	int n = 0;
	va_list ap;

	if (!log_enabled(level))
		return;
	if (log_enabled(LOG_INFO))
		n = snprintf(line, room_left, "[%8.3f] ", (now_ns() - start_ns) / 1e9);
	n += snprintf(line + n, room_left - n, "vireo: %s: %s: ", names[level], room);
	if (n < (int)room_left) {
		va_start(ap, fmt);
		n += vsnprintf(line + n, room_left - n, fmt, ap);
		va_end(ap);
	}
	if (n >= (int)room_left)
		n = room_left - 1;
	if (raw_terminal && log_fd == STDERR_FILENO)
		line[n++] = '\r';
	line[n++] = '\n';
	put(line, (size_t)n);
}

void log_set_guest(bool on)
{
	guest_hidden = !on;
}

bool log_limit_pass(struct log_limit *l)
{
	int64_t now = now_ns(), start = l->window_start_ns;

	if (guest_hidden)
		return false;
	if (!start || now - start > LIMIT_WINDOW_NS) {
		/* One thread opens the new window and tells what the old one hid. */
		if (atomic_compare_exchange_strong(&l->window_start_ns, &start, now)) {
			uint32_t dropped = atomic_exchange(&l->dropped, 0);

			l->in_window = 0;
			if (dropped)
				log_line(LOG_WARN, "log", "%u similar lines were not shown", dropped);
		}
	}
	if (atomic_fetch_add(&l->in_window, 1) < LIMIT_LINES)
		return true;
	atomic_fetch_add(&l->dropped, 1);
	return false;
}
