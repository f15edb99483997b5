/*
 * An eventfd: a counter that some add to (a thread, KVM) and that wakes who looks at it. Zeroed it is closed. Opening
 * and closing: its owner; the rest: any thread.
 */
#ifndef VIREO_BASE_EVENT_H
#define VIREO_BASE_EVENT_H

#include <stdbool.h>
#include <stdint.h>

struct event {
	bool open;
	int fd; /* if open */
};

/* False with errno set. */
bool event_open(struct event *e);
void event_close(struct event *e);
void event_add(const struct event *e);
/* What was added since the last time. */
uint64_t event_take(const struct event *e);

#endif
