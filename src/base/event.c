/* Counters that wake: see event.h. */
#include "base/event.h"

#include <sys/eventfd.h>
#include <unistd.h>

bool event_open(struct event *e)
{
	e->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->open = e->fd >= 0;
	return e->open;
}

void event_close(struct event *e)
{
	if (e->open)
		close(e->fd);
	e->open = false;
}

void event_add(const struct event *e)
{
	eventfd_write(e->fd, 1);
}

uint64_t event_take(const struct event *e)
{
	eventfd_t count;

	return eventfd_read(e->fd, &count) ? 0 : count;
}
