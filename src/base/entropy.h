/*
 * Random numbers that a guest sees: RDRAND, virtio-rng, identifiers. The one place where they enter a VM, so that
 * they can be logged and replayed. Any thread.
 */
#ifndef VIREO_BASE_ENTROPY_H
#define VIREO_BASE_ENTROPY_H

#include <stdbool.h>
#include <stddef.h>

/* Fill `buf` from the host's getrandom(2). False if the host has none to give now. */
bool entropy_get(void *buf, size_t len);

#endif
