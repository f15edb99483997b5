/*
 * Private to vring/: the ring object, and what a layout (split, packed) implements. Everything here is
 * called with vr->lock held.
 */
#ifndef VIREO_VRING_IMPL_H
#define VIREO_VRING_IMPL_H

#include <pthread.h>

#include "vring/vring.h"

/* Descriptor flags, the same in both layouts (2.7.5, 2.8.1). */
#define DESC_F_NEXT	1u
#define DESC_F_WRITE	2u
#define DESC_F_INDIRECT 4u

/* A descriptor in memory, both layouts; the last two words differ. */
#define DESC_SIZE 16u

struct vring_area {
	uint32_t size; /* bytes */
	uint32_t align;
	bool device_writes;
};

struct vring_layout {
	/* The three areas of a ring of n entries. */
	void (*areas)(unsigned n, struct vring_area *desc, struct vring_area *driver, struct vring_area *device);
	/* Check indices from a saved state; NULL or what is wrong. */
	const char *(*check)(const struct vring_setup *s);
	/*
	 * Take the next chain, if any. VRING_LIED: the text is in vr->broken, `c` may be half filled.
	 * `c` is empty and given.
	 */
	enum vring_pop (*pop)(struct vring *vr, struct vring_chain *c);
	void (*unpop)(struct vring *vr, const struct vring_chain *c);
	bool (*has_avail)(struct vring *vr);
	/* Ask for a kick at the next buffer; a full fence follows from the caller. */
	void (*arm_kick)(struct vring *vr);
	void (*disarm_kick)(struct vring *vr);
	void (*push)(struct vring *vr, const struct vring_chain *c, uint32_t written);
	void (*publish)(struct vring *vr);
	/*
	 * Does the driver want an interrupt for used entries [signalled, published)? A full fence was made. `lapped`:
	 * that range says nothing, an event index may lie anywhere.
	 */
	bool (*wants_interrupt)(struct vring *vr, bool lapped);
};

extern const struct vring_layout vring_split, vring_packed;

struct vring {
	pthread_mutex_t lock;
	struct vring_mem mem;
	const struct vring_layout *layout;
	bool running;
	const char *broken; /* what the driver did */
	uint32_t generation;
	struct vring_setup s; /* with the present indices */
	struct vring_map desc, driver, device;

	unsigned in_flight;
	uint64_t busy[VRING_MAX_SIZE / 64]; /* chain ids that are out */

	bool kick_armed;
	unsigned slots_out; /* packed: ring slots of chains that are out */
	unsigned pushed;    /* used entries (packed: slots) that the driver cannot see yet */
	/* Positions of the used ring up to which entries are visible, and were at the last interrupt decision. */
	uint16_t published, signalled;
	bool published_wrap, signalled_wrap; /* packed */
	/* The same, counted from the start: more than an index can tell apart. */
	uint64_t published_total, signalled_total;
	bool signalled_valid; /* false after a start: interrupt for the first one in any case */

	/* packed: the first entry of a batch becomes visible last */
	uint16_t batch_at, batch_flags;

	struct vring_chain *free;
	unsigned n_free;
};

struct vring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t w0, w1; /* split: flags, next; packed: id, flags */
};

/* Copy the i-th descriptor of a table, each half once. */
struct vring_desc vring_load_desc(const void *table, unsigned i);

/* All of these set vr->broken and return false when the driver lied. */
bool vring_lie(struct vring *vr, const char *why);
/* Append a buffer after checking it. */
bool vring_add_buffer(struct vring *vr, struct vring_chain *c, uint64_t addr, uint32_t len, bool device_writes);
/* Append what an indirect table holds. `packed` tables are arrays, split ones are linked. */
bool vring_add_indirect(struct vring *vr, struct vring_chain *c, uint64_t addr, uint32_t len);

static inline bool vring_id_busy(const struct vring *vr, unsigned id)
{
	return vr->busy[id / 64] >> (id % 64) & 1;
}

static inline void vring_id_set(struct vring *vr, unsigned id, bool busy)
{
	uint64_t bit = 1ull << (id % 64);

	vr->busy[id / 64] = busy ? vr->busy[id / 64] | bit : vr->busy[id / 64] & ~bit;
}

/* Relaxed single accesses of ring words; the areas are aligned for them. */
uint16_t vring_get16(const struct vring_map *m, uint32_t off);
void vring_put16(struct vring *vr, struct vring_map *m, uint32_t off, uint16_t v);
void vring_put32(struct vring *vr, struct vring_map *m, uint32_t off, uint32_t v);

#endif
