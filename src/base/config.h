/*
 * The configuration tree: dotted keys with text values ("disk0.path", "cpu.model"). The command
 * line, a config file and the control socket write into it; the reader of a key parses it, and an
 * error names the key, the value and what is allowed. A key that nobody read is an error too.
 *
 * Not thread-safe: filled and read before threads start.
 */
#ifndef VIREO_BASE_CONFIG_H
#define VIREO_BASE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct config;

struct config *config_new(void);
void config_free(struct config *c);

/* Keys are [a-z0-9_-]+ joined by dots. A later value replaces an earlier one. */
int config_set(struct config *c, const char *key, const char *value, struct err *err);

/* The same; `origin` (copied; NULL: none) is where the user wrote it, for config_tell_origin(). */
int config_set_from(struct config *c, const char *key, const char *value, const char *origin, struct err *err);

/* What the reader of a key chose where the user had not, so that a saved machine has it again. Counts as read. */
int config_choose(struct config *c, const char *key, const char *value, struct err *err);

/* Borrowed until the next set of that key; NULL if absent. Marks the key as read. */
const char *config_get(struct config *c, const char *key);

/* The same without marking it. */
const char *config_peek(const struct config *c, const char *key);

/* Typed readers: the default when absent, -1 and one clear line when the text does not fit. */
int config_str(struct config *c, const char *key, const char *dflt, const char **out, struct err *err);
int config_bool(struct config *c, const char *key, bool dflt, bool *out, struct err *err); /* a word of parse_bool() */
struct config_range {
	uint64_t min, max; /* inclusive */
};
int config_uint(struct config *c, const char *key, uint64_t dflt, struct config_range range, uint64_t *out,
		struct err *err);
/* Bytes as people write them: 512M, 2G, 1536MiB, 4096k; a bare number counts in `unit` bytes. */
int config_size(struct config *c, const char *key, uint64_t dflt, uint64_t unit, uint64_t *out, struct err *err);
/* One of a NULL-terminated list of words; the index goes to `out`. */
int config_choice(struct config *c, const char *key, int dflt, const char *const *words, int *out, struct err *err);

/* 1 of on, yes, true and y, 0 of off, no, false and n (QEMU's words), -1 of any other. */
int parse_bool(const char *text);

/* Parse "512M" and friends. -1 if it is not a size. */
int parse_size(const char *text, uint64_t unit, uint64_t *out);

/* True when any key starts with `prefix` and a dot. */
bool config_has(struct config *c, const char *prefix);

/* Read `key = value` lines, comments that begin with `#` or `;`, and [section] headers, which prefix the keys below. */
int config_read_file(struct config *c, const char *path, struct err *err);

/* Make `to` hold what `from` holds, and nothing else. Who has read a key of it before has read it. */
int config_copy(struct config *to, const struct config *from, struct err *err);

/*
 * For an error of any reader: if it begins with a key ("memory: ...") that came from a file, put the file and the line
 * before it, or what else its origin is. Of a key that is not there it is that of the first one below the same name.
 */
void config_tell_origin(const struct config *c, struct err *err);

/* Call `fn` for each key in order; stops at the first non-zero result and returns it. */
int config_each(const struct config *c, int (*fn)(void *opaque, const char *key, const char *value), void *opaque);

/* An error that names the first key that was never read, with the nearest known key if close. */
int config_check_unused(struct config *c, struct err *err);

#endif
