/* The split layout, virtio 1.2 section 2.7: a descriptor table, an available and a used ring. */
#include "base/bytes.h"
#include "vring/impl.h"

#define AVAIL_FLAGS  0u
#define AVAIL_IDX    2u
#define AVAIL_RING   4u
#define USED_FLAGS   0u
#define USED_IDX     2u
#define USED_RING    4u
#define NO_INTERRUPT 1u /* available flags */
#define NO_NOTIFY    1u /* used flags */

static void areas(unsigned n, struct vring_area *desc, struct vring_area *driver, struct vring_area *device)
{
	*desc = (struct vring_area){ n * DESC_SIZE, 16, false };
	*driver = (struct vring_area){ 6 + 2 * n, 2, false };
	*device = (struct vring_area){ 6 + 8 * n, 4, true };
}

static const char *check(const struct vring_setup *s)
{
	/* A drained ring: everything that was taken has been used. */
	return s->next_avail == s->next_used ? NULL : "requests are missing from the ring";
}

static uint16_t avail_idx(const struct vring *vr)
{
	const char *p = (const char *)vr->driver.host + AVAIL_IDX;

	/* Acquire: the entries that the index covers are read after it. */
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static bool has_avail(struct vring *vr)
{
	return avail_idx(vr) != vr->s.next_avail;
}

static bool walk(struct vring *vr, struct vring_chain *c, unsigned i)
{
	unsigned left = vr->s.size;

	for (;;) {
		struct vring_desc d = vring_load_desc(vr->desc.host, i);

		if (!left--)
			return vring_lie(vr, "a chain loops");
		if (d.w0 & DESC_F_INDIRECT) {
			if (d.w0 & DESC_F_NEXT)
				return vring_lie(vr, "an indirect descriptor has a next one");
			return vring_add_indirect(vr, c, d.addr, d.len);
		}
		if (!vring_add_buffer(vr, c, d.addr, d.len, d.w0 & DESC_F_WRITE))
			return false;
		if (!(d.w0 & DESC_F_NEXT))
			return true;
		i = d.w1;
		if (i >= vr->s.size)
			return vring_lie(vr, "a descriptor index lies outside of the table");
	}
}

static enum vring_pop pop(struct vring *vr, struct vring_chain *c)
{
	uint16_t waiting = avail_idx(vr) - vr->s.next_avail;
	uint16_t head;

	if (waiting > vr->s.size)
		return vring_lie(vr, "the available index runs ahead of the ring"), VRING_LIED;
	if (!waiting) /* it went back */
		return VRING_EMPTY;
	head = vring_get16(&vr->driver, AVAIL_RING + 2 * (vr->s.next_avail & (vr->s.size - 1)));
	if (head >= vr->s.size)
		return vring_lie(vr, "a chain starts outside of the descriptor table"), VRING_LIED;
	if (vring_id_busy(vr, head))
		return vring_lie(vr, "a chain was made available twice"), VRING_LIED;
	c->head = head;
	if (!walk(vr, c, head))
		return VRING_LIED;
	vr->s.next_avail++;
	return VRING_CHAIN;
}

static void unpop(struct vring *vr, const struct vring_chain *c)
{
	vr->s.next_avail--;
}

static void arm_kick(struct vring *vr)
{
	if (vr->s.event_idx)
		vring_put16(vr, &vr->device, USED_RING + 8 * vr->s.size, vr->s.next_avail);
	else
		vring_put16(vr, &vr->device, USED_FLAGS, 0);
}

static void disarm_kick(struct vring *vr)
{
	/* With event indices an event that lies behind asks for nothing. */
	if (!vr->s.event_idx)
		vring_put16(vr, &vr->device, USED_FLAGS, NO_NOTIFY);
}

static void push(struct vring *vr, const struct vring_chain *c, uint32_t written)
{
	uint32_t off = USED_RING + 8 * (vr->s.next_used & (vr->s.size - 1));

	vring_put32(vr, &vr->device, off, c->head);
	vring_put32(vr, &vr->device, off + 4, written);
	vr->s.next_used++;
}

static void publish(struct vring *vr)
{
	char *p = (char *)vr->device.host + USED_IDX;

	/* Release: entries and buffers are written before the index that covers them. */
	__atomic_store_n((uint16_t *)p, htole16(vr->s.next_used), __ATOMIC_RELEASE);
	vr->mem.touched(vr->mem.opaque, &vr->device, USED_IDX, 2);
}

static bool wants_interrupt(struct vring *vr, bool lapped)
{
	uint16_t event;

	if (!vr->s.event_idx)
		return !(vring_get16(&vr->driver, AVAIL_FLAGS) & NO_INTERRUPT);
	event = vring_get16(&vr->driver, AVAIL_RING + 2 * vr->s.size);
	return lapped || (uint16_t)(vr->published - event - 1) < (uint16_t)(vr->published - vr->signalled);
}

const struct vring_layout vring_split = {
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
