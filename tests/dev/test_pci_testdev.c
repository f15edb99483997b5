/* dev/pci_testdev.c: tests that count writes, by the BARs and by doorbells that follow them. */
#include "board.h"

#include <string.h>

#include "dev/testdevs.h"

#define MEM    0xd0000000u
#define IO     0xc000u
#define BAR(n) (0x10 + 4 * (n))

static unsigned devfn;

static void make(struct board *b)
{
	struct err err;

	board_pci(b);
	devfn = (unsigned)pci_free_slot(b->pci) << 3;
	board_add(b, pci_testdev_new(b->bus, b->pci, (uint8_t)(pci_free_slot(b->pci) << 3), &err));
}

static void place(struct board *b, uint32_t mem, uint32_t io)
{
	pci_config_write(b->pci, (uint8_t)devfn, 4, 2, 0);
	pci_config_write(b->pci, (uint8_t)devfn, BAR(0), 4, mem);
	pci_config_write(b->pci, (uint8_t)devfn, BAR(1), 4, io);
	pci_config_write(b->pci, (uint8_t)devfn, 4, 2, 3);
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
	place(b, MEM, IO);
}

/* A register of the header, by memory or by port. */
static uint32_t get(struct board *b, bool io, unsigned off, unsigned size)
{
	return io ? board_in(b, (uint16_t)(IO + off), size) : (uint32_t)board_read(b, MEM + off, size);
}

static void put(struct board *b, bool io, unsigned off, uint8_t val)
{
	if (io)
		out8(b, (uint16_t)(IO + off), val);
	else
		board_write(b, MEM + off, 1, val);
}

static uint32_t count(struct board *b, bool io)
{
	return get(b, io, 12, 4);
}

static void it_says_which_writes_it_counts(void **state)
{
	static const char *const names[2][3] = {
		{ "mmio-no-eventfd", "mmio-wildcard-eventfd", "mmio-datamatch-eventfd" },
		{ "portio-no-eventfd", "portio-wildcard-eventfd", "portio-datamatch-eventfd" },
	};
	struct board b;

	setup(&b);
	assert_int_equal(pci_config_read(b.pci, (uint8_t)devfn, 0, 4), 0x00051b36);
	for (unsigned io = 0; io < 2; io++) {
		for (unsigned n = 0; n < 3; n++) {
			char name[33] = "";

			put(&b, io, 0, (uint8_t)n);
			assert_int_equal(get(&b, io, 1, 1), 1); /* width */
			assert_int_equal(get(&b, io, 4, 4), (io ? 128 : 2048) + n);
			assert_int_equal(get(&b, io, 8, 1), 0xfa);
			for (unsigned k = 0; k < 32; k++)
				name[k] = (char)get(&b, io, 16 + k, 1);
			assert_string_equal(name, names[io][n]);
		}
		/* There is no fourth one: it reads as nothing and counts nothing. */
		put(&b, io, 0, 3);
		put(&b, io, io ? 128 : 2048, 0xfa);
		for (unsigned k = 0; k < 48; k++)
			assert_int_equal(get(&b, io, k, 1), 0);
	}
	board_fini(&b);
}

static void writes_to_the_target_count(void **state)
{
	struct board b;

	setup(&b);
	for (unsigned io = 0; io < 2; io++) {
		unsigned target = io ? 128 : 2048;

		/* By the device, of any value. */
		put(&b, io, 0, 0);
		for (unsigned k = 1; k <= 5; k++) {
			put(&b, io, target, (uint8_t)k);
			assert_int_equal(count(&b, io), k);
		}
		put(&b, io, target + 1, 0xfa);
		put(&b, io, target + 7, 0xfa);
		assert_int_equal(count(&b, io), 5);
		/* By a doorbell of any value. */
		put(&b, io, 0, 1);
		assert_int_equal(count(&b, io), 0);
		put(&b, io, target + 1, 0xfa);
		put(&b, io, target + 1, 1);
		assert_int_equal(count(&b, io), 2);
		/* By a doorbell of one. */
		put(&b, io, 0, 2);
		put(&b, io, target + 2, 1);
		assert_int_equal(count(&b, io), 0);
		put(&b, io, target + 2, 0xfa);
		assert_int_equal(count(&b, io), 1);
		/* Selected again, it begins anew. */
		put(&b, io, 0, 2);
		assert_int_equal(count(&b, io), 0);
	}
	board_fini(&b);
}

static void doorbells_follow_the_bars(void **state)
{
	struct board b;

	setup(&b);
	put(&b, false, 0, 1);
	place(&b, MEM + 0x100000, IO + 0x400);
	board_write(&b, MEM + 2048 + 1, 1, 0xfa); /* nobody is there */
	out8(&b, IO + 128 + 1, 0xfa);
	assert_int_equal(board_read(&b, MEM + 0x100000 + 12, 4), 0);
	board_write(&b, MEM + 0x100000 + 2048 + 1, 1, 0xfa);
	assert_int_equal(board_read(&b, MEM + 0x100000 + 12, 4), 1);
	/* Without memory decoding there are none. */
	pci_config_write(b.pci, (uint8_t)devfn, 4, 2, 1);
	board_write(&b, MEM + 0x100000 + 2048 + 1, 1, 0xfa);
	pci_config_write(b.pci, (uint8_t)devfn, 4, 2, 3);
	assert_int_equal(board_read(&b, MEM + 0x100000 + 12, 4), 1);
	/* A reset forgets which test it was. */
	board_reset(&b);
	place(&b, MEM, IO);
	assert_int_equal(get(&b, false, 1, 1), 0);
	put(&b, false, 0, 1);
	put(&b, false, 2048 + 1, 7);
	assert_int_equal(count(&b, false), 1);
	board_fini(&b);
}

static void use(struct board *b)
{
	place(b, MEM, IO);
	for (unsigned io = 0; io < 2; io++) {
		count(b, io);
		for (unsigned n = 0; n < 5; n++) {
			put(b, io, 0, (uint8_t)n);
			put(b, io, (io ? 128 : 2048) + n, 0xfa);
			count(b, io);
		}
	}
}

static void its_state_moves(void **state)
{
	struct board b, t;

	setup(&b);
	put(&b, true, 0, 2);
	put(&b, true, 128 + 2, 0xfa);
	put(&b, false, 0, 0);
	put(&b, false, 2048, 0);
	put(&b, false, 2048, 0);
	board_migrate(&b, &t, make);
	assert_int_equal(count(&t, true), 1);
	assert_int_equal(count(&t, false), 2);
	/* The doorbells are where they were, once the machine goes on. */
	t.devices->resume(t.devices->self);
	put(&t, true, 128 + 2, 0xfa);
	put(&t, false, 2048, 0);
	assert_int_equal(count(&t, true), 2);
	assert_int_equal(count(&t, false), 3);
	board_mutate(&t, use);
	board_fini(&b);
	board_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_says_which_writes_it_counts),
		cmocka_unit_test(writes_to_the_target_count),
		cmocka_unit_test(doorbells_follow_the_bars),
		cmocka_unit_test(its_state_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
