/*
 * What a virtio transport needs from the core, and the transports themselves.
 *
 * Core functions here run with d->lock held unless they say otherwise.
 */
#ifndef VIREO_VIRTIO_TRANSPORT_H
#define VIREO_VIRTIO_TRANSPORT_H

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/pci.h"
#include "irq/irq.h"
#include "virtio/virtio.h"

/* All bits offered to the driver. */
uint64_t virtio_offered(const struct virtio_dev *d);
/* Driver feature selection: word 0 or 1. Ignored after FEATURES_OK. */
void virtio_set_features(struct virtio_dev *d, unsigned word, uint32_t bits);
/* A write to the status register: 0 resets; FEATURES_OK sticks only for an acceptable set; DRIVER_OK starts rings. */
void virtio_set_status(struct virtio_dev *d, uint8_t status);
/* Reset by the driver, the machine or before destroy: drains, then clears everything but the transport's own. */
void virtio_reset(struct virtio_dev *d);
/* The queue, or NULL when `q` is none of the device's. */
struct virtio_queue *virtio_queue(struct virtio_dev *d, uint32_t q);
/* True while the driver may change that queue: before DRIVER_OK, or after a reset of its own. Logs when not. */
bool virtio_may_configure(struct virtio_dev *d, const struct virtio_queue *vq, const char *what);
/* What the driver has set up begins to run: with DRIVER_OK, or now if that was said already. */
void virtio_queue_enable(struct virtio_dev *d, unsigned q);
/* A reset of one queue, as a driver that has RING_RESET may ask for. */
void virtio_queue_reset(struct virtio_dev *d, unsigned q);
/* Size the driver wants; refused (logged) unless a power of two up to max_size. */
void virtio_queue_set_size(struct virtio_dev *d, unsigned q, uint32_t size);
/* Device-specific configuration; out of range reads give zeroes, writes are dropped. */
void virtio_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len);
void virtio_config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len);

/* A kick, without the lock, any thread. Bad queue numbers and kicks outside of DRIVER_OK are ignored. */
void virtio_kick(struct virtio_dev *d, uint32_t q);

/*
 * A doorbell that kicks queue `q`, anywhere: the transport fills in the place. It has no event unless
 * virtio_watch_bells() was called; that makes events that may count kicks and has the device's loop watch them.
 * Before the device is used; without memory or descriptors there are none.
 */
struct bus_doorbell virtio_bell(struct virtio_dev *d, unsigned q);
void virtio_watch_bells(struct virtio_dev *d);

/*
 * May the device use memory (PCI's bus master bit)? It may until told otherwise. When it no longer may, its requests
 * have ended on return and rings stand still; later the queues are looked at again. Any thread, without the lock.
 */
void virtio_set_bus_master(struct virtio_dev *d, bool on);

/* struct device's drain and resume, without the lock. */
void virtio_drain(struct virtio_dev *d);
void virtio_resume(struct virtio_dev *d);

/*
 * Saved core state. The transport's own table refers to it and to d->state, and calls virtio_loaded()
 * from its post_load: it checks everything and starts the rings; the device is paused until resume.
 */
extern const struct state_desc virtio_core_state;
int virtio_loaded(struct virtio_dev *d, struct err *err);

/* --- transports --- */

struct virtio_pci_config {
	struct bus *bus; /* where the notify doorbells go */
	struct pci_bus *pci;
	int devfn; /* device << 3 | function, or -1: the first free slot */
};

/*
 * A modern virtio-pci function (section 4.1). Ownership of `d` is taken, also on error (it is
 * destroyed). NULL with a line in `err`.
 */
struct device *virtio_pci_new(struct virtio_dev *d, const struct virtio_pci_config *c, struct err *err);

#define VIRTIO_MMIO_SIZE 0x200 /* bytes of a register window; the configuration space starts at 0x100 */

struct virtio_mmio_config {
	struct bus *bus;
	uint64_t base;	     /* of a window of VIRTIO_MMIO_SIZE bytes */
	struct irq_line irq; /* level */
	unsigned index;	     /* instance name in saved states */
};

/* A version 2 virtio-mmio device (section 4.2); as above. */
struct device *virtio_mmio_new(struct virtio_dev *d, const struct virtio_mmio_config *c, struct err *err);

#endif
