/* The ring object: start and stop, checks that both layouts share, pop, completion, notification. */
#include "vring/vring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "vring/impl.h"

#define INLINE_SEGS ARRAY_LEN(((struct vring_chain *)0)->inline_seg)

/* --- ring memory --- */

uint16_t vring_get16(const struct vring_map *m, uint32_t off)
{
	return le16toh(__atomic_load_n((const uint16_t *)((const char *)m->host + off), __ATOMIC_RELAXED));
}

void vring_put16(struct vring *vr, struct vring_map *m, uint32_t off, uint16_t v)
{
	__atomic_store_n((uint16_t *)((char *)m->host + off), htole16(v), __ATOMIC_RELAXED);
	vr->mem.touched(vr->mem.opaque, m, off, 2);
}

void vring_put32(struct vring *vr, struct vring_map *m, uint32_t off, uint32_t v)
{
	__atomic_store_n((uint32_t *)((char *)m->host + off), htole32(v), __ATOMIC_RELAXED);
	vr->mem.touched(vr->mem.opaque, m, off, 4);
}

struct vring_desc vring_load_desc(const void *table, unsigned i)
{
	const char *p = (const char *)table + i * DESC_SIZE;
	uint64_t half[2];

	/* Indirect tables need no alignment. */
	if ((uintptr_t)p & 7) {
		memcpy(half, p, sizeof(half));
	} else {
		half[0] = __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
		half[1] = __atomic_load_n((const uint64_t *)(p + 8), __ATOMIC_RELAXED);
	}
	half[0] = le64toh(half[0]);
	half[1] = le64toh(half[1]);
	return (struct vring_desc){ half[0], (uint32_t)half[1], (uint16_t)(half[1] >> 32), (uint16_t)(half[1] >> 48) };
}

/* --- chains --- */

bool vring_lie(struct vring *vr, const char *why)
{
	vr->broken = why;
	return false;
}

static bool grow_segs(struct vring_chain *c)
{
	unsigned cap = c->cap * 2;
	struct vring_map *seg = malloc(cap * sizeof(*seg));

	if (!seg)
		return false;
	memcpy(seg, c->seg, c->cap * sizeof(*seg));
	if (c->seg != c->inline_seg)
		free(c->seg);
	c->seg = seg;
	c->cap = cap;
	return true;
}

bool vring_add_buffer(struct vring *vr, struct vring_chain *c, uint64_t addr, uint32_t len, bool device_writes)
{
	uint32_t *total = device_writes ? &c->writable : &c->readable;
	unsigned n = c->n_read + c->n_write;

	if (n == vr->s.size)
		return vring_lie(vr, "a chain is longer than the queue");
	if (!device_writes && c->n_write)
		return vring_lie(vr, "a device-readable buffer follows a device-writable one");
	if (!len)
		return vring_lie(vr, "a buffer is empty");
	if (__builtin_add_overflow(*total, len, total)) {
		*total -= len;
		return vring_lie(vr, "a chain holds 4 GiB or more");
	}
	if (n == c->cap && !grow_segs(c))
		return vring_lie(vr, "no host memory for a chain");
	if (!vr->mem.map(vr->mem.opaque, addr, len, device_writes, &c->seg[n]))
		return vring_lie(vr, "a buffer is not in memory");
	if (device_writes)
		c->n_write++;
	else
		c->n_read++;
	return true;
}

bool vring_add_indirect(struct vring *vr, struct vring_chain *c, uint64_t addr, uint32_t len)
{
	struct vring_map table;
	unsigned n = len / DESC_SIZE, i = 0;
	bool ok = true, more;

	if (!vr->s.indirect)
		return vring_lie(vr, "an indirect descriptor, which was not negotiated");
	if (!len || len % DESC_SIZE)
		return vring_lie(vr, "an indirect table is not a whole number of descriptors");
	if (n > vr->s.size && vr->s.packed) /* every entry is part of the chain */
		return vring_lie(vr, "an indirect table is longer than the queue");
	if (!vr->mem.map(vr->mem.opaque, addr, len, false, &table))
		return vring_lie(vr, "an indirect table is not in memory");
	do {
		struct vring_desc d = vring_load_desc(table.host, i);
		unsigned flags = vr->s.packed ? d.w1 : d.w0;

		if (flags & DESC_F_INDIRECT) {
			ok = vring_lie(vr, "an indirect table inside an indirect table");
			break;
		}
		/* vring_add_buffer() ends loops: it counts against the queue size. */
		ok = vring_add_buffer(vr, c, d.addr, d.len, flags & DESC_F_WRITE);
		if (vr->s.packed) {
			more = ++i < n;
		} else {
			more = flags & DESC_F_NEXT;
			i = d.w1;
			if (more && i >= n)
				ok = vring_lie(vr, "a descriptor index lies outside of the indirect table");
		}
	} while (ok && more);
	vr->mem.unmap(vr->mem.opaque, &table, 0);
	return ok;
}

static struct vring_chain *chain_new(struct vring *vr)
{
	struct vring_chain *c = vr->free;

	if (c) {
		vr->free = c->next;
		vr->n_free--;
	} else {
		c = malloc(sizeof(*c));
		if (!c)
			return NULL;
	}
	memset(c, 0, offsetof(struct vring_chain, inline_seg));
	c->ring = vr;
	c->generation = vr->generation;
	c->seg = c->inline_seg;
	c->cap = INLINE_SEGS;
	c->slots = 1;
	return c;
}

/* Lock held. */
static void chain_free(struct vring *vr, struct vring_chain *c)
{
	if (c->seg != c->inline_seg)
		free(c->seg);
	if (vr->n_free < VRING_MAX_SIZE) {
		c->next = vr->free;
		vr->free = c;
		vr->n_free++;
	} else {
		free(c);
	}
}

static void chain_unmap(struct vring *vr, struct vring_chain *c, uint32_t written)
{
	for (unsigned i = 0; i < c->n_read; i++)
		vr->mem.unmap(vr->mem.opaque, &c->seg[i], 0);
	for (unsigned i = c->n_read; i < (unsigned)c->n_read + c->n_write; i++) {
		uint32_t n = written < c->seg[i].len ? written : c->seg[i].len;

		written -= n;
		vr->mem.unmap(vr->mem.opaque, &c->seg[i], n);
	}
}

/* --- life --- */

struct vring *vring_new(const struct vring_mem *mem)
{
	struct vring *vr = calloc(1, sizeof(*vr));

	if (!vr)
		return NULL;
	vr->mem = *mem;
	pthread_mutex_init(&vr->lock, NULL);
	return vr;
}

void vring_free(struct vring *vr)
{
	if (!vr)
		return;
	vring_stop(vr);
	while (vr->free) {
		struct vring_chain *c = vr->free;

		vr->free = c->next;
		free(c);
	}
	pthread_mutex_destroy(&vr->lock);
	free(vr);
}

void vring_setup_reset(struct vring_setup *s)
{
	s->next_avail = s->next_used = 0;
	s->avail_wrap = s->used_wrap = true;
}

static bool map_area(struct vring *vr, uint64_t addr, const struct vring_area *a, struct vring_map *m)
{
	return !(addr & (a->align - 1)) && vr->mem.map(vr->mem.opaque, addr, a->size, a->device_writes, m);
}

static void unmap_areas(struct vring *vr)
{
	struct vring_map *maps[] = { &vr->desc, &vr->driver, &vr->device };

	for (unsigned i = 0; i < ARRAY_LEN(maps); i++) {
		if (maps[i]->host)
			vr->mem.unmap(vr->mem.opaque, maps[i], 0);
		maps[i]->host = NULL;
	}
}

static const char *map_areas(struct vring *vr)
{
	struct vring_area desc, driver, device;
	const char *why = NULL;

	vr->layout->areas(vr->s.size, &desc, &driver, &device);
	if (!map_area(vr, vr->s.desc, &desc, &vr->desc))
		why = "the descriptor area is not aligned or not in memory";
	else if (!map_area(vr, vr->s.driver, &driver, &vr->driver))
		why = "the driver area is not aligned or not in memory";
	else if (!map_area(vr, vr->s.device, &device, &vr->device))
		why = "the device area is not aligned or not in memory";
	if (why)
		unmap_areas(vr);
	return why;
}

const char *vring_start(struct vring *vr, const struct vring_setup *s)
{
	const char *why = NULL;

	pthread_mutex_lock(&vr->lock);
	if (vr->running) {
		why = "the queue runs already";
		goto out;
	}
	vr->layout = s->packed ? &vring_packed : &vring_split;
	if (!s->size || s->size > VRING_MAX_SIZE || (!s->packed && !is_pow2(s->size)))
		why = "the queue size is not possible";
	else
		why = vr->layout->check(s);
	if (why)
		goto out;
	vr->s = *s;
	why = map_areas(vr);
	if (why)
		goto out;
	vr->running = true;
	vr->broken = NULL;
	vr->generation++;
	vr->in_flight = vr->slots_out = 0;
	memset(vr->busy, 0, sizeof(vr->busy));
	vr->kick_armed = false;
	vr->pushed = 0;
	vr->published_total = vr->signalled_total = 0;
	vr->published = vr->signalled = s->next_used;
	vr->published_wrap = vr->signalled_wrap = s->used_wrap;
	vr->signalled_valid = false;
out:
	pthread_mutex_unlock(&vr->lock);
	return why;
}

void vring_stop(struct vring *vr)
{
	pthread_mutex_lock(&vr->lock);
	if (vr->running) {
		vr->running = false;
		vr->generation++;
		vr->in_flight = 0;
		unmap_areas(vr);
	}
	pthread_mutex_unlock(&vr->lock);
}

bool vring_save(struct vring *vr, struct vring_setup *s)
{
	bool r;

	pthread_mutex_lock(&vr->lock);
	r = vr->running;
	if (r)
		*s = vr->s;
	pthread_mutex_unlock(&vr->lock);
	return r;
}

unsigned vring_in_flight(struct vring *vr)
{
	unsigned n;

	pthread_mutex_lock(&vr->lock);
	n = vr->in_flight;
	pthread_mutex_unlock(&vr->lock);
	return n;
}

/* --- pop --- */

/*
 * The driver publishes a buffer, makes a full fence and then looks whether a kick is wanted. So that one
 * of the two always sees the other, ask for the kick, make a full fence, and look again.
 */
static bool still_empty(struct vring *vr)
{
	if (vr->kick_armed)
		return true;
	vr->layout->arm_kick(vr);
	vr->kick_armed = true;
	atomic_thread_fence(memory_order_seq_cst);
	return !vr->layout->has_avail(vr);
}

static enum vring_pop pop_locked(struct vring *vr, struct vring_chain **out)
{
	enum vring_pop r;
	struct vring_chain *c;

	if (!vr->running)
		return VRING_EMPTY;
	if (vr->broken)
		return VRING_LIED;
	if (!vr->layout->has_avail(vr) && still_empty(vr))
		return VRING_EMPTY;
	c = chain_new(vr);
	if (!c) {
		vring_lie(vr, "no host memory for a chain");
		return VRING_LIED;
	}
	r = vr->layout->pop(vr, c);
	if (r != VRING_CHAIN) {
		chain_unmap(vr, c, 0);
		chain_free(vr, c);
		return r;
	}
	if (vr->kick_armed) {
		vr->kick_armed = false;
		vr->layout->disarm_kick(vr);
	}
	vring_id_set(vr, c->head, true);
	vr->in_flight++;
	*out = c;
	return VRING_CHAIN;
}

enum vring_pop vring_pop(struct vring *vr, struct vring_chain **c, const char **why)
{
	enum vring_pop r;

	*c = NULL;
	pthread_mutex_lock(&vr->lock);
	r = pop_locked(vr, c);
	if (r == VRING_LIED && why)
		*why = vr->broken;
	pthread_mutex_unlock(&vr->lock);
	return r;
}

void vring_unpop(struct vring_chain *c)
{
	struct vring *vr = c->ring;

	chain_unmap(vr, c, c->dirty_end);
	pthread_mutex_lock(&vr->lock);
	if (vr->running && c->generation == vr->generation) {
		vr->layout->unpop(vr, c);
		vring_id_set(vr, c->head, false);
		vr->in_flight--;
	}
	chain_free(vr, c);
	pthread_mutex_unlock(&vr->lock);
}

/* --- completion --- */

static void push_locked(struct vring *vr, struct vring_chain *c, uint32_t written)
{
	if (vr->running && c->generation == vr->generation) {
		if (written > c->writable)
			written = c->writable;
		vr->layout->push(vr, c, written);
		vr->pushed += c->slots;
		vring_id_set(vr, c->head, false);
		vr->in_flight--;
	}
	chain_free(vr, c);
}

static void publish_locked(struct vring *vr)
{
	if (vr->running && vr->pushed) {
		vr->layout->publish(vr);
		vr->published = vr->s.next_used;
		vr->published_wrap = vr->s.used_wrap;
		vr->published_total += vr->pushed;
		vr->pushed = 0;
	}
}

/* Pages become dirty, and decoded code stale, before the driver can see the buffer as used. */
static void finish(struct vring_chain *c, uint32_t written)
{
	chain_unmap(c->ring, c, written > c->dirty_end ? written : c->dirty_end);
}

void vring_push(struct vring_chain *c, uint32_t written)
{
	struct vring *vr = c->ring;

	finish(c, written);
	pthread_mutex_lock(&vr->lock);
	push_locked(vr, c, written);
	pthread_mutex_unlock(&vr->lock);
}

void vring_publish(struct vring *vr)
{
	pthread_mutex_lock(&vr->lock);
	publish_locked(vr);
	pthread_mutex_unlock(&vr->lock);
}

void vring_complete(struct vring_chain *c, uint32_t written)
{
	struct vring *vr = c->ring;

	finish(c, written);
	pthread_mutex_lock(&vr->lock);
	push_locked(vr, c, written);
	publish_locked(vr);
	pthread_mutex_unlock(&vr->lock);
}

bool vring_should_interrupt(struct vring *vr)
{
	bool r = false, lapped;

	pthread_mutex_lock(&vr->lock);
	if (vr->running && vr->published_total != vr->signalled_total) {
		/* The driver says when it wants one, fences, and looks at the ring again; here the reverse. */
		atomic_thread_fence(memory_order_seq_cst);
		/* More used buffers than indices can tell apart: any event may lie between. */
		lapped = !vr->signalled_valid ||
			 vr->published_total - vr->signalled_total > (vr->s.packed ? vr->s.size : UINT16_MAX);
		r = vr->layout->wants_interrupt(vr, lapped);
		vr->signalled_valid = true;
		vr->signalled = vr->published;
		vr->signalled_wrap = vr->published_wrap;
		vr->signalled_total = vr->published_total;
	}
	pthread_mutex_unlock(&vr->lock);
	return r;
}
