/* The files of a disk as a loss of power may leave them. */
#ifndef VIREO_TESTS_BLOCK_SHOT_H
#define VIREO_TESTS_BLOCK_SHOT_H

#include "pick.h"

#define IMAGE (24u << 20) /* more than any file here has */

struct shot {
	uint8_t *bytes[PICK_FILES];
	uint64_t used[PICK_FILES]; /* the rest of IMAGE bytes is zero */
};

void shot_new(struct shot *s);
void shot_free(struct shot *s);
void shot_copy(struct shot *to, const struct shot *from);
/* From the files, and into them. */
void shot_take(struct shot *s, const int fds[PICK_FILES]);
void shot_put(const struct shot *s, const int fds[PICK_FILES]);
/* A part of what one change does. */
void shot_apply(struct shot *to, const struct change *c, uint64_t from, uint64_t bytes);

/* Which changes of each file are on stable storage once those up to `end` have been made; it is known up to `from`. */
void history_durable(const struct history *h, uint64_t from, uint64_t end, uint64_t durable[PICK_FILES]);
/* Of the changes up to `end` that are not `durable` any part happens to `out`, which has the others. */
void shot_lose(struct shot *out, const struct history *h, const uint64_t durable[PICK_FILES], uint64_t end);

#endif
