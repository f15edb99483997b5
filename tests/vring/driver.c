/* See driver.h. */
#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>

#include "base/bytes.h"

uint8_t drv_mem[DRV_MEMORY] __attribute__((aligned(4096)));
static uint8_t before[DRV_MEMORY], reported[DRV_MEMORY];
static bool watching;

static void report(uint64_t addr, uint32_t len)
{
	if (watching)
		memset(reported + addr, 1, len);
}

static bool map(void *opaque, uint64_t addr, uint32_t len, bool device_writes, struct vring_map *m)
{
	struct drv *d = opaque;

	assert_true(len > 0);
	if (d->on_map)
		d->on_map(d, addr, device_writes);
	if (!range_within(addr, len, DRV_MEMORY) || (addr < DRV_HOLE + 0x1000 && DRV_HOLE < addr + len))
		return false;
	d->maps++;
	*m = (struct vring_map){ drv_mem + addr, addr, len, device_writes };
	return true;
}

static void unmap(void *opaque, struct vring_map *m, uint32_t written)
{
	assert_true(written <= m->len);
	assert_true(m->device_writes || !written);
	report(m->addr, written);
	((struct drv *)opaque)->unmaps++;
}

static void touched(void *opaque, struct vring_map *m, uint32_t off, uint32_t len)
{
	assert_true(m->device_writes && range_within(off, len, m->len));
	report(m->addr + off, len);
}

void drv_put16(uint64_t at, uint16_t v)
{
	__atomic_store_n((uint16_t *)(drv_mem + at), htole16(v), __ATOMIC_RELEASE);
}

void drv_put64(uint64_t at, uint64_t v)
{
	st_le64(drv_mem + at, v);
}

uint16_t drv_get16(uint64_t at)
{
	return le16toh(__atomic_load_n((uint16_t *)(drv_mem + at), __ATOMIC_ACQUIRE));
}

uint32_t drv_get32(uint64_t at)
{
	return ld_le32(drv_mem + at);
}

void drv_desc(uint64_t at, struct seg s, uint16_t third, uint16_t fourth)
{
	st_le64(drv_mem + at, s.addr);
	st_le32(drv_mem + at + 8, s.len);
	drv_put16(at + 12, third);
	drv_put16(at + 14, fourth);
}

void drv_start(struct drv *d, struct vring_setup mode)
{
	const struct vring_mem mem = { map, unmap, touched, d };

	memset(drv_mem, 0, sizeof(drv_mem));
	watching = false;
	*d = (struct drv){ .s = mode, .avail_wrap = true, .used_wrap = true, .kicked_wrap = true };
	d->s.desc = DRV_DESC;
	d->s.driver = DRV_DRIVER;
	d->s.device = DRV_DEVICE;
	vring_setup_reset(&d->s);
	d->vr = vring_new(&mem);
	assert_non_null(d->vr);
	assert_null(vring_start(d->vr, &d->s));
}

void drv_stop(struct drv *d)
{
	vring_free(d->vr);
	assert_int_equal(d->maps, d->unmaps);
}

static void advance(const struct drv *d, uint16_t *pos, bool *wrap, unsigned n)
{
	*pos += n;
	if (*pos >= d->s.size) {
		*pos -= d->s.size;
		*wrap = !*wrap;
	}
}

static uint16_t segment_flags(const struct seg *segs, unsigned i, unsigned n)
{
	return (segs[i].write ? D_WRITE : 0) | (i + 1 < n ? D_NEXT : 0);
}

/* The chain's table; `slot` keeps the tables of chains apart. */
static struct seg fill_table(struct drv *d, const struct seg *segs, unsigned n, unsigned slot)
{
	uint64_t at = DRV_TABLE + slot % 16 * 0x200;

	assert_true(n <= 0x200 / 16);
	for (unsigned i = 0; i < n; i++) {
		if (d->s.packed)
			drv_desc(at + 16 * i, segs[i], 0, segs[i].write ? D_WRITE : 0);
		else
			drv_desc(at + 16 * i, segs[i], segment_flags(segs, i, n), i + 1);
	}
	return (struct seg){ at, 16 * n, false };
}

static uint16_t add_split(struct drv *d, const struct seg *segs, unsigned n, uint16_t more)
{
	uint16_t head = d->next_free;

	for (unsigned i = 0; i < n; i++) {
		uint16_t at = d->next_free, next = (at + 1) % d->s.size;

		drv_desc(DRV_DESC + 16 * at, segs[i], segment_flags(segs, i, n) | more, next);
		d->next_free = next;
	}
	drv_put16(DRV_DRIVER + 4 + 2 * (d->avail % d->s.size), head);
	drv_put16(DRV_DRIVER + 2, ++d->avail);
	return head;
}

/* The flags of the first descriptor make the chain available: they are written last. */
static uint16_t add_packed(struct drv *d, const struct seg *segs, unsigned n, uint16_t more)
{
	uint16_t id = d->next_free, first = d->avail, first_flags = 0;

	d->next_free = (d->next_free + 1) % d->s.size;
	d->slots[id] = n;
	for (unsigned i = 0; i < n; i++) {
		uint16_t flags = segment_flags(segs, i, n) | more | (d->avail_wrap ? P_AVAIL : P_USED);

		if (i)
			drv_desc(DRV_DESC + 16 * d->avail, segs[i], id, flags);
		else
			first_flags = flags;
		advance(d, &d->avail, &d->avail_wrap, 1);
	}
	st_le64(drv_mem + DRV_DESC + 16 * first, segs[0].addr);
	st_le32(drv_mem + DRV_DESC + 16 * first + 8, segs[0].len);
	drv_put16(DRV_DESC + 16 * first + 12, id);
	drv_put16(DRV_DESC + 16 * first + 14, first_flags);
	return id;
}

uint16_t drv_add(struct drv *d, const struct seg *segs, unsigned n, bool indirect)
{
	struct seg table;

	if (indirect) {
		table = fill_table(d, segs, n, d->next_free);
		segs = &table;
		n = 1;
	}
	return d->s.packed ? add_packed(d, segs, n, indirect ? D_INDIRECT : 0)
			   : add_split(d, segs, n, indirect ? D_INDIRECT : 0);
}

bool drv_poll(struct drv *d, uint16_t *id, uint32_t *len)
{
	uint64_t at;

	if (!d->s.packed) {
		if (drv_get16(DRV_DEVICE + 2) == d->used)
			return false;
		at = DRV_DEVICE + 4 + 8 * (d->used++ % d->s.size);
		*id = drv_get32(at);
		*len = drv_get32(at + 4);
		return true;
	}
	at = DRV_DESC + 16 * d->used;
	uint16_t flags = drv_get16(at + 14);
	if (!!(flags & P_AVAIL) != d->used_wrap || !!(flags & P_USED) != d->used_wrap)
		return false;
	*len = drv_get32(at + 8);
	*id = drv_get16(at + 12);
	assert_true(*id < d->s.size);
	advance(d, &d->used, &d->used_wrap, d->slots[*id]);
	return true;
}

static bool passed(uint16_t event, uint16_t now, uint16_t before_)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - before_);
}

bool drv_kick_needed(struct drv *d)
{
	uint16_t old = d->kicked_at, now = d->avail, off, event;
	bool old_wrap = d->kicked_wrap;

	atomic_thread_fence(memory_order_seq_cst);
	d->kicked_at = d->avail;
	d->kicked_wrap = d->avail_wrap;
	if (!d->s.packed) {
		if (!d->s.event_idx)
			return !(drv_get16(DRV_DEVICE) & 1);
		return passed(drv_get16(DRV_DEVICE + 4 + 8 * d->s.size), now, old);
	}
	if (drv_get16(DRV_DEVICE + 2) != 2)
		return drv_get16(DRV_DEVICE + 2) == 0;
	off = drv_get16(DRV_DEVICE);
	event = off & 0x7fff;
	if (off >> 15 != d->avail_wrap)
		event -= d->s.size;
	if (old_wrap != d->avail_wrap)
		old -= d->s.size;
	return passed(event, now, old);
}

void drv_want_interrupt(struct drv *d, bool yes)
{
	if (d->s.packed) {
		if (yes && d->s.event_idx)
			drv_put16(DRV_DRIVER, d->used | d->used_wrap << 15);
		drv_put16(DRV_DRIVER + 2, !yes ? 1 : d->s.event_idx ? 2 : 0);
	} else if (d->s.event_idx) {
		/* "None" is an index that lies behind. */
		drv_put16(DRV_DRIVER + 4 + 2 * d->s.size, yes ? d->used : d->used - 0x8000);
	} else {
		drv_put16(DRV_DRIVER, !yes);
	}
	atomic_thread_fence(memory_order_seq_cst);
}

void drv_watch(struct drv *d)
{
	memcpy(before, drv_mem, sizeof(before));
	memset(reported, 0, sizeof(reported));
	watching = true;
}

void drv_check_watched(struct drv *d)
{
	for (unsigned i = 0; i < DRV_MEMORY; i++)
		if (before[i] != drv_mem[i] && !reported[i])
			fail_msg("byte %#x was written and not reported", i);
	watching = false;
}
