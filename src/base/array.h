/*
 * Arrays that grow by one. There is room for twice as many whenever their length is a power of two, so the length is
 * all that is kept of them beside the pointer. Any thread, each array by one at a time.
 */
#ifndef VIREO_BASE_ARRAY_H
#define VIREO_BASE_ARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

static inline bool array_grow(void **v, size_t len, size_t size)
{
	void *more = len & (len - 1) ? *v : realloc(*v, (len ? 2 * len : 1) * size);

	if (more)
		*v = more;
	return more;
}

/* Room for one more behind the `len` entries of the pointer `v`. False: memory is short, and all is as it was. */
#define array_more(v, len) array_grow((void **)&(v), (len), sizeof(*(v)))

#endif
