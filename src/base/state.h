/*
 * Saved state as declared tables. Every device lists its saved fields; saving, restoring and
 * printing all walk the tables. The stream is self-describing (names, types, counts) and a
 * reader treats it as hostile: every count is bounded by the table, never by the stream.
 *
 * Stream: a section per object = { name, instance, version, fields { name, type, count,
 * little-endian payload }, subsections }. Sections a reader does not know are an error.
 *
 * The VM must be paused. Not thread-safe; a writer or reader belongs to one thread.
 */
#ifndef VIREO_BASE_STATE_H
#define VIREO_BASE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum state_type { STATE_U8, STATE_U16, STATE_U32, STATE_U64, STATE_BOOL, STATE_STRUCT, STATE_END = 0xff };

struct state_desc;

struct state_field {
	const char *name;
	enum state_type type;
	uint32_t offset;	      /* in the object */
	uint32_t size;		      /* of one element in memory; the stride of arrays */
	uint32_t count;		      /* elements; 1 for a scalar */
	const struct state_desc *sub; /* STATE_STRUCT: the table of one element */
	uint16_t since;		      /* first version of the table that has this field; 0 = always */
	bool ref;		      /* STATE_STRUCT: the object holds a pointer to the element, not the element */
};

struct state_desc {
	const char *name;
	uint16_t version;		  /* written */
	uint16_t min_version;		  /* oldest that can be read; missing fields keep their reset value */
	const struct state_field *fields; /* ends with STATE_FIELD_END */
	/* Bring derived state into the fields before they are written. May be NULL. */
	void (*pre_save)(void *obj);
	/* Check every loaded value and rebuild derived state. May be NULL only if any value is safe. */
	int (*post_load)(void *obj, struct err *err);
	/* Optional parts: written only when needed(obj); NULL-terminated list; same obj. */
	const struct state_desc *const *subsections;
	bool (*needed)(void *obj);
};

#define STATE_SCALAR_(type_, struct_, member_, since_)                                                                 \
	{                                                                                                              \
#member_, type_, offsetof(struct_, member_), sizeof(((struct_ *)0)->member_), 1, NULL, since_          \
	}
#define STATE_U8F(s, m)	  STATE_SCALAR_(STATE_U8, s, m, 0)
#define STATE_U16F(s, m)  STATE_SCALAR_(STATE_U16, s, m, 0)
#define STATE_U32F(s, m)  STATE_SCALAR_(STATE_U32, s, m, 0)
#define STATE_U64F(s, m)  STATE_SCALAR_(STATE_U64, s, m, 0)
#define STATE_BOOLF(s, m) STATE_SCALAR_(STATE_BOOL, s, m, 0)
/* A one-dimensional array (a flat view of the memory for arrays of arrays) of a scalar type. */
#define STATE_ARRAY_(type_, elem_, s, m)                                                                               \
	{                                                                                                              \
#m, type_, offsetof(s, m), sizeof(elem_), sizeof(((s *)0)->m) / sizeof(elem_), NULL, 0                 \
	}
#define STATE_U8A(s, m)	 STATE_ARRAY_(STATE_U8, uint8_t, s, m)
#define STATE_U16A(s, m) STATE_ARRAY_(STATE_U16, uint16_t, s, m)
#define STATE_U32A(s, m) STATE_ARRAY_(STATE_U32, uint32_t, s, m)
#define STATE_U64A(s, m) STATE_ARRAY_(STATE_U64, uint64_t, s, m)
/* An embedded struct, or an array of them, with its own table. */
#define STATE_SUB(s, m, desc_)                                                                                         \
	{                                                                                                              \
#m, STATE_STRUCT, offsetof(s, m), sizeof(((s *)0)->m), 1, desc_, 0                                     \
	}
#define STATE_SUBA(s, m, desc_)                                                                                        \
	{                                                                                                              \
#m, STATE_STRUCT, offsetof(s, m), sizeof(((s *)0)->m[0]),                                              \
			sizeof(((s *)0)->m) / sizeof(((s *)0)->m[0]), desc_, 0                                         \
	}
/* A struct that the object points to; the pointer itself is not state and is never NULL. */
#define STATE_REF(s, m, desc_)                                                                                         \
	{                                                                                                              \
#m, STATE_STRUCT, offsetof(s, m), sizeof(((s *)0)->m), 1, desc_, 0, true                               \
	}
#define STATE_FIELD_END                                                                                                \
	{                                                                                                              \
		NULL, STATE_END, 0, 0, 0, NULL, 0                                                                      \
	}

/* Append the section `desc` of `obj` to `f`. `instance` tells equal devices apart ("0", "00:03.0"). */
int state_save(FILE *f, const struct state_desc *desc, const char *instance, void *obj, struct err *err);

/*
 * Read one section from `f`, which must be `desc` of `instance`, into `obj`. On error `obj` may be
 * half loaded and must not be run; nothing outside of it has changed.
 */
int state_load(FILE *f, const struct state_desc *desc, const char *instance, void *obj, struct err *err);

/* Print a section as text, `path.field = value` a line, for people and for tests. */
void state_print(FILE *out, const struct state_desc *desc, const char *instance, void *obj);

#endif
