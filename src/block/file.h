/*
 * What the two files of the protocol nodes `file` and `host_device` share. Private to them; threads as in node.h.
 */
#ifndef VIREO_BLOCK_FILE_H
#define VIREO_BLOCK_FILE_H

#include "block/node.h"

struct file {
	int fd;
	bool locked, regular, direct;
	bool reserves;		  /* large writes, before they are made */
	bool can_punch, can_zero; /* fallocate modes that have not been refused so far */
	bool unflushed;		  /* something was changed since the last flush began */
	bool failed;		  /* a flush has: everything is EIO until the file is opened again */
	struct aio *aio;
	/* Around the page cache: writes on their way, and one that must have no other beside it. */
	unsigned writing;
	bool alone;
	struct co_queue turn;
	/* The flush that is on its way, of which the first request is the file's, and what waits for the next one. */
	struct node_req *flushing, *flush_next, **flush_tail;
};

int file_truncate(struct node *n, const struct node_resize *how, struct err *err);
int file_status(struct node *n, uint64_t offset, uint64_t bytes, struct node_extent *e);
uint64_t file_allocated(struct node *n);
/* What offsets, lengths and buffers of direct I/O must be multiples of. */
uint32_t file_alignment(const struct file *f);

/* (private flag of requests) it is a part of the one that is alone */
#define FILE_REQ_ALONE (1u << 31)
/* True when `r`, to a file around the page cache, is being carried out; false when it can go on as it is. */
bool file_direct(struct node *n, struct node_req *r);
/* One that went on, and was counted, has ended. */
void file_direct_done(struct file *f, struct node_req *r);

#endif
