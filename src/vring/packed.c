/* The packed layout, virtio 1.2 section 2.8: one descriptor ring for both directions, and two event structures. */
#include "base/bytes.h"
#include "vring/impl.h"

#define F_AVAIL 0x80u
#define F_USED	0x8000u

/* Offsets in a descriptor and in an event suppression structure */
#define DESC_LEN    8u
#define DESC_ID	    12u
#define DESC_FLAGS  14u
#define EVENT_OFF   0u
#define EVENT_FLAGS 2u

enum { EVENTS_ENABLE, EVENTS_DISABLE, EVENTS_AT };

static void areas(unsigned n, struct vring_area *desc, struct vring_area *driver, struct vring_area *device)
{
	*desc = (struct vring_area){ n * DESC_SIZE, 16, true };
	*driver = (struct vring_area){ 4, 4, false };
	*device = (struct vring_area){ 4, 4, true };
}

static const char *check(const struct vring_setup *s)
{
	if (s->next_avail >= s->size || s->next_used >= s->size)
		return "an index lies outside of the ring";
	if (s->next_avail != s->next_used || s->avail_wrap != s->used_wrap)
		return "requests are missing from the ring";
	return NULL;
}

static bool has_avail(struct vring *vr)
{
	const char *p = (const char *)vr->desc.host + vr->s.next_avail * DESC_SIZE + DESC_FLAGS;
	/* Acquire: the descriptors are read after the flags that make them available. */
	uint16_t flags = le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));

	return !!(flags & F_AVAIL) == vr->s.avail_wrap && !!(flags & F_USED) != vr->s.avail_wrap;
}

/* Move a position by n slots, n at most the ring size. */
static void advance(const struct vring *vr, uint16_t *pos, bool *wrap, unsigned n)
{
	unsigned next = *pos + n;

	if (next >= vr->s.size) {
		next -= vr->s.size;
		*wrap = !*wrap;
	}
	*pos = next;
}

static bool walk(struct vring *vr, struct vring_chain *c, unsigned *id)
{
	unsigned at = vr->s.next_avail;

	for (;;) {
		struct vring_desc d = vring_load_desc(vr->desc.host, at);

		if (c->slots == vr->s.size)
			return vring_lie(vr, "a chain loops");
		c->slots++;
		*id = d.w0;
		if (d.w1 & DESC_F_INDIRECT) {
			if (d.w1 & DESC_F_NEXT)
				return vring_lie(vr, "an indirect descriptor has a next one");
			return vring_add_indirect(vr, c, d.addr, d.len);
		}
		if (!vring_add_buffer(vr, c, d.addr, d.len, d.w1 & DESC_F_WRITE))
			return false;
		if (!(d.w1 & DESC_F_NEXT))
			return true;
		at = at + 1 == vr->s.size ? 0 : at + 1;
	}
}

static enum vring_pop pop(struct vring *vr, struct vring_chain *c)
{
	unsigned id = 0;

	if (!has_avail(vr))
		return VRING_EMPTY;
	c->slots = 0;
	if (!walk(vr, c, &id))
		return VRING_LIED;
	if (id >= vr->s.size)
		return vring_lie(vr, "a buffer id is not below the queue size"), VRING_LIED;
	if (vring_id_busy(vr, id))
		return vring_lie(vr, "a buffer was made available twice"), VRING_LIED;
	if (vr->slots_out + c->slots > vr->s.size)
		return vring_lie(vr, "more descriptors are available than the ring holds"), VRING_LIED;
	c->head = id;
	vr->slots_out += c->slots;
	advance(vr, &vr->s.next_avail, &vr->s.avail_wrap, c->slots);
	return VRING_CHAIN;
}

static void unpop(struct vring *vr, const struct vring_chain *c)
{
	vr->slots_out -= c->slots;
	if (vr->s.next_avail >= c->slots) {
		vr->s.next_avail -= c->slots;
	} else {
		vr->s.next_avail += vr->s.size - c->slots;
		vr->s.avail_wrap = !vr->s.avail_wrap;
	}
}

static void arm_kick(struct vring *vr)
{
	if (vr->s.event_idx) {
		vring_put16(vr, &vr->device, EVENT_OFF, vr->s.next_avail | vr->s.avail_wrap << 15);
		/* The driver reads the flags first. */
		__atomic_thread_fence(__ATOMIC_RELEASE);
	}
	vring_put16(vr, &vr->device, EVENT_FLAGS, vr->s.event_idx ? EVENTS_AT : EVENTS_ENABLE);
}

static void disarm_kick(struct vring *vr)
{
	vring_put16(vr, &vr->device, EVENT_FLAGS, EVENTS_DISABLE);
}

static void show(struct vring *vr, unsigned slot, uint16_t flags)
{
	uint32_t off = slot * DESC_SIZE + DESC_FLAGS;

	/* Release: id, length and buffer are written before the flags that make them used. */
	__atomic_store_n((uint16_t *)((char *)vr->desc.host + off), htole16(flags), __ATOMIC_RELEASE);
	vr->mem.touched(vr->mem.opaque, &vr->desc, off, 2);
}

static void push(struct vring *vr, const struct vring_chain *c, uint32_t written)
{
	uint32_t off = vr->s.next_used * DESC_SIZE;
	uint16_t flags = (vr->s.used_wrap ? F_AVAIL | F_USED : 0) | (written ? DESC_F_WRITE : 0);

	vring_put32(vr, &vr->desc, off + DESC_LEN, written);
	vring_put16(vr, &vr->desc, off + DESC_ID, c->head);
	if (vr->pushed) {
		show(vr, vr->s.next_used, flags);
	} else {
		vr->batch_at = vr->s.next_used;
		vr->batch_flags = flags;
	}
	vr->slots_out -= c->slots;
	advance(vr, &vr->s.next_used, &vr->s.used_wrap, c->slots);
}

static void publish(struct vring *vr)
{
	show(vr, vr->batch_at, vr->batch_flags);
}

static bool wants_interrupt(struct vring *vr, bool lapped)
{
	uint16_t flags = vring_get16(&vr->driver, EVENT_FLAGS), off, event, old = vr->signalled;

	if (flags != EVENTS_AT || !vr->s.event_idx)
		return flags != EVENTS_DISABLE;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	off = vring_get16(&vr->driver, EVENT_OFF);
	event = off & 0x7fff;
	/* Positions of the lap before count down from 0. */
	if (off >> 15 != vr->published_wrap)
		event -= vr->s.size;
	if (vr->signalled_wrap != vr->published_wrap)
		old -= vr->s.size;
	return lapped || (uint16_t)(vr->published - event - 1) < (uint16_t)(vr->published - old);
}

const struct vring_layout vring_packed = {
	.areas = areas,
	.check = check,
	.pop = pop,
	.unpop = unpop,
	.has_avail = has_avail,
	.arm_kick = arm_kick,
	.disarm_kick = disarm_kick,
	.push = push,
	.publish = publish,
	.wants_interrupt = wants_interrupt,
};
