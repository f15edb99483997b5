/* Memory on huge pages: see huge.h. */
#include "base/huge.h"

#include <sys/mman.h>

#include "base/bytes.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

void *huge_reserve(size_t bytes)
{
	size_t more = bytes >= HUGE_PAGE ? HUGE_PAGE : 0, before;
	char *area = mmap(NULL, bytes + more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		return NULL;
	if (!more)
		return area;
	before = align_up((uintptr_t)area, HUGE_PAGE) - (uintptr_t)area;
	if (before)
		munmap(area, before);
	munmap(area + before + bytes, more - before);
	return area + before;
}

void *huge_alloc(size_t bytes)
{
	void *p;

	bytes = align_up(bytes, HUGE_PAGE);
	p = huge_reserve(bytes);
	if (!p)
		return NULL;
	if (mprotect(p, bytes, PROT_READ | PROT_WRITE)) {
		munmap(p, bytes);
		return NULL;
	}
	return p;
}

void huge_free(void *p, size_t bytes)
{
	if (p)
		munmap(p, align_up(bytes, HUGE_PAGE));
}

void huge_advise(void *p, size_t bytes)
{
	madvise(p, align_up(bytes, HUGE_PAGE), MADV_HUGEPAGE);
}

void huge_collapse(void *at, size_t bytes)
{
	madvise(at, bytes, MADV_COLLAPSE);
}
