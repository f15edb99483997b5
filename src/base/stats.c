/* The statistics registry: a growing array of names and addresses. */
#include "base/stats.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	char *name;
	const char *help;
	stat_t *counter;
};

struct stats {
	struct entry *entries;
	size_t count;
};

struct stats *stats_new(void)
{
	return calloc(1, sizeof(struct stats));
}

void stats_free(struct stats *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++)
		free(s->entries[i].name);
	free(s->entries);
	free(s);
}

void stats_register(struct stats *s, const char *name, const char *help, stat_t *counter)
{
	struct entry *grown = realloc(s->entries, (s->count + 1) * sizeof(*grown));
	char *copy = strdup(name);

	/* A counter that cannot be listed still counts. */
	if (grown)
		s->entries = grown;
	if (!grown || !copy) {
		free(copy);
		return;
	}
	s->entries[s->count++] = (struct entry){ copy, help, counter };
}

void stats_each(struct stats *s, void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque)
{
	for (size_t i = 0; i < s->count; i++)
		fn(opaque, s->entries[i].name, atomic_load_explicit(s->entries[i].counter, memory_order_relaxed));
}

void stats_print(struct stats *s, FILE *out)
{
	for (size_t i = 0; i < s->count; i++)
		fprintf(out, "%-28s %16" PRIu64 "  %s\n", s->entries[i].name,
			atomic_load_explicit(s->entries[i].counter, memory_order_relaxed), s->entries[i].help);
}
