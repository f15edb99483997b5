/*
 * A back end for block/aio.h that carries out one operation at a time, chosen at random from those that wait: the same
 * seed gives the same order, whatever the machine is busy with. What changes a file can be written down.
 */
#ifndef VIREO_TESTS_BLOCK_PICK_H
#define VIREO_TESTS_BLOCK_PICK_H

#include "block/node.h"

/* Random numbers, of which all in a test come from one seed. */
extern uint64_t pick_seed;
uint64_t pick(uint64_t below);

/* Let the nodes of `c` use it. */
void pick_init(struct node_ctx *c);

enum change_kind { CHANGE_DATA, CHANGE_ZERO, CHANGE_FLUSH };

struct change {
	enum change_kind kind;
	unsigned file;
	uint64_t offset, bytes;
	uint8_t *data;	 /* CHANGE_DATA */
	uint64_t covers; /* CHANGE_FLUSH: the changes before this one are on stable storage once it has ended */
};

#define PICK_FILES 2u

struct history {
	int fd[PICK_FILES]; /* which files, by any descriptor of them; -1: none */
	struct change *at;
	uint64_t n, room;
	uint64_t size[PICK_FILES]; /* of the files, as last seen */
};

/* Write down from now on; NULL: no more. */
void pick_record(struct history *h);
/* Notice what was cut off a file without the back end. */
void history_catch_up(struct history *h);
void history_add(struct history *h, const struct change *c);
void history_free(struct history *h);

#endif
