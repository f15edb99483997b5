/*
 * Secrets of a node_ctx: what encrypted images are opened with, under the names that their options give
 * (`key-secret=ID`). The thread of the context.
 */
#ifndef VIREO_BLOCK_SECRET_H
#define VIREO_BLOCK_SECRET_H

#include <stddef.h>

#include "block/node.h"

/* From QEMU's options of an object: qom-type=secret,id=ID,data=TEXT|file=PATH[,format=raw|base64][,keyid=ID,iv=BASE64].
 */
int secret_add(struct node_ctx *c, struct opts *o, struct err *err);
/* Borrowed; NULL with an error when there is none of that name. */
const void *secret_get(const struct node_ctx *c, const char *id, size_t *len, struct err *err);
/* Wipe and forget all. */
void secrets_free(struct node_ctx *c);

#endif
