/*
 * What the tests of the processor set for a translator, unless they chose themselves: nothing is too cold to be
 * translated, flags are right in every frame. If they are set, VIREO_TEST_JIT_CACHE says how large its cache is and
 * VIREO_TEST_JIT_COUNT what it counts. Engines that know no such keys leave them alone. Any thread.
 */
#ifndef VIREO_TESTS_CPU_HOT_H
#define VIREO_TESTS_CPU_HOT_H

#include <stdlib.h>

#include "base/config.h"

/* `config` may be NULL: a new one. */
static inline struct config *all_hot(struct config *config)
{
	const char *cache = getenv("VIREO_TEST_JIT_CACHE"), *count = getenv("VIREO_TEST_JIT_COUNT");
	struct err err;

	if (!config)
		config = config_new();
	if (!config || (!config_peek(config, "jit.heat") && config_set(config, "jit.heat", "0", &err)) ||
	    (!config_peek(config, "jit.strict") && config_set(config, "jit.strict", "on", &err)) ||
	    (cache && config_set(config, "jit.cache", cache, &err)) ||
	    (count && config_set(config, "jit.count", count, &err)))
		abort();
	return config;
}

#endif
