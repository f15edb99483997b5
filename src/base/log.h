/*
 * The log: lines on stderr, `vireo: LEVEL: ROOM: text`, under -v with the seconds since the start before them.
 * Any thread. Lines that nobody takes are lost, and counted: no line waits. Lines that a guest can cause use
 * log_guest(), which is rate limited.
 */
#ifndef VIREO_BASE_LOG_H
#define VIREO_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Show lines up to `level` (default LOG_WARN). Set before threads start. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* Lines go to `fd`, which stays open, instead of stderr. Before threads start. */
void log_set_fd(int fd);

/*
 * While a terminal is in raw mode a bare "\n" does not return the carriage: the console tells
 * the log so with log_set_raw(true).
 */
void log_set_raw(bool raw);

void log_line(enum log_level level, const char *room, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* State of one guest-reachable log site: at most 5 lines in 10 s, then silence, then a count. */
struct log_limit {
	_Atomic int64_t window_start_ns;
	_Atomic uint32_t in_window, dropped;
};
bool log_limit_pass(struct log_limit *l);
/* Whether such lines are shown (default: yes). Any thread. */
void log_set_guest(bool on);

/* A warning that the guest can cause. `room` and `fmt` are string literals. */
#define log_guest(room, ...)                                                                                           \
	do {                                                                                                           \
		static struct log_limit limit_;                                                                        \
		if (log_limit_pass(&limit_))                                                                           \
			log_line(LOG_WARN, room, __VA_ARGS__);                                                         \
	} while (0)

#endif
