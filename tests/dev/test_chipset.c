/* dev/i440fx.c and dev/piix3.c: configuration mechanism #1, the reset register, PCI interrupt routing. */
#include "board.h"

#include <stdlib.h>

#include "dev/pc.h"

#define ADDRESS 0xcf8
#define DATA	0xcfc
#define ENABLE	0x80000000u

static struct irq_line isa[16];
static struct pci_dev cards[4];

static void make(struct board *b)
{
	const struct machine_control m = board_control(b);
	struct err err;

	board_pci(b);
	board_add(b, i440fx_new(b->bus, b->pci, &m, NULL, &err));
	for (unsigned n = 0; n < 16; n++)
		isa[n] = board_line(b, n);
	board_add(b, piix3_new(b->pci, isa, false, &err));
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
}

static uint32_t get(struct board *b, unsigned devfn, unsigned reg, unsigned size)
{
	board_out(b, ADDRESS, 4, ENABLE | devfn << 8 | (reg & 0xfc));
	return board_in(b, (uint16_t)(DATA + (reg & 3)), size);
}

static void set(struct board *b, unsigned devfn, unsigned reg, unsigned size, uint32_t val)
{
	board_out(b, ADDRESS, 4, ENABLE | devfn << 8 | (reg & 0xfc));
	board_out(b, (uint16_t)(DATA + (reg & 3)), size, val);
}

#define ISA 8u /* 01.0 */

/* --- mechanism #1 --- */

static void the_address_takes_doublewords_only(void **state)
{
	struct board b;

	setup(&b);
	board_out(&b, ADDRESS, 4, 0xffffffff);
	assert_int_equal(board_in(&b, ADDRESS, 4), 0x80fffffc);
	board_out(&b, ADDRESS, 2, 0);
	board_out(&b, ADDRESS, 1, 0);
	board_out(&b, ADDRESS + 2, 2, 0);
	assert_int_equal(board_in(&b, ADDRESS, 4), 0x80fffffc);
	board_fini(&b);
}

static void all_sizes_at_all_places(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(get(&b, 0, 0, 4), 0x12378086);
	assert_int_equal(get(&b, 0, 0, 2), 0x8086);
	assert_int_equal(get(&b, 0, 2, 2), 0x1237);
	for (unsigned n = 0; n < 4; n++)
		assert_int_equal(get(&b, 0, n, 1), 0x12378086 >> 8 * n & 0xff);
	assert_int_equal(get(&b, 0, 1, 2), 0x3780); /* across the middle of the doubleword */
	/* What crosses its end hits nothing with what is beyond. */
	assert_int_equal(get(&b, 0, 3, 2), 0xff12);
	assert_int_equal(get(&b, 0, 2, 4), 0xffff1237);
	set(&b, ISA, 0x60, 4, 0x0b0a0705);
	assert_int_equal(get(&b, ISA, 0x60, 4), 0x0b0a0705);
	set(&b, ISA, 0x61, 2, 0x8c09);
	assert_int_equal(get(&b, ISA, 0x60, 4), 0x0b8c0905);
	set(&b, ISA, 0x63, 1, 0x06);
	assert_int_equal(get(&b, ISA, 0x60, 4), 0x068c0905);
	board_fini(&b);
}

static void nothing_there_is_all_ones(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(get(&b, 2 << 3, 0, 4), 0xffffffff);
	assert_int_equal(get(&b, 1, 0, 2), 0xffff); /* 00.1 */
	assert_int_equal(get(&b, 2 << 3, 0x10, 1), 0xff);
	/* Other buses, and without the enable bit. */
	board_out(&b, ADDRESS, 4, ENABLE | 1 << 16);
	assert_int_equal(board_in(&b, DATA, 4), 0xffffffff);
	board_out(&b, DATA, 4, 0);
	board_out(&b, ADDRESS, 4, ISA << 8 | 0x60);
	assert_int_equal(board_in(&b, DATA, 4), 0xffffffff);
	board_out(&b, DATA, 4, 0);
	assert_int_equal(get(&b, ISA, 0x60, 4), 0x80808080);
	board_fini(&b);
}

static void the_chipset_functions(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(get(&b, 0, 4, 4), 0x02000006);
	assert_int_equal(get(&b, 0, 8, 4), 0x06000002);
	assert_int_equal(get(&b, ISA, 0, 4), 0x70008086);
	assert_int_equal(get(&b, ISA, 4, 4), 0x02000007);
	assert_int_equal(get(&b, ISA, 8, 4), 0x06010000);
	/* They decode what they decode whatever is written; there are no BARs. */
	for (unsigned reg = 4; reg < 0x30; reg += 4) {
		set(&b, 0, reg, 4, 0xffffffff);
		set(&b, ISA, reg, 4, 0xffffffff);
	}
	assert_int_equal(get(&b, 0, 4, 4), 0x02000006);
	assert_int_equal(get(&b, ISA, 4, 4), 0x02000007);
	for (unsigned reg = 0x10; reg < 0x28; reg += 4)
		assert_int_equal(get(&b, 0, reg, 4) | get(&b, ISA, reg, 4), 0);
	/* Memory below 1 MiB is RAM for good, and there is no SMRAM. */
	set(&b, 0, 0x58, 4, 0);
	set(&b, 0, 0x5c, 4, 0);
	set(&b, 0, 0x72, 1, 0xff);
	assert_int_equal(get(&b, 0, 0x58, 4), 0x33333000);
	assert_int_equal(get(&b, 0, 0x5c, 4), 0x33333333);
	assert_int_equal(get(&b, 0, 0x72, 1), 0);
	board_fini(&b);
}

/* --- the reset register --- */

static void a_rise_of_bit_2_resets(void **state)
{
	struct board b;

	setup(&b);
	out8(&b, 0xcf9, 0x02);
	assert_int_equal(in8(&b, 0xcf9), 0x02);
	assert_int_equal(b.requests, 0);
	out8(&b, 0xcf9, 0x06);
	assert_int_equal(b.requests, 1);
	assert_int_equal(b.request, MACHINE_RESET);
	/* As an address it is none. */
	board_out(&b, ADDRESS, 4, 0xffffffff);
	assert_int_equal(b.requests, 1);
	board_reset(&b);
	assert_int_equal(in8(&b, 0xcf9), 0);
	board_fini(&b);
}

/* --- interrupt routing --- */

/* Four functions, each on INTA#: 02.0 to 05.0 are lines 2, 3, 0, 1. */
static void plug(struct board *b)
{
	struct err err;

	for (unsigned n = 0; n < 4; n++) {
		cards[n] = (struct pci_dev){ 0 };
		pci_dev_init(&cards[n], "card", &(struct pci_id){ 1, 2 }, NULL);
		pci_set_intx_pin(&cards[n], 1);
		assert_int_equal(pci_register(b->pci, &cards[n], (uint8_t)((2 + (n + 2) % 4) << 3), &err), 0);
	}
}

static uint16_t levels(const struct board *b)
{
	uint16_t v = 0;

	for (unsigned n = 0; n < 16; n++)
		v |= (uint16_t)(b->line[n].level << n);
	return v;
}

static void lines_go_where_the_registers_say(void **state)
{
	struct board b;

	setup(&b);
	plug(&b);
	pci_intx_set(&cards[0], true);
	assert_int_equal(levels(&b), 0); /* off after a reset */
	set(&b, ISA, 0x60, 1, 11);
	assert_int_equal(levels(&b), 1 << 11);
	pci_intx_set(&cards[1], true);
	set(&b, ISA, 0x60, 4, 0x0a07050b);
	assert_int_equal(levels(&b), 1 << 11 | 1 << 5);
	pci_intx_set(&cards[2], true);
	pci_intx_set(&cards[3], true);
	assert_int_equal(levels(&b), 1 << 11 | 1 << 5 | 1 << 7 | 1 << 10);
	/* Moved while raised; disabled while raised. */
	set(&b, ISA, 0x61, 1, 9);
	assert_int_equal(levels(&b), 1 << 11 | 1 << 9 | 1 << 7 | 1 << 10);
	set(&b, ISA, 0x62, 1, 0x80 | 7);
	assert_int_equal(levels(&b), 1 << 11 | 1 << 9 | 1 << 10);
	for (unsigned n = 0; n < 4; n++)
		pci_intx_set(&cards[n], false);
	assert_int_equal(levels(&b), 0);
	board_fini(&b);
}

static void lines_share_an_interrupt(void **state)
{
	struct board b;

	setup(&b);
	plug(&b);
	set(&b, ISA, 0x60, 4, 0x0b0b0b0b);
	pci_intx_set(&cards[0], true);
	pci_intx_set(&cards[3], true);
	pci_intx_set(&cards[0], false);
	assert_int_equal(levels(&b), 1 << 11);
	assert_int_equal(b.line[11].rises, 1);
	pci_intx_set(&cards[3], false);
	assert_int_equal(levels(&b), 0);
	board_fini(&b);
}

static void system_interrupts_cannot_be_used(void **state)
{
	struct board b;

	setup(&b);
	plug(&b);
	pci_intx_set(&cards[0], true);
	for (unsigned irq = 0; irq < 16; irq++) {
		bool ok = irq != 0 && irq != 1 && irq != 2 && irq != 8 && irq != 13;

		set(&b, ISA, 0x60, 1, 0x70 | irq);
		assert_int_equal(get(&b, ISA, 0x60, 1), irq);
		assert_int_equal(levels(&b), ok ? 1u << irq : 0);
	}
	board_reset(&b);
	assert_int_equal(levels(&b), 0);
	assert_int_equal(get(&b, ISA, 0x60, 4), 0x80808080);
	board_fini(&b);
}

/* --- saved state --- */

static void it_moves_with_address_and_routes(void **state)
{
	struct board b, t;

	setup(&b);
	plug(&b);
	set(&b, ISA, 0x60, 4, 0x0b0a0705);
	out8(&b, 0xcf9, 2);
	pci_intx_set(&cards[1], true);
	board_migrate(&b, &t, make);
	assert_int_equal(board_in(&t, ADDRESS, 4), board_in(&b, ADDRESS, 4));
	assert_int_equal(board_in(&t, DATA, 4), 0x0b0a0705);
	assert_int_equal(in8(&t, 0xcf9), 2);
	/* The functions behind the lines raise them when they are loaded. */
	assert_int_equal(levels(&t), 0);
	plug(&t);
	pci_intx_set(&cards[1], true);
	assert_int_equal(levels(&t), 1 << 7);
	board_fini(&b);
	board_fini(&t);
}

static void use(struct board *b)
{
	for (unsigned reg = 0; reg < 256; reg += 4) {
		get(b, 0, reg, 4);
		set(b, ISA, reg, 4, 0x05050505);
	}
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;

	setup(&b);
	set(&b, ISA, 0x60, 4, 0x0b0a0705);
	board_mutate(&b, use);
	board_fini(&b);
}

/* Firmware's board: PIRQA is pin A of slot 1. */
static void make_for_firmware(struct board *b)
{
	const struct machine_control m = board_control(b);
	struct err err;

	board_pci(b);
	board_add(b, i440fx_new(b->bus, b->pci, &m, NULL, &err));
	for (unsigned n = 0; n < 16; n++)
		isa[n] = board_line(b, n);
	b->own = board_add(b, piix3_new(b->pci, isa, true, &err));
}

static void firmware_finds_pins_where_it_knows_them(void **state)
{
	static const struct pci_id id = { 0x1af4, 1, 0xff000000, 0, 0 };
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct pci_dev card = { 0 };
	uint8_t routes[4];
	struct board b;
	struct err err;

	board_init(&b);
	make_for_firmware(&b);
	set(&b, ISA, 0x60, 4, 0x0a0b8009);
	piix3_routes(b.own, routes);
	assert_memory_equal(routes, "\x09\x80\x0b\x0a", 4);
	pci_dev_init(&card, "card", &id, &lock);
	pci_set_intx_pin(&card, 1);
	assert_int_equal(pci_register(b.pci, &card, 5 << 3, &err), 0); /* as slot 1 */
	pci_intx_set(&card, true);
	assert_true(b.line[9].level);
	pci_intx_set(&card, false);
	pci_unregister(&card);
	board_fini(&b);
}

/* --- memory below 1 MiB, with firmware --- */

#define PAM   0x59
#define SMRAM 0x72
#define ROM   0xfffc0000u

/* A ROM of 128 KiB; RAM and ROM tell themselves apart in the first byte of each page. */
static void make_memory(struct board *b)
{
	const struct mem_slot_config rom = { "firmware", gpa(ROM), 0x40000, MEM_ANON, -1, 0, true };
	const struct machine_control m = board_control(b);
	struct i440fx_memory *memory = calloc(1, sizeof(*memory));
	struct err err;

	*memory = (struct i440fx_memory){ b->mem, mem_space_over(b->mem), .changed = NULL };
	assert_int_equal(mem_add_slot(b->mem, &rom, &err), 0);
	assert_int_equal(i440fx_add_overlays(memory, ROM, 0x20000, &err), 0);
	b->own = memory;
	board_pci(b);
	for (uint32_t at = 0xa0000; at < 0x100000; at += 0x1000)
		assert_true(mem_overlay_write(b->mem, gpa(at), "\x11", 1));
	for (uint32_t at = 0; at < 0x40000; at += 0x1000)
		assert_true(mem_load_rom(b->mem, gpa(ROM + at), "\x22", 1));
	board_add(b, i440fx_new(b->bus, b->pci, &m, memory, &err));
}

static void end_memory(struct board *b)
{
	struct i440fx_memory *memory = b->own;
	struct mem_space *smm = memory->smm;

	free(memory);
	mem_space_free(smm);
	board_fini(b);
}

static struct mem_space *smm_of(struct board *b)
{
	return ((struct i440fx_memory *)b->own)->smm;
}

/* 11h: RAM; 22h: ROM; -1: neither. */
static int seen(struct mem_space *s, uint32_t at)
{
	uint8_t v;

	return mem_read(s, gpa(at), &v, 1) ? v : -1;
}

/* As a processor stores: what memory does not take goes to the bus. Is it in RAM then? */
static bool stored(struct board *b, uint32_t at)
{
	uint8_t was[7], v;

	if (!mem_write(b->mem, gpa(at + 8), "\x33", 1))
		board_write(b, at + 8, 1, 0x33);
	for (unsigned n = 0; n < 7; n++) {
		was[n] = (uint8_t)get(b, 0, PAM + n, 1);
		set(b, 0, PAM + n, 1, 0x33);
	}
	assert_true(mem_read(b->mem, gpa(at + 8), &v, 1));
	assert_true(mem_write(b->mem, gpa(at + 8), "\x11", 1));
	for (unsigned n = 0; n < 7; n++)
		set(b, 0, PAM + n, 1, was[n]);
	return v == 0x33;
}

static void pam_registers_choose_between_rom_and_ram(void **state)
{
	static const struct {
		uint32_t base, size;
		uint8_t reg, shift;
		bool rom;
	} segments[] = {
		{ 0xf0000, 0x10000, 0x59, 4, true }, { 0xc0000, 0x4000, 0x5a, 0, false },
		{ 0xc4000, 0x4000, 0x5a, 4, false }, { 0xc8000, 0x4000, 0x5b, 0, false },
		{ 0xcc000, 0x4000, 0x5b, 4, false }, { 0xd0000, 0x4000, 0x5c, 0, false },
		{ 0xd4000, 0x4000, 0x5c, 4, false }, { 0xd8000, 0x4000, 0x5d, 0, false },
		{ 0xdc000, 0x4000, 0x5d, 4, false }, { 0xe0000, 0x4000, 0x5e, 0, true },
		{ 0xe4000, 0x4000, 0x5e, 4, true },  { 0xe8000, 0x4000, 0x5f, 0, true },
		{ 0xec000, 0x4000, 0x5f, 4, true },
	};
	struct board b;

	board_init(&b);
	make_memory(&b);
	for (unsigned n = 0; n < 13; n++) {
		uint32_t first = segments[n].base, last = first + segments[n].size - 0x1000;
		int rom = segments[n].rom ? 0x22 : -1;

		for (unsigned pam = 0; pam < 4; pam++) {
			set(&b, 0, segments[n].reg, 1, pam << segments[n].shift);
			assert_int_equal(get(&b, 0, segments[n].reg, 1), pam << segments[n].shift);
			assert_int_equal(seen(b.mem, first), pam & 1 ? 0x11 : rom);
			assert_int_equal(seen(b.mem, last), pam & 1 ? 0x11 : rom);
			assert_int_equal(seen(smm_of(&b), last), pam & 1 ? 0x11 : rom);
			assert_int_equal(stored(&b, first), pam >> 1);
			assert_int_equal(stored(&b, last), pam >> 1);
			/* No other segment. */
			for (unsigned k = 0; k < 13; k++)
				if (k != n)
					assert_int_equal(seen(b.mem, segments[k].base), segments[k].rom ? 0x22 : -1);
		}
		set(&b, 0, segments[n].reg, 1, 0);
	}
	set(&b, 0, PAM, 1, 0xff);
	assert_int_equal(get(&b, 0, PAM, 1), 0x30);
	set(&b, 0, PAM + 3, 1, 0xff);
	assert_int_equal(get(&b, 0, PAM + 3, 1), 0x33);
	assert_int_equal(seen(b.mem, 0xf0000), 0x11);
	board_reset(&b);
	assert_int_equal(get(&b, 0, PAM, 1), 0);
	assert_int_equal(seen(b.mem, 0xf0000), 0x22);
	end_memory(&b);
}

static void smram_is_seen_in_smm_and_while_it_is_open(void **state)
{
	enum { OPEN = 0x40, CLOSED = 0x20, LOCK = 0x10, ENABLE_IT = 8 };
	struct board b;

	board_init(&b);
	make_memory(&b);
	assert_int_equal(get(&b, 0, SMRAM, 1), 0x02);
	assert_int_equal(seen(b.mem, 0xa0000), -1);
	assert_int_equal(seen(smm_of(&b), 0xa0000), -1);
	set(&b, 0, SMRAM, 1, OPEN); /* not enabled */
	assert_int_equal(seen(b.mem, 0xbf000), -1);
	set(&b, 0, SMRAM, 1, OPEN | ENABLE_IT);
	assert_int_equal(get(&b, 0, SMRAM, 1), OPEN | ENABLE_IT | 2);
	assert_int_equal(seen(b.mem, 0xa0000), 0x11);
	assert_int_equal(seen(b.mem, 0xbf000), 0x11);
	set(&b, 0, SMRAM, 1, ENABLE_IT);
	assert_int_equal(seen(b.mem, 0xa0000), -1);
	assert_int_equal(seen(smm_of(&b), 0xa0000), 0x11);
	/* Once locked it is closed for good. */
	set(&b, 0, SMRAM, 1, OPEN | LOCK | ENABLE_IT);
	assert_int_equal(get(&b, 0, SMRAM, 1), LOCK | ENABLE_IT | 2);
	set(&b, 0, SMRAM, 1, OPEN);
	assert_int_equal(get(&b, 0, SMRAM, 1), LOCK | ENABLE_IT | 2);
	assert_int_equal(seen(b.mem, 0xa0000), -1);
	assert_int_equal(seen(smm_of(&b), 0xa0000), 0x11);
	board_reset(&b);
	set(&b, 0, SMRAM, 1, OPEN | ENABLE_IT);
	assert_int_equal(seen(b.mem, 0xa0000), 0x11);
	end_memory(&b);
}

static void memory_is_as_it_was_after_a_move(void **state)
{
	struct board b, t;

	board_init(&b);
	make_memory(&b);
	set(&b, 0, PAM, 1, 0x10);
	set(&b, 0, SMRAM, 1, 0x18);
	board_migrate(&b, &t, make_memory);
	assert_int_equal(seen(t.mem, 0xf0000), 0x11);
	assert_int_equal(seen(t.mem, 0xe0000), 0x22);
	assert_int_equal(seen(smm_of(&t), 0xa0000), 0x11);
	set(&t, 0, SMRAM, 1, 0x48);
	assert_int_equal(seen(t.mem, 0xa0000), -1);
	end_memory(&b);
	end_memory(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(firmware_finds_pins_where_it_knows_them),
		cmocka_unit_test(pam_registers_choose_between_rom_and_ram),
		cmocka_unit_test(smram_is_seen_in_smm_and_while_it_is_open),
		cmocka_unit_test(memory_is_as_it_was_after_a_move),
		cmocka_unit_test(the_address_takes_doublewords_only),
		cmocka_unit_test(all_sizes_at_all_places),
		cmocka_unit_test(nothing_there_is_all_ones),
		cmocka_unit_test(the_chipset_functions),
		cmocka_unit_test(a_rise_of_bit_2_resets),
		cmocka_unit_test(lines_go_where_the_registers_say),
		cmocka_unit_test(lines_share_an_interrupt),
		cmocka_unit_test(system_interrupts_cannot_be_used),
		cmocka_unit_test(it_moves_with_address_and_routes),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
