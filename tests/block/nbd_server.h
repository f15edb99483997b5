/*
 * A server of the Network Block Device protocol for tests: a disk in memory behind a socket in a thread of its own,
 * that does what the protocol says, or one thing that it must not.
 */
#ifndef VIREO_TESTS_NBD_SERVER_H
#define VIREO_TESTS_NBD_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define NBD_DISK (1u << 20)

enum nbd_lie {
	NBD_HONEST,
	/* while it negotiates */
	NBD_BAD_MAGIC,
	NBD_BAD_REPLY_MAGIC,
	NBD_OTHER_OPTION,
	NBD_HUGE_REPLY,
	NBD_NO_INFO,
	NBD_ENDLESS_INFO,
	NBD_HUGE_EXPORT,
	NBD_ODD_BLOCK,
	NBD_OTHER_CONTEXT,
	NBD_TWO_CONTEXTS,
	NBD_SHORT_INFO,
	NBD_REFUSES,
	NBD_HANGS_UP,
	NBD_LAST_OF_NEGOTIATION = NBD_HANGS_UP,
	/* in answers to a read */
	NBD_READ_MAGIC,
	NBD_READ_HANDLE,
	NBD_READ_SIMPLE,
	NBD_READ_SHORT,
	NBD_READ_OUTSIDE,
	NBD_READ_BEFORE,
	NBD_READ_MORE,
	NBD_READ_NOTHING,
	NBD_READ_HUGE_HOLE,
	NBD_READ_STATUS,
	NBD_READ_KIND,
	NBD_READ_NONE,
	NBD_READ_ERROR_ZERO,
	NBD_READ_ERROR_LONG,
	NBD_READ_ERRORS,
	NBD_LAST_OF_READ = NBD_READ_ERRORS,
	/* in answers to a question for the status */
	NBD_STATUS_ZERO,
	NBD_STATUS_OTHER,
	NBD_STATUS_SHORT,
	NBD_STATUS_LONG,
	NBD_STATUS_NONE,
	NBD_STATUS_TWICE,
	NBD_LIES
};

struct nbd_server {
	/* set before it starts */
	enum nbd_lie lie;
	bool old;	    /* the oldest negotiation */
	bool plain;	    /* no structured replies */
	bool reversed;	    /* answers the second of two requests first */
	bool in_parts;	    /* a read comes as two pieces, the last one first, and a hole */
	bool silent;	    /* says nothing at all */
	unsigned flags;	    /* of the export, besides what is always there */
	uint32_t min_block; /* 0: not said */
	unsigned drop;	    /* hang up at this request (from 1) of the first connection */
	uint64_t size;	    /* of later connections; 0: as before */
	/* for tests to look at */
	char path[108];
	uint8_t disk[NBD_DISK];
	unsigned connections, unaligned, flushes, fua, trims, zeroes;
	/* private */
	int listener;
	pthread_t thread;
};

void nbd_server_start(struct nbd_server *s);
void nbd_server_stop(struct nbd_server *s);

#endif
