/* See device.h. */
#include "bus/device.h"

void devices_reset(struct device *first)
{
	for (struct device *d = first; d; d = d->next) {
		if (!d->reset)
			continue;
		if (d->lock)
			pthread_mutex_lock(d->lock);
		d->reset(d->self);
		if (d->lock)
			pthread_mutex_unlock(d->lock);
	}
}
