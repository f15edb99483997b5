/* dev/i6300esb.c and dev/pvpanic.c: the watchdog's stages, lock and interrupt; what a guest tells of its panic. */
#include "board.h"

#include "dev/pc.h"

#define DEVFN (30 << 3)
#define BAR   0xc0000000u

static void make(struct board *b)
{
	const struct machine_control m = board_control(b);
	struct err err;

	board_pci(b);
	board_add(b, i6300esb_new(b->pci, DEVFN, b->clock, &m, &err));
	assert_int_equal(pci_assign_resources(b->pci, 0xc000, BAR, BAR + 0x10000, 1ull << 40, &err), 0);
	board_add(b, pvpanic_new(b->bus, 0x505, &m, &err));
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
}

/* Through the lock of each register. */
static void set(struct board *b, unsigned reg, unsigned size, uint32_t v)
{
	board_write(b, BAR + 0xc, 2, 0x80);
	board_write(b, BAR + 0xc, 2, 0x86);
	board_write(b, BAR + reg, size, v);
}

static void reload(struct board *b)
{
	set(b, 0xc, 2, 0x100);
}

/* Two stages of about `a` and `z` milliseconds, as Linux's driver sets them. */
static void start(struct board *b, uint32_t a, uint32_t z, uint8_t config)
{
	pci_config_write(b->pci, DEVFN, 0x60, 2, config);
	set(b, 0, 4, a);
	set(b, 4, 4, z);
	pci_config_write(b->pci, DEVFN, 0x68, 1, 2);
}

static void it_asks_after_both_stages(void **state)
{
	struct board b;

	setup(&b);
	start(&b, 1000, 500, 3);
	board_step(&b, 1400 * MS);
	assert_int_equal(b.requests, 0);
	board_step(&b, 200 * MS);
	assert_int_equal(b.requests, 1);
	assert_int_equal(b.request, MACHINE_WATCHDOG);
	assert_int_equal(board_read(&b, BAR + 0xc, 2) & 0x200, 0x200);
	board_step(&b, 100 * S);
	assert_int_equal(b.requests, 1);
	/* That outlasts the reset, until it is cleared. */
	board_reset(&b);
	pci_config_write(b.pci, DEVFN, 0x10, 4, BAR);
	pci_config_write(b.pci, DEVFN, 4, 2, 2);
	assert_int_equal(board_read(&b, BAR + 0xc, 2) & 0x200, 0x200);
	set(&b, 0xc, 2, 0x200);
	assert_int_equal(board_read(&b, BAR + 0xc, 2), 0);
	board_fini(&b);
}

static void it_is_fed(void **state)
{
	struct board b;

	setup(&b);
	start(&b, 1000, 500, 3);
	for (unsigned n = 0; n < 20; n++) {
		board_step(&b, 1200 * MS);
		reload(&b);
	}
	assert_int_equal(b.requests, 0);
	/* Not without the sequence before it, and not with a part of it. */
	board_step(&b, 1200 * MS);
	board_write(&b, BAR + 0xc, 2, 0x100);
	board_write(&b, BAR + 0xc, 2, 0x86);
	board_write(&b, BAR + 0xc, 2, 0x100);
	board_step(&b, 400 * MS);
	assert_int_equal(b.requests, 1);
	board_fini(&b);
}

static void it_stops_unless_locked(void **state)
{
	struct board b;

	setup(&b);
	start(&b, 1000, 500, 3);
	pci_config_write(b.pci, DEVFN, 0x68, 1, 0);
	board_step(&b, 10 * S);
	assert_int_equal(b.requests, 0);
	pci_config_write(b.pci, DEVFN, 0x68, 1, 3);
	pci_config_write(b.pci, DEVFN, 0x68, 1, 0);
	assert_int_equal(pci_config_read(b.pci, DEVFN, 0x68, 1), 3);
	board_step(&b, 10 * S);
	assert_int_equal(b.requests, 1);
	board_fini(&b);
}

static void interrupt_and_silence(void **state)
{
	struct board b;

	setup(&b);
	start(&b, 1000, 500, 0x20); /* an interrupt, and nothing at the end */
	board_step(&b, 1100 * MS);
	assert_true(b.line[(30 & 3)].level);
	assert_int_equal(board_read(&b, BAR + 8, 4), 1);
	board_write(&b, BAR + 8, 4, 1);
	assert_false(b.line[(30 & 3)].level);
	board_step(&b, 10 * S);
	assert_int_equal(b.requests, 0);
	board_fini(&b);
}

/* Stages of no length, again and again: they cost the host little. */
static void free_run(void **state)
{
	struct board b;

	setup(&b);
	start(&b, 0, 0, 7);
	pci_config_write(b.pci, DEVFN, 0x68, 1, 6);
	board_step(&b, 1 * S);
	assert_in_range(b.requests, 400, 500);
	board_fini(&b);
}

static void panics(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(in8(&b, 0x505), 3);
	out8(&b, 0x505, 0);
	out8(&b, 0x505, 0xfc);
	assert_int_equal(b.requests, 0);
	out8(&b, 0x505, 1);
	assert_int_equal(b.request, MACHINE_PANIC);
	assert_int_equal(b.status, PVPANIC_PANICKED);
	out8(&b, 0x505, 0xfe);
	assert_int_equal(b.status, PVPANIC_CRASH_LOADED);
	board_fini(&b);
}

static void use(struct board *b)
{
	for (unsigned reg = 0; reg < 16; reg += 4) {
		set(b, reg, 4, 0x1ff);
		board_read(b, BAR + reg, 4);
	}
	board_step(b, 3 * S);
}

static void saved_states(void **state)
{
	struct board a, b;

	setup(&a);
	start(&a, 1000, 500, 0);
	board_step(&a, 1200 * MS);
	board_migrate(&a, &b, make);
	board_step(&b, 200 * MS);
	assert_int_equal(b.requests, 0);
	board_step(&b, 200 * MS);
	assert_int_equal(b.requests, 1);
	board_mutate(&a, use);
	board_fini(&a);
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_asks_after_both_stages),
		cmocka_unit_test(it_is_fed),
		cmocka_unit_test(it_stops_unless_locked),
		cmocka_unit_test(interrupt_and_silence),
		cmocka_unit_test(free_run),
		cmocka_unit_test(panics),
		cmocka_unit_test(saved_states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
