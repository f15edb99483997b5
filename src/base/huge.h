/*
 * Memory on huge pages, where the host has them: tables that are looked at everywhere all the time. Advice only:
 * without them it is the same memory and slower. Any thread.
 */
#ifndef VIREO_BASE_HUGE_H
#define VIREO_BASE_HUGE_H

#include <stddef.h>

#define HUGE_PAGE ((size_t)2 << 20)

/*
 * `bytes` (a multiple of the page size) of address space without memory, from a boundary of huge pages on unless less
 * than one is wanted; for mmap() with MAP_FIXED. Given back by munmap(). NULL, and errno.
 */
void *huge_reserve(size_t bytes);
/* Memory, all 0, of any size, that may be on huge pages. NULL: there is none. */
void *huge_alloc(size_t bytes);
void huge_free(void *p, size_t bytes);
/* From now on it shall be: what is touched costs whole huge pages. */
void huge_advise(void *p, size_t bytes);
/* Make these bytes, which are part of a shared mapping, one run of huge pages now. Linux 6.1 and later. */
void huge_collapse(void *at, size_t bytes);

#endif
