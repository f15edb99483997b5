/*
 * A saved state in memory, to be taken apart: the places of its fields, found by what the stream says of itself.
 * Aborts when the stream is not as docs/state.md describes it.
 */
#ifndef VIREO_TESTS_VM_STREAM_H
#define VIREO_TESTS_VM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct field {
	char section[64], instance[64], name[64]; /* nested fields are named "outer.inner" */
	uint8_t type;				  /* enum state_type */
	uint32_t index, count;			  /* of an array */
	size_t at;				  /* of the value */
	uint8_t size;				  /* bytes of the value */
};

struct stream {
	uint8_t *data;
	size_t len;
	size_t config, config_len;   /* text */
	size_t model, ram, sections; /* where they begin */
	struct field *fields;
	size_t field_count;
};

void stream_read(struct stream *s, const char *path);
/* From bytes that are copied; the fields are found. False if it is no good stream. */
void stream_parse(struct stream *s, const void *data, size_t len);
/* Make the checksums right. */
void stream_seal(struct stream *s);
void stream_write(const struct stream *s, const char *path);
void stream_free(struct stream *s);

uint64_t stream_get(const struct stream *s, const struct field *f);
void stream_put(struct stream *s, const struct field *f, uint64_t v);
/* The first of that name, NULL if there is none. */
const struct field *stream_find(const struct stream *s, const char *section, const char *name);

#endif
