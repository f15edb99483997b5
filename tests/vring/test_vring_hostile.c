/* Virtqueues under a driver that lies: each lie is told apart, breaks only its ring, and leaks nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "driver.h"

static struct drv d;
static const struct vring_setup split = { .size = 8, .indirect = true };
static const struct vring_setup packed = { .size = 8, .indirect = true, .packed = true };
static const struct seg in = { DRV_DATA, 16, false }, out = { DRV_DATA + 0x1000, 16, true };

/* A descriptor of the ring, by either layout's flags. */
static void desc(unsigned i, struct seg s, uint16_t flags, uint16_t next)
{
	if (d.s.packed)
		drv_desc(DRV_DESC + 16 * i, s, 0, flags | P_AVAIL);
	else
		drv_desc(DRV_DESC + 16 * i, s, flags, next);
}

static void table(unsigned i, struct seg s, uint16_t flags, uint16_t next)
{
	if (d.s.packed)
		drv_desc(DRV_TABLE + 16 * i, s, 0, flags);
	else
		drv_desc(DRV_TABLE + 16 * i, s, flags, next);
}

/* Make descriptor 0 available (a packed one is already). */
static void offer(uint16_t head)
{
	if (d.s.packed)
		return;
	drv_put16(DRV_DRIVER + 4 + 2 * (d.avail % d.s.size), head);
	drv_put16(DRV_DRIVER + 2, ++d.avail);
}

/* The lie is found, stays found, and is over with a new start. */
static void lied(const char *says)
{
	struct vring_chain *c = (void *)1;
	const char *why = NULL;

	for (int again = 0; again < 2; again++) {
		assert_int_equal(vring_pop(d.vr, &c, &why), VRING_LIED);
		assert_null(c);
		if (!strstr(why, says))
			fail_msg("'%s' does not say '%s'", why, says);
	}
	assert_int_equal(vring_pop(d.vr, &c, NULL), VRING_LIED);
	vring_stop(d.vr);
	assert_int_equal(d.maps, d.unmaps);
	memset(drv_mem, 0, DRV_TABLE);
	assert_null(vring_start(d.vr, &d.s));
	assert_int_equal(vring_pop(d.vr, &c, NULL), VRING_EMPTY);
	drv_stop(&d);
}

static void both(void (*fn)(void))
{
	drv_start(&d, split);
	fn();
	drv_start(&d, packed);
	fn();
}

static void loop(void)
{
	for (unsigned i = 0; i < 8; i++)
		desc(i, out, D_NEXT | D_WRITE, (i + 1) % 8);
	offer(0);
	lied("loops");
}

static void readable_after_writable(void)
{
	desc(0, out, D_NEXT | D_WRITE, 1);
	desc(1, in, 0, 0);
	offer(0);
	lied("follows");
}

static void empty_buffer(void)
{
	desc(0, (struct seg){ DRV_DATA, 0, false }, 0, 0);
	offer(0);
	lied("empty");
}

static void outside(uint64_t addr, uint32_t len)
{
	desc(0, in, D_NEXT, 1);
	desc(1, (struct seg){ addr, len, true }, D_WRITE, 0);
	offer(0);
	lied("not in memory");
}

static void beyond_memory(void)
{
	outside(DRV_MEMORY - 8, 9);
}

static void wraps_around(void)
{
	outside(UINT64_MAX - 8, 64);
}

static void in_registers(void)
{
	outside(DRV_HOLE, 4);
}

static void reaches_registers(void)
{
	outside(DRV_HOLE - 4, 8);
}

static void indirect(struct seg t, uint16_t flags)
{
	desc(0, t, D_INDIRECT | flags, 1);
	desc(1, out, D_WRITE, 0);
	offer(0);
}

static void indirect_and_next(void)
{
	table(0, in, 0, 0);
	indirect((struct seg){ DRV_TABLE, 16, false }, D_NEXT);
	lied("has a next one");
}

static void indirect_of_part(void)
{
	indirect((struct seg){ DRV_TABLE, 24, false }, 0);
	lied("whole number");
}

static void indirect_of_nothing(void)
{
	indirect((struct seg){ DRV_TABLE, 0, false }, 0);
	lied("whole number");
}

static void indirect_nested(void)
{
	table(0, in, d.s.packed ? 0 : D_NEXT, 1);
	table(1, (struct seg){ DRV_TABLE, 32, false }, D_INDIRECT, 0);
	indirect((struct seg){ DRV_TABLE, 32, false }, 0);
	lied("inside an indirect table");
}

static void indirect_in_registers(void)
{
	indirect((struct seg){ DRV_HOLE, 32, false }, 0);
	lied("table is not in memory");
}

static void indirect_too_long(void)
{
	for (unsigned i = 0; i < 9; i++)
		table(i, in, d.s.packed || i == 8 ? 0 : D_NEXT, i + 1);
	indirect((struct seg){ DRV_TABLE, 9 * 16, false }, 0);
	lied("longer than the queue");
}

/* Direct descriptors before the table count too. */
static void budget_is_shared(void)
{
	for (unsigned i = 0; i < 8; i++)
		table(i, out, D_WRITE | (d.s.packed || i == 7 ? 0 : D_NEXT), i + 1);
	desc(0, in, D_NEXT, 1);
	desc(1, (struct seg){ DRV_TABLE, 8 * 16, false }, D_INDIRECT, 0);
	offer(0);
	lied("longer than the queue");
}

static void test_both_layouts(void **state)
{
	static void (*const lies[])(void) = {
		loop,
		readable_after_writable,
		empty_buffer,
		beyond_memory,
		wraps_around,
		in_registers,
		reaches_registers,
		indirect_and_next,
		indirect_of_part,
		indirect_of_nothing,
		indirect_nested,
		indirect_in_registers,
		indirect_too_long,
		budget_is_shared,
	};

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		both(lies[i]);
}

static void made_available_twice(const struct vring_setup *mode)
{
	struct vring_chain *first, *c;
	const char *why;

	drv_start(&d, *mode);
	desc(0, in, 0, 0);
	offer(0);
	assert_int_equal(vring_pop(d.vr, &first, NULL), VRING_CHAIN);
	desc(1, in, 0, 0); /* packed: another descriptor with the same id */
	offer(0);
	assert_int_equal(vring_pop(d.vr, &c, &why), VRING_LIED);
	assert_non_null(strstr(why, "twice"));
	vring_complete(first, 0); /* what was taken before the lie can still be given back */
	lied("twice");
}

static void test_made_available_twice(void **state)
{
	made_available_twice(&split);
	made_available_twice(&packed);
}

static void test_indirect_not_negotiated(void **state)
{
	for (int p = 0; p < 2; p++) {
		struct vring_setup mode = { .size = 8, .packed = p };

		drv_start(&d, mode);
		table(0, in, 0, 0);
		indirect((struct seg){ DRV_TABLE, 16, false }, 0);
		lied("not negotiated");
	}
}

/* --- the split layout's own --- */

static void test_split_indices(void **state)
{
	drv_start(&d, split);
	offer(8);
	lied("outside of the descriptor table");
	drv_start(&d, split);
	offer(0xffff);
	lied("outside of the descriptor table");

	drv_start(&d, split);
	desc(0, in, D_NEXT, 8);
	offer(0);
	lied("outside of the table");
	drv_start(&d, split);
	table(0, in, D_NEXT, 2);
	indirect((struct seg){ DRV_TABLE, 32, false }, 0);
	lied("outside of the indirect table");

	/* A short loop, and one inside an indirect table. */
	drv_start(&d, split);
	desc(0, in, D_NEXT, 0);
	offer(0);
	lied("loops");
	drv_start(&d, split);
	table(0, in, D_NEXT, 0);
	indirect((struct seg){ DRV_TABLE, 32, false }, 0);
	lied("longer than the queue");
}

static void available_index(uint16_t v, const char *says)
{
	struct vring_chain *c;

	drv_start(&d, split);
	desc(0, in, 0, 0);
	offer(0);
	assert_int_equal(vring_pop(d.vr, &c, NULL), VRING_CHAIN);
	vring_complete(c, 0);
	drv_put16(DRV_DRIVER + 2, v);
	lied(says);
}

static void test_available_index_jumps(void **state)
{
	available_index(1 + 9, "runs ahead");
	available_index(0, "runs ahead"); /* back is as wrong as too far */
	available_index(0x8000, "runs ahead");
	available_index(0xffff, "runs ahead");
}

/* The device keeps its own count: what the driver writes to the used ring changes nothing. */
static void test_used_ring_is_not_read(void **state)
{
	struct vring_chain *c;

	drv_start(&d, split);
	for (int i = 0; i < 20; i++) {
		drv_add(&d, &out, 1, false);
		memset(drv_mem + DRV_DEVICE, 0xa5, 4 + 8 * 8);
		assert_int_equal(vring_pop(d.vr, &c, NULL), VRING_CHAIN);
		vring_complete(c, 5);
		assert_int_equal(drv_get16(DRV_DEVICE + 2), i + 1);
		assert_int_equal(drv_get32(DRV_DEVICE + 4 + 8 * (i % 8) + 4), 5);
	}
	drv_stop(&d);
}

/* A table may be longer than the queue; what counts is the chain in it. The write bit of its descriptor says nothing.
 */
static void test_long_table_with_a_short_chain(void **state)
{
	struct vring_chain *c;

	drv_start(&d, split);
	table(0, in, D_NEXT, 19);
	table(19, out, D_WRITE, 0);
	indirect((struct seg){ DRV_TABLE, 20 * 16, false }, D_WRITE);
	assert_int_equal(vring_pop(d.vr, &c, NULL), VRING_CHAIN);
	assert_int_equal(c->readable, 16);
	assert_int_equal(c->writable, 16);
	vring_complete(c, 0);
	drv_stop(&d);
}

/* Buffers that overlap each other, or the ring itself, are the driver's problem. */
static void test_overlaps(void **state)
{
	uint8_t junk[64];

	memset(junk, 0xff, sizeof(junk));
	for (int p = 0; p < 2; p++) {
		const struct seg over[3] = { { DRV_DATA, 64, false },
					     { DRV_DATA + 8, 64, true },
					     { DRV_DATA, 64, true } };
		const struct seg ring[2] = { { p ? DRV_DESC : DRV_DRIVER, 64, true }, { DRV_DEVICE, 64, true } };
		struct vring_chain *c;

		drv_start(&d, p ? packed : split);
		drv_add(&d, over, 3, false);
		assert_int_equal(vring_pop(d.vr, &c, NULL), VRING_CHAIN);
		assert_int_equal(vring_write(c, junk, 64), 64);
		assert_int_equal(vring_write(c, junk, 64), 64);
		vring_complete(c, 128);
		drv_add(&d, ring, 2, false);
		assert_int_equal(vring_pop(d.vr, &c, NULL), VRING_CHAIN);
		vring_write(c, junk, 64);
		vring_write(c, junk, 64);
		vring_complete(c, 128);
		/* Whatever stands in the ring now, the device ends up with a lie or nothing, and bounded. */
		for (int i = 0; i < 20 && vring_pop(d.vr, &c, NULL) == VRING_CHAIN; i++)
			vring_complete(c, 0);
		vring_should_interrupt(d.vr);
		drv_stop(&d);
	}
}

/* --- the packed layout's own --- */

static void test_packed_ids(void **state)
{
	drv_start(&d, packed);
	drv_desc(DRV_DESC, in, 8, P_AVAIL);
	lied("not below the queue size");
	drv_start(&d, packed);
	drv_desc(DRV_DESC, in, 0xffff, P_AVAIL);
	lied("not below the queue size");
}

/* Chains that are out hold slots; a driver that wraps over them has more descriptors than the ring. */
static void test_packed_runs_over_itself(void **state)
{
	struct vring_chain *c[2], *more;
	const char *why;

	drv_start(&d, packed);
	for (unsigned k = 0; k < 2; k++) {
		for (unsigned i = 0; i < 3; i++)
			drv_desc(DRV_DESC + 16 * (3 * k + i), in, k, P_AVAIL | (i < 2 ? D_NEXT : 0));
		assert_int_equal(vring_pop(d.vr, &c[k], NULL), VRING_CHAIN);
	}
	drv_desc(DRV_DESC + 16 * 6, in, 5, P_AVAIL | D_NEXT);
	drv_desc(DRV_DESC + 16 * 7, in, 5, P_AVAIL | D_NEXT);
	drv_desc(DRV_DESC + 16 * 0, in, 5, P_USED);
	assert_int_equal(vring_pop(d.vr, &more, &why), VRING_LIED);
	assert_non_null(strstr(why, "more descriptors"));
	vring_complete(c[0], 0);
	vring_complete(c[1], 0);
	lied("more descriptors");
}

/* --- a guest that changes memory while the device looks --- */

static void flip_descriptor(struct drv *drv, uint64_t addr, bool device_writes)
{
	/* The device has copied descriptor 0 and asks for its memory: now it says something else. */
	if (addr == DRV_DATA)
		desc(0, (struct seg){ DRV_HOLE, UINT32_MAX, false }, D_INDIRECT | D_NEXT | D_WRITE, 999);
}

static void test_descriptors_are_read_once(void **state)
{
	for (int p = 0; p < 2; p++) {
		struct vring_chain *c;

		drv_start(&d, p ? packed : split);
		desc(0, in, D_NEXT, 1);
		desc(1, out, D_WRITE, 0);
		offer(0);
		d.on_map = flip_descriptor;
		assert_int_equal(vring_pop(d.vr, &c, NULL), VRING_CHAIN);
		assert_int_equal(c->readable, 16);
		assert_int_equal(c->writable, 16);
		vring_complete(c, 0);
		d.on_map = NULL;
		drv_stop(&d);
	}
}

static void flip_table(struct drv *drv, uint64_t addr, bool device_writes)
{
	if (addr == DRV_DATA)
		table(0, (struct seg){ DRV_HOLE, UINT32_MAX, true }, D_INDIRECT | D_WRITE, 999);
}

static void test_tables_are_read_once(void **state)
{
	for (int p = 0; p < 2; p++) {
		struct vring_chain *c;

		drv_start(&d, p ? packed : split);
		table(0, in, p ? 0 : D_NEXT, 1);
		table(1, out, D_WRITE, 0);
		indirect((struct seg){ DRV_TABLE, 32, false }, 0);
		d.on_map = flip_table;
		assert_int_equal(vring_pop(d.vr, &c, NULL), VRING_CHAIN);
		assert_int_equal(c->readable, 16);
		assert_int_equal(c->writable, 16);
		vring_complete(c, 0);
		d.on_map = NULL;
		drv_stop(&d);
	}
}

/* --- the sum of a chain --- */

static bool map_anything(void *opaque, uint64_t addr, uint32_t len, bool device_writes, struct vring_map *m)
{
	if (addr >= DRV_DATA)
		addr = DRV_DATA;
	*m = (struct vring_map){ drv_mem + addr, addr, len, device_writes };
	return true;
}

static void unmap_anything(void *opaque, struct vring_map *m, uint32_t written)
{
}

static void touched_anything(void *opaque, struct vring_map *m, uint32_t off, uint32_t len)
{
}

static void test_sum(void **state)
{
	const struct vring_mem mem = { map_anything, unmap_anything, touched_anything, NULL };
	struct vring_chain *c;
	const char *why;

	drv_start(&d, split);
	vring_free(d.vr);
	d.vr = vring_new(&mem);
	assert_null(vring_start(d.vr, &d.s));
	desc(0, (struct seg){ DRV_DATA, UINT32_MAX, true }, D_NEXT | D_WRITE, 1);
	desc(1, (struct seg){ DRV_DATA, 1, true }, D_WRITE, 0);
	offer(0);
	assert_int_equal(vring_pop(d.vr, &c, &why), VRING_LIED);
	assert_non_null(strstr(why, "4 GiB"));
	vring_free(d.vr);
}

/* --- what cannot even start --- */

static void refused(struct vring_setup s, const char *says)
{
	const char *why = vring_start(d.vr, &s);

	assert_non_null(why);
	if (!strstr(why, says))
		fail_msg("'%s' does not say '%s'", why, says);
}

static void test_bad_setups(void **state)
{
	struct vring_setup s;

	for (int p = 0; p < 2; p++) {
		drv_start(&d, p ? packed : split);
		vring_stop(d.vr);
		assert_int_equal(d.maps, d.unmaps);
		for (unsigned size = 0; size < 3; size++) {
			s = d.s;
			s.size = size == 0 ? 0 : size == 1 ? VRING_MAX_SIZE + 1 : 0x8000;
			refused(s, "size");
		}
		s = d.s;
		s.desc += 8;
		refused(s, "descriptor area");
		s = d.s;
		s.driver += 1;
		refused(s, "driver area");
		s = d.s;
		s.device += 2;
		refused(s, "device area");
		s = d.s;
		s.desc = DRV_HOLE;
		refused(s, "descriptor area");
		s = d.s;
		s.driver = DRV_HOLE + 0x100;
		refused(s, "driver area");
		s = d.s;
		s.device = DRV_HOLE + 0x100;
		refused(s, "device area");
		s = d.s;
		s.desc = DRV_MEMORY - 16;
		refused(s, "descriptor area");
		s = d.s;
		s.device = UINT64_MAX & ~15ull;
		refused(s, "device area");
		s = d.s;
		s.next_avail = 1; /* a state that was saved with requests out, or a lie */
		refused(s, "missing");
		assert_int_equal(d.maps, d.unmaps);
		drv_stop(&d);
	}
	drv_start(&d, split);
	vring_stop(d.vr);
	s = d.s;
	s.size = 6; /* no power of two */
	refused(s, "size");
	drv_stop(&d);
	drv_start(&d, packed);
	vring_stop(d.vr);
	s = d.s;
	s.size = 6;
	assert_null(vring_start(d.vr, &s)); /* the packed layout does not care */
	vring_stop(d.vr);
	s = d.s;
	s.next_avail = s.next_used = 8;
	refused(s, "outside of the ring");
	drv_stop(&d);
}

/* The longest chain there can be, direct and indirect: segments beyond the inline ones. */
static void test_longest_chain(void **state)
{
	for (int p = 0; p < 2; p++) {
		struct vring_setup mode = { .size = 256, .packed = p };
		static struct seg segs[256];
		struct vring_chain *c;
		uint8_t b[256];

		drv_start(&d, mode);
		for (unsigned i = 0; i < 256; i++) {
			segs[i] = (struct seg){ DRV_DATA + 2 * i, 1, false };
			drv_mem[DRV_DATA + 2 * i] = i;
		}
		drv_add(&d, segs, 256, false);
		assert_int_equal(vring_pop(d.vr, &c, NULL), VRING_CHAIN);
		assert_int_equal(vring_read(c, b, 256), 256);
		for (unsigned i = 0; i < 256; i++)
			assert_int_equal(b[i], i);
		vring_complete(c, 0);
		drv_stop(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_layouts),
		cmocka_unit_test(test_made_available_twice),
		cmocka_unit_test(test_indirect_not_negotiated),
		cmocka_unit_test(test_split_indices),
		cmocka_unit_test(test_available_index_jumps),
		cmocka_unit_test(test_used_ring_is_not_read),
		cmocka_unit_test(test_long_table_with_a_short_chain),
		cmocka_unit_test(test_overlaps),
		cmocka_unit_test(test_packed_ids),
		cmocka_unit_test(test_packed_runs_over_itself),
		cmocka_unit_test(test_descriptors_are_read_once),
		cmocka_unit_test(test_tables_are_read_once),
		cmocka_unit_test(test_sum),
		cmocka_unit_test(test_bad_setups),
		cmocka_unit_test(test_longest_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
