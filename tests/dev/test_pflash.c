/* dev/pflash.c: commands, blocks, the array behind them, and what is told of changes. */
#include "board.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dev/pflash.h"

#define BASE  0xff000000u
#define SIZE  0x8000u
#define READY 0x80

struct rig {
	struct mem_space *smm;
	unsigned changes;
	uint32_t off, len; /* stored last */
	bool readonly;
};

static void changed(void *opaque)
{
	((struct rig *)opaque)->changes++;
}

static void stored(void *opaque, uint32_t off, uint32_t len)
{
	struct rig *r = opaque;

	r->off = off;
	r->len = len;
}

static struct rig rigs[2];
static bool readonly;

static void make(struct board *b)
{
	const struct mem_slot_config slot = { "flash", gpa(BASE), SIZE, MEM_ANON, -1, 0, true };
	const struct mem_overlay_config o = { "flash", gpa(BASE), SIZE, false, gpa(0) };
	struct rig *r = rigs[0].smm ? &rigs[1] : &rigs[0];
	struct err err;

	*r = (struct rig){ .smm = mem_space_over(b->mem) };
	assert_int_equal(mem_add_slot(b->mem, &slot, &err), 0);
	struct pflash_config c = { .mem = b->mem,
				   .smm = r->smm,
				   .overlay = (unsigned)mem_add_overlay(b->mem, &o, &err),
				   .base = BASE,
				   .size = SIZE,
				   .readonly = readonly,
				   .changed = changed,
				   .stored = stored,
				   .opaque = r };
	for (uint32_t at = 0; at < SIZE; at += 4)
		assert_true(mem_load_rom(b->mem, gpa(BASE + at), "\xf0\xf1\xf2\xf3", 4));
	b->own = r;
	board_add(b, pflash_new(b->bus, &c, &err));
}

static void setup(struct board *b, bool ro)
{
	readonly = ro;
	board_init(b);
	make(b);
}

static void end(struct board *b)
{
	struct rig *r = b->own;

	board_fini(b);
	mem_space_free(r->smm);
	r->smm = NULL;
}

static struct rig *rig(struct board *b)
{
	return b->own;
}

/* As a processor reads: memory, or what the bus has where there is none. */
static uint8_t get(struct board *b, uint32_t off)
{
	uint8_t v;

	return mem_read(b->mem, gpa(BASE + off), &v, 1) ? v : (uint8_t)board_read(b, BASE + off, 1);
}

static void put(struct board *b, uint32_t off, uint8_t v)
{
	uint8_t was = get(b, off);

	assert_false(mem_write(b->mem, gpa(BASE + off), &was, 1));
	board_write(b, BASE + off, 1, v);
}

static void program(struct board *b, uint32_t off, uint8_t v)
{
	put(b, off, 0x10);
	put(b, off, v);
}

/* What OVMF does to tell flash from RAM and ROM. */
static void firmware_knows_it(void **state)
{
	struct board b;

	setup(&b, false);
	assert_int_equal(get(&b, 2), 0xf2);
	put(&b, 2, 0x50);
	assert_int_equal(get(&b, 2), 0xf2);
	put(&b, 2, 0x70);
	assert_int_equal(get(&b, 2), 0);
	put(&b, 2, 0xff);
	assert_int_equal(get(&b, 2), 0xf2);
	assert_int_equal(rig(&b)->changes, 3); /* at first, and to status and back */
	end(&b);
}

static void programming_clears_bits_and_erasing_sets_them(void **state)
{
	struct board b;

	setup(&b, false);
	program(&b, 0x1003, 0x35);
	assert_int_equal(get(&b, 0x1003), READY);
	program(&b, 0x1010, 0x00);
	assert_int_equal(rig(&b)->len, 0);
	put(&b, 0x1003, 0xff);
	assert_int_equal(get(&b, 0x1003), 0xf3 & 0x35);
	assert_int_equal(get(&b, 0x1010), 0);
	assert_int_equal(get(&b, 0x1004), 0xf0);
	/* It is told once, with all that changed. */
	assert_int_equal(rig(&b)->off, 0x1003);
	assert_int_equal(rig(&b)->len, 0xe);
	put(&b, 0x1234, 0x20);
	put(&b, 0x1234, 0xd0);
	put(&b, 0, 0xff);
	assert_int_equal(get(&b, 0xfff), 0xf3);
	for (uint32_t off = 0x1000; off < 0x2000; off++)
		assert_int_equal(get(&b, off), 0xff);
	assert_int_equal(get(&b, 0x2000), 0xf0);
	assert_int_equal(rig(&b)->off, 0x1000);
	assert_int_equal(rig(&b)->len, 0x1000);
	end(&b);
}

static void an_erasure_is_confirmed(void **state)
{
	struct board b;

	setup(&b, false);
	put(&b, 0, 0x20);
	put(&b, 0, 0x12);
	assert_int_equal(get(&b, 0), READY | 0x30);
	put(&b, 0, 0x50);
	put(&b, 0, 0x20);
	put(&b, 0, 0xff); /* given up */
	assert_int_equal(get(&b, 0), 0xf0);
	end(&b);
}

static void the_buffer_is_programmed_at_once(void **state)
{
	struct board b;

	setup(&b, false);
	put(&b, 0x2100, 0xe8);
	assert_int_equal(get(&b, 0x2100), READY);
	put(&b, 0x2100, 3);
	for (unsigned n = 0; n < 4; n++)
		put(&b, 0x2110 + n, (uint8_t)(0x10 * n));
	put(&b, 0x2100, 0xd0);
	put(&b, 0, 0xff);
	for (unsigned n = 0; n < 4; n++)
		assert_int_equal(get(&b, 0x2110 + n), (0x10 * n) & (0xf0 + n));
	assert_int_equal(get(&b, 0x2114), 0xf0);
	/* Beyond the buffer: an error. */
	put(&b, 0x2100, 0xe8);
	put(&b, 0x2100, 1);
	put(&b, 0x2100, 0);
	put(&b, 0x2200, 0);
	assert_int_equal(get(&b, 0), READY | 0x10);
	put(&b, 0, 0xd0);
	put(&b, 0, 0xff);
	assert_int_equal(get(&b, 0x2200), 0xf0);
	end(&b);
}

static void it_tells_what_it_is(void **state)
{
	struct board b;

	setup(&b, false);
	put(&b, 0, 0x90);
	assert_int_equal(get(&b, 0), 0x89);
	assert_int_equal(get(&b, 1), 0x18);
	put(&b, 0, 0x98);
	assert_int_equal(get(&b, 0x10), 'Q');
	assert_int_equal(get(&b, 0x11), 'R');
	assert_int_equal(get(&b, 0x12), 'Y');
	assert_int_equal(1u << get(&b, 0x27), SIZE);
	assert_int_equal(get(&b, 0x2d) + 1, SIZE / 4096);
	assert_int_equal(get(&b, 0x2f) * 256, 4096);
	assert_int_equal(get(&b, 0xf0), 0);
	end(&b);
}

static void code_cannot_be_changed(void **state)
{
	struct board b;

	setup(&b, true);
	program(&b, 1, 0);
	assert_int_equal(get(&b, 1), READY | 0x12);
	put(&b, 0, 0x50);
	put(&b, 1, 0x20);
	put(&b, 1, 0xd0);
	assert_int_equal(get(&b, 1), READY | 0x22);
	put(&b, 0, 0xff);
	assert_int_equal(get(&b, 1), 0xf1);
	assert_int_equal(rig(&b)->len, 0);
	end(&b);
}

static void a_reset_shows_the_array(void **state)
{
	struct board b;

	setup(&b, false);
	program(&b, 5, 0);
	board_reset(&b);
	assert_int_equal(get(&b, 5), 0);
	assert_int_equal(get(&b, 6), 0xf2);
	assert_int_equal(rig(&b)->len, 1);
	put(&b, 5, 0x70);
	assert_int_equal(get(&b, 5), 0);
	end(&b);
}

static void it_moves_in_the_middle_of_a_command(void **state)
{
	struct board b, t;

	setup(&b, false);
	put(&b, 0x300, 0xe8);
	put(&b, 0x300, 1);
	put(&b, 0x300, 0x11);
	board_migrate(&b, &t, make);
	/* The other machine has all of the array to keep. */
	assert_int_equal(rig(&t)->len, SIZE);
	put(&t, 0x301, 0x22);
	put(&t, 0x300, 0xd0);
	put(&t, 0, 0xff);
	assert_int_equal(get(&t, 0x300), 0x11 & 0xf0);
	assert_int_equal(get(&t, 0x301), 0x22 & 0xf1);
	end(&b);
	end(&t);
}

static void use(struct board *b)
{
	static const uint8_t all[] = { 0xe8, 0xff, 0x00, 0xd0, 0x10, 0x20, 0x60, 0x98, 0x40, 0x50, 0xff };

	for (size_t n = 0; n < sizeof(all); n++) {
		board_write(b, BASE + (n * 0x7ff) % SIZE, 1, all[n]);
		board_read(b, BASE + SIZE - 1, 1);
	}
	board_write(b, BASE + SIZE - 8, 8, 0xd010e820ff50ff20);
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;

	setup(&b, false);
	put(&b, 0x300, 0xe8);
	put(&b, 0x300, 1);
	put(&b, 0x300, 0x11);
	board_mutate(&b, use);
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(firmware_knows_it),
		cmocka_unit_test(programming_clears_bits_and_erasing_sets_them),
		cmocka_unit_test(an_erasure_is_confirmed),
		cmocka_unit_test(the_buffer_is_programmed_at_once),
		cmocka_unit_test(it_tells_what_it_is),
		cmocka_unit_test(code_cannot_be_changed),
		cmocka_unit_test(a_reset_shows_the_array),
		cmocka_unit_test(it_moves_in_the_middle_of_a_command),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
