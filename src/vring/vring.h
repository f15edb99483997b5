/*
 * Virtqueues, device side (virtio 1.2 section 2.7 split, 2.8 packed): the only code that touches a
 * ring. It knows no guest: memory comes through struct vring_mem.
 *
 * A device pops a chain, reads its device-readable part from front to back, writes its
 * device-writable part from front to back, and completes it with the number of bytes written. The
 * driver is not trusted: every descriptor is copied once and the copy is checked (range, direction,
 * order, length, chain budget = queue size, one level of indirection). Pop has three outcomes: a
 * chain, empty, or the driver lied; after a lie the ring stays broken until it is stopped.
 *
 * Threads: every function on a struct vring takes the ring's own lock, so pop and completions may come
 * from different threads; the copy functions on a chain take none, a chain belongs to one thread at a
 * time. Completion in any order. vring_mem functions may be called with the ring's lock held: they must
 * not call back. vring_start and vring_stop: any thread, but the owner makes sure that they do not race
 * with each other.
 *
 * A chain that is still out when the ring stops stays valid memory for its owner and must still be
 * completed; completing it then only unmaps and frees it (it belongs to an older generation).
 */
#ifndef VIREO_VRING_VRING_H
#define VIREO_VRING_VRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define VRING_MAX_SIZE 1024 /* entries; also the longest chain */

/* A mapped piece of guest memory. */
struct vring_map {
	void *host;
	uint64_t addr; /* as given to map() */
	uint32_t len;
	bool device_writes;
};

struct vring_mem {
	/* False when the range is not all plain memory. len is never 0. */
	bool (*map)(void *opaque, uint64_t addr, uint32_t len, bool device_writes, struct vring_map *m);
	/* `written`: bytes from the start that the device has written, at most m->len. */
	void (*unmap)(void *opaque, struct vring_map *m, uint32_t written);
	/* [off, off + len) of a mapping that stays was just written (the used ring). */
	void (*touched)(void *opaque, struct vring_map *m, uint32_t off, uint32_t len);
	void *opaque;
};

/* What the driver has set up; the same struct is the saved state. */
struct vring_setup {
	uint16_t size;	 /* entries: split: a power of two; packed: 1 to VRING_MAX_SIZE */
	bool event_idx;	 /* VIRTIO_F_EVENT_IDX was negotiated */
	bool indirect;	 /* VIRTIO_F_INDIRECT_DESC */
	bool packed;	 /* VIRTIO_F_RING_PACKED */
	uint64_t desc;	 /* packed: descriptor ring */
	uint64_t driver; /* split: available ring; packed: driver event suppression */
	uint64_t device; /* split: used ring; packed: device event suppression */
	/* Where to continue. All 0 (packed: wraps 1, see vring_setup_reset()) for a new ring. */
	uint16_t next_avail, next_used;
	bool avail_wrap, used_wrap; /* packed only */
};

/* The indices of a fresh ring; leaves size, flags and addresses alone. */
void vring_setup_reset(struct vring_setup *s);

struct vring;

/*
 * A request. Public fields are read-only for devices, except `user`, which is theirs (it starts as
 * NULL for each popped chain).
 */
struct vring_chain {
	struct vring *ring;
	uint16_t head;	     /* split: descriptor index; packed: buffer id */
	uint32_t readable;   /* bytes the driver sent, in total */
	uint32_t writable;   /* bytes the driver accepts, in total */
	uint32_t generation; /* of the ring when it was popped */
	void *user;
	/* private to vring/ */
	uint32_t rpos, wpos;	       /* cursors */
	uint32_t dirty_end;	       /* writable bytes that may have been written end here */
	uint16_t n_read, n_write, cap; /* segments: readable, writable, room */
	uint16_t slots;		       /* packed: ring slots that it occupies */
	struct vring_map *seg;	       /* n_read readable ones, then n_write writable ones */
	struct vring_chain *next;
	struct vring_map inline_seg[8];
};

enum vring_pop { VRING_EMPTY, VRING_CHAIN, VRING_LIED };

/* A ring that is not running. `mem` is copied. NULL: out of memory. */
struct vring *vring_new(const struct vring_mem *mem);
/* All chains have been completed. Stops first. */
void vring_free(struct vring *vr);

/*
 * Start with the driver's setup. Maps the ring areas and checks alignment, size and range; NULL when
 * all is well, else a constant text that says what was wrong (the ring stays stopped).
 */
const char *vring_start(struct vring *vr, const struct vring_setup *s);
/* Pop finds nothing from now on, and completions of chains that are out are dropped. Idempotent. */
void vring_stop(struct vring *vr);
/* The setup with present indices, for saving. False when not running. Chains that are out would be lost. */
bool vring_save(struct vring *vr, struct vring_setup *s);
/* Chains popped and not completed, of the present generation. */
unsigned vring_in_flight(struct vring *vr);

/*
 * The next chain into *c. Never blocks. With VRING_LIED *why is a constant text (for the first call
 * after the lie and for later ones). `why` may be NULL.
 *
 * Kicks: when this returns VRING_EMPTY, driver notifications are enabled and the ring has been looked
 * at once more after that, so the next buffer comes with a kick. While chains are returned kicks stay
 * suppressed as far as the driver cares.
 */
enum vring_pop vring_pop(struct vring *vr, struct vring_chain **c, const char **why);
/*
 * Put back the most recently popped chain(s), newest first, untouched, as if never popped (network
 * receive with too few buffers). They keep their place at the head of the ring.
 */
void vring_unpop(struct vring_chain *c);
/*
 * Unmap, put the chain on the used ring and free it. `written` counts bytes from the start of the
 * writable part (clamped to it). vring_complete() publishes at once; vring_push() leaves it to
 * vring_publish(), which makes all pushed chains visible together (mergeable receive buffers).
 */
void vring_complete(struct vring_chain *c, uint32_t written);
void vring_push(struct vring_chain *c, uint32_t written);
void vring_publish(struct vring *vr);
/* True when the driver wants an interrupt for what was published since the last call. */
bool vring_should_interrupt(struct vring *vr);

/* --- reader and writer: cursors over the bytes of a chain; each returns the bytes really moved --- */
size_t vring_read(struct vring_chain *c, void *buf, size_t len);
size_t vring_write(struct vring_chain *c, const void *buf, size_t len);
size_t vring_read_left(const struct vring_chain *c);
size_t vring_write_left(const struct vring_chain *c);
/* The most pieces that the bytes of either direction come in. */
unsigned vring_pieces(const struct vring_chain *c);
/* At a byte offset, without moving a cursor (a status byte at writable - 1, a header to patch). */
size_t vring_read_at(const struct vring_chain *c, size_t off, void *buf, size_t len);
size_t vring_write_at(struct vring_chain *c, size_t off, const void *buf, size_t len);

/*
 * Zero copy: the host memory of the next bytes at the cursor, up to max_bytes and max_iov pieces
 * (adjacent ones are joined). Returns the number of pieces, and the bytes that they hold in *bytes;
 * the cursor does not move: vring_read_skip/vring_write_skip do that. A guest may change this memory
 * at any time: use it as payload only, never parse it.
 */
unsigned vring_read_iov(const struct vring_chain *c, size_t max_bytes, struct iovec *iov, unsigned max_iov,
			size_t *bytes);
unsigned vring_write_iov(struct vring_chain *c, size_t max_bytes, struct iovec *iov, unsigned max_iov, size_t *bytes);
size_t vring_read_skip(struct vring_chain *c, size_t len);
size_t vring_write_skip(struct vring_chain *c, size_t len);
/* Guest addresses of the writable bytes at the cursor, one piece a call: false at the end. Moves the cursor. */
bool vring_write_piece(struct vring_chain *c, uint64_t *addr, uint32_t *len);

#endif
