/*
 * What a process that deals with strangers may have at most (setrlimit(2)). For that process itself, soft and hard at
 * once, so that there is no way back. Any thread.
 */
#ifndef VIREO_BASE_LIMIT_H
#define VIREO_BASE_LIMIT_H

#include <stdint.h>
#include <sys/resource.h>

void limit_set(int resource, rlim_t value);
/* `more` bytes than it may write to now; without /proc there is no limit. */
void limit_memory(uint64_t more);

#endif
