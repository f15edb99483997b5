/*
 * The smallest virtio device, for tests of the core and the transports: it counts what it is asked for and gives
 * every chain back.
 */
#ifndef VIREO_TESTS_VIRTIO_TOY_H
#define VIREO_TESTS_VIRTIO_TOY_H

#include "mem/mem.h"
#include "virtio/virtio.h"

#define TOY_QUEUES     3
#define TOY_QUEUE_SIZE 64
#define TOY_FEATURE    3 /* offered */
#define TOY_DEPENDENT  5 /* offered; needs TOY_FEATURE */
#define TOY_CONFIG     20

struct toy {
	struct virtio_dev d;
	uint8_t config[TOY_CONFIG];
	unsigned kicks[TOY_QUEUES], activations, resets, drains, resumes, config_reads, destroyed;
	uint32_t written_at, written_len; /* of the last write to the configuration space */
	uint8_t written[8];
	bool *gone; /* set by destroy */
};

/* `gone` may be NULL. */
struct toy *toy_new(struct mem_space *mem, bool *gone);

#endif
