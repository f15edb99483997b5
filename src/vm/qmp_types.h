/* What checks values and what describes types share: the little language of qmp.h. Pure. */
#ifndef VIREO_VM_QMP_TYPES_H
#define VIREO_VM_QMP_TYPES_H

#include <stdbool.h>

#define QMP_NAME 64

struct qmp_member {
	char name[QMP_NAME], type[QMP_NAME]; /* a word of an enumeration has no type */
	bool optional, tag;
};
/* The next of `*at`, which moves on; false: no more. */
bool qmp_next_member(const char **at, struct qmp_member *m);
/* Of a type that is not built in; NULL: there is none of this name. */
const char *qmp_members(const char *type);
/* Whether an enumeration, "=a b", has this word. */
bool qmp_has_word(const char *words, const char *word);

#endif
