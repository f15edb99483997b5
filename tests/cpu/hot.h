/*
 * What the tests of the processor set for a translator: nothing is too cold to be translated, flags are right in every
 * frame, and its cache is as large as VIREO_TEST_JIT_CACHE says, if that is set. Engines that know no such keys leave
 * them alone. Any thread.
 */
#ifndef VIREO_TESTS_CPU_HOT_H
#define VIREO_TESTS_CPU_HOT_H

#include <stdlib.h>

#include "base/config.h"

/* `config` may be NULL: a new one. */
static inline struct config *all_hot(struct config *config)
{
	const char *cache = getenv("VIREO_TEST_JIT_CACHE");
	struct err err;

	if (!config)
		config = config_new();
	if (!config || config_set(config, "jit.heat", "0", &err) || config_set(config, "jit.strict", "on", &err) ||
	    (cache && config_set(config, "jit.cache", cache, &err)))
		abort();
	return config;
}

#endif
