/*
 * A driver for vring tests: memory of its own, rings written by hand, and a record of what the device side
 * reports as written. One thread, but for drv_mem, which is plain memory that two may share.
 */
#ifndef VIREO_TESTS_VRING_DRIVER_H
#define VIREO_TESTS_VRING_DRIVER_H

#include "vring/vring.h"

#define DRV_MEMORY 0x40000u
#define DRV_HOLE   0x30000u /* [DRV_HOLE, DRV_HOLE + 0x1000) is not memory, as a device's registers are not */
#define DRV_DESC   0x0000u
#define DRV_DRIVER 0x5000u
#define DRV_DEVICE 0x6000u
#define DRV_TABLE  0x9000u  /* indirect tables */
#define DRV_DATA   0x10000u /* buffers */

#define D_NEXT	   1u
#define D_WRITE	   2u
#define D_INDIRECT 4u
#define P_AVAIL	   0x80u
#define P_USED	   0x8000u

struct drv {
	struct vring *vr;
	struct vring_setup s;
	/* split: counters; packed: slots */
	uint16_t avail, used;
	bool avail_wrap, used_wrap;
	uint16_t kicked_at;    /* `avail` at the last decision about a kick */
	bool kicked_wrap;      /* packed */
	uint16_t slots[1024];  /* packed: of the chain with that id */
	uint16_t next_free;    /* split: descriptors and packed: ids are used round robin */
	unsigned maps, unmaps; /* calls */
	/* Called inside map(), as a guest that changes memory while the device parses it. */
	void (*on_map)(struct drv *d, uint64_t addr, bool device_writes);
};

struct seg {
	uint64_t addr;
	uint32_t len;
	bool write;
};

extern uint8_t drv_mem[DRV_MEMORY];

/* A zeroed memory and a started ring. `mode`: size and flags; the addresses are filled in. */
void drv_start(struct drv *d, struct vring_setup mode);
/* Stops and frees; every mapping must have been given back. */
void drv_stop(struct drv *d);

void drv_put16(uint64_t at, uint16_t v);
void drv_put64(uint64_t at, uint64_t v);
uint16_t drv_get16(uint64_t at);
uint32_t drv_get32(uint64_t at);
/* A descriptor of either layout: the last two words are flags, next (split) or id, flags (packed). */
void drv_desc(uint64_t at, struct seg s, uint16_t third, uint16_t fourth);

/* Make a chain of direct descriptors, or one indirect descriptor, available; returns its id. */
uint16_t drv_add(struct drv *d, const struct seg *segs, unsigned n, bool indirect);
/* The next used entry. */
bool drv_poll(struct drv *d, uint16_t *id, uint32_t *len);
/* Must the device be kicked for what was added since the last question? */
bool drv_kick_needed(struct drv *d);
/* Ask for an interrupt at the next used entry, or for none. */
void drv_want_interrupt(struct drv *d, bool yes);

/* Every byte that changed since drv_watch() was reported as written. */
void drv_watch(struct drv *d);
void drv_check_watched(struct drv *d);

#endif
