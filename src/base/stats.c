/* The statistics registry: a growing array of names and addresses. */
#include "base/stats.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	char *name;
	const char *help;
	stat_t *counter; /* or: */
	uint64_t (*value)(void *opaque);
	void *opaque;
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

static void add(struct stats *s, const char *name, struct entry e)
{
	struct entry *grown = realloc(s->entries, (s->count + 1) * sizeof(*grown));

	e.name = strdup(name);

	/* A counter that cannot be listed still counts. */
	if (grown)
		s->entries = grown;
	if (!grown || !e.name) {
		free(e.name);
		return;
	}
	s->entries[s->count++] = e;
}

void stats_register(struct stats *s, const char *name, const char *help, stat_t *counter)
{
	add(s, name, (struct entry){ .help = help, .counter = counter });
}

void stats_register_value(struct stats *s, const char *name, const char *help, uint64_t (*value)(void *opaque),
			  void *opaque)
{
	add(s, name, (struct entry){ .help = help, .value = value, .opaque = opaque });
}

static uint64_t value_of(const struct entry *e)
{
	return e->value ? e->value(e->opaque) : atomic_load_explicit(e->counter, memory_order_relaxed);
}

void stats_each(struct stats *s, void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque)
{
	for (size_t i = 0; i < s->count; i++)
		fn(opaque, s->entries[i].name, value_of(&s->entries[i]));
}

void stats_print(struct stats *s, FILE *out)
{
	for (size_t i = 0; i < s->count; i++)
		fprintf(out, "%-28s %16" PRIu64 "  %s\n", s->entries[i].name, value_of(&s->entries[i]),
			s->entries[i].help);
}
