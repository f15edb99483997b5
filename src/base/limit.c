/* See limit.h. */
#include "base/limit.h"

#include <stdio.h>
#include <unistd.h>

void limit_set(int resource, rlim_t value)
{
	const struct rlimit r = { value, value };

	setrlimit(resource, &r);
}

/* The bytes that this process may write to, as the limit counts them. */
static uint64_t data_size(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f && fscanf(f, "%*u %*u %*u %*u %*u %llu", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void limit_memory(uint64_t more)
{
	uint64_t data = data_size();

	if (data)
		limit_set(RLIMIT_DATA, data + more);
}
