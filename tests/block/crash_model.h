/*
 * What was done to a disk, and what its sectors may hold after a loss of power: what was flushed, or something that was
 * written since. Each sector that an operation writes says which operation that was.
 */
#ifndef VIREO_TESTS_BLOCK_CRASH_MODEL_H
#define VIREO_TESTS_BLOCK_CRASH_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define SECTOR 512u
#define OPS    6000u

enum op_kind { WRITE, ZERO, FLUSH, RESIZE, SNAPSHOT, DELETE, APPLY, BITMAP };

/* Times are counted by operations that begin or end; places are numbers of changes that were written down. */
struct op {
	enum op_kind kind;
	uint64_t offset, bytes; /* RESIZE: the old size and the new */
	unsigned begun, ended;	/* times */
	uint64_t from, until;	/* places when it began and had ended */
	unsigned snap;		/* SNAPSHOT, DELETE, APPLY */
	unsigned before;	/* APPLY: the operation that made the snapshot */
};

struct model {
	struct op ops[OPS];
	unsigned n, now;
	uint64_t first_size;
};

/* `place`: now. The number of the operation. */
unsigned model_begin(struct model *m, enum op_kind kind, uint64_t offset, uint64_t bytes, uint64_t place);
void model_end(struct model *m, unsigned op, uint64_t place);

/* A sector that `op` has written, and what it was: 0 for zeroes, the operation + 1, or -1 when it is not one. */
void model_fill(uint8_t *sector, unsigned op, uint64_t number);
int64_t model_read(const struct model *m, const uint8_t *sector, uint64_t number);

/* What the sector at `at` (bytes) held when `op` began, while nothing else was on its way. */
unsigned model_value_before(const struct model *m, unsigned op, uint64_t at);
/* The last flush that had ended at that place; OPS: none. */
unsigned model_last_flush(const struct model *m, uint64_t place);
bool model_may_hold(const struct model *m, uint64_t at, unsigned value, uint64_t place, unsigned flush);
/* The size is that of the last resize that had ended, or of one that was on its way. */
bool model_size_fits(const struct model *m, uint64_t size, uint64_t place);

#endif
