/*
 * The virtio device model, device side (virtio 1.2 section 2). A device fills a struct virtio_dev and
 * an ops table; a transport (virtio-pci, virtio-mmio, transport.h) takes ownership of it and shows it
 * to the guest. A device never knows its transport; a transport never knows the device's meaning.
 *
 * Life: virtio_init -> [ features agreed -> activate -> kicks ... -> reset ]* -> destroy
 * with drain/resume anywhere in between. Configuration (features, queue sizes and addresses) is
 * frozen from DRIVER_OK to reset.
 *
 * Threads and locks: d->lock is the device's mutex: the transport's registers, the configuration
 * space, activate and reset run under it. Rings have their own locks, below it in order. virtio_pop,
 * virtio_done, virtio_publish and virtio_fail take no device lock and may be called
 * from any thread, also with it held.
 */
#ifndef VIREO_VIRTIO_VIRTIO_H
#define VIREO_VIRTIO_VIRTIO_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/event.h"
#include "base/loop.h"
#include "base/state.h"
#include "mem/mem.h"
#include "vring/vring.h"

/* Device ids, virtio 1.2 section 5 */
enum virtio_id {
	VIRTIO_ID_NET = 1,
	VIRTIO_ID_BLOCK = 2,
	VIRTIO_ID_CONSOLE = 3,
	VIRTIO_ID_RNG = 4,
	VIRTIO_ID_BALLOON = 5
};

/* Feature bits that are not a device's own (section 6). The core adds these itself. */
#define VIRTIO_F_INDIRECT_DESC 28
#define VIRTIO_F_EVENT_IDX     29
#define VIRTIO_F_VERSION_1     32
#define VIRTIO_F_RING_PACKED   34
#define VIRTIO_F_RING_RESET    40

/* Device status, section 2.1 */
#define VIRTIO_S_ACKNOWLEDGE 1u
#define VIRTIO_S_DRIVER	     2u
#define VIRTIO_S_DRIVER_OK   4u
#define VIRTIO_S_FEATURES_OK 8u
#define VIRTIO_S_NEEDS_RESET 64u
#define VIRTIO_S_FAILED	     128u

#define VIRTIO_MAX_QUEUES 63 /* one MSI-X vector each, and one for configuration changes */
#define VIRTIO_NO_VECTOR  0xffff

struct virtio_dev;

struct virtio_ops {
	/*
	 * DRIVER_OK was set (or a saved state was loaded and resumes): rings of enabled queues run,
	 * virtio_has_feature() answers. Lock held. May be NULL.
	 */
	void (*activate)(struct virtio_dev *d);
	/*
	 * The driver kicked queue `q`. A vCPU thread or the loop's, without the lock; may run at the same time as
	 * reset() and after it, so it only signals the device's own thread or pops (a stopped ring is
	 * empty). Set either kick or process.
	 */
	void (*kick)(struct virtio_dev *d, unsigned q);
	/* The same for simple devices: called in d->loop's thread with the lock held. */
	void (*process)(struct virtio_dev *d, unsigned q);
	/*
	 * Back to the state after virtio_init. Lock held. Rings are stopped already: pop is empty and
	 * completions are dropped. When this returns no chain may be out and nothing of the device may
	 * touch guest memory any more: cancel requests and wait for the others. A thread that this
	 * waits for must not need the lock. May be NULL if chains are never held across calls.
	 */
	void (*reset)(struct virtio_dev *d);
	/*
	 * Queue `q` alone is reset (2.6.1): its ring is stopped already, and no chain of it may be out on return. Lock
	 * held. NULL: the device cannot do that, and does not offer it.
	 */
	void (*reset_queue)(struct virtio_dev *d, unsigned q);
	/*
	 * drain: finish all requests that are out and start none (virtio_pop gives NULL already, until
	 * resume). resume: go on; afterwards the core kicks every queue. Called without the lock, in any
	 * thread but the device's own. May be NULL.
	 */
	void (*drain)(struct virtio_dev *d);
	void (*resume)(struct virtio_dev *d);
	/* The guest is about to read the configuration space: refresh d->config. Lock held. May be NULL. */
	void (*config_read)(struct virtio_dev *d);
	/*
	 * The guest wrote `len` (1, 2, 4, 8) bytes at `off`, inside config_size; the new bytes are little-endian in
	 * `buf`, d->config is unchanged. Lock held. NULL: writes are ignored.
	 */
	void (*config_write)(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len);
	/* Free the device (d is part of it). vCPUs have ended, reset has been called. */
	void (*destroy)(struct virtio_dev *d);
};

/* A feature that makes no sense without another one: the "requires" of sections 5.x.3.1. */
struct virtio_need {
	uint8_t bit, needs;
};

struct virtio_queue {
	uint16_t max_size; /* the device's offer: a power of two, at most VRING_MAX_SIZE */
	/* what the driver set up; the transport's registers write these */
	uint16_t size;
	bool enabled;
	uint16_t vector; /* transport's: MSI-X vector */
	uint64_t desc, driver, device;
	/* run time */
	struct virtio_dev *d;
	struct vring *ring;
	struct event bell; /* counts the driver's kicks, if open: see virtio_watch_bells() */
	struct loop_fd *bell_watch;
	struct vring_setup saved; /* filled only around saving and loading */
	bool saved_running;
};

/* How the core tells the driver something; provided by the transport. Any thread, no device lock taken. */
struct virtio_transport_ops {
	void (*queue_interrupt)(void *transport, unsigned q);
	void (*config_interrupt)(void *transport);
};

struct virtio_dev {
	/* --- filled by the device before a transport takes it --- */
	const char *name; /* "virtio-blk"; constant */
	uint16_t id;	  /* enum virtio_id */
	const struct virtio_ops *ops;
	void *self;			/* the device's own struct: object of `state` */
	const struct state_desc *state; /* its own fields (may be empty); NULL: cannot be saved */
	struct mem_space *mem;
	/* Of its thread: where ops->process is called, and ops->kick for kicks by eventfd. Needed by ops->process. */
	struct loop *loop;
	uint64_t offered;  /* device-specific feature bits offered; ring and VERSION_1 bits are added by the core */
	uint64_t withheld; /* bits that are not offered all the same */
	const struct virtio_need *needs; /* of feature bits; ends with { 0, 0 }; NULL: none */
	uint8_t *config;		 /* device-specific configuration space, little-endian; owned by the device */
	uint32_t config_size;
	unsigned n_queues;
	struct virtio_queue queues[VIRTIO_MAX_QUEUES]; /* max_size of the first n_queues */
	uint32_t pci_class;			       /* class code << 8 | revision 0, 0 = "unassigned" 0xff0000 */

	/* --- the core's --- */
	pthread_mutex_t lock;
	uint64_t features; /* accepted by the driver; valid from FEATURES_OK */
	_Atomic uint8_t status;
	_Atomic uint32_t config_generation;
	atomic_bool paused;
	atomic_bool no_memory; /* the bus does not let the device reach it */
	atomic_bool active;    /* ops->activate was called and no reset since */
	const struct virtio_transport_ops *transport_ops;
	void *transport;
	/* deferred kicks for ops->process */
	int kick_fd;
	struct loop_fd *kick_watch;
	_Atomic uint64_t kicked;
};

/*
 * Check what the device filled in, make the rings, the lock and the kick channel. d->mem, d->ops,
 * n_queues and max_size must be set. On error nothing is left to undo but the device's own memory.
 * Loop thread (or before it runs).
 */
int virtio_init(struct virtio_dev *d, struct err *err);
/* The reverse of virtio_init; called from the device's destroy. Loop thread. All chains completed. */
void virtio_fini(struct virtio_dev *d);

/*
 * End what a transport may have begun: no kicks come by eventfds any more. d->loop's thread. virtio_fini() does it for
 * devices whose loop is the one that it is called in.
 */
void virtio_unwatch_bells(struct virtio_dev *d);

/* True when the driver accepted feature `bit`. */
static inline bool virtio_has_feature(const struct virtio_dev *d, unsigned bit)
{
	return d->features >> bit & 1;
}

/*
 * The next request of queue `q`, or NULL: nothing there, ring stopped, drained, or the driver lied (the
 * device is then in NEEDS_RESET and the lie is logged once). A device loops until NULL.
 */
struct vring_chain *virtio_pop(struct virtio_dev *d, unsigned q);
/* vring_complete() plus the interrupt if the driver wants one. */
void virtio_done(struct virtio_dev *d, unsigned q, struct vring_chain *c, uint32_t written);
/* vring_publish() plus the interrupt if wanted: after vring_push() of one or more chains. */
void virtio_publish(struct virtio_dev *d, unsigned q);
/* The configuration space changed: bump the generation and interrupt. After the change of d->config, lock held. */
void virtio_config_changed(struct virtio_dev *d);
/*
 * The driver broke a rule of this device (a request that makes no sense and cannot be answered with an error):
 * NEEDS_RESET, a configuration interrupt and a log line. No further chains come until reset. Constant text.
 */
void virtio_fail(struct virtio_dev *d, const char *why);
/* DRIVER_OK, not paused, not failed, allowed to use memory: pops may give chains. */
bool virtio_running(const struct virtio_dev *d);
/* Ask for ops->process(d, q) in the loop thread soon, as a kick would. Any thread. Needs ops->process. */
void virtio_defer(struct virtio_dev *d, unsigned q);

#endif
