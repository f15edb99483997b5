/* dev/piix4_pm.c: ACPI fixed hardware. ACPI 6.4, 4.8.3. */
#include "board.h"

#include "dev/pc.h"

#define HZ	3579545
#define STATUS	0x600
#define ENABLE	0x602
#define CONTROL 0x604
#define TIMER	0x608

enum { TMR = 1, GBL = 0x20, PWRBTN = 0x100 };
#define SCI_EN 1
#define SLP_EN 0x2000
#define SLP(n) ((n) << 10)

static void make(struct board *b)
{
	const struct piix4_pm_config c = { .clock = b->clock, .sci = board_line(b, 9), .machine = board_control(b) };
	struct err err;

	board_pci(b);
	b->own = board_add(b, piix4_pm_new(b->bus, b->pci, &c, &err));
}

static void setup(struct board *b)
{
	board_init(b);
	make(b);
}

static uint16_t in16(struct board *b, uint16_t port)
{
	return (uint16_t)board_in(b, port, 2);
}
static void out16(struct board *b, uint16_t port, uint16_t val)
{
	board_out(b, port, 2, val);
}

/* To the middle of a tick of the timer. */
static void to_tick(struct board *b, uint64_t n)
{
	board_step(b, (int64_t)(((__int128)(2 * n + 1) * S) / (2 * HZ)) - clock_now_ns(b->clock));
}

static void the_timer_counts_24_bits(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(board_in(&b, TIMER, 4), 0);
	board_step(&b, S);
	assert_int_equal(board_in(&b, TIMER, 4), HZ);
	to_tick(&b, 0xffffff);
	assert_int_equal(board_in(&b, TIMER, 4), 0xffffff);
	assert_int_equal(board_in(&b, TIMER, 2), 0xffff);
	to_tick(&b, 0x1000000);
	assert_int_equal(board_in(&b, TIMER, 4), 0);
	board_out(&b, TIMER, 4, 0x1234);
	assert_int_equal(board_in(&b, TIMER, 4), 0);
	board_fini(&b);
}

static void its_status_follows_the_highest_bit(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(in16(&b, STATUS), 0);
	to_tick(&b, 0x7fffff);
	assert_int_equal(in16(&b, STATUS), 0);
	to_tick(&b, 0x800100);
	assert_int_equal(in16(&b, STATUS), TMR);
	out16(&b, STATUS, TMR);
	assert_int_equal(in16(&b, STATUS), 0);
	to_tick(&b, 0xffffff);
	assert_int_equal(in16(&b, STATUS), 0);
	to_tick(&b, 0x1000000);
	assert_int_equal(in16(&b, STATUS), TMR);
	assert_false(b.line[9].level);
	assert_true(clock_icount_next(b.clock) == CLOCK_NEVER); /* nobody waits for it */
	board_fini(&b);
}

static void the_carry_interrupts(void **state)
{
	struct board b;

	setup(&b);
	out16(&b, ENABLE, TMR);
	to_tick(&b, 0x7fffff);
	assert_false(b.line[9].level);
	to_tick(&b, 0x800000);
	assert_true(b.line[9].level);
	assert_true(clock_icount_next(b.clock) == CLOCK_NEVER); /* there is nothing more to say */
	out16(&b, STATUS, TMR);
	assert_false(b.line[9].level);
	to_tick(&b, 0x1000000);
	assert_true(b.line[9].level);
	assert_int_equal(b.line[9].rises, 2);
	out16(&b, ENABLE, 0);
	assert_false(b.line[9].level);
	/* A status that is set interrupts when it is enabled. */
	out16(&b, ENABLE, TMR);
	assert_true(b.line[9].level);
	board_fini(&b);
}

static void the_power_button_interrupts_when_enabled(void **state)
{
	struct board b;

	setup(&b);
	piix4_pm_power_button(b.own);
	assert_false(b.line[9].level);
	assert_int_equal(in16(&b, STATUS), PWRBTN);
	out16(&b, ENABLE, PWRBTN);
	assert_true(b.line[9].level);
	out16(&b, STATUS, TMR | GBL); /* other bits clear nothing of it */
	assert_true(b.line[9].level);
	out16(&b, STATUS, PWRBTN);
	assert_false(b.line[9].level);
	piix4_pm_power_button(b.own);
	assert_true(b.line[9].level);
	/* SCI_EN lets the interrupt through. */
	out16(&b, CONTROL, 0);
	assert_false(b.line[9].level);
	out16(&b, CONTROL, SCI_EN);
	assert_true(b.line[9].level);
	board_fini(&b);
}

static void registers_keep_the_bits_that_exist(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(in16(&b, CONTROL), SCI_EN);
	out16(&b, STATUS, 0xffff);
	assert_int_equal(in16(&b, STATUS), 0);
	out16(&b, ENABLE, 0xffff);
	assert_int_equal(in16(&b, ENABLE), 0x0721);
	out16(&b, CONTROL, 0xffff & ~SLP_EN);
	assert_int_equal(in16(&b, CONTROL), 0x1c03);
	assert_int_equal(in16(&b, CONTROL + 2), 0);
	assert_int_equal(board_in(&b, STATUS, 4), 0x07210000);
	assert_int_equal(b.requests, 0);
	board_fini(&b);
}

static void bytes_change_their_half_only(void **state)
{
	struct board b;

	setup(&b);
	out16(&b, ENABLE, 0x0721);
	out8(&b, ENABLE, 0);
	assert_int_equal(in16(&b, ENABLE), 0x0700);
	out8(&b, ENABLE, 0x21);
	out8(&b, ENABLE + 1, 0);
	assert_int_equal(in16(&b, ENABLE), 0x0021);
	assert_int_equal(in8(&b, ENABLE), 0x21);
	piix4_pm_power_button(b.own);
	out8(&b, STATUS, 0xff);
	assert_int_equal(in8(&b, STATUS + 1), 1);
	out8(&b, STATUS + 1, 1);
	assert_int_equal(in16(&b, STATUS), 0);
	/* Sleep by a byte: the type is in the same one. */
	out8(&b, CONTROL + 1, (SLP(PM_SLP_S5) | SLP_EN) >> 8);
	assert_int_equal(b.requests, 1);
	assert_int_equal(in16(&b, CONTROL) & SCI_EN, SCI_EN);
	board_fini(&b);
}

static void s5_powers_off(void **state)
{
	struct board b;

	setup(&b);
	out16(&b, CONTROL, SCI_EN | SLP(0));
	assert_int_equal(b.requests, 0);
	for (unsigned type = 0; type < 8; type++)
		if (type != 0 && type != 5)
			out16(&b, CONTROL, (uint16_t)(SCI_EN | SLP(type) | SLP_EN));
	assert_int_equal(b.requests, 0); /* there are no other sleeping states */
	/* As the chip has it, and as the tables of earlier versions said. */
	out16(&b, CONTROL, SCI_EN | SLP(5) | SLP_EN);
	assert_int_equal(b.requests, 1);
	out16(&b, CONTROL, SCI_EN | SLP(0) | SLP_EN);
	assert_int_equal(b.requests, 2);
	assert_int_equal(b.request, MACHINE_POWER_OFF);
	assert_int_equal(in16(&b, CONTROL) & SLP_EN, 0);
	board_fini(&b);
}

static void the_function_tells_where_they_are(void **state)
{
	struct board b;

	setup(&b);
	assert_int_equal(pci_config_read(b.pci, 1 << 3 | 3, 0, 4), 0x71138086);
	assert_int_equal(pci_config_read(b.pci, 1 << 3 | 3, 0x40, 4), 0x601);
	assert_int_equal(pci_config_read(b.pci, 1 << 3 | 3, 0x80, 1), 1);
	pci_config_write(b.pci, 1 << 3 | 3, 0x40, 4, 0x1000);
	assert_int_equal(pci_config_read(b.pci, 1 << 3 | 3, 0x40, 4), 0x601);
	board_fini(&b);
}

static void a_reset_ends_events(void **state)
{
	struct board b;

	setup(&b);
	out16(&b, ENABLE, PWRBTN | TMR);
	piix4_pm_power_button(b.own);
	to_tick(&b, 0x900000);
	board_reset(&b);
	assert_false(b.line[9].level);
	assert_int_equal(in16(&b, STATUS) | in16(&b, ENABLE), 0);
	assert_int_equal(in16(&b, CONTROL), SCI_EN);
	board_fini(&b);
}

/* --- with firmware --- */

#define DEVFN (1 << 3 | 3)

static unsigned smis;

static void smi(void *opaque)
{
	smis++;
}

static void make_for_firmware(struct board *b, void (*raise)(void *opaque))
{
	const struct piix4_pm_config c = { .clock = b->clock,
					   .sci = board_line(b, 9),
					   .machine = board_control(b),
					   .firmware = true,
					   .smi = { raise, NULL } };
	struct err err;

	board_pci(b);
	b->own = board_add(b, piix4_pm_new(b->bus, b->pci, &c, &err));
	smis = 0;
}

static void make_with_smm(struct board *b)
{
	make_for_firmware(b, smi);
}

static void config(struct board *b, uint8_t reg, uint32_t val)
{
	pci_config_write(b->pci, DEVFN, reg, 4, val);
}

static void the_block_is_where_firmware_puts_it(void **state)
{
	struct board b, t;

	board_init(&b);
	make_with_smm(&b);
	assert_int_equal(in16(&b, CONTROL), 0xffff);
	config(&b, 0x40, 0xb001);
	assert_int_equal(piix4_pm_base(b.own), 0);
	config(&b, 0x80, 1);
	assert_int_equal(piix4_pm_base(b.own), 0xb000);
	assert_int_equal(in16(&b, 0xb004), SCI_EN);
	config(&b, 0x40, 0xffff0640 | 0x3f);
	assert_int_equal(pci_config_read(b.pci, DEVFN, 0x40, 4), 0x641);
	assert_int_equal(in16(&b, 0xb004), 0xffff);
	assert_int_equal(in16(&b, 0x644), SCI_EN);
	board_step(&b, S);
	assert_int_equal(board_in(&b, 0x648, 4), HZ);
	/* The rest of the 64 bytes is registers, too. */
	for (uint16_t port = 0x64c; port < 0x680; port++)
		assert_int_equal(in8(&b, port), 0);
	assert_int_equal(in8(&b, 0x680), 0xff);
	board_migrate(&b, &t, make_with_smm);
	assert_int_equal(in16(&t, 0x644), SCI_EN);
	board_reset(&b);
	assert_int_equal(in16(&b, 0x644), 0xffff);
	board_fini(&b);
	board_fini(&t);
}

static void the_apm_port_interrupts_when_both_switches_are_on(void **state)
{
	struct board b, t;

	board_init(&b);
	make_with_smm(&b);
	assert_int_equal(pci_config_read(b.pci, DEVFN, 0x58, 4), 0);
	config(&b, 0x40, 0x601);
	config(&b, 0x80, 1);
	out8(&b, 0xb3, 0x77);
	out8(&b, 0xb2, 0x12);
	assert_int_equal(smis, 0);
	config(&b, 0x58, 0xffffffff);
	assert_int_equal(pci_config_read(b.pci, DEVFN, 0x58, 4), 1 << 25);
	out8(&b, 0xb2, 0x13);
	assert_int_equal(smis, 0);
	board_out(&b, 0x628, 4, 0xffffffff);
	assert_int_equal(board_in(&b, 0x628, 4), 1);
	out8(&b, 0xb2, 0x14);
	assert_int_equal(smis, 1);
	assert_int_equal(in8(&b, 0x618), 0x20);
	out8(&b, 0xb3, 0x78); /* says nothing to anybody */
	assert_int_equal(smis, 1);
	board_migrate(&b, &t, make_with_smm);
	assert_int_equal(in8(&t, 0xb2), 0x14);
	assert_int_equal(in8(&t, 0xb3), 0x78);
	assert_int_equal(in8(&t, 0x618), 0x20);
	out8(&t, 0x618, 0x20);
	assert_int_equal(in8(&t, 0x618), 0);
	out8(&t, 0xb2, 0);
	assert_int_equal(smis, 1);
	config(&t, 0x58, 0);
	out8(&t, 0xb2, 0);
	assert_int_equal(smis, 1);
	board_fini(&b);
	board_fini(&t);
}

static void without_smm_it_is_on_from_the_beginning(void **state)
{
	struct board b;

	board_init(&b);
	make_for_firmware(&b, NULL);
	assert_int_equal(pci_config_read(b.pci, DEVFN, 0x58, 4), 1 << 25);
	config(&b, 0x40, 0x601);
	config(&b, 0x80, 1);
	out8(&b, 0x628, 1);
	out8(&b, 0xb2, 1);
	assert_int_equal(in8(&b, 0x618), 0x20);
	config(&b, 0x58, 0);
	board_reset(&b);
	assert_int_equal(pci_config_read(b.pci, DEVFN, 0x58, 4), 1 << 25);
	board_fini(&b);
}

static void use_all(struct board *b)
{
	config(b, 0x80, 1);
	config(b, 0x40, 0x701);
	for (uint16_t port = 0x700; port < 0x740; port++) {
		in8(b, port);
		out8(b, port, 0xff);
	}
	out8(b, 0xb2, 0);
}

static void its_damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;

	board_init(&b);
	make_with_smm(&b);
	config(&b, 0x80, 1);
	config(&b, 0x40, 0x601);
	out8(&b, 0x628, 1);
	board_mutate(&b, use_all);
	board_fini(&b);
}

/* --- saved state --- */

static void it_moves_with_its_events(void **state)
{
	struct board b, t;

	setup(&b);
	out16(&b, ENABLE, PWRBTN | TMR);
	piix4_pm_power_button(b.own);
	to_tick(&b, 0x700000);
	board_migrate(&b, &t, make);
	assert_true(t.line[9].level);
	assert_int_equal(board_in(&t, STATUS, 4), board_in(&b, STATUS, 4));
	assert_int_equal(board_in(&t, TIMER, 4), board_in(&b, TIMER, 4));
	out16(&t, STATUS, PWRBTN);
	to_tick(&t, 0x7fffff);
	assert_false(t.line[9].level);
	to_tick(&t, 0x800000);
	assert_true(t.line[9].level);
	board_fini(&b);
	board_fini(&t);
}

static void use(struct board *b)
{
	for (uint16_t port = STATUS; port < TIMER + 4; port++)
		in8(b, port);
	out16(b, STATUS, 0xffff);
	out16(b, ENABLE, TMR);
	board_step(b, MS);
}

static void damaged_state_is_refused_or_harmless(void **state)
{
	struct board b;

	setup(&b);
	out16(&b, ENABLE, PWRBTN | TMR);
	to_tick(&b, 0x700000);
	board_mutate(&b, use);
	board_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_timer_counts_24_bits),
		cmocka_unit_test(its_status_follows_the_highest_bit),
		cmocka_unit_test(the_carry_interrupts),
		cmocka_unit_test(the_power_button_interrupts_when_enabled),
		cmocka_unit_test(registers_keep_the_bits_that_exist),
		cmocka_unit_test(bytes_change_their_half_only),
		cmocka_unit_test(s5_powers_off),
		cmocka_unit_test(the_function_tells_where_they_are),
		cmocka_unit_test(a_reset_ends_events),
		cmocka_unit_test(the_block_is_where_firmware_puts_it),
		cmocka_unit_test(the_apm_port_interrupts_when_both_switches_are_on),
		cmocka_unit_test(without_smm_it_is_on_from_the_beginning),
		cmocka_unit_test(its_damaged_state_is_refused_or_harmless),
		cmocka_unit_test(it_moves_with_its_events),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
