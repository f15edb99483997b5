/*
 * A test rig that plays driver and transport for one virtio device: guest memory, split or packed rings
 * that are written by hand, and counted interrupts. One thread, which also runs the device's loop.
 */
#ifndef VIREO_TESTS_VIRTIO_RIG_H
#define VIREO_TESTS_VIRTIO_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "mem/mem.h"
#include "virtio/virtio.h"

#define RIG_QUEUES   8
#define RIG_RAM	     (16u << 20)
#define RIG_RING_MAX 256

struct rig_queue {
	uint16_t size;
	uint64_t desc, driver, device;
	uint16_t avail, used; /* split: counters; packed: slots */
	bool avail_wrap, used_wrap;
	uint16_t free_id;
	uint16_t slots[RIG_RING_MAX]; /* packed: of the chain with that id */
};

struct rig {
	struct mem_space *mem;
	struct loop *loop;
	struct virtio_dev *d;
	bool packed;
	uint64_t next; /* guest memory that is free */
	struct rig_queue q[RIG_QUEUES];
	_Atomic unsigned queue_irqs[RIG_QUEUES], config_irqs;
};

struct rig_seg {
	uint64_t addr;
	uint32_t len;
	bool write;
};

void rig_init(struct rig *r, bool packed);
/* Take the device as a transport would. */
void rig_attach(struct rig *r, struct virtio_dev *d);
/* The driver's start: features (RING bits are added), rings, DRIVER_OK. */
void rig_start(struct rig *r, uint64_t features);
/* After a reset of this queue alone: rings of its own again. */
void rig_restart_queue(struct rig *r, unsigned q);
void rig_reset(struct rig *r);
/* Destroys the device too. */
void rig_fini(struct rig *r);

/* Guest memory: `len` bytes, filled from `data` unless NULL. */
uint64_t rig_alloc(struct rig *r, const void *data, uint32_t len);
void rig_get(struct rig *r, uint64_t addr, void *buf, uint32_t len);

/* Make a chain available; its id comes back from rig_wait(). */
uint16_t rig_add(struct rig *r, unsigned q, const struct rig_seg *segs, unsigned n);
void rig_kick(struct rig *r, unsigned q);
/* Next used entry. rig_poll: false when there is none; rig_wait: fails the test after some seconds. */
bool rig_poll(struct rig *r, unsigned q, uint16_t *id, uint32_t *len);
uint32_t rig_wait(struct rig *r, unsigned q);
/* Run the loop until it has nothing more to do at once. */
void rig_run(struct rig *r);
/* The same, and what that has led to. */
void rig_settle(struct rig *r);
/* Run the loop until fn(opaque); fails the test after some seconds. */
void rig_until(struct rig *r, bool (*fn)(void *opaque), void *opaque);
bool rig_needs_reset(struct rig *r);

#endif
