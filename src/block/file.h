/*
 * The protocol under the image formats: a regular file or a block device, locked against other
 * users. Private to block/; threads as in block.h.
 */
#ifndef VIREO_BLOCK_FILE_H
#define VIREO_BLOCK_FILE_H

#include <stddef.h>

#include "block/block.h"

struct block_file;

/* Opens, checks and locks; the operations run in `loop`. */
struct block_file *file_open(const struct block_config *c, struct loop *loop, struct err *err);
void file_close(struct block_file *f);

uint64_t file_size(const struct block_file *f);	    /* bytes, as they are */
uint64_t file_modified(const struct block_file *f); /* block_modified() */
bool file_can_discard(const struct block_file *f);
const char *file_aio_name(const struct block_file *f);

/* Read the header before the node runs: bytes read, or -1. Blocks. */
ssize_t file_read_header(struct block_file *f, void *buf, size_t len);

/*
 * Carry out `r`, whose range, direction and state have been checked, on the bytes of the file; reads
 * beyond its end give zeroes. r->from is the buffer list. Ends with block_complete().
 */
void file_submit(struct block_file *f, struct block_req *r);

/* The end of a request, called by the code that carries it out. */
void block_complete(struct block_req *r, int ret);

#endif
