/*
 * What every emulated device gives to the machine that holds it, whatever the bus.
 * A device's constructor fills one of these in its own struct; the machine keeps the list.
 */
#ifndef VIREO_BUS_DEVICE_H
#define VIREO_BUS_DEVICE_H

#include <pthread.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/state.h"

struct device {
	const char *name;		/* "uart16550", "virtio-blk"; constant */
	char instance[16];		/* tells equal devices apart: "0", "00:03.0" */
	void *self;			/* passed to the functions and as the object of `state` */
	const struct state_desc *state; /* NULL: cannot be saved, and saving the VM is refused */
	pthread_mutex_t *lock;		/* taken by the bus around register access */

	/* Power-on state. Called with the lock held, vCPUs stopped. May be NULL. */
	void (*reset)(void *self);
	/* Before a save, pause or reset: finish what is in flight and start nothing new until resume. May be NULL. */
	void (*drain)(void *self);
	void (*resume)(void *self);
	/* Free everything, self too. vCPUs have ended. */
	void (*destroy)(void *self);

	struct device *next; /* owned by the machine */
};

/* Bring each device of the list to its power-on state, under its lock. vCPUs are stopped, devices drained. */
void devices_reset(struct device *first);

#endif
