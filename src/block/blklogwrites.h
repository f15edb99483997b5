/*
 * The filter `blklogwrites`: writes down what is written to its child, in the form of Linux' dm-log-writes, so that
 * each state that a loss of power could have left can be made from it. The thread of the node's loop.
 */
#ifndef VIREO_BLOCK_BLKLOGWRITES_H
#define VIREO_BLOCK_BLKLOGWRITES_H

#include "block/node.h"

#define LOG_WRITES_MAGIC   0x6a736677736872ull
#define LOG_WRITES_VERSION 1u
#define LOG_WRITES_FLUSH   1u
#define LOG_WRITES_FUA	   2u
#define LOG_WRITES_DISCARD 4u
#define LOG_WRITES_MARK	   8u

/*
 * Little-endian. The first sector of a log has the super, each entry begins a sector, and what was written follows from
 * the next sector on (not for discards). An entry of a flush comes before the writes that ended after it had begun.
 */
struct log_writes_super {
	uint64_t magic, version, entries;
	uint32_t sector_size;
} __attribute__((packed));

struct log_writes_entry {
	uint64_t sector, sectors, flags, data_len;
} __attribute__((packed));

/* Entries so far; `n` is a blklogwrites node. */
uint64_t blklogwrites_entries(const struct node *n);

#endif
