/*
 * JSON values one after the other from a stream of bytes, as QEMU's control socket takes them: with or without anything
 * between them, strings in double or single quotes, and after what is no JSON again from the next control character,
 * quote or bracket. Errors have QEMU's wording.
 *
 * A value is bounded in bytes and in depth. The thread of its owner.
 */
#ifndef VIREO_BASE_JSONSTREAM_H
#define VIREO_BASE_JSONSTREAM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define JSONSTREAM_BYTES (1u << 20)
#define JSONSTREAM_DEPTH 1024

struct jsonstream {
	/* A value, which is the callee's, or NULL and what is wrong. */
	void (*value)(void *opaque, json_t *value, const char *error);
	void *opaque;

	/* private */
	char *text; /* since the last value */
	size_t len, size;
	size_t token; /* where the last token begins in there */
	int state, braces, brackets;
	bool skipping; /* more than is taken: to the end of a value, or what looks like one */
};

void jsonstream_init(struct jsonstream *s, void (*value)(void *opaque, json_t *value, const char *error), void *opaque);
void jsonstream_fini(struct jsonstream *s);
/* May call value(), twice where a byte ends a number and is a value of its own. */
void jsonstream_byte(struct jsonstream *s, char b);

#endif
