/*
 * A doorbell: a write by a guest that only says "look here", to exactly `addr`, of any value and size if `any`, else of
 * `value` in `size` bytes. The bus matches it, or an engine that can tell by itself.
 */
#ifndef VIREO_BASE_DOORBELL_H
#define VIREO_BASE_DOORBELL_H

#include "base/event.h"

struct doorbell {
	bool port; /* else device memory */
	uint64_t addr;
	unsigned size;
	bool any;
	uint64_t value;
	/* May count the writes instead, while the doorbell is there; whoever takes from it looks. NULL: none. */
	const struct event *event;
};

#endif
