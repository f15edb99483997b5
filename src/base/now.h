/* The time since some moment in the past that nobody can set (CLOCK_MONOTONIC). Any thread. */
#ifndef VIREO_BASE_NOW_H
#define VIREO_BASE_NOW_H

#include <stdint.h>
#include <time.h>

static inline int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static inline int64_t now_ms(void)
{
	return now_ns() / 1000000;
}

#endif
