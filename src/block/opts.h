/*
 * The options of a node: an ordered list of dotted keys with text values ("driver", "file.filename"), as they come from
 * the command line, from `json:` names and from backing files. Whoever opens a node takes the keys that it knows; one
 * that nobody took is an error. Private to block/ and its tools; one thread at a time.
 */
#ifndef VIREO_BLOCK_OPTS_H
#define VIREO_BLOCK_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct opts;

struct opts *opts_new(void);
struct opts *opts_copy(const struct opts *o);
void opts_free(struct opts *o); /* NULL is fine */

/* A later value replaces an earlier one. */
void opts_set(struct opts *o, const char *key, const char *value);
void opts_setf(struct opts *o, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* NULL when absent. Borrowed until the key is set again. */
const char *opts_get(const struct opts *o, const char *key);
/* The same, and the key is known now. */
const char *opts_take(struct opts *o, const char *key);
/* True when there is a key of this name or one that begins with it and a dot. */
bool opts_has(const struct opts *o, const char *prefix);
/* What begins with "PREFIX.", without it, in a list of its own; known now. */
struct opts *opts_take_sub(struct opts *o, const char *prefix);
/* The first key that nobody took, or NULL. */
const char *opts_unknown(const struct opts *o);
/* Put "PREFIX.KEY" for each key of `from`. */
void opts_put_sub(struct opts *o, const char *prefix, const struct opts *from);
/* The n-th key and its value; false behind the last. */
bool opts_at(const struct opts *o, unsigned n, const char **key, const char **value);

/* Typed takers: the default when absent; -1 with QEMU's words when the text does not fit. */
int opts_bool(struct opts *o, const char *key, bool dflt, bool *out, struct err *err);
int opts_size(struct opts *o, const char *key, uint64_t dflt, uint64_t *out, struct err *err);
int opts_number(struct opts *o, const char *key, uint64_t dflt, uint64_t *out, struct err *err);

/* "k=v,k2=v2" with ",," for a comma in a value; a leading word without "=" gets `first` as its key, if not NULL. */
int opts_parse(struct opts *o, const char *text, const char *first, struct err *err);
/* The object of a `json:` name, flattened: members of objects by dots, elements of arrays by their index. */
int opts_parse_json(struct opts *o, const char *text, struct err *err);

/* A size as people write it: 64k, 1.5G, 0x1000, and a bare number of bytes. -1: no size; -2: too large. */
int opts_parse_size(const char *text, uint64_t *out);

#endif
