/*
 * Files that a tool is making say so in an extended attribute until they are complete, so that what is left of one
 * whose tool was killed is not taken for the whole. Where a file system has no such attributes nothing is said. The
 * thread of the context.
 */
#ifndef VIREO_BLOCK_INCOMPLETE_H
#define VIREO_BLOCK_INCOMPLETE_H

#include "block/node.h"

#define INCOMPLETE_ATTRIBUTE "user.vireo.incomplete"

/* Files that are created in `c` are incomplete from now on. `by`: the command, borrowed. */
void incomplete_begin(struct node_ctx *c, const char *by);
/* So is this one, if begun; it is open as `fd`. */
void incomplete_mark(struct node_ctx *c, int fd, const char *path);
/* All of them are complete, or have been given up with an error. */
void incomplete_end(struct node_ctx *c);
/* What is opened now may be incomplete: it will be written over. */
void incomplete_allow(struct node_ctx *c, bool on);
/* An error when `fd` is incomplete, and not of `c`. */
int incomplete_check(const struct node_ctx *c, int fd, struct err *err);

#endif
