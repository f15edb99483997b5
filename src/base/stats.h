/*
 * The statistics registry: named counters of one VM, printed by `--stats` and by the control
 * socket. A counter is a plain atomic owned by the room that counts; the registry only knows its
 * name and address.
 *
 * Registering: before threads start. Counting: any thread, relaxed.
 */
#ifndef VIREO_BASE_STATS_H
#define VIREO_BASE_STATS_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

typedef _Atomic uint64_t stat_t;

static inline void stat_add(stat_t *s, uint64_t n)
{
	/* One writer is the rule: a relaxed load and store is cheaper than a locked add. */
	atomic_store_explicit(s, atomic_load_explicit(s, memory_order_relaxed) + n, memory_order_relaxed);
}

struct stats;
struct stats *stats_new(void);
void stats_free(struct stats *s);

/* `name` ("cpu0.instructions", "disk0.read_bytes") is copied; `counter` must outlive the registry. */
void stats_register(struct stats *s, const char *name, const char *help, stat_t *counter);
/* The same for a value that is worked out when it is asked for, by any thread. */
void stats_register_value(struct stats *s, const char *name, const char *help, uint64_t (*value)(void *opaque),
			  void *opaque);
void stats_print(struct stats *s, FILE *out);
void stats_each(struct stats *s, void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

#endif
